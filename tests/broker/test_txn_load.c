/* What is written is what Kafka writes, and loading it gives the same transactions again; what time
 * does to them; and ids as they are seen from outside. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "core/assert.h"
#include "tests/broker/txn_rig.h"

static void expect_hex(const uint8_t *data, uint32_t size, const char *hex)
{
    char text[2048];
    cr_assert_lt(size * 2, sizeof(text));
    text[0] = '\0';
    for (uint32_t i = 0; i < size; i++)
        (void)snprintf(text + i * 2, 3, "%02x", data[i]);
    cr_assert_str_eq(text, hex);
}

static void expect_record(struct txn_rig *r, uint32_t at, const char *key, const char *value)
{
    cr_assert_lt(at, r->log_count);
    expect_hex(r->log[at].key, r->log[at].key_size, key);
    cr_assert_eq(value == NULL, r->log[at].value == NULL);
    if (value != NULL)
        expect_hex(r->log[at].value, r->log[at].value_size, value);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static enum kafka_error add_to(struct txn_rig *r, const char *id, struct rig_answer who,
                               const char *topic, int32_t partition, int8_t client_version)
{
    struct txn_ask_partition p = {.topic = wire_string_of(topic), .partition = partition};
    struct txn_add q = {.id = wire_string_of(id),
                        .producer_id = who.id,
                        .epoch = who.epoch,
                        .client_version = client_version,
                        .partitions = &p,
                        .partitions_count = 1};
    struct txn_call call = {.item.kind = TXN_ADD, .spare_id = -1, .request = &q};
    txn_shard_call(&r->shard, &call);
    list_remove(&call.item.link);
    rig_take(&r->shard);
    return p.error;
}

static void complete(struct txn_rig *r, const char *id, const char *topic, int32_t partition)
{
    struct txn *t = rig_find(r, id);
    txn_partition_ended(t, wire_string_of(topic), partition);
    cr_assert(txn_complete(t));
    rig_take(&r->shard);
}

/* Keys and values as Apache Kafka 4.3.1 wrote them for librdkafka (no epoch is raised at the end)
 * at these times. */
Test(txn_load, transactions_of_version_1_are_written_as_kafka_writes_them)
{
    static struct txn_rig r;
    rig_init(&r);
    r.wall_ms = 0x1a1ff1954bb;
    struct rig_answer who = rig_begin(&r, "tid1");
    r.wall_ms = 0x1a1ff19576b;
    cr_assert_eq(add_to(&r, "tid1", who, "gt", 0, 0), KE_NONE);
    r.wall_ms = 0x1a1ff1958ff;
    cr_assert_eq(rig_finish(&r, "tid1", who.id, who.epoch, true, 4).error, KE_NONE);
    r.wall_ms = 0x1a1ff19594e;
    complete(&r, "tid1", "gt", 0);
    cr_assert_eq(r.log_count, 4);
    const char *key = "00000004"
                      "74696431";
    expect_record(&r, 0, key,
                  "0001000000000000000000000000ea600000000001a1ff1954bbffffffffffffffff"
                  "0100080000000000000000");
    expect_record(&r, 1, key,
                  "0001000000000000000000000000ea600102036774020000000000000001a1ff19576b000001a1ff"
                  "19576b0100080000000000000000");
    expect_record(&r, 2, key,
                  "0001000000000000000000000000ea600202036774020000000000000001a1ff1958ff000001a1ff"
                  "19576b0100080000000000000000");
    expect_record(&r, 3, key,
                  "0001000000000000000000000000ea600401000001a1ff19594e000001a1ff19576b0100080000"
                  "000000000000");
    rig_end(&r);
}

