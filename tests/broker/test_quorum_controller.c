/* What the controller answers, request kind by request kind: a table each of what is asked, the
 * code that comes back, and how many records it leads to. */
#include "tests/broker/quorum_pure.h"

#include "proto/gen/alter_configs.h"
#include "proto/gen/alter_partition_reassignments.h"
#include "proto/gen/create_partitions.h"
#include "proto/gen/create_topics.h"
#include "proto/gen/delete_topics.h"
#include "proto/gen/describe_quorum.h"
#include "proto/gen/elect_leaders.h"
#include "proto/gen/incremental_alter_configs.h"
#include "proto/gen/list_partition_reassignments.h"
#include "proto/gen/unregister_broker.h"
#include "proto/gen/update_features.h"

static char long_name[] =
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "xxxxxxxxxxxxxxxxxxxxxxxxx";

/* ---- CreateTopics -----------------------------------------------------------------------------
 */

struct creation {
    const char *name;
    int32_t partitions;
    int16_t factor;
    const char *config, *value;
    int32_t assigned[3][3]; /* index, then brokers; 0 ends */
    int32_t assigned_count;
    int16_t error;
    uint32_t records;
};

static void create(struct pure *p, const struct creation *c, int16_t version, bool validate_only,
                   struct create_topics_response *a)
{
    struct create_topics_request_creatable_topic t;
    struct create_topics_request_creatable_topic_config config;
    struct create_topics_request_creatable_replica_assignment assigned[3];
    struct create_topics_request q;
    create_topics_request_init(&q);
    create_topics_request_creatable_topic_init(&t);
    create_topics_request_creatable_topic_config_init(&config);
    create_topics_response_init(a);
    t.name = wire_string_of(c->name);
    t.num_partitions = c->partitions;
    t.replication_factor = c->factor;
    config.name = wire_string_of(c->config);
    config.value = wire_string_of(c->value);
    t.configs = &config;
    t.configs_count = c->config != NULL;
    int32_t ids[3][3];
    for (int i = 0; i < c->assigned_count; i++) {
        assigned[i].partition_index = c->assigned[i][0];
        assigned[i].broker_ids = ids[i];
        assigned[i].broker_ids_count = 0;
        for (int k = 1; k < 3 && c->assigned[i][k] != 0; k++)
            ids[i][assigned[i].broker_ids_count++] = c->assigned[i][k];
    }
    t.assignments = assigned;
    t.assignments_count = c->assigned_count;
    q.topics = &t;
    q.topics_count = 1;
    q.validate_only = validate_only;
    cr_assert(pure_step(p, 19, version, &q, a));
}

