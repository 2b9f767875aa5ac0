/* The legs of a request about groups or transactions.
 *
 *   home ─MSG_GROUP─▶ owner: each item to its coordinator ─ all answered ─MSG_GROUP_HOME─▶ home
 *        ─MSG_GROUP_RECALL─▶ owner: lets go of what is held ─MSG_GROUP_RECALL_HOME─▶       answers
 *        ─MSG_GROUP_FREE─▶ owner: frees the leg's arena ─MSG_GROUP_FREE_HOME─▶ home: flow may end
 *
 * Invariants
 *  1. An item is touched by one core at a time, who has its leg.
 *  2. A leg is recalled at most once, when its connection has closed: then a join or sync that is
 *     held has nobody to tell. The member stays in the group, as Kafka keeps it.
 *  3. The flow stays until all letters are home (flow_lend).
 *
 * Failure modes: the topic is not there or not known to the owner yet: NOT_COORDINATOR, and the
 * client asks for the coordinator again. */
#include "broker/api/group_ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/coordinator.h"
#include "broker/data_core.h"
#include "broker/step.h"
#include "broker/txn_ask.h"

/* What one leg's answers may take on its owner. */
#define GROUP_ARENA_MAX (128ull << 20)
#define HOST_TEXT_MAX   80

static void ask_abandon(struct flow *f);

/* ---- home: ask ------------------------------------------------------------------------------- */

/* The address as Java prints an InetAddress: "/" and the numbers, of IPv6 all eight. */
static struct wire_string host_text(struct flow *f)
{
    const char *host = f->conn->peer.host;
    char *text = arena_alloc(&f->arena, HOST_TEXT_MAX);
    if (text == NULL)
        return wire_string_of("/");
    if (strchr(host, ':') == NULL) {
        (void)snprintf(text, HOST_TEXT_MAX, "/%s", host);
        return wire_string_of(text);
    }
    unsigned long groups[8] = {0};
    uint32_t count = 0, gap = 8;
    for (const char *at = host; *at != '\0' && *at != '%' && count < 8;) {
        char *end;
        if (at[0] == ':' && at[1] == ':')
            gap = count;
        at += strspn(at, ":");
        groups[count] = strtoul(at, &end, 16);
        if (end == at)
            break;
        count++;
        at = end;
    }
    int size = snprintf(text, HOST_TEXT_MAX, "/");
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t zeros = 8 - count;
        unsigned long value = i < gap ? groups[i] : i < gap + zeros ? 0 : groups[i - zeros];
        size += snprintf(text + size, (size_t)(HOST_TEXT_MAX - size), i > 0 ? ":%lx" : "%lx",
                         value & 0xffff);
    }
    return wire_string_of(text);
}

struct group_ask *group_ask_make(struct flow *f, void (*answer)(struct group_ask *a), void *state)
{
    uint32_t cores_count = f->core->cores_count;
    struct group_ask *a =
        arena_array(&f->arena, 1, sizeof(*a) + cores_count * sizeof(struct group_leg));
    if (a == NULL) {
        flow_refuse(f, "no memory");
        return NULL;
    }
    a->flow = f;
    a->cores_count = cores_count;
    a->answer = answer;
    a->state = state;
    a->client_host = host_text(f);
    return a;
}

static void ask_refuse(struct group_ask *a, struct group_item *item, enum kafka_error error)
{
    item->call.arena = &a->flow->arena;
    group_call_refuse(&item->call, error);
}

static void txn_answered(struct txn_call *call);

static void ask_push(struct group_ask *a, struct group_item *item, struct core_id owner)
{
    struct group_leg *leg = &a->legs[owner.index];
    assert(item->leg == NULL);
    if (!leg->used) {
        leg->used = true;
        leg->ask = a;
        leg->last = &leg->items;
        leg->msg.home = leg->recall.home = a->flow->core->id;
        leg->msg.trip = flow_leg(a->flow);
    }
    item->leg = leg;
    item->next = NULL;
    *leg->last = item;
    leg->last = &item->next;
    if (item->of_txn) {
        item->txn.version = a->flow->api_version;
        item->txn.arena = &leg->arena;
        item->txn.answered = txn_answered;
        return;
    }
    item->call.version = a->flow->api_version;
    item->call.client_id = a->flow->client_id;
    item->call.client_host = a->client_host;
    item->call.arena = &leg->arena;
}

