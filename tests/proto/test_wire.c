/* The primitives of the wire: what they read and write, and everything they refuse. */
#include "core/mem.h"
#include "proto/wire.h"

#include <criterion/criterion.h>
#include <signal.h>

#define BUDGET (1u << 20)

static struct wire_reader reader(const void *data, size_t size)
{
    struct wire_reader r;
    wire_reader_init(&r, data, size);
    return r;
}

#define READER(...) reader((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void refused(struct wire_reader *r, const char *what)
{
    cr_assert_eq(r->error, WIRE_MALFORMED, "%s", what);
    cr_assert_eq(wire_left(r), 0, "%s: a failed reader is empty", what);
}

/* ---- reading --------------------------------------------------------------------------------- */

Test(wire, numbers_are_big_endian)
{
    struct wire_reader r = READER(0x80, 0xff, 0xfe, 0xff, 0xfe, 0x80, 0, 0, 1, 0xff, 0xff, 0xff,
                                  0xfe, 1, 2, 3, 4, 5, 6, 7, 8, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, 2);
    cr_assert_eq(wire_get_int8(&r), -128);
    cr_assert_eq(wire_get_int16(&r), -2);
    cr_assert_eq(wire_get_uint16(&r), 0xfffe);
    cr_assert_eq(wire_get_int32(&r), INT32_MIN + 1);
    cr_assert_eq(wire_get_uint32(&r), 0xfffffffe);
    cr_assert_eq(wire_get_int64(&r), 0x0102030405060708);
    cr_assert(wire_get_float64(&r) == 1.5);
    cr_assert(wire_get_bool(&r), "anything but zero is true");
    cr_assert_eq(r.error, 0);
    cr_assert_eq(wire_left(&r), 0);
}

Test(wire, first_missing_byte_fails_the_reader_for_good)
{
    struct wire_reader r = READER(1, 2, 3);
    cr_assert_eq(wire_get_int32(&r), 0);
    refused(&r, "three bytes of four");
    cr_assert_eq(wire_get_int8(&r), 0, "though one was left");
    wire_fail(&r, WIRE_NO_MEMORY);
    cr_assert_eq(r.error, WIRE_MALFORMED, "the first error stays");
    r = reader(NULL, 0);
    cr_assert_eq(wire_get_int64(&r), 0);
    refused(&r, "nothing at all");
    r = READER(1, 2, 3);
    cr_assert(uuid_is_zero(wire_get_uuid(&r)));
    refused(&r, "a short uuid");
}

Test(wire, uvarint_takes_32_bits_and_no_more)
{
    struct wire_reader r = READER(0, 0x7f, 0x80, 0x01, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x80, 0x00);
    cr_assert_eq(wire_get_uvarint(&r), 0);
    cr_assert_eq(wire_get_uvarint(&r), 127);
    cr_assert_eq(wire_get_uvarint(&r), 128);
    cr_assert_eq(wire_get_uvarint(&r), UINT32_MAX);
    cr_assert_eq(wire_get_uvarint(&r), 0, "zero may be spelt longer");
    cr_assert_eq(r.error, 0);
    r = READER(0xff, 0xff, 0xff, 0xff, 0x10);
    cr_assert_eq(wire_get_uvarint(&r), 0);
    refused(&r, "33 bits");
    r = READER(0x80, 0x80, 0x80, 0x80, 0x80, 0x00);
    wire_get_uvarint(&r);
    refused(&r, "six bytes");
    r = READER(0x80, 0x80);
    wire_get_uvarint(&r);
    refused(&r, "no last byte");
}

Test(wire, zigzag_varints_reach_both_ends)
{
    struct wire_reader r =
        READER(0, 1, 2, 0xff, 0xff, 0xff, 0xff, 0x0f, 0xfe, 0xff, 0xff, 0xff, 0x0f);
    cr_assert_eq(wire_get_varint(&r), 0);
    cr_assert_eq(wire_get_varint(&r), -1);
    cr_assert_eq(wire_get_varint(&r), 1);
    cr_assert_eq(wire_get_varint(&r), INT32_MIN);
    cr_assert_eq(wire_get_varint(&r), INT32_MAX);
    cr_assert_eq(r.error, 0);
    r = READER(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01);
    cr_assert_eq(wire_get_varlong(&r), INT64_MIN);
    r = READER(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02);
    cr_assert_eq(wire_get_varlong(&r), 0);
    refused(&r, "65 bits");
    r = READER(0x80);
    wire_get_varlong(&r);
    refused(&r, "no last byte");
}