Test(quorum_controller, create_topics)
{
    static const struct creation cases[] = {
        {"new", 3, 1, .records = 4},
        {"new", -1, -1, .records = 2},
        {"new", 1, 2, .records = 2}, /* the second replica on the one that is fenced */
        {"new", 1, 1, "retention.ms", "5", .records = 3},
        {"", 1, 1, .error = KE_INVALID_TOPIC_EXCEPTION},
        {".", 1, 1, .error = KE_INVALID_TOPIC_EXCEPTION},
        {"..", 1, 1, .error = KE_INVALID_TOPIC_EXCEPTION},
        {"a b", 1, 1, .error = KE_INVALID_TOPIC_EXCEPTION},
        {"\xc3\xa4", 1, 1, .error = KE_INVALID_TOPIC_EXCEPTION},
        {long_name, 1, 1, .error = KE_INVALID_TOPIC_EXCEPTION},
        {long_name + 1, 1, 1, .records = 2},
        {"a_b", 1, 1, .error = KE_INVALID_TOPIC_EXCEPTION}, /* collides with a.b */
        {"p", 1, 1, .error = KE_TOPIC_ALREADY_EXISTS},
        {"__cluster_metadata", 1, 1, .error = KE_INVALID_REQUEST},
        {"new", 0, 1, .error = KE_INVALID_PARTITIONS},
        {"new", -2, 1, .error = KE_INVALID_PARTITIONS},
        {"new", 1, 0, .error = KE_INVALID_REPLICATION_FACTOR},
        {"new", 1, -2, .error = KE_INVALID_REPLICATION_FACTOR},
        {"new", 1, 3, .error = KE_INVALID_REPLICATION_FACTOR},
        {"new", 10001, 1, .error = KE_POLICY_VIOLATION},
        {"new", 10000, 1, .error = KE_POLICY_VIOLATION}, /* and the topic's own record */
        {"new", 9999, 1, .records = 10000},
        {"new", 1, 1, "nope", "5", .error = KE_INVALID_CONFIG},
        {"new", 1, 1, "retention.ms", "x", .error = KE_INVALID_CONFIG},
        {"new", 1, 1, "retention.ms", NULL, .error = KE_INVALID_CONFIG},
        {"new", -1, -1, .assigned = {{0, 1}, {1, 1}}, .assigned_count = 2, .records = 3},
        {"new", -1, -1, .assigned = {{1, 1}, {0, 1}}, .assigned_count = 2, .records = 3},
        {"new", -1, -1, .assigned = {{0, 2, 1}}, .assigned_count = 1, .records = 2},
        {"new", 1, -1, .assigned = {{0, 1}}, .assigned_count = 1, .error = KE_INVALID_REQUEST},
        {"new", -1, 1, .assigned = {{0, 1}}, .assigned_count = 1, .error = KE_INVALID_REQUEST},
        {"new", -1, -1, .assigned = {{0, 1}, {0, 1}}, .assigned_count = 2,
         .error = KE_INVALID_REPLICA_ASSIGNMENT},
        {"new", -1, -1, .assigned = {{1, 1}}, .assigned_count = 1,
         .error = KE_INVALID_REPLICA_ASSIGNMENT},
        {"new", -1, -1, .assigned = {{0}}, .assigned_count = 1,
         .error = KE_INVALID_REPLICA_ASSIGNMENT},
        {"new", -1, -1, .assigned = {{0, 1, 1}}, .assigned_count = 1,
         .error = KE_INVALID_REPLICA_ASSIGNMENT},
        {"new", -1, -1, .assigned = {{0, 5}}, .assigned_count = 1,
         .error = KE_INVALID_REPLICA_ASSIGNMENT},
        {"new", -1, -1, .assigned = {{0, 1}, {1, 1, 2}}, .assigned_count = 2,
         .error = KE_INVALID_REPLICA_ASSIGNMENT},
        {"new", -1, -1, .assigned = {{0, 2}}, .assigned_count = 1, /* only the fenced one */
         .error = KE_INVALID_REPLICA_ASSIGNMENT},
    };
    struct pure p;
    pure_begin(&p);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct create_topics_response a;
        create(&p, &cases[i], 7, false, &a);
        cr_assert_eq(a.topics_count, 1);
        cr_assert_eq(a.topics[0].error_code, cases[i].error, "%zu: %d %.*s", i,
                     a.topics[0].error_code, a.topics[0].error_message.size,
                     a.topics[0].error_message.data);
        cr_assert_eq(p.step.records.count, cases[i].records, "%zu: %u", i, p.step.records.count);
        cr_assert_eq(cases[i].error != 0, a.topics[0].error_message.size > 0);
        cr_assert_eq(cases[i].error == 0, a.topics[0].configs_count > 20);
        create(&p, &cases[i], 4, true, &a);
        cr_assert_eq(a.topics[0].error_code, cases[i].error);
        cr_assert_eq(p.step.records.count, 0);
        cr_assert_eq(a.topics[0].configs_count, 0);
    }
    pure_end(&p);
}

Test(quorum_controller, a_created_topic_is_as_it_was_told)
{
    static const struct creation wanted = {
        "new", -1, -1, "retention.ms", "5", .assigned = {{1, 1}, {0, 2, 1}}, .assigned_count = 2};
    static const struct creation fits = {"fits",
                                         -1,
                                         -1,
                                         "retention.ms",
                                         "5",
                                         .assigned = {{1, 1, 2}, {0, 2, 1}},
                                         .assigned_count = 2};
    struct pure p;
    struct create_topics_response a;
    pure_begin(&p);
    create(&p, &wanted, 7, false, &a); /* one and two replicas */
    cr_assert_eq(a.topics[0].error_code, KE_INVALID_REPLICA_ASSIGNMENT);
    create(&p, &fits, 7, false, &a);
    cr_assert_eq(a.topics[0].error_code, KE_NONE);
    cr_assert_eq(a.topics[0].num_partitions, 2);
    cr_assert_eq(a.topics[0].replication_factor, 2);
    struct uuid id = a.topics[0].topic_id;
    bool seen = false;
    for (int32_t i = 0; i < a.topics[0].configs_count; i++) {
        if (!wire_string_equal(a.topics[0].configs[i].name, wire_string_of("retention.ms")))
            continue;
        seen = wire_string_equal(a.topics[0].configs[i].value, wire_string_of("5")) &&
               a.topics[0].configs[i].config_source == SOURCE_TOPIC;
    }
    cr_assert(seen);
    cr_assert_eq(pure_commit(&p), 0, "%s", p.why);
    const struct topic_image *t = image_topic_by_id(&p.md.image, id);
    cr_assert(t != NULL && strcmp(t->name, "fits") == 0);
    cr_assert_eq(t->config.retention_ms, 5);
    /* The fenced one is no ISR and no leader, and its directory is unassigned. */
    const struct partition_image *q = &t->partitions[0];
    cr_assert(q->replicas[0] == 2 && q->replicas[1] == 1 && q->leader == 1);
    cr_assert(q->isr_count == 1 && q->isr[0] == 1);
    cr_assert_eq(q->directories[0].bytes[15], 1);
    cr_assert(uuid_equal(q->directories[1], p.dirs[0]));
    cr_assert(uuid_equal(t->partitions[1].directories[0], p.dirs[1])); /* the other one */
    pure_end(&p);
}

