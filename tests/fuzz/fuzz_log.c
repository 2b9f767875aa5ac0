/* A log directory that was damaged in any way, opened. The directory is a real one, made once: WAL
 * files of a killed core, segments with their indexes, snapshots and checkpoints. An input is a row
 * of changes to its files, in which checksums may be put right again. Whatever they are, the core
 * starts or says why not; what it then reads are whole batches in order, it takes appends, and
 * after an orderly stop it starts again with the same offsets. No memory is left.
 *
 *   byte 0     which directory: killed or stopped; started as after a clean stop or not
 *   changes    file, kind, position (2 bytes, of 4 KiB in WAL files), size, bytes */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "broker/log/log.h"
#include "broker/log/wal_format.h"
#include "core/crc32c.h"
#include "proto/compress.h"
#include "tests/io/sim_rig.h"

#define DIR         "/d"
#define LOGS        2u
#define FILES_MAX   48u
#define CHANGES_MAX 16u
#define BATCH_ROOM  4096u
#define CUT_AT      (1u << 18)

struct file {
    char path[128];
    uint8_t *bytes;
    uint32_t size;
};

struct image { /* a directory as it was found */
    struct file files[FILES_MAX];
    uint32_t count;
};

struct bench {
    struct sim_rig rig;
    struct wheel wheel;
    struct trace trace;
    struct compress compress;
    struct log_core_config config;
    struct log_core *core;
    struct log *logs[LOGS];
    uint64_t used_before;
    bool dir_failed;
};

/* ---- a core ---------------------------------------------------------------------------------- */

static void sink(void *context, const char *line, size_t size)
{
    (void)context;
    if (getenv("FUZZ_TRACE") != NULL)
        (void)fwrite(line, 1, size, stderr);
}

static void dir_failed(void *context, uint32_t dir, int error)
{
    struct bench *b = context;
    assert(dir == 0 && error < 0);
    b->dir_failed = true;
}

static struct topic_config topic(uint32_t n)
{
    return (struct topic_config){
        .cleanup_policy = CLEANUP_DELETE,
        .compression_type = COMPRESSION_PRODUCER,
        .retention_ms = -1,
        .retention_bytes = -1,
        .segment_bytes = 3000,
        .segment_index_bytes = n == 0 ? 10 << 20 : 96,
        .index_interval_bytes = 200,
        .segment_ms = 604800000,
        .max_message_bytes = 1048588,
        .flush_messages = INT64_MAX,
        .flush_ms = INT64_MAX,
        .file_delete_delay_ms = 1000,
        .timestamp_before_max_ms = INT64_MAX,
        .timestamp_after_max_ms = INT64_MAX,
        .min_insync_replicas = 1,
        .write_caching = n == 1,
    };
}

/* 0 or -errno: then nothing is left of it. */
static int open_core(struct bench *b, bool clean)
{
    struct io *io = b->rig.io;
    static const char *const dirs[] = {DIR};
    static const struct uuid dir_ids[] = {{{1}}};
    b->used_before = b->rig.mem.used_bytes;
    b->dir_failed = false;
    wheel_init(&b->wheel, io_now_ns(io));
    trace_init(&b->trace, sink, b, io_wall_pointer(io));
    compress_init(&b->compress, &b->rig.mem);
    b->config = (struct log_core_config){
        .io = io,
        .mem = &b->rig.mem,
        .wheel = &b->wheel,
        .trace = &b->trace,
        .compress = &b->compress,
        .cores_count = 1,
        .dirs = dirs,
        .dir_ids = dir_ids,
        .dirs_count = 1,
        .wal_file_bytes = 16 * WAL_BLOCK,
        .wal_files_count = 2,
        .cache_bytes = 2 << 20,
        .clean_start = clean,
        .retention_check_ms = 300000,
        .checkpoint_ms = 60000,
        .producer_expiration_ms = 86400000,
        .dir_failed = dir_failed,
        .context = b,
    };
    int error = log_core_start(&b->core, &b->config);
    if (error != 0) {
        compress_free(&b->compress);
        assert(b->rig.mem.used_bytes == b->used_before);
        return error;
    }
    for (uint32_t i = 0; i < LOGS; i++) {
        struct log_identity id = {.topic = i == 0 ? "a" : "b"};
        struct topic_config config = topic(i);
        id.topic_id.bytes[0] = 0x40;
        id.topic_id.bytes[5] = (uint8_t)(i + 1);
        b->logs[i] = log_open(b->core, &id, &config, &error);
    }
    error = log_core_replay(b->core);
    return error != 0 ? error : log_core_serve(b->core);
}

