/* What is to go from a log directory: piece by piece, one after the other, whatever comes between.
 */
#include "tests/broker/log_rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/log/log_priv.h"
#include "broker/log/removal.h"
#include "broker/log/segment.h"

#define LARGE ((9u << 20) + 100)

static struct log *start(struct log_rig *r, const struct topic_config *config)
{
    log_rig_open(r);
    struct log *l = log_rig_log(r, 1, config);
    log_rig_serve(r);
    return l;
}

/* A file of so many bytes, none of which is zero. */
static const char *make_file(struct log_rig *r, char path[400], const char *name, uint32_t size)
{
    snprintf(path, 400, "%s/%s", r->dirs[0], name);
    uint8_t *bytes = malloc(size + 1);
    memset(bytes, 'a', size + 1);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    cr_assert_geq(fd, 0, "%s", path);
    cr_assert_eq(write(fd, bytes, size), (ssize_t)size);
    cr_assert_eq(fsync(fd), 0);
    close(fd);
    free(bytes);
    return path;
}

static bool there(const char *path)
{
    return access(path, F_OK) == 0;
}

static uint8_t byte_of(int fd)
{
    uint8_t byte = 0;
    cr_assert_eq(pread(fd, &byte, 1, 0), 1);
    return byte;
}

static void go_away(struct log_rig *r, const char *path, enum removal_kind kind)
{
    removal_plan(r->core, 0, path, kind, 0);
}

Test(log_removal, takes_a_large_file_in_pieces_and_a_turn_for_each)
{
    struct log_rig r;
    char path[400];
    struct stat st;
    blkcnt_t last = INT64_MAX;
    uint32_t steps = 0;
    log_rig_start(&r);
    (void)start(&r, NULL);
    go_away(&r, make_file(&r, path, "large", LARGE), REMOVE_FILE);
    while (there(path)) {
        log_rig_turn(&r);
        if (stat(path, &st) != 0)
            break;
        steps += st.st_blocks < last;
        last = st.st_blocks;
    }
    cr_assert_geq(steps, 4, "%u times less", steps);
    cr_assert_eq(last, 0, "when its name goes no room is left to be given back");
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_removal, keeps_the_bytes_of_what_is_read_and_of_nothing_else)
{
    struct log_rig r;
    char read[400], other[400], twice[400];
    log_rig_start(&r);
    (void)start(&r, NULL);
    int fds[3] = {open(make_file(&r, read, "read", 5000), O_RDONLY),
                  open(make_file(&r, other, "other", 5000), O_RDONLY),
                  open(make_file(&r, twice, "twice", 5000), O_RDONLY)};
    go_away(&r, twice, REMOVE_FILE); /* of the name that another one had, who nobody read */
    go_away(&r, read, REMOVE_READ_FILE);
    go_away(&r, other, REMOVE_FILE);
    go_away(&r, twice, REMOVE_READ_FILE);
    LOG_UNTIL(&r, !there(read) && !there(other) && !there(twice));
    cr_assert_eq(byte_of(fds[0]), 'a');
    cr_assert_eq(byte_of(fds[1]), 0);
    cr_assert_eq(byte_of(fds[2]), 'a');
    for (uint32_t i = 0; i < 3; i++)
        close(fds[i]);
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* Retention takes the first segments while the very first is read. */
Test(log_removal, a_segment_that_is_read_when_it_goes_keeps_its_bytes)
{
    struct log_rig r;
    struct topic_config config = log_rig_config();
    char path[2][400];
    int fds[2];
    config.segment_bytes = 20000;
    log_rig_start(&r);
    struct log *l = start(&r, &config);
    for (uint32_t i = 0; i < 50; i++) /* 5 segments of 10 batches */
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(.value_size = 1900)), KE_NONE);
    log_rig_stop(&r);
    config.file_delete_delay_ms = 0;
    config.retention_bytes = 25000;
    r.config.clean_start = true;
    l = start(&r, &config);
    for (uint32_t i = 0; i < 2; i++) {
        snprintf(path[i], sizeof(path[i]), "%s/t1-0/%020u.log", r.dirs[0], 10 * i);
        fds[i] = open(path[i], O_RDONLY);
        cr_assert_geq(fds[i], 0);
        cr_assert_eq(lseek(fds[i], 4, SEEK_SET), 4);
    }
    uint8_t before[2][100], after[2][100], zeros[100] = {0};
    for (uint32_t i = 0; i < 2; i++)
        cr_assert_eq(pread(fds[i], before[i], 100, 0), 100);
    struct segment *s = l->segments[0];
    segment_use(s);
    log_core_retain_now(r.core);
    LOG_UNTIL(&r, log_start_offset(l) == 30);
    for (uint32_t i = 0; i < 2; i++) {
        LOG_UNTIL(&r, !there(path[i])); /* first it has another name */
        strcat(path[i], ".deleted");
        LOG_UNTIL(&r, !there(path[i]));
        cr_assert_eq(pread(fds[i], after[i], 100, 0), 100);
    }
    cr_assert_arr_eq(after[0], before[0], 100);
    cr_assert_arr_eq(after[1], zeros, 100);
    segment_unuse(l, s);
    close(fds[0]);
    close(fds[1]);
    log_rig_stop(&r);
    log_rig_end(&r);
}

