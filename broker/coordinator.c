/* Drives a shard: what one partition of an internal topic coordinates, see broker/group.
 *
 *   image: the partition is here ─▶ LOADING ─ its log, piece by piece ─▶ ACTIVE ─▶ (topic deleted)
 * GONE └──────── disk or memory ──────────┴─▶ FAILED
 *
 *   call ─▶ step ─▶ records ─▶ batches ─▶ log_append ─ durable ─▶ answers
 *                   answers wait behind the last batch there is ────┘
 *
 * A step changes memory at once, so everything answered after it may tell of it: every answer waits
 * until all batches made before it are durable, as Kafka's coordinator runtime does. Since all
 * appends of a turn leave with one write, that costs one write, not one each.
 *
 * Invariants
 *  1. Batches are appended in the order in which they were made, and answers leave in that order.
 *  2. While a batch waits for room in the log, no call is stepped; timers still are: their records
 *     queue up behind it.
 *  3. A coordinator is freed when nothing of it is in the log's hands (appends, the read), nor lent
 *     to others.
 *  4. One partition of a core is loaded at a time, a piece per turn: the others are served.
 *
 * What a shard is, and how it is asked, loaded and closed, says its struct coordinator_kind
 * (coordinator_groups.c, coordinator_txns.c).
 *
 * Failure modes: an append that fails means that memory and disk differ. The shard is dropped and
 * everybody is sent to look for another coordinator (NOT_COORDINATOR); after a restart the log
 * decides. A full disk: what was changed waits, new calls are refused with COORDINATOR_NOT_
 * AVAILABLE, which clients retry. */
#include "broker/coordinator_priv.h"

#include <errno.h>
#include <string.h>

#include "broker/txn_marker.h"
#include "core/assert.h"
#include "core/lab.h"
#include "proto/record.h"

#define LOAD_READ_BYTES (256u << 10)
#define LOAD_EMPTY_MAX  64u /* partitions without a record that are loaded in one turn */
#define BATCH_BYTES_MIN 4096
#define FULL_DISK_REST  NS_PER_S
#define SCARCE_REST     (20 * NS_PER_MS) /* before a load looks again for memory to read into */
#define UNPACKED_MAX    BATCH_UNPACKED_BYTES_DEFAULT

static const char *const coordinator_state_names[] = {"loading", "active", "failed", "gone"};
static const struct state_table coordinator_states = {
    .name = "coordinator",
    .names = coordinator_state_names,
    .states_count = COORDINATOR_STATES,
    .allowed = {[COORDINATOR_LOADING] =
                    1u << COORDINATOR_ACTIVE | 1u << COORDINATOR_FAILED | 1u << COORDINATOR_GONE,
                [COORDINATOR_ACTIVE] = 1u << COORDINATOR_FAILED | 1u << COORDINATOR_GONE,
                [COORDINATOR_FAILED] = 1u << COORDINATOR_GONE},
};

struct coordinator_batch {
    struct list link;
    struct coordinator *of;
    struct log_append append;
    struct list answers;       /* calls that tell of it, or of what was before it */
    struct txn_marker *marker; /* the end of a transaction; NULL: records */
    uint8_t *bytes;            /* of records, until it is appended */
    uint64_t txn_guard;        /* of records in a transaction */
    uint32_t size, room;
    bool durable;
};

static const struct coordinator_kind *const kinds[COORDINATOR_TOPICS] = {
    [COORDINATOR_GROUPS] = &coordinator_groups,
    [COORDINATOR_TXNS] = &coordinator_txns,
};

static void coordinator_fail(struct coordinator *c, const char *why);
static void load_turn(struct timer *t);

/* ---- the table ------------------------------------------------------------------------------- */

int coordinators_start(struct data_core *core)
{
    struct coordinators *all = mem_zalloc(&core->mem, sizeof(*all));
    if (all == NULL)
        return -ENOMEM;
    coordinator_world(core, &all->world);
    list_init(&all->all);
    list_init(&all->loading);
    for (uint32_t i = 0; i < COORDINATOR_TOPICS; i++)
        map_init(&all->by_partition[i], &core->mem, io_random(core->io));
    timer_init(&all->load_timer, load_turn);
    core->coordinators = all;
    return 0;
}

