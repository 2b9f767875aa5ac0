/* What runs a target. With libFuzzer (-DFUZZER) that brings main(), and this only writes the
 * target's seeds where FUZZ_SEEDS says, one file each, and ends. Without it, main() is a smoke run
 * for every build and compiler:
 *
 *   fuzz_NAME ROUNDS [FILE...]    each input kept in the files, each seed, and then ROUNDS of them
 *                                 with a few bytes changed, from a fixed seed
 *
 * A kept file is a row of inputs, each behind its size in two bytes, the high one first. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>

size_t fuzz_noise(uint32_t n, uint32_t size, uint8_t *to)
{
    uint64_t state = 0x9e3779b97f4a7c15ull * (n + 1);
    for (uint32_t i = 0; i < size; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        to[i] = (uint8_t)(state >> 32);
    }
    return size;
}

#ifdef FUZZER
int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static uint8_t seed[FUZZ_INPUT_MAX];
    const char *folder = getenv("FUZZ_SEEDS");
    (void)argc, (void)argv;
    if (folder == NULL)
        return 0;
    size_t size;
    for (uint32_t n = 0; (size = fuzz_seed(n, seed)) > 0; n++) {
        char path[512];
        (void)snprintf(path, sizeof(path), "%s/seed-%05u", folder, n);
        FILE *f = fopen(path, "wb");
        assert(f != NULL && fwrite(seed, 1, size, f) == size);
        (void)fclose(f);
    }
    exit(0);
}
#else
struct pile { /* all inputs to begin with */
    uint8_t *bytes;
    size_t size;
    struct slice {
        size_t at, size;
    } * inputs;
    uint32_t count;
};

static void pile_add(struct pile *p, const uint8_t *bytes, size_t size)
{
    p->bytes = realloc(p->bytes, p->size + size + 1);
    p->inputs = realloc(p->inputs, (p->count + 1) * sizeof(*p->inputs));
    assert(p->bytes != NULL && p->inputs != NULL);
    memcpy(p->bytes + p->size, bytes, size);
    p->inputs[p->count++] = (struct slice){p->size, size};
    p->size += size;
}

static void pile_add_kept(struct pile *p, const char *path)
{
    static uint8_t input[FUZZ_INPUT_MAX];
    FILE *f = fopen(path, "rb");
    assert(f != NULL);
    int high;
    while ((high = fgetc(f)) != EOF) {
        size_t size = (size_t)high << 8 | (uint8_t)fgetc(f);
        size_t got = fread(input, 1, size, f);
        assert(got == size);
        pile_add(p, input, size);
    }
    (void)fclose(f);
}

static uint64_t draw(uint64_t *state) /* xorshift64* */
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717ull;
}

/* One change: a bit, a value that lengths trip over, a cut, or a piece of another input. */
static size_t spoil(uint64_t *state, const struct pile *p, uint8_t *at, size_t size)
{
    static const uint8_t values[] = {0, 1, 2, 0x7f, 0x80, 0xff};
    size_t where = draw(state) % size;
    const struct slice *other = &p->inputs[draw(state) % p->count];
    switch (draw(state) % 8) {
    case 0:
    case 1:
        at[where] ^= (uint8_t)(1u << draw(state) % 8);
        return size;
    case 2:
        return where > 0 ? where : size;
    case 3: {
        size_t from = other->size > 0 ? draw(state) % other->size : 0;
        size_t piece = MIN(other->size - from, FUZZ_INPUT_MAX - where);
        memcpy(at + where, p->bytes + other->at + from, piece);
        return MAX(size, where + piece);
    }
    case 4:
        at[where] = (uint8_t)draw(state);
        return size;
    default:
        at[where] = values[draw(state) % sizeof(values)];
        return size;
    }
}

int main(int argc, char **argv)
{
    static uint8_t input[FUZZ_INPUT_MAX];
    struct pile p = {0};
    uint64_t state = 0x746f7263;
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000;
    for (int i = 2; i < argc; i++)
        pile_add_kept(&p, argv[i]);
    uint32_t kept = p.count;
    size_t size;
    for (uint32_t n = 0; (size = fuzz_seed(n, input)) > 0; n++)
        pile_add(&p, input, size);
    assert(p.count > 0);
    for (uint32_t i = 0; i < p.count; i++)
        (void)LLVMFuzzerTestOneInput(p.bytes + p.inputs[i].at, p.inputs[i].size);
    for (unsigned long i = 0; i < rounds; i++) {
        const struct slice *from = &p.inputs[i % p.count];
        size = from->size;
        memcpy(input, p.bytes + from->at, size);
        for (uint64_t spoils = 1 + draw(&state) % 4; spoils > 0 && size > 0; spoils--)
            size = spoil(&state, &p, input, size);
        (void)LLVMFuzzerTestOneInput(input, size);
    }
    printf("%u kept inputs, %u seeds, %lu rounds\n", kept, p.count - kept, rounds);
    free(p.bytes);
    free(p.inputs);
    return 0;
}
#endif
