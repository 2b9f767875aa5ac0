/* torc inspect integrity: is what is at rest what was written?
 *
 *   each directory: locked ─▶ write-ahead log ─▶ small files ─▶ metadata ─▶ partition by partition
 *                                │                                 │
 *                                └─ what a start would repair      └─ which topics there should be
 *
 * Every byte that a checksum or another file can vouch for is held against it, in one pass over
 * each file through a window: memory does not grow with the data. Nothing is written, and the lock
 * of a directory is held meanwhile, so that no broker starts on it. It knows Kafka's formats and
 * torc's own files, so a directory of either can be looked at.
 *
 * Damage is what a reader would miss or get wrong, or what a broker must make anew before it may
 * trust it. A note is what looks odd and is not: what a crash has left, and the next start repairs.
 *
 * Invariants
 *  1. A finding says where, what and what to do; after the first few of a file the rest is counted.
 *  2. Nothing of a file is believed before it is bounded by the bytes that are there.
 *
 * Failure modes: exit code 1 when there is damage or something cannot be read, 2 when it is no data
 * directory or a broker uses it. */
#include "broker/cli/integrity.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log/path.h"
#include "broker/quorum/format.h"
#include "broker/quorum/leaf.h"
#include "broker/quorum/metalog.h"
#include "core/core.h"

#define LINE_WIDTH  80u
#define TEXT_ROOM   1024
#define FOLDERS_MIN 64u
#define PROGRESS_NS (NS_PER_S / 2)
#define MEGABYTE    1e6
#define STDERR      2

static const char *const advices[ADVICES_COUNT] = {
    [ADVICE_RECORDS] = "Keep a copy of this directory, and restore the partition from a backup or "
                       "from where its records came from. A broker serves what is whole and "
                       "answers CORRUPT_MESSAGE for the rest.",
    [ADVICE_DERIVED] = "It says nothing that the records do not say: remove the file and "
                       ".kafka_cleanshutdown, and the next start makes it anew.",
    [ADVICE_METADATA] = "Restore the folder __cluster_metadata-0 from a copy. Do not remove it: "
                        "without it a broker does not know its topics.",
    [ADVICE_IDENTITY] = "Write the file as it was: `torc inspect metadata` tells topic ids, the "
                        "node's other directories tell the cluster id.",
    [ADVICE_CHECKPOINT] = "Remove the file: the next start does with less knowledge of what was "
                          "done, and writes it anew.",
    [ADVICE_WAL] = "Keep a copy of this directory. Records that were acknowledged last may be "
                   "missing: compare with where they came from.",
};

/* ---- telling --------------------------------------------------------------------------------- */

static void progress_clear(struct integrity *g)
{
    if (g->terminal && g->drawn_ns != 0)
        io_print(STDERR, "\r\033[K", 4);
}

/* Text broken into lines of the width, each begun with an indent. */
static void print_wrapped(struct cli *c, const char *indent, const char *text)
{
    size_t room = LINE_WIDTH - strlen(indent), left = strlen(text);
    while (left > 0) {
        size_t size = left;
        if (size > room) {
            size = room;
            while (size > 0 && text[size] != ' ')
                size--;
            size = size == 0 ? room : size;
        }
        cli_print(c, "%s%.*s\n", indent, (int)size, text);
        while (size < left && text[size] == ' ')
            size++;
        text += size;
        left -= size;
    }
}

static bool is_told(struct integrity *g, const char *path)
{
    if (g->file == NULL || strcmp(g->file, path) != 0) {
        size_t size = strlen(path) + 1;
        char *copy = mem_alloc(&g->c->mem, size);
        mem_free(&g->c->mem, (void *)(uintptr_t)g->file, g->file == NULL ? 0 : strlen(g->file) + 1);
        g->file = copy;
        g->file_findings = 0;
        if (copy != NULL)
            memcpy(copy, path, size);
    }
    return ++g->file_findings <= INTEGRITY_PER_FILE_MAX;
}

static void tell(struct integrity *g, const char *path, int64_t position, const char *what,
                 const char *advice)
{
    char shown[512];
    struct cli *c = g->c;
    if (!is_told(g, path))
        return;
    if (g->json) {
        cli_json_open(c, NULL, '{');
        cli_json_text(c, "severity", advice == NULL ? "note" : "damage");
        cli_json_text(c, "file", path);
        if (position >= 0)
            cli_json_integer(c, "position", position);
        cli_json_text(c, "what", what);
        cli_json_text(c, "do", advice);
        cli_json_close(c, '}');
        return;
    }
    progress_clear(g);
    cli_print(c, "%s %s", advice == NULL ? "note   " : "DAMAGED", cli_shown(&shown, path));
    if (position >= 0)
        cli_print(c, ", byte %lld", (long long)position);
    cli_print(c, "\n");
    print_wrapped(c, "        ", what);
    if (advice != NULL && g->file_findings == 1)
        print_wrapped(c, "     -> ", advice);
    if (g->file_findings == INTEGRITY_PER_FILE_MAX)
        cli_print(c, "        more of this file is only counted\n");
}

