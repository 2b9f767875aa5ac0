/* Every state of a transaction with everything that can happen to it, against the table of Kafka's
 * TransactionCoordinator; and the epochs and ids that are handed out on the way. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "tests/broker/txn_rig.h"

#define ID       "x"
#define STRANGER 1000 /* added to a producer id */

/* ---- the table ------------------------------------------------------------------------------- */

/* DEAD stands for an id that is not known. */
static const enum txn_state rows[] = {TXN_DEAD,           TXN_EMPTY,         TXN_ONGOING,
                                      TXN_PREPARE_COMMIT, TXN_PREPARE_ABORT, TXN_COMPLETE_COMMIT,
                                      TXN_COMPLETE_ABORT};
#define ROWS_COUNT (sizeof(rows) / sizeof(rows[0]))

enum event {
    INIT,
    INIT_AS_SELF,
    INIT_AS_STRANGER,
    ADD,
    ADD_OLD_EPOCH,
    ADD_STRANGER,
    VERIFY,
    VERIFY_OLD_EPOCH,
    COMMIT_2, /* EndTxn of version 2 of the feature, with the epoch of now */
    ABORT_2,
    COMMIT_2_AGAIN, /* with the epoch before */
    ABORT_2_AGAIN,
    COMMIT_2_STRANGER,
    COMMIT_1,
    ABORT_1,
    COMMIT_1_OLD_EPOCH,
    TIME_OUT,
    EXPIRE,
    RELOAD,
    EVENTS
};

struct outcome {
    enum kafka_error error;
    enum txn_state state;
};

#define SAME TXN_STATES /* the state stays */

/* clang-format off */
#define STAY   {KE_NONE, SAME}
#define EMPTY  {KE_NONE, TXN_EMPTY}
#define OPEN   {KE_NONE, TXN_ONGOING}
#define COMMIT {KE_NONE, TXN_PREPARE_COMMIT}
#define ABORT  {KE_NONE, TXN_PREPARE_ABORT}
#define GONE   {KE_NONE, TXN_DEAD}
#define CUT    {KE_CONCURRENT_TRANSACTIONS, TXN_PREPARE_ABORT}
#define BUSY   {KE_CONCURRENT_TRANSACTIONS, SAME}
#define FENCED {KE_PRODUCER_FENCED, SAME}
#define NOBODY {KE_INVALID_PRODUCER_ID_MAPPING, SAME}
#define WRONG  {KE_INVALID_TXN_STATE, SAME}
#define NOT_IN {KE_TRANSACTION_ABORTABLE, SAME}

static const struct outcome table[EVENTS][ROWS_COUNT] = {
    /*                      not     EMPTY   ONGOING PREPARE PREPARE COMPLETE COMPLETE
                            known                   COMMIT  ABORT   COMMIT   ABORT */
    [INIT]               = {EMPTY,  EMPTY,  CUT,    BUSY,   BUSY,   EMPTY,   EMPTY},
    [INIT_AS_SELF]       = {EMPTY,  EMPTY,  CUT,    BUSY,   BUSY,   EMPTY,   EMPTY},
    [INIT_AS_STRANGER]   = {EMPTY,  FENCED, FENCED, BUSY,   BUSY,   FENCED,  FENCED},
    [ADD]                = {NOBODY, OPEN,   OPEN,   BUSY,   BUSY,   OPEN,    OPEN},
    [ADD_OLD_EPOCH]      = {NOBODY, FENCED, FENCED, BUSY,   BUSY,   FENCED,  FENCED},
    [ADD_STRANGER]       = {NOBODY, NOBODY, NOBODY, BUSY,   BUSY,   NOBODY,  NOBODY},
    [VERIFY]             = {NOBODY, NOT_IN, STAY,   BUSY,   BUSY,   NOT_IN,  NOT_IN},
    [VERIFY_OLD_EPOCH]   = {NOBODY, FENCED, FENCED, FENCED, FENCED, FENCED,  FENCED},
    [COMMIT_2]           = {NOBODY, WRONG,  COMMIT, BUSY,   BUSY,   WRONG,   WRONG},
    [ABORT_2]            = {NOBODY, ABORT,  ABORT,  BUSY,   BUSY,   ABORT,   ABORT},
    [COMMIT_2_AGAIN]     = {NOBODY, FENCED, FENCED, BUSY,   BUSY,   STAY,    WRONG},
    [ABORT_2_AGAIN]      = {NOBODY, FENCED, FENCED, BUSY,   BUSY,   WRONG,   STAY},
    [COMMIT_2_STRANGER]  = {NOBODY, NOBODY, NOBODY, BUSY,   BUSY,   NOBODY,  NOBODY},
    [COMMIT_1]           = {NOBODY, WRONG,  COMMIT, BUSY,   BUSY,   STAY,    WRONG},
    [ABORT_1]            = {NOBODY, WRONG,  ABORT,  BUSY,   BUSY,   WRONG,   STAY},
    [COMMIT_1_OLD_EPOCH] = {NOBODY, FENCED, FENCED, FENCED, FENCED, FENCED,  FENCED},
    [TIME_OUT]           = {STAY,   STAY,   ABORT,  STAY,   STAY,   STAY,    STAY},
    [EXPIRE]             = {STAY,   GONE,   ABORT,  STAY,   STAY,   GONE,    GONE},
    [RELOAD]             = {STAY,   STAY,   STAY,   STAY,   STAY,   STAY,    STAY},
};
/* clang-format on */

