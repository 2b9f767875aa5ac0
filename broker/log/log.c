/* One partition: opened, asked, watched, reconfigured, deleted.
 *
 *   UNLOADED ─▶ OPEN ─▶ DELETED
 *       └────────┴─▶ FAILED ─▶ DELETED
 *
 *   start_offset <= synced_end <= written_end <= end_offset
 *                    (device)      (segments)     (memory)
 *   high_watermark = durable_end <= end_offset: with a single replica, what is durable is committed
 *
 * Invariants
 *  1. Nothing above durable_end was acknowledged; nothing below it is lost by a crash, as far as
 * the topic's mode promises.
 *  2. A watch fires once, never inside log_watch: in a later turn.
 *  3. A deleted log is in no table and on no list; its memory goes when its last flush or read
 * ends.
 *
 * Failure: what cannot be read or is damaged below the durable end makes the log FAILED: it answers
 * KAFKA_STORAGE_ERROR and nothing of it is touched. */
#include "broker/log/log_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "broker/log/dir.h"
#include "broker/log/epoch.h"
#include "broker/log/load.h"
#include "broker/log/log_core.h"
#include "broker/log/path.h"
#include "broker/log/producer.h"
#include "broker/log/read.h"
#include "broker/log/recovery.h"
#include "broker/log/retention.h"
#include "broker/log/segment.h"
#include "broker/log/txn_index.h"
#include "core/lab.h"

static const struct state_table log_states = {
    .name = "log",
    .names = (const char *const[]){"unloaded", "open", "failed", "deleted"},
    .states_count = 4,
    .allowed = {[LOG_UNLOADED] = 1u << LOG_OPEN | 1u << LOG_FAILED | 1u << LOG_DELETED,
                [LOG_OPEN] = 1u << LOG_FAILED | 1u << LOG_DELETED,
                [LOG_FAILED] = 1u << LOG_DELETED,
                [LOG_DELETED] = 0},
};

static const char *const internal_topics[] = {"__consumer_offsets", "__transaction_state",
                                              "__share_group_state"};

/* ---- shared configuration -------------------------------------------------------------------- */

static struct shared_config *config_take(struct log_core *c, const struct topic_config *t)
{
    LIST_EACH(at, &c->configs)
    {
        struct shared_config *s = container_of(at, struct shared_config, link);
        /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): padding costs memory at most */
        if (memcmp(&s->topic, t, sizeof(*t)) == 0) {
            s->references++;
            return s;
        }
    }
    struct shared_config *s = mem_zalloc(c->mem, sizeof(*s));
    if (s == NULL)
        return NULL;
    memcpy(&s->topic, t, sizeof(*t));
    s->references = 1;
    list_push_front(&c->configs, &s->link);
    return s;
}

static void config_release(struct log_core *c, struct shared_config *s)
{
    if (s == NULL)
        return;
    assert(s->references > 0);
    if (--s->references > 0)
        return;
    list_remove(&s->link);
    mem_free(c->mem, s, sizeof(*s));
}

/* ---- life ------------------------------------------------------------------------------------ */

static struct log *log_make(struct log_core *c, const struct log_identity *id,
                            const struct topic_config *config)
{
    char folder[PATH_ROOM];
    int length = snprintf(folder, sizeof(folder), "%s-%d", id->topic, id->partition);
    assert(length > 0 && (uint32_t)length <= FOLDER_NAME_MAX);
    struct log *l = mem_zalloc(c->mem, sizeof(*l));
    if (l == NULL)
        return NULL;
    l->core = c;
    l->key = (struct log_key){id->topic_id, id->partition};
    l->folder = mem_alloc(c->mem, (size_t)length + 1);
    l->config = config_take(c, config);
    l->leader_epoch = id->leader_epoch;
    l->cached = config->write_caching;
    l->cleaned_end = l->settled_end = NO_OFFSET;
    for (size_t i = 0; i < sizeof(internal_topics) / sizeof(internal_topics[0]); i++)
        l->internal |= strcmp(id->topic, internal_topics[i]) == 0;
    list_init(&l->appends);
    list_init(&l->watches);
    list_init(&l->reads);
    list_init(&l->dirty_link);
    list_init(&l->urgent_link);
    list_init(&l->retire_link);
    list_init(&l->settle_link);
    list_init(&l->moved_link);
    if (l->folder != NULL)
        memcpy(l->folder, folder, (size_t)length + 1);
    return l;
}

