/* The model of what logs must hold, and the random work on them: see log_model.h. */
#include "tests/broker/log_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_ROOM    60000u
#define IN_FLIGHT_MAX 5u /* of one idempotent producer */

static void model_sink(void *context, const char *line, size_t size)
{
    struct model *m = context;
    char text[512];
    size_t kept = MIN(size, sizeof(text) - 1);
    memcpy(text, line, kept);
    text[kept] = 0;
    m->rot_traced |= strstr(text, "rot") != NULL;
    if (m->verbose)
        fwrite(line, 1, size, stderr);
}

static void model_dir_failed(void *context, uint32_t dir, int error)
{
    struct model *m = context;
    cr_assert_lt(error, 0);
    m->dirs_failed++;
    for (uint32_t i = 0; i < MODEL_LOGS; i++)
        if (m->logs[i].log != NULL && log_dir(m->logs[i].log) == dir) {
            cr_assert_eq(log_status(m->logs[i].log), KE_KAFKA_STORAGE_ERROR);
            m->logs[i].offline = true;
        }
}

static struct topic_config model_topic(struct model *m)
{
    struct chance *c = &m->chance;
    return (struct topic_config){
        .cleanup_policy = CLEANUP_DELETE,
        .compression_type = COMPRESSION_PRODUCER,
        .retention_ms = -1,
        .retention_bytes = -1,
        .segment_bytes = (int32_t)chance_between(c, 60000, 300000),
        .segment_index_bytes = chance_one_in(c, 4) ? 96 : 10 << 20,
        .index_interval_bytes = chance_one_in(c, 2) ? 4096 : 100,
        .segment_ms = 604800000,
        .max_message_bytes = 1048588,
        .flush_messages = chance_one_in(c, 3) ? 1 : INT64_MAX,
        .flush_ms = INT64_MAX,
        .file_delete_delay_ms = 1000,
        .timestamp_before_max_ms = INT64_MAX,
        .timestamp_after_max_ms = INT64_MAX,
        .min_insync_replicas = 1,
        .write_caching = chance_one_in(c, 4),
    };
}

void model_start(struct model *m, uint64_t seed)
{
    memset(m, 0, sizeof(*m));
    m->verbose = getenv("MODEL_TRACE") != NULL;
    sim_rig_start(&m->rig, seed);
    chance_init(&m->chance, seed, 77);
    struct chance *c = &m->chance;
    for (uint32_t i = 0; i < MODEL_DIRS; i++) {
        m->dirs[i] = i == 0 ? "/d0" : "/d1";
        m->dir_ids[i].bytes[0] = (uint8_t)(i + 1);
        cr_assert_eq(io_mkdir(m->rig.io, m->dirs[i]), 0);
        cr_assert_eq(io_sync_directory(m->rig.io, "/"), 0);
    }
    m->config = (struct log_core_config){
        .cores_count = 1,
        .dirs = m->dirs,
        .dir_ids = m->dir_ids,
        .dirs_count = (uint32_t)chance_between(c, 1, MODEL_DIRS),
        .wal_file_bytes = chance_between(c, 20, 100) * 4096,
        .wal_files_count = (uint32_t)chance_between(c, 2, 5),
        .cache_bytes = chance_between(c, 3, 8) << 20,
        .retention_check_ms = 300000,
        .producer_expiration_ms = 86400000,
        .dir_failed = model_dir_failed,
        .context = m,
    };
    for (uint32_t i = 0; i < MODEL_LOGS; i++)
        m->logs[i].config = model_topic(m);
    for (uint32_t i = 0; i < 64; i++)
        m->appends[i].free = true;
}

