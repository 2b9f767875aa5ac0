/* Topics: creating, deleting, adding partitions.
 *
 *   CreateTopics     name twice? -> name legal, free, no collision? -> configs -> placement
 *                      -> TopicRecord, ConfigRecords, PartitionRecords
 *   DeleteTopics     name or id, once, known -> RemoveTopicRecord (configs and logs go with it)
 *   CreatePartitions more than there are, known -> placement -> PartitionRecords
 *
 * '.' and '_' are the same letter in metric names, so two topics that differ only there collide,
 * and the second one is refused; within one request Kafka does not look, and neither do we.
 *
 * Invariants
 *  1. A request that would make more than RECORDS_PER_CALL_MAX records is refused as a whole with
 *     POLICY_VIOLATION, and makes none.
 *  2. Every new partition gets a directory of this broker at once, the least loaded one: no other
 *     request has to assign it later.
 *
 * Failure modes: see controller.c. */
#include "broker/quorum/controller_priv.h"

#include <ctype.h>
#include <string.h>

#include "broker/config/alter.h"
#include "core/assert.h"
#include "proto/gen/create_partitions.h"
#include "proto/gen/create_topics.h"
#include "proto/gen/delete_topics.h"
#include "proto/gen/record_topic.h"

#define TOPIC_NAME_MAX     249
#define METADATA_TOPIC     "__cluster_metadata"
#define REPLICAS_MAX       1024 /* of one partition */
#define DESCRIBED_ROOM_MIN 64u
#define ID_TRIES_MAX       1000u

/* ---- names ------------------------------------------------------------------------------------
 */

static bool name_is(struct wire_string name, const char *text)
{
    return name.size == (int32_t)strlen(text) && memcmp(name.data, text, strlen(text)) == 0;
}

static bool name_has_only_legal_bytes(struct wire_string name)
{
    for (int32_t i = 0; i < name.size; i++) {
        unsigned char b = (unsigned char)name.data[i];
        if (b >= 0x80 || (!isalnum(b) && b != '.' && b != '_' && b != '-'))
            return false;
    }
    return true;
}

struct outcome topic_name_check(struct step *s, struct wire_string name)
{
    if (name.size <= 0)
        return outcome_error(s, KE_INVALID_TOPIC_EXCEPTION, "Topic name is invalid: it is empty");
    if (name_is(name, ".") || name_is(name, ".."))
        return outcome_error(s, KE_INVALID_TOPIC_EXCEPTION,
                             "Topic name is invalid: '%.*s' is not allowed", name.size, name.data);
    if (name.size > TOPIC_NAME_MAX)
        return outcome_error(s, KE_INVALID_TOPIC_EXCEPTION,
                             "Topic name is invalid: '%.*s' is longer than %d characters",
                             name.size, name.data, TOPIC_NAME_MAX);
    if (!name_has_only_legal_bytes(name))
        return outcome_error(s, KE_INVALID_TOPIC_EXCEPTION,
                             "Topic name is invalid: '%.*s' may only have ASCII letters and "
                             "digits, '.', '_' and '-'",
                             name.size, name.data);
    return outcome_none();
}

static char name_fold(char c)
{
    return c == '.' ? '_' : c;
}

/* An existing topic that differs only in '.' and '_'. */
static const struct topic_image *name_collides(const struct image *img, struct wire_string name)
{
    if (memchr(name.data, '.', (size_t)name.size) == NULL &&
        memchr(name.data, '_', (size_t)name.size) == NULL)
        return NULL;
    for (uint32_t i = 0; i < img->topics_count; i++) {
        const struct topic_image *t = img->topics[i];
        if (t->name_size != (uint32_t)name.size)
            continue;
        uint32_t at = 0;
        while (at < t->name_size && name_fold(t->name[at]) == name_fold(name.data[at]))
            at++;
        if (at == t->name_size)
            return t;
    }
    return NULL;
}

static struct outcome no_space(struct step *s)
{
    return outcome_error(s, KE_KAFKA_STORAGE_ERROR,
                         "The broker's disk is nearly full: make room on it, or delete topics.");
}

