/* Batches as bytes: the header's places, walking, stamping, building; and that a builder's batches
 * are byte for byte Kafka's. */
#include "forge.h"
#include "golden_batches.h"
#include "proto/record.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "core/crc32c.h"

#define BUDGET (16u << 20)

static struct batch_field text(const char *s)
{
    return (struct batch_field){.data = (const uint8_t *)s, .size = (uint32_t)strlen(s)};
}

static const struct batch_field null_field = {0};

/* A forged batch of n default records. */
static uint32_t forged(uint8_t *to, uint32_t n)
{
    struct mem mem;
    struct forge_batch f = {.records_count = n};
    cr_assert_eq(mem_init(&mem, BUDGET), 0);
    uint32_t size = forge_batch(&mem, &f, to);
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
    return size;
}

static uint8_t bytes[FORGE_ROOM], other[FORGE_ROOM];

/* ---- reading --------------------------------------------------------------------------------- */

Test(batch, reads_each_header_field_from_its_place)
{
    const struct golden *g = &golden_commit[0];
    struct batch_header h;
    cr_assert_eq(batch_peek(g->data, g->size, &h), BATCH_WHOLE);
    cr_assert_eq(h.base_offset, 0);
    cr_assert_eq(h.size, 95);
    cr_assert_eq(h.leader_epoch, 0);
    cr_assert_eq(h.magic, 2);
    cr_assert_eq(h.crc, 394178536);
    cr_assert_eq(h.attributes, BATCH_TRANSACTIONAL);
    cr_assert_eq(h.last_offset_delta, 1);
    cr_assert_eq(h.base_timestamp, 1795269678970);
    cr_assert_eq(h.max_timestamp, 1795269679002);
    cr_assert_eq(h.producer_id, 5);
    cr_assert_eq(h.producer_epoch, 0);
    cr_assert_eq(h.base_sequence, 0);
    cr_assert_eq(h.record_count, 2);
    cr_assert_eq(batch_last_offset(&h), 1);
    cr_assert_eq(batch_codec(&h), CODEC_NONE);
    cr_assert(batch_has(&h, BATCH_TRANSACTIONAL));
    cr_assert(!batch_has(&h, BATCH_CONTROL));
}

Test(batch, wraps_the_last_sequence_behind_int32_max)
{
    struct batch_header h = {.base_sequence = INT32_MAX - 1, .last_offset_delta = 3};
    cr_assert_eq(batch_last_sequence(&h), 1);
    h.last_offset_delta = 1;
    cr_assert_eq(batch_last_sequence(&h), INT32_MAX);
    h.base_sequence = BATCH_NO_SEQUENCE;
    cr_assert_eq(batch_last_sequence(&h), BATCH_NO_SEQUENCE);
}

Test(batch, is_partial_until_its_last_byte_is_there)
{
    uint32_t size = forged(bytes, 3);
    struct batch_header h;
    for (uint32_t have = 0; have < size; have++) {
        cr_assert_eq(batch_peek(bytes, have, &h), BATCH_PARTIAL, "%u", have);
        cr_assert_eq(h.size, have < BATCH_PREFIX_SIZE ? 0 : size, "%u", have);
    }
    cr_assert_eq(batch_peek(bytes, size, &h), BATCH_WHOLE);
    cr_assert_eq(batch_peek(bytes, size + 1000, &h), BATCH_WHOLE);
    cr_assert_eq(h.size, size);
}

Test(batch, is_malformed_by_length_or_magic_alone)
{
    static const int32_t lengths[] = {-1, INT32_MIN, 0, 13, 48, INT32_MAX, INT32_MAX - 11};
    struct batch_header h;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        uint32_t size = forged(bytes, 1);
        uint32_t wire = __builtin_bswap32((uint32_t)lengths[i]);
        memcpy(bytes + 8, &wire, sizeof(wire));
        cr_assert_eq(batch_peek(bytes, size, &h), BATCH_MALFORMED, "%d", lengths[i]);
    }
    uint32_t size = forged(bytes, 1);
    for (int magic = 0; magic < 256; magic++) {
        bytes[16] = (uint8_t)magic;
        enum batch_peek want = magic < 2 ? BATCH_OLD : magic == 2 ? BATCH_WHOLE : BATCH_MALFORMED;
        cr_assert_eq(batch_peek(bytes, size, &h), want, "%d", magic);
        cr_assert_eq(h.magic, magic);
    }
}

