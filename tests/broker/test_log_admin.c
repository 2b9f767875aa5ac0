/* Rolling, retention, DeleteRecords, lookups by time and epoch, producers, checkpoints. */
#include "tests/broker/log_rig.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY_MS 86400000ll

static struct log *start(struct log_rig *r, const struct topic_config *config)
{
    log_rig_open(r);
    struct log *l = log_rig_log(r, 1, config);
    log_rig_serve(r);
    return l;
}

static struct log *restart(struct log_rig *r, const struct topic_config *config, bool clean)
{
    if (clean)
        log_rig_stop(r);
    else
        log_rig_kill(r);
    r->config.clean_start = clean;
    return start(r, config);
}

/* Files of partition t1-0 whose name ends so. */
static uint32_t files(const struct log_rig *r, const char *suffix)
{
    char path[300];
    snprintf(path, sizeof(path), "%s/t1-0", r->dirs[0]);
    DIR *d = opendir(path);
    uint32_t count = 0;
    cr_assert_not_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        size_t name = strlen(e->d_name), tail = strlen(suffix);
        count += name >= tail && strcmp(e->d_name + name - tail, suffix) == 0;
    }
    closedir(d);
    return count;
}

static bool exists(const struct log_rig *r, const char *name)
{
    char path[300];
    snprintf(path, sizeof(path), "%s/t1-0/%s", r->dirs[0], name);
    return access(path, F_OK) == 0;
}

/* Batches until all files of the WAL were written over, twice. Large ones: a device may take long
 * for each write. Returns how many. */
static uint32_t go_round(struct log_rig *r, struct log *l)
{
    struct log_core_stats stats, before;
    uint32_t count = 0;
    uint64_t whole = 2 * r->config.wal_file_bytes * r->config.wal_files_count;
    log_core_stats(r->core, &before);
    do {
        cr_assert_eq(log_rig_put(r, l, BATCH_SPEC(.value_size = 60000)), KE_NONE);
        count++;
        log_core_stats(r->core, &stats);
    } while (stats.wal_bytes - before.wal_bytes < whole);
    return count;
}

/* ---- producers ------------------------------------------------------------------------------- */

static enum kafka_error produce(struct log_rig *r, struct log *l, int64_t id, int16_t epoch,
                                int32_t sequence, uint32_t records, int64_t *offset)
{
    struct log_rig_append a;
    struct batch_spec spec =
        BATCH_SPEC(.idempotent = true, .producer_id = id, .producer_epoch = epoch,
                   .base_sequence = sequence, .records = records);
    if (log_rig_append(r, l, &a, spec))
        LOG_UNTIL(r, a.done > 0);
    *offset = a.a.base_offset;
    return a.a.error;
}

