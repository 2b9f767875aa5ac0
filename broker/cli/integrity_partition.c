/* One folder: a partition's, or the metadata log's, which is the same with snapshots of the state.
 *
 *   partition.metadata ─ topic id ─▶ does the metadata know it? is it compacted? what has the WAL?
 *   <base>.log ...     ─ in order: integrity_segment, each beginning where the one before ended
 *   <offset>.snapshot, checkpoints: none may speak of what is behind the end
 *
 * Where offsets may be missing: in topics that are or were compacted. Of a directory whose metadata
 * is not at hand nobody knows, and a gap is no finding.
 *
 * What a start repairs (l->repaired), when the node was not stopped: what the write-ahead log has,
 * it writes anew; without one (Apache Kafka) everything from the recovery point on is scanned, and
 * cut at the first bad batch.
 *
 * Failure modes: a folder that cannot be listed is damage. */
#include "broker/cli/integrity.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/log/clean_files.h"
#include "broker/log/load.h"
#include "broker/log/path.h"
#include "broker/log/retention.h"
#include "broker/quorum/format.h"
#include "broker/quorum/leaf.h"
#include "broker/quorum/metalog.h"
#include "core/core.h"

#define NAMES_MIN         8u
#define METADATA_BYTES    (1ull << 40)                /* the command's memory is the bound */
#define SNAPSHOT_NAME     31u                         /* <20 digits>-<10 digits> */
#define METADATA_TOPIC_ID ((struct uuid){{[15] = 1}}) /* Kafka's */

struct names { /* offsets in file names of one kind */
    int64_t *offsets;
    uint32_t count, room;
};

struct listing {
    struct integrity *g;
    struct names segments, snapshots;
    char (*checkpoints)[SNAPSHOT_NAME + 1]; /* names of the metadata's snapshots */
    uint32_t checkpoints_count, checkpoints_room;
    bool interrupted;
    int error;
};

static int names_add(struct integrity *g, struct names *n, int64_t offset)
{
    if (n->count == n->room) {
        uint32_t room = MAX(n->room * 2, NAMES_MIN);
        int64_t *grown =
            mem_realloc(&g->c->mem, n->offsets, n->room * sizeof(*grown), room * sizeof(*grown));
        if (grown == NULL)
            return -ENOMEM;
        n->offsets = grown;
        n->room = room;
    }
    n->offsets[n->count++] = offset;
    return 0;
}

static void names_free(struct integrity *g, struct names *n)
{
    mem_free(&g->c->mem, n->offsets, n->room * sizeof(*n->offsets));
}

static int offset_order(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
    return left < right ? -1 : left > right;
}

static bool ends(const char *text, const char *suffix)
{
    size_t size = strlen(text), tail = strlen(suffix);
    return size >= tail && strcmp(text + size - tail, suffix) == 0;
}

static int checkpoint_add(struct listing *k, const char *name)
{
    if (k->checkpoints_count == k->checkpoints_room) {
        uint32_t room = MAX(k->checkpoints_room * 2, NAMES_MIN);
        void *grown = mem_realloc(&k->g->c->mem, k->checkpoints,
                                  k->checkpoints_room * sizeof(*k->checkpoints),
                                  room * sizeof(*k->checkpoints));
        if (grown == NULL)
            return -ENOMEM;
        k->checkpoints = grown;
        k->checkpoints_room = room;
    }
    memcpy(k->checkpoints[k->checkpoints_count], name, SNAPSHOT_NAME);
    k->checkpoints[k->checkpoints_count++][SNAPSHOT_NAME] = '\0';
    return 0;
}

static int name_order(const void *a, const void *b)
{
    return strcmp(a, b);
}

static bool listing_visit(void *context, const char *name, bool is_directory)
{
    struct listing *k = context;
    int64_t offset;
    const char *suffix;
    if (is_directory || !path_parse_offset(name, &offset, &suffix))
        return true;
    if (strcmp(suffix, ".log") == 0)
        k->error = names_add(k->g, &k->segments, offset);
    else if (strcmp(suffix, ".snapshot") == 0)
        k->error = names_add(k->g, &k->snapshots, offset);
    else if (ends(suffix, ".swap") || ends(suffix, ".cleaned"))
        k->interrupted = true;
    else if (ends(suffix, ".checkpoint") && strlen(name) == SNAPSHOT_NAME + strlen(".checkpoint"))
        k->error = checkpoint_add(k, name);
    return k->error == 0;
}

static bool list(struct integrity *g, const char *path, struct listing *k)
{
    *k = (struct listing){.g = g};
    int error = io_list(g->io, path, listing_visit, k);
    error = error != 0 ? error : k->error;
    if (error != 0)
        integrity_damage(g, path, -1, ADVICE_RECORDS, "the folder cannot be listed: %s",
                         strerror(-error));
    if (k->segments.count > 1)
        qsort(k->segments.offsets, k->segments.count, sizeof(int64_t), offset_order);
    if (k->snapshots.count > 1)
        qsort(k->snapshots.offsets, k->snapshots.count, sizeof(int64_t), offset_order);
    if (k->checkpoints_count > 1)
        qsort(k->checkpoints, k->checkpoints_count, sizeof(*k->checkpoints), name_order);
    return error == 0;
}

