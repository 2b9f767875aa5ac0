/* Appending and reading at the tail: what is accepted is durable and found again. */
#include "tests/broker/log_rig.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

Test(log_append, gives_offsets_and_is_read_back_from_memory)
{
    struct log_rig r;
    log_rig_start(&r);
    log_rig_open(&r);
    log_rig_serve(&r);
    struct log *l = log_rig_log(&r, 1, NULL);
    struct log_rig_append a;
    cr_assert(log_rig_append(&r, l, &a, BATCH_SPEC(.records = 3)));
    cr_assert_eq(a.done, 0);
    cr_assert_eq(log_high_watermark(l), 0);
    cr_assert_eq(log_end_offset(l), 3);
    LOG_UNTIL(&r, a.done > 0);
    cr_assert_eq(a.a.error, KE_NONE);
    cr_assert_eq(a.a.base_offset, 0);
    cr_assert_eq(a.a.last_offset, 2);
    cr_assert_eq(log_high_watermark(l), 3);
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.records = 2)), KE_NONE);
    cr_assert_eq(log_rig_check(&r, l, 0), 5);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_append, groups_what_came_while_a_write_was_in_flight)
{
    struct log_rig r;
    log_rig_start(&r);
    log_rig_open(&r);
    log_rig_serve(&r);
    struct log *logs[4];
    struct log_rig_append a[400];
    for (uint32_t i = 0; i < 4; i++)
        logs[i] = log_rig_log(&r, i + 1, NULL);
    for (uint32_t i = 0; i < 400; i++)
        cr_assert(log_rig_append(&r, logs[i % 4], &a[i], BATCH_SPEC(.value_size = 50)));
    LOG_UNTIL(&r, a[399].done > 0);
    struct log_core_stats stats;
    log_core_stats(r.core, &stats);
    cr_assert_eq(stats.appended_batches, 400);
    cr_assert_leq(stats.wal_writes, 2);
    for (uint32_t i = 0; i < 400; i++)
        cr_assert(a[i].done == 1 && a[i].a.error == KE_NONE);
    for (uint32_t i = 0; i < 4; i++)
        cr_assert_eq(log_rig_check(&r, logs[i], 0), 100);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_append, says_when_a_write_is_near_its_end_if_few_wait_for_it)
{
    struct log_rig r;
    log_rig_start(&r);
    log_rig_open(&r);
    log_rig_serve(&r);
    struct log *l = log_rig_log(&r, 1, NULL);
    struct log_rig_append a[9];
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE); /* from it the rest is known */
    cr_assert_eq(log_core_near_ns(r.core, NS_PER_S), 0, "nothing is under way");
    cr_assert(log_rig_append(&r, l, &a[0], BATCH_SPEC(0)));
    log_core_turn(r.core);
    uint64_t now = io_now_ns(r.io.io);
    cr_assert_gt(log_core_near_ns(r.core, NS_PER_S), now);
    cr_assert_eq(log_core_near_ns(r.core, 0), 0, "longer than it may take");
    for (uint32_t i = 1; i < 9; i++)
        cr_assert(log_rig_append(&r, l, &a[i], BATCH_SPEC(0)));
    log_core_turn(r.core);
    cr_assert_eq(log_core_near_ns(r.core, NS_PER_S), 0, "many wait");
    LOG_UNTIL(&r, a[8].done > 0);
    cr_assert_eq(log_core_near_ns(r.core, NS_PER_S), 0);
    log_rig_stop(&r);
    log_rig_end(&r);
}

struct watching {
    struct log_watch w;
    uint32_t fired;
};

static void watch_fired(struct log_watch *w)
{
    struct watching *mine = container_of(w, struct watching, w);
    mine->fired++;
}

