/* What the control core knows from the metadata log, apart from drafts and snapshots.
 *
 * Records that no part of the broker looks into yet are still the cluster's: they are kept as the
 * bytes they came as, found by what identifies them, and go into every snapshot.
 *
 *   kept:  [api key | identity] -> [frame | message]
 *
 * Invariants
 *  1. Replaying the log from scratch and loading a snapshot of it lead to the same metadata.
 *  2. A kept record is replaced by the next one with its identity and ends by its remove record.
 *
 * Failure: memory. */
#include "broker/quorum/metadata.h"

#include <errno.h>
#include <string.h>

#include "broker/quorum/leaf.h"
#include "core/assert.h"
#include "proto/gen/record_quorum.h"
#include "proto/record.h"

#define MAP_SEED 0x746f7263 /* fixed: iteration order goes into snapshots */

void metadata_init(struct metadata *md, struct mem *mem, const struct config *node)
{
    assert(mem != NULL);
    *md = (struct metadata){.mem = mem, .node = node, .last_timestamp_ms = -1};
    image_init(&md->image, mem, MAP_SEED);
    map_init(&md->kept, mem, MAP_SEED);
    assert(md->kept.count == 0);
}

static void kept_free(struct metadata *md, struct kept_record *k)
{
    mem_free(md->mem, k->key, (size_t)k->key_size + k->value.size);
    mem_free(md->mem, k, sizeof(*k));
}

void metadata_destroy(struct metadata *md)
{
    assert(md->mem != NULL);
    uint32_t at = 0;
    struct kept_record *k;
    while ((k = map_next(&md->kept, &at)) != NULL)
        kept_free(md, k);
    map_destroy(&md->kept);
    image_free_leaves(&md->image, md->mem);
    image_destroy(&md->image);
    mem_free(md->mem, md->voters, md->voters_size);
    *md = (struct metadata){0};
}

int metadata_apply(struct metadata *md, const struct image_delta *delta)
{
    assert(delta->offset >= md->image.offset);
    return image_apply(&md->image, delta);
}

int kept_put(struct metadata *md, const void *key, uint32_t key_size, struct record_value value)
{
    assert(key_size > 0 && value.size > 0);
    struct kept_record *k = mem_alloc(md->mem, sizeof(*k));
    uint8_t *block = mem_alloc(md->mem, (size_t)key_size + value.size);
    if (k == NULL || block == NULL || map_reserve(&md->kept, md->kept.count + 1) != 0) {
        mem_free(md->mem, k, sizeof(*k));
        mem_free(md->mem, block, (size_t)key_size + value.size);
        return -ENOMEM;
    }
    memcpy(block, key, key_size);
    memcpy(block + key_size, value.data, value.size);
    *k = (struct kept_record){block, key_size, {block + key_size, value.size}};
    kept_remove(md, key, key_size);
    int result = map_put(&md->kept, k->key, k->key_size, k);
    assert(result == 0); /* reserved */
    return 0;
}

void kept_remove(struct metadata *md, const void *key, uint32_t key_size)
{
    assert(key_size > 0);
    struct kept_record *k = map_remove(&md->kept, key, key_size);
    if (k != NULL)
        kept_free(md, k);
}

/* ---- control records --------------------------------------------------------------------------
 */

static int voters_keep(struct metadata *md, struct batch_field value)
{
    uint8_t *copy = mem_alloc(md->mem, MAX(value.size, 1u));
    if (copy == NULL)
        return -ENOMEM;
    memcpy(copy, value.data, value.size);
    mem_free(md->mem, md->voters, md->voters_size);
    md->voters = copy;
    md->voters_size = MAX(value.size, 1u);
    return 0;
}

int metadata_control(struct metadata *md, const uint8_t *batch, const struct batch_header *h)
{
    assert(batch_has(h, BATCH_CONTROL));
    struct record_iter it;
    struct record record;
    record_iter_init(&it, batch + BATCH_HEADER_SIZE, h->size - BATCH_HEADER_SIZE, h->record_count);
    while (record_next(&it, &record)) {
        struct wire_reader r;
        if (record.key.data == NULL || record.key.size < BATCH_CONTROL_KEY_SIZE ||
            record.value.data == NULL)
            return -EBADMSG;
        uint16_t type = wire_load16(record.key.data + 2);
        wire_reader_init(&r, record.value.data, record.value.size);
        if (type == BATCH_CONTROL_KRAFT_VERSION) {
            struct kraft_version_record version;
            if (kraft_version_record_decode(&version, &r, 0, NULL) != 0)
                return -EBADMSG;
            md->kraft_version = version.kraft_version;
        } else if (type == BATCH_CONTROL_KRAFT_VOTERS) {
            int result = voters_keep(md, record.value);
            if (result != 0)
                return result;
        }
    }
    return it.malformed ? -EBADMSG : 0;
}
