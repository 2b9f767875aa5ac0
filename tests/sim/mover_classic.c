/* The classic protocol's side of a mover: rounds of joining and syncing, subscriptions and
 * assignments in the form of Kafka's consumers, which a group that is converted must read.
 *
 *   eager         gives up everything before it joins; the leader deals all out anew
 *   cooperative   keeps what it has and says so; the leader leaves everything with who has it, and
 *                 what is to move with nobody: whoever gives it up joins again at once
 *
 * The leader takes a claim of the highest generation, as the cooperative sticky assignor does. */
#include "tests/sim/mover_priv.h"

#include "proto/gen/heartbeat.h"
#include "proto/gen/record_consumer_protocol.h"

#define BYTES_MAX 1024

typedef struct consumer_protocol_subscription_topic_partition owned_topic;
typedef struct consumer_protocol_assignment_topic_partition assigned_topic;

static const char *protocol_of(const struct mover *m)
{
    return m->run->mixed.options.cooperative ? "cooperative-sticky" : "range";
}

/* ---- joining --------------------------------------------------------------------------------- */

/* Partitions of a topic among the cells. */
static int32_t parts_of(const struct mixed_topic *t, uint64_t cells, int32_t *to)
{
    int32_t count = 0;
    for (uint32_t i = 0; i < t->partitions; i++) {
        if (cells >> (t->first + i) & 1)
            to[count++] = (int32_t)i;
    }
    return count;
}

static int32_t subscription_bytes(const struct mover *m, uint8_t bytes[BYTES_MAX])
{
    const struct mixed *x = &m->run->mixed;
    struct consumer_protocol_subscription s;
    struct wire_string names[MIXED_TOPICS_MAX];
    owned_topic owned[MIXED_TOPICS_MAX];
    int32_t parts[MIXED_TOPICS_MAX][PARTITIONS_MAX];
    struct wire_writer w;
    int16_t version = (int16_t)(x->options.cooperative ? 2 + (m->era > 1) : m->era);
    consumer_protocol_subscription_init(&s);
    s.topics = names;
    s.user_data = (struct wire_bytes){NULL, -1};
    s.owned_partitions = owned;
    s.generation_id = m->epoch > 0 ? m->epoch : -1;
    for (uint32_t t = 0; t < x->topics_count; t++) {
        if (m->topics >> t & 1)
            names[s.topics_count++] = mover_text(x->topics[t].name);
        owned_topic *at = &owned[s.owned_partitions_count];
        consumer_protocol_subscription_topic_partition_init(at);
        at->topic = mover_text(x->topics[t].name);
        at->partitions = parts[t];
        at->partitions_count = parts_of(&x->topics[t], m->owned, parts[t]);
        s.owned_partitions_count += at->partitions_count > 0;
    }
    wire_writer_init(&w, bytes, BYTES_MAX);
    wire_put_int16(&w, version);
    consumer_protocol_subscription_encode(&s, &w, version);
    assert(wire_writer_ok(&w));
    return (int32_t)w.position;
}

void mover_join(struct mover *m)
{
    struct join_group_request q;
    struct join_group_request_protocol protocol;
    uint8_t bytes[BYTES_MAX];
    if (!m->run->mixed.options.cooperative || m->epoch == 0)
        mover_gives_up(m, m->owned, true);
    if (m->id[0] == 0)
        m->heard = 0;
    join_group_request_init(&q);
    join_group_request_protocol_init(&protocol);
    protocol.name = mover_text(protocol_of(m));
    protocol.metadata = (struct wire_bytes){bytes, subscription_bytes(m, bytes)};
    q.group_id = mover_text(m->group->id);
    q.session_timeout_ms = (int32_t)m->session_ms;
    q.rebalance_timeout_ms = (int32_t)m->rebalance_ms;
    q.member_id = mover_text(m->id);
    q.group_instance_id = mover_instance(m);
    q.protocol_type = mover_text("consumer");
    q.protocols = &protocol;
    q.protocols_count = 1;
    m->offered = mixed_cells(&m->run->mixed, m->topics);
    m->asking = true;
    /* From here on the leader may decide that it loses something, which it hears of in the answer
     * to its sync only. Within classic rounds nobody gets that before the next round; but if the
     * group becomes a consumer group in between, then, as in Kafka, with what the leader has
     * decided: what is with nobody is free at once. So what it keeps across a join is not held
     * against others till the sync is answered, in a consumer group neither: it cannot tell which
     * of the two kinds the group is. */
    if (m->run->mixed.options.cooperative)
        group_gives_up(m->group, m->index, m->owned);
    LINK_ASK(&m->link, &q, join_group, API_JOIN_GROUP, mover_versions(m)->join, 0, true);
}

/* ---- leading --------------------------------------------------------------------------------- */

