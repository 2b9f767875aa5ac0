/* struct quorum_state: what a voter must not forget between two starts: the epoch it is in, who
 * leads it, whom it voted for. One line of JSON in __cluster_metadata-0/quorum-state, as Kafka has
 * it: version 0 for a static quorum (kraft.version 0), version 1 for a dynamic one. Pure. */
#ifndef BROKER_QUORUM_QUORUM_STATE_H
#define BROKER_QUORUM_QUORUM_STATE_H

#include "core/assert.h"
#include "core/uuid.h"

#include <stddef.h>
#include <stdint.h>

#define QUORUM_STATE_FILE       "quorum-state"
#define QUORUM_STATE_VOTERS_MAX 16
#define QUORUM_STATE_TEXT_MAX   2048

struct quorum_state {
    int16_t version; /* 0 or 1 */
    int32_t leader_id, leader_epoch;
    int32_t voted_id; /* -1: nobody */
    struct uuid voted_directory;
    int32_t voters[QUORUM_STATE_VOTERS_MAX]; /* version 0 */
    uint32_t voters_count;
};

/* 0; -EBADMSG when the text is no such state; -ENOTSUP for a version we do not know. */
NODISCARD int quorum_state_parse(struct quorum_state *s, const char *text, size_t size);
/* Returns the size of the text, at most QUORUM_STATE_TEXT_MAX with its terminator. */
size_t quorum_state_print(const struct quorum_state *s, char *text, size_t room);

#endif
