/* What the files of broker/group share: the group, its members and its offsets. */
#ifndef BROKER_GROUP_GROUP_PRIV_H
#define BROKER_GROUP_GROUP_PRIV_H

#include "broker/group/group.h"
#include "core/stage.h"
#include "proto/gen/join_group.h"
#include "proto/gen/record_classic_group.h"

/*   EMPTY ─▶ PREPARING ─▶ COMPLETING ─▶ STABLE       A group that is Dead is not in the shard.
 *     ▲          │  ▲          │           │
 *     └──────────┘  └──────────┴───────────┘ */
enum group_state { GROUP_EMPTY, GROUP_PREPARING, GROUP_COMPLETING, GROUP_STABLE, GROUP_STATES };

struct name_set { /* sorted, each name once; in one block */
    struct wire_string *list;
    uint32_t count;
    size_t size;
};

struct group_protocol {
    struct wire_string name;
    struct wire_bytes metadata;
};

struct group_protocols { /* in one block */
    struct group_protocol *list;
    uint32_t count;
    size_t size;
};

struct group_member {
    struct list link; /* group.members, in the order they came */
    struct group *group;
    struct wire_string id, client_id, client_host;
    struct wire_string instance_id; /* null: dynamic */
    struct group_protocols protocols;
    struct wire_bytes assignment;
    struct wire_bytes staged; /* assignment that is not yet in force */
    int32_t rebalance_timeout_ms, session_timeout_ms;
    struct group_call *join, *sync; /* held; NULL while awaiting: who asked is gone */
    bool awaiting_join, awaiting_sync;
    bool is_new;       /* joins for the first time */
    bool pending_sync; /* has not asked for its assignment of this generation */
    struct timer heartbeat;
};

struct group_pending { /* was given a member id and has not come back with it */
    struct list link;
    struct group *group;
    struct wire_string id;
    struct timer timer;
};

struct group_offset {
    int32_t partition;
    int32_t leader_epoch;
    int64_t offset;
    int64_t commit_ms;
    int64_t expire_ms; /* -1: by offsets.retention.minutes */
    int64_t record;    /* group_shard.next_record when it was made */
    struct wire_string metadata;
    struct uuid topic_id; /* zero: not known */
    struct wire_string staged;
    bool live; /* false: room was made for it */
};

struct group_topic {
    struct list link;
    struct wire_string name;
    struct group_offset *offsets; /* sorted by partition */
    uint32_t offsets_count, offsets_room;
};

struct consumer_group;

struct group {
    struct list link; /* shard.all */
    struct group_shard *shard;
    struct wire_string id;
    struct state state;
    bool initial;      /* PREPARING came from EMPTY: others are given time to come */
    bool member_added; /* during the initial delay */
    bool subscribed_known;
    int32_t generation;
    int64_t state_since_ms;           /* wall; -1: unknown */
    struct wire_string protocol_type; /* null: never had members (simple) */
    struct wire_string protocol_name; /* of this generation; null: none */
    struct list members;
    struct map by_id, by_instance;
    uint32_t members_count, awaiting_join_count, pending_sync_count, pending_count;
    struct group_member *leader;
    struct list pending;
    struct timer join; /* of PREPARING */
    int32_t join_delay_ms, join_remaining_ms;
    struct timer sync;          /* of COMPLETING: members that never ask for their assignment */
    struct name_set subscribed; /* topics of this generation, if subscribed_known */
    struct consumer_group *consumers; /* of a consumer group; NULL: a classic one */
    struct list topics;               /* struct group_topic: what was committed */
    struct map topics_by_name;
};

static inline uint64_t ms_later(const struct group_shard *s, int32_t ms)
{
    uint64_t wait = ms > 0 ? (uint32_t)ms : 0;
    return *s->now_ns + wait * NS_PER_MS;
}

/* ---- text.c: owned strings; false: no memory ---- */
NODISCARD bool own_string(struct mem *mem, struct wire_string *to, struct wire_string from);
NODISCARD bool own_bytes(struct mem *mem, struct wire_bytes *to, struct wire_bytes from);
void disown_string(struct mem *mem, struct wire_string *s);
void disown_bytes(struct mem *mem, struct wire_bytes *b);
/* Copies for an answer; when the arena is full the call is refused in call_answered. */
struct wire_string call_string(struct group_call *call, struct wire_string s);
struct wire_bytes call_bytes(struct group_call *call, struct wire_bytes b);
/* The response is complete. */
void call_answered(struct group_shard *s, struct group_call *call);
/* Refused and answered. */
void call_refused(struct group_shard *s, struct group_call *call, enum kafka_error error);
/* Length of a UTF-8 text as Java counts it: in UTF-16 code units. */
uint32_t utf16_length(struct wire_string s);

