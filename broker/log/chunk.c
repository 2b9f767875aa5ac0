/* Chunks: the tail memory of one core, and the blocks that cold reads come in.
 *
 *              chunk_take            chunk_seal          written, flushed, not lent
 *   FREE ───────────────▶ FILLING ─────────────▶ SEALED ──────────────────────────▶ FREE
 *                         one per WAL and one    oldest first in core->chunks       kept or given
 *                         for cached logs                                           back
 *
 * Batches are copied into a chunk once; from there they go to the WAL, to consumers and to their
 * segment. A chunk is taken on demand, up to cache_bytes per core, and evicted oldest first: its
 * entries name their logs (by slot), so the logs' tail indexes forget it without a list per batch.
 * A core that uses more than a few makes them as twins, two in a large page of the kernel's: the
 * device is then told of one piece of memory instead of one per 4 KiB, and fewer faults and
 * translations are paid for each byte (perf/NOTES.md). Twins are given back together.
 *
 * Invariants
 *  1. What a tail index points at is in a chunk that is FILLING or SEALED.
 *  2. A chunk is evicted only when each of its groups is in the WAL, each of its batches in a
 *     segment, and no piece of it is lent. So eviction loses nothing but speed.
 *  3. chunk_bytes <= cache_bytes, except for a chunk larger than CHUNK_BYTES (one big batch). What
 *     is not made yet of cache_bytes is promised: groups and the like leave it (mem_may_grow).
 *
 * Failure: no chunk means NULL, and log_append refuses; log_core_has_room says so before. */
#include "broker/log/log_priv.h"

#include <string.h>

#include "core/lab.h"

static const struct state_table chunk_states = {
    .name = "chunk",
    .names = (const char *const[]){"filling", "sealed", "free"},
    .states_count = 3,
    .allowed = {[CHUNK_FILLING] = 1u << CHUNK_SEALED,
                [CHUNK_SEALED] = 1u << CHUNK_FREE,
                [CHUNK_FREE] = 1u << CHUNK_FILLING},
};

/* So many bytes more (fewer: negative) are in chunks now. Invariant 3. */
static void chunks_count(struct log_core *c, int64_t bytes)
{
    uint64_t cache = c->config.cache_bytes;
    c->chunk_bytes = (uint64_t)((int64_t)c->chunk_bytes + bytes);
    c->mem->promised_bytes = cache > c->chunk_bytes ? cache - c->chunk_bytes : 0;
}

void chunks_init(struct log_core *c)
{
    assert(c->config.cache_bytes >= 2 * CHUNK_BYTES);
    assert(c->chunk_bytes == 0);
    chunks_count(c, 0);
    list_init(&c->chunks);
    list_init(&c->free_chunks);
}

static void chunk_destroy(struct log_core *c, struct chunk *k)
{
    assert(k->block.references == 0);
    assert(c->chunk_bytes >= k->block.capacity);
    struct chunk *twin = k->twin;
    uint8_t *data = twin == NULL ? k->block.data : MIN(k->block.data, twin->block.data);
    size_t size = k->block.capacity;
    if (twin != NULL) { /* on the list of free ones, as k was */
        assert(twin->block.references == 0 && twin->twin == k);
        size *= 2;
        list_remove(&twin->link);
        mem_free(c->mem, twin, sizeof(*twin));
    }
    chunks_count(c, -(int64_t)size);
    mem_pages_free(c->mem, data, size);
    mem_free(c->mem, k, sizeof(*k));
}

void chunks_free(struct log_core *c)
{
    struct list *l;
    while ((l = list_pop_front(&c->chunks)) != NULL)
        chunk_destroy(c, container_of(l, struct chunk, link));
    while ((l = list_pop_front(&c->free_chunks)) != NULL)
        chunk_destroy(c, container_of(l, struct chunk, link));
    assert(c->chunk_bytes == 0);
    assert(c->block_bytes == 0);
}