static void turn(struct bench *b)
{
    struct io *io = b->rig.io;
    (void)io_poll(io, MIN(wheel_next_ns(&b->wheel), io_now_ns(io) + 10 * NS_PER_MS), 64);
    (void)wheel_run(&b->wheel, io_now_ns(io), 64);
    log_core_turn(b->core);
}

static void free_core(struct bench *b)
{
    while (log_core_busy(b->core))
        turn(b);
    log_core_free(b->core);
    compress_free(&b->compress);
    assert(b->rig.mem.used_bytes == b->used_before);
}

static void stopped(struct op *op)
{
    (void)op;
}

static void stop_core(struct bench *b)
{
    struct op op;
    uint64_t limit = io_clock_ns(b->rig.io) + 120 * NS_PER_S;
    op_init(&op, stopped);
    log_core_stop(b->core, &op);
    while (op.armed) {
        turn(b);
        assert(io_now_ns(b->rig.io) < limit);
    }
    free_core(b);
}

/* ---- work ------------------------------------------------------------------------------------ */

struct waiting {
    struct log_append a;
    bool done;
};

static void appended(struct log_append *a)
{
    container_of(a, struct waiting, a)->done = true;
}

static void append(struct bench *b, uint32_t log, const struct batch_header *h, uint32_t size)
{
    static uint8_t bytes[BATCH_ROOM], value[2000];
    struct batch_builder builder;
    struct waiting w = {.a = {.records = bytes, .produce_version = 9, .done = appended}};
    if (b->logs[log] == NULL)
        return;
    memset(value, (int)size, sizeof(value));
    batch_builder_init(&builder, bytes, sizeof(bytes), h);
    for (uint32_t i = 0; i < 2; i++) {
        bool added =
            batch_builder_add(&builder, io_wall_ms(b->rig.io), (struct batch_field){NULL, 0},
                              (struct batch_field){value, size}, NULL, 0);
        assert(added);
    }
    w.a.records_size = batch_builder_finish(&builder);
    if ((h->attributes & BATCH_TRANSACTIONAL) != 0 &&
        !log_txn_begin(b->logs[log], h->producer_id, h->producer_epoch, h->base_sequence, true,
                       &w.a.txn_guard))
        return;
    if (!log_append(b->logs[log], &w.a))
        return;
    while (!w.done)
        turn(b);
    assert(w.a.error == KE_NONE || w.a.error == KE_KAFKA_STORAGE_ERROR);
}

static void append_marker(struct bench *b, uint32_t log, int64_t producer_id, bool commit)
{
    uint8_t bytes[BATCH_MARKER_SIZE_MAX];
    struct batch_header h = batch_header_plain(0);
    h.producer_id = producer_id;
    h.producer_epoch = 0;
    struct waiting w = {
        .a = {.records = bytes, .origin = LOG_ORIGIN_COORDINATOR, .done = appended}};
    w.a.records_size =
        batch_build_marker(bytes, sizeof(bytes), &h, commit, 3, io_wall_ms(b->rig.io));
    bool taken = log_append(b->logs[log], &w.a);
    while (taken && !w.done)
        turn(b);
}