Test(log_append, tells_a_watch_once_when_the_end_passes)
{
    struct log_rig r;
    log_rig_start(&r);
    log_rig_open(&r);
    log_rig_serve(&r);
    struct log *l = log_rig_log(&r, 1, NULL);
    struct watching at[3] = {{.w = {.offset = 0, .fire = watch_fired}},
                             {.w = {.offset = 1, .fire = watch_fired}},
                             {.w = {.offset = 0, .fire = watch_fired}}};
    for (uint32_t i = 0; i < 3; i++)
        log_watch(l, &at[i].w);
    log_unwatch(&at[2].w);
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    cr_assert_eq(at[0].fired, 1);
    cr_assert_eq(at[1].fired, 0);
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    cr_assert_eq(at[0].fired, 1);
    cr_assert_eq(at[1].fired, 1);
    cr_assert_eq(at[2].fired, 0);
    log_watch(l, &at[2].w); /* so already: told in the next turn */
    cr_assert_eq(at[2].fired, 0);
    log_rig_turn(&r);
    cr_assert_eq(at[2].fired, 1);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_append, refuses_without_a_trace)
{
    struct log_rig r;
    log_rig_start(&r);
    log_rig_open(&r);
    log_rig_serve(&r);
    struct topic_config config = log_rig_config();
    config.max_message_bytes = 1000;
    struct log *l = log_rig_log(&r, 1, &config);
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.value_size = 2000)), KE_MESSAGE_TOO_LARGE);
    cr_assert_eq(
        log_rig_put(&r, l, BATCH_SPEC(.idempotent = true, .producer_id = 5, .base_sequence = -1)),
        KE_INVALID_RECORD);
    cr_assert_eq(log_end_offset(l), 0);
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    cr_assert_eq(log_rig_check(&r, l, 0), 1);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_append, takes_a_batch_larger_than_a_chunk)
{
    struct log_rig r;
    log_rig_start(&r);
    r.config.wal_file_bytes = 4 << 20;
    log_rig_open(&r);
    log_rig_serve(&r);
    struct topic_config config = log_rig_config();
    config.max_message_bytes = 3 << 20;
    struct log *l = log_rig_log(&r, 1, &config);
    for (uint32_t i = 0; i < 20; i++) {
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.value_size = 2 << 20)), KE_NONE);
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.value_size = 10)), KE_NONE);
    }
    cr_assert_eq(log_rig_check(&r, l, 0), 40);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_append, gives_chunks_back_in_pairs_when_a_large_batch_needs_the_room)
{
    struct log_rig r;
    log_rig_start(&r);
    r.config.wal_file_bytes = 4 << 20;
    log_rig_open(&r);
    log_rig_serve(&r);
    struct topic_config config = log_rig_config();
    config.max_message_bytes = 3 << 20;
    struct log *l = log_rig_log(&r, 1, &config);
    struct log_core_stats stats;
    uint64_t most = 0;
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t n = 0; n < 100; n++) /* more than the cache of 8 MiB */
            cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.value_size = 100000)), KE_NONE);
        log_core_stats(r.core, &stats);
        most = stats.cache_bytes > most ? stats.cache_bytes : most;
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.value_size = 2 << 20)), KE_NONE);
        log_core_stats(r.core, &stats);
        cr_assert_leq(stats.cache_bytes, (8 << 20) + (3 << 20));
    }
    cr_assert_eq(most, 8 << 20, "all of the cache is used: %lu", (unsigned long)most);
    cr_assert_eq(log_rig_check(&r, l, 0), 404);
    log_rig_stop(&r);
    log_rig_end(&r);
}

static uint64_t cache_bytes(struct log_rig *r)
{
    struct log_core_stats stats;
    log_core_stats(r->core, &stats);
    return stats.cache_bytes;
}

