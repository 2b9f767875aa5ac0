/* Records: varints at their limits, records as real clients write them, records that lie. */
#include "forge.h"
#include "golden_batches.h"
#include "proto/record.h"

#include <criterion/criterion.h>
#include <string.h>

#define BUDGET (16u << 20)
#define CAP    (1u << 20)

/* ---- varints --------------------------------------------------------------------------------- */

Test(record, reads_back_varints_of_every_length)
{
    uint8_t bytes[VARLONG_SIZE_MAX];
    for (int bits = 0; bits < 64; bits++) {
        for (int sign = 0; sign < 2; sign++) {
            int64_t value = sign ? -(int64_t)(1ull << bits >> 1) - 1 : (int64_t)(1ull << bits >> 1);
            int64_t back = 0;
            uint32_t size = varlong_write(bytes, value);
            cr_assert_eq(size, varlong_size(value), "%lld", (long long)value);
            cr_assert_eq(varlong_read(bytes, bytes + size, &back), size);
            cr_assert_eq(back, value);
            cr_assert_eq(varlong_read(bytes, bytes + size - 1, &back), 0, "one byte short");
            if (value < INT32_MIN || value > INT32_MAX)
                continue;
            int32_t small = 0;
            cr_assert_eq(varint_write(bytes, (int32_t)value), size);
            cr_assert_eq(varint_size((int32_t)value), size);
            cr_assert_eq(varint_read(bytes, bytes + size, &small), size);
            cr_assert_eq(small, value);
        }
    }
}

