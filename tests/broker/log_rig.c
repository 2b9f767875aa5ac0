/* The rig for tests of the log: see log_rig.h. */
#include "tests/broker/log_rig.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void rig_sink(void *context, const char *line, size_t size)
{
    struct log_rig *r = context;
    size_t room = sizeof(r->trace_text) - 1 - r->trace_size;
    size = MIN(size, room);
    memcpy(r->trace_text + r->trace_size, line, size);
    r->trace_size += size;
    r->trace_text[r->trace_size] = 0;
    if (getenv("LOG_RIG_TRACE") != NULL)
        fwrite(line, 1, size, stderr);
}

static void rig_dir_failed(void *context, uint32_t dir, int error)
{
    struct log_rig *r = context;
    cr_assert_lt(dir, r->config.dirs_count);
    r->failed_dirs++;
    r->failed_error = error;
}

void log_rig_start(struct log_rig *r)
{
    memset(r, 0, sizeof(*r));
    rig_start(&r->io, (struct rig_options){0});
    compress_init(&r->compress, &r->io.mem);
    wheel_init(&r->wheel, io_now_ns(r->io.io));
    trace_init(&r->trace, rig_sink, r, io_wall_pointer(r->io.io));
    snprintf(r->root, sizeof(r->root), "/var/tmp/torc-log-XXXXXX");
    cr_assert_not_null(mkdtemp(r->root));
    for (uint32_t i = 0; i < LOG_RIG_DIRS; i++) {
        snprintf(r->dir_names[i], sizeof(r->dir_names[i]), "%s/d%u", r->root, i);
        cr_assert_eq(io_mkdir(r->io.io, r->dir_names[i]), 0);
        r->dirs[i] = r->dir_names[i];
        r->dir_ids[i].bytes[0] = (uint8_t)(i + 1);
    }
    r->config = (struct log_core_config){
        .io = r->io.io,
        .mem = &r->io.mem,
        .wheel = &r->wheel,
        .trace = &r->trace,
        .compress = &r->compress,
        .core = 0,
        .cores_count = 1,
        .dirs = r->dirs,
        .dir_ids = r->dir_ids,
        .dirs_count = 1,
        .wal_file_bytes = 256 << 10,
        .wal_files_count = 4,
        .cache_bytes = 8 << 20,
        .retention_check_ms = 300000,
        .checkpoint_ms = 60000,
        .producer_expiration_ms = 86400000,
        .dir_failed = rig_dir_failed,
        .context = r,
    };
}

void log_rig_open(struct log_rig *r)
{
    cr_assert_eq(log_core_start(&r->core, &r->config), 0);
}

void log_rig_serve(struct log_rig *r)
{
    cr_assert_eq(log_core_replay(r->core), 0);
    cr_assert_eq(log_core_serve(r->core), 0);
}

void log_rig_turn(struct log_rig *r)
{
    uint64_t wake = MIN(wheel_next_ns(&r->wheel), io_now_ns(r->io.io) + 10 * NS_PER_MS);
    (void)io_poll(r->io.io, wake, 64);
    (void)wheel_run(&r->wheel, io_now_ns(r->io.io), 64);
    if (r->core != NULL)
        log_core_turn(r->core);
}

void log_rig_kill(struct log_rig *r)
{
    log_core_abandon(r->core);
    LOG_UNTIL(r, !log_core_busy(r->core));
    log_core_free(r->core);
    r->core = NULL;
}

static void rig_stopped(struct op *op)
{
    cr_assert_eq(op->result, 0);
}

void log_rig_stop(struct log_rig *r)
{
    struct op op;
    op_init(&op, rig_stopped);
    log_core_stop(r->core, &op);
    LOG_UNTIL(r, !op.armed);
    LOG_UNTIL(r, !log_core_busy(r->core));
    log_core_free(r->core);
    r->core = NULL;
}

