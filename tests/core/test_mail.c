/* Mail between cores that take turns on one thread, as under the simulator. */
#include "core/mail.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#define CORES 3u

static struct mem mem;
static struct post post;
static struct mail mails[CORES];

struct letter {
    uint32_t number;
    struct msg msg;
};

static struct letter letters[4096];

/* What was delivered, in order. */
struct inbox {
    uint32_t count;
    uint32_t numbers[4096];
    struct mail *reply_from; /* not NULL: each letter is sent to oneself again */
};

static struct core_id core(uint32_t index)
{
    return (struct core_id){(uint16_t)index};
}

static void begin_with(uint32_t slots)
{
    cr_assert_eq(mem_init(&mem, 1 << 20), 0);
    cr_assert_eq(post_init(&post, &mem, CORES, slots), 0);
    for (uint32_t i = 0; i < CORES; i++)
        mail_init(&mails[i], &post, core(i));
    for (uint32_t i = 0; i < 4096; i++)
        letters[i].number = i;
}

static void end_clean(void)
{
    core_leave();
    post_destroy(&post);
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
}

static void keep(void *context, struct msg *msg)
{
    struct inbox *inbox = context;
    inbox->numbers[inbox->count++] = container_of(msg, struct letter, msg)->number;
    if (inbox->reply_from != NULL)
        mail_send(inbox->reply_from, inbox->reply_from->self, msg);
}

static void note_wake(void *context, struct core_id to)
{
    uint32_t *wakes = context;
    wakes[to.index]++;
}

static void send(uint32_t from, uint32_t to, uint32_t number)
{
    core_enter(core(from));
    mail_send(&mails[from], core(to), &letters[number].msg);
}

static void publish(uint32_t from, uint32_t wakes[CORES])
{
    core_enter(core(from));
    mail_publish(&mails[from], note_wake, wakes);
}

static uint32_t drain(uint32_t at, uint32_t budget, struct inbox *inbox)
{
    core_enter(core(at));
    return mail_drain(&mails[at], budget, keep, inbox);
}

Test(mail, arrives_after_publish_in_the_order_sent)
{
    struct inbox inbox = {0};
    uint32_t wakes[CORES] = {0};
    begin_with(64);
    for (uint32_t i = 0; i < 40; i++)
        send(0, 1, i);
    cr_assert_not(mail_pending(&mails[1]));
    cr_assert_eq(drain(1, 100, &inbox), 0);
    publish(0, wakes);
    cr_assert(mail_pending(&mails[1]));
    cr_assert_not(mail_pending(&mails[2]));
    cr_assert_eq(drain(1, 100, &inbox), 40);
    for (uint32_t i = 0; i < 40; i++)
        cr_assert_eq(inbox.numbers[i], i);
    cr_assert_eq(wakes[1], 0, "a core that is awake needs no wake");
    cr_assert_eq(mails[0].sent, 40);
    cr_assert_eq(mails[1].received, 40);
    end_clean();
}

Test(mail, a_sleeping_core_is_woken_once)
{
    struct inbox inbox = {0};
    uint32_t wakes[CORES] = {0};
    begin_with(64);
    bell_sleep(&post.bells[1]);
    bell_sleep(&post.bells[2]);
    send(0, 1, 0);
    send(0, 1, 1);
    publish(0, wakes);
    send(0, 1, 2);
    publish(0, wakes);
    publish(0, wakes);
    cr_assert_eq(wakes[1], 1);
    cr_assert_eq(wakes[2], 0);
    cr_assert_eq(drain(1, 100, &inbox), 3);
    end_clean();
}

Test(mail, letters_that_find_the_ring_full_keep_their_order)
{
    struct inbox inbox = {0};
    uint32_t wakes[CORES] = {0};
    uint32_t sent = 0;
    begin_with(4);
    for (; sent < 10; sent++)
        send(0, 1, sent);
    cr_assert_not(mail_outbox_empty(&mails[0]));
    cr_assert_eq(mails[0].overflowed, 6);
    for (uint32_t turn = 0; turn < 300; turn++) {
        publish(0, wakes);
        if (turn < 100)
            send(0, 1, sent++); /* must go behind those that wait */
        (void)drain(1, 3, &inbox);
    }
    cr_assert_eq(inbox.count, 110);
    for (uint32_t i = 0; i < 110; i++)
        cr_assert_eq(inbox.numbers[i], i);
    cr_assert(mail_outbox_empty(&mails[0]));
    end_clean();
}

