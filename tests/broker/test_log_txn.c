/* Transactions as a partition sees them: what is stable, what was aborted, who may write. */
#include "tests/broker/log_rig.h"

#include "broker/log/producer.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct log *start(struct log_rig *r, const struct topic_config *config)
{
    log_rig_open(r);
    struct log *l = log_rig_log(r, 1, config);
    log_rig_serve(r);
    return l;
}

enum end { KILLED, STOPPED, STOPPED_AND_DOUBTED };

/* Removes files of the partition by their suffix. */
static void remove_files(const struct log_rig *r, const char *suffix)
{
    char path[300], file[600];
    snprintf(path, sizeof(path), "%s/t1-0", r->dirs[0]);
    DIR *d = opendir(path);
    cr_assert_not_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        size_t name = strlen(e->d_name), tail = strlen(suffix);
        if (name < tail || strcmp(e->d_name + name - tail, suffix) != 0)
            continue;
        snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
        cr_assert_eq(unlink(file), 0);
    }
    closedir(d);
}

static struct log *restart(struct log_rig *r, const struct topic_config *config, enum end how)
{
    if (how == KILLED)
        log_rig_kill(r);
    else
        log_rig_stop(r);
    if (how == STOPPED_AND_DOUBTED) { /* then everything is found again in the batches */
        remove_files(r, ".txnindex");
        remove_files(r, ".snapshot");
    }
    r->config.clean_start = how == STOPPED;
    return start(r, config);
}

static enum kafka_error put(struct log_rig *r, struct log *l, int64_t id, int16_t epoch,
                            int32_t sequence, uint64_t guard)
{
    return log_rig_put(r, l,
                       BATCH_SPEC(.transactional = true, .producer_id = id, .producer_epoch = epoch,
                                  .base_sequence = sequence, .guard = guard));
}

static enum kafka_error mark(struct log_rig *r, struct log *l, int64_t id, bool commit)
{
    return log_rig_mark(r, l, MARKER_SPEC(.producer_id = id, .commit = commit));
}

/* How many aborted transactions, and the first of them. */
static uint32_t aborted(struct log_rig *r, struct log *l, int64_t from, int64_t upper,
                        struct log_aborted *first)
{
    struct log_aborted_list list = {0};
    cr_assert_eq(log_collect_aborted(l, from, upper, &list), KE_NONE);
    uint32_t count = list.count;
    if (count > 0 && first != NULL)
        *first = list.entries[0];
    log_aborted_list_free(r->core, &list);
    return count;
}

Test(log_txn, is_not_stable_before_its_marker_is_durable)
{
    struct log_rig r;
    log_rig_start(&r);
    struct log *l = start(&r, NULL);
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.records = 2)), KE_NONE);
    cr_assert_eq(put(&r, l, 7, 0, 0, 0), KE_NONE);
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.records = 1)), KE_NONE);
    cr_assert_eq(log_high_watermark(l), 4);
    cr_assert_eq(log_last_stable_offset(l), 2);
    struct log_read *read = calloc(1, sizeof(*read));
    *read = (struct log_read){.max_bytes = 100000, .isolation = LOG_READ_STABLE};
    log_rig_read(&r, l, read);
    cr_assert_eq(read->next_offset, 2);
    log_read_release(r.core, read);
    free(read);
    cr_assert_eq(mark(&r, l, 7, true), KE_NONE);
    cr_assert_eq(log_last_stable_offset(l), 5);
    cr_assert_eq(aborted(&r, l, 0, 5, NULL), 0);
    log_rig_stop(&r);
    log_rig_end(&r);
}

static uint32_t fired;

static void watch_fired(struct log_watch *w)
{
    (void)w;
    fired++;
}