static void see(struct mover *m, const struct join_group_response_member *a, struct arena *arena)
{
    const struct mixed *x = &m->run->mixed;
    struct mover_seen *s = &m->seen[m->seen_count];
    struct consumer_protocol_subscription sub;
    struct wire_reader r;
    wire_reader_init(&r, a->metadata.data, (size_t)MAX(a->metadata.size, 0));
    int16_t version = wire_get_int16(&r);
    if (m->seen_count == MOVER_SEEN || a->member_id.size >= (int32_t)sizeof(s->id))
        return;
    if (r.error != 0 || consumer_protocol_subscription_decode(&sub, &r, version, arena) != 0) {
        run_fail(m->run, "%s: a subscription that nobody made", m->group->id);
        return;
    }
    *s = (struct mover_seen){.generation = sub.generation_id};
    memcpy(s->id, a->member_id.data, (size_t)a->member_id.size);
    for (int32_t i = 0; i < sub.topics_count; i++) {
        uint32_t t = mixed_topic_find(x, sub.topics[i], (struct uuid){{0}});
        s->topics |= t < x->topics_count ? 1u << t : 0;
    }
    for (int32_t i = 0; i < sub.owned_partitions_count; i++) {
        const owned_topic *o = &sub.owned_partitions[i];
        uint32_t t = mixed_topic_find(x, o->topic, (struct uuid){{0}});
        for (int32_t k = 0; t < x->topics_count && k < o->partitions_count; k++)
            s->owned |= 1ull << (x->topics[t].first + (uint32_t)o->partitions[k]);
    }
    m->seen_count++;
}

/* Who says that it has the cell, in the highest generation. */
static struct mover_seen *claimant(struct mover *m, uint32_t cell)
{
    struct mover_seen *best = NULL;
    for (uint32_t i = 0; i < m->seen_count; i++) {
        struct mover_seen *s = &m->seen[i];
        if ((s->owned >> cell & 1) != 0 && (best == NULL || s->generation > best->generation))
            best = s;
    }
    return best;
}

static void deal(struct mover *m)
{
    struct run *r = m->run;
    struct mixed *x = &r->mixed;
    uint32_t first = (uint32_t)chance_below(r->chance, MOVER_SEEN);
    uint64_t cells = mixed_cells(x, (1u << x->topics_count) - 1);
    for (uint32_t c = 0; c < m->group->cells_count; c++) {
        uint32_t topic = 1u << mixed_topic_of(x, c);
        struct mover_seen *has = x->options.cooperative ? claimant(m, c) : NULL;
        if ((cells >> c & 1) == 0)
            continue;
        if (has != NULL) {
            bool moves = r->phase == PHASE_HARM && chance_one_in(r->chance, 8);
            if ((has->topics & topic) != 0 && !moves)
                has->cells |= 1ull << c;
            continue;
        }
        for (uint32_t i = 0; i < m->seen_count; i++) {
            struct mover_seen *s = &m->seen[(c + first + i) % m->seen_count];
            if ((s->topics & topic) == 0)
                continue;
            s->cells |= 1ull << c;
            break;
        }
    }
}

/* A consumer group takes whoever joins under a name that it does not know, as Kafka's does, for it
 * remembers none of those it has given out. So a member that may have been out meanwhile is not
 * told so: somebody else may have got on with what it has kept, and it looks again where that is.
 */
static void mover_may_have_been_out(struct mover *m)
{
    if (m->group->holders[m->index].until_ns > sim_now_ns(m->run->sim))
        return;
    for (uint32_t c = 0; c < m->group->cells_count; c++)
        m->next[c] = -1;
}

void mover_joined(struct mover *m, const struct join_group_response *a, struct arena *arena)
{
    struct run *r = m->run;
    m->asking = false;
    if (a->member_id.size >= (int32_t)sizeof(m->id)) {
        run_fail(r, "a member id of %d bytes", a->member_id.size);
        return;
    }
    if (a->error_code == KE_NONE || a->error_code == KE_MEMBER_ID_REQUIRED) {
        memcpy(m->id, a->member_id.data, (size_t)MAX(a->member_id.size, 0));
        m->id[MAX(a->member_id.size, 0)] = 0;
    }
    if (a->error_code == KE_MEMBER_ID_REQUIRED) {
        mover_move(m, MOVER_JOIN, 1);
        return;
    }
    if (mover_error(m, "JoinGroup", a->error_code))
        return;
    mover_may_have_been_out(m);
    m->session_ns = a->generation_id > m->heard ? m->since_ns : 0;
    m->heard = MAX(m->heard, a->generation_id);
    mover_epoch(m, a->generation_id, m->epoch == 0);
    m->seen_count = 0;
    if (wire_string_equal(a->leader, mover_text(m->id)) && !a->skip_assignment) {
        for (int32_t i = 0; i < a->members_count; i++)
            see(m, &a->members[i], arena);
        deal(m);
    }
    mover_move(m, MOVER_SYNC, 1);
}

/* ---- syncing --------------------------------------------------------------------------------- */

