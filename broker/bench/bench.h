/* broker/bench is an open-loop load generator for any Kafka broker: `torc bench`.
 *
 *   main thread (core 0)             generator threads (cores 1 .. n), one reactor each
 *   bench_client: topic, ids ──▶ plan ──▶ worker: senders ──▶ broker ──▶ receivers: ledgers
 *   progress line ◀── slices ◀──────────────┘
 *   counts, merged ──▶ table, JSON, HTML
 *
 * Threads share the plan, which nobody writes while they run, and two rings of pointers each: to
 * them go orders, from them comes news. Everything else is looked at after they have ended.
 *
 * A load is a timetable fixed before it begins: request i is due at start + i / rate whatever
 * became of those before it, and its latency counts from there (response). From when it really left
 * it is called service; how late it left, because its connection's window was full or this program
 * itself was late, slip. In a closed loop (--max) each
 * connection keeps its window full: that gives a throughput, and a latency that says little by
 * itself. */
#ifndef BROKER_BENCH_BENCH_H
#define BROKER_BENCH_BENCH_H

#include "broker/bench/topic.h"
#include "broker/bench/usage.h"
#include "core/histogram.h"
#include "proto/compress.h"

#define BENCH_THREADS_MAX     64u
#define BENCH_CONNECTIONS_MAX 50000u
#define BENCH_IN_FLIGHT_MAX   1024u
#define BENCH_RECORDS_MAX     100000u
#define BENCH_SIZE_MAX        (64u << 20)
#define BENCH_BATCHES_MAX     250u
#define BENCH_SLICES_MAX      240u
#define BENCH_ACKS_ALL        (-1)

enum bench_kind {
    BENCH_PRODUCE,
    BENCH_CONSUME,
    BENCH_E2E,
    BENCH_CATCH_UP,
    BENCH_CONNECTIONS,
    BENCH_TXN,
    BENCH_GROUPS,
    BENCH_KINDS
};

struct bench_options {
    enum bench_kind kind;
    struct io_address address;
    const char *brokers; /* as the user wrote it */
    const char *topic;
    uint32_t create; /* partitions of the topic made; 0: it is there */
    int16_t copies;
    bool delete_before, delete_after; /* the topic */
    const char *configs[BENCH_CONFIGS_MAX];
    uint32_t configs_count;
    uint32_t threads, connections, consumers, in_flight, records, size, batches, keys;
    double rate; /* records (or connections) per second; 0: closed loop */
    double seconds, warmup;
    int16_t acks;
    enum codec codec;
    bool idempotent, soft;
    int32_t pid;            /* of the broker, if it runs here; 0 */
    uint64_t seed;          /* of values and keys */
    double aborts;          /* share of transactions that are aborted on purpose */
    uint32_t generation;    /* of the protocol of transactions: 1 or 2 */
    bool consumer_protocol; /* groups: KIP-848; else the classic protocol */
    uint64_t backlog;       /* catch-up: records that lie there before it begins */
    uint32_t fetch_bytes, partition_bytes, fetch_wait_ms;
    uint32_t passes;         /* consume: over all there is; records are looked at in the first */
    uint64_t limit;          /* records to produce, then it ends; 0: by time */
    bool quiet;              /* no progress line */
    const bool *interrupted; /* becomes true when the user has had enough; may be NULL */
};

enum bench_latency {
    LATENCY_RESPONSE, /* due -> acknowledged */
    LATENCY_SERVICE,  /* sent -> acknowledged */
    LATENCY_SLIP,     /* due -> sent */
    LATENCY_E2E,      /* due -> read by a consumer */
    LATENCY_FETCH,    /* fetch sent -> answered */
    LATENCY_END,      /* of a transaction: its end asked for -> answered */
    LATENCY_BEAT,     /* of a group's member: heartbeat sent -> answered */
    LATENCIES
};
extern const char *const bench_latency_names[LATENCIES];

/* What one thread counted, or all of them. */
struct bench_counts {
    struct histogram latency[LATENCIES];
    uint64_t requests, batches, records, bytes;   /* acknowledged within the window */
    uint64_t fetches, read_records, read_bytes;   /* within the window */
    uint64_t acknowledged;                        /* records, all told */
    uint64_t errors, misplaced;                   /* batches refused; offsets that cannot be */
    int16_t first_error;                          /* of `errors` */
    uint64_t checked, foreign;                    /* records read with and without payload */
    uint64_t lost, repeated, disordered, damaged; /* records */
    uint64_t opened;                              /* connections */
    uint64_t retried; /* requests met the transaction before, that was still being ended */
    double cpu;       /* seconds of this thread */
};

/* A piece of the window, for plots and progress. */
struct bench_slice {
    uint64_t records, bytes, read_records;
    struct histogram response, e2e;
};

struct bench_result {
    struct mem *mem;
    struct bench_options options;
    struct bench_counts counts;
    struct bench_slice *slices;
    uint32_t slices_count, partitions_count;
    uint64_t slice_ns;
    uint64_t begin_wall_ms;
    double seconds; /* of the window */
    double read_seconds;
    struct usage begin, end;
    uint64_t run; /* random; what its records carry */
    int16_t produce_version, fetch_version;
    uint32_t partitions_broken; /* their offsets are not dense */
    bool interrupted;
    char why[384]; /* it failed */
};

/* Runs a load. false: result->why says what failed; what was counted till then is no result. */
NODISCARD bool bench_run(struct io *io, struct mem *mem, const struct bench_options *o,
                         struct bench_result *result);
void bench_result_free(struct bench_result *r);
/* Nothing was refused, lost, repeated, out of order or damaged. */
bool bench_result_sound(const struct bench_result *r);
void bench_counts_merge(struct bench_counts *into, const struct bench_counts *from);

#endif
