/* All logs of one core: their start, their turns, their end.
 *
 *   STARTING ─ log_open ... ─▶ log_core_replay ─▶ REPLAYED ─▶ log_core_serve ─▶ SERVING
 *                                                              log_core_stop ─▶ STOPPING ─▶ STOPPED
 *
 *   a turn      callbacks that are due ─▶ WAL writes for what was appended ─▶ flushes that are due
 *   a tick      space, idle memory, expiry, retention: a bounded piece each time
 *
 * Invariants
 *  1. Callbacks to the caller (done, fire, dir_failed) run from log_core_turn alone, never inside
 *     another call; a callback may call anything but log_core_turn and log_core_free.
 *  2. The table's slot of a log is what chunks name it by; it is taken from log_open to log_delete.
 *
 * Failure: a directory that cannot be used at start is failed like one that dies later; the others
 * go on. What one core cannot read at start no core uses (log_core_lose_dir). */
#include "broker/log/log_core.h"

#include <errno.h>
#include <string.h>

#include "broker/log/checkpoint.h"
#include "broker/log/cleaner.h"
#include "broker/log/dir.h"
#include "broker/log/producer.h"
#include "broker/log/recovery.h"
#include "broker/log/removal.h"
#include "broker/log/retention.h"
#include "broker/log/segment.h"
#include "core/lab.h"

#define TICK_NS          (1 * NS_PER_S)
#define ROOM_CHUNKS      4u /* appends are admitted while so many chunks can be had */
#define NEAR_WAITERS_MAX 2u
#define TABLE_ROOM_MIN   64u

static const struct state_table core_phases = {
    .name = "log_core",
    .names = (const char *const[]){"starting", "replayed", "serving", "stopping", "stopped"},
    .states_count = 5,
    .allowed = {[PHASE_STARTING] = 1u << PHASE_REPLAYED | 1u << PHASE_STOPPED,
                [PHASE_REPLAYED] = 1u << PHASE_SERVING | 1u << PHASE_STOPPED,
                [PHASE_SERVING] = 1u << PHASE_STOPPING | 1u << PHASE_STOPPED,
                [PHASE_STOPPING] = 1u << PHASE_STOPPED,
                [PHASE_STOPPED] = 0},
};

static void core_tick(struct timer *t);

/* ---- start ----------------------------------------------------------------------------------- */

static void core_init_lists(struct log_core *c)
{
    struct list *lists[] = {&c->configs,   &c->completed,       &c->deletes_completed,
                            &c->moved,     &c->ready_watches,   &c->room_waiters,
                            &c->dirty,     &c->urgent,          &c->retiring,
                            &c->files_lru, &c->reads_completed, &c->cold_waiting};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        list_init(lists[i]);
}

static int core_start_dirs(struct log_core *c)
{
    c->dirs = mem_zalloc(c->mem, c->config.dirs_count * sizeof(*c->dirs));
    if (c->dirs == NULL)
        return -ENOMEM;
    c->dirs_count = c->config.dirs_count;
    for (uint32_t i = 0; i < c->dirs_count; i++) {
        struct log_dir *d = &c->dirs[i];
        int error = dir_init(d, c, i);
        if (error == -ENOMEM)
            return error;
        if (error == 0)
            error = checkpoints_read(d);
        if (error == -ENOMEM)
            return error;
        if (error != 0)
            dir_fail(d, error, "reading it at start");
    }
    return 0;
}