static void chunk_recount(struct chunk *k)
{
    struct log_core *c = k->block.core;
    bool evictable = k->state.now == CHUNK_SEALED && k->unwritten == 0 && k->unflushed == 0 &&
                     k->block.references == 0;
    if (evictable == k->evictable)
        return;
    k->evictable = evictable;
    assert(evictable || c->evictable > 0);
    c->evictable += evictable ? 1u : UINT32_MAX;
}

void chunk_entries(const struct chunk *k,
                   void (*visit)(struct log_core *c, const struct wal_entry *e))
{
    assert(k->state.now == CHUNK_SEALED);
    assert(k->used <= k->block.capacity);
    uint32_t group = 0;
    while (group < k->used) {
        const struct wal_group_header *h = (const void *)(k->block.data + group);
        uint32_t at = group + (uint32_t)sizeof(*h), end = group + h->used;
        assert(h->length >= h->used && end <= k->block.capacity);
        while (at < end) {
            const struct wal_entry *e = (const void *)(k->block.data + at);
            visit(k->block.core, e);
            at += (uint32_t)sizeof(*e) + wal_padded(e->length, WAL_ENTRY_ALIGN);
        }
        group += h->length;
    }
}

struct log *log_of_entry(struct log_core *c, const struct wal_entry *e)
{
    if (e->type != WAL_BATCH || e->slot >= c->table_room)
        return NULL;
    struct log *l = c->table[e->slot];
    bool same =
        l != NULL && l->key.partition == e->partition && uuid_equal(l->key.topic_id, e->topic_id);
    return same ? l : NULL;
}

static void entry_forget(struct log_core *c, const struct wal_entry *e)
{
    struct log *l = log_of_entry(c, e);
    if (l != NULL)
        tail_drop(c, &l->tail, e->last_offset);
}

/* Out of the cache: nobody finds it any more. */
static void chunk_evict(struct log_core *c, struct chunk *k)
{
    SOMETIMES("a chunk is evicted");
    assert(k->evictable);
    chunk_entries(k, entry_forget);
    state_move(&k->state, &chunk_states, CHUNK_FREE);
    chunk_recount(k);
    list_remove(&k->link);
    if (k->block.capacity > CHUNK_BYTES) {
        chunk_destroy(c, k);
        return;
    }
    list_push_front(&c->free_chunks, &k->link);
    c->chunks_free++;
}

static void chunk_evict_oldest(struct log_core *c)
{
    assert(c->evictable > 0);
    LIST_EACH(at, &c->chunks)
    {
        struct chunk *k = container_of(at, struct chunk, link);
        if (!k->evictable)
            continue;
        chunk_evict(c, k);
        return;
    }
    assert(false); /* evictable says that there is one */
}

/* In memory that is there; NULL: no memory for its head. */
static struct chunk *chunk_in(struct log_core *c, uint8_t *data, uint32_t capacity)
{
    struct chunk *k = mem_zalloc(c->mem, sizeof(*k));
    if (k == NULL)
        return NULL;
    k->block = (struct log_block){
        .core = c,
        .capacity = capacity,
        .kind = BLOCK_CHUNK,
        .data = data,
    };
    k->state.now = CHUNK_FREE;
    return k;
}

static struct chunk *chunk_make(struct log_core *c, uint32_t capacity)
{
    uint8_t *data = mem_pages(c->mem, capacity);
    if (data == NULL)
        return NULL;
    struct chunk *k = chunk_in(c, data, capacity);
    if (k == NULL)
        mem_pages_free(c->mem, data, capacity);
    else
        chunks_count(c, capacity);
    return k;
}