Test(quorum_controller, create_topics_answers_a_name_that_comes_twice_once)
{
    struct pure p;
    struct create_topics_request_creatable_topic t[3];
    struct create_topics_request q;
    struct create_topics_response a;
    pure_begin(&p);
    create_topics_request_init(&q);
    create_topics_response_init(&a);
    for (int i = 0; i < 3; i++) {
        create_topics_request_creatable_topic_init(&t[i]);
        t[i].name = wire_string_of(i == 1 ? "one" : "two");
        t[i].num_partitions = t[i].replication_factor = 1;
    }
    q.topics = t;
    q.topics_count = 3;
    cr_assert(pure_step(&p, 19, 7, &q, &a));
    cr_assert_eq(a.topics_count, 2);
    cr_assert_eq(a.topics[0].error_code, KE_INVALID_REQUEST);
    cr_assert_eq(a.topics[1].error_code, KE_NONE);
    cr_assert_eq(p.step.records.count, 2);
    pure_end(&p);
}

/* ---- DeleteTopics -----------------------------------------------------------------------------
 */

Test(quorum_controller, delete_topics)
{
    static const struct {
        const char *name[2];
        uint8_t id[2];
        int32_t answers;
        int16_t error;
        uint32_t records;
    } cases[] = {
        {{"p"}, {0}, 1, KE_NONE, 1},
        {{NULL}, {2}, 1, KE_NONE, 1},
        {{"nope"}, {0}, 1, KE_UNKNOWN_TOPIC_OR_PARTITION, 0},
        {{NULL}, {99}, 1, KE_UNKNOWN_TOPIC_ID, 0},
        {{NULL}, {0}, 1, KE_INVALID_REQUEST, 0},
        {{"p"}, {2}, 1, KE_INVALID_REQUEST, 0},
        {{"p", "p"}, {0, 0}, 1, KE_INVALID_REQUEST, 0},
        {{NULL, NULL}, {2, 2}, 1, KE_INVALID_REQUEST, 0},
        {{"p", NULL}, {0, 2}, 1, KE_INVALID_REQUEST, 0},
        {{"p", "a.b"}, {0, 0}, 2, KE_NONE, 2},
    };
    struct pure p;
    pure_begin(&p);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct delete_topics_request_delete_topic_state t[2];
        struct delete_topics_request q;
        struct delete_topics_response a;
        delete_topics_request_init(&q);
        delete_topics_response_init(&a);
        for (int k = 0; k < 2; k++) {
            bool there = k == 0 || cases[i].name[k] != NULL || cases[i].id[k] != 0;
            t[k].name = wire_string_of(cases[i].name[k]);
            t[k].topic_id = cases[i].id[k] != 0 ? pure_id(cases[i].id[k]) : (struct uuid){{0}};
            q.topics_count += there;
        }
        q.topics = t;
        cr_assert(pure_step(&p, 20, 6, &q, &a));
        cr_assert_eq(a.responses_count, cases[i].answers, "%zu", i);
        cr_assert_eq(a.responses[0].error_code, cases[i].error, "%zu: %d", i,
                     a.responses[0].error_code);
        cr_assert_eq(p.step.records.count, cases[i].records, "%zu", i);
    }
    /* By names, as before version 6; and when it is switched off. */
    struct wire_string names[] = {wire_string_of("p"), wire_string_of("nope")};
    struct delete_topics_request q;
    struct delete_topics_response a;
    delete_topics_request_init(&q);
    delete_topics_response_init(&a);
    q.topic_names = names;
    q.topic_names_count = 2;
    cr_assert(pure_step(&p, 20, 4, &q, &a));
    cr_assert_eq(a.responses[0].error_code, KE_NONE);
    cr_assert_eq(a.responses[1].error_code, KE_UNKNOWN_TOPIC_OR_PARTITION);
    p.config.broker.delete_topic_enable = false;
    for (int16_t version = 1; version < 6; version++) {
        delete_topics_response_init(&a);
        cr_assert(pure_step(&p, 20, version, &q, &a));
        cr_assert_eq(a.responses_count, 2);
        cr_assert_eq(a.responses[0].error_code,
                     version < 3 ? KE_INVALID_REQUEST : KE_TOPIC_DELETION_DISABLED);
        cr_assert_eq(p.step.records.count, 0);
    }
    pure_end(&p);
}

/* ---- CreatePartitions -------------------------------------------------------------------------
 */

