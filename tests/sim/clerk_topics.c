/* Topics and their configuration: made, deleted, grown, altered, described, in all the ways that
 * are right and some that are not. */
#include "tests/sim/run.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/gen/alter_configs.h"
#include "proto/gen/create_partitions.h"
#include "proto/gen/create_topics.h"
#include "proto/gen/delete_topics.h"
#include "proto/gen/describe_configs.h"
#include "proto/gen/describe_topic_partitions.h"
#include "proto/gen/incremental_alter_configs.h"
#include "proto/gen/list_config_resources.h"
#include "proto/gen/metadata.h"

#define TIMEOUT_MS      10000
#define RESOURCE_TOPIC  2
#define RESOURCE_BROKER 4
#define SOURCE_TOPIC    1
#define BYTES_MAX       "max.message.bytes"

/* ---- CreateTopics ---------------------------------------------------------------------------- */

enum {
    CREATE_CHECK = 1,
    CREATE_FACTOR,
    CREATE_NAME,
    CREATE_CONFIG,
    CREATE_PLACES,
    CREATE_BROKER,
    CREATE_TRIMS
};

static void create_configs(struct clerk *c, struct create_topics_request_creatable_topic *t,
                           struct create_topics_request_creatable_topic_config *configs,
                           const char *value)
{
    static const char *const names[] = {BYTES_MAX, "retention.ms", "segment.ms"};
    static const char *const values[] = {NULL, "200", "100"};
    for (uint32_t i = 0; i < 3; i++) {
        create_topics_request_creatable_topic_config_init(&configs[i]);
        configs[i].name = clerk_text(names[i]);
        configs[i].value = clerk_text(i == 0 ? value : values[i]);
    }
    if (c->twist == CREATE_CONFIG)
        configs[0].name = clerk_text("no.such.config");
    t->configs = configs;
    t->configs_count = c->twist == CREATE_TRIMS ? 3 : 1;
}

static void create_ask(struct clerk *c)
{
    struct create_topics_request m;
    struct create_topics_request_creatable_topic t;
    struct create_topics_request_creatable_topic_config configs[3];
    struct create_topics_request_creatable_replica_assignment places[2];
    int32_t broker = c->twist == CREATE_BROKER ? 9 : 1;
    char value[32];
    create_topics_request_init(&m);
    create_topics_request_creatable_topic_init(&t);
    c->number = 100000 + (int64_t)clerk_below(c, 100000) * 10 + (int64_t)clerk_below(c, 4) + 1;
    (void)snprintf(value, sizeof(value), "%lld", (long long)c->number);
    create_configs(c, &t, configs, value);
    t.name = clerk_text(c->twist == CREATE_NAME ? "a/b" : c->desk->name);
    t.num_partitions = (int32_t)(c->number % 10);
    t.replication_factor = c->twist == CREATE_FACTOR ? 2 : 1;
    if (c->twist == CREATE_PLACES || c->twist == CREATE_BROKER) {
        for (int32_t i = 0; i < 2; i++) {
            create_topics_request_creatable_replica_assignment_init(&places[i]);
            places[i].partition_index = i;
            places[i].broker_ids = &broker;
            places[i].broker_ids_count = 1;
        }
        t.num_partitions = t.replication_factor = -1;
        t.assignments = places;
        t.assignments_count = 2;
    }
    m.topics = &t;
    m.topics_count = 1;
    m.timeout_ms = TIMEOUT_MS;
    m.validate_only = c->twist == CREATE_CHECK;
    CLERK_ASK(c, m, create_topics);
}

static int16_t create_wanted(const struct clerk *c)
{
    if (c->twist == CREATE_NAME)
        return KE_INVALID_TOPIC_EXCEPTION;
    if (c->desk->there)
        return KE_TOPIC_ALREADY_EXISTS;
    return c->twist == CREATE_FACTOR   ? KE_INVALID_REPLICATION_FACTOR
           : c->twist == CREATE_CONFIG ? KE_INVALID_CONFIG
           : c->twist == CREATE_BROKER ? KE_INVALID_REPLICA_ASSIGNMENT
                                       : KE_NONE;
}

