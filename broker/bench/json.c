/* See json.h. One pass without recursion: a value is read where the tree is open, and an open list
 * or object stays the parent until its bracket comes.
 *
 * Invariants:
 *  1. Depth is bounded by the text alone: a level costs a byte of it and a node of the arena.
 *  2. What is read is what JSON allows; that a number is written as JSON wants it is not checked.
 *
 * Failure modes: text that is no JSON, or goes on behind its end; no memory. \u of halves of a pair
 * becomes a question mark: results have none. */
#include "broker/bench/json.h"

#include <stdlib.h>
#include <string.h>

struct reading {
    struct arena *arena;
    const char *text, *at, *end;
    bool failed;
};

static void spaces(struct reading *r)
{
    while (r->at < r->end && strchr(" \t\r\n", *r->at) != NULL && *r->at != '\0')
        r->at++;
}

static bool take(struct reading *r, const char *word)
{
    size_t size = strlen(word);
    bool there = (size_t)(r->end - r->at) >= size && memcmp(r->at, word, size) == 0;
    r->at += there ? size : 0;
    return there;
}

/* A code point of two bytes at most beyond ASCII; larger ones become three. */
static char *put_code(char *to, unsigned long code)
{
    if (code >= 0xd800 && code < 0xe000)
        code = '?';
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (char)(0xe0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

/* Behind a backslash. */
static char *put_escaped(struct reading *r, char *to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    char code[5] = "", *rest;
    const char *known = r->at < r->end && *r->at != '\0' ? strchr(from, *r->at) : NULL;
    if (known != NULL) {
        r->at++;
        *to++ = into[known - from];
        return to;
    }
    r->failed |= !take(r, "u") || r->end - r->at < 4;
    if (r->failed)
        return to;
    memcpy(code, r->at, 4);
    r->at += 4;
    unsigned long value = strtoul(code, &rest, 16);
    r->failed |= *rest != '\0';
    return put_code(to, value);
}

/* From behind the opening quotation mark. An escape is never shorter than what it stands for. */
static const char *read_string(struct reading *r)
{
    const char *close = r->at;
    while (close < r->end && *close != '"')
        close += *close == '\\' ? 2 : 1;
    char *string = close < r->end ? arena_alloc(r->arena, (size_t)(close - r->at) + 1) : NULL;
    if (string == NULL) {
        r->failed = true;
        return "";
    }
    char *to = string;
    while (r->at < close && !r->failed) {
        if (*r->at == '\\') {
            r->at++;
            to = put_escaped(r, to);
        } else {
            *to++ = *r->at++;
        }
    }
    *to = '\0';
    r->failed |= !take(r, "\"");
    return string;
}

static double read_number(struct reading *r)
{
    char word[32] = "", *rest;
    size_t size = 0;
    while (r->at < r->end && size < sizeof(word) - 1 && *r->at != '\0' &&
           strchr("+-.0123456789eE", *r->at) != NULL)
        word[size++] = *r->at++;
    double value = strtod(word, &rest);
    r->failed |= size == 0 || *rest != '\0';
    return value;
}

static void read_value(struct reading *r, struct json *j)
{
    if (take(r, "{"))
        j->kind = JSON_OBJECT;
    else if (take(r, "["))
        j->kind = JSON_LIST;
    else if (take(r, "null"))
        j->kind = JSON_NULL;
    else if (take(r, "\"")) {
        j->kind = JSON_STRING;
        j->string = read_string(r);
    } else if (take(r, "true") || take(r, "false")) {
        j->kind = JSON_BOOLEAN;
        j->number = r->at[-2] == 'u';
    } else {
        j->kind = JSON_NUMBER;
        j->number = read_number(r);
    }
}

/* The next item of an open parent (NULL: the document), with its key. */
static struct json *read_item(struct reading *r, struct json *parent, struct json *before)
{
    struct json *j = arena_array(r->arena, 1, sizeof(*j));
    if (j == NULL) {
        r->failed = true;
        return NULL;
    }
    j->parent = parent;
    j->string = "";
    if (parent != NULL && parent->kind == JSON_OBJECT) {
        r->failed |= !take(r, "\"");
        j->key = r->failed ? "" : read_string(r);
        spaces(r);
        r->failed |= !take(r, ":");
        spaces(r);
    }
    if (!r->failed)
        read_value(r, j);
    if (before != NULL)
        before->next = j;
    else if (parent != NULL)
        parent->first = j;
    return j;
}

struct json *json_parse(struct arena *arena, const char *text, size_t size, size_t *at)
{
    struct reading r = {arena, text, text, text + size, false};
    struct json *root = NULL, *parent = NULL, *last = NULL;
    do {
        spaces(&r);
        bool closes = parent != NULL && take(&r, parent->kind == JSON_OBJECT ? "}" : "]");
        if (closes) {
            last = parent;
            parent = parent->parent;
            continue;
        }
        r.failed |= last != NULL && !take(&r, ",");
        spaces(&r);
        struct json *j = r.failed ? NULL : read_item(&r, parent, last);
        if (j == NULL)
            break;
        root = root == NULL ? j : root;
        bool opens = j->kind >= JSON_LIST;
        parent = opens ? j : parent;
        last = opens ? NULL : j;
    } while (!r.failed && parent != NULL);
    spaces(&r);
    *at = (size_t)(r.at - text);
    return r.failed || r.at != r.end ? NULL : root;
}

const struct json *json_find(const struct json *j, const char *key)
{
    if (j == NULL || j->kind != JSON_OBJECT)
        return NULL;
    for (const struct json *i = j->first; i != NULL; i = i->next)
        if (strcmp(i->key, key) == 0)
            return i;
    return NULL;
}

const char *json_string(const struct json *j, const char *key)
{
    const struct json *found = json_find(j, key);
    return found == NULL ? "" : found->string;
}

double json_number(const struct json *j, const char *key)
{
    const struct json *found = json_find(j, key);
    return found == NULL ? 0 : found->number;
}

const struct json *json_first(const struct json *j)
{
    return j == NULL ? NULL : j->first;
}
