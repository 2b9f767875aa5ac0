/* Leaves: one memory block each, so that making one can only fail as a whole and freeing one is one
 * call with one size.
 *
 *   | struct topic_image | name\0 | partitions[] | replicas, isr, ... | entries[] | texts\0 |
 *        `-- name, partitions, overrides.set point into the same block --^
 *
 * A leaf is packed twice by the same code: first without a block, which measures, then into it.
 *
 * Invariants
 *  1. Every pointer in a leaf points into its own block.
 *  2. Both passes come to the same size.
 *  3. A leaf is freed once, by the delta that replaced it (delta_retire) or with the image.
 *
 * Failure: memory, told by NULL; nothing is half made. */
#include "broker/quorum/leaf.h"

#include <string.h>

#include "core/assert.h"

struct packer {
    uint8_t *block; /* NULL: measuring */
    size_t at;
};

/* The next size bytes of the block, a copy of from; NULL while measuring. */
static void *pack(struct packer *p, const void *from, size_t size, size_t align)
{
    assert(align > 0 && (align & (align - 1)) == 0);
    p->at = (p->at + align - 1) & ~(align - 1);
    uint8_t *to = p->block != NULL ? p->block + p->at : NULL;
    p->at += size;
    if (to != NULL && size > 0)
        memcpy(to, from, size);
    return to;
}

static const char *pack_text(struct packer *p, const char *text)
{
    return text == NULL ? NULL : pack(p, text, strlen(text) + 1, 1);
}

static const int32_t *pack_ids(struct packer *p, const int32_t *ids, uint16_t count)
{
    return pack(p, ids, count * sizeof(*ids), sizeof(*ids));
}

static const struct config_entry *pack_entries(struct packer *p, struct config_overrides set)
{
    struct config_entry *to =
        pack(p, set.entries, set.count * sizeof(*to), _Alignof(struct config_entry));
    for (uint32_t i = 0; i < set.count; i++) {
        const char *name = pack_text(p, set.entries[i].name);
        const char *value = pack_text(p, set.entries[i].value);
        if (to != NULL)
            to[i] = (struct config_entry){name, value};
    }
    return to;
}

static const struct partition_image *pack_partitions(struct packer *p,
                                                     const struct topic_image *from)
{
    struct partition_image *to = pack(p, from->partitions, from->partitions_count * sizeof(*to),
                                      _Alignof(struct partition_image));
    for (uint32_t i = 0; i < from->partitions_count; i++) {
        struct partition_image q = from->partitions[i];
        q.replicas = pack_ids(p, q.replicas, q.replicas_count);
        q.isr = pack_ids(p, q.isr, q.isr_count);
        q.elr = pack_ids(p, q.elr, q.elr_count);
        q.last_known_elr = pack_ids(p, q.last_known_elr, q.last_known_elr_count);
        q.removing = pack_ids(p, q.removing, q.removing_count);
        q.adding = pack_ids(p, q.adding, q.adding_count);
        q.directories = pack(p, q.directories, q.replicas_count * sizeof(*q.directories), 1);
        if (to != NULL)
            to[i] = q;
    }
    return to;
}

static void topic_pack(struct packer *p, const struct topic_image *from)
{
    struct topic_image *to = pack(p, from, sizeof(*from), _Alignof(struct topic_image));
    const char *name = pack_text(p, from->name);
    const struct partition_image *partitions = pack_partitions(p, from);
    const struct config_entry *entries = pack_entries(p, from->overrides.set);
    if (to == NULL)
        return;
    to->name = name;
    to->partitions = partitions;
    to->overrides = (struct config_image){
        .type = RESOURCE_TOPIC,
        .name = name,
        .name_size = to->name_size,
        .set = {entries, from->overrides.set.count},
    };
    to->block_size = (uint32_t)p->at;
}

