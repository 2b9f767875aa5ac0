/* A transactional producer, one request at a time.
 *
 *   FIND ─▶ INIT ─▶ LOOK ─▶ BEGIN ─▶ (ADD) ─▶ PRODUCE ─▶ (ADD_OFFSETS) ─▶ OFFSETS ─▶ END ─▶ BEGIN
 *             ▲                                                                       │
 *             └── fenced, timed out, or in doubt ◀────────────────────────────────────┘
 *
 * Half of them are as before transaction version 2: they add partitions themselves and keep their
 * epoch; the others let the broker do both. While harm is done a teller naps until its transaction
 * must have timed out, forgets what it was doing, and leaves a zombie behind that goes on under the
 * old epoch. Whatever a zombie asks must be refused.
 *
 * It commits only what was acknowledged, so the end of a transaction is that of all of it. When it
 * does not know the end, the committed offset says it: it went up with the records or not at all.
 */
#include "tests/sim/run.h"

#include <stdio.h>
#include <string.h>

#include "proto/error.h"
#include "proto/gen/add_offsets_to_txn.h"
#include "proto/gen/add_partitions_to_txn.h"
#include "proto/gen/api.h"
#include "proto/gen/end_txn.h"
#include "proto/gen/find_coordinator.h"
#include "proto/gen/init_producer_id.h"
#include "proto/gen/offset_fetch.h"
#include "proto/gen/produce.h"
#include "proto/gen/txn_offset_commit.h"

#define ANSWER_LIMIT     (16u << 20)
#define FIND_VERSION     3
#define ADD_VERSION      3
#define OFFSETS_VERSION  3
#define LOOK_VERSION     7
#define KEY_GROUP        0
#define KEY_TRANSACTION  1
#define PAUSE_NS         (40 * NS_PER_MS)
#define THINK_NS         (20 * NS_PER_MS)
#define BATCH_ROOM       4096u
#define RECORDS_OF_BATCH 3u

static void teller_act(struct sim_event *e);

static struct wire_string text_of(const char *s)
{
    return (struct wire_string){s, (int32_t)strlen(s)};
}

static int16_t produce_version(const struct teller *t)
{
    return t->verbatim ? 9 : 12;
}

static int16_t end_version(const struct teller *t)
{
    return t->verbatim ? 3 : 5;
}

static int16_t offsets_version(const struct teller *t)
{
    return t->verbatim ? 3 : 5;
}

static int16_t init_version(const struct teller *t)
{
    return t->verbatim ? 3 : 5;
}

static void teller_later(struct teller *t, uint64_t mean_ns)
{
    struct run *r = t->run;
    sim_plan(r->sim, &t->act, sim_now_ns(r->sim) + 1 + chance_around(r->chance, mean_ns),
             teller_act);
}

static void teller_move(struct teller *t, enum teller_state state, uint64_t after_ns)
{
    t->state = state;
    teller_later(t, after_ns);
}

/* ---- batches --------------------------------------------------------------------------------- */

uint8_t *ledger_batch(struct run *r, int64_t id, int16_t epoch, int32_t sequence, uint32_t teller,
                      uint32_t txn, bool zombie, uint32_t *size, uint32_t *count)
{
    uint8_t room[BATCH_ROOM], value[LEDGER_STAMP_SIZE];
    struct batch_header header = batch_header_plain(0);
    struct batch_builder builder;
    int64_t timestamp = 1795262400000ll + (int64_t)(sim_now_ns(r->sim) / NS_PER_MS);
    header.attributes = BATCH_TRANSACTIONAL;
    header.producer_id = id;
    header.producer_epoch = epoch;
    header.base_sequence = sequence;
    batch_builder_init(&builder, room, sizeof(room), &header);
    wire_store32(value, teller);
    wire_store32(value + 4, txn);
    wire_store32(value + 8, zombie);
    *count = (uint32_t)chance_between(r->chance, 1, RECORDS_OF_BATCH);
    for (uint32_t i = 0; i < *count; i++) {
        struct batch_field none = {0}, content = {value, sizeof(value)};
        bool added = batch_builder_add(&builder, timestamp, none, content, NULL, 0);
        assert(added);
    }
    *size = batch_builder_finish(&builder);
    uint8_t *bytes = mem_alloc(&r->mem, *size);
    assert(bytes != NULL && *size > 0);
    memcpy(bytes, room, *size);
    return bytes;
}