static void varint_comes_back(int64_t v)
{
    uint8_t out[16];
    struct wire_writer w;
    wire_writer_init(&w, out, sizeof(out));
    wire_put_varlong(&w, v);
    cr_assert_eq(w.position, wire_varlong_size(v));
    struct wire_reader r = reader(out, w.position);
    cr_assert_eq(wire_get_varlong(&r), v);
    cr_assert_eq(wire_left(&r), 0);
    wire_writer_init(&w, out, sizeof(out));
    wire_put_varint(&w, (int32_t)v);
    cr_assert_eq(w.position, wire_varint_size((int32_t)v));
    wire_put_uvarint(&w, (uint32_t)v);
    cr_assert_eq(w.position, wire_varint_size((int32_t)v) + wire_uvarint_size((uint32_t)v));
    r = reader(out, w.position);
    cr_assert_eq(wire_get_varint(&r), (int32_t)v);
    cr_assert_eq(wire_get_uvarint(&r), (uint32_t)v);
}

Test(wire, varints_of_every_length_come_back)
{
    for (uint32_t bits = 0; bits < 64; bits++) {
        int64_t v = (int64_t)(UINT64_C(1) << bits);
        varint_comes_back(v);
        varint_comes_back((int64_t)((uint64_t)v - 1));
        varint_comes_back((int64_t)(0 - (uint64_t)v));
    }
}

Test(wire, strings_are_views_in_both_encodings)
{
    struct wire_reader r = READER(0, 2, 'a', 'b', 3, 'c', 'd', 0xff, 0xff, 0, 0, 0, 1);
    struct wire_string s = wire_get_string(&r, false);
    cr_assert(wire_string_equal(s, wire_string_of("ab")));
    cr_assert(wire_string_equal(wire_get_string(&r, true), wire_string_of("cd")));
    cr_assert_eq(wire_get_string_or_null(&r, false).size, -1);
    cr_assert_eq(wire_get_string_or_null(&r, true).size, -1);
    cr_assert_eq(wire_get_string(&r, false).size, 0);
    cr_assert_eq(wire_get_string(&r, true).size, 0, "empty is not null");
    cr_assert_eq(r.error, 0);
}

Test(wire, strings_that_cannot_be_are_refused)
{
    struct wire_reader r = READER(0xff, 0xff);
    cr_assert_eq(wire_get_string(&r, false).size, 0);
    refused(&r, "null");
    r = READER(0);
    cr_assert_eq(wire_get_string(&r, true).size, 0);
    refused(&r, "compact null");
    r = READER(0xff, 0xfe, 'a');
    wire_get_string_or_null(&r, false);
    refused(&r, "size -2");
    r = READER(0, 3, 'a', 'b');
    cr_assert_eq(wire_get_string(&r, false).size, 0);
    refused(&r, "longer than the input");
    r = READER(4, 'a', 'b');
    wire_get_string(&r, true);
    refused(&r, "compact, longer than the input");
    static uint8_t big[40000] = {0x81, 0x80, 0x02}; /* 32768 */
    r = reader(big, sizeof(big));
    wire_get_string(&r, true);
    refused(&r, "compact, over 32767");
    r = READER(0);
    cr_assert_eq(wire_get_string_or_null(&r, false).size, 0, "half a size");
    refused(&r, "half a size");
}

Test(wire, bytes_that_cannot_be_are_refused)
{
    struct wire_reader r = READER(0, 0, 0, 1, 7, 0xff, 0xff, 0xff, 0xff, 0, 2, 9);
    cr_assert_eq(wire_get_bytes(&r, false).data[0], 7);
    cr_assert_eq(wire_get_bytes_or_null(&r, false).size, -1);
    cr_assert_eq(wire_get_records_or_null(&r, true).size, -1);
    cr_assert_eq(wire_get_records(&r, true).data[0], 9);
    cr_assert_eq(r.error, 0);
    r = READER(0xff, 0xff, 0xff, 0xfe);
    wire_get_bytes_or_null(&r, false);
    refused(&r, "size -2");
    r = READER(0xff, 0xff, 0xff, 0xff);
    wire_get_records(&r, false);
    refused(&r, "null records");
    r = READER(0x7f, 0xff, 0xff, 0xff, 1);
    wire_get_bytes(&r, false);
    refused(&r, "two gigabytes");
    r = READER(0xff, 0xff, 0xff, 0xff, 0x0f, 1);
    wire_get_bytes_or_null(&r, true);
    refused(&r, "compact, four gigabytes");
}

