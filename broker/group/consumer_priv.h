/* What the files about consumer groups (KIP-848) share: the group, its members, what they subscribe
 * to, and which partitions they have, should have and give up.
 *
 *   struct group ──▶ struct consumer_group ──▶ struct consumer (a member)
 *   its id, its      epochs, who owns which     what it told us, its epoch and state,
 *   offsets          partition, patterns        partitions: assigned, revoking, target
 *
 * A struct group that has one of these is a consumer group, any other one a classic group. */
#ifndef BROKER_GROUP_CONSUMER_PRIV_H
#define BROKER_GROUP_CONSUMER_PRIV_H

#include "broker/group/group_priv.h"
#include "proto/gen/consumer_group_heartbeat.h"
#include "proto/gen/record_consumer_group.h"
#include "proto/gen/record_consumer_protocol.h"

#define CONSUMER_LEAVES        (-1) /* member epochs with a meaning of their own */
#define CONSUMER_LEAVES_STATIC (-2)

/* ---- part_set.c: sets of partitions ---------------------------------------------------------- */

struct part {
    struct uuid topic;
    int32_t index;
    int32_t epoch; /* in which it was assigned; 0 in targets */
};

struct part_set { /* sorted by topic, then index; each partition once */
    struct part *list;
    uint32_t count;
};

int part_order(const void *a, const void *b);
/* Sorts, and keeps the first of equals. */
void part_set_order(struct part_set *s);
const struct part *part_set_find(const struct part_set *s, struct uuid topic, int32_t index);
/* The same partitions, and with epochs if asked for. */
bool part_set_same(const struct part_set *a, const struct part_set *b);
bool part_set_same_epochs(const struct part_set *a, const struct part_set *b);
/* An owned copy; false: no memory, and *to is empty. */
NODISCARD bool part_set_own(struct mem *mem, struct part_set *to, const struct part_set *from);
void part_set_disown(struct mem *mem, struct part_set *s);
/* How many of the list beginning at `from` are of its topic. */
uint32_t part_set_run(const struct part_set *s, uint32_t from);

/* ---- members --------------------------------------------------------------------------------- */

enum consumer_state { /* as numbered in records */
                      CONSUMER_STABLE = 0,
                      CONSUMER_UNREVOKED = 1,  /* has not given up yet what it must */
                      CONSUMER_UNRELEASED = 2, /* waits for what others have not given up yet */
};

struct consumer_classic { /* of a member that speaks JoinGroup and SyncGroup */
    struct consumer *of;
    int32_t session_timeout_ms;
    struct group_protocols protocols;
    struct timer join, sync; /* to join again; to ask what it has */
};

struct consumer {
    struct list link; /* consumer_group.members, in the order they came */
    struct consumer_group *of;
    struct wire_string id, instance_id, rack_id, client_id, client_host;
    struct wire_string pattern;  /* subscription by pattern; null or empty: none */
    struct wire_string assignor; /* null: the group's choice */
    struct name_set topics;
    struct consumer_classic *classic; /* NULL: speaks the consumer protocol */
    int32_t rebalance_timeout_ms;
    int32_t epoch, previous_epoch;
    uint8_t state;
    bool has_target; /* on record, be it empty */
    struct part_set assigned, revoking, target;
    struct timer session, rebalance; /* to be heard of; to have given up */
};

/* A name that some member subscribes to. */
struct consumer_topic {
    struct list link;
    struct wire_string name;
    uint32_t by_name, by_pattern; /* members; resolved patterns */
};

/* A pattern that some member subscribes to, or that is known from the log. */
struct consumer_pattern {
    struct list link;
    struct wire_string text;
    uint32_t members;
    bool resolved;
    struct name_set topics;
    int64_t version, timestamp_ms; /* metadata offset and wall time of the resolution */
    uint32_t round;                /* in which it was looked at last */
};

/* Who has each partition of a topic. */
struct consumer_owned {
    struct uuid topic;
    struct consumer **owners; /* by partition */
    uint32_t room, count;
};

struct consumer_group {
    struct group *group;
    int32_t epoch, target_epoch;
    int64_t hash;      /* of the metadata of what is subscribed to */
    int64_t target_ms; /* wall time of the target; 0: unknown */
    struct list members;
    struct map by_id, by_instance;
    uint32_t count, classic_count;
    struct list topics;
    struct map topics_by_name;
    struct list patterns;
    struct map patterns_by_text;
    struct map owned_by_topic;
    int64_t refresh_ms; /* wall; the metadata is to be looked at again then */
    int32_t refresh_epoch;
    bool bump_due;        /* a member has gone, and the epoch could not be recorded yet */
    bool old_metadata;    /* a record of kind 4 is in the log, of Kafka 4.0 or older */
    struct timer resolve; /* armed: patterns are being resolved */
    struct consumer_resolving *resolving; /* consumer_pattern.c; NULL: nothing is under way */
    uint32_t rounds;
};