static void teller_drop(struct teller *t)
{
    for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++) {
        if (t->bytes[i] != NULL)
            mem_free(&t->run->mem, t->bytes[i], t->sizes[i]);
        t->bytes[i] = NULL;
    }
    t->txn = NULL;
}

static void teller_begin(struct teller *t)
{
    struct run *r = t->run;
    struct ledger *l = &r->ledger;
    assert(t->made < TXNS_MAX && t->txn == NULL);
    t->txn = &l->txns[t->index][t->made];
    t->txn->input = t->input;
    t->txn->mask = (uint8_t)chance_between(r->chance, 1, (1u << l->partitions_count) - 1);
    t->acked = 0;
    t->ends_sent = 0;
    t->commits = !chance_one_in(r->chance, 4);
    for (uint32_t i = 0; i < l->partitions_count; i++) {
        uint32_t count = 0;
        if ((t->txn->mask >> i & 1) == 0)
            continue;
        t->bytes[i] = ledger_batch(r, t->producer_id, t->producer_epoch, t->sequences[i], t->index,
                                   t->made, false, &t->sizes[i], &count);
        t->sequences[i] += (int32_t)count;
    }
    t->made++;
    teller_move(t, t->verbatim ? TELLER_ADD : TELLER_PRODUCE, 1);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void teller_find(struct teller *t)
{
    struct find_coordinator_request q;
    find_coordinator_request_init(&q);
    q.key = text_of(t->id);
    q.key_type = t->finds++ % 2 == 0 ? KEY_TRANSACTION : KEY_GROUP; /* this makes their topics */
    LINK_ASK(&t->link, &q, find_coordinator, API_FIND_COORDINATOR, FIND_VERSION, 0, true);
}

static void teller_init(struct teller *t)
{
    struct init_producer_id_request q;
    init_producer_id_request_init(&q);
    q.transactional_id = text_of(t->id);
    q.transaction_timeout_ms = (int32_t)t->timeout_ms;
    LINK_ASK(&t->link, &q, init_producer_id, API_INIT_PRODUCER_ID, init_version(t), 0, true);
}

static void teller_add(struct teller *t)
{
    struct add_partitions_to_txn_request q;
    struct add_partitions_to_txn_request_add_partitions_to_txn_topic topic;
    int32_t partitions[LEDGER_PARTITIONS];
    add_partitions_to_txn_request_init(&q);
    add_partitions_to_txn_request_add_partitions_to_txn_topic_init(&topic);
    topic.name = text_of(LEDGER_TOPIC);
    topic.partitions = partitions;
    for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++) {
        if ((t->txn->mask >> i & 1) != 0)
            partitions[topic.partitions_count++] = (int32_t)i;
    }
    q.v3_and_below_transactional_id = text_of(t->id);
    q.v3_and_below_producer_id = t->producer_id;
    q.v3_and_below_producer_epoch = t->producer_epoch;
    q.v3_and_below_topics = &topic;
    q.v3_and_below_topics_count = 1;
    LINK_ASK(&t->link, &q, add_partitions_to_txn, API_ADD_PARTITIONS_TO_TXN, ADD_VERSION, 0, true);
}

/* The group of a teller has no members: it commits from outside. */
static void teller_look(struct teller *t)
{
    struct offset_fetch_request q;
    struct offset_fetch_request_topic topic;
    int32_t partition = 0;
    offset_fetch_request_init(&q);
    offset_fetch_request_topic_init(&topic);
    topic.name = text_of(LEDGER_TOPIC);
    topic.partition_indexes = &partition;
    topic.partition_indexes_count = 1;
    q.group_id = text_of(t->id);
    q.topics = &topic;
    q.topics_count = 1;
    q.require_stable = true;
    LINK_ASK(&t->link, &q, offset_fetch, API_OFFSET_FETCH, LOOK_VERSION, 0, true);
}

