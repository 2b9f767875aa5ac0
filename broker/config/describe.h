/* All configs of a resource with value, source, synonyms: what DescribeConfigs answers, and the
 * configs in a CreateTopics response. */
#ifndef BROKER_CONFIG_DESCRIBE_H
#define BROKER_CONFIG_DESCRIBE_H

#include "broker/config/config.h"
#include "core/trace.h"

enum config_resource_type { /* Kafka's ids */
                            RESOURCE_TOPIC = 2,
                            RESOURCE_BROKER = 4,
                            RESOURCE_BROKER_LOGGER = 8,
                            RESOURCE_CLIENT_METRICS = 16,
                            RESOURCE_GROUP = 32
};

enum config_source { /* Kafka's ids */
                     SOURCE_TOPIC = 1,
                     SOURCE_DYNAMIC_BROKER = 2,
                     SOURCE_DYNAMIC_DEFAULT_BROKER = 3,
                     SOURCE_STATIC_BROKER = 4,
                     SOURCE_DEFAULT = 5,
                     SOURCE_DYNAMIC_BROKER_LOGGER = 6,
                     SOURCE_CLIENT_METRICS = 7,
                     SOURCE_GROUP = 8
};

enum config_type { /* Kafka's ids */
                   CONFIG_UNKNOWN = 0,
                   CONFIG_BOOLEAN = 1,
                   CONFIG_STRING = 2,
                   CONFIG_INT = 3,
                   CONFIG_SHORT = 4,
                   CONFIG_LONG = 5,
                   CONFIG_DOUBLE = 6,
                   CONFIG_LIST = 7,
                   CONFIG_CLASS = 8,
                   CONFIG_PASSWORD = 9
};

#define CONFIG_SYNONYMS_MAX 20

struct config_synonym {
    const char *name, *value; /* value NULL: none, or sensitive */
    enum config_source source;
};

/* Lent for the time of the visit. */
struct config_description {
    const char *name, *value; /* value NULL: none, or sensitive */
    bool read_only, sensitive;
    enum config_source source;
    enum config_type type;
    struct config_synonym synonyms[CONFIG_SYNONYMS_MAX]; /* highest precedence first */
    uint32_t synonyms_count;
    const char *documentation;
};

struct config_resource {
    enum config_resource_type type;
    struct config_overrides own; /* ConfigRecords of this resource; not for a broker (layers) */
    bool cluster_default;        /* RESOURCE_BROKER with the empty name */
    const struct trace *trace;   /* RESOURCE_BROKER_LOGGER: whose levels */
};

/* Names that Kafka's tools know, each for one of our trace modules; "root" (the main module's
 * level) is the first. Setting it sets all modules. */
struct config_logger {
    const char *name;
    enum trace_module module;
};
extern const struct config_logger config_loggers[];
extern const uint32_t config_loggers_count;

/* Visits all configs until visit returns false, in name order; then keys that are
 * given and not in the table. */
void config_describe(const struct config_layers *l, const struct config_resource *r,
                     bool (*visit)(void *context, const struct config_description *d),
                     void *context);

#endif