/* ---- name_set.c ---- */
/* Sorted, each once; NULL: no memory. */
struct wire_string *names_sorted(struct arena *arena, const struct wire_string *names,
                                 int32_t *count);
NODISCARD bool name_set_own(struct mem *mem, struct name_set *to, const struct wire_string *names,
                            int32_t count);
void name_set_disown(struct mem *mem, struct name_set *s);
bool name_set_has(const struct name_set *s, struct wire_string name);
bool name_set_same(const struct name_set *a, const struct name_set *b);

/* A random UUID in Java's spelling; null: no memory. */
struct wire_string make_uuid_text(struct group_shard *s, struct arena *arena);
/* The same as Kafka spells its own ids: of members of consumer groups. */
struct wire_string make_member_name(struct group_shard *s, struct arena *arena);

/* ---- shard.c ---- */
struct group *shard_find(const struct group_shard *s, struct wire_string id);
/* NULL: no memory. Empty, generation 0. */
struct group *shard_create(struct group_shard *s, struct wire_string id);
/* The same for a request, which gets none of the last of the memory. */
struct group *shard_admit(struct group_shard *s, struct wire_string id);
/* Frees it; who is held is answered with UNKNOWN_MEMBER_ID. */
void shard_remove(struct group *g);
/* All members go, whoever waits is told UNKNOWN_MEMBER_ID; and all ids that were given out. */
void group_clear_members(struct group *g);
const char *group_state_name(const struct group *g);
/* Of either type. */
bool group_has_members(const struct group *g);
const char *group_any_state_name(const struct group *g);
void group_move(struct group *g, enum group_state state);
static inline bool group_is(const struct group *g, enum group_state state)
{
    return g->state.now == state;
}

/* ---- member.c: who is in a group ---- */
NODISCARD bool protocols_copy(struct mem *mem, struct group_protocols *to,
                              const struct join_group_request_protocol *from, int32_t count);
void protocols_free(struct mem *mem, struct group_protocols *p);
bool protocols_same(const struct group_protocols *p, const struct join_group_request *r);
struct group_member *member_find(const struct group *g, struct wire_string id);
struct group_member *member_static(const struct group *g, struct wire_string instance_id);
/* Not in the group yet; NULL: no memory. protocols are taken over when it succeeds. */
struct group_member *member_create(struct group *g, struct wire_string id,
                                   struct wire_string instance_id, struct wire_string client_id,
                                   struct wire_string client_host,
                                   struct group_protocols *protocols);
void member_destroy(struct group_member *m);
/* false: no memory, and it is not in. The first one gives the group its protocol type and is its
 * leader. */
NODISCARD bool member_add(struct group_member *m, struct wire_string protocol_type);
/* Takes the place of another, static one, which is freed; false: no memory, nothing changed. */
NODISCARD bool member_replace(struct group_member *old, struct group_member *m);
/* Answers what it waits for with UNKNOWN_MEMBER_ID, finds another leader, frees it. */
void member_remove(struct group_member *m);
void member_set_protocols(struct group_member *m, struct group_protocols *protocols);
void member_await_join(struct group_member *m, struct group_call *call);
/* The call that waited, or NULL. */
struct group_call *member_end_join(struct group_member *m);
struct group_call *member_end_sync(struct group_member *m);
void member_clear_pending_sync(struct group_member *m);
/* KE_NONE, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID. */
enum kafka_error member_check(const struct group *g, struct wire_string id,
                              struct wire_string instance_id);
bool group_supports(const struct group *g, struct wire_string protocol_type,
                    const struct join_group_request_protocol *protocols, int32_t count);
/* By vote; null only for a group without members. */
struct wire_string group_select_protocol(const struct group *g);
bool group_all_joined(const struct group *g);
int32_t group_rebalance_timeout(const struct group *g);
/* Empty bytes when it does not support the group's protocol. */
struct wire_bytes member_metadata(const struct group_member *m);
/* What the members of this generation subscribe to, for those that speak "consumer". */
void group_note_subscriptions(struct group *g);
bool group_subscribes(const struct group *g, struct wire_string topic);
bool group_consumes(const struct group *g); /* protocol type "consumer" */
struct group_pending *pending_find(const struct group *g, struct wire_string id);
NODISCARD bool pending_add(struct group *g, struct wire_string id, uint64_t due_ns,
                           void (*fire)(struct timer *t));
void pending_remove(struct group_pending *p);