Test(batch, knows_the_checksum_of_an_old_message)
{
    uint8_t message[] = {0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00,
                         0x00, 0x19, 0x1c, 0xff, 0x7d, 0xfc, 0x01, 0x00, 0x00, 0x00,
                         0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x00, 0xff, 0xff, 0xff, 0xff,
                         0x00, 0x00, 0x00, 0x03, 0x61, 0x62, 0x63}; /* offset 7, no key, "abc" */
    struct batch_header h;
    cr_assert_eq(batch_peek(message, sizeof(message), &h), BATCH_OLD);
    cr_assert_eq(h.size, sizeof(message));
    cr_assert(batch_old_crc_matches(message, h.size));
    for (size_t i = 12; i < sizeof(message); i++) {
        message[i] ^= 0x10;
        cr_assert(!batch_old_crc_matches(message, h.size), "byte %zu", i);
        message[i] ^= 0x10;
    }
}

Test(batch, walks_whole_batches_and_says_why_it_stopped)
{
    uint32_t one = forged(bytes, 1), two = forged(bytes + one, 2);
    uint32_t all = one + two;
    struct batch_iter it;
    struct batch_header h;
    const uint8_t *at;
    batch_iter_init(&it, bytes, all);
    cr_assert(batch_next(&it, &at, &h));
    cr_assert_eq(at, bytes);
    cr_assert(batch_next(&it, &at, &h));
    cr_assert_eq(at, bytes + one);
    cr_assert_eq(h.record_count, 2);
    cr_assert(!batch_next(&it, &at, &h));
    cr_assert_eq(it.stopped, BATCH_WHOLE);
    batch_iter_init(&it, bytes, all - 1);
    cr_assert(batch_next(&it, &at, &h));
    cr_assert(!batch_next(&it, &at, &h));
    cr_assert_eq(it.stopped, BATCH_PARTIAL);
    cr_assert_eq(it.at, bytes + one);
    bytes[one + 16] = 9;
    batch_iter_init(&it, bytes, all);
    cr_assert(batch_next(&it, &at, &h));
    cr_assert(!batch_next(&it, &at, &h));
    cr_assert_eq(it.stopped, BATCH_MALFORMED);
    cr_assert(!batch_next(&it, &at, &h), "and stays there");
    batch_iter_init(&it, NULL, 0);
    cr_assert(!batch_next(&it, &at, &h));
    cr_assert_eq(it.stopped, BATCH_WHOLE);
}

Test(batch, agrees_with_kafka_about_checksums_and_copies_on_the_way)
{
    for (enum codec codec = 0; codec < CODECS_COUNT; codec++) {
        for (int client = 0; client < 2; client++) {
            const struct golden *g = &goldens[codec][client];
            cr_assert(batch_crc_matches(g->data, g->size), "%s", g->name);
            memset(other, 0xee, g->size + 1);
            cr_assert(batch_copy(other, g->data, g->size), "%s", g->name);
            cr_assert_eq(memcmp(other, g->data, g->size), 0);
            cr_assert_eq(other[g->size], 0xee, "nothing behind it is touched");
            other[g->size - 1] ^= 1;
            cr_assert(!batch_copy(bytes, other, g->size), "%s", g->name);
        }
    }
}

/* ---- changing -------------------------------------------------------------------------------- */

