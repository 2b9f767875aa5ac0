/* What a configuration text is worth. The steps are those of Kafka's ConfigDef, in its order, so
 * that the same file is accepted and the same sentence is said about a bad one:
 *
 *   text ─ trim ─▶ type (number, truth, list items) ─▶ range ─▶ choices ─▶ checks with a name
 *
 * Invariants:
 *  1. A value that was parsed is a view of the text given; nothing is copied or kept.
 *  2. An INT or SHORT that passed fits its field: the width was checked with the type.
 *  3. config_value_text of a value parses to the same value again.
 *
 * Failure modes: only refusals. Texts are somebody else's: they are cut to what a sentence holds.
 */
#include "broker/config/value.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/assert.h"
#include "core/core.h"

#define SHOWN_MAX 200 /* of a value, in a sentence about it */

bool config_refuse(struct config_refusal *refusal, enum kafka_error error, const char *format, ...)
{
    assert(error != KE_NONE);
    assert(format != NULL);
    if (refusal == NULL)
        return false;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(refusal->message, sizeof(refusal->message), format, arguments);
    va_end(arguments);
    refusal->error = error;
    return false;
}

static bool refuse_value(struct config_refusal *refusal, const char *name, const char *text,
                         uint32_t size, const char *what)
{
    return config_refuse(refusal, KE_INVALID_CONFIG, "Invalid value %.*s for configuration %s: %s",
                         (int)MIN(size, SHOWN_MAX), text, name, what);
}

/* Java's String.trim takes everything up to a blank for a blank. */
static bool is_blank(char c)
{
    return (unsigned char)c <= ' ';
}

static void trim(const char **text, uint32_t *size)
{
    while (*size > 0 && is_blank((*text)[0])) {
        (*text)++;
        (*size)--;
    }
    while (*size > 0 && is_blank((*text)[*size - 1]))
        (*size)--;
}

bool config_list_next(const struct config_value *v, const char **at, struct config_item *item)
{
    const char *end = v->text + v->size;
    assert(*at >= v->text && *at <= end + 1);
    if (v->size == 0 || *at > end)
        return false;
    const char *comma = memchr(*at, ',', (size_t)(end - *at));
    const char *stop = comma == NULL ? end : comma;
    *item = (struct config_item){*at, (uint32_t)(stop - *at)};
    trim(&item->text, &item->size);
    *at = stop + 1;
    return true;
}

bool config_item_is(const struct config_item *item, const char *text)
{
    return strlen(text) == item->size && memcmp(text, item->text, item->size) == 0;
}

bool config_parse_integer(const char *text, uint32_t size, int64_t *to)
{
    bool negative = size > 0 && text[0] == '-';
    uint32_t at = size > 0 && (text[0] == '-' || text[0] == '+') ? 1 : 0;
    if (at == size)
        return false;
    int64_t value = 0;
    for (; at < size; at++) {
        if (!isdigit((unsigned char)text[at]))
            return false;
        int64_t digit = text[at] - '0';
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_sub_overflow(value, digit,
                                   &value)) /* below zero there is room for one more */
            return false;
    }
    if (!negative && __builtin_sub_overflow(0, value, &value))
        return false;
    *to = value;
    return true;
}

