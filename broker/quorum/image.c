/* One core's tables over the shared leaves, and how a delta changes them.
 *
 *          delta.changes                       image
 *   - removed topic  t1 ------------------> topics_by_name, topics_by_id, topics[] (by name)
 *   - changed topic  t2 -> t2'              brokers[] (by id)
 *   - added   topic  t3                     configs[] (by type, name)
 *   - features f -> f'                      features
 *
 * Names and ids are found by hash, because Produce and Fetch ask for them; order is kept in arrays,
 * because Metadata and DescribeTopicPartitions page through them. An array insertion moves at most
 * 8 bytes per topic, which is nothing beside the creation of one.
 *
 * Invariants
 *  1. Table keys point into the leaf that is their value, so a key never outlives it: a changed
 *     topic is taken out and put in, never overwritten.
 *  2. image_apply first takes all the memory it will need, then changes the tables; between the two
 *     nothing can fail, so the image is before or after the delta, never within it.
 *  3. `before` of a change is exactly the leaf that the tables hold.
 *
 * Failure: only memory. The caller owns the decision; an image that could not follow is still
 * consistent, but old. */
#include "broker/quorum/image.h"

#include <errno.h>
#include <string.h>

#include "core/assert.h"

#define TABLE_SIZE_MIN 16u

const char *config_image_get(const struct config_image *config, const char *name)
{
    assert(name != NULL);
    if (config == NULL)
        return NULL;
    for (uint32_t i = 0; i < config->set.count; i++) {
        if (strcmp(config->set.entries[i].name, name) == 0)
            return config->set.entries[i].value;
    }
    return NULL;
}

void image_init(struct image *img, struct mem *mem, uint64_t seed)
{
    assert(mem != NULL);
    *img = (struct image){.mem = mem, .offset = -1, .epoch = -1};
    map_init(&img->topics_by_name, mem, seed);
    map_init(&img->topics_by_id, mem, seed);
    assert(img->features == NULL);
}

void image_destroy(struct image *img)
{
    assert(img->mem != NULL);
    map_destroy(&img->topics_by_name);
    map_destroy(&img->topics_by_id);
    mem_free(img->mem, img->topics, img->topics_size * sizeof(*img->topics));
    mem_free(img->mem, img->brokers, img->brokers_size * sizeof(*img->brokers));
    mem_free(img->mem, img->configs, img->configs_size * sizeof(*img->configs));
    *img = (struct image){.offset = -1, .epoch = -1};
}

/* ---- order ----------------------------------------------------------------------------------- */

/* Bytes first, then length: the order in which DescribeTopicPartitions pages. */
static int name_compare(const char *a, uint32_t a_size, const char *b, uint32_t b_size)
{
    uint32_t both = MIN(a_size, b_size);
    int order = both == 0 ? 0 : memcmp(a, b, both);
    if (order != 0)
        return order;
    return a_size < b_size ? -1 : a_size > b_size;
}