static void told(struct log_read *r)
{
    r->done = NULL;
}

/* Everything there is: whole batches, offsets that rise. */
static void read_all(struct bench *b, struct log *l)
{
    static struct log_read r;
    int64_t offset = log_start_offset(l);
    for (uint32_t i = 0; i < 10000; i++) {
        r = (struct log_read){.offset = offset,
                              .max_bytes = 5000,
                              .whole_first_batch = true,
                              .isolation = LOG_READ_END,
                              .done = told};
        if (!log_read(l, &r)) {
            while (r.done != NULL)
                turn(b);
        }
        bool more = r.error == KE_NONE && r.pieces_count > 0;
        for (uint32_t k = 0; k < r.pieces_count; k++) {
            struct batch_iter it;
            struct batch_header h;
            const uint8_t *batch;
            batch_iter_init(&it, r.pieces[k].data, r.pieces[k].size);
            while (batch_next(&it, &batch, &h))
                assert(batch_last_offset(&h) < r.next_offset);
            assert(it.stopped == BATCH_WHOLE);
        }
        assert(!more || r.next_offset > offset);
        offset = r.next_offset;
        log_read_release(b->core, &r);
        if (!more)
            return;
    }
    assert(false); /* endless */
}

static void look(struct bench *b, struct log *l)
{
    struct log_position found;
    struct log_aborted_list aborted = {0};
    int32_t epoch;
    int64_t end;
    if (l == NULL)
        return;
    if (log_status(l) != KE_NONE)
        return;
    assert(log_start_offset(l) <= log_end_offset(l));
    assert(log_last_stable_offset(l) <= log_high_watermark(l));
    read_all(b, l);
    (void)!log_find_time(l, io_wall_ms(b->rig.io) - 5, LOG_READ_END, &found);
    (void)!log_find_max_time(l, LOG_READ_END, &found);
    log_epoch_end(l, 0, &epoch, &end);
    if (log_start_offset(l) < log_end_offset(l))
        (void)!log_collect_aborted(l, log_start_offset(l), log_end_offset(l), &aborted);
    log_aborted_list_free(b->core, &aborted);
}

/* ---- the directories to be damaged ----------------------------------------------------------- */

static struct image images[2];

struct taking {
    struct bench *b;
    struct image *to;
    const char *folder;
};

static bool take(void *context, const char *name, bool is_directory)
{
    struct taking *t = context;
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", t->folder, name);
    if (is_directory) {
        struct taking inner = {t->b, t->to, path};
        return io_list(t->b->rig.io, path, take, &inner) == 0;
    }
    assert(t->to->count < FILES_MAX);
    struct file *f = &t->to->files[t->to->count++];
    static uint8_t bytes[CUT_AT];
    int64_t size = sim_rig_read(&t->b->rig, path, bytes, sizeof(bytes));
    assert(size >= 0 && size <= (int64_t)sizeof(bytes));
    (void)snprintf(f->path, sizeof(f->path), "%s", path);
    f->size = (uint32_t)size;
    f->bytes = malloc((size_t)size + 1);
    assert(f->bytes != NULL);
    memcpy(f->bytes, bytes, (size_t)size);
    return true;
}

static void work(struct bench *b)
{
    struct batch_header plain = batch_header_plain(0), one = plain, two = plain;
    one.producer_id = 7;
    two.producer_id = 8;
    one.producer_epoch = two.producer_epoch = 0;
    one.base_sequence = two.base_sequence = 0;
    two.attributes |= BATCH_TRANSACTIONAL;
    for (uint32_t i = 0; i < 14; i++) {
        append(b, i % LOGS, &plain, 200 + 40 * i);
        append(b, 0, &one, 100);
        one.base_sequence += 2;
        append(b, 0, &two, 50);
        two.base_sequence += 2;
        if (i % 4 == 3)
            append_marker(b, 0, 8, i == 3);
        if (i == 6)
            log_set_leader_epoch(b->logs[0], 4);
    }
}