Test(quorum_controller, create_partitions)
{
    static const struct {
        const char *name;
        int32_t count;
        int32_t assigned[2][2]; /* 0 ends */
        int32_t assigned_count; /* -1: none given */
        int16_t error;
        uint32_t records;
    } cases[] = {
        {"p", 3, {{0}}, -1, KE_NONE, 1},
        {"p", 5, {{0}}, -1, KE_NONE, 3},
        {"q", 2, {{0}}, -1, KE_NONE, 1},
        {"p", 4, {{1}, {1}}, 2, KE_NONE, 2},
        {"p", 2, {{0}}, -1, KE_INVALID_PARTITIONS, 0},
        {"p", 1, {{0}}, -1, KE_INVALID_PARTITIONS, 0},
        {"p", 0, {{0}}, -1, KE_INVALID_PARTITIONS, 0},
        {"p", -1, {{0}}, -1, KE_INVALID_PARTITIONS, 0},
        {"nope", 3, {{0}}, -1, KE_UNKNOWN_TOPIC_OR_PARTITION, 0},
        {"p", 4, {{1}}, 1, KE_INVALID_REPLICA_ASSIGNMENT, 0},
        {"p", 3, {{1}, {1}}, 2, KE_INVALID_REPLICA_ASSIGNMENT, 0},
        {"p", 3, {{7}}, 1, KE_INVALID_REPLICA_ASSIGNMENT, 0},
        {"p", 3, {{0}}, 1, KE_INVALID_REPLICA_ASSIGNMENT, 0},
        {"p", 3, {{1, 1}}, 1, KE_INVALID_REPLICA_ASSIGNMENT, 0},
        {"p", 3, {{1, 2}}, 1, KE_INVALID_REPLICA_ASSIGNMENT, 0},
        {"p", 3, {{2}}, 1, KE_INVALID_REPLICA_ASSIGNMENT, 0},
        {"p", 20000, {{0}}, -1, KE_POLICY_VIOLATION, 0},
    };
    struct pure p;
    pure_begin(&p);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct create_partitions_request_create_partitions_topic t;
        struct create_partitions_request_create_partitions_assignment assigned[2];
        struct create_partitions_request q;
        struct create_partitions_response a;
        int32_t ids[2][2];
        create_partitions_request_init(&q);
        create_partitions_request_create_partitions_topic_init(&t);
        create_partitions_response_init(&a);
        t.name = wire_string_of(cases[i].name);
        t.count = cases[i].count;
        for (int k = 0; k < cases[i].assigned_count; k++) {
            memcpy(ids[k], cases[i].assigned[k], sizeof(ids[k]));
            assigned[k].broker_ids = ids[k];
            assigned[k].broker_ids_count = (ids[k][0] != 0) + (ids[k][0] != 0 && ids[k][1] != 0);
        }
        t.assignments = assigned;
        t.assignments_count = cases[i].assigned_count;
        q.topics = &t;
        q.topics_count = 1;
        cr_assert(pure_step(&p, 37, 3, &q, &a));
        cr_assert_eq(a.results[0].error_code, cases[i].error, "%zu: %d", i,
                     a.results[0].error_code);
        cr_assert_eq(p.step.records.count, cases[i].records, "%zu", i);
        q.validate_only = true;
        create_partitions_response_init(&a);
        cr_assert(pure_step(&p, 37, 3, &q, &a));
        cr_assert_eq(a.results[0].error_code, cases[i].error);
        cr_assert_eq(p.step.records.count, 0);
    }
    pure_end(&p);
}

/* ---- configs ----------------------------------------------------------------------------------
 */

