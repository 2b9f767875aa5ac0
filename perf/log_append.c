/* What a durable append costs through log.h, against the floor: the same bytes as raw coalesced
 * writes of the same sizes (O_DIRECT, DSYNC, written extents), which is all the disk can do.
 *
 *   usage: log_append DIRECTORY [logs] [value bytes] [in flight] [seconds] [trust] [keep]
 *   line:  logs=16 batch=16461 B in_flight=64: 61234 appends/s 1008 MB/s p50=.. p99=.. us
 *          (wal 2345 writes/s of 430 KiB, 8.1 us CPU/append); floor 70123 appends/s 1154 MB/s
 *
 * `in flight` appends wait at any time; each is appended again when it is done. One batch of one
 * record each. trust=1 leaves records unread (batch_rules.strict off). keep=1 stops cleanly and
 * leaves the directory, for other programs to look at; otherwise it is emptied. */
#include "broker/log/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/core.h"
#include "core/histogram.h"
#include "proto/compress.h"

#define BUDGET        (1ull << 30)
#define LOGS_MAX      10000u
#define IN_FLIGHT_MAX 4096u

struct slot {
    struct log_append a;
    struct bench *bench;
    uint64_t begun_ns;
};

struct bench {
    struct io_world *world;
    struct io *io;
    struct mem mem;
    struct wheel wheel;
    struct trace trace;
    struct compress compress;
    struct log_core *core;
    struct log *logs[LOGS_MAX];
    uint32_t logs_count, next_log, in_flight;
    uint8_t *batch, *scratch;
    uint32_t batch_size;
    uint64_t done, refused;
    struct histogram latency;
    bool stopping;
    struct slot slots[IN_FLIGHT_MAX];
};

static void check(int error, const char *what)
{
    if (error >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, strerror(-error));
    exit(1);
}

static void sink(void *context, const char *line, size_t size)
{
    (void)context;
    fwrite(line, 1, size, stderr);
}

static void slot_append(struct slot *s);

static void slot_done(struct log_append *a)
{
    struct slot *s = container_of(a, struct slot, a);
    struct bench *b = s->bench;
    if (a->error != KE_NONE)
        b->refused++;
    b->done++;
    histogram_record(&b->latency, io_now_ns(b->io) - s->begun_ns);
    b->in_flight--;
    if (!b->stopping)
        slot_append(s);
}

static void slot_append(struct slot *s)
{
    struct bench *b = s->bench;
    memcpy(b->scratch, b->batch, b->batch_size); /* as if it had just been received */
    s->a = (struct log_append){.records = b->scratch,
                               .records_size = b->batch_size,
                               .produce_version = 9,
                               .done = slot_done};
    s->begun_ns = io_now_ns(b->io);
    if (!log_append(b->logs[b->next_log++ % b->logs_count], &s->a)) {
        fprintf(stderr, "refused: %s %s\n", kafka_error_name(s->a.error),
                s->a.message == NULL ? "" : s->a.message);
        exit(1);
    }
    b->in_flight++;
}

static void turn(struct bench *b)
{
    (void)io_poll(b->io, io_now_ns(b->io) + 100 * NS_PER_MS, 256);
    (void)wheel_run(&b->wheel, io_now_ns(b->io), 64);
    log_core_turn(b->core);
}

static void start_io(struct bench *b)
{
    char why[256] = "";
    core_enter((struct core_id){0});
    check(mem_init(&b->mem, BUDGET), "memory");
    check(io_world_start(&b->world, 1, why, sizeof(why)), why);
    struct io_config config = {.world = b->world, .mem = &b->mem};
    check(io_start(&b->io, &config, why, sizeof(why)), why);
    wheel_init(&b->wheel, io_now_ns(b->io));
    trace_init(&b->trace, sink, NULL, io_wall_pointer(b->io));
    compress_init(&b->compress, &b->mem);
}

static struct topic_config topic(void)
{
    return (struct topic_config){
        .cleanup_policy = CLEANUP_DELETE,
        .compression_type = COMPRESSION_PRODUCER,
        .retention_ms = -1,
        .retention_bytes = -1,
        .segment_bytes = 1 << 30,
        .segment_index_bytes = 10 << 20,
        .index_interval_bytes = 4096,
        .segment_ms = 604800000,
        .max_message_bytes = 8 << 20,
        .flush_messages = INT64_MAX,
        .flush_ms = INT64_MAX,
        .file_delete_delay_ms = 60000,
        .timestamp_before_max_ms = INT64_MAX,
        .timestamp_after_max_ms = 3600000,
        .min_insync_replicas = 1,
        .write_caching = getenv("CACHED") != NULL,
    };
}

