/* The intrusive list: order, membership, and removal while walking. */
#include "core/list.h"

#include <criterion/criterion.h>

static struct list head, links[6];

static void begin(void)
{
    list_init(&head);
    for (int i = 0; i < 6; i++)
        list_init(&links[i]);
}

TestSuite(list, .init = begin);

static void holds(const struct list *list, const char *digits)
{
    const struct list *l = list->next;
    for (; *digits != '\0'; digits++, l = l->next) {
        cr_assert_eq(l, &links[*digits - '0']);
        cr_assert_eq(l->next->prev, l);
    }
    cr_assert_eq(l, list);
}

Test(list, pushes_at_both_ends_and_pops_in_order)
{
    cr_assert(list_empty(&head));
    cr_assert_null(list_first(&head));
    cr_assert_null(list_pop_front(&head));
    list_push_back(&head, &links[1]);
    list_push_back(&head, &links[2]);
    list_push_front(&head, &links[0]);
    list_insert_before(&links[2], &links[3]);
    holds(&head, "0132");
    cr_assert_eq(list_pop_front(&head), &links[0]);
    cr_assert(list_empty(&links[0]), "a popped link knows that it is free");
    holds(&head, "132");
}

Test(list, removal_is_idempotent)
{
    list_push_back(&head, &links[0]);
    list_push_back(&head, &links[1]);
    list_remove(&links[0]);
    list_remove(&links[0]);
    holds(&head, "1");
}

Test(list, splices_to_the_end_and_empties_the_source)
{
    struct list other;
    list_init(&other);
    list_splice_back(&head, &other);
    cr_assert(list_empty(&head));
    list_push_back(&head, &links[0]);
    list_push_back(&other, &links[1]);
    list_push_back(&other, &links[2]);
    list_splice_back(&head, &other);
    holds(&head, "012");
    cr_assert(list_empty(&other));
}

Test(list, the_walked_link_may_be_removed)
{
    for (int i = 0; i < 6; i++)
        list_push_back(&head, &links[i]);
    int at = 0;
    LIST_EACH(it, &head)
    {
        cr_assert_eq(it, &links[at]);
        if (at++ % 2 == 0)
            list_remove(it);
    }
    holds(&head, "135");
}