Test(log_admin, keeps_kafkas_rules_for_sequences)
{
    static const struct {
        int64_t id;
        int16_t epoch;
        int32_t sequence;
        uint32_t records;
        enum kafka_error error;
        int64_t offset;
    } steps[] = {
        {7, 0, 0, 3, KE_NONE, 0},
        {7, 0, 3, 2, KE_NONE, 3},
        {7, 0, 0, 3, KE_NONE, 0}, /* again: the original offset */
        {7, 0, 3, 2, KE_NONE, 3},
        {7, 0, 3, 3, KE_OUT_OF_ORDER_SEQUENCE_NUMBER, -1}, /* not the same batch */
        {7, 0, 6, 1, KE_OUT_OF_ORDER_SEQUENCE_NUMBER, -1}, /* a gap */
        {7, 0, 5, 1, KE_NONE, 5},
        {7, 1, 1, 1, KE_OUT_OF_ORDER_SEQUENCE_NUMBER, -1}, /* a new epoch begins with 0 */
        {7, 1, 0, 1, KE_NONE, 6},
        {7, 0, 6, 1, KE_INVALID_PRODUCER_EPOCH, -1},
        {8, 3, 41, 1, KE_NONE, 7}, /* unknown producer: any sequence */
        {8, 3, 42, 1, KE_NONE, 8},
        {9, 0, INT32_MAX - 1, 2, KE_NONE, 9}, /* wraps behind INT32_MAX */
        {9, 0, 0, 1, KE_NONE, 11},
        {7, 1, 1, 1, KE_NONE, 12},
        {7, 1, 2, 1, KE_NONE, 13},
        {7, 1, 3, 1, KE_NONE, 14},
        {7, 1, 4, 1, KE_NONE, 15},
        {7, 1, 5, 1, KE_NONE, 16},
        {7, 1, 1, 1, KE_NONE, 12},                         /* the fifth last */
        {7, 1, 0, 1, KE_OUT_OF_ORDER_SEQUENCE_NUMBER, -1}, /* the sixth last is forgotten */
    };
    struct log_rig r;
    log_rig_start(&r);
    struct log *l = start(&r, NULL);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        int64_t offset;
        enum kafka_error error = produce(&r, l, steps[i].id, steps[i].epoch, steps[i].sequence,
                                         steps[i].records, &offset);
        cr_assert_eq(error, steps[i].error, "step %zu: %s", i, kafka_error_name(error));
        cr_assert_eq(offset, steps[i].offset, "step %zu: %ld", i, (long)offset);
    }
    cr_assert_eq(log_rig_check(&r, l, 0), 17);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_admin, remembers_five_batches_of_a_producer_after_a_kill_and_after_a_stop)
{
    struct log_rig r;
    int64_t offset;
    log_rig_start(&r);
    struct log *l = start(&r, NULL);
    for (int32_t i = 0; i < 7; i++)
        cr_assert_eq(produce(&r, l, 5, 2, i, 1, &offset), KE_NONE);
    for (uint32_t life = 0; life < 4; life++) {
        l = restart(&r, NULL, life % 2 == 1);
        for (int32_t i = 2; i < 7; i++) {
            cr_assert_eq(produce(&r, l, 5, 2, i, 1, &offset), KE_NONE);
            cr_assert_eq(offset, i);
        }
        cr_assert_eq(produce(&r, l, 5, 2, 1, 1, &offset), KE_OUT_OF_ORDER_SEQUENCE_NUMBER);
        cr_assert_eq(log_end_offset(l), 7);
    }
    cr_assert_eq(produce(&r, l, 5, 2, 7, 1, &offset), KE_NONE);
    cr_assert_eq(files(&r, ".snapshot"), 1);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_admin, remembers_producers_whose_batches_left_the_wal)
{
    struct log_rig r;
    int64_t offset;
    log_rig_start(&r);
    struct log *l = start(&r, NULL);
    for (int32_t i = 0; i < 6; i++)
        cr_assert_eq(produce(&r, l, 5, 2, i, 1, &offset), KE_NONE);
    (void)go_round(&r, l);
    l = restart(&r, NULL, false);
    cr_assert_eq(produce(&r, l, 5, 2, 1, 1, &offset), KE_NONE);
    cr_assert_eq(offset, 1);
    cr_assert_eq(produce(&r, l, 5, 2, 8, 1, &offset), KE_OUT_OF_ORDER_SEQUENCE_NUMBER);
    cr_assert_eq(produce(&r, l, 5, 2, 6, 1, &offset), KE_NONE);
    log_rig_kill(&r);
    log_rig_end(&r);
}

/* ---- segments -------------------------------------------------------------------------------- */

Test(log_admin, rolls_by_size_and_serves_across_segments_from_disk)
{
    struct log_rig r;
    struct topic_config config = log_rig_config();
    config.segment_bytes = 20000;
    log_rig_start(&r);
    struct log *l = start(&r, &config);
    for (uint32_t i = 0; i < 100; i++)
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.value_size = 1900, .records = 2)), KE_NONE);
    for (uint32_t life = 0; life < 3; life++) {
        l = restart(&r, &config, life % 2 == 0);
        cr_assert_eq(files(&r, ".log"), 20);
        cr_assert_eq(files(&r, ".index"), 20);
        cr_assert_eq(files(&r, ".timeindex"), 20);
        for (int64_t from = 0; from < 200; from += 13)
            cr_assert_eq(log_rig_check(&r, l, from), 200);
    }
    struct log_core_stats stats;
    log_core_stats(r.core, &stats);
    cr_assert_gt(stats.disk_reads, 20);
    log_rig_stop(&r);
    log_rig_end(&r);
}