Test(record, writes_varints_as_kafka_does)
{
    static const struct {
        int64_t value;
        uint32_t size;
        uint8_t bytes[10];
    } rows[] = {
        {0, 1, {0x00}},
        {-1, 1, {0x01}},
        {1, 1, {0x02}},
        {63, 1, {0x7e}},
        {-64, 1, {0x7f}},
        {64, 2, {0x80, 0x01}},
        {INT32_MAX, 5, {0xfe, 0xff, 0xff, 0xff, 0x0f}},
        {INT32_MIN, 5, {0xff, 0xff, 0xff, 0xff, 0x0f}},
        {INT64_MAX, 10, {0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}},
        {INT64_MIN, 10, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t bytes[VARLONG_SIZE_MAX];
        cr_assert_eq(varlong_write(bytes, rows[i].value), rows[i].size);
        cr_assert_eq(memcmp(bytes, rows[i].bytes, rows[i].size), 0);
    }
}

Test(record, refuses_varints_with_more_bits_than_the_type)
{
    static const uint8_t five[] = {0xff, 0xff, 0xff, 0xff, 0x1f};
    static const uint8_t six[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x00};
    static const uint8_t ten[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02};
    int32_t small;
    int64_t large;
    cr_assert_eq(varint_read(five, five + sizeof(five), &small), 0);
    cr_assert_eq(varint_read(six, six + sizeof(six), &small), 0);
    cr_assert_eq(varlong_read(six, six + sizeof(six), &large), 6);
    cr_assert_eq(varlong_read(ten, ten + sizeof(ten), &large), 0);
}

/* ---- records --------------------------------------------------------------------------------- */

static bool field_is(struct batch_field f, const char *text)
{
    return f.data != NULL && f.size == strlen(text) && memcmp(f.data, text, f.size) == 0;
}

static void check_headers(const struct record *r, const char *const (*want)[2], uint32_t count)
{
    struct record_header_iter it;
    struct batch_record_header h;
    cr_assert_eq(r->headers_count, count);
    record_header_iter_init(&it, r);
    for (uint32_t i = 0; i < count; i++) {
        cr_assert(record_header_next(&it, &h));
        cr_assert(field_is(h.key, want[i][0]));
        cr_assert(field_is(h.value, want[i][1]));
    }
    cr_assert(!record_header_next(&it, &h));
}

Test(record, reads_what_java_and_librdkafka_wrote_in_every_codec)
{
    static const char *const keys[3] = {"k1", "k2", "k3"};
    static const char *const values[3] = {"first value first value first value", "second value",
                                          "third third third third"};
    static const char *const java[3][2][2] = {{{"a", "1"}, {"b", "2"}}, {{"c", "3"}}, {{"x", "y"}}};
    static const char *const rdk[2][2] = {{"a", "1"}, {"b", "2"}};
    struct mem mem;
    struct compress c;
    cr_assert_eq(mem_init(&mem, BUDGET), 0);
    compress_init(&c, &mem);
    for (enum codec codec = 0; codec < CODECS_COUNT; codec++) {
        for (int client = 0; client < 2; client++) {
            const struct golden *g = &goldens[codec][client];
            struct batch_header h;
            struct record_iter it;
            struct record r;
            cr_assert_eq(batch_peek(g->data, g->size, &h), BATCH_WHOLE);
            cr_assert_eq(batch_codec(&h), codec);
            cr_assert_eq(record_open(&c, g->data, &h, CAP, &it), COMPRESS_OK, "%s", g->name);
            for (int i = 0; i < 3; i++) {
                cr_assert(record_next(&it, &r), "%s", g->name);
                cr_assert_eq(r.offset_delta, i);
                cr_assert(field_is(r.key, keys[i]));
                cr_assert(field_is(r.value, values[i]));
                if (client == 0)
                    check_headers(&r, java[i], i == 0 ? 2 : 1);
                else
                    check_headers(&r, rdk, 2);
            }
            cr_assert(!record_next(&it, &r));
            cr_assert(!it.malformed);
        }
    }
    compress_free(&c);
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
}

Test(record, tells_null_from_empty)
{
    struct forge_batch f = {.records_count = 3,
                            .records = {{.null_key = true}, {.empty_key = true}, {.key_size = -7}}};
    static uint8_t bytes[FORGE_ROOM];
    struct record_iter it;
    struct record r;
    record_iter_init(&it, bytes, forge_records(&f, bytes), 3);
    cr_assert(record_next(&it, &r));
    cr_assert_null(r.key.data);
    cr_assert(record_next(&it, &r));
    cr_assert_not_null(r.key.data);
    cr_assert_eq(r.key.size, 0);
    cr_assert(record_next(&it, &r));
    cr_assert_null(r.key.data, "any negative length is null, as for Kafka");
    cr_assert_eq(r.key.size, 0);
    cr_assert(!record_next(&it, &r));
    cr_assert(!it.malformed);
}

Test(record, is_malformed_when_cut_at_any_byte)
{
    struct forge_batch f = {.records_count = 3, .records[1] = {.header = true}};
    static uint8_t bytes[FORGE_ROOM];
    struct mem mem;
    cr_assert_eq(mem_init(&mem, BUDGET), 0);
    uint32_t whole = forge_records(&f, bytes);
    for (uint32_t size = 0; size < whole; size++) {
        uint8_t *exact = mem_alloc(&mem, size + 1); /* a sanitizer sees reads past it */
        memcpy(exact + 1, bytes, size);
        struct record_iter it;
        struct record r;
        record_iter_init(&it, exact + 1, size, 3);
        int seen = 0;
        while (record_next(&it, &r))
            seen++;
        cr_assert(it.malformed, "%u", size);
        cr_assert_lt(seen, 3);
        cr_assert(!record_next(&it, &r), "and stays so");
        mem_free(&mem, exact, size + 1);
    }
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
}

Test(record, never_hands_out_views_beyond_the_bytes_whatever_they_are)
{
    struct forge_batch f = {.records_count = 3, .records[1] = {.header = true}};
    static uint8_t good[FORGE_ROOM], bytes[FORGE_ROOM];
    uint32_t size = forge_records(&f, good), handed_out = 0;
    for (uint32_t at = 0; at < size; at++) {
        for (int value = 0; value < 256; value++) {
            memcpy(bytes, good, size);
            bytes[at] = (uint8_t)value;
            struct record_iter it;
            struct record r;
            record_iter_init(&it, bytes, size, 3);
            while (record_next(&it, &r)) {
                struct record_header_iter headers;
                struct batch_record_header h = {0};
                record_header_iter_init(&headers, &r);
                while (record_header_next(&headers, &h))
                    cr_assert_leq(h.key.data + h.key.size, r.data + r.size);
                cr_assert(r.key.data == NULL || r.key.data + r.key.size <= bytes + size);
                cr_assert(r.value.data == NULL || r.value.data + r.value.size <= bytes + size);
                handed_out++;
            }
        }
    }
    cr_assert_gt(handed_out, 0);
}

Test(record, ends_badly_when_count_and_bytes_disagree)
{
    struct forge_batch f = {.records_count = 2};
    static uint8_t bytes[FORGE_ROOM];
    uint32_t size = forge_records(&f, bytes);
    static const int32_t counts[] = {-1, 0, 1, 3, INT32_MAX};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct record_iter it;
        struct record r;
        record_iter_init(&it, bytes, size, counts[i]);
        while (record_next(&it, &r))
            ;
        cr_assert(it.malformed, "%d", counts[i]);
    }
}

