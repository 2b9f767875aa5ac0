/* Compaction: what stays and what goes, as Kafka's cleaner has it; crashes while it works. */
#include "tests/broker/log_rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/log/clean_txn.h"
#include "broker/log/cleaner.h"
#include "broker/log/offset_map.h"
#include "proto/record.h"

#define RECORDS_MAX 4096

struct seen { /* a record as a reader gets it */
    int64_t offset, timestamp;
    int32_t key; /* NO_KEY: a control record */
    int32_t value;
    uint32_t codec;
};
#define NO_KEY   (-1)
#define NO_VALUE (-1)

struct shelf {
    struct log_rig r;
    struct log *l;
    struct topic_config config;
    struct seen seen[RECORDS_MAX];
    uint32_t count;
    uint32_t batches, empty_batches;
};

static struct topic_config compacted(void)
{
    struct topic_config t = log_rig_config();
    t.cleanup_policy = CLEANUP_COMPACT;
    t.segment_bytes = 4096;
    t.min_cleanable_dirty_ratio = 0.01;
    return t;
}

static void shelf_open(struct shelf *s)
{
    log_rig_open(&s->r);
    s->l = log_rig_log(&s->r, 1, &s->config);
    log_rig_serve(&s->r);
}

static struct shelf *shelf_start(const struct topic_config *config)
{
    struct shelf *s = calloc(1, sizeof(*s));
    log_rig_start(&s->r);
    s->r.config.cleaner = (struct log_cleaner_config){.enable = true,
                                                      .dedupe_bytes = 1 << 20,
                                                      .io_bytes = 32 << 10,
                                                      .load_factor = 0.9,
                                                      .bytes_per_second = 1e300,
                                                      .backoff_ms = 2};
    s->config = *config;
    shelf_open(s);
    return s;
}

static void shelf_end(struct shelf *s)
{
    log_rig_stop(&s->r);
    log_rig_end(&s->r);
    free(s);
}

static void shelf_restart(struct shelf *s, bool clean)
{
    if (clean)
        log_rig_stop(&s->r);
    else
        log_rig_kill(&s->r);
    s->r.config.clean_start = clean;
    shelf_open(s);
}

/* ---- writing --------------------------------------------------------------------------------- */

struct put {
    int64_t producer_id; /* 0: none */
    int16_t epoch;
    int32_t sequence;
    bool transactional;
    uint32_t value_size; /* 0: 64 */
    enum codec codec;
};

static void put_done(struct log_append *a)
{
    container_of(a, struct log_rig_append, a)->done++;
}

static enum kafka_error put_bytes(struct shelf *s, uint8_t *bytes, uint32_t size,
                                  enum log_origin origin)
{
    struct log_rig_append a = {.a = {.records = bytes,
                                     .records_size = size,
                                     .produce_version = 9,
                                     .origin = origin,
                                     .done = put_done}};
    if (!log_append(s->l, &a.a))
        return a.a.error;
    LOG_UNTIL(&s->r, a.done > 0);
    return a.a.error;
}

/* One batch: count records with keys[i], values[i] (NO_VALUE: a deletion). */
static enum kafka_error put_records(struct shelf *s, const int32_t *keys, const int32_t *values,
                                    uint32_t count, struct put how)
{
    uint32_t value_size = how.value_size == 0 ? 64 : how.value_size;
    uint32_t room = 256 + count * (value_size + 64);
    uint8_t *bytes = malloc(room), *value = calloc(1, value_size);
    struct batch_builder b;
    struct batch_header h = batch_header_plain(0);
    if (how.producer_id != 0) {
        h.producer_id = how.producer_id;
        h.producer_epoch = how.epoch;
        h.base_sequence = how.sequence;
        h.attributes |= how.transactional ? BATCH_TRANSACTIONAL : 0;
    }
    batch_builder_init(&b, bytes, room, &h);
    for (uint32_t i = 0; i < count; i++) {
        char key[16];
        uint32_t key_size = (uint32_t)snprintf(key, sizeof(key), "k%d", keys[i]);
        memcpy(value, &values[i], sizeof(values[i]));
        cr_assert(batch_builder_add(&b, io_wall_ms(s->r.io.io),
                                    (struct batch_field){(const uint8_t *)key, key_size},
                                    values[i] == NO_VALUE ? (struct batch_field){0}
                                                          : (struct batch_field){value, value_size},
                                    NULL, 0));
    }
    uint32_t size = batch_builder_finish(&b);
    enum kafka_error error = put_bytes(s, bytes, size, LOG_ORIGIN_CLIENT);
    free(value);
    free(bytes);
    return error;
}

