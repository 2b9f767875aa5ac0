/* Text that grows, JSON as one writes it from top to bottom, and numbers as people read them.
 *
 * Invariants:
 *  1. size < capacity once something was added, and data[size] is 0.
 *  2. After `failed` nothing is added any more: what there is, is a true beginning.
 *
 * Failure modes: no memory, see 2. A number that is no number becomes null in JSON, which has no
 * word for it. */
#include "broker/bench/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/core.h"

#define TEXT_FIRST 4096u
#define DIGITS_MAX 32

void text_init(struct text *t, struct mem *mem)
{
    *t = (struct text){.mem = mem};
}

void text_free(struct text *t)
{
    mem_free(t->mem, t->data, t->capacity);
    text_init(t, t->mem);
}

/* Room for size bytes and the terminator. */
static bool text_room(struct text *t, size_t size)
{
    assert(t->mem != NULL);
    if (t->failed)
        return false;
    if (t->size + size + 1 <= t->capacity)
        return true;
    size_t wanted = MAX(MAX(t->capacity * 2, (size_t)TEXT_FIRST), t->size + size + 1);
    char *grown = mem_realloc(t->mem, t->data, t->capacity, wanted);
    if (grown == NULL) {
        t->failed = true;
        return false;
    }
    t->data = grown;
    t->capacity = wanted;
    return true;
}

void text_put(struct text *t, const char *data, size_t size)
{
    if (!text_room(t, size))
        return;
    memcpy(t->data + t->size, data, size);
    t->size += size;
    t->data[t->size] = '\0';
    assert(t->size < t->capacity);
}

void text_add(struct text *t, const char *format, ...)
{
    va_list arguments, again;
    assert(format != NULL);
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    assert(size >= 0);
    if (text_room(t, (size_t)size)) {
        (void)vsnprintf(t->data + t->size, (size_t)size + 1, format, again);
        t->size += (size_t)size;
    }
    va_end(again);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void put_string(struct text *t, const char *value)
{
    text_put(t, "\"", 1);
    for (const char *at = value; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte == '"' || byte == '\\')
            text_add(t, "\\%c", *at);
        else if (byte < ' ' || byte == 0x7f)
            text_add(t, "\\u%04x", byte);
        else
            text_put(t, at, 1);
    }
    text_put(t, "\"", 1);
}

static void lead(struct text *t, const char *key)
{
    if (t->comma)
        text_put(t, ",", 1);
    if (key != NULL) {
        put_string(t, key);
        text_put(t, ":", 1);
    }
    t->comma = true;
}

void text_json_open(struct text *t, const char *key, char bracket)
{
    assert(bracket == '{' || bracket == '[');
    lead(t, key);
    text_put(t, &bracket, 1);
    t->comma = false;
}

void text_json_close(struct text *t, char bracket)
{
    assert(bracket == '}' || bracket == ']');
    text_put(t, &bracket, 1);
    t->comma = true;
}

void text_json_string(struct text *t, const char *key, const char *value)
{
    lead(t, key);
    if (value == NULL)
        text_put(t, "null", 4);
    else
        put_string(t, value);
}

void text_json_integer(struct text *t, const char *key, uint64_t value)
{
    lead(t, key);
    text_add(t, "%llu", (unsigned long long)value);
}

void text_json_number(struct text *t, const char *key, double value)
{
    lead(t, key);
    if (isfinite(value))
        text_add(t, "%.9g", value);
    else
        text_put(t, "null", 4);
}

void text_json_boolean(struct text *t, const char *key, bool value)
{
    lead(t, key);
    text_add(t, "%s", value ? "true" : "false");
}

/* ---- numbers --------------------------------------------------------------------------------- */

const char *text_count(char *to, uint64_t value)
{
    char digits[DIGITS_MAX];
    int size = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
    int at = 0;
    assert(size > 0 && size + (size - 1) / 3 < TEXT_NUMBER_SIZE);
    for (int i = 0; i < size; i++) {
        if (i > 0 && (size - i) % 3 == 0)
            to[at++] = ',';
        to[at++] = digits[i];
    }
    to[at] = '\0';
    return to;
}

const char *text_decimal(char *to, double value)
{
    if (!isfinite(value))
        (void)snprintf(to, TEXT_NUMBER_SIZE, "-");
    else if (value >= 1000 && value < 1e18)
        (void)text_count(to, (uint64_t)(value + 0.5));
    else
        (void)snprintf(to, TEXT_NUMBER_SIZE, "%.*f", value >= 100 ? 0 : value >= 10 ? 1 : 2, value);
    return to;
}

/* Three digits and a unit. */
static const char *scaled(char *to, double value, const char *unit)
{
    (void)snprintf(to, TEXT_NUMBER_SIZE, "%.*f %s",
                   value >= 100  ? 0
                   : value >= 10 ? 1
                                 : 2,
                   value, unit);
    return to;
}

const char *text_short(char *to, uint64_t value)
{
    double count = (double)value;
    if (value < 1000000)
        return text_count(to, value);
    return count < 999.5e6   ? scaled(to, count / 1e6, "M")
           : count < 999.5e9 ? scaled(to, count / 1e9, "G")
                             : scaled(to, count / 1e12, "T");
}

const char *text_duration(char *to, uint64_t ns)
{
    double value = (double)ns;
    if (value < 999.5e3)
        return scaled(to, value / 1e3, "us");
    if (value < 999.5e6)
        return scaled(to, value / 1e6, "ms");
    return scaled(to, value / 1e9, "s");
}

const char *text_bytes(char *to, double bytes)
{
    if (bytes < 999.5e3)
        return scaled(to, bytes / 1e3, "kB");
    if (bytes < 999.5e6)
        return scaled(to, bytes / 1e6, "MB");
    return scaled(to, bytes / 1e9, "GB");
}
