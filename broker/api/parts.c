/* The legs of a request about partitions, for all apis that are not Produce or Fetch.
 *
 * Invariants: an item is touched by one core at a time, who has its leg; answers of unknown size
 * live in the owner's arena, so legs that served travel a second time to give it back, and the flow
 * stays until they are home (flow_lend).
 *
 * Failure modes: a partition that is gone or failed since home looked answers its code. */
#include "broker/api/parts.h"

#include "broker/data_core.h"
#include "broker/step.h"

/* One leg's answers may grow to this on its owner. */
#define PARTS_ARENA_MAX (64ull << 20)

struct parts *parts_make(struct flow *f,
                         void (*serve)(struct data_core *owner, struct parts_item *item,
                                       struct log *log),
                         void (*answer)(struct parts *p), void *state)
{
    uint32_t cores_count = f->core->cores_count;
    struct parts *p =
        arena_array(&f->arena, 1, sizeof(*p) + cores_count * sizeof(struct parts_leg));
    if (p == NULL) {
        flow_refuse(f, "no memory");
        return NULL;
    }
    p->flow = f;
    p->cores_count = cores_count;
    p->serve = serve;
    p->answer = answer;
    p->state = state;
    return p;
}

void parts_add(struct parts *p, struct parts_item *item, struct uuid topic_id, int32_t partition)
{
    struct parts_leg *leg = &p->legs[partition_owner(topic_id, partition, p->cores_count).index];
    assert(item->leg == NULL);
    if (!leg->used) {
        leg->used = true;
        leg->parts = p;
        leg->last = &leg->items;
        leg->msg.home = p->flow->core->id;
        leg->msg.kind = MSG_PARTS;
        leg->msg.trip = flow_leg(p->flow);
    }
    item->topic_id = topic_id;
    item->partition = partition;
    item->leg = leg;
    item->next = NULL;
    *leg->last = item;
    leg->last = &item->next;
}

void parts_run(struct parts *p)
{
    for (uint32_t i = 0; i < p->cores_count; i++)
        p->away += p->legs[i].used;
    if (p->away == 0) {
        p->answer(p);
        return;
    }
    for (uint16_t i = 0; i < p->cores_count; i++) {
        if (p->legs[i].used)
            mail_send(&p->flow->core->mail, (struct core_id){i}, &p->legs[i].msg);
    }
}

/* ---- owner ----------------------------------------------------------------------------------- */

static void leg_return(struct parts_leg *leg)
{
    assert(leg->pending == 0);
    leg->msg.kind = MSG_PARTS_HOME;
    mail_send(&leg->owner->mail, leg->msg.home, &leg->msg);
}

void parts_wait(struct parts_item *item)
{
    item->leg->pending++;
}

void parts_done(struct parts_item *item)
{
    assert(item->leg->pending > 0);
    if (--item->leg->pending == 0)
        leg_return(item->leg);
}

void parts_leg_arrived(struct data_core *core, struct msg *msg)
{
    struct parts_leg *leg = container_of(msg, struct parts_leg, msg);
    leg->owner = core;
    leg->served = true;
    arena_init(&leg->arena, &core->mem, PARTS_ARENA_MAX);
    leg->pending = 1;
    for (struct parts_item *item = leg->items; item != NULL; item = item->next) {
        struct log *l = log_find(core->logs, item->topic_id, item->partition);
        item->error = l == NULL ? KE_UNKNOWN_TOPIC_OR_PARTITION : log_status(l);
        if (item->error == KE_NONE)
            leg->parts->serve(core, item, l);
    }
    if (--leg->pending == 0)
        leg_return(leg);
    else
        trip_move(msg->trip, &core->board, TRIP_HELD);
}

void parts_free_arrived(struct data_core *core, struct msg *msg)
{
    struct parts_leg *leg = container_of(msg, struct parts_leg, msg);
    arena_release(&leg->arena);
    leg->msg.kind = MSG_PARTS_FREE_HOME;
    mail_send(&core->mail, leg->msg.home, &leg->msg);
}

enum kafka_error parts_check_epoch(const struct log *l, int32_t current_leader_epoch)
{
    int32_t current = log_leader_epoch(l);
    if (current_leader_epoch < 0 || current_leader_epoch == current)
        return KE_NONE;
    return current_leader_epoch < current ? KE_FENCED_LEADER_EPOCH : KE_UNKNOWN_LEADER_EPOCH;
}

/* ---- home ------------------------------------------------------------------------------------ */

void parts_leg_home(struct data_core *core, struct msg *msg)
{
    struct parts *p = container_of(msg, struct parts_leg, msg)->parts;
    assert(p->flow->core == core && p->away > 0);
    if (--p->away > 0)
        return;
    struct flow *f = p->flow;
    flow_lend(f); /* the answer may end the flow before the legs have gone again */
    p->answer(p);
    for (uint16_t i = 0; i < p->cores_count; i++) {
        struct parts_leg *leg = &p->legs[i];
        if (!leg->served)
            continue;
        flow_lend(f);
        leg->msg.trip = NULL; /* nobody waits for that */
        leg->msg.kind = MSG_PARTS_FREE;
        mail_send(&core->mail, (struct core_id){i}, &leg->msg);
    }
    flow_unlend(f);
}

void parts_free_home(struct data_core *core, struct msg *msg)
{
    struct parts *p = container_of(msg, struct parts_leg, msg)->parts;
    assert(p->flow->core == core);
    flow_unlend(p->flow);
}