/* Else whoever commits when a chunk is full waits until the kernel has found and cleared 2 MiB. */
Test(log_append, makes_the_next_pair_of_chunks_while_the_last_free_one_fills)
{
    struct log_rig r;
    log_rig_start(&r);
    log_rig_open(&r);
    log_rig_serve(&r);
    struct log *l = log_rig_log(&r, 1, NULL);
    uint32_t count = 0;
    for (; cache_bytes(&r) < 4 << 20; count++) { /* until the third chunk, the first of a pair */
        cr_assert_lt(count, 40);
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.value_size = 100000)), KE_NONE);
    }
    for (uint32_t i = 0; i < 12; i++) /* into its twin */
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.value_size = 100000)), KE_NONE);
    cr_assert_eq(cache_bytes(&r), 6 << 20);
    cr_assert_eq(log_rig_check(&r, l, 0), (int64_t)count + 12);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_append, goes_round_the_wal_files_many_times)
{
    struct log_rig r;
    log_rig_start(&r);
    log_rig_open(&r);
    log_rig_serve(&r);
    struct log *logs[5];
    static struct log_rig_append a[64];
    for (uint32_t i = 0; i < 5; i++)
        logs[i] = log_rig_log(&r, i + 1, NULL);
    for (uint32_t round = 0; round < 100; round++) { /* 100 x 64 x 2 KiB over 4 x 256 KiB */
        for (uint32_t i = 0; i < 64; i++)
            cr_assert(log_rig_append(&r, logs[i % 5], &a[i], BATCH_SPEC(.value_size = 2000)));
        LOG_UNTIL(&r, a[63].done > 0);
    }
    int64_t sum = 0;
    for (uint32_t i = 0; i < 5; i++)
        sum += log_rig_check(&r, logs[i], 0);
    cr_assert_eq(sum, 6400);
    struct log_core_stats stats;
    log_core_stats(r.core, &stats);
    cr_assert_gt(stats.wal_bytes, 12 * (r.config.wal_file_bytes * 4));
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_append, acknowledges_write_caching_topics_without_the_wal)
{
    struct log_rig r;
    log_rig_start(&r);
    log_rig_open(&r);
    log_rig_serve(&r);
    struct topic_config config = log_rig_config();
    config.write_caching = true;
    struct log *l = log_rig_log(&r, 1, &config);
    for (uint32_t i = 0; i < 50; i++)
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.records = 2)), KE_NONE);
    struct log_core_stats stats;
    log_core_stats(r.core, &stats);
    cr_assert_eq(stats.wal_writes, 0);
    cr_assert_eq(stats.segment_bytes, stats.appended_bytes);
    cr_assert_eq(log_rig_check(&r, l, 0), 100);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_append, fails_all_waiting_when_the_topic_is_deleted)
{
    struct log_rig r;
    log_rig_start(&r);
    log_rig_open(&r);
    log_rig_serve(&r);
    struct log *l = log_rig_log(&r, 1, NULL), *other = log_rig_log(&r, 2, NULL);
    struct log_rig_append a[3];
    struct watching w = {.w = {.offset = 0, .fire = watch_fired}};
    cr_assert(log_rig_append(&r, l, &a[0], BATCH_SPEC(0)));
    cr_assert(log_rig_append(&r, other, &a[1], BATCH_SPEC(0)));
    log_watch(l, &w.w);
    log_delete(l);
    cr_assert_null(log_find(r.core, log_rig_id(1), 0));
    LOG_UNTIL(&r, a[0].done + a[1].done == 2);
    cr_assert_eq(a[0].a.error, KE_UNKNOWN_TOPIC_OR_PARTITION);
    cr_assert_eq(a[1].a.error, KE_NONE);
    cr_assert_eq(w.fired, 1);
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* Nothing more can be opened; the limit there was. */
static struct rlimit use_up_descriptors(void)
{
    struct rlimit before, now;
    int lowest = dup(STDIN_FILENO);
    cr_assert_geq(lowest, 0);
    cr_assert_eq(close(lowest), 0);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    now = before;
    now.rlim_cur = (rlim_t)lowest;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &now), 0);
    return before;
}

Test(log_append, goes_on_when_there_was_no_descriptor_for_the_next_wal_file)
{
    struct log_rig r;
    struct log_rig_append a[64];
    uint32_t sent = 0;
    log_rig_start(&r);
    log_rig_open(&r);
    log_rig_serve(&r);
    struct log *l = log_rig_log(&r, 1, NULL);
    struct rlimit limit = use_up_descriptors();
    while (!log_rig_traced(&r, "no WAL file can be made just now")) {
        cr_assert_lt(sent, 64u);
        cr_assert(log_rig_append(&r, l, &a[sent], BATCH_SPEC(.value_size = 16000)));
        LOG_UNTIL(&r, a[sent].done > 0);
        cr_assert_eq(a[sent++].a.error, KE_NONE);
    }
    for (; sent < 24; sent++) /* more than the first file has room for */
        cr_assert(log_rig_append(&r, l, &a[sent], BATCH_SPEC(.value_size = 16000)));
    for (int i = 0; i < 20; i++)
        log_rig_turn(&r);
    cr_assert_eq(a[23].done, 0u);
    cr_assert_eq(r.failed_dirs, 0u);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    LOG_UNTIL(&r, a[23].done > 0);
    for (uint32_t i = 0; i < sent; i++)
        cr_assert_eq(a[i].a.error, KE_NONE);
    cr_assert_eq(log_rig_check(&r, l, 0), 24);
    log_rig_stop(&r);
    log_rig_end(&r);
}
