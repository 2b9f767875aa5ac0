/* The metadata log's files: what a crash, rot and time do to them. */
#include "tests/io/rig.h"

#include <errno.h>

#include "broker/quorum/metalog.h"
#include "broker/quorum/records.h"
#include "proto/gen/record_cluster.h"
#include "proto/gen/record_quorum.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct tape {
    struct rig rig;
    struct mem mem;
    struct trace trace;
    struct metalog *log;
    struct metalog_options options;
    /* what the reader got */
    int64_t offsets[4096];
    uint32_t batches, snapshot_batches;
    char why[512], path[256];
};

static void say(void *context, const char *line, size_t size)
{
    (void)context;
    (void)line;
    (void)size;
}

static void tape_begin(struct tape *t)
{
    memset(t, 0, sizeof(*t));
    rig_start(&t->rig, (struct rig_options){0});
    cr_assert_eq(mem_init(&t->mem, 256u << 20), 0);
    trace_init(&t->trace, say, NULL, io_wall_pointer(t->rig.io));
    t->options = (struct metalog_options){.io = t->rig.io,
                                          .mem = &t->mem,
                                          .trace = &t->trace,
                                          .log_dir = rig_directory(&t->rig),
                                          .segment_bytes = 1 << 30,
                                          .segment_ms = INT64_MAX,
                                          .retention_bytes = -1,
                                          .retention_ms = -1};
}

static int got(void *context, enum metalog_source source, const uint8_t *batch,
               const struct batch_header *h)
{
    struct tape *t = context;
    cr_assert(batch_crc_matches(batch, h->size));
    if (source == METALOG_SNAPSHOT)
        t->snapshot_batches++;
    else
        t->offsets[t->batches++] = h->base_offset;
    return 0;
}

static int tape_open(struct tape *t)
{
    struct metalog_reader reader = {t, got};
    t->batches = t->snapshot_batches = 0;
    return metalog_open(&t->log, &t->options, &reader, t->why, sizeof(t->why));
}

static void tape_end(struct tape *t)
{
    char folder[128];
    cr_assert_eq(t->mem.used_bytes, 0);
    mem_destroy(&t->mem);
    rig_path(&t->rig, folder, METALOG_FOLDER);
    cr_assert_eq(io_remove_tree(t->rig.io, folder), 0);
    rig_stop(&t->rig);
}

static void nothing(struct op *op)
{
    (void)op;
}

/* One batch of count records of size bytes each. */
static int append(struct tape *t, int32_t epoch, uint32_t count, uint32_t size)
{
    struct batch_buffer b;
    struct record_value values[64];
    static uint8_t bytes[65536];
    struct op op;
    cr_assert(count <= 64 && size <= sizeof(bytes));
    for (uint32_t i = 0; i < count; i++)
        values[i] = (struct record_value){bytes, size};
    batch_buffer_init(&b, &t->mem);
    batch_buffer_add_records(&b, metalog_end_offset(t->log), epoch, io_wall_ms(t->rig.io), values,
                             count);
    cr_assert(!b.failed);
    op_init(&op, nothing);
    metalog_append(t->log, b.data, (uint32_t)b.size, &op);
    cr_assert(op.armed);
    RIG_UNTIL(&t->rig, !op.armed);
    batch_buffer_release(&b);
    return op.result;
}

static int snapshot(struct tape *t, int32_t epoch, uint32_t size)
{
    struct batch_buffer b;
    struct op op;
    struct snapshot_header_record header;
    struct snapshot_footer_record footer;
    static uint8_t bytes[65536];
    struct record_value value = {bytes, size};
    snapshot_header_record_init(&header);
    snapshot_footer_record_init(&footer);
    header.last_contained_log_timestamp = io_wall_ms(t->rig.io);
    struct control_record first = {BATCH_CONTROL_SNAPSHOT_HEADER, &header, 0};
    struct control_record last = {BATCH_CONTROL_SNAPSHOT_FOOTER, &footer, 0};
    batch_buffer_init(&b, &t->mem);
    batch_buffer_add_controls(&b, 0, epoch, 1, &first, 1);
    batch_buffer_add_records(&b, 1, epoch, 1, &value, 1);
    batch_buffer_add_controls(&b, 2, epoch, 1, &last, 1);
    op_init(&op, nothing);
    metalog_snapshot(t->log, (struct snapshot_id){metalog_end_offset(t->log), epoch}, b.data,
                     b.size, io_wall_ms(t->rig.io), &op);
    RIG_UNTIL(&t->rig, !op.armed);
    batch_buffer_release(&b);
    return op.result;
}

