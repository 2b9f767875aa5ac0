/* torc inspect wal: what the files of a write-ahead log hold, group by group.
 *
 *   header │ group │ group │ torn or older ...
 *
 * A file is written over from its start, so what follows its last group is older: the walk ends at
 * the first group whose generation, sequence or checksum does not follow. Whether that is a clean
 * end or a torn write only recovery can tell, which knows the other files; here both are an end.
 *
 * Failure modes: exit code 1 when a file has no valid header or cannot be read. */
#include "broker/cli/batches.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/log/wal_format.h"
#include "core/core.h"
#include "core/crc32c.h"
#include "proto/batch.h"

#define GROUP_BYTES_MAX (1u << 30) /* a longer one is no group */

struct wal_walk {
    struct cli *c;
    bool json, entries;
    int fd;
    uint64_t size;
    const char *end; /* why the walk ended */
};

static bool read_header(struct io *io, const struct wal_walk *w, struct wal_file_header *h)
{
    if (io_pread(io, w->fd, h, sizeof(*h), 0) != (int64_t)sizeof(*h))
        return false;
    return h->magic == WAL_MAGIC && h->version == WAL_VERSION &&
           h->crc == crc32c(0, h, offsetof(struct wal_file_header, crc));
}

/* The next group follows the one before: NULL, or why it does not. */
static const char *check_group(const struct wal_walk *w, const struct wal_group_header *g,
                               uint64_t position, const struct wal_file_header *file,
                               uint64_t sequence, uint32_t previous_crc)
{
    if (g->magic != WAL_GROUP_MAGIC || g->version != WAL_VERSION)
        return "no group follows";
    if (g->crc != crc32c(0, g, offsetof(struct wal_group_header, crc)))
        return "the next group's header is damaged";
    if (g->generation != file->generation || g->sequence != sequence ||
        g->previous_crc != previous_crc)
        return "older groups follow";
    if (g->length > GROUP_BYTES_MAX || g->length % WAL_BLOCK != 0 || g->used > g->length ||
        g->used < sizeof(*g) || position + g->length > w->size)
        return "the next group's length is impossible";
    return NULL;
}

static void show_entry(const struct wal_walk *w, const struct wal_entry *e, bool valid)
{
    char id[UUID_TEXT_SIZE];
    const char *type = e->type == WAL_BATCH       ? "batch"
                       : e->type == WAL_LOG_START ? "start"
                       : e->type == WAL_ABORTED   ? "aborted"
                                                  : "?";
    if (!w->json) {
        cli_print(w->c,
                  "| %s topic %s partition %d epoch %d offsets %lld-%lld bytes %u position %u %s\n",
                  type, uuid_text(e->topic_id, id), e->partition, e->leader_epoch,
                  (long long)e->base_offset, (long long)e->last_offset, e->length, e->position,
                  valid ? "valid" : "DAMAGED");
        return;
    }
    cli_json_open(w->c, NULL, '{');
    cli_json_text(w->c, "type", type);
    cli_json_text(w->c, "topic_id", uuid_text(e->topic_id, id));
    cli_json_integer(w->c, "partition", e->partition);
    cli_json_integer(w->c, "leader_epoch", e->leader_epoch);
    cli_json_integer(w->c, "base_offset", e->base_offset);
    cli_json_integer(w->c, "last_offset", e->last_offset);
    cli_json_integer(w->c, "length", e->length);
    cli_json_integer(w->c, "position", e->position);
    cli_json_boolean(w->c, "valid", valid);
    cli_json_close(w->c, '}');
}

static bool entry_valid(const struct wal_entry *e, const uint8_t *bytes)
{
    const uint8_t *from = (const uint8_t *)&e->type;
    size_t size = offsetof(struct wal_entry, slot) - offsetof(struct wal_entry, type);
    if (e->crc != crc32c(0, from, size))
        return false;
    return e->type != WAL_BATCH || batch_crc_matches(bytes, e->length);
}

/* The group's bytes are in data. Returns how many entries are whole. */
static uint32_t walk_entries(const struct wal_walk *w, const uint8_t *data,
                             const struct wal_group_header *g)
{
    uint32_t at = sizeof(*g), whole = 0, crc = 0;
    for (uint32_t i = 0; i < g->entries; i++) {
        struct wal_entry e;
        if (g->used - at < sizeof(e))
            break;
        memcpy(&e, data + at, sizeof(e));
        at += (uint32_t)sizeof(e);
        if (e.length > g->used - at || (e.type == WAL_BATCH && e.length < BATCH_HEADER_SIZE))
            break;
        bool valid = entry_valid(&e, data + at);
        crc = crc32c(crc, &e.crc, sizeof(e.crc));
        whole += valid ? 1 : 0;
        if (w->entries)
            show_entry(w, &e, valid);
        at += MIN(wal_padded(e.length, WAL_ENTRY_ALIGN), g->used - at);
    }
    return crc == g->entries_crc ? whole : MIN(whole, g->entries - (g->entries > 0 ? 1u : 0u));
}

static void show_group(const struct wal_walk *w, const struct wal_group_header *g,
                       uint64_t position)
{
    if (!w->json) {
        cli_print(w->c,
                  "group %llu at %llu: generation %llu, first of write %llu, entries %u, "
                  "bytes %u, written %lld\n",
                  (unsigned long long)g->sequence, (unsigned long long)position,
                  (unsigned long long)g->generation, (unsigned long long)g->first_in_flight,
                  g->entries, g->used, (long long)g->wall_ms);
        return;
    }
    cli_json_open(w->c, NULL, '{');
    cli_json_integer(w->c, "sequence", (int64_t)g->sequence);
    cli_json_integer(w->c, "position", (int64_t)position);
    cli_json_integer(w->c, "first_in_flight", (int64_t)g->first_in_flight);
    cli_json_integer(w->c, "entries_count", g->entries);
    cli_json_integer(w->c, "used", g->used);
    cli_json_integer(w->c, "wall_ms", g->wall_ms);
    cli_json_open(w->c, "entries", '[');
}

