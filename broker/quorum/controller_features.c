/* UpdateFeatures: levels that the cluster has agreed on.
 *
 *   each update in order: known here, level in range, downgrade allowed, what it needs is there
 *     -> FeatureLevelRecord; the first that is refused refuses them all
 *
 * metadata.version goes down only where no level in between has changed what records can say: the
 * records that an older version does not know are in the log, and nobody could take them out.
 * kraft.version is no record but a control record of the quorum.
 *
 * Invariants
 *  1. All updates of a request or none.
 *  2. A level is finalized only if this node supports it.
 *  3. Eligible leader replicas are on only while the cluster itself has min.insync.replicas, and no
 *     broker one of its own.
 *
 * Failure modes: see controller.c. */
#include "broker/quorum/controller_priv.h"

#include <stdio.h>
#include <string.h>

#include "core/assert.h"
#include "proto/gen/record_cluster.h"
#include "proto/gen/record_topic.h"
#include "proto/gen/update_features.h"

#define UPGRADE          1
#define DOWNGRADE_SAFE   2
#define DOWNGRADE_UNSAFE 3
#define MIN_ISR          "min.insync.replicas"
#define FEATURE_TEXT_MAX 128

/* Levels that brought records, or fields of records, that the level before could not read. */
static const int16_t changing_levels[] = {8, 11, 13, 14, 15, 17, 23, 30};
#define CHANGING_LEVELS_COUNT (sizeof(changing_levels) / sizeof(changing_levels[0]))

/* The metadata.version that a feature above 0 needs. */
static const struct {
    const char *name;
    int16_t level;
} needs[] = {
    {"group.version", 22},
    {FEATURE_ELR, METADATA_4_0_IV1},
    {"share.version", 28},
    {"streams.version", 29},
};
#define NEEDS_COUNT (sizeof(needs) / sizeof(needs[0]))

void elr_safety_records(struct step *s)
{
    const struct image *img = step_image(s);
    const struct config_image *cluster = image_config(img, RESOURCE_BROKER, "", 0);
    struct config_record m;
    char value[16];
    config_record_init(&m);
    m.resource_type = RESOURCE_BROKER;
    m.name = wire_string_of(MIN_ISR);
    m.resource_name = wire_string_of("");
    if (config_image_get(cluster, MIN_ISR) == NULL) {
        snprintf(value, sizeof(value), "%d", s->c->node->broker.topic.min_insync_replicas);
        m.value = wire_string_of(value);
        record_list_add(&s->records, CONFIG_RECORD_API_KEY, 0, &m);
    }
    for (uint32_t i = 0; i < img->configs_count; i++) {
        const struct config_image *c = img->configs[i];
        if (c->type != RESOURCE_BROKER || c->name_size == 0 || config_image_get(c, MIN_ISR) == NULL)
            continue;
        m.resource_name = (struct wire_string){c->name, (int32_t)c->name_size};
        m.value = WIRE_NULL_STRING;
        record_list_add(&s->records, CONFIG_RECORD_API_KEY, 0, &m);
    }
}

/* The level as it will be once the updates before this one are applied. */
static int16_t level_now(const struct step *s, const struct update_features_request *q,
                         int32_t before, const char *name)
{
    int16_t level = strcmp(name, FEATURE_KRAFT_VERSION) == 0 ? s->c->md->kraft_version
                                                             : image_feature(step_image(s), name);
    for (int32_t i = 0; i < before; i++) {
        if (wire_string_equal(q->feature_updates[i].feature, wire_string_of(name)))
            level = q->feature_updates[i].max_version_level;
    }
    return level;
}

static struct outcome metadata_downgrade(struct step *s, int16_t from, int16_t to, int8_t type)
{
    for (size_t i = 0; i < CHANGING_LEVELS_COUNT; i++) {
        if (changing_levels[i] <= to || changing_levels[i] > from)
            continue;
        if (type == DOWNGRADE_UNSAFE)
            return outcome_error(s, KE_INVALID_UPDATE_VERSION,
                                 "metadata.version cannot go down from %d to %d: unsafe downgrades "
                                 "of metadata are not supported.",
                                 from, to);
        return outcome_error(s, KE_INVALID_UPDATE_VERSION,
                             "metadata.version cannot go down from %d to %d: level %d has changed "
                             "what metadata records hold, and that could be lost.",
                             from, to, changing_levels[i]);
    }
    return outcome_none();
}

static struct outcome needs_check(struct step *s, const struct update_features_request *q,
                                  int32_t at, const char *name, int16_t level)
{
    int16_t metadata = level_now(s, q, q->feature_updates_count, FEATURE_METADATA_VERSION);
    for (size_t i = 0; i < NEEDS_COUNT; i++) {
        bool raised = level > 0 && strcmp(name, needs[i].name) == 0;
        bool undercut =
            strcmp(name, FEATURE_METADATA_VERSION) == 0 && level_now(s, q, at, needs[i].name) > 0;
        if ((raised || undercut) && metadata < needs[i].level)
            return outcome_error(s, KE_INVALID_UPDATE_VERSION,
                                 "%s needs metadata.version %d or above, which would be %d.",
                                 needs[i].name, needs[i].level, metadata);
    }
    return outcome_none();
}

