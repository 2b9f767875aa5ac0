/* Fetch (key 1): batches out, as lent memory, when there are enough of them or time is up.
 *
 *   home core   START ─ legs ─▶ READING ─┬─ enough, or an error, or too late ─▶ answer ─▶ FREEING
 *                 ▲                      └─ too little ─ watches ─▶ WATCHING ─┐
 *                 └────────── a partition grew, or the deadline fired ◀───────┘
 *   owner core            └▶ log_read each partition   └▶ frees what was read, parks a log_watch
 *
 * A leg carries all partitions of one owner. It travels up to four ways: to read, to watch (which
 * first gives back what was read), to be recalled from watching, and to give back what was sent.
 *
 * Invariants
 *  1. Pieces are lent by the owner from log_read until log_read_release; home only points at them.
 *     They go back after the last byte of the answer has left, or when the answer is dropped.
 *  2. The flow ends only when every leg and every recall is home.
 *  3. Sizes (KIP-74): partitions in request order; the first one with data gives at least one whole
 *     batch even beyond max_bytes; later ones give whole batches within what is left.
 *  4. Who reads committed records only is told which aborted transactions have records in what goes
 *     into the answer; it ends below the last stable offset, so all others there are committed.
 *  5. A parked fetch holds no log memory: its reads were given back when the watch was set.
 *
 * Failure modes: per partition, Kafka's code, which ends the waiting at once (ReplicaManager). */
#include "broker/api/api.h"
#include "broker/api/fetch_session.h"
#include "broker/data_core.h"
#include "broker/step.h"
#include "core/lab.h"
#include "proto/gen/fetch.h"

enum fetch_stage { FETCH_READING, FETCH_WATCHING, FETCH_FREEING, FETCH_STAGES };

/* One read under way or lent, of the owner's pool. */
struct fetch_read {
    struct log_read log;
    struct fetch_item *item;
    struct log_aborted_list aborted; /* with records in what was read: for read_committed */
};

struct fetch_item {
    /* home writes before the leg leaves */
    struct fetch_item *next; /* of the same leg, in request order */
    struct fetch_leg *leg;   /* NULL: answered at home (error) */
    struct uuid topic_id;
    int32_t partition;
    int64_t fetch_offset;
    int32_t current_leader_epoch, last_fetched_epoch, max_bytes;
    const struct fetch_request_fetch_topic *topic; /* of the request; NULL in a session */
    const struct fetch_request_fetch_partition *asked;
    struct fetch_partition *remembered; /* in a session */
    struct wire_string name;
    struct uuid asked_id;
    /* the owner writes */
    enum kafka_error error;
    int64_t high_watermark, last_stable_offset, log_start_offset;
    int32_t diverging_epoch;
    int64_t diverging_end;
    int32_t leader_epoch; /* current, told with FENCED_LEADER_EPOCH */
    struct fetch_read *read;
    struct log_watch watch;
    bool watched;
    /* home */
    uint32_t taken; /* bytes of it that go into the answer */
};

struct fetch_leg {
    struct msg msg;
    struct msg recall;
    struct fetch *fetch; /* home's */
    struct data_core *owner;
    struct fetch_item *items, **last;
    struct list parked; /* owner: linked while it watches */
    uint32_t pending;   /* owner: reads on disk */
    int64_t budget;
    enum log_isolation isolation;
    bool used, away, recalled, found;
    bool scarce; /* owner: some item got less because readers hold too much */
};

struct fetch {
    struct flow *flow;
    struct fetch_request request;
    struct fetch_response response;
    struct fetch_context context;
    enum fetch_stage stage;
    struct fetch_item *items;
    uint32_t items_count;
    uint32_t cores_count;
    uint32_t away; /* legs and recalls */
    uint64_t deadline_ns;
    struct timer timer;
    bool expired;
    bool replica; /* asks as a follower, which no one here is */
    struct fetch_leg legs[];
};

static void fetch_read(struct fetch *p);
static void fetch_answer(struct fetch *p);

/* ---- home: decode ---------------------------------------------------------------------------- */