#define READS 10u

static void read_told(struct log_read *r)
{
    r->done = NULL;
}

/* A log of 100 batches of 8 KB, which is on the disk only. */
static struct log *start_on_disk(struct log_rig *r)
{
    struct log *l = start(r, NULL);
    for (uint32_t i = 0; i < 100; i++)
        cr_assert_eq(log_rig_put(r, l, BATCH_SPEC(.value_size = 8000)), KE_NONE);
    return restart(r, NULL, true);
}

/* Reads of 64 KiB and more. */
static void reads_begin(struct log *l, struct log_read reads[READS])
{
    for (uint32_t i = 0; i < READS; i++) {
        reads[i] = (struct log_read){
            .offset = 9 * i, .max_bytes = 1, .whole_first_batch = true, .done = read_told};
        cr_assert(!log_read(l, &reads[i]), "from disk");
    }
}

static uint64_t disk_reads(const struct log_rig *r)
{
    struct log_core_stats stats;
    log_core_stats(r->core, &stats);
    return stats.disk_reads;
}

Test(log_admin, reads_from_disk_take_turns_so_that_the_device_has_little_to_do_at_once)
{
    struct log_rig r;
    struct log_read reads[READS];
    log_rig_start(&r);
    r.config.disk_read_bytes = 150000;
    struct log *l = start_on_disk(&r);
    uint64_t before = disk_reads(&r);
    reads_begin(l, reads);
    cr_assert_eq(disk_reads(&r) - before, 2, "as many as 150,000 bytes allow");
    for (uint32_t i = 0; i < READS; i++) {
        LOG_UNTIL(&r, reads[i].done == NULL);
        cr_assert_eq(reads[i].error, KE_NONE);
        cr_assert_eq(reads[i].next_offset, reads[i].offset + 1);
        log_read_release(r.core, &reads[i]);
    }
    cr_assert_eq(disk_reads(&r) - before, READS);
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* Those that wait end too when the log or the node does. */
Test(log_admin, reads_that_wait_for_their_turn_end_with_the_log)
{
    struct log_rig r;
    struct log_read reads[READS];
    log_rig_start(&r);
    r.config.disk_read_bytes = 1;
    struct log *l = start_on_disk(&r);
    reads_begin(l, reads);
    l = restart(&r, NULL, false); /* killed while they wait */
    l = restart(&r, NULL, true);
    reads_begin(l, reads);
    log_delete(l);
    for (uint32_t i = 0; i < READS; i++) {
        LOG_UNTIL(&r, reads[i].done == NULL);
        cr_assert_eq(reads[i].error, KE_UNKNOWN_TOPIC_OR_PARTITION);
        log_read_release(r.core, &reads[i]);
    }
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* Batches of one record each, the last one first: none begins where a read before it ended. */
static void read_backwards(struct log_rig *r, struct log *l, int64_t count)
{
    for (int64_t offset = count - 1; offset >= 0; offset--) {
        struct log_read read = {.offset = offset, .max_bytes = 1, .whole_first_batch = true};
        log_rig_read(r, l, &read);
        cr_assert_eq(read.error, KE_NONE, "%s at %ld", kafka_error_name(read.error), (long)offset);
        cr_assert_eq(read.next_offset, offset + 1);
        log_read_release(r->core, &read);
    }
}

/* Its memory is used again for the next topic, whose batches are elsewhere in their file. */
Test(log_admin, forgets_where_the_readers_of_a_deleted_log_were)
{
    struct log_rig r;
    log_rig_start(&r);
    r.config.cache_bytes = 2 << 20;
    log_rig_open(&r);
    log_rig_serve(&r);
    struct log *filler = log_rig_log(&r, 50, NULL);
    for (uint32_t n = 1; n <= 6; n++) {
        struct log *l = log_rig_log(&r, n, NULL);
        for (uint32_t i = 0; i < 20; i++)
            cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.value_size = 300 + 170 * n)), KE_NONE);
        for (uint32_t i = 0; i < 60; i++) /* until the others are on the disk only */
            cr_assert_eq(log_rig_put(&r, filler, BATCH_SPEC(.value_size = 100000)), KE_NONE);
        read_backwards(&r, l, 20);
        log_delete(l);
        for (uint32_t i = 0; i < 62; i++) /* the next one gets the same slot, of 64 */
            log_delete(log_rig_log(&r, 100 * n + i, NULL));
    }
    struct log_core_stats stats;
    log_core_stats(r.core, &stats);
    cr_assert_geq(stats.disk_reads, 100);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_admin, rolls_by_the_time_between_timestamps)
{
    struct log_rig r;
    struct topic_config config = log_rig_config();
    config.segment_ms = 1000;
    log_rig_start(&r);
    struct log *l = start(&r, &config);
    static const int64_t times[] = {5000, 5500, 6000, 6001, 6900, 7002, 3000, 8100};
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.timestamp = times[i])), KE_NONE);
    l = restart(&r, &config, true);
    cr_assert_eq(files(&r, ".log"), 4);
    cr_assert(exists(&r, "00000000000000000003.log")); /* 6001: more than 1000 behind 5000 */
    cr_assert(exists(&r, "00000000000000000005.log")); /* 7002 */
    cr_assert(exists(&r, "00000000000000000007.log")); /* 8100 */
    cr_assert_eq(log_rig_check(&r, l, 0), 8);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_admin, refuses_a_batch_larger_than_a_segment)
{
    struct log_rig r;
    struct topic_config config = log_rig_config();
    config.segment_bytes = 1000;
    log_rig_start(&r);
    struct log *l = start(&r, &config);
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.value_size = 2000)), KE_RECORD_LIST_TOO_LARGE);
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.value_size = 900)), KE_NONE);
    log_rig_stop(&r);
    log_rig_end(&r);
}