Test(batch, takes_its_offset_and_epoch_without_a_new_checksum)
{
    uint32_t size = forged(bytes, 2);
    memcpy(other, bytes, size);
    batch_set_base_offset(bytes, INT64_MAX - 5);
    batch_set_leader_epoch(bytes, 0x01020304);
    struct batch_header h;
    batch_decode_header(bytes, &h);
    cr_assert_eq(h.base_offset, INT64_MAX - 5);
    cr_assert_eq(h.leader_epoch, 0x01020304);
    cr_assert(batch_crc_matches(bytes, size));
    cr_assert_eq(memcmp(bytes + 16, other + 16, size - 16), 0);
}

Test(batch, is_stamped_with_a_right_checksum)
{
    uint32_t size = forged(bytes, 2);
    struct batch_header h;
    batch_set_append_time(bytes, size, 12345);
    batch_decode_header(bytes, &h);
    cr_assert_eq(h.max_timestamp, 12345);
    cr_assert(batch_has(&h, BATCH_LOG_APPEND_TIME));
    cr_assert(batch_crc_matches(bytes, size));
    batch_set_max_timestamp(bytes, size, 54321);
    batch_decode_header(bytes, &h);
    cr_assert_eq(h.max_timestamp, 54321);
    cr_assert(!batch_has(&h, BATCH_LOG_APPEND_TIME));
    cr_assert(batch_crc_matches(bytes, size));
}

Test(batch, encodes_the_header_it_decoded)
{
    for (enum codec codec = 0; codec < CODECS_COUNT; codec++) {
        const struct golden *g = &goldens[codec][0];
        struct batch_header h;
        batch_decode_header(g->data, &h);
        memset(bytes, 0, BATCH_HEADER_SIZE);
        memcpy(bytes + BATCH_HEADER_SIZE, g->data + BATCH_HEADER_SIZE, g->size - BATCH_HEADER_SIZE);
        batch_encode_header(bytes, g->size, &h);
        cr_assert_eq(memcmp(bytes, g->data, g->size), 0, "%s", g->name);
    }
}

/* ---- building -------------------------------------------------------------------------------- */

Test(batch, builds_byte_for_byte_what_java_sent)
{
    const struct golden *g = &goldens[CODEC_NONE][0];
    struct batch_header h;
    batch_decode_header(g->data, &h);
    struct batch_builder b;
    batch_builder_init(&b, bytes, g->size, &h);
    struct batch_record_header first[] = {{text("a"), text("1")}, {text("b"), text("2")}};
    struct batch_record_header second = {text("c"), text("3")}, third = {text("x"), text("y")};
    int64_t t = h.base_timestamp;
    cr_assert(batch_builder_add(&b, t, text("k1"), text("first value first value first value"),
                                first, 2));
    cr_assert(batch_builder_add(&b, t + 15, text("k2"), text("second value"), &second, 1));
    cr_assert(
        batch_builder_add(&b, t + 15, text("k3"), text("third third third third"), &third, 1));
    cr_assert_eq(batch_builder_finish(&b), g->size);
    cr_assert_eq(memcmp(bytes, g->data, g->size), 0);
}

Test(batch, builds_the_commit_marker_kafka_writes)
{
    const struct golden *g = &golden_commit[1];
    struct batch_header h = batch_header_plain(2);
    h.leader_epoch = 0;
    h.producer_id = 5;
    h.producer_epoch = 1;
    uint32_t size = batch_build_marker(bytes, BATCH_MARKER_SIZE_MAX, &h, true, 0, 1795269679150);
    cr_assert_eq(size, g->size);
    cr_assert_eq(memcmp(bytes, g->data, size), 0);
}

