/* Configs: AlterConfigs and IncrementalAlterConfigs of topics, brokers, groups, client metrics and
 * loggers.
 *
 *   resource once in the request? -> its own rules (broker: this one; topic: it exists)
 *     -> broker/config: what the edits make of it -> ELR's rules -> ConfigRecords [, ClearElr]
 *
 * What a value means and which values go together is known to broker/config alone; here is only who
 * may be altered.
 *
 * Invariants
 *  1. One resource is altered as a whole or not at all; resources do not hinder each other.
 *  2. With eligible leader replicas on, min.insync.replicas is a promise made to controllers: it
 * has one value for the cluster, none per broker, and when it changes what was promised before
 *     (ELR) is forgotten.
 *
 * Failure modes: see controller.c. */
#include "broker/quorum/controller_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/config/alter.h"
#include "core/assert.h"
#include "proto/gen/alter_configs.h"
#include "proto/gen/incremental_alter_configs.h"
#include "proto/gen/record_topic.h"

#define MIN_ISR      "min.insync.replicas"
#define RESOURCE_KEY (1u + WIRE_STRING_MAX)

/* One resource of either request. */
struct alteration {
    int8_t type;
    struct wire_string name;
    const char *text; /* name, terminated */
    struct config_edit *edits;
    uint32_t edits_count;
    bool replace; /* AlterConfigs: what is not named goes back to its default */
};

static struct outcome refused(struct step *s, const struct config_refusal *r)
{
    assert(r->error != KE_NONE);
    return outcome_error(s, r->error, "%s", r->message);
}

/* ---- who may be altered -----------------------------------------------------------------------
 */

static struct outcome broker_check(struct step *s, const struct alteration *a)
{
    char *end;
    if (a->text[0] == '\0')
        return outcome_none();
    long id = strtol(a->text, &end, 10);
    if (*end != '\0')
        return outcome_error(s, KE_INVALID_REQUEST, "Node id must be an integer, but it is: %s",
                             a->text);
    if (id != s->c->broker_id)
        return outcome_error(s, KE_INVALID_REQUEST,
                             "Unexpected broker id, expected %d, but received %s", s->c->broker_id,
                             a->text);
    return outcome_none();
}

static struct outcome resource_check(struct step *s, const struct alteration *a)
{
    bool named = a->text[0] != '\0';
    switch (a->type) {
    case RESOURCE_BROKER:
    case RESOURCE_BROKER_LOGGER:
        if (a->type == RESOURCE_BROKER_LOGGER && a->replace)
            break;
        if (!named && a->type == RESOURCE_BROKER_LOGGER)
            return outcome_error(s, KE_INVALID_REQUEST, "Loggers belong to one node: name it.");
        return broker_check(s, a);
    case RESOURCE_TOPIC:
        if (!named)
            return outcome_error(s, KE_INVALID_REQUEST, "Default topic resources are not allowed.");
        return outcome_none(); /* whether it exists is asked last */
    case RESOURCE_GROUP:
        if (!named)
            return outcome_error(s, KE_INVALID_REQUEST, "Default group resources are not allowed.");
        return outcome_none();
    case RESOURCE_CLIENT_METRICS:
        if (!named)
            return outcome_error(s, KE_INVALID_REQUEST, "Subscription name can't be empty");
        return outcome_none();
    default:
        break;
    }
    return outcome_error(s, KE_INVALID_REQUEST, "Unknown resource type %d", a->type);
}

static struct outcome edits_check(struct step *s, const struct alteration *a)
{
    for (uint32_t i = 0; i < a->edits_count; i++) {
        const struct config_edit *e = &a->edits[i];
        if (e->name == NULL)
            return outcome_error(s, KE_INVALID_REQUEST, "A config's name has a zero byte.");
        if (e->value == NULL && e->operation != CONFIG_DELETE)
            return outcome_error(s, KE_INVALID_REQUEST, "Null value not supported for : %s",
                                 e->name);
    }
    return outcome_none();
}

/* ---- ELR --------------------------------------------------------------------------------------
 */

/* broker/config refuses what ELR does not allow; what it allows may still touch the promise. */
static bool elr_is_touched(const struct step *s, const struct alteration *a,
                           const struct config_results *results)
{
    if (!elr_is_enabled(s) || (a->type != RESOURCE_TOPIC && a->type != RESOURCE_BROKER))
        return false;
    assert(results->count == 0 || results->items != NULL);
    for (uint32_t i = 0; i < results->count; i++) {
        if (strcmp(results->items[i].name, MIN_ISR) == 0)
            return true;
    }
    return false;
}