static void wait_for_retention(struct log_rig *r, struct log *l, int64_t start)
{
    LOG_UNTIL(r, log_start_offset(l) == start);
}

Test(log_admin, deletes_segments_by_size_and_keeps_the_rest_readable)
{
    struct log_rig r;
    struct topic_config config = log_rig_config();
    config.segment_bytes = 20000;
    config.file_delete_delay_ms = 0;
    log_rig_start(&r);
    r.config.retention_check_ms = 100;
    struct log *l = start(&r, &config);
    for (uint32_t i = 0; i < 100; i++) /* 10 segments of 10 batches */
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.value_size = 1900)), KE_NONE);
    log_rig_stop(&r);
    config.retention_bytes = 45000;
    r.config.clean_start = true;
    l = start(&r, &config);
    log_core_retain_now(r.core);
    wait_for_retention(&r, l, 70);
    struct log_read read = {.offset = 60, .max_bytes = 1000};
    log_rig_read(&r, l, &read);
    cr_assert_eq(read.error, KE_OFFSET_OUT_OF_RANGE);
    cr_assert_eq(log_rig_check(&r, l, 70), 100);
    LOG_UNTIL(&r, files(&r, ".log") == 3 && files(&r, ".deleted") == 0);
    l = restart(&r, &config, false);
    cr_assert_eq(log_start_offset(l), 70);
    cr_assert_eq(log_rig_check(&r, l, 70), 100);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_admin, expires_the_active_segment_too_and_keeps_the_end_offset)
{
    struct log_rig r;
    struct topic_config config = log_rig_config();
    config.retention_ms = DAY_MS;
    log_rig_start(&r);
    struct log *l = start(&r, &config);
    int64_t old = io_wall_ms(r.io.io) - 2 * DAY_MS;
    for (uint32_t i = 0; i < 10; i++)
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.timestamp = old)), KE_NONE);
    log_core_retain_now(r.core); /* asks for a flush first */
    LOG_UNTIL(&r, exists(&r, "00000000000000000000.index"));
    log_core_retain_now(r.core);
    wait_for_retention(&r, l, 10);
    cr_assert_eq(log_end_offset(l), 10);
    cr_assert(exists(&r, "00000000000000000010.log"));
    l = restart(&r, &config, false);
    cr_assert_eq(log_start_offset(l), 10);
    cr_assert_eq(log_end_offset(l), 10);
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    cr_assert_eq(log_rig_check(&r, l, 10), 11);
    log_rig_stop(&r);
    log_rig_end(&r);
}