/* Makes two in a large page: one is returned, the other one is free. */
static struct chunk *chunk_make_twins(struct log_core *c)
{
    uint8_t *data = mem_pages(c->mem, MEM_LARGE_PAGE);
    if (data == NULL)
        return NULL;
    io_use_large_pages(data, MEM_LARGE_PAGE);
    struct chunk *k = chunk_in(c, data, CHUNK_BYTES);
    struct chunk *twin = k == NULL ? NULL : chunk_in(c, data + CHUNK_BYTES, CHUNK_BYTES);
    if (twin == NULL) {
        mem_free(c->mem, k, sizeof(*k));
        mem_pages_free(c->mem, data, MEM_LARGE_PAGE);
        return NULL;
    }
    k->twin = twin;
    twin->twin = k;
    list_push_front(&c->free_chunks, &twin->link);
    c->chunks_free++;
    chunks_count(c, MEM_LARGE_PAGE);
    return k;
}

static bool chunk_may_make_twins(const struct log_core *c)
{
    return c->chunk_bytes >= CHUNKS_SINGLE * CHUNK_BYTES &&
           c->chunk_bytes + MEM_LARGE_PAGE <= c->config.cache_bytes;
}

/* A new ordinary chunk, for which there is room. */
static struct chunk *chunk_make_ordinary(struct log_core *c)
{
    struct chunk *k = chunk_may_make_twins(c) ? chunk_make_twins(c) : NULL;
    return k != NULL ? k : chunk_make(c, CHUNK_BYTES);
}

/* The last free chunk was taken: while it fills, the next ones are made, and their memory is
 * backed. The fault of a large page takes 0.3 ms, or 6 where the host has to find it first, and
 * whoever commits at that moment would wait as long. */
static void chunk_make_ahead(struct log_core *c)
{
    bool many = c->chunk_bytes > CHUNKS_SINGLE * CHUNK_BYTES; /* a core that idles keeps little */
    struct chunk *k = many && chunk_may_make_twins(c) ? chunk_make_twins(c) : NULL;
    if (k == NULL)
        return;
    list_push_front(&c->free_chunks, &k->link);
    c->chunks_free++;
    io_prefault(c->io, MIN(k->block.data, k->twin->block.data), MEM_LARGE_PAGE);
}

static struct chunk *chunk_from_free(struct log_core *c)
{
    struct list *l = list_pop_front(&c->free_chunks);
    if (l == NULL)
        return NULL;
    assert(c->chunks_free > 0);
    c->chunks_free--;
    return container_of(l, struct chunk, link);
}

/* A free chunk that can be given back: alone, or its twin is free too. Both are off the count. */
static struct chunk *chunk_to_destroy(struct log_core *c)
{
    LIST_EACH(at, &c->free_chunks)
    {
        struct chunk *k = container_of(at, struct chunk, link);
        if (k->twin != NULL && k->twin->state.now != CHUNK_FREE)
            continue;
        list_remove(&k->link);
        assert(c->chunks_free >= (k->twin == NULL ? 1 : 2));
        c->chunks_free -= k->twin == NULL ? 1 : 2;
        return k;
    }
    return NULL;
}

struct chunk *chunk_take(struct log_core *c, uint32_t capacity, bool cached)
{
    assert(capacity % WAL_BLOCK == 0);
    assert(capacity >= CHUNK_BYTES);
    uint64_t max = MAX(c->config.cache_bytes, (uint64_t)capacity + CHUNK_BYTES);
    bool ordinary = capacity == CHUNK_BYTES;
    struct chunk *k = ordinary ? chunk_from_free(c) : NULL;
    while (k == NULL && c->chunk_bytes + capacity > max) {
        struct chunk *spare = ordinary ? chunk_from_free(c) : chunk_to_destroy(c);
        if (spare != NULL && ordinary)
            k = spare;
        else if (spare != NULL)
            chunk_destroy(c, spare);
        else if (c->evictable > 0)
            chunk_evict_oldest(c);
        else if (c->chunks_free > 0)
            break; /* their twins are in use: it is over the limit by no more than itself */
        else
            return NULL;
    }
    if (k == NULL)
        k = ordinary ? chunk_make_ordinary(c) : chunk_make(c, capacity);
    if (k == NULL)
        return NULL;
    state_move(&k->state, &chunk_states, CHUNK_FILLING);
    assert(k->block.references == 0 && k->unflushed == 0 && k->unwritten == 0);
    k->cached = cached;
    k->used = 0;
    list_push_back(&c->chunks, &k->link);
    if (c->chunks_free == 0)
        chunk_make_ahead(c);
    return k;
}

