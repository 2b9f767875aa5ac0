/* Any bytes into any decoder. Two bytes choose the message and its version, the rest is the input.
 * What is decoded must come back: encoded, decoded and encoded again it gives the same bytes, and
 * takes exactly the room that was measured. Decoding takes no more memory than the bytes warrant.
 * Seeds: each message in each version, filled in. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

#include "tests/proto/filler.h"

#define BUDGET (64u << 20)

struct bench {
    struct mem mem;
    struct arena arena;
};

static struct bench *bench(void)
{
    static struct bench b;
    if (b.mem.budget_bytes == 0) {
        int error = mem_init(&b.mem, BUDGET);
        assert(error == 0);
        arena_init(&b.arena, &b.mem, BUDGET / 2);
    }
    return &b;
}

static uint32_t versions_count(void)
{
    static uint32_t total;
    if (total > 0)
        return total;
    for (uint32_t i = 0; i < proto_entries_count; i++)
        total += (uint32_t)(proto_entries[i].version_max - proto_entries[i].version_min + 1);
    return total;
}

/* The n-th of all messages in all their versions, wrapping round. */
static const struct proto_entry *choose(uint32_t n, int16_t *version)
{
    n %= versions_count();
    for (uint32_t i = 0; i < proto_entries_count; i++) {
        const struct proto_entry *e = &proto_entries[i];
        uint32_t versions = (uint32_t)(e->version_max - e->version_min + 1);
        if (n < versions) {
            *version = (int16_t)(e->version_min + (int16_t)n);
            return e;
        }
        n -= versions;
    }
    abort(); /* n is below their sum */
}

static uint8_t *encode(struct arena *arena, const struct proto_entry *e, const void *m,
                       int16_t version, uint64_t *size)
{
    *size = e->size(m, version);
    uint8_t *to = arena_alloc(arena, *size);
    if (!to)
        return NULL;
    struct wire_writer w;
    wire_writer_init(&w, to, *size);
    e->encode(m, &w, version);
    assert(wire_writer_ok(&w));
    assert(w.position == *size);
    return to;
}

static void check(struct arena *arena, const struct proto_entry *e, int16_t version,
                  struct wire_reader r)
{
    void *m = arena_alloc(arena, e->shape.size), *copy = arena_alloc(arena, e->shape.size);
    assert(m && copy);
    if (e->decode(m, &r, version, arena) != 0)
        return;
    uint64_t size, again_size;
    uint8_t *bytes = encode(arena, e, m, version, &size);
    if (!bytes)
        return;
    wire_reader_init(&r, bytes, size);
    int error = e->decode(copy, &r, version, arena);
    if (error == WIRE_NO_MEMORY)
        return;
    assert(error == 0);
    assert(wire_left(&r) == 0);
    uint8_t *again = encode(arena, e, copy, version, &again_size);
    assert(!again || (again_size == size && memcmp(bytes, again, size) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct bench *b = bench();
    int16_t version;
    const struct proto_entry *e = choose(wire_load16(data), &version);
    struct wire_reader r;
    wire_reader_init(&r, data + 2, size - 2);
    check(&b->arena, e, version, r);
    arena_release(&b->arena);
    assert(b->mem.used_bytes == 0);
    return 0;
}

size_t fuzz_seed(uint32_t n, uint8_t *to)
{
    struct bench *b = bench();
    struct filler f = {.state = 0x746f7263 + n, .arena = &b->arena};
    int16_t version;
    if (n >= versions_count())
        return 0;
    const struct proto_entry *e = choose(n, &version);
    void *m = arena_alloc(&b->arena, e->shape.size);
    bool filled = m && filler_fill(&f, &e->shape, m, version);
    assert(filled);
    struct wire_writer w;
    wire_store16(to, (uint16_t)n);
    wire_writer_init(&w, to + 2, FUZZ_INPUT_MAX - 2);
    e->encode(m, &w, version);
    size_t size = 2 + (wire_writer_ok(&w) ? w.position : 100);
    arena_release(&b->arena);
    return size;
}