static const char *file(struct tape *t, const char *name)
{
    snprintf(t->path, sizeof(t->path), "%s/" METALOG_FOLDER "/%s", t->rig.directory, name);
    return t->path;
}

static uint64_t file_size(struct tape *t, const char *name)
{
    struct io_stat stat;
    return io_stat(t->rig.io, file(t, name), &stat) == 0 ? stat.size : UINT64_MAX;
}

static void overwrite(struct tape *t, const char *name, uint64_t at, const void *bytes, size_t size)
{
    int fd = io_open(t->rig.io, file(t, name), IO_WRITE);
    cr_assert_geq(fd, 0);
    cr_assert_eq(io_pwrite(t->rig.io, fd, bytes, size, at), (int64_t)size);
    io_close(t->rig.io, fd);
}

static void shorten(struct tape *t, const char *name, uint64_t size)
{
    int fd = io_open(t->rig.io, file(t, name), IO_WRITE);
    cr_assert_geq(fd, 0);
    cr_assert_eq(io_truncate(t->rig.io, fd, size), 0);
    io_close(t->rig.io, fd);
}

#define MARK "durable-end.torc"

/* What a power cut may leave: also the mark is of before. */
static void cut(struct tape *t, const char *name, uint64_t size)
{
    shorten(t, name, size);
    int error = io_unlink(t->rig.io, file(t, MARK));
    cr_assert(error == 0 || error == -ENOENT);
}

#define LOG0 "00000000000000000000.log"

Test(quorum_metalog, gives_back_what_was_appended)
{
    struct tape t;
    tape_begin(&t);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(metalog_end_offset(t.log), 0);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(append(&t, 1 + i / 50, 3, 40), 0);
    cr_assert_eq(metalog_close(t.log, true), 0);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(t.batches, 100);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(t.offsets[i], 3 * i);
    cr_assert_eq(metalog_end_offset(t.log), 300);
    cr_assert_eq(metalog_last_epoch(t.log), 2);
    cr_assert_eq(metalog_close(t.log, true), 0);
    cr_assert_gt(file_size(&t, "00000000000000000000.index"), 0);
    cr_assert_eq(file_size(&t, "00000000000000000000.index") % 8, 0);
    cr_assert_eq(file_size(&t, "00000000000000000000.timeindex") % 12, 0);
    cr_assert_eq(file_size(&t, "partition.metadata"), 43);
    tape_end(&t);
}

Test(quorum_metalog, a_tail_torn_at_any_byte_is_cut_off_and_nothing_else)
{
    struct tape t;
    tape_begin(&t);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(append(&t, 1, 2, 30), 0);
    uint64_t whole = file_size(&t, LOG0);
    cr_assert_eq(append(&t, 1, 2, 30), 0);
    cr_assert_eq(metalog_close(t.log, false), 0);
    uint64_t full = file_size(&t, LOG0);
    uint8_t last[512];
    int fd = io_open(t.rig.io, file(&t, LOG0), IO_READ);
    cr_assert_eq(io_pread(t.rig.io, fd, last, full - whole, whole), (int64_t)(full - whole));
    io_close(t.rig.io, fd);
    for (uint64_t kept = 0; kept < full - whole; kept++) {
        /* A file that ends early, and one whose last blocks never came. */
        for (int zeros = 0; zeros < 2; zeros++) {
            static const uint8_t zero[512];
            cut(&t, LOG0, whole);
            overwrite(&t, LOG0, whole, last, kept);
            if (zeros)
                overwrite(&t, LOG0, whole + kept, zero, full - whole - kept);
            cr_assert_eq(tape_open(&t), 0, "%llu: %s", (unsigned long long)kept, t.why);
            /* Zeros may be what was written there: then nothing is torn. */
            bool untouched = zeros && memcmp(last + kept, zero, full - whole - kept) == 0;
            cr_assert_eq(t.batches, untouched ? 4 : 3);
            cr_assert_eq(metalog_end_offset(t.log), untouched ? 8 : 6);
            cr_assert_eq(metalog_close(t.log, false), 0);
            cr_assert_eq(file_size(&t, LOG0), untouched ? full : whole);
        }
    }
    /* And it goes on from there. */
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(append(&t, 2, 1, 10), 0);
    cr_assert_eq(metalog_close(t.log, true), 0);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(metalog_close(t.log, true), 0);
    tape_end(&t);
}