Test(quorum_controller, incremental_alter_configs)
{
    static const struct {
        int8_t type;
        const char *resource, *name;
        int8_t operation;
        const char *value;
        int16_t error;
        uint32_t records;
    } cases[] = {
        {2, "p", "retention.ms", 0, "7", KE_NONE, 1},
        {2, "p", "retention.ms", 1, NULL, KE_NONE, 0}, /* is not set */
        {2, "p", "cleanup.policy", 2, "compact", KE_NONE, 1},
        {2, "p", "min.insync.replicas", 0, "2", KE_NONE, 2}, /* and ELR is cleared */
        {2, "p", "retention.ms", 0, "x", KE_INVALID_CONFIG, 0},
        {2, "p", "retention.ms", 2, "7", KE_INVALID_CONFIG, 0},
        {2, "p", "retention.ms", 0, NULL, KE_INVALID_REQUEST, 0},
        {2, "p", "nope", 0, "7", KE_INVALID_CONFIG, 0},
        {2, "none", "retention.ms", 0, "7", KE_UNKNOWN_TOPIC_OR_PARTITION, 0},
        {2, "", "retention.ms", 0, "7", KE_INVALID_REQUEST, 0},
        {4, "1", "log.retention.ms", 0, "7777777", KE_NONE, 1},
        {4, "", "log.retention.ms", 0, "7777777", KE_NONE, 1},
        {4, "", "min.insync.replicas", 0, "2", KE_NONE, 2},
        {4, "", "min.insync.replicas", 1, NULL, KE_INVALID_CONFIG, 0},
        {4, "1", "min.insync.replicas", 0, "2", KE_INVALID_CONFIG, 0},
        {4, "1", "node.id", 0, "7", KE_INVALID_REQUEST, 0},
        {4, "2", "log.retention.ms", 0, "7", KE_INVALID_REQUEST, 0},
        {4, "x", "log.retention.ms", 0, "7", KE_INVALID_REQUEST, 0},
        {32, "g", "consumer.session.timeout.ms", 0, "50000", KE_NONE, 1},
        {32, "g", "consumer.session.timeout.ms", 0, "7", KE_INVALID_CONFIG, 0},
        {32, "", "consumer.session.timeout.ms", 0, "50000", KE_INVALID_REQUEST, 0},
        {16, "c", "interval.ms", 0, "1000", KE_NONE, 1},
        {16, "c", "interval.ms", 0, "7", KE_INVALID_REQUEST, 0},
        {16, "", "interval.ms", 0, "1000", KE_INVALID_REQUEST, 0},
        {0, "c", "interval.ms", 0, "1000", KE_INVALID_REQUEST, 0},
        {99, "c", "interval.ms", 0, "1000", KE_INVALID_REQUEST, 0},
        {8, "2", "log", 0, "DEBUG", KE_INVALID_REQUEST, 0},
    };
    struct pure p;
    pure_begin(&p);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct incremental_alter_configs_request_alterable_config c;
        struct incremental_alter_configs_request_alter_configs_resource r;
        struct incremental_alter_configs_request q;
        struct incremental_alter_configs_response a;
        incremental_alter_configs_request_init(&q);
        incremental_alter_configs_response_init(&a);
        c.name = wire_string_of(cases[i].name);
        c.value = wire_string_of(cases[i].value);
        c.config_operation = cases[i].operation;
        r.resource_type = cases[i].type;
        r.resource_name = wire_string_of(cases[i].resource);
        r.configs = &c;
        r.configs_count = 1;
        q.resources = &r;
        q.resources_count = 1;
        cr_assert(pure_step(&p, 44, 1, &q, &a));
        cr_assert_eq(a.responses[0].error_code, cases[i].error, "%zu: %d %.*s", i,
                     a.responses[0].error_code, a.responses[0].error_message.size,
                     a.responses[0].error_message.data);
        cr_assert_eq(a.responses[0].resource_type, cases[i].type);
        cr_assert_eq(p.step.records.count, cases[i].records, "%zu: %u", i, p.step.records.count);
        /* Named twice: neither. */
        struct incremental_alter_configs_request_alter_configs_resource twice[2] = {r, r};
        q.resources = twice;
        q.resources_count = 2;
        incremental_alter_configs_response_init(&a);
        cr_assert(pure_step(&p, 44, 1, &q, &a));
        cr_assert_eq(a.responses_count, 2);
        cr_assert_eq(a.responses[1].error_code, KE_INVALID_REQUEST);
        cr_assert_eq(p.step.records.count, 0);
    }
    pure_end(&p);
}

Test(quorum_controller, alter_configs_takes_back_what_it_does_not_name)
{
    struct pure p;
    struct alter_configs_request_alterable_config c;
    struct alter_configs_request_alter_configs_resource r;
    struct alter_configs_request q;
    struct alter_configs_response a;
    pure_begin(&p);
    pure_config(&p, RESOURCE_TOPIC, "p", "retention.ms", "42");
    cr_assert_eq(pure_replay(&p), 0);
    alter_configs_request_init(&q);
    alter_configs_response_init(&a);
    c.name = wire_string_of("segment.bytes");
    c.value = wire_string_of("9999999");
    r.resource_type = RESOURCE_TOPIC;
    r.resource_name = wire_string_of("p");
    r.configs = &c;
    r.configs_count = 1;
    q.resources = &r;
    q.resources_count = 1;
    cr_assert(pure_step(&p, 33, 2, &q, &a));
    cr_assert_eq(a.responses[0].error_code, KE_NONE);
    cr_assert_eq(p.step.records.count, 2);
    cr_assert_eq(pure_commit(&p), 0);
    const struct topic_image *t = image_topic_by_name(&p.md.image, "p", 1);
    cr_assert_eq(t->overrides.set.count, 1);
    cr_assert_str_eq(t->overrides.set.entries[0].name, "segment.bytes");
    c.value = WIRE_NULL_STRING;
    alter_configs_response_init(&a);
    cr_assert(pure_step(&p, 33, 2, &q, &a));
    cr_assert_eq(a.responses[0].error_code, KE_INVALID_REQUEST);
    r.resource_type = RESOURCE_BROKER_LOGGER; /* not with this request */
    r.resource_name = wire_string_of("1");
    alter_configs_response_init(&a);
    cr_assert(pure_step(&p, 33, 2, &q, &a));
    cr_assert_eq(a.responses[0].error_code, KE_INVALID_REQUEST);
    pure_end(&p);
}

/* ---- UpdateFeatures ---------------------------------------------------------------------------
 */