static struct outcome name_is_free(struct step *s, struct wire_string name)
{
    struct outcome o = topic_name_check(s, name);
    if (o.error != KE_NONE)
        return o;
    const struct image *img = step_image(s);
    if (image_topic_by_name(img, name.data, (uint32_t)name.size) != NULL)
        return outcome_error(s, KE_TOPIC_ALREADY_EXISTS, "Topic '%.*s' already exists.", name.size,
                             name.data);
    const struct topic_image *other = name_collides(img, name);
    if (other != NULL)
        return outcome_error(s, KE_INVALID_TOPIC_EXCEPTION,
                             "Topic '%.*s' collides with existing topic: %s", name.size, name.data,
                             other->name);
    return outcome_none();
}

/* ---- configs of a new topic -------------------------------------------------------------------
 */

/* The topic's overrides: the last one given for a name wins, as Kafka's map has it. */
static struct outcome configs_take(struct step *s,
                                   const struct create_topics_request_creatable_topic *t,
                                   struct config_overrides *set)
{
    struct config_entry *entries =
        arena_array(s->scratch, (size_t)MAX(t->configs_count, 0), sizeof(*entries));
    *set = (struct config_overrides){entries, 0};
    for (int32_t i = 0; i < t->configs_count && entries != NULL; i++) {
        const char *name = step_text(s, t->configs[i].name);
        const char *value = step_text(s, t->configs[i].value);
        if (name == NULL || value == NULL)
            break; /* the step fails as a whole */
        if (t->configs[i].value.size < 0)
            return outcome_error(s, KE_INVALID_CONFIG,
                                 "Null value not supported for topic configs: %s", name);
        if (strlen(name) != (size_t)t->configs[i].name.size ||
            strlen(value) != (size_t)t->configs[i].value.size)
            return outcome_error(s, KE_INVALID_CONFIG, "Config %s has a zero byte.", name);
        uint32_t at = 0;
        while (at < set->count && strcmp(entries[at].name, name) != 0)
            at++;
        entries[at] = (struct config_entry){name, value};
        set->count += at == set->count;
    }
    return outcome_none();
}

static struct outcome configs_check(struct step *s, struct config_overrides set)
{
    struct config_layers layers = step_layers(s);
    struct config_refusal refusal = {.error = KE_NONE};
    if (set.count == 0 || config_validate_topic(&layers, set, &refusal))
        return outcome_none();
    assert(refusal.error != KE_NONE);
    return outcome_error(s, refusal.error, "%s", refusal.message);
}

static void configs_record(struct step *s, struct wire_string topic, struct config_overrides set)
{
    for (uint32_t i = 0; i < set.count; i++) {
        struct config_record m;
        config_record_init(&m);
        m.resource_type = RESOURCE_TOPIC;
        m.resource_name = topic;
        m.name = wire_string_of(set.entries[i].name);
        m.value = wire_string_of(set.entries[i].value);
        record_list_add(&s->records, CONFIG_RECORD_API_KEY, 0, &m);
    }
}

struct described {
    struct step *step;
    struct create_topics_response_creatable_topic_result *result;
    uint32_t room;
};

static bool described_visit(void *context, const struct config_description *d)
{
    struct described *to = context;
    struct create_topics_response_creatable_topic_result *r = to->result;
    if ((uint32_t)r->configs_count == to->room) {
        uint32_t room = MAX(to->room * 2, DESCRIBED_ROOM_MIN);
        struct create_topics_response_creatable_topic_configs *bigger =
            step_array(to->step, (int32_t)room, sizeof(*bigger));
        if (bigger == NULL)
            return false;
        if (r->configs_count > 0)
            memcpy(bigger, r->configs, (size_t)r->configs_count * sizeof(*bigger));
        r->configs = bigger;
        to->room = room;
    }
    struct create_topics_response_creatable_topic_configs *c = &r->configs[r->configs_count++];
    create_topics_response_creatable_topic_configs_init(c);
    c->name = wire_string_of(d->name);
    c->value = wire_string_of(NULL);
    if (d->value != NULL && !d->sensitive)
        c->value = wire_string_of(
            arena_copy(to->step->arena, d->value, strlen(d->value) + 1)); /* lent to this visit */
    c->read_only = d->read_only;
    c->config_source = (int8_t)d->source;
    c->is_sensitive = d->sensitive;
    return true;
}