uint32_t image_topic_lower_bound(const struct image *img, const char *name, uint32_t name_size)
{
    uint32_t low = 0, high = img->topics_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct topic_image *t = img->topics[middle];
        if (name_compare(t->name, t->name_size, name, name_size) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    assert(low <= img->topics_count);
    return low;
}

static uint32_t broker_lower_bound(const struct image *img, int32_t id)
{
    uint32_t low = 0, high = img->brokers_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (img->brokers[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    assert(low <= img->brokers_count);
    return low;
}

static int config_compare(const struct config_image *c, enum config_resource_type type,
                          const char *name, uint32_t name_size)
{
    if (c->type != type)
        return c->type < type ? -1 : 1;
    return name_compare(c->name, c->name_size, name, name_size);
}

static uint32_t config_lower_bound(const struct image *img, enum config_resource_type type,
                                   const char *name, uint32_t name_size)
{
    uint32_t low = 0, high = img->configs_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (config_compare(img->configs[middle], type, name, name_size) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    assert(low <= img->configs_count);
    return low;
}

/* ---- taking the memory first ------------------------------------------------------------------
 */

/* Room for `wanted` pointers in a table; keeps what is there. */
static int table_reserve(struct mem *mem, void *table, uint32_t *size, uint32_t wanted)
{
    if (wanted <= *size)
        return 0;
    uint32_t grown = MAX(*size + *size / 2, MAX(wanted, TABLE_SIZE_MIN));
    void *old;
    memcpy(&old, table, sizeof(old)); /* a pointer to some array of pointers */
    void *bigger = mem_realloc(mem, old, *size * sizeof(void *), grown * sizeof(void *));
    if (bigger == NULL)
        return -ENOMEM;
    memcpy(table, &bigger, sizeof(bigger));
    *size = grown;
    assert(*size >= wanted);
    return 0;
}

struct additions {
    uint32_t topics, brokers, configs;
};

static struct additions delta_additions(const struct image_delta *delta)
{
    struct additions n = {0};
    for (uint32_t i = 0; i < delta->changes_count; i++) {
        const struct image_change *c = &delta->changes[i];
        n.topics += c->kind == IMAGE_TOPIC && c->topic.before == NULL;
        n.brokers += c->kind == IMAGE_BROKER && c->broker.before == NULL;
        n.configs += c->kind == IMAGE_CONFIG && c->config.before == NULL;
    }
    assert(n.topics <= delta->changes_count);
    return n;
}

static int image_reserve(struct image *img, const struct image_delta *delta)
{
    struct additions n = delta_additions(delta);
    int result =
        table_reserve(img->mem, &img->topics, &img->topics_size, img->topics_count + n.topics);
    if (result == 0)
        result = table_reserve(img->mem, &img->brokers, &img->brokers_size,
                               img->brokers_count + n.brokers);
    if (result == 0)
        result = table_reserve(img->mem, &img->configs, &img->configs_size,
                               img->configs_count + n.configs);
    if (result == 0)
        result = map_reserve(&img->topics_by_name, img->topics_count + n.topics);
    if (result == 0)
        result = map_reserve(&img->topics_by_id, img->topics_count + n.topics);
    return result;
}

/* ---- one change ------------------------------------------------------------------------------ */

static void topic_unmap(struct image *img, const struct topic_image *t)
{
    const void *by_name = map_remove(&img->topics_by_name, t->name, t->name_size);
    const void *by_id = map_remove(&img->topics_by_id, t->id.bytes, sizeof(t->id.bytes));
    assert(by_name == t); /* invariant 3 */
    assert(by_id == t);
    img->partitions_count -= t->partitions_count;
}

static void topic_map(struct image *img, const struct topic_image *t)
{
    /* The maps hold const leaves under a plain pointer; nobody writes through it. */
    union {
        const struct topic_image *read;
        void *value;
    } leaf = {.read = t};
    int by_name = map_put(&img->topics_by_name, t->name, t->name_size, leaf.value);
    int by_id = map_put(&img->topics_by_id, t->id.bytes, sizeof(t->id.bytes), leaf.value);
    assert(by_name == 0); /* invariant 2: reserved */
    assert(by_id == 0);
    img->partitions_count += t->partitions_count;
}

static void image_change_topic(struct image *img, const struct topic_image *before,
                               const struct topic_image *after)
{
    const struct topic_image *any = before != NULL ? before : after;
    assert(any != NULL);
    uint32_t at = image_topic_lower_bound(img, any->name, any->name_size);
    const struct topic_image **slot = &img->topics[at];
    if (before != NULL) {
        assert(at < img->topics_count && *slot == before);
        topic_unmap(img, before);
    }
    if (before != NULL && after == NULL) {
        img->topics_count--;
        memmove(slot, slot + 1, (img->topics_count - at) * sizeof(*slot));
    }
    if (before == NULL) {
        assert(img->topics_count < img->topics_size);
        memmove(slot + 1, slot, (img->topics_count - at) * sizeof(*slot));
        img->topics_count++;
    }
    if (after != NULL) {
        *slot = after;
        topic_map(img, after);
    }
}

static void image_change_broker(struct image *img, const struct broker_image *before,
                                const struct broker_image *after)
{
    const struct broker_image *any = before != NULL ? before : after;
    assert(any != NULL);
    uint32_t at = broker_lower_bound(img, any->id);
    const struct broker_image **slot = &img->brokers[at];
    assert(before == NULL || (at < img->brokers_count && *slot == before));
    if (before != NULL && after == NULL) {
        img->brokers_count--;
        memmove(slot, slot + 1, (img->brokers_count - at) * sizeof(*slot));
        return;
    }
    if (before == NULL) {
        assert(img->brokers_count < img->brokers_size);
        memmove(slot + 1, slot, (img->brokers_count - at) * sizeof(*slot));
        img->brokers_count++;
    }
    *slot = after;
}

static void image_change_config(struct image *img, const struct config_image *before,
                                const struct config_image *after)
{
    const struct config_image *any = before != NULL ? before : after;
    assert(any != NULL && any->type != RESOURCE_TOPIC);
    uint32_t at = config_lower_bound(img, any->type, any->name, any->name_size);
    const struct config_image **slot = &img->configs[at];
    assert(before == NULL || (at < img->configs_count && *slot == before));
    if (before != NULL && after == NULL) {
        img->configs_count--;
        memmove(slot, slot + 1, (img->configs_count - at) * sizeof(*slot));
        return;
    }
    if (before == NULL) {
        assert(img->configs_count < img->configs_size);
        memmove(slot + 1, slot, (img->configs_count - at) * sizeof(*slot));
        img->configs_count++;
    }
    *slot = after;
}

int image_apply(struct image *img, const struct image_delta *delta)
{
    assert(delta->offset >= img->offset);
    assert(!delta->full || img->offset == -1);
    int result = image_reserve(img, delta);
    if (result != 0)
        return result;
    for (uint32_t i = 0; i < delta->changes_count; i++) {
        const struct image_change *c = &delta->changes[i];
        switch (c->kind) {
        case IMAGE_TOPIC:
            image_change_topic(img, c->topic.before, c->topic.after);
            break;
        case IMAGE_BROKER:
            image_change_broker(img, c->broker.before, c->broker.after);
            break;
        case IMAGE_CONFIG:
            image_change_config(img, c->config.before, c->config.after);
            break;
        case IMAGE_FEATURES:
            assert(img->features == c->features.before);
            img->features = c->features.after;
            break;
        }
    }
    img->offset = delta->offset;
    img->epoch = delta->epoch;
    return 0;
}

/* ---- lookups --------------------------------------------------------------------------------- */

const struct topic_image *image_topic_by_name(const struct image *img, const char *name,
                                              uint32_t name_size)
{
    assert(img->mem != NULL);
    return map_get(&img->topics_by_name, name, name_size);
}

const struct topic_image *image_topic_by_id(const struct image *img, struct uuid id)
{
    assert(img->mem != NULL);
    return map_get(&img->topics_by_id, id.bytes, sizeof(id.bytes));
}

const struct partition_image *topic_partition(const struct topic_image *topic, int32_t partition)
{
    assert(topic != NULL);
    if (partition < 0 || (uint32_t)partition >= topic->partitions_count)
        return NULL;
    assert(topic->partitions[partition].index == partition);
    return &topic->partitions[partition];
}

const struct broker_image *image_broker(const struct image *img, int32_t id)
{
    uint32_t at = broker_lower_bound(img, id);
    if (at == img->brokers_count || img->brokers[at]->id != id)
        return NULL;
    return img->brokers[at];
}

const struct endpoint_image *broker_endpoint(const struct broker_image *broker,
                                             const char *listener)
{
    assert(broker != NULL);
    for (uint32_t i = 0; i < broker->endpoints_count; i++) {
        if (strcmp(broker->endpoints[i].listener, listener) == 0)
            return &broker->endpoints[i];
    }
    return NULL;
}

const struct config_image *image_config(const struct image *img, enum config_resource_type type,
                                        const char *name, uint32_t name_size)
{
    assert(img->mem != NULL);
    if (type == RESOURCE_TOPIC) {
        const struct topic_image *t = image_topic_by_name(img, name, name_size);
        return t != NULL && t->overrides.set.count > 0 ? &t->overrides : NULL;
    }
    uint32_t at = config_lower_bound(img, type, name, name_size);
    if (at == img->configs_count || config_compare(img->configs[at], type, name, name_size) != 0)
        return NULL;
    return img->configs[at];
}

int16_t image_feature(const struct image *img, const char *name)
{
    assert(name != NULL);
    if (img->features == NULL)
        return 0;
    for (uint32_t i = 0; i < img->features->features_count; i++) {
        if (strcmp(img->features->features[i].name, name) == 0)
            return img->features->features[i].level;
    }
    return 0;
}
