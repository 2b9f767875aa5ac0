/* What was acknowledged is there after a kill, whatever state the files were left in. */
#include "tests/broker/log_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/log/index.h"

static void reopen(struct log_rig *r, struct log **logs, uint32_t count,
                   const struct topic_config *config)
{
    log_rig_open(r);
    for (uint32_t i = 0; i < count; i++)
        logs[i] = log_rig_log(r, i + 1, config);
    log_rig_serve(r);
}

Test(log_recovery, finds_everything_after_a_kill_before_any_flush)
{
    struct log_rig r;
    struct log *logs[3];
    log_rig_start(&r);
    reopen(&r, logs, 3, NULL);
    for (uint32_t i = 0; i < 30; i++)
        cr_assert_eq(log_rig_put(&r, logs[i % 3], BATCH_SPEC(.records = 2)), KE_NONE);
    log_rig_kill(&r);
    for (uint32_t life = 0; life < 3; life++) {
        reopen(&r, logs, 3, NULL);
        for (uint32_t i = 0; i < 3; i++) {
            cr_assert_eq(log_status(logs[i]), KE_NONE);
            cr_assert_eq(log_end_offset(logs[i]), 20 + 2 * life);
            cr_assert_eq(log_high_watermark(logs[i]), 20 + 2 * life);
            cr_assert_eq(log_rig_check(&r, logs[i], 0), 20 + 2 * life);
            cr_assert_eq(log_rig_put(&r, logs[i], BATCH_SPEC(.records = 2)), KE_NONE);
        }
        log_rig_kill(&r);
    }
    log_rig_end(&r);
}

Test(log_recovery, finds_everything_after_a_clean_stop)
{
    struct log_rig r;
    struct log *logs[3];
    log_rig_start(&r);
    for (uint32_t life = 0; life < 3; life++) {
        reopen(&r, logs, 3, NULL);
        for (uint32_t i = 0; i < 3; i++) {
            cr_assert_eq(log_rig_check(&r, logs[i], 0), 50 * life);
            for (uint32_t k = 0; k < 50; k++)
                cr_assert_eq(log_rig_put(&r, logs[i], BATCH_SPEC(.value_size = 700)), KE_NONE);
        }
        log_rig_stop(&r);
        r.config.clean_start = true;
    }
    log_rig_end(&r);
}

Test(log_recovery, keeps_what_the_wal_holds_in_a_directory_that_another_core_could_not_read)
{
    struct log_rig r;
    struct log *logs[2];
    log_rig_start(&r);
    reopen(&r, logs, 2, NULL);
    for (uint32_t i = 0; i < 10; i++)
        cr_assert_eq(log_rig_put(&r, logs[i % 2], BATCH_SPEC(.records = 3)), KE_NONE);
    log_rig_kill(&r);
    log_rig_open(&r);
    for (uint32_t i = 0; i < 2; i++)
        logs[i] = log_rig_log(&r, i + 1, NULL);
    cr_assert_eq(log_core_replay(r.core), 0);
    log_core_lose_dir(r.core, 0);
    cr_assert_eq(log_core_serve(r.core), 0);
    log_rig_turn(&r);
    cr_assert_eq(r.failed_dirs, 1);
    cr_assert_eq(log_status(logs[0]), KE_KAFKA_STORAGE_ERROR);
    cr_assert_neq(log_rig_put(&r, logs[0], BATCH_SPEC(.records = 3)), KE_NONE);
    log_rig_kill(&r);
    reopen(&r, logs, 2, NULL);
    for (uint32_t i = 0; i < 2; i++)
        cr_assert_eq(log_rig_check(&r, logs[i], 0), 15);
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* Writes rounds x 64 batches into 5 logs. */
static void fill(struct log_rig *r, struct log **logs, uint32_t rounds, uint32_t value_size)
{
    static struct log_rig_append a[64];
    for (uint32_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < 64; i++)
            cr_assert(log_rig_append(r, logs[i % 5], &a[i], BATCH_SPEC(.value_size = value_size)));
        LOG_UNTIL(r, a[63].done > 0);
    }
}

