/* struct worker: one thread of a load, with its senders, receivers and connections. Same-folder
 * use: bench.h is the outside. */
#ifndef BROKER_BENCH_WORKER_H
#define BROKER_BENCH_WORKER_H

#include "broker/bench/bench.h"
#include "broker/bench/ledger.h"
#include "broker/bench/payload.h"
#include "core/list.h"
#include "core/ring.h"
#include "proto/compress.h"

/* What all threads are given; nobody writes it while they run. */
struct plan {
    struct bench_options o;
    struct bench_topic *topic;
    struct io_world *world;
    uint32_t threads_count;
    uint32_t senders_count, receivers_count;
    int16_t produce_version, fetch_version, add_version, end_version;
    uint64_t run;
    uint64_t memory_bytes; /* of each thread */
    uint64_t slice_ns;
    uint32_t slices_count;
    struct sharing *senders, *receivers; /* [senders_count], [receivers_count] */
    int64_t *starts;                     /* per partition: where new records go */
    int64_t *read_from;                  /* per partition: where receivers begin */
    double request_rate;                 /* per second, all senders; 0: closed loop */
    uint64_t requests_each;              /* a sender makes no more than these; 0: by time */
    /* Groups: the newest common version of each request, and what classic members say. */
    const int16_t *versions;
    struct wire_bytes subscription, assignment;
};

/* The partitions of one connection; all have the same leader. */
struct sharing {
    uint32_t *own, own_count;
    uint32_t node; /* index into topic->nodes */
    int64_t producer_id;
    int16_t producer_epoch;
};

enum order_kind {
    ORDER_START, /* the timetable begins at start_ns */
    ORDER_GOAL,  /* receivers end where `ends` says */
    ORDER_STOP,  /* nothing new is sent; what is under way comes home */
    ORDER_LEAVE  /* it is over */
};

struct order {
    enum order_kind kind;
    uint64_t start_ns;
    const int64_t *ends; /* per partition */
};

enum news_kind {
    NEWS_READY, /* everything is connected */
    NEWS_SLICE, /* slices[number] is complete */
    NEWS_SENT,  /* nothing more will be sent, all of it is answered */
    NEWS_READ,  /* every receiver is where it should get */
    NEWS_FAILED
};

struct news {
    enum news_kind kind;
    uint32_t number;
};
#define NEWS_KINDS 5u

struct worker;

/* What a thread does with the connections that its timetable is for; they are numbered from 0. */
struct role {
    /* Makes the next one, number `number` of all threads. false: no memory. */
    bool (*start)(struct worker *w, uint32_t number);
    void (*due)(struct worker *w, uint32_t i);
    void (*go_on)(struct worker *w, uint32_t i); /* closed loop: as much as it may do at once */
    bool (*idle)(const struct worker *w, uint32_t i);
};
extern const struct role role_sender, role_transactor, role_member;

struct worker {
    struct core_id id;
    uint32_t number; /* from 0 */
    const struct plan *plan;
    struct io_thread *thread;
    struct mem mem;
    struct io *io;
    struct arena arena;       /* of the answer being read */
    struct ring orders, news; /* to and from the main thread */
    struct news slots[BENCH_SLICES_MAX + NEWS_KINDS];
    uint32_t slots_used;
    struct payload_template template;
    struct compress compress;
    const struct role *role;
    uint32_t senders_count; /* of one of these, as its role says */
    struct sender **senders;
    struct transactor **transactors;
    struct member **members;
    struct list rests;               /* members that enter again, by when */
    uint64_t beat_ns;                /* from one heartbeat of a member to the next */
    uint64_t beat_due_ns, beat_next; /* when whose is due */
    struct receiver **receivers;
    uint32_t receivers_count, receivers_done;
    struct dial *dials;
    uint32_t dials_count, dials_next;
    struct list dirty;         /* senders with something to send */
    struct bench_link **links; /* all there are, to be closed in the end */
    uint32_t links_made, links_room;
    uint32_t opened, links_count;
    bool started, stopping, leaving, failed, said_sent, said_read;
    uint64_t start_ns, begin_ns, end_ns, next_number, next_slice, chance;
    uint64_t answered_ns; /* when something last came home */
    const int64_t *ends;  /* once ordered */
    struct bench_counts counts;
    struct bench_slice *slices;
    struct spread *spreads; /* per partition: which batches were acknowledged */
    char why[256];
};

