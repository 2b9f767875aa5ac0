/* struct parts: a request about some partitions, served by their owners and answered together:
 * offset lookups, DeleteRecords, DescribeProducers, DescribeLogDirs. An api file fills items, each
 * goes with its owner's leg, the owner runs `serve` for each item, and home runs `answer`.
 *
 *   home: parts_make, parts_add..., parts_run ─▶ owners: serve each item ─▶ home: answer
 */
#ifndef BROKER_API_PARTS_H
#define BROKER_API_PARTS_H

#include "broker/flow.h"
#include "broker/log/log.h"
#include "core/mail.h"

struct parts;
struct parts_leg;

struct parts_item {
    struct parts_item *next; /* of the same leg */
    struct parts_leg *leg;   /* NULL until parts_add */
    struct uuid topic_id;
    int32_t partition;
    enum kafka_error error;
    void *entry; /* of the api file, in home's memory: what is asked, where the answer goes; home
                    may not look while the leg is away */
};

struct parts_leg {
    struct msg msg;
    struct parts *parts;
    struct data_core *owner;
    struct parts_item *items, **last;
    struct arena arena; /* owner's memory, for answers of unknown size; given back after `answer` */
    uint32_t pending;   /* owner: items that wait for disk */
    bool used, served;
};

struct parts {
    struct flow *flow;
    uint32_t cores_count, away;
    /* Runs on the owner. log is never NULL and not failed: those items get their error before.
     * Done when it returns, unless it called parts_wait: then when it calls parts_done. */
    void (*serve)(struct data_core *owner, struct parts_item *item, struct log *log);
    /* Runs at home when all items are served (with their `error`); ends with FLOW_ANSWER. */
    void (*answer)(struct parts *p);
    void *state; /* of the api file */
    struct parts_leg legs[];
};

/* NULL without memory (the flow has been refused). */
struct parts *parts_make(struct flow *f,
                         void (*serve)(struct data_core *owner, struct parts_item *item,
                                       struct log *log),
                         void (*answer)(struct parts *p), void *state);
/* The item goes to the owner of the partition. Items that are not added keep the error home gave
 * them. */
void parts_add(struct parts *p, struct parts_item *item, struct uuid topic_id, int32_t partition);
/* After the last parts_add. */
void parts_run(struct parts *p);
void parts_wait(struct parts_item *item);
void parts_done(struct parts_item *item);
/* What a request's current_leader_epoch means: NONE, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH. */
enum kafka_error parts_check_epoch(const struct log *l, int32_t current_leader_epoch);

#endif