static struct outcome range_check(struct step *s, const char *name, int16_t level)
{
    int16_t min, max, now = image_feature(step_image(s), name);
    bool supported = feature_supported(s->c, name, &min, &max);
    if (!supported && now > 0 && level >= 0 && level <= now)
        return outcome_none(); /* finalized by others, not served here: it may be given up */
    if (!supported)
        return outcome_error(s, KE_INVALID_UPDATE_VERSION,
                             "Invalid update version %d for feature %s. Controller %d does not "
                             "support this feature.",
                             level, name, s->c->broker_id);
    if (level < 0)
        return outcome_error(s, KE_INVALID_UPDATE_VERSION,
                             "Invalid update version %d for feature %s. A version cannot be less "
                             "than 0.",
                             level, name);
    bool off = level == 0 && strcmp(name, FEATURE_METADATA_VERSION) != 0;
    if (!off && (level < min || level > max))
        return outcome_error(
            s, KE_INVALID_UPDATE_VERSION,
            "Invalid update version %d for feature %s. Controller %d only supports "
            "versions %d-%d",
            level, name, s->c->broker_id, min, max);
    return outcome_none();
}

static struct outcome feature_check(struct step *s, const struct update_features_request *q,
                                    int32_t at, const char *name, int16_t *before)
{
    const struct update_features_request_feature_update_key *u = &q->feature_updates[at];
    int8_t type = s->version >= 1 ? u->upgrade_type : UPGRADE;
    int16_t level = u->max_version_level;
    if (type < UPGRADE || type > DOWNGRADE_UNSAFE)
        return outcome_error(s, KE_INVALID_UPDATE_VERSION,
                             "Invalid update version %d for feature %s. The upgrade type is not "
                             "known.",
                             level, name);
    struct outcome o = range_check(s, name, level);
    if (o.error != KE_NONE)
        return o;
    *before = level_now(s, q, at, name);
    if (level < *before && type == UPGRADE)
        return outcome_error(s, KE_INVALID_UPDATE_VERSION,
                             "Invalid update version %d for feature %s. Going down needs the "
                             "upgrade type of a safe or an unsafe downgrade.",
                             level, name);
    if (strcmp(name, FEATURE_KRAFT_VERSION) == 0 && level != *before)
        return outcome_error(s, KE_INVALID_UPDATE_VERSION,
                             "Invalid update version %d for feature %s. The voters of this quorum "
                             "are %s.",
                             level, name, *before > 0 ? "in its log" : "in its configuration");
    if (strcmp(name, FEATURE_METADATA_VERSION) == 0 && level < *before)
        o = metadata_downgrade(s, *before, level, type);
    return o.error != KE_NONE ? o : needs_check(s, q, at, name, level);
}

static struct outcome feature_update(struct step *s, const struct update_features_request *q,
                                     int32_t at)
{
    const struct update_features_request_feature_update_key *u = &q->feature_updates[at];
    const char *name = step_text(s, u->feature);
    int16_t before = 0;
    if (name == NULL)
        return outcome_none(); /* the step fails as a whole */
    if (u->feature.size > FEATURE_TEXT_MAX || strlen(name) != (size_t)u->feature.size)
        return outcome_error(s, KE_INVALID_UPDATE_VERSION, "A feature's name cannot be so.");
    struct outcome o = feature_check(s, q, at, name, &before);
    if (o.error != KE_NONE || u->max_version_level == before)
        return o;
    if (strcmp(name, FEATURE_ELR) == 0 && before == 0)
        elr_safety_records(s); /* invariant 3 */
    struct feature_level_record m;
    feature_level_record_init(&m);
    m.name = u->feature;
    m.feature_level = u->max_version_level;
    record_list_add(&s->records, FEATURE_LEVEL_RECORD_API_KEY, 0, &m);
    return o;
}

void step_update_features(struct step *s, const struct update_features_request *q,
                          struct update_features_response *a)
{
    struct outcome o = outcome_none();
    assert(s->records.count == 0);
    for (int32_t i = 0; i < q->feature_updates_count && o.error == KE_NONE; i++) {
        if (s->records.count + step_image(s)->configs_count + 2 > RECORDS_PER_CALL_MAX)
            o = outcome_error(s, KE_POLICY_VIOLATION,
                              "Unable to perform excessively large batch operation.");
        else
            o = feature_update(s, q, i);
    }
    a->error_code = (int16_t)o.error;
    a->error_message = o.message;
    if (o.error != KE_NONE) {
        s->records.count = 0; /* invariant 1 */
        if (o.message.size > 0)
            a->error_message =
                outcome_error(s, o.error, "Nothing was updated, because of one feature: %.*s",
                              o.message.size, o.message.data)
                    .message;
        return;
    }
    if (q->validate_only)
        s->records.count = 0;
    if (s->version > 1)
        return;
    a->results = step_array(s, q->feature_updates_count, sizeof(*a->results));
    for (int32_t i = 0; i < q->feature_updates_count && a->results != NULL; i++) {
        update_features_response_updatable_feature_result_init(&a->results[i]);
        a->results[i].feature = q->feature_updates[i].feature;
        a->results[i].error_message = wire_string_of("NONE");
        a->results_count++;
    }
}
