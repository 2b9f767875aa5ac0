/* Driving the metadata: calls in, one group of records at a time, deltas out.
 *
 *   queue --step, replay into md--> grouped ==append, sync==> awaiting --all cores--> done
 *              |                       |                         ^
 *              `-> delta --------------+---- publish ------------'
 *
 * While an append is under way calls gather in the queue; when it is durable all of them form the
 * next group. So one sync serves all calls that came during the one before: the same group commit
 * as on data cores, and no timer that would delay a lone call.
 *
 * md runs ahead of the disk by the group under way: the next step sees what the one before decided.
 * That is safe because with one voter a failed write ends the node: nothing that was decided on top
 * of it is ever told to anybody.
 *
 * A call waits for the last record decided before its own answer, also when it wrote none: "exists
 * already" must not be told of a topic that a crash could still undo.
 *
 * Invariants
 *  1. applied_offset <= durable_offset < next_offset.
 *  2. Deltas are published after their records are durable, in the order of the log.
 *  3. A replaced leaf is freed when no core has the delta that replaced it.
 *  4. A snapshot is made between two groups, when md is exactly what is durable.
 *  5. A delta that makes topics is published when every core has applied those before it that
 * remove some: folders go by name, and that of a new topic must not be taken for that of the old
 * one by a core that has not heard yet that there is another.
 *
 * Before a step is made there is space for what it may write (metalog_has_room): afterwards it is
 * too late, md has it. On a full disk what makes topics larger is refused and says so; deletions,
 * configs, producer ids and registrations still find the log's reserve.
 *
 * Failure modes: the log (phase FAILED, config.failed, calls end with KAFKA_STORAGE_ERROR); memory
 * (the call is refused, nothing is written); a snapshot that cannot be written (reported, tried
 * again a minute later). */
#include "broker/quorum/control_priv.h"

#include <errno.h>
#include <string.h>

#include "broker/limits.h"
#include "broker/quorum/leaf.h"
#include "core/assert.h"
#include "core/lab.h"
#include "proto/gen/create_partitions.h"
#include "proto/gen/create_topics.h"

#define GROUP_CALLS_MAX      256
#define GROUP_BYTES_MAX      (16u << 20)
#define STEP_SCRATCH_BYTES   (64ull << 20)
#define REPLAY_ARENA_BYTES   (1ull << 32) /* the core's budget is the real bound */
#define HOUSEKEEPING_MS      60000ull
#define SNAPSHOT_BYTES_LIMIT INT32_MAX
#define ROOM_BYTES           (256u << 10) /* for the records of a call */
#define GROWTH_ROOM_BYTES    (2u << 20)   /* of one that makes partitions: RECORDS_PER_CALL_MAX */

/* ---- records become real ----------------------------------------------------------------------
 */

static void entropy(void *context, void *to, size_t size)
{
    struct control *c = context;
    io_entropy(c->config.io, to, size);
}

struct controller control_view(const struct control *c)
{
    union {
        const struct control *read;
        void *plain;
    } u = {.read = c};
    return (struct controller){
        .md = &c->md,
        .node = c->config.node,
        .trace = c->config.trace,
        .broker_id = c->config.node->broker.node_id,
        .dir_ids = c->config.dir_ids,
        .dir_loads = c->dir_loads,
        .dirs_count = c->config.dirs_count,
        .dirs_failed = c->dirs_failed,
        .served = c->config.served,
        .served_count = c->config.served_count,
        .cluster_id = c->config.cluster_id,
        .leader_epoch = c->leader_epoch,
        .end_offset = c->next_offset,
        .now_ms = io_wall_ms(c->config.io),
        .entropy = entropy,
        .entropy_context = u.plain,
    };
}

void control_count_dirs(struct control *c, const struct topic_image *t, int sign)
{
    assert(sign == 1 || sign == -1);
    for (uint32_t i = 0; t != NULL && i < t->partitions_count; i++) {
        const struct partition_image *p = &t->partitions[i];
        for (uint32_t k = 0; k < p->replicas_count; k++) {
            if (p->replicas[k] != c->config.node->broker.node_id)
                continue;
            for (uint32_t d = 0; d < c->config.dirs_count; d++) {
                if (uuid_equal(p->directories[k], c->config.dir_ids[d]))
                    c->dir_loads[d] += (uint32_t)sign;
            }
        }
    }
}