struct deleting {
    struct log_delete_records d;
    bool done;
};

static void delete_done(struct log_delete_records *d)
{
    container_of(d, struct deleting, d)->done = true;
}

static enum kafka_error delete_records(struct log_rig *r, struct log *l, int64_t offset,
                                       int64_t *low)
{
    struct deleting d = {.d = {.offset = offset, .done = delete_done}};
    if (log_delete_records(l, &d.d))
        LOG_UNTIL(r, d.done);
    *low = d.d.low_watermark;
    return d.d.error;
}

Test(log_admin, delete_records_is_durable_when_done)
{
    struct log_rig r;
    int64_t low;
    log_rig_start(&r);
    struct log *l = start(&r, NULL);
    for (uint32_t i = 0; i < 10; i++)
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    cr_assert_eq(delete_records(&r, l, 11, &low), KE_OFFSET_OUT_OF_RANGE);
    cr_assert_eq(delete_records(&r, l, -2, &low), KE_OFFSET_OUT_OF_RANGE);
    cr_assert_eq(delete_records(&r, l, 4, &low), KE_NONE);
    cr_assert_eq(low, 4);
    cr_assert_eq(delete_records(&r, l, 2, &low), KE_NONE); /* never falls */
    cr_assert_eq(low, 4);
    for (uint32_t life = 0; life < 3; life++) {
        l = restart(&r, NULL, life == 1);
        cr_assert_eq(log_start_offset(l), 4);
        cr_assert_eq(log_rig_check(&r, l, 4), 10);
    }
    uint32_t count = go_round(&r, l); /* the entry leaves the WAL */
    l = restart(&r, NULL, false);
    cr_assert_eq(log_start_offset(l), 4);
    cr_assert_eq(delete_records(&r, l, -1, &low), KE_NONE);
    cr_assert_eq(low, 10 + count);
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* A digit of the file is another one: nothing says which log start was meant. */
Test(log_admin, hides_no_records_behind_a_damaged_log_start)
{
    struct log_rig r;
    int64_t low;
    char path[300];
    log_rig_start(&r);
    struct log *l = start(&r, NULL);
    for (uint32_t i = 0; i < 10; i++)
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    cr_assert_eq(delete_records(&r, l, 4, &low), KE_NONE);
    log_rig_stop(&r);
    (void)snprintf(path, sizeof(path), "%s/t1-0/log-start.torc", r.dirs[0]);
    FILE *f = fopen(path, "r+");
    cr_assert(f != NULL && fputc('6', f) == '6' && fclose(f) == 0);
    r.config.clean_start = true;
    l = start(&r, NULL);
    cr_assert_leq(log_start_offset(l), 4);
    cr_assert(log_rig_traced(&r, "log-start.torc is damaged"));
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* ---- lookups --------------------------------------------------------------------------------- */

static void check_times(struct log *l, int64_t base)
{
    struct log_position p;
    for (int64_t i = 0; i < 300; i++) { /* records 10 ms apart, 3 per batch */
        cr_assert_eq(log_find_time(l, base + i * 10 - 5, LOG_READ_HIGH_WATERMARK, &p), KE_NONE);
        cr_assert_eq(p.offset, i, "%ld: %ld", (long)i, (long)p.offset);
        cr_assert_eq(p.timestamp, base + i * 10);
        cr_assert_eq(p.leader_epoch, i < 150 ? 0 : 6);
    }
    cr_assert_eq(log_find_time(l, base + 299 * 10 + 1, LOG_READ_END, &p), KE_NONE);
    cr_assert_eq(p.offset, -1);
    cr_assert_eq(p.timestamp, -1);
    cr_assert_eq(log_find_max_time(l, LOG_READ_HIGH_WATERMARK, &p), KE_NONE);
    cr_assert_eq(p.offset, 299);
}

static bool append_timed(struct log_rig *r, struct log *l, int64_t first)
{
    static const uint8_t value[200];
    uint8_t bytes[2000];
    struct batch_builder b;
    struct batch_header h = batch_header_plain(0);
    batch_builder_init(&b, bytes, sizeof(bytes), &h);
    for (int64_t i = 0; i < 3; i++)
        cr_assert(batch_builder_add(&b, first + i * 10, (struct batch_field){NULL, 0},
                                    (struct batch_field){value, 200}, NULL, 0));
    struct log_rig_append a;
    cr_assert(log_rig_append_bytes(r, l, &a, bytes, batch_builder_finish(&b)));
    LOG_UNTIL(r, a.done > 0);
    return a.a.error == KE_NONE;
}

Test(log_admin, finds_the_first_record_at_a_time_in_memory_and_on_disk)
{
    struct log_rig r;
    struct topic_config config = log_rig_config();
    config.segment_bytes = 9000;
    config.index_interval_bytes = 1000;
    log_rig_start(&r);
    struct log *l = start(&r, &config);
    int64_t base = io_wall_ms(r.io.io) - DAY_MS;
    for (int64_t i = 0; i < 100; i++) {
        if (i == 50)
            log_set_leader_epoch(l, r.leader_epoch = 6);
        cr_assert(append_timed(&r, l, base + i * 30));
    }
    check_times(l, base);
    for (uint32_t life = 0; life < 2; life++) {
        l = restart(&r, &config, life == 1);
        check_times(l, base);
    }
    int32_t epoch;
    int64_t end;
    log_epoch_end(l, 0, &epoch, &end);
    cr_assert(epoch == 0 && end == 150);
    log_epoch_end(l, 4, &epoch, &end);
    cr_assert(epoch == 0 && end == 150);
    log_epoch_end(l, 6, &epoch, &end);
    cr_assert(epoch == 6 && end == 300);
    log_epoch_end(l, 7, &epoch, &end);
    cr_assert(epoch == -1 && end == -1);
    cr_assert_eq(log_epoch_at(l, 149), 0);
    cr_assert_eq(log_epoch_at(l, 150), 6);
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

Test(log_admin, writes_checkpoint_files_of_all_cores_and_reads_them_back)
{
    struct log_rig r;
    int64_t low;
    log_rig_start(&r);
    struct log *l = start(&r, NULL);
    for (uint32_t i = 0; i < 10; i++)
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    cr_assert_eq(delete_records(&r, l, 4, &low), KE_NONE);
    char text[] = "other 3 77\nmore-dashes 1 8\n";
    for (uint32_t which = 0; which < LOG_CHECKPOINTS_COUNT; which++) {
        struct log_checkpoint_part parts[2] = {
            {0}, {.text = text, .size = sizeof(text) - 1, .count = 2}};
        cr_assert_eq(log_core_checkpoint(r.core, 0, which, &parts[0]), 0);
        cr_assert_eq(log_checkpoint_write(r.io.io, &r.io.mem, r.dirs[0], which, parts, 2), 0);
        log_core_checkpoint_free(r.core, &parts[0]);
    }
    char path[300], *file = NULL;
    size_t size = 0;
    snprintf(path, sizeof(path), "%s/log-start-offset-checkpoint", r.dirs[0]);
    cr_assert_eq(io_slurp(r.io.io, &r.io.mem, path, 1000, &file, &size), 0);
    cr_assert_str_eq(file, "0\n3\nt1 0 4\nother 3 77\nmore-dashes 1 8\n");
    mem_free(&r.io.mem, file, size + 1);
    l = restart(&r, NULL, true);
    cr_assert_eq(log_start_offset(l), 4);
    log_rig_stop(&r);
    log_rig_end(&r);
}

static struct log *open_named(struct log_rig *r, uint32_t n, const char *topic, uint32_t dir)
{
    struct topic_config config = log_rig_config();
    struct log_identity id = {.topic_id = log_rig_id(n), .topic = topic, .dir = dir};
    int error = 0;
    struct log *l = log_open(r->core, &id, &config, &error);
    cr_assert_eq(error, 0);
    return l;
}

/* Checkpoints go by names, and are written now and then. */
Test(log_admin, does_not_take_the_log_start_of_a_deleted_topic_of_the_same_name)
{
    struct log_rig r;
    int64_t low;
    log_rig_start(&r);
    struct log *l = start(&r, NULL);
    for (uint32_t i = 0; i < 10; i++)
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    cr_assert_eq(delete_records(&r, l, 8, &low), KE_NONE);
    struct log_checkpoint_part part = {0};
    cr_assert_eq(log_core_checkpoint(r.core, 0, LOG_CHECKPOINT_LOG_START, &part), 0);
    cr_assert_eq(
        log_checkpoint_write(r.io.io, &r.io.mem, r.dirs[0], LOG_CHECKPOINT_LOG_START, &part, 1), 0);
    log_core_checkpoint_free(r.core, &part);
    log_delete(l);
    l = open_named(&r, 99, "t1", 0);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    log_rig_kill(&r);
    r.config.clean_start = false;
    log_rig_open(&r);
    l = open_named(&r, 99, "t1", 0);
    log_rig_serve(&r);
    cr_assert_eq(log_start_offset(l), 0);
    cr_assert_eq(log_rig_check(&r, l, 0), 3, "all that was acknowledged is there");
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* All was stopped in order, but the checkpoints could not be written: those of before are there. */
Test(log_admin, does_not_take_that_log_start_after_a_stop_that_wrote_no_checkpoints)
{
    struct log_rig r;
    log_rig_start(&r);
    (void)start(&r, NULL);
    char text[] = "t1 0 2\n";
    struct log_checkpoint_part part = {.text = text, .size = sizeof(text) - 1, .count = 1};
    cr_assert_eq(
        log_checkpoint_write(r.io.io, &r.io.mem, r.dirs[0], LOG_CHECKPOINT_LOG_START, &part, 1), 0);
    struct log *l = log_find(r.core, log_rig_id(1), 0);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    log_rig_stop(&r);
    r.config.clean_start = false;
    log_rig_open(&r);
    l = open_named(&r, 1, "t1", 0);
    log_rig_serve(&r);
    cr_assert_eq(log_start_offset(l), 0);
    cr_assert_eq(log_rig_check(&r, l, 0), 3, "all that was acknowledged is there");
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* Retention was taking the segments when the power went, and some of the names were kept. */
Test(log_admin, needs_nothing_below_the_log_start_to_replay_what_is_above)
{
    struct log_rig r;
    char path[300];
    int64_t low;
    log_rig_start(&r);
    struct log *l = start(&r, NULL);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    cr_assert_eq(delete_records(&r, l, 3, &low), KE_NONE);
    log_rig_stop(&r);
    r.config.clean_start = true;
    log_rig_open(&r);
    l = open_named(&r, 1, "t1", 0);
    log_rig_serve(&r);
    cr_assert_eq(log_start_offset(l), 3);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    snprintf(path, sizeof(path), "%s/t1-0/00000000000000000000.log", r.dirs[0]);
    log_rig_kill(&r);
    cr_assert_eq(io_unlink(r.io.io, path), 0);
    r.config.clean_start = false;
    log_rig_open(&r);
    l = open_named(&r, 1, "t1", 0);
    log_rig_serve(&r);
    cr_assert_eq(log_status(l), KE_NONE);
    cr_assert_eq(log_start_offset(l), 3);
    cr_assert_eq(log_rig_check(&r, l, 3), 6);
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* An earlier topic's folder may be left in another directory; and the power may take the name of
 * the new one as long as all is in the WAL. */
Test(log_admin, is_in_its_directory_though_an_earlier_topic_of_its_name_was_in_another)
{
    struct log_rig r;
    char path[300];
    log_rig_start(&r);
    r.config.dirs_count = 2;
    struct log *l = start(&r, NULL);
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    log_rig_stop(&r);
    r.config.clean_start = true;
    log_rig_open(&r);
    l = open_named(&r, 99, "t1", 1);
    log_rig_serve(&r);
    cr_assert_eq(log_dir(l), 1);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    snprintf(path, sizeof(path), "%s/t1-0", r.dirs[log_dir(l)]);
    log_rig_kill(&r);
    cr_assert_eq(io_remove_tree(r.io.io, path), 0);
    r.config.clean_start = false;
    log_rig_open(&r);
    l = open_named(&r, 99, "t1", 1);
    log_rig_serve(&r);
    cr_assert_eq(log_rig_check(&r, l, 0), 3);
    log_rig_stop(&r);
    log_rig_end(&r);
}

static bool owned_by_none(void *context, const char *folder)
{
    cr_assert_null(context);
    return folder == NULL;
}

Test(log_admin, moves_folders_aside_that_belong_to_nobody)
{
    struct log_rig r;
    log_rig_start(&r);
    struct log *l = start(&r, NULL);
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    log_rig_stop(&r);
    log_rig_open(&r); /* the topic was made anew while this node was away */
    struct topic_config config = log_rig_config();
    struct log_identity id = {.topic_id = {"a random uuid: 2"}, .topic = "t1"};
    int error;
    l = log_open(r.core, &id, &config, &error);
    cr_assert_not_null(l);
    log_rig_serve(&r);
    cr_assert_eq(log_end_offset(l), 0);
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    log_rig_stop(&r);
    log_rig_open(&r); /* and now it is gone */
    log_rig_serve(&r);
    log_core_set_aside_strays(r.core, owned_by_none, NULL);
    cr_assert_neq(access(r.dirs[0], F_OK), -1);
    char path[300];
    snprintf(path, sizeof(path), "%s/t1-0", r.dirs[0]);
    cr_assert_eq(access(path, F_OK), -1);
    log_rig_stop(&r);
    log_rig_end(&r);
}

static void put_file(const char *folder, const char *name, const char *text)
{
    char path[400];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    cr_assert_geq(fputs(text, f), 0);
    cr_assert_eq(fclose(f), 0);
}

Test(log_admin, moves_aside_what_a_deleted_topic_of_the_name_has_left_while_it_serves)
{
    struct log_rig r;
    log_rig_start(&r);
    (void)start(&r, NULL);
    char path[300], id_text[UUID_TEXT_SIZE], text[200];
    snprintf(path, sizeof(path), "%s/t7-0", r.dirs[0]);
    cr_assert_eq(mkdir(path, 0755), 0); /* its deletion could not rename it */
    snprintf(text, sizeof(text), "version: 0\ntopic_id: %s", uuid_text(log_rig_id(99), id_text));
    put_file(path, "partition.metadata", text);
    put_file(path, "00000000000000000000.log", "records of somebody else");
    struct topic_config config = log_rig_config();
    struct log *l = log_rig_log(&r, 7, &config);
    cr_assert(log_rig_traced(&r, "t7-0 is of a deleted topic: it is moved aside"));
    cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
    log_rig_kill(&r);
    log_rig_open(&r);
    l = log_rig_log(&r, 7, &config);
    log_rig_serve(&r);
    cr_assert_eq(log_rig_check(&r, l, 0), 1);
    log_rig_stop(&r);
    log_rig_end(&r);
}
