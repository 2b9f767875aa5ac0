/* Drafts: the working copies that records change, and how they freeze into leaves.
 *
 *   image leaf --first touch--> draft (shares the leaf's texts and arrays) --records--> draft'
 *   draft' --replay_finish--> new leaf; change {before, after}
 *
 * Invariants
 *  1. A draft exists at most once for a topic id, a broker id, a resource.
 *  2. topics_by_name holds only drafts that are not removed.
 *  3. A partition that nobody has told yet (records may come in any order within a topic) has no
 *     replicas; none is left when the draft freezes.
 *  4. When what brokers have dynamically changes, every topic is resolved anew: its typed config
 *     depends on it.
 *
 * Failure modes: memory; a topic with a hole in its partitions. */
#include "broker/quorum/draft.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/quorum/leaf.h"
#include "core/assert.h"
#include "proto/gen/record_broker.h"
#include "proto/gen/record_cluster.h"
#include "proto/gen/record_security.h"
#include "proto/gen/record_topic.h"

#define PARTITIONS_MAX (1u << 20) /* of one topic; an index above it is a broken record */
#define DRAFT_ROOM_MIN 8u

int16_t record_version_max(int16_t key)
{
    switch (key) {
    case REGISTER_BROKER_RECORD_API_KEY:
        return REGISTER_BROKER_RECORD_VERSION_MAX;
    case BROKER_REGISTRATION_CHANGE_RECORD_API_KEY:
        return BROKER_REGISTRATION_CHANGE_RECORD_VERSION_MAX;
    case PARTITION_RECORD_API_KEY:
        return PARTITION_RECORD_VERSION_MAX;
    case PARTITION_CHANGE_RECORD_API_KEY:
        return PARTITION_CHANGE_RECORD_VERSION_MAX;
    case UNREGISTER_BROKER_RECORD_API_KEY:
    case TOPIC_RECORD_API_KEY:
    case CONFIG_RECORD_API_KEY:
    case FENCE_BROKER_RECORD_API_KEY:
    case UNFENCE_BROKER_RECORD_API_KEY:
    case REMOVE_TOPIC_RECORD_API_KEY:
    case DELEGATION_TOKEN_RECORD_API_KEY:
    case USER_SCRAM_CREDENTIAL_RECORD_API_KEY:
    case FEATURE_LEVEL_RECORD_API_KEY:
    case CLIENT_QUOTA_RECORD_API_KEY:
    case PRODUCER_IDS_RECORD_API_KEY:
    case ACCESS_CONTROL_ENTRY_RECORD_API_KEY:
    case REMOVE_ACCESS_CONTROL_ENTRY_RECORD_API_KEY:
    case NO_OP_RECORD_API_KEY:
    case ZK_MIGRATION_STATE_RECORD_API_KEY:
    case REMOVE_USER_SCRAM_CREDENTIAL_RECORD_API_KEY:
    case REMOVE_DELEGATION_TOKEN_RECORD_API_KEY:
    case REGISTER_CONTROLLER_RECORD_API_KEY:
    case CLEAR_ELR_RECORD_API_KEY:
        return 0;
    default:
        return -1;
    }
}

const char *draft_text(struct replay *r, struct wire_string s)
{
    uint32_t size = (uint32_t)MAX(s.size, 0);
    char *text = arena_alloc(&r->arena, (size_t)size + 1);
    if (text == NULL)
        return NULL;
    if (size > 0)
        memcpy(text, s.data, size);
    text[size] = '\0';
    return text;
}

static bool has_zero(struct wire_string s)
{
    return s.size > 0 && memchr(s.data, 0, (size_t)s.size) != NULL;
}

const struct uuid *draft_no_directories(struct replay *r, uint32_t count)
{
    return arena_array(&r->arena, count, sizeof(struct uuid)); /* all zero: MIGRATING */
}

void draft_ids(const int32_t **ids, uint16_t *count, const int32_t *to, int32_t to_count)
{
    if (to_count < 0)
        return;
    *ids = to;
    *count = (uint16_t)MIN(to_count, UINT16_MAX);
}

