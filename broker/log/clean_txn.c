/* Transactions as compaction meets them, with Kafka's rules.
 *
 *   .txnindex of all segments ─▶ the aborted ones, by first offset
 *
 *   batch of an aborted one     ─▶ its records go, and its marker is needed still
 *   batch of another            ─▶ its marker is needed
 *   marker, nothing of it seen  ─▶ may go when its delete horizon has passed
 *
 * Only what lies below the last stable offset is cleaned, so each transaction met has ended, though
 * its marker may be behind the part that is cleaned: hence the index of the whole log.
 *
 * Invariants
 *  1. A marker is let go only in a round that saw no batch of its transaction, empty ones included.
 *  2. Producer ids are keys of the map and live in the nodes.
 *
 * Failure: without memory the answers mean nothing and no_memory is set: the round is given up. */
#include "broker/log/clean_txn.h"

#include <stdlib.h>

#include "core/core.h"

struct clean_ongoing {
    int64_t producer_id;
    bool aborting, seen; /* an aborted one is under way, and a batch of it was met */
    bool committing;     /* a batch of one that was not aborted was met */
    struct aborted_txn entry;
};

/* ---- the list -------------------------------------------------------------------------------- */

void clean_aborted_free(struct clean_aborted_list *list)
{
    mem_free(list->mem, list->entries, list->room * sizeof(*list->entries));
    list->entries = NULL;
    list->count = list->room = 0;
}

static int by_first_offset(const void *a, const void *b)
{
    const struct aborted_txn *left = a, *right = b;
    return left->first_offset < right->first_offset ? -1 : left->first_offset > right->first_offset;
}

int clean_aborted_read(struct clean_aborted_list *list, struct log *l)
{
    assert(list->mem == l->core->mem && list->count == 0);
    int error = txn_index_all(l, &list->entries, &list->count, &list->room);
    if (list->count > 1)
        qsort(list->entries, list->count, sizeof(*list->entries), by_first_offset);
    return error;
}

/* ---- in order -------------------------------------------------------------------------------- */

void clean_txn_begin(struct clean_txn *t, const struct clean_aborted_list *aborted)
{
    assert(aborted->mem != NULL);
    *t = (struct clean_txn){.aborted = aborted};
    map_init(&t->ongoing, aborted->mem, 0);
}

void clean_txn_end(struct clean_txn *t)
{
    struct clean_ongoing *o;
    uint32_t at = 0;
    if (t->ongoing.mem == NULL)
        return;
    while ((o = map_next(&t->ongoing, &at)) != NULL)
        mem_free(t->ongoing.mem, o, sizeof(*o));
    map_destroy(&t->ongoing);
    t->ongoing.mem = NULL;
}

static struct clean_ongoing *ongoing_find(const struct clean_txn *t, int64_t producer_id)
{
    return map_get(&t->ongoing, &producer_id, sizeof(producer_id));
}

static struct clean_ongoing *ongoing_take(struct clean_txn *t, int64_t producer_id)
{
    struct clean_ongoing *o = ongoing_find(t, producer_id);
    if (o != NULL)
        return o;
    o = mem_zalloc(t->ongoing.mem, sizeof(*o));
    if (o != NULL) {
        o->producer_id = producer_id;
        if (map_put(&t->ongoing, &o->producer_id, sizeof(o->producer_id), o) == 0)
            return o;
        mem_free(t->ongoing.mem, o, sizeof(*o));
    }
    t->no_memory = true;
    return NULL;
}

static void ongoing_drop(struct clean_txn *t, struct clean_ongoing *o)
{
    if (o->aborting || o->committing)
        return;
    void *removed = map_remove(&t->ongoing, &o->producer_id, sizeof(o->producer_id));
    assert(removed == o);
    mem_free(t->ongoing.mem, o, sizeof(*o));
}

/* Aborted transactions that have begun at or below the offset are under way. */
static void txn_reach(struct clean_txn *t, int64_t offset)
{
    const struct clean_aborted_list *list = t->aborted;
    for (; t->next < list->count && list->entries[t->next].first_offset <= offset; t->next++) {
        struct clean_ongoing *o = ongoing_take(t, list->entries[t->next].producer_id);
        if (o == NULL)
            return;
        if (!o->aborting)
            o->entry = list->entries[t->next];
        o->aborting = true;
    }
}

bool clean_txn_data(struct clean_txn *t, const struct batch_header *h)
{
    assert(!batch_has(h, BATCH_CONTROL));
    txn_reach(t, batch_last_offset(h));
    if (!batch_has(h, BATCH_TRANSACTIONAL))
        return false;
    struct clean_ongoing *o = ongoing_take(t, h->producer_id);
    if (o == NULL)
        return false;
    if (o->aborting)
        o->seen = true;
    else
        o->committing = true;
    return o->aborting;
}

bool clean_txn_control(struct clean_txn *t, const struct batch_header *h, const uint8_t *batch,
                       struct aborted_txn *kept)
{
    assert(batch_has(h, BATCH_CONTROL));
    enum batch_control type;
    int32_t coordinator_epoch;
    kept->first_offset = NO_OFFSET;
    txn_reach(t, batch_last_offset(h));
    if (h->record_count == 0)
        return true; /* emptied before */
    if (!batch_read_control(batch, h->size, &type, &coordinator_epoch))
        return false;
    struct clean_ongoing *o = ongoing_find(t, h->producer_id);
    bool needed = false;
    if (type == BATCH_CONTROL_ABORT && o != NULL && o->aborting) {
        needed = o->seen;
        if (needed)
            *kept = o->entry;
        o->aborting = o->seen = false;
        ongoing_drop(t, o);
    } else if (type == BATCH_CONTROL_COMMIT && o != NULL) {
        needed = o->committing;
        o->committing = false;
        ongoing_drop(t, o);
    } else if (type != BATCH_CONTROL_ABORT && type != BATCH_CONTROL_COMMIT) {
        needed = true;
    }
    return !needed;
}