static void put(struct shelf *s, int32_t key, int32_t value)
{
    cr_assert_eq(put_records(s, &key, &value, 1, (struct put){0}), KE_NONE);
}

static void put_marker(struct shelf *s, int64_t producer_id, int16_t epoch, bool commit)
{
    uint8_t bytes[BATCH_MARKER_SIZE_MAX];
    struct batch_header h = batch_header_plain(0);
    h.producer_id = producer_id;
    h.producer_epoch = epoch;
    uint32_t size = batch_build_marker(bytes, sizeof(bytes), &h, commit, 1, io_wall_ms(s->r.io.io));
    cr_assert_eq(put_bytes(s, bytes, size, LOG_ORIGIN_COORDINATOR), KE_NONE);
}

/* The segment that is active now is not any more: as many records as fit, keys of their own. */
static void roll(struct shelf *s)
{
    int32_t keys[2], values[2];
    int64_t base = s->l->segments[s->l->segments_count - 1]->base;
    for (int32_t n = 0; s->l->segments[s->l->segments_count - 1]->base == base; n++) {
        for (int32_t i = 0; i < 2; i++) {
            keys[i] = 1000000 + i;
            values[i] = n;
        }
        cr_assert_eq(put_records(s, keys, values, 2, (struct put){.value_size = 200}), KE_NONE);
    }
}

/* ---- looking --------------------------------------------------------------------------------- */

static void see_batch(struct shelf *s, const uint8_t *batch, const struct batch_header *h)
{
    struct record_iter it;
    struct record r;
    cr_assert(batch_crc_matches(batch, h->size));
    cr_assert_eq(record_open(&s->r.compress, batch, h, 1 << 20, &it), COMPRESS_OK);
    s->batches++;
    s->empty_batches += h->record_count == 0;
    while (record_next(&it, &r)) {
        struct seen *one = &s->seen[s->count++];
        cr_assert_lt(s->count, RECORDS_MAX);
        *one = (struct seen){.offset = h->base_offset + r.offset_delta,
                             .timestamp = record_timestamp(h, &r),
                             .key = NO_KEY,
                             .value = NO_VALUE,
                             .codec = batch_codec(h)};
        cr_assert_leq(one->offset, batch_last_offset(h));
        if (!batch_has(h, BATCH_CONTROL)) {
            char key[16] = {0};
            memcpy(key, r.key.data, r.key.size);
            one->key = atoi(key + 1);
            if (r.value.data != NULL)
                memcpy(&one->value, r.value.data, sizeof(one->value));
        }
    }
    cr_assert(!it.malformed);
}

/* Reads the log from its start to its end. */
static void see(struct shelf *s)
{
    int64_t offset = log_start_offset(s->l);
    s->count = s->batches = s->empty_batches = 0;
    while (offset < log_high_watermark(s->l)) {
        struct log_read *read = calloc(1, sizeof(*read));
        *read = (struct log_read){.offset = offset,
                                  .max_bytes = 3000,
                                  .whole_first_batch = true,
                                  .isolation = LOG_READ_HIGH_WATERMARK};
        log_rig_read(&s->r, s->l, read);
        cr_assert_eq(read->error, KE_NONE);
        cr_assert_gt(read->pieces_count, 0, "nothing at %ld", (long)offset);
        for (uint32_t i = 0; i < read->pieces_count; i++) {
            struct batch_iter it;
            const uint8_t *batch;
            struct batch_header h;
            batch_iter_init(&it, read->pieces[i].data, read->pieces[i].size);
            while (batch_next(&it, &batch, &h)) {
                cr_assert_geq(batch_last_offset(&h), offset);
                see_batch(s, batch, &h);
                offset = batch_last_offset(&h) + 1;
            }
        }
        log_read_release(s->r.core, read);
        free(read);
    }
}

/* How many records of the key there are; *value: of the last one. */
static uint32_t count_key(const struct shelf *s, int32_t key, int32_t *value)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->seen[i].key != key)
            continue;
        count++;
        if (value != NULL)
            *value = s->seen[i].value;
    }
    return count;
}