static int64_t check_all(struct log_rig *r, struct log **logs)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < 5; i++) {
        cr_assert_eq(log_status(logs[i]), KE_NONE);
        sum += log_rig_check(r, logs[i], 0);
    }
    return sum;
}

Test(log_recovery, finds_everything_after_the_wal_went_round_many_times)
{
    struct log_rig r;
    struct log *logs[5];
    struct topic_config config = log_rig_config();
    config.segment_bytes = 300000;
    log_rig_start(&r);
    int64_t total = 0;
    for (uint32_t life = 0; life < 6; life++) {
        reopen(&r, logs, 5, &config);
        cr_assert_eq(check_all(&r, logs), total);
        fill(&r, logs, 7 + 13 * life, 2000 + life);
        total += 64 * (7 + 13 * life);
        if (life % 3 == 2)
            log_rig_stop(&r);
        else
            log_rig_kill(&r);
    }
    cr_assert(!log_rig_traced(&r, "rot"));
    log_rig_end(&r);
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void path_of(const struct log_rig *r, char *path, const char *name)
{
    snprintf(path, 300, "%s/%s", r->dirs[0], name);
}

static int open_file(const struct log_rig *r, const char *name)
{
    char path[300];
    path_of(r, path, name);
    int fd = open(path, O_RDWR);
    cr_assert_geq(fd, 0, "%s", path);
    return fd;
}

static void cut_file(const struct log_rig *r, const char *name, off_t size)
{
    char path[300];
    path_of(r, path, name);
    cr_assert_eq(truncate(path, size), 0);
}

static off_t size_of(const struct log_rig *r, const char *name)
{
    int fd = open_file(r, name);
    off_t size = lseek(fd, 0, SEEK_END);
    close(fd);
    return size;
}

static void copy_file(const struct log_rig *r, const char *name, uint8_t *bytes, size_t size,
                      bool back)
{
    int fd = open_file(r, name);
    cr_assert_eq(back ? pwrite(fd, bytes, size, 0) : pread(fd, bytes, size, 0), (ssize_t)size);
    close(fd);
}

Test(log_recovery, cuts_a_torn_group_at_every_sector)
{
    struct log_rig r;
    struct log *l[1];
    log_rig_start(&r);
    reopen(&r, l, 1, NULL);
    size_t size = r.config.wal_file_bytes;
    uint8_t *before = malloc(size), *after = malloc(size), *torn = malloc(size);
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_eq(log_rig_put(&r, l[0], BATCH_SPEC(0)), KE_NONE);
    copy_file(&r, "wal-0-0.torc", before, size, false);
    struct log_rig_append a[3];
    for (uint32_t i = 0; i < 3; i++) /* one write of several blocks */
        cr_assert(log_rig_append(&r, l[0], &a[i], BATCH_SPEC(.value_size = 3000, .fill = 7)));
    LOG_UNTIL(&r, a[2].done > 0);
    copy_file(&r, "wal-0-0.torc", after, size, false);
    log_rig_kill(&r);
    uint32_t tried = 0;
    for (size_t sector = 0; sector < size / 512; sector++) {
        if (memcmp(before + sector * 512, after + sector * 512, 512) == 0)
            continue;
        tried++;
        for (uint32_t how = 0; how < 2; how++) { /* only this one missing; all from here on */
            memcpy(torn, after, size);
            memcpy(torn + sector * 512, before + sector * 512,
                   how == 0 ? 512 : size - sector * 512);
            char path[300];
            path_of(&r, path, "t1-0/00000000000000000000.log");
            unlink(path);
            copy_file(&r, "wal-0-0.torc", torn, size, true);
            reopen(&r, l, 1, NULL);
            cr_assert_eq(log_status(l[0]), KE_NONE);
            cr_assert_eq(log_end_offset(l[0]), 3, "sector %zu: %ld", sector,
                         (long)log_end_offset(l[0]));
            cr_assert_eq(log_rig_check(&r, l[0], 0), 3);
            log_rig_kill(&r);
        }
    }
    cr_assert_gt(tried, 16);
    cr_assert(log_rig_traced(&r, "its last write was torn"));
    cr_assert(!log_rig_traced(&r, "rot"));
    free(before), free(after), free(torn);
    log_rig_end(&r);
}

/* Three groups that were in flight together: what was lost of one takes those behind it along, and
 * none of them was acknowledged before it. */
Test(log_recovery, cuts_at_the_first_write_that_was_lost_of_those_in_flight)
{
    struct log_rig r;
    struct log *l[1];
    struct log_core_stats began, flying;
    struct log_rig_append a[3];
    log_rig_start(&r);
    reopen(&r, l, 1, NULL);
    size_t size = r.config.wal_file_bytes;
    uint8_t *before = malloc(size), *after = malloc(size), *torn = malloc(size);
    cr_assert_eq(log_rig_put(&r, l[0], BATCH_SPEC(0)), KE_NONE);
    copy_file(&r, "wal-0-0.torc", before, size, false);
    log_core_stats(r.core, &began);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert(log_rig_append(&r, l[0], &a[i], BATCH_SPEC(.fill = 7)));
        log_core_turn(r.core); /* begins a write; nothing is polled, so none ends */
    }
    log_core_stats(r.core, &flying);
    cr_assert_eq(flying.wal_writes - began.wal_writes, 3); /* needs O_DIRECT, which /tmp has */
    LOG_UNTIL(&r, a[2].done > 0);
    cr_assert_eq(a[0].done, 1);
    cr_assert_eq(a[1].done, 1);
    copy_file(&r, "wal-0-0.torc", after, size, false);
    log_rig_kill(&r);
    uint32_t groups = 0;
    for (size_t at = 0; at < size; at += 4096) {
        if (memcmp(before + at, after + at, 4096) == 0)
            continue;
        memcpy(torn, after, size);
        memcpy(torn + at, before + at, 4096);
        char path[300];
        path_of(&r, path, "t1-0/00000000000000000000.log");
        unlink(path);
        copy_file(&r, "wal-0-0.torc", torn, size, true);
        reopen(&r, l, 1, NULL);
        cr_assert_eq(log_status(l[0]), KE_NONE);
        cr_assert_eq(log_end_offset(l[0]), 1 + groups);
        log_rig_kill(&r);
        groups++;
    }
    cr_assert_eq(groups, 3);
    cr_assert(!log_rig_traced(&r, "rot"));
    free(before), free(after), free(torn);
    log_rig_end(&r);
}