/* The id in this state; what its producer would say of itself. */
static struct rig_answer bring(struct txn_rig *r, enum txn_state state)
{
    struct rig_answer who = {KE_NONE, 0, 1};
    if (state == TXN_DEAD)
        return who;
    (void)rig_begin(r, ID);
    who = rig_begin(r, ID); /* epoch 1: there is one before it */
    cr_assert_eq(who.epoch, 1);
    if (state == TXN_EMPTY)
        return who;
    cr_assert_eq(rig_add(r, ID, who.id, who.epoch, 1, 2), KE_NONE);
    if (state == TXN_ONGOING)
        return who;
    bool commit = state == TXN_PREPARE_COMMIT || state == TXN_COMPLETE_COMMIT;
    who = rig_finish(r, ID, who.id, who.epoch, commit, 5);
    cr_assert_eq(who.error, KE_NONE);
    cr_assert_eq(who.epoch, 2);
    if (state == TXN_COMPLETE_COMMIT || state == TXN_COMPLETE_ABORT)
        rig_mark(r, ID);
    cr_assert_eq(rig_state(r, ID), state);
    return who;
}

/* But for last_epoch, which is in no record. */
static void expect_same_fields(const struct txn_fields *a, const struct txn_fields *b)
{
    cr_expect_eq(a->state.now, b->state.now);
    cr_expect_eq(a->client_version, b->client_version);
    cr_expect_eq(a->epoch, b->epoch);
    cr_expect_eq(a->timeout_ms, b->timeout_ms);
    cr_expect_eq(a->producer_id, b->producer_id);
    cr_expect_eq(a->prev_producer_id, b->prev_producer_id);
    cr_expect_eq(a->next_producer_id, b->next_producer_id);
    cr_expect_eq(a->start_ms, b->start_ms);
    cr_expect_eq(a->update_ms, b->update_ms);
    cr_expect_eq(b->last_epoch, -1);
}

/* Memory is what the log says, whatever has happened. */
static void expect_same_after_load(struct txn_rig *r)
{
    struct txn_rig *again = mem_zalloc(&r->test_mem, sizeof(*again));
    cr_assert(again != NULL);
    rig_load(again, r);
    const struct txn *a = rig_find(r, ID), *b = rig_find(again, ID);
    cr_assert_eq(a == NULL, b == NULL);
    cr_expect_eq(again->shard.txns.count, r->shard.txns.count);
    if (a != NULL) {
        expect_same_fields(&a->now, &b->now);
        cr_expect_eq(a->partitions_count, b->partitions_count);
        bool ends = b->now.state.now == TXN_PREPARE_COMMIT || b->now.state.now == TXN_PREPARE_ABORT;
        cr_expect_eq(again->handed_over, ends ? 1 : 0);
    }
    rig_end(again);
    mem_free(&r->test_mem, again, sizeof(*again));
}

