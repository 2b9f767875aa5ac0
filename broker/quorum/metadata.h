/* struct metadata: all that the metadata log says, as the control core holds it: the image, records
 * it keeps but does not look into (ACLs, SCRAM, quotas, tokens, controllers), the next producer id
 * and the quorum's own control records. Changed by replaying records, and by nothing else.
 *
 *   log, snapshot, a step's records -> replay_record... -> replay_finish -> delta -> metadata_apply
 *
 * Pure: no I/O. Control core only. */
#ifndef BROKER_QUORUM_METADATA_H
#define BROKER_QUORUM_METADATA_H

#include "broker/quorum/image.h"
#include "broker/quorum/records.h"
#include "core/arena.h"

#define METADATA_WHY_SIZE 256
/* Replaying at start makes leaves whenever drafts have grown to this. */
#define REPLAY_DRAFTS_BYTES (64u << 20)

struct kept_record {
    uint8_t *key; /* api key and what identifies it; the value is in the same block */
    uint32_t key_size;
    struct record_value value; /* with its frame */
};

struct metadata {
    struct mem *mem;
    const struct config *node;
    struct image image; /* the control core's */
    struct map kept;    /* struct kept_record by key */
    int64_t next_producer_id;
    int64_t last_timestamp_ms; /* of the last batch replayed */
    bool open_transaction;     /* the log ends inside one: abort it */
    /* Control records: 0 and no voters until some are seen. */
    int16_t kraft_version;
    uint8_t *voters; /* value of the last VotersRecord */
    uint32_t voters_size;
};

void metadata_init(struct metadata *md, struct mem *mem, const struct config *node);
/* Frees leaves too. */
void metadata_destroy(struct metadata *md);
/* The delta becomes part of the image. 0 or -ENOMEM (nothing changed). */
NODISCARD int metadata_apply(struct metadata *md, const struct image_delta *delta);
/* A control batch of the log or a snapshot. 0, -EBADMSG, -ENOMEM. */
NODISCARD int metadata_control(struct metadata *md, const uint8_t *batch,
                               const struct batch_header *h);

/* For replay: what is kept as bytes. 0 or -ENOMEM. */
NODISCARD int kept_put(struct metadata *md, const void *key, uint32_t key_size,
                       struct record_value value);
void kept_remove(struct metadata *md, const void *key, uint32_t key_size);

/* ---- replay -----------------------------------------------------------------------------------
 */

struct topic_draft;
struct broker_draft;
struct config_draft;

/* Records on their way to becoming a delta. */
struct replay {
    struct metadata *md;
    struct arena arena; /* drafts */
    struct map topics_by_id, topics_by_name;
    struct list topics, brokers, configs; /* drafts, in order of first touch */
    struct feature_level *features;       /* NULL: untouched */
    uint32_t features_count;
    int64_t next_producer_id; /* -1: untouched */
    bool defaults_touched;    /* of topics, by a broker's dynamic configs */
    bool in_transaction;
    struct record_list transaction; /* waits for its end */
    char why[METADATA_WHY_SIZE];
};

void replay_init(struct replay *r, struct metadata *md, uint64_t arena_bytes);
/* 0; -EBADMSG (unknown, malformed, or about something that is not there) with r->why; -ENOMEM.
 * After an error only replay_drop. */
NODISCARD int replay_record(struct replay *r, struct record_value value);
/* Leaves from the drafts, and what they change. Drafts are gone after. 0; -EBADMSG with r->why;
 * -ENOMEM. delta->offset and ->epoch are the given ones. */
NODISCARD int replay_finish(struct replay *r, int64_t offset, int32_t epoch,
                            struct image_delta **delta);
bool replay_is_large(const struct replay *r); /* finish, apply, and go on */
void replay_drop(struct replay *r);

/* ---- snapshot ---------------------------------------------------------------------------------
 */

/* The whole of a snapshot file for what md says: header, control records, records, footer. */
void snapshot_build(const struct metadata *md, struct batch_buffer *to, int32_t epoch,
                    int64_t now_ms);
/* Only the metadata records, as a list: what one would have to replay to get md. */
void snapshot_records(const struct metadata *md, struct record_list *to);
/* One partition as a record, in the version that a metadata.version level asks for. */
void snapshot_partition(const struct partition_image *p, struct uuid topic_id, int16_t level,
                        struct record_list *to);

#endif