static void create_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    struct desk *d = c->desk;
    CLERK_TOLD(c, m, create_topics)
    if (!clerk_check(c, m.topics_count == 1, "not one result") ||
        !clerk_expect(c, m.topics[0].error_code, create_wanted(c)) ||
        m.topics[0].error_code != KE_NONE)
        return;
    int32_t partitions = c->twist == CREATE_PLACES ? 2 : (int32_t)(c->number % 10);
    if (c->version >= 5 && m.topics[0].topic_config_error_code == KE_NONE) {
        (void)clerk_check(c, m.topics[0].num_partitions == partitions, "not so many partitions");
        (void)clerk_check(c, m.topics[0].replication_factor == 1, "not one replica");
        (void)clerk_check(c, m.topics[0].configs_count > 0, "no configuration");
    }
    if (c->twist == CREATE_CHECK)
        return;
    d->there = true;
    d->partitions = partitions;
    d->bytes_max = (uint32_t)c->number;
    d->trims = c->twist == CREATE_TRIMS;
    d->changed_ns = sim_now_ns(c->run->sim);
    if (c->version >= 7)
        d->id = m.topics[0].topic_id;
}

/* ---- DeleteTopics, CreatePartitions ---------------------------------------------------------- */

static void delete_ask(struct clerk *c)
{
    struct delete_topics_request m;
    struct delete_topics_request_delete_topic_state t;
    struct wire_string name = clerk_text(c->desk->name);
    delete_topics_request_init(&m);
    delete_topics_request_delete_topic_state_init(&t);
    t.name = name;
    if (c->desk->there && clerk_has_id(c->desk) && c->twist % 2 == 0) {
        t.name = (struct wire_string){NULL, -1};
        t.topic_id = c->desk->id;
    }
    m.topics = &t;
    m.topic_names = &name;
    m.topics_count = c->version >= 6;
    m.topic_names_count = c->version < 6;
    m.timeout_ms = TIMEOUT_MS;
    CLERK_ASK(c, m, delete_topics);
}

static void delete_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    struct desk *d = c->desk;
    CLERK_TOLD(c, m, delete_topics)
    if (!clerk_check(c, m.responses_count == 1, "not one result") ||
        !clerk_expect(c, m.responses[0].error_code, clerk_wanted(c)) || !d->there)
        return;
    if (c->version >= 6)
        (void)clerk_check(c, clerk_is(m.responses[0].name, d->name), "another name");
    desk_close(d);
    d->changed_ns = sim_now_ns(c->run->sim);
}

static void grow_ask(struct clerk *c)
{
    struct create_partitions_request m;
    struct create_partitions_request_create_partitions_topic t;
    struct create_partitions_request_create_partitions_assignment place;
    int32_t broker = 1;
    create_partitions_request_init(&m);
    create_partitions_request_create_partitions_topic_init(&t);
    create_partitions_request_create_partitions_assignment_init(&place);
    c->number = c->desk->partitions + 1 - (int64_t)(c->twist % 3);
    t.name = clerk_text(c->desk->name);
    t.count = (int32_t)c->number;
    place.broker_ids = &broker;
    place.broker_ids_count = 1;
    t.assignments = &place;
    t.assignments_count = c->twist == 3 ? 1 : -1; /* -1: null, the broker may choose */
    m.topics = &t;
    m.topics_count = 1;
    m.timeout_ms = TIMEOUT_MS;
    m.validate_only = c->twist == 6 || c->desk->partitions == DESK_PARTITIONS;
    CLERK_ASK(c, m, create_partitions);
}

static void grow_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    struct desk *d = c->desk;
    bool checks = c->twist == 6 || d->partitions == DESK_PARTITIONS;
    CLERK_TOLD(c, m, create_partitions)
    int16_t wanted = !d->there                   ? KE_UNKNOWN_TOPIC_OR_PARTITION
                     : c->number > d->partitions ? KE_NONE
                                                 : KE_INVALID_PARTITIONS;
    if (!clerk_check(c, m.results_count == 1, "not one result") ||
        !clerk_expect(c, m.results[0].error_code, wanted) || wanted != KE_NONE || checks)
        return;
    d->start[d->partitions] = d->end[d->partitions] = 0;
    d->partitions++;
    d->changed_ns = sim_now_ns(c->run->sim);
}