static enum kafka_error happen(struct txn_rig *r, enum event event, struct rig_answer who)
{
    int16_t before = (int16_t)(who.epoch - 1);
    switch (event) {
    case INIT:
        return rig_begin(r, ID).error;
    case INIT_AS_SELF:
        return rig_begin_as(r, ID, who.id, who.epoch, 5).error;
    case INIT_AS_STRANGER:
        return rig_begin_as(r, ID, who.id + STRANGER, who.epoch, 5).error;
    case ADD:
        return rig_add(r, ID, who.id, who.epoch, 7, 2);
    case ADD_OLD_EPOCH:
        return rig_add(r, ID, who.id, before, 7, 2);
    case ADD_STRANGER:
        return rig_add(r, ID, who.id + STRANGER, who.epoch, 7, 2);
    case VERIFY:
        return rig_verify(r, ID, who.id, who.epoch, 1);
    case VERIFY_OLD_EPOCH:
        return rig_verify(r, ID, who.id, before, 1);
    case COMMIT_2:
    case ABORT_2:
        return rig_finish(r, ID, who.id, who.epoch, event == COMMIT_2, 5).error;
    case COMMIT_2_AGAIN:
    case ABORT_2_AGAIN:
        return rig_finish(r, ID, who.id, before, event == COMMIT_2_AGAIN, 5).error;
    case COMMIT_2_STRANGER:
        return rig_finish(r, ID, who.id + STRANGER, who.epoch, true, 5).error;
    case COMMIT_1:
    case ABORT_1:
        return rig_finish(r, ID, who.id, who.epoch, event == COMMIT_1, 4).error;
    case COMMIT_1_OLD_EPOCH:
        return rig_finish(r, ID, who.id, before, true, 4).error;
    case TIME_OUT:
        rig_pass(r, 60001);
        rig_pass(r, 10000);
        return KE_NONE;
    case EXPIRE:
        rig_pass(r, 604800000);
        rig_pass(r, 3600000);
        return KE_NONE;
    case RELOAD:
    case EVENTS:
        break;
    }
    return KE_NONE; /* every cell is reloaded in the end */
}

Test(txn_state, each_state_answers_each_event_as_the_table_says)
{
    static struct txn_rig r;
    for (uint32_t event = 0; event < EVENTS; event++) {
        for (uint32_t row = 0; row < ROWS_COUNT; row++) {
            rig_init(&r);
            struct rig_answer who = bring(&r, rows[row]);
            uint32_t handed_over = r.handed_over;
            const struct outcome *wanted = &table[event][row];
            enum txn_state state = wanted->state == SAME ? rows[row] : wanted->state;
            enum kafka_error error = happen(&r, (enum event)event, who);
            cr_expect_eq(error, wanted->error, "event %u in state %d: %s", event, rows[row],
                         kafka_error_name(error));
            cr_expect_eq(rig_state(&r, ID), state, "event %u in state %d: now %d", event, rows[row],
                         rig_state(&r, ID));
            bool decided =
                wanted->state == TXN_PREPARE_COMMIT || wanted->state == TXN_PREPARE_ABORT;
            cr_expect_eq(r.handed_over - handed_over, decided ? 1 : 0);
            expect_same_after_load(&r);
            rig_end(&r);
        }
    }
}

/* ---- epochs and ids -------------------------------------------------------------------------- */

Test(txn_state, an_end_of_version_1_keeps_the_epoch)
{
    static struct txn_rig r;
    rig_init(&r);
    struct rig_answer who = rig_begin(&r, ID);
    cr_assert_eq(rig_add(&r, ID, who.id, who.epoch, 0, 0), KE_NONE);
    struct rig_answer end = rig_finish(&r, ID, who.id, who.epoch, true, 4);
    cr_expect_eq(end.error, KE_NONE);
    cr_expect_eq(end.id, -1);
    cr_expect_eq(end.epoch, -1);
    rig_mark(&r, ID);
    cr_expect_eq(rig_find(&r, ID)->now.epoch, who.epoch);
    cr_expect_eq(rig_add(&r, ID, who.id, who.epoch, 0, 0), KE_NONE);
    rig_end(&r);
}