struct coordinator *coordinator_find(const struct data_core *core, enum coordinator_topic topic,
                                     struct uuid topic_id, int32_t partition)
{
    struct coordinator *c =
        map_get(&core->coordinators->by_partition[topic], &partition, sizeof(partition));
    return c != NULL && uuid_equal(c->topic_id, topic_id) ? c : NULL;
}

static struct map *coordinator_map(const struct coordinator *c)
{
    for (uint32_t i = 0; i < COORDINATOR_TOPICS; i++) {
        if (kinds[i] == c->kind)
            return &c->core->coordinators->by_partition[i];
    }
    assert(false); /* no such kind */
    return NULL;
}

/* What the metadata says of the partition. */
static void coordinator_follow(struct coordinator *c, const struct topic_image *t,
                               const struct partition_image *p)
{
    c->batch_bytes_max = (uint32_t)MAX(t->config.max_message_bytes, BATCH_BYTES_MIN);
    c->leader_epoch = p->leader_epoch;
    c->kind->follow(c);
}

static void coordinator_roomy(struct log_room_waiter *w);
static void coordinator_rested(struct timer *t);

static void coordinator_open(struct data_core *core, const struct coordinator_kind *kind,
                             const struct topic_image *t, const struct partition_image *p)
{
    struct coordinators *all = core->coordinators;
    struct coordinator *c = mem_zalloc(&core->mem, sizeof(*c));
    if (c == NULL)
        goto lost;
    c->kind = kind;
    c->core = core;
    c->partition = p->index;
    if (map_put(coordinator_map(c), &c->partition, sizeof(c->partition), c) != 0)
        goto lost;
    c->topic_id = t->id;
    list_init(&c->link);
    list_init(&c->load);
    list_init(&c->batches);
    list_init(&c->held);
    list_init(&c->room.link);
    c->room.fire = coordinator_roomy;
    timer_init(&c->rest, coordinator_rested);
    kind->init(c);
    assert(c->update != NULL);
    coordinator_follow(c, t, p);
    const struct log *l = log_find(core->logs, t->id, p->index);
    c->load_at = l != NULL ? log_start_offset(l) : 0;
    c->load_end = l != NULL ? log_end_offset(l) : 0;
    list_push_back(&all->all, &c->link);
    list_push_back(&all->loading, &c->load);
    if (!timer_armed(&all->load_timer))
        timer_arm(&core->wheel, &all->load_timer, io_now_ns(core->io));
    return;
lost: /* it has no coordinator until a restart */
    mem_free(&core->mem, c, sizeof(*c));
    trace_line(&core->trace, TRACE_API, TRACE_ERROR,
               "no memory for the %s of %s-%d: raise torc.memory", kind->things, kind->topic,
               p->index);
}

/* ---- letting go ------------------------------------------------------------------------------ */

static void batch_free(struct coordinator_batch *b)
{
    struct mem *mem = &b->of->core->mem;
    assert(list_empty(&b->answers));
    list_remove(&b->link);
    mem_free(mem, b->bytes, b->room);
    mem_free(mem, b, sizeof(*b));
}

/* Invariant 3. */
static void coordinator_maybe_free(struct coordinator *c)
{
    if (c->state.now != COORDINATOR_GONE || c->started_count > 0 || c->reading || c->lent > 0)
        return;
    assert(list_empty(&c->batches) && list_empty(&c->held));
    list_remove(&c->link);
    mem_free(&c->core->mem, c, sizeof(*c));
}

void coordinator_return(struct coordinator *c)
{
    assert(c->lent > 0);
    c->lent--;
    coordinator_maybe_free(c);
}

static void answers_refuse(struct coordinator *c, struct list *answers, enum kafka_error error)
{
    struct list *l;
    while ((l = list_pop_front(answers)) != NULL)
        c->kind->refuse(c, l, error);
}

static void answers_leave(struct coordinator *c, struct list *answers)
{
    struct list *l;
    while ((l = list_pop_front(answers)) != NULL)
        c->kind->answered(c, l);
}

static void marker_answer(struct coordinator_batch *b, enum kafka_error error)
{
    struct txn_marker *marker = b->marker;
    b->marker = NULL;
    if (marker == NULL)
        return;
    marker->error = error;
    txn_marker_answered(marker);
}