static void start_logs(struct bench *b, const char *directory, bool trust)
{
    static struct uuid dir_id = {{1}};
    static const char *dirs[1];
    dirs[0] = directory;
    struct log_core_config config = {
        .io = b->io,
        .mem = &b->mem,
        .wheel = &b->wheel,
        .trace = &b->trace,
        .compress = &b->compress,
        .cores_count = 1,
        .dirs = dirs,
        .dir_ids = &dir_id,
        .dirs_count = 1,
        .wal_file_bytes = 64 << 20,
        .wal_files_count = 4,
        .cache_bytes = 128 << 20,
        .trust_batches = trust,
        .clean_start = getenv("CLEAN") != NULL,
        .retention_check_ms = 300000,
        .producer_expiration_ms = 86400000,
    };
    uint64_t begun = io_clock_ns(b->io);
    check(log_core_start(&b->core, &config), "start");
    struct topic_config t = topic();
    for (uint32_t i = 0; i < b->logs_count; i++) {
        int error = 0;
        struct log_identity id = {.topic = "bench", .partition = (int32_t)i};
        id.topic_id.bytes[0] = 0x40;
        b->logs[i] = log_open(b->core, &id, &t, &error);
        check(b->logs[i] == NULL ? error : 0, "log");
    }
    uint64_t opened = io_clock_ns(b->io);
    check(log_core_replay(b->core), "replay");
    check(log_core_serve(b->core), "serve");
    printf("ready in %.1f ms (logs opened in %.1f ms), %.1f KiB per log\n",
           (double)(io_clock_ns(b->io) - begun) / 1e6, (double)(opened - begun) / 1e6,
           (double)b->mem.used_bytes / 1024 / b->logs_count);
}