static void configs_describe(struct step *s, struct config_overrides set,
                             struct create_topics_response_creatable_topic_result *result)
{
    struct config_layers layers = step_layers(s);
    struct config_resource resource = {.type = RESOURCE_TOPIC, .own = set};
    struct described to = {.step = s, .result = result};
    config_describe(&layers, &resource, described_visit, &to);
}

/* ---- CreateTopics -----------------------------------------------------------------------------
 */

struct new_topic {
    struct uuid id;
    int32_t partitions, factor;
    uint32_t records_before;
};

static struct uuid topic_id_choose(struct step *s)
{
    const struct controller *c = s->c;
    for (uint32_t i = 0; i < ID_TRIES_MAX; i++) {
        struct uuid id;
        char text[UUID_TEXT_SIZE];
        c->entropy(c->entropy_context, id.bytes, sizeof(id.bytes));
        id.bytes[6] = (uint8_t)((id.bytes[6] & 0x0f) | 0x40); /* RFC 4122: random */
        id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3f) | 0x80);
        if (uuid_text(id, text)[0] != '-' && image_topic_by_id(step_image(s), id) == NULL)
            return id;
    }
    assert(c->entropy == NULL); /* entropy that repeats itself a thousand times is none */
    return (struct uuid){{0}};
}

static struct outcome place_as_told(struct step *s,
                                    const struct create_topics_request_creatable_topic *t,
                                    struct new_topic *n, uint32_t *loads)
{
    if (t->replication_factor != -1)
        return outcome_error(s, KE_INVALID_REQUEST,
                             "With an assignment of its own a topic's replication factor must be "
                             "-1.");
    if (t->num_partitions != -1)
        return outcome_error(s, KE_INVALID_REQUEST,
                             "With an assignment of its own a topic's number of partitions must "
                             "be -1.");
    n->partitions = t->assignments_count;
    const struct create_topics_request_creatable_replica_assignment **by_index =
        arena_array(s->scratch, (size_t)n->partitions, sizeof(*by_index));
    if (by_index == NULL)
        return outcome_none();
    for (int32_t i = 0; i < n->partitions; i++) {
        int32_t index = t->assignments[i].partition_index;
        if (index < 0 || index >= n->partitions)
            return outcome_error(s, KE_INVALID_REPLICA_ASSIGNMENT,
                                 "The assigned partitions must be numbered from 0 on.");
        if (by_index[index] != NULL)
            return outcome_error(s, KE_INVALID_REPLICA_ASSIGNMENT,
                                 "Partition %d is assigned more than once.", index);
        by_index[index] = &t->assignments[i];
        struct outcome o = assignment_check(s, t->assignments[i].broker_ids,
                                            t->assignments[i].broker_ids_count, n->factor);
        if (o.error != KE_NONE)
            return o;
        n->factor = t->assignments[i].broker_ids_count;
    }
    for (int32_t i = 0; i < n->partitions; i++) {
        if (!partition_record_add(s, n->id, i, by_index[i]->broker_ids,
                                  by_index[i]->broker_ids_count, loads))
            return outcome_error(s, KE_INVALID_REPLICA_ASSIGNMENT,
                                 "All brokers assigned to partition %d are fenced or shutting "
                                 "down.",
                                 i);
    }
    return outcome_none();
}