/* ---- consumer_group.c: the table ------------------------------------------------------------- */

/* NULL: no memory. The group is one from here on; a classic group must have been stripped, or is
 * about to be. */
struct consumer_group *consumers_make(struct group *g);
void consumers_free(struct group *g);
struct consumer *consumer_find(const struct consumer_group *cg, struct wire_string id);
struct consumer *consumer_static(const struct consumer_group *cg, struct wire_string instance_id);
const char *consumers_state(const struct consumer_group *cg);
bool consumer_reconciled(const struct consumer *c);
/* NULL: nobody. */
struct consumer *consumers_owner(const struct consumer_group *cg, struct uuid topic, int32_t index);
bool consumers_subscribe(const struct consumer_group *cg, struct wire_string topic);
/* Does the member, by name or by a resolved pattern? */
bool consumer_subscribes(const struct consumer *c, struct wire_string topic);
bool consumers_all_alike(const struct consumer_group *cg);
struct consumer_pattern *consumers_pattern(const struct consumer_group *cg,
                                           struct wire_string text);
/* The assignor most members ask for, or the broker's first. */
struct wire_string consumers_assignor(const struct consumer_group *cg);
/* What the record of a member that has said nothing says. */
void consumer_told_nothing(struct consumer_group_member_metadata_value *v);
/* What a member's record says of it, as views. false: no memory. */
NODISCARD bool consumer_told(const struct consumer *c, struct arena *arena,
                             struct consumer_group_member_metadata_value *v);
bool consumer_same(const struct consumer *c, const struct consumer_group_member_metadata_value *v);
/* c NULL: one without any. The names are sorted. */
bool consumer_has_topics(const struct consumer *c, const struct wire_string *names, int32_t count);

/* What a record says, put into memory: used by replay, and by the steps below after they have made
 * the record. false: no memory, nothing has changed. */
NODISCARD bool consumer_apply(struct consumer_group *cg, struct wire_string id,
                              const struct consumer_group_member_metadata_value *v);
NODISCARD bool consumer_apply_target(struct consumer *c, const struct part_set *target);
struct consumer_now { /* what a member has */
    int32_t epoch, previous_epoch;
    uint8_t state;
    struct part_set assigned, revoking;
};
NODISCARD bool consumer_apply_now(struct consumer *c, const struct consumer_now *now);
NODISCARD bool consumers_apply_pattern(struct consumer_group *cg, struct wire_string text,
                                       const struct consumer_group_regular_expression_value *v);
void consumers_drop_pattern(struct consumer_group *cg, struct wire_string text);
void consumer_drop(struct consumer *c);
/* Under another id; false: no memory. Timers begin anew. */
NODISCARD bool consumer_apply_rename(struct consumer *c, struct wire_string id);

/* ---- consumer_record.c: each makes its record and puts it into memory ------------------------ */

/* KE_NONE; else nothing has changed (codes as in record.c). */
NODISCARD enum kafka_error consumer_put(struct consumer_group *cg, struct wire_string id,
                                        const struct consumer_group_member_metadata_value *v);
NODISCARD enum kafka_error consumer_put_target(struct consumer *c, const struct part_set *target);
NODISCARD enum kafka_error consumer_put_now(struct consumer *c, const struct consumer_now *now);
NODISCARD enum kafka_error consumers_put_epoch(struct consumer_group *cg, int32_t epoch,
                                               int64_t hash);
NODISCARD enum kafka_error consumers_put_target_epoch(struct consumer_group *cg, int32_t epoch,
                                                      int64_t at_ms);
NODISCARD enum kafka_error
consumers_put_pattern(struct consumer_group *cg, struct wire_string text,
                      const struct consumer_group_regular_expression_value *v);
NODISCARD enum kafka_error consumers_forget_pattern(struct consumer_group *cg,
                                                    struct wire_string text);
NODISCARD enum kafka_error consumers_forget_old_metadata(struct consumer_group *cg);
/* A static member comes back under another id: it keeps its place, and begins at epoch 0. */
NODISCARD enum kafka_error consumer_rename(struct consumer *c, struct wire_string id);
/* Its three tombstones, and it is gone. */
NODISCARD enum kafka_error consumer_forget(struct consumer *c);
/* Tombstones for all that is on record; memory stays. */
NODISCARD enum kafka_error consumers_record_gone(struct consumer_group *cg);
/* One record of the log, its key read up to the kind. false: no memory. */
NODISCARD bool consumers_replay(struct group_shard *s, int16_t kind, struct wire_reader *key,
                                struct batch_field value);

/* ---- consumer_hash.c ------------------------------------------------------------------------- */

