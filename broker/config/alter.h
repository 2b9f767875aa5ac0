/* What alterations make of a resource's configs: IncrementalAlterConfigs (set, delete, append,
 * subtract) and the older AlterConfigs (replace all). Pure: says which ConfigRecords to write. */
#ifndef BROKER_CONFIG_ALTER_H
#define BROKER_CONFIG_ALTER_H

#include "broker/config/describe.h"

enum config_operation { CONFIG_SET = 0, CONFIG_DELETE = 1, CONFIG_APPEND = 2, CONFIG_SUBTRACT = 3 };

struct config_edit {
    int8_t operation;         /* as it came: other values are refused */
    const char *name, *value; /* value NULL: null on the wire */
};

/* A ConfigRecord to write: value NULL removes the override. */
struct config_result {
    const char *name, *value;
};

struct config_results {
    struct config_result *items; /* in the arena */
    uint32_t count;
};

/* All edits of one resource, or none: false with *refusal (INVALID_CONFIG, INVALID_REQUEST,
 * UNKNOWN_SERVER_ERROR when the arena is full). For RESOURCE_BROKER the current values are those
 * of the layers, by cluster_default. Loggers have config_logger_alter. */
NODISCARD bool config_alter(const struct config_layers *l, const struct config_resource *r,
                            const struct config_edit *edits, uint32_t edits_count,
                            struct arena *arena, struct config_results *results,
                            struct config_refusal *refusal);
/* AlterConfigs (key 33): what is not named goes back to its default. */
NODISCARD bool config_replace(const struct config_layers *l, const struct config_resource *r,
                              const struct config_entry *entries, uint32_t entries_count,
                              struct arena *arena, struct config_results *results,
                              struct config_refusal *refusal);
/* RESOURCE_BROKER_LOGGER: checks all, then sets the levels of *trace unless validate_only. */
NODISCARD bool config_logger_alter(struct trace *trace, const struct config_edit *edits,
                                   uint32_t edits_count, bool validate_only,
                                   struct config_refusal *refusal);

#endif