/* Decimal forms of Java's Double.parseDouble; hexadecimal ones are refused. */
static bool parse_real(const char *text, uint32_t size, double *to)
{
    char copy[64];
    if (size == 0 || size >= sizeof(copy))
        return false;
    memcpy(copy, text, size);
    copy[size] = '\0';
    const char *digits = copy + (copy[0] == '-' || copy[0] == '+' ? 1 : 0);
    if (strcmp(digits, "NaN") == 0 || strcmp(digits, "Infinity") == 0) {
        *to = digits[0] == 'N' ? (double)NAN : (copy[0] == '-' ? -INFINITY : INFINITY);
        return true;
    }
    if (!isdigit((unsigned char)digits[0]) && digits[0] != '.')
        return false;
    if (digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X'))
        return false;
    char *end;
    *to = strtod(copy, &end);
    if (end == digits)
        return false;
    if (*end != '\0' && strchr("fFdD", *end) != NULL)
        end++;
    return *end == '\0';
}

const char *config_double_text(double value, char *to, size_t size)
{
    if (isnan(value) || isinf(value)) {
        snprintf(to, size, "%s", isnan(value) ? "NaN" : value < 0 ? "-Infinity" : "Infinity");
        return to;
    }
    /* The fewest digits that read back as the same number. */
    char shortest[40];
    for (int precision = 0; precision <= 16; precision++) {
        snprintf(shortest, sizeof(shortest), "%.*e", precision, value);
        if (strtod(shortest, NULL) == value)
            break;
    }
    char *e = strchr(shortest, 'e');
    assert(e != NULL);
    long exponent = strtol(e + 1, NULL, 10);
    *e = '\0';
    if (value == 0 || (fabs(value) >= 1e-3 && fabs(value) < 1e7)) {
        int digits = (int)strlen(strchr(shortest, '.') != NULL ? strchr(shortest, '.') + 1 : "");
        int decimals = digits - (int)exponent;
        snprintf(to, size, "%.*f", decimals < 1 ? 1 : decimals, value);
        return to;
    }
    snprintf(to, size, "%s%sE%ld", shortest, strchr(shortest, '.') != NULL ? "" : ".0", exponent);
    return to;
}

static bool parse_boolean(const char *name, const char *raw, struct config_value *v,
                          struct config_refusal *refusal)
{
    v->boolean = v->size == 4 && strncasecmp(v->text, "true", 4) == 0;
    if (v->boolean || (v->size == 5 && strncasecmp(v->text, "false", 5) == 0))
        return true;
    return refuse_value(refusal, name, raw, (uint32_t)strlen(raw),
                        "Expected value to be either true or false");
}

static bool parse_number(const struct config_key *key, const char *name, const char *raw,
                         struct config_value *v, struct config_refusal *refusal)
{
    char what[64];
    bool ok;
    if (key->type == CONFIG_DOUBLE) {
        ok = parse_real(v->text, v->size, &v->real);
    } else {
        int64_t limit = key->type == CONFIG_INT     ? INT32_MAX
                        : key->type == CONFIG_SHORT ? INT16_MAX
                                                    : INT64_MAX;
        ok = config_parse_integer(v->text, v->size, &v->integer) && v->integer <= limit &&
             v->integer >= -limit - 1;
        v->real = (double)v->integer;
    }
    if (!ok) {
        snprintf(what, sizeof(what), "Not a number of type %s", config_type_name(key->type));
        return refuse_value(refusal, name, raw, (uint32_t)strlen(raw), what);
    }
    if (v->real >= key->min && v->real <= key->max)
        return true;
    if (key->min == -INFINITY && key->max == INFINITY) /* NaN in a key without bounds */
        return true;
    char shown[40];
    config_value_text(key, v, shown, sizeof(shown));
    bool low = v->real < key->min;
    snprintf(what, sizeof(what), "Value must be %s %.15g", low ? "at least" : "no more than",
             low ? key->min : key->max);
    return refuse_value(refusal, name, shown, (uint32_t)strlen(shown), what);
}

static bool among(const struct config_key *key, const struct config_item *item)
{
    for (size_t i = 0; key->choices[i] != NULL; i++) {
        if (config_item_is(item, key->choices[i]))
            return true;
        if (key->choices_any_case && strlen(key->choices[i]) == item->size &&
            strncasecmp(key->choices[i], item->text, item->size) == 0)
            return true;
    }
    return false;
}

static const char *join_choices(const struct config_key *key, char *to, size_t size)
{
    size_t used = 0;
    to[0] = '\0';
    for (size_t i = 0; key->choices != NULL && key->choices[i] != NULL && used < size; i++)
        used +=
            (size_t)snprintf(to + used, size - used, "%s%s", i == 0 ? "" : ", ", key->choices[i]);
    return to;
}

static bool check_choice(const struct config_key *key, const char *name,
                         const struct config_item *item, struct config_refusal *refusal)
{
    if (key->choices == NULL || among(key, item))
        return true;
    char choices[160], what[220];
    snprintf(what, sizeof(what), "String must be one of%s: %s",
             key->choices_any_case ? " (case insensitive)" : "",
             join_choices(key, choices, sizeof(choices)));
    return refuse_value(refusal, name, item->text, item->size, what);
}

/* "3:1": a partition and a broker. */
static bool is_replica(const struct config_item *item)
{
    const char *colon = memchr(item->text, ':', item->size);
    if (colon == NULL)
        return false;
    uint32_t left = (uint32_t)(colon - item->text), right = item->size - left - 1;
    for (uint32_t i = 0; i < item->size; i++)
        if (i != left && !isdigit((unsigned char)item->text[i]))
            return false;
    return left > 0 && right > 0;
}

static bool check_throttled(const char *name, const struct config_value *v,
                            struct config_refusal *refusal)
{
    if (v->size == 1 && v->text[0] == '*')
        return true;
    const char *at = v->text;
    struct config_item item;
    bool ok = true;
    while (ok && config_list_next(v, &at, &item))
        ok = is_replica(&item);
    if (ok)
        return true;
    /* Lists are shown as Java shows them. */
    char shown[SHOWN_MAX];
    size_t used = (size_t)snprintf(shown, sizeof(shown), "[");
    at = v->text;
    for (const char *comma = ""; used < sizeof(shown) - 2 && config_list_next(v, &at, &item);
         comma = ", ")
        used += (size_t)snprintf(shown + used, sizeof(shown) - used, "%s%.*s", comma,
                                 (int)MIN(item.size, SHOWN_MAX), item.text);
    return config_refuse(refusal, KE_INVALID_CONFIG,
                         "Invalid value %s] for configuration %s: %s must be the literal '*' or a "
                         "list of replicas in the following format: "
                         "[partitionId]:[brokerId],[partitionId]:[brokerId],...",
                         shown, name, name);
}

static bool parse_list(const struct config_key *key, const char *name, struct config_value *v,
                       struct config_refusal *refusal)
{
    if (key->check == CHECK_THROTTLED_REPLICAS)
        return check_throttled(name, v, refusal);
    if (v->size == 0 && key->nonempty) {
        char choices[160];
        bool any = key->choices == NULL;
        join_choices(key, choices, sizeof(choices));
        return config_refuse(refusal, KE_INVALID_CONFIG,
                             "Configuration '%s' must not be empty. Valid values include: %s%s%s",
                             name, any ? "any non-empty value" : "[", choices, any ? "" : "]");
    }
    const char *at = v->text;
    struct config_item item;
    while (config_list_next(v, &at, &item))
        if (item.size == 0)
            return config_refuse(refusal, KE_INVALID_CONFIG,
                                 "Configuration '%s' values must not be empty.", name);
    at = v->text;
    while (config_list_next(v, &at, &item))
        if (!check_choice(key, name, &item, refusal))
            return false;
    return true;
}

/* The part of an ISO 8601 duration that Kafka takes: PnDTnHnMn.nS, at least one part, no sign. */
static bool is_duration(const char *text, uint32_t size)
{
    static const char units[] = "DTHMS";
    uint32_t at = 1, parts = 0, unit = 0;
    if (size < 3 || toupper((unsigned char)text[0]) != 'P')
        return false;
    while (at < size) {
        if (toupper((unsigned char)text[at]) == 'T' && unit <= 1) {
            unit = 2;
            at++;
            continue;
        }
        uint32_t digits = 0;
        for (; at < size && isdigit((unsigned char)text[at]); at++)
            digits++;
        if (at + 1 < size && text[at] == '.') /* only seconds have a fraction */
            for (at++; at < size && isdigit((unsigned char)text[at]); at++)
                unit = 4;
        const char *found = at < size ? strchr(units, toupper((unsigned char)text[at])) : NULL;
        if (digits == 0 || found == NULL || *found == '\0' || *found == 'T')
            return false;
        uint32_t here = (uint32_t)(found - units);
        if (here < unit || (here > 0 && unit < 2))
            return false;
        unit = here + 1;
        parts++;
        at++;
    }
    return parts > 0;
}

static bool check_auto_offset_reset(const char *name, const struct config_value *v,
                                    struct config_refusal *refusal)
{
    static const char by_duration[] = "by_duration:";
    const uint32_t prefix = sizeof(by_duration) - 1;
    struct config_item item = {v->text, v->size};
    if (config_item_is(&item, "latest") || config_item_is(&item, "earliest"))
        return true;
    if (v->size > prefix && strncasecmp(v->text, by_duration, prefix) == 0 &&
        is_duration(v->text + prefix, v->size - prefix))
        return true;
    return config_refuse(refusal, KE_INVALID_CONFIG,
                         "Invalid value %.*s for configuration %s: it must be earliest, latest, or "
                         "by_duration: followed by a time as in PT1H30M",
                         (int)MIN(v->size, SHOWN_MAX), v->text, name);
}

static bool parse_text(const struct config_key *key, const char *name, struct config_value *v,
                       struct config_refusal *refusal)
{
    struct config_item item = {v->text, v->size};
    if (key->nonempty && v->size == 0)
        return refuse_value(refusal, name, v->text, v->size, "String must be non-empty");
    if (key->check == CHECK_AUTO_OFFSET_RESET)
        return check_auto_offset_reset(name, v, refusal);
    return check_choice(key, name, &item, refusal);
}

bool config_value_parse(const struct config_key *key, const char *name, const char *text,
                        struct config_value *v, struct config_refusal *refusal)
{
    assert(key != NULL && name != NULL && text != NULL);
    size_t size = strlen(text);
    *v = (struct config_value){.text = text, .size = (uint32_t)MIN(size, UINT32_MAX)};
    if (size > CONFIG_VALUE_MAX)
        return config_refuse(refusal, KE_INVALID_CONFIG,
                             "The configuration value cannot be added because it exceeds the "
                             "maximum value size of %d bytes.",
                             CONFIG_VALUE_MAX);
    trim(&v->text, &v->size);
    switch (key->type) {
    case CONFIG_BOOLEAN:
        return parse_boolean(name, text, v, refusal);
    case CONFIG_INT:
    case CONFIG_SHORT:
    case CONFIG_LONG:
    case CONFIG_DOUBLE:
        if (!parse_number(key, name, text, v, refusal))
            return false;
        if (key->check != CHECK_GZIP_LEVEL || v->integer == -1 ||
            (v->integer >= 1 && v->integer <= 9))
            return true;
        return refuse_value(refusal, name, v->text, v->size,
                            "Value must be between 1 and 9 or equal to -1");
    case CONFIG_LIST:
        return parse_list(key, name, v, refusal);
    case CONFIG_STRING:
    case CONFIG_CLASS:
    case CONFIG_PASSWORD:
    case CONFIG_UNKNOWN:
        break;
    }
    return parse_text(key, name, v, refusal);
}

/* Was this item there before `until`? Lists are short. */
static bool repeated(const struct config_value *v, const char *until,
                     const struct config_item *item)
{
    const char *at = v->text;
    struct config_item earlier;
    while (at < until && config_list_next(v, &at, &earlier) && earlier.text < item->text)
        if (earlier.size == item->size && memcmp(earlier.text, item->text, item->size) == 0)
            return true;
    return false;
}

static void list_text(const struct config_key *key, const struct config_value *v, char *to,
                      size_t size)
{
    size_t used = 0;
    const char *at = v->text;
    struct config_item item;
    to[0] = '\0';
    while (used < size && config_list_next(v, &at, &item)) {
        if (key->check == CHECK_NONE && repeated(v, at, &item))
            continue;
        used += (size_t)snprintf(to + used, size - used, "%s%.*s", used == 0 ? "" : ",",
                                 (int)item.size, item.text);
    }
}

const char *config_value_text(const struct config_key *key, const struct config_value *v, char *to,
                              size_t size)
{
    assert(size > 0);
    assert(v->text != NULL);
    switch (key->type) {
    case CONFIG_BOOLEAN:
        snprintf(to, size, "%s", v->boolean ? "true" : "false");
        break;
    case CONFIG_INT:
    case CONFIG_SHORT:
    case CONFIG_LONG:
        snprintf(to, size, "%lld", (long long)v->integer);
        break;
    case CONFIG_DOUBLE:
        config_double_text(v->real, to, size);
        break;
    case CONFIG_LIST:
        list_text(key, v, to, size);
        break;
    case CONFIG_STRING:
    case CONFIG_CLASS:
    case CONFIG_PASSWORD:
    case CONFIG_UNKNOWN:
        snprintf(to, size, "%.*s", (int)v->size, v->text);
        break;
    }
    return to;
}

bool config_field_store(const struct config_key *key, const struct config_value *v, void *object,
                        struct arena *arena)
{
    assert(key->has_field);
    assert(object != NULL);
    void *field = (char *)object + key->offset;
    switch (key->type) {
    case CONFIG_BOOLEAN:
        *(bool *)field = v->boolean;
        return true;
    case CONFIG_INT:
        *(int32_t *)field = (int32_t)v->integer;
        return true;
    case CONFIG_SHORT:
        *(int16_t *)field = (int16_t)v->integer;
        return true;
    case CONFIG_LONG:
        *(int64_t *)field = v->integer;
        return true;
    case CONFIG_DOUBLE:
        *(double *)field = v->real;
        return true;
    case CONFIG_STRING:
    case CONFIG_LIST:
    case CONFIG_CLASS:
    case CONFIG_PASSWORD:
    case CONFIG_UNKNOWN:
        break;
    }
    if (arena == NULL)
        return true;
    char *copy = arena_alloc(arena, (size_t)v->size + 1);
    if (copy == NULL)
        return false;
    memcpy(copy, v->text, v->size);
    copy[v->size] = '\0';
    *(const char **)field = copy;
    return true;
}
