/* TxnOffsetCommit (key 28): offsets that count when the transaction commits. They are written by
 * the group's coordinator, in a batch of the producer.
 *
 *   home ─▶ group's coordinator: is the transaction open in its partition? ─ yes ─▶ written ─▶ home
 *                    └ no ─▶ home ─▶ the transaction's coordinator: is it part of it, or (version
 * 5) make it so ─▶ home ─▶ group's coordinator, verified: written ─▶ home
 *
 * Failure modes: nothing left to commit: answered without asking, as Kafka does. */
#include "broker/api/api.h"
#include "broker/api/group_ask.h"
#include "broker/data_core.h"
#include "broker/txn_ask.h"
#include "proto/gen/txn_offset_commit.h"

struct commit {
    struct flow *flow;
    struct group_item item;
    struct txn_offset_commit_request request;
    struct txn_offset_commit_response response;
    struct txn_ask ask;
    struct txn_ask_partition partition;
    uint32_t left; /* partitions that home does not refuse */
};

static bool commit_topic(struct commit *s, const struct txn_offset_commit_request_topic *in,
                         struct txn_offset_commit_response_topic *out)
{
    struct flow *f = s->flow;
    const struct topic_image *t =
        image_topic_by_name(&f->core->image, in->name.data, (uint32_t)MAX(in->name.size, 0));
    uint32_t count = (uint32_t)MAX(in->partitions_count, 0);
    txn_offset_commit_response_topic_init(out);
    out->name = in->name;
    out->partitions = arena_array(&f->arena, count, sizeof(*out->partitions));
    if (out->partitions == NULL)
        return false;
    out->partitions_count = (int32_t)count;
    for (uint32_t i = 0; i < count; i++) {
        struct txn_offset_commit_response_partition *p = &out->partitions[i];
        txn_offset_commit_response_partition_init(p);
        p->partition_index = in->partitions[i].partition_index;
        if (t == NULL || topic_partition(t, p->partition_index) == NULL)
            p->error_code = KE_UNKNOWN_TOPIC_OR_PARTITION;
        else
            s->left++;
    }
    return true;
}

static void commit_answer(struct group_ask *a);

/* false: the flow has been refused. */
static bool commit_ask(struct commit *s)
{
    struct group_ask *a = group_ask_make(s->flow, commit_answer, s);
    if (a == NULL)
        return false;
    s->item.leg = NULL;
    if (s->left > 0)
        group_ask_add(a, &s->item, s->request.group_id);
    group_ask_run(a);
    return true;
}

/* The words of the transaction's coordinator for this client (AddPartitionsToTxnManager). */
static enum kafka_error commit_error(const struct commit *s, enum kafka_error error)
{
    if (error == KE_PRODUCER_FENCED)
        return KE_INVALID_PRODUCER_EPOCH;
    if (error == KE_TRANSACTION_ABORTABLE && s->flow->api_version < 4)
        return KE_INVALID_TXN_STATE;
    return error;
}

static void commit_verified(struct txn_ask *ask)
{
    struct commit *s = container_of(ask, struct commit, ask);
    enum kafka_error error = commit_error(s, s->partition.error);
    if (error == KE_NONE) {
        s->item.call.verified = true;
        (void)commit_ask(s);
        return;
    }
    group_call_refuse(&s->item.call, error);
    FLOW_ANSWER(s->flow, &s->response, txn_offset_commit_response);
}

static void commit_answer(struct group_ask *a)
{
    struct commit *s = a->state;
    if (!s->item.call.unverified) {
        FLOW_ANSWER(s->flow, &s->response, txn_offset_commit_response);
        return;
    }
    s->item.call.unverified = false;
    s->partition = (struct txn_ask_partition){.topic_id = s->item.topic_id,
                                              .topic = wire_string_of(GROUP_TOPIC),
                                              .partition = s->item.partition};
    s->ask.transactional_id = s->request.transactional_id;
    s->ask.producer_id = s->request.producer_id;
    s->ask.producer_epoch = s->request.producer_epoch;
    s->ask.add = s->flow->api_version >= 5;
    s->ask.partitions = &s->partition;
    s->ask.partitions_count = 1;
    s->ask.done = commit_verified;
    s->ask.msg.trip = flow_leg(s->flow);
    txn_ask_send(s->flow->core, &s->ask);
}

void txn_offset_commit_start(struct flow *f, struct wire_reader *body)
{
    struct commit *s = arena_array(&f->arena, 1, sizeof(*s));
    if (s == NULL || !FLOW_DECODE(f, txn_offset_commit, &s->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    s->flow = f;
    uint32_t count = (uint32_t)MAX(s->request.topics_count, 0);
    txn_offset_commit_response_init(&s->response);
    s->response.topics = arena_array(&f->arena, count, sizeof(*s->response.topics));
    bool made = s->response.topics != NULL;
    for (uint32_t i = 0; made && i < count; i++)
        made = commit_topic(s, &s->request.topics[i], &s->response.topics[i]);
    if (!made) {
        flow_refuse(f, "no memory");
        return;
    }
    s->response.topics_count = (int32_t)count;
    s->item.call.kind = GROUP_TXN_COMMIT;
    s->item.call.request = &s->request;
    s->item.call.response = &s->response;
    (void)commit_ask(s);
}
