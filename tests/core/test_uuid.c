/* Ids as text, checked against what Kafka's own tools print. */
#include "core/uuid.h"

#include <criterion/criterion.h>

/* Metadata topic id: all zero but the last byte, as Kafka defines it. */
Test(uuid, text_is_base64_of_the_bytes)
{
    char text[UUID_TEXT_SIZE];
    struct uuid id = {{0}};
    cr_assert_str_eq(uuid_text(id, text), "AAAAAAAAAAAAAAAAAAAAAA");
    id.bytes[15] = 1;
    cr_assert_str_eq(uuid_text(id, text), "AAAAAAAAAAAAAAAAAAAAAQ");
    memset(id.bytes, 0xff, sizeof(id.bytes));
    cr_assert_str_eq(uuid_text(id, text), "_____________________w");
}

Test(uuid, every_bit_survives_text_and_back)
{
    for (uint32_t bit = 0; bit < 128; bit++) {
        struct uuid id = {{0}}, back = {{0xee}};
        char text[UUID_TEXT_SIZE];
        id.bytes[bit / 8] = (uint8_t)(1u << bit % 8);
        (void)uuid_text(id, text);
        cr_assert_eq(strlen(text), 22);
        cr_assert(uuid_parse(&back, text, 22));
        cr_assert(uuid_equal(id, back), "bit %u", bit);
        cr_assert_not(uuid_is_zero(back));
    }
}

Test(uuid, reads_as_leniently_as_java)
{
    struct uuid a, b;
    cr_assert(uuid_parse(&a, "MkU3OEVBNTcwNTJENDM2Qg", 22));
    cr_assert(uuid_parse(&b, "MkU3OEVBNTcwNTJENDM2Qg==", 24), "padding may follow");
    cr_assert(uuid_equal(a, b));
    cr_assert(uuid_parse(&b, "MkU3OEVBNTcwNTJENDM2Qh", 22), "spare bits are ignored");
    cr_assert(uuid_equal(a, b));
    cr_assert_arr_eq(a.bytes, "2E78EA57052D436B", 16);
}

Test(uuid, refuses_what_is_no_id_and_leaves_the_target_alone)
{
    static const char *const bad[] = {
        "",
        "AAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAA=",
        "AAAAAAAAAAAAAAAAAAAAAA=A",
        "AAAAAAAAAAAAAAAAAAAAA+",
        "AAAAAAAAAA/AAAAAAAAAAA",
        "AAAAAAAAAA AAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAA==",
        "\xffJAAAAAAAAAAAAAAAAAAA",
    };
    struct uuid id = {{7}};
    for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_not(uuid_parse(&id, bad[i], (uint32_t)strlen(bad[i])), "%s", bad[i]);
    cr_assert_eq(id.bytes[0], 7);
}