/* ---- configuration --------------------------------------------------------------------------- */

enum { ALTER_SET, ALTER_DELETE, ALTER_BAD, ALTER_UNKNOWN, ALTER_CHECK, ALTER_LIST };

/* What is wrong in itself is told first. */
static int16_t alter_wanted(const struct clerk *c)
{
    uint32_t kind = c->twist % 6;
    bool wrong = kind == ALTER_BAD || kind == ALTER_UNKNOWN;
    return wrong ? KE_INVALID_CONFIG : clerk_wanted(c);
}

static const char *alter_name(const struct clerk *c)
{
    uint32_t kind = c->twist % 6;
    return kind == ALTER_UNKNOWN ? "no.such.config"
           : kind == ALTER_LIST  ? "cleanup.policy"
                                 : BYTES_MAX;
}

static const char *alter_value(struct clerk *c, char value[32])
{
    uint32_t kind = c->twist % 6;
    c->number = 100000 + (int64_t)clerk_below(c, 1000000);
    (void)snprintf(value, 32, "%lld", (long long)c->number);
    return kind == ALTER_BAD ? "many" : kind == ALTER_LIST ? "delete" : value;
}

static void alter_happened(struct clerk *c, int16_t error, bool whole)
{
    struct desk *d = c->desk;
    uint32_t kind = c->twist % 6;
    if (!clerk_expect(c, error, alter_wanted(c)) || error != KE_NONE || kind == ALTER_CHECK)
        return;
    if (kind == ALTER_SET)
        d->bytes_max = (uint32_t)c->number;
    else if (kind == ALTER_DELETE || (whole && kind == ALTER_LIST))
        d->bytes_max = 0;
    d->changed_ns = sim_now_ns(c->run->sim);
}

static void alter_ask(struct clerk *c)
{
    struct incremental_alter_configs_request m;
    struct incremental_alter_configs_request_alter_configs_resource t;
    struct incremental_alter_configs_request_alterable_config config;
    uint32_t kind = c->twist % 6;
    char value[32];
    incremental_alter_configs_request_init(&m);
    incremental_alter_configs_request_alter_configs_resource_init(&t);
    incremental_alter_configs_request_alterable_config_init(&config);
    t.resource_type = RESOURCE_TOPIC;
    t.resource_name = clerk_text(c->desk->name);
    t.configs = &config;
    t.configs_count = 1;
    config.name = clerk_text(alter_name(c));
    config.value = clerk_text(alter_value(c, value));
    config.config_operation = kind == ALTER_DELETE ? 1 : kind == ALTER_LIST ? 2 : 0;
    if (kind == ALTER_DELETE)
        config.value = (struct wire_string){NULL, -1};
    m.resources = &t;
    m.resources_count = 1;
    m.validate_only = kind == ALTER_CHECK;
    CLERK_ASK(c, m, incremental_alter_configs);
}

static void alter_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, incremental_alter_configs)
    if (clerk_check(c, m.responses_count == 1, "not one result"))
        alter_happened(c, m.responses[0].error_code, false);
}

/* All at once: what is not named is as if it had never been set. */
static void replace_ask(struct clerk *c)
{
    struct alter_configs_request m;
    struct alter_configs_request_alter_configs_resource t;
    struct alter_configs_request_alterable_config config;
    char value[32];
    alter_configs_request_init(&m);
    alter_configs_request_alter_configs_resource_init(&t);
    alter_configs_request_alterable_config_init(&config);
    t.resource_type = RESOURCE_TOPIC;
    t.resource_name = clerk_text(c->desk->name);
    t.configs = &config;
    t.configs_count = c->twist % 6 != ALTER_DELETE;
    config.name = clerk_text(alter_name(c));
    config.value = clerk_text(alter_value(c, value));
    m.resources = &t;
    m.resources_count = 1;
    m.validate_only = c->twist % 6 == ALTER_CHECK;
    CLERK_ASK(c, m, alter_configs);
}

static void replace_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, alter_configs)
    if (clerk_check(c, m.responses_count == 1, "not one result"))
        alter_happened(c, m.responses[0].error_code, true);
}