/* The middle: some of the room is given back, and the name is still there. */
static void kill_in_the_middle(struct log_rig *r, const char *path)
{
    struct stat st;
    do {
        log_rig_turn(r);
        cr_assert_eq(stat(path, &st), 0);
    } while (st.st_blocks >= LARGE / 512);
    log_rig_kill(r);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert(st.st_blocks > 0 && st.st_size == LARGE);
}

Test(log_removal, a_kill_in_the_middle_leaves_what_the_next_start_removes)
{
    static const char *const names[] = {"t1-0/00000000000000000000.log.deleted",
                                        "t2-0.0123456789abcdef0123456789abcdef-delete"};
    for (uint32_t i = 0; i < 2; i++) {
        struct log_rig r;
        char path[400], file[400];
        log_rig_start(&r);
        struct log *l = start(&r, NULL);
        cr_assert_eq(log_rig_put(&r, l, BATCH_SPEC(0)), KE_NONE);
        snprintf(path, sizeof(path), "%s/%s", r.dirs[0], names[i]);
        cr_assert(i == 0 || mkdir(path, 0755) == 0);
        make_file(&r, file, i == 0 ? names[0] : "t2-0.0123456789abcdef0123456789abcdef-delete/a",
                  LARGE);
        go_away(&r, path, i == 0 ? REMOVE_FILE : REMOVE_FOLDER);
        kill_in_the_middle(&r, file);
        l = start(&r, NULL);
        LOG_UNTIL(&r, !there(path));
        cr_assert_eq(log_rig_check(&r, l, 0), 1);
        log_rig_stop(&r);
        log_rig_end(&r);
    }
}

Test(log_removal, a_stop_does_not_wait_for_what_is_still_to_go)
{
    struct log_rig r;
    char path[400];
    log_rig_start(&r);
    (void)start(&r, NULL);
    go_away(&r, make_file(&r, path, "large", LARGE), REMOVE_FILE);
    struct stat st;
    do {
        log_rig_turn(&r);
        cr_assert_eq(stat(path, &st), 0);
    } while (st.st_blocks >= LARGE / 512);
    log_rig_stop(&r);
    cr_assert(there(path));
    log_rig_end(&r);
}

Test(log_removal, what_cannot_go_is_reported_and_the_next_goes)
{
    struct log_rig r;
    char folder[300], file[400], next[400];
    log_rig_start(&r);
    (void)start(&r, NULL);
    snprintf(folder, sizeof(folder), "%s/t2-0.x-delete", r.dirs[0]);
    snprintf(file, sizeof(file), "%s/within", folder);
    cr_assert(mkdir(folder, 0755) == 0 && mkdir(file, 0755) == 0);
    go_away(&r, folder, REMOVE_FOLDER);
    go_away(&r, "/proc/self/nothing-of-the-sort",
            REMOVE_FILE); /* to be there no more is no error */
    go_away(&r, make_file(&r, next, "next", 1), REMOVE_FILE);
    LOG_UNTIL(&r, !there(next));
    cr_assert(there(folder));
    cr_assert(log_rig_traced(&r, "t2-0.x-delete cannot be removed: Is a directory"));
    cr_assert_not(log_rig_traced(&r, "nothing-of-the-sort"));
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_removal, a_folder_goes_with_more_files_than_one_listing_names)
{
    struct log_rig r;
    char folder[300], name[400], path[400];
    log_rig_start(&r);
    (void)start(&r, NULL);
    snprintf(folder, sizeof(folder), "%s/many-delete", r.dirs[0]);
    cr_assert_eq(mkdir(folder, 0755), 0);
    for (uint32_t i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "many-delete/%080u.timeindex", i);
        make_file(&r, path, name, i % 2);
    }
    go_away(&r, folder, REMOVE_FOLDER);
    LOG_UNTIL(&r, !there(folder));
    log_rig_stop(&r);
    log_rig_end(&r);
}

Test(log_removal, waits_until_it_is_due_unless_the_directory_is_full)
{
    struct log_rig r;
    char path[400];
    log_rig_start(&r);
    (void)start(&r, NULL);
    make_file(&r, path, "later", 1000);
    removal_plan(r.core, 0, path, REMOVE_FILE, io_now_ns(r.io.io) + 3600 * NS_PER_S);
    uint64_t until_ns = io_now_ns(r.io.io) + 1500 * NS_PER_MS; /* beyond a tick */
    LOG_UNTIL(&r, io_now_ns(r.io.io) >= until_ns);
    cr_assert(there(path));
    dir_full(&r.core->dirs[0]);
    removal_tick(r.core->removal);
    LOG_UNTIL(&r, !there(path));
    log_rig_stop(&r);
    log_rig_end(&r);
}
