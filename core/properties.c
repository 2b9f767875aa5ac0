/* Reader of .properties text, step for step as java.util.Properties does it, since the same
 * server.properties must mean the same.
 *
 *   natural lines ── reader_line ─▶ one logical line ── split_line ─▶ key │ value ── unescape ─▶
 * UTF-8
 *   (\n, \r, \r\n; blank and comment lines fall out; a line that ends in an odd number of
 *    backslashes goes on in the next, whose leading blanks are dropped)
 *
 * Kafka loads the file as bytes, which Java takes for ISO-8859-1: a byte above 0x7f is one
 * character and becomes two bytes of UTF-8 here, also when the file was written in UTF-8. It looks
 * wrong and is the same path or name that Kafka would have used.
 *
 * Invariants:
 *  1. A logical line is never longer than the text, so one line buffer of that size suffices.
 *  2. Unescaping at most doubles the size (a Latin-1 byte); every \uXXXX shrinks.
 *  3. items has room for every logical line: they are counted in a first pass.
 *
 * Failure modes: -EINVAL with the line for a malformed \u escape and for NUL (raw or escaped),
 * which a terminated string could not hold; -ENOMEM from the arena or its budget. A lone surrogate
 * becomes U+FFFD: UTF-8 cannot hold it. */
#include "core/properties.h"

#include <errno.h>
#include <string.h>

#include "core/map.h"

struct reader {
    const char *text;
    size_t size, at;
    uint32_t line; /* of text[at], from 1 */
    char *buffer;  /* the logical line */
    size_t length;
    uint32_t first_line; /* where the logical line began */
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\f';
}

/* Takes one character; \r\n counts as one line end. */
static char reader_take(struct reader *r)
{
    char c = r->text[r->at++];
    if (c == '\n' || (c == '\r' && (r->at == r->size || r->text[r->at] != '\n')))
        r->line++;
    return c;
}

static void reader_skip_comment(struct reader *r)
{
    while (r->at < r->size) {
        char c = reader_take(r);
        if (c == '\n' || c == '\r')
            return;
    }
}

/* Reads the next logical line into the buffer; false at the end of the text. */
static bool reader_line(struct reader *r)
{
    bool skip_blanks = true, continued = false, backslash = false;
    r->length = 0;
    while (r->at < r->size) {
        uint32_t line = r->line;
        char c = reader_take(r);
        bool line_end = c == '\n' || c == '\r';
        if (skip_blanks) {
            if (is_blank(c) || (line_end && !continued))
                continue;
            skip_blanks = continued = false;
        }
        if (r->length == 0) {
            r->first_line = line;
            if (c == '#' || c == '!') {
                reader_skip_comment(r);
                skip_blanks = true;
                continue;
            }
        }
        if (!line_end) {
            r->buffer[r->length++] = c;
            backslash = c == '\\' && !backslash;
            continue;
        }
        if (r->length == 0) {
            skip_blanks = true;
            continue;
        }
        if (!backslash)
            return true;
        r->length--;
        if (r->at == r->size)
            return true; /* Java takes a lone backslash before the last line end for an empty key */
        skip_blanks = continued = true;
        backslash = false;
        if (c == '\r' && r->at < r->size && r->text[r->at] == '\n')
            (void)reader_take(r);
    }
    if (r->length > 0 && backslash) {
        r->length--;
        return true;
    }
    return r->length > 0;
}

/* Where the key ends and where the value begins. */
static void split_line(const char *line, size_t length, size_t *key_length, size_t *value_start)
{
    size_t key = 0, value = length;
    bool backslash = false, separator = false;
    for (; key < length; key++) {
        char c = line[key];
        separator = !backslash && (c == '=' || c == ':');
        if (separator || (!backslash && is_blank(c))) {
            value = key + 1;
            break;
        }
        backslash = c == '\\' && !backslash;
    }
    for (; value < length; value++) {
        if (is_blank(line[value]))
            continue;
        if (separator || (line[value] != '=' && line[value] != ':'))
            break;
        separator = true;
    }
    assert(key <= length && value <= length);
    *key_length = key;
    *value_start = value;
}