Test(mail, a_letter_to_oneself_is_not_delivered_inside_the_send_nor_twice_in_a_drain)
{
    struct inbox inbox = {0};
    begin_with(4);
    send(2, 2, 7);
    cr_assert_eq(inbox.count, 0);
    cr_assert(mail_pending(&mails[2]));
    inbox.reply_from = &mails[2];
    cr_assert_eq(drain(2, 100, &inbox), 1, "the letter sent meanwhile waits for the next drain");
    cr_assert_eq(drain(2, 100, &inbox), 1);
    inbox.reply_from = NULL;
    cr_assert_eq(drain(2, 100, &inbox), 1);
    cr_assert_eq(drain(2, 100, &inbox), 0);
    cr_assert_not(mail_pending(&mails[2]));
    end_clean();
}

Test(mail, what_a_budget_leaves_comes_before_what_came_later)
{
    struct inbox inbox = {0};
    begin_with(4);
    for (uint32_t i = 0; i < 100; i++)
        send(0, 0, i);
    while (inbox.count < 50)
        cr_assert_eq(drain(0, 10, &inbox), 10);
    for (uint32_t i = 100; i < 110; i++)
        send(0, 0, i);
    cr_assert_eq(drain(0, 1000, &inbox), 60);
    for (uint32_t i = 0; i < 110; i++)
        cr_assert_eq(inbox.numbers[i], i);
    end_clean();
}

Test(mail, a_flood_from_one_core_does_not_starve_another)
{
    struct inbox inbox = {0};
    uint32_t wakes[CORES] = {0};
    begin_with(1024);
    for (uint32_t i = 0; i < 1000; i++)
        send(0, 2, i);
    for (uint32_t i = 1000; i < 1010; i++)
        send(1, 2, i);
    publish(0, wakes);
    publish(1, wakes);
    cr_assert_eq(drain(2, 64, &inbox), 64);
    uint32_t from_one = 0;
    for (uint32_t i = 0; i < 64; i++)
        from_one += inbox.numbers[i] >= 1000;
    cr_assert_eq(from_one, 10);
    end_clean();
}

Test(mail, a_post_over_budget_leaves_nothing_behind)
{
    for (uint64_t budget = 1; budget < 60000; budget += 997) {
        cr_assert_eq(mem_init(&mem, budget), 0);
        int error = post_init(&post, &mem, CORES, 512);
        if (error == 0)
            post_destroy(&post);
        else
            cr_assert_eq(error, -ENOMEM);
        cr_assert_eq(error == 0, budget >= 8192 + 6 * 4096);
        cr_assert_eq(mem.used_bytes, 0);
        mem_destroy(&mem);
    }
}

Test(mail, sending_from_another_core_is_a_bug, .signal = SIGABRT)
{
    begin_with(4);
    core_enter(core(1));
    mail_send(&mails[0], core(1), &letters[0].msg);
}

static uint64_t no_look(void *context)
{
    (void)context;
    abort();
}

Test(mail, a_leg_is_in_its_ring_until_it_is_delivered)
{
    static uint64_t now_ns[CORES] = {100, 100, 100};
    static struct trip_board boards[CORES];
    struct inbox inbox = {0};
    uint32_t wakes[CORES] = {0};
    struct trip whole, leg;
    begin_with(8);
    for (uint16_t i = 0; i < CORES; i++) {
        boards[i] = (struct trip_board){.core = {i}, .now_ns = &now_ns[i], .clock = no_look};
        mails[i].board = &boards[i];
    }
    trip_begin(&whole, &boards[0], 100, NULL);
    trip_leg(&leg, &whole, NULL);
    letters[7].msg.trip = &leg;
    letters[7].msg.home = core(0);
    trip_move(&whole, &boards[0], TRIP_ROUTE);
    for (uint32_t to = 0; to < 2; to++) { /* to oneself, then to another core */
        now_ns[0] += 10;
        send(0, to, 7);
        cr_assert_eq(leg.now, TRIP_RING);
        cr_assert_eq(whole.now, TRIP_AWAY);
        publish(0, wakes);
        cr_assert_eq(mail_depth(&mails[to]), 1);
        now_ns[to] = now_ns[0] + 25 * to;
        cr_assert_eq(drain(to, 8, &inbox), 1);
        cr_assert_eq(leg.now, TRIP_ADMIT);
        cr_assert_eq(mail_depth(&mails[to]), 0);
        send(to, 0, 7);
        publish(to, wakes);
        now_ns[0] = now_ns[to] + 5 * to;
        cr_assert_eq(drain(0, 8, &inbox), 1);
        cr_assert_eq(leg.now, TRIP_OVER);
        cr_assert_eq(whole.now, TRIP_ROUTE);
    }
    cr_assert_eq(trip_spent(&whole, TRIP_RING), 30);
    cr_assert_eq(boards[0].current[TRIP_RING] + boards[1].current[TRIP_RING], 0);
    trip_move(&whole, &boards[0], TRIP_SEND);
    trip_end(&whole, &boards[0]);
    end_clean();
}
