/* WriteTxnMarkers (key 27): somebody ends transactions in partitions of this node: a coordinator on
 * another node, or an operator that aborts one which hangs (kafka-transactions abort).
 *
 *   home: each marker of the request ─ txn_marker.h ─▶ owners ─ durable ─▶ home: answer when all
 * are
 *
 * Failure modes: per marker and partition, Kafka's code; a partition that is not here is UNKNOWN_
 * TOPIC_OR_PARTITION. */
#include "broker/api/api.h"
#include "broker/data_core.h"
#include "broker/txn_marker.h"
#include "proto/gen/write_txn_markers.h"

struct mark { /* one marker of the request */
    struct txn_markers markers;
    struct write_request *write;
    struct write_txn_markers_response_writable_txn_marker_partition_result **out;
};

struct write_request {
    struct flow *flow;
    struct write_txn_markers_request request;
    struct write_txn_markers_response response;
    struct mark *marks;
    uint32_t away;
};

static void write_answer(struct write_request *w)
{
    FLOW_ANSWER(w->flow, &w->response, write_txn_markers_response);
}

static void mark_done(struct txn_markers *m)
{
    struct mark *k = container_of(m, struct mark, markers);
    struct write_request *w = k->write;
    for (uint32_t i = 0; i < m->partitions_count; i++)
        k->out[i]->error_code = (int16_t)m->partitions[i].error;
    assert(w->away > 0);
    if (--w->away == 0)
        write_answer(w);
}

/* One entry of the response, and what is to be sent. false: no memory. */
static bool mark_topic(struct mark *k,
                       const struct write_txn_markers_request_writable_txn_marker_topic *in,
                       struct write_txn_markers_response_writable_txn_marker_topic_result *out)
{
    struct flow *f = k->write->flow;
    uint32_t count = (uint32_t)MAX(in->partition_indexes_count, 0);
    const struct topic_image *t =
        image_topic_by_name(&f->core->image, in->name.data, (uint32_t)MAX(in->name.size, 0));
    write_txn_markers_response_writable_txn_marker_topic_result_init(out);
    out->name = in->name;
    out->partitions = arena_array(&f->arena, count, sizeof(*out->partitions));
    if (out->partitions == NULL)
        return false;
    out->partitions_count = (int32_t)count;
    for (uint32_t i = 0; i < count; i++) {
        struct write_txn_markers_response_writable_txn_marker_partition_result *p =
            &out->partitions[i];
        write_txn_markers_response_writable_txn_marker_partition_result_init(p);
        p->partition_index = in->partition_indexes[i];
        if (t == NULL || topic_partition(t, p->partition_index) == NULL) {
            p->error_code = KE_UNKNOWN_TOPIC_OR_PARTITION;
            continue;
        }
        if (k->markers.producer_id < 0 || k->markers.producer_epoch < 0) {
            p->error_code = KE_UNKNOWN_SERVER_ERROR; /* nobody is such a producer */
            continue;
        }
        uint32_t at = k->markers.partitions_count++;
        k->markers.partitions[at].topic_id = t->id;
        k->markers.partitions[at].partition = p->partition_index;
        k->out[at] = p;
    }
    return true;
}

static bool mark_make(struct write_request *w, struct mark *k,
                      const struct write_txn_markers_request_writable_txn_marker *in,
                      struct write_txn_markers_response_writable_txn_marker_result *out)
{
    struct flow *f = w->flow;
    uint32_t count = 0, topics = (uint32_t)MAX(in->topics_count, 0);
    for (uint32_t i = 0; i < topics; i++)
        count += (uint32_t)MAX(in->topics[i].partition_indexes_count, 0);
    write_txn_markers_response_writable_txn_marker_result_init(out);
    out->producer_id = in->producer_id;
    out->topics = arena_array(&f->arena, topics, sizeof(*out->topics));
    k->write = w;
    k->out = arena_array(&f->arena, count, sizeof(struct mark *));
    k->markers = (struct txn_markers){
        .producer_id = in->producer_id,
        .producer_epoch = in->producer_epoch,
        .coordinator_epoch = in->coordinator_epoch,
        .transaction_version = in->transaction_version,
        .commit = in->transaction_result,
        .may_repeat = true,
        .partitions = arena_array(&f->arena, count, sizeof(struct txn_marker)),
        .legs = arena_array(&f->arena, f->core->cores_count, sizeof(struct txn_marker_leg)),
        .done = mark_done,
    };
    if (out->topics == NULL || k->out == NULL || k->markers.partitions == NULL ||
        k->markers.legs == NULL)
        return false;
    out->topics_count = (int32_t)topics;
    for (uint32_t i = 0; i < topics; i++) {
        if (!mark_topic(k, &in->topics[i], &out->topics[i]))
            return false;
    }
    return true;
}

static bool write_make(struct write_request *w)
{
    uint32_t count = (uint32_t)MAX(w->request.markers_count, 0);
    write_txn_markers_response_init(&w->response);
    w->marks = arena_array(&w->flow->arena, count, sizeof(*w->marks));
    w->response.markers = arena_array(&w->flow->arena, count, sizeof(*w->response.markers));
    if (w->marks == NULL || w->response.markers == NULL)
        return false;
    w->response.markers_count = (int32_t)count;
    for (uint32_t i = 0; i < count; i++) {
        if (!mark_make(w, &w->marks[i], &w->request.markers[i], &w->response.markers[i]))
            return false;
        w->away += w->marks[i].markers.partitions_count > 0;
    }
    return true;
}

void write_txn_markers_start(struct flow *f, struct wire_reader *body)
{
    struct write_request *w = arena_array(&f->arena, 1, sizeof(*w));
    if (w == NULL || !FLOW_DECODE(f, write_txn_markers, &w->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    w->flow = f;
    if (!write_make(w)) {
        flow_refuse(f, "no memory");
        return;
    }
    if (w->away == 0) {
        write_answer(w);
        return;
    }
    trip_move(&f->trip, &f->core->board, TRIP_AWAY);
    for (int32_t i = 0; i < w->response.markers_count; i++) {
        if (w->marks[i].markers.partitions_count > 0)
            txn_markers_send(f->core, &w->marks[i].markers);
    }
}