/* ---- key and value entries --------------------------------------------------------------------
 */

static int entries_begin(struct replay *r, struct entries_draft *e, struct config_overrides set)
{
    e->count = set.count;
    e->room = set.count + DRAFT_ROOM_MIN;
    e->entries = arena_array(&r->arena, e->room, sizeof(*e->entries));
    if (e->entries == NULL)
        return -ENOMEM;
    if (set.count > 0)
        memcpy(e->entries, set.entries, set.count * sizeof(*e->entries));
    return 0;
}

/* value NULL: deleted. */
static int entries_set(struct replay *r, struct entries_draft *e, const char *name,
                       const char *value)
{
    uint32_t at = 0;
    while (at < e->count && strcmp(e->entries[at].name, name) < 0)
        at++;
    bool there = at < e->count && strcmp(e->entries[at].name, name) == 0;
    if (value == NULL) {
        if (there)
            memmove(&e->entries[at], &e->entries[at + 1], (--e->count - at) * sizeof(*e->entries));
        return 0;
    }
    if (!there) {
        if (e->count == e->room) {
            struct config_entry *bigger =
                arena_array(&r->arena, (size_t)e->room * 2, sizeof(*bigger));
            if (bigger == NULL)
                return -ENOMEM;
            memcpy(bigger, e->entries, e->count * sizeof(*bigger));
            e->entries = bigger;
            e->room *= 2;
        }
        memmove(&e->entries[at + 1], &e->entries[at], (e->count - at) * sizeof(*e->entries));
        e->count++;
    }
    e->entries[at] = (struct config_entry){name, value};
    assert(e->count <= e->room);
    return 0;
}

/* ---- topics -----------------------------------------------------------------------------------
 */

static int draft_topic_put(struct replay *r, struct topic_draft *d)
{
    int result = map_put(&r->topics_by_id, d->view.id.bytes, sizeof(d->view.id.bytes), d);
    if (result == 0)
        result = map_put(&r->topics_by_name, d->view.name, d->view.name_size, d);
    if (result == 0)
        list_push_back(&r->topics, &d->link);
    return result;
}

static int draft_topic_of(struct replay *r, const struct topic_image *t, struct topic_draft **draft)
{
    struct topic_draft *d = arena_array(&r->arena, 1, sizeof(*d));
    if (d == NULL || entries_begin(r, &d->configs, t->overrides.set) != 0)
        return -ENOMEM;
    list_init(&d->link);
    d->before = t;
    d->view = *t;
    d->partitions_count = t->partitions_count;
    d->partitions_room = MAX(t->partitions_count, DRAFT_ROOM_MIN);
    d->partitions = arena_array(&r->arena, d->partitions_room, sizeof(*d->partitions));
    if (d->partitions == NULL)
        return -ENOMEM;
    if (t->partitions_count > 0)
        memcpy(d->partitions, t->partitions, t->partitions_count * sizeof(*d->partitions));
    *draft = d;
    return draft_topic_put(r, d);
}

int draft_topic(struct replay *r, struct uuid id, struct topic_draft **draft)
{
    struct topic_draft *d = map_get(&r->topics_by_id, id.bytes, sizeof(id.bytes));
    if (d != NULL && !d->removed) {
        *draft = d;
        return 0;
    }
    const struct topic_image *t = d != NULL ? NULL : image_topic_by_id(&r->md->image, id);
    if (t == NULL)
        return replay_refuse(r, "a topic id that is not there");
    return draft_topic_of(r, t, draft);
}

int draft_topic_named(struct replay *r, struct wire_string name, struct topic_draft **draft)
{
    struct topic_draft *d = map_get(&r->topics_by_name, name.data, (uint32_t)name.size);
    if (d != NULL) {
        assert(!d->removed); /* invariant 2 */
        *draft = d;
        return 0;
    }
    const struct topic_image *t =
        image_topic_by_name(&r->md->image, name.data, (uint32_t)name.size);
    if (t != NULL && map_get(&r->topics_by_id, t->id.bytes, sizeof(t->id.bytes)) != NULL)
        t = NULL; /* removed by an earlier record */
    if (t == NULL)
        return replay_refuse(r, "a topic name that is not there");
    return draft_topic_of(r, t, draft);
}