/* The same for a Java producer of Kafka 4.3. */
Test(txn_load, transactions_of_version_2_are_written_as_kafka_writes_them)
{
    static struct txn_rig r;
    rig_init(&r);
    r.next_id = 1;
    r.wall_ms = 0x1a1ff197680;
    struct rig_answer who = rig_begin(&r, "jt");
    r.wall_ms = 0x1a1ff197882;
    cr_assert_eq(add_to(&r, "jt", who, "gt", 0, 2), KE_NONE);
    r.wall_ms = 0x1a1ff197912;
    who = rig_finish(&r, "jt", who.id, who.epoch, true, 5);
    r.wall_ms = 0x1a1ff19791a;
    complete(&r, "jt", "gt", 0);
    r.wall_ms = 0x1a1ff197956;
    cr_assert_eq(add_to(&r, "jt", who, "gt", 0, 2), KE_NONE);
    cr_assert_eq(r.log_count, 5);
    const char *key = "00000002"
                      "6a74";
    expect_record(&r, 0, key,
                  "0001000000000000000100000000ea600000000001a1ff197680ffffffffffffffff"
                  "0100080000000000000001");
    expect_record(&r, 1, key,
                  "0001000000000000000100000000ea600102036774020000000000000001a1ff197882000001a1ff"
                  "197882020008000000000000000102020002");
    expect_record(&r, 2, key,
                  "0001000000000000000100010000ea600202036774020000000000000001a1ff197912000001a1ff"
                  "197882020008000000000000000102020002");
    expect_record(&r, 3, key,
                  "0001000000000000000100010000ea600401000001a1ff19791a000001a1ff1978820200080000"
                  "00000000000102020002");
    expect_record(&r, 4, key,
                  "0001000000000000000100010000ea600102036774020000000000000001a1ff197956000001a1ff"
                  "197956020008000000000000000102020002");
    rig_end(&r);
}

Test(txn_load, a_cluster_of_transaction_version_0_has_values_of_version_0)
{
    static struct txn_rig r;
    rig_init(&r);
    r.shard.version = 0;
    r.wall_ms = 0x1a1ff1954bb;
    struct rig_answer who = rig_begin(&r, "tid1");
    /* int16 0, id, epoch, timeout, status, no partitions, two times */
    expect_record(&r, 0, "0000000474696431",
                  "0000000000000000000000000000ea6000ffffffff000001a1ff1954bbffffffffffffffff");
    /* a client that does not care is served, and what it knows more has no place in the log */
    cr_expect_eq(rig_add(&r, "tid1", who.id, who.epoch, 0, 2), KE_NONE);
    cr_expect_eq(rig_finish(&r, "tid1", who.id, who.epoch, true, 5).error, KE_NONE);
    rig_end(&r);
}

Test(txn_load, a_transaction_of_many_topics_is_as_one_of_few)
{
    static struct txn_rig r, loaded;
    char topic[32];
    rig_init(&r);
    struct rig_answer who = rig_begin(&r, "a");
    for (uint32_t i = 0; i < 60; i++) {
        (void)snprintf(topic, sizeof(topic), "topic-%u", i * 7 % 50);
        cr_assert_eq(add_to(&r, "a", who, topic, (int32_t)(i % 3), 2), KE_NONE);
    }
    cr_expect_eq(rig_find(&r, "a")->topics_count, 50);
    cr_expect_eq(rig_describe(&r, "a")->topics_count, 50);
    cr_assert_eq(rig_finish(&r, "a", who.id, who.epoch, true, 5).error, KE_NONE);
    rig_load(&loaded, &r);
    struct txn *t = rig_find(&loaded, "a");
    cr_expect_eq(t->topics_count, 50);
    cr_expect_eq(t->partitions_count, rig_find(&r, "a")->partitions_count);
    for (uint32_t i = 0; i < 150; i++) {
        (void)snprintf(topic, sizeof(topic), "topic-%u", i / 3);
        txn_partition_ended(t, wire_string_of(topic), (int32_t)(i % 3));
    }
    cr_assert_eq(t->partitions_count, 0);
    cr_expect(txn_complete(t));
    rig_take(&loaded.shard);
    cr_expect_eq(t->topics_count, 0);
    rig_end(&loaded);
    rig_end(&r);
}

/* ---- loading --------------------------------------------------------------------------------- */

