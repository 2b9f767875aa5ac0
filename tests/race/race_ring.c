/* A ring each way and a bell between two real threads: every item arrives once, in order, with what
 * was written into it before, and comes home with what was written into it there; and a consumer
 * that sleeps is always woken.
 *
 *   producer: take a free item ─ write ─ push ─ (every few) publish ─ bell_must_wake? ─▶ post
 *      ▲                                                                                  │
 *      └── ring home ── publish ── answer in the item ◀── drain ◀── bell_sleep, wait ◀────┘
 *
 * The ring out is small, so that both its ends (full and empty) are met all the time. */
#include "core/ring.h"

#include <sched.h>

#include "tests/race/race.h"

#define ITEMS      400000u
#define SLOTS      16u
#define ITEMS_LENT 64u

struct item {
    uint64_t number, answer; /* plain fields: the sanitizer watches them */
};

struct scene {
    struct ring out, home;
    struct bell bell;
    sem_t bed;
    uint64_t wakes, sleeps, full;
};

/* Takes back what has come home and puts it on the free list. */
static uint32_t reclaim(struct scene *s, struct item **free_items, uint32_t free_count)
{
    void *items[SLOTS];
    uint32_t count = ring_drain(&s->home, items, SLOTS);
    for (uint32_t i = 0; i < count; i++) {
        struct item *item = items[i];
        race_check(item->answer == ~item->number, "an answer is missing or half written");
        free_items[free_count++] = item;
    }
    race_check(free_count <= ITEMS_LENT, "an item came home twice");
    return free_count;
}

static void *produce(void *argument)
{
    static struct item all[ITEMS_LENT];
    struct scene *s = argument;
    struct item *free_items[2 * ITEMS_LENT];
    uint32_t free_count = 0;
    for (; free_count < ITEMS_LENT; free_count++)
        free_items[free_count] = &all[free_count];
    for (uint64_t sent = 0; sent < ITEMS || free_count < ITEMS_LENT;) {
        for (uint64_t batch = sent * 7 % 23 + 1; batch > 0 && sent < ITEMS; batch--) {
            if (free_count == 0)
                break;
            struct item *item = free_items[free_count - 1];
            *item = (struct item){.number = sent};
            if (!ring_push(&s->out, item)) {
                s->full++;
                break;
            }
            free_count--;
            sent++;
        }
        if (ring_publish(&s->out) && bell_must_wake(&s->bell)) {
            s->wakes++;
            race_check(sem_post(&s->bed) == 0, "no wake");
        }
        uint32_t before = free_count;
        free_count = reclaim(s, free_items, free_count);
        if (free_count == before)
            sched_yield();
    }
    return NULL;
}

static void *consume(void *argument)
{
    struct scene *s = argument;
    void *items[SLOTS];
    for (uint64_t received = 0; received < ITEMS;) {
        uint32_t count = ring_drain(&s->out, items, SLOTS);
        for (uint32_t i = 0; i < count; i++, received++) {
            struct item *item = items[i];
            race_check(item->number == received, "an item is missing or out of order");
            item->answer = ~received;
            race_check(ring_push(&s->home, item), "the ring home has room for all items");
        }
        (void)ring_publish(&s->home);
        if (count > 0)
            continue;
        bell_sleep(&s->bell);
        if (!ring_pending(&s->out)) {
            s->sleeps++;
            race_sleep(&s->bed);
        }
        bell_awake(&s->bell);
    }
    return NULL;
}

int main(void)
{
    static struct scene s;
    struct mem mem;
    pthread_t producer, consumer;
    race_check(mem_init(&mem, 1 << 20) == 0, "no memory");
    race_check(ring_init(&s.out, &mem, SLOTS) == 0, "no ring out");
    race_check(ring_init(&s.home, &mem, ITEMS_LENT) == 0, "no ring home");
    race_check(sem_init(&s.bed, 0, 0) == 0, "no semaphore");
    race_start(&consumer, consume, &s);
    race_start(&producer, produce, &s);
    race_join(producer);
    race_join(consumer);
    race_check(s.wakes > 0 && s.sleeps > 0, "nobody ever slept: the bell was not tried");
    race_check(s.full > 0, "the ring was never full");
    ring_destroy(&s.out, &mem);
    ring_destroy(&s.home, &mem);
    race_check(mem.used_bytes == 0, "memory was kept");
    mem_destroy(&mem);
    printf("ring: %u items, full %llu, sleeps %llu, wakes %llu\n", ITEMS,
           (unsigned long long)s.full, (unsigned long long)s.sleeps, (unsigned long long)s.wakes);
    return 0;
}
