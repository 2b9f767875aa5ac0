/* torc inspect segment: the batches, and on demand the records, of partition segments, and their
 * indexes of aborted transactions, in the very lines of Kafka's dump tool, so that both can be
 * compared and scripts read either.
 *
 * Failure modes: exit code 1 when a file cannot be read, when its bytes do not end with a whole
 * batch, or when a checksum does not agree. What can be read is shown all the same. */
#include "broker/cli/batches.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log/txn_index.h"
#include "core/core.h"
#include "proto/compress.h"

#define UNPACKED_BYTES_MAX (512u << 20)
#define INDEX_BYTES_MAX    (512u << 20)

struct inspection {
    struct cli *c;
    struct compress compress;
    bool records, json;
};

static const char *control_name(enum batch_control type)
{
    switch (type) {
    case BATCH_CONTROL_ABORT:
        return "ABORT";
    case BATCH_CONTROL_COMMIT:
        return "COMMIT";
    case BATCH_CONTROL_LEADER_CHANGE:
        return "LeaderChange";
    case BATCH_CONTROL_SNAPSHOT_HEADER:
        return "SnapshotHeader";
    case BATCH_CONTROL_SNAPSHOT_FOOTER:
        return "SnapshotFooter";
    case BATCH_CONTROL_KRAFT_VERSION:
        return "KRaftVersion";
    case BATCH_CONTROL_KRAFT_VOTERS:
        return "KRaftVoters";
    }
    return "unknown";
}

static void show_headers(struct cli *c, const struct record *r)
{
    struct record_header_iter it;
    struct batch_record_header h;
    const char *comma = "";
    record_header_iter_init(&it, r);
    while (record_header_next(&it, &h)) {
        char key[512];
        trace_escape(key, sizeof(key), h.key.data, h.key.size);
        cli_print(c, "%s%s", comma, key);
        comma = ",";
    }
}

static long long field_size(struct batch_field f)
{
    return f.data == NULL ? -1 : (long long)f.size;
}

static void show_record(struct cli *c, const uint8_t *batch, const struct batch_header *h,
                        const struct record *r)
{
    int32_t epoch;
    enum batch_control type;
    bool sequenced = h->base_sequence != BATCH_NO_SEQUENCE;
    int64_t sequence = sequenced ? ((int64_t)h->base_sequence + r->offset_delta) & INT32_MAX : -1;
    cli_print(c,
              "| offset: %lld %s: %lld keySize: %lld valueSize: %lld sequence: %lld headerKeys: [",
              (long long)h->base_offset + r->offset_delta,
              batch_has(h, BATCH_LOG_APPEND_TIME) ? "LogAppendTime" : "CreateTime",
              (long long)record_timestamp(h, r), field_size(r->key), field_size(r->value),
              (long long)sequence);
    show_headers(c, r);
    cli_print(c, "]");
    if (batch_has(h, BATCH_CONTROL) && batch_read_control(batch, h->size, &type, &epoch)) {
        if (type <= BATCH_CONTROL_COMMIT)
            cli_print(c, " endTxnMarker: %s coordinatorEpoch: %d", control_name(type), epoch);
        else
            cli_print(c, " %s", control_name(type));
    }
    cli_print(c, "\n");
}

/* false: what is inside cannot be read. */
static bool show_records(struct inspection *s, const uint8_t *batch, const struct batch_header *h)
{
    struct record_iter it;
    struct record r;
    if (batch_codec(h) >= CODECS_COUNT ||
        record_open(&s->compress, batch, h, UNPACKED_BYTES_MAX, &it) != COMPRESS_OK)
        return false;
    while (record_next(&it, &r))
        if (!s->json)
            show_record(s->c, batch, h, &r);
    return !it.malformed;
}

static int64_t base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return (int64_t)strtoll(slash == NULL ? path : slash + 1, NULL, 10);
}

static void begin_file(struct inspection *s, const char *path)
{
    char shown[512];
    if (!s->json) {
        cli_print(s->c, "Dumping %s\nLog starting offset: %lld\n", cli_shown(&shown, path),
                  (long long)base_of(path));
        return;
    }
    cli_json_open(s->c, NULL, '{');
    cli_json_text(s->c, "path", path);
    cli_json_integer(s->c, "base_offset", base_of(path));
    cli_json_open(s->c, "batches", '[');
}

static void end_file(struct inspection *s, const struct batches *b, uint64_t invalid)
{
    if (!s->json)
        return;
    cli_json_close(s->c, ']');
    cli_json_integer(s->c, "size", (int64_t)b->size);
    cli_json_integer(s->c, "valid_bytes", (int64_t)MIN(b->size, batches_at(b)));
    cli_json_integer(s->c, "invalid_batches", (int64_t)invalid);
    cli_json_text(s->c, "wrong", b->wrong);
    cli_json_close(s->c, '}');
}

