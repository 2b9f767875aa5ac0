/* Any bytes into any decompressor, under any cap. What comes out stays below the cap, and memory
 * below what came out; what was unpacked and is packed again unpacks to the same. The first byte
 * chooses the codec and what to do, the next two the cap. Seeds: texts, packed by every codec. */
#include "tests/fuzz/fuzz.h"

#include "proto/compress.h"

#define BUDGET     (64u << 20)
#define HEAD_SIZE  3
#define CONTEXTS   (16u << 20) /* what the codecs keep for themselves, with the windows of zstd */
#define SNAPPY_RAW 0x80u

struct bench {
    struct mem mem;
    struct compress in, again;
    uint8_t copy[1u << 20];
};

static struct bench *bench(void)
{
    static struct bench b;
    if (b.mem.budget_bytes == 0) {
        int error = mem_init(&b.mem, BUDGET);
        assert(error == 0);
        compress_init(&b.in, &b.mem);
        compress_init(&b.again, &b.mem);
    }
    return &b;
}

static void there_and_back(struct bench *b, enum codec codec, int32_t level, uint32_t size)
{
    uint8_t *packed;
    const uint8_t *back;
    uint32_t packed_size, back_size;
    enum compress_result result =
        compress_pack(&b->again, codec, level, b->copy, size, 0, &packed, &packed_size);
    assert(result == COMPRESS_OK);
    result =
        compress_unpack(&b->again, codec, packed, packed_size, sizeof(b->copy), &back, &back_size);
    assert(result == COMPRESS_OK);
    assert(back_size == size && memcmp(back, b->copy, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bench *b = bench();
    const uint8_t *to = NULL;
    uint32_t to_size = 0;
    if (size < HEAD_SIZE || size > FUZZ_INPUT_MAX)
        return 0;
    enum codec codec = (enum codec)(data[0] % (CODECS_COUNT + 1));
    uint32_t cap = 1 + ((uint32_t)data[1] << 8 | data[2]) * 16u;
    uint32_t from_size = (uint32_t)size - HEAD_SIZE;
    enum compress_result result =
        compress_unpack(&b->in, codec, data + HEAD_SIZE, from_size, cap, &to, &to_size);
    assert(b->in.unpacked.room <= COMPRESS_KEEP_BYTES + 2 * cap);
    assert(b->mem.used_bytes <= CONTEXTS + 8ull * sizeof(b->copy));
    if (result != COMPRESS_OK)
        return 0;
    assert(to != NULL && (to_size <= cap || codec == CODEC_NONE));
    if (to_size > sizeof(b->copy) || codec == CODEC_NONE || (data[0] & 0x40) == 0)
        return 0;
    if (to_size > 0)
        memcpy(b->copy, to, to_size);
    /* One raw block of nothing is refused: it holds no record. */
    bool raw = codec == CODEC_SNAPPY && (data[0] & SNAPPY_RAW) != 0 && to_size > 0;
    there_and_back(b, codec, raw ? COMPRESS_SNAPPY_RAW : COMPRESS_LEVEL_DEFAULT, to_size);
    return 0;
}

size_t fuzz_seed(uint32_t n, uint8_t *to)
{
    static uint8_t plain[3000];
    struct bench *b = bench();
    static const uint32_t sizes[] = {1, 100, 3000};
    enum codec codec = (enum codec)(n % CODECS_COUNT);
    uint32_t kind = n / CODECS_COUNT;
    if (kind >= 6)
        return 0;
    for (uint32_t i = 0; i < sizeof(plain); i++)
        plain[i] = (uint8_t)(kind < 3 ? i * i >> 4 : 'a');
    bool raw = codec == CODEC_SNAPPY && kind >= 3;
    uint8_t *packed;
    uint32_t size;
    if (codec == CODEC_NONE)
        return (void)memcpy(to, plain, 100), 100;
    enum compress_result result =
        compress_pack(&b->again, codec, raw ? COMPRESS_SNAPPY_RAW : COMPRESS_LEVEL_DEFAULT, plain,
                      sizes[kind % 3], 0, &packed, &size);
    assert(result == COMPRESS_OK);
    to[0] = (uint8_t)((uint32_t)codec + 70 + (raw ? 120 : 0));
    to[1] = 0xff;
    to[2] = 0;
    memcpy(to + HEAD_SIZE, packed, size);
    return HEAD_SIZE + size;
}
