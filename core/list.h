/* Intrusive doubly linked list. A link belongs to at most one list; an unlinked link points at
 * itself, so membership can be asked and removal is idempotent. Owner core only. */
#ifndef CORE_LIST_H
#define CORE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_insert_before(struct list *where, struct list *l)
{
    l->prev = where->prev;
    l->next = where;
    where->prev->next = l;
    where->prev = l;
}

static inline void list_push_back(struct list *head, struct list *l)
{
    list_insert_before(head, l);
}

static inline void list_push_front(struct list *head, struct list *l)
{
    list_insert_before(head->next, l);
}

static inline void list_remove(struct list *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    list_init(l);
}

static inline struct list *list_first(const struct list *head)
{
    return head->next == head ? NULL : head->next;
}

static inline struct list *list_pop_front(struct list *head)
{
    struct list *l = list_first(head);
    if (l != NULL)
        list_remove(l);
    return l;
}

/* Moves all links of `from` to the end of `to`; `from` is empty after. */
static inline void list_splice_back(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

/* Safe against removal of `it` itself in the body.
 * NOLINTBEGIN(bugprone-macro-parentheses): `it` is a name that is declared */
#define LIST_EACH(it, head)                                                                        \
    for (struct list *it = (head)->next, *it##_next = it->next; it != (head);                      \
         it = it##_next, it##_next = it->next)
/* NOLINTEND(bugprone-macro-parentheses): as above */

#endif
