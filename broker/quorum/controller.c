/* The controller's common part: which request goes where, and what all of them use.
 *
 *   request + metadata --step--> answer + records --(log, fsync)--> metadata'
 *
 * A step is atomic: control.c throws its records away if it fails, and replays all of them if it
 * does not. So a step decides item by item, and an item that is refused simply adds no record.
 *
 * Invariants
 *  1. A step only reads metadata; what it wants changed it says in records.
 *  2. What it says of an item is true once its records are applied, and nothing is changed for an
 *     item that it refuses.
 *  3. No step makes more than RECORDS_PER_CALL_MAX records: bigger requests are refused whole.
 *
 * Failure modes: the client's (in the answer), and memory (false: the answer becomes an error). */
#include "broker/quorum/controller_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/assert.h"
#include "proto/gen/allocate_producer_ids.h"
#include "proto/gen/alter_configs.h"
#include "proto/gen/alter_partition_reassignments.h"
#include "proto/gen/create_partitions.h"
#include "proto/gen/create_topics.h"
#include "proto/gen/delete_topics.h"
#include "proto/gen/describe_quorum.h"
#include "proto/gen/elect_leaders.h"
#include "proto/gen/incremental_alter_configs.h"
#include "proto/gen/list_partition_reassignments.h"
#include "proto/gen/record_topic.h"
#include "proto/gen/unregister_broker.h"
#include "proto/gen/update_features.h"

/* Directories that no broker has: reserved ids 0, 1, 2. */
static const struct uuid dir_unassigned = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};

bool controller_serves(int16_t api_key)
{
    switch (api_key) {
    case CREATE_TOPICS_REQUEST_API_KEY:
    case DELETE_TOPICS_REQUEST_API_KEY:
    case CREATE_PARTITIONS_REQUEST_API_KEY:
    case ALTER_CONFIGS_REQUEST_API_KEY:
    case INCREMENTAL_ALTER_CONFIGS_REQUEST_API_KEY:
    case UPDATE_FEATURES_REQUEST_API_KEY:
    case ELECT_LEADERS_REQUEST_API_KEY:
    case ALTER_PARTITION_REASSIGNMENTS_REQUEST_API_KEY:
    case LIST_PARTITION_REASSIGNMENTS_REQUEST_API_KEY:
    case ALLOCATE_PRODUCER_IDS_REQUEST_API_KEY:
    case UNREGISTER_BROKER_REQUEST_API_KEY:
    case DESCRIBE_QUORUM_REQUEST_API_KEY:
        return true;
    default:
        return false;
    }
}

static void step_dispatch(struct step *s, int16_t api_key, const void *request, void *response)
{
    switch (api_key) {
    case CREATE_TOPICS_REQUEST_API_KEY:
        step_create_topics(s, request, response);
        return;
    case DELETE_TOPICS_REQUEST_API_KEY:
        step_delete_topics(s, request, response);
        return;
    case CREATE_PARTITIONS_REQUEST_API_KEY:
        step_create_partitions(s, request, response);
        return;
    case ALTER_CONFIGS_REQUEST_API_KEY:
        step_alter_configs(s, request, response);
        return;
    case INCREMENTAL_ALTER_CONFIGS_REQUEST_API_KEY:
        step_incremental_alter_configs(s, request, response);
        return;
    case UPDATE_FEATURES_REQUEST_API_KEY:
        step_update_features(s, request, response);
        return;
    case ELECT_LEADERS_REQUEST_API_KEY:
        step_elect_leaders(s, request, response);
        return;
    case ALTER_PARTITION_REASSIGNMENTS_REQUEST_API_KEY:
        step_alter_reassignments(s, request, response);
        return;
    case LIST_PARTITION_REASSIGNMENTS_REQUEST_API_KEY:
        step_list_reassignments(s, request, response);
        return;
    case ALLOCATE_PRODUCER_IDS_REQUEST_API_KEY:
        step_allocate_producer_ids(s, request, response);
        return;
    case UNREGISTER_BROKER_REQUEST_API_KEY:
        step_unregister_broker(s, request, response);
        return;
    case DESCRIBE_QUORUM_REQUEST_API_KEY:
        step_describe_quorum(s, request, response);
        return;
    default:
        assert(controller_serves(api_key)); /* the caller has asked */
    }
}

