/* Sets of names: the topics that a member, a pattern or a group stands for, in one block.
 *
 *   list  [data, size] [data, size] ... │ the texts behind each other
 *
 * Invariants
 *  1. Sorted by bytes, a shorter name before a longer one that begins with it; no name twice.
 *  2. A set without names holds no memory.
 *
 * Failure modes: no memory: said to the caller, the set is empty then. */
#include "broker/group/group_priv.h"
#include "core/assert.h"

#include <stdlib.h>

static int name_order(const void *a, const void *b)
{
    const struct wire_string *x = a, *y = b;
    int32_t size = MIN(x->size, y->size);
    int order = size > 0 ? memcmp(x->data, y->data, (size_t)size) : 0;
    return order != 0 ? order : (x->size > y->size) - (x->size < y->size);
}

bool name_set_own(struct mem *mem, struct name_set *to, const struct wire_string *names,
                  int32_t count)
{
    size_t size = 0;
    *to = (struct name_set){0};
    for (int32_t i = 0; i < count; i++)
        size += sizeof(*names) + (size_t)MAX(names[i].size, 0);
    if (size == 0)
        return true;
    to->list = mem_alloc(mem, size);
    if (to->list == NULL)
        return false;
    to->size = size;
    char *text = (char *)(to->list + count);
    for (int32_t i = 0; i < count; i++) {
        int32_t length = MAX(names[i].size, 0);
        if (length > 0)
            memcpy(text, names[i].data, (size_t)length);
        to->list[i] = (struct wire_string){text, length};
        text += length;
    }
    qsort(to->list, (size_t)count, sizeof(*to->list), name_order);
    for (int32_t i = 0; i < count; i++) {
        if (to->count == 0 || name_order(&to->list[to->count - 1], &to->list[i]) != 0)
            to->list[to->count++] = to->list[i];
    }
    return true;
}

struct wire_string *names_sorted(struct arena *arena, const struct wire_string *names,
                                 int32_t *count)
{
    struct wire_string *list = arena_array(arena, (size_t)MAX(*count, 0), sizeof(*list));
    int32_t kept = 0;
    if (list == NULL)
        return NULL;
    for (int32_t i = 0; i < *count; i++)
        list[i] = names[i].size >= 0 ? names[i] : wire_string_of("");
    qsort(list, (size_t)MAX(*count, 0), sizeof(*list), name_order);
    for (int32_t i = 0; i < *count; i++) {
        if (kept == 0 || name_order(&list[kept - 1], &list[i]) != 0)
            list[kept++] = list[i];
    }
    *count = kept;
    return list;
}

void name_set_disown(struct mem *mem, struct name_set *s)
{
    if (s->size > 0)
        mem_free(mem, s->list, s->size);
    *s = (struct name_set){0};
}

bool name_set_has(const struct name_set *s, struct wire_string name)
{
    return s->count > 0 && bsearch(&name, s->list, s->count, sizeof(name), name_order) != NULL;
}

bool name_set_same(const struct name_set *a, const struct name_set *b)
{
    bool same = a->count == b->count;
    for (uint32_t i = 0; same && i < a->count; i++)
        same = name_order(&a->list[i], &b->list[i]) == 0;
    return same;
}
