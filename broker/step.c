/* One turn of a data core.
 *
 *   io_poll ─▶ [ letters ─▶ connections ] ×few ─▶ timers ─▶ log ─▶ connections ─▶ some of those
 * with long answers ─▶ publish ─▶ ...
 *
 * Why this order: io_poll submits what the last turn started and brings bytes and finished writes.
 * Connections turn bytes into requests, requests into letters, most of them to ourselves; so
 * letters and connections alternate a few times, until all produces that came in one poll have been
 * admitted. Only then does the log start its write: everything that arrived together leaves
 * together. Answers made on the way go out with the next submit; letters to others are published
 * once, and only sleepers are woken.
 *
 * Invariants: nothing in a turn blocks but io_poll; every loop has a budget (limits.h); a core that
 * is about to sleep raises its bell first and looks at its mail once more (ring.c argues why no
 * letter can be missed). */
#include "broker/step.h"

#include "broker/stat.h"

#define LETTER_ROUNDS_MAX 4

/* Who gets which letter; kinds without a line are the control core's. */
static void (*const receivers[])(struct data_core *core, struct msg *msg) = {
    [MSG_PRODUCE] = produce_leg_arrived,
    [MSG_PRODUCE_HOME] = produce_leg_home,
    [MSG_FETCH] = fetch_leg_arrived,
    [MSG_FETCH_FREE] = fetch_free_arrived,
    [MSG_WATCH] = fetch_watch_arrived,
    [MSG_FETCH_HOME] = fetch_leg_home,
    [MSG_RECALL] = fetch_recall_arrived,
    [MSG_RECALL_HOME] = fetch_recall_home,
    [MSG_PARTS] = parts_leg_arrived,
    [MSG_PARTS_HOME] = parts_leg_home,
    [MSG_PARTS_FREE] = parts_free_arrived,
    [MSG_PARTS_FREE_HOME] = parts_free_home,
    [MSG_GROUP] = group_leg_arrived,
    [MSG_GROUP_HOME] = group_leg_home,
    [MSG_GROUP_RECALL] = group_recall_arrived,
    [MSG_GROUP_RECALL_HOME] = group_recall_home,
    [MSG_GROUP_FREE] = group_free_arrived,
    [MSG_GROUP_FREE_HOME] = group_free_home,
    [MSG_TXN] = txn_ask_arrived,
    [MSG_TXN_HOME] = txn_ask_home,
    [MSG_MARKERS] = txn_markers_arrived,
    [MSG_MARKERS_HOME] = txn_markers_home,
    [MSG_CONTROL_HOME] = control_call_home,
    [MSG_CONTROL_FREE_HOME] = control_free_home,
    [MSG_IMAGE] = data_core_image,
    [MSG_OPEN] = data_core_open,
    [MSG_ACCEPT] = data_core_accept,
    [MSG_CHECKPOINT] = data_core_checkpoint,
    [MSG_STAT] = stat_asked,
    [MSG_STOP] = data_core_stop,
    [MSG_TROUBLE_HOME] = data_core_trouble_home,
};

static void data_core_deliver(void *context, struct msg *msg)
{
    struct data_core *c = context;
    assert(msg->kind < sizeof(receivers) / sizeof(receivers[0]));
    assert(receivers[msg->kind] != NULL);
    receivers[msg->kind](c, msg);
}

static void data_core_wake(void *context, struct core_id to)
{
    struct data_core *c = context;
    io_wake(c->io, to);
}

/* When io_poll must return at the latest: at once if there is work already. */
static uint64_t data_core_wait(struct data_core *c, uint64_t wait_until_ns)
{
    if (wait_until_ns == 0 || mail_pending(&c->mail) || !list_empty(&c->conns.dirty) ||
        !list_empty(&c->conns.heavy))
        return 0;
    uint64_t until = MIN(wait_until_ns, wheel_next_ns(&c->wheel));
    if (!mail_outbox_empty(&c->mail)) /* a full ring: look again soon */
        until = MIN(until, io_now_ns(c->io) + 50 * NS_PER_US);
    return until;
}

void data_core_turn(struct data_core *c, uint64_t wait_until_ns)
{
    assert(core_same(core_self(), c->id));
    struct bell *bell = &c->mail.post->bells[c->id.index];
    uint64_t until = data_core_wait(c, wait_until_ns);
    if (until != 0) {
        bell_sleep(bell);
        if (mail_pending(&c->mail) || bell_ended(bell))
            until = 0;
    }
    io_gather(c->io, gather_turn(&c->gather, io_now_ns(c->io)));
    if (c->logs != NULL)
        io_spin(c->io, log_core_near_ns(c->logs, (uint32_t)c->config->torc_spin_us * NS_PER_US));
    io_poll(c->io, until, TURN_COMPLETIONS_MAX);
    bell_awake(bell);
    c->turns++;
    uint32_t letters = 0;
    for (uint32_t i = 0; i < LETTER_ROUNDS_MAX; i++) {
        letters += mail_drain(&c->mail, TURN_LETTERS_MAX, data_core_deliver, c);
        if (c->logs != NULL)
            produce_legs_resume(c);
        conns_flush(c);
        if (!mail_pending(&c->mail))
            break;
    }
    wheel_run(&c->wheel, io_now_ns(c->io), TURN_TIMERS_MAX);
    if (c->logs != NULL)
        log_core_turn(c->logs);
    conns_flush(c);
    conns_flush_heavy(c);
    mail_publish(&c->mail, data_core_wake, c);
    stat_turn(c, letters);
}