static void teller_add_offsets(struct teller *t)
{
    struct add_offsets_to_txn_request q;
    add_offsets_to_txn_request_init(&q);
    q.transactional_id = text_of(t->id);
    q.producer_id = t->producer_id;
    q.producer_epoch = t->producer_epoch;
    q.group_id = text_of(t->id);
    LINK_ASK(&t->link, &q, add_offsets_to_txn, API_ADD_OFFSETS_TO_TXN, OFFSETS_VERSION, 0, true);
}

static void teller_offsets(struct teller *t)
{
    struct txn_offset_commit_request q;
    struct txn_offset_commit_request_topic topic;
    struct txn_offset_commit_request_partition partition;
    txn_offset_commit_request_init(&q);
    txn_offset_commit_request_topic_init(&topic);
    txn_offset_commit_request_partition_init(&partition);
    partition.committed_offset = t->input + 1;
    topic.name = text_of(LEDGER_TOPIC);
    topic.partitions = &partition;
    topic.partitions_count = 1;
    q.transactional_id = text_of(t->id);
    q.group_id = text_of(t->id);
    q.producer_id = t->producer_id;
    q.producer_epoch = t->producer_epoch;
    q.topics = &topic;
    q.topics_count = 1;
    LINK_ASK(&t->link, &q, txn_offset_commit, API_TXN_OFFSET_COMMIT, offsets_version(t), 0, true);
}

static void produce_ask(struct teller *t, struct link *link, uint8_t mask, uint8_t *const *bytes,
                        const uint32_t *sizes)
{
    struct produce_request q;
    struct produce_request_topic_produce_data topic;
    struct produce_request_partition_produce_data parts[LEDGER_PARTITIONS];
    produce_request_init(&q);
    produce_request_topic_produce_data_init(&topic);
    topic.name = text_of(LEDGER_TOPIC);
    topic.partition_data = parts;
    for (uint32_t i = 0; i < LEDGER_PARTITIONS; i++) {
        if ((mask >> i & 1) == 0)
            continue;
        struct produce_request_partition_produce_data *p = &parts[topic.partition_data_count++];
        produce_request_partition_produce_data_init(p);
        p->index = (int32_t)i;
        p->records = (struct wire_records){.data = bytes[i], .size = (int32_t)sizes[i]};
    }
    q.transactional_id = text_of(t->id);
    q.acks = -1;
    q.timeout_ms = 10000;
    q.topic_data = &topic;
    q.topic_data_count = 1;
    LINK_ASK(link, &q, produce, API_PRODUCE, produce_version(t), 0, true);
}

static void end_ask(struct teller *t, struct link *link, int64_t id, int16_t epoch, bool commits)
{
    struct end_txn_request q;
    end_txn_request_init(&q);
    q.transactional_id = text_of(t->id);
    q.producer_id = id;
    q.producer_epoch = epoch;
    q.committed = commits;
    LINK_ASK(link, &q, end_txn, API_END_TXN, end_version(t), 0, true);
}

static void teller_end(struct teller *t)
{
    t->ends_sent++;
    if (t->commits)
        t->txn->end = TXN_COMMIT_SENT;
    end_ask(t, &t->link, t->producer_id, t->producer_epoch, t->commits);
}

/* ---- the zombie ------------------------------------------------------------------------------ */

static void zombie_up(struct link *link)
{
    struct teller *t = link->owner;
    struct run *r = t->run;
    uint8_t *bytes[LEDGER_PARTITIONS] = {NULL};
    uint32_t sizes[LEDGER_PARTITIONS] = {0}, count = 0;
    bytes[0] = ledger_batch(r, t->zombie_id, t->zombie_epoch, t->zombie_sequence, t->index, 0, true,
                            &sizes[0], &count);
    produce_ask(t, link, 1, bytes, sizes);
    mem_free(&r->mem, bytes[0], sizes[0]);
    end_ask(t, link, t->zombie_id, t->zombie_epoch, true);
    r->ledger.zombies++;
}