Test(txn_state, an_end_of_version_2_raises_the_epoch_and_says_so_again)
{
    static struct txn_rig r;
    rig_init(&r);
    struct rig_answer who = rig_begin(&r, ID);
    cr_assert_eq(rig_add(&r, ID, who.id, who.epoch, 0, 2), KE_NONE);
    struct rig_answer end = rig_finish(&r, ID, who.id, who.epoch, true, 5);
    cr_expect_eq(end.error, KE_NONE);
    cr_expect_eq(end.id, who.id);
    cr_expect_eq(end.epoch, who.epoch + 1);
    rig_mark(&r, ID);
    struct rig_answer again = rig_finish(&r, ID, who.id, who.epoch, true, 5);
    cr_expect_eq(again.error, KE_NONE);
    cr_expect_eq(again.id, end.id);
    cr_expect_eq(again.epoch, end.epoch);
    cr_expect_eq(rig_add(&r, ID, who.id, who.epoch, 0, 2), KE_PRODUCER_FENCED);
    rig_end(&r);
}

Test(txn_state, an_init_that_was_not_heard_is_answered_as_before)
{
    static struct txn_rig r;
    rig_init(&r);
    struct rig_answer who = rig_begin(&r, ID);
    struct rig_answer one = rig_begin_as(&r, ID, who.id, who.epoch, 5);
    struct rig_answer two = rig_begin_as(&r, ID, who.id, who.epoch, 5);
    cr_expect_eq(one.error, KE_NONE);
    cr_expect_eq(one.epoch, who.epoch + 1);
    cr_expect_eq(two.error, KE_NONE);
    cr_expect_eq(two.epoch, one.epoch);
    (void)rig_begin(&r, ID); /* another one has come: the first is fenced */
    cr_expect_eq(rig_begin_as(&r, ID, who.id, who.epoch, 5).error, KE_PRODUCER_FENCED);
    cr_expect_eq(rig_begin_as(&r, ID, who.id, who.epoch, 3).error, KE_INVALID_PRODUCER_EPOCH);
    rig_end(&r);
}

/* Raises the epoch of an empty id to 32765 as its producers would. */
static struct rig_answer nearly_used_up(struct txn_rig *r)
{
    struct rig_answer who = rig_begin(r, ID);
    rig_find(r, ID)->now.epoch = INT16_MAX - 3;
    who = rig_begin(r, ID);
    cr_assert_eq(who.epoch, INT16_MAX - 2);
    return who;
}

Test(txn_state, a_producer_whose_epochs_are_used_up_gets_a_new_id)
{
    static struct txn_rig r;
    rig_init(&r);
    struct rig_answer who = nearly_used_up(&r);
    struct rig_answer last = rig_begin_as(&r, ID, who.id, who.epoch, 5);
    cr_expect_eq(last.id, who.id);
    cr_expect_eq(last.epoch, INT16_MAX - 1);
    struct rig_answer next = rig_begin_as(&r, ID, who.id, last.epoch, 5);
    cr_expect_eq(next.error, KE_NONE);
    cr_expect_neq(next.id, who.id);
    cr_expect_eq(next.epoch, 0);
    struct rig_answer again = rig_begin_as(&r, ID, who.id, last.epoch, 5);
    cr_expect_eq(again.error, KE_NONE);
    cr_expect_eq(again.id, next.id);
    cr_expect_eq(again.epoch, 0);
    cr_expect_eq(rig_begin_as(&r, ID, who.id, who.epoch, 5).error, KE_PRODUCER_FENCED);
    expect_same_after_load(&r);
    rig_end(&r);
}

Test(txn_state, a_transaction_at_the_last_epoch_goes_on_to_a_new_id_also_after_a_load)
{
    static struct txn_rig r, loaded;
    rig_init(&r);
    struct rig_answer who = nearly_used_up(&r);
    who = rig_begin(&r, ID);
    cr_assert_eq(who.epoch, INT16_MAX - 1);
    cr_assert_eq(rig_add(&r, ID, who.id, who.epoch, 0, 2), KE_NONE);
    struct rig_answer end = rig_finish(&r, ID, who.id, who.epoch, true, 5);
    cr_expect_eq(end.error, KE_NONE);
    cr_expect_neq(end.id, who.id);
    cr_expect_eq(end.epoch, 0);
    cr_expect_eq(rig_find(&r, ID)->now.epoch, INT16_MAX); /* of the marker */
    cr_expect_eq(rig_find(&r, ID)->now.producer_id, who.id);
    rig_load(&loaded, &r);
    rig_mark(&loaded, ID);
    cr_expect_eq(rig_find(&loaded, ID)->now.producer_id, end.id);
    cr_expect_eq(rig_find(&loaded, ID)->now.epoch, 0);
    struct rig_answer again = rig_finish(&loaded, ID, who.id, who.epoch, true, 5);
    cr_expect_eq(again.error, KE_NONE);
    cr_expect_eq(again.id, end.id);
    cr_expect_eq(again.epoch, 0);
    cr_expect_eq(rig_finish(&loaded, ID, who.id, who.epoch, false, 5).error, KE_INVALID_TXN_STATE);
    rig_end(&loaded);
    rig_end(&r);
}

