/* The write-ahead log of one directory, read as a start reads it (broker/log/wal_scan.c), but for
 * all cores and without writing.
 *
 *   headers ─▶ closed: nothing in it is needed, and nothing of it is looked at
 *           └▶ not closed: group by group; what each partition has in it, its segments may lack
 *
 * Invariant: walled holds, per partition, the first offset that the WAL has: a start writes the
 * segment anew from there, so what is wrong with the segment behind that is no damage.
 *
 * Failure modes: a header that is none, and durable groups that cannot be read, are damage. A torn
 * last write is a note: it was never acknowledged. */
#include "broker/cli/integrity.h"

#include <errno.h>
#include <string.h>

#include "broker/log/path.h"
#include "broker/log/wal_scan.h"

#define FOUND_MIN 8u

struct looking {
    struct integrity *g;
    struct log_dir *dir;
    int error;
};

static bool wal_visit(void *context, const char *name, bool is_directory)
{
    struct looking *k = context;
    struct log_dir *d = k->dir;
    struct wal_found found = {0};
    if (is_directory || !path_parse_wal(name, &found.core, &found.number))
        return true;
    if (d->wal_found_count == d->wal_found_room) {
        uint32_t room = MAX(d->wal_found_room * 2, FOUND_MIN);
        struct wal_found *grown = mem_realloc(
            &k->g->c->mem, d->wal_found, d->wal_found_room * sizeof(*grown), room * sizeof(*grown));
        k->error = grown == NULL ? -ENOMEM : 0;
        if (grown == NULL)
            return false;
        d->wal_found = grown;
        d->wal_found_room = room;
    }
    d->wal_found[d->wal_found_count++] = found;
    return true;
}

static int entry_visit(void *context, const struct wal_entry *e, const uint8_t *batch)
{
    struct integrity *g = context;
    struct log_key key = {e->topic_id, e->partition};
    (void)batch;
    if (e->type != WAL_BATCH)
        return 0;
    g->batches++;
    struct integrity_walled *w = map_get(&g->walled, &key, sizeof(key));
    if (w == NULL) {
        w = mem_alloc(&g->c->mem, sizeof(*w));
        if (w == NULL)
            return -ENOMEM;
        *w = (struct integrity_walled){key, e->base_offset, e->last_offset + 1};
        return map_put(&g->walled, &w->key, sizeof(w->key), w);
    }
    w->first = MIN(w->first, e->base_offset);
    w->end = MAX(w->end, e->last_offset + 1);
    return 0;
}

static void check_headers(struct integrity *g, struct log_dir *d)
{
    for (uint32_t i = 0; i < d->wal_found_count; i++) {
        char path[PATH_ROOM];
        path_wal(path, d->path, d->wal_found[i].core, d->wal_found[i].number);
        g->files++;
        if (d->wal_found[i].damaged)
            integrity_damage(g, path, 0, ADVICE_WAL,
                             "the header of the file is damaged, or the file is shorter than it "
                             "was");
    }
}

static void check_groups(struct integrity *g, struct log_dir *d)
{
    struct wal_scan_result result;
    struct wal_reader reader = {.context = g, .entry = entry_visit};
    int error = wal_scan(d, &reader, &result);
    integrity_count(g, result.bytes);
    if (error != 0)
        integrity_damage(g, d->path, -1, ADVICE_WAL, "the write-ahead log cannot be read: %s",
                         strerror(-error));
    if (result.rot > 0)
        integrity_damage(g, d->path, -1, ADVICE_WAL,
                         "the write-ahead log was not closed, and parts of it that were durable "
                         "are damaged (in %u places)",
                         result.rot);
    if (result.torn_tails > 0)
        integrity_note(g, d->path, -1,
                       "the last write to the write-ahead log is not whole; it was not "
                       "acknowledged, and the next start passes over it");
}

void integrity_wal(struct integrity *g)
{
    struct mem *mem = &g->c->mem;
    struct log_core *core = mem_zalloc(mem, sizeof(*core));
    if (core == NULL) {
        integrity_damage(g, g->dir, -1, ADVICE_WAL, "no memory to look at the write-ahead log");
        return;
    }
    core->io = g->io;
    core->mem = mem;
    core->config.clean_start = g->clean;
    core->config.cores_count = 0; /* no number of cores is ours: so all is looked at */
    struct log_dir d = {.core = core, .path = g->dir, .read_only = true};
    struct looking k = {.g = g, .dir = &d};
    int error = io_list(g->io, g->dir, wal_visit, &k);
    error = error != 0 ? error : k.error;
    if (error == 0)
        error = wal_scan_headers(&d);
    if (error != 0)
        integrity_damage(g, g->dir, -1, ADVICE_WAL, "the write-ahead log cannot be read: %s",
                         strerror(-error));
    else
        check_headers(g, &d);
    g->scans = !g->clean && !d.had_wal;
    if (error == 0 && d.had_wal)
        check_groups(g, &d);
    mem_free(mem, d.wal_found, d.wal_found_room * sizeof(*d.wal_found));
    mem_free(mem, core, sizeof(*core));
}

void integrity_wal_free(struct integrity *g)
{
    uint32_t at = 0;
    struct integrity_walled *w;
    while ((w = map_next(&g->walled, &at)) != NULL)
        mem_free(&g->c->mem, w, sizeof(*w));
    map_destroy(&g->walled);
    map_init(&g->walled, &g->c->mem, 0);
}