Test(batch, reads_back_its_control_records)
{
    struct batch_header h = batch_header_plain(7);
    enum batch_control type;
    int32_t epoch;
    h.producer_id = 1;
    h.producer_epoch = 2;
    uint32_t size = batch_build_marker(bytes, sizeof(bytes), &h, false, 42, 1000);
    cr_assert(batch_read_control(bytes, size, &type, &epoch));
    cr_assert_eq(type, BATCH_CONTROL_ABORT);
    cr_assert_eq(epoch, 42);
    size = batch_build_control(bytes, sizeof(bytes), &h, BATCH_CONTROL_LEADER_CHANGE, 1000,
                               text("value"));
    cr_assert(batch_read_control(bytes, size, &type, &epoch));
    cr_assert_eq(type, BATCH_CONTROL_LEADER_CHANGE);
    cr_assert_eq(epoch, -1);
    cr_assert(!batch_read_control(bytes, size - 1, &type, &epoch), "cut");
    cr_assert_eq(batch_build_control(bytes, 70, &h, BATCH_CONTROL_LEADER_CHANGE, 1, text("value")),
                 0, "no room");
    size = forged(bytes, 1);
    cr_assert(!batch_read_control(bytes, size, &type, &epoch), "not a control batch");
}

Test(batch, takes_a_record_into_the_very_last_byte_and_none_behind_it)
{
    struct batch_header h = batch_header_plain(0);
    for (uint32_t room = BATCH_HEADER_SIZE; room < BATCH_HEADER_SIZE + 60; room++) {
        uint8_t guard[BATCH_HEADER_SIZE + 61];
        memset(guard, 0xee, sizeof(guard));
        struct batch_builder b;
        batch_builder_init(&b, guard, room, &h);
        uint32_t fit = 0;
        while (batch_builder_add(&b, 5, text("k"), text("value"), NULL, 0))
            fit++;
        cr_assert(b.full);
        cr_assert_eq(fit, (room - BATCH_HEADER_SIZE) / FORGE_FULL_SIZE, "%u", room);
        uint32_t size = batch_builder_finish(&b);
        cr_assert_eq(size, fit == 0 ? 0 : BATCH_HEADER_SIZE + fit * FORGE_FULL_SIZE);
        for (uint32_t i = room; i < sizeof(guard); i++)
            cr_assert_eq(guard[i], 0xee);
        if (size > 0)
            cr_assert(batch_crc_matches(guard, size));
    }
}

Test(batch, builds_what_it_reads_back_with_nulls_and_far_times)
{
    struct batch_header h = batch_header_plain(1000), back;
    struct batch_builder b;
    struct record_iter it;
    struct record r;
    static const int64_t times[] = {INT64_MAX, INT64_MIN, 0, -1, FORGE_NOW};
    batch_builder_init(&b, bytes, sizeof(bytes), &h);
    struct batch_record_header null_value = {text("h"), null_field};
    for (int i = 0; i < 5; i++) {
        uint32_t before = b.size;
        cr_assert(batch_builder_add(&b, times[i], null_field, null_field, &null_value, 1));
        cr_assert_leq(b.size - before,
                      batch_record_size_max(null_field, null_field, &null_value, 1));
    }
    uint32_t size = batch_builder_finish(&b);
    cr_assert_eq(batch_peek(bytes, size, &back), BATCH_WHOLE);
    cr_assert_eq(back.max_timestamp, INT64_MAX);
    cr_assert_eq(batch_last_offset(&back), 1004);
    record_iter_init(&it, bytes + BATCH_HEADER_SIZE, size - BATCH_HEADER_SIZE, back.record_count);
    for (int i = 0; i < 5; i++) {
        cr_assert(record_next(&it, &r));
        cr_assert_eq(record_timestamp(&back, &r), times[i]);
        cr_assert_null(r.key.data);
        cr_assert_null(r.value.data);
        cr_assert_eq(r.headers_count, 1);
    }
    cr_assert(!record_next(&it, &r));
    cr_assert(!it.malformed);
}

Test(batch, builder_wants_room_for_the_header, .signal = SIGABRT)
{
    struct batch_header h = batch_header_plain(0);
    struct batch_builder b;
    batch_builder_init(&b, bytes, BATCH_HEADER_SIZE - 1, &h);
}

Test(batch, builder_does_not_compress, .signal = SIGABRT)
{
    struct batch_header h = batch_header_plain(0);
    struct batch_builder b;
    h.attributes = CODEC_LZ4;
    batch_builder_init(&b, bytes, sizeof(bytes), &h);
}