/* ---- classic.c: the rounds of a classic group ---- */
void classic_join(struct group_shard *s, struct group_call *call);
void classic_sync(struct group_shard *s, struct group_call *call);
void classic_heartbeat(struct group_shard *s, struct group_call *call);
void classic_leave(struct group_shard *s, struct group_call *call);
void classic_loaded(struct group *g);
void member_expired(struct timer *heartbeat);
void member_beat(struct group_member *m, int32_t timeout_ms);
/* rebalance.c */
void rebalance_prepare(struct group *g);
bool rebalance_allowed(const struct group *g);
void rebalance_or_complete(struct group *g);
void rebalance_maybe_complete(struct group *g);
void rebalance_complete(struct group *g);
void rebalance_member_gone(struct group *g);
void rebalance_timer_init(struct group *g);
/* Everyone who waits for an assignment gets it, or the error. */
void rebalance_propagate(struct group *g, enum kafka_error error);
void rebalance_reset(struct group *g, enum kafka_error error);
void rebalance_synced(struct group_member *m);
/* Answers a join with the present generation. */
void join_tell(struct group_member *m, struct group_call *call, bool with_members,
               bool skip_assignment);

/* ---- offset.c: how far groups have read ---- */
void offsets_commit(struct group_shard *s, struct group_call *call);
void offsets_fetch(struct group_shard *s, struct group_call *call);
void offsets_delete(struct group_shard *s, struct group_call *call);
/* Tombstones for all of a group's offsets, which are still there. false: no memory, none added. */
NODISCARD bool offsets_record_gone(struct group *g);
/* Tombstones for what has expired. true: nothing is left. */
bool offsets_expire(struct group *g);
void offsets_topic_deleted(struct group *g, struct wire_string topic, int32_t first_partition);
void offsets_free(struct group *g);
/* Replay. */
NODISCARD bool offsets_put(struct group *g, struct wire_string topic, int32_t partition,
                           int64_t record, const struct offset_commit_value *value);
bool offsets_metadata_too_long(const struct group_shard *s, struct wire_string metadata);
void offsets_drop(struct group *g, struct wire_string topic, int32_t partition);
/* Whether a request may commit for it: one more is not begun with the last of the memory. */
bool offsets_may_put(const struct group *g, struct wire_string topic, int32_t partition);
int64_t offsets_record(const struct group *g, struct wire_string topic, int32_t partition);

/* ---- transaction.c: commits of transactions that are still open ---- */
void transaction_commit(struct group_shard *s, struct group_call *call);
/* Tombstones for those of the group, as far as they are not there for its offsets. */
NODISCARD bool transaction_record_gone(struct group *g);
void transaction_drop_group(struct group *g);
void transaction_topic_deleted(struct group_shard *s, struct wire_string topic,
                               int32_t first_partition);
NODISCARD bool transaction_put(struct group_shard *s, int64_t producer_id, int64_t record,
                               const struct offset_commit_key *key,
                               const struct offset_commit_value *value);
void transaction_drop(struct group_shard *s, const struct offset_commit_key *key);
NODISCARD bool transaction_end(struct group_shard *s, int64_t producer_id, bool commit);
bool transaction_holds(const struct group_shard *s, struct wire_string group,
                       struct wire_string topic, int32_t partition);
bool transaction_holds_group(const struct group_shard *s, struct wire_string group);
void transaction_free(struct group_shard *s);

/* ---- record.c: what is written ---- */
/* Both encoded, or the value left out for a tombstone. Codes as below. */
NODISCARD enum kafka_error record_add(struct group_shard *s, struct batch_field key,
                                      struct batch_field value);
/* Key and value are encoded twice, to measure and to write; so as macros over generated names. */
#define RECORD_ENCODE(arena, field, prefix, name, message, version)                                \
    do {                                                                                           \
        struct wire_writer record_writer = {0};                                                    \
        name##_encode((message), &record_writer, (version));                                       \
        size_t record_size = 2 + (size_t)record_writer.position;                                   \
        uint8_t *record_bytes = arena_alloc((arena), record_size);                                 \
        if (record_bytes != NULL) {                                                                \
            wire_writer_init(&record_writer, record_bytes, record_size);                           \
            wire_put_int16(&record_writer, (prefix));                                              \
            name##_encode((message), &record_writer, (version));                                   \
            assert(wire_writer_ok(&record_writer));                                                \
            (field) = (struct batch_field){record_bytes, (uint32_t)record_size};                   \
        }                                                                                          \
    } while (0)
/* KE_NONE; COORDINATOR_NOT_AVAILABLE: no memory; UNKNOWN_SERVER_ERROR: too large for a batch. */
NODISCARD enum kafka_error record_offset(struct group *g, struct wire_string topic,
                                         int32_t partition,
                                         const struct offset_commit_value *value);
NODISCARD enum kafka_error record_offset_gone(struct group *g, struct wire_string topic,
                                              int32_t partition);
/* The group as it is, with its members' assignments. */
NODISCARD enum kafka_error record_group(struct group *g);
NODISCARD enum kafka_error record_group_gone(struct group *g);
/* Takes back what was added after there were `count` records. */
void record_rewind(struct group_shard *s, uint32_t count);

#endif
