/* Walking files of record batches: segments, metadata segments and snapshots are the same kind.
 *
 *   file  |batch|batch|batch|ba|           the window slides over the file and grows for a batch
 *              [═══ data ═══]               that is larger than it
 *
 * Invariants:
 *  1. data[0, used) are the bytes of the file from `offset` on; at <= used.
 *  2. A batch that was given stays where it is until the next call.
 *
 * Failure modes: bytes that are no whole batch end the walk with a sentence in `wrong`; a file that
 * cannot be read too. */
#include "broker/cli/batches.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/core.h"
#include "proto/compress.h"

#define WINDOW_BYTES (1u << 20)

int batches_open(struct batches *b, struct cli *c, const char *path)
{
    struct io_stat stat;
    *b = (struct batches){.io = cli_io(c), .mem = &c->mem, .fd = -1};
    if (b->io == NULL)
        return -EIO;
    b->fd = io_open(b->io, path, IO_READ);
    int error = b->fd < 0 ? b->fd : io_fstat(b->io, b->fd, &stat);
    if (error == 0) {
        b->size = stat.size;
        b->room = WINDOW_BYTES;
        b->data = mem_alloc(b->mem, b->room);
        error = b->data == NULL ? -ENOMEM : 0;
    }
    if (error != 0)
        batches_close(b);
    return error;
}

void batches_close(struct batches *b)
{
    if (b->fd >= 0)
        io_close(b->io, b->fd);
    if (b->data != NULL)
        mem_free(b->mem, b->data, b->room);
    b->fd = -1;
    b->data = NULL;
}

/* Makes `need` bytes from `at` on be in the window, if the file has them. false: cannot be read. */
static bool fill(struct batches *b, uint32_t need)
{
    assert(b->at <= b->used);
    if (b->used - b->at >= need)
        return true;
    memmove(b->data, b->data + b->at, b->used - b->at);
    b->offset += b->at;
    b->used -= b->at;
    b->at = 0;
    if (need > b->room) {
        uint8_t *larger = mem_realloc(b->mem, b->data, b->room, need);
        if (larger == NULL) {
            b->wrong = "is larger than the memory of this command";
            return false;
        }
        b->data = larger;
        b->room = need;
    }
    int64_t got = io_pread(b->io, b->fd, b->data + b->used, b->room - b->used, b->offset + b->used);
    if (got < 0) {
        b->wrong = "cannot be read";
        return false;
    }
    b->used += (uint32_t)got;
    assert(b->used <= b->room);
    return true;
}

static bool all_zeros(struct batches *b)
{
    while (fill(b, 1) && b->at < b->used)
        if (b->data[b->at++] != 0)
            return false;
    return b->wrong == NULL;
}

/* Names what is wrong at the window's start; space that was taken in advance is nothing wrong. */
static bool end_here(struct batches *b, const char *wrong)
{
    uint64_t position = b->offset + b->at;
    if (b->wrong == NULL && !all_zeros(b))
        b->wrong = wrong;
    b->offset = position;
    b->at = b->used = 0;
    return false;
}

bool batches_next(struct batches *b, const uint8_t **batch, struct batch_header *h,
                  uint64_t *position)
{
    assert(b->data != NULL);
    if (b->wrong != NULL || !fill(b, BATCH_HEADER_SIZE) || b->at == b->used)
        return false;
    enum batch_peek peek = batch_peek(b->data + b->at, b->used - b->at, h);
    if (peek == BATCH_PARTIAL && h->size > BATCHES_SIZE_MAX)
        peek = BATCH_MALFORMED;
    if (peek == BATCH_PARTIAL && h->size > 0) {
        if (!fill(b, h->size))
            return false;
        peek = batch_peek(b->data + b->at, b->used - b->at, h);
    }
    if (peek == BATCH_PARTIAL)
        return end_here(b, "is cut short");
    if (peek == BATCH_MALFORMED)
        return end_here(b, "is no batch");
    if (peek == BATCH_OLD)
        return end_here(b, "is a message of magic 0 or 1, which Kafka 4 does not read either");
    *batch = b->data + b->at;
    *position = b->offset + b->at;
    b->at += h->size;
    return true;
}

uint64_t batches_at(const struct batches *b)
{
    return b->offset + b->at;
}

/* ---- showing --------------------------------------------------------------------------------- */

static void show_json(struct cli *c, const struct batch_header *h, uint64_t position, bool valid)
{
    cli_json_open(c, NULL, '{');
    cli_json_integer(c, "base_offset", h->base_offset);
    cli_json_integer(c, "last_offset", batch_last_offset(h));
    cli_json_integer(c, "count", h->record_count);
    cli_json_integer(c, "base_sequence", h->base_sequence);
    cli_json_integer(c, "last_sequence", batch_last_sequence(h));
    cli_json_integer(c, "producer_id", h->producer_id);
    cli_json_integer(c, "producer_epoch", h->producer_epoch);
    cli_json_integer(c, "leader_epoch", h->leader_epoch);
    cli_json_boolean(c, "transactional", batch_has(h, BATCH_TRANSACTIONAL));
    cli_json_boolean(c, "control", batch_has(h, BATCH_CONTROL));
    cli_json_integer(c, "position", (int64_t)position);
    cli_json_text(c, "timestamp_type",
                  batch_has(h, BATCH_LOG_APPEND_TIME) ? "LogAppendTime" : "CreateTime");
    cli_json_integer(c, "max_timestamp", h->max_timestamp);
    cli_json_integer(c, "size", h->size);
    cli_json_integer(c, "magic", h->magic);
    cli_json_text(c, "codec", batch_codec(h) < CODECS_COUNT ? codec_name(batch_codec(h)) : NULL);
    cli_json_integer(c, "crc", h->crc);
    cli_json_boolean(c, "valid", valid);
    cli_json_close(c, '}');
}