/* As Kafka's, so that neither finds a change where there is none. false: no memory. */
NODISCARD bool consumers_hash(const struct consumer_group *cg, int64_t *hash);

/* ---- consumer_target.c, consumer_reconcile.c: what members should have, and have ------------- */

/* A new target if the group's epoch asks for one and it is time. */
NODISCARD enum kafka_error consumers_target(struct consumer_group *cg);
/* One step of a member towards the target. owned: what it says it has, NULL if it does not say. */
NODISCARD enum kafka_error consumer_reconcile(struct consumer *c, const struct part_set *owned,
                                              bool subscription_changed);

/* ---- consumer_heartbeat.c -------------------------------------------------------------------- */

void consumer_heartbeat(struct group_shard *s, struct group_call *call);
/* Looks at the metadata if it is time to, bumps the epoch if asked to or if it has changed. */
NODISCARD enum kafka_error consumers_refresh(struct consumer_group *cg, bool bump);
/* The members go (timers, leaving); the group may become a classic one, and then is not a consumer
 * group any more. */
NODISCARD enum kafka_error consumers_fence(struct consumer_group *cg, struct consumer **gone,
                                           uint32_t count);
void consumer_beat(struct consumer *c);
void consumer_timers_init(struct consumer *c);
void consumer_classic_init(struct consumer_classic *c);
void consumer_classic_cancel(struct wheel *wheel, struct consumer_classic *c);
void consumer_timers_cancel(struct consumer *c);
void consumers_loaded(struct group *g);

/* ---- consumer_pattern.c: subscriptions by pattern -------------------------------------------- */

/* Is it a pattern? If not, why. Memory that is needed meanwhile is the arena's. */
bool pattern_check(struct arena *arena, struct wire_string text, const char **why);

void consumers_resolve_fired(struct timer *t);
/* What is under way is given up. */
void consumers_resolve_end(struct consumer_group *cg);
/* After a heartbeat: starts a resolution where one is due. */
void consumers_maybe_resolve(struct consumer_group *cg, bool now);

/* ---- consumer_classic.c: members that speak the classic protocol ----------------------------- */

void consumers_join(struct group *g, struct group_call *call);
void consumers_sync(struct group *g, struct group_call *call);
void consumers_classic_heartbeat(struct group *g, struct group_call *call);
void consumers_leave(struct group *g, struct group_call *call);

/* ---- convert.c: from a classic group and back ------------------------------------------------ */

/* KE_NONE: it may; else GROUP_ID_NOT_FOUND and why. */
NODISCARD enum kafka_error convert_check_up(const struct group *g, const char **why);
/* The classic group becomes a consumer group. */
NODISCARD enum kafka_error convert_up(struct group *g);
bool convert_may_go_down(const struct consumer_group *cg, struct consumer **gone, uint32_t count);
/* All but those that go (NULL: none) stay, as a classic group. */
NODISCARD enum kafka_error convert_down(struct consumer_group *cg, struct consumer **gone,
                                        uint32_t count, bool rebalance);

/* An empty consumer group becomes a classic one; false: it is not one, or cannot now. */
bool convert_to_classic_if_empty(struct group *g);
bool classic_subscription(struct arena *arena, struct wire_bytes metadata,
                          struct consumer_protocol_subscription *to);
/* Of the protocol in force, or of its first. */
struct wire_bytes converted_metadata(const struct group_member *m);
/* Partitions by name; those that are not there are left out. false: no memory. */
NODISCARD bool parts_by_name(struct group_shard *s, const struct consumer_protocol_assignment *a,
                             int32_t epoch, struct part_set *to);
/* In update.arena, with its version in front, that of the member's metadata; null: no memory. */
struct wire_bytes assignment_bytes(struct group_shard *s, const struct part_set *set,
                                   struct wire_bytes metadata);

/* ---- consumer_describe.c: before, after and beside the steps --------------------------------- */

/* What is wrong with a heartbeat whatever the groups are; call->why says it in words. */
NODISCARD enum kafka_error consumer_check(const struct broker_config *config,
                                          struct group_call *call);
/* An answer of the two kinds that says nothing but the error. */
void consumer_refuse(struct group_call *call, enum kafka_error error);

void consumers_describe(struct group_shard *s, struct group_call *call);

/* KE_NONE: this commit may be made. stale: it is of an older epoch, each partition is asked about
 * with consumer_commits. */
NODISCARD enum kafka_error consumers_check_commit(const struct consumer_group *cg,
                                                  struct wire_string id, int32_t epoch,
                                                  int16_t version, bool *stale);
enum kafka_error consumer_commits(const struct consumer *c, struct uuid topic, int32_t index,
                                  int32_t epoch);
/* member id null and epoch -1: anybody may. */
NODISCARD enum kafka_error consumers_check_fetch(const struct consumer_group *cg,
                                                 struct wire_string id, int32_t epoch);

#endif
