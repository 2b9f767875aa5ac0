/* The metadata log on a disk whose sync fails: the page cache then shows what no disk has. */
#include "tests/io/sim_rig.h"

#include <errno.h>
#include <string.h>

#include "broker/quorum/metalog.h"

struct tape {
    struct sim_rig rig;
    struct trace trace;
    struct metalog *log;
    uint32_t batches;
    bool ended;
    uint64_t used_before;
};

static void say(void *context, const char *line, size_t size)
{
    (void)context;
    (void)line;
    (void)size;
}

static int got(void *context, enum metalog_source source, const uint8_t *batch,
               const struct batch_header *h)
{
    struct tape *t = context;
    cr_assert_eq(source, METALOG_LOG);
    cr_assert(batch_crc_matches(batch, h->size));
    t->batches++;
    return 0;
}

static void tape_open(struct tape *t)
{
    char why[512];
    struct metalog_reader reader = {t, got};
    t->used_before = t->rig.mem.used_bytes; /* io's own */
    trace_init(&t->trace, say, NULL, io_wall_pointer(t->rig.io));
    struct metalog_options options = {.io = t->rig.io,
                                      .mem = &t->rig.mem,
                                      .trace = &t->trace,
                                      .log_dir = "/d",
                                      .segment_bytes = 1 << 30,
                                      .segment_ms = INT64_MAX,
                                      .retention_bytes = -1,
                                      .retention_ms = -1};
    t->batches = 0;
    cr_assert_eq(metalog_open(&t->log, &options, &reader, why, sizeof(why)), 0, "%s", why);
}

static void appended(struct op *op)
{
    (void)op;
}

/* What the append ended with. */
static int tape_append(struct tape *t, const char *value)
{
    uint8_t bytes[256];
    struct batch_builder b;
    struct batch_header h = batch_header_plain(metalog_end_offset(t->log));
    h.leader_epoch = 1;
    batch_builder_init(&b, bytes, sizeof(bytes), &h);
    cr_assert(batch_builder_add(
        &b, io_wall_ms(t->rig.io), (struct batch_field){NULL, 0},
        (struct batch_field){(const uint8_t *)value, (uint32_t)strlen(value)}, NULL, 0));
    uint32_t size = batch_builder_finish(&b);
    struct op op;
    op_init(&op, appended);
    metalog_append(t->log, bytes, size, &op);
    SIM_UNTIL(&t->rig, !op.armed);
    return op.result;
}

/* Whether the append whose sync failed was seen by the next life. */
static bool lost_and_found(uint64_t seed)
{
    struct tape t = {0};
    sim_rig_start(&t.rig, seed);
    cr_assert_eq(io_mkdir(t.rig.io, "/d"), 0);
    cr_assert_eq(io_sync_directory(t.rig.io, "/"), 0);
    tape_open(&t);
    cr_assert_eq(tape_append(&t, "durable"), 0);
    sim_disk_fail(t.rig.machine, SIM_DISK_WRITE, 0, 1, -EIO);
    cr_assert_eq(tape_append(&t, "in the page cache alone"), -EIO);
    sim_rig_kill(&t.rig);
    tape_open(&t);
    uint32_t seen = t.batches; /* believed, and built upon */
    cr_assert_geq(seen, 1);
    sim_rig_cut(&t.rig);
    tape_open(&t);
    cr_assert_eq(t.batches, seen);
    cr_assert_eq(metalog_close(t.log, true), 0);
    cr_assert_eq(t.rig.mem.used_bytes, t.used_before);
    sim_rig_stop(&t.rig);
    return seen > 1;
}

Test(metalog_lost, keeps_what_a_start_has_read_though_its_sync_had_failed)
{
    uint32_t found = 0;
    for (uint64_t seed = 1; seed <= 20; seed++)
        found += lost_and_found(seed);
    cr_assert_gt(found, 0);
}
