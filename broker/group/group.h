/* broker/group is what consumer groups mean: who is a member, which generation it is, what is
 * assigned to whom, and how far the group has read. It is pure: no socket, no file, no clock of its
 * own. One struct group_shard is one partition of __consumer_offsets; all groups whose id hashes to
 * that partition live in it, on the core that owns the partition.
 *
 *   struct group_call ─▶ group_shard_call ─▶ update: records to append, calls that are answered
 *   a timer fires ─────▶ (the same steps) ─▶ update, told through shard.changed
 *   a record of the log ─▶ group_shard_replay ─▶ the same state again
 *
 * State changes at once; records and answers gather in shard.update. Whoever drives the shard takes
 * both, appends the records, and lets the answers go when they are durable. Nothing that a client
 * was told can then be forgotten. Formats, names and rules are Kafka 4.3's group coordinator. */
#ifndef BROKER_GROUP_GROUP_H
#define BROKER_GROUP_GROUP_H

#include "broker/config/config.h"
#include "broker/shard.h"
#include "core/core.h"
#include "core/list.h"
#include "core/map.h"
#include "core/mem.h"
#include "core/timer.h"
#include "proto/batch.h"
#include "proto/error.h"
#include "proto/wire.h"

#define GROUP_TOPIC "__consumer_offsets"
/* How long somebody who joins for the first time may be held: it has no member id yet and cannot
 * send heartbeats (GroupMetadataManager, new member join timeout). */
#define GROUP_NEW_MEMBER_JOIN_MS (5 * 60 * 1000)

/* The partition of the offsets topic that holds a group: Java's String.hashCode of the id over its
 * UTF-16 code units, without sign, modulo partitions. */
int32_t group_partition(struct wire_string group_id, uint32_t partitions_count);

/* ---- what a shard knows of the world --------------------------------------------------------- */

struct group_topic_facts { /* views, good until the step ends */
    struct uuid id;
    struct wire_string name;
    uint32_t partitions_count;
    const void *topic; /* the driver's own */
};

enum group_setting { /* of a group, in ms: its own if it has one, else the broker's */
                     GROUP_SESSION_TIMEOUT,
                     GROUP_HEARTBEAT_INTERVAL,
                     GROUP_ASSIGNMENT_INTERVAL,
                     GROUP_SETTINGS
};

/* The metadata and the configuration, as consumer groups need them. A step sees one state of it. */
struct group_world {
    void *context;
    bool (*topic_by_name)(void *context, struct wire_string name, struct group_topic_facts *t);
    bool (*topic_by_id)(void *context, struct uuid id, struct group_topic_facts *t);
    /* The first topic whose name comes after (null: of all), by the bytes of the names. */
    bool (*topic_after)(void *context, struct wire_string name, struct group_topic_facts *t);
    /* Racks of the brokers that have a partition, at most max; those without one are left out. */
    uint32_t (*racks)(void *context, const struct group_topic_facts *t, uint32_t partition,
                      struct wire_string *racks, uint32_t max);
    int32_t (*setting)(void *context, struct wire_string group, enum group_setting setting);
    int64_t (*version)(void *context); /* of the metadata: its offset */
};

/* ---- calls ----------------------------------------------------------------------------------- */

/* request and response are generated structs. What a kind needs before it is called is said here;
 * the response may be anything, it is set up by the step unless noted. */
enum group_call_kind {
    GROUP_JOIN,          /* join_group */
    GROUP_SYNC,          /* sync_group */
    GROUP_HEARTBEAT,     /* heartbeat */
    GROUP_LEAVE,         /* leave_group, always with `members` (the caller makes one of v0-2) */
    GROUP_COMMIT,        /* offset_commit, names filled in; response prepared: an entry for each of
                            the request, error_code set where the caller refuses it */
    GROUP_TXN_COMMIT,    /* txn_offset_commit; response prepared as for GROUP_COMMIT. That the
                            transaction is open is the driver's to check, see txn_guard */
    GROUP_FETCH,         /* offset_fetch_request_group -> offset_fetch_response_group, names filled
                            in; ids are the caller's to put into the answer */
    GROUP_OFFSET_DELETE, /* offset_delete; response prepared as for GROUP_COMMIT */
    GROUP_DESCRIBE,      /* wire_string -> describe_groups_response_described_group */
    GROUP_LIST,          /* list_groups; the groups are added to what is in the response */
    GROUP_DELETE,        /* wire_string -> delete_groups_response_deletable_group_result */
    GROUP_CONSUMER_HEARTBEAT, /* consumer_group_heartbeat */
    GROUP_CONSUMER_DESCRIBE,  /* wire_string -> consumer_group_describe_response_described_group */
    GROUP_CALL_KINDS
};