static void item_init(struct fetch *p, struct fetch_item *item)
{
    const struct data_core *core = p->flow->core;
    item->diverging_epoch = -1;
    item->diverging_end = -1;
    item->high_watermark = item->last_stable_offset = item->log_start_offset = -1;
    const struct topic_image *topic =
        p->flow->api_version >= 13
            ? image_topic_by_id(&core->image, item->asked_id)
            : image_topic_by_name(&core->image, item->name.data, (uint32_t)item->name.size);
    SOMETIMES_IF(topic == NULL, "a topic that is not there is fetched");
    if (topic == NULL)
        item->error =
            p->flow->api_version >= 13 ? KE_UNKNOWN_TOPIC_ID : KE_UNKNOWN_TOPIC_OR_PARTITION;
    else if (topic_partition(topic, item->partition) == NULL)
        item->error = KE_UNKNOWN_TOPIC_OR_PARTITION;
    else if (p->replica)
        item->error = KE_NOT_LEADER_OR_FOLLOWER;
    if (item->error != KE_NONE)
        return;
    item->topic_id = topic->id;
    struct fetch_leg *leg =
        &p->legs[partition_owner(topic->id, item->partition, p->cores_count).index];
    if (!leg->used) {
        leg->used = true;
        leg->fetch = p;
        leg->last = &leg->items;
        leg->msg.trip = flow_leg(p->flow);
        leg->msg.home = leg->recall.home = p->flow->core->id;
        list_init(&leg->parked);
    }
    item->leg = leg;
    *leg->last = item;
    leg->last = &item->next;
}

static void item_ask(struct fetch_item *item, int64_t offset, int32_t epoch, int32_t fetched_epoch,
                     int32_t max_bytes)
{
    item->fetch_offset = offset;
    item->current_leader_epoch = epoch;
    item->last_fetched_epoch = fetched_epoch;
    item->max_bytes = max_bytes;
}

static bool items_of_request(struct fetch *p)
{
    const struct fetch_request *r = &p->request;
    uint64_t count = 0;
    for (int32_t i = 0; i < r->topics_count; i++)
        count += (uint64_t)MAX(r->topics[i].partitions_count, 0);
    p->items = arena_array(&p->flow->arena, count, sizeof(*p->items));
    if (p->items == NULL || count > UINT32_MAX)
        return false;
    for (int32_t i = 0; i < r->topics_count; i++) {
        const struct fetch_request_fetch_topic *t = &r->topics[i];
        for (int32_t j = 0; j < t->partitions_count; j++) {
            const struct fetch_request_fetch_partition *q = &t->partitions[j];
            struct fetch_item *item = &p->items[p->items_count++];
            item->topic = t;
            item->asked = q;
            item->name = t->topic;
            item->asked_id = t->topic_id;
            item->partition = q->partition;
            item_ask(item, q->fetch_offset, q->current_leader_epoch, q->last_fetched_epoch,
                     q->partition_max_bytes);
            item_init(p, item);
        }
    }
    return true;
}

static bool items_of_session(struct fetch *p)
{
    const struct fetch_session *s = p->context.session;
    p->items = arena_array(&p->flow->arena, s->by_key.count, sizeof(*p->items));
    if (p->items == NULL)
        return false;
    LIST_EACH(l, &s->partitions)
    {
        struct fetch_partition *q = container_of(l, struct fetch_partition, link);
        struct fetch_item *item = &p->items[p->items_count++];
        item->remembered = q;
        item->name = (struct wire_string){q->key + 4, q->name_size};
        item->asked_id = q->topic_id;
        item->partition = q->partition;
        item_ask(item, q->fetch_offset, q->current_leader_epoch, q->last_fetched_epoch,
                 q->max_bytes);
        item_init(p, item);
    }
    return true;
}

static void fetch_refuse_whole(struct fetch *p, enum kafka_error error)
{
    fetch_response_init(&p->response);
    p->response.error_code = (int16_t)error;
    FLOW_ANSWER(p->flow, &p->response, fetch_response);
}

static void fetch_abandon(struct flow *f);
static void fetch_sent(struct flow *f);
static void fetch_expired(struct timer *t);

