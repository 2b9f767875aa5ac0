/* struct text: text that grows, for tables, JSON and HTML. What does not fit into the budget is
 * lost and remembered in `failed`; nobody has to look before the end. */
#ifndef BROKER_BENCH_TEXT_H
#define BROKER_BENCH_TEXT_H

#include "core/mem.h"

#include <stdbool.h>

struct text {
    struct mem *mem;
    char *data; /* terminated once something was added */
    size_t size, capacity;
    bool failed; /* sticky: no memory */
    bool comma;  /* JSON: the next item needs one before it */
};

void text_init(struct text *t, struct mem *mem);
void text_free(struct text *t);
void text_add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_put(struct text *t, const char *data, size_t size);

/* JSON; key NULL: an item of a list. */
void text_json_open(struct text *t, const char *key, char bracket);
void text_json_close(struct text *t, char bracket);
void text_json_string(struct text *t, const char *key, const char *value);
void text_json_integer(struct text *t, const char *key, uint64_t value);
void text_json_number(struct text *t, const char *key, double value);
void text_json_boolean(struct text *t, const char *key, bool value);

/* Numbers for people, into a buffer that is also the result: "20,000", "1.23", "181 us", "1.9 ms",
 * "48.8 MB". */
#define TEXT_NUMBER_SIZE 32
const char *text_count(char *to, uint64_t value);
/* Of a count, at most seven characters: "12,345", "1.23 M". */
const char *text_short(char *to, uint64_t value);
const char *text_decimal(char *to, double value);
const char *text_duration(char *to, uint64_t ns);
const char *text_bytes(char *to, double bytes);

#endif