Test(txn_load, what_was_about_to_end_is_handed_over_with_all_its_partitions)
{
    static struct txn_rig r, loaded;
    rig_init(&r);
    struct rig_answer who = rig_begin(&r, "a");
    for (int32_t p = 0; p < 3; p++)
        cr_assert_eq(rig_add(&r, "a", who.id, who.epoch, p, 2), KE_NONE);
    cr_assert_eq(rig_finish(&r, "a", who.id, who.epoch, true, 5).error, KE_NONE);
    cr_expect_eq(r.handed_over, 1);
    txn_partition_ended(rig_find(&r, "a"), wire_string_of("t"), 1); /* one marker is durable */
    rig_load(&loaded, &r);
    cr_expect_eq(loaded.handed_over, 1);
    cr_expect_eq(rig_find(&loaded, "a")->partitions_count, 3);
    rig_mark(&loaded, "a");
    cr_expect_eq(rig_state(&loaded, "a"), TXN_COMPLETE_COMMIT);
    rig_end(&loaded);
    rig_end(&r);
}

Test(txn_load, an_id_that_was_forgotten_stays_so)
{
    static struct txn_rig r, loaded;
    rig_init(&r);
    (void)rig_begin(&r, "a");
    rig_pass(&r, 604700000);
    (void)rig_begin(&r, "b");
    cr_expect_not_null(rig_find(&r, "a"));
    rig_pass(&r, 3600000);
    cr_expect_null(rig_find(&r, "a"));
    cr_expect_not_null(rig_find(&r, "b"));
    expect_record(&r, r.log_count - 1, "0000000161", NULL);
    rig_load(&loaded, &r);
    cr_expect_null(rig_find(&loaded, "a"));
    cr_expect_not_null(rig_find(&loaded, "b"));
    rig_end(&loaded);
    rig_end(&r);
}

static bool replay_bytes(struct txn_rig *r, const char *key, size_t key_size, const char *value,
                         size_t value_size)
{
    return txn_shard_replay(&r->shard,
                            (struct batch_field){(const uint8_t *)key, (uint32_t)key_size},
                            (struct batch_field){(const uint8_t *)value, (uint32_t)value_size});
}

Test(txn_load, records_that_cannot_be_read_are_passed_over)
{
    static struct txn_rig r, loaded;
    rig_init(&r);
    (void)rig_begin(&r, "a");
    rig_load(&loaded, &r);
    loaded.shard.loaded = false;
    static const char key[] = "\0\0\0\1b", other[] = "\0\7\0\1b", noid[] = "\0\0\0\0";
    cr_expect(replay_bytes(&loaded, key, 5, "\0\1\2", 3));
    cr_expect(replay_bytes(&loaded, key, 5, "\0\x63zzzz", 6));
    cr_expect(replay_bytes(&loaded, key, 3, "\0\1", 2));
    cr_expect(replay_bytes(&loaded, other, 5, "\0\1", 2));
    cr_expect(replay_bytes(&loaded, noid, 4, "\0\1", 2));
    struct rig_record good = r.log[0];
    for (uint8_t status = TXN_DEAD; status < 10; status++) { /* states that no record has */
        uint8_t value[256];
        cr_assert_leq(good.value_size, sizeof(value));
        memcpy(value, good.value, good.value_size);
        value[16] = status;
        cr_expect(replay_bytes(&loaded, key, 5, (const char *)value, good.value_size));
    }
    loaded.shard.loaded = true;
    cr_expect_eq(loaded.shard.txns.count, 1);
    cr_expect_not_null(rig_find(&loaded, "a"));
    rig_end(&loaded);
    rig_end(&r);
}

/* ---- time ------------------------------------------------------------------------------------ */