Test(quorum_metalog, rot_before_a_later_leaders_records_is_refused_and_left_alone)
{
    struct tape t;
    tape_begin(&t);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(append(&t, 1, 2, 30), 0);
    uint64_t second = file_size(&t, LOG0);
    cr_assert_eq(append(&t, 1, 2, 30), 0);
    cr_assert_eq(append(&t, 2, 2, 30), 0);
    cr_assert_eq(metalog_note_epoch(t.log, 2, 4), 0);
    cr_assert_eq(metalog_close(t.log, true), 0);
    uint64_t full = file_size(&t, LOG0);
    overwrite(&t, LOG0, second + 70, "\xff", 1);
    cr_assert_eq(tape_open(&t), -EBADMSG);
    cr_assert(strstr(t.why, "damaged") != NULL, "%s", t.why);
    cr_assert_eq(file_size(&t, LOG0), full);
    tape_end(&t);
}

/* The leader's first group is several batches in one write, of which any sectors may be missing. */
Test(quorum_metalog, what_was_durable_is_never_cut_off)
{
    struct tape t;
    uint8_t bad = 0x55;
    tape_begin(&t);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(append(&t, 1, 2, 30), 0);
    uint64_t first = file_size(&t, LOG0);
    cr_assert_eq(append(&t, 1, 2, 30), 0);
    uint64_t whole = file_size(&t, LOG0);
    cr_assert_eq(metalog_close(t.log, false), 0);
    overwrite(&t, LOG0, first + 70, &bad, 1); /* looks like an unfinished write */
    cr_assert_eq(tape_open(&t), -EBADMSG);
    cr_assert(strstr(t.why, "restore it from a copy") != NULL, "%s", t.why);
    cr_assert_eq(file_size(&t, LOG0), whole);
    shorten(&t, LOG0, first); /* looks like nothing at all */
    cr_assert_eq(tape_open(&t), -EBADMSG);
    cr_assert(strstr(t.why, "was durable up to 4") != NULL, "%s", t.why);
    overwrite(&t, MARK, 5, &bad, 1); /* a mark that is damaged is as none */
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(metalog_end_offset(t.log), 2);
    cr_assert_eq(metalog_close(t.log, true), 0);
    tape_end(&t);
}

Test(quorum_metalog, a_torn_first_write_of_an_epoch_is_cut_off_even_if_its_end_is_whole)
{
    struct tape t;
    tape_begin(&t);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(append(&t, 1, 2, 30), 0);
    cr_assert_eq(metalog_note_epoch(t.log, 1, 0), 0);
    uint64_t second = file_size(&t, LOG0);
    cr_assert_eq(append(&t, 2, 2, 30), 0);
    cr_assert_eq(append(&t, 2, 2, 30), 0);
    cr_assert_eq(metalog_close(t.log, false), 0);
    cr_assert_eq(io_unlink(t.rig.io, file(&t, MARK)), 0); /* it was not there yet */
    overwrite(&t, LOG0, second + 70, "\xff", 1);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(t.batches, 1);
    cr_assert_eq(metalog_close(t.log, false), 0);
    cr_assert_eq(file_size(&t, LOG0), second);
    tape_end(&t);
}