static bool clean_enough(struct shelf *s)
{
    struct clean_range r;
    return !s->l->cleaning && !clean_range_find(s->l, &r);
}

static void await_clean(struct shelf *s)
{
    LOG_UNTIL(&s->r, clean_enough(s));
}

static uint32_t files(const struct shelf *s, const char *suffix)
{
    char path[300];
    snprintf(path, sizeof(path), "%s/t1-0", s->r.dirs[0]);
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

/* ---- the table ------------------------------------------------------------------------------- */

Test(offset_map, hashes_as_the_reference_does)
{
    uint64_t secret[2] = {0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull};
    uint8_t zero = 0;
    struct hash128 none = sip_hash(secret, NULL, 0), one = sip_hash(secret, &zero, 1);
    cr_assert_eq(none.low, 0xe6a825ba047f81a3ull);
    cr_assert_eq(none.high, 0x930255c71472f66dull);
    cr_assert_eq(one.low, 0x44af996bd8c187daull);
    cr_assert_eq(one.high, 0x45fc229b11597634ull);
}

Test(offset_map, remembers_the_last_offset_of_each_key_until_it_is_full)
{
    struct mem mem;
    struct offset_map m;
    uint64_t secret[2] = {1, 2};
    cr_assert_eq(mem_init(&mem, 1 << 20), 0);
    cr_assert(offset_map_init(&m, &mem, 100, 0.9, secret));
    cr_assert(!offset_map_clear(&m, 60));
    cr_assert(offset_map_clear(&m, 60));
    for (uint32_t i = 0; i < 90; i++)
        cr_assert(offset_map_put(&m, (uint8_t *)&i, sizeof(i), i));
    uint32_t known = 7, other = 90;
    cr_assert(!offset_map_put(&m, (uint8_t *)&other, sizeof(other), 90));
    cr_assert(offset_map_put(&m, (uint8_t *)&known, sizeof(known), 1234));
    cr_assert_eq(offset_map_get(&m, (uint8_t *)&known, sizeof(known)), 1234);
    cr_assert_eq(offset_map_get(&m, (uint8_t *)&other, sizeof(other)), -1);
    offset_map_free(&m);
    cr_assert_eq(mem.used_bytes, 0);
    mem_destroy(&mem);
}

/* ---- what stays ------------------------------------------------------------------------------ */

/* Keys 0..9 in turn: value n of key n % 10. */
static void fill(struct shelf *s, int32_t from, int32_t to)
{
    for (int32_t n = from; n < to; n++)
        put(s, n % 10, n);
}

static void check_filled(struct shelf *s, int32_t to)
{
    int64_t last = -1;
    see(s);
    for (uint32_t i = 0; i < s->count; i++) {
        cr_assert_gt(s->seen[i].offset, last, "in order");
        last = s->seen[i].offset;
    }
    for (int32_t key = 0; key < 10; key++) {
        int32_t value = NO_VALUE;
        cr_assert_geq(count_key(s, key, &value), 1);
        cr_assert_eq(value % 10, key);
        cr_assert_geq(value, to - 10, "the last one of key %d", key);
    }
}

Test(log_cleaner, keeps_the_last_record_of_each_key)
{
    struct topic_config config = compacted();
    struct shelf *s = shelf_start(&config);
    fill(s, 0, 300);
    int64_t end = log_end_offset(s->l);
    roll(s);
    await_clean(s);
    check_filled(s, 300);
    for (int32_t key = 0; key < 10; key++)
        cr_assert_eq(count_key(s, key, NULL), 1);
    cr_assert_geq(log_end_offset(s->l), end);
    cr_assert_eq(log_start_offset(s->l), 0);
    cr_assert(log_rig_traced(&s->r, "cleaned offsets 0 to"));
    struct log_core_stats stats;
    log_core_stats(s->r.core, &stats);
    cr_assert_geq(stats.cleanings, 1);
    cr_assert_gt(stats.cleaned_bytes_before, 2 * stats.cleaned_bytes_after);
    shelf_end(s);
}

Test(log_cleaner, leaves_topics_that_are_not_compacted_alone)
{
    struct topic_config config = compacted();
    config.cleanup_policy = CLEANUP_DELETE;
    struct shelf *s = shelf_start(&config);
    fill(s, 0, 100);
    roll(s);
    uint32_t turns = 0;
    LOG_UNTIL(&s->r, turns++ > 20);
    see(s);
    cr_assert_eq(count_key(s, 3, NULL), 10);
    shelf_end(s);
}

Test(log_cleaner, survives_a_kill_while_the_wal_still_holds_what_went)
{
    struct topic_config config = compacted();
    struct shelf *s = shelf_start(&config);
    fill(s, 0, 200);
    roll(s);
    await_clean(s);
    see(s);
    uint32_t before = s->count;
    cr_assert_lt(before, 200);
    fill(s, 200, 215);
    shelf_restart(s, false);
    cr_assert_eq(log_status(s->l), KE_NONE);
    check_filled(s, 215);
    cr_assert_leq(count_key(s, 1, NULL), 3, "compacted records are not there again");
    await_clean(s);
    shelf_restart(s, true);
    check_filled(s, 215);
    shelf_end(s);
}

/* ---- deletions ------------------------------------------------------------------------------- */

Test(log_cleaner, keeps_a_deletion_until_its_horizon_has_passed)
{
    struct topic_config config = compacted();
    struct shelf *s = shelf_start(&config);
    fill(s, 0, 50);
    put(s, 3, NO_VALUE);
    roll(s);
    await_clean(s);
    see(s);
    int32_t value = 0;
    cr_assert_eq(count_key(s, 3, &value), 1);
    cr_assert_eq(value, NO_VALUE);
    config.delete_retention_ms = 0; /* for batches that have no horizon yet */
    log_reconfigure(s->l, &config);
    put(s, 4, NO_VALUE);
    roll(s);
    await_clean(s);
    roll(s);
    await_clean(s);
    see(s);
    cr_assert_eq(count_key(s, 3, NULL), 1,
                 "its horizon is a day away, whatever the topic says now");
    cr_assert_eq(count_key(s, 4, NULL), 0);
    shelf_end(s);
}

/* ---- transactions and producers -------------------------------------------------------------- */

static void put_in_transaction(struct shelf *s, int64_t producer_id, int32_t sequence, int32_t key,
                               int32_t value)
{
    struct put how = {.producer_id = producer_id, .sequence = sequence, .transactional = true};
    cr_assert_eq(put_records(s, &key, &value, 1, how), KE_NONE);
}

Test(log_cleaner, drops_what_was_aborted_and_lets_it_supersede_nothing)
{
    struct topic_config config = compacted();
    struct shelf *s = shelf_start(&config);
    put(s, 1, 10);
    put(s, 2, 20);
    put_in_transaction(s, 77, 0, 1, 11);
    put_in_transaction(s, 88, 0, 2, 21);
    put_marker(s, 77, 0, false);
    put_marker(s, 88, 0, true);
    roll(s);
    await_clean(s);
    see(s);
    int32_t value = 0;
    cr_assert_eq(count_key(s, 1, &value), 1);
    cr_assert_eq(value, 10);
    cr_assert_eq(count_key(s, 2, &value), 1);
    cr_assert_eq(value, 21);
    cr_assert_eq(count_key(s, NO_KEY, NULL), 2, "markers stay a round longer than their data");
    cr_assert_eq(files(s, ".txnindex"), 1);
    shelf_end(s);
}

/* ---- crashes --------------------------------------------------------------------------------- */

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...)
{
    char command[1200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    cr_assert_eq(system(command), 0, "%s", command);
}

/* Many small segments, all of them on the device and still in the WAL; nothing cleaned yet. The
 * directory as a kill left it is kept in <root>/before. */
static struct shelf *shelf_before_cleaning(void)
{
    struct topic_config config = compacted();
    config.segment_bytes = 1024;
    struct shelf *s = shelf_start(&config);
    log_rig_stop(&s->r);
    s->r.config.clean_start = true;
    s->r.config.cleaner.bytes_per_second = 1; /* it begins, and then rests for hours */
    s->config.segment_bytes = 1024;
    s->config.min_cleanable_dirty_ratio = 1; /* not yet */
    shelf_open(s);
    fill(s, 0, 150);
    roll(s);
    s->config.segment_bytes = 65536; /* all fit in one now */
    s->config.min_cleanable_dirty_ratio = 0.01;
    log_reconfigure(s->l, &s->config);
    LOG_UNTIL(&s->r, s->l->cleaning);
    log_rig_kill(&s->r);
    shell("cp -a %s %s/before", s->r.dirs[0], s->r.root);
    s->r.config.clean_start = false;
    return s;
}

/* Cleans it; the compacted files are then in <root>/after. Returns how many records are left. */
static uint32_t shelf_clean_copy(struct shelf *s)
{
    s->r.config.cleaner.bytes_per_second = 1e300;
    shelf_open(s);
    await_clean(s);
    see(s);
    cr_assert_eq(files(s, ".log"), 2, "one compacted, one active");
    log_rig_kill(&s->r);
    shell("cp -a %s %s/after", s->r.dirs[0], s->r.root);
    s->r.config.cleaner.enable = false;
    return s->count;
}

#define BASE "00000000000000000000"

/* In the shell: $d the folder as it was before, $n the one that was compacted. */
static void crash_at(struct shelf *s, const char *step)
{
    shell("set -e; rm -rf %s; cp -a %s/before %s; d=%s/t1-0; n=%s/after/t1-0; cd $d;"
          "touch $n/" BASE ".txnindex;"
          "put() { for f in log index timeindex txnindex; do cp $n/" BASE ".$f $d/" BASE
          ".$f.$1; done; };"
          "note() { cp $n/log-cleaned.torc $d; };"
          "old() { ls | grep -E '^[0-9]+[.](log|index|timeindex)$' | grep -v -F $(ls *.log | tail "
          "-1 | cut -d. -f1); };"
          "mark() { while read f; do mv $f $f.deleted; done; }; %s",
          s->r.dirs[0], s->r.root, s->r.dirs[0], s->r.dirs[0], s->r.root, step);
}

static void check_crash(struct shelf *s, const char *step, bool swapped, uint32_t left)
{
    crash_at(s, step);
    shelf_open(s);
    cr_assert_eq(log_status(s->l), KE_NONE, "%s", step);
    check_filled(s, 150);
    cr_assert(swapped ? s->count == left : s->count > left, "%s: %u records", step, s->count);
    cr_assert_eq(files(s, ".swap") + files(s, ".cleaned"), 0, "%s", step);
    int64_t found;
    struct log_position at;
    cr_assert_eq(log_find_time(s->l, s->seen[0].timestamp + 1, LOG_READ_HIGH_WATERMARK, &at),
                 KE_NONE);
    found = at.offset;
    cr_assert_gt(found, s->seen[0].offset);
    fill(s, 150, 160);
    shelf_restart(s, false);
    check_filled(s, 160);
    log_rig_kill(&s->r);
}

Test(log_cleaner, a_crash_at_any_step_of_the_swap_leaves_the_old_or_the_new)
{
    struct shelf *s = shelf_before_cleaning();
    uint32_t left = shelf_clean_copy(s);
    check_crash(s, "put cleaned", false, left);
    check_crash(s, "put cleaned; note", false, left);
    check_crash(s, "put cleaned; note; mv " BASE ".log.cleaned " BASE ".log.swap", false, left);
    check_crash(s, "put cleaned; note; mv " BASE ".index.cleaned " BASE ".index.swap", false, left);
    check_crash(s, "put swap; note", true, left);
    check_crash(s, "put swap; rm ../wal-*", true, left); /* as Kafka would have left it */
    check_crash(s, "put swap; note; old | head -12 | mark", true, left);
    check_crash(s, "put swap; note; old | tail -12 | mark", true, left);
    check_crash(s, "put swap; note; old | mark", true, left);
    check_crash(s, "put swap; note; old | mark; mv " BASE ".log.swap " BASE ".log", true, left);
    check_crash(s, "put swap; note; old | mark; mv " BASE ".timeindex.swap " BASE ".timeindex",
                true, left);
    shelf_open(s);
    shelf_end(s);
}

Test(log_cleaner, a_damaged_batch_stops_it_and_stays_damaged)
{
    struct shelf *s = shelf_before_cleaning();
    uint8_t byte = 0;
    char path[200];
    snprintf(path, sizeof(path), "%s/t1-0/" BASE ".log", s->r.dirs[0]);
    int fd = open(path, O_RDWR);
    cr_assert_eq(pread(fd, &byte, 1, 90), 1);
    byte ^= 1;
    cr_assert_eq(pwrite(fd, &byte, 1, 90), 1);
    close(fd);
    shell("rm %s/wal-*", s->r.dirs[0]);
    s->r.config.clean_start = true;
    s->r.config.cleaner.bytes_per_second = 1e300;
    shelf_open(s);
    LOG_UNTIL(&s->r, s->l->uncleanable);
    cr_assert_eq(log_status(s->l), KE_NONE);
    cr_assert_gt(files(s, ".log"), 10);
    cr_assert_eq(files(s, ".cleaned"), 0);
    shelf_end(s);
}

/* ---- more of what stays ---------------------------------------------------------------------- */

Test(log_cleaner, takes_several_rounds_when_the_table_is_too_small)
{
    struct topic_config config = compacted();
    config.min_cleanable_dirty_ratio = 0;
    struct shelf *s = shelf_start(&config);
    s->r.config.cleaner.dedupe_bytes = 1; /* the least there is: 57 keys */
    shelf_restart(s, true);
    for (int32_t n = 0; n < 500; n++)
        put(s, n % 250, n);
    roll(s);
    await_clean(s);
    see(s);
    for (int32_t key = 0; key < 250; key++) {
        int32_t value = 0;
        cr_assert_eq(count_key(s, key, &value), 1, "key %d", key);
        cr_assert_eq(value, 250 + key);
    }
    struct log_core_stats stats;
    log_core_stats(s->r.core, &stats);
    cr_assert_geq(stats.cleanings, 9);
    cr_assert(!s->l->uncleanable);
    shelf_end(s);
}

Test(log_cleaner, packs_what_stays_with_the_codec_it_came_with)
{
    static const enum compression_type types[] = {COMPRESSION_GZIP, COMPRESSION_SNAPPY,
                                                  COMPRESSION_LZ4, COMPRESSION_ZSTD};
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        struct topic_config config = compacted();
        config.compression_type = types[t];
        config.compression_gzip_level = config.compression_zstd_level = 1;
        config.segment_bytes = 1500;
        struct shelf *s = shelf_start(&config);
        for (int32_t n = 0; n < 30; n++) {
            int32_t keys[3] = {n % 2, 100 + n, 200 + n}, values[3] = {n, n, n};
            cr_assert_eq(put_records(s, keys, values, 3, (struct put){0}), KE_NONE);
        }
        int64_t end = s->l->segments[s->l->segments_count - 1]->base;
        await_clean(s);
        see(s);
        for (int32_t n = 0; n < 30; n++)
            cr_assert_eq(count_key(s, 100 + n, NULL), 1);
        cr_assert_lt(count_key(s, 0, NULL), 15);
        for (uint32_t i = 0; i < s->count; i++)
            cr_assert_eq(s->seen[i].codec, (uint32_t)types[t]);
        cr_assert_gt(end, 0);
        shelf_end(s);
    }
}