static struct outcome place_anywhere(struct step *s,
                                     const struct create_topics_request_creatable_topic *t,
                                     struct new_topic *n, uint32_t *loads)
{
    const struct broker_config *b = &s->c->node->broker;
    if (t->replication_factor < -1 || t->replication_factor == 0)
        return outcome_error(s, KE_INVALID_REPLICATION_FACTOR,
                             "Replication factor must be larger than 0, or -1 for the default.");
    if (t->num_partitions < -1 || t->num_partitions == 0)
        return outcome_error(s, KE_INVALID_PARTITIONS,
                             "Number of partitions must be larger than 0, or -1 for the default.");
    n->partitions = t->num_partitions == -1 ? b->num_partitions : t->num_partitions;
    n->factor = t->replication_factor == -1 ? b->default_replication_factor : t->replication_factor;
    int32_t ids[REPLICAS_MAX];
    if (n->factor > REPLICAS_MAX)
        return outcome_error(s, KE_INVALID_REPLICATION_FACTOR,
                             "Unable to replicate the partition %d time(s).", n->factor);
    struct outcome o = placement(s, n->factor, ids);
    for (int32_t i = 0; i < n->partitions && o.error == KE_NONE; i++) {
        bool placed = partition_record_add(s, n->id, i, ids, n->factor, loads);
        assert(placed); /* placement begins with an active broker */
    }
    return o;
}

/* Records and result of one topic that may be created as far as its name goes. */
static struct outcome topic_create(struct step *s,
                                   const struct create_topics_request_creatable_topic *t,
                                   uint32_t *loads,
                                   struct create_topics_response_creatable_topic_result *result)
{
    struct config_overrides set;
    struct new_topic n = {.id = topic_id_choose(s), .records_before = s->records.count};
    struct outcome o = configs_take(s, t, &set);
    if (o.error == KE_NONE)
        o = configs_check(s, set);
    if (o.error != KE_NONE)
        return o;
    struct topic_record m;
    topic_record_init(&m);
    m.name = t->name;
    m.topic_id = n.id;
    record_list_add(&s->records, TOPIC_RECORD_API_KEY, 0, &m);
    configs_record(s, t->name, set);
    o = t->assignments_count > 0 ? place_as_told(s, t, &n, loads) : place_anywhere(s, t, &n, loads);
    if (o.error != KE_NONE) {
        s->records.count = n.records_before; /* invariant 2 of controller.c */
        return o;
    }
    result->topic_id = n.id;
    result->num_partitions = n.partitions;
    result->replication_factor = (int16_t)n.factor;
    if (s->version >= 5)
        configs_describe(s, set, result);
    return o;
}

/* Partitions, at most, that the request asks for. */
static int64_t partitions_wanted(const struct step *s, const struct create_topics_request *q)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < q->topics_count; i++) {
        const struct create_topics_request_creatable_topic *t = &q->topics[i];
        if (t->assignments_count > 0)
            sum += t->assignments_count;
        else
            sum += t->num_partitions == -1 ? s->c->node->broker.num_partitions
                                           : MAX(t->num_partitions, 0);
        sum += 1 + MAX(t->configs_count, 0);
    }
    return sum;
}

static struct outcome topic_judge(struct step *s,
                                  const struct create_topics_request_creatable_topic *t,
                                  const struct seen *seen, uint32_t *loads,
                                  struct create_topics_response_creatable_topic_result *result)
{
    if (seen_times(seen, t->name.data, (uint32_t)t->name.size) > 1)
        return outcome_error(s, KE_INVALID_REQUEST, "Duplicate topic name.");
    if (name_is(t->name, METADATA_TOPIC))
        return outcome_error(s, KE_INVALID_REQUEST,
                             "Creation of internal topic " METADATA_TOPIC " is prohibited.");
    struct outcome o = name_is_free(s, t->name);
    if (o.error != KE_NONE)
        return o;
    return s->c->full ? no_space(s) : topic_create(s, t, loads, result);
}