Test(wire, counts_are_not_believed_before_the_bytes_are_there)
{
    struct wire_reader r = READER(0, 0, 0, 2, 1, 2, 3, 4);
    cr_assert_eq(wire_get_count(&r, false, 2), 2);
    r = READER(0, 0, 0, 2, 1, 2, 3);
    wire_get_count(&r, false, 2);
    refused(&r, "one byte short");
    r = READER(0x7f, 0xff, 0xff, 0xff, 0, 0, 0);
    wire_get_count(&r, false, 1);
    refused(&r, "a huge count");
    r = READER(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe);
    cr_assert_eq(wire_get_count_or_null(&r, false, 1), -1);
    wire_get_count_or_null(&r, false, 1);
    refused(&r, "count -2");
    r = READER(0);
    wire_get_count(&r, true, 1);
    refused(&r, "compact null");
    r = READER(0xfe, 0xff, 0xff, 0xff, 0x07);
    wire_get_count(&r, true, 1);
    refused(&r, "compact, huge");
    r = READER(1);
    cr_assert_eq(wire_get_count(&r, true, 100), 0, "none needs no bytes");
}

Test(wire, arrays_of_scalars_come_from_the_arena)
{
    struct mem mem;
    struct arena arena;
    cr_assert_eq(mem_init(&mem, BUDGET), 0);
    arena_init(&arena, &mem, BUDGET);
    struct wire_reader r = READER(0xff, 2, 0xff, 0xfd, 0, 3, 0xff, 0xff, 0xff, 0xfc, 0, 0, 0, 5, 0,
                                  0, 0, 0, 0, 0, 0, 6, 2, 'a', 1);
    int8_t *bytes = wire_get_int8s(&r, &arena, 2);
    cr_assert(bytes[0] == -1 && bytes[1] == 2);
    int16_t *shorts = wire_get_int16s(&r, &arena, 2);
    cr_assert(shorts[0] == -3 && shorts[1] == 3);
    int32_t *ints = wire_get_int32s(&r, &arena, 2);
    cr_assert(ints[0] == -4 && ints[1] == 5);
    cr_assert_eq(wire_get_int64s(&r, &arena, 1)[0], 6);
    struct wire_string *strings = wire_get_strings(&r, &arena, 2, true);
    cr_assert(wire_string_equal(strings[0], wire_string_of("a")) && strings[1].size == 0);
    cr_assert_null(wire_get_int32s(&r, &arena, 0));
    cr_assert_null(wire_get_uuids(&r, &arena, -1));
    cr_assert_eq(r.error, 0);
    r = READER(1, 2, 3);
    cr_assert_null(wire_get_int32s(&r, &arena, 1));
    refused(&r, "three bytes of four");
    r = READER(2, 'a', 0);
    cr_assert_null(wire_get_strings(&r, &arena, 2, true));
    refused(&r, "a null among strings");
    arena_release(&arena);
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
}

Test(wire, arena_over_its_limit_is_no_memory)
{
    struct mem mem;
    struct arena arena;
    cr_assert_eq(mem_init(&mem, BUDGET), 0);
    arena_init(&arena, &mem, 1);
    static const uint8_t zeros[400000];
    struct wire_reader r = reader(zeros, sizeof(zeros));
    cr_assert_null(wire_get_int32s(&r, &arena, 100000));
    cr_assert_eq(r.error, WIRE_NO_MEMORY);
    cr_assert_null(wire_get_room(&r, &arena, 1, 1), "nor anything after it");
    arena_release(&arena);
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
}

/* ---- tagged fields --------------------------------------------------------------------------- */

