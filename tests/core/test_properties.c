/* .properties text: each rule of java.util.Properties with what Java makes of it. */
#include "core/properties.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static struct mem mem;
static struct arena arena;
static struct properties properties;
static uint32_t error_line;

static void begin(void)
{
    cr_assert_eq(mem_init(&mem, 1 << 20), 0);
    arena_init(&arena, &mem, 1 << 20);
}

static void end(void)
{
    arena_release(&arena);
    mem_destroy(&mem);
}

TestSuite(properties, .init = begin, .fini = end);

static int parse_bytes(const char *text, size_t size)
{
    /* A copy without a terminator, so that reading past the end is found. */
    char *exact = size == 0 ? NULL : mem_alloc(&mem, size);
    if (size > 0)
        memcpy(exact, text, size);
    int error = properties_parse(&properties, &arena, exact, size, &error_line);
    mem_free(&mem, exact, size);
    return error;
}

/* Asserts that the text means exactly this one pair. */
static void means(const char *text, const char *key, const char *value)
{
    cr_assert_eq(parse_bytes(text, strlen(text)), 0, "%s", text);
    cr_assert_eq(properties.count, 1, "%s has %u", text, properties.count);
    cr_assert_str_eq(properties.items[0].key, key, "%s", text);
    cr_assert_str_eq(properties.items[0].value, value, "%s", text);
}

Test(properties, separators_are_equals_colon_or_blanks)
{
    means("k=v", "k", "v");
    means("k:v\n", "k", "v");
    means("k v\n", "k", "v");
    means("  k \t = \f v w \n", "k", "v w ");
    means("k==v", "k", "=v");
    means("k =:v", "k", ":v");
    means("k\tv=w", "k", "v=w");
    means("k", "k", "");
    means("k=", "k", "");
    means("=v", "", "v");
}

Test(properties, an_escaped_separator_belongs_to_the_key)
{
    means("a\\=b\\:c\\ d=v", "a=b:c d", "v");
    means("a\\\\=v", "a\\", "v");
    means("k=a\\=b", "k", "a=b");
    means("k=\\ v", "k", " v");
}

Test(properties, comments_and_blank_lines_fall_out)
{
    means("# c=d\n\n \t\f\n  ! x\r\n#\\\nk=v\n#", "k", "v");
    means("k=v # not a comment", "k", "v # not a comment");
    means("#\rk=v", "k", "v");
}

Test(properties, a_line_goes_on_after_an_odd_number_of_backslashes)
{
    means("k=a\\\n   b", "k", "ab");
    means("k=a\\\r\n\tb", "k", "ab");
    means("k=a\\\rb", "k", "ab");
    means("k=a\\\\\n", "k", "a\\");
    means("k=a\\\\\\\nb", "k", "a\\b");
    means("k\\\n=v", "k", "v");
    means("k=a\\\n#b", "k", "a#b");
    means("k=a\\\n\n", "k", "a");
    means("k=a\\", "k", "a");
    means("\\\nk=v", "k", "v");
    means("\\\n", "", "");
}

Test(properties, the_usual_escapes_are_read_and_others_lose_their_backslash)
{
    means("k=a\\tb\\nc\\rd\\fe\\qf\\\"", "k", "a\tb\nc\rd\feqf\"");
}

Test(properties, unicode_escapes_become_utf_8)
{
    means("k=\\u0041\\u00e4\\u20AC", "k", "A\xc3\xa4\xe2\x82\xac");
    means("\\u006b=v", "k", "v");
    means("k=\\ud83d\\ude00", "k", "\xf0\x9f\x98\x80");
    means("k=\\ud83d!\\ude00", "k", "\xef\xbf\xbd!\xef\xbf\xbd");
    means("k=\\ud83d", "k", "\xef\xbf\xbd");
}

Test(properties, bytes_are_latin_1_as_kafka_loads_them)
{
    means("k=\xe4", "k", "\xc3\xa4");
    means("k=\xc3\xa4", "k", "\xc3\x83\xc2\xa4");
}

Test(properties, later_keys_win_and_keep_the_first_place)
{
    static const char text[] = "a=1\n# x\nb=2\n\na=3\\\n4\nc=5\n";
    cr_assert_eq(parse_bytes(text, strlen(text)), 0);
    cr_assert_eq(properties.count, 3);
    cr_assert_str_eq(properties.items[0].key, "a");
    cr_assert_str_eq(properties.items[0].value, "34");
    cr_assert_eq(properties.items[0].line, 5);
    cr_assert_eq(properties.items[1].line, 3);
    cr_assert_eq(properties.items[2].line, 7);
    cr_assert_str_eq(properties_get(&properties, "c"), "5");
    cr_assert_null(properties_get(&properties, "d"));
}

Test(properties, lines_are_counted_over_every_kind_of_line_end)
{
    static const char text[] = "a=1\r\nb=2\rc=3\n\r\n\rd=4";
    cr_assert_eq(parse_bytes(text, strlen(text)), 0);
    cr_assert_eq(properties.items[0].line, 1);
    cr_assert_eq(properties.items[1].line, 2);
    cr_assert_eq(properties.items[2].line, 3);
    cr_assert_eq(properties.items[3].line, 6);
}

Test(properties, empty_text_has_no_properties)
{
    cr_assert_eq(parse_bytes("", 0), 0);
    cr_assert_eq(properties.count, 0);
    cr_assert_eq(parse_bytes("\n\r\n# c", 6), 0);
    cr_assert_eq(properties.count, 0);
}

Test(properties, malformed_escapes_and_nul_are_refused_with_their_line)
{
    static const char *const bad[] = {"a=1\nk=\\u12", "a=1\nk=\\u12g4", "a=1\n\\u=v",
                                      "a=1\nk=\\uD83D\\u12\nb=2", "a=1\nk=\\u0000"};
    for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_eq(parse_bytes(bad[i], strlen(bad[i])), -EINVAL, "%s", bad[i]);
        cr_assert_eq(error_line, 2, "%s", bad[i]);
    }
    cr_assert_eq(parse_bytes("a=1\n\nb=\0x\n", 10), -EINVAL);
    cr_assert_eq(error_line, 3);
}

Test(properties, over_budget_is_a_refusal_and_leaves_nothing)
{
    static const char text[] = "a=1\nb=2\nc=3\n";
    for (uint64_t limit = 0; limit < 2000; limit += 16) {
        struct arena small;
        arena_init(&small, &mem, limit);
        int error = properties_parse(&properties, &small, text, strlen(text), &error_line);
        cr_assert(error == 0 || error == -ENOMEM);
        cr_assert(error == 0 || limit < 400);
        arena_release(&small);
        cr_assert_eq(mem.used_bytes, 0);
    }
}

Test(properties, any_bytes_are_parsed_or_refused)
{
    static const char alphabet[] = "ab=: \t\n\r\\u0#!\f\xe4";
    uint64_t state = 9;
    char text[40];
    for (uint32_t round = 0; round < 20000; round++) {
        size_t size = 0;
        for (; size < round % 40; size++) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            text[size] = alphabet[(state >> 33) % (sizeof(alphabet) - 1)];
        }
        int error = parse_bytes(text, size);
        cr_assert(error == 0 || (error == -EINVAL && error_line >= 1 && error_line <= 41));
        for (uint32_t i = 0; error == 0 && i < properties.count; i++)
            cr_assert_eq(properties_get(&properties, properties.items[i].key),
                         properties.items[i].value, "keys are unique");
        arena_release(&arena);
    }
    cr_assert_eq(mem.used_bytes, 0);
}