void model_open(struct model *m)
{
    struct io *io = m->rig.io;
    m->stopping = false;
    m->in_flight = m->dirs_failed = 0;
    m->used_before = m->rig.mem.used_bytes; /* io's own */
    wheel_init(&m->wheel, io_now_ns(io));
    trace_init(&m->trace, model_sink, m, io_wall_pointer(io));
    compress_init(&m->compress, &m->rig.mem);
    m->config.io = io;
    m->config.mem = &m->rig.mem;
    m->config.wheel = &m->wheel;
    m->config.trace = &m->trace;
    m->config.compress = &m->compress;
    cr_assert_eq(log_core_start(&m->core, &m->config), 0);
    for (uint32_t i = 0; i < MODEL_LOGS; i++) {
        char topic[16];
        int error = 0;
        snprintf(topic, sizeof(topic), "topic%u", i);
        struct log_identity id = {.topic = topic, .dir = i % m->config.dirs_count};
        id.topic_id.bytes[0] = 0x40;
        id.topic_id.bytes[5] = (uint8_t)i;
        m->logs[i].offline = false;
        m->logs[i].in_flight = 0;
        m->logs[i].log = log_open(m->core, &id, &m->logs[i].config, &error);
        cr_assert_not_null(m->logs[i].log);
    }
    cr_assert_eq(log_core_replay(m->core), 0);
    cr_assert_eq(log_core_serve(m->core), 0);
}

void model_turn(struct model *m)
{
    struct io *io = m->rig.io;
    (void)io_poll(io, MIN(wheel_next_ns(&m->wheel), io_now_ns(io) + 10 * NS_PER_MS), 64);
    (void)wheel_run(&m->wheel, io_now_ns(io), 64);
    log_core_turn(m->core);
}

/* ---- work ------------------------------------------------------------------------------------ */

static void model_appended(struct log_append *a)
{
    struct model_append *mine = container_of(a, struct model_append, a);
    struct model *m = mine->model;
    cr_assert(!mine->free);
    mine->free = true;
    mine->of->in_flight--;
    m->in_flight--;
    if (a->error == KE_NONE)
        mine->of->batches[mine->batch].acknowledged = true;
    else
        cr_assert_eq(a->error, KE_KAFKA_STORAGE_ERROR);
}

static uint32_t model_batch_bytes(struct model *m, struct model_log *l, uint8_t *to,
                                  uint32_t records, uint32_t value_size)
{
    struct batch_builder b;
    struct batch_header h = batch_header_plain(0);
    uint8_t *value = malloc(value_size);
    for (uint32_t i = 0; i < value_size; i += 8) {
        uint64_t word = chance_next(&m->chance);
        memcpy(value + i, &word, MIN(8u, value_size - i));
    }
    h.producer_id = 1000 * l->producer + (l - m->logs);
    h.producer_epoch = 0;
    h.base_sequence = l->sequence;
    batch_builder_init(&b, to, BATCH_ROOM, &h);
    for (uint32_t i = 0; i < records; i++)
        cr_assert(batch_builder_add(&b, io_wall_ms(m->rig.io), (struct batch_field){NULL, 0},
                                    (struct batch_field){value, value_size}, NULL, 0));
    free(value);
    return batch_builder_finish(&b);
}

static void model_append_one(struct model *m, struct model_log *l)
{
    struct model_append *slot = NULL;
    for (uint32_t i = 0; i < 64 && slot == NULL; i++)
        if (m->appends[i].free)
            slot = &m->appends[i];
    if (slot == NULL || l->in_flight == IN_FLIGHT_MAX || l->count == MODEL_BATCHES || l->offline ||
        !log_core_has_room(m->core))
        return;
    uint8_t bytes[BATCH_ROOM];
    uint32_t records = (uint32_t)chance_between(&m->chance, 1, 4);
    uint32_t value =
        (uint32_t)chance_between(&m->chance, 1, chance_one_in(&m->chance, 20) ? 12000 : 900);
    *slot = (struct model_append){.model = m, .of = l};
    slot->a.records = bytes;
    slot->a.records_size = model_batch_bytes(m, l, bytes, records, value);
    slot->a.produce_version = 9;
    slot->a.done = model_appended;
    struct batch_header h;
    batch_decode_header(bytes, &h);
    if (!log_append(l->log, &slot->a)) {
        cr_assert_eq(slot->a.error, KE_KAFKA_STORAGE_ERROR, "log %ld%s, sequence %d: %s %s",
                     (long)(l - m->logs), l->config.write_caching ? " cached" : "", l->sequence,
                     kafka_error_name(slot->a.error), slot->a.message);
        slot->free = true;
        m->refused++;
        return;
    }
    slot->batch = l->count;
    l->batches[l->count++] = (struct model_batch){.base = slot->a.base_offset,
                                                  .last = slot->a.last_offset,
                                                  .crc = h.crc,
                                                  .sequence = l->sequence};
    l->sequence += (int32_t)records;
    l->in_flight++;
    m->in_flight++;
}

