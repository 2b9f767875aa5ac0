/* struct coordinator: what drives one shard, whatever lives in it. coordinator.c knows batches,
 * appends and loading; a struct coordinator_kind knows the shard. */
#ifndef BROKER_COORDINATOR_PRIV_H
#define BROKER_COORDINATOR_PRIV_H

#include "broker/coordinator.h"
#include "broker/data_core.h"

enum coordinator_state {
    COORDINATOR_LOADING,
    COORDINATOR_ACTIVE,
    COORDINATOR_FAILED,
    COORDINATOR_GONE,
    COORDINATOR_STATES
};

enum coordinator_topic { COORDINATOR_GROUPS, COORDINATOR_TXNS, COORDINATOR_TOPICS };

struct coordinator {
    const struct coordinator_kind *kind;
    struct list link; /* coordinators.all */
    struct list load; /* coordinators.loading */
    struct data_core *core;
    struct uuid topic_id;
    int32_t partition, leader_epoch;
    struct state state;
    struct shard_update *update; /* of the shard */
    uint32_t batch_bytes_max;    /* max.message.bytes of the topic */
    struct list batches;         /* oldest first; the first started_count are in the log's hands */
    uint32_t started_count;
    struct list held; /* calls that came while a batch waits for room */
    struct log_room_waiter room;
    bool waits_for_room;
    struct timer rest; /* the disk is full */
    struct log_read read;
    bool reading;
    int64_t load_at, load_end;
    uint32_t lent; /* what else is under way for it: coordinator_return */
    union {
        struct group_shard groups;
        struct {
            struct txn_shard txns;
            struct list unsaid; /* struct txn: whose markers could not all be written */
            struct timer say;   /* tries them again */
        };
    };
};

/* One sort of shard. A call is known here by its link alone. */
struct coordinator_kind {
    const char *topic;
    const char *things; /* for people: "groups" */
    void (*init)(struct coordinator *c);
    /* Epoch, batch size or features may have changed. May leave an update. */
    void (*follow)(struct coordinator *c);
    NODISCARD bool (*replay)(struct coordinator *c, int64_t offset, int64_t producer_id,
                             struct batch_field key, struct batch_field value);
    NODISCARD bool (*replay_end)(struct coordinator *c, int64_t producer_id, bool commit);
    void (*loaded)(struct coordinator *c);
    void (*step)(struct coordinator *c, struct list *call);
    /* It has come, changed or gone; NULL: that is nothing to this kind. */
    void (*topic_changed)(struct coordinator *c, struct wire_string topic, bool created);
    void (*topic_deleted)(struct coordinator *c, struct wire_string topic);
    /* Everybody who is held is refused into update.answered, and everything is freed. */
    void (*close)(struct coordinator *c, enum kafka_error error);
    /* Each is the last that is done with a call here. */
    void (*refuse)(struct coordinator *c, struct list *call, enum kafka_error error);
    void (*answered)(struct coordinator *c, struct list *call); /* what it tells is durable */
};

struct coordinators {
    struct group_world world;
    struct list all, loading;
    struct map by_partition[COORDINATOR_TOPICS]; /* key: coordinator.partition */
    struct timer load_timer;
    bool stopping;
    uint64_t appended_batches, appended_records;
};

extern const struct coordinator_kind coordinator_groups, coordinator_txns;

/* NULL: not here. */
struct coordinator *coordinator_find(const struct data_core *core, enum coordinator_topic topic,
                                     struct uuid topic_id, int32_t partition);
/* What a coordinator in this state says to everybody; KE_NONE: ask it. c may be NULL. */
enum kafka_error coordinator_says(const struct coordinator *c);
/* A call for it: stepped, held or refused; answered later or refused now. */
void coordinator_take(struct coordinator *c, const struct coordinator_kind *kind,
                      struct list *call);
void coordinator_return(struct coordinator *c); /* one of c->lent; c may be freed */
/* A step has been made: what it has left in update goes its way. */
void coordinator_drain(struct coordinator *c);
static inline bool coordinator_is(const struct coordinator *c, enum coordinator_state state)
{
    return c->state.now == state;
}

#endif
