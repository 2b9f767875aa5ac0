/* Any bytes as a record set from a client, under any topic's rules. Eight bytes choose the rules,
 * the rest is the set; a bit of them has the checksum put right first, so that what lies behind it
 * is reached too. What is accepted must be as promised: checksum, counts, offset deltas and the
 * largest timestamp are right, and a second judgement accepts it and changes nothing. Seeds:
 * batches of real clients, of every codec. */
#include "tests/fuzz/fuzz.h"

#include "core/crc32c.h"
#include "proto/batch.h"
#include "proto/record.h"
#include "tests/proto/golden_batches.h"

#define BUDGET       (64u << 20)
#define UNPACKED_MAX (1u << 20)
#define CHOICE_SIZE  8
#define NOW_MS       1795269800000ll

struct bench {
    struct mem mem;
    struct compress first, second;
    uint8_t set[FUZZ_INPUT_MAX], copy[FUZZ_INPUT_MAX], kept[2 * UNPACKED_MAX];
};

static struct bench *bench(void)
{
    static struct bench b;
    if (b.mem.budget_bytes == 0) {
        int error = mem_init(&b.mem, BUDGET);
        assert(error == 0);
        compress_init(&b.first, &b.mem);
        compress_init(&b.second, &b.mem);
    }
    return &b;
}

static struct batch_rules rules_from(const uint8_t *choice)
{
    return (struct batch_rules){
        .max_message_bytes = choice[0] & 1 ? 1048588 : 64 + choice[1],
        .compacted = (choice[0] & 2) != 0,
        .log_append_time = (choice[0] & 4) != 0,
        .strict = (choice[0] & 8) == 0,
        .produce_version = choice[0] & 16 ? 9 : 6,
        .timestamp_before_max_ms = choice[0] & 32 ? INT64_MAX : 1000,
        .timestamp_after_max_ms = choice[0] & 64 ? INT64_MAX : 3600000,
        .now_ms = NOW_MS,
        .codec = (enum codec)(choice[2] % (CODECS_COUNT + 1)),
        .codec_level = choice[3] & 1 ? COMPRESS_LEVEL_DEFAULT : choice[3] % 16,
        .unpacked_bytes_max = choice[4] & 1 ? UNPACKED_MAX : choice[4] * 16u + 1,
    };
}

static void put_checksum_right(uint8_t *set, uint32_t size)
{
    struct batch_header h;
    if (batch_peek(set, size, &h) != BATCH_WHOLE)
        return;
    uint32_t crc =
        __builtin_bswap32(crc32c(0, set + BATCH_CRC_FROM, h.size - (size_t)BATCH_CRC_FROM));
    memcpy(set + offsetof(struct batch_bytes, crc), &crc, sizeof(crc));
}

static void check_records(struct bench *b, const struct batch_verdict *v)
{
    const struct batch_header *h = &v->header;
    struct record_iter it;
    struct record r;
    enum compress_result result = record_open(&b->second, b->kept, h, COMPRESS_CAP_MAX, &it);
    assert(result == COMPRESS_OK);
    int32_t count = 0;
    while (record_next(&it, &r)) {
        assert(r.offset_delta == count);
        struct record_header_iter headers;
        struct batch_record_header header;
        record_header_iter_init(&headers, &r);
        uint32_t seen = 0;
        while (record_header_next(&headers, &header))
            seen++;
        assert(seen == r.headers_count);
        count++;
    }
    assert(!it.malformed);
    assert(count == h->record_count);
    assert(v->max_timestamp_delta < count);
}

/* What KE_NONE promises, and that judging it again says the same. */
static void check_accepted(struct bench *b, const struct batch_rules *rules,
                           const struct batch_verdict *v, bool claims_append_time)
{
    assert(v->header.size <= sizeof(b->kept));
    memcpy(b->kept, v->batch, v->header.size);
    assert(batch_crc_matches(b->kept, v->header.size));
    if (rules->strict)
        check_records(b, v);
    if (rules->log_append_time || claims_append_time)
        return; /* a stamped batch is no client's; of a false stamp Kafka keeps the time */
    struct batch_rules again = *rules;
    struct batch_verdict second;
    again.produce_version = 9; /* it may have become zstd */
    again.unpacked_bytes_max = COMPRESS_CAP_MAX;
    enum kafka_error error =
        batch_validate(&b->second, &again, b->kept, v->header.size, NULL, &second);
    assert(error == KE_NONE);
    assert(!second.rebuilt);
    assert(memcmp(&second.header, &v->header, sizeof(second.header)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bench *b = bench();
    if (size < CHOICE_SIZE || size - CHOICE_SIZE > FUZZ_INPUT_MAX)
        return 0;
    struct batch_rules rules = rules_from(data);
    uint32_t set_size = (uint32_t)size - CHOICE_SIZE;
    memcpy(b->set, data + CHOICE_SIZE, set_size);
    if ((data[5] & 1) != 0)
        put_checksum_right(b->set, set_size);
    bool claims =
        set_size >= BATCH_HEADER_SIZE && (b->set[BATCH_CRC_FROM + 1] & BATCH_LOG_APPEND_TIME) != 0;
    struct batch_verdict v;
    uint8_t *copy_to = (data[5] & 2) != 0 ? b->copy : NULL;
    if (batch_validate(&b->first, &rules, b->set, set_size, copy_to, &v) == KE_NONE)
        check_accepted(b, &rules, &v, claims);
    enum batch_control type;
    int32_t epoch;
    (void)!batch_read_control(b->set, set_size, &type, &epoch);
    return 0;
}

size_t fuzz_seed(uint32_t n, uint8_t *to)
{
    if (n >= 4 * CODECS_COUNT)
        return 0;
    const struct golden *g = &goldens[n / 2 % CODECS_COUNT][n % 2];
    memset(to, n / (2 * CODECS_COUNT) == 0 ? 0xff : 0, CHOICE_SIZE);
    to[0] = 0x71; /* strict, of a newer version, any time */
    memcpy(to + CHOICE_SIZE, g->data, g->size);
    memset(to + CHOICE_SIZE, 0, 8); /* as the client sent it */
    return CHOICE_SIZE + g->size;
}