Test(log_cleaner, keeps_the_header_that_says_a_producers_last_sequence)
{
    struct topic_config config = compacted();
    struct shelf *s = shelf_start(&config);
    int32_t key = 5, value = 1;
    for (int32_t n = 0; n < 3; n++)
        cr_assert_eq(put_records(s, &key, &value, 1, (struct put){.producer_id = 9, .sequence = n}),
                     KE_NONE);
    put(s, key, 2);
    roll(s);
    await_clean(s);
    see(s);
    cr_assert_eq(count_key(s, key, NULL), 1);
    cr_assert_geq(s->empty_batches, 1);
    shelf_restart(s, true);
    shell("rm -f %s/t1-0/*.snapshot", s->r.dirs[0]); /* only the batches can say it now */
    log_rig_kill(&s->r);
    shell("rm -f %s/t1-0/*.snapshot %s/wal-*", s->r.dirs[0], s->r.dirs[0]);
    s->r.config.clean_start = true;
    shelf_open(s);
    cr_assert_eq(put_records(s, &key, &value, 1, (struct put){.producer_id = 9, .sequence = 7}),
                 KE_OUT_OF_ORDER_SEQUENCE_NUMBER);
    cr_assert_eq(put_records(s, &key, &value, 1, (struct put){.producer_id = 9, .sequence = 3}),
                 KE_NONE);
    shelf_end(s);
}