Test(quorum_controller, update_features)
{
    static const struct {
        const char *name;
        int16_t level;
        int8_t type;
        int16_t error;
        uint32_t records;
    } cases[] = {
        {"group.version", 1, 1, KE_NONE, 0},
        {"group.version", 0, 2, KE_NONE, 1},
        {"group.version", 0, 3, KE_NONE, 1},
        {"group.version", 0, 1, KE_INVALID_UPDATE_VERSION, 0},
        {"group.version", 2, 1, KE_INVALID_UPDATE_VERSION, 0},
        {"group.version", -1, 2, KE_INVALID_UPDATE_VERSION, 0},
        {"group.version", 1, 9, KE_INVALID_UPDATE_VERSION, 0},
        {"transaction.version", 2, 1, KE_NONE, 1},
        {"share.version", 1, 1, KE_INVALID_UPDATE_VERSION, 0}, /* not served */
        {"nope", 1, 1, KE_INVALID_UPDATE_VERSION, 0},
        {"metadata.version", 30, 1, KE_NONE, 0},
        {"metadata.version", 31, 1, KE_INVALID_UPDATE_VERSION, 0},
        {"metadata.version", 29, 1, KE_INVALID_UPDATE_VERSION, 0},
        {"metadata.version", 29, 2, KE_INVALID_UPDATE_VERSION, 0}, /* would lose metadata */
        {"metadata.version", 29, 3, KE_INVALID_UPDATE_VERSION, 0},
        {"metadata.version", 0, 2, KE_INVALID_UPDATE_VERSION, 0},
        {"kraft.version", 0, 1, KE_NONE, 0},
        {"kraft.version", 1, 1, KE_INVALID_UPDATE_VERSION, 0},
        {"eligible.leader.replicas.version", 0, 2, KE_NONE, 1},
        {"eligible.leader.replicas.version", 1, 1, KE_NONE, 0},
    };
    struct pure p;
    pure_begin(&p);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct update_features_request_feature_update_key u;
        struct update_features_request q;
        struct update_features_response a;
        update_features_request_init(&q);
        update_features_response_init(&a);
        u.feature = wire_string_of(cases[i].name);
        u.max_version_level = cases[i].level;
        u.allow_downgrade = false;
        u.upgrade_type = cases[i].type;
        q.feature_updates = &u;
        q.feature_updates_count = 1;
        cr_assert(pure_step(&p, 57, 1, &q, &a));
        cr_assert_eq(a.error_code, cases[i].error, "%zu: %d %.*s", i, a.error_code,
                     a.error_message.size, a.error_message.data);
        cr_assert_eq(p.step.records.count, cases[i].records, "%zu", i);
        cr_assert_eq(a.results_count, cases[i].error == 0 ? 1 : 0);
        /* With one that is refused, none. */
        struct update_features_request_feature_update_key both[2] = {u, u};
        both[1].feature = wire_string_of("nope");
        q.feature_updates = both;
        q.feature_updates_count = 2;
        update_features_response_init(&a);
        cr_assert(pure_step(&p, 57, 2, &q, &a));
        cr_assert_eq(a.error_code, KE_INVALID_UPDATE_VERSION);
        cr_assert_eq(p.step.records.count, 0);
    }
    pure_end(&p);
}

Test(quorum_controller, switching_elr_on_gives_the_cluster_its_min_insync_replicas)
{
    struct pure p;
    struct update_features_request_feature_update_key u = {
        .feature = wire_string_of("eligible.leader.replicas.version"), .upgrade_type = 1};
    struct update_features_request q;
    struct update_features_response a;
    pure_begin(&p);
    pure_feature(&p, FEATURE_ELR, 0);
    pure_config(&p, RESOURCE_BROKER, "", "min.insync.replicas", NULL);
    pure_config(&p, RESOURCE_BROKER, "1", "min.insync.replicas", "3");
    cr_assert_eq(pure_replay(&p), 0);
    u.max_version_level = 1;
    update_features_request_init(&q);
    update_features_response_init(&a);
    q.feature_updates = &u;
    q.feature_updates_count = 1;
    cr_assert(pure_step(&p, 57, 2, &q, &a));
    cr_assert_eq(a.error_code, KE_NONE);
    cr_assert_eq(pure_commit(&p), 0);
    const struct image *img = &p.md.image;
    cr_assert_eq(image_feature(img, FEATURE_ELR), 1);
    cr_assert_str_eq(
        config_image_get(image_config(img, RESOURCE_BROKER, "", 0), "min.insync.replicas"), "1");
    cr_assert(image_config(img, RESOURCE_BROKER, "1", 1) == NULL);
    pure_end(&p);
}

/* ---- leaders and reassignments ----------------------------------------------------------------
 */

