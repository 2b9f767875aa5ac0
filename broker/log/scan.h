/* Walking the batches of a segment on disk; see scan.c. */
#ifndef BROKER_LOG_SCAN_H
#define BROKER_LOG_SCAN_H

#include "broker/log/log_priv.h"

enum scan_end {
    SCAN_CLEAN,   /* exactly at the end asked for */
    SCAN_CUT,     /* the last batch is not all there */
    SCAN_DAMAGED, /* no batch, a wrong checksum, or offsets that do not ascend */
    SCAN_FAILED,  /* could not be read: error */
};

enum scan_how {
    SCAN_HEADERS, /* what is returned is the header alone, the rest is skipped */
    SCAN_WHOLE,
    SCAN_VERIFY, /* checksums too */
};

struct scan {
    struct log *log;
    struct segment *segment;
    uint32_t position; /* of the next batch; at the end: where it stopped */
    uint32_t end;
    int64_t next_offset; /* batches below are damage */
    enum scan_how how;
    enum scan_end ended;
    int error;
    uint8_t *buffer;
    uint32_t room, begin, filled; /* buffer holds [begin, begin + filled) of the file */
};

/* From position `from` to `to`. */
void scan_begin(struct scan *s, struct log *l, struct segment *segment, uint32_t from, uint32_t to,
                enum scan_how how);
/* The next batch, valid till the next call. False: s->ended says why. */
NODISCARD bool scan_next(struct scan *s, const uint8_t **batch, struct batch_header *h);
void scan_end(struct scan *s);

#endif