Test(log_cleaner, lets_markers_go_when_their_data_is_gone_and_their_horizon_has_passed)
{
    struct topic_config config = compacted();
    config.delete_retention_ms = 0;
    struct shelf *s = shelf_start(&config);
    put_in_transaction(s, 77, 0, 1, 11);
    put_in_transaction(s, 77, 1, 2, 12);
    put_marker(s, 77, 0, false);
    put_in_transaction(s, 77, 2, 3, 13); /* its last: the one before need not stay */
    put_marker(s, 77, 0, true);
    roll(s);
    await_clean(s);
    see(s);
    cr_assert_eq(count_key(s, NO_KEY, NULL), 2);
    cr_assert_eq(count_key(s, 3, NULL), 1);
    for (uint32_t i = 0; i < 2; i++) { /* the first of them gives it a horizon */
        roll(s);
        await_clean(s);
    }
    see(s);
    cr_assert_eq(count_key(s, NO_KEY, NULL), 1, "that of the commit, whose record is there");
    cr_assert_eq(files(s, ".txnindex"), 0);
    shelf_end(s);
}

/* ---- when ------------------------------------------------------------------------------------ */

static void turn_for_a_while(struct shelf *s)
{
    uint64_t until_ns = io_now_ns(s->r.io.io) + 100 * NS_PER_MS;
    LOG_UNTIL(&s->r, io_now_ns(s->r.io.io) > until_ns);
}

