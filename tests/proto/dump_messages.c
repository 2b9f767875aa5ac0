/* Prints every message in every version, ROUNDS times with other values, as "NAME VERSION HEX", for
 * ReadBack.java: Kafka's own classes must read these bytes and write the same again.
 *
 *     dump_messages ROUNDS | java -cp JARS ReadBack.java */
#include "filler.h"

#include <stdio.h>
#include <stdlib.h>

#define OUTPUT_MAX (1 << 20)
#define BUDGET     (16u << 20)

static void dump(struct filler *f, const struct proto_entry *e, int16_t version)
{
    static uint8_t bytes[OUTPUT_MAX];
    void *m = arena_alloc(f->arena, e->shape.size);
    bool filled = m && filler_fill(f, &e->shape, m, version);
    assert(filled);
    struct wire_writer w;
    wire_writer_init(&w, bytes, sizeof(bytes));
    e->encode(m, &w, version);
    assert(wire_writer_ok(&w));
    printf("%s %d ", e->shape.name, version);
    for (uint64_t i = 0; i < w.position; i++)
        printf("%02x", bytes[i]);
    putchar('\n');
    arena_release(f->arena);
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
    struct mem mem;
    struct arena arena;
    if (mem_init(&mem, BUDGET) != 0)
        return 1;
    arena_init(&arena, &mem, BUDGET);
    struct filler f = {.state = 0x746f7263, .arena = &arena};
    for (uint32_t i = 0; i < proto_entries_count; i++)
        for (int16_t v = proto_entries[i].version_min; v <= proto_entries[i].version_max; v++)
            for (unsigned long round = 0; round < rounds; round++)
                dump(&f, &proto_entries[i], v);
    mem_destroy(&mem);
    return 0;
}
