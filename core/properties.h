/* Reader of Java's .properties text as java.util.Properties.load reads it: # and ! comments,
 * = : or blank as separator, \ escapes with \uXXXX (to UTF-8), continued lines. Later keys win. */
#ifndef CORE_PROPERTIES_H
#define CORE_PROPERTIES_H

#include "core/arena.h"

struct property {
    const char *key, *value; /* terminated, in the arena */
    uint32_t line;           /* where it stood, from 1 */
};

struct properties {
    struct property *items; /* in order of first appearance */
    uint32_t count;
};

/* Parses size bytes. 0, -ENOMEM, or -EINVAL with *error_line set (bad \u escape, NUL byte). */
NODISCARD int properties_parse(struct properties *p, struct arena *a, const char *text, size_t size,
                               uint32_t *error_line);
/* The value, or NULL. */
const char *properties_get(const struct properties *p, const char *key);

#endif