static bool topic_is_internal(const char *name)
{
    return strcmp(name, "__consumer_offsets") == 0 || strcmp(name, "__transaction_state") == 0 ||
           strcmp(name, "__share_group_state") == 0;
}

int draft_topic_add(struct replay *r, struct uuid id, struct wire_string name)
{
    const struct topic_image *same_name =
        image_topic_by_name(&r->md->image, name.data, (uint32_t)name.size);
    bool freed = same_name != NULL && map_get(&r->topics_by_id, same_name->id.bytes,
                                              sizeof(same_name->id.bytes)) != NULL;
    if (map_get(&r->topics_by_id, id.bytes, sizeof(id.bytes)) != NULL ||
        image_topic_by_id(&r->md->image, id) != NULL)
        return replay_refuse(r, "a topic id that is there already");
    if (map_get(&r->topics_by_name, name.data, (uint32_t)name.size) != NULL ||
        (same_name != NULL && !freed))
        return replay_refuse(r, "a topic name that is there already");
    if (has_zero(name))
        return replay_refuse(r, "a name with a zero byte");
    struct topic_draft *d = arena_array(&r->arena, 1, sizeof(*d));
    const char *text = draft_text(r, name);
    if (d == NULL || text == NULL ||
        entries_begin(r, &d->configs, (struct config_overrides){NULL, 0}) != 0)
        return -ENOMEM;
    list_init(&d->link);
    d->view = (struct topic_image){
        .id = id,
        .name = text,
        .name_size = (uint32_t)name.size,
        .internal = topic_is_internal(text),
    };
    return draft_topic_put(r, d);
}

void draft_topic_remove(struct replay *r, struct topic_draft *d)
{
    assert(!d->removed);
    d->removed = true;
    const void *was = map_remove(&r->topics_by_name, d->view.name, d->view.name_size);
    assert(was == d);
}

static int partitions_room(struct replay *r, struct topic_draft *d, uint32_t wanted)
{
    if (wanted <= d->partitions_room)
        return 0;
    uint32_t room = MAX(MAX(d->partitions_room * 2, wanted), DRAFT_ROOM_MIN);
    struct partition_image *bigger = arena_array(&r->arena, room, sizeof(*bigger));
    if (bigger == NULL)
        return -ENOMEM;
    if (d->partitions_count > 0)
        memcpy(bigger, d->partitions, d->partitions_count * sizeof(*bigger));
    d->partitions = bigger;
    d->partitions_room = room;
    return 0;
}

int draft_partition_add(struct replay *r, struct topic_draft *d, int32_t index,
                        struct partition_image **p)
{
    if (index < 0 || (uint32_t)index >= PARTITIONS_MAX)
        return replay_refuse(r, "a partition index out of range");
    uint32_t at = (uint32_t)index;
    if (partitions_room(r, d, at + 1) != 0)
        return -ENOMEM;
    if (at >= d->partitions_count) { /* what lies between has not been told yet: invariant 3 */
        memset(&d->partitions[d->partitions_count], 0,
               (at + 1 - d->partitions_count) * sizeof(*d->partitions));
        d->partitions_count = at + 1;
    }
    *p = &d->partitions[at];
    return 0;
}

int draft_partition(struct replay *r, struct topic_draft *d, int32_t index,
                    struct partition_image **p)
{
    if (index < 0 || (uint32_t)index >= d->partitions_count ||
        d->partitions[index].replicas_count == 0)
        return replay_refuse(r, "a partition that is not there");
    *p = &d->partitions[index];
    assert((*p)->index == index);
    return 0;
}

int draft_clear_elr(struct replay *r, struct topic_draft *d)
{
    assert(!d->removed && r->md != NULL);
    for (uint32_t i = 0; i < d->partitions_count; i++) {
        struct partition_image *p = &d->partitions[i];
        if (p->elr_count > 0 || p->last_known_elr_count > 0) {
            p->elr_count = p->last_known_elr_count = 0;
            p->partition_epoch++;
        }
    }
    return 0;
}