Test(log_cleaner, waits_for_the_dirty_ratio_and_for_the_least_age)
{
    struct topic_config config = compacted();
    config.min_compaction_lag_ms = 3600000;
    struct shelf *s = shelf_start(&config);
    fill(s, 0, 60);
    roll(s);
    turn_for_a_while(s);
    see(s);
    cr_assert_eq(count_key(s, 7, NULL), 6, "too young");
    config.min_compaction_lag_ms = 0;
    config.min_cleanable_dirty_ratio = 1;
    log_reconfigure(s->l, &config);
    turn_for_a_while(s);
    see(s);
    cr_assert_eq(count_key(s, 7, NULL), 6, "not dirty enough");
    config.max_compaction_lag_ms = 1; /* whatever the ratio */
    log_reconfigure(s->l, &config);
    LOG_UNTIL(&s->r, (see(s), count_key(s, 7, NULL) == 1));
    shelf_end(s);
}

Test(log_cleaner, deletes_what_has_expired_where_the_policy_says_both)
{
    struct topic_config config = compacted();
    config.cleanup_policy = CLEANUP_COMPACT | CLEANUP_DELETE;
    config.min_cleanable_dirty_ratio = 1;
    struct shelf *s = shelf_start(&config);
    fill(s, 0, 100);
    roll(s);
    config.retention_bytes = 1;
    config.min_cleanable_dirty_ratio = 0.01;
    log_reconfigure(s->l, &config);
    LOG_UNTIL(&s->r, log_start_offset(s->l) > 90);
    config.retention_bytes = -1;
    log_reconfigure(s->l, &config);
    fill(s, 100, 130);
    roll(s);
    await_clean(s);
    check_filled(s, 130);
    cr_assert_geq(s->l->cleaned_end, log_start_offset(s->l));
    shelf_end(s);
}