static void describe_ask(struct clerk *c)
{
    struct describe_configs_request m;
    struct describe_configs_request_describe_configs_resource t;
    struct wire_string key = clerk_text(BYTES_MAX);
    describe_configs_request_init(&m);
    describe_configs_request_describe_configs_resource_init(&t);
    bool broker = c->twist >= 6;
    t.resource_type = broker ? RESOURCE_BROKER : RESOURCE_TOPIC;
    t.resource_name = clerk_text(broker ? "1" : c->desk->name);
    t.configuration_keys = &key;
    t.configuration_keys_count = c->twist < 3 ? 1 : -1; /* -1: null, all of them */
    m.resources = &t;
    m.resources_count = 1;
    m.include_synonyms = c->twist % 2 == 0;
    m.include_documentation = c->version >= 3 && c->twist % 3 == 0;
    CLERK_ASK(c, m, describe_configs);
}

static void describe_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    const struct desk *d = c->desk;
    CLERK_TOLD(c, m, describe_configs)
    if (!clerk_check(c, m.results_count == 1, "not one result") ||
        !clerk_expect(c, m.results[0].error_code, c->twist >= 6 ? KE_NONE : clerk_wanted(c)) ||
        m.results[0].error_code != KE_NONE)
        return;
    bool found = false;
    for (int32_t i = 0; i < m.results[0].configs_count && c->twist < 6; i++) {
        const struct describe_configs_response_describe_configs_resource_result *config =
            &m.results[0].configs[i];
        if (!clerk_is(config->name, BYTES_MAX))
            continue;
        char value[32];
        (void)snprintf(value, sizeof(value), "%.*s", (int)MAX(config->value.size, 0),
                       config->value.data);
        bool set = config->config_source == SOURCE_TOPIC;
        found = true;
        if (!clerk_lags(c))
            (void)clerk_check(
                c, set == (d->bytes_max != 0) && (!set || strtoul(value, NULL, 10) == d->bytes_max),
                "another max.message.bytes than was set");
    }
    (void)clerk_check(c, found || c->twist >= 6, "no max.message.bytes");
    (void)clerk_check(c, c->twist < 3 || m.results[0].configs_count > 10, "not all of them");
}

static void resources_ask(struct clerk *c)
{
    struct list_config_resources_request m;
    int8_t type = RESOURCE_TOPIC;
    list_config_resources_request_init(&m);
    m.resource_types = &type;
    m.resource_types_count = c->version > 0 && c->twist % 2 == 0;
    CLERK_ASK(c, m, list_config_resources);
}

static void resources_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    const struct desk *d = c->desk;
    bool found = false;
    CLERK_TOLD(c, m, list_config_resources)
    if (!clerk_expect(c, m.error_code, KE_NONE))
        return;
    for (int32_t i = 0; i < m.config_resources_count; i++)
        found |= m.config_resources[i].resource_type == RESOURCE_TOPIC &&
                 clerk_is(m.config_resources[i].resource_name, d->name);
    if (c->version > 0 && !clerk_lags(c))
        (void)clerk_check(c, found == d->there, "the topic is listed, or not, and should not");
}

/* ---- metadata -------------------------------------------------------------------------------- */

static void metadata_ask(struct clerk *c)
{
    struct metadata_request m;
    struct metadata_request_topic t;
    metadata_request_init(&m);
    metadata_request_topic_init(&t);
    t.name = clerk_text(c->desk->name);
    bool by_id = c->version >= 12 && c->twist == 0 && c->desk->there && clerk_has_id(c->desk);
    if (by_id) {
        t.topic_id = c->desk->id;
        t.name = (struct wire_string){NULL, -1};
    }
    m.topics = &t;
    m.topics_count = c->twist == 1 && c->version > 0 ? -1 : 1; /* -1: null, all */
    m.allow_auto_topic_creation = c->version < 4; /* it must say so there; it is never made */
    m.include_topic_authorized_operations = c->version >= 8 && c->twist % 2 == 0;
    m.include_cluster_authorized_operations = c->version >= 8 && c->version <= 10 && c->twist == 3;
    if (c->version < 4 && !c->desk->there)
        m.topics_count = c->version > 0 ? -1 : 0; /* it would be made */
    c->number = m.topics_count == 1;
    CLERK_ASK(c, m, metadata);
}

