/* The floor of a machine: what it does without any broker. A latency below it cannot be, and one
 * near it is the machine's. */
#ifndef BROKER_BENCH_FLOOR_H
#define BROKER_BENCH_FLOOR_H

#include "broker/bench/text.h"
#include "core/histogram.h"
#include "io/io.h"

#define FLOOR_CPUS_MAX 64u
#define FLOOR_DEPTHS   6u /* 1, 2, 4 .. 32 writes at once */

struct floor_writes {
    uint32_t depth;
    double seconds;
    struct histogram plain, synced; /* ns of 4 KiB writes over written blocks */
};

struct floor {
    uint32_t cpus_count;
    struct histogram jitter[FLOOR_CPUS_MAX]; /* ns between two looks at the clock */
    double jitter_seconds;
    struct histogram timer;    /* ns that a wait of 1 ms was too long */
    struct histogram loopback; /* ns of a round trip of 100 bytes between two threads */
    bool direct;               /* the device was measured past the page cache */
    char filesystem[16];
    struct floor_writes writes[FLOOR_DEPTHS];
};

/* Takes some three seconds and 32 MiB of the directory. 0 or -errno, with a sentence in why. */
NODISCARD int floor_measure(struct floor *f, struct io *io, struct mem *mem, const char *directory,
                            char *why, size_t why_size);
void floor_table(struct text *t, const struct floor *f);
void floor_json(struct text *t, const char *key, const struct floor *f);

#endif
