/* The active controller's decisions: one admin request in, metadata records and an answer out, with
 * the results and error codes of Kafka 4.3. Pure: looks at the metadata, writes into the step.
 * Nothing has happened until the records are in the log. */
#ifndef BROKER_QUORUM_CONTROLLER_H
#define BROKER_QUORUM_CONTROLLER_H

#include "broker/quorum/metadata.h"
#include "core/arena.h"
#include "core/trace.h"
#include "proto/error.h"

#define PRODUCER_ID_BLOCK 1000

struct control_feature;

/* What a step may look at. Lives for the call. */
struct controller {
    const struct metadata *md;
    const struct config *node;
    struct trace *trace; /* BROKER_LOGGER alterations set its levels */
    int32_t broker_id;
    const struct uuid *dir_ids; /* of this broker's log directories */
    const uint32_t *dir_loads;  /* partitions in each */
    uint32_t dirs_count;
    uint32_t dirs_failed; /* bits: nothing new goes there, unless all have */
    const struct control_feature *served;
    uint32_t served_count;
    const char *cluster_id;
    int32_t leader_epoch;
    int64_t end_offset, now_ms;
    bool full; /* a log directory has no space: nothing is made that needs more of it */
    void (*entropy)(void *context, void *to, size_t size);
    void *entropy_context;
};

/* One request under way. */
struct step {
    const struct controller *c;
    int16_t version;
    struct arena *arena; /* the answer's */
    struct record_list records;
    struct arena *scratch; /* gone after the step */
};

/* Answers a request of one of control.h's kinds. false: no memory, nothing is to be written and
 * the answer is not whole. */
NODISCARD bool controller_step(struct step *s, int16_t api_key, const void *request,
                               void *response);
bool controller_serves(int16_t api_key);

/* ---- what is not asked for by a client ---------------------------------------------------------
 */

/* The first records of a log that has none: what bootstrap.checkpoint says, in one transaction. */
void controller_bootstrap(struct step *s, const struct record_value *records, uint32_t count);
/* Registers this broker (fenced) as of the record at offset `epoch`. */
struct broker_registration {
    int64_t epoch;
    struct uuid incarnation, controller_incarnation;
    const struct endpoint_image *endpoints;
    uint32_t endpoints_count;
    struct endpoint_image controller_endpoint;
    const char *rack;
};
void controller_register(struct step *s, const struct broker_registration *r);
/* Gives every partition that has its only live replica here a new leadership, from partition index
 * *partition of topic *topic on, as many as fit one batch; false when that was the last. */
bool controller_lead_all(struct step *s, uint32_t *topic, uint32_t *partition);
/* Fences or unfences this broker. */
void controller_fence(struct step *s, bool fenced);

#endif