static void make_batch(struct bench *b, uint32_t value_size)
{
    struct batch_builder builder;
    struct batch_header h = batch_header_plain(0);
    uint8_t *value = calloc(1, value_size + 1);
    b->batch = malloc(value_size + 256);
    b->scratch = malloc(value_size + 256);
    for (uint32_t i = 0; i < value_size; i++)
        value[i] = (uint8_t)(i * 2654435761u >> 24);
    batch_builder_init(&builder, b->batch, value_size + 256, &h);
    bool fits = batch_builder_add(&builder, io_wall_ms(b->io), (struct batch_field){NULL, 0},
                                  (struct batch_field){value, value_size}, NULL, 0);
    check(fits ? 0 : -1, "batch");
    b->batch_size = batch_builder_finish(&builder);
    free(value);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

struct floor {
    struct io_rw rw;
    struct iovec iov;
    struct bench *bench;
    uint64_t done;
};

static void floor_done(struct op *op)
{
    struct floor *f = container_of(op, struct floor, rw.op);
    check(op->result, "floor");
    f->done++;
}

/* Writes of this size one after the other over a written file; writes per second. */
static double floor_measure(struct bench *b, const char *directory, uint32_t size, double seconds)
{
    char path[512];
    uint64_t room = 64 << 20;
    size = (size + 4095) / 4096 * 4096;
    snprintf(path, sizeof(path), "%s/floor", directory);
    int fd = io_open(b->io, path, IO_READ | IO_WRITE | IO_CREATE | IO_DIRECT);
    check(fd, path);
    uint8_t *memory = mem_pages(&b->mem, MAX(size, 1u << 20));
    memset(memory, 1, MAX(size, 1u << 20));
    for (uint64_t at = 0; at < room; at += 1 << 20)
        check((int)io_pwrite(b->io, fd, memory, 1 << 20, at), "floor file");
    check(io_fdatasync(b->io, fd), "floor file");
    struct floor f = {.bench = b};
    uint64_t begun = io_clock_ns(b->io), at = 0;
    while ((double)(io_clock_ns(b->io) - begun) < seconds * 1e9) {
        uint64_t before = f.done;
        if (at + size > room)
            at = 0;
        f.iov = (struct iovec){memory, size};
        f.rw = (struct io_rw){
            .fd = fd, .iov = &f.iov, .iov_count = 1, .flags = IO_DSYNC, .offset = at};
        op_init(&f.rw.op, floor_done);
        io_write(b->io, &f.rw);
        at += size;
        while (f.done == before)
            (void)io_poll(b->io, io_now_ns(b->io) + NS_PER_S, 16);
    }
    double rate = (double)f.done / ((double)(io_clock_ns(b->io) - begun) / 1e9);
    io_close(b->io, fd);
    check(io_unlink(b->io, path), path);
    mem_pages_free(&b->mem, memory, MAX(size, 1u << 20));
    return rate;
}

static void stopped(struct op *op)
{
    check(op->result, "stop");
}

static bool remove_entry(void *context, const char *name, bool is_directory)
{
    struct bench *b = ((void **)context)[0];
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", (const char *)((void **)context)[1], name);
    check(is_directory ? io_remove_tree(b->io, path) : io_unlink(b->io, path), path);
    return true;
}

int main(int argc, char **argv)
{
    static struct bench b;
    uint32_t value = argc > 3 ? (uint32_t)atoi(argv[3]) : 16384;
    uint32_t flight = argc > 4 ? (uint32_t)atoi(argv[4]) : 64;
    double seconds = argc > 5 ? atof(argv[5]) : 3;
    bool trust = argc > 6 && atoi(argv[6]) != 0, keep = argc > 7 && atoi(argv[7]) != 0;
    b.logs_count = argc > 2 ? (uint32_t)atoi(argv[2]) : 16;
    if (argc < 2 || b.logs_count == 0 || b.logs_count > LOGS_MAX || flight == 0 ||
        flight > IN_FLIGHT_MAX) {
        fprintf(stderr, "usage: log_append DIRECTORY [logs] [value bytes] [in flight] [seconds] "
                        "[trust] [keep]\n");
        return 2;
    }
    start_io(&b);
    start_logs(&b, argv[1], trust);
    make_batch(&b, value);
    histogram_init(&b.latency);
    struct log_core_stats from, to;
    uint64_t begun = io_clock_ns(b.io), warm = begun + (uint64_t)(seconds * 0.2e9);
    for (uint32_t i = 0; i < flight; i++) {
        b.slots[i].bench = &b;
        slot_append(&b.slots[i]);
    }
    while (io_now_ns(b.io) < warm)
        turn(&b);
    log_core_stats(b.core, &from);
    histogram_init(&b.latency);
    b.done = 0;
    double cpu = cpu_seconds();
    begun = io_clock_ns(b.io);
    while ((double)(io_clock_ns(b.io) - begun) < seconds * 1e9)
        turn(&b);
    double elapsed = (double)(io_clock_ns(b.io) - begun) / 1e9;
    cpu = cpu_seconds() - cpu;
    log_core_stats(b.core, &to);
    uint64_t done = b.done;
    b.stopping = true;
    while (b.in_flight > 0)
        turn(&b);
    struct op op;
    op_init(&op, stopped);
    uint64_t stopping = io_clock_ns(b.io);
    log_core_stop(b.core, &op);
    while (op.armed || log_core_busy(b.core))
        turn(&b);
    double stop_ms = (double)(io_clock_ns(b.io) - stopping) / 1e6;
    log_core_free(b.core);
    double rate = (double)done / elapsed;
    double writes = (double)(to.wal_writes - from.wal_writes) / elapsed;
    double write_bytes =
        writes > 0 ? (double)(to.wal_bytes - from.wal_bytes) / elapsed / writes : 0;
    printf(
        "logs=%u batch=%u B in_flight=%u: %.0f appends/s %.0f MB/s p50=%.0f p99=%.0f max=%.0f us "
        "refused=%lu\n"
        "    (wal %.0f writes/s of %.0f KiB, segments %.0f MB/s, %.2f us CPU/append, stop %.0f "
        "ms)\n",
        b.logs_count, b.batch_size, flight, rate, rate * b.batch_size / 1e6,
        (double)histogram_quantile(&b.latency, 0.5) / 1e3,
        (double)histogram_quantile(&b.latency, 0.99) / 1e3, (double)b.latency.max / 1e3,
        (unsigned long)b.refused, writes, write_bytes / 1024,
        (double)(to.segment_bytes - from.segment_bytes) / elapsed / 1e6, cpu / (double)done * 1e6,
        stop_ms);
    if (writes > 0) {
        double raw = floor_measure(&b, argv[1], (uint32_t)write_bytes, seconds / 2);
        printf("    floor %.0f appends/s %.0f MB/s: %.0f %% of it\n", raw * rate / writes,
               raw * rate / writes * b.batch_size / 1e6, 100 * writes / raw);
    }
    if (!keep) {
        void *context[2] = {&b, argv[1]};
        check(io_list(b.io, argv[1], remove_entry, context), argv[1]);
    }
    return 0;
}