static void metadata_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    struct desk *d = c->desk;
    CLERK_TOLD(c, m, metadata)
    bool one = m.brokers_count == 1 && m.brokers[0].node_id == 1;
    (void)clerk_check(c, one || !clerk_serves(c), "not the one broker");
    const struct metadata_response_topic *mine = NULL;
    for (int32_t i = 0; i < m.topics_count; i++) {
        if (c->number == 1 || clerk_is(m.topics[i].name, d->name))
            mine = &m.topics[i];
    }
    if (mine == NULL) {
        (void)clerk_check(c, c->number == 0 && (!d->there || clerk_lags(c)),
                          "the topic is missing");
        return;
    }
    if (!clerk_expect(c, mine->error_code, clerk_wanted(c)) || !d->there)
        return;
    if (!clerk_lags(c))
        (void)clerk_check(c, mine->partitions_count == d->partitions, "not so many partitions");
    if (c->version >= 10) {
        bool same = !clerk_has_id(d) || memcmp(&d->id, &mine->topic_id, sizeof(d->id)) == 0;
        (void)clerk_check(c, same || clerk_lags(c), "another topic id");
        if (!clerk_lags(c))
            d->id = mine->topic_id;
    }
}

/* In pages: so many partitions, and where to go on. */
static void pages_ask(struct clerk *c)
{
    struct describe_topic_partitions_request m;
    struct describe_topic_partitions_request_topic_request t;
    struct describe_topic_partitions_request_cursor cursor;
    describe_topic_partitions_request_init(&m);
    describe_topic_partitions_request_topic_request_init(&t);
    describe_topic_partitions_request_cursor_init(&cursor);
    t.name = cursor.topic_name = clerk_text(c->desk->name);
    cursor.partition_index = c->partition;
    m.topics = &t;
    m.topics_count = 1;
    m.response_partition_limit = c->twist % 2 == 0 ? 1 : 100;
    m.cursor = c->twist < 4 ? &cursor : NULL;
    CLERK_ASK(c, m, describe_topic_partitions);
}

static void pages_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    const struct desk *d = c->desk;
    CLERK_TOLD(c, m, describe_topic_partitions)
    if (!clerk_check(c, m.topics_count == 1, "not one topic") ||
        !clerk_expect(c, m.topics[0].error_code, clerk_wanted(c)) || !d->there || clerk_lags(c))
        return;
    int32_t from = c->twist < 4 ? c->partition : 0, limit = c->twist % 2 == 0 ? 1 : 100;
    int32_t told = MIN(d->partitions - from, limit);
    (void)clerk_check(c, m.topics[0].partitions_count == told, "another count of partitions");
    bool more = d->partitions - from > limit;
    (void)clerk_check(c, (m.next_cursor != NULL) == more, "a cursor, or none");
    if (more && m.next_cursor != NULL)
        (void)clerk_check(c, m.next_cursor->partition_index == from + limit, "another cursor");
}

static const struct errand errands[] = {
    {API_CREATE_TOPICS, true, create_ask, create_told},
    {API_CREATE_TOPICS, true, create_ask, create_told}, /* more often */
    {API_CREATE_TOPICS, true, create_ask, create_told},
    {API_DELETE_TOPICS, true, delete_ask, delete_told},
    {API_CREATE_PARTITIONS, true, grow_ask, grow_told},
    {API_INCREMENTAL_ALTER_CONFIGS, true, alter_ask, alter_told},
    {API_ALTER_CONFIGS, true, replace_ask, replace_told},
    {API_DESCRIBE_CONFIGS, false, describe_ask, describe_told},
    {API_DESCRIBE_CONFIGS, false, describe_ask, describe_told},
    {API_LIST_CONFIG_RESOURCES, false, resources_ask, resources_told},
    {API_METADATA, false, metadata_ask, metadata_told},
    {API_METADATA, false, metadata_ask, metadata_told},
    {API_DESCRIBE_TOPIC_PARTITIONS, false, pages_ask, pages_told},
};

const struct errand *clerk_topics(uint32_t *count)
{
    *count = sizeof(errands) / sizeof(errands[0]);
    return errands;
}
