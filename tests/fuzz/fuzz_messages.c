/* Any bytes into any decoder. Two bytes choose the message and its version, the rest is the input.
 * What is decoded must come back: encoded, decoded and encoded again it gives the same bytes, and
 * takes exactly the room that was measured.
 *
 * With -fsanitize=fuzzer this is a libFuzzer target. Without, main() is a smoke run: valid messages
 * from a fixed seed, a few of their bytes changed, as often as the argument says. */
#include "filler.h"

#include <stdio.h>
#include <stdlib.h>

#define BUDGET    (64u << 20)
#define INPUT_MAX (1u << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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

/* The n-th of all messages in all their versions, wrapping round. */
static const struct proto_entry *choose(uint32_t n, int16_t *version)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < proto_entries_count; i++)
        total += (uint32_t)(proto_entries[i].version_max - proto_entries[i].version_min + 1);
    n %= total;
    for (uint32_t i = 0; i < proto_entries_count; i++) {
        const struct proto_entry *e = &proto_entries[i];
        uint32_t versions = (uint32_t)(e->version_max - e->version_min + 1);
        if (n < versions) {
            *version = (int16_t)(e->version_min + (int16_t)n);
            return e;
        }
        n -= versions;
    }
    abort(); /* total is their sum */
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

#ifndef FUZZER
/* One change to the bytes at `at`: a bit, a value that lengths trip over, or a cut. */
static size_t spoil(struct filler *f, uint8_t *at, size_t size)
{
    static const uint8_t values[] = {0, 1, 2, 0x7f, 0x80, 0xff};
    size_t where = filler_next(f) % size;
    switch (filler_next(f) % 4) {
    case 0:
        at[where] ^= (uint8_t)(1u << filler_next(f) % 8);
        return size;
    case 1:
        return where > 0 ? where : size;
    default:
        at[where] = values[filler_next(f) % sizeof(values)];
        return size;
    }
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000;
    static uint8_t input[INPUT_MAX];
    struct bench *b = bench();
    struct filler f = {.state = 0x746f7263, .arena = &b->arena};
    for (unsigned long i = 0; i < rounds; i++) {
        int16_t version;
        uint16_t n = (uint16_t)i;
        const struct proto_entry *e = choose(n, &version);
        void *m = arena_alloc(&b->arena, e->shape.size);
        bool filled = m && filler_fill(&f, &e->shape, m, version);
        assert(filled);
        struct wire_writer w;
        wire_store16(input, n);
        wire_writer_init(&w, input + 2, sizeof(input) - 2);
        e->encode(m, &w, version);
        size_t size = wire_writer_ok(&w) ? w.position : sizeof(input) - 2;
        arena_release(&b->arena);
        for (uint64_t spoils = filler_next(&f) % 4; spoils > 0 && size > 0; spoils--)
            size = spoil(&f, input + 2, size);
        LLVMFuzzerTestOneInput(input, size + 2);
    }
    printf("%lu inputs\n", rounds);
    mem_destroy(&b->mem);
    return 0;
}
#endif