static int replay_all(struct control *c, const struct record_list *records, int64_t last_offset,
                      struct image_delta **delta)
{
    struct replay r;
    int result = 0;
    replay_init(&r, &c->md, REPLAY_ARENA_BYTES);
    for (uint32_t i = 0; i < records->count && result == 0; i++)
        result = replay_record(&r, records->items[i]);
    if (result == 0)
        result = replay_finish(&r, last_offset, c->leader_epoch, delta);
    if (result == 0)
        return 0;
    if (result == -EBADMSG)
        trace_line(c->config.trace, TRACE_QUORUM, TRACE_ERROR,
                   "a change of metadata contradicts what is there and is refused: %s", r.why);
    replay_drop(&r);
    return result;
}

int control_commit(struct control *c, const struct record_list *records, struct image_delta **delta)
{
    assert(records->count > 0 && !records->failed);
    int64_t now = io_wall_ms(c->config.io), last = c->next_offset + records->count - 1;
    int64_t producer_id_before = c->md.next_producer_id;
    uint64_t size_before = c->group.size;
    struct image_delta *d = NULL;
    batch_buffer_add_records(&c->group, c->next_offset, c->leader_epoch, now, records->items,
                             records->count);
    int result = c->group.failed ? -ENOMEM : replay_all(c, records, last, &d);
    if (result == 0)
        result = metadata_apply(&c->md, d);
    if (result != 0) {
        if (d != NULL)
            delta_discard(c->md.mem, d);
        c->md.next_producer_id = producer_id_before;
        c->group.size = size_before;
        c->group.failed = false;
        return result;
    }
    for (uint32_t i = 0; i < d->changes_count; i++) {
        if (d->changes[i].kind != IMAGE_TOPIC)
            continue;
        control_count_dirs(c, d->changes[i].topic.before, -1);
        control_count_dirs(c, d->changes[i].topic.after, 1);
    }
    c->next_offset = last + 1;
    c->md.last_timestamp_ms = now;
    c->stats.records += records->count;
    if (delta != NULL)
        *delta = d;
    else
        delta_retire(c->md.mem, d); /* nobody has an image yet */
    return 0;
}

/* ---- calls ------------------------------------------------------------------------------------
 */

static void kick_soon(struct control *c)
{
    if (!timer_armed(&c->kick))
        timer_arm(c->config.wheel, &c->kick, io_now_ns(c->config.io));
}

static bool call_grows(const struct control_call *call)
{
    return call->api_key == CREATE_TOPICS_REQUEST_API_KEY ||
           call->api_key == CREATE_PARTITIONS_REQUEST_API_KEY;
}

/* Is some log directory nearly full, or has the log no room for many records? */
static bool control_full(struct control *c)
{
    const struct broker_config *b = &c->config.node->broker;
    bool full = !metalog_has_room(c->log, c->group.size + GROWTH_ROOM_BYTES);
    for (uint32_t i = 0; i < b->log_dirs_count && !full; i++) {
        uint64_t total = 0, usable = 0;
        full = io_space(c->config.io, b->log_dirs[i], &total, &usable) == 0 &&
               usable < space_low(total);
    }
    SOMETIMES_IF(full, "a full disk refuses new partitions");
    return full;
}

/* Runs a step and commits what it wants. */
static enum kafka_error call_step(struct control *c, struct control_call *call)
{
    struct controller view = control_view(c);
    view.full = call_grows(call) && control_full(c);
    struct arena scratch;
    struct step s = {
        .c = &view, .version = call->version, .arena = call->arena, .scratch = &scratch};
    struct image_delta *delta = NULL;
    enum kafka_error error = KE_NONE;
    if (!controller_serves(call->api_key))
        return KE_UNSUPPORTED_VERSION;
    if (!view.full && !metalog_has_room(c->log, c->group.size + ROOM_BYTES))
        return KE_KAFKA_STORAGE_ERROR;
    arena_init(&scratch, c->config.mem, STEP_SCRATCH_BYTES);
    if (!controller_step(&s, call->api_key, call->request, call->response))
        error = KE_UNKNOWN_SERVER_ERROR;
    else if (s.records.count > 0 && control_commit(c, &s.records, &delta) != 0)
        error = KE_UNKNOWN_SERVER_ERROR;
    if (delta != NULL)
        list_push_back(&c->group_deltas, &delta->link);
    arena_release(&scratch);
    return error;
}