static void walk_segments(struct integrity_log *l, const struct names *bases)
{
    for (uint32_t i = 0; i < bases->count; i++) {
        char path[PATH_ROOM + 64];
        int64_t base = bases->offsets[i];
        struct integrity_segment s = {.path = path, .base = base, .limit = INT64_MAX};
        if (i + 1 < bases->count)
            s.limit = bases->offsets[i + 1];
        (void)snprintf(path, sizeof(path), "%s/%020" PRId64 ".log", l->folder, base);
        if (i > 0 && l->next < base && !l->gaps && l->next < l->repaired)
            integrity_damage(l->g, path, -1,
                             l->kind == FOLDER_METADATA ? ADVICE_METADATA : ADVICE_RECORDS,
                             "offsets %" PRId64 " to %" PRId64
                             " are missing between this segment and the one before",
                             l->next, base - 1);
        l->next = MAX(l->next, base);
        integrity_segment(l, &s);
    }
}

/* ---- metadata -------------------------------------------------------------------------------- */

/* What was replayed becomes the cluster's metadata. */
static int replay_apply(struct integrity *g, struct replay *r, int64_t offset)
{
    struct image_delta *delta;
    int error = replay_finish(r, offset, 1, &delta);
    if (error != 0)
        return error;
    error = metadata_apply(g->md, delta);
    if (error == 0)
        delta_retire(&g->c->mem, delta);
    else
        delta_discard(&g->c->mem, delta);
    return error;
}

static void metadata_forget(struct integrity *g)
{
    metadata_destroy(g->md);
    mem_free(&g->c->mem, g->md, sizeof(*g->md));
    g->md = NULL;
}

static void check_voter(struct integrity_log *l)
{
    struct uuid id;
    integrity_quorum_state(l->g, l->folder, l->epoch);
    if (integrity_topic_id(l->g, l->folder, &id) && !uuid_equal(id, METADATA_TOPIC_ID))
        integrity_damage(l->g, l->folder, -1, ADVICE_IDENTITY,
                         "its topic id is not that of the metadata log");
    integrity_bootstrap(l->g);
}

static void check_metadata_log(struct integrity_log *l, struct listing *k)
{
    struct integrity *g = l->g;
    struct replay r;
    char path[PATH_ROOM + 64];
    uint64_t damaged = g->damaged;
    g->md = mem_zalloc(&g->c->mem, sizeof(*g->md));
    if (g->md == NULL)
        return;
    metadata_init(g->md, &g->c->mem, NULL);
    replay_init(&r, g->md, METADATA_BYTES);
    for (uint32_t i = 0; i < k->checkpoints_count; i++) {
        struct integrity_segment s = {.path = path, .limit = INT64_MAX, .snapshot = true};
        (void)snprintf(path, sizeof(path), "%s/%s.checkpoint", l->folder, k->checkpoints[i]);
        l->replay = i + 1 == k->checkpoints_count ? &r : NULL;
        l->next = 0;
        integrity_segment(l, &s);
    }
    if (k->checkpoints_count > 0)
        l->snapshot_from = strtoll(k->checkpoints[k->checkpoints_count - 1], NULL, 10);
    l->replay = &r;
    l->epoch = -1;
    l->next = k->segments.count > 0 ? k->segments.offsets[0] : 0;
    if (l->next > l->snapshot_from)
        integrity_damage(g, l->folder, -1, ADVICE_METADATA,
                         "it begins at offset %" PRId64 ", and no snapshot has what is before",
                         l->next);
    walk_segments(l, &k->segments);
    int error =
        g->damaged == damaged ? replay_apply(g, &r, MAX(l->next, (int64_t)1) - 1) : -EBADMSG;
    if (error != 0) {
        replay_drop(&r);
        metadata_forget(g);
        integrity_note(g, l->folder, -1,
                       "the metadata is not whole, so that partitions are not "
                       "held against it");
    }
    l->replay = NULL;
    if (k->segments.count > 0) /* else it was formatted, and no broker has been here */
        check_voter(l);
}

/* ---- partitions ------------------------------------------------------------------------------ */

/* Is the folder the one that the metadata means? The topic, if so. */
static const struct topic_image *topic_of(struct integrity *g, const char *path, const char *name,
                                          struct uuid id)
{
    uint32_t size = 0;
    int32_t partition = 0;
    char text[UUID_TEXT_SIZE];
    bool parsed = path_parse_folder(name, &size, &partition);
    assert(parsed);
    if (g->md == NULL)
        return NULL;
    const struct topic_image *t = image_topic_by_name(&g->md->image, name, size);
    const struct topic_image *other = image_topic_by_id(&g->md->image, id);
    if (t != NULL && uuid_equal(t->id, id) && topic_partition(t, partition) != NULL)
        return t;
    if (t == NULL && other == NULL)
        integrity_note(g, path, -1,
                       "the metadata has no such topic (any more); a start moves the folder aside");
    else if (other != NULL && other != t)
        integrity_damage(g, path, -1, ADVICE_IDENTITY, "its topic id %s is that of the topic %s",
                         uuid_text(id, text), other->name);
    else if (t != NULL && !uuid_equal(t->id, id))
        integrity_damage(g, path, -1, ADVICE_IDENTITY,
                         "its topic id is not that of the topic in the metadata, %s",
                         uuid_text(t->id, text));
    else
        integrity_damage(g, path, -1, ADVICE_IDENTITY, "its topic has no such partition");
    return NULL;
}