Test(quorum_controller, elect_leaders)
{
    static const struct {
        int8_t type;
        const char *topic;
        int32_t partition;
        int16_t error;
        uint32_t records;
    } cases[] = {
        {0, "p", 0, KE_ELECTION_NOT_NEEDED, 0},
        {0, "p", 99, KE_UNKNOWN_TOPIC_OR_PARTITION, 0},
        {0, "nope", 0, KE_UNKNOWN_TOPIC_OR_PARTITION, 0},
        {0, "q", 0, KE_ELECTION_NOT_NEEDED, 0},
        {1, "p", 0, KE_ELECTION_NOT_NEEDED, 0},
        {0, "lost", 0, KE_PREFERRED_LEADER_NOT_AVAILABLE, 0},
        {1, "lost", 0, KE_NONE, 1},
        {5, "p", 0, KE_INVALID_REQUEST, 0},
    };
    struct pure p;
    int32_t both[] = {2, 1};
    pure_begin(&p);
    pure_topic(&p, "lost", 30);
    pure_partition(&p, 30, 0, both, 2, -1);
    cr_assert_eq(pure_replay(&p), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct elect_leaders_request_topic_partitions t;
        struct elect_leaders_request q;
        struct elect_leaders_response a;
        int32_t partition = cases[i].partition;
        elect_leaders_request_init(&q);
        elect_leaders_response_init(&a);
        t.topic = wire_string_of(cases[i].topic);
        t.partitions = &partition;
        t.partitions_count = 1;
        q.election_type = cases[i].type;
        q.topic_partitions = &t;
        q.topic_partitions_count = 1;
        cr_assert(pure_step(&p, 43, 2, &q, &a));
        cr_assert_eq(a.replica_election_results[0].partition_result[0].error_code, cases[i].error,
                     "%zu: %d", i, a.replica_election_results[0].partition_result[0].error_code);
        cr_assert_eq(p.step.records.count, cases[i].records, "%zu", i);
        cr_assert_eq(a.error_code, cases[i].type == 5 ? KE_INVALID_REQUEST : KE_NONE);
    }
    /* All: only what needs one is mentioned. */
    struct elect_leaders_request q;
    struct elect_leaders_response a;
    elect_leaders_request_init(&q);
    elect_leaders_response_init(&a);
    q.topic_partitions_count = -1;
    q.election_type = 1;
    cr_assert(pure_step(&p, 43, 2, &q, &a));
    cr_assert_eq(a.replica_election_results_count, 4);
    int32_t mentioned = 0;
    for (int32_t i = 0; i < 4; i++)
        mentioned += a.replica_election_results[i].partition_result_count;
    cr_assert_eq(mentioned, 1);
    cr_assert_eq(pure_commit(&p), 0);
    const struct partition_image *lost =
        &image_topic_by_name(&p.md.image, "lost", 4)->partitions[0];
    cr_assert(lost->leader == 1 && lost->recovery_state == 1 && lost->isr_count == 1);
    pure_end(&p);
}

Test(quorum_controller, a_start_leads_what_may_be_led_and_nothing_else)
{
    struct pure p;
    struct controller view;
    struct arena scratch;
    uint32_t topic = 0, partition = 0;
    int32_t both[] = {2, 1}, other[] = {2};
    pure_begin(&p);
    pure_topic(&p, "others", 30);
    pure_partition(&p, 30, 0, other, 1, 2);
    pure_topic(&p, "stopped", 31); /* as Kafka leaves them: only eligible */
    pure_partition(&p, 31, 0, both, 2, -1);
    cr_assert_eq(pure_replay(&p), 0);
    struct partition_change_record m;
    partition_change_record_init(&m);
    m.topic_id = pure_id(31);
    m.partition_id = 0;
    m.replicas_count = m.removing_replicas_count = m.adding_replicas_count = -1;
    m.directories_count = m.isr_count = -1;
    m.leader = -2;
    m.eligible_leader_replicas = m.last_known_elr = (int32_t[]){1};
    m.eligible_leader_replicas_count = m.last_known_elr_count = 1;
    record_list_add(&p.records, PARTITION_CHANGE_RECORD_API_KEY, 2, &m);
    cr_assert_eq(pure_replay(&p), 0);
    view = p.view;
    arena_init(&scratch, &p.mem, 1u << 20);
    p.step = (struct step){.c = &view, .arena = &p.arena, .scratch = &scratch};
    cr_assert(!controller_lead_all(&p.step, &topic, &partition));
    cr_assert_eq(pure_commit(&p), 0, "%s", p.why);
    arena_release(&scratch);
    const struct image *img = &p.md.image;
    const struct partition_image *q = &image_topic_by_name(img, "p", 1)->partitions[0];
    cr_assert(q->leader == 1 && q->leader_epoch == 6 && q->isr_count == 1);
    q = &image_topic_by_name(img, "q", 1)->partitions[0]; /* both were in sync */
    cr_assert(q->leader == 1 && q->isr_count == 1 && q->isr[0] == 1 && q->replicas_count == 2);
    q = &image_topic_by_name(img, "others", 6)->partitions[0];
    cr_assert(q->leader == -1);
    q = &image_topic_by_name(img, "stopped", 7)->partitions[0];
    cr_assert(q->leader == 1 && q->elr_count == 0 && q->last_known_elr_count == 0);
    pure_end(&p);
}