Test(txn_state, no_epoch_is_above_the_highest)
{
    static struct txn_rig r;
    rig_init(&r);
    struct rig_answer who = nearly_used_up(&r);
    who = rig_begin(&r, ID);
    cr_assert_eq(rig_add(&r, ID, who.id, who.epoch, 0, 2), KE_NONE);
    cr_expect_eq(rig_begin(&r, ID).error, KE_CONCURRENT_TRANSACTIONS); /* fences with 32767 */
    rig_mark(&r, ID);
    cr_expect_eq(rig_find(&r, ID)->now.epoch, INT16_MAX);
    cr_expect_eq(rig_add(&r, ID, who.id, INT16_MAX, 0, 2), KE_PRODUCER_FENCED);
    struct rig_answer end = rig_finish(&r, ID, who.id, INT16_MAX, false, 5);
    cr_expect_eq(end.error, KE_NONE);
    cr_expect_eq(rig_find(&r, ID)->now.epoch, INT16_MAX);
    rig_mark(&r, ID);
    cr_expect_eq(rig_find(&r, ID)->now.epoch, 0);
    cr_expect_eq(rig_find(&r, ID)->now.producer_id, end.id);
    rig_end(&r);
}

/* ---- fencing --------------------------------------------------------------------------------- */

Test(txn_state, a_second_producer_fences_the_first_and_is_served_when_its_transaction_is_aborted)
{
    for (int16_t version = 0; version <= 2; version++) {
        static struct txn_rig r;
        rig_init(&r);
        r.shard.version = version;
        struct rig_answer who = rig_begin(&r, ID);
        cr_assert_eq(rig_add(&r, ID, who.id, who.epoch, 0, 0), KE_NONE);
        cr_expect_eq(rig_begin(&r, ID).error, KE_CONCURRENT_TRANSACTIONS);
        cr_expect_eq(rig_begin(&r, ID).error, KE_CONCURRENT_TRANSACTIONS);
        cr_expect_eq(rig_state(&r, ID), TXN_PREPARE_ABORT);
        cr_expect_eq(rig_find(&r, ID)->now.client_version, version == 2 ? 2 : 0);
        rig_mark(&r, ID);
        struct rig_answer next = rig_begin(&r, ID);
        cr_expect_eq(next.error, KE_NONE);
        cr_expect_eq(next.epoch, who.epoch + 2);
        cr_expect_eq(rig_add(&r, ID, who.id, who.epoch, 0, 0), KE_PRODUCER_FENCED);
        if (version > 0) /* version 0 of the value has no ids of before */
            expect_same_after_load(&r);
        rig_end(&r);
    }
}

Test(txn_state, old_clients_hear_of_fencing_in_words_they_know)
{
    static struct txn_rig r;
    rig_init(&r);
    struct rig_answer who = rig_begin(&r, ID);
    (void)rig_begin(&r, ID);
    cr_expect_eq(rig_finish(&r, ID, who.id, who.epoch, true, 1).error, KE_INVALID_PRODUCER_EPOCH);
    cr_expect_eq(rig_finish(&r, ID, who.id, who.epoch, true, 2).error, KE_PRODUCER_FENCED);
    cr_expect_eq(rig_begin_as(&r, ID, who.id, who.epoch, 3).error, KE_INVALID_PRODUCER_EPOCH);
    cr_expect_eq(rig_begin_as(&r, ID, who.id, who.epoch, 4).error, KE_PRODUCER_FENCED);
    rig_end(&r);
}