static void model_told(struct log_read *r)
{
    r->done = NULL;
}

/* One read at offset; returns where it ended, checks it against the model. */
static int64_t model_read(struct model *m, struct model_log *l, int64_t offset, uint32_t max_bytes)
{
    struct log_read *r = calloc(1, sizeof(*r));
    *r = (struct log_read){.offset = offset, .max_bytes = max_bytes, .whole_first_batch = true};
    r->isolation = LOG_READ_HIGH_WATERMARK;
    r->done = model_told;
    if (!log_read(l->log, r))
        while (r->done != NULL)
            model_turn(m);
    if (r->error != KE_NONE) {
        cr_assert(l->offline ||
                      (r->error == KE_OFFSET_OUT_OF_RANGE && offset < log_start_offset(l->log)),
                  "%s at %ld of [%ld, %ld)", kafka_error_name(r->error), (long)offset,
                  (long)log_start_offset(l->log), (long)log_end_offset(l->log));
        offset = -1;
    }
    uint32_t at = 0; /* first model batch that may be meant */
    for (uint32_t i = 0; i < r->pieces_count; i++) {
        struct batch_iter it;
        struct batch_header h;
        const uint8_t *batch;
        batch_iter_init(&it, r->pieces[i].data, r->pieces[i].size);
        while (batch_next(&it, &batch, &h)) {
            while (at < l->count && l->batches[at].base < h.base_offset)
                at++;
            cr_assert(at < l->count && l->batches[at].base == h.base_offset, "base %ld unknown",
                      (long)h.base_offset);
            cr_assert_eq(l->batches[at].crc, h.crc, "batch at %ld", (long)h.base_offset);
            cr_assert(batch_crc_matches(batch, h.size));
            cr_assert_eq(l->batches[at].last, batch_last_offset(&h));
            cr_assert(h.base_offset <= offset && batch_last_offset(&h) >= offset);
            offset = batch_last_offset(&h) + 1;
        }
        cr_assert_eq(it.stopped, BATCH_WHOLE,
                     "log %ld%s at %ld of [%ld,%ld), max %u: stopped %d, piece %u of %u",
                     (long)(l - m->logs), l->config.write_caching ? " cached" : "", (long)offset,
                     (long)log_start_offset(l->log), (long)log_end_offset(l->log), max_bytes,
                     (int)it.stopped, i, r->pieces_count);
    }
    log_read_release(m->core, r);
    free(r);
    return offset;
}

struct model_delete {
    struct log_delete_records d;
    bool done;
};

static void model_deleted(struct log_delete_records *d)
{
    container_of(d, struct model_delete, d)->done = true;
}

static void model_delete_some(struct model *m, struct model_log *l)
{
    int64_t end = log_high_watermark(l->log), start = log_start_offset(l->log);
    struct model_delete d = {.d = {.done = model_deleted}};
    if (l->offline || end == start)
        return;
    d.d.offset = start + (int64_t)chance_below(&m->chance, (uint64_t)(end - start) / 3 + 1);
    if (!log_delete_records(l->log, &d.d))
        return;
    while (!d.done)
        model_turn(m);
    if (d.d.error == KE_NONE)
        l->start = MAX(l->start, d.d.offset);
}

