/* Appends the ends of transactions where they wrote.
 *
 *   home ─MSG_MARKERS, one leg per owner─▶ each partition: room? ─▶ log_append ─ durable ─┐
 *                                            └ none: waits for it                          │
 *                                          of groups: the coordinator appends it, in order │
 *        ◀─────────────────────────────── all of the leg answered ─────────────────────────┘
 *
 * Invariants
 *  1. A marker is answered NONE only when it, or an earlier one that said the same, is durable.
 *  2. A leg goes home when all of its markers are answered; home is told when all legs are there.
 *
 * Failure modes: a log that is offline or a full disk: KAFKA_STORAGE_ERROR, the sender tries again.
 */
#include "broker/txn_marker.h"

#include "broker/coordinator.h"
#include "broker/data_core.h"
#include "broker/step.h"
#include "core/lab.h"
#include "proto/batch.h"

/* ---- home ------------------------------------------------------------------------------------ */

void txn_markers_send(struct data_core *home, struct txn_markers *m)
{
    assert(core_same(core_self(), home->id));
    assert(m->partitions_count > 0 && m->done != NULL);
    m->home = home;
    m->away = 0;
    for (uint32_t i = 0; i < m->partitions_count; i++) {
        struct txn_marker *k = &m->partitions[i];
        struct core_id owner = partition_owner(k->topic_id, k->partition, home->cores_count);
        struct txn_marker_leg *leg = &m->legs[owner.index];
        if (leg->markers == NULL) {
            *leg = (struct txn_marker_leg){.markers = m, .last = &leg->first};
            m->away++;
        }
        k->leg = leg;
        k->next = NULL;
        *leg->last = k;
        leg->last = &k->next;
    }
    for (uint16_t i = 0; i < home->cores_count; i++) {
        struct txn_marker_leg *leg = &m->legs[i];
        if (leg->markers == NULL)
            continue;
        leg->msg.home = home->id;
        leg->msg.kind = MSG_MARKERS;
        mail_send(&home->mail, (struct core_id){i}, &leg->msg);
    }
}

void txn_markers_home(struct data_core *core, struct msg *msg)
{
    struct txn_markers *m = container_of(msg, struct txn_marker_leg, msg)->markers;
    assert(m->home == core && m->away > 0);
    if (--m->away == 0)
        m->done(m);
}

/* ---- owner ----------------------------------------------------------------------------------- */

static void leg_return(struct txn_marker_leg *leg)
{
    assert(leg->pending == 0);
    leg->msg.kind = MSG_MARKERS_HOME;
    mail_send(&leg->owner->mail, leg->msg.home, &leg->msg);
}

void txn_marker_answered(struct txn_marker *k)
{
    struct txn_marker_leg *leg = k->leg;
    assert(leg->pending > 0);
    if (--leg->pending == 0)
        leg_return(leg);
}

static void marker_refuse(struct txn_marker *k, enum kafka_error error)
{
    SOMETIMES("a partition refuses a marker");
    k->error = error;
    txn_marker_answered(k);
}

static void marker_durable(struct log_append *a)
{
    struct txn_marker *k = container_of(a, struct txn_marker, append);
    marker_refuse(k, a->error);
}

bool txn_marker_start(struct txn_marker *k, struct log_append *a, struct log *l, int64_t now_ms)
{
    const struct txn_markers *m = k->leg->markers;
    uint8_t bytes[BATCH_MARKER_SIZE_MAX];
    struct batch_header h = batch_header_plain(0);
    h.attributes = BATCH_TRANSACTIONAL;
    h.producer_id = m->producer_id;
    h.producer_epoch = m->producer_epoch;
    uint32_t size =
        batch_build_marker(bytes, sizeof(bytes), &h, m->commit, m->coordinator_epoch, now_ms);
    a->records = bytes;
    a->records_size = size;
    a->origin = LOG_ORIGIN_COORDINATOR;
    a->transaction_version = m->transaction_version;
    a->may_repeat = m->may_repeat;
    return log_append(l, a);
}

static void marker_append(struct data_core *core, struct txn_marker *k)
{
    struct log *l = log_find(core->logs, k->topic_id, k->partition);
    enum kafka_error error = l == NULL ? KE_UNKNOWN_TOPIC_OR_PARTITION : log_status(l);
    if (error != KE_NONE) {
        marker_refuse(k, error);
    } else if (!log_core_has_room(core->logs)) {
        log_core_await_room(core->logs, &k->room);
    } else {
        k->append = (struct log_append){.done = marker_durable};
        if (!txn_marker_start(k, &k->append, l, io_wall_ms(core->io)))
            marker_refuse(k, k->append.error);
    }
}

static void marker_roomy(struct log_room_waiter *w)
{
    SOMETIMES("a marker waited for room");
    struct txn_marker *k = container_of(w, struct txn_marker, room);
    marker_append(k->leg->owner, k);
}

void txn_markers_arrived(struct data_core *core, struct msg *msg)
{
    struct txn_marker_leg *leg = container_of(msg, struct txn_marker_leg, msg);
    leg->owner = core;
    leg->pending = 1; /* ours, so that nothing completes the leg before all of it is begun */
    for (struct txn_marker *k = leg->first; k != NULL; k = k->next) {
        leg->pending++;
        k->error = KE_NONE;
        k->room.fire = marker_roomy;
        list_init(&k->link);
        if (!coordinator_takes_marker(core, k))
            marker_append(core, k);
    }
    if (--leg->pending == 0)
        leg_return(leg);
}
