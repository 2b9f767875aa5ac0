/* Load that outlives its broker, and the ledger of what was promised to it: see load.c. */
#ifndef TESTS_CRASH_LOAD_H
#define TESTS_CRASH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/histogram.h"

#define PRODUCERS_MAX  16u
#define PARTITIONS_MAX 64u
#define IN_FLIGHT      5u /* what an idempotent producer may have unanswered */
#define BATCH_HEAD     61u
#define VALUE_HEAD     12u /* producer, partition, sequence, length */
#define WRONG_SHOWN    20u

/* What can be wrong with what a broker keeps. */
enum wrong {
    WRONG_LOST,       /* acknowledged, not there */
    WRONG_DUPLICATED, /* there twice */
    WRONG_REORDERED,  /* later than one that was sent after it */
    WRONG_MOVED,      /* not at the offset that was acknowledged */
    WRONG_CORRUPT,    /* not what was sent, or no batch at all */
    WRONG_TAKEN_BACK, /* read once, other records later */
    WRONG_ANSWER,     /* an error that no repeating overcomes, or no answer */
    WRONGS,
};

/* One batch of one producer in one partition; offset -1 until it is acknowledged. */
struct entry {
    int32_t sequence;
    int32_t count;
    int64_t offset;
};

struct stream {
    struct entry *entries;
    uint32_t count, capacity;
    int32_t next; /* sequence of the next record */
    bool failing; /* an earlier batch was refused and will be repeated */
    bool broken;  /* the broker and we disagree: nothing more is sent */
};

struct load {
    const char *topic;
    uint16_t port;
    uint32_t producers_count, partitions_count;
    uint64_t rate; /* bytes a second */
    uint64_t budget_ns, random;
    int64_t budget;
    bool draining;
    bool copy; /* forked off to check what is promised by now */
    uint32_t batch_max;
    struct stream streams[PRODUCERS_MAX][PARTITIONS_MAX];
    uint64_t batches_acked, records_acked, records_sent, bytes_sent;
    uint64_t slowest_ns;      /* answer since the counts were last told */
    struct histogram answers; /* in ns, since they were last asked for */
    uint64_t resent, probed, reconnects, refused, tail_records;
    uint64_t wrong[WRONGS];
};

void load_wrong(struct load *l, enum wrong kind, const char *form, ...)
    __attribute__((format(printf, 3, 4)));
uint32_t load_random(struct load *l, uint32_t below);
uint64_t load_now_ns(void);
void load_answered(struct load *l, uint64_t asked_ns);
void *load_grow(void *memory, size_t size);

/* ---- link: one connection of frames ---------------------------------------------------------- */

struct link {
    int fd; /* -1: none */
    uint64_t retry_ns;
    uint8_t *in, *out;
    size_t in_have, in_at, in_capacity, out_have, out_sent, out_capacity;
};

void link_init(struct link *k);
/* Opens it if that is due; true if it has just been opened. */
bool link_open(struct link *k, struct load *l);
void link_close(struct link *k);
void link_put(struct link *k, const void *data, size_t size);
/* Moves bytes; false if the connection is gone. */
bool link_write(struct link *k);
bool link_read(struct link *k);
/* The next whole frame, or NULL; valid until the next link_read. */
const uint8_t *link_frame(struct link *k, uint32_t *size);

/* Big-endian bytes. */
struct bytes {
    uint8_t *data;
    size_t size, capacity;
};

void bytes_put(struct bytes *b, const void *data, size_t size);
void bytes_i8(struct bytes *b, int8_t v);
void bytes_i16(struct bytes *b, int16_t v);
void bytes_i32(struct bytes *b, int32_t v);
void bytes_i64(struct bytes *b, int64_t v);
void bytes_string(struct bytes *b, const char *text); /* NULL: null */
void bytes_varint(struct bytes *b, int64_t v);
void bytes_set_i32(struct bytes *b, size_t at, int32_t v);
/* Header of a request; its length is set by bytes_end. */
void bytes_begin(struct bytes *b, int16_t api, int16_t version, int32_t correlation);
void bytes_end(struct bytes *b);

struct view {
    const uint8_t *data;
    size_t size, at;
    bool bad; /* sticky */
};

const uint8_t *view_take(struct view *v, size_t size);
int8_t view_i8(struct view *v);
int16_t view_i16(struct view *v);
int32_t view_i32(struct view *v);
int64_t view_i64(struct view *v);
int64_t view_varint(struct view *v);
void view_skip_string(struct view *v);

/* ---- producer -------------------------------------------------------------------------------- */

struct producer;
struct producer *producer_make(struct load *l, uint32_t number);
struct link *producer_link(struct producer *p);
/* Opens, sends, times out. */
void producer_turn(struct producer *p);
void producer_read(struct producer *p);
void producer_lost(struct producer *p);
bool producer_idle(const struct producer *p); /* nothing unanswered */

/* ---- reader ---------------------------------------------------------------------------------- */

struct reader;
/* Without a follower it follows itself; with one it reads what is there from the beginning, is done
 * at the end of all that was sent (a copy: acknowledged), and holds it against what the follower
 * saw. */
struct reader *reader_make(struct load *l, struct reader *follower);
struct link *reader_link(struct reader *r);
void reader_turn(struct reader *r);
void reader_read(struct reader *r);
void reader_lost(struct reader *r);
bool reader_done(const struct reader *r);
uint64_t reader_records(const struct reader *r);

#endif