void model_work(struct model *m, uint32_t steps)
{
    for (uint32_t i = 0; i < steps; i++) {
        struct model_log *l = &m->logs[chance_below(&m->chance, MODEL_LOGS)];
        uint64_t what = chance_below(&m->chance, 100);
        if (what < 80)
            model_append_one(m, l);
        else if (what < 86 && !l->offline && log_high_watermark(l->log) > log_start_offset(l->log))
            (void)model_read(m, l,
                             (int64_t)chance_between(&m->chance, (uint64_t)log_start_offset(l->log),
                                                     (uint64_t)log_high_watermark(l->log)),
                             (uint32_t)chance_between(&m->chance, 1, 200000));
        else if (what < 87 && !m->full)
            model_delete_some(m, l);
        else if (what < 88)
            log_core_retain_now(m->core);
        else
            model_turn(m);
    }
}

void model_settle(struct model *m)
{
    uint64_t limit = io_now_ns(m->rig.io) + 120 * NS_PER_S;
    while (m->in_flight > 0) {
        model_turn(m);
        cr_assert(io_now_ns(m->rig.io) < limit, "appends do not end");
    }
}

/* ---- the end of a life ----------------------------------------------------------------------- */

static void model_stopped(struct op *op)
{
    (void)op;
}

static void model_stop(struct model *m)
{
    struct op op;
    op_init(&op, model_stopped);
    log_core_stop(m->core, &op);
    uint64_t limit = io_now_ns(m->rig.io) + 120 * NS_PER_S;
    while (op.armed || log_core_busy(m->core)) {
        model_turn(m);
        cr_assert(io_now_ns(m->rig.io) < limit, "the stop does not end");
    }
    m->config.clean_start = op.result == 0;
    log_core_free(m->core);
    compress_free(&m->compress);
    cr_assert_eq(m->rig.mem.used_bytes, m->used_before);
}

void model_die(struct model *m, enum model_way way)
{
    m->config.clean_start = false;
    if (way == MODEL_STOP) {
        model_settle(m);
        model_stop(m);
        sim_rig_kill(&m->rig);
    } else if (way == MODEL_KILL) {
        sim_rig_kill(&m->rig);
    } else {
        sim_rig_cut(&m->rig);
    }
    m->core = NULL;
    for (uint32_t i = 0; i < 64; i++)
        m->appends[i].free = true;
    for (uint32_t i = 0; i < MODEL_LOGS; i++) {
        struct model_log *l = &m->logs[i];
        l->log = NULL;
        bool kept = way != MODEL_CUT && m->dirs_failed == 0;
        if (kept || !l->config.write_caching || l->config.flush_messages == 1)
            continue;
        /* Only in the page cache, perhaps, and there it does not count if its sync failed. */
        for (uint32_t k = 0; k < l->count; k++)
            l->batches[k].acknowledged = false;
        l->producer++;
    }
}

static void model_check_log(struct model *m, struct model_log *l)
{
    int64_t promised = 0, end = log_end_offset(l->log), start = log_start_offset(l->log);
    cr_assert_eq(log_status(l->log), KE_NONE);
    for (uint32_t i = 0; i < l->count; i++)
        if (l->batches[i].acknowledged)
            promised = MAX(promised, l->batches[i].last + 1);
    cr_assert_geq(end, promised, "log %ld lost acknowledged batches", (long)(l - m->logs));
    cr_assert_geq(start, l->start);
    cr_assert_leq(start, end);
    while (l->count > 0 && l->batches[l->count - 1].base >= end)
        l->count--; /* never acknowledged, and not there: its producer will send it again */
    int64_t at = start;
    while (at >= 0 && at < end) {
        int64_t next = model_read(m, l, at, 100000);
        cr_assert_gt(next, at, "nothing at %ld of %ld", (long)at, (long)end);
        at = next;
    }
    if (l->count > 0 && l->batches[l->count - 1].last + 1 != end)
        cr_assert(l->config.write_caching);
    const struct model_batch *last = l->count == 0 ? NULL : &l->batches[l->count - 1];
    l->sequence = last == NULL ? 0 : last->sequence + (int32_t)(last->last - last->base) + 1;
}

void model_check(struct model *m)
{
    for (uint32_t i = 0; i < MODEL_LOGS; i++)
        if (!m->logs[i].offline)
            model_check_log(m, &m->logs[i]);
    cr_assert(!m->rot_traced);
}

void model_end(struct model *m)
{
    sim_rig_stop(&m->rig);
}