void step_create_topics(struct step *s, const struct create_topics_request *q,
                        struct create_topics_response *a)
{
    assert(s->records.count == 0);
    struct seen seen;
    bool too_large = partitions_wanted(s, q) > RECORDS_PER_CALL_MAX; /* invariant 1 */
    uint32_t *loads = step_dir_loads(s);
    a->topics = step_array(s, q->topics_count, sizeof(*a->topics));
    if (a->topics == NULL || loads == NULL)
        return;
    seen_init(&seen, s);
    for (int32_t i = 0; i < q->topics_count; i++)
        seen_add(&seen, q->topics[i].name.data, (uint32_t)q->topics[i].name.size);
    for (int32_t i = 0; i < q->topics_count && !s->scratch->failed; i++) {
        const struct create_topics_request_creatable_topic *t = &q->topics[i];
        bool told = false; /* a name that comes twice is answered once */
        for (int32_t k = 0; k < a->topics_count && !told &&
                            seen_times(&seen, t->name.data, (uint32_t)t->name.size) > 1;
             k++)
            told = wire_string_equal(a->topics[k].name, t->name);
        if (told)
            continue;
        struct create_topics_response_creatable_topic_result *r = &a->topics[a->topics_count++];
        create_topics_response_creatable_topic_result_init(r);
        r->name = t->name;
        struct outcome o =
            too_large ? outcome_error(s, KE_POLICY_VIOLATION,
                                      "Excessively large number of partitions per request.")
                      : topic_judge(s, t, &seen, loads, r);
        r->error_code = (int16_t)o.error;
        r->error_message = o.message;
    }
    seen_done(&seen);
    if (q->validate_only)
        s->records.count = 0;
}

/* ---- DeleteTopics -----------------------------------------------------------------------------
 */

static struct delete_topics_response_deletable_topic_result *
deleted_add(struct delete_topics_response *a, struct wire_string name, struct uuid id)
{
    struct delete_topics_response_deletable_topic_result *r = &a->responses[a->responses_count++];
    delete_topics_response_deletable_topic_result_init(r);
    r->name = name;
    r->topic_id = id;
    return r;
}

static void deleted_tell(struct delete_topics_response_deletable_topic_result *r, struct outcome o)
{
    r->error_code = (int16_t)o.error;
    r->error_message = o.message;
}

/* Who is meant, by name or id; each topic once, however it is named. */
static struct outcome topic_find(struct step *s,
                                 struct delete_topics_response_deletable_topic_result *r,
                                 const struct seen *names, const struct seen *ids,
                                 const struct seen *both, const struct topic_image **topic)
{
    bool by_name = r->name.size >= 0, by_id = !uuid_is_zero(r->topic_id);
    *topic = NULL;
    if (by_name && by_id)
        return outcome_error(s, KE_INVALID_REQUEST,
                             "A topic is named by its name or by its id, not by both.");
    if (!by_name && !by_id)
        return outcome_error(s, KE_INVALID_REQUEST, "Neither topic name nor id were specified.");
    if (by_name && seen_times(names, r->name.data, (uint32_t)r->name.size) > 1)
        return outcome_error(s, KE_INVALID_REQUEST, "Duplicate topic name.");
    if (by_id && seen_times(ids, r->topic_id.bytes, sizeof(r->topic_id.bytes)) > 1)
        return outcome_error(s, KE_INVALID_REQUEST, "Duplicate topic id.");
    const struct image *img = step_image(s);
    const struct topic_image *t =
        by_name ? image_topic_by_name(img, r->name.data, (uint32_t)r->name.size)
                : image_topic_by_id(img, r->topic_id);
    if (t == NULL)
        return by_name ? outcome_error(s, KE_UNKNOWN_TOPIC_OR_PARTITION,
                                       "This server does not host this topic-partition.")
                       : outcome_error(s, KE_UNKNOWN_TOPIC_ID,
                                       "This server does not host this topic ID.");
    r->topic_id = t->id;
    if (r->name.size < 0)
        r->name = (struct wire_string){arena_copy(s->arena, t->name, t->name_size),
                                       (int32_t)t->name_size};
    if (seen_times(both, t->id.bytes, sizeof(t->id.bytes)) > 1)
        return outcome_error(s, KE_INVALID_REQUEST,
                             "The provided topic name maps to an ID that was already supplied.");
    *topic = t;
    return outcome_none();
}

struct deletion {
    struct seen names, ids, both;
};

static void deletion_count(struct step *s, struct deletion *d, struct wire_string name,
                           struct uuid *id)
{
    bool by_id = id != NULL && !uuid_is_zero(*id);
    if ((name.size >= 0) == by_id)
        return; /* both or neither: refused, whatever it means */
    const struct topic_image *t = NULL;
    if (by_id) {
        seen_add(&d->ids, id->bytes, sizeof(id->bytes));
        t = image_topic_by_id(step_image(s), *id);
    } else {
        seen_add(&d->names, name.data, (uint32_t)name.size);
        t = image_topic_by_name(step_image(s), name.data, (uint32_t)name.size);
    }
    if (t != NULL)
        seen_add(&d->both, t->id.bytes, sizeof(t->id.bytes));
}

