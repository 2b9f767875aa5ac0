/* Small things of the flusher that recovery and the clean stop use too; see flush.c. */
#ifndef BROKER_LOG_FLUSH_H
#define BROKER_LOG_FLUSH_H

#include "broker/log/log_priv.h"

/* The last entry of a segment's time index, which Kafka adds when it rolls or closes. At once. */
NODISCARD int segment_seal(struct log *l, struct segment *s);
/* Makes the three files (and the snapshot, if one was taken at the roll). At once. */
NODISCARD int segment_create(struct log *l, struct segment *s);
/* <offset>.snapshot, not synced. At once. */
NODISCARD int snapshot_write(struct log *l, int64_t offset, const uint8_t *data, uint32_t size);

#endif
