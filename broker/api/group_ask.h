/* struct group_ask: a request about groups, or about transactions. Each group lives on the core
 * that owns its partition of __consumer_offsets, each transactional id on that of
 * __transaction_state; an api file makes one item per group or id, the items of one core travel as
 * one leg, and home runs `answer` when all are back. Joins and syncs may stay there for long.
 *
 *   home: group_ask_make, group_ask_add..., group_ask_run ─▶ owners: coordinator_call each item
 *         ◀────────────────── answer ──────────────────────┘
 */
#ifndef BROKER_API_GROUP_ASK_H
#define BROKER_API_GROUP_ASK_H

#include "broker/flow.h"
#include "broker/group/group.h"
#include "broker/txn/txn.h"
#include "core/mail.h"

struct group_ask;
struct group_leg;

struct group_item {
    union {
        struct group_call call;
        struct txn_call txn;
    };
    bool of_txn;             /* which of them */
    struct group_item *next; /* of the same leg */
    struct group_leg *leg;   /* NULL: answered at home */
    struct uuid topic_id;    /* of the coordinators' topic when it left */
    int32_t partition;       /* -1: all of the core's */
};

struct group_leg {
    struct msg msg, recall;
    struct group_ask *ask;
    struct data_core *owner;
    struct group_item *items, **last;
    struct arena arena; /* owner's memory for what the answers point at; freed after `answer` */
    uint32_t pending;   /* owner: items that are not answered */
    bool used, away, served, recalled;
};

struct group_ask {
    struct flow *flow;
    uint32_t cores_count;
    uint32_t away; /* legs and recalls */
    bool answered;
    void (*answer)(struct group_ask *a); /* ends with FLOW_ANSWER or flow_refuse */
    void *state;                         /* of the api file */
    struct wire_string client_host;
    struct group_leg legs[];
};

/* NULL without memory (the flow has been refused). */
struct group_ask *group_ask_make(struct flow *f, void (*answer)(struct group_ask *a), void *state);
/* item->call.kind, request and response are set, and the response is prepared if the kind wants
 * that. What can be refused at home is. */
void group_ask_add(struct group_ask *a, struct group_item *item, struct wire_string group_id);
/* The same for item->txn; spare_id is set too. What points at the answer is in the leg's arena. */
void group_ask_add_txn(struct group_ask *a, struct group_item *item, struct wire_string id);
/* GROUP_LIST, TXN_LIST (of_txn is set): what this core coordinates. */
void group_ask_add_core(struct group_ask *a, struct group_item *item, struct core_id owner);
/* After the last one. */
void group_ask_run(struct group_ask *a);

/* Groups or transactional ids, each asked of its own coordinator. */
struct group_names {
    bool of_txn;
    uint8_t kind; /* enum group_call_kind, or of txn calls */
    struct wire_string *names;
    uint32_t count;
    void *responses; /* count structs of this size, one per name; NULL: there was no memory */
    size_t response_size;
};

/* Makes the ask, adds an item for each name, and runs. */
void group_ask_names(struct flow *f, void (*answer)(struct group_ask *a), void *state,
                     const struct group_names *n);

#endif