void fetch_start(struct flow *f, struct wire_reader *body)
{
    struct data_core *core = f->core;
    struct fetch *p =
        arena_array(&f->arena, 1, sizeof(*p) + core->cores_count * sizeof(struct fetch_leg));
    if (p == NULL || !FLOW_DECODE(f, fetch, &p->request, body)) {
        flow_refuse(f, "malformed body");
        return;
    }
    f->state = p;
    f->abandon = fetch_abandon;
    f->polls = true;
    f->sent = fetch_sent;
    p->flow = f;
    p->cores_count = core->cores_count;
    p->stage = FETCH_READING;
    p->replica = p->request.replica_id >= 0 || p->request.replica_state.replica_id >= 0;
    timer_init(&p->timer, fetch_expired);
    enum kafka_error error =
        fetch_context_begin(core->sessions, &p->context, &p->request, f->api_version);
    if (error != KE_NONE) {
        fetch_refuse_whole(p, error);
        return;
    }
    if (p->context.kind == FETCH_INCREMENTAL ? !items_of_session(p) : !items_of_request(p)) {
        fetch_context_end(core->sessions, &p->context);
        flow_refuse(f, "no memory");
        return;
    }
    p->deadline_ns =
        io_now_ns(core->io) + (uint64_t)(uint32_t)MAX(p->request.max_wait_ms, 0) * NS_PER_MS;
    fetch_read(p);
}

/* ---- home: send legs out --------------------------------------------------------------------- */

static void leg_send(struct fetch *p, struct fetch_leg *leg, uint16_t kind)
{
    struct core_id to = {(uint16_t)(leg - p->legs)};
    assert(!leg->away);
    leg->away = true;
    leg->msg.kind = kind;
    p->away++;
    mail_send(&p->flow->core->mail, to, &leg->msg);
}

static enum log_isolation fetch_isolation(const struct fetch *p)
{
    if (p->request.replica_id == -2) /* a debugging consumer reads everything */
        return LOG_READ_END;
    return p->request.isolation_level == 1 ? LOG_READ_STABLE : LOG_READ_HIGH_WATERMARK;
}

static void fetch_read(struct fetch *p)
{
    int32_t max_bytes = MIN(p->request.max_bytes, p->flow->core->config->fetch_max_bytes);
    p->stage = FETCH_READING;
    for (uint32_t i = 0; i < p->cores_count; i++) {
        struct fetch_leg *leg = &p->legs[i];
        if (!leg->used)
            continue;
        leg->budget = MAX(max_bytes, 0);
        leg->isolation = fetch_isolation(p);
        leg->found = leg->scarce = false;
        leg_send(p, leg, MSG_FETCH);
    }
    if (p->away == 0)
        fetch_answer(p);
}

/* ---- owner: read ----------------------------------------------------------------------------- */

static void leg_return(struct fetch_leg *leg)
{
    assert(leg->pending == 0);
    leg->msg.kind = MSG_FETCH_HOME;
    mail_send(&leg->owner->mail, leg->msg.home, &leg->msg);
}

static void item_free_read(struct data_core *core, struct fetch_item *item)
{
    if (item->read == NULL)
        return;
    log_read_release(core->logs, &item->read->log);
    log_aborted_list_free(core->logs, &item->read->aborted);
    pool_release(&core->reads, item->read);
    item->read = NULL;
}

static void item_take_read(struct fetch_item *item)
{
    const struct log_read *r = &item->read->log;
    item->leg->scarce |= r->scarce;
    if (r->error != KE_NONE)
        item->error = r->error;
    item->high_watermark = r->high_watermark;
    item->last_stable_offset = r->last_stable_offset;
    item->log_start_offset = r->start_offset;
}

static void item_collect_aborted(struct fetch_item *item, struct log *l)
{
    struct log_read *r = &item->read->log;
    if (r->isolation != LOG_READ_STABLE || r->bytes == 0 || item->error != KE_NONE)
        return;
    item->error = l == NULL
                      ? KE_UNKNOWN_TOPIC_OR_PARTITION
                      : log_collect_aborted(l, r->offset, r->next_offset, &item->read->aborted);
}

static void item_read_done(struct log_read *r)
{
    struct fetch_item *item = container_of(r, struct fetch_read, log)->item;
    struct fetch_leg *leg = item->leg;
    item_take_read(item);
    item_collect_aborted(item, log_find(leg->owner->logs, item->topic_id, item->partition));
    assert(leg->pending > 0);
    if (--leg->pending == 0)
        leg_return(leg);
}