/* ---- one resource -----------------------------------------------------------------------------
 */

static void results_record(struct step *s, const struct alteration *a,
                           const struct config_results *results, bool clear_elr)
{
    for (uint32_t i = 0; i < results->count; i++) {
        struct config_record m;
        config_record_init(&m);
        m.resource_type = a->type;
        m.resource_name = a->name;
        m.name = wire_string_of(results->items[i].name);
        m.value = wire_string_of(results->items[i].value);
        record_list_add(&s->records, CONFIG_RECORD_API_KEY, 0, &m);
    }
    if (!clear_elr)
        return;
    struct clear_elr_record m;
    clear_elr_record_init(&m);
    m.topic_name = a->name; /* "" is every topic */
    record_list_add(&s->records, CLEAR_ELR_RECORD_API_KEY, 0, &m);
}

static bool results_compute(struct step *s, const struct alteration *a,
                            const struct config_resource *resource, struct config_results *results,
                            struct config_refusal *refusal)
{
    struct config_layers layers = step_layers(s);
    if (!a->replace)
        return config_alter(&layers, resource, a->edits, a->edits_count, s->scratch, results,
                            refusal);
    struct config_entry *entries = arena_array(s->scratch, a->edits_count, sizeof(*entries));
    if (entries == NULL)
        return true; /* the step fails as a whole */
    for (uint32_t i = 0; i < a->edits_count; i++)
        entries[i] = (struct config_entry){a->edits[i].name, a->edits[i].value};
    return config_replace(&layers, resource, entries, a->edits_count, s->scratch, results, refusal);
}

static struct outcome resource_alter(struct step *s, const struct alteration *a, bool validate_only)
{
    struct config_refusal refusal = {.error = KE_NONE};
    struct config_results results = {NULL, 0};
    struct outcome o = resource_check(s, a);
    if (o.error == KE_NONE)
        o = edits_check(s, a);
    if (o.error != KE_NONE)
        return o;
    if (a->type == RESOURCE_BROKER_LOGGER)
        return config_logger_alter(s->c->trace, a->edits, a->edits_count, validate_only, &refusal)
                   ? o
                   : refused(s, &refusal);
    const struct config_image *own = image_config(step_image(s), (enum config_resource_type)a->type,
                                                  a->text, (uint32_t)a->name.size);
    struct config_resource resource = {
        .type = (enum config_resource_type)a->type,
        .own = own != NULL ? own->set : (struct config_overrides){NULL, 0},
        .cluster_default = a->type == RESOURCE_BROKER && a->text[0] == '\0',
    };
    if (!results_compute(s, a, &resource, &results, &refusal))
        return refused(s, &refusal);
    struct outcome named = a->type == RESOURCE_TOPIC ? topic_name_check(s, a->name) : o;
    if (named.error != KE_NONE)
        return named;
    if (a->type == RESOURCE_TOPIC &&
        image_topic_by_name(step_image(s), a->text, (uint32_t)a->name.size) == NULL)
        return outcome_error(s, KE_UNKNOWN_TOPIC_OR_PARTITION, "The topic '%s' does not exist.",
                             a->text);
    if (s->records.count + results.count + 1 > RECORDS_PER_CALL_MAX)
        return outcome_error(s, KE_POLICY_VIOLATION,
                             "Unable to perform excessively large batch operation.");
    results_record(s, a, &results, elr_is_touched(s, a, &results));
    return o;
}

/* Type and name as one key, to find resources that come twice. */
static struct wire_string resource_key(struct step *s, int8_t type, struct wire_string name)
{
    uint32_t size = 1 + (uint32_t)MAX(name.size, 0);
    char *key = arena_alloc(s->scratch, size);
    assert(size <= RESOURCE_KEY);
    if (key == NULL)
        return WIRE_NULL_STRING;
    key[0] = (char)type;
    if (size > 1)
        memcpy(key + 1, name.data, size - 1);
    return (struct wire_string){key, (int32_t)size};
}

/* A terminated copy, or NULL when the client's text has a zero byte. */
static const char *clean_text(struct step *s, struct wire_string text)
{
    const char *copy = text.size < 0 ? NULL : step_text(s, text);
    return copy != NULL && strlen(copy) == (size_t)text.size ? copy : NULL;
}