/* Everybody is sent away; nothing is appended any more. */
static void coordinator_drop(struct coordinator *c, enum coordinator_state state)
{
    bool open = c->state.now == COORDINATOR_LOADING || c->state.now == COORDINATOR_ACTIVE;
    state_move(&c->state, &coordinator_states, (uint8_t)state);
    if (open) {
        c->kind->close(c, KE_NOT_COORDINATOR);
        answers_leave(c, &c->update->answered);
    }
    answers_refuse(c, &c->held, KE_NOT_COORDINATOR);
    list_remove(&c->load);
    list_remove(&c->room.link);
    timer_cancel(&c->core->wheel, &c->rest);
    uint32_t started = c->started_count;
    LIST_EACH(l, &c->batches)
    {
        struct coordinator_batch *b = container_of(l, struct coordinator_batch, link);
        SOMETIMES("a coordinator goes with batches under way");
        answers_refuse(c, &b->answers, KE_NOT_COORDINATOR);
        if (started > 0) {
            started--; /* the log has it */
            continue;
        }
        marker_answer(b, KE_NOT_LEADER_OR_FOLLOWER);
        batch_free(b);
    }
}

static void coordinator_fail(struct coordinator *c, const char *why)
{
    if (c->state.now != COORDINATOR_LOADING && c->state.now != COORDINATOR_ACTIVE)
        return;
    trace_line(&c->core->trace, TRACE_API, TRACE_ERROR, "the %s of %s-%d are offline: %s",
               c->kind->things, c->kind->topic, c->partition, why);
    SOMETIMES("a coordinator fails");
    coordinator_drop(c, COORDINATOR_FAILED);
}

static void coordinator_close(struct coordinator *c)
{
    struct map *map = coordinator_map(c);
    if (map_get(map, &c->partition, sizeof(c->partition)) == c)
        (void)map_remove(map, &c->partition, sizeof(c->partition));
    coordinator_drop(c, COORDINATOR_GONE);
    coordinator_maybe_free(c);
}

/* ---- append ---------------------------------------------------------------------------------- */

static void batch_done(struct log_append *a)
{
    struct coordinator_batch *b = container_of(a, struct coordinator_batch, append);
    struct coordinator *c = b->of;
    assert(c->started_count > 0);
    b->durable = true;
    if (a->error != KE_NONE)
        coordinator_fail(c, "an append failed");
    LIST_EACH(l, &c->batches)
    {
        struct coordinator_batch *first = container_of(l, struct coordinator_batch, link);
        if (!first->durable)
            break;
        answers_leave(c, &first->answers);
        marker_answer(first, first->append.error);
        c->started_count--;
        batch_free(first);
    }
    coordinator_maybe_free(c);
}

/* A marker that the log does not take: the transaction or its coordinator is of the past. What
 * waited behind it waits behind the one before it. */
static void marker_refused(struct coordinator *c, struct coordinator_batch *b)
{
    struct list *before = b->link.prev;
    if (before == &c->batches)
        answers_leave(c, &b->answers);
    else
        list_splice_back(&container_of(before, struct coordinator_batch, link)->answers,
                         &b->answers);
    marker_answer(b, b->append.error);
    batch_free(b);
}

/* The log has the marker: from here on the offsets of its transaction count, or are forgotten. */
static void marker_taken(struct coordinator *c, const struct txn_marker *marker)
{
    const struct txn_markers *m = marker->leg->markers;
    if (!group_shard_end_transaction(&c->groups, m->producer_id, m->commit))
        coordinator_fail(c, "no memory: raise torc.memory");
}

static bool batch_append(struct coordinator *c, struct coordinator_batch *b, struct log *l)
{
    b->append = (struct log_append){.records = b->bytes,
                                    .records_size = b->size,
                                    .origin = LOG_ORIGIN_COORDINATOR,
                                    .txn_guard = b->txn_guard,
                                    .done = batch_done};
    if (b->marker != NULL)
        return txn_marker_start(b->marker, &b->append, l, *io_wall_pointer(c->core->io));
    return log_append(l, &b->append);
}