/* KIP-595 truncation detection: has the reader a history that we do not share? */
static bool item_diverges(const struct log *l, struct fetch_item *item)
{
    if (item->last_fetched_epoch < 0)
        return false;
    int32_t epoch;
    int64_t end;
    log_epoch_end(l, item->last_fetched_epoch, &epoch, &end);
    if (epoch < 0 || end < 0 || item->fetch_offset < log_start_offset(l)) {
        item->error = KE_OFFSET_OUT_OF_RANGE;
        return true;
    }
    if (epoch >= item->last_fetched_epoch && end >= item->fetch_offset)
        return false;
    SOMETIMES("the history of a reader diverges");
    item->diverging_epoch = epoch;
    item->diverging_end = end;
    return true;
}

static enum kafka_error item_check_epoch(const struct log *l, const struct fetch_item *item)
{
    int32_t current = log_leader_epoch(l);
    if (item->current_leader_epoch < 0 || item->current_leader_epoch == current)
        return KE_NONE;
    SOMETIMES_IF(item->current_leader_epoch < current, "the epoch of a reader is old");
    return item->current_leader_epoch < current ? KE_FENCED_LEADER_EPOCH : KE_UNKNOWN_LEADER_EPOCH;
}

static void item_positions(const struct log *l, struct fetch_item *item)
{
    item->high_watermark = log_high_watermark(l);
    item->last_stable_offset = log_last_stable_offset(l);
    item->log_start_offset = log_start_offset(l);
    item->leader_epoch = log_leader_epoch(l);
}

/* Starts the read of one partition within the leg's budget. */
static void item_read(struct data_core *core, struct fetch_leg *leg, struct fetch_item *item,
                      struct log *l)
{
    int64_t room = MIN((int64_t)item->max_bytes, leg->budget);
    bool first = !leg->found;
    if (room <= 0 && !first)
        return;
    item->read = pool_acquire(&core->reads);
    if (item->read == NULL)
        return; /* nothing this time; the client asks again */
    item->read->item = item;
    item->read->aborted = (struct log_aborted_list){0};
    struct log_read *r = &item->read->log;
    r->offset = item->fetch_offset;
    r->max_bytes = (uint32_t)MAX(room, 0);
    r->whole_first_batch = first;
    r->isolation = leg->isolation;
    r->done = item_read_done;
    if (!log_read(l, r)) {
        leg->found = true;
        leg->budget -= room;
        leg->pending++;
        return;
    }
    item_take_read(item);
    item_collect_aborted(item, l);
    if (r->bytes > 0) {
        leg->found = true;
        leg->budget -= r->bytes;
    } else {
        item_free_read(core, item);
    }
}

static void item_serve(struct data_core *core, struct fetch_leg *leg, struct fetch_item *item)
{
    struct log *l = log_find(core->logs, item->topic_id, item->partition);
    item->error = KE_NONE;
    item->diverging_epoch = -1;
    item->diverging_end = -1;
    if (l == NULL) {
        item->error = KE_UNKNOWN_TOPIC_OR_PARTITION;
        return;
    }
    item->error = item_check_epoch(l, item);
    if (item->error == KE_NONE)
        item->error = log_status(l);
    if (item->error != KE_NONE) {
        item->leader_epoch = log_leader_epoch(l);
        return;
    }
    item_positions(l, item);
    if (!item_diverges(l, item))
        item_read(core, leg, item, l);
}

static void leg_free_reads(struct data_core *core, struct fetch_leg *leg)
{
    for (struct fetch_item *item = leg->items; item != NULL; item = item->next)
        item_free_read(core, item);
}

void fetch_leg_arrived(struct data_core *core, struct msg *msg)
{
    struct fetch_leg *leg = container_of(msg, struct fetch_leg, msg);
    leg->owner = core;
    leg_free_reads(core, leg);
    leg->pending = 1; /* ours, while we go through the items */
    for (struct fetch_item *item = leg->items; item != NULL; item = item->next)
        item_serve(core, leg, item);
    if (--leg->pending == 0)
        leg_return(leg);
    else
        trip_move(msg->trip, &core->board, TRIP_READ);
}

void fetch_free_arrived(struct data_core *core, struct msg *msg)
{
    struct fetch_leg *leg = container_of(msg, struct fetch_leg, msg);
    leg_free_reads(core, leg);
    leg_return(leg);
}

/* ---- owner: watch ---------------------------------------------------------------------------- */