/* ---- waiting --------------------------------------------------------------------------------- */

struct waiting {
    struct txn_call call;
    struct txn_add add;
    struct txn_ask_partition partition;
    uint32_t answered;
};

static void waiting_answered(struct txn_call *call)
{
    container_of(call, struct waiting, call)->answered++;
}

/* An add while the transaction before is ending. */
static void wait_at(struct txn_rig *r, struct waiting *w, struct rig_answer who, int32_t partition)
{
    *w = (struct waiting){.partition = {.topic = wire_string_of("t"), .partition = partition},
                          .add = {.id = wire_string_of(ID),
                                  .producer_id = who.id,
                                  .epoch = who.epoch,
                                  .client_version = 2,
                                  .partitions = &w->partition,
                                  .partitions_count = 1},
                          .call = {.item.kind = TXN_ADD,
                                   .spare_id = -1,
                                   .request = &w->add,
                                   .answered = waiting_answered}};
    txn_shard_call(&r->shard, &w->call);
    rig_take(&r->shard);
    cr_assert_eq(w->answered, 0);
}

Test(txn_state, who_adds_while_the_transaction_before_ends_is_served_when_it_has_ended)
{
    static struct txn_rig r;
    struct waiting a, b, stranger;
    rig_init(&r);
    struct rig_answer who = bring(&r, TXN_PREPARE_COMMIT);
    wait_at(&r, &a, who, 3);
    rig_pass(&r, 50);
    wait_at(&r, &b, who, 4);
    wait_at(&r, &stranger, (struct rig_answer){KE_NONE, who.id + STRANGER, 0}, 5);
    rig_mark(&r, ID);
    cr_expect_eq(a.answered + b.answered + stranger.answered, 3);
    cr_expect_eq(a.partition.error, KE_NONE);
    cr_expect_eq(b.partition.error, KE_NONE);
    cr_expect_eq(stranger.partition.error, KE_INVALID_PRODUCER_ID_MAPPING);
    cr_expect_eq(rig_state(&r, ID), TXN_ONGOING);
    cr_expect_eq(rig_find(&r, ID)->partitions_count, 2);
    rig_pass(&r, 1000);
    cr_expect_eq(a.answered, 1);
    expect_same_after_load(&r);
    rig_end(&r);
}

Test(txn_state, nobody_waits_longer_than_configured)
{
    static struct txn_rig r;
    struct waiting a, b, c;
    rig_init(&r);
    struct rig_answer who = bring(&r, TXN_PREPARE_ABORT);
    wait_at(&r, &a, who, 3);
    rig_pass(&r, 60);
    wait_at(&r, &b, who, 4);
    rig_pass(&r, 39);
    cr_expect_eq(a.answered, 0);
    rig_pass(&r, 2);
    cr_expect_eq(a.answered, 1);
    cr_expect_eq(a.partition.error, KE_CONCURRENT_TRANSACTIONS);
    cr_expect_eq(b.answered, 0);
    rig_pass(&r, 60);
    cr_expect_eq(b.answered, 1);
    cr_expect_eq(b.partition.error, KE_CONCURRENT_TRANSACTIONS);
    wait_at(&r, &c, who, 5); /* who waits when the shard is closed is sent elsewhere */
    rig_end(&r);
    cr_expect_eq(c.answered, 1);
    cr_expect_eq(c.partition.error, KE_NOT_COORDINATOR);
}

/* ---- what is refused before it is asked ------------------------------------------------------ */

static enum kafka_error checked(struct txn_rig *r, const char *id, int32_t timeout_ms,
                                int64_t producer_id, bool two_phases, bool keep)
{
    struct init_producer_id_request q;
    init_producer_id_request_init(&q);
    q.transactional_id = wire_string_of(id);
    q.transaction_timeout_ms = timeout_ms;
    q.producer_id = producer_id;
    q.enable2_pc = two_phases;
    q.keep_prepared_txn = keep;
    struct txn_call call = {.item.kind = TXN_INIT, .request = &q};
    return txn_call_check(&r->config, &call);
}

