/* Incremental fetch sessions (KIP-227): the broker remembers which partitions a consumer reads, so
 * that a poll names only what changed. A session lives on the core of the connection that made it;
 * a client that comes back on another core is told FETCH_SESSION_ID_NOT_FOUND and makes a new one.
 * Rules are those of FetchSession.scala: which partitions an incremental answer carries, epochs,
 * eviction. Home core only. */
#ifndef BROKER_API_FETCH_SESSION_H
#define BROKER_API_FETCH_SESSION_H

#include "core/list.h"
#include "core/map.h"
#include "core/mem.h"
#include "core/uuid.h"
#include "proto/error.h"
#include "proto/gen/fetch.h"

struct data_core;

#define FETCH_SESSION_EVICTION_NS (120 * 1000000000ull) /* idle sessions make room for new ones */

struct fetch_partition {
    struct list link; /* fetch_session.partitions, in answer order */
    uint32_t size;    /* of this block, with the name behind */
    uint32_t key_size;
    int32_t partition;
    struct uuid topic_id; /* zero for sessions by name */
    int64_t fetch_offset;
    int32_t current_leader_epoch, last_fetched_epoch, max_bytes;
    /* what the client was last told */
    int64_t high_watermark, log_start_offset;
    uint16_t name_size;
    char key[]; /* partition (4 bytes), then the topic's id or name */
};

struct fetch_session {
    struct list link; /* fetch_sessions.used, longest unused first */
    int32_t id, epoch;
    bool uses_ids;
    bool busy; /* a flow works with it */
    bool dead; /* removed while busy: freed when the flow ends */
    uint64_t used_ns;
    struct list partitions;
    struct map by_key;
    uint64_t bytes;
};

struct fetch_sessions {
    struct data_core *core;
    struct map by_id;
    struct list used;
    uint32_t slots;
    uint64_t created, evicted;
};

int fetch_sessions_init(struct fetch_sessions **sessions, struct data_core *core);
void fetch_sessions_free(struct fetch_sessions *sessions);

enum fetch_kind {
    FETCH_SESSIONLESS, /* answer everything asked, remember nothing */
    FETCH_FULL,        /* answer everything asked, and remember it if there is a slot */
    FETCH_INCREMENTAL, /* answer what is new in the session's partitions */
};

struct fetch_context {
    enum fetch_kind kind;
    struct fetch_session *session; /* FETCH_INCREMENTAL; busy until fetch_context_end */
};

/* Finds out what the request's session fields mean and brings the session up to date. NONE, or the
 * error that is the whole answer. */
enum kafka_error fetch_context_begin(struct fetch_sessions *s, struct fetch_context *c,
                                     const struct fetch_request *r, int16_t version);
/* A full fetch was answered: its partitions and what they were told become a session. Returns its
 * id, or 0 when no slot (or memory) is free. Call once per topic entry with fetch_session_add. */
struct fetch_session *fetch_session_create(struct fetch_sessions *s, bool uses_ids,
                                           uint32_t partitions_count);
bool fetch_session_add(struct fetch_sessions *s, struct fetch_session *session,
                       const struct fetch_request_fetch_topic *topic,
                       const struct fetch_request_fetch_partition *p,
                       const struct fetch_response_partition_data *told);
void fetch_session_remove(struct fetch_sessions *s, struct fetch_session *session);
/* Must an incremental answer carry this? If so, what it tells is remembered, and a partition with
 * records goes to the end of the order. */
bool fetch_partition_tells(struct fetch_session *session, struct fetch_partition *p,
                           const struct fetch_response_partition_data *answer,
                           uint32_t records_size);
void fetch_context_end(struct fetch_sessions *s, struct fetch_context *c);

#endif