static int draft_all_topics(struct replay *r)
{
    const struct image *img = &r->md->image;
    for (uint32_t i = 0; i < img->topics_count; i++) {
        const struct topic_image *t = img->topics[i];
        struct topic_draft *ignored;
        if (map_get(&r->topics_by_id, t->id.bytes, sizeof(t->id.bytes)) == NULL &&
            draft_topic_of(r, t, &ignored) != 0)
            return -ENOMEM;
    }
    return 0;
}

int draft_clear_elr_all(struct replay *r)
{
    int result = draft_all_topics(r);
    LIST_EACH(link, &r->topics)
    {
        struct topic_draft *d = container_of(link, struct topic_draft, link);
        if (result == 0 && !d->removed)
            result = draft_clear_elr(r, d);
    }
    return result;
}

/* ---- brokers, configs, features ----------------------------------------------------------------
 */

int draft_broker(struct replay *r, int32_t id, bool make, struct broker_draft **draft)
{
    LIST_EACH(link, &r->brokers)
    {
        struct broker_draft *d = container_of(link, struct broker_draft, link);
        if (d->view.id != id)
            continue;
        if (d->removed && !make)
            return replay_refuse(r, "a broker that is not registered");
        d->removed = false;
        *draft = d;
        return 0;
    }
    const struct broker_image *b = image_broker(&r->md->image, id);
    if (b == NULL && !make)
        return replay_refuse(r, "a broker that is not registered");
    struct broker_draft *d = arena_array(&r->arena, 1, sizeof(*d));
    if (d == NULL)
        return -ENOMEM;
    d->before = b;
    if (b != NULL)
        d->view = *b;
    d->view.id = id;
    list_push_back(&r->brokers, &d->link);
    *draft = d;
    return 0;
}

static struct config_draft *config_find(const struct replay *r, enum config_resource_type type,
                                        const char *name, uint32_t name_size)
{
    LIST_EACH(link, &r->configs)
    {
        struct config_draft *d = container_of(link, struct config_draft, link);
        if (d->type == type && d->name_size == name_size &&
            (name_size == 0 || memcmp(d->name, name, name_size) == 0))
            return d;
    }
    return NULL;
}

static int config_begin(struct replay *r, enum config_resource_type type,
                        struct wire_string resource, struct config_draft **draft)
{
    uint32_t size = (uint32_t)resource.size;
    *draft = config_find(r, type, resource.data, size);
    if (*draft != NULL)
        return 0;
    struct config_draft *d = arena_array(&r->arena, 1, sizeof(*d));
    const char *name = draft_text(r, resource);
    if (d == NULL || name == NULL)
        return -ENOMEM;
    d->before = image_config(&r->md->image, type, resource.data, size);
    d->type = type;
    d->name = name;
    d->name_size = size;
    struct config_overrides none = {NULL, 0};
    if (entries_begin(r, &d->entries, d->before != NULL ? d->before->set : none) != 0)
        return -ENOMEM;
    list_push_back(&r->configs, &d->link);
    *draft = d;
    if (type != RESOURCE_BROKER)
        return 0;
    r->defaults_touched = true; /* invariant 4 */
    return draft_all_topics(r);
}

int draft_config_set(struct replay *r, enum config_resource_type type, struct wire_string resource,
                     struct wire_string name, struct wire_string value)
{
    if (has_zero(resource) || has_zero(name) || has_zero(value))
        return replay_refuse(r, "a config with a zero byte");
    const char *name_text = draft_text(r, name);
    const char *value_text = value.size < 0 ? NULL : draft_text(r, value);
    if (name_text == NULL || (value.size >= 0 && value_text == NULL))
        return -ENOMEM;
    if (type == RESOURCE_TOPIC) {
        struct topic_draft *d = NULL;
        int result = draft_topic_named(r, resource, &d);
        if (result != 0)
            return result;
        assert(d != NULL);
        d->configs_touched = true;
        return entries_set(r, &d->configs, name_text, value_text);
    }
    struct config_draft *d;
    int result = config_begin(r, type, resource, &d);
    return result != 0 ? result : entries_set(r, &d->entries, name_text, value_text);
}