/* The thread's body. */
void worker_run(void *argument);
/* A link of it cannot go on: the whole load has failed. */
void worker_fail(struct worker *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void worker_broken(struct worker *w, const struct bench_link *k, const struct io_address *to);
/* A connection of this thread, which closes it in the end. */
NODISCARD bool worker_link(struct worker *w, struct bench_link *k, uint32_t iov_max);
void worker_opened(struct worker *w);
/* The slice that time belongs to; NULL outside the window. */
struct bench_slice *worker_slice(struct worker *w, uint64_t now);

/* ---- senders (send.c) ------------------------------------------------------------------------ */

struct sender {
    struct bench_link link;
    struct worker *worker;
    const struct sharing *share;
    uint32_t number; /* among all senders */
    struct list dirty;
    struct send_slot *slots;           /* request n is slots[n mod in_flight] */
    uint64_t made, begun, sent, ended; /* ended <= sent <= begun <= made <= ended + in_flight */
    uint64_t owed;                     /* open loop: due, but the window was full */
    uint64_t bytes_sent;               /* of request number `sent` */
    uint32_t next;                     /* own[] index of the next batch */
    int64_t *highest;                  /* base offset answered, per own partition */
    int32_t *sequences;                /* idempotent: of the next record, per own partition */
    uint64_t *numbers;                 /* of the next record's payload, per own partition */
    bool open;
};

void sender_flush(struct sender *s);
/* When request number `number` of all senders is due. */
uint64_t plan_due_ns(const struct plan *p, uint64_t start_ns, uint64_t number);

/* ---- transactions (transact.c) --------------------------------------------------------------- */

enum transact_step { TRANSACT_IDLE, TRANSACT_ADDING, TRANSACT_WRITING, TRANSACT_ENDING };

struct transactor {
    struct bench_link link;
    struct worker *worker;
    const struct sharing *share;
    uint32_t number;
    char id[64];
    enum transact_step step;
    bool open, aborts;
    uint64_t made, owed; /* transactions */
    uint64_t due_ns, begun_ns, ending_ns;
    int64_t producer_id;
    int16_t epoch;
    uint32_t next;      /* own[] index of the next transaction's first partition */
    int32_t *sequences; /* per own partition: Kafka's, and the payload's */
    uint64_t *numbers;
    uint8_t *batches;
};

/* The transactional id of one of them. */
void transact_id(char *to, size_t size, uint64_t run, uint32_t number);

/* ---- members of groups (member.c, group.c) --------------------------------------------------- */

enum member_step {
    MEMBER_OUT,
    MEMBER_JOINING,
    MEMBER_SYNCING,
    MEMBER_BEATING,
    MEMBER_READY,
    MEMBER_COMMITTING
};

struct member {
    struct bench_link link;
    struct worker *worker;
    const struct sharing *share;
    uint32_t number;
    char group[48], id[128];
    uint32_t id_size;
    enum member_step step;
    bool in, tells, beat_due, committing;
    uint64_t made, acknowledged, owed; /* commits; offsets too */
    uint64_t due_ns, begun_ns, wake_ns;
    int32_t epoch; /* or generation */
    int32_t *held; /* consumer protocol: partitions */
    uint32_t held_count, held_room;
    struct list due; /* in rests */
};

/* The name of a member's group. */
void member_group(char *to, size_t size, uint64_t run, uint32_t number);
/* Each turn: heartbeats that are due, and members that come back after a rest. */
void members_beat(struct worker *w, uint64_t now);

/* Main thread, before the load; groups_free in any case. false: the client says why. */
NODISCARD bool groups_plan(struct bench_client *c, struct plan *p, struct mem *mem);
void groups_free(struct plan *p, struct mem *mem);
/* Main thread, after the threads have ended: counts what groups lack, and deletes them. */
NODISCARD bool groups_end(struct bench_client *c, const struct plan *p, struct worker *workers,
                          struct bench_counts *counts);

/* ---- receivers (receive.c) ------------------------------------------------------------------- */

/* Records of one producer of one run, as met in one partition. */
struct stream {
    uint64_t run;
    uint32_t producer;
    struct ledger ledger;
};

#define ABORTED_MAX 64u   /* open at once in a partition */
#define STREAMS_MAX 4096u /* of one partition; others are read but not checked */

struct reading { /* of one partition */
    uint32_t partition;
    int64_t position;
    struct stream *streams;
    uint32_t streams_count, streams_room, last;
    int64_t aborted[ABORTED_MAX]; /* producers whose open transaction will be aborted */
    uint32_t aborted_count;
};

struct receiver {
    struct bench_link link;
    struct worker *worker;
    const struct sharing *share;
    struct reading *readings; /* one per own partition */
    struct fetch_request_fetch_partition *asks;
    uint32_t passes; /* over all of its partitions that are done */
    bool open, done;
};

NODISCARD bool receiver_start(struct worker *w, struct receiver **r, uint32_t number);
/* Asks for more, unless it waits for an answer. */
void receiver_pump(struct receiver *r);
/* Whether it is where it should get. */
void receiver_look(struct receiver *r);
/* One record's value, as met in a partition: for receivers, and for tests of what they find. */
void reading_take(struct reading *p, struct mem *mem, struct bench_counts *counts, uint64_t run,
                  const uint8_t *value, uint32_t size, struct payload *found);
/* The stream of a producer of a run; NULL when it was never met. */
struct stream *reading_stream(struct reading *p, uint64_t run, uint32_t producer);

/* ---- connections that do nothing (dial.c) ---------------------------------------------------- */

NODISCARD bool dials_start(struct worker *w);
/* Opens what is due. */
void dials_due(struct worker *w, uint64_t now);
bool dials_all_open(const struct worker *w);

#endif
