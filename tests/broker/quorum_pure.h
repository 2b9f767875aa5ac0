/* Metadata without files: records replayed into it, steps run on it. Broker 1 is this one and
 * alive; broker 2 is registered and fenced. */
#ifndef TESTS_BROKER_QUORUM_PURE_H
#define TESTS_BROKER_QUORUM_PURE_H

#include <criterion/criterion.h>
#undef assert
#define assert(condition)                                                                          \
    (__builtin_expect(!!(condition), 1) ? (void)0 : assert_failed(#condition, __FILE__, __LINE__))

#include "broker/quorum/controller_priv.h"
#include "broker/quorum/leaf.h"
#include "proto/gen/record_broker.h"
#include "proto/gen/record_cluster.h"
#include "proto/gen/record_topic.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct pure {
    struct mem mem;
    struct config config;
    struct metadata md;
    struct trace trace;
    int64_t wall_ms;
    struct arena arena, scratch; /* the answer's, the step's; also what records are made in */
    struct record_list records;
    struct controller view;
    struct step step;
    struct uuid dirs[2];
    uint32_t loads[2];
    uint64_t seed;
    char why[METADATA_WHY_SIZE];
};

static void pure_say(void *context, const char *line, size_t size)
{
    (void)context;
    (void)line;
    (void)size;
}

static void pure_entropy(void *context, void *to, size_t size)
{
    struct pure *p = context;
    memset(to, 0x11, size);
    memcpy(to, &p->seed, sizeof(p->seed));
    p->seed++;
}

/* Replays what is in p->records as one delta, and empties it. */
static inline int pure_replay(struct pure *p)
{
    struct replay r;
    struct image_delta *delta;
    int result = 0;
    assert(!p->records.failed);
    replay_init(&r, &p->md, 64u << 20);
    for (uint32_t i = 0; i < p->records.count && result == 0; i++)
        result = replay_record(&r, p->records.items[i]);
    if (result == 0)
        result = replay_finish(&r, p->md.image.offset + 1, 1, &delta);
    snprintf(p->why, sizeof(p->why), "%s", result == -EBADMSG ? r.why : "");
    if (result == 0) {
        assert(metadata_apply(&p->md, delta) == 0);
        delta_retire(&p->mem, delta);
    } else {
        replay_drop(&r);
    }
    arena_release(&p->scratch);
    record_list_init(&p->records, &p->scratch);
    return result;
}

static inline void pure_broker(struct pure *p, int32_t id, bool fenced)
{
    struct register_broker_record m;
    struct register_broker_record_broker_endpoint e;
    register_broker_record_init(&m);
    register_broker_record_broker_endpoint_init(&e);
    e.name = wire_string_of("PLAINTEXT");
    e.host = wire_string_of("h");
    e.port = 9092;
    m.broker_id = id;
    m.broker_epoch = 100 + id;
    m.end_points = &e;
    m.end_points_count = 1;
    m.fenced = fenced;
    m.log_dirs = p->dirs;
    m.log_dirs_count = id == 1 ? 2 : 0;
    m.cordoned_log_dirs_count = -1;
    record_list_add(&p->records, REGISTER_BROKER_RECORD_API_KEY, 4, &m);
}

static inline void pure_feature(struct pure *p, const char *name, int16_t level)
{
    struct feature_level_record m;
    feature_level_record_init(&m);
    m.name = wire_string_of(name);
    m.feature_level = level;
    record_list_add(&p->records, FEATURE_LEVEL_RECORD_API_KEY, 0, &m);
}

static inline struct uuid pure_id(uint8_t n)
{
    return (struct uuid){{0x42, [15] = n}};
}

static inline void pure_topic(struct pure *p, const char *name, uint8_t id)
{
    struct topic_record m;
    topic_record_init(&m);
    m.name = wire_string_of(name);
    m.topic_id = pure_id(id);
    record_list_add(&p->records, TOPIC_RECORD_API_KEY, 0, &m);
}

static inline void pure_partition(struct pure *p, uint8_t topic, int32_t index, int32_t *replicas,
                                  int32_t replicas_count, int32_t leader)
{
    struct partition_record m;
    struct uuid dirs[8] = {p->dirs[0], p->dirs[0]};
    partition_record_init(&m);
    m.partition_id = index;
    m.topic_id = pure_id(topic);
    m.replicas = m.isr = replicas;
    m.replicas_count = replicas_count;
    m.isr_count = leader < 0 ? 0 : replicas_count;
    m.leader = leader;
    m.leader_epoch = m.partition_epoch = 5;
    m.directories = dirs;
    m.directories_count = replicas_count;
    m.eligible_leader_replicas_count = m.last_known_elr_count = -1;
    record_list_add(&p->records, PARTITION_RECORD_API_KEY, 2, &m);
}

static inline void pure_config(struct pure *p, int8_t type, const char *resource, const char *name,
                               const char *value)
{
    struct config_record m;
    config_record_init(&m);
    m.resource_type = type;
    m.resource_name = wire_string_of(resource);
    m.name = wire_string_of(name);
    m.value = wire_string_of(value);
    record_list_add(&p->records, CONFIG_RECORD_API_KEY, 0, &m);
}

/* Brokers, features, and topics "a.b" (1 partition), "p" (2), "q" (replicas 2 and 1, led by 2). */
static inline void pure_begin(struct pure *p)
{
    static const char text[] = "process.roles=broker,controller\nnode.id=1\n";
    static const struct control_feature served[] = {{"group.version", 0, 1},
                                                    {"transaction.version", 0, 2}};
    static int32_t alone[] = {1}, both[] = {2, 1};
    memset(p, 0, sizeof(*p));
    assert(mem_init(&p->mem, 256u << 20) == 0);
    assert(config_parse(&p->config, &p->mem, "test", text, sizeof(text) - 1, NULL, 0) == 0);
    trace_init(&p->trace, pure_say, NULL, &p->wall_ms);
    metadata_init(&p->md, &p->mem, &p->config);
    arena_init(&p->arena, &p->mem, 64u << 20);
    arena_init(&p->scratch, &p->mem, 64u << 20);
    record_list_init(&p->records, &p->scratch);
    p->dirs[0] = pure_id(201);
    p->dirs[1] = pure_id(202);
    p->seed = 1;
    pure_feature(p, FEATURE_METADATA_VERSION, 30);
    pure_feature(p, FEATURE_ELR, 1);
    pure_feature(p, "group.version", 1);
    pure_config(p, RESOURCE_BROKER, "", "min.insync.replicas", "1");
    pure_broker(p, 1, false);
    pure_broker(p, 2, true);
    pure_topic(p, "a.b", 1);
    pure_partition(p, 1, 0, alone, 1, 1);
    pure_topic(p, "p", 2);
    pure_partition(p, 2, 1, alone, 1, 1); /* in no particular order */
    pure_partition(p, 2, 0, alone, 1, 1);
    pure_topic(p, "q", 3);
    pure_partition(p, 3, 0, both, 2, 2);
    assert(pure_replay(p) == 0);
    p->view = (struct controller){.md = &p->md,
                                  .node = &p->config,
                                  .trace = &p->trace,
                                  .broker_id = 1,
                                  .dir_ids = p->dirs,
                                  .dir_loads = p->loads,
                                  .dirs_count = 2,
                                  .served = served,
                                  .served_count = 2,
                                  .cluster_id = "c",
                                  .leader_epoch = 1,
                                  .end_offset = 1000,
                                  .entropy = pure_entropy,
                                  .entropy_context = p};
}

static inline void pure_end(struct pure *p)
{
    arena_release(&p->arena);
    arena_release(&p->scratch);
    metadata_destroy(&p->md);
    config_destroy(&p->config);
    assert(p->mem.used_bytes == 0);
    mem_destroy(&p->mem);
}

/* A step; its records are in p->step.records until the next. */
static inline bool pure_step(struct pure *p, int16_t api_key, int16_t version, const void *request,
                             void *response)
{
    arena_release(&p->arena);
    arena_release(&p->scratch);
    p->step = (struct step){
        .c = &p->view, .version = version, .arena = &p->arena, .scratch = &p->scratch};
    return controller_step(&p->step, api_key, request, response);
}

/* Makes the last step's records real. */
static inline int pure_commit(struct pure *p)
{
    p->records = p->step.records;
    return pure_replay(p);
}

#endif