bool controller_step(struct step *s, int16_t api_key, const void *request, void *response)
{
    assert(s->c->md != NULL && s->arena != NULL);
    assert(controller_serves(api_key));
    record_list_init(&s->records, s->scratch);
    step_dispatch(s, api_key, request, response);
    assert(s->records.count <= RECORDS_PER_CALL_MAX); /* invariant 3 */
    return !s->records.failed && !s->arena->failed && !s->scratch->failed;
}

/* ---- texts and arrays -------------------------------------------------------------------------
 */

struct outcome outcome_error(struct step *s, enum kafka_error error, const char *format, ...)
{
    assert(error != KE_NONE);
    char text[STEP_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    int32_t size = MIN(n, (int32_t)sizeof(text) - 1);
    assert(n >= 0);
    const char *copy = arena_copy(s->arena, text, (size_t)size);
    return (struct outcome){error, {copy, copy == NULL ? -1 : size}};
}

void *step_array(struct step *s, int32_t count, size_t size)
{
    assert(count >= 0);
    return arena_array(s->arena, (size_t)count, size);
}

const char *step_text(struct step *s, struct wire_string text)
{
    uint32_t size = (uint32_t)MAX(text.size, 0);
    char *copy = arena_alloc(s->scratch, (size_t)size + 1);
    if (copy == NULL)
        return NULL;
    if (size > 0)
        memcpy(copy, text.data, size);
    copy[size] = '\0';
    return copy;
}

/* ---- what the metadata says -------------------------------------------------------------------
 */

const struct image *step_image(const struct step *s)
{
    return &s->c->md->image;
}

int16_t step_level(const struct step *s)
{
    return image_feature(step_image(s), FEATURE_METADATA_VERSION);
}

bool elr_is_enabled(const struct step *s)
{
    return image_feature(step_image(s), FEATURE_ELR) > 0;
}

bool broker_is_active(const struct broker_image *b)
{
    return b != NULL && !b->fenced && !b->in_controlled_shutdown;
}

static struct config_overrides broker_overrides(const struct step *s, const char *name)
{
    const struct config_image *c =
        image_config(step_image(s), RESOURCE_BROKER, name, (uint32_t)strlen(name));
    return c != NULL ? c->set : (struct config_overrides){NULL, 0};
}

struct config_layers step_layers(const struct step *s)
{
    char id[16];
    snprintf(id, sizeof(id), "%d", s->c->broker_id);
    return (struct config_layers){
        .node = s->c->node,
        .broker = broker_overrides(s, id),
        .cluster = broker_overrides(s, ""),
        .elr = elr_is_enabled(s),
    };
}

/* ---- names that come twice --------------------------------------------------------------------
 */

void seen_init(struct seen *seen, struct step *s)
{
    *seen = (struct seen){.scratch = s->scratch};
    map_init(&seen->map, s->c->md->mem, 0);
    assert(seen->map.count == 0);
}

void seen_add(struct seen *seen, const void *key, uint32_t key_size)
{
    uint32_t *times = map_get(&seen->map, key, key_size);
    if (times == NULL) {
        times = arena_array(seen->scratch, 1, sizeof(*times));
        /* An arena that failed is seen by controller_step; a map that did is made to look so. */
        if (times == NULL || map_put(&seen->map, key, key_size, times) != 0) {
            seen->scratch->failed = true;
            return;
        }
    }
    (*times)++;
}

uint32_t seen_times(const struct seen *seen, const void *key, uint32_t key_size)
{
    const uint32_t *times = map_get(&seen->map, key, key_size);
    return times == NULL ? 0 : *times;
}

void seen_done(struct seen *seen)
{
    map_destroy(&seen->map);
}

/* ---- where partitions go ----------------------------------------------------------------------
 */

struct outcome assignment_check(struct step *s, const int32_t *ids, int32_t count, int32_t factor)
{
    if (count <= 0)
        return outcome_error(s, KE_INVALID_REPLICA_ASSIGNMENT,
                             "An assignment needs at least one replica.");
    for (int32_t i = 0; i < count; i++) {
        if (image_broker(step_image(s), ids[i]) == NULL)
            return outcome_error(s, KE_INVALID_REPLICA_ASSIGNMENT,
                                 "The assignment names broker %d, which is not registered.",
                                 ids[i]);
        for (int32_t k = 0; k < i; k++) {
            if (ids[k] == ids[i])
                return outcome_error(s, KE_INVALID_REPLICA_ASSIGNMENT,
                                     "The assignment names broker %d more than once.", ids[i]);
        }
    }
    if (factor != 0 && count != factor)
        return outcome_error(s, KE_INVALID_REPLICA_ASSIGNMENT,
                             "The assignment has %d replicas where the other partitions have %d.",
                             count, factor);
    return outcome_none();
}

struct outcome placement(struct step *s, int32_t factor, int32_t *ids)
{
    const struct image *img = step_image(s);
    assert(factor > 0);
    if ((uint32_t)factor > img->brokers_count)
        return outcome_error(s, KE_INVALID_REPLICATION_FACTOR,
                             "Unable to replicate the partition %d time(s): only %u broker(s) are "
                             "registered.",
                             factor, img->brokers_count);
    /* This broker, which is the only one that can be alive, then the others as they come. */
    const struct broker_image *self = image_broker(img, s->c->broker_id);
    if (!broker_is_active(self))
        return outcome_error(s, KE_INVALID_REPLICATION_FACTOR,
                             "Unable to replicate the partition %d time(s): all brokers are fenced "
                             "or shutting down.",
                             factor);
    int32_t n = 0;
    ids[n++] = s->c->broker_id;
    for (uint32_t i = 0; i < img->brokers_count && n < factor; i++) {
        if (img->brokers[i]->id != s->c->broker_id)
            ids[n++] = img->brokers[i]->id;
    }
    assert(n == factor);
    return outcome_none();
}

uint32_t *step_dir_loads(struct step *s)
{
    assert(s->c->dirs_count > 0);
    return arena_copy(s->scratch, s->c->dir_loads, s->c->dirs_count * sizeof(uint32_t));
}

static struct uuid dir_choose(const struct controller *c, uint32_t *dir_loads)
{
    uint32_t least = 0;
    for (uint32_t i = 1; i < c->dirs_count; i++) {
        bool failed = (c->dirs_failed & 1u << i) != 0;
        bool least_failed = (c->dirs_failed & 1u << least) != 0;
        if (failed == least_failed ? dir_loads[i] < dir_loads[least] : least_failed)
            least = i;
    }
    dir_loads[least]++;
    return c->dir_ids[least];
}

bool partition_record_add(struct step *s, struct uuid topic_id, int32_t index, const int32_t *ids,
                          int32_t count, uint32_t *dir_loads)
{
    int32_t *replicas = arena_copy(s->scratch, ids, (size_t)count * sizeof(*ids));
    int32_t *isr = arena_array(s->scratch, (size_t)count, sizeof(*isr));
    struct uuid *dirs = arena_array(s->scratch, (size_t)count, sizeof(*dirs));
    if (replicas == NULL || isr == NULL || dirs == NULL)
        return true; /* the step fails as a whole */
    uint16_t isr_count = 0;
    for (int32_t i = 0; i < count; i++) {
        if (broker_is_active(image_broker(step_image(s), ids[i])))
            isr[isr_count++] = ids[i];
    }
    if (isr_count == 0)
        return false;
    for (int32_t i = 0; i < count; i++)
        dirs[i] = ids[i] == s->c->broker_id ? dir_choose(s->c, dir_loads) : dir_unassigned;
    struct partition_image p = {
        .index = index,
        .leader = isr[0],
        .replicas = replicas,
        .replicas_count = (uint16_t)count,
        .isr = isr,
        .isr_count = isr_count,
        .directories = dirs,
    };
    snapshot_partition(&p, topic_id, step_level(s), &s->records);
    return true;
}
