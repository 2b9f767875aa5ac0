/* The hash of the metadata of all topics that a consumer group subscribes to: it goes into the
 * group's record, and when it changes the assignment is made anew. It is Kafka's, byte for byte, so
 * that a group which moves between the two is not disturbed.
 *
 *   topic  XXH3( 00 | id, two int64 | name, UTF-16 | length | partitions |
 *                for each partition: its number, for each rack in order: length, rack, length )
 *   group  XXH3( the hashes of the topics that are there, by name )      all little-endian
 *   no topic: 0
 *
 * Failure modes: no memory: said to the caller. */
#include "broker/group/consumer_priv.h"
#include "core/assert.h"

#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define RACKS_MAX 128u /* replicas of a partition; a log directory cannot hold more */

struct bytes {
    uint8_t *at, *end;
};

static void put(struct bytes *b, uint64_t value, size_t size)
{
    assert((size_t)(b->end - b->at) >= size);
    for (size_t i = 0; i < size; i++)
        b->at[i] = (uint8_t)(value >> (8 * i));
    b->at += size;
}

/* Names of topics and racks are ASCII in practice; bytes beyond are taken as they are, and differ
 * where the text differs, which is all that is asked of a hash. */
static void put_text(struct bytes *b, struct wire_string s)
{
    for (int32_t i = 0; i < s.size; i++)
        put(b, (uint8_t)s.data[i], 2);
    put(b, (uint32_t)MAX(s.size, 0), 4);
}

static size_t text_size(struct wire_string s)
{
    return 2 * (size_t)MAX(s.size, 0) + 4;
}

static int rack_order(const void *a, const void *b)
{
    const struct wire_string *x = a, *y = b;
    int32_t size = MIN(x->size, y->size);
    int order = size > 0 ? memcmp(x->data, y->data, (size_t)size) : 0;
    return order != 0 ? order : (x->size > y->size) - (x->size < y->size);
}

static uint64_t be64(const uint8_t *at)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | at[i];
    return value;
}

/* Written twice: to measure (without room) and to make. */
static size_t topic_racks(const struct group_world *w, const struct group_topic_facts *t,
                          uint32_t partition, struct bytes *to)
{
    struct wire_string racks[RACKS_MAX];
    uint32_t count = w->racks(w->context, t, partition, racks, RACKS_MAX);
    size_t size = 4;
    assert(count <= RACKS_MAX);
    qsort(racks, count, sizeof(racks[0]), rack_order);
    if (to != NULL)
        put(to, partition, 4);
    for (uint32_t i = 0; i < count; i++) {
        size += 4 + text_size(racks[i]);
        if (to == NULL)
            continue;
        put(to, (uint32_t)racks[i].size, 4);
        put_text(to, racks[i]);
    }
    return size;
}

static bool topic_hash(struct arena *arena, const struct group_world *w,
                       const struct group_topic_facts *t, uint64_t *hash)
{
    size_t size = 1 + 16 + text_size(t->name) + 4;
    for (uint32_t i = 0; i < t->partitions_count; i++)
        size += topic_racks(w, t, i, NULL);
    uint8_t *buffer = arena_alloc(arena, size);
    if (buffer == NULL)
        return false;
    struct bytes b = {buffer, buffer + size};
    put(&b, 0, 1);
    put(&b, be64(t->id.bytes), 8);
    put(&b, be64(t->id.bytes + 8), 8);
    put_text(&b, t->name);
    put(&b, t->partitions_count, 4);
    for (uint32_t i = 0; i < t->partitions_count; i++)
        (void)topic_racks(w, t, i, &b);
    assert(b.at == b.end);
    *hash = XXH3_64bits(buffer, size);
    return true;
}

static int name_pointer_order(const void *a, const void *b)
{
    const struct consumer_topic *const *x = a, *const *y = b;
    return rack_order(&(*x)->name, &(*y)->name);
}

bool consumers_hash(const struct consumer_group *cg, int64_t *hash)
{
    struct group_shard *s = cg->group->shard;
    struct arena *arena = &s->update.arena;
    uint32_t count = 0, known = 0;
    const struct consumer_topic **list =
        arena_array(arena, cg->topics_by_name.count, sizeof(struct consumer_topic *));
    uint8_t *hashes = arena_alloc(arena, 8 * (size_t)cg->topics_by_name.count);
    *hash = 0;
    if (list == NULL || hashes == NULL)
        return false;
    LIST_EACH(l, &cg->topics)
    list[count++] = container_of(l, struct consumer_topic, link);
    assert(count == cg->topics_by_name.count);
    qsort(list, count, sizeof(struct consumer_topic *), name_pointer_order);
    struct bytes b = {hashes, hashes + 8 * (size_t)count};
    for (uint32_t i = 0; i < count; i++) {
        struct group_topic_facts t;
        uint64_t one;
        if (!s->world->topic_by_name(s->world->context, list[i]->name, &t))
            continue;
        if (!topic_hash(arena, s->world, &t, &one))
            return false;
        put(&b, one, 8);
        known++;
    }
    if (known > 0)
        *hash = (int64_t)XXH3_64bits(hashes, 8 * (size_t)known);
    return true;
}