/* Registration changes are steps of our own. */
static void fence_step(struct control *c, bool fenced)
{
    struct controller view = control_view(c);
    struct arena scratch;
    struct step s = {.c = &view, .scratch = &scratch, .arena = &scratch};
    struct image_delta *delta = NULL;
    arena_init(&scratch, c->config.mem, STEP_SCRATCH_BYTES);
    controller_fence(&s, fenced);
    int result = s.records.failed ? -ENOMEM : control_commit(c, &s.records, &delta);
    if (delta != NULL)
        list_push_back(&c->group_deltas, &delta->link);
    if (result != 0)
        trace_line(c->config.trace, TRACE_QUORUM, TRACE_ERROR,
                   "the broker's registration is not changed: error %d", -result);
    arena_release(&scratch);
}

static void call_done(struct control *c, struct control_call *call, enum kafka_error error)
{
    call->error = error;
    c->stats.calls++;
    c->stats.refused += error != KE_NONE;
    call->done(call);
}

static void calls_fail(struct control *c, struct list *calls, enum kafka_error error)
{
    struct list all;
    list_init(&all);
    list_splice_back(&all, calls); /* a caller may submit again from done */
    for (struct list *l; (l = list_pop_front(&all)) != NULL;)
        call_done(c, container_of(l, struct control_call, link), error);
}

static void leave_complete(struct control *c)
{
    bool failed = c->phase == CONTROL_PHASE_FAILED;
    bool left = c->phase == CONTROL_PHASE_LEAVING && !c->want_fence && !c->append.armed &&
                c->applied_offset >= c->leave_offset && list_empty(&c->awaiting) &&
                list_empty(&c->grouped) && list_empty(&c->queue);
    if (c->leave == NULL || c->snapshot.armed || (!left && !failed))
        return;
    struct op *leave = c->leave;
    assert(leave->armed);
    c->leave = NULL;
    leave->armed = false;
    leave->result = failed ? -EIO : 0;
    leave->done(leave);
}

/* Those whose effect every core has. */
static void calls_complete(struct control *c)
{
    for (struct list *l; (l = list_first(&c->awaiting)) != NULL;) {
        struct control_call *call = container_of(l, struct control_call, link);
        if (call->offset > c->applied_offset)
            break;
        list_remove(l);
        call_done(c, call, call->error);
    }
    leave_complete(c);
}

static void group_run(struct control *c)
{
    if (c->append.armed || (c->phase != CONTROL_PHASE_LOADED && c->phase != CONTROL_PHASE_LEAVING))
        return;
    assert(list_empty(&c->grouped) && c->group.size == 0);
    if (c->want_unfence) {
        c->want_unfence = false;
        fence_step(c, false);
    }
    for (uint32_t n = 0; n < GROUP_CALLS_MAX && c->group.size < GROUP_BYTES_MAX; n++) {
        struct list *l = list_pop_front(&c->queue);
        if (l == NULL)
            break;
        struct control_call *call = container_of(l, struct control_call, link);
        call->error = call_step(c, call);
        call->offset = c->next_offset - 1;
        list_push_back(&c->grouped, l);
    }
    if (c->want_fence && list_empty(&c->queue)) {
        c->want_fence = false;
        fence_step(c, true);
        c->leave_offset = c->next_offset - 1;
    }
    SOMETIMES_IF(c->grouped.next != &c->grouped && c->grouped.next->next != &c->grouped,
                 "several changes of metadata are written at once");
    if (c->group.size > 0) {
        control_append(c);
        return;
    }
    list_splice_back(&c->awaiting, &c->grouped);
    kick_soon(c); /* nothing to wait for, but nothing ends inside the call that started it */
}

static void kicked(struct timer *t)
{
    struct control *c = container_of(t, struct control, kick);
    calls_complete(c);
    if (!list_empty(&c->queue) || c->want_fence || c->want_unfence)
        group_run(c);
}

void control_submit(struct control *c, struct control_call *call)
{
    assert(call->done != NULL && call->arena != NULL);
    list_init(&call->link);
    call->error = KE_NONE;
    call->offset = -1;
    if (c->phase == CONTROL_PHASE_LEAVING || c->phase == CONTROL_PHASE_STOPPED ||
        c->phase == CONTROL_PHASE_FAILED) {
        SOMETIMES("metadata is to change while the node stops");
        call->error = KE_NOT_CONTROLLER;
        list_push_back(&c->awaiting, &call->link); /* offset -1: done in the next turn */
    } else {
        list_push_back(&c->queue, &call->link);
        group_run(c);
        return;
    }
    kick_soon(c);
}

