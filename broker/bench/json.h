/* struct json: a document of JSON as a tree, for whoever reads results again. */
#ifndef BROKER_BENCH_JSON_H
#define BROKER_BENCH_JSON_H

#include "core/arena.h"

enum json_kind { JSON_NULL, JSON_BOOLEAN, JSON_NUMBER, JSON_STRING, JSON_LIST, JSON_OBJECT };

struct json {
    enum json_kind kind;
    const char *key;    /* in an object; else NULL */
    const char *string; /* of a string, terminated; else "" */
    double number;      /* of a number; of a boolean 0 or 1; else 0 */
    struct json *first, *next, *parent;
};

/* Everything lies in the arena, copies of strings too. NULL: no memory, or no JSON from byte *at.
 */
NODISCARD struct json *json_parse(struct arena *arena, const char *text, size_t size, size_t *at);
/* What an object has under a key; NULL: nothing, or no object (j may be NULL too). */
const struct json *json_find(const struct json *j, const char *key);
/* Of what json_find finds; "" and 0 if that is nothing, or another kind. */
const char *json_string(const struct json *j, const char *key);
double json_number(const struct json *j, const char *key);
/* The first of a list's or an object's items; NULL: none (j may be NULL). */
const struct json *json_first(const struct json *j);

#endif