void integrity_damage(struct integrity *g, const char *path, int64_t position,
                      enum integrity_advice advice, const char *format, ...)
{
    char text[TEXT_ROOM];
    va_list arguments;
    assert(advice < ADVICES_COUNT);
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    g->damaged++;
    tell(g, path, position, text, advices[advice]);
}

void integrity_note(struct integrity *g, const char *path, int64_t position, const char *format,
                    ...)
{
    char text[TEXT_ROOM];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    g->notes++;
    tell(g, path, position, text, NULL);
}

void integrity_count(struct integrity *g, uint64_t bytes)
{
    g->bytes += bytes;
    uint64_t now = io_clock_ns(g->io);
    if (!g->terminal || now - MAX(g->drawn_ns, g->begun_ns) < PROGRESS_NS)
        return;
    char line[160];
    double seconds = (double)(now - g->begun_ns) / (double)NS_PER_S;
    int size = snprintf(line, sizeof(line),
                        "\r\033[K%.0f MB read, %.0f MB/s, %llu partitions, %llu damaged places",
                        (double)g->bytes / MEGABYTE, (double)g->bytes / MEGABYTE / seconds,
                        (unsigned long long)g->partitions, (unsigned long long)g->damaged);
    io_print(STDERR, line, (size_t)size);
    g->drawn_ns = now;
}

bool integrity_slurp(struct integrity *g, const char *path, size_t limit,
                     enum integrity_absent absent, enum integrity_advice advice, char **data,
                     size_t *size)
{
    int error = io_slurp(g->io, &g->c->mem, path, limit, data, size);
    if (error == 0) {
        g->files++;
        integrity_count(g, *size);
        return true;
    }
    if (error == -ENOENT && absent == ABSENT_IS_FINE)
        return false;
    if (error == -ENOENT)
        integrity_damage(g, path, -1, advice, "the file is not there");
    else if (error == -EFBIG)
        integrity_damage(g, path, -1, advice, "it is larger than such a file can be");
    else
        integrity_damage(g, path, -1, advice, "it cannot be read: %s", strerror(-error));
    return false;
}

/* ---- directories ----------------------------------------------------------------------------- */

struct folders { /* names of partition folders, sorted */
    struct integrity *g;
    char **names;
    uint32_t count, room;
    int error;
};

static bool folder_visit(void *context, const char *name, bool is_directory)
{
    struct folders *f = context;
    struct mem *mem = &f->g->c->mem;
    uint32_t topic_size;
    int32_t partition;
    if (!is_directory || !path_parse_folder(name, &topic_size, &partition))
        return true;
    if (f->count == f->room) {
        uint32_t room = MAX(f->room * 2, FOLDERS_MIN);
        char **grown = mem_realloc(mem, f->names, f->room * sizeof(*grown), room * sizeof(*grown));
        f->error = grown == NULL ? -ENOMEM : 0;
        if (grown == NULL)
            return false;
        f->names = grown;
        f->room = room;
    }
    size_t size = strlen(name) + 1;
    char *copy = mem_alloc(mem, size);
    f->error = copy == NULL ? -ENOMEM : 0;
    if (copy == NULL)
        return false;
    memcpy(copy, name, size);
    f->names[f->count++] = copy;
    return true;
}

static int name_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void check_partitions(struct integrity *g)
{
    struct folders f = {.g = g};
    struct mem *mem = &g->c->mem;
    int error = io_list(g->io, g->dir, folder_visit, &f);
    error = error != 0 ? error : f.error;
    if (error != 0)
        integrity_damage(g, g->dir, -1, ADVICE_RECORDS, "the directory cannot be listed: %s",
                         strerror(-error));
    if (f.count > 1)
        qsort(f.names, f.count, sizeof(*f.names), name_order);
    for (uint32_t i = 0; i < f.count; i++) {
        if (strcmp(f.names[i], METALOG_FOLDER) != 0)
            integrity_folder(g, f.names[i]);
        mem_free(mem, f.names[i], strlen(f.names[i]) + 1);
    }
    mem_free(mem, f.names, f.room * sizeof(*f.names));
}

static bool has(struct io *io, const char *dir, const char *name)
{
    char path[PATH_ROOM];
    struct io_stat stat;
    path_in_dir(path, dir, name);
    return io_stat(io, path, &stat) == 0;
}

/* Only where there is a file to lock: a directory that no broker has opened has none. */
static int take_lock(struct cli *c, struct io *io, const char *dir, int *lock)
{
    char path[PATH_ROOM], shown[512];
    *lock = -1;
    if (!has(io, dir, ".lock"))
        return EXIT_OK;
    path_in_dir(path, dir, ".lock");
    *lock = io_lock(io, path);
    if (*lock != -EAGAIN)
        return EXIT_OK; /* held, or a file system that nobody can write to */
    cli_complain(c, "%s is used by a running broker: stop it first", cli_shown(&shown, dir));
    return EXIT_USAGE;
}

