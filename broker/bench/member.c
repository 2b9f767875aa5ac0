/* One connection that is the only member of a group and commits offsets, by either protocol.
 *
 *   classic    OUT ─▶ JOINING ─▶ JOINING with the id given ─▶ SYNCING ─▶ READY
 *   consumer   OUT ─▶ BEATING with epoch 0 ─▶ BEATING, says what it holds ─▶ READY
 *
 *   READY ── a commit is due ─▶ COMMITTING ─▶ READY        latency: now - due
 *     └───── its turn to beat ─▶ BEATING ─▶ READY, or in again where the coordinator says so
 *
 * The n-th commit of a member says offset n, so that the load's end can ask the group how many of
 * them it has. Heartbeats go on as those of real clients do, and wait for a commit under way.
 *
 * Each member commits once in members / rate, each says it is there once in beat_ns, and both are
 * spread evenly over the members of a thread, whenever they came in: no two are due at once.
 *
 * Invariant: a member in `rests` is there once, out, and they are in the order of their times: all
 * rest as long.
 *
 * Failure modes: a coordinator that is not ready is asked again; a stale generation is made new and
 * the commit repeated (counted as retried); another error of a commit is counted as refused; any
 * other error ends the load with its name. */
#include <stdio.h>
#include <string.h>

#include "broker/bench/worker.h"
#include "core/core.h"
#include "proto/error.h"
#include "proto/gen/consumer_group_heartbeat.h"
#include "proto/gen/heartbeat.h"
#include "proto/gen/join_group.h"
#include "proto/gen/offset_commit.h"
#include "proto/gen/sync_group.h"

#define BEAT_NS      (3 * NS_PER_S) /* as Java's classic consumer; KIP-848: the broker says it */
#define REST_NS      (100 * NS_PER_MS)
#define SESSION_MS   45000
#define REBALANCE_MS 60000
#define ASSIGNOR     "range"

void member_group(char *to, size_t size, uint64_t run, uint32_t number)
{
    (void)snprintf(to, size, "torc-bench-%llx-%u", (unsigned long long)run, number);
}

/* ---- requests -------------------------------------------------------------------------------- */

static bool is_consumer(const struct member *m)
{
    return m->worker->plan->o.consumer_protocol;
}

static int16_t key_of(const struct member *m)
{
    switch (m->step) {
    case MEMBER_JOINING:
        return API_JOIN_GROUP;
    case MEMBER_SYNCING:
        return API_SYNC_GROUP;
    case MEMBER_BEATING:
        return is_consumer(m) ? API_CONSUMER_GROUP_HEARTBEAT : API_HEARTBEAT;
    case MEMBER_COMMITTING:
    case MEMBER_OUT:
    case MEMBER_READY:
        break;
    }
    return API_OFFSET_COMMIT;
}

static struct wire_string id_of(const struct member *m)
{
    return (struct wire_string){m->id, (int32_t)m->id_size};
}

static void put_join(const struct member *m, struct wire_writer *w, int16_t version)
{
    struct join_group_request_protocol protocol;
    struct join_group_request r;
    join_group_request_protocol_init(&protocol);
    protocol.name = wire_string_of(ASSIGNOR);
    protocol.metadata = m->worker->plan->subscription;
    join_group_request_init(&r);
    r.group_id = wire_string_of(m->group);
    r.session_timeout_ms = SESSION_MS;
    r.rebalance_timeout_ms = REBALANCE_MS;
    r.member_id = id_of(m);
    r.protocol_type = wire_string_of("consumer");
    r.protocols = &protocol;
    r.protocols_count = 1;
    join_group_request_encode(&r, w, version);
}

static void put_sync(const struct member *m, struct wire_writer *w, int16_t version)
{
    struct sync_group_request_assignment assignment;
    struct sync_group_request r;
    sync_group_request_assignment_init(&assignment);
    assignment.member_id = id_of(m);
    assignment.assignment = m->worker->plan->assignment;
    sync_group_request_init(&r);
    r.group_id = wire_string_of(m->group);
    r.generation_id = m->epoch;
    r.member_id = id_of(m);
    r.protocol_type = wire_string_of("consumer");
    r.protocol_name = wire_string_of(ASSIGNOR);
    r.assignments = &assignment;
    r.assignments_count = 1;
    sync_group_request_encode(&r, w, version);
}

static void put_beat(const struct member *m, struct wire_writer *w, int16_t version)
{
    struct heartbeat_request r;
    heartbeat_request_init(&r);
    r.group_id = wire_string_of(m->group);
    r.generation_id = m->epoch;
    r.member_id = id_of(m);
    heartbeat_request_encode(&r, w, version);
}