/* ---- while it works -------------------------------------------------------------------------- */

/* One that has begun to be cleaned and rests now. */
static struct shelf *shelf_cleaning(double bytes_per_second)
{
    struct topic_config config = compacted();
    config.min_cleanable_dirty_ratio = 1;
    struct shelf *s = shelf_start(&config);
    s->r.config.cleaner.bytes_per_second = bytes_per_second;
    shelf_restart(s, true);
    fill(s, 0, 100);
    roll(s);
    s->config.min_cleanable_dirty_ratio = 0.01;
    log_reconfigure(s->l, &s->config);
    LOG_UNTIL(&s->r, s->l->cleaning);
    return s;
}

Test(log_cleaner, lets_go_of_a_log_that_is_deleted)
{
    struct shelf *s = shelf_cleaning(100);
    log_delete(s->l);
    turn_for_a_while(s);
    shelf_end(s);
}

Test(log_cleaner, ends_at_a_stop_and_leaves_the_log_as_it_was)
{
    struct shelf *s = shelf_cleaning(100);
    log_rig_stop(&s->r);
    s->l = NULL;
    cr_assert_eq(files(s, ".cleaned"), 0);
    s->r.config.clean_start = true;
    s->r.config.cleaner.enable = false;
    shelf_open(s);
    see(s);
    cr_assert_eq(count_key(s, 3, NULL), 10);
    shelf_end(s);
}