Test(quorum_controller, alter_partition_reassignments)
{
    static const struct {
        const char *topic;
        int32_t partition, replicas[3], replicas_count;
        int16_t error;
        uint32_t records;
    } cases[] = {
        {"p", 0, {1}, 1, KE_NONE, 0},
        {"q", 0, {1}, 1, KE_NONE, 1},
        {"q", 0, {1, 2}, 2, KE_NONE, 1},
        {"q", 0, {2}, 1, KE_NONE, 1},
        {"p", 0, {0}, -1, KE_NO_REASSIGNMENT_IN_PROGRESS, 0},
        {"p", 0, {0}, 0, KE_INVALID_REPLICA_ASSIGNMENT, 0},
        {"p", 0, {1, 1}, 2, KE_INVALID_REPLICA_ASSIGNMENT, 0},
        {"p", 0, {5}, 1, KE_INVALID_REPLICA_ASSIGNMENT, 0},
        {"p", 0, {1, 2}, 2, KE_INVALID_REPLICA_ASSIGNMENT, 0}, /* 2 is not alive */
        {"p", 9, {1}, 1, KE_UNKNOWN_TOPIC_OR_PARTITION, 0},
        {"nope", 0, {1}, 1, KE_UNKNOWN_TOPIC_OR_PARTITION, 0},
    };
    struct pure p;
    pure_begin(&p);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct alter_partition_reassignments_request_reassignable_partition part;
        struct alter_partition_reassignments_request_reassignable_topic t;
        struct alter_partition_reassignments_request q;
        struct alter_partition_reassignments_response a;
        int32_t replicas[3];
        memcpy(replicas, cases[i].replicas, sizeof(replicas));
        alter_partition_reassignments_request_init(&q);
        alter_partition_reassignments_response_init(&a);
        part.partition_index = cases[i].partition;
        part.replicas = replicas;
        part.replicas_count = cases[i].replicas_count;
        t.name = wire_string_of(cases[i].topic);
        t.partitions = &part;
        t.partitions_count = 1;
        q.topics = &t;
        q.topics_count = 1;
        cr_assert(pure_step(&p, 45, 1, &q, &a));
        cr_assert_eq(a.responses[0].partitions[0].error_code, cases[i].error, "%zu: %d", i,
                     a.responses[0].partitions[0].error_code);
        cr_assert_eq(p.step.records.count, cases[i].records, "%zu", i);
        q.allow_replication_factor_change = false;
        bool changes =
            cases[i].error == 0 && cases[i].topic[0] == 'q' && cases[i].replicas_count != 2;
        alter_partition_reassignments_response_init(&a);
        cr_assert(pure_step(&p, 45, 1, &q, &a));
        if (changes)
            cr_assert_eq(a.responses[0].partitions[0].error_code, KE_INVALID_REPLICATION_FACTOR);
    }
    struct list_partition_reassignments_request q;
    struct list_partition_reassignments_response a;
    list_partition_reassignments_request_init(&q);
    list_partition_reassignments_response_init(&a);
    q.topics_count = -1;
    cr_assert(pure_step(&p, 46, 0, &q, &a));
    cr_assert_eq(a.topics_count, 0);
    cr_assert_eq(a.error_code, KE_NONE);
    pure_end(&p);
}

/* ---- the cluster ------------------------------------------------------------------------------
 */

Test(quorum_controller, unregister_broker)
{
    static const struct {
        int32_t id;
        int16_t error;
        uint32_t records;
    } cases[] = {{1, KE_INVALID_REQUEST, 0}, {2, KE_NONE, 1}, {9, KE_BROKER_ID_NOT_REGISTERED, 0}};
    struct pure p;
    pure_begin(&p);
    for (size_t i = 0; i < 3; i++) {
        struct unregister_broker_request q = {.broker_id = cases[i].id};
        struct unregister_broker_response a;
        unregister_broker_response_init(&a);
        cr_assert(pure_step(&p, 64, 0, &q, &a));
        cr_assert_eq(a.error_code, cases[i].error);
        cr_assert_eq(p.step.records.count, cases[i].records);
        if (cases[i].records == 1) {
            cr_assert_eq(pure_commit(&p), 0);
            cr_assert(image_broker(&p.md.image, 2) == NULL);
        }
    }
    pure_end(&p);
}

Test(quorum_controller, describe_quorum_knows_one_partition_of_one_topic)
{
    struct pure p;
    struct describe_quorum_request_partition_data part = {0};
    struct describe_quorum_request_topic_data t = {.topic_name =
                                                       wire_string_of("__cluster_metadata"),
                                                   .partitions = &part,
                                                   .partitions_count = 1};
    struct describe_quorum_request q = {.topics = &t, .topics_count = 1};
    struct describe_quorum_response a;
    pure_begin(&p);
    describe_quorum_response_init(&a);
    cr_assert(pure_step(&p, 55, 2, &q, &a));
    const struct describe_quorum_response_partition_data *d = &a.topics[0].partitions[0];
    cr_assert_eq(d->error_code, KE_NONE);
    cr_assert(d->leader_id == 1 && d->leader_epoch == 1 && d->high_watermark == 1000);
    cr_assert(d->current_voters_count == 1 && d->current_voters[0].replica_id == 1);
    cr_assert(a.nodes_count == 1 && a.nodes[0].listeners_count == 1);
    t.topic_name = wire_string_of("p");
    describe_quorum_response_init(&a);
    cr_assert(pure_step(&p, 55, 2, &q, &a));
    cr_assert_eq(a.topics[0].partitions[0].error_code, KE_UNKNOWN_TOPIC_OR_PARTITION);
    cr_assert_eq(a.nodes_count, 0);
    pure_end(&p);
}