Test(log_txn, wakes_who_waits_for_stable_records)
{
    struct log_rig r;
    log_rig_start(&r);
    struct log *l = start(&r, NULL);
    cr_assert_eq(put(&r, l, 7, 0, 0, 0), KE_NONE);
    struct log_watch w = {.offset = 0, .isolation = LOG_READ_STABLE, .fire = watch_fired};
    log_watch(l, &w);
    cr_assert_eq(put(&r, l, 7, 0, 1, 0), KE_NONE);
    cr_assert_eq(fired, 0);
    cr_assert_eq(mark(&r, l, 7, false), KE_NONE);
    LOG_UNTIL(&r, fired == 1);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_txn, tells_aborted_transactions_that_overlap_the_range)
{
    struct log_rig r;
    struct log_aborted first;
    log_rig_start(&r);
    struct log *l = start(&r, NULL);
    cr_assert_eq(put(&r, l, 7, 0, 0, 0), KE_NONE); /* 0 */
    cr_assert_eq(put(&r, l, 8, 0, 0, 0), KE_NONE); /* 1 */
    cr_assert_eq(mark(&r, l, 8, false), KE_NONE);  /* 2: 8 aborted, [1, 2] */
    cr_assert_eq(log_last_stable_offset(l), 0);
    cr_assert_eq(mark(&r, l, 7, false), KE_NONE); /* 3: 7 aborted, [0, 3] */
    cr_assert_eq(log_last_stable_offset(l), 4);
    cr_assert_eq(aborted(&r, l, 0, 4, &first), 2);
    cr_assert_eq(first.producer_id, 7); /* by where they began */
    cr_assert_eq(first.first_offset, 0);
    cr_assert_eq(aborted(&r, l, 0, 1, &first), 1);
    cr_assert_eq(aborted(&r, l, 3, 4, &first), 1);
    cr_assert_eq(first.producer_id, 7);
    cr_assert_eq(mark(&r, l, 9, false), KE_NONE); /* nothing was open: no entry */
    cr_assert_eq(aborted(&r, l, 4, 5, NULL), 0);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_txn, writes_the_index_as_kafka_does)
{
    static const uint8_t expected[2 * TXN_INDEX_ENTRY_SIZE] = {
        [9] = 8,  [17] = 1, [25] = 2, [33] = 0, /* 7 was still open at 0 */
        [43] = 7, [51] = 0, [59] = 3, [67] = 4};
    uint8_t found[2 * TXN_INDEX_ENTRY_SIZE + 1];
    char path[300];
    struct log_rig r;
    log_rig_start(&r);
    struct log *l = start(&r, NULL);
    cr_assert_eq(put(&r, l, 7, 0, 0, 0), KE_NONE);
    cr_assert_eq(put(&r, l, 8, 0, 0, 0), KE_NONE);
    cr_assert_eq(mark(&r, l, 8, false), KE_NONE);
    cr_assert_eq(mark(&r, l, 7, false), KE_NONE);
    log_rig_stop(&r);
    snprintf(path, sizeof(path), "%s/t1-0/00000000000000000000.txnindex", r.dirs[0]);
    FILE *f = fopen(path, "rb");
    cr_assert_not_null(f);
    cr_assert_eq(fread(found, 1, sizeof(found), f), sizeof(expected));
    fclose(f);
    cr_assert_arr_eq(found, expected, sizeof(expected));
    log_rig_end(&r);
}