/* ---- the append -------------------------------------------------------------------------------
 */

static void fail(struct control *c, int error)
{
    SOMETIMES("the metadata log fails");
    assert(error < 0);
    c->phase = CONTROL_PHASE_FAILED;
    trace_line(c->config.trace, TRACE_QUORUM, TRACE_ERROR, "the metadata log cannot be written: %s",
               strerror(-error));
    calls_fail(c, &c->grouped, KE_KAFKA_STORAGE_ERROR);
    calls_fail(c, &c->queue, KE_KAFKA_STORAGE_ERROR);
    c->config.failed(c->config.context, error);
}

static void publish_now(struct control *c, struct image_delta *d)
{
    assert(d->offset <= c->durable_offset); /* invariant 2 */
    for (uint32_t i = 0; i < c->config.cores_count; i++)
        d->holders[i / 64] |= 1ull << (i % 64);
    list_push_back(&c->deltas_away, &d->link);
    c->config.publish(c->config.context, d);
}

/* Does it make topics, or (`removes`) remove some? */
static bool delta_does(const struct image_delta *d, bool removes)
{
    for (uint32_t i = 0; i < d->changes_count; i++) {
        const struct image_change *change = &d->changes[i];
        if (change->kind == IMAGE_TOPIC &&
            (removes ? change->topic.after == NULL : change->topic.before == NULL))
            return true;
    }
    return false;
}

static bool delta_must_wait(const struct control *c, const struct image_delta *d)
{
    bool waits = false;
    if (!delta_does(d, false))
        return false;
    LIST_EACH(l, &c->deltas_away)
    waits = waits || delta_does(container_of(l, struct image_delta, link), true);
    return waits;
}

/* As many of those that are durable as may go: invariant 5. */
static void publish_held(struct control *c)
{
    for (struct list *l; (l = list_first(&c->deltas_held)) != NULL;) {
        struct image_delta *d = container_of(l, struct image_delta, link);
        if (delta_must_wait(c, d)) {
            SOMETIMES("new topics wait until every core has let old ones go");
            return;
        }
        list_remove(l);
        publish_now(c, d);
    }
}

static void publish_first(struct control *c)
{
    struct image_delta *full = delta_full(c->md.mem, &c->md.image);
    if (full == NULL) {
        fail(c, -ENOMEM);
        return;
    }
    c->phase = CONTROL_PHASE_PUBLISHING;
    full->offset = c->durable_offset;
    publish_now(c, full);
}

static void snapshot_maybe(struct control *c);

static void appended(struct op *op)
{
    struct control *c = container_of(op, struct control, append);
    c->group.size = 0;
    if (op->result != 0) {
        fail(c, op->result);
        return;
    }
    c->durable_offset = metalog_end_offset(c->log) - 1;
    assert(c->durable_offset == c->next_offset - 1);
    if (c->phase == CONTROL_PHASE_LOADING) {
        int result = metalog_note_epoch(c->log, c->leader_epoch, c->durable_offset);
        if (result != 0)
            fail(c, result);
        else
            publish_first(c);
        return;
    }
    list_splice_back(&c->awaiting, &c->grouped);
    list_splice_back(&c->deltas_held, &c->group_deltas);
    publish_held(c);
    snapshot_maybe(c);
    calls_complete(c);
    group_run(c);
}

void control_append(struct control *c)
{
    assert(!c->append.armed && c->group.size > 0 && c->group.size <= UINT32_MAX);
    op_init(&c->append, appended);
    c->stats.appends++;
    c->stats.append_bytes += c->group.size;
    c->bytes_since_snapshot += c->group.size;
    metalog_append(c->log, c->group.data, (uint32_t)c->group.size, &c->append);
}

/* ---- deltas come home -------------------------------------------------------------------------
 */

static bool delta_is_home(const struct image_delta *d)
{
    uint64_t away = 0;
    for (size_t i = 0; i < sizeof(d->holders) / sizeof(d->holders[0]); i++)
        away |= d->holders[i];
    return away == 0;
}