static void leg_unpark(struct fetch_leg *leg)
{
    for (struct fetch_item *item = leg->items; item != NULL; item = item->next) {
        if (item->watched)
            log_unwatch(&item->watch);
        item->watched = false;
    }
    list_remove(&leg->parked);
    leg_return(leg);
}

static void item_grew(struct log_watch *w)
{
    SOMETIMES("a watched partition has grown");
    struct fetch_item *item = container_of(w, struct fetch_item, watch);
    item->watched = false;
    leg_unpark(item->leg);
}

static int64_t item_readable_end(const struct fetch_leg *leg, const struct fetch_item *item)
{
    return leg->isolation == LOG_READ_STABLE ? item->last_stable_offset : item->high_watermark;
}

void fetch_watch_arrived(struct data_core *core, struct msg *msg)
{
    struct fetch_leg *leg = container_of(msg, struct fetch_leg, msg);
    assert(list_empty(&leg->parked));
    leg_free_reads(core, leg);
    for (struct fetch_item *item = leg->items; item != NULL; item = item->next) {
        struct log *l = log_find(core->logs, item->topic_id, item->partition);
        if (l == NULL)
            continue; /* the next read says so */
        item->watch.offset = item_readable_end(leg, item);
        item->watch.isolation = leg->isolation;
        item->watch.fire = item_grew;
        item->watched = true;
        log_watch(l, &item->watch);
    }
    list_push_back(&core->parked, &leg->parked);
    trip_move(msg->trip, &core->board, TRIP_HELD);
}

void fetch_recall_arrived(struct data_core *core, struct msg *msg)
{
    struct fetch_leg *leg = container_of(msg, struct fetch_leg, recall);
    SOMETIMES_IF(list_empty(&leg->parked), "a fetch is recalled that is on its way home");
    if (!list_empty(&leg->parked))
        leg_unpark(leg);
    msg->kind = MSG_RECALL_HOME;
    mail_send(&core->mail, msg->home, msg);
}

/* The core stops: nobody waits any more. */
void fetch_unpark_all(struct data_core *core)
{
    SOMETIMES_IF(!list_empty(&core->parked), "a fetch waits while the core stops");
    LIST_EACH(l, &core->parked)
    leg_unpark(container_of(l, struct fetch_leg, parked));
}

/* ---- home: decide ---------------------------------------------------------------------------- */

static void fetch_recall(struct fetch *p)
{
    for (uint16_t i = 0; i < p->cores_count; i++) {
        struct fetch_leg *leg = &p->legs[i];
        if (!leg->used || !leg->away || leg->recalled)
            continue;
        SOMETIMES("a fetch is recalled");
        leg->recalled = true;
        leg->recall.kind = MSG_RECALL;
        p->away++;
        mail_send(&p->flow->core->mail, (struct core_id){i}, &leg->recall);
    }
}

static void fetch_expired(struct timer *t)
{
    struct fetch *p = container_of(t, struct fetch, timer);
    SOMETIMES_IF(p->stage == FETCH_WATCHING, "a fetch expires");
    p->expired = true;
    if (p->stage == FETCH_WATCHING)
        fetch_recall(p);
}

static void fetch_abandon(struct flow *f)
{
    SOMETIMES("a fetch is abandoned");
    struct fetch *p = f->state;
    timer_cancel(&f->core->wheel, &p->timer);
    fetch_expired(&p->timer);
}

/* What goes into the answer: invariant 3. Returns the bytes; *ends: something ends the waiting. */
static uint64_t fetch_take(struct fetch *p, bool *ends)
{
    int64_t left = MAX(MIN(p->request.max_bytes, p->flow->core->config->fetch_max_bytes), 0);
    uint64_t total = 0;
    *ends = p->items_count == 0;
    for (uint32_t i = 0; i < p->items_count; i++) {
        struct fetch_item *item = &p->items[i];
        item->taken = 0;
        *ends |= item->error != KE_NONE || item->diverging_epoch >= 0;
        if (item->read == NULL || item->error != KE_NONE)
            continue;
        uint32_t bytes = item->read->log.bytes;
        SOMETIMES_IF(total > 0 && (int64_t)bytes > left,
                     "what was read does not fit in the answer");
        if (total > 0 && (int64_t)bytes > left)
            continue;
        item->taken = bytes;
        total += bytes;
        left -= bytes;
    }
    return total;
}

