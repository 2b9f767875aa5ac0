/* What a load's result looks like: a table of 80 columns, JSON, and pages with curves. */
#ifndef BROKER_BENCH_REPORT_H
#define BROKER_BENCH_REPORT_H

#include "broker/bench/bench.h"
#include "broker/bench/text.h"

/* Where and when it was measured. */
struct provenance {
    char cpu[96], kernel[96], filesystem[32], device[64], governor[32], time[96], broker[96];
    const char *version, *commit; /* of this program */
    char words[512];              /* of its command line */
    uint32_t cpus;
    uint64_t memory_bytes;
    char load[32]; /* of the machine, before the run */
};
void provenance_read(struct provenance *p, struct io *io, struct mem *mem, int32_t pid);

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