static void zombie_down(struct link *link)
{
    link->stopped = true; /* once is enough */
}

static void zombie_answered(struct link *link, const struct link_request *q,
                            struct wire_reader *body)
{
    struct teller *t = link->owner;
    struct arena arena;
    int16_t error = KE_NONE;
    arena_init(&arena, &t->run->mem, ANSWER_LIMIT);
    if (q->api_key == API_PRODUCE) {
        struct produce_response a;
        if (produce_response_decode(&a, body, produce_version(t), &arena) != 0)
            run_broken(t->run, "zombie", "an unreadable Produce response");
        else if (a.responses_count == 1 && a.responses[0].partition_responses_count == 1)
            error = a.responses[0].partition_responses[0].error_code;
    } else {
        struct end_txn_response a;
        if (end_txn_response_decode(&a, body, end_version(t), &arena) != 0)
            run_broken(t->run, "zombie", "an unreadable EndTxn response");
        else
            error = a.error_code;
    }
    if (error == KE_NONE)
        run_fail(t->run, "%s: %s of epoch %d was accepted after a later one was given out", t->id,
                 q->api_key == API_PRODUCE ? "a record" : "the end", t->zombie_epoch);
    arena_release(&arena);
    if (link->requests_count == 0)
        link_stop(link);
}

static void zombie_broken(struct link *link, const char *why)
{
    struct teller *t = link->owner;
    run_broken(t->run, "zombie", why);
}

static void zombie_start(struct teller *t)
{
    struct run *r = t->run;
    link_stop(&t->zombie);
    t->zombie_id = t->producer_id;
    t->zombie_epoch = t->producer_epoch;
    t->zombie_sequence = t->sequences[0];
    t->zombie = (struct link){.sim = r->sim,
                              .mem = &r->mem,
                              .to = r->machine,
                              .port = SIM_NODE_PORT,
                              .timeout_ns = 30 * NS_PER_S,
                              .owner = t,
                              .up = zombie_up,
                              .down = zombie_down,
                              .answered = zombie_answered,
                              .broken = zombie_broken};
    link_start(&t->zombie);
}

/* ---- what it does next ----------------------------------------------------------------------- */

/* Something that is no way to treat a transaction. False: not now. */
static bool teller_misbehave(struct teller *t)
{
    struct run *r = t->run;
    uint64_t what = chance_below(r->chance, 20);
    if (r->phase != PHASE_HARM || t->state <= TELLER_BEGIN || what > 1)
        return false;
    uint64_t nap = chance_between(r->chance, t->timeout_ms / 2, 3 * t->timeout_ms) * NS_PER_MS;
    if (what == 0) /* and then it goes on */
        sim_plan(r->sim, &t->act, sim_now_ns(r->sim) + nap, teller_act);
    else
        teller_move(t, TELLER_INIT, PAUSE_NS);
    return true;
}