static void topic_delete(struct step *s, struct delete_topics_response *a, const struct deletion *d,
                         struct wire_string name, struct uuid id)
{
    bool by_id = name.size < 0;
    uint32_t times = by_id ? seen_times(&d->ids, id.bytes, sizeof(id.bytes))
                           : seen_times(&d->names, name.data, (uint32_t)name.size);
    bool twice = times > 1 && (by_id || uuid_is_zero(id));
    for (int32_t k = 0; k < a->responses_count && twice; k++) { /* answered once */
        if (by_id ? uuid_equal(a->responses[k].topic_id, id)
                  : wire_string_equal(a->responses[k].name, name))
            return;
    }
    struct delete_topics_response_deletable_topic_result *r = deleted_add(a, name, id);
    const struct topic_image *t = NULL;
    struct outcome o = topic_find(s, r, &d->names, &d->ids, &d->both, &t);
    deleted_tell(r, o);
    for (int32_t k = 0; k + 1 < a->responses_count && o.error == KE_INVALID_REQUEST; k++) {
        if (wire_string_equal(a->responses[k].name, r->name) &&
            uuid_equal(a->responses[k].topic_id, r->topic_id)) {
            a->responses_count--; /* by name and by id: answered once, too */
            return;
        }
    }
    if (o.error != KE_NONE)
        return;
    assert(t != NULL);
    struct remove_topic_record m;
    remove_topic_record_init(&m);
    m.topic_id = t->id;
    record_list_add(&s->records, REMOVE_TOPIC_RECORD_API_KEY, 0, &m);
}

void step_delete_topics(struct step *s, const struct delete_topics_request *q,
                        struct delete_topics_response *a)
{
    static const struct uuid no_id = {{0}};
    bool states = s->version >= 6;
    int32_t count = states ? q->topics_count : q->topic_names_count;
    bool disabled = !s->c->node->broker.delete_topic_enable;
    bool too_large = count > RECORDS_PER_CALL_MAX;
    struct deletion d;
    assert(s->records.count == 0);
    a->responses = step_array(s, count, sizeof(*a->responses));
    if (a->responses == NULL)
        return;
    seen_init(&d.names, s);
    seen_init(&d.ids, s);
    seen_init(&d.both, s);
    for (int32_t i = 0; i < count; i++)
        deletion_count(s, &d, states ? q->topics[i].name : q->topic_names[i],
                       states ? &q->topics[i].topic_id : NULL);
    for (int32_t i = 0; i < count && !s->scratch->failed; i++) {
        struct wire_string name = states ? q->topics[i].name : q->topic_names[i];
        struct uuid id = states ? q->topics[i].topic_id : no_id;
        if (disabled)
            deleted_tell(
                deleted_add(a, name, id),
                outcome_error(s, s->version < 3 ? KE_INVALID_REQUEST : KE_TOPIC_DELETION_DISABLED,
                              "Topic deletion is disabled."));
        else if (too_large)
            deleted_tell(deleted_add(a, name, id),
                         outcome_error(s, KE_POLICY_VIOLATION,
                                       "Unable to perform excessively large batch operation."));
        else
            topic_delete(s, a, &d, name, id);
    }
    seen_done(&d.names);
    seen_done(&d.ids);
    seen_done(&d.both);
}

/* ---- CreatePartitions -------------------------------------------------------------------------
 */