/* The topic, if it can be asked of. */
static const struct topic_image *ask_topic(const struct group_ask *a, const char *name)
{
    const struct topic_image *t =
        image_topic_by_name(&a->flow->core->image, name, (uint32_t)strlen(name));
    return t != NULL && t->partitions_count > 0 ? t : NULL;
}

void group_ask_add(struct group_ask *a, struct group_item *item, struct wire_string group_id)
{
    const struct data_core *core = a->flow->core;
    item->call.version = a->flow->api_version;
    enum kafka_error error = group_call_check(core->config, &item->call);
    const struct topic_image *t = ask_topic(a, GROUP_TOPIC);
    if (error == KE_NONE && t == NULL)
        error = KE_NOT_COORDINATOR;
    if (error != KE_NONE) {
        ask_refuse(a, item, error);
        return;
    }
    item->topic_id = t->id;
    item->partition = group_partition(group_id, t->partitions_count);
    ask_push(a, item, partition_owner(t->id, item->partition, a->cores_count));
}

void group_ask_add_txn(struct group_ask *a, struct group_item *item, struct wire_string id)
{
    item->of_txn = true;
    item->leg = NULL; /* it may have been asked before */
    item->txn.version = a->flow->api_version;
    item->txn.arena = &a->flow->arena;
    enum kafka_error error = txn_call_check(a->flow->core->config, &item->txn);
    const struct topic_image *t = ask_topic(a, TXN_TOPIC);
    if (error == KE_NONE && t == NULL)
        error = KE_NOT_COORDINATOR;
    if (error != KE_NONE) {
        txn_call_refuse(&item->txn, error);
        return;
    }
    item->topic_id = t->id;
    item->partition = txn_partition(id, t->partitions_count);
    ask_push(a, item, partition_owner(t->id, item->partition, a->cores_count));
}

void group_ask_add_core(struct group_ask *a, struct group_item *item, struct core_id owner)
{
    assert(item->of_txn ? item->txn.item.kind == TXN_LIST : item->call.kind == GROUP_LIST);
    item->partition = -1;
    ask_push(a, item, owner);
}

void group_ask_run(struct group_ask *a)
{
    struct flow *f = a->flow;
    for (uint32_t i = 0; i < a->cores_count; i++)
        a->away += a->legs[i].used;
    if (a->away == 0) {
        a->answered = true;
        a->answer(a);
        return;
    }
    f->state = a;
    f->abandon = ask_abandon;
    for (uint16_t i = 0; i < a->cores_count; i++) {
        struct group_leg *leg = &a->legs[i];
        if (!leg->used)
            continue;
        leg->away = true;
        leg->msg.kind = MSG_GROUP;
        mail_send(&f->core->mail, (struct core_id){i}, &leg->msg);
    }
}

void group_ask_names(struct flow *f, void (*answer)(struct group_ask *a), void *state,
                     const struct group_names *n)
{
    struct group_ask *a = group_ask_make(f, answer, state);
    if (a == NULL)
        return;
    struct group_item *items = arena_array(&f->arena, n->count, sizeof(*items));
    if (items == NULL || n->responses == NULL) {
        flow_refuse(f, "no memory");
        return;
    }
    for (uint32_t i = 0; i < n->count; i++) {
        void *response = (uint8_t *)n->responses + i * n->response_size;
        if (n->of_txn) {
            items[i].txn.item.kind = n->kind;
            items[i].txn.request = &n->names[i];
            items[i].txn.response = response;
            group_ask_add_txn(a, &items[i], n->names[i]);
        } else {
            items[i].call.kind = n->kind;
            items[i].call.request = &n->names[i];
            items[i].call.response = response;
            group_ask_add(a, &items[i], n->names[i]);
        }
    }
    group_ask_run(a);
}

/* ---- owner ----------------------------------------------------------------------------------- */

static void leg_return(struct group_leg *leg)
{
    assert(leg->pending == 0);
    leg->msg.kind = MSG_GROUP_HOME;
    mail_send(&leg->owner->mail, leg->msg.home, &leg->msg);
}

static void item_answered(struct group_item *item)
{
    struct group_leg *leg = item->leg;
    assert(leg->pending > 0);
    if (--leg->pending == 0)
        leg_return(leg);
}