Test(log_txn, refuses_what_is_of_the_past)
{
    struct log_rig r;
    log_rig_start(&r);
    struct log *l = start(&r, NULL);
    cr_assert_eq(put(&r, l, 7, 3, 0, 0), KE_NONE);
    struct marker_spec m = MARKER_SPEC(.producer_id = 7, .producer_epoch = 2);
    cr_assert_eq(log_rig_mark(&r, l, m), KE_INVALID_PRODUCER_EPOCH);
    m.producer_epoch = 3;
    m.version = 2; /* must be above the data's */
    cr_assert_eq(log_rig_mark(&r, l, m), KE_INVALID_PRODUCER_EPOCH);
    m.may_repeat = true; /* the transaction is open: it is none that was written before */
    cr_assert_eq(log_rig_mark(&r, l, m), KE_INVALID_PRODUCER_EPOCH);
    m.producer_epoch = 4;
    m.coordinator_epoch = 5;
    cr_assert_eq(log_rig_mark(&r, l, m), KE_NONE);
    int64_t end = log_end_offset(l);
    cr_assert_eq(log_rig_mark(&r, l, m), KE_NONE);
    cr_assert_eq(log_end_offset(l), end); /* it said the same */
    m.may_repeat = false;
    cr_assert_eq(log_rig_mark(&r, l, m), KE_INVALID_PRODUCER_EPOCH);
    m.producer_epoch = 5;
    m.coordinator_epoch = 4;
    cr_assert_eq(log_rig_mark(&r, l, m), KE_TRANSACTION_COORDINATOR_FENCED);
    cr_assert_eq(put(&r, l, 7, 3, 1, 0), KE_INVALID_PRODUCER_EPOCH);
    cr_assert_eq(put(&r, l, 7, 4, 1, 0), KE_OUT_OF_ORDER_SEQUENCE_NUMBER);
    cr_assert_eq(put(&r, l, 7, 4, 0, 0), KE_NONE);
    cr_assert_eq(log_rig_put(&r, l,
                             BATCH_SPEC(.idempotent = true, .producer_id = 7, .producer_epoch = 4,
                                        .base_sequence = 1)),
                 KE_INVALID_TXN_STATE);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_txn, takes_the_first_batch_only_when_it_was_verified)
{
    struct log_rig r;
    uint64_t guard, later;
    log_rig_start(&r);
    r.config.verify_transactions = true;
    struct log *l = start(&r, NULL);
    cr_assert_eq(put(&r, l, 7, 0, 0, 0), KE_INVALID_TXN_STATE);
    cr_assert(log_txn_begin(l, 7, 0, 3, false, &guard) && guard != 0);
    cr_assert_eq(mark(&r, l, 7, false), KE_NONE); /* it ended before the batch came */
    cr_assert_eq(put(&r, l, 7, 0, 0, guard), KE_INVALID_TXN_STATE);
    cr_assert(log_txn_begin(l, 7, 0, 0, false, &guard));
    cr_assert(log_txn_begin(l, 7, 0, 1, false, &later));
    cr_assert_eq(guard, later);
    cr_assert_eq(put(&r, l, 7, 0, 1, later), KE_OUT_OF_ORDER_SEQUENCE_NUMBER); /* 0 waits */
    cr_assert_eq(put(&r, l, 7, 0, 0, guard), KE_NONE);
    cr_assert(log_txn_begin(l, 7, 0, 1, false, &later));
    cr_assert_eq(later, 0); /* it is open */
    cr_assert_eq(put(&r, l, 7, 0, 1, 0), KE_NONE);
    cr_assert_eq(mark(&r, l, 7, true), KE_NONE);
    cr_assert(log_txn_begin(l, 9, 0, 1, true, &guard));
    log_txn_forget(l, 9, guard);
    cr_assert_eq(put(&r, l, 9, 0, 1, guard), KE_INVALID_TXN_STATE);
    cr_assert(log_txn_begin(l, 9, 0, 5, true, &guard)); /* version 2 begins at 0 */
    cr_assert_eq(put(&r, l, 9, 0, 5, guard), KE_OUT_OF_ORDER_SEQUENCE_NUMBER);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_txn, keeps_what_is_verified_for_the_next_transaction_when_the_marker_before_it_comes)
{
    struct log_rig r;
    uint64_t guard, next;
    log_rig_start(&r);
    r.config.verify_transactions = true;
    struct log *l = start(&r, NULL);
    cr_assert(log_txn_begin(l, 7, 0, 0, true, &guard));
    cr_assert_eq(put(&r, l, 7, 0, 0, guard), KE_NONE);
    cr_assert(log_txn_begin(l, 7, 1, 0, true, &next)); /* its coordinator lets it wait */
    struct marker_spec m =
        MARKER_SPEC(.producer_id = 7, .producer_epoch = 1, .version = 2, .commit = true);
    cr_assert_eq(log_rig_mark(&r, l, m), KE_NONE);
    cr_assert_eq(put(&r, l, 7, 1, 0, next), KE_NONE);
    m.producer_epoch = 3; /* who was fenced is not verified any more */
    m.commit = false;
    cr_assert(log_txn_begin(l, 8, 2, 0, true, &next));
    m.producer_id = 8;
    cr_assert_eq(log_rig_mark(&r, l, m), KE_NONE);
    cr_assert_eq(put(&r, l, 8, 2, 0, next), KE_INVALID_PRODUCER_EPOCH);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_txn, takes_a_marker_again_after_a_kill)
{
    struct log_rig r;
    struct topic_config config = log_rig_config();
    log_rig_start(&r);
    struct log *l = start(&r, &config);
    struct marker_spec m =
        MARKER_SPEC(.producer_id = 7, .producer_epoch = 4, .version = 2, .may_repeat = true);
    cr_assert_eq(put(&r, l, 7, 3, 0, 0), KE_NONE);
    l = restart(&r, &config, KILLED);
    cr_assert_eq(log_last_stable_offset(l), 0);
    cr_assert_eq(log_rig_mark(&r, l, m), KE_NONE);
    l = restart(&r, &config, KILLED);
    cr_assert_eq(log_last_stable_offset(l), 2);
    cr_assert_eq(log_rig_mark(&r, l, m), KE_NONE);
    cr_assert_eq(log_end_offset(l), 2);
    log_rig_stop(&r);
    log_rig_end(&r);
}