static int32_t assignment_bytes(const struct mixed *x, uint64_t cells, uint8_t bytes[BYTES_MAX])
{
    struct consumer_protocol_assignment a;
    assigned_topic topics[MIXED_TOPICS_MAX];
    int32_t parts[MIXED_TOPICS_MAX][PARTITIONS_MAX];
    struct wire_writer w;
    consumer_protocol_assignment_init(&a);
    a.assigned_partitions = topics;
    a.user_data = (struct wire_bytes){NULL, -1};
    for (uint32_t t = 0; t < x->topics_count; t++) {
        assigned_topic *at = &topics[a.assigned_partitions_count];
        consumer_protocol_assignment_topic_partition_init(at);
        at->topic = mover_text(x->topics[t].name);
        at->partitions = parts[t];
        at->partitions_count = parts_of(&x->topics[t], cells, parts[t]);
        a.assigned_partitions_count += at->partitions_count > 0;
    }
    wire_writer_init(&w, bytes, BYTES_MAX);
    wire_put_int16(&w, 1);
    consumer_protocol_assignment_encode(&a, &w, 1);
    assert(wire_writer_ok(&w));
    return (int32_t)w.position;
}

void mover_sync(struct mover *m)
{
    struct sync_group_request q;
    struct sync_group_request_assignment parts[MOVER_SEEN];
    uint8_t bytes[MOVER_SEEN][BYTES_MAX];
    sync_group_request_init(&q);
    q.group_id = mover_text(m->group->id);
    q.generation_id = m->epoch;
    q.member_id = mover_text(m->id);
    q.group_instance_id = mover_instance(m);
    q.protocol_type = mover_text("consumer");
    q.protocol_name = mover_text(protocol_of(m));
    q.assignments = parts;
    for (uint32_t i = 0; i < m->seen_count; i++) {
        sync_group_request_assignment_init(&parts[i]);
        parts[i].member_id = mover_text(m->seen[i].id);
        parts[i].assignment = (struct wire_bytes){
            bytes[i], assignment_bytes(&m->run->mixed, m->seen[i].cells, bytes[i])};
    }
    q.assignments_count = (int32_t)m->seen_count;
    m->asking = true;
    LINK_ASK(&m->link, &q, sync_group, API_SYNC_GROUP, mover_versions(m)->sync, 0, true);
}

/* false: of partitions that it does not know yet. */
static bool take(struct mover *m, struct wire_bytes bytes, struct arena *arena, uint64_t *cells)
{
    const struct mixed *x = &m->run->mixed;
    struct consumer_protocol_assignment a;
    struct wire_reader r;
    bool known = true;
    *cells = 0;
    if (bytes.size <= 0)
        return true;
    wire_reader_init(&r, bytes.data, (size_t)bytes.size);
    int16_t version = wire_get_int16(&r);
    if (r.error != 0 || consumer_protocol_assignment_decode(&a, &r, version, arena) != 0) {
        run_fail(m->run, "%s: an assignment that cannot be read", m->group->id);
        return true;
    }
    for (int32_t i = 0; i < a.assigned_partitions_count; i++) {
        const assigned_topic *p = &a.assigned_partitions[i];
        uint32_t t = mixed_topic_find(x, p->topic, (struct uuid){{0}});
        for (int32_t k = 0; k < p->partitions_count; k++) {
            uint32_t index = (uint32_t)p->partitions[k];
            if (t < x->topics_count && index < x->topics[t].partitions)
                *cells |= 1ull << (x->topics[t].first + index);
            else
                known = false;
        }
    }
    return known;
}

void mover_synced(struct mover *m, const struct sync_group_response *a, struct arena *arena)
{
    uint64_t cells;
    m->asking = false;
    if (mover_error(m, "SyncGroup", a->error_code))
        return;
    bool known = take(m, a->assignment, arena, &cells);
    uint64_t lost = m->owned & ~cells;
    mover_gives_up(m, lost, true);
    m->full = false;
    m->since_ns = m->session_ns;
    mover_owns(m, cells, m->session_ns > 0);
    if (lost != 0 || !known)
        mover_move(m, MOVER_JOIN, known ? 1 : MOVER_PAUSE_NS);
    else
        mover_move(m, cells != 0 ? MOVER_LOOK : MOVER_STABLE, 1);
}

/* ---- staying and going ----------------------------------------------------------------------- */

void mover_heartbeat(struct mover *m)
{
    struct heartbeat_request q;
    heartbeat_request_init(&q);
    q.group_id = mover_text(m->group->id);
    q.generation_id = m->epoch;
    q.member_id = mover_text(m->id);
    q.group_instance_id = mover_instance(m);
    m->asking = true;
    LINK_ASK(&m->link, &q, heartbeat, API_HEARTBEAT, mover_versions(m)->heartbeat, 0, true);
}

void mover_leave(struct mover *m)
{
    struct leave_group_request q;
    struct leave_group_request_member_identity who;
    leave_group_request_init(&q);
    leave_group_request_member_identity_init(&who);
    who.member_id = mover_text(m->id);
    who.group_instance_id = mover_instance(m);
    who.reason = (struct wire_string){NULL, -1};
    q.group_id = mover_text(m->group->id);
    if (mover_versions(m)->leave < 3)
        q.member_id = mover_text(m->id);
    q.members = &who;
    q.members_count = mover_versions(m)->leave >= 3;
    LINK_ASK(&m->link, &q, leave_group, API_LEAVE_GROUP, mover_versions(m)->leave, 0, true);
}