static struct outcome alteration_run(struct step *s, struct alteration *a, const struct seen *seen,
                                     bool validate_only)
{
    struct wire_string key = resource_key(s, a->type, a->name);
    a->text = clean_text(s, a->name);
    if (key.size < 0 || a->edits == NULL)
        return outcome_none(); /* the step fails as a whole */
    if (seen_times(seen, key.data, (uint32_t)key.size) > 1)
        return outcome_error(s, KE_INVALID_REQUEST, "Each resource must appear at most once.");
    if (a->text == NULL)
        return outcome_error(s, KE_INVALID_REQUEST, "The resource's name has a zero byte.");
    return resource_alter(s, a, validate_only);
}

static void seen_resource(struct step *s, struct seen *seen, int8_t type, struct wire_string name)
{
    struct wire_string key = resource_key(s, type, name);
    if (key.size >= 0)
        seen_add(seen, key.data, (uint32_t)key.size);
}

/* ---- the two requests -------------------------------------------------------------------------
 */

void step_incremental_alter_configs(struct step *s,
                                    const struct incremental_alter_configs_request *q,
                                    struct incremental_alter_configs_response *a)
{
    struct seen seen;
    assert(s->records.count == 0);
    a->responses = step_array(s, q->resources_count, sizeof(*a->responses));
    if (a->responses == NULL)
        return;
    a->responses_count = q->resources_count;
    seen_init(&seen, s);
    for (int32_t i = 0; i < q->resources_count; i++)
        seen_resource(s, &seen, q->resources[i].resource_type, q->resources[i].resource_name);
    for (int32_t i = 0; i < q->resources_count; i++) {
        const struct incremental_alter_configs_request_alter_configs_resource *from =
            &q->resources[i];
        struct alteration alter = {
            .type = from->resource_type,
            .name = from->resource_name,
            .edits = arena_array(s->scratch, (size_t)from->configs_count, sizeof(*alter.edits)),
            .edits_count = (uint32_t)from->configs_count,
        };
        for (uint32_t k = 0; k < alter.edits_count && alter.edits != NULL; k++)
            alter.edits[k] = (struct config_edit){from->configs[k].config_operation,
                                                  clean_text(s, from->configs[k].name),
                                                  clean_text(s, from->configs[k].value)};
        struct outcome o = alteration_run(s, &alter, &seen, q->validate_only);
        incremental_alter_configs_response_alter_configs_resource_response_init(&a->responses[i]);
        a->responses[i].resource_type = from->resource_type;
        a->responses[i].resource_name = from->resource_name;
        a->responses[i].error_code = (int16_t)o.error;
        a->responses[i].error_message = o.message;
    }
    seen_done(&seen);
    if (q->validate_only)
        s->records.count = 0;
}

void step_alter_configs(struct step *s, const struct alter_configs_request *q,
                        struct alter_configs_response *a)
{
    struct seen seen;
    assert(s->records.count == 0);
    a->responses = step_array(s, q->resources_count, sizeof(*a->responses));
    if (a->responses == NULL)
        return;
    a->responses_count = q->resources_count;
    seen_init(&seen, s);
    for (int32_t i = 0; i < q->resources_count; i++)
        seen_resource(s, &seen, q->resources[i].resource_type, q->resources[i].resource_name);
    for (int32_t i = 0; i < q->resources_count; i++) {
        const struct alter_configs_request_alter_configs_resource *from = &q->resources[i];
        struct alteration alter = {
            .type = from->resource_type,
            .name = from->resource_name,
            .edits = arena_array(s->scratch, (size_t)from->configs_count, sizeof(*alter.edits)),
            .edits_count = (uint32_t)from->configs_count,
            .replace = true,
        };
        for (uint32_t k = 0; k < alter.edits_count && alter.edits != NULL; k++)
            alter.edits[k] = (struct config_edit){CONFIG_SET, clean_text(s, from->configs[k].name),
                                                  clean_text(s, from->configs[k].value)};
        struct outcome o = alteration_run(s, &alter, &seen, q->validate_only);
        alter_configs_response_alter_configs_resource_response_init(&a->responses[i]);
        a->responses[i].resource_type = from->resource_type;
        a->responses[i].resource_name = from->resource_name;
        a->responses[i].error_code = (int16_t)o.error;
        a->responses[i].error_message = o.message;
    }
    seen_done(&seen);
    if (q->validate_only)
        s->records.count = 0;
}