static void broker_pack(struct packer *p, const struct broker_image *from)
{
    struct broker_image *to = pack(p, from, sizeof(*from), _Alignof(struct broker_image));
    struct endpoint_image *endpoints =
        pack(p, from->endpoints, from->endpoints_count * sizeof(*endpoints),
             _Alignof(struct endpoint_image));
    for (uint32_t i = 0; i < from->endpoints_count; i++) {
        const char *listener = pack_text(p, from->endpoints[i].listener);
        const char *host = pack_text(p, from->endpoints[i].host);
        if (endpoints != NULL) {
            endpoints[i].listener = listener;
            endpoints[i].host = host;
        }
    }
    struct feature_range *features =
        pack(p, from->features, from->features_count * sizeof(*features),
             _Alignof(struct feature_range));
    for (uint32_t i = 0; i < from->features_count; i++) {
        const char *name = pack_text(p, from->features[i].name);
        if (features != NULL)
            features[i].name = name;
    }
    const struct uuid *dirs = pack(p, from->log_dirs, from->log_dirs_count * sizeof(*dirs), 1);
    const struct uuid *cordoned =
        pack(p, from->cordoned_log_dirs, from->cordoned_log_dirs_count * sizeof(*cordoned), 1);
    const char *rack = pack_text(p, from->rack);
    if (to == NULL)
        return;
    to->endpoints = endpoints;
    to->features = features;
    to->log_dirs = dirs;
    to->cordoned_log_dirs = cordoned;
    to->rack = rack;
    to->block_size = (uint32_t)p->at;
}

static void config_pack(struct packer *p, const struct config_image *from)
{
    struct config_image *to = pack(p, from, sizeof(*from), _Alignof(struct config_image));
    const char *name = pack_text(p, from->name);
    const struct config_entry *entries = pack_entries(p, from->set);
    if (to == NULL)
        return;
    to->name = name;
    to->set.entries = entries;
    to->block_size = (uint32_t)p->at;
}

static void features_pack(struct packer *p, const struct features_image *from)
{
    struct features_image *to = pack(p, from, sizeof(*from), _Alignof(struct features_image));
    struct feature_level *features =
        pack(p, from->features, from->features_count * sizeof(*features),
             _Alignof(struct feature_level));
    for (uint32_t i = 0; i < from->features_count; i++) {
        const char *name = pack_text(p, from->features[i].name);
        if (features != NULL)
            features[i].name = name;
    }
    if (to == NULL)
        return;
    to->features = features;
    to->block_size = (uint32_t)p->at;
}

/* A block of the measured size for the second pass. */
static bool packer_take(struct packer *p, struct mem *mem)
{
    assert(p->block == NULL && p->at > 0);
    if (p->at > UINT32_MAX)
        return false;
    p->block = mem_zalloc(mem, p->at);
    p->at = 0;
    return p->block != NULL;
}

const struct topic_image *leaf_topic(struct mem *mem, const struct topic_image *from)
{
    struct packer p = {0};
    assert(strlen(from->name) == from->name_size);
    topic_pack(&p, from);
    size_t measured = p.at;
    if (!packer_take(&p, mem))
        return NULL;
    topic_pack(&p, from);
    assert(p.at == measured); /* invariant 2 */
    return (const struct topic_image *)(const void *)p.block;
}

const struct broker_image *leaf_broker(struct mem *mem, const struct broker_image *from)
{
    struct packer p = {0};
    assert(from->id >= 0);
    broker_pack(&p, from);
    size_t measured = p.at;
    if (!packer_take(&p, mem))
        return NULL;
    broker_pack(&p, from);
    assert(p.at == measured);
    return (const struct broker_image *)(const void *)p.block;
}

const struct config_image *leaf_config(struct mem *mem, const struct config_image *from)
{
    struct packer p = {0};
    assert(from->type != RESOURCE_TOPIC && strlen(from->name) == from->name_size);
    config_pack(&p, from);
    size_t measured = p.at;
    if (!packer_take(&p, mem))
        return NULL;
    config_pack(&p, from);
    assert(p.at == measured);
    return (const struct config_image *)(const void *)p.block;
}

const struct features_image *leaf_features(struct mem *mem, const struct features_image *from)
{
    struct packer p = {0};
    assert(from->features_count == 0 || from->features != NULL);
    features_pack(&p, from);
    size_t measured = p.at;
    if (!packer_take(&p, mem))
        return NULL;
    features_pack(&p, from);
    assert(p.at == measured);
    return (const struct features_image *)(const void *)p.block;
}

/* ---- freeing ----------------------------------------------------------------------------------
 */

static void leaf_free(struct mem *mem, const void *leaf, uint32_t block_size)
{
    assert(block_size > 0);
    union {
        const void *read;
        void *block;
    } u = {.read = leaf};
    mem_free(mem, u.block, block_size);
}