/* What does not change is said once: who says all of it is answered with all of it, each time. */
static void put_consumer_beat(const struct member *m, struct wire_writer *w, int16_t version)
{
    struct wire_string topic = wire_string_of(m->worker->plan->topic->name);
    struct consumer_group_heartbeat_request_topic_partitions held = {
        .topic_id = m->worker->plan->topic->id,
        .partitions = m->held,
        .partitions_count = (int32_t)m->held_count};
    struct consumer_group_heartbeat_request r;
    consumer_group_heartbeat_request_init(&r);
    r.group_id = wire_string_of(m->group);
    r.member_id = id_of(m);
    r.member_epoch = m->epoch;
    if (m->epoch == 0) {
        r.rebalance_timeout_ms = REBALANCE_MS;
        r.subscribed_topic_names = &topic;
        r.subscribed_topic_names_count = 1;
    }
    if (m->tells || m->epoch == 0) {
        r.topic_partitions = &held;
        r.topic_partitions_count = m->held_count > 0;
    }
    consumer_group_heartbeat_request_encode(&r, w, version);
}

static void put_commit(const struct member *m, struct wire_writer *w, int16_t version)
{
    struct offset_commit_request_partition part;
    struct offset_commit_request_topic topic;
    struct offset_commit_request r;
    offset_commit_request_partition_init(&part);
    part.partition_index = (int32_t)m->share->own[0];
    part.committed_offset = (int64_t)m->made;
    part.committed_metadata = wire_string_of("");
    offset_commit_request_topic_init(&topic);
    topic.name = wire_string_of(m->worker->plan->topic->name);
    topic.topic_id = m->worker->plan->topic->id;
    topic.partitions = &part;
    topic.partitions_count = 1;
    offset_commit_request_init(&r);
    r.group_id = wire_string_of(m->group);
    r.generation_id_or_member_epoch = m->epoch;
    r.member_id = id_of(m);
    r.topics = &topic;
    r.topics_count = 1;
    offset_commit_request_encode(&r, w, version);
}

/* The request of the present step. */
static void member_put(struct bench_link *k, struct wire_writer *w)
{
    const struct member *m = container_of(k, struct member, link);
    if (k->key == API_JOIN_GROUP)
        put_join(m, w, k->version);
    else if (k->key == API_SYNC_GROUP)
        put_sync(m, w, k->version);
    else if (k->key == API_HEARTBEAT)
        put_beat(m, w, k->version);
    else if (k->key == API_CONSUMER_GROUP_HEARTBEAT)
        put_consumer_beat(m, w, k->version);
    else
        put_commit(m, w, k->version);
}

static void member_ask(struct member *m, enum member_step step)
{
    m->step = step;
    int16_t key = key_of(m);
    if (!m->worker->failed)
        bench_link_ask(&m->link, key, m->worker->plan->versions[key], member_put);
}

/* ---- what is due ----------------------------------------------------------------------------- */

static void member_enter(struct member *m)
{
    m->epoch = 0;
    m->held_count = 0;
    member_ask(m, is_consumer(m) ? MEMBER_BEATING : MEMBER_JOINING);
}

static void member_commit(struct member *m, uint64_t due_ns)
{
    m->due_ns = due_ns;
    m->begun_ns = io_clock_ns(m->worker->io);
    m->made++;
    m->committing = true;
    member_ask(m, MEMBER_COMMITTING);
}

/* Begins what is due, or the next commit in a closed loop, unless something is under way. */
static void member_next(struct member *m)
{
    const struct plan *p = m->worker->plan;
    if (m->step != MEMBER_READY || m->worker->failed)
        return;
    if (m->beat_due) {
        m->beat_due = false;
        member_ask(m, MEMBER_BEATING);
    } else if (m->committing) {
        member_ask(m, MEMBER_COMMITTING); /* the one that met a stale generation */
    } else if (!m->worker->started || io_clock_ns(m->worker->io) < m->worker->start_ns) {
        return;
    } else if (p->request_rate <= 0 && !m->worker->stopping) {
        member_commit(m, io_clock_ns(m->worker->io));
    } else if (m->owed > 0) {
        m->owed--;
        member_commit(m,
                      plan_due_ns(p, m->worker->start_ns, m->made * p->senders_count + m->number));
    }
}

