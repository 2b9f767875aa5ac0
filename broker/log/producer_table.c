/* What is in memory of a partition's producers, made to be small, for there may be very many:
 *
 *   by_id ─▶ producer: epoch, newest batch ─▶ older: up to 4 batches, made when a second one comes
 *                │
 *                └▶ producer_txn: while its transaction is open (ongoing), and from its marker on
 *                   until that is below the high watermark (unreplicated): one piece of memory
 * moves
 *
 * A producer that wrote one batch is 80 bytes and its share of the table (11 to 21), one with all
 * five batches 96 more. Most applications that ever wrote are of the first kind.
 *
 * Invariants
 *  1. older has room for count - 1 batches.
 *  2. A producer is in `ongoing` by its open transaction, or open is NULL.
 *
 * Failure: no memory: said to the caller, nothing has changed. */
#include "broker/log/producer_priv.h"

#include <string.h>

#include "core/lab.h"

static const uint8_t rooms[PRODUCER_BATCHES] = {0, 2, 2, 4, 4}; /* by how many are older */

/* ---- the table ------------------------------------------------------------------------------- */

bool producers_make(struct log *l)
{
    struct mem *mem = l->core->mem;
    if (l->producers != NULL)
        return true;
    l->producers = mem_zalloc(mem, sizeof(*l->producers));
    if (l->producers == NULL)
        return false;
    id_map_init(&l->producers->by_id, mem);
    id_map_init(&l->producers->verifying, mem);
    list_init(&l->producers->ongoing);
    list_init(&l->producers->unreplicated);
    return true;
}

struct producer *producer_find(const struct log *l, int64_t id)
{
    return l->producers == NULL ? NULL : id_map_get(&l->producers->by_id, id);
}

struct producer *producer_make(struct log *l, int64_t id)
{
    if (!producers_make(l) ||
        id_map_reserve(&l->producers->by_id, l->producers->by_id.count + 1) != 0)
        return NULL;
    struct producer *p = mem_zalloc(l->core->mem, sizeof(*p));
    if (p == NULL)
        return NULL;
    p->id = id;
    p->epoch = PRODUCER_NO_EPOCH;
    p->coordinator_epoch = PRODUCER_NO_EPOCH;
    p->last_timestamp = NO_TIMESTAMP;
    p->seen_ms = io_wall_ms(l->core->io);
    return p;
}

void producer_free(struct log *l, struct producer *p)
{
    struct mem *mem = l->core->mem;
    if (p->room > 0)
        mem_free(mem, p->older, p->room * sizeof(*p->older));
    mem_free(mem, p->open, sizeof(*p->open));
    mem_free(mem, p, sizeof(*p));
}

static void producer_forget(struct log *l, struct producer *p)
{
    assert(p->open == NULL);
    void *removed = id_map_remove(&l->producers->by_id, p->id);
    assert(removed == p);
    producer_free(l, p);
}

bool producers_forget_oldest(struct log *l, const struct producer *but)
{
    uint32_t at = 0;
    struct producer *p, *oldest = NULL;
    if (l->producers == NULL)
        return false;
    while ((p = id_map_next(&l->producers->by_id, &at)) != NULL)
        if (p->open == NULL && p != but &&
            (oldest == NULL || p->last_timestamp < oldest->last_timestamp))
            oldest = p;
    if (oldest == NULL)
        return false;
    producer_forget(l, oldest);
    return true;
}

static void txns_free(struct log *l, struct list *txns)
{
    for (struct list *at; (at = list_pop_front(txns)) != NULL;)
        mem_free(l->core->mem, container_of(at, struct producer_txn, link),
                 sizeof(struct producer_txn));
}

void producers_free(struct log *l)
{
    struct producers *ps = l->producers;
    struct producer *p;
    struct verification *v;
    if (ps == NULL)
        return;
    for (uint32_t at = 0; (p = id_map_next(&ps->by_id, &at)) != NULL;)
        producer_free(l, p);
    list_init(&ps->ongoing); /* they were the producers' */
    txns_free(l, &ps->unreplicated);
    for (uint32_t at = 0; (v = id_map_next(&ps->verifying, &at)) != NULL;)
        mem_free(l->core->mem, v, sizeof(*v));
    id_map_destroy(&ps->by_id);
    id_map_destroy(&ps->verifying);
    mem_free(l->core->mem, ps, sizeof(*ps));
    l->producers = NULL;
}

/* ---- the window ------------------------------------------------------------------------------ */

void producer_set_epoch(struct producer *p, int16_t epoch)
{
    if (p->epoch == epoch)
        return;
    SOMETIMES_IF(p->epoch >= 0, "a producer has a new epoch in a log");
    p->epoch = epoch;
    p->count = 0;
}

bool producer_window_make(struct log *l, struct producer *p, uint32_t count)
{
    assert(count <= PRODUCER_BATCHES);
    uint8_t room = count == 0 ? 0 : rooms[count - 1];
    if (room <= p->room)
        return true;
    struct producer_batch *older =
        mem_realloc(l->core->mem, p->older, p->room * sizeof(*older), room * sizeof(*older));
    if (older == NULL)
        return false;
    p->older = older;
    p->room = room;
    return true;
}