Test(txn_load, only_transactions_that_take_too_long_are_aborted)
{
    static struct txn_rig r;
    rig_init(&r);
    struct rig_answer a = rig_begin(&r, "a"), b = rig_begin(&r, "b");
    cr_assert_eq(rig_add(&r, "a", a.id, a.epoch, 0, 2), KE_NONE);
    rig_pass(&r, 30000);
    cr_assert_eq(rig_add(&r, "b", b.id, b.epoch, 0, 2), KE_NONE);
    cr_assert_eq(rig_add(&r, "a", a.id, a.epoch, 1, 2), KE_NONE); /* does not begin anew */
    rig_pass(&r, 30001);
    rig_pass(&r, 10000);
    cr_expect_eq(rig_state(&r, "a"), TXN_PREPARE_ABORT);
    cr_expect_eq(rig_state(&r, "b"), TXN_ONGOING);
    cr_expect_eq(rig_finish(&r, "a", a.id, a.epoch, true, 4).error, KE_PRODUCER_FENCED);
    cr_expect_eq(rig_finish(&r, "b", b.id, b.epoch, true, 5).error, KE_NONE);
    rig_end(&r);
}

Test(txn_load, a_transaction_that_somebody_else_ends_takes_as_long_as_it_takes)
{
    static struct txn_rig r;
    rig_init(&r);
    struct rig_answer a = rig_begin(&r, "a");
    cr_assert_eq(rig_add(&r, "a", a.id, a.epoch, 0, 2), KE_NONE);
    rig_find(&r, "a")->now.timeout_ms = INT32_MAX;
    rig_pass(&r, 1000000000);
    rig_pass(&r, 1000000000);
    rig_pass(&r, 1000000000);
    cr_expect_eq(rig_state(&r, "a"), TXN_ONGOING);
    rig_end(&r);
}

/* ---- seen from outside ----------------------------------------------------------------------- */

Test(txn_load, a_transaction_is_described_with_its_partitions)
{
    static struct txn_rig r;
    rig_init(&r);
    struct rig_answer a = rig_begin(&r, "a");
    cr_assert_eq(rig_add(&r, "a", a.id, a.epoch, 9, 2), KE_NONE);
    cr_assert_eq(rig_add(&r, "a", a.id, a.epoch, 4, 2), KE_NONE);
    const struct describe_transactions_response_transaction_state *d = rig_describe(&r, "a");
    cr_expect_eq(d->error_code, KE_NONE);
    cr_expect(wire_string_equal(d->transaction_state, wire_string_of("Ongoing")));
    cr_expect_eq(d->transaction_start_time_ms, r.wall_ms);
    cr_expect_eq(d->transaction_timeout_ms, 60000);
    cr_assert_eq(d->topics_count, 1);
    cr_assert_eq(d->topics[0].partitions_count, 2);
    cr_expect_eq(d->topics[0].partitions[0], 4);
    cr_expect_eq(d->topics[0].partitions[1], 9);
    cr_expect_eq(rig_describe(&r, "b")->error_code, KE_TRANSACTIONAL_ID_NOT_FOUND);
    cr_expect_eq(rig_describe(&r, "")->error_code, KE_INVALID_REQUEST);
    rig_end(&r);
}

static bool is_b(void *pattern, struct wire_string id)
{
    (void)pattern;
    return wire_string_equal(id, wire_string_of("b"));
}

