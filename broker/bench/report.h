/* What a load's result looks like: a table of 80 columns, JSON, and pages with curves. */
#ifndef BROKER_BENCH_REPORT_H
#define BROKER_BENCH_REPORT_H

#include "broker/bench/bench.h"
#include "broker/bench/text.h"

/* Where and when it was measured. What cannot be known is "unknown". */
struct provenance {
    char cpu[96], kernel[96], governor[32], time[48];
    const char *version, *commit; /* of this program */
    char words[512];              /* of its command line */
    uint32_t cpus;
    uint64_t memory_bytes;
    char load[32]; /* of the machine, before the run */
    /* of the broker */
    char broker[32], broker_version[64], directory[256], filesystem[32], device[64];
    char write_cache[32]; /* of the device: "write back" ones have to be told to sync */
};
/* Of the machine, and of the directory if it is known already (floor). */
void provenance_read(struct provenance *p, struct io *io, struct mem *mem, const char *directory);
/* Asks the broker where its data is, and, if it runs here, looks what that is on. pid may be 0. */
void provenance_broker(struct provenance *p, struct io *io, struct mem *mem,
                       const struct io_address *address, int32_t pid);

/* "produce  acks=all  16 x 1,024 B ...": what was asked for. */
void report_head(struct text *t, const struct bench_result *r);
/* The table of latencies, throughput, cost, and what was verified. */
void report_table(struct text *t, const struct bench_result *r);
/* p50 and p99 over time in blocks, for the terminal. */
void report_plot(struct text *t, const struct bench_result *r);
void report_json_provenance(struct text *t, const char *key, const struct provenance *p);
void report_json_result(struct text *t, const char *key, const struct bench_result *r);
/* The sentence about what is wrong; nothing for a sound result. */
void report_wrong(struct text *t, const struct bench_result *r);

#endif