Test(quorum_metalog, rot_in_a_segment_that_is_not_the_last_is_refused)
{
    struct tape t;
    tape_begin(&t);
    t.options.segment_bytes = 300;
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    for (int i = 0; i < 8; i++)
        cr_assert_eq(append(&t, 1, 2, 30), 0);
    cr_assert_eq(metalog_close(t.log, true), 0);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(t.batches, 8);
    cr_assert_eq(metalog_close(t.log, true), 0);
    overwrite(&t, LOG0, 70, "\xff", 1);
    cr_assert_eq(tape_open(&t), -EBADMSG);
    tape_end(&t);
}

/* The room that a log has ahead is of its segment's file: the index may find none. */
Test(quorum_metalog, goes_on_in_its_segment_while_the_index_has_no_space)
{
    struct tape t;
    char index[256];
    tape_begin(&t);
    t.options.segment_bytes = 300;
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    rig_path(&t.rig, index, METALOG_FOLDER "/00000000000000000000.timeindex");
    cr_assert_eq(symlink("/dev/full", index), 0);
    for (int i = 0; i < 8; i++)
        cr_assert_eq(append(&t, 1, 2, 30), 0);
    cr_assert_eq(unlink(index), 0);
    cr_assert_eq(append(&t, 1, 2, 30), 0);
    cr_assert_eq(metalog_close(t.log, true), 0);
    cr_assert_gt(file_size(&t, LOG0), 600);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(t.batches, 9);
    cr_assert_eq(metalog_close(t.log, true), 0);
    tape_end(&t);
}

Test(quorum_metalog, begins_from_the_newest_whole_snapshot)
{
    struct tape t;
    tape_begin(&t);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(metalog_latest_snapshot(t.log).offset, -1);
    cr_assert_eq(append(&t, 1, 2, 30), 0);
    cr_assert_eq(snapshot(&t, 1, 100), 0);
    cr_assert_eq(append(&t, 1, 3, 30), 0);
    cr_assert_eq(snapshot(&t, 1, 100), 0);
    cr_assert_eq(append(&t, 1, 4, 30), 0);
    cr_assert_eq(metalog_latest_snapshot(t.log).offset, 5);
    cr_assert_eq(metalog_close(t.log, false), 0);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(t.snapshot_batches, 3);
    cr_assert_eq(t.batches, 1);
    cr_assert_eq(t.offsets[0], 5);
    cr_assert_eq(metalog_close(t.log, false), 0);
    /* Rotten: the one before it, and more of the log. */
    overwrite(&t, "00000000000000000005-0000000001.checkpoint", 120, "\xff", 1);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(t.batches, 2);
    cr_assert_eq(t.offsets[0], 2);
    cr_assert_eq(metalog_latest_snapshot(t.log).offset, 2);
    cr_assert_eq(metalog_close(t.log, false), 0);
    /* Cut short: the same. */
    cut(&t, "00000000000000000002-0000000001.checkpoint", 200);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(t.batches, 3);
    cr_assert_eq(t.snapshot_batches, 0);
    cr_assert_eq(metalog_close(t.log, false), 0);
    tape_end(&t);
}

Test(quorum_metalog, leftovers_of_snapshots_are_removed)
{
    struct tape t;
    tape_begin(&t);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(metalog_close(t.log, false), 0);
    static const char *const names[] = {"00000000000000000002-0000000001.checkpoint.part",
                                        "2-1-8237482374.checkpoint.part",
                                        "00000000000000000002-0000000001.checkpoint.deleted"};
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(io_replace(t.rig.io, file(&t, names[i]), "x", 1), 0);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    for (size_t i = 0; i < 3; i++)
        cr_assert_eq(file_size(&t, names[i]), UINT64_MAX);
    cr_assert_eq(metalog_close(t.log, false), 0);
    tape_end(&t);
}

