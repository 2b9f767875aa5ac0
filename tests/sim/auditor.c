/* A consumer of the ledger that reads what is committed, over and over, and does what Kafka's
 * consumers do with what they get: they leave out the batches of producers that the answer says
 * have aborted, from the first offset of that transaction to its marker.
 *
 * What must hold: the last stable offset never goes back, nothing at or behind it is given out,
 * what is seen is no zombie's and of no transaction that nobody has asked to commit. A walk from
 * the first offset to the last sees of each transaction all or nothing, all if its end was
 * acknowledged, each batch once, those of a teller in order, and nothing less than was ever seen.
 */
#include "tests/sim/run.h"

#include <string.h>

#include "proto/error.h"
#include "proto/gen/api.h"
#include "proto/gen/fetch.h"
#include "proto/gen/metadata.h"
#include "proto/record.h"

#define ANSWER_LIMIT     (64u << 20)
#define METADATA_VERSION 4
#define THINK_NS         (10 * NS_PER_MS)
#define ABORTED_MAX      256u

static void auditor_act(struct sim_event *e);

static struct wire_string topic_name(void)
{
    return (struct wire_string){LEDGER_TOPIC, (int32_t)strlen(LEDGER_TOPIC)};
}

static void auditor_later(struct auditor *a, uint64_t mean_ns)
{
    struct run *r = a->run;
    sim_plan(r->sim, &a->act, sim_now_ns(r->sim) + 1 + chance_around(r->chance, mean_ns),
             auditor_act);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void auditor_make_topic(struct auditor *a)
{
    struct metadata_request q;
    struct metadata_request_topic topic;
    metadata_request_init(&q);
    metadata_request_topic_init(&topic);
    topic.name = topic_name();
    q.topics = &topic;
    q.topics_count = 1;
    q.allow_auto_topic_creation = true;
    LINK_ASK(&a->link, &q, metadata, API_METADATA, METADATA_VERSION, 0, true);
}

static void auditor_fetch(struct auditor *a)
{
    struct ledger *l = &a->run->ledger;
    struct fetch_request q;
    struct fetch_request_fetch_topic topic;
    struct fetch_request_fetch_partition parts[LEDGER_PARTITIONS];
    fetch_request_init(&q);
    fetch_request_fetch_topic_init(&topic);
    topic.topic = topic_name();
    topic.partitions = parts;
    for (uint32_t i = 0; i < l->partitions_count; i++) {
        a->floors[i] = l->stable[i];
        if (a->walks && a->at_end[i])
            continue;
        struct fetch_request_fetch_partition *p = &parts[topic.partitions_count++];
        fetch_request_fetch_partition_init(p);
        p->partition = (int32_t)i;
        p->fetch_offset = a->offsets[i];
        p->partition_max_bytes = (int32_t)a->max_bytes;
    }
    q.max_wait_ms = a->walks ? 0 : 50;
    q.min_bytes = 1;
    q.max_bytes = 1 << 20;
    q.isolation_level = 1;
    q.session_epoch = -1;
    q.rack_id = (struct wire_string){"", 0};
    q.topics = &topic;
    q.topics_count = 1;
    LINK_ASK(&a->link, &q, fetch, API_FETCH, a->version, 0, true);
}

static void auditor_act(struct sim_event *e)
{
    struct auditor *a = container_of(e, struct auditor, act);
    if (!a->link.is_up || a->link.requests_count > 0)
        return;
    if (!a->run->ledger.ready)
        auditor_make_topic(a);
    else if (!a->walks || !auditor_done(a))
        auditor_fetch(a);
}

/* ---- what is seen ---------------------------------------------------------------------------- */

static void auditor_see(struct auditor *a, uint32_t partition, const uint8_t *batch,
                        const struct batch_header *h)
{
    struct run *r = a->run;
    struct record_iter it;
    struct record record;
    record_iter_init(&it, batch + BATCH_HEADER_SIZE, h->size - BATCH_HEADER_SIZE, h->record_count);
    if (!record_next(&it, &record) || record.value.data == NULL ||
        record.value.size != LEDGER_STAMP_SIZE) {
        run_fail(r, "ledger-%u offset %lld: a batch that nobody sent", partition,
                 (long long)h->base_offset);
        return;
    }
    uint32_t teller = wire_load32(record.value.data);
    uint32_t number = wire_load32(record.value.data + 4);
    bool zombie = wire_load32(record.value.data + 8) != 0;
    if (zombie || teller >= TELLERS_MAX || number >= TXNS_MAX) {
        run_fail(r, "ledger-%u offset %lld: a zombie's record of teller %u is committed", partition,
                 (long long)h->base_offset, teller);
        return;
    }
    struct ledger_txn *txn = &r->ledger.txns[teller][number];
    uint8_t bit = (uint8_t)(1u << partition);
    if (txn->end == TXN_OPEN || (txn->mask & bit) == 0)
        run_fail(r, "ledger-%u offset %lld: transaction %u of teller %u is seen, end %d", partition,
                 (long long)h->base_offset, number, teller, txn->end);
    txn->seen |= bit;
    if (!a->walks)
        return;
    if ((txn->walked & bit) != 0 || a->latest[teller][partition] >= (int64_t)number)
        run_fail(r, "ledger-%u offset %lld: transaction %u of teller %u is there twice, or late",
                 partition, (long long)h->base_offset, number, teller);
    txn->walked |= bit;
    a->latest[teller][partition] = number;
}

struct aborted { /* producers whose batches are to be left out now */
    const struct fetch_response_aborted_transaction *list;
    int32_t count;
    bool begun[ABORTED_MAX], over[ABORTED_MAX];
};

/* As Kafka's consumer: those that begin at or before the batch count from there on. */
static bool aborted_holds(struct aborted *b, const struct batch_header *h, bool ends)
{
    bool holds = false;
    for (int32_t i = 0; i < b->count; i++) {
        if (b->list[i].first_offset <= batch_last_offset(h))
            b->begun[i] = true;
        if (!b->begun[i] || b->over[i] || b->list[i].producer_id != h->producer_id)
            continue;
        holds = true;
        b->over[i] = ends;
    }
    return holds;
}

static void auditor_records(struct auditor *a, uint32_t partition,
                            const struct fetch_response_partition_data *d)
{
    struct run *r = a->run;
    struct batch_iter it;
    struct batch_header h;
    const uint8_t *batch;
    struct aborted aborted = {.list = d->aborted_transactions,
                              .count = MIN(d->aborted_transactions_count, (int32_t)ABORTED_MAX)};
    batch_iter_init(&it, d->records.data, (size_t)MAX(d->records.size, 0));
    while (batch_next(&it, &batch, &h) && !r->failed) {
        enum batch_control type = BATCH_CONTROL_COMMIT;
        int32_t ignored;
        if (batch_last_offset(&h) >= d->last_stable_offset || !batch_crc_matches(batch, h.size))
            run_fail(r, "ledger-%u offset %lld: at or behind the last stable offset %lld, or bad",
                     partition, (long long)h.base_offset, (long long)d->last_stable_offset);
        bool control = batch_has(&h, BATCH_CONTROL);
        if (control && !batch_read_control(batch, h.size, &type, &ignored))
            run_fail(r, "ledger-%u offset %lld: an unreadable marker", partition,
                     (long long)h.base_offset);
        bool out = aborted_holds(&aborted, &h, control && type == BATCH_CONTROL_ABORT);
        if (!control && !out && batch_last_offset(&h) >= a->offsets[partition])
            auditor_see(a, partition, batch, &h);
        a->offsets[partition] = MAX(a->offsets[partition], batch_last_offset(&h) + 1);
    }
}

/* Each input of a teller that is done gave one transaction that is there, and no other did. */
static void auditor_count_inputs(struct auditor *a, uint32_t t)
{
    struct run *r = a->run;
    uint32_t made[TXNS_MAX] = {0};
    for (uint32_t n = 0; n < TXNS_MAX; n++)
        made[r->ledger.txns[t][n].input] += r->ledger.txns[t][n].walked != 0;
    for (uint32_t i = 0; i < TXNS_MAX && !r->failed; i++) {
        if (made[i] != (i < r->tellers[t].input))
            run_fail(r, "input %u of teller %u is %u times in the output, and %u are done", i, t,
                     made[i], r->tellers[t].input);
    }
}

/* The end of a walk: what of each transaction was there. */
static void auditor_judge(struct auditor *a)
{
    struct run *r = a->run;
    for (uint32_t t = 0; t < r->options.tellers; t++) {
        for (uint32_t n = 0; n < TXNS_MAX && !r->failed; n++) {
            const struct ledger_txn *txn = &r->ledger.txns[t][n];
            bool all = txn->walked == txn->mask;
            if (txn->end == TXN_COMMITTED ? !all : txn->walked != 0 && !all)
                run_fail(r, "transaction %u of teller %u, end %d: in partitions %#x of %#x", n, t,
                         txn->end, txn->walked, txn->mask);
            if ((txn->seen & ~txn->walked) != 0)
                run_fail(r, "transaction %u of teller %u was seen and is gone", n, t);
        }
        auditor_count_inputs(a, t);
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

static void auditor_partition(struct auditor *a, const struct fetch_response_partition_data *d)
{
    struct run *r = a->run;
    struct ledger *l = &r->ledger;
    uint32_t i = (uint32_t)d->partition_index;
    if (i >= l->partitions_count) {
        run_fail(r, "fetched ledger-%u, which there is not", i);
        return;
    }
    if (d->error_code != KE_NONE) {
        bool passes = d->error_code == KE_UNKNOWN_TOPIC_OR_PARTITION ||
                      d->error_code == KE_NOT_LEADER_OR_FOLLOWER ||
                      (d->error_code == KE_KAFKA_STORAGE_ERROR &&
                       (r->faulted != 0 || r->faulted_before != 0 || r->full || r->full_before)) ||
                      (d->error_code == KE_CORRUPT_MESSAGE && run_may_be_unreadable(r));
        if (!passes)
            run_fail(r, "fetch of ledger-%u at %lld: error %d", i, (long long)a->offsets[i],
                     d->error_code);
        return;
    }
    if (d->last_stable_offset < a->floors[i] || d->last_stable_offset > d->high_watermark) {
        run_fail(r, "ledger-%u: last stable offset %lld, %lld was known, high watermark %lld", i,
                 (long long)d->last_stable_offset, (long long)a->floors[i],
                 (long long)d->high_watermark);
        return;
    }
    l->stable[i] = MAX(l->stable[i], d->last_stable_offset);
    auditor_records(a, i, d);
    a->at_end[i] = a->offsets[i] == d->high_watermark;
}

static void auditor_looked(struct auditor *a, const struct metadata_response *m)
{
    struct ledger *l = &a->run->ledger;
    if (m->topics_count == 1 && m->topics[0].error_code == KE_NONE &&
        m->topics[0].partitions_count > 0) {
        l->partitions_count = MIN((uint32_t)m->topics[0].partitions_count, LEDGER_PARTITIONS);
        l->ready = true;
    }
}

static void auditor_answered(struct link *link, const struct link_request *q,
                             struct wire_reader *body)
{
    struct auditor *a = link->owner;
    struct run *r = a->run;
    struct arena arena;
    arena_init(&arena, &r->mem, ANSWER_LIMIT);
    if (q->api_key == API_METADATA) {
        struct metadata_response m;
        if (metadata_response_decode(&m, body, METADATA_VERSION, &arena) != 0)
            run_broken(r, "auditor", "an unreadable Metadata response");
        else
            auditor_looked(a, &m);
    } else {
        struct fetch_response m;
        if (fetch_response_decode(&m, body, a->version, &arena) != 0)
            run_broken(r, "auditor", "an unreadable Fetch response");
        else
            for (int32_t i = 0; i < m.responses_count; i++)
                for (int32_t n = 0; n < m.responses[i].partitions_count && !r->failed; n++)
                    auditor_partition(a, &m.responses[i].partitions[n]);
    }
    arena_release(&arena);
    if (a->walks && auditor_done(a) && !r->failed)
        auditor_judge(a);
    uint32_t back = (uint32_t)chance_below(r->chance, 20); /* looks again at what it has seen */
    if (!a->walks && r->phase == PHASE_HARM && back < LEDGER_PARTITIONS)
        a->offsets[back] = (int64_t)chance_between(r->chance, 0, (uint64_t)a->offsets[back]);
    auditor_later(a, a->walks ? 1 : THINK_NS);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void auditor_up(struct link *l)
{
    auditor_later(l->owner, 1);
}

static void auditor_down(struct link *l)
{
    struct auditor *a = l->owner;
    sim_unplan(a->run->sim, &a->act);
}

static void auditor_broken(struct link *l, const char *why)
{
    struct auditor *a = l->owner;
    run_broken(a->run, "auditor", why);
}

void auditor_start(struct auditor *a, struct run *r, bool walks)
{
    static const uint32_t sizes[] = {1, 300, 65536};
    *a = (struct auditor){.run = r, .walks = walks};
    a->version = (int16_t)chance_between(r->chance, 4, 12);
    a->max_bytes = sizes[chance_below(r->chance, 3)];
    for (uint32_t t = 0; t < TELLERS_MAX; t++) {
        for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++)
            a->latest[t][i] = -1;
    }
    a->link = (struct link){.sim = r->sim,
                            .mem = &r->mem,
                            .to = r->machine,
                            .port = SIM_NODE_PORT,
                            .timeout_ns = 30 * NS_PER_S,
                            .owner = a,
                            .up = auditor_up,
                            .down = auditor_down,
                            .answered = auditor_answered,
                            .broken = auditor_broken};
    link_start(&a->link);
}

void auditor_stop(struct auditor *a)
{
    sim_unplan(a->run->sim, &a->act);
    link_stop(&a->link);
}

bool auditor_done(const struct auditor *a)
{
    bool done = a->run->ledger.ready;
    for (uint32_t i = 0; i < a->run->ledger.partitions_count; i++)
        done &= a->at_end[i];
    return done;
}