/* false: no more now. */
static bool batch_start(struct coordinator *c, struct coordinator_batch *b)
{
    struct data_core *core = c->core;
    struct log *l = log_find(core->logs, c->topic_id, c->partition);
    if (l == NULL || log_status(l) != KE_NONE) {
        coordinator_fail(c, "its log is offline");
        return false;
    }
    if (!log_core_has_room(core->logs)) {
        SOMETIMES("a coordinator waits for room");
        log_core_await_room(core->logs, &c->room);
        return false;
    }
    if (!batch_append(c, b, l)) {
        if (log_status(l) == KE_NONE && b->append.error == KE_KAFKA_STORAGE_ERROR) /* disk full */
            timer_arm(&core->wheel, &c->rest, io_now_ns(core->io) + FULL_DISK_REST);
        else if (log_status(l) == KE_NONE && b->marker != NULL)
            marker_refused(c, b);
        else
            coordinator_fail(c, kafka_error_name(b->append.error));
        return c->state.now == COORDINATOR_ACTIVE && !timer_armed(&c->rest);
    }
    mem_free(&core->mem, b->bytes, b->room);
    b->bytes = NULL;
    b->room = 0;
    c->started_count++;
    core->coordinators->appended_batches++;
    if (b->marker != NULL)
        marker_taken(c, b->marker);
    return c->state.now == COORDINATOR_ACTIVE;
}

static bool coordinator_waits(const struct coordinator *c)
{
    return !list_empty(&c->room.link) || timer_armed(&c->rest);
}

static void coordinator_push(struct coordinator *c)
{
    uint32_t started = c->started_count;
    LIST_EACH(l, &c->batches)
    {
        if (started > 0) {
            started--;
            continue;
        }
        if (coordinator_waits(c) ||
            !batch_start(c, container_of(l, struct coordinator_batch, link)))
            return;
    }
}

static void coordinator_go_on(struct coordinator *c)
{
    coordinator_push(c);
    while (c->state.now == COORDINATOR_ACTIVE && !coordinator_waits(c) && !list_empty(&c->held)) {
        c->kind->step(c, list_pop_front(&c->held));
        coordinator_drain(c);
    }
}

static void coordinator_roomy(struct log_room_waiter *w)
{
    SOMETIMES("a coordinator waited for room");
    list_remove(&w->link);
    coordinator_go_on(container_of(w, struct coordinator, room));
}

static void coordinator_rested(struct timer *t)
{
    SOMETIMES("a coordinator waited for space");
    coordinator_go_on(container_of(t, struct coordinator, rest));
}

/* ---- what a step has left -------------------------------------------------------------------- */

static struct coordinator_batch *batch_make(struct coordinator *c, uint32_t room)
{
    struct coordinator_batch *b = mem_zalloc(&c->core->mem, sizeof(*b));
    uint8_t *bytes = room > 0 ? mem_alloc(&c->core->mem, room) : NULL;
    if (b == NULL || (room > 0 && bytes == NULL)) {
        mem_free(&c->core->mem, b, sizeof(*b));
        mem_free(&c->core->mem, bytes, room);
        return NULL;
    }
    b->of = c;
    b->bytes = bytes;
    b->room = room;
    list_init(&b->answers);
    list_init(&b->link);
    list_push_back(&c->batches, &b->link);
    return b;
}

/* As many of the records as a batch may have; *from is the first that is left. */
static bool batch_fill(struct coordinator *c, struct list **from)
{
    struct shard_update *u = c->update;
    uint32_t room = (uint32_t)MIN(u->records_bytes + BATCH_HEADER_SIZE, c->batch_bytes_max);
    struct coordinator_batch *b = batch_make(c, room);
    if (b == NULL)
        return false;
    struct batch_builder builder;
    struct batch_header header = batch_header_plain(0);
    if (u->in_txn) {
        header.attributes = BATCH_TRANSACTIONAL;
        header.producer_id = u->producer_id;
        header.producer_epoch = u->producer_epoch;
        header.base_sequence = 0; /* as Kafka: nobody counts a coordinator's batches */
        b->txn_guard = u->txn_guard;
    }
    batch_builder_init(&builder, b->bytes, room, &header);
    struct list *at = *from;
    for (; at != &u->records; at = at->next) {
        const struct shard_record *r = container_of(at, struct shard_record, link);
        if (!batch_builder_add(&builder, *io_wall_pointer(c->core->io), r->key, r->value, NULL, 0))
            break;
        c->core->coordinators->appended_records++;
    }
    assert(at != *from); /* no shard makes a record larger than a batch */
    *from = at;
    b->size = batch_builder_finish(&builder);
    return true;
}

