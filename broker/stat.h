/* Where the time of requests and of cores goes, for whoever asks: `torc stat`. Each data core
 * counts for itself; when somebody asks, one letter (MSG_STAT) visits the cores in turn and each
 * adds what it has. Nothing is read across cores. Counting costs a clock read (25 ns) and a
 * histogram entry (7 ns, by perf/core_costs) per turn, four entries per request and three per write
 * of the log; an answer costs each core some twenty microseconds, once. */
#ifndef BROKER_STAT_H
#define BROKER_STAT_H

#include "broker/data_core.h"

#define STAT_NAME "@torc-stat-%u" /* the local socket; the number is the first listener's port */

enum stat_span {
    SPAN_QUEUED,  /* received, but those before it had to be answered first */
    SPAN_RUNNING, /* its api works on it, or waits: for the disk, for other cores, for records */
    SPAN_SENDING, /* answered, until the kernel has taken the last byte */
    SPAN_TOTAL,
    SPANS
};

/* Requests of one kind. */
struct api_times {
    uint64_t bytes_in, bytes_out;
    struct histogram spent[SPANS]; /* ns */
};

/* What a data core keeps. */
struct core_times {
    struct api_times *apis[API_COUNTERS]; /* made when the first of a kind is over */
    struct histogram turns;               /* ns of work in each turn */
    uint64_t busy_ns, begun_ns;
    uint64_t slow;
    uint64_t slow_second; /* in which lines were last written, and how many */
    uint32_t slow_lines;
};

/* NULL: no memory, then nothing is counted. */
struct core_times *stat_times_make(struct data_core *c);
/* End of a turn; the end of a request. */
void stat_turn(struct data_core *c);
void stat_flow(struct data_core *c, const struct flow *f);

/* ---- asking ---------------------------------------------------------------------------------- */

struct stat_core {
    uint64_t busy_ns, lived_ns, turns, connections, accepted, flows, letters_out, letters_in;
    uint64_t overflowed, outbox, memory_used, memory_budget, frames_bytes, slow;
    struct histogram turn_ns;
};

/* What all have counted. apis of all cores are added up; cores stay apart. */
struct stat_sum {
    uint32_t cores_count;
    uint64_t current[FLOW_STAGES];
    struct api_times *apis; /* [API_COUNTERS] */
    struct stat_core *cores;
    struct log_core_stats log;
    struct log_core_times log_times;
};

struct stat_letter { /* MSG_STAT */
    struct msg msg;
    struct stat_sum *sum;
};

void stat_asked(struct data_core *c, struct msg *msg);

/* ---- answering: control core (stat_server.c) ------------------------------------------------- */

struct control_core;
struct stat_server;

/* Listens; without it the node goes on. */
void stat_server_start(struct control_core *c);
void stat_home(struct control_core *c, struct msg *msg);
/* Before the reactor stops. */
void stat_server_stop(struct control_core *c);

#endif
