/* The text a node writes about itself: for its operator, not for its requests.
 *
 *   2026-11-21T13:20:00.123Z INFO  log    core=1 message
 *   └ wall clock, UTC         └level └module └ the core that writes, or - outside of any
 *
 * A line is put together in a buffer on the stack and leaves whole, so lines of several cores never
 * mix and nothing is allocated when memory is what the line is about.
 *
 * Invariants:
 *  1. A line ends in exactly one newline and has no other control character.
 *  2. Per module and level at most 20 lines leave in one second of the wall clock, and the first
 *     line of a later second is preceded by one that says how many were swallowed.
 *
 * Failure modes: a message longer than the buffer is cut and ends in "...". A sink that cannot
 * write loses the line; there is nowhere to say so. */
#include "core/trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/assert.h"
#include "core/core.h"

#define LINE_SIZE            1024u
#define LINES_PER_SECOND_MAX 20u
#define LEVELS_COUNT         4u

static const char *const level_names[LEVELS_COUNT] = {"error", "warn", "info", "debug"};
static const char *const level_titles[LEVELS_COUNT] = {"ERROR", "WARN", "INFO", "DEBUG"};
static const char *const module_names[TRACE_MODULES] = {"main", "io",     "net",   "api",
                                                        "log",  "quorum", "config"};

void trace_init(struct trace *t, void (*sink)(void *, const char *, size_t), void *context,
                const int64_t *wall_ms)
{
    assert(sink != NULL);
    assert(wall_ms != NULL);
    *t = (struct trace){.sink = sink, .context = context, .wall_ms = wall_ms};
    for (uint32_t i = 0; i < TRACE_MODULES; i++)
        t->level[i] = TRACE_INFO;
}

/* Year, month and day of a day count since 1970-01-01. The year is taken to begin in March, so that
 * the leap day is its last; 146097 days are 400 years. */
static void date_of(int64_t days, int64_t *year, int64_t *month, int64_t *day)
{
    int64_t shifted = days + 719468; /* days since 0000-03-01 */
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    *day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    *month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    *year = year_of_era + era * 400 + (*month <= 2);
}

/* Writes everything before the message; returns its length. */
static size_t line_begin(const struct trace *t, char *line, enum trace_module module,
                         enum trace_level level)
{
    int64_t ms = *t->wall_ms, year, month, day;
    int64_t days = ms / 86400000 - (ms % 86400000 < 0);
    int64_t of_day = ms - days * 86400000;
    date_of(days, &year, &month, &day);
    int n = snprintf(
        line, LINE_SIZE, "%04lld-%02d-%02dT%02d:%02d:%02d.%03dZ %-5s %-6s core=", (long long)year,
        (int)month, (int)day, (int)(of_day / 3600000), (int)(of_day / 60000 % 60),
        (int)(of_day / 1000 % 60), (int)(of_day % 1000), level_titles[level], module_names[module]);
    assert(n > 0 && n < 128);
    uint32_t core = core_self().index;
    int m = core < CORES_MAX ? snprintf(line + n, LINE_SIZE - (size_t)n, "%u ", core)
                             : snprintf(line + n, LINE_SIZE - (size_t)n, "- ");
    assert(m > 0);
    return (size_t)n + (size_t)m;
}

/* Replaces control characters of the message, ends the line, and hands it over. */
static void line_end(struct trace *t, char *line, size_t begin, size_t size)
{
    assert(size < LINE_SIZE);
    for (size_t i = begin; i < size; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = ' ';
    line[size++] = '\n';
    t->sink(t->context, line, size);
}

/* Whether a line of this class may leave now; says first what a past second swallowed. */
static bool trace_admits(struct trace *t, enum trace_module module, enum trace_level level)
{
    struct trace_limit *limit = &t->limits[module][level];
    int64_t second = *t->wall_ms / 1000;
    if (second != limit->second) {
        uint32_t swallowed = limit->swallowed;
        *limit = (struct trace_limit){.second = second};
        if (swallowed > 0) {
            char line[LINE_SIZE];
            size_t begin = line_begin(t, line, module, level);
            int n = snprintf(line + begin, LINE_SIZE - begin, "%u lines like these swallowed",
                             swallowed);
            assert(n > 0);
            line_end(t, line, begin, begin + (size_t)n);
        }
    }
    if (limit->lines >= LINES_PER_SECOND_MAX) {
        limit->swallowed++;
        return false;
    }
    limit->lines++;
    return true;
}

void trace_line(struct trace *t, enum trace_module module, enum trace_level level,
                const char *format, ...)
{
    assert(module < TRACE_MODULES);
    assert(level < LEVELS_COUNT);
    if (level > t->level[module] || !trace_admits(t, module, level))
        return;
    char line[LINE_SIZE];
    size_t begin = line_begin(t, line, module, level);
    size_t room = LINE_SIZE - 1 - begin; /* one place is the newline's */
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line + begin, room, format, arguments);
    va_end(arguments);
    assert(n >= 0);
    size_t size = begin + (size_t)n;
    if ((size_t)n >= room) {
        size = begin + room - 1;
        /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): line_end ends it */
        memcpy(line + size - 3, "...", 3);
    }
    line_end(t, line, begin, size);
}

/* The index of the word of size characters among names, or -1. */
static int word_index(const char *const *names, uint32_t count, const char *word, size_t size)
{
    for (uint32_t i = 0; i < count; i++)
        if (strlen(names[i]) == size && memcmp(names[i], word, size) == 0)
            return (int)i;
    return -1;
}

/* One of "debug" and "log=debug". */
static bool set_level(enum trace_level levels[TRACE_MODULES], const char *item, size_t size)
{
    const char *equals = memchr(item, '=', size);
    const char *word = equals == NULL ? item : equals + 1;
    int level = word_index(level_names, LEVELS_COUNT, word, size - (size_t)(word - item));
    if (level < 0)
        return false;
    if (equals == NULL) {
        for (uint32_t i = 0; i < TRACE_MODULES; i++)
            levels[i] = (enum trace_level)level;
        return true;
    }
    int module = word_index(module_names, TRACE_MODULES, item, (size_t)(equals - item));
    if (module < 0)
        return false;
    levels[module] = (enum trace_level)level;
    return true;
}

bool trace_set_levels(struct trace *t, const char *text)
{
    assert(text != NULL);
    enum trace_level levels[TRACE_MODULES]; /* all or nothing */
    memcpy(levels, t->level, sizeof(levels));
    for (;;) {
        size_t size = strcspn(text, ",");
        if (!set_level(levels, text, size))
            return false;
        if (text[size] == '\0')
            break;
        text += size + 1;
    }
    memcpy(t->level, levels, sizeof(levels));
    return true;
}

const char *trace_escape(char *to, size_t size, const void *from, size_t from_size)
{
    static const char hex[] = "0123456789abcdef";
    assert(size > 0);
    const uint8_t *in = from;
    size_t at = 0;
    for (size_t i = 0; i < from_size; i++) {
        bool plain = in[i] >= 0x20 && in[i] < 0x7f && in[i] != '\\';
        size_t need = plain ? 1 : 4;
        if (need >= size - at)
            break;
        if (plain) {
            to[at++] = (char)in[i];
            continue;
        }
        to[at++] = '\\';
        to[at++] = 'x';
        to[at++] = hex[in[i] >> 4];
        to[at++] = hex[in[i] & 15];
    }
    assert(at < size);
    to[at] = '\0';
    return to;
}