void coordinator_drain(struct coordinator *c)
{
    struct shard_update *u = c->update;
    for (struct list *at = u->records.next; at != &u->records;) {
        if (!batch_fill(c, &at)) {
            answers_refuse(c, &u->answered, KE_NOT_COORDINATOR);
            coordinator_fail(c, "no memory: raise torc.memory");
            return;
        }
    }
    shard_update_taken(u);
    if (list_empty(&c->batches) || DEFECT(33)) {
        answers_leave(c, &u->answered);
    } else {
        struct list *last = c->batches.prev;
        list_splice_back(&container_of(last, struct coordinator_batch, link)->answers,
                         &u->answered);
    }
    coordinator_push(c);
}

/* ---- calls ----------------------------------------------------------------------------------- */

enum kafka_error coordinator_says(const struct coordinator *c)
{
    if (c == NULL || c->state.now == COORDINATOR_FAILED || c->core->coordinators->stopping)
        return KE_NOT_COORDINATOR;
    SOMETIMES_IF(c->state.now == COORDINATOR_LOADING, "a coordinator is asked while it loads");
    if (c->state.now == COORDINATOR_LOADING)
        return KE_COORDINATOR_LOAD_IN_PROGRESS;
    return timer_armed(&c->rest) ? KE_COORDINATOR_NOT_AVAILABLE : KE_NONE;
}

void coordinator_take(struct coordinator *c, const struct coordinator_kind *kind, struct list *call)
{
    enum kafka_error error = coordinator_says(c);
    if (error != KE_NONE) {
        kind->refuse(c, call, error);
        return;
    }
    list_init(call);
    if (coordinator_waits(c) || !list_empty(&c->held)) {
        SOMETIMES("a call to a coordinator is held");
        list_push_back(&c->held, call);
        return;
    }
    kind->step(c, call);
    coordinator_drain(c);
}

bool coordinator_takes_marker(struct data_core *core, struct txn_marker *marker)
{
    struct coordinator *c =
        coordinator_find(core, COORDINATOR_GROUPS, marker->topic_id, marker->partition);
    const struct topic_image *t =
        image_topic_by_name(&core->image, GROUP_TOPIC, sizeof(GROUP_TOPIC) - 1);
    if (c == NULL && (t == NULL || !uuid_equal(t->id, marker->topic_id)))
        return false;
    struct coordinator_batch *b = coordinator_says(c) == KE_NONE ? batch_make(c, 0) : NULL;
    SOMETIMES_IF(b == NULL, "a marker comes to a coordinator that cannot take it");
    if (b == NULL) {
        marker->error = KE_NOT_LEADER_OR_FOLLOWER; /* retried, here or where it belongs */
        txn_marker_answered(marker);
        return true;
    }
    b->marker = marker;
    coordinator_push(c);
    return true;
}

/* ---- load ------------------------------------------------------------------------------------ */

static bool load_batch(struct coordinator *c, const uint8_t *batch, const struct batch_header *h)
{
    int64_t producer_id = batch_has(h, BATCH_TRANSACTIONAL) ? h->producer_id : -1;
    if (batch_has(h, BATCH_CONTROL)) {
        enum batch_control type;
        int32_t coordinator_epoch;
        if (!batch_read_control(batch, h->size, &type, &coordinator_epoch) ||
            (type != BATCH_CONTROL_COMMIT && type != BATCH_CONTROL_ABORT))
            return true;
        SOMETIMES("a coordinator loads a marker");
        return c->kind->replay_end(c, h->producer_id, type == BATCH_CONTROL_COMMIT);
    }
    struct record_iter it;
    struct record r;
    if (record_open(c->core->compress, batch, h, UNPACKED_MAX, &it) != COMPRESS_OK)
        return false;
    while (record_next(&it, &r)) {
        int64_t offset = h->base_offset + r.offset_delta;
        if (offset >= c->load_at && !c->kind->replay(c, offset, producer_id, r.key, r.value))
            return false;
    }
    return !it.malformed;
}