int log_core_start(struct log_core **core, const struct log_core_config *config)
{
    assert(config->dirs_count > 0 && config->wal_files_count >= 2);
    assert(config->wal_files_count <= WAL_FILES_MAX);
    assert(config->wal_file_bytes % WAL_BLOCK == 0 && config->wal_file_bytes >= 16 * WAL_BLOCK);
    assert(config->compress != NULL);
    struct log_core *c = mem_zalloc(config->mem, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    c->config = *config;
    c->files_open_max =
        config->files_open_max > 0 ? MIN(config->files_open_max, FILES_OPEN_MAX) : FILES_OPEN_MAX;
    /* One chunk per WAL and one for cached logs are being filled: as many again must be to be had,
     * or log_core_has_room never says yes. */
    c->config.cache_bytes =
        MAX(config->cache_bytes, 2 * (config->dirs_count + 1) * (uint64_t)CHUNK_BYTES);
    c->io = config->io;
    c->mem = config->mem;
    c->trace = config->trace;
    core_init_lists(c);
    chunks_init(c);
    map_init(&c->by_key, c->mem, 0);
    /* A chunk holds at most 256 groups, but only the last of a WAL is made of small ones: groups
     * leave one write at a time. One per chunk, and open, closed and flying ones per WAL. */
    uint32_t groups = (uint32_t)MIN(config->cache_bytes / CHUNK_BYTES, 1u << 20) +
                      config->dirs_count * (2 * WAL_WRITE_GROUPS + 256);
    pool_init(&c->groups, c->mem, sizeof(struct wal_group), groups);
    flushes_init(c);
    timer_init(&c->tick, core_tick);
    c->removal = removal_make(c);
    int error = c->removal == NULL ? -ENOMEM : core_start_dirs(c);
    if (error == 0 && config->cleaner.enable) {
        c->cleaner = cleaner_make(c);
        error = c->cleaner == NULL ? -ENOMEM : 0;
    }
    if (error != 0) {
        log_core_free(c);
        return error;
    }
    *core = c;
    return 0;
}

int log_core_replay(struct log_core *c)
{
    assert(c->phase.now == PHASE_STARTING);
    int error = recovery_run(c);
    if (error == 0)
        state_move(&c->phase, &core_phases, PHASE_REPLAYED);
    return error;
}

void log_core_lose_dir(struct log_core *c, uint32_t dir)
{
    SOMETIMES("a directory is lost because another core could not read it");
    assert(c->phase.now == PHASE_REPLAYED);
    assert(dir < c->dirs_count);
    dir_fail(&c->dirs[dir], -EIO, "another core could not read it at start");
}

int log_core_serve(struct log_core *c)
{
    assert(c->phase.now == PHASE_REPLAYED);
    for (uint32_t i = 0; i < c->dirs_count; i++) {
        struct log_dir *d = &c->dirs[i];
        if (d->state.now == DIR_FAILED)
            continue;
        int error = recovery_keep_wal(d);
        if (error == 0)
            error = wal_begin(&d->wal, d->generation + 1);
        if (error == -ENOMEM)
            return error;
        if (error == 0)
            error = recovery_remove_old(d);
        if (error != 0)
            dir_fail(d, error, "beginning the WAL");
        checkpoints_forget(d);
    }
    state_move(&c->phase, &core_phases, PHASE_SERVING);
    uint64_t now_ns = io_now_ns(c->io);
    /* Kafka's first look, too, is after 30 s, but who looks more often need not wait for it. */
    uint64_t check_ns = (uint64_t)c->config.retention_check_ms * NS_PER_MS;
    c->retention_due_ns = now_ns + MIN(check_ns, 30 * NS_PER_S);
    timer_arm(c->config.wheel, &c->tick, now_ns + TICK_NS);
    if (c->cleaner != NULL)
        cleaner_start(c->cleaner);
    return 0;
}

void log_core_set_aside_strays(struct log_core *c, bool (*owned)(void *context, const char *folder),
                               void *context)
{
    for (uint32_t i = 0; i < c->dirs_count; i++) {
        struct log_dir *d = &c->dirs[i];
        uint32_t at = 0;
        struct folder *f;
        while ((f = map_next(&d->folders, &at)) != NULL) {
            if (f->claimed || d->state.now == DIR_FAILED || owned(context, f->name))
                continue;
            SOMETIMES("a folder belongs to no partition");
            int error = dir_move_aside(d, f->name, "stray", NULL);
            trace_line(c->trace, TRACE_LOG, TRACE_WARN, "%s/%s belongs to no partition: %s",
                       d->path, f->name, error == 0 ? "moved aside" : strerror(-error));
        }
        dir_forget_folders(d);
    }
}

/* ---- the table ------------------------------------------------------------------------------- */

static bool table_grow(struct log_core *c)
{
    uint32_t room = c->table_room == 0 ? TABLE_ROOM_MIN : c->table_room * 2;
    struct log **grown =
        mem_realloc(c->mem, c->table, c->table_room * sizeof(*grown), room * sizeof(*grown));
    if (grown == NULL)
        return false;
    memset(grown + c->table_room, 0, (room - c->table_room) * sizeof(*grown));
    c->table = grown;
    c->table_next = c->table_room;
    c->table_room = room;
    return true;
}

bool core_add_log(struct log_core *c, struct log *l)
{
    if (c->logs_count == c->table_room && !table_grow(c))
        return false;
    if (map_put(&c->by_key, &l->key, sizeof(l->key), l) != 0)
        return false;
    while (c->table[c->table_next % c->table_room] != NULL) /* there is one: logs < room */
        c->table_next++;
    l->slot = c->table_next++ % c->table_room;
    c->table[l->slot] = l;
    c->logs_count++;
    return true;
}

void core_remove_log(struct log_core *c, struct log *l)
{
    assert(c->table[l->slot] == l);
    c->table[l->slot] = NULL;
    c->logs_count--;
    void *removed = map_remove(&c->by_key, &l->key, sizeof(l->key));
    assert(removed == l);
}

/* ---- callbacks ------------------------------------------------------------------------------- */

void core_complete(struct log_core *c)
{
    struct list *at, due;
    list_init(&due);
    while ((at = list_pop_front(&c->completed)) != NULL) {
        struct log_append *a = container_of(at, struct log_append, link);
        a->done(a);
    }
    while ((at = list_pop_front(&c->deletes_completed)) != NULL) {
        struct log_delete_records *d = container_of(at, struct log_delete_records, link);
        d->done(d);
    }
    while ((at = list_pop_front(&c->reads_completed)) != NULL) {
        struct log_read *r = container_of(at, struct log_read, link);
        r->done(r);
    }
    while ((at = list_pop_front(&c->moved)) != NULL)
        log_take_due_watches(container_of(at, struct log, moved_link), &due);
    while ((at = list_pop_front(&due)) != NULL) {
        struct log_watch *w = container_of(at, struct log_watch, link);
        w->fire(w);
    }
}

static void core_fire_ready(struct log_core *c)
{
    struct list due, *at;
    list_init(&due);
    list_splice_back(&due, &c->ready_watches); /* those asked for now fire in the next turn */
    while ((at = list_pop_front(&due)) != NULL) {
        struct log_watch *w = container_of(at, struct log_watch, link);
        w->fire(w);
    }
    list_splice_back(&due, &c->room_waiters);
    while (log_core_has_room(c) && (at = list_pop_front(&due)) != NULL) {
        struct log_room_waiter *w = container_of(at, struct log_room_waiter, link);
        w->fire(w);
    }
    list_splice_back(&due, &c->room_waiters); /* the rest waits on, before those who came since */
    list_splice_back(&c->room_waiters, &due);
}

bool log_core_has_room(const struct log_core *c)
{
    return chunks_room(c) >= MIN(ROOM_CHUNKS, (uint32_t)(c->config.cache_bytes / CHUNK_BYTES / 2));
}

void log_core_await_room(struct log_core *c, struct log_room_waiter *w)
{
    assert(w->fire != NULL);
    SOMETIMES("somebody waits for room in the log");
    list_init(&w->link);
    list_push_back(&c->room_waiters, &w->link);
}

/* ---- turns ----------------------------------------------------------------------------------- */

void log_core_turn(struct log_core *c)
{
    for (uint32_t i = 0; c->phase.now == PHASE_REPLAYED && i < c->dirs_count; i++)
        dir_tell_failure(&c->dirs[i]);
    if (c->phase.now != PHASE_SERVING && c->phase.now != PHASE_STOPPING)
        return;
    core_complete(c);
    core_fire_ready(c); /* what these append leaves with this turn's writes */
    for (uint32_t i = 0; i < c->dirs_count; i++)
        wal_turn(&c->dirs[i].wal);
    if (c->cleaner != NULL)
        cleaner_turn(c->cleaner); /* before a new flush begins */
    if (c->phase.now == PHASE_SERVING)
        retention_turn(c); /* likewise */
    flush_turn(c);
    for (uint32_t i = 0; i < c->dirs_count; i++)
        dir_tell_failure(&c->dirs[i]);
    core_complete(c); /* what was refused just now shall not wait for another turn */
}

uint64_t log_core_near_ns(const struct log_core *c, uint64_t max_ns)
{
    uint64_t until = 0;
    uint32_t waiting = 0;
    for (uint32_t i = 0; i < c->dirs_count; i++) {
        const struct wal *w = &c->dirs[i].wal;
        if (w->writes_count > 0 && w->typical_ns > max_ns)
            return 0;
        for (uint32_t j = 0; j < w->writes_count; j++) {
            const struct wal_write *x = &w->writes[(w->writes_head + j) % WAL_WRITES_MAX];
            waiting += x->entries;
            until = MAX(until, x->begun_ns + 2 * w->typical_ns);
        }
    }
    return waiting <= NEAR_WAITERS_MAX ? until : 0;
}

/* One log's share of housekeeping. */
static void core_sweep_log(struct log *l)
{
    uint64_t now_ns = io_now_ns(l->core->io);
    producers_expire(l);
    if (l->written_end > l->synced_end && l->cached_end > l->synced_end &&
        log_config(l)->flush_ms < INT64_MAX / (int64_t)NS_PER_MS &&
        now_ns - l->synced_ns >= (uint64_t)log_config(l)->flush_ms * NS_PER_MS)
        l->want_sync = true;
    if (l->want_sync)
        flush_soon(l);
}

static void core_tick(struct timer *t)
{
    struct log_core *c = container_of(t, struct log_core, tick);
    uint64_t now_ns = io_now_ns(c->io);
    if (c->phase.now != PHASE_SERVING)
        return;
    for (uint32_t i = 0; i < c->dirs_count; i++)
        dir_check_space(&c->dirs[i]);
    chunks_shrink(c, now_ns);
    for (uint32_t i = 0; i < c->table_room && i < LOGS_PER_TICK; i++) {
        struct log *l = c->table[c->sweep_slot++ % c->table_room];
        if (l != NULL)
            log_open_again(l);
        if (l != NULL && l->state.now == LOG_OPEN)
            core_sweep_log(l);
    }
    retention_tick(c);
    timer_arm(c->config.wheel, &c->tick, now_ns + TICK_NS);
}

/* ---- the end --------------------------------------------------------------------------------- */

void log_core_stop(struct log_core *c, struct op *op)
{
    assert(c->phase.now == PHASE_SERVING);
    state_move(&c->phase, &core_phases, PHASE_STOPPING);
    timer_cancel(c->config.wheel, &c->tick);
    op->armed = true;
    c->stop_op = op;
}

void core_stopped(struct log_core *c, int error)
{
    struct op *op = c->stop_op;
    assert(c->phase.now == PHASE_STOPPING && op != NULL);
    state_move(&c->phase, &core_phases, PHASE_STOPPED);
    c->stop_op = NULL;
    op->armed = false;
    op->result = error;
    op->done(op);
}

void log_core_abandon(struct log_core *c)
{
    if (c->phase.now != PHASE_STOPPED)
        state_move(&c->phase, &core_phases, PHASE_STOPPED);
    timer_cancel(c->config.wheel, &c->tick);
    if (c->cleaner != NULL)
        (void)cleaner_stop(c->cleaner);
}

bool log_core_busy(const struct log_core *c)
{
    for (uint32_t i = 0; i < c->dirs_count; i++)
        if (wal_busy(&c->dirs[i].wal))
            return true;
    return c->flushes.count_used > 0 || c->cold_reads > 0 || removal_busy(c->removal) ||
           (c->cleaner != NULL && cleaner_busy(c->cleaner));
}

void log_core_free(struct log_core *c)
{
    timer_cancel(c->config.wheel, &c->tick);
    if (c->cleaner != NULL)
        cleaner_free(c->cleaner);
    for (uint32_t i = 0; i < c->table_room; i++) {
        struct log *l = c->table[i];
        if (l == NULL)
            continue;
        log_destroy(l);
    }
    mem_free(c->mem, c->table, c->table_room * sizeof(*c->table));
    map_destroy(&c->by_key);
    if (c->removal != NULL)
        removal_free(c->removal);
    for (uint32_t i = 0; i < c->dirs_count; i++) {
        checkpoints_forget(&c->dirs[i]);
        dir_free(&c->dirs[i]);
    }
    mem_free(c->mem, c->dirs, c->dirs_count * sizeof(*c->dirs));
    flushes_free(c);
    pool_destroy(&c->groups);
    chunks_free(c);
    mem_free(c->mem, c, sizeof(*c));
}

void log_core_stats(const struct log_core *c, struct log_core_stats *stats)
{
    *stats = c->stats;
    stats->cache_bytes = c->chunk_bytes;
}

const struct log_core_times *log_core_times(const struct log_core *c)
{
    return &c->times;
}
