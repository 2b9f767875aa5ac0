/* Every message there is, in every version it has: filled from a seed, encoded, decoded, encoded
 * again. And the tables that say which messages there are. */
#include "filler.h"
#include "proto/gen/api.h"
#include "proto/gen/entries.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define ROUNDS     40
#define OUTPUT_MAX (1 << 20)
#define BUDGET     (64u << 20)

struct bench { /* what each test needs, and whether it gave it all back */
    struct mem mem;
    struct arena arena;
    uint8_t *first, *second;
};

static void bench_open(struct bench *b)
{
    cr_assert_eq(mem_init(&b->mem, BUDGET), 0);
    arena_init(&b->arena, &b->mem, BUDGET / 2);
    b->first = mem_alloc(&b->mem, OUTPUT_MAX);
    b->second = mem_alloc(&b->mem, OUTPUT_MAX);
    cr_assert(b->first && b->second);
}

static void bench_close(struct bench *b)
{
    arena_release(&b->arena);
    mem_free(&b->mem, b->first, OUTPUT_MAX);
    mem_free(&b->mem, b->second, OUTPUT_MAX);
    cr_assert_eq(b->mem.used_bytes, 0);
    mem_destroy(&b->mem);
}

/* Encodes into exactly the room that was measured. */
static uint64_t encode(const struct proto_entry *e, const void *m, int16_t version, uint8_t *to)
{
    uint64_t size = e->size(m, version);
    cr_assert_leq(size, OUTPUT_MAX, "%s", e->shape.name);
    struct wire_writer w;
    wire_writer_init(&w, to, size);
    e->encode(m, &w, version);
    cr_assert(wire_writer_ok(&w), "%s v%d", e->shape.name, version);
    cr_assert_eq(w.position, size, "%s v%d", e->shape.name, version);
    return size;
}

static void fill(struct bench *b, struct filler *f, const struct proto_entry *e, void *m,
                 int16_t version)
{
    (void)b;
    cr_assert(filler_fill(f, &e->shape, m, version), "%s v%d", e->shape.name, version);
}

/* A message with its bytes at b->first; the caller's to look at until the arena is released. */
static uint64_t make(struct bench *b, uint64_t seed, const struct proto_entry *e, int16_t version)
{
    struct filler f = {.state = seed, .arena = &b->arena};
    void *m = arena_alloc(&b->arena, e->shape.size);
    cr_assert(m);
    fill(b, &f, e, m, version);
    return encode(e, m, version, b->first);
}

static void round_trip(struct bench *b, uint64_t seed, const struct proto_entry *e, int16_t version)
{
    uint64_t size = make(b, seed, e, version);
    void *copy = arena_alloc(&b->arena, e->shape.size);
    cr_assert(copy);
    struct wire_reader r;
    wire_reader_init(&r, b->first, size);
    int error = e->decode(copy, &r, version, &b->arena);
    cr_assert_eq(error, 0, "%s v%d seed %lu: %d", e->shape.name, version, seed, error);
    cr_assert_eq(wire_left(&r), 0, "%s v%d", e->shape.name, version);
    cr_assert_eq(encode(e, copy, version, b->second), size, "%s v%d", e->shape.name, version);
    cr_assert_eq(memcmp(b->first, b->second, size), 0, "%s v%d", e->shape.name, version);
    arena_release(&b->arena);
}

Test(messages, come_back_the_same_from_their_bytes)
{
    struct bench b;
    bench_open(&b);
    for (uint32_t i = 0; i < proto_entries_count; i++) {
        const struct proto_entry *e = &proto_entries[i];
        for (int16_t v = e->version_min; v <= e->version_max; v++)
            for (uint64_t round = 1; round <= ROUNDS; round++)
                round_trip(&b, round * 0x9e3779b97f4a7c15, e, v);
    }
    bench_close(&b);
}

/* No message ends in bytes that nobody reads. */
Test(messages, cut_short_anywhere_are_malformed)
{
    struct bench b;
    bench_open(&b);
    for (uint32_t i = 0; i < proto_entries_count; i++) {
        const struct proto_entry *e = &proto_entries[i];
        for (int16_t v = e->version_min; v <= e->version_max; v++) {
            uint64_t size = make(&b, 77 + i, e, v);
            for (uint64_t cut = 0; cut < size; cut += 1 + cut / 64) {
                memcpy(b.second + OUTPUT_MAX - cut, b.first, cut);
                struct wire_reader r;
                wire_reader_init(&r, b.second + OUTPUT_MAX - cut, cut);
                void *m = arena_alloc(&b.arena, e->shape.size);
                cr_assert_eq(e->decode(m, &r, v, &b.arena), WIRE_MALFORMED, "%s v%d cut at %lu",
                             e->shape.name, v, cut);
            }
            arena_release(&b.arena);
        }
    }
    bench_close(&b);
}