int draft_feature_set(struct replay *r, struct wire_string name, int16_t level)
{
    const struct features_image *before = r->md->image.features;
    if (name.size <= 0 || level < 0)
        return replay_refuse(r, "a feature without a name or with a negative level");
    if (has_zero(name))
        return replay_refuse(r, "a name with a zero byte");
    uint32_t count = r->features != NULL ? r->features_count
                     : before != NULL    ? before->features_count
                                         : 0;
    const struct feature_level *from = r->features != NULL ? r->features
                                       : before != NULL    ? before->features
                                                           : NULL;
    struct feature_level *to = arena_array(&r->arena, (size_t)count + 1, sizeof(*to));
    const char *text = draft_text(r, name);
    if (to == NULL || text == NULL)
        return -ENOMEM;
    uint32_t n = 0;
    bool placed = level == 0; /* 0: not finalized any more */
    for (uint32_t i = 0; i < count; i++) {
        int order = strcmp(from[i].name, text);
        if (order >= 0 && !placed) {
            to[n++] = (struct feature_level){text, (uint32_t)name.size, level};
            placed = true;
        }
        if (order != 0)
            to[n++] = from[i];
    }
    if (!placed)
        to[n++] = (struct feature_level){text, (uint32_t)name.size, level};
    assert(n <= count + 1);
    r->features = to;
    r->features_count = n;
    return 0;
}

/* ---- freezing ---------------------------------------------------------------------------------
 */

static struct config_overrides broker_layer(const struct replay *r, const char *name)
{
    struct config_overrides none = {NULL, 0};
    uint32_t size = (uint32_t)strlen(name);
    const struct config_draft *d = config_find(r, RESOURCE_BROKER, name, size);
    if (d != NULL)
        return (struct config_overrides){d->entries.entries, d->entries.count};
    const struct config_image *c = image_config(&r->md->image, RESOURCE_BROKER, name, size);
    return c != NULL ? c->set : none;
}

/* What topics without overrides have, found out once for all of them. */
struct freezing {
    struct config_layers layers;
    struct topic_config defaults;
    bool defaults_known;
};

static void topic_resolve(const struct replay *r, struct topic_draft *d, struct freezing *f)
{
    if (d->before != NULL && !d->configs_touched && !r->defaults_touched)
        return; /* as it was */
    struct config_overrides none = {NULL, 0};
    struct config_overrides set = {d->configs.entries, d->configs.count};
    if (set.count > 0) {
        config_resolve_topic(&f->layers, set, &d->view.config);
        return;
    }
    if (!f->defaults_known)
        config_resolve_topic(&f->layers, none, &f->defaults);
    f->defaults_known = true;
    d->view.config = f->defaults;
}

static int topic_freeze(struct replay *r, struct topic_draft *d, struct freezing *f,
                        struct image_change *to)
{
    to->kind = IMAGE_TOPIC;
    to->topic.before = d->before;
    to->topic.after = NULL;
    if (d->removed)
        return 0;
    for (uint32_t i = 0; i < d->partitions_count; i++) {
        if (d->partitions[i].replicas_count == 0)
            return replay_refuse(r, "a topic with a partition missing between others");
    }
    d->view.partitions = d->partitions;
    d->view.partitions_count = d->partitions_count;
    d->view.overrides.set = (struct config_overrides){d->configs.entries, d->configs.count};
    topic_resolve(r, d, f);
    to->topic.after = leaf_topic(r->md->mem, &d->view);
    return to->topic.after == NULL ? -ENOMEM : 0;
}

static int broker_freeze(struct replay *r, struct broker_draft *d, struct image_change *to)
{
    to->kind = IMAGE_BROKER;
    to->broker.before = d->before;
    to->broker.after = d->removed ? NULL : leaf_broker(r->md->mem, &d->view);
    return !d->removed && to->broker.after == NULL ? -ENOMEM : 0;
}