static int rig_remove(const char *path, const struct stat *s, int type, struct FTW *at)
{
    (void)s, (void)type, (void)at;
    return remove(path);
}

void log_rig_end(struct log_rig *r)
{
    cr_assert_null(r->core);
    compress_free(&r->compress);
    cr_assert_eq(nftw(r->root, rig_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
    rig_stop(&r->io);
}

struct uuid log_rig_id(uint32_t n)
{
    struct uuid id = {{0x40}};
    memcpy(&id.bytes[4], &n, sizeof(n));
    return id;
}

struct topic_config log_rig_config(void)
{
    return (struct topic_config){
        .cleanup_policy = CLEANUP_DELETE,
        .compression_type = COMPRESSION_PRODUCER,
        .compression_gzip_level = -1,
        .compression_lz4_level = 9,
        .compression_zstd_level = 3,
        .retention_ms = 604800000,
        .retention_bytes = -1,
        .segment_bytes = 1 << 30,
        .segment_index_bytes = 10 << 20,
        .index_interval_bytes = 4096,
        .segment_ms = 604800000,
        .max_message_bytes = 1048588,
        .flush_messages = INT64_MAX,
        .flush_ms = INT64_MAX,
        .file_delete_delay_ms = 60000,
        .delete_retention_ms = 86400000,
        .max_compaction_lag_ms = INT64_MAX,
        .min_cleanable_dirty_ratio = 0.5,
        .timestamp_before_max_ms = INT64_MAX,
        .timestamp_after_max_ms = 3600000,
        .min_insync_replicas = 1,
    };
}

struct log *log_rig_log(struct log_rig *r, uint32_t n, const struct topic_config *config)
{
    char topic[16];
    int error = 0;
    snprintf(topic, sizeof(topic), "t%u", n);
    struct topic_config plain = log_rig_config();
    struct log_identity id = {
        .topic_id = log_rig_id(n), .topic = topic, .leader_epoch = r->leader_epoch};
    struct log *l = log_open(r->core, &id, config == NULL ? &plain : config, &error);
    cr_assert_not_null(l, "%s", strerror(-error));
    return l;
}

static struct batch_spec spec_filled(struct batch_spec spec)
{
    spec.records = MAX(spec.records, 1u);
    if (spec.value_size == 0)
        spec.value_size = 100;
    return spec;
}

uint32_t log_rig_batch(struct log_rig *r, uint8_t *to, uint32_t room, struct batch_spec spec)
{
    struct batch_builder b;
    struct batch_header h = batch_header_plain(0);
    if (spec.transactional)
        h.attributes |= BATCH_TRANSACTIONAL;
    if (spec.idempotent || spec.transactional) {
        h.producer_id = spec.producer_id;
        h.producer_epoch = spec.producer_epoch;
        h.base_sequence = spec.base_sequence;
    }
    spec = spec_filled(spec);
    uint8_t *value = malloc(spec.value_size + 1);
    memset(value, spec.fill, spec.value_size);
    batch_builder_init(&b, to, room, &h);
    int64_t at = spec.timestamp != 0 ? spec.timestamp : io_wall_ms(r->io.io);
    for (uint32_t i = 0; i < spec.records; i++)
        cr_assert(batch_builder_add(&b, at + i, (struct batch_field){NULL, 0},
                                    (struct batch_field){value, spec.value_size}, NULL, 0));
    free(value);
    return batch_builder_finish(&b);
}

static void rig_append_done(struct log_append *a)
{
    struct log_rig_append *mine = container_of(a, struct log_rig_append, a);
    mine->done++;
}

static bool rig_append(struct log *l, struct log_rig_append *a, uint8_t *bytes, uint32_t size,
                       uint64_t guard)
{
    *a = (struct log_rig_append){.a.txn_guard = guard};
    a->a.records = bytes;
    a->a.records_size = size;
    a->a.produce_version = 9;
    a->a.done = rig_append_done;
    return log_append(l, &a->a);
}

bool log_rig_append_bytes(struct log_rig *r, struct log *l, struct log_rig_append *a,
                          uint8_t *bytes, uint32_t size)
{
    (void)r;
    return rig_append(l, a, bytes, size, 0);
}

bool log_rig_append(struct log_rig *r, struct log *l, struct log_rig_append *a,
                    struct batch_spec spec)
{
    spec = spec_filled(spec);
    uint32_t room = 256 + spec.records * (spec.value_size + 32);
    uint8_t *bytes = malloc(room);
    bool taken = rig_append(l, a, bytes, log_rig_batch(r, bytes, room, spec), spec.guard);
    memset(bytes, 0xee, room); /* it must not be looked at any more */
    free(bytes);
    return taken;
}

enum kafka_error log_rig_put(struct log_rig *r, struct log *l, struct batch_spec spec)
{
    struct log_rig_append a;
    LOG_UNTIL(r, log_core_has_room(r->core)); /* as every caller of log_append does */
    if (!log_rig_append(r, l, &a, spec))
        return a.a.error;
    LOG_UNTIL(r, a.done > 0);
    cr_assert_eq(a.done, 1);
    return a.a.error;
}

enum kafka_error log_rig_mark(struct log_rig *r, struct log *l, struct marker_spec spec)
{
    uint8_t bytes[BATCH_MARKER_SIZE_MAX];
    struct batch_header h = batch_header_plain(0);
    h.producer_id = spec.producer_id;
    h.producer_epoch = spec.producer_epoch;
    struct log_rig_append m = {.a = {.records = bytes,
                                     .origin = LOG_ORIGIN_COORDINATOR,
                                     .transaction_version = spec.version,
                                     .may_repeat = spec.may_repeat,
                                     .done = rig_append_done}};
    m.a.records_size = batch_build_marker(bytes, sizeof(bytes), &h, spec.commit,
                                          spec.coordinator_epoch, io_wall_ms(r->io.io));
    if (!log_append(l, &m.a))
        return m.a.error;
    LOG_UNTIL(r, m.done > 0);
    return m.a.error;
}

static void rig_read_done(struct log_read *r)
{
    r->done = NULL; /* told */
}

void log_rig_read(struct log_rig *r, struct log *l, struct log_read *read)
{
    read->done = rig_read_done;
    if (log_read(l, read))
        return;
    LOG_UNTIL(r, read->done == NULL);
}

int64_t log_rig_check(struct log_rig *r, struct log *l, int64_t offset)
{
    for (uint32_t rounds = 0; rounds < 1000000; rounds++) {
        struct log_read *read = calloc(1, sizeof(*read));
        read->offset = offset;
        read->max_bytes = 300000;
        read->whole_first_batch = true;
        read->isolation = LOG_READ_HIGH_WATERMARK;
        log_rig_read(r, l, read);
        cr_assert_eq(read->error, KE_NONE, "%s at %ld", kafka_error_name(read->error),
                     (long)offset);
        uint32_t pieces = read->pieces_count;
        for (uint32_t i = 0; i < read->pieces_count; i++) {
            struct batch_iter it;
            const uint8_t *batch;
            struct batch_header h;
            batch_iter_init(&it, read->pieces[i].data, read->pieces[i].size);
            while (batch_next(&it, &batch, &h)) {
                cr_assert(h.base_offset == offset || rounds == 0, "offset %ld, not %ld",
                          (long)h.base_offset, (long)offset);
                cr_assert(batch_crc_matches(batch, h.size));
                offset = batch_last_offset(&h) + 1;
            }
            cr_assert_eq(it.stopped, BATCH_WHOLE);
        }
        log_read_release(r->core, read);
        free(read);
        if (pieces == 0)
            return offset;
    }
    cr_assert_fail("endless");
    return -1;
}

bool log_rig_traced(const struct log_rig *r, const char *text)
{
    return strstr(r->trace_text, text) != NULL;
}