Test(log_cleaner, gives_up_when_the_topic_is_not_to_be_compacted_any_more)
{
    struct shelf *s = shelf_cleaning(50000);
    s->config.cleanup_policy = CLEANUP_DELETE;
    log_reconfigure(s->l, &s->config);
    LOG_UNTIL(&s->r, !s->l->cleaning);
    see(s);
    cr_assert_eq(count_key(s, 3, NULL), 10);
    shelf_end(s);
}

Test(log_cleaner, a_reader_goes_on_behind_what_was_compacted_meanwhile)
{
    struct topic_config config = compacted();
    config.min_cleanable_dirty_ratio = 1;
    struct shelf *s = shelf_start(&config);
    fill(s, 0, 100);
    roll(s);
    shelf_restart(s, true); /* nothing is in memory */
    struct log_read first = {.offset = 0,
                             .max_bytes = 4000,
                             .whole_first_batch = true,
                             .isolation = LOG_READ_HIGH_WATERMARK};
    log_rig_read(&s->r, s->l, &first);
    cr_assert_eq(first.error, KE_NONE);
    config.min_cleanable_dirty_ratio = 0.01;
    log_reconfigure(s->l, &config);
    await_clean(s);
    cr_assert(batch_crc_matches(first.pieces[0].data, 136), "lent pieces stay what they were");
    for (int64_t offset = first.next_offset; offset < first.next_offset + 20; offset++) {
        struct log_read next = {.offset = offset,
                                .max_bytes = 1,
                                .whole_first_batch = true,
                                .isolation = LOG_READ_HIGH_WATERMARK};
        struct batch_header h;
        log_rig_read(&s->r, s->l, &next);
        cr_assert_eq(next.error, KE_NONE);
        cr_assert_eq(batch_peek(next.pieces[0].data, next.pieces[0].size, &h), BATCH_WHOLE);
        cr_assert_geq(batch_last_offset(&h), offset);
        log_read_release(s->r.core, &next);
    }
    log_read_release(s->r.core, &first);
    shelf_end(s);
}

Test(log_cleaner, a_compacted_log_is_recovered_by_scan_where_there_is_no_wal)
{
    struct topic_config config = compacted();
    struct shelf *s = shelf_start(&config);
    fill(s, 0, 200);
    put_in_transaction(s, 77, 0, 1, 11);
    put_marker(s, 77, 0, false);
    roll(s);
    await_clean(s);
    see(s);
    uint32_t count = s->count;
    log_rig_stop(&s->r);
    shell("rm -f %s/wal-*", s->r.dirs[0]);
    s->r.config.clean_start = false;
    s->config.cleanup_policy = CLEANUP_DELETE; /* the gaps are there whatever it is now */
    shelf_open(s);
    cr_assert_eq(log_status(s->l), KE_NONE);
    check_filled(s, 200);
    cr_assert_eq(s->count, count);
    shelf_end(s);
}

Test(log_cleaner, forgets_what_the_wal_need_not_say_when_the_log_was_cut_since)
{
    struct topic_config config = compacted();
    struct shelf *s = shelf_start(&config);
    fill(s, 0, 200);
    roll(s);
    await_clean(s);
    cr_assert_gt(s->l->settled_end, 100);
    log_rig_stop(&s->r);
    shell("cd %s/t1-0; rm -f *.log *.index *.timeindex *.snapshot; rm %s/wal-*", s->r.dirs[0],
          s->r.dirs[0]); /* as somebody does who begins the log anew */
    s->r.config.clean_start = true;
    shelf_open(s);
    fill(s, 0, 20);
    shelf_restart(s, false);
    cr_assert_eq(log_end_offset(s->l), 20);
    check_filled(s, 20);
    shelf_end(s);
}

Test(log_cleaner, compacts_a_log_that_acknowledges_from_the_page_cache)
{
    struct topic_config config = compacted();
    config.write_caching = true;
    struct shelf *s = shelf_start(&config);
    fill(s, 0, 200);
    roll(s);
    await_clean(s);
    see(s);
    uint32_t count = s->count;
    cr_assert_lt(count, 100);
    shelf_restart(s, false);
    cr_assert_eq(log_status(s->l), KE_NONE);
    check_filled(s, 200);
    cr_assert_leq(s->count, count);
    config.write_caching = false; /* what follows is in the WAL, what is before is not */
    log_reconfigure(s->l, &config);
    fill(s, 200, 260);
    roll(s);
    await_clean(s);
    shelf_restart(s, false);
    check_filled(s, 260);
    shelf_end(s);
}