Test(txn_load, filters_choose_what_is_listed)
{
    static struct txn_rig r;
    rig_init(&r);
    struct rig_answer a = rig_begin(&r, "a"), b = rig_begin(&r, "b");
    cr_assert_eq(rig_add(&r, "b", b.id, b.epoch, 0, 2), KE_NONE);
    rig_pass(&r, 5000);
    struct list_transactions_request q;
    struct txn_list list = {.filters = &q};
    list_transactions_request_init(&q);
    cr_expect_eq(rig_list(&r, &list)->transaction_states_count, 2);
    struct wire_string state = wire_string_of("Ongoing");
    q.state_filters = &state;
    q.state_filters_count = 1;
    cr_assert_eq(rig_list(&r, &list)->transaction_states_count, 1);
    cr_expect_eq(rig_list(&r, &list)->transaction_states[0].producer_id, b.id);
    q.duration_filter = 4999;
    cr_expect_eq(rig_list(&r, &list)->transaction_states_count, 1);
    q.duration_filter = 5000;
    cr_expect_eq(rig_list(&r, &list)->transaction_states_count, 0);
    q.duration_filter = -1;
    q.state_filters_count = 0;
    q.producer_id_filters = &a.id;
    q.producer_id_filters_count = 1;
    cr_assert_eq(rig_list(&r, &list)->transaction_states_count, 1);
    cr_expect_eq(rig_list(&r, &list)->transaction_states[0].producer_id, a.id);
    state = wire_string_of("ongoing");
    q.producer_id_filters_count = 0;
    q.state_filters_count = 1;
    cr_expect_eq(rig_list(&r, &list)->transaction_states_count, 0);
    q.state_filters_count = 0;
    list.matches = is_b;
    cr_assert_eq(rig_list(&r, &list)->transaction_states_count, 1);
    cr_expect_eq(rig_list(&r, &list)->transaction_states[0].producer_id, b.id);
    cr_expect_not(txn_state_known(state));
    cr_expect(txn_state_known(wire_string_of("PrepareEpochFence")));
    rig_end(&r);
}

/* ---- memory ---------------------------------------------------------------------------------- */

Test(txn_load, an_idle_id_takes_less_than_a_kilobyte)
{
    static struct txn_rig r;
    char id[80];
    rig_init(&r);
    for (uint32_t i = 0; i < 1000; i++) {
        (void)snprintf(id, sizeof(id), "an-application-of-some-name-and-version-%08u-producer", i);
        struct rig_answer who = rig_begin(&r, id);
        cr_assert_eq(rig_add(&r, id, who.id, who.epoch, 0, 2), KE_NONE);
        cr_assert_eq(rig_finish(&r, id, who.id, who.epoch, true, 5).error, KE_NONE);
        rig_mark(&r, id);
    }
    cr_expect_lt(r.mem.used_bytes / 1000, 512);
    rig_end(&r);
}

Test(txn_load, over_the_budget_ids_are_refused_and_nothing_is_lost)
{
    static struct txn_rig r;
    char id[16];
    uint32_t refused = 0, kept = 0;
    rig_init(&r);
    r.mem.budget_bytes = r.mem.used_bytes + (256u << 10);
    for (uint32_t i = 0; i < 4000; i++) {
        (void)snprintf(id, sizeof(id), "id-%u", i);
        struct rig_answer who = rig_begin(&r, id);
        if (who.error == KE_NONE) {
            kept++;
            continue;
        }
        cr_assert_eq(who.error, KE_COORDINATOR_NOT_AVAILABLE);
        refused++;
    }
    cr_expect_gt(refused, 0);
    cr_expect_eq(r.shard.txns.count, kept);
    cr_expect_eq(rig_state(&r, "id-0"), TXN_EMPTY);
    r.mem.budget_bytes = 64u << 20;
    rig_end(&r);
}

Test(txn_load, a_transaction_too_large_for_its_record_is_refused_and_stays_as_it_was)
{
    static struct txn_rig r;
    rig_init(&r);
    struct rig_answer who = rig_begin(&r, "a");
    cr_assert_eq(rig_add(&r, "a", who.id, who.epoch, 0, 2), KE_NONE);
    r.shard.batch_bytes_max = 200;
    enum kafka_error error = KE_NONE;
    int32_t partition = 1;
    for (; partition < 100 && error == KE_NONE; partition++)
        error = rig_add(&r, "a", who.id, who.epoch, partition, 2);
    cr_assert_eq(error, KE_UNKNOWN_SERVER_ERROR);
    cr_expect_eq(rig_find(&r, "a")->partitions_count, (uint32_t)partition - 1);
    cr_expect_eq(rig_verify(&r, "a", who.id, who.epoch, partition - 1), KE_TRANSACTION_ABORTABLE);
    cr_expect_eq(rig_verify(&r, "a", who.id, who.epoch, partition - 2), KE_NONE);
    rig_end(&r);
}