void group_call_answered(struct group_call *call)
{
    item_answered(container_of(call, struct group_item, call));
}

static void txn_answered(struct txn_call *call)
{
    item_answered(container_of(call, struct group_item, txn));
}

static void item_serve(struct data_core *core, struct group_item *item)
{
    if (item->of_txn && item->partition < 0)
        coordinators_list_txns(core, &item->txn);
    else if (item->of_txn)
        coordinator_txn_call(core, item->topic_id, item->partition, &item->txn);
    else if (item->partition < 0)
        coordinators_list(core, &item->call);
    else
        coordinator_call(core, item->topic_id, item->partition, &item->call);
}

void group_leg_arrived(struct data_core *core, struct msg *msg)
{
    struct group_leg *leg = container_of(msg, struct group_leg, msg);
    leg->owner = core;
    leg->served = true;
    arena_init(&leg->arena, &core->mem, GROUP_ARENA_MAX);
    leg->pending = 1; /* ours, so that nothing completes the leg while we ask */
    for (struct group_item *item = leg->items; item != NULL; item = item->next) {
        leg->pending++;
        item_serve(core, item);
    }
    if (--leg->pending == 0)
        leg_return(leg);
    else
        trip_move(msg->trip, &core->board, TRIP_HELD);
}

void group_recall_arrived(struct data_core *core, struct msg *msg)
{
    struct group_leg *leg = container_of(msg, struct group_leg, recall);
    /* Home does not look at the leg before this letter is back, so it may still be looked at. */
    for (struct group_item *item = leg->items; item != NULL && leg->pending > 0;
         item = item->next) {
        if (!item->of_txn && item->partition >= 0 && item->call.member != NULL)
            coordinator_abandon(core, item->topic_id, item->partition, &item->call);
    }
    msg->kind = MSG_GROUP_RECALL_HOME;
    mail_send(&core->mail, msg->home, msg);
}

void group_free_arrived(struct data_core *core, struct msg *msg)
{
    struct group_leg *leg = container_of(msg, struct group_leg, msg);
    arena_release(&leg->arena);
    msg->kind = MSG_GROUP_FREE_HOME;
    mail_send(&core->mail, msg->home, msg);
}

/* ---- home: answer ---------------------------------------------------------------------------- */

static void ask_came_home(struct group_ask *a)
{
    struct flow *f = a->flow;
    assert(a->away > 0);
    if (--a->away > 0)
        return;
    flow_lend(f); /* the answer may end the flow before the legs have gone again */
    a->answered = true;
    a->answer(a);
    for (uint16_t i = 0; i < a->cores_count; i++) {
        struct group_leg *leg = &a->legs[i];
        if (!leg->served)
            continue;
        flow_lend(f);
        leg->msg.trip = NULL; /* nobody waits for that */
        leg->msg.kind = MSG_GROUP_FREE;
        mail_send(&f->core->mail, (struct core_id){i}, &leg->msg);
    }
    flow_unlend(f);
}

void group_leg_home(struct data_core *core, struct msg *msg)
{
    struct group_leg *leg = container_of(msg, struct group_leg, msg);
    assert(leg->ask->flow->core == core && leg->away);
    leg->away = false;
    ask_came_home(leg->ask);
}

void group_recall_home(struct data_core *core, struct msg *msg)
{
    struct group_leg *leg = container_of(msg, struct group_leg, recall);
    assert(leg->ask->flow->core == core);
    ask_came_home(leg->ask);
}

void group_free_home(struct data_core *core, struct msg *msg)
{
    struct group_leg *leg = container_of(msg, struct group_leg, msg);
    assert(leg->ask->flow->core == core);
    flow_unlend(leg->ask->flow);
}

/* The connection has closed. */
static void ask_abandon(struct flow *f)
{
    struct group_ask *a = f->state;
    for (uint16_t i = 0; i < a->cores_count; i++) {
        struct group_leg *leg = &a->legs[i];
        if (!leg->used || !leg->away || leg->recalled)
            continue;
        leg->recalled = true;
        leg->recall.kind = MSG_GROUP_RECALL;
        a->away++;
        mail_send(&f->core->mail, (struct core_id){i}, &leg->recall);
    }
}