void members_beat(struct worker *w, uint64_t now)
{
    while (!list_empty(&w->rests)) {
        struct member *m = container_of(list_first(&w->rests), struct member, due);
        if (m->wake_ns > now)
            break;
        list_remove(&m->due);
        member_enter(m);
    }
    if (w->senders_count == 0)
        return;
    for (; w->beat_due_ns <= now; w->beat_due_ns += MAX(w->beat_ns / w->senders_count, 1)) {
        struct member *m = w->members[w->beat_next++ % w->senders_count];
        if (!m->in)
            continue;
        m->beat_due = true;
        member_next(m);
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

static void member_ready(struct member *m)
{
    m->step = MEMBER_READY;
    if (!m->in)
        worker_opened(m->worker);
    m->in = true;
    member_next(m);
}

static void member_rest(struct member *m)
{
    struct worker *w = m->worker;
    m->step = MEMBER_OUT;
    m->wake_ns = io_clock_ns(w->io) + REST_NS;
    list_push_back(&w->rests, &m->due);
}

static void member_refused(struct member *m, int16_t error)
{
    switch (error) {
    case KE_COORDINATOR_LOAD_IN_PROGRESS:
    case KE_COORDINATOR_NOT_AVAILABLE:
    case KE_NOT_COORDINATOR:
        if (m->in) /* a load that runs has a coordinator */
            break;
        member_rest(m);
        return;
    case KE_REBALANCE_IN_PROGRESS:
    case KE_ILLEGAL_GENERATION:
        member_enter(m);
        return;
    default:
        break;
    }
    worker_fail(m->worker, "%s of a member of a group: %s", api_find(m->link.key)->name,
                kafka_error_name((enum kafka_error)error));
}

static void join_answer(struct member *m, const struct join_group_response *r)
{
    if (r->error_code != KE_NONE && r->error_code != KE_MEMBER_ID_REQUIRED) {
        member_refused(m, r->error_code);
        return;
    }
    if (r->member_id.size <= 0 || (size_t)r->member_id.size > sizeof(m->id)) {
        bench_link_break(&m->link, "a member id of a size that nobody expects", 0);
        return;
    }
    m->id_size = (uint32_t)r->member_id.size;
    memcpy(m->id, r->member_id.data, m->id_size);
    m->epoch = r->generation_id;
    member_ask(m, r->error_code == KE_NONE ? MEMBER_SYNCING : MEMBER_JOINING);
}

/* Takes over what was assigned. false: no memory. */
static bool member_hold(struct member *m, const struct consumer_group_heartbeat_response *r)
{
    m->held_count = 0;
    for (int32_t i = 0; i < r->assignment->topic_partitions_count; i++) {
        const struct consumer_group_heartbeat_response_topic_partitions *t =
            &r->assignment->topic_partitions[i];
        uint32_t count = m->held_count + (uint32_t)t->partitions_count;
        if (count > m->held_room) {
            int32_t *grown = mem_realloc(&m->worker->mem, m->held, m->held_room * sizeof(*m->held),
                                         count * sizeof(*m->held));
            if (grown == NULL)
                return false;
            m->held = grown;
            m->held_room = count;
        }
        if (t->partitions_count > 0)
            memcpy(m->held + m->held_count, t->partitions,
                   (uint32_t)t->partitions_count * sizeof(*m->held));
        m->held_count = count;
    }
    return true;
}

static void consumer_beat_answer(struct member *m,
                                 const struct consumer_group_heartbeat_response *r)
{
    if (r->error_code != KE_NONE) {
        member_refused(m, r->error_code);
        return;
    }
    m->epoch = r->member_epoch;
    if (r->heartbeat_interval_ms > 0)
        m->worker->beat_ns = (uint32_t)r->heartbeat_interval_ms * NS_PER_MS;
    m->tells = r->assignment != NULL;
    if (m->tells && !member_hold(m, r))
        worker_fail(m->worker, "no memory for an assignment");
    else if (m->tells)
        member_ask(m, MEMBER_BEATING);
    else
        member_ready(m);
}

static void commit_done(struct member *m, int16_t error)
{
    struct worker *w = m->worker;
    struct bench_counts *c = &w->counts;
    uint64_t now = io_clock_ns(w->io);
    struct bench_slice *slice = worker_slice(w, now);
    m->committing = false;
    w->answered_ns = now;
    if (error != KE_NONE) {
        if (c->errors++ == 0)
            c->first_error = error;
        return;
    }
    m->acknowledged = m->made;
    c->acknowledged++;
    if (slice != NULL) {
        c->requests++;
        c->records++;
        slice->records++;
        histogram_record(&slice->response, now - m->due_ns);
    }
    if (m->due_ns >= w->begin_ns && m->due_ns < w->end_ns) {
        histogram_record(&c->latency[LATENCY_RESPONSE], now - m->due_ns);
        histogram_record(&c->latency[LATENCY_SERVICE], now - m->begun_ns);
        histogram_record(&c->latency[LATENCY_SLIP], m->begun_ns - m->due_ns);
    }
}

static void commit_answer(struct member *m, const struct offset_commit_response *r)
{
    bool one = r->topics_count == 1 && r->topics[0].partitions_count == 1;
    int16_t error = one ? r->topics[0].partitions[0].error_code : KE_UNKNOWN_SERVER_ERROR;
    m->step = MEMBER_READY;
    if (error == KE_REBALANCE_IN_PROGRESS || error == KE_ILLEGAL_GENERATION ||
        error == KE_STALE_MEMBER_EPOCH) {
        m->worker->counts.retried++;
        m->beat_due = true;
    } else {
        commit_done(m, error);
    }
    member_next(m);
}

/* false: it cannot be read. */
static bool answer_take(struct member *m, struct wire_reader *r, int16_t key, int16_t version)
{
    struct arena *arena = &m->worker->arena;
    union {
        struct join_group_response join;
        struct sync_group_response sync;
        struct heartbeat_response beat;
        struct consumer_group_heartbeat_response consumer;
        struct offset_commit_response commit;
    } a;
    switch (key) {
    case API_JOIN_GROUP:
        if (join_group_response_decode(&a.join, r, version, arena) != 0)
            return false;
        join_answer(m, &a.join);
        return true;
    case API_SYNC_GROUP:
        if (sync_group_response_decode(&a.sync, r, version, arena) != 0)
            return false;
        a.sync.error_code == KE_NONE ? member_ready(m) : member_refused(m, a.sync.error_code);
        return true;
    case API_HEARTBEAT:
        if (heartbeat_response_decode(&a.beat, r, version, arena) != 0)
            return false;
        a.beat.error_code == KE_NONE ? member_ready(m) : member_refused(m, a.beat.error_code);
        return true;
    case API_CONSUMER_GROUP_HEARTBEAT:
        if (consumer_group_heartbeat_response_decode(&a.consumer, r, version, arena) != 0)
            return false;
        consumer_beat_answer(m, &a.consumer);
        return true;
    default:
        if (offset_commit_response_decode(&a.commit, r, version, arena) != 0)
            return false;
        commit_answer(m, &a.commit);
        return true;
    }
}

static void member_answer(struct bench_link *k, const uint8_t *data, uint32_t size)
{
    struct member *m = container_of(k, struct member, link);
    struct worker *w = m->worker;
    struct wire_reader r;
    arena_release(&w->arena);
    if (!bench_link_answered(k, data, size, &w->arena, &r))
        return;
    if (m->in && m->step == MEMBER_BEATING && worker_slice(w, k->asked_ns) != NULL)
        histogram_record(&w->counts.latency[LATENCY_BEAT], io_clock_ns(w->io) - k->asked_ns);
    if (!answer_take(m, &r, k->key, k->version))
        bench_link_break(k, "an answer that cannot be read", 0);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void member_opened(struct bench_link *k)
{
    member_enter(container_of(k, struct member, link));
}

static void member_broken(struct bench_link *k)
{
    struct member *m = container_of(k, struct member, link);
    worker_broken(m->worker, k, &m->worker->plan->topic->nodes[m->share->node]);
}

static bool member_start(struct worker *w, uint32_t number)
{
    const struct plan *p = w->plan;
    struct member *m = mem_zalloc(&w->mem, sizeof(*m));
    if (m == NULL)
        return false;
    w->members[w->senders_count++] = m;
    m->worker = w;
    m->number = number;
    m->share = &p->senders[number];
    w->beat_ns = BEAT_NS;
    w->beat_due_ns = io_clock_ns(w->io);
    list_init(&m->due);
    member_group(m->group, sizeof(m->group), p->run, number);
    if (p->o.consumer_protocol) { /* a UUID in Kafka's clients; any text will do */
        int size = snprintf(m->id, sizeof(m->id), "%.40s-member", m->group);
        m->id_size = (uint32_t)size;
    }
    if (!worker_link(w, &m->link, 1))
        return false;
    m->link.opened = member_opened;
    m->link.answer = member_answer;
    m->link.broken = member_broken;
    bench_link_open(&m->link, &p->topic->nodes[m->share->node]);
    return true;
}

static void member_due(struct worker *w, uint32_t i)
{
    w->members[i]->owed++;
    member_next(w->members[i]);
}

static void member_go_on(struct worker *w, uint32_t i)
{
    member_next(w->members[i]);
}

static bool member_idle(const struct worker *w, uint32_t i)
{
    return w->members[i]->owed == 0 && w->members[i]->step == MEMBER_READY;
}

const struct role role_member = {member_start, member_due, member_go_on, member_idle};