static int config_freeze(struct replay *r, struct config_draft *d, struct image_change *to)
{
    struct config_image view = {
        .type = d->type,
        .name = d->name,
        .name_size = d->name_size,
        .set = {d->entries.entries, d->entries.count},
    };
    to->kind = IMAGE_CONFIG;
    to->config.before = d->before;
    to->config.after = view.set.count == 0 ? NULL : leaf_config(r->md->mem, &view);
    return view.set.count > 0 && to->config.after == NULL ? -ENOMEM : 0;
}

static int features_freeze(struct replay *r, struct image_change *to)
{
    struct features_image view = {.features = r->features, .features_count = r->features_count};
    to->kind = IMAGE_FEATURES;
    to->features.before = r->md->image.features;
    to->features.after = leaf_features(r->md->mem, &view);
    return to->features.after == NULL ? -ENOMEM : 0;
}

/* Books a frozen change unless it turned out to be none. */
static void change_keep(struct image_delta *delta)
{
    const struct image_change *c = &delta->changes[delta->changes_count];
    bool nothing =
        (c->kind == IMAGE_TOPIC && c->topic.before == NULL && c->topic.after == NULL) ||
        (c->kind == IMAGE_BROKER && c->broker.before == NULL && c->broker.after == NULL) ||
        (c->kind == IMAGE_CONFIG && c->config.before == NULL && c->config.after == NULL);
    if (!nothing)
        delta->changes_count++;
    assert(delta->changes_count <= delta->changes_size);
}

/* Features, brokers, configs; then topics that go, then those that come or change. */
static int freeze_all(struct replay *r, struct image_delta *delta)
{
    struct image_change *to = delta_changes(delta);
    int result = 0;
    char self[16] = "";
    if (r->md->node != NULL)
        snprintf(self, sizeof(self), "%d", r->md->node->broker.node_id);
    struct freezing f = {
        .layers = {.node = r->md->node,
                   .broker = broker_layer(r, self),
                   .cluster = broker_layer(r, "")},
    };
    if (r->features != NULL) {
        result = features_freeze(r, &to[delta->changes_count]);
        change_keep(delta);
    }
    LIST_EACH(link, &r->brokers)
    {
        struct broker_draft *d = container_of(link, struct broker_draft, link);
        if (result == 0) {
            result = broker_freeze(r, d, &to[delta->changes_count]);
            change_keep(delta);
        }
    }
    LIST_EACH(link, &r->configs)
    {
        struct config_draft *d = container_of(link, struct config_draft, link);
        if (result == 0) {
            result = config_freeze(r, d, &to[delta->changes_count]);
            change_keep(delta);
        }
    }
    for (int removals = 1; removals >= 0; removals--) { /* replay.c's invariant 3 */
        LIST_EACH(link, &r->topics)
        {
            struct topic_draft *d = container_of(link, struct topic_draft, link);
            if (result == 0 && d->removed == (removals == 1)) {
                result = topic_freeze(r, d, &f, &to[delta->changes_count]);
                change_keep(delta);
            }
        }
    }
    return result;
}

static uint32_t list_size(const struct list *head)
{
    uint32_t n = 0;
    LIST_EACH(link, head)
    {
        n++;
    }
    return n;
}

int replay_finish(struct replay *r, int64_t offset, int32_t epoch, struct image_delta **delta)
{
    uint32_t n = list_size(&r->topics) + list_size(&r->brokers) + list_size(&r->configs) + 1;
    struct image_delta *d = delta_make(r->md->mem, n);
    if (d == NULL)
        return -ENOMEM;
    int result = freeze_all(r, d);
    if (result != 0) {
        delta_discard(r->md->mem, d);
        return result;
    }
    d->offset = offset;
    d->epoch = epoch;
    if (r->next_producer_id >= 0)
        r->md->next_producer_id = r->next_producer_id;
    r->md->open_transaction = r->in_transaction;
    *delta = d;
    struct metadata *md = r->md;
    uint64_t limit = r->arena.limit_bytes;
    replay_drop(r);
    assert(md->mem != NULL && limit > 0);
    return 0;
}
