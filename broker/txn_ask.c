/* How a participant's question reaches the coordinator of its transaction, and comes back.
 *
 * Clients of transaction version 2 have their partitions added with their data (Produce 12,
 * TxnOffsetCommit 5).
 *
 * Invariants: an ask is touched by one core at a time, who has the letter; done never runs inside
 * txn_ask_send, also when there is nobody to ask.
 *
 * Failure modes: no topic, or the owner does not know it yet: COORDINATOR_NOT_AVAILABLE or
 * NOT_COORDINATOR, which every client asks again for. */
#include "broker/txn_ask.h"

#include "broker/coordinator.h"
#include "broker/data_core.h"
#include "broker/group/group.h"
#include "broker/step.h"

#define TXN_VERSION_OF_ADD 2

int32_t txn_partition(struct wire_string transactional_id, uint32_t partitions_count)
{
    return group_partition(transactional_id, partitions_count); /* the same rule for both topics */
}

void txn_ask_send(struct data_core *home, struct txn_ask *a)
{
    assert(core_same(core_self(), home->id));
    assert(a->done != NULL && a->partitions_count > 0);
    const struct topic_image *t =
        image_topic_by_name(&home->image, TXN_TOPIC, sizeof(TXN_TOPIC) - 1);
    struct core_id owner = home->id;
    a->home = home;
    a->coordinator = -1;
    if (t != NULL && t->partitions_count > 0) {
        a->coordinator_topic_id = t->id;
        a->coordinator = txn_partition(a->transactional_id, t->partitions_count);
        owner = partition_owner(t->id, a->coordinator, home->cores_count);
    }
    a->msg.home = home->id;
    a->msg.kind = MSG_TXN;
    mail_send(&home->mail, owner, &a->msg);
}

void txn_ask_answer(struct data_core *owner, struct txn_ask *a)
{
    assert(core_same(core_self(), owner->id));
    a->msg.kind = MSG_TXN_HOME;
    mail_send(&owner->mail, a->msg.home, &a->msg);
}

void txn_ask_refuse(struct data_core *owner, struct txn_ask *a, enum kafka_error error)
{
    assert(error != KE_NONE);
    for (uint32_t i = 0; i < a->partitions_count; i++)
        a->partitions[i].error = error;
    txn_ask_answer(owner, a);
}

void txn_ask_arrived(struct data_core *core, struct msg *msg)
{
    struct txn_ask *a = container_of(msg, struct txn_ask, msg);
    trip_move(msg->trip, &core->board, TRIP_HELD);
    if (a->coordinator < 0)
        txn_ask_refuse(core, a, KE_COORDINATOR_NOT_AVAILABLE);
    else
        txn_ask_serve(core, a);
}

void txn_ask_home(struct data_core *core, struct msg *msg)
{
    struct txn_ask *a = container_of(msg, struct txn_ask, msg);
    assert(a->home == core);
    a->done(a);
}

static void ask_answered(struct txn_call *call)
{
    struct txn_ask *a = container_of(call, struct txn_ask, call);
    txn_ask_answer(a->owner, a);
}

void txn_ask_serve(struct data_core *owner, struct txn_ask *a)
{
    a->owner = owner;
    a->asked = (struct txn_add){.id = a->transactional_id,
                                .producer_id = a->producer_id,
                                .epoch = a->producer_epoch,
                                .client_version = a->add ? TXN_VERSION_OF_ADD : 0,
                                .verify_only = !a->add,
                                .partitions = a->partitions,
                                .partitions_count = a->partitions_count};
    a->call = (struct txn_call){
        .item.kind = TXN_ADD, .spare_id = -1, .request = &a->asked, .answered = ask_answered};
    enum kafka_error error = txn_call_check(owner->config, &a->call);
    if (error != KE_NONE)
        txn_ask_refuse(owner, a, error);
    else
        coordinator_txn_call(owner, a->coordinator_topic_id, a->coordinator, &a->call);
}