static struct outcome
partitions_place(struct step *s, const struct create_partitions_request_create_partitions_topic *g,
                 const struct topic_image *t, uint32_t *loads)
{
    int32_t added = g->count - (int32_t)t->partitions_count;
    int32_t factor = t->partitions_count > 0 ? t->partitions[0].replicas_count : 1;
    int32_t ids[REPLICAS_MAX];
    struct outcome o = outcome_none();
    if (g->assignments_count < 0)
        o = factor > REPLICAS_MAX
                ? outcome_error(s, KE_INVALID_REPLICATION_FACTOR, "Too many replicas.")
                : placement(s, factor, ids);
    for (int32_t i = 0; i < g->assignments_count && o.error == KE_NONE; i++)
        o = assignment_check(s, g->assignments[i].broker_ids, g->assignments[i].broker_ids_count,
                             factor);
    for (int32_t i = 0; i < added && o.error == KE_NONE; i++) {
        int32_t index = (int32_t)t->partitions_count + i;
        const int32_t *replicas = g->assignments_count < 0 ? ids : g->assignments[i].broker_ids;
        if (!partition_record_add(s, t->id, index, replicas, factor, loads))
            o = outcome_error(s, KE_INVALID_REPLICA_ASSIGNMENT,
                              "All brokers assigned to partition %d are fenced or shutting down.",
                              index);
    }
    return o;
}

static struct outcome topic_grow(struct step *s,
                                 const struct create_partitions_request_create_partitions_topic *g,
                                 const struct seen *seen, uint32_t *loads)
{
    if (seen_times(seen, g->name.data, (uint32_t)g->name.size) > 1)
        return outcome_error(s, KE_INVALID_REQUEST, "Duplicate topic name.");
    const struct topic_image *t =
        image_topic_by_name(step_image(s), g->name.data, (uint32_t)g->name.size);
    if (t == NULL)
        return (struct outcome){KE_UNKNOWN_TOPIC_OR_PARTITION, WIRE_NULL_STRING};
    int32_t now = (int32_t)t->partitions_count;
    if (g->count == now)
        return outcome_error(s, KE_INVALID_PARTITIONS, "Topic already has %d partition(s).", now);
    if (g->count < now)
        return outcome_error(s, KE_INVALID_PARTITIONS,
                             "The topic %s currently has %d partition(s); %d would not be an "
                             "increase.",
                             t->name, now, g->count);
    if (g->assignments_count >= 0 && g->assignments_count != g->count - now)
        return outcome_error(s, KE_INVALID_REPLICA_ASSIGNMENT,
                             "%d partition(s) are to be added, but %d assignment(s) are given.",
                             g->count - now, g->assignments_count);
    if ((int64_t)(g->count - now) + s->records.count > RECORDS_PER_CALL_MAX)
        return outcome_error(s, KE_POLICY_VIOLATION,
                             "Unable to perform excessively large batch operation.");
    if (s->c->full)
        return no_space(s);
    uint32_t before = s->records.count;
    struct outcome o = partitions_place(s, g, t, loads);
    if (o.error != KE_NONE)
        s->records.count = before;
    return o;
}

void step_create_partitions(struct step *s, const struct create_partitions_request *q,
                            struct create_partitions_response *a)
{
    struct seen seen;
    assert(s->records.count == 0);
    uint32_t *loads = step_dir_loads(s);
    a->results = step_array(s, q->topics_count, sizeof(*a->results));
    if (a->results == NULL || loads == NULL)
        return;
    seen_init(&seen, s);
    for (int32_t i = 0; i < q->topics_count; i++)
        seen_add(&seen, q->topics[i].name.data, (uint32_t)q->topics[i].name.size);
    for (int32_t i = 0; i < q->topics_count && !s->scratch->failed; i++) {
        const struct create_partitions_request_create_partitions_topic *g = &q->topics[i];
        bool told = false;
        for (int32_t k = 0; k < a->results_count && !told &&
                            seen_times(&seen, g->name.data, (uint32_t)g->name.size) > 1;
             k++)
            told = wire_string_equal(a->results[k].name, g->name);
        if (told)
            continue;
        struct create_partitions_response_create_partitions_topic_result *r =
            &a->results[a->results_count++];
        create_partitions_response_create_partitions_topic_result_init(r);
        struct outcome o = topic_grow(s, g, &seen, loads);
        r->name = g->name;
        r->error_code = (int16_t)o.error;
        r->error_message = o.message;
    }
    seen_done(&seen);
    if (q->validate_only)
        s->records.count = 0;
}