void control_delta_applied(struct control *c, const struct image_delta *delta, struct core_id core)
{
    struct image_delta *d = NULL;
    LIST_EACH(link, &c->deltas_away)
    {
        struct image_delta *at = container_of(link, struct image_delta, link);
        if (at == delta)
            d = at;
    }
    assert(d != NULL && core.index < c->config.cores_count);
    uint64_t bit = 1ull << (core.index % 64);
    assert((d->holders[core.index / 64] & bit) != 0);
    d->holders[core.index / 64] &= ~bit;
    for (struct list *l; (l = list_first(&c->deltas_away)) != NULL;) {
        d = container_of(l, struct image_delta, link);
        if (!delta_is_home(d))
            break;
        c->applied_offset = d->offset;
        list_remove(l);
        delta_retire(c->md.mem, d); /* invariant 3 */
    }
    assert(c->applied_offset <= c->durable_offset && c->durable_offset < c->next_offset);
    if (c->phase == CONTROL_PHASE_PUBLISHING && list_empty(&c->deltas_away)) {
        c->phase = CONTROL_PHASE_LOADED;
        c->config.loaded(c->config.context);
        kick_soon(c);
    }
    publish_held(c);
    calls_complete(c);
}

/* ---- snapshots --------------------------------------------------------------------------------
 */

static void snapshotted(struct op *op)
{
    struct control *c = container_of(op, struct control, snapshot);
    batch_buffer_release(&c->snapshot_bytes);
    SOMETIMES_IF(op->result != 0, "a metadata snapshot fails");
    if (op->result != 0) {
        trace_line(c->config.trace, TRACE_QUORUM, TRACE_WARN,
                   "no snapshot of the metadata: error %d; the log is whole", -op->result);
    } else {
        c->snapshot_offset = metalog_latest_snapshot(c->log).offset;
        c->stats.snapshots++;
        metalog_clean(c->log);
    }
    calls_complete(c); /* a leave may have waited for this */
}

/* Is one due: so many bytes of new records, or so much time with any at all? */
static bool snapshot_is_due(const struct control *c)
{
    const struct broker_config *b = &c->config.node->broker;
    int64_t age = io_wall_ms(c->config.io) - c->snapshot_ms;
    if (c->durable_offset + 1 <= c->snapshot_offset)
        return false;
    if (c->bytes_since_snapshot >= (uint64_t)b->metadata_log_max_record_bytes_between_snapshots)
        return true;
    return b->metadata_log_max_snapshot_interval_ms > 0 &&
           age >= b->metadata_log_max_snapshot_interval_ms;
}

static void snapshot_maybe(struct control *c)
{
    if (c->append.armed || c->snapshot.armed || c->phase != CONTROL_PHASE_LOADED ||
        !snapshot_is_due(c))
        return;
    SOMETIMES("a metadata snapshot is made");
    assert(c->durable_offset == c->next_offset - 1); /* invariant 4 */
    c->snapshot_ms = io_wall_ms(c->config.io);
    c->bytes_since_snapshot = 0;
    batch_buffer_init(&c->snapshot_bytes, c->md.mem);
    snapshot_build(&c->md, &c->snapshot_bytes, c->leader_epoch, c->snapshot_ms);
    if (c->snapshot_bytes.failed || c->snapshot_bytes.size > SNAPSHOT_BYTES_LIMIT) {
        trace_line(c->config.trace, TRACE_QUORUM, TRACE_WARN,
                   "no snapshot of the metadata: it is too large for the memory there is");
        batch_buffer_release(&c->snapshot_bytes);
        return;
    }
    op_init(&c->snapshot, snapshotted);
    metalog_snapshot(c->log, (struct snapshot_id){c->durable_offset + 1, c->leader_epoch},
                     c->snapshot_bytes.data, c->snapshot_bytes.size, c->md.last_timestamp_ms,
                     &c->snapshot);
}

static void housekeeping(struct timer *t)
{
    struct control *c = container_of(t, struct control, housekeeping);
    snapshot_maybe(c);
    if (!c->snapshot.armed && c->phase == CONTROL_PHASE_LOADED)
        metalog_clean(c->log);
    timer_arm(c->config.wheel, t, io_now_ns(c->config.io) + HOUSEKEEPING_MS * NS_PER_MS);
}

/* ---- life -------------------------------------------------------------------------------------
 */