static void teller_act(struct sim_event *e)
{
    struct teller *t = container_of(e, struct teller, act);
    if (!t->link.is_up || t->link.requests_count > 0)
        return;
    if (!t->run->ledger.ready) {
        teller_later(t, PAUSE_NS);
        return;
    }
    if (t->lost) {
        teller_find(t);
        return;
    }
    if (teller_misbehave(t))
        return;
    switch (t->state) {
    case TELLER_FIND:
        teller_find(t);
        break;
    case TELLER_INIT:
        teller_init(t);
        break;
    case TELLER_LOOK:
        teller_look(t);
        break;
    case TELLER_BEGIN:
        if (t->made < t->run->options.txns)
            teller_begin(t);
        break;
    case TELLER_ADD:
        teller_add(t);
        break;
    case TELLER_PRODUCE:
        if (t->acked == t->txn->mask)
            teller_move(t, t->verbatim ? TELLER_ADD_OFFSETS : TELLER_OFFSETS, 1);
        else
            produce_ask(t, &t->link, t->txn->mask & (uint8_t)~t->acked, t->bytes, t->sizes);
        break;
    case TELLER_ADD_OFFSETS:
        teller_add_offsets(t);
        break;
    case TELLER_OFFSETS:
        teller_offsets(t);
        break;
    case TELLER_END:
        teller_end(t);
        break;
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

enum verdict { VERDICT_WELL, VERDICT_AGAIN, VERDICT_FIND, VERDICT_OVER };

static enum verdict teller_judge(struct teller *t, const char *what, int16_t error)
{
    t->run->ledger.refused += error != KE_NONE;
    if (t->run->view->verbose && error != KE_NONE)
        (void)fprintf(stderr, "[%9.6f] %s: %s of transaction %u: error %d\n",
                      (double)sim_now_ns(t->run->sim) / 1e9, t->id, what, t->made, error);
    switch ((enum kafka_error)error) {
    case KE_NONE:
    case KE_DUPLICATE_SEQUENCE_NUMBER:
        return VERDICT_WELL;
    case KE_CONCURRENT_TRANSACTIONS:
    case KE_UNKNOWN_TOPIC_OR_PARTITION:
    case KE_NOT_LEADER_OR_FOLLOWER:
    case KE_REQUEST_TIMED_OUT:
    case KE_KAFKA_STORAGE_ERROR:
    case KE_NETWORK_EXCEPTION:
    case KE_OPERATION_NOT_ATTEMPTED: /* one of the other partitions was refused */
    case KE_NOT_ENOUGH_REPLICAS:
    case KE_UNSTABLE_OFFSET_COMMIT:
        return VERDICT_AGAIN;
    case KE_COORDINATOR_LOAD_IN_PROGRESS:
    case KE_COORDINATOR_NOT_AVAILABLE:
    case KE_NOT_COORDINATOR:
    case KE_BROKER_NOT_AVAILABLE:
    case KE_INVALID_REPLICATION_FACTOR:
        return VERDICT_FIND;
    case KE_INVALID_PRODUCER_EPOCH:
    case KE_PRODUCER_FENCED:
    case KE_INVALID_TXN_STATE:
    case KE_OUT_OF_ORDER_SEQUENCE_NUMBER:
    case KE_UNKNOWN_PRODUCER_ID:
    case KE_INVALID_PRODUCER_ID_MAPPING:
    case KE_TRANSACTION_ABORTABLE:
        return VERDICT_OVER;
    default:
        run_fail(t->run, "%s of %s: error %d", what, t->id, error);
        return VERDICT_OVER;
    }
}

/* Goes on as the error says; `well` where it was none. */
static void teller_follow(struct teller *t, enum verdict verdict, enum teller_state well)
{
    t->lost |= verdict == VERDICT_FIND;
    if (verdict == VERDICT_WELL)
        teller_move(t, well, well == TELLER_BEGIN ? THINK_NS : 1);
    else if (verdict == VERDICT_AGAIN || verdict == VERDICT_FIND)
        teller_later(t, PAUSE_NS);
    else
        teller_move(t, TELLER_INIT, PAUSE_NS);
}

static void teller_inited(struct teller *t, const struct init_producer_id_response *a)
{
    enum verdict verdict = teller_judge(t, "InitProducerId", a->error_code);
    if (verdict == VERDICT_WELL) {
        bool had = t->producer_id >= 0;
        bool newer = a->producer_id != t->producer_id || a->producer_epoch > t->producer_epoch;
        if (had && !newer)
            run_fail(t->run, "%s: producer id %lld epoch %d was given out twice", t->id,
                     (long long)a->producer_id, a->producer_epoch);
        if (had && t->run->phase == PHASE_HARM && chance_one_in(t->run->chance, 3))
            zombie_start(t);
        t->producer_id = a->producer_id;
        t->producer_epoch = a->producer_epoch;
        memset(t->sequences, 0, sizeof(t->sequences));
        if (t->txn != NULL) /* it is aborted, or committed if that was asked */
            t->doubt = t->txn;
        teller_drop(t);
    }
    teller_follow(t, verdict, TELLER_LOOK);
}

/* How far it is says what became of the transaction that it lost sight of. */
static void teller_looked(struct teller *t, const struct offset_fetch_response *a)
{
    bool there = a->topics_count == 1 && a->topics[0].partitions_count == 1;
    int16_t error = a->error_code;
    if (error == KE_NONE && there)
        error = a->topics[0].partitions[0].error_code;
    enum verdict verdict = teller_judge(t, "OffsetFetch", error);
    if (verdict == VERDICT_WELL && there) {
        int64_t input = MAX(a->topics[0].partitions[0].committed_offset, 0);
        bool unknown = t->doubt != NULL && t->doubt->end == TXN_COMMIT_SENT;
        if (input != t->input && !(unknown && input == t->input + 1))
            run_fail(t->run, "%s: committed is input %lld, but %u were done", t->id,
                     (long long)input, t->input);
        if (unknown)
            t->doubt->end = input == t->input ? TXN_OPEN : TXN_COMMITTED;
        t->doubt = NULL;
        t->input = (uint32_t)input;
    }
    teller_follow(t, verdict, TELLER_BEGIN);
}

static void teller_offset_committed(struct teller *t, const struct txn_offset_commit_response *a)
{
    enum verdict worst = VERDICT_WELL;
    for (int32_t i = 0; i < a->topics_count; i++) {
        for (int32_t n = 0; n < a->topics[i].partitions_count; n++)
            worst = MAX(worst,
                        teller_judge(t, "TxnOffsetCommit", a->topics[i].partitions[n].error_code));
    }
    teller_follow(t, worst, TELLER_END);
}

static void teller_added(struct teller *t, const struct add_partitions_to_txn_response *a)
{
    enum verdict worst = VERDICT_WELL;
    for (int32_t i = 0; i < a->results_by_topic_v3_and_below_count; i++) {
        const struct add_partitions_to_txn_response_add_partitions_to_txn_topic_result *topic =
            &a->results_by_topic_v3_and_below[i];
        for (int32_t n = 0; n < topic->results_by_partition_count; n++)
            worst = MAX(worst, teller_judge(t, "AddPartitionsToTxn",
                                            topic->results_by_partition[n].partition_error_code));
    }
    teller_follow(t, worst, TELLER_PRODUCE);
}

static void teller_produced(struct teller *t, const struct produce_response *a)
{
    enum verdict worst = VERDICT_WELL;
    for (int32_t i = 0; i < a->responses_count; i++) {
        for (int32_t n = 0; n < a->responses[i].partition_responses_count; n++) {
            const struct produce_response_partition_produce_response *p =
                &a->responses[i].partition_responses[n];
            enum verdict one = teller_judge(t, "Produce", p->error_code);
            if (one == VERDICT_WELL && p->index >= 0 && p->index < (int32_t)LEDGER_PARTITIONS)
                t->acked |= (uint8_t)(1u << p->index);
            worst = MAX(worst, one);
        }
    }
    teller_follow(t, worst, TELLER_PRODUCE);
}

static void teller_ended(struct teller *t, const struct end_txn_response *a)
{
    enum verdict verdict = teller_judge(t, "EndTxn", a->error_code);
    if (verdict == VERDICT_WELL) {
        if (t->commits)
            t->txn->end = TXN_COMMITTED;
        t->run->ledger.committed += t->commits;
        t->input += t->commits;
        if (!t->verbatim) {
            bool next = a->producer_id != t->producer_id || a->producer_epoch > t->producer_epoch;
            if (!next)
                run_fail(t->run, "%s: EndTxn left the epoch at %d", t->id, a->producer_epoch);
            t->producer_id = a->producer_id;
            t->producer_epoch = a->producer_epoch;
            memset(t->sequences, 0, sizeof(t->sequences));
        }
        teller_drop(t);
    } else if (verdict == VERDICT_OVER && t->ends_sent == 1) {
        t->txn->end = TXN_OPEN; /* asked once, and refused */
    }
    bool looks = chance_one_in(t->run->chance, 4); /* whether it is so */
    teller_follow(t, verdict, looks ? TELLER_LOOK : TELLER_BEGIN);
}

#define TELLER_DECODE(name, version)                                                               \
    struct name##_response a;                                                                      \
    bool read = name##_response_decode(&a, body, version, &arena) == 0;                            \
    if (!read)                                                                                     \
    run_broken(t->run, "teller", "an unreadable " #name " response")

static void teller_answered(struct link *l, const struct link_request *q, struct wire_reader *body)
{
    struct teller *t = l->owner;
    struct arena arena;
    arena_init(&arena, &t->run->mem, ANSWER_LIMIT);
    if (q->api_key == API_FIND_COORDINATOR) {
        TELLER_DECODE(find_coordinator, FIND_VERSION);
        bool found = read && teller_judge(t, "FindCoordinator", a.error_code) == VERDICT_WELL;
        t->lost = t->finds % 2 != 0; /* both, whatever the answers: who needs one asks again */
        teller_move(t, found && t->state == TELLER_FIND ? TELLER_INIT : t->state,
                    found ? 1 : PAUSE_NS);
    } else if (q->api_key == API_INIT_PRODUCER_ID) {
        TELLER_DECODE(init_producer_id, init_version(t));
        if (read)
            teller_inited(t, &a);
    } else if (q->api_key == API_ADD_PARTITIONS_TO_TXN) {
        TELLER_DECODE(add_partitions_to_txn, ADD_VERSION);
        if (read)
            teller_added(t, &a);
    } else if (q->api_key == API_PRODUCE) {
        TELLER_DECODE(produce, produce_version(t));
        if (read)
            teller_produced(t, &a);
    } else if (q->api_key == API_OFFSET_FETCH) {
        TELLER_DECODE(offset_fetch, LOOK_VERSION);
        if (read)
            teller_looked(t, &a);
    } else if (q->api_key == API_ADD_OFFSETS_TO_TXN) {
        TELLER_DECODE(add_offsets_to_txn, OFFSETS_VERSION);
        if (read)
            teller_follow(t, teller_judge(t, "AddOffsetsToTxn", a.error_code), TELLER_OFFSETS);
    } else if (q->api_key == API_TXN_OFFSET_COMMIT) {
        TELLER_DECODE(txn_offset_commit, offsets_version(t));
        if (read)
            teller_offset_committed(t, &a);
    } else {
        TELLER_DECODE(end_txn, end_version(t));
        if (read)
            teller_ended(t, &a);
    }
    arena_release(&arena);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* What it was doing it does again, or it gives up and starts over. */
static void teller_up(struct link *l)
{
    struct teller *t = l->owner;
    if (t->producer_id < 0)
        t->state = TELLER_FIND;
    else if (t->state > TELLER_BEGIN && chance_one_in(t->run->chance, 3))
        t->state = TELLER_INIT;
    teller_later(t, 1);
}

static void teller_down(struct link *l)
{
    struct teller *t = l->owner;
    sim_unplan(t->run->sim, &t->act);
}

static void teller_broken(struct link *l, const char *why)
{
    struct teller *t = l->owner;
    run_broken(t->run, "teller", why);
}

void teller_start(struct teller *t, struct run *r, uint32_t index)
{
    struct chance *c = r->chance;
    *t = (struct teller){.run = r, .index = index, .producer_id = -1, .producer_epoch = -1};
    t->verbatim = chance_one_in(c, 2);
    t->timeout_ms = (uint32_t)chance_between(c, 300, 3000);
    (void)snprintf(t->id, sizeof(t->id), "teller-%u", index);
    t->zombie.sim = r->sim;
    t->zombie.mem = &r->mem;
    t->link = (struct link){.sim = r->sim,
                            .mem = &r->mem,
                            .to = r->machine,
                            .port = SIM_NODE_PORT,
                            .timeout_ns = 30 * NS_PER_S,
                            .owner = t,
                            .up = teller_up,
                            .down = teller_down,
                            .answered = teller_answered,
                            .broken = teller_broken};
    link_start(&t->link);
}

void teller_stop(struct teller *t)
{
    sim_unplan(t->run->sim, &t->act);
    link_stop(&t->zombie);
    link_stop(&t->link);
    teller_drop(t);
}

bool teller_done(const struct teller *t)
{
    return t->made == t->run->options.txns && t->state == TELLER_BEGIN;
}
