/* One core's logs on real files, on the test's own thread: start, append, wait, kill, start again.
 * Everything a test does is a straight line; LOG_UNTIL turns the core until something holds. */
#ifndef TESTS_BROKER_LOG_RIG_H
#define TESTS_BROKER_LOG_RIG_H

#include "tests/io/rig.h"

#include "broker/log/log.h"
#include "proto/compress.h"

#define LOG_RIG_DIRS 2u

struct log_rig {
    struct rig io;
    struct wheel wheel;
    struct trace trace;
    int64_t wall_ms;
    char trace_text[16384]; /* what was traced, for tests that look for a line */
    size_t trace_size;
    struct compress compress;
    char root[64];
    char dir_names[LOG_RIG_DIRS][96];
    const char *dirs[LOG_RIG_DIRS];
    struct uuid dir_ids[LOG_RIG_DIRS];
    struct log_core_config config;
    struct log_core *core;
    int32_t leader_epoch; /* that logs are opened with: the metadata knows it, and it never falls */
    uint32_t failed_dirs;
    int failed_error;
};

/* Defaults: one directory, 4 WAL files of 256 KiB, 8 MiB of cache. Change r->config, then open. */
void log_rig_start(struct log_rig *r);
/* log_core_start; logs are opened by the test; then log_rig_serve. */
void log_rig_open(struct log_rig *r);
void log_rig_serve(struct log_rig *r);
/* Ends it as a kill would, or cleanly; files stay. */
void log_rig_kill(struct log_rig *r);
void log_rig_stop(struct log_rig *r);
/* Removes the files; fails the test when memory is still in use. */
void log_rig_end(struct log_rig *r);

void log_rig_turn(struct log_rig *r);
#define LOG_UNTIL(r, condition)                                                                    \
    do {                                                                                           \
        uint64_t limit_ = io_clock_ns((r)->io.io) + RIG_LIMIT_NS;                                  \
        while (!(condition)) {                                                                     \
            log_rig_turn(r);                                                                       \
            cr_assert(io_now_ns((r)->io.io) < limit_, "in time: %s", #condition);                  \
        }                                                                                          \
    } while (0)

/* Kafka's defaults of what the log looks at. */
struct topic_config log_rig_config(void);
/* Topic "t<n>" with id n, partition 0, in directory 0. */
struct log *log_rig_log(struct log_rig *r, uint32_t n, const struct topic_config *config);
struct uuid log_rig_id(uint32_t n);

/* An append and what became of it. */
struct log_rig_append {
    struct log_append a;
    uint32_t done;
};

struct batch_spec {
    uint32_t records, value_size; /* 0: 1 record of 100 bytes */
    int64_t timestamp;            /* of the first; each later by 1 ms; 0: the wall clock */
    bool idempotent;              /* then the next three count */
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_sequence;
    uint8_t fill;
    bool transactional; /* and idempotent */
    uint64_t guard;
};
#define BATCH_SPEC(...) ((struct batch_spec){__VA_ARGS__})

/* Builds the batch into to (room bytes); returns its size. */
uint32_t log_rig_batch(struct log_rig *r, uint8_t *to, uint32_t room, struct batch_spec spec);
/* Starts an append; true: taken. */
bool log_rig_append(struct log_rig *r, struct log *l, struct log_rig_append *a,
                    struct batch_spec spec);
bool log_rig_append_bytes(struct log_rig *r, struct log *l, struct log_rig_append *a,
                          uint8_t *bytes, uint32_t size);
/* Appends and waits; the error it ended with. */
enum kafka_error log_rig_put(struct log_rig *r, struct log *l, struct batch_spec spec);

/* The end of a transaction, appended and waited for; the error it ended with. */
struct marker_spec {
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t coordinator_epoch;
    bool commit, may_repeat;
    int8_t version;
};
#define MARKER_SPEC(...) ((struct marker_spec){__VA_ARGS__})
enum kafka_error log_rig_mark(struct log_rig *r, struct log *l, struct marker_spec spec);

/* Reads from offset until `end`, checks that batches are whole, in order and of this fill (unless
 * 0), and returns the offset behind the last one. */
int64_t log_rig_check(struct log_rig *r, struct log *l, int64_t offset);
/* One read, waited for. The caller releases it. */
void log_rig_read(struct log_rig *r, struct log *l, struct log_read *read);

/* Was such a line traced? */
bool log_rig_traced(const struct log_rig *r, const char *text);

#endif
