/* Patterns against names: the whole name, by RE2's rules. */
#include "broker/group/pattern.h"

#include <criterion/criterion.h>

enum { NO, YES, REFUSED };

static int match(const char *text, const char *name)
{
    struct mem mem;
    struct arena arena;
    struct pattern p;
    const char *why = NULL;
    cr_assert_eq(mem_init(&mem, 16u << 20), 0);
    arena_init(&arena, &mem, 8u << 20);
    int result = REFUSED;
    if (pattern_compile(&p, &arena, wire_string_of(text), &why))
        result = pattern_matches(&p, wire_string_of(name)) ? YES : NO;
    else
        cr_expect_not_null(why);
    arena_release(&arena);
    cr_expect_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
    return result;
}

Test(group_pattern, a_repetition_at_the_end_goes_on_to_the_end_of_the_name)
{
    cr_expect_eq(match("o.*", "open"), YES);
    cr_expect_eq(match(".*", "open"), YES);
    cr_expect_eq(match("o[a-z]+", "open"), YES);
    cr_expect_eq(match("open?", "ope"), YES);
    cr_expect_eq(match("op(en)*", "openen"), YES);
    cr_expect_eq(match("op(en)*", "opene"), NO);
    cr_expect_eq(match("o|op|open", "open"), YES);
    cr_expect_eq(match("o{1,3}", "ooo"), YES);
    cr_expect_eq(match("o{1,3}", "oooo"), NO);
}

Test(group_pattern, the_whole_name_is_matched)
{
    cr_expect_eq(match("pe", "open"), NO);
    cr_expect_eq(match("open", "open"), YES);
    cr_expect_eq(match("open", "opened"), NO);
    cr_expect_eq(match("", ""), YES);
    cr_expect_eq(match("", "open"), NO);
    cr_expect_eq(match("^open$", "open"), YES);
    cr_expect_eq(match("(?i)OPEN", "open"), YES);
    cr_expect_eq(match("\\w+-\\d{2}", "topic-42"), YES);
    cr_expect_eq(match("[^-]+-[^-]+", "a-b-c"), NO);
}

Test(group_pattern, what_is_no_pattern_is_refused)
{
    static const char *const bad[] = {"[", "(", ")", "*", "a{2,1}", "(?=a)", "\\1", "[z-a]"};
    for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_expect_eq(match(bad[i], "a"), REFUSED, "%s", bad[i]);
}