Test(log_recovery, tells_rot_in_the_middle_of_the_wal_from_a_torn_tail)
{
    struct log_rig r;
    struct log *l[2];
    log_rig_start(&r);
    reopen(&r, l, 2, NULL);
    for (uint32_t i = 0; i < 6; i++)
        cr_assert_eq(log_rig_put(&r, l[i % 2], BATCH_SPEC(.fill = (uint8_t)i)), KE_NONE);
    log_rig_kill(&r);
    int fd = open_file(&r, "wal-0-0.torc");
    uint8_t bad = 0x55;
    cr_assert_eq(pwrite(fd, &bad, 1, 4096 * 3 + 200), 1); /* third group: log 0's second batch */
    close(fd);
    reopen(&r, l, 2, NULL);
    cr_assert(log_rig_traced(&r, "rot"));
    cr_assert_eq(log_status(l[0]), KE_KAFKA_STORAGE_ERROR);
    cr_assert_eq(log_status(l[1]), KE_NONE);
    cr_assert_eq(log_rig_check(&r, l[1], 0), 3);
    struct log_core_stats stats;
    log_core_stats(r.core, &stats);
    cr_assert_geq(stats.rot, 1);
    log_rig_kill(&r);
    log_rig_end(&r);
}

/* The file is not synced: a power cut may bring back an older one, of records that are settled. */
Test(log_recovery, learns_epochs_that_a_power_cut_took_back)
{
    struct log_rig r;
    struct log *logs[5];
    char path[300];
    static const char old[] = "0\n1\n0 0\n";
    log_rig_start(&r);
    reopen(&r, logs, 5, NULL);
    cr_assert_eq(log_rig_put(&r, logs[0], BATCH_SPEC(.records = 3)), KE_NONE);
    log_rig_stop(&r);
    r.leader_epoch = 2;
    reopen(&r, logs, 5, NULL);
    fill(&r, logs, 40, 2000); /* the WAL goes round: it begins far behind offset 3 */
    log_rig_kill(&r);
    path_of(&r, path, "t1-0/leader-epoch-checkpoint");
    int fd = open(path, O_WRONLY | O_TRUNC);
    cr_assert_eq(write(fd, old, sizeof(old) - 1), (ssize_t)sizeof(old) - 1);
    close(fd);
    reopen(&r, logs, 5, NULL);
    cr_assert_eq(log_epoch_at(logs[0], 2), 0);
    cr_assert_eq(log_epoch_at(logs[0], 3), 2);
    log_rig_stop(&r);
    log_rig_end(&r);
}

