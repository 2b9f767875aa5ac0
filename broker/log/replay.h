/* Laying WAL entries over one log's segments; see replay.c. */
#ifndef BROKER_LOG_REPLAY_H
#define BROKER_LOG_REPLAY_H

#include "broker/log/log_priv.h"

struct replays; /* what the replays of one core share */

NODISCARD struct replays *replays_make(struct log_core *c);
void replays_free(struct replays *rs);
/* One batch of the WAL for an open log. Damage of the log is its own end (FAILED), not an error
 * here. 0 or -errno. */
NODISCARD int replay_batch(struct replays *rs, struct log *l, const struct wal_entry *e,
                           const uint8_t *batch);
/* Durable records are damaged or missing from this offset on: the log is FAILED, now and, by a note
 * in its folder, at later starts. 0 or -errno. */
NODISCARD int replay_rot(struct log *l, int64_t offset, const char *what);
/* What the WAL says of an aborted transaction whose marker came just before. 0 or -errno. */
NODISCARD int replay_aborted(struct log *l, const struct wal_entry *e, const uint8_t *bytes);
/* After the last one: what is behind stays if it is sound, the rest is cut; the log's offsets are
 * set. Unless the WAL was not read as a whole: then it only frees. 0 or -errno. */
NODISCARD int replay_end(struct replays *rs, struct log *l, bool whole);
/* Instead, for a log without WAL entries whose end nothing proves: Kafka's recovery from the
 * recovery point: cut at the first bad batch. */
NODISCARD int replay_by_scan(struct log *l);
/* Producers from batches at and behind an offset, and below another. */
NODISCARD int replay_producers(struct log *l, int64_t from, int64_t to);

#endif