Test(txn_state, an_init_that_cannot_be_is_refused)
{
    static struct txn_rig r;
    rig_init(&r);
    cr_expect_eq(checked(&r, "x", 900000, -1, false, false), KE_NONE);
    cr_expect_eq(checked(&r, "x", 900001, -1, false, false), KE_INVALID_TRANSACTION_TIMEOUT);
    cr_expect_eq(checked(&r, "x", 0, -1, false, false), KE_INVALID_TRANSACTION_TIMEOUT);
    cr_expect_eq(checked(&r, "", 1000, -1, false, false), KE_INVALID_REQUEST);
    cr_expect_eq(checked(&r, "x", 1000, 5, false, false), KE_INVALID_REQUEST);
    cr_expect_eq(checked(&r, "x", 1000, -1, true, false), KE_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    cr_expect_eq(checked(&r, "x", 1000, -1, false, true), KE_UNSUPPORTED_VERSION);
    r.config.transaction_two_phase_commit_enable = true;
    cr_expect_eq(checked(&r, "x", 900001, -1, true, false), KE_NONE);
    rig_end(&r);
}

/* ---- memory ---------------------------------------------------------------------------------- */

Test(txn_state, an_idle_id_takes_at_most_400_bytes)
{
    static struct txn_rig r;
    char id[32];
    rig_init(&r);
    uint64_t before = r.mem.used_bytes;
    for (uint32_t i = 0; i < 400; i++) {
        (void)snprintf(id, sizeof(id), "an-id-of-some-name-%u", i);
        cr_assert_eq(rig_begin(&r, id).error, KE_NONE);
    }
    uint64_t each = (r.mem.used_bytes - before) / 400;
    cr_assert_leq(each, 400, "%lu", each);
    rig_end(&r);
}

Test(txn_state, over_budget_the_coordinator_is_not_available_and_nothing_is_left)
{
    static struct txn_rig r;
    rig_init(&r);
    struct rig_answer before = rig_begin(&r, "before");
    cr_assert_eq(before.error, KE_NONE);
    uint64_t budget = r.mem.budget_bytes, used = r.mem.used_bytes;
    enum kafka_error error = KE_COORDINATOR_NOT_AVAILABLE;
    for (uint64_t room = 0; error != KE_NONE; room += 16) {
        cr_assert_lt(room, 1 << 20);
        r.mem.budget_bytes = used + room;
        error = rig_begin(&r, "new").error;
        r.mem.budget_bytes = budget;
        cr_assert(error == KE_NONE || error == KE_COORDINATOR_NOT_AVAILABLE, "%s",
                  kafka_error_name(error));
        cr_assert(error == KE_NONE || rig_find(&r, "new") == NULL);
    }
    error = KE_COORDINATOR_NOT_AVAILABLE;
    used = r.mem.used_bytes;
    for (uint64_t room = 0; error != KE_NONE; room += 16) {
        cr_assert_lt(room, 1 << 20);
        r.mem.budget_bytes = used + room;
        error = rig_add(&r, "before", before.id, before.epoch, 0, 0);
        r.mem.budget_bytes = budget;
        cr_assert(error == KE_NONE || error == KE_COORDINATOR_NOT_AVAILABLE, "%s",
                  kafka_error_name(error));
    }
    rig_end(&r);
}

Test(txn_memory, a_crowd_of_ids_leaves_the_last_of_it_to_those_that_are_there)
{
    static struct txn_rig r;
    char id[32] = "0";
    rig_init(&r);
    struct rig_answer first = rig_begin(&r, id), last = first;
    r.mem.budget_bytes = r.mem.used_bytes + (1u << 20);
    for (uint32_t made = 1; made < 10000 && last.error == KE_NONE; made++) {
        (void)snprintf(id, sizeof(id), "%u", made);
        last = rig_begin(&r, id);
    }
    cr_assert_eq(last.error, KE_COORDINATOR_NOT_AVAILABLE);
    cr_assert_null(rig_find(&r, id));
    cr_assert_gt(r.mem.budget_bytes - r.mem.used_bytes, r.mem.budget_bytes / 10);
    cr_assert_eq(rig_begin(&r, "0").error, KE_NONE);
    cr_assert_eq(rig_add(&r, "0", first.id, (int16_t)(first.epoch + 1), 0, 2), KE_NONE);
    rig_end(&r);
}