static void put_some(struct log_rig *r, struct log **l)
{
    for (uint32_t i = 0; i < 6; i++)
        cr_assert_eq(log_rig_put(r, l[i % 2], BATCH_SPEC(.fill = (uint8_t)i)), KE_NONE);
    log_rig_kill(r);
}

static void damage(struct log_rig *r, const char *name, off_t at)
{
    int fd = open_file(r, name);
    uint8_t byte;
    cr_assert_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* The last record of one log, in the middle of the WAL: no later entry of it shows that it is gone.
 */
Test(log_recovery, knows_whose_last_records_the_wal_has_lost_at_every_later_start_too)
{
    struct log_rig r;
    struct log *l[2];
    log_rig_start(&r);
    reopen(&r, l, 2, NULL);
    put_some(&r, l);
    damage(&r, "wal-0-0.torc", 4096 * 5 + 200); /* fifth group: log 0's last batch */
    for (uint32_t life = 0; life < 2; life++) {
        reopen(&r, l, 2, NULL);
        cr_assert_eq(log_status(l[0]), KE_KAFKA_STORAGE_ERROR);
        cr_assert_eq(log_rig_check(&r, l[1], 0), 3);
        log_rig_kill(&r);
    }
    char path[300];
    path_of(&r, path, "wal-0-0.torc.kept-1");
    cr_assert_eq(access(path, F_OK), 0, "what is whole in the WAL is kept");
    path_of(&r, path, "t1-0/log-damaged.torc");
    cr_assert_eq(unlink(path), 0);
    reopen(&r, l, 2, NULL);
    cr_assert_eq(log_status(l[0]), KE_NONE);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_recovery, makes_the_damaged_header_of_a_wal_file_anew)
{
    struct log_rig r;
    struct log *l[2];
    log_rig_start(&r);
    reopen(&r, l, 2, NULL);
    put_some(&r, l);
    damage(&r, "wal-0-0.torc", 9);
    reopen(&r, l, 2, NULL);
    for (uint32_t i = 0; i < 2; i++)
        cr_assert_eq(log_rig_check(&r, l[i], 0), 3);
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* An entry's header, or what a file has lost: it could be anybody's. */
Test(log_recovery, refuses_a_directory_whose_wal_lost_records_of_unknown_logs)
{
    for (uint32_t how = 0; how < 2; how++) {
        struct log_rig r;
        struct log *l[2];
        log_rig_start(&r);
        reopen(&r, l, 2, NULL);
        put_some(&r, l);
        if (how == 0)
            damage(&r, "wal-0-0.torc", 4096 * 3 + 64 + 8); /* behind the group's header */
        else
            cut_file(&r, "wal-0-0.torc", 4096 * 3);
        for (uint32_t life = 0; life < 2; life++) {
            r.failed_dirs = 0;
            reopen(&r, l, 2, NULL);
            cr_assert_eq(log_status(l[0]), KE_KAFKA_STORAGE_ERROR);
            cr_assert_eq(log_status(l[1]), KE_KAFKA_STORAGE_ERROR);
            cr_assert(log_rig_traced(&r, "keep a copy and remove wal-*.torc"));
            log_rig_kill(&r);
        }
        log_rig_end(&r);
    }
}

static struct log *stopped_with_ten(struct log_rig *r)
{
    struct log *l[1];
    log_rig_start(r);
    reopen(r, l, 1, NULL);
    for (uint32_t i = 0; i < 10; i++)
        cr_assert_eq(log_rig_put(r, l[0], BATCH_SPEC(.records = 2)), KE_NONE);
    log_rig_stop(r);
    return l[0];
}

static enum kafka_error read_at(struct log_rig *r, struct log *l, int64_t offset)
{
    struct log_read *read = calloc(1, sizeof(*read));
    read->offset = offset;
    read->max_bytes = 1;
    read->whole_first_batch = true;
    log_rig_read(r, l, read);
    enum kafka_error error = read->error;
    log_read_release(r->core, read);
    free(read);
    return error;
}

/* Offset and leader epoch of a batch are not in its checksum. */
Test(log_recovery, serves_no_batch_at_a_wrong_offset_or_epoch)
{
    static const off_t places[] = {7, 6, 15};
    for (uint32_t i = 0; i < 3; i++) {
        struct log_rig r;
        struct log *l[1];
        (void)stopped_with_ten(&r);
        const char *name = "t1-0/00000000000000000000.log";
        off_t batch = size_of(&r, name) / 10;
        damage(&r, name, 4 * batch + places[i]);
        r.config.clean_start = true;
        reopen(&r, l, 1, NULL);
        enum kafka_error error = read_at(&r, l[0], 8);
        cr_assert(error == KE_CORRUPT_MESSAGE || error == KE_KAFKA_STORAGE_ERROR, "byte %u", i);
        log_rig_kill(&r);
        log_rig_end(&r);
    }
}

/* The time index does not match then, and is not what lies. */
Test(log_recovery, passes_over_no_segment_for_a_damaged_time)
{
    struct log_rig r;
    struct log *l[1];
    struct log_position p;
    struct topic_config config = log_rig_config();
    config.segment_bytes = 3000;
    log_rig_start(&r);
    reopen(&r, l, 1, &config);
    int64_t now = io_wall_ms(r.io.io);
    for (int64_t i = 0; i < 3; i++)
        cr_assert_eq(log_rig_put(&r, l[0], BATCH_SPEC(.value_size = 2000, .timestamp = now + i)),
                     KE_NONE);
    log_rig_stop(&r);
    int fd = open_file(&r, "t1-0/00000000000000000000.log");
    cr_assert_eq(pwrite(fd, "\0", 1, 37), 1); /* the first of the largest timestamp that is not 0 */
    close(fd);
    r.config.clean_start = true;
    reopen(&r, l, 1, &config);
    cr_assert_eq(log_find_time(l[0], now, LOG_READ_END, &p), KE_CORRUPT_MESSAGE);
    cr_assert_eq(log_find_time(l[0], now + 2, LOG_READ_END, &p), KE_CORRUPT_MESSAGE);
    cr_assert_eq(read_at(&r, l[0], 1), KE_NONE);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_recovery, finds_a_time_below_all_index_entries_though_they_lie)
{
    struct log_rig r;
    struct log *l[1];
    struct log_position p;
    log_rig_start(&r);
    reopen(&r, l, 1, NULL);
    int64_t now = io_wall_ms(r.io.io);
    for (int64_t i = 0; i < 5; i++)
        cr_assert_eq(log_rig_put(&r, l[0], BATCH_SPEC(.value_size = 5000, .timestamp = now + i)),
                     KE_NONE);
    log_rig_stop(&r);
    uint32_t second = (uint32_t)size_of(&r, "t1-0/00000000000000000000.log") / 5;
    int fd = open_file(&r, "t1-0/00000000000000000000.index");
    uint8_t entry[8];
    index_put(entry, 0, (struct index_entry){0, second});
    cr_assert_eq(pwrite(fd, entry, sizeof(entry), 0), (ssize_t)sizeof(entry));
    close(fd);
    r.config.clean_start = true;
    reopen(&r, l, 1, NULL);
    cr_assert_eq(log_find_time(l[0], now, LOG_READ_END, &p), KE_NONE);
    cr_assert_eq(p.offset, 0);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_recovery, does_not_move_a_folder_aside_whose_id_is_damaged)
{
    struct log_rig r;
    struct log *l[1];
    (void)stopped_with_ten(&r);
    damage(&r, "t1-0/partition.metadata", 25);
    r.config.clean_start = true;
    reopen(&r, l, 1, NULL);
    cr_assert_eq(log_status(l[0]), KE_KAFKA_STORAGE_ERROR);
    cr_assert(log_rig_traced(&r, "partition.metadata is damaged"));
    log_rig_kill(&r);
    damage(&r, "t1-0/partition.metadata", 25); /* and back */
    reopen(&r, l, 1, NULL);
    cr_assert_eq(log_rig_check(&r, l[0], 0), 20);
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* "1 12" of "1 121": a power cut leaves any part of a file that was not synced. */
Test(log_recovery, does_not_believe_an_epoch_whose_offset_lost_digits)
{
    struct log_rig r;
    struct log *l[1];
    (void)stopped_with_ten(&r);
    r.leader_epoch = 1;
    reopen(&r, l, 1, NULL);
    cr_assert_eq(log_rig_put(&r, l[0], BATCH_SPEC(0)), KE_NONE); /* epoch 1 from 20 on */
    log_rig_stop(&r);
    cut_file(&r, "t1-0/leader-epoch-checkpoint", 11); /* "0\n2\n0 0\n1 2" */
    r.config.clean_start = true;
    reopen(&r, l, 1, NULL);
    cr_assert_eq(log_epoch_at(l[0], 19), 0);
    cr_assert_eq(log_epoch_at(l[0], 20), 1);
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* Damages the unsynced part of the segments in every way and sees it restored. */
Test(log_recovery, restores_cut_zeroed_and_scrambled_ends_of_segments)
{
    struct log_rig r;
    struct log *logs[5];
    const char *name = "t1-0/00000000000000000000.log";
    log_rig_start(&r);
    reopen(&r, logs, 5, NULL);
    fill(&r, logs, 1, 2000);
    log_rig_stop(&r);
    off_t durable = size_of(&r, name);
    cr_assert_gt(durable, 10000);
    reopen(&r, logs, 5, NULL);
    fill(&r, logs, 1, 2000);
    log_rig_kill(&r); /* segments end at `durable`, the WAL goes on from there */
    size_t size = r.config.wal_file_bytes;
    uint8_t *wal = malloc(size);
    copy_file(&r, "wal-0-0.torc", wal, size, false);
    for (uint32_t how = 0; how < 8; how++) {
        reopen(&r, logs, 5, NULL); /* lays the WAL over them */
        cr_assert_eq(check_all(&r, logs), 128, "round %u", how);
        log_rig_kill(&r);
        copy_file(&r, "wal-0-0.torc", wal, size, true); /* as if it had died before it served */
        int fd = open_file(&r, name);
        uint8_t junk[5000];
        memset(junk, (int)how * 31, sizeof(junk));
        if (how % 4 == 0)
            cut_file(&r, name, durable + 100 * (off_t)how);
        else if (how % 4 == 1)
            cr_assert_gt(pwrite(fd, junk, sizeof(junk), durable + 777), 0);
        else if (how % 4 == 2)
            cr_assert_gt(pwrite(fd, junk, sizeof(junk), size_of(&r, name)), 0);
        else
            cut_file(&r, "t1-0/00000000000000000000.index", 0);
        close(fd);
    }
    cr_assert(!log_rig_traced(&r, "rot"));
    free(wal);
    log_rig_end(&r);
}

Test(log_recovery, reports_missing_durable_bytes_and_changes_nothing)
{
    struct log_rig r;
    struct log *logs[5];
    const char *name = "t1-0/00000000000000000000.log";
    log_rig_start(&r);
    reopen(&r, logs, 5, NULL);
    fill(&r, logs, 1, 2000);
    log_rig_stop(&r);
    off_t durable = size_of(&r, name);
    reopen(&r, logs, 5, NULL);
    fill(&r, logs, 1, 2000);
    log_rig_kill(&r);
    cut_file(&r, name, durable - 3000);
    reopen(&r, logs, 5, NULL);
    cr_assert_eq(log_status(logs[0]), KE_KAFKA_STORAGE_ERROR);
    cr_assert_eq(log_status(logs[1]), KE_NONE);
    cr_assert(log_rig_traced(&r, "rot"));
    cr_assert_eq(size_of(&r, name), durable - 3000);
    struct log_rig_append a;
    cr_assert(!log_rig_append(&r, logs[0], &a, BATCH_SPEC(0)));
    cr_assert_eq(a.a.error, KE_KAFKA_STORAGE_ERROR);
    log_rig_kill(&r);
    log_rig_end(&r);
}

/* No folder was synced: the power takes what names it likes. */
static void lose_segment(const struct log_rig *r, const char *base)
{
    static const char *const suffixes[] = {".log", ".index", ".timeindex"};
    for (size_t i = 0; i < 3; i++) {
        char name[100], path[300];
        snprintf(name, sizeof(name), "t1-0/%s%s", base, suffixes[i]);
        path_of(r, path, name);
        cr_assert_eq(unlink(path), 0, "%s", path);
    }
}

Test(log_recovery, begins_below_when_the_power_took_whole_segments_that_the_wal_has)
{
    struct log_rig r;
    struct topic_config config = log_rig_config();
    config.segment_bytes = 500000;
    log_rig_start(&r);
    r.config.wal_file_bytes = 4 << 20;
    log_rig_open(&r);
    log_rig_serve(&r);
    struct log *l = log_rig_log(&r, 1, &config);
    char path[300];
    path_of(&r, path, "t1-0/00000000000000000008.log");
    for (int i = 0; i < 20; i++) /* a MiB in memory is flushed */
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.value_size = 100000)), KE_NONE);
    LOG_UNTIL(&r, access(path, F_OK) == 0);
    log_rig_kill(&r);
    lose_segment(&r, "00000000000000000000");
    lose_segment(&r, "00000000000000000004");
    log_rig_open(&r);
    l = log_rig_log(&r, 1, &config);
    log_rig_serve(&r);
    cr_assert_eq(log_start_offset(l), 0);
    cr_assert_eq(log_rig_check(&r, l, 0), 20);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_recovery, keeps_what_write_caching_put_into_segments_and_cuts_a_torn_batch)
{
    struct log_rig r;
    struct log *l[1];
    struct topic_config config = log_rig_config();
    config.write_caching = true;
    const char *name = "t1-0/00000000000000000000.log";
    log_rig_start(&r);
    reopen(&r, l, 1, &config);
    for (uint32_t i = 0; i < 20; i++)
        cr_assert_eq(log_rig_put(&r, l[0], BATCH_SPEC(.value_size = 1000)), KE_NONE);
    log_rig_kill(&r);
    reopen(&r, l, 1, &config);
    cr_assert_eq(log_rig_check(&r, l[0], 0), 20);
    log_rig_kill(&r);
    cut_file(&r, name, size_of(&r, name) - 10);
    reopen(&r, l, 1, &config);
    cr_assert_eq(log_rig_check(&r, l[0], 0), 19);
    cr_assert_eq(log_rig_put(&r, l[0], BATCH_SPEC(0)), KE_NONE);
    cr_assert_eq(log_rig_check(&r, l[0], 0), 20);
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* What write.caching lost before records that are durable is no damage, then or later. */
Test(log_recovery, passes_over_what_write_caching_has_lost)
{
    struct log_rig r;
    struct log *l[1];
    struct topic_config cached = log_rig_config(), durable = cached;
    cached.write_caching = true;
    const char *name = "t1-0/00000000000000000000.log";
    log_rig_start(&r);
    reopen(&r, l, 1, &cached);
    for (uint32_t i = 0; i < 20; i++)
        cr_assert_eq(log_rig_put(&r, l[0], BATCH_SPEC(.value_size = 1000)), KE_NONE);
    log_reconfigure(l[0], &durable);
    cr_assert_eq(log_rig_put(&r, l[0], BATCH_SPEC(.value_size = 1000)), KE_NONE);
    log_rig_kill(&r);
    cut_file(&r, name, size_of(&r, name) / 20 * 10);
    for (uint32_t life = 0; life < 2; life++) {
        reopen(&r, l, 1, &durable);
        cr_assert(log_rig_traced(&r, "acknowledged under write.caching and are lost"));
        cr_assert_eq(log_status(l[0]), KE_NONE);
        cr_assert_eq(log_end_offset(l[0]), 21);
        cr_assert_eq(read_at(&r, l[0], 12), KE_NONE);
        log_rig_stop(&r);
        r.config.clean_start = true;
    }
    log_rig_end(&r);
}

Test(log_recovery, follows_partitions_to_another_number_of_cores)
{
    struct log_rig r;
    struct log *logs[5];
    log_rig_start(&r);
    r.config.cores_count = 3;
    r.config.core = 2;
    reopen(&r, logs, 5, NULL);
    fill(&r, logs, 2, 1000);
    log_rig_kill(&r);
    r.config.cores_count = 2;
    r.config.core = 0;
    reopen(&r, logs, 5, NULL);
    cr_assert_eq(check_all(&r, logs), 128);
    fill(&r, logs, 2, 1000);
    log_rig_kill(&r);
    cr_assert_eq(size_of(&r, "wal-0-0.torc"), (off_t)r.config.wal_file_bytes);
    char path[300];
    path_of(&r, path, "wal-2-0.torc");
    cr_assert_eq(access(path, F_OK), -1);
    reopen(&r, logs, 5, NULL);
    cr_assert_eq(check_all(&r, logs), 256);
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* The base offset of a batch is in no checksum. */
Test(log_recovery, never_serves_half_a_batch_behind_one_whose_offset_fell)
{
    struct log_rig r;
    struct log *logs[1];
    uint8_t zeros[8] = {0};
    log_rig_start(&r);
    reopen(&r, logs, 1, NULL);
    for (uint32_t i = 0; i < 40; i++)
        cr_assert_eq(log_rig_put(&r, logs[0], BATCH_SPEC(.value_size = 300)), KE_NONE);
    log_rig_stop(&r);
    off_t size = size_of(&r, "t1-0/00000000000000000000.log");
    int fd = open_file(&r, "t1-0/00000000000000000000.log");
    cr_assert_eq(pwrite(fd, zeros, sizeof(zeros), size / 40 * 6), (ssize_t)sizeof(zeros));
    close(fd);
    r.config.clean_start = true; /* nothing is looked through */
    reopen(&r, logs, 1, NULL);
    static struct log_read read;
    read = (struct log_read){.offset = 3, .max_bytes = 100000, .whole_first_batch = true};
    log_rig_read(&r, logs[0], &read);
    cr_assert_eq(read.error, KE_NONE);
    cr_assert_eq(read.next_offset, 6); /* as far as it is sound */
    cr_assert_eq(read.bytes, (uint32_t)(size / 40 * 3));
    log_read_release(r.core, &read);
    read = (struct log_read){.offset = 7, .max_bytes = 100000, .whole_first_batch = true};
    log_rig_read(&r, logs[0], &read);
    cr_assert_eq(read.error, KE_CORRUPT_MESSAGE); /* what is in front of it is not in order */
    log_read_release(r.core, &read);
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_recovery, believes_no_offset_that_its_segment_cannot_hold)
{
    struct log_rig r;
    struct log *logs[1];
    static const uint8_t far[8] = {0x40},
                         last[8] = {0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    log_rig_start(&r);
    for (uint32_t how = 0; how < 2; how++) {
        r.config.clean_start = how > 0;
        reopen(&r, logs, 1, NULL);
        if (how == 0) {
            for (uint32_t i = 0; i < 10; i++)
                cr_assert_eq(log_rig_put(&r, logs[0], BATCH_SPEC(.records = 2)), KE_NONE);
            log_rig_stop(&r);
        } else {
            log_rig_kill(&r);
        }
        off_t size = size_of(&r, "t1-0/00000000000000000000.log");
        int fd = open_file(&r, "t1-0/00000000000000000000.log");
        cr_assert_eq(pwrite(fd, how == 0 ? far : last, 8, size / 10 * 9), 8);
        close(fd);
        r.config.clean_start = true; /* nothing is looked through */
        reopen(&r, logs, 1, NULL);
        cr_assert_eq(log_status(logs[0]), KE_KAFKA_STORAGE_ERROR);
        cr_assert_eq(log_rig_put(&r, logs[0], BATCH_SPEC(.records = 1)), KE_KAFKA_STORAGE_ERROR);
        log_rig_kill(&r);
    }
    log_rig_end(&r);
}