void chunk_seal(struct chunk *k)
{
    if (k->cached) { /* so that it can be walked like one of a WAL */
        struct wal_group_header *h = (void *)k->block.data;
        h->used = h->length = k->used;
    }
    k->used_ns = io_now_ns(k->block.core->io);
    state_move(&k->state, &chunk_states, CHUNK_SEALED);
    chunk_recount(k);
}

void chunk_flushed(struct chunk *k)
{
    assert(k->unflushed > 0);
    k->unflushed--;
    chunk_recount(k);
}

void chunk_written(struct chunk *k)
{
    assert(k->unwritten > 0);
    k->unwritten--;
    chunk_recount(k);
}

uint32_t chunks_room(const struct log_core *c)
{
    uint64_t unmade = c->config.cache_bytes > c->chunk_bytes
                          ? (c->config.cache_bytes - c->chunk_bytes) / CHUNK_BYTES
                          : 0;
    return (uint32_t)MIN(unmade + c->chunks_free + c->evictable, UINT32_MAX);
}

uint64_t chunks_kept_bytes(const struct log_core *c)
{
    uint64_t spare = ((uint64_t)c->chunks_free + c->evictable) * CHUNK_BYTES;
    return c->chunk_bytes > spare ? c->chunk_bytes - spare : 0;
}

void chunks_shrink(struct log_core *c, uint64_t now_ns)
{
    assert(now_ns > 0);
    uint32_t evicted_max = 4; /* a little at a time */
    LIST_EACH(at, &c->chunks)
    {
        struct chunk *k = container_of(at, struct chunk, link);
        if (evicted_max == 0 || now_ns < k->used_ns + CHUNK_IDLE_NS)
            break;
        if (!k->evictable)
            continue;
        SOMETIMES("a chunk is idle");
        chunk_evict(c, k);
        evicted_max--;
    }
    struct chunk *spare = c->chunks_free > CHUNKS_KEPT ? chunk_to_destroy(c) : NULL;
    if (spare != NULL)
        chunk_destroy(c, spare);
}

struct log_block *block_take(struct log_core *c, uint32_t capacity)
{
    assert(capacity > 0);
    struct log_block *b = mem_alloc(c->mem, sizeof(*b) + capacity);
    if (b == NULL)
        return NULL;
    *b = (struct log_block){
        .core = c,
        .data = (uint8_t *)(b + 1),
        .capacity = capacity,
        .references = 1,
        .kind = BLOCK_READ,
    };
    c->block_bytes += capacity;
    return b;
}

void block_retain(struct log_block *b)
{
    assert(b->references < UINT32_MAX);
    b->references++;
    if (b->kind == BLOCK_CHUNK) {
        struct chunk *k = container_of(b, struct chunk, block);
        assert(k->state.now != CHUNK_FREE);
        chunk_recount(k);
    }
}

void block_release(struct log_block *b)
{
    struct log_core *c = b->core;
    assert(b->references > 0);
    b->references--;
    if (b->kind == BLOCK_CHUNK) {
        struct chunk *k = container_of(b, struct chunk, block);
        k->used_ns = io_now_ns(c->io);
        chunk_recount(k);
    } else if (b->references == 0) {
        assert(c->block_bytes >= b->capacity);
        c->block_bytes -= b->capacity;
        mem_free(c->mem, b, sizeof(*b) + b->capacity);
    }
}