/* Reads one group whole and shows it. false: the walk ends, w->end says why. */
static bool walk_group(struct wal_walk *w, const struct wal_group_header *g, uint64_t position)
{
    uint8_t *data = mem_alloc(&w->c->mem, g->length);
    if (data == NULL) {
        w->end = "the next group is larger than the memory of this command";
        return false;
    }
    bool read = io_pread(cli_io(w->c), w->fd, data, g->length, position) == (int64_t)g->length;
    if (read) {
        show_group(w, g, position);
        uint32_t whole = walk_entries(w, data, g);
        if (w->json) {
            cli_json_close(w->c, ']');
            cli_json_integer(w->c, "valid_entries", whole);
            cli_json_close(w->c, '}');
        }
        if (whole < g->entries)
            w->end = "the last group shown is torn";
    } else {
        w->end = "the next group cannot be read";
    }
    mem_free(&w->c->mem, data, g->length);
    return read && w->end == NULL;
}

static uint64_t walk_groups(struct wal_walk *w, const struct wal_file_header *file)
{
    uint64_t position = WAL_BLOCK, sequence = file->start_sequence, groups = 0;
    uint32_t crc = file->start_crc;
    w->end = NULL;
    while (w->end == NULL) {
        struct wal_group_header g;
        if (position + sizeof(g) > w->size ||
            io_pread(cli_io(w->c), w->fd, &g, sizeof(g), position) != (int64_t)sizeof(g)) {
            w->end = "the file is full";
            break;
        }
        w->end = check_group(w, &g, position, file, sequence, crc);
        if (w->end != NULL || !walk_group(w, &g, position))
            break;
        groups++;
        sequence++;
        crc = g.crc;
        position += g.length;
    }
    return groups;
}

static void show_file(const struct wal_walk *w, const char *path, const struct wal_file_header *h)
{
    char shown[512];
    if (!w->json) {
        cli_print(w->c, "%s: core %u of %u, file %u, generation %llu, from group %llu\n",
                  cli_shown(&shown, path), h->core, h->cores_count, h->number,
                  (unsigned long long)h->generation, (unsigned long long)h->start_sequence);
        return;
    }
    cli_json_open(w->c, NULL, '{');
    cli_json_text(w->c, "path", path);
    cli_json_integer(w->c, "core", h->core);
    cli_json_integer(w->c, "cores", h->cores_count);
    cli_json_integer(w->c, "number", h->number);
    cli_json_integer(w->c, "generation", (int64_t)h->generation);
    cli_json_integer(w->c, "start_sequence", (int64_t)h->start_sequence);
    cli_json_open(w->c, "groups", '[');
}

static int inspect_opened(struct wal_walk *w, const char *path)
{
    struct wal_file_header h;
    char shown[512];
    if (!read_header(cli_io(w->c), w, &h)) {
        cli_complain(w->c, "%s is no file of a write-ahead log, or its header is damaged",
                     cli_shown(&shown, path));
        return EXIT_FAILED;
    }
    show_file(w, path, &h);
    uint64_t groups = walk_groups(w, &h);
    if (w->json) {
        cli_json_close(w->c, ']');
        cli_json_text(w->c, "end", w->end);
        cli_json_close(w->c, '}');
    } else {
        cli_print(w->c, "%llu groups; %s\n", (unsigned long long)groups, w->end);
    }
    return EXIT_OK;
}

static int inspect_file(struct wal_walk *w, const char *path)
{
    struct io *io = cli_io(w->c);
    struct io_stat stat;
    char shown[512];
    w->fd = io_open(io, path, IO_READ);
    int error = w->fd < 0 ? w->fd : io_fstat(io, w->fd, &stat);
    int result = EXIT_FAILED;
    if (error == 0) {
        w->size = stat.size;
        result = inspect_opened(w, path);
    } else {
        cli_complain(w->c, "%s cannot be read: %s", cli_shown(&shown, path), strerror(-error));
    }
    if (w->fd >= 0)
        io_close(io, w->fd);
    return result;
}

int command_inspect_wal(struct cli *c)
{
    static const char *const suffixes[] = {".torc", NULL};
    struct wal_walk w = {
        .c = c, .json = cli_count(c, "json") > 0, .entries = cli_count(c, "entries") > 0};
    struct files *found = mem_alloc(&c->mem, sizeof(*found));
    const char *path = c->parsed.positionals[0];
    char shown[512];
    int count = found == NULL ? -ENOMEM : files_find(c, path, suffixes, found);
    if (count <= 0) {
        cli_complain(c, "%s: %s", cli_shown(&shown, path),
                     count == 0 ? "there is no write-ahead log in it" : strerror(-count));
        return EXIT_FAILED;
    }
    int result = EXIT_OK;
    if (w.json) {
        cli_json_begin(c);
        cli_json_open(c, NULL, '[');
    }
    for (uint32_t i = 0; i < found->count; i++)
        if (inspect_file(&w, found->paths[i]) != EXIT_OK)
            result = EXIT_FAILED;
    if (w.json) {
        cli_json_close(c, ']');
        cli_json_end(c, result == EXIT_OK ? NULL : "not every file can be read");
    }
    return result;
}