/* What a read has brought, in one piece. */
static bool load_bytes(struct coordinator *c, const uint8_t *bytes, uint32_t size)
{
    struct batch_iter it;
    struct batch_header h;
    const uint8_t *batch;
    batch_iter_init(&it, bytes, size);
    while (batch_next(&it, &batch, &h)) {
        if (!load_batch(c, batch, &h))
            return false;
        c->load_at = MAX(c->load_at, batch_last_offset(&h) + 1);
    }
    return it.stopped == BATCH_WHOLE;
}

static bool load_pieces(struct coordinator *c)
{
    const struct log_read *r = &c->read;
    if (r->bytes == 0) { /* nothing is left below the end: what was there has been compacted */
        c->load_at = c->load_end;
        return true;
    }
    uint8_t *bytes = mem_alloc(&c->core->mem, r->bytes);
    if (bytes == NULL)
        return false;
    uint32_t at = 0;
    for (uint32_t i = 0; i < r->pieces_count; i++) {
        memcpy(bytes + at, r->pieces[i].data, r->pieces[i].size);
        at += r->pieces[i].size;
    }
    assert(at == r->bytes);
    bool loaded = load_bytes(c, bytes, at);
    mem_free(&c->core->mem, bytes, r->bytes);
    return loaded;
}

/* When to go on: at once, or later, because readers hold so much that nothing was read. */
static uint64_t load_came(struct coordinator *c)
{
    uint64_t now_ns = io_now_ns(c->core->io);
    enum kafka_error error = c->read.error;
    bool loading = c->state.now == COORDINATOR_LOADING;
    if (error == KE_NONE && loading && c->read.scarce && c->read.bytes == 0) {
        SOMETIMES("a coordinator's load waits until readers hold less");
        conns_scarce(&c->core->conns);
        return now_ns + SCARCE_REST;
    }
    bool taken = error == KE_NONE && loading && load_pieces(c);
    if (error == KE_NONE)
        log_read_release(c->core->logs, &c->read);
    if (!taken)
        coordinator_fail(c, error != KE_NONE ? kafka_error_name(error)
                                             : "its log cannot be understood, or no memory");
    return now_ns;
}

static void load_done(struct log_read *read)
{
    struct coordinator *c = container_of(read, struct coordinator, read);
    struct coordinators *all = c->core->coordinators;
    c->reading = false;
    uint64_t on_ns = load_came(c);
    if (!timer_armed(&all->load_timer))
        timer_arm(&c->core->wheel, &all->load_timer, on_ns);
    coordinator_maybe_free(c);
}

/* One piece. true: go on with this one at once, or with the next when it has left the list. */
static bool load_step(struct coordinator *c)
{
    struct data_core *core = c->core;
    struct log *l = log_find(core->logs, c->topic_id, c->partition);
    if (l != NULL && log_waits(l)) { /* a full disk: the others first */
        SOMETIMES("a coordinator waits for its log");
        c->load_end = INT64_MAX; /* not known before it is open */
        list_remove(&c->load);
        list_push_back(&core->coordinators->loading, &c->load);
        timer_arm(&core->wheel, &core->coordinators->load_timer,
                  io_now_ns(core->io) + FULL_DISK_REST);
        return false;
    }
    if (l == NULL || log_status(l) != KE_NONE) {
        coordinator_fail(c, "its log is offline");
        return true;
    }
    if (c->load_end == INT64_MAX)
        c->load_end = log_end_offset(l);
    if (c->load_at >= c->load_end) {
        list_remove(&c->load);
        state_move(&c->state, &coordinator_states, COORDINATOR_ACTIVE);
        c->kind->loaded(c);
        coordinator_drain(c);
        return true;
    }
    c->read = (struct log_read){.offset = MAX(c->load_at, log_start_offset(l)),
                                .max_bytes = LOAD_READ_BYTES,
                                .whole_first_batch = true,
                                .isolation = LOG_READ_END,
                                .done = load_done};
    c->reading = true;
    if (log_read(l, &c->read)) {
        c->reading = false;
        timer_arm(&core->wheel, &core->coordinators->load_timer, load_came(c));
    }
    return false;
}

static void load_turn(struct timer *t)
{
    struct coordinators *all = container_of(t, struct coordinators, load_timer);
    for (uint32_t i = 0; i < LOAD_EMPTY_MAX && !list_empty(&all->loading); i++) {
        struct coordinator *c = container_of(list_first(&all->loading), struct coordinator, load);
        if (c->reading || !load_step(c))
            return;
    }
    if (!list_empty(&all->loading)) {
        struct data_core *core =
            container_of(list_first(&all->loading), struct coordinator, load)->core;
        timer_arm(&core->wheel, t, io_now_ns(core->io));
    }
}