static size_t put_utf8(char *to, uint32_t code)
{
    if (code < 0x80) {
        to[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        to[0] = (char)(0xc0 | code >> 6);
        to[1] = (char)(0x80 | (code & 63));
        return 2;
    }
    if (code < 0x10000) {
        to[0] = (char)(0xe0 | code >> 12);
        to[1] = (char)(0x80 | (code >> 6 & 63));
        to[2] = (char)(0x80 | (code & 63));
        return 3;
    }
    assert(code < 0x110000);
    to[0] = (char)(0xf0 | code >> 18);
    to[1] = (char)(0x80 | (code >> 12 & 63));
    to[2] = (char)(0x80 | (code >> 6 & 63));
    to[3] = (char)(0x80 | (code & 63));
    return 4;
}

/* The UTF-16 unit of "\uXXXX" at p, or -1. */
static int32_t unit_at(const char *p, size_t left)
{
    if (left < 6 || p[0] != '\\' || p[1] != 'u')
        return -1;
    int32_t unit = 0;
    for (uint32_t i = 2; i < 6; i++) {
        char c = p[i];
        int32_t digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
        if (digit < 0)
            return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

/* The code point of the \u escape at p (of two, if they are a surrogate pair); -1 if malformed.
 * *used gets its length. */
static int32_t escaped_code(const char *p, size_t left, size_t *used)
{
    int32_t unit = unit_at(p, left);
    *used = 6;
    if (unit < 0xd800 || unit > 0xdfff)
        return unit;
    int32_t low = unit < 0xdc00 ? unit_at(p + 6, left - 6) : -1;
    if (low < 0xdc00 || low > 0xdfff)
        return 0xfffd;
    *used = 12;
    return 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
}

/* What a backslash makes of the character after it. */
static char escaped_char(char c)
{
    switch (c) {
    case 't':
        return '\t';
    case 'r':
        return '\r';
    case 'n':
        return '\n';
    case 'f':
        return '\f';
    default:
        return c;
    }
}

/* Key or value as a terminated string in the arena. 0, -ENOMEM, -EINVAL. */
static int unescape(struct arena *a, const char *from, size_t length, const char **text)
{
    char *to = arena_alloc(a, 2 * length + 1);
    if (to == NULL)
        return -ENOMEM;
    size_t at = 0;
    for (size_t i = 0; i < length;) {
        uint32_t code = (uint8_t)from[i];
        size_t used = 1;
        if (from[i] == '\\' && i + 1 < length) {
            code = (uint8_t)escaped_char(from[i + 1]);
            used = 2;
        }
        if (used == 2 && from[i + 1] == 'u') {
            int32_t escaped = escaped_code(from + i, length - i, &used);
            if (escaped < 0)
                return -EINVAL;
            code = (uint32_t)escaped;
        }
        if (code == 0)
            return -EINVAL;
        at += put_utf8(to + at, code);
        i += used;
    }
    assert(at <= 2 * length);
    to[at] = '\0';
    *text = to;
    return 0;
}

/* Reads all lines, into items if they are given; counts logical lines otherwise. */
static int read_all(struct properties *p, struct arena *a, struct reader *r, struct map *seen)
{
    while (reader_line(r)) {
        size_t key_length, value_start;
        split_line(r->buffer, r->length, &key_length, &value_start);
        struct property item = {.line = r->first_line};
        int error = unescape(a, r->buffer, key_length, &item.key);
        if (error == 0)
            error = unescape(a, r->buffer + value_start, r->length - value_start, &item.value);
        if (error < 0)
            return error;
        uint32_t key_size = (uint32_t)strlen(item.key);
        struct property *known = map_get(seen, item.key, key_size);
        if (known != NULL) {
            known->value = item.value;
            known->line = item.line;
            continue;
        }
        struct property *next = &p->items[p->count];
        if (map_put(seen, item.key, key_size, next) < 0)
            return -ENOMEM;
        *next = item;
        p->count++;
    }
    return 0;
}

int properties_parse(struct properties *p, struct arena *a, const char *text, size_t size,
                     uint32_t *error_line)
{
    assert(text != NULL || size == 0);
    assert(size < UINT32_MAX);
    *p = (struct properties){0};
    *error_line = 0;
    struct reader r = {.text = text, .size = size, .line = 1, .first_line = 1};
    r.buffer = arena_alloc(a, size);
    if (r.buffer == NULL)
        return -ENOMEM;
    uint32_t lines = 0;
    while (reader_line(&r))
        lines++;
    p->items = arena_array(a, lines, sizeof(*p->items));
    if (p->items == NULL)
        return -ENOMEM;
    r.at = 0;
    r.line = r.first_line = 1;
    struct map seen;
    map_init(&seen, a->mem, 0);
    int error = read_all(p, a, &r, &seen);
    map_destroy(&seen);
    assert(p->count <= lines);
    if (error == -EINVAL)
        *error_line = r.first_line;
    return error;
}

const char *properties_get(const struct properties *p, const char *key)
{
    assert(key != NULL);
    for (uint32_t i = 0; i < p->count; i++)
        if (strcmp(p->items[i].key, key) == 0)
            return p->items[i].value;
    return NULL;
}