bool producer_window_reserve(struct log *l, struct producer *p, int16_t epoch)
{
    if (p->epoch != epoch)
        return true; /* it will be the first */
    return producer_window_make(l, p, MIN(p->count + 1u, PRODUCER_BATCHES));
}

void producer_window_add(struct producer *p, const struct producer_batch *b)
{
    assert(p->count <= PRODUCER_BATCHES);
    if (p->count == PRODUCER_BATCHES) {
        memmove(&p->older[0], &p->older[1], (PRODUCER_BATCHES - 2) * sizeof(*p->older));
        p->count--;
    }
    if (p->count > 0) {
        assert(p->count <= p->room);
        p->older[p->count - 1] = p->newest;
    }
    p->newest = *b;
    p->count++;
    p->last_timestamp = b->timestamp;
}

/* ---- transactions ---------------------------------------------------------------------------- */

struct producer_txn *producer_txn_make(struct log *l, int64_t producer_id, int64_t first_offset)
{
    struct producer_txn *t = mem_zalloc(l->core->mem, sizeof(*t));
    if (t == NULL)
        return NULL;
    list_init(&t->link);
    t->producer_id = producer_id;
    t->first_offset = first_offset;
    t->last_offset = NO_OFFSET;
    return t;
}

void producer_txn_open(struct log *l, struct producer *p, struct producer_txn *t)
{
    struct list *ongoing = &l->producers->ongoing, *before = ongoing;
    assert(p->open == NULL && list_empty(&t->link));
    while (before->prev != ongoing && /* mostly it is the newest */
           container_of(before->prev, struct producer_txn, link)->first_offset > t->first_offset)
        before = before->prev;
    list_insert_before(before, &t->link);
    p->open = t;
}

int64_t producers_first_unstable(const struct log *l)
{
    int64_t first = INT64_MAX;
    if (l->producers == NULL)
        return first;
    const struct list *ongoing = list_first(&l->producers->ongoing);
    if (ongoing != NULL)
        first = container_of(ongoing, const struct producer_txn, link)->first_offset;
    LIST_EACH(at, &l->producers->unreplicated)
    {
        const struct producer_txn *t = container_of(at, struct producer_txn, link);
        first = MIN(first, t->first_offset);
    }
    return first;
}

void producers_high_watermark(struct log *l)
{
    if (l->producers == NULL)
        return;
    LIST_EACH(at, &l->producers->unreplicated)
    {
        struct producer_txn *t = container_of(at, struct producer_txn, link);
        if (t->last_offset >= l->high_watermark)
            continue;
        list_remove(&t->link);
        mem_free(l->core->mem, t, sizeof(*t));
    }
}

/* ---- time ------------------------------------------------------------------------------------ */

void producers_expire(struct log *l)
{
    int64_t now_ms = io_wall_ms(l->core->io), after_ms = l->core->config.producer_expiration_ms;
    struct verification *v;
    struct producer *p;
    if (l->producers == NULL)
        return;
    for (uint32_t at = 0; (v = id_map_next(&l->producers->verifying, &at)) != NULL;) {
        if (now_ms - v->since_ms < after_ms)
            continue;
        verification_end(l, v->producer_id); /* never verified */
        at--;
    }
    for (uint32_t at = 0; (p = id_map_next(&l->producers->by_id, &at)) != NULL;) {
        /* Not by timestamps alone: who writes old records now is not gone. */
        if (p->open != NULL || now_ms - MAX(p->last_timestamp, p->seen_ms) < after_ms)
            continue;
        SOMETIMES("a producer is forgotten");
        producer_forget(l, p);
        at--; /* removal moves the next one into this slot */
    }
}

/* ---- asked for ------------------------------------------------------------------------------- */

bool producer_last(const struct log *l, int64_t id, int64_t *last_offset, int16_t *epoch)
{
    const struct producer *p = producer_find(l, id);
    if (p == NULL)
        return false;
    *last_offset = p->count == 0 ? NO_OFFSET : p->newest.last_offset;
    *epoch = p->epoch;
    return true;
}

void log_producers(const struct log *l, void (*visit)(void *context, const struct log_producer *p),
                   void *context)
{
    const struct producer *p;
    uint32_t at = 0;
    while (l->producers != NULL && (p = id_map_next(&l->producers->by_id, &at)) != NULL)
        visit(context,
              &(struct log_producer){
                  .producer_id = p->id,
                  .producer_epoch = p->epoch,
                  .last_sequence = p->count == 0 ? PRODUCER_NO_SEQUENCE : p->newest.last_sequence,
                  .last_timestamp = p->last_timestamp,
                  .coordinator_epoch = p->coordinator_epoch,
                  .txn_start_offset = producer_txn_start(p),
              });
}
