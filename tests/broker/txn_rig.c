/* The rig behind the tests of transactions: a shard in virtual time, see txn_rig.h. */
#include "tests/broker/txn_rig.h"

#include <criterion/criterion.h>

static uint8_t *rig_keep(struct txn_rig *r, struct batch_field field)
{
    if (field.data == NULL)
        return NULL;
    uint8_t *copy = arena_copy(&r->arena, field.data, field.size);
    cr_assert(copy != NULL);
    return copy;
}

void rig_take(struct txn_shard *s)
{
    struct txn_rig *r = s->context;
    LIST_EACH(l, &s->update.records)
    {
        const struct shard_record *from = container_of(l, struct shard_record, link);
        cr_assert_lt(r->log_count, RIG_RECORDS_MAX);
        r->log[r->log_count++] = (struct rig_record){.key = rig_keep(r, from->key),
                                                     .key_size = from->key.size,
                                                     .value = rig_keep(r, from->value),
                                                     .value_size = from->value.size};
    }
    shard_update_taken(&s->update);
    struct list *l;
    while ((l = list_pop_front(&s->update.answered)) != NULL) {
        struct txn_item *item = container_of(l, struct txn_item, link);
        if (item->kind == TXN_ENDING) {
            r->handed_over++;
            continue;
        }
        struct txn_call *call = container_of(item, struct txn_call, item);
        call->answered(call);
    }
}

static void rig_start(struct txn_rig *r)
{
    memset(r, 0, sizeof(*r));
    cr_assert_eq(mem_init(&r->mem, 64u << 20), 0);
    cr_assert_eq(mem_init(&r->test_mem, 512u << 20), 0);
    arena_init(&r->arena, &r->test_mem, 256u << 20);
    r->now_ns = 1000 * NS_PER_S;
    r->wall_ms = 1700000000000;
    wheel_init(&r->wheel, r->now_ns);
    r->config.add_partitions_to_txn_retry_backoff_max_ms = 100;
    r->config.transaction_max_timeout_ms = 900000;
    r->config.transactional_id_expiration_ms = 604800000;
    r->config.transaction_abort_timed_out_transaction_cleanup_interval_ms = 10000;
    r->config.transaction_remove_expired_transaction_cleanup_interval_ms = 3600000;
    r->shard = (struct txn_shard){.mem = &r->mem,
                                  .wheel = &r->wheel,
                                  .now_ns = &r->now_ns,
                                  .wall_ms = &r->wall_ms,
                                  .config = &r->config,
                                  .batch_bytes_max = 1048588,
                                  .version = 2,
                                  .changed = rig_take,
                                  .context = r};
    txn_shard_init(&r->shard, 7);
}

void rig_init(struct txn_rig *r)
{
    rig_start(r);
    txn_shard_loaded(&r->shard);
}

void rig_load(struct txn_rig *r, const struct txn_rig *from)
{
    rig_start(r);
    r->config = from->config;
    r->now_ns = from->now_ns;
    r->wall_ms = from->wall_ms;
    r->next_id = from->next_id;
    r->shard.version = from->shard.version;
    wheel_init(&r->wheel, r->now_ns);
    for (uint32_t i = 0; i < from->log_count; i++) {
        const struct rig_record *l = &from->log[i];
        cr_assert(txn_shard_replay(&r->shard, (struct batch_field){l->key, l->key_size},
                                   (struct batch_field){l->value, l->value_size}));
    }
    txn_shard_loaded(&r->shard);
    rig_take(&r->shard);
}

void rig_end(struct txn_rig *r)
{
    txn_shard_close(&r->shard, KE_NOT_COORDINATOR);
    rig_take(&r->shard);
    cr_assert_eq(r->wheel.armed_count, 0);
    cr_assert_eq(r->mem.used_bytes, 0);
    arena_release(&r->arena);
    cr_assert_eq(r->test_mem.used_bytes, 0);
    mem_destroy(&r->mem);
    mem_destroy(&r->test_mem);
}

void rig_pass(struct txn_rig *r, int32_t ms)
{
    uint64_t passed = (uint32_t)ms;
    r->now_ns += passed * NS_PER_MS;
    r->wall_ms += ms;
    (void)wheel_run(&r->wheel, r->now_ns, 1000);
}

/* ---- calls ----------------------------------------------------------------------------------- */

struct rig_call {
    struct txn_call call;
    bool answered;
};

static void rig_answered(struct txn_call *call)
{
    struct rig_call *c = container_of(call, struct rig_call, call);
    cr_assert(!c->answered);
    c->answered = true;
}

/* As who asks does it: what is refused before is, and a new producer id is given when it is wanted.
 */