static const char *truth(bool value)
{
    return value ? "true" : "false";
}

void batches_show(struct cli *c, const struct batch_header *h, uint64_t position, bool valid)
{
    char horizon[48] =
        "OptionalLong.empty"; /* as Kafka's tool says it, for the scripts that read it
                               */
    assert(h->magic == 2);
    if (cli_count(c, "json") > 0) {
        show_json(c, h, position, valid);
        return;
    }
    if (batch_has(h, BATCH_DELETE_HORIZON))
        snprintf(horizon, sizeof(horizon), "OptionalLong[%lld]", (long long)h->base_timestamp);
    cli_print(c,
              "baseOffset: %lld lastOffset: %lld count: %d baseSequence: %d lastSequence: %d "
              "producerId: %lld producerEpoch: %d partitionLeaderEpoch: %d isTransactional: %s "
              "isControl: %s deleteHorizonMs: %s position: %llu %s: %lld size: %u magic: %u "
              "compresscodec: %s crc: %u isvalid: %s\n",
              (long long)h->base_offset, (long long)batch_last_offset(h), h->record_count,
              h->base_sequence, batch_last_sequence(h), (long long)h->producer_id,
              h->producer_epoch, h->leader_epoch, truth(batch_has(h, BATCH_TRANSACTIONAL)),
              truth(batch_has(h, BATCH_CONTROL)), horizon, (unsigned long long)position,
              batch_has(h, BATCH_LOG_APPEND_TIME) ? "LogAppendTime" : "CreateTime",
              (long long)h->max_timestamp, h->size, h->magic,
              batch_codec(h) < CODECS_COUNT ? codec_name(batch_codec(h)) : "unknown", h->crc,
              truth(valid));
}

int batches_verdict(struct cli *c, const char *path, const struct batches *b, uint64_t invalid)
{
    char shown[512];
    if (b->wrong != NULL)
        cli_complain(c, "%s: what stands at position %llu %s; %llu bytes from there on are lost",
                     cli_shown(&shown, path), (unsigned long long)batches_at(b), b->wrong,
                     (unsigned long long)(b->size - MIN(b->size, batches_at(b))));
    if (invalid > 0)
        cli_complain(c, "%s: %llu batches whose bytes are not what was written",
                     cli_shown(&shown, path), (unsigned long long)invalid);
    return b->wrong == NULL && invalid == 0 ? EXIT_OK : EXIT_FAILED;
}

/* ---- files ----------------------------------------------------------------------------------- */

struct search {
    struct cli *c;
    const char *directory;
    const char *const *suffixes;
    struct files *found;
    int error;
};

static bool wanted(const char *name, const char *const *suffixes)
{
    size_t size = strlen(name);
    for (size_t i = 0; suffixes[i] != NULL; i++) {
        size_t suffix = strlen(suffixes[i]);
        if (size > suffix && strcmp(name + size - suffix, suffixes[i]) == 0)
            return true;
    }
    return false;
}

static bool keep(struct search *s, const char *directory, const char *name)
{
    size_t room = strlen(directory) + strlen(name) + 2;
    char *path = mem_alloc(&s->c->mem, room); /* freed with the command's memory */
    if (path == NULL || s->found->count == FILES_MAX) {
        s->error = path == NULL ? -ENOMEM : -E2BIG;
        return false;
    }
    snprintf(path, room, "%s%s%s", directory, directory[0] == '\0' ? "" : "/", name);
    uint32_t at = s->found->count++;
    for (; at > 0 && strcmp(s->found->paths[at - 1], path) > 0; at--)
        s->found->paths[at] = s->found->paths[at - 1];
    s->found->paths[at] = path;
    return true;
}

static bool visit(void *context, const char *name, bool is_directory)
{
    struct search *s = context;
    return is_directory || !wanted(name, s->suffixes) || keep(s, s->directory, name);
}

int files_find(struct cli *c, const char *path, const char *const *suffixes, struct files *found)
{
    struct io_stat stat;
    struct io *io = cli_io(c);
    struct search s = {c, path, suffixes, found, 0};
    assert(found != NULL);
    found->count = 0;
    if (io == NULL)
        return -EIO;
    int error = io_stat(io, path, &stat);
    if (error != 0)
        return error;
    if (!stat.is_directory)
        return keep(&s, "", path) ? 1 : s.error;
    error = io_list(io, path, visit, &s);
    if (error == 0)
        error = s.error;
    return error != 0 ? error : (int)found->count;
}
