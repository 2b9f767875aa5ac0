/* What a log's memory of its producers costs, what it keeps when there is no more of it, and that
 * a snapshot says all of it. */
#include "tests/broker/log_rig.h"

#include "broker/log/log_priv.h"
#include "broker/log/producer.h"

#define PRODUCERS 3000

static struct log *start(struct log_rig *r)
{
    log_rig_start(r);
    log_rig_open(r);
    log_rig_serve(r);
    return log_rig_log(r, 1, NULL);
}

static void end(struct log_rig *r)
{
    log_rig_stop(r);
    log_rig_end(r);
}

/* The producer's next batch of one record, at this offset, as if it were found on disk. */
static int learn(struct log *l, int64_t id, int32_t sequence, int64_t offset, bool transactional)
{
    static const uint8_t bytes[BATCH_HEADER_SIZE];
    struct batch_header h = batch_header_plain(0);
    h.base_offset = offset;
    h.size = sizeof(bytes);
    h.record_count = 1;
    h.max_timestamp = 1000 + offset;
    h.producer_id = id;
    h.producer_epoch = 0;
    h.base_sequence = sequence;
    h.attributes = transactional ? BATCH_TRANSACTIONAL : 0;
    return producer_learn(l, &h, bytes, sizeof(bytes));
}

static bool known(const struct log *l, int64_t id)
{
    int64_t last;
    int16_t epoch;
    return producer_last(l, id, &last, &epoch);
}

static uint32_t count_known(const struct log *l, int64_t ids)
{
    uint32_t count = 0;
    for (int64_t id = 0; id < ids; id++)
        count += known(l, id);
    return count;
}

Test(log_producers, one_takes_100_bytes_after_a_batch_and_at_most_200_ever)
{
    struct log_rig r;
    struct log *l = start(&r);
    uint64_t before = r.io.mem.used_bytes;
    for (int32_t batch = 0; batch < 8; batch++) {
        for (int64_t id = 0; id < PRODUCERS; id++)
            cr_assert_eq(learn(l, id, batch, batch * PRODUCERS + id, false), 0);
        uint64_t each = (r.io.mem.used_bytes - before) / PRODUCERS;
        cr_assert_leq(each, batch == 0 ? 100 : 200, "%lu after %d", each, batch + 1);
    }
    producers_free(l);
    cr_assert_eq(r.io.mem.used_bytes, before);
    end(&r);
}

Test(log_producers, over_budget_the_one_silent_longest_is_forgotten)
{
    struct log_rig r;
    struct log *l = start(&r);
    uint64_t budget = r.io.mem.budget_bytes;
    cr_assert_eq(learn(l, 0, 0, 0, true), 0); /* its transaction is open: it stays */
    for (int64_t id = 1; id < 100; id++)
        cr_assert_eq(learn(l, id, 0, id, false), 0);
    r.io.mem.budget_bytes = r.io.mem.used_bytes;
    for (int64_t id = 100; id < 150; id++) {
        cr_assert_eq(learn(l, id, 0, id, false), 0);
        cr_assert(known(l, id));
    }
    cr_assert(known(l, 0));
    for (int64_t id = 1; id <= 50; id++)
        cr_assert(!known(l, id), "%ld", (long)id);
    cr_assert_eq(count_known(l, 150), 100);
    cr_assert_eq(learn(l, 149, 1, 150, false), 0); /* a second batch needs memory too */
    cr_assert(known(l, 149) && !known(l, 51));
    r.io.mem.budget_bytes = budget;
    end(&r);
}

Test(log_producers, without_memory_and_anyone_to_forget_the_append_is_refused)
{
    struct log_rig r;
    struct log *l = start(&r);
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.records = 1)), KE_NONE);
    uint64_t budget = r.io.mem.budget_bytes;
    r.io.mem.budget_bytes = r.io.mem.used_bytes;
    struct batch_spec spec = BATCH_SPEC(.idempotent = true, .producer_id = 7);
    cr_assert_eq(log_rig_put(&r, l, spec), KE_KAFKA_STORAGE_ERROR);
    cr_assert_eq(log_end_offset(l), 1);
    cr_assert(!known(l, 7));
    r.io.mem.budget_bytes = budget;
    cr_assert_eq(log_rig_put(&r, l, spec), KE_NONE);
    cr_assert(known(l, 7));
    end(&r);
}

Test(log_producers, a_snapshot_says_windows_of_every_length_and_open_transactions)
{
    struct log_rig r;
    struct log *l = start(&r);
    int64_t offset = 0;
    uint32_t size, again_size;
    for (int64_t id = 0; id < 40; id++)
        for (int32_t batch = 0; batch <= id % 7; batch++)
            cr_assert_eq(learn(l, id, batch, offset++, id % 3 == 0), 0);
    uint8_t *first = producers_encode(l, offset, &size);
    int64_t unstable = producers_first_unstable(l);
    cr_assert_not_null(first);
    cr_assert_eq(unstable, 0);
    cr_assert(!producers_decode(l, offset - 1, first, size), "it tells of what came later");
    cr_assert(producers_decode(l, offset, first, size));
    uint8_t *again = producers_encode(l, offset, &again_size);
    cr_assert_not_null(again);
    cr_assert_eq(again_size, size);
    cr_assert_arr_eq(again, first, size);
    cr_assert_eq(producers_first_unstable(l), unstable);
    mem_free(l->core->mem, first, size);
    mem_free(l->core->mem, again, size);
    end(&r);
}

Test(log_producers, a_snapshot_that_finds_no_memory_leaves_nothing_behind)
{
    struct log_rig r;
    struct log *l = start(&r);
    uint32_t size;
    for (int64_t id = 0; id < 20; id++)
        for (int32_t batch = 0; batch <= id % 6; batch++)
            cr_assert_eq(learn(l, id, batch, id * 10 + batch, id % 2 == 0), 0);
    uint8_t *snapshot = producers_encode(l, 1000, &size);
    cr_assert_not_null(snapshot);
    producers_free(l);
    uint64_t budget = r.io.mem.budget_bytes, used = r.io.mem.used_bytes;
    for (uint64_t room = 0; room < 6000; room += 16) {
        r.io.mem.budget_bytes = used + room;
        if (!producers_decode(l, 1000, snapshot, size))
            cr_assert_eq(r.io.mem.used_bytes, used);
        producers_free(l);
        cr_assert_eq(r.io.mem.used_bytes, used);
    }
    r.io.mem.budget_bytes = budget;
    cr_assert(producers_decode(l, 1000, snapshot, size));
    cr_assert_eq(count_known(l, 20), 20);
    mem_free(l->core->mem, snapshot, size);
    end(&r);
}
