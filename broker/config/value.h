/* One configuration value: text as it was given, checked against its row of the table, as a number,
 * truth or text. Same-folder use. */
#ifndef BROKER_CONFIG_VALUE_H
#define BROKER_CONFIG_VALUE_H

#include "broker/config/config_table.h"

struct config_value {
    const char *text; /* without blanks at the ends; a view, not terminated */
    uint32_t size;
    bool boolean;
    int64_t integer;
    double real;
};

/* false: *refusal has INVALID_CONFIG and a sentence; `name` is the name as it was given (it may
 * have a prefix that the row has not). refusal may be NULL. */
NODISCARD bool config_value_parse(const struct config_key *key, const char *name, const char *text,
                                  struct config_value *v, struct config_refusal *refusal);
/* The text that Kafka shows for it: numbers in Java's form, lists without blanks and repetitions.
 * Terminated, cut to size. Returns to. */
const char *config_value_text(const struct config_key *key, const struct config_value *v, char *to,
                              size_t size);

/* Walks a list: start with *at = v->text. false at the end. Items have no blanks at their ends. */
struct config_item {
    const char *text;
    uint32_t size;
};
bool config_list_next(const struct config_value *v, const char **at, struct config_item *item);
bool config_item_is(const struct config_item *item, const char *text);

/* Whole decimal number, Java's Long.parseLong. */
NODISCARD bool config_parse_integer(const char *text, uint32_t size, int64_t *to);
/* Double.toString: 0.5, 1.0E10. */
const char *config_double_text(double value, char *to, size_t size);

/* Writes a formatted sentence with an error code; refusal may be NULL. Always false. */
bool config_refuse(struct config_refusal *refusal, enum kafka_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Stores a parsed value in the row's field of *object (broker_config or topic_config). Texts are
 * copied into arena; NULL arena: text fields keep what they have. */
NODISCARD bool config_field_store(const struct config_key *key, const struct config_value *v,
                                  void *object, struct arena *arena);

#endif