static void rig_ask(struct txn_rig *r, enum txn_kind kind, int16_t version, const void *request,
                    void *response)
{
    struct rig_call *c = arena_array(&r->arena, 1, sizeof(*c));
    c->call = (struct txn_call){.item.kind = kind,
                                .version = version,
                                .spare_id = -1,
                                .request = request,
                                .response = response,
                                .arena = &r->arena,
                                .answered = rig_answered};
    enum kafka_error error = txn_call_check(&r->config, &c->call);
    if (error != KE_NONE) {
        txn_call_refuse(&c->call, error);
        return;
    }
    for (uint32_t i = 0; i < 2; i++) {
        c->answered = false;
        txn_shard_call(&r->shard, &c->call);
        rig_take(&r->shard);
        if (!c->answered) /* held, but not for ever */
            rig_pass(r, 100);
        cr_assert(c->answered);
        if (!c->call.wants_id)
            return;
        c->call.spare_id = r->next_id++;
    }
    cr_assert_fail("it wants a second id");
}

struct rig_answer rig_begin_as(struct txn_rig *r, const char *id, int64_t producer_id,
                               int16_t epoch, int16_t version)
{
    struct init_producer_id_request q;
    struct init_producer_id_response a;
    init_producer_id_request_init(&q);
    q.transactional_id = wire_string_of(id);
    q.transaction_timeout_ms = 60000;
    q.producer_id = producer_id;
    q.producer_epoch = epoch;
    rig_ask(r, TXN_INIT, version, &q, &a);
    return (struct rig_answer){(enum kafka_error)a.error_code, a.producer_id, a.producer_epoch};
}

struct rig_answer rig_begin(struct txn_rig *r, const char *id)
{
    return rig_begin_as(r, id, -1, -1, 5);
}

static enum kafka_error rig_add_or(struct txn_rig *r, bool verify_only, const char *id,
                                   int64_t producer_id, int16_t epoch, int32_t partition,
                                   int8_t client_version)
{
    struct txn_ask_partition p = {.topic = wire_string_of("t"), .partition = partition};
    struct txn_add q = {.id = wire_string_of(id),
                        .producer_id = producer_id,
                        .epoch = epoch,
                        .client_version = client_version,
                        .verify_only = verify_only,
                        .partitions = &p,
                        .partitions_count = 1};
    rig_ask(r, TXN_ADD, 4, &q, NULL);
    return p.error;
}

enum kafka_error rig_add(struct txn_rig *r, const char *id, int64_t producer_id, int16_t epoch,
                         int32_t partition, int8_t client_version)
{
    return rig_add_or(r, false, id, producer_id, epoch, partition, client_version);
}

enum kafka_error rig_verify(struct txn_rig *r, const char *id, int64_t producer_id, int16_t epoch,
                            int32_t partition)
{
    return rig_add_or(r, true, id, producer_id, epoch, partition, 0);
}

struct rig_answer rig_finish(struct txn_rig *r, const char *id, int64_t producer_id, int16_t epoch,
                             bool commit, int16_t version)
{
    struct end_txn_request q = {.transactional_id = wire_string_of(id),
                                .producer_id = producer_id,
                                .producer_epoch = epoch,
                                .committed = commit};
    struct end_txn_response a;
    rig_ask(r, TXN_END, version, &q, &a);
    return (struct rig_answer){(enum kafka_error)a.error_code, a.producer_id, a.producer_epoch};
}

struct txn *rig_find(struct txn_rig *r, const char *id)
{
    return map_get(&r->shard.txns, id, (uint32_t)strlen(id));
}

enum txn_state rig_state(struct txn_rig *r, const char *id)
{
    struct txn *t = rig_find(r, id);
    return t != NULL ? (enum txn_state)t->now.state.now : TXN_DEAD;
}

void rig_mark(struct txn_rig *r, const char *id)
{
    struct txn *t = rig_find(r, id);
    cr_assert(t != NULL);
    for (int32_t p = 0; p < 1000; p++)
        txn_partition_ended(t, wire_string_of("t"), p);
    cr_assert_eq(t->partitions_count, 0);
    cr_assert(txn_complete(t));
    rig_take(&r->shard);
}

struct describe_transactions_response_transaction_state *rig_describe(struct txn_rig *r,
                                                                      const char *id)
{
    struct describe_transactions_response_transaction_state *a =
        arena_array(&r->arena, 1, sizeof(*a));
    struct wire_string q = wire_string_of(id);
    rig_ask(r, TXN_DESCRIBE, 0, &q, a);
    return a;
}

struct list_transactions_response *rig_list(struct txn_rig *r, const struct txn_list *q)
{
    struct list_transactions_response *a = arena_array(&r->arena, 1, sizeof(*a));
    list_transactions_response_init(a);
    rig_ask(r, TXN_LIST, 2, q, a);
    return a;
}