/* One side of a change. */
static void change_free(struct mem *mem, const struct image_change *c, bool before)
{
    switch (c->kind) {
    case IMAGE_TOPIC: {
        const struct topic_image *t = before ? c->topic.before : c->topic.after;
        if (t != NULL)
            leaf_free(mem, t, t->block_size);
        break;
    }
    case IMAGE_BROKER: {
        const struct broker_image *b = before ? c->broker.before : c->broker.after;
        if (b != NULL)
            leaf_free(mem, b, b->block_size);
        break;
    }
    case IMAGE_CONFIG: {
        const struct config_image *g = before ? c->config.before : c->config.after;
        if (g != NULL)
            leaf_free(mem, g, g->block_size);
        break;
    }
    case IMAGE_FEATURES: {
        const struct features_image *f = before ? c->features.before : c->features.after;
        if (f != NULL)
            leaf_free(mem, f, f->block_size);
        break;
    }
    }
}

struct image_delta *delta_make(struct mem *mem, uint32_t changes_max)
{
    struct image_delta *delta = mem_zalloc(mem, sizeof(*delta));
    if (delta == NULL)
        return NULL;
    list_init(&delta->link);
    delta->changes_size = changes_max;
    if (changes_max == 0)
        return delta;
    delta->changes = mem_zalloc(mem, changes_max * sizeof(*delta->changes));
    if (delta->changes == NULL) {
        mem_free(mem, delta, sizeof(*delta));
        return NULL;
    }
    assert(delta->changes_count == 0);
    return delta;
}

struct image_change *delta_changes(struct image_delta *delta)
{
    assert(delta->changes != NULL || delta->changes_size == 0);
    union {
        const struct image_change *read;
        struct image_change *write;
    } u = {.read = delta->changes};
    return u.write;
}

static void delta_free(struct mem *mem, struct image_delta *delta, bool before)
{
    for (uint32_t i = 0; i < delta->changes_count; i++)
        change_free(mem, &delta->changes[i], before);
    if (delta->changes_size > 0)
        leaf_free(mem, delta->changes, (uint32_t)(delta->changes_size * sizeof(*delta->changes)));
    mem_free(mem, delta, sizeof(*delta));
}

void delta_retire(struct mem *mem, struct image_delta *delta)
{
    for (uint32_t i = 0; i < sizeof(delta->holders) / sizeof(delta->holders[0]); i++)
        assert(delta->holders[i] == 0);
    delta_free(mem, delta, true);
}

void delta_discard(struct mem *mem, struct image_delta *delta)
{
    assert(list_empty(&delta->link));
    delta_free(mem, delta, false);
}

void image_free_leaves(struct image *img, struct mem *mem)
{
    for (uint32_t i = 0; i < img->topics_count; i++)
        leaf_free(mem, img->topics[i], img->topics[i]->block_size);
    for (uint32_t i = 0; i < img->brokers_count; i++)
        leaf_free(mem, img->brokers[i], img->brokers[i]->block_size);
    for (uint32_t i = 0; i < img->configs_count; i++)
        leaf_free(mem, img->configs[i], img->configs[i]->block_size);
    if (img->features != NULL)
        leaf_free(mem, img->features, img->features->block_size);
    img->topics_count = img->brokers_count = img->configs_count = 0;
    img->features = NULL;
}

struct image_delta *delta_full(struct mem *mem, const struct image *img)
{
    uint64_t count = (uint64_t)img->topics_count + img->brokers_count + img->configs_count + 1;
    if (count * sizeof(struct image_change) > UINT32_MAX)
        return NULL;
    struct image_delta *delta = delta_make(mem, (uint32_t)count);
    if (delta == NULL)
        return NULL;
    struct image_change *to = delta_changes(delta);
    uint32_t n = 0;
    if (img->features != NULL)
        to[n++] = (struct image_change){.kind = IMAGE_FEATURES, .features = {NULL, img->features}};
    for (uint32_t i = 0; i < img->brokers_count; i++)
        to[n++] = (struct image_change){.kind = IMAGE_BROKER, .broker = {NULL, img->brokers[i]}};
    for (uint32_t i = 0; i < img->configs_count; i++)
        to[n++] = (struct image_change){.kind = IMAGE_CONFIG, .config = {NULL, img->configs[i]}};
    for (uint32_t i = 0; i < img->topics_count; i++)
        to[n++] = (struct image_change){.kind = IMAGE_TOPIC, .topic = {NULL, img->topics[i]}};
    assert(n <= count);
    delta->changes_count = n;
    delta->offset = img->offset;
    delta->epoch = img->epoch;
    delta->full = true;
    return delta;
}