/* The memory only. */
void log_destroy(struct log *l)
{
    struct log_core *c = l->core;
    assert(l->users == 0 && l->flush == NULL);
    reads_forget(l); /* its memory may be the next log */
    tail_clear(c, &l->tail);
    segments_free(l);
    producers_free(l);
    txn_index_free(l);
    epochs_free(l);
    config_release(c, l->config);
    if (l->folder != NULL)
        mem_free(c->mem, l->folder, strlen(l->folder) + 1);
    mem_free(c->mem, l, sizeof(*l));
}

void log_ref(struct log *l)
{
    l->users++;
}

void log_unref(struct log *l)
{
    assert(l->users > 0);
    l->users--;
    if (l->users == 0 && l->state.now == LOG_DELETED)
        log_destroy(l);
}

/* Where it is, else where it is assigned to. A folder of an earlier topic of that name does not
 * count: what is appended goes to the WAL of this directory, and is looked for there, even if the
 * power takes the folder's name. */
static struct log_dir *log_choose_dir(struct log_core *c, const struct log_identity *id,
                                      const char *folder)
{
    uint32_t assigned = id->dir < c->dirs_count ? id->dir : 0;
    for (uint32_t i = 0; c->dirs_count > 1 && i < c->dirs_count; i++) {
        struct log_dir *d = &c->dirs[(assigned + i) % c->dirs_count];
        if (dir_holds(d, folder, id->topic_id))
            return d;
    }
    return &c->dirs[assigned];
}

/* An error that says nothing about the directory. */
static bool open_error_of_log(int error)
{
    return error == -EILSEQ || error == -EFBIG || error == -EUCLEAN;
}

static bool open_error_passes(int error)
{
    return error == -ENOSPC || error == -EDQUOT || log_error_passes(error);
}

/* Its files: found or made. A log whose disk refuses is FAILED, not an error of the caller. At
 * start the WAL may hold what this log lacks, and would be written over if the others went on. */
static void log_open_files(struct log *l)
{
    struct log_dir *d = l->dir;
    bool made = false;
    int error = d->state.now == DIR_FAILED ? -EIO : 0;
    if (error == 0)
        error = dir_claim_folder(d, l->folder, l->key.topic_id, &made);
    if (error == -ENOSPC || error == -EDQUOT)
        dir_full(d);
    if (open_error_passes(error) && l->core->phase.now == PHASE_SERVING) {
        if (!l->waits)
            trace_line(l->core->trace, TRACE_LOG, TRACE_ERROR,
                       "%s/%s cannot be opened yet, it is tried again: %s", d->path, l->folder,
                       strerror(-error));
        l->waits = true;
        return;
    }
    l->folder_new = made;
    if (error == 0)
        error = log_load(l, made);
    if (made)
        l->aborted_from = 0;
    if (error == 0)
        state_move(&l->state, &log_states, LOG_OPEN);
    if (error == 0 && l->quarantined) {
        log_fail(l, "an earlier start found it damaged; restore it, and remove " LOG_DAMAGED_NAME);
        return;
    }
    if (error == 0 && !made && l->core->phase.now != PHASE_STARTING)
        error = recovery_open_late(l);
    if (error == 0)
        return;
    SOMETIMES("a log cannot be opened");
    trace_line(l->core->trace, TRACE_LOG, TRACE_ERROR, "%s/%s cannot be opened: %s", d->path,
               l->folder, strerror(-error));
    state_move(&l->state, &log_states, LOG_FAILED);
    bool starting = l->core->phase.now == PHASE_STARTING;
    bool needs_wal = starting && d->had_wal;
    if (open_error_of_log(error) ? needs_wal : starting || !open_error_passes(error))
        dir_fail(d, error, "opening a log");
}