static void marker_done(struct log_append *a)
{
    a->done = NULL;
}

Test(log_txn, snapshots_say_nothing_of_a_marker_that_may_yet_be_lost)
{
    struct log_rig r;
    uint8_t bytes[BATCH_MARKER_SIZE_MAX];
    uint32_t size = 0;
    log_rig_start(&r);
    struct log *l = start(&r, NULL);
    cr_assert_eq(put(&r, l, 7, 3, 0, 0), KE_NONE);
    struct batch_header h = batch_header_plain(0);
    h.producer_id = 7;
    h.producer_epoch = 4;
    struct log_append a = {
        .records = bytes,
        .records_size = batch_build_marker(bytes, sizeof(bytes), &h, false, 5, io_wall_ms(r.io.io)),
        .origin = LOG_ORIGIN_COORDINATOR,
        .transaction_version = 2,
        .done = marker_done};
    cr_assert(log_append(l, &a)); /* and not durable yet */
    uint8_t *snapshot = producers_encode(l, log_high_watermark(l), &size);
    cr_assert_not_null(snapshot);
    cr_assert_eq(snapshot[10 + 9], 3);      /* the epoch of the data */
    cr_assert_eq(snapshot[10 + 34], 0xff);  /* no coordinator's epoch */
    cr_assert_eq(snapshot[10 + 38 + 7], 0); /* the transaction that began at 0 is open */
    cr_assert_eq(snapshot[10 + 38], 0);
    mem_free(l->core->mem, snapshot, size);
    LOG_UNTIL(&r, a.done == NULL);
    snapshot = producers_encode(l, log_high_watermark(l), &size);
    cr_assert_eq(snapshot[10 + 9], 4);
    cr_assert_eq(snapshot[10 + 34 + 3], 5);
    cr_assert_eq(snapshot[10 + 38], 0xff);
    mem_free(l->core->mem, snapshot, size);
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* ---- any history, any end -------------------------------------------------------------------- */

#define MODEL_PRODUCERS 4
#define MODEL_ABORTED   512

struct model {
    uint64_t seed;
    int64_t open[MODEL_PRODUCERS]; /* where the transaction began; -1 */
    int32_t sequence[MODEL_PRODUCERS];
    struct aborted_txn aborted[MODEL_ABORTED];
    uint32_t aborted_count;
};

static uint32_t model_random(struct model *m, uint32_t below)
{
    m->seed = m->seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(m->seed >> 33) % below;
}

static int64_t model_stable(const struct model *m, const struct log *l)
{
    int64_t stable = log_end_offset(l);
    for (uint32_t i = 0; i < MODEL_PRODUCERS; i++)
        stable = m->open[i] >= 0 ? MIN(stable, m->open[i]) : stable;
    return stable;
}

static void model_check(struct model *m, struct log_rig *r, struct log *l)
{
    int64_t stable = model_stable(m, l);
    cr_assert_eq(log_last_stable_offset(l), stable);
    for (uint32_t i = 0; i < 8; i++) {
        int64_t from = model_random(m, (uint32_t)stable + 1);
        int64_t upper = from + model_random(m, (uint32_t)(stable - from) + 1);
        uint32_t expected = 0;
        for (uint32_t k = 0; k < m->aborted_count; k++)
            expected += m->aborted[k].last_offset >= from && m->aborted[k].first_offset < upper;
        cr_assert_eq(aborted(r, l, from, upper, NULL), expected, "[%ld, %ld)", (long)from,
                     (long)upper);
    }
}

static void model_step(struct model *m, struct log_rig *r, struct log *l)
{
    uint32_t p = model_random(m, MODEL_PRODUCERS), what = model_random(m, 10);
    int64_t end = log_end_offset(l);
    if (what < 6) {
        uint32_t size = model_random(m, 3000);
        cr_assert_eq(
            log_rig_put(r, l,
                        BATCH_SPEC(.transactional = true, .producer_id = p,
                                   .base_sequence = m->sequence[p]++, .value_size = size + 1)),
            KE_NONE);
        m->open[p] = m->open[p] < 0 ? end : m->open[p];
        return;
    }
    bool commit = what < 8;
    cr_assert_eq(mark(r, l, p, commit), KE_NONE);
    if (!commit && m->open[p] >= 0)
        m->aborted[m->aborted_count++] = (struct aborted_txn){p, m->open[p], end, 0};
    m->open[p] = -1;
}

static void model_run(uint64_t seed, bool cached)
{
    struct log_rig r;
    struct topic_config config = log_rig_config();
    struct model *m = calloc(1, sizeof(*m));
    m->seed = seed;
    memset(m->open, 0xff, sizeof(m->open));
    log_rig_start(&r);
    config.segment_bytes = 20000;
    config.index_interval_bytes = 1000;
    config.write_caching = cached;
    struct log *l = start(&r, &config);
    for (uint32_t i = 0; i < 500; i++) {
        model_step(m, &r, l);
        if (i % 40 == 39) {
            model_check(m, &r, l);
            l = restart(&r, &config, (enum end)model_random(m, 3));
            model_check(m, &r, l);
        }
    }
    cr_assert_gt(m->aborted_count, 20);
    log_rig_stop(&r);
    log_rig_end(&r);
    free(m);
}

Test(log_txn, knows_the_same_after_every_kind_of_end)
{
    for (uint64_t seed = 1; seed <= 3; seed++)
        model_run(seed, false);
}

Test(log_txn, knows_the_same_after_every_kind_of_end_when_cached)
{
    model_run(4, true);
}

Test(log_txn, takes_the_index_away_with_its_segment)
{
    struct log_rig r;
    char path[300];
    struct topic_config config = log_rig_config();
    config.segment_bytes = 4000;
    log_rig_start(&r);
    struct log *l = start(&r, &config);
    cr_assert_eq(put(&r, l, 7, 0, 0, 0), KE_NONE);
    cr_assert_eq(mark(&r, l, 7, false), KE_NONE);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.value_size = 2500)), KE_NONE);
    l = restart(&r, &config, STOPPED);
    snprintf(path, sizeof(path), "%s/t1-0/00000000000000000000.txnindex", r.dirs[0]);
    cr_assert_eq(access(path, F_OK), 0);
    config.retention_bytes = 4000;
    log_reconfigure(l, &config);
    log_core_retain_now(r.core);
    LOG_UNTIL(&r, access(path, F_OK) != 0);
    cr_assert_eq(aborted(&r, l, log_start_offset(l), log_end_offset(l), NULL), 0);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_txn, zeros_are_no_entry_of_the_index)
{
    uint8_t bytes[TXN_INDEX_ENTRY_SIZE] = {0}; /* what a power cut leaves of a page not synced */
    struct aborted_txn t;
    cr_assert(!txn_index_get(bytes, &t));
    txn_index_put(bytes, &(struct aborted_txn){.last_offset = 1});
    cr_assert(txn_index_get(bytes, &t)); /* one record of producer 0, then its marker */
}
