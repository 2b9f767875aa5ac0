/* Sets of partitions of many topics, as consumer groups hand them out: small sorted arrays.
 *
 *   list  [topic A, 0] [topic A, 1] [topic B, 0] ...     24 bytes each
 *
 * Invariants
 *  1. Sorted by the bytes of the topic's id, then by index; no partition twice.
 *  2. An owned set without partitions holds no memory.
 *
 * Failure modes: no memory: said to the caller, the set is empty then. */
#include "broker/group/consumer_priv.h"
#include "core/assert.h"

#include <stdlib.h>

_Static_assert(sizeof(struct part) == 24, "what a partition in a set costs");

int part_order(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    int order = memcmp(x->topic.bytes, y->topic.bytes, sizeof(x->topic.bytes));
    if (order != 0)
        return order;
    return (x->index > y->index) - (x->index < y->index);
}

void part_set_order(struct part_set *s)
{
    uint32_t kept = 0;
    assert(s->list != NULL || s->count == 0);
    for (uint32_t i = 1; i < s->count; i++) {
        if (part_order(&s->list[i - 1], &s->list[i]) >= 0) { /* mostly it is in order already */
            qsort(s->list, s->count, sizeof(*s->list), part_order);
            break;
        }
    }
    for (uint32_t i = 0; i < s->count; i++) {
        if (kept == 0 || part_order(&s->list[kept - 1], &s->list[i]) != 0)
            s->list[kept++] = s->list[i];
    }
    s->count = kept;
}

const struct part *part_set_find(const struct part_set *s, struct uuid topic, int32_t index)
{
    struct part wanted = {.topic = topic, .index = index};
    uint32_t low = 0, high = s->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = part_order(&s->list[middle], &wanted);
        if (order == 0)
            return &s->list[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

bool part_set_same(const struct part_set *a, const struct part_set *b)
{
    bool same = a->count == b->count;
    for (uint32_t i = 0; same && i < a->count; i++)
        same = part_order(&a->list[i], &b->list[i]) == 0;
    return same;
}

bool part_set_same_epochs(const struct part_set *a, const struct part_set *b)
{
    bool same = part_set_same(a, b);
    for (uint32_t i = 0; same && i < a->count; i++)
        same = a->list[i].epoch == b->list[i].epoch;
    return same;
}

bool part_set_own(struct mem *mem, struct part_set *to, const struct part_set *from)
{
    *to = (struct part_set){0};
    if (from->count == 0)
        return true;
    to->list = mem_alloc(mem, from->count * sizeof(*to->list));
    if (to->list == NULL)
        return false;
    memcpy(to->list, from->list, from->count * sizeof(*to->list));
    to->count = from->count;
    return true;
}

void part_set_disown(struct mem *mem, struct part_set *s)
{
    assert(s->list != NULL || s->count == 0);
    if (s->count > 0)
        mem_free(mem, s->list, s->count * sizeof(*s->list));
    *s = (struct part_set){0};
}

uint32_t part_set_run(const struct part_set *s, uint32_t from)
{
    uint32_t to = from;
    assert(from < s->count);
    while (to < s->count && uuid_equal(s->list[to].topic, s->list[from].topic))
        to++;
    return to - from;
}