/* ---- times ----------------------------------------------------------------------------------- */

struct timed {
    uint8_t bytes[FORGE_ROOM];
    struct batch_header h;
    struct record_iter it;
};

/* Records at +5, +9, +9 from FORGE_NOW, base offset 100. */
static void timed_open(struct timed *t)
{
    struct mem mem;
    struct forge_batch f = {
        .records_count = 3,
        .records = {{.time_delta = 5}, {.time_delta = 9}, {.time_delta = 9}},
    };
    cr_assert_eq(mem_init(&mem, BUDGET), 0);
    uint32_t size = forge_batch(&mem, &f, t->bytes);
    mem_destroy(&mem);
    batch_set_base_offset(t->bytes, 100);
    cr_assert_eq(batch_peek(t->bytes, size, &t->h), BATCH_WHOLE);
    record_iter_init(&t->it, t->bytes + BATCH_HEADER_SIZE, size - BATCH_HEADER_SIZE, 3);
}

Test(record, finds_the_first_record_at_or_behind_a_time)
{
    struct timed t;
    struct record_found found;
    timed_open(&t);
    cr_assert(record_find_time(t.it, &t.h, 0, 0, &found));
    cr_assert_eq(found.offset, 100);
    cr_assert_eq(found.timestamp, FORGE_NOW + 5);
    cr_assert(record_find_time(t.it, &t.h, FORGE_NOW + 6, 0, &found));
    cr_assert_eq(found.offset, 101);
    cr_assert(record_find_time(t.it, &t.h, FORGE_NOW + 9, 102, &found));
    cr_assert_eq(found.offset, 102, "below min_offset there is nothing");
    cr_assert(!record_find_time(t.it, &t.h, FORGE_NOW + 10, 0, &found));
    cr_assert(!record_find_time(t.it, &t.h, 0, 103, &found));
}

Test(record, finds_the_first_of_the_latest)
{
    struct timed t;
    struct record_found found;
    timed_open(&t);
    cr_assert(record_find_max_time(t.it, &t.h, &found));
    cr_assert_eq(found.offset, 101);
    cr_assert_eq(found.timestamp, FORGE_NOW + 9);
    t.it.end--;
    cr_assert(!record_find_max_time(t.it, &t.h, &found), "malformed");
}

Test(record, has_the_brokers_time_when_the_broker_stamped)
{
    struct timed t;
    struct record_found found;
    timed_open(&t);
    batch_set_append_time(t.bytes, t.h.size, FORGE_NOW + 777);
    batch_decode_header(t.bytes, &t.h);
    cr_assert(record_find_max_time(t.it, &t.h, &found));
    cr_assert_eq(found.offset, 100);
    cr_assert_eq(found.timestamp, FORGE_NOW + 777);
    cr_assert(record_find_time(t.it, &t.h, FORGE_NOW + 500, 101, &found));
    cr_assert_eq(found.offset, 101);
}