static int inspect_file(struct inspection *s, const char *path)
{
    struct batches b;
    const uint8_t *batch;
    struct batch_header h;
    uint64_t position, invalid = 0;
    char shown[512];
    int error = batches_open(&b, s->c, path);
    if (error != 0) {
        cli_complain(s->c, "%s cannot be read: %s", cli_shown(&shown, path), strerror(-error));
        return EXIT_FAILED;
    }
    begin_file(s, path);
    while (batches_next(&b, &batch, &h, &position)) {
        bool valid = batch_crc_matches(batch, h.size);
        batches_show(s->c, &h, position, valid);
        if (s->records && valid && !show_records(s, batch, &h)) {
            if (!s->json)
                cli_print(s->c, "| these records cannot be read\n");
            valid = false;
        }
        invalid += valid ? 0 : 1;
    }
    end_file(s, &b, invalid);
    int result = batches_verdict(s->c, path, &b, invalid);
    batches_close(&b);
    return result;
}

static void show_aborted(struct inspection *s, const struct aborted_txn *t)
{
    if (!s->json) {
        cli_print(s->c,
                  "version: 0 producerId: %lld firstOffset: %lld lastOffset: %lld "
                  "lastStableOffset: %lld\n",
                  (long long)t->producer_id, (long long)t->first_offset, (long long)t->last_offset,
                  (long long)t->stable_offset);
        return;
    }
    cli_json_open(s->c, NULL, '{');
    cli_json_integer(s->c, "producer_id", t->producer_id);
    cli_json_integer(s->c, "first_offset", t->first_offset);
    cli_json_integer(s->c, "last_offset", t->last_offset);
    cli_json_integer(s->c, "last_stable_offset", t->stable_offset);
    cli_json_close(s->c, '}');
}

static bool is_txn_index(const char *path)
{
    size_t size = strlen(path), suffix = strlen(TXN_INDEX_SUFFIX);
    return size >= suffix && strcmp(path + size - suffix, TXN_INDEX_SUFFIX) == 0;
}

static int inspect_txn_index(struct inspection *s, const char *path)
{
    char *data = NULL, shown[512];
    size_t size = 0, at = 0;
    struct aborted_txn t;
    int error = io_slurp(cli_io(s->c), &s->c->mem, path, INDEX_BYTES_MAX, &data, &size);
    if (error != 0) {
        cli_complain(s->c, "%s cannot be read: %s", cli_shown(&shown, path), strerror(-error));
        return EXIT_FAILED;
    }
    if (s->json) {
        cli_json_open(s->c, NULL, '{');
        cli_json_text(s->c, "path", path);
        cli_json_open(s->c, "aborted_transactions", '[');
    } else {
        cli_print(s->c, "Dumping %s\n", cli_shown(&shown, path));
    }
    for (; at + TXN_INDEX_ENTRY_SIZE <= size; at += TXN_INDEX_ENTRY_SIZE) {
        if (!txn_index_get((const uint8_t *)data + at, &t))
            break;
        show_aborted(s, &t);
    }
    if (s->json) {
        cli_json_close(s->c, ']');
        cli_json_close(s->c, '}');
    }
    if (at != size)
        cli_complain(s->c, "%s: what stands at position %zu is no aborted transaction",
                     cli_shown(&shown, path), at);
    mem_free(&s->c->mem, data, size + 1);
    return at == size ? EXIT_OK : EXIT_FAILED;
}

int command_inspect_segment(struct cli *c)
{
    static const char *const suffixes[] = {".log", TXN_INDEX_SUFFIX, NULL};
    struct inspection s = {
        .c = c, .records = cli_count(c, "records") > 0, .json = cli_count(c, "json") > 0};
    struct files *found = mem_alloc(&c->mem, sizeof(*found));
    const char *path = c->parsed.positionals[0];
    char shown[512];
    int count = found == NULL ? -1 : files_find(c, path, suffixes, found);
    if (count <= 0) {
        cli_complain(c, "%s: %s", cli_shown(&shown, path),
                     count == 0 ? "there is no segment in it" : strerror(-count));
        return EXIT_FAILED;
    }
    int result = EXIT_OK;
    compress_init(&s.compress, &c->mem);
    if (s.json) {
        cli_json_begin(c);
        cli_json_open(c, NULL, '[');
    }
    for (uint32_t i = 0; i < found->count; i++) {
        const char *file = found->paths[i];
        int one = is_txn_index(file) ? inspect_txn_index(&s, file) : inspect_file(&s, file);
        result = one != EXIT_OK ? EXIT_FAILED : result;
    }
    if (s.json) {
        cli_json_close(c, ']');
        cli_json_end(c, result == EXIT_OK ? NULL : "not every byte is a whole and valid batch");
    }
    compress_free(&s.compress);
    return result;
}