void log_open_again(struct log *l)
{
    if (l->state.now != LOG_UNLOADED || !l->waits || l->dir->state.now == DIR_FULL)
        return;
    log_open_files(l);
    SOMETIMES_IF(l->state.now == LOG_OPEN, "a log that could not be opened is opened later");
    if (l->state.now == LOG_OPEN)
        log_begin_epoch(l);
}

struct log *log_open(struct log_core *c, const struct log_identity *id,
                     const struct topic_config *config, int *error)
{
    assert(c->phase.now != PHASE_STOPPED);
    assert(id->partition >= 0 && !uuid_is_zero(id->topic_id));
    *error = -EEXIST;
    if (log_find(c, id->topic_id, id->partition) != NULL)
        return NULL;
    *error = -EINVAL;
    if (strlen(id->topic) == 0 || strlen(id->topic) > 249)
        return NULL;
    *error = -ENOMEM;
    struct log *l = log_make(c, id, config);
    if (l == NULL)
        return NULL;
    if (l->folder == NULL || l->config == NULL || !core_add_log(c, l)) {
        log_destroy(l);
        return NULL;
    }
    l->dir = log_choose_dir(c, id, l->folder);
    log_open_files(l);
    log_set_leader_epoch(l, id->leader_epoch);
    *error = 0;
    return l;
}

struct log *log_find(struct log_core *c, struct uuid topic_id, int32_t partition)
{
    struct log_key key = {topic_id, partition};
    return map_get(&c->by_key, &key, sizeof(key));
}

void log_reconfigure(struct log *l, const struct topic_config *config)
{
    struct shared_config *s = config_take(l->core, config);
    if (s == NULL)
        return; /* over budget: the old one stays till it is told again */
    config_release(l->core, l->config);
    l->config = s;
    SOMETIMES("the configuration of a log changes");
    l->cached = config->write_caching;
    if (!l->cached && l->cached_end > l->synced_end)
        l->want_sync = true; /* what was acknowledged cached shall not stay so */
}

void log_begin_epoch(struct log *l)
{
    if (epochs_reserve(l)) /* else the first batch of it tells */
        epochs_assign(l, l->leader_epoch, l->end_offset);
}

void log_set_leader_epoch(struct log *l, int32_t epoch)
{
    l->leader_epoch = epoch;
    /* Before the replay the end is not known; recovery does it then. */
    if (l->state.now == LOG_OPEN && l->core->phase.now != PHASE_STARTING)
        log_begin_epoch(l);
}

/* It leaves all lists that lead to work. */
static void log_unlist(struct log *l)
{
    list_remove(&l->dirty_link);
    list_remove(&l->urgent_link);
    list_remove(&l->retire_link);
    list_remove(&l->moved_link);
    list_remove(&l->settle_link);
    if (l->settle_serial != 0)
        wal_unhold(&l->dir->wal, l->settle_serial);
    l->settle_serial = 0;
}

void log_wake_all(struct log *l)
{
    list_splice_back(&l->core->ready_watches, &l->watches);
}

static void log_refuse_appends(struct log *l, enum kafka_error error)
{
    SOMETIMES("appends of a log that fails are refused");
    struct list *at;
    while ((at = list_pop_front(&l->appends)) != NULL)
        append_refuse(container_of(at, struct log_append, link), error);
}

bool log_is_gapless(const struct log *l)
{
    return !l->gaps && !l->cached && (log_config(l)->cleanup_policy & CLEANUP_COMPACT) == 0;
}