Test(quorum_metalog, retention_drops_old_snapshots_with_the_log_before_the_next)
{
    struct tape t;
    tape_begin(&t);
    t.options.segment_bytes = 4000;
    t.options.retention_bytes = 12000;
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    for (int i = 0; i < 10; i++) {
        for (int k = 0; k < 3; k++)
            cr_assert_eq(append(&t, 1 + i, 1, 1000), 0);
        cr_assert_eq(snapshot(&t, 1 + i, 500), 0);
        metalog_clean(t.log);
    }
    cr_assert_gt(metalog_start_offset(t.log), 0);
    cr_assert_eq(metalog_latest_snapshot(t.log).offset, 30);
    int64_t start = metalog_start_offset(t.log);
    cr_assert_eq(metalog_close(t.log, true), 0);
    cr_assert_eq(file_size(&t, LOG0), UINT64_MAX);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(metalog_start_offset(t.log), start);
    cr_assert_eq(metalog_end_offset(t.log), 30);
    cr_assert_eq(t.snapshot_batches, 3);
    cr_assert_eq(metalog_close(t.log, true), 0);
    /* Without any snapshot such a log is not a whole one. */
    for (int64_t at = 3; at <= 30; at += 3) {
        char name[64];
        snprintf(name, sizeof(name), "%020lld-%010lld.checkpoint", (long long)at,
                 (long long)at / 3);
        (void)!io_unlink(t.rig.io, file(&t, name));
    }
    cr_assert_eq(tape_open(&t), -EBADMSG);
    cr_assert(strstr(t.why, "no usable snapshot") != NULL, "%s", t.why);
    tape_end(&t);
}

/* The next start refuses a log with a gap. */
Test(quorum_metalog, no_segment_goes_while_one_before_it_stays)
{
    struct tape t;
    char log0[256], aside[256];
    tape_begin(&t);
    t.options.segment_bytes = 1000;
    t.options.retention_bytes = 3000;
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 3; k++)
            cr_assert_eq(append(&t, 1, 1, 1000), 0);
        cr_assert_eq(snapshot(&t, 1, 500), 0);
    }
    rig_path(&t.rig, log0, METALOG_FOLDER "/" LOG0);
    rig_path(&t.rig, aside, METALOG_FOLDER "/aside");
    cr_assert_eq(rename(log0, aside), 0);
    cr_assert_eq(io_mkdir(t.rig.io, log0), 0); /* which no unlink removes */
    metalog_clean(t.log);
    cr_assert_eq(io_rmdir(t.rig.io, log0), 0);
    cr_assert_eq(rename(aside, log0), 0);
    cr_assert_eq(metalog_close(t.log, true), 0);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(metalog_end_offset(t.log), 6);
    cr_assert_eq(metalog_close(t.log, true), 0);
    tape_end(&t);
}

Test(quorum_metalog, a_log_that_ends_below_its_snapshot_starts_anew_from_it)
{
    struct tape t;
    tape_begin(&t);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(append(&t, 3, 5, 30), 0);
    cr_assert_eq(snapshot(&t, 3, 100), 0);
    cr_assert_eq(metalog_close(t.log, false), 0);
    cut(&t, LOG0, 100);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(metalog_end_offset(t.log), 20);
    cr_assert_eq(metalog_last_epoch(t.log), 3);
    cr_assert_eq(append(&t, 4, 1, 30), 0);
    cr_assert_eq(metalog_close(t.log, false), 0);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(t.batches, 1);
    cr_assert_eq(metalog_end_offset(t.log), 21);
    cr_assert_eq(metalog_close(t.log, false), 0);
    tape_end(&t);
}

Test(quorum_metalog, remembers_where_epochs_began)
{
    struct tape t;
    tape_begin(&t);
    cr_assert_eq(tape_open(&t), 0, "%s", t.why);
    cr_assert_eq(append(&t, 2, 5, 30), 0);
    cr_assert_eq(append(&t, 7, 5, 30), 0);
    cr_assert_eq(metalog_note_epoch(t.log, 7, 9), 0);
    char *text;
    size_t size;
    cr_assert_eq(io_slurp(t.rig.io, &t.mem, file(&t, "leader-epoch-checkpoint"), 100, &text, &size),
                 0);
    cr_assert_str_eq(text, "0\n2\n2 0\n7 5\n");
    mem_free(&t.mem, text, size + 1);
    cr_assert_eq(metalog_close(t.log, false), 0);
    tape_end(&t);
}