static void fetch_watch(struct fetch *p)
{
    struct data_core *core = p->flow->core;
    p->stage = FETCH_WATCHING;
    if (!timer_armed(&p->timer))
        timer_arm(&core->wheel, &p->timer, p->deadline_ns);
    for (uint32_t i = 0; i < p->cores_count; i++) {
        struct fetch_leg *leg = &p->legs[i];
        leg->recalled = false;
        if (leg->used)
            leg_send(p, leg, MSG_WATCH);
    }
}

static void fetch_came_home(struct fetch *p)
{
    assert(p->away > 0);
    p->away--;
    if (p->stage == FETCH_WATCHING && p->away > 0)
        fetch_recall(p); /* the others need not wait longer */
    if (p->away > 0)
        return;
    if (p->stage == FETCH_READING) {
        bool ends;
        uint64_t bytes = fetch_take(p, &ends);
        bool late = p->expired || io_now_ns(p->flow->core->io) >= p->deadline_ns;
        if (ends || late || bytes >= (uint64_t)MAX(p->request.min_bytes, 0))
            fetch_answer(p);
        else
            fetch_watch(p);
    } else if (p->stage == FETCH_WATCHING) {
        fetch_read(p);
    } else {
        flow_free(p->flow);
    }
}

void fetch_leg_home(struct data_core *core, struct msg *msg)
{
    struct fetch_leg *leg = container_of(msg, struct fetch_leg, msg);
    assert(leg->fetch->flow->core == core && leg->away);
    leg->away = false;
    if (leg->scarce)
        conns_scarce(&core->conns);
    fetch_came_home(leg->fetch);
}

void fetch_recall_home(struct data_core *core, struct msg *msg)
{
    struct fetch_leg *leg = container_of(msg, struct fetch_leg, recall);
    assert(leg->fetch->flow->core == core);
    fetch_came_home(leg->fetch);
}

/* ---- home: answer ---------------------------------------------------------------------------- */

static bool item_pieces(struct fetch *p, const struct fetch_item *item, struct wire_records *out)
{
    const struct log_read *r = &item->read->log;
    struct wire_piece *pieces = arena_array(&p->flow->arena, r->pieces_count, sizeof(*pieces));
    if (pieces == NULL)
        return false;
    for (uint32_t i = 0; i < r->pieces_count; i++)
        pieces[i] = (struct wire_piece){r->pieces[i].data, r->pieces[i].size};
    out->pieces = pieces;
    out->pieces_count = r->pieces_count;
    out->size = (int32_t)r->bytes;
    return true;
}

static bool item_tell_aborted(struct fetch *p, const struct fetch_item *item,
                              struct fetch_response_partition_data *out)
{
    const struct log_aborted_list *list = &item->read->aborted;
    if (list->count == 0)
        return true;
    struct fetch_response_aborted_transaction *told =
        arena_array(&p->flow->arena, list->count, sizeof(*told));
    if (told == NULL)
        return false;
    for (uint32_t i = 0; i < list->count; i++) {
        fetch_response_aborted_transaction_init(&told[i]);
        told[i].producer_id = list->entries[i].producer_id;
        told[i].first_offset = list->entries[i].first_offset;
    }
    out->aborted_transactions = told;
    out->aborted_transactions_count = (int32_t)list->count;
    return true;
}

static bool item_tell(struct fetch *p, const struct fetch_item *item,
                      struct fetch_response_partition_data *out)
{
    fetch_response_partition_data_init(out);
    out->partition_index = item->partition;
    out->error_code = (int16_t)item->error;
    out->records = (struct wire_records){.data = (const uint8_t *)"", .size = 0};
    /* Null for read_uncommitted, but not where the partition is not known here (KafkaApis). */
    bool unknown = item->leg == NULL && !p->replica;
    bool listed = p->request.isolation_level == 1 || unknown;
    out->aborted_transactions_count = listed ? 0 : -1;
    if (item->error != KE_NONE) {
        out->high_watermark = -1;
        out->last_stable_offset = -1;
        out->log_start_offset = -1;
        return true;
    }
    out->high_watermark = item->high_watermark;
    out->last_stable_offset = item->last_stable_offset;
    out->log_start_offset = item->log_start_offset;
    if (item->diverging_epoch >= 0) {
        out->diverging_epoch.epoch = item->diverging_epoch;
        out->diverging_epoch.end_offset = item->diverging_end;
    }
    return item->taken == 0 ||
           (item_tell_aborted(p, item, out) && item_pieces(p, item, &out->records));
}