/* ---- the world ------------------------------------------------------------------------------- */

static void coordinators_follow(struct data_core *core, enum coordinator_topic topic,
                                const struct topic_image *t)
{
    for (uint32_t i = 0; i < t->partitions_count; i++) {
        const struct partition_image *p = &t->partitions[i];
        struct coordinator *c = coordinator_find(core, topic, t->id, p->index);
        bool here = p->leader == core->config->node_id &&
                    core_same(partition_owner(t->id, p->index, core->cores_count), core->id);
        if (here && c == NULL)
            coordinator_open(core, kinds[topic], t, p);
        else if (here)
            coordinator_follow(c, t, p);
        else if (c != NULL)
            coordinator_close(c);
    }
}

static void coordinators_topic_gone(struct data_core *core, const struct topic_image *t)
{
    struct wire_string name = {t->name, (int32_t)t->name_size};
    LIST_EACH(l, &core->coordinators->all)
    {
        struct coordinator *c = container_of(l, struct coordinator, link);
        if (uuid_equal(c->topic_id, t->id)) {
            if (c->state.now != COORDINATOR_GONE)
                coordinator_close(c);
        } else if (c->state.now == COORDINATOR_ACTIVE) {
            SOMETIMES("coordinators hear of a deleted topic");
            c->kind->topic_deleted(c, name);
            coordinator_drain(c);
        }
    }
}

/* A topic has come, changed or gone. */
static void coordinators_topic_changed(struct data_core *core, const struct image_change *change)
{
    const struct topic_image *t =
        change->topic.after != NULL ? change->topic.after : change->topic.before;
    struct wire_string name = {t->name, (int32_t)t->name_size};
    LIST_EACH(l, &core->coordinators->all)
    {
        struct coordinator *c = container_of(l, struct coordinator, link);
        if (c->state.now == COORDINATOR_ACTIVE && c->kind->topic_changed != NULL)
            c->kind->topic_changed(c, name, change->topic.before == NULL);
    }
}

void coordinators_image(struct data_core *core, const struct image_delta *delta)
{
    if (core->coordinators->stopping)
        return;
    for (uint32_t i = 0; delta != NULL && i < delta->changes_count; i++) {
        const struct image_change *change = &delta->changes[i];
        if (change->kind != IMAGE_TOPIC)
            continue;
        coordinators_topic_changed(core, change);
        if (change->topic.after == NULL)
            coordinators_topic_gone(core, change->topic.before);
    }
    for (uint32_t i = 0; i < COORDINATOR_TOPICS; i++) {
        const char *name = kinds[i]->topic;
        const struct topic_image *t =
            image_topic_by_name(&core->image, name, (uint32_t)strlen(name));
        if (t != NULL)
            coordinators_follow(core, (enum coordinator_topic)i, t);
    }
}

void coordinators_stop(struct data_core *core)
{
    if (core->coordinators == NULL)
        return;
    core->coordinators->stopping = true;
    LIST_EACH(l, &core->coordinators->all)
    {
        struct coordinator *c = container_of(l, struct coordinator, link);
        if (c->state.now != COORDINATOR_GONE)
            coordinator_close(c);
    }
    timer_cancel(&core->wheel, &core->coordinators->load_timer);
}

void coordinators_stats(const struct data_core *core, struct coordinators_stats *stats)
{
    const struct coordinators *all = core->coordinators;
    *stats = (struct coordinators_stats){.appended_batches = all->appended_batches,
                                         .appended_records = all->appended_records};
    LIST_EACH(l, &all->all)
    {
        const struct coordinator *c = container_of(l, struct coordinator, link);
        stats->loaded += c->state.now == COORDINATOR_ACTIVE;
        stats->loading += c->state.now == COORDINATOR_LOADING;
        stats->failed += c->state.now == COORDINATOR_FAILED;
        stats->groups += c->kind == &coordinator_groups ? c->groups.groups.count : 0;
        stats->transactional_ids += c->kind == &coordinator_txns ? c->txns.txns.count : 0;
    }
}
