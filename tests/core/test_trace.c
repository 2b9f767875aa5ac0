/* Lines of text: their format, their levels, their rate, and what they never contain. */
#include "core/trace.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/core.h"

struct page {
    char text[65536];
    size_t size;
    uint32_t lines;
};

static struct page page;
static struct trace trace;
static int64_t wall_ms;

static void keep(void *context, const char *line, size_t size)
{
    struct page *p = context;
    cr_assert_eq(line[size - 1], '\n');
    cr_assert_null(memchr(line, '\n', size - 1));
    memcpy(p->text + p->size, line, size);
    p->size += size;
    p->text[p->size] = '\0';
    p->lines++;
}

static void begin(void)
{
    memset(&page, 0, sizeof(page));
    wall_ms = 1795267200123; /* 2026-11-21T13:20:00.123Z */
    trace_init(&trace, keep, &page, &wall_ms);
}

TestSuite(trace, .init = begin);

Test(trace, a_line_says_when_how_bad_where_and_what)
{
    core_enter((struct core_id){1});
    trace_line(&trace, TRACE_LOG, TRACE_INFO, "opened %d", 5);
    core_leave();
    trace_line(&trace, TRACE_QUORUM, TRACE_ERROR, "lost");
    cr_assert_str_eq(page.text, "2026-11-21T13:20:00.123Z INFO  log    core=1 opened 5\n"
                                "2026-11-21T13:20:00.123Z ERROR quorum core=- lost\n");
}

Test(trace, dates_are_right_through_leap_years_and_centuries)
{
    static const struct {
        int64_t ms;
        const char *text;
    } dates[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {951782399999, "2000-02-28T23:59:59.999Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {951868800000, "2000-03-01T00:00:00.000Z"},
        {1709164800000, "2024-02-29T00:00:00.000Z"},
        {1735689599999, "2024-12-31T23:59:59.999Z"},
        {4107542400000, "2100-03-01T00:00:00.000Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
    };
    for (uint32_t i = 0; i < sizeof(dates) / sizeof(dates[0]); i++) {
        page.size = 0;
        wall_ms = dates[i].ms;
        trace_line(&trace, TRACE_MAIN, TRACE_WARN, "x");
        cr_assert_eq(strncmp(page.text, dates[i].text, 24), 0, "%s is not %s", page.text,
                     dates[i].text);
    }
}

Test(trace, levels_are_kept_apart_by_module)
{
    trace_line(&trace, TRACE_NET, TRACE_DEBUG, "hidden");
    cr_assert_eq(page.lines, 0, "debug is off unless asked for");
    cr_assert(trace_set_levels(&trace, "net=debug,log=error"));
    trace_line(&trace, TRACE_NET, TRACE_DEBUG, "shown");
    trace_line(&trace, TRACE_LOG, TRACE_WARN, "hidden");
    trace_line(&trace, TRACE_API, TRACE_DEBUG, "hidden");
    cr_assert_eq(page.lines, 1);
    cr_assert(trace_set_levels(&trace, "warn"));
    trace_line(&trace, TRACE_NET, TRACE_INFO, "hidden");
    trace_line(&trace, TRACE_LOG, TRACE_WARN, "shown");
    cr_assert_eq(page.lines, 2);
}

Test(trace, unknown_levels_are_refused_whole)
{
    static const char *const bad[] = {"",           "loud",        "net=loud",       "disk=info",
                                      "net=debug,", "net=debug,x", "net=debug=info", "=info",
                                      "DEBUG"};
    for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_not(trace_set_levels(&trace, bad[i]), "%s", bad[i]);
    cr_assert_eq(trace.level[TRACE_NET], TRACE_INFO, "nothing of a bad text was taken");
}

Test(trace, a_flood_is_cut_and_counted)
{
    for (uint32_t i = 0; i < 50; i++)
        trace_line(&trace, TRACE_NET, TRACE_WARN, "flood");
    cr_assert_eq(page.lines, 20);
    trace_line(&trace, TRACE_NET, TRACE_ERROR, "another level");
    trace_line(&trace, TRACE_LOG, TRACE_WARN, "another module");
    cr_assert_eq(page.lines, 22);
    wall_ms += 1000;
    page.size = 0;
    trace_line(&trace, TRACE_NET, TRACE_WARN, "again");
    cr_assert_eq(page.lines, 24);
    cr_assert_not_null(strstr(page.text, "30 lines like these swallowed\n"));
    cr_assert_not_null(strstr(page.text, "again\n"));
}

Test(trace, a_message_cannot_break_the_line)
{
    trace_line(&trace, TRACE_API, TRACE_INFO, "a\nb\r\x1b[2Jc\x7f");
    cr_assert_not_null(strstr(page.text, "core=- a b  [2Jc \n"));
    cr_assert_eq(page.lines, 1);
}

Test(trace, a_long_message_is_cut_and_says_so)
{
    char text[3000];
    memset(text, 'x', sizeof(text));
    text[2999] = '\0';
    trace_line(&trace, TRACE_API, TRACE_INFO, "%s", text);
    cr_assert_leq(page.size, 1024);
    cr_assert_geq(page.size, 1000);
    cr_assert_str_eq(page.text + page.size - 5, "x...\n");
    for (uint32_t length = 900; length < 1000; length++) {
        page.size = 0;
        wall_ms += 1000;
        trace_line(&trace, TRACE_API, TRACE_INFO, "%.*s", (int)length, text);
        cr_assert_eq(strstr(page.text, "...") == NULL, page.size == 45 + length + 1);
    }
}

Test(trace, escape_shows_every_byte)
{
    char to[64];
    cr_assert_str_eq(trace_escape(to, sizeof(to), "a b\n\xff\0\\", 7), "a b\\x0a\\xff\\x00\\x5c");
    cr_assert_str_eq(trace_escape(to, sizeof(to), NULL, 0), "");
}

Test(trace, escape_cuts_before_what_does_not_fit)
{
    char to[8];
    cr_assert_str_eq(trace_escape(to, 8, "abcdefghij", 10), "abcdefg");
    cr_assert_str_eq(trace_escape(to, 8, "abcd\n", 5), "abcd");
    cr_assert_str_eq(trace_escape(to, 8, "abc\nx", 5), "abc\\x0a");
    cr_assert_str_eq(trace_escape(to, 1, "abc", 3), "");
}