Test(wire, tags_confine_the_reader_to_their_field)
{
    struct wire_reader r = READER(2, 0, 1, 0xaa, 5, 2, 1, 2, 0x77);
    struct wire_tags tags = wire_tags_begin(&r);
    cr_assert(wire_tags_next(&r, &tags));
    cr_assert_eq(tags.tag, 0);
    cr_assert_eq(wire_left(&r), 1);
    cr_assert_eq(wire_get_int8(&r), (int8_t)0xaa);
    cr_assert(wire_tags_next(&r, &tags));
    cr_assert_eq(tags.tag, 5);
    wire_skip(&r);
    cr_assert_not(wire_tags_next(&r, &tags));
    cr_assert_eq(wire_get_int8(&r), 0x77, "what follows the section is in reach again");
    cr_assert_eq(r.error, 0);
}

static int skipped(struct wire_reader r)
{
    wire_skip_tags(&r);
    return r.error;
}

Test(wire, tag_sections_that_cannot_be_are_refused)
{
    cr_assert_eq(skipped(READER(0)), 0);
    cr_assert_eq(skipped(READER(2, 0, 0, 1, 0)), 0);
    cr_assert_eq(skipped(READER(2, 1, 0, 0, 0)), WIRE_MALFORMED, "descending");
    cr_assert_eq(skipped(READER(2, 1, 0, 1, 0)), WIRE_MALFORMED, "twice");
    cr_assert_eq(skipped(READER(1, 0, 2, 0)), WIRE_MALFORMED, "longer than the input");
    cr_assert_eq(skipped(READER(2, 0, 0)), WIRE_MALFORMED, "fewer than told");
    cr_assert_eq(skipped(READER(0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0)), WIRE_MALFORMED, "too many");
    cr_assert_eq(skipped(READER(1, 0)), WIRE_MALFORMED, "no size");
    cr_assert_eq(skipped(reader(NULL, 0)), WIRE_MALFORMED, "no section");
}

Test(wire, tagged_field_must_be_read_to_its_end)
{
    struct wire_reader r = READER(1, 0, 2, 1, 2, 9, 9);
    struct wire_tags tags = wire_tags_begin(&r);
    cr_assert(wire_tags_next(&r, &tags));
    wire_get_int8(&r);
    cr_assert_not(wire_tags_next(&r, &tags));
    refused(&r, "a byte of the field was left");
    r = READER(1, 0, 2, 1, 2, 9, 9);
    tags = wire_tags_begin(&r);
    cr_assert(wire_tags_next(&r, &tags));
    wire_get_int32(&r);
    cr_assert_not(wire_tags_next(&r, &tags));
    refused(&r, "read beyond the field, though there are bytes");
}

/* ---- writing --------------------------------------------------------------------------------- */

static void put_everything(struct wire_writer *w)
{
    static const struct wire_string strings[] = {{"x", 1}, {NULL, 0}};
    wire_put_bool(w, true);
    wire_put_int8(w, -2);
    wire_put_int16(w, -3);
    wire_put_uint16(w, 0xfffc);
    wire_put_int32(w, -5);
    wire_put_uint32(w, 0xfffffffa);
    wire_put_int64(w, -7);
    wire_put_float64(w, -0.5);
    wire_put_uuid(w, (struct uuid){{1, 2, 3}});
    wire_put_string(w, wire_string_of("ab"), false);
    wire_put_string(w, wire_string_of("ab"), true);
    wire_put_string_or_null(w, WIRE_NULL_STRING, false);
    wire_put_string_or_null(w, WIRE_NULL_STRING, true);
    wire_put_bytes(w, (struct wire_bytes){(const uint8_t *)"cd", 2}, false);
    wire_put_bytes_or_null(w, WIRE_NULL_BYTES, true);
    wire_put_records_or_null(w, &WIRE_NULL_RECORDS, false);
    wire_put_count(w, 2, true);
    wire_put_strings(w, strings, 2, true);
    wire_put_count_or_null(w, -1, false);
    wire_put_int8s(w, (int8_t[]){1, -1}, 2);
    wire_put_int16s(w, (int16_t[]){1, -1}, 2);
    wire_put_int32s(w, (int32_t[]){1, -1}, 2);
    wire_put_int64s(w, (int64_t[]){1, -1}, 2);
    wire_put_uuids(w, (struct uuid[]){{{9}}}, 1);
    wire_put_int32s(w, NULL, 0);
    wire_put_raw(w, NULL, 0);
    wire_put_tag(w, 3, 300);
}