/* One thing asked of one group (or of all of a shard: GROUP_LIST). It belongs to who asks, and is
 * lent until it stands in update.answered. Joins and syncs may be held for long. */
struct group_call {
    struct list link; /* the shard's, and then the driver's */
    enum group_call_kind kind;
    int16_t version;     /* of the api */
    bool require_stable; /* GROUP_FETCH: of the request */
    struct wire_string client_id, client_host;
    const void *request;
    void *response;
    struct arena *arena;         /* for the arrays and texts of the response */
    struct group_member *member; /* held by it; NULL: not held */
    const char *why;             /* of a refusal; NULL: the error's own text */
    /* GROUP_TXN_COMMIT. out: answered without effect, because the transaction's coordinator must be
     * asked first; then the call is made again, verified and with this guard. */
    bool unverified, verified;
    uint64_t txn_guard;
};

/* What is wrong with a call whatever the groups are; KE_NONE: ask the shard. */
enum kafka_error group_call_check(const struct broker_config *config, struct group_call *call);
/* Makes the response one that says nothing but the error, as Kafka words it for each kind. */
void group_call_refuse(struct group_call *call, enum kafka_error error);

/* ---- the shard ------------------------------------------------------------------------------- */

struct group_shard {
    /* set by who makes it */
    struct mem *mem;
    struct wheel *wheel;
    const uint64_t *now_ns; /* monotonic */
    const int64_t *wall_ms;
    const struct broker_config *config;
    const struct group_world *world;
    uint32_t batch_bytes_max; /* what one batch may have: max.message.bytes of the topic */
    uint64_t (*random)(void *context);
    void (*changed)(struct group_shard *s); /* a timer has left something in update */
    void *context;
    /* its own */
    struct map groups;          /* by id */
    struct list all;            /* the same, oldest first */
    struct shard_update update; /* answered: struct group_call */
    struct timer expiry;        /* offsets.retention.check.interval.ms */
    struct list transactions;   /* commits that wait for the end of their transaction */
    int64_t next_record;        /* where the next one stands: in the log while it is replayed, and
                                   from there on counted, so that later ones have higher numbers */
    int64_t topics_version;     /* of the metadata when topics came last; 0: not known */
    uint64_t records_lost;      /* that could not be made, where the group can go on without */
    bool loaded;
};

/* The fields above `groups` are set. Nothing is allocated yet. */
void group_shard_init(struct group_shard *s, uint64_t seed);
/* One record of the log, in order, before group_shard_loaded. What is unknown (other kinds of
 * groups) is passed over. producer_id -1: not in a transaction. false: no memory. */
NODISCARD bool group_shard_replay(struct group_shard *s, int64_t offset, int64_t producer_id,
                                  struct batch_field key, struct batch_field value);
/* The end of a transaction in the log. false: no memory. */
NODISCARD bool group_shard_replay_end(struct group_shard *s, int64_t producer_id, bool commit);
/* The same while it is live: the marker is in the log, behind everything made before. */
NODISCARD bool group_shard_end_transaction(struct group_shard *s, int64_t producer_id, bool commit);
/* Everything is replayed: timers run from now on, calls may come. May leave an update. */
void group_shard_loaded(struct group_shard *s);
/* A step. The call is answered when it stands in update.answered, now or later. */
void group_shard_call(struct group_shard *s, struct group_call *call);
/* Who asked does not wait any more: a call that is held is answered (with nothing that matters);
 * the group goes on as if it were still there, as Kafka does. */
void group_shard_abandon(struct group_shard *s, struct group_call *call);
/* These partitions of a topic are gone (all of it: from 0): their offsets go too. */
void group_shard_topic_deleted(struct group_shard *s, struct wire_string topic,
                               int32_t first_partition);
/* A topic has come, changed or gone: groups that subscribe to it look again, and if topics have
 * come, patterns are matched again. */
void group_shard_topic_changed(struct group_shard *s, struct wire_string topic, bool created);
/* All held calls are answered with the error, then everything is freed. update.answered is left to
 * be taken; its records are dropped. */
void group_shard_close(struct group_shard *s, enum kafka_error error);

#endif