static int check_use(struct cli *c, struct io *io, const char *dir)
{
    struct io_stat stat;
    char shown[512];
    if (strlen(dir) > DIR_PATH_MAX) {
        cli_complain(c, "%s: the path is too long", cli_shown(&shown, dir));
        return EXIT_USAGE;
    }
    int error = io_stat(io, dir, &stat);
    if (error != 0 || !stat.is_directory) {
        cli_complain(c, "%s: %s", cli_shown(&shown, dir),
                     error != 0 ? strerror(-error) : "not a directory");
        return EXIT_USAGE;
    }
    if (has(io, dir, "meta.properties") || has(io, dir, METALOG_FOLDER) || has(io, dir, ".lock"))
        return EXIT_OK;
    cli_complain(c, "%s is no data directory: name one of the broker's log.dirs",
                 cli_shown(&shown, dir));
    return EXIT_USAGE;
}

static void begin_dir(struct integrity *g, const char *dir)
{
    g->dir = dir;
    g->clean = has(g->io, dir, ".kafka_cleanshutdown");
}

/* The metadata comes first, whichever directory it is in: it says what the others should hold. */
static void check_all(struct integrity *g, const char *const *dirs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!has(g->io, dirs[i], METALOG_FOLDER))
            continue;
        begin_dir(g, dirs[i]);
        integrity_folder(g, METALOG_FOLDER);
    }
    for (uint32_t i = 0; i < count; i++) {
        begin_dir(g, dirs[i]);
        integrity_wal(g);
        integrity_root(g);
        check_partitions(g);
        integrity_wal_free(g);
        integrity_marks_free(g);
    }
}

/* ---- the command ----------------------------------------------------------------------------- */

static void sum_up(struct integrity *g)
{
    struct cli *c = g->c;
    uint64_t took = MAX(io_clock_ns(g->io) - g->begun_ns, 1u);
    double megabytes = (double)g->bytes / MEGABYTE, seconds = (double)took / (double)NS_PER_S;
    if (g->json) {
        cli_json_close(c, ']');
        cli_json_integer(c, "damaged", (int64_t)g->damaged);
        cli_json_integer(c, "notes", (int64_t)g->notes);
        cli_json_integer(c, "partitions", (int64_t)g->partitions);
        cli_json_integer(c, "files", (int64_t)g->files);
        cli_json_integer(c, "batches", (int64_t)g->batches);
        cli_json_integer(c, "bytes", (int64_t)g->bytes);
        cli_json_integer(c, "milliseconds", (int64_t)(took / NS_PER_MS));
        cli_json_close(c, '}');
        cli_json_end(c, g->damaged == 0 ? NULL : "there is damage");
        return;
    }
    progress_clear(g);
    cli_print(c, "%llu partitions, %llu files, %llu batches, %.1f MB in %.1f s (%.0f MB/s)\n",
              (unsigned long long)g->partitions, (unsigned long long)g->files,
              (unsigned long long)g->batches, megabytes, seconds, megabytes / seconds);
    if (g->damaged == 0)
        cli_print(c, "no damage\n");
    else
        cli_print(c, "damaged places: %llu\n", (unsigned long long)g->damaged);
}

static void release(struct integrity *g)
{
    struct mem *mem = &g->c->mem;
    if (g->md != NULL) {
        metadata_destroy(g->md);
        mem_free(mem, g->md, sizeof(*g->md));
    }
    mem_free(mem, g->meta, sizeof(*g->meta));
    if (g->file != NULL)
        mem_free(mem, (void *)(uintptr_t)g->file, strlen(g->file) + 1);
    compress_free(&g->compress);
}

static void inspect(struct integrity *g, const char *const *dirs, uint32_t count)
{
    struct cli *c = g->c;
    g->terminal = !g->json && io_is_terminal(g->io, STDERR);
    g->begun_ns = io_clock_ns(g->io);
    compress_init(&g->compress, &c->mem);
    map_init(&g->walled, &c->mem, 0);
    map_init(&g->marks, &c->mem, 0);
    if (g->json) {
        cli_json_begin(c);
        cli_json_open(c, NULL, '{');
        cli_json_open(c, "findings", '[');
    }
    check_all(g, dirs, count);
    sum_up(g);
    release(g);
}

int command_inspect_integrity(struct cli *c)
{
    struct io *io = cli_io(c);
    const char *const *dirs = c->parsed.positionals;
    uint32_t count = c->parsed.positionals_count, locked = 0;
    int result = EXIT_OK, locks[POSITIONALS_MAX];
    if (io == NULL)
        return EXIT_FAILED;
    for (uint32_t i = 0; i < count && result == EXIT_OK; i++)
        result = check_use(c, io, dirs[i]);
    for (; locked < count && result == EXIT_OK; locked++)
        result = take_lock(c, io, dirs[locked], &locks[locked]);
    struct integrity g = {
        .c = c, .io = io, .json = cli_count(c, "json") > 0, .unpack = cli_count(c, "records") > 0};
    g.meta = mem_zalloc(&c->mem, sizeof(*g.meta));
    if (g.meta == NULL)
        result = EXIT_FAILED;
    if (result == EXIT_OK) {
        inspect(&g, dirs, count);
        result = g.damaged > 0 ? EXIT_FAILED : EXIT_OK;
    }
    while (locked-- > 0)
        if (locks[locked] >= 0)
            io_close(io, locks[locked]);
    return result;
}