int control_start(struct control **control, const struct control_config *config, char *why,
                  size_t why_size)
{
    assert(config->dirs_count > 0 && config->dirs_count <= LOG_DIRS_MAX);
    assert(config->cores_count > 0 && config->cores_count < CORES_MAX);
    why[0] = '\0';
    struct control *c = mem_zalloc(config->mem, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    c->config = *config;
    c->dirs_failed = config->dirs_failed;
    c->phase = CONTROL_PHASE_LOADING;
    c->applied_offset = c->durable_offset = -1;
    c->snapshot_ms = io_wall_ms(config->io);
    metadata_init(&c->md, config->mem, config->node);
    list_init(&c->queue);
    list_init(&c->grouped);
    list_init(&c->awaiting);
    list_init(&c->group_deltas);
    list_init(&c->deltas_held);
    list_init(&c->deltas_away);
    batch_buffer_init(&c->group, config->mem);
    batch_buffer_init(&c->snapshot_bytes, config->mem);
    timer_init(&c->kick, kicked);
    timer_init(&c->housekeeping, housekeeping);
    int result = control_load(c, why, why_size);
    if (result != 0) {
        control_free(c);
        return result;
    }
    control_append(c);
    timer_arm(config->wheel, &c->housekeeping, io_now_ns(config->io) + HOUSEKEEPING_MS * NS_PER_MS);
    *control = c;
    return 0;
}

void control_dir_failed(struct control *c, uint32_t dir)
{
    assert(dir < c->config.dirs_count);
    c->dirs_failed |= 1u << dir;
}

void control_ready(struct control *c)
{
    assert(c->phase == CONTROL_PHASE_LOADED);
    c->want_unfence = true;
    kick_soon(c);
}

void control_leave(struct control *c, struct op *op)
{
    assert(!op->armed && c->leave == NULL);
    op->armed = true;
    c->leave = op;
    if (c->phase == CONTROL_PHASE_LOADED) {
        c->want_fence = true;
        c->want_unfence = false;
    } else {
        c->leave_offset = -1; /* nothing was promised to anybody yet */
    }
    if (c->phase != CONTROL_PHASE_FAILED)
        c->phase = CONTROL_PHASE_LEAVING;
    kick_soon(c);
}

int control_stop(struct control *c)
{
    assert(!c->append.armed && !c->snapshot.armed);
    assert(c->phase == CONTROL_PHASE_LEAVING || c->phase == CONTROL_PHASE_FAILED);
    bool clean = c->phase == CONTROL_PHASE_LEAVING;
    timer_cancel(c->config.wheel, &c->kick);
    timer_cancel(c->config.wheel, &c->housekeeping);
    int result = metalog_close(c->log, clean);
    c->log = NULL;
    c->phase = CONTROL_PHASE_STOPPED;
    return result;
}

void control_free(struct control *c)
{
    struct mem *mem = c->config.mem;
    timer_cancel(c->config.wheel, &c->kick);
    timer_cancel(c->config.wheel, &c->housekeeping);
    if (c->log != NULL)
        (void)!metalog_close(c->log, false);
    for (struct list *l; (l = list_pop_front(&c->deltas_away)) != NULL;) {
        struct image_delta *d = container_of(l, struct image_delta, link);
        memset(d->holders, 0, sizeof(d->holders)); /* no core has an image any more */
        delta_retire(mem, d);
    }
    list_splice_back(&c->deltas_held, &c->group_deltas);
    for (struct list *l; (l = list_pop_front(&c->deltas_held)) != NULL;)
        delta_retire(mem, container_of(l, struct image_delta, link));
    metadata_destroy(&c->md);
    batch_buffer_release(&c->group);
    batch_buffer_release(&c->snapshot_bytes);
    mem_free(mem, c, sizeof(*c));
}

const struct image *control_image(const struct control *c)
{
    return &c->md.image;
}

const char *control_cluster_id(const struct control *c)
{
    return c->config.cluster_id;
}

int64_t control_broker_epoch(const struct control *c)
{
    const struct broker_image *self = image_broker(&c->md.image, c->config.node->broker.node_id);
    return self == NULL ? -1 : self->epoch;
}

int32_t control_leader_epoch(const struct control *c)
{
    return c->leader_epoch;
}

void control_stats(const struct control *c, struct control_stats *stats)
{
    *stats = c->stats;
    stats->end_offset = c->durable_offset + 1;
    stats->applied_offset = c->applied_offset;
    stats->snapshot_offset = c->snapshot_offset;
}