static void make_images(void)
{
    static struct bench b;
    for (uint32_t i = 0; i < 2; i++) {
        sim_rig_start(&b.rig, 99);
        int error = io_mkdir(b.rig.io, DIR);
        assert(error == 0);
        error = open_core(&b, false);
        assert(error == 0);
        work(&b);
        if (i == 1) {
            stop_core(&b);
        } else {
            log_core_abandon(b.core);
            free_core(&b);
        }
        struct taking t = {&b, &images[i], DIR};
        error = io_list(b.rig.io, DIR, take, &t);
        assert(error == 0 && images[i].count > 10);
        sim_rig_stop(&b.rig);
    }
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* The checksum of the WAL file's header, of each group's header and of each batch. */
static void put_right(struct file *f)
{
    bool wal = strstr(f->path, ".torc") != NULL, segment = strstr(f->path, ".log") != NULL;
    uint32_t crc;
    if (wal && f->size >= sizeof(struct wal_file_header)) {
        crc = crc32c(0, f->bytes, offsetof(struct wal_file_header, crc));
        memcpy(f->bytes + offsetof(struct wal_file_header, crc), &crc, sizeof(crc));
    }
    for (uint32_t at = WAL_BLOCK; wal && at + sizeof(struct wal_group_header) <= f->size;
         at += WAL_BLOCK) {
        struct wal_group_header h;
        memcpy(&h, f->bytes + at, sizeof(h));
        if (h.magic != WAL_GROUP_MAGIC)
            continue;
        crc = crc32c(0, &h, offsetof(struct wal_group_header, crc));
        memcpy(f->bytes + at + offsetof(struct wal_group_header, crc), &crc, sizeof(crc));
    }
    for (uint32_t at = 0; segment && at + BATCH_HEADER_SIZE <= f->size;) {
        struct batch_header h;
        if (batch_peek(f->bytes + at, f->size - at, &h) != BATCH_WHOLE)
            break;
        crc = __builtin_bswap32(
            crc32c(0, f->bytes + at + BATCH_CRC_FROM, h.size - (size_t)BATCH_CRC_FROM));
        memcpy(f->bytes + at + offsetof(struct batch_bytes, crc), &crc, sizeof(crc));
        at += h.size;
    }
    if (strstr(f->path, ".snapshot") != NULL && f->size > 6) {
        crc = __builtin_bswap32(crc32c(0, f->bytes + 6, f->size - 6));
        memcpy(f->bytes + 2, &crc, sizeof(crc));
    }
}

static void resize(struct file *f, uint32_t size)
{
    uint8_t *bytes = realloc(f->bytes, size + 1);
    assert(bytes != NULL);
    if (size > f->size)
        memset(bytes + f->size, 0, size - f->size);
    f->bytes = bytes;
    f->size = size;
}

static void change(struct image *m, struct fuzz_reader *r)
{
    struct file *f = &m->files[fuzz_byte(r) % m->count], *other;
    uint32_t kind = fuzz_byte(r), at = fuzz_u16(r), size = fuzz_byte(r);
    const uint8_t *bytes;
    if ((kind & 0x40) != 0)
        at *= 16;
    at = f->size > 0 ? at % f->size : 0;
    switch (kind % 8) {
    case 0:
    case 1: /* other bytes */
        size = (uint32_t)fuzz_bytes(r, size, &bytes);
        if (at + size > f->size)
            resize(f, at + size);
        if (size > 0)
            memcpy(f->bytes + at, bytes, size);
        break;
    case 2: /* cut */
        resize(f, at);
        break;
    case 3: /* zeros behind */
        resize(f, MIN(f->size + size * 64, CUT_AT));
        break;
    case 4: /* all of it anew */
        size = (uint32_t)fuzz_bytes(r, size * 4, &bytes);
        resize(f, size);
        if (size > 0)
            memcpy(f->bytes, bytes, size);
        break;
    case 5: /* a page of another file */
        other = &m->files[size % m->count];
        size = MIN(4096u, MIN(other->size, f->size - at));
        memmove(f->bytes + at, other->bytes, size);
        break;
    case 6: /* gone */
        f->path[0] = 0;
        break;
    default: /* zeros within */
        memset(f->bytes + at, 0, MIN(size * 16, f->size - at));
    }
    if ((kind & 0x80) != 0)
        put_right(f);
}

static void put_back(struct bench *b, const struct image *m)
{
    int error = io_mkdir(b->rig.io, DIR);
    assert(error == 0);
    for (uint32_t i = 0; i < m->count; i++) {
        const struct file *f = &m->files[i];
        char folder[128];
        if (f->path[0] == 0)
            continue;
        (void)snprintf(folder, sizeof(folder), "%s", f->path);
        *strrchr(folder, '/') = 0;
        error = io_mkdir(b->rig.io, folder);
        assert(error == 0 || error == -EEXIST);
        sim_rig_write(&b->rig, f->path, f->bytes, f->size, 0);
    }
}

/* ---- one input ------------------------------------------------------------------------------- */

static void live(struct bench *b, bool clean)
{
    int64_t ends[LOGS];
    struct batch_header plain = batch_header_plain(0);
    int error = open_core(b, clean);
    if (error != 0 && b->core == NULL)
        return;
    for (uint32_t i = 0; i < LOGS; i++)
        look(b, b->logs[i]);
    for (uint32_t i = 0; error == 0 && i < LOGS; i++) {
        append(b, i, &plain, 300);
        look(b, b->logs[i]);
    }
    if (error != 0) {
        log_core_abandon(b->core);
        free_core(b);
        return;
    }
    bool sound[LOGS];
    for (uint32_t i = 0; i < LOGS; i++) {
        sound[i] = b->logs[i] != NULL && log_status(b->logs[i]) == KE_NONE;
        ends[i] = sound[i] ? log_end_offset(b->logs[i]) : -1;
    }
    stop_core(b);
    if (b->dir_failed)
        return;
    b->core = NULL;
    error = open_core(b, true);
    assert(error == 0);
    for (uint32_t i = 0; i < LOGS; i++)
        assert(!sound[i] || log_end_offset(b->logs[i]) == ends[i]);
    stop_core(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bench b;
    static struct image damaged;
    struct fuzz_reader r = {data, size};
    if (size > 4096)
        return 0;
    if (images[0].count == 0)
        make_images();
    uint32_t how = fuzz_byte(&r);
    const struct image *from = &images[how & 1];
    damaged.count = from->count;
    for (uint32_t i = 0; i < from->count; i++) {
        struct file *f = &damaged.files[i];
        *f = from->files[i];
        f->bytes = malloc(f->size + 1);
        assert(f->bytes != NULL);
        memcpy(f->bytes, from->files[i].bytes, f->size);
    }
    for (uint32_t i = 0; i < CHANGES_MAX && r.left > 0; i++)
        change(&damaged, &r);
    sim_rig_start(&b.rig, 1);
    put_back(&b, &damaged);
    for (uint32_t i = 0; i < damaged.count; i++)
        free(damaged.files[i].bytes);
    b.core = NULL;
    live(&b, (how & 2) != 0);
    sim_rig_stop(&b.rig);
    return 0;
}

size_t fuzz_seed(uint32_t n, uint8_t *to)
{
    uint32_t state = 12345 + n;
    if (n >= 64)
        return 0;
    uint32_t size = n < 4 ? 1 : 6 + n;
    for (uint32_t i = 0; i < size; i++) {
        state = state * 1664525u + 1013904223u;
        to[i] = (uint8_t)(state >> 24);
    }
    if (n < 4)
        to[0] = (uint8_t)n;
    return size;
}
