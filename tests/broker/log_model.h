/* What a partition must hold: every batch that was appended, and which of them were acknowledged.
 * The log is checked against it after every life: what was acknowledged must be there, what is
 * there must have been appended, at its offset, byte for byte. */
#ifndef TESTS_BROKER_LOG_MODEL_H
#define TESTS_BROKER_LOG_MODEL_H

#include "tests/io/sim_rig.h"

#include "broker/log/log.h"
#include "proto/compress.h"

#define MODEL_LOGS    6u
#define MODEL_BATCHES 20000u
#define MODEL_DIRS    2u

struct model_batch {
    int64_t base, last;
    uint32_t crc;
    int32_t sequence; /* of its first record */
    bool acknowledged;
};

struct model_log {
    struct log *log; /* in this life; NULL: not opened */
    struct topic_config config;
    struct model_batch batches[MODEL_BATCHES];
    uint32_t count;
    int64_t start;      /* log start offset that DeleteRecords has promised */
    int32_t sequence;   /* the producer's next */
    int64_t producer;   /* another one after a cut that may have taken batches */
    uint32_t in_flight; /* at most what an idempotent producer may have */
    bool offline;       /* its directory failed: nothing is promised till the next life */
};

struct model_append {
    struct log_append a;
    struct model *model;
    struct model_log *of;
    uint32_t batch; /* index in of->batches */
    bool free;
};

struct model {
    struct sim_rig rig;
    struct chance chance;
    struct wheel wheel;
    struct trace trace;
    struct compress compress;
    struct log_core_config config;
    struct log_core *core;
    const char *dirs[MODEL_DIRS];
    struct uuid dir_ids[MODEL_DIRS];
    struct model_log logs[MODEL_LOGS];
    struct model_append appends[64];
    uint32_t in_flight, dirs_failed, refused;
    bool full; /* no DeleteRecords now: with one WAL file, and that full, it waits for space */
    uint64_t used_before;
    bool stopping;
    bool rot_traced;
    bool verbose;
};

/* Draws sizes from the seed; the machine is up, nothing is opened. */
void model_start(struct model *m, uint64_t seed);
void model_end(struct model *m);
/* Starts the core, opens all logs, replays, serves. */
void model_open(struct model *m);
void model_turn(struct model *m);
/* Appends, reads and deletes at random, `steps` times. */
void model_work(struct model *m, uint32_t steps);
/* Until nothing is in flight. */
void model_settle(struct model *m);
enum model_way { MODEL_KILL, MODEL_CUT, MODEL_STOP };
/* The end of a life, and of everything that was not promised across it. */
void model_die(struct model *m, enum model_way way);
/* Compares every log that is not offline. */
void model_check(struct model *m);

#endif