void log_fail(struct log *l, const char *why)
{
    if (l->state.now != LOG_OPEN)
        return;
    trace_line(l->core->trace, TRACE_LOG, TRACE_ERROR, "%s/%s is offline: %s", l->dir->path,
               l->folder, why);
    state_move(&l->state, &log_states, LOG_FAILED);
    log_unlist(l);
    log_refuse_appends(l, KE_KAFKA_STORAGE_ERROR);
    reads_refuse(l, KE_KAFKA_STORAGE_ERROR);
    log_wake_all(l);
    SOMETIMES_IF(l->flush != NULL, "a log that is being flushed fails");
    if (l->flush == NULL) /* else its memory is being read: when that ends */
        tail_clear(l->core, &l->tail);
}

void log_delete(struct log *l)
{
    struct log_core *c = l->core;
    assert(l->state.now != LOG_DELETED);
    state_move(&l->state, &log_states, LOG_DELETED);
    log_unlist(l);
    SOMETIMES_IF(l->flush != NULL, "a log that is being flushed is deleted");
    log_refuse_appends(l, KE_UNKNOWN_TOPIC_OR_PARTITION);
    wal_refuse_log(&l->dir->wal, l, KE_UNKNOWN_TOPIC_OR_PARTITION);
    reads_refuse(l, KE_UNKNOWN_TOPIC_OR_PARTITION);
    log_wake_all(l);
    core_remove_log(c, l);
    retention_remove_folder(l);
    if (l->flush == NULL)
        tail_clear(c, &l->tail);
    SOMETIMES_IF(l->users > 0, "a deleted log stays until it is let go");
    if (l->users == 0)
        log_destroy(l);
}

/* ---- asking ---------------------------------------------------------------------------------- */

enum kafka_error log_status(const struct log *l)
{
    return l->state.now == LOG_OPEN ? KE_NONE : KE_KAFKA_STORAGE_ERROR;
}

bool log_waits(const struct log *l)
{
    return l->state.now == LOG_UNLOADED && l->waits;
}

int64_t log_start_offset(const struct log *l)
{
    return l->start_offset;
}

int64_t log_end_offset(const struct log *l)
{
    return l->end_offset;
}

int64_t log_high_watermark(const struct log *l)
{
    return l->high_watermark;
}

int64_t log_last_stable_offset(const struct log *l)
{
    if (DEFECT(23) && producers_first_unstable(l) < l->high_watermark)
        return MIN(producers_first_unstable(l) + 1, l->high_watermark);
    return MIN(MAX(producers_first_unstable(l), l->start_offset), l->high_watermark);
}

int32_t log_leader_epoch(const struct log *l)
{
    return l->leader_epoch;
}

uint64_t log_size_bytes(const struct log *l)
{
    return l->size_bytes;
}

uint32_t log_dir(const struct log *l)
{
    return l->dir->index;
}

int64_t log_readable_end(const struct log *l, enum log_isolation isolation)
{
    if (isolation == LOG_READ_END || DEFECT(9))
        return l->end_offset;
    return isolation == LOG_READ_STABLE ? log_last_stable_offset(l) : l->high_watermark;
}

/* ---- watching -------------------------------------------------------------------------------- */

void log_moved(struct log *l)
{
    assert(l->durable_end <= l->end_offset);
    if (l->high_watermark < l->durable_end) {
        l->high_watermark = l->durable_end;
        producers_high_watermark(l);
    }
    if (list_empty(&l->moved_link))
        list_push_back(&l->core->moved, &l->moved_link);
}

/* Moves watches that are due to `due`. */
void log_take_due_watches(struct log *l, struct list *due)
{
    LIST_EACH(at, &l->watches)
    {
        struct log_watch *w = container_of(at, struct log_watch, link);
        if (log_readable_end(l, w->isolation) <= w->offset)
            continue;
        list_remove(&w->link);
        list_push_back(due, &w->link);
    }
}

void log_watch(struct log *l, struct log_watch *w)
{
    assert(w->fire != NULL);
    assert(l->state.now != LOG_DELETED);
    list_init(&w->link);
    bool due = l->state.now != LOG_OPEN || log_readable_end(l, w->isolation) > w->offset;
    list_push_back(due ? &l->core->ready_watches : &l->watches, &w->link);
}

void log_unwatch(struct log_watch *w)
{
    list_remove(&w->link);
}
