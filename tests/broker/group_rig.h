/* A shard of groups without a broker around it: virtual time, calls made of plain words, and the
 * log that its records would have become, which a second shard can be loaded from. */
#ifndef TESTS_BROKER_GROUP_RIG_H
#define TESTS_BROKER_GROUP_RIG_H

#include "broker/group/group.h"
#include "proto/gen/consumer_group_describe.h"
#include "proto/gen/consumer_group_heartbeat.h"
#include "proto/gen/delete_groups.h"
#include "proto/gen/describe_groups.h"
#include "proto/gen/heartbeat.h"
#include "proto/gen/join_group.h"
#include "proto/gen/leave_group.h"
#include "proto/gen/list_groups.h"
#include "proto/gen/offset_commit.h"
#include "proto/gen/offset_delete.h"
#include "proto/gen/offset_fetch.h"
#include "proto/gen/sync_group.h"

#ifndef RIG_RECORDS_MAX
#define RIG_RECORDS_MAX 65536
#endif
#define RIG_TOPICS_MAX 64

struct rig_record {
    uint8_t *key, *value; /* value NULL: a tombstone */
    uint32_t key_size, value_size;
};

struct rig_topic { /* of the metadata; sorted by name */
    char name[64];
    struct uuid id;
    uint32_t partitions_count;
};

struct group_rig {
    struct mem mem; /* of the shard, and of nothing else */
    struct mem test_mem;
    struct arena arena;
    struct wheel wheel;
    uint64_t now_ns, random;
    int64_t wall_ms;
    struct broker_config config;
    struct group_world world;
    struct rig_topic topics[RIG_TOPICS_MAX];
    uint32_t topics_count, topics_made;
    int64_t metadata_version;
    int32_t settings[GROUP_SETTINGS];
    struct group_shard shard;
    struct rig_record log[RIG_RECORDS_MAX];
    uint32_t log_count;
    bool taken_in_txn; /* of the newest records */
    int64_t taken_producer_id;
};

struct rig_call {
    struct group_call call;
    bool answered;
    union {
        struct join_group_request join;
        struct sync_group_request sync;
        struct heartbeat_request heartbeat;
        struct leave_group_request leave;
        struct offset_commit_request commit;
        struct offset_fetch_request_group fetch;
        struct offset_delete_request offset_delete;
        struct list_groups_request list;
        struct consumer_group_heartbeat_request beat;
        struct wire_string group;
    } ask;
    union {
        struct join_group_response join;
        struct sync_group_response sync;
        struct heartbeat_response heartbeat;
        struct leave_group_response leave;
        struct offset_commit_response commit;
        struct offset_fetch_response_group fetch;
        struct offset_delete_response offset_delete;
        struct describe_groups_response_described_group describe;
        struct list_groups_response list;
        struct delete_groups_response_deletable_group_result delete;
        struct consumer_group_heartbeat_response beat;
        struct consumer_group_describe_response_described_group consumers;
    } tell;
};

/* Kafka's defaults, but no initial delay and sessions from 1 ms; loaded and empty. */
void rig_init(struct group_rig *r);
/* Closes the shard; nothing of it may be left. */
void rig_end(struct group_rig *r);
/* A second shard in a rig of its own, loaded from the first one's log. */
void rig_load(struct group_rig *r, const struct group_rig *from);
void rig_pass(struct group_rig *r, int32_t ms);

/* The metadata: a topic comes, grows (made anew with more partitions), or goes; the shard is told.
 */
void rig_topic(struct group_rig *r, const char *name, uint32_t partitions);
void rig_topic_gone(struct group_rig *r, const char *name);

/* "range=abc,roundrobin=x": protocols with their metadata; NULL: "range=m". */
struct rig_call *rig_join(struct group_rig *r, const char *group, const char *member,
                          const char *instance, int16_t version, const char *protocols);
struct rig_call *rig_join_for(struct group_rig *r, const char *group, const char *member,
                              const char *instance, int16_t version, const char *protocols,
                              int32_t session_ms, int32_t rebalance_ms);
/* Assignments as "member=bytes" pairs, ended by NULL. */
struct rig_call *rig_sync(struct group_rig *r, const char *group, const char *member,
                          int32_t generation, const char *const *assignments);
int16_t rig_heartbeat(struct group_rig *r, const char *group, const char *member,
                      const char *instance, int32_t generation);
/* Of one member; the member's code. */
int16_t rig_leave(struct group_rig *r, const char *group, const char *member, const char *instance);
/* One partition; the partition's code. */
int16_t rig_commit(struct group_rig *r, const char *group, const char *member, int32_t generation,
                   const char *topic, int32_t partition, int64_t offset, const char *metadata);
struct rig_call *rig_commit_with(struct group_rig *r, struct offset_commit_request *request,
                                 int16_t version);
/* One partition's offset, -1 if there is none. */
int64_t rig_offset(struct group_rig *r, const char *group, const char *topic, int32_t partition);
struct rig_call *rig_fetch_all(struct group_rig *r, const char *group);
int16_t rig_offset_delete(struct group_rig *r, const char *group, const char *topic,
                          int32_t partition);
struct rig_call *rig_describe(struct group_rig *r, const char *group, int16_t version);
struct rig_call *rig_list(struct group_rig *r, const char *state, const char *type);
int16_t rig_delete(struct group_rig *r, const char *group);
/* The group's state by name, "Dead" if there is none. */
const char *rig_state(struct group_rig *r, const char *group);
/* A group of one dynamic member in its first generation, stable; its member id. */
const char *rig_stable(struct group_rig *r, const char *group, const char *protocols);

/* Terminated copy, for comparisons. */
const char *rig_text(struct group_rig *r, struct wire_string s);
const char *rig_bytes(struct group_rig *r, struct wire_bytes b);
/* The subscription of a consumer to one topic, for rig_join's protocols. */
struct wire_bytes rig_subscription(struct group_rig *r, const char *topic);
void rig_call(struct group_rig *r, struct rig_call *c);
struct rig_call *rig_make(struct group_rig *r, enum group_call_kind kind, int16_t version);

#endif