/* What a start would write anew, or cut. */
static int64_t repaired_from(struct integrity *g, const char *name, struct uuid id)
{
    uint32_t size = 0;
    struct log_key key = {.topic_id = id};
    bool parsed = path_parse_folder(name, &size, &key.partition);
    assert(parsed);
    if (g->clean)
        return INT64_MAX;
    const struct integrity_walled *w = map_get(&g->walled, &key, sizeof(key));
    if (w != NULL)
        return w->first;
    return g->scans ? MAX(integrity_mark(g, name, MARK_RECOVERY_POINT), (int64_t)0) : INT64_MAX;
}

static void check_marks(struct integrity_log *l, const char *name)
{
    struct integrity *g = l->g;
    for (uint32_t i = 0; i < INTEGRITY_MARKS; i++) {
        char path[PATH_ROOM];
        int64_t offset = integrity_mark(g, name, (enum integrity_mark)i);
        path_in_dir(path, g->dir, integrity_mark_name((enum integrity_mark)i));
        if (offset > l->next && l->repaired == INT64_MAX)
            integrity_damage(g, path, -1, i == MARK_CLEANED ? ADVICE_CHECKPOINT : ADVICE_RECORDS,
                             "%s is said to reach offset %" PRId64
                             ", and its records end at %" PRId64,
                             name, offset, l->next);
        else if (i == MARK_RECOVERY_POINT && g->clean && offset >= 0 && offset < l->next)
            integrity_damage(g, path, -1, ADVICE_RECORDS,
                             "%s ended at offset %" PRId64
                             " when it was closed, and its records end at %" PRId64,
                             name, offset, l->next);
    }
}

static void check_partition(struct integrity_log *l, const char *name, struct listing *k)
{
    struct integrity *g = l->g;
    struct uuid id = {{0}};
    bool known = integrity_topic_id(g, l->folder, &id);
    const struct topic_image *t = known ? topic_of(g, l->folder, name, id) : NULL;
    integrity_log_start(g, l->folder);
    bool cleaned = integrity_numbers(g, l->folder, LOG_CLEANED_NAME, 4) ||
                   integrity_mark(g, name, MARK_CLEANED) != NO_OFFSET;
    l->compacted = cleaned || t == NULL || (t->config.cleanup_policy & CLEANUP_COMPACT) != 0;
    l->gaps = integrity_numbers(g, l->folder, LOG_GAPS_NAME, 1) || l->compacted;
    l->repaired = repaired_from(g, name, id);
    l->next = k->segments.count > 0 ? k->segments.offsets[0] : 0;
    if (k->interrupted)
        integrity_note(g, l->folder, -1, "a compaction was under way; a start ends or undoes it");
    walk_segments(l, &k->segments);
    check_marks(l, name);
    for (uint32_t i = 0; i < k->snapshots.count; i++) {
        char path[PATH_ROOM + 64];
        int64_t offset = k->snapshots.offsets[i];
        (void)snprintf(path, sizeof(path), "%s/%020" PRId64 ".snapshot", l->folder, offset);
        integrity_snapshot(g, path, offset, l->repaired == INT64_MAX ? l->next : INT64_MAX);
    }
}

static enum integrity_kind kind_of(const char *name)
{
    if (strcmp(name, METALOG_FOLDER) == 0)
        return FOLDER_METADATA;
    if (strncmp(name, "__consumer_offsets-", 19) == 0)
        return FOLDER_OFFSETS;
    return strncmp(name, "__transaction_state-", 20) == 0 ? FOLDER_TRANSACTIONS : FOLDER_RECORDS;
}

void integrity_folder(struct integrity *g, const char *name)
{
    char path[PATH_ROOM];
    struct listing k;
    path_in_dir(path, g->dir, name);
    struct integrity_log l = {
        .g = g, .folder = path, .kind = kind_of(name), .epoch = -1, .repaired = INT64_MAX};
    map_init(&l.open, &g->c->mem, 0);
    g->partitions++;
    if (list(g, path, &k)) {
        integrity_epochs_read(g, path, &l.epochs);
        if (l.kind == FOLDER_METADATA)
            check_metadata_log(&l, &k);
        else
            check_partition(&l, name, &k);
        integrity_epochs_free(g, &l.epochs);
    }
    integrity_txns_free(&l);
    names_free(g, &k.segments);
    names_free(g, &k.snapshots);
    mem_free(&g->c->mem, k.checkpoints, k.checkpoints_room * sizeof(*k.checkpoints));
}