static bool items_same_topic(const struct fetch_item *a, const struct fetch_item *b)
{
    return uuid_equal(a->asked_id, b->asked_id) && wire_string_equal(a->name, b->name);
}

/* Entries in item order, neighbours of one topic together. */
static bool fetch_tell(struct fetch *p)
{
    struct arena *arena = &p->flow->arena;
    struct fetch_response *r = &p->response;
    struct fetch_response_partition_data *told = arena_array(arena, p->items_count, sizeof(*told));
    r->responses = arena_array(arena, p->items_count, sizeof(*r->responses));
    if (told == NULL || r->responses == NULL)
        return false;
    const struct fetch_item *before = NULL;
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->items_count; i++) {
        const struct fetch_item *item = &p->items[i];
        struct fetch_response_partition_data *t = &told[count];
        if (!item_tell(p, item, t))
            return false;
        if (p->context.kind == FETCH_INCREMENTAL &&
            !fetch_partition_tells(p->context.session, item->remembered, t, item->taken))
            continue;
        count++;
        if (before == NULL || !items_same_topic(before, item)) {
            struct fetch_response_fetchable_topic_response *topic =
                &r->responses[r->responses_count++];
            fetch_response_fetchable_topic_response_init(topic);
            topic->topic = item->name;
            topic->topic_id = item->asked_id;
            topic->partitions = t;
            topic->partitions_count = 0;
        }
        r->responses[r->responses_count - 1].partitions_count++;
        before = item;
    }
    return true;
}

/* A full fetch becomes a session if there is room for it. Its answer carries every item, so entry i
 * of all entries belongs to item i. */
static int32_t fetch_remember(struct fetch *p)
{
    struct fetch_sessions *sessions = p->flow->core->sessions;
    struct fetch_session *s =
        fetch_session_create(sessions, p->flow->api_version >= 13, p->items_count);
    SOMETIMES_IF(s == NULL, "there is no room for a fetch session");
    if (s == NULL)
        return 0;
    uint32_t i = 0;
    for (int32_t t = 0; t < p->response.responses_count; t++) {
        const struct fetch_response_fetchable_topic_response *topic = &p->response.responses[t];
        for (int32_t j = 0; j < topic->partitions_count; j++, i++) {
            const struct fetch_item *item = &p->items[i];
            if (!fetch_session_add(sessions, s, item->topic, item->asked, &topic->partitions[j])) {
                fetch_session_remove(sessions, s);
                return 0;
            }
        }
    }
    return s->id;
}

static void fetch_answer(struct fetch *p)
{
    struct flow *f = p->flow;
    struct fetch_sessions *sessions = f->core->sessions;
    timer_cancel(&f->core->wheel, &p->timer);
    fetch_response_init(&p->response);
    if (!fetch_tell(p)) {
        fetch_context_end(sessions, &p->context);
        flow_refuse(f, "no memory for the answer");
        return;
    }
    if (p->context.kind == FETCH_INCREMENTAL)
        p->response.session_id = p->context.session->id;
    else if (p->context.kind == FETCH_FULL && p->items_count > 0)
        p->response.session_id = fetch_remember(p);
    fetch_context_end(sessions, &p->context);
    FLOW_ANSWER(f, &p->response, fetch_response);
}

/* The answer has left or was dropped: lent pieces go home. */
static void fetch_sent(struct flow *f)
{
    struct fetch *p = f->state;
    p->stage = FETCH_FREEING;
    for (uint32_t i = 0; i < p->cores_count; i++) {
        struct fetch_leg *leg = &p->legs[i];
        bool lent = false;
        for (struct fetch_item *item = leg->items; item != NULL; item = item->next)
            lent |= item->read != NULL;
        if (lent)
            leg_send(p, leg, MSG_FETCH_FREE);
    }
    if (p->away == 0)
        flow_free(f);
}

uint32_t fetch_read_size(void)
{
    return sizeof(struct fetch_read);
}
