/* Where the time of requests and of cores goes, for whoever asks: `torc stat`. Each data core
 * counts for itself; when somebody asks, one letter (MSG_STAT) visits the cores in turn and each
 * adds what it has: first which tables there are, so that memory is made for those alone, then
 * what is in them. Nothing is read across cores.
 *
 * Of each request its total has a histogram entry, and each stage that it was in (core/trip.h) a
 * count and a sum: the sums of the stages are the sum of the totals and of RECV. Of those that are
 * timed exactly, one in TRIP_EXACT_EVERY of a kind, each stage has a histogram entry too. What all
 * of that costs is in perf/NOTES.md.
 *
 * Requests under way are counted by their home core alone, so at any instant their stages add up to
 * how many there are. Their legs are counted by where they are; the letter sees the cores one after
 * the other, so a leg that travels meanwhile may be seen twice or not at all. */
#ifndef BROKER_STAT_H
#define BROKER_STAT_H

#include "broker/data_core.h"

#define STAT_NAME "@torc-stat-%u" /* the local socket; the number is the first listener's port */

/* Requests of one kind. */
struct api_times {
    uint64_t bytes_in, bytes_out;
    struct histogram total;            /* ns, without RECV */
    uint64_t passed[TRIP_STAGES];      /* requests */
    uint64_t spent_ns[TRIP_STAGES];    /* by all of those */
    struct histogram *ns[TRIP_STAGES]; /* of those that are timed exactly; NULL: none yet */
};

/* What a data core keeps. */
struct core_times {
    struct api_times *apis[API_COUNTERS]; /* made when the first of a kind is over */
    struct histogram turns;               /* ns of work in each turn */
    struct histogram letters;             /* found waiting, in turns that found any */
    uint64_t busy_ns, begun_ns;
    uint64_t slow;
    uint64_t slow_second; /* in which lines were last written, and how many */
    uint32_t slow_lines;
};

/* NULL: no memory, then nothing is counted. */
struct core_times *stat_times_make(struct data_core *c);
/* End of a turn that took so many letters. */
void stat_turn(struct data_core *c, uint32_t letters);
/* The request is over: ends its trip. */
void stat_flow(struct data_core *c, struct flow *f);

/* ---- what all have counted ------------------------------------------------------------------- */

struct stat_core { /* cores stay apart */
    uint64_t busy_ns, lived_ns, turns, accepted, letters_out, letters_in, overflowed, slow;
    uint64_t received_bytes, sent_bytes, copied_bytes;
    struct histogram turn_ns, letters;
    /* as of now */
    int64_t current[TRIP_STAGES];
    uint64_t connections, flows, depth, outbox, memory_used, memory_budget, frames_bytes;
};

#define STAT_API (1u << TRIP_STAGES) /* the table of an api itself, beside bits of its stages */

struct stat_sum { /* of all cores: apis are added up */
    struct mem *mem;
    uint64_t ns; /* that it is of */
    uint32_t cores_count;
    uint32_t wanted[API_COUNTERS]; /* tables that some core has */
    struct api_times *apis[API_COUNTERS];
    struct stat_core *cores;
    int64_t current[TRIP_STAGES];
    struct log_core_stats log;
    struct log_core_times log_times;
};

/* NULL: no memory. */
struct stat_sum *stat_sum_make(struct mem *mem, uint32_t cores_count);
void stat_sum_free(struct stat_sum *s); /* NULL: nothing */
/* Makes the tables that `like` wants. false: no memory. */
NODISCARD bool stat_sum_tables(struct stat_sum *s, const struct stat_sum *like);
/* Adds what a core has counted, to the tables that are there. */
void stat_sum_core(struct stat_sum *s, const struct data_core *c);
/* before becomes what has happened from then to now; it has the tables of now. */
void stat_sum_since(struct stat_sum *before, const struct stat_sum *now);
/* A line of JSON; or a table, of all since the start or of the last while. (stat_text.c) */
struct text;
void stat_sum_json(struct text *t, const struct stat_sum *s);
void stat_sum_table(struct text *t, const struct stat_sum *s, bool live);

/* ---- asking ---------------------------------------------------------------------------------- */

struct stat_letter { /* MSG_STAT */
    struct msg msg;
    struct stat_sum *sum;
    bool tables; /* the first round: only which tables there are */
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