Test(wire, what_is_written_is_what_was_measured)
{
    struct wire_writer measured = {0};
    put_everything(&measured);
    cr_assert_eq(measured.position, 124);
    uint8_t out[256];
    memset(out, 0x55, sizeof(out));
    struct wire_writer w;
    wire_writer_init(&w, out, measured.position);
    put_everything(&w);
    cr_assert(wire_writer_ok(&w));
    cr_assert_eq(w.position, measured.position);
    cr_assert_eq(out[w.position], 0x55);
    static const uint8_t head[] = {1, 0xfe, 0xff, 0xfd, 0xff, 0xfc, 0xff, 0xff, 0xff, 0xfb};
    cr_assert_eq(memcmp(out, head, sizeof(head)), 0);
    static const uint8_t tail[] = {3, 0xac, 0x02};
    cr_assert_eq(memcmp(out + w.position - 3, tail, sizeof(tail)), 0);
}

Test(wire, writer_without_room_writes_nothing_beyond_it)
{
    struct wire_writer measured = {0};
    put_everything(&measured);
    for (uint64_t room = 0; room < measured.position; room++) {
        uint8_t out[256];
        memset(out, 0x55, sizeof(out));
        struct wire_writer w;
        wire_writer_init(&w, out, room);
        put_everything(&w);
        cr_assert_not(wire_writer_ok(&w));
        cr_assert_eq(w.position, measured.position, "it still says how much it takes");
        for (uint64_t i = room; i < sizeof(out); i++)
            cr_assert_eq(out[i], 0x55);
    }
}

Test(wire, pieces_are_lent_and_not_copied)
{
    static const struct wire_piece pieces[] = {{"abc", 3}, {"de", 2}};
    static const struct wire_records lent = {.pieces = pieces, .pieces_count = 2};
    static const struct wire_records none = {.pieces = pieces, .pieces_count = 0};
    uint8_t out[64];
    struct wire_splice splices[2];
    struct wire_writer w;
    wire_writer_init(&w, out, sizeof(out));
    wire_writer_splice(&w, splices, 2);
    wire_put_records(&w, &lent, false);
    wire_put_records(&w, &none, true);
    wire_put_records_or_null(&w, &lent, true);
    wire_put_int8(&w, 7);
    cr_assert(wire_writer_ok(&w));
    static const uint8_t expected[] = {0, 0, 0, 5, 1, 6, 7};
    cr_assert_eq(w.position, sizeof(expected));
    cr_assert_eq(memcmp(out, expected, sizeof(expected)), 0);
    cr_assert_eq(w.spliced_bytes, 10);
    cr_assert_eq(w.splices_count, 2);
    cr_assert_eq(w.pieces_count, 4);
    cr_assert(splices[0].position == 4 && splices[0].size == 5 && splices[0].pieces == pieces);
    cr_assert(splices[1].position == 6 && splices[1].pieces_count == 2);
}

Test(wire, missing_splice_slots_are_told)
{
    static const struct wire_piece piece = {"abc", 3};
    static const struct wire_records lent = {.pieces = &piece, .pieces_count = 1};
    uint8_t out[64];
    struct wire_splice splice;
    struct wire_writer w;
    wire_writer_init(&w, out, sizeof(out));
    wire_writer_splice(&w, &splice, 1);
    wire_put_records(&w, &lent, false);
    cr_assert(wire_writer_ok(&w));
    wire_put_records(&w, &lent, false);
    cr_assert_not(wire_writer_ok(&w));
    cr_assert_eq(w.splices_count, 2, "it says how many it takes");
}

/* ---- our own mistakes ------------------------------------------------------------------------ */

Test(wire, null_string_where_none_may_be_is_our_bug, .signal = SIGABRT)
{
    struct wire_writer w = {0};
    wire_put_string(&w, WIRE_NULL_STRING, true);
}

Test(wire, string_over_the_maximum_is_our_bug, .signal = SIGABRT)
{
    struct wire_writer w = {0};
    wire_put_string(&w, (struct wire_string){"", WIRE_STRING_MAX + 1}, true);
}

Test(wire, null_records_where_none_may_be_are_our_bug, .signal = SIGABRT)
{
    struct wire_writer w = {0};
    wire_put_records(&w, &WIRE_NULL_RECORDS, true);
}
