/* The consumer group protocol's side of a mover: it says what has changed since it was last
 * answered, or everything; takes what it is told to have, and gives up what it is told not to. */
#include "tests/sim/mover_priv.h"

/* Cells as the request names them. */
static int32_t say_parts(const struct mover *m, uint64_t cells,
                         struct consumer_group_heartbeat_request_topic_partitions *to,
                         int32_t parts[][PARTITIONS_MAX])
{
    const struct mixed *x = &m->run->mixed;
    int32_t count = 0;
    for (uint32_t t = 0; t < x->topics_count; t++) {
        struct consumer_group_heartbeat_request_topic_partitions *at = &to[count];
        consumer_group_heartbeat_request_topic_partitions_init(at);
        at->topic_id = x->topics[t].id;
        at->partitions = parts[t];
        for (uint32_t i = 0; i < x->topics[t].partitions; i++) {
            if (cells >> (x->topics[t].first + i) & 1)
                at->partitions[at->partitions_count++] = (int32_t)i;
        }
        count += at->partitions_count > 0;
    }
    return count;
}

static int32_t say_names(const struct mover *m, struct wire_string *to)
{
    const struct mixed *x = &m->run->mixed;
    int32_t count = 0;
    for (uint32_t t = 0; t < x->topics_count; t++) {
        if (m->topics >> t & 1)
            to[count++] = mover_text(x->topics[t].name);
    }
    return count;
}

static void say(struct mover *m, struct consumer_group_heartbeat_request *q)
{
    LINK_ASK(&m->link, q, consumer_group_heartbeat, API_CONSUMER_GROUP_HEARTBEAT,
             mover_versions(m)->beat, 0, true);
}

void mover_beat(struct mover *m)
{
    static const char *const assignors[] = {NULL, "uniform", "range"};
    struct consumer_group_heartbeat_request q;
    struct consumer_group_heartbeat_request_topic_partitions topics[MIXED_TOPICS_MAX];
    struct wire_string names[MIXED_TOPICS_MAX];
    int32_t parts[MIXED_TOPICS_MAX][PARTITIONS_MAX];
    bool full = m->epoch == 0 || m->full || chance_one_in(m->run->chance, 10);
    consumer_group_heartbeat_request_init(&q);
    q.group_id = mover_text(m->group->id);
    q.member_id = mover_text(m->id);
    q.member_epoch = m->epoch;
    q.instance_id = mover_instance(m);
    if (full) {
        q.rebalance_timeout_ms = (int32_t)m->rebalance_ms;
        q.subscribed_topic_names = names;
        q.subscribed_topic_names_count = say_names(m, names);
        if (mover_versions(m)->beat > 0)
            q.subscribed_topic_regex = mover_text(m->pattern > 0 ? mixed_pattern(m->pattern) : "");
        if (assignors[m->assignor] != NULL)
            q.server_assignor = mover_text(assignors[m->assignor]);
    }
    if (m->epoch == 0)
        mover_gives_up(m, m->owned, true);
    if (full || m->owned != m->said) {
        q.topic_partitions = topics;
        q.topic_partitions_count = say_parts(m, m->owned, topics, parts);
    }
    m->saying = m->owned;
    m->asking = true;
    say(m, &q);
}

void mover_beat_leave(struct mover *m, int32_t epoch)
{
    struct consumer_group_heartbeat_request q;
    consumer_group_heartbeat_request_init(&q);
    q.group_id = mover_text(m->group->id);
    q.member_id = mover_text(m->id);
    q.member_epoch = epoch;
    q.instance_id = mover_instance(m);
    say(m, &q);
}

/* false: of a topic that it does not know yet. */
static bool take(struct mover *m, const struct consumer_group_heartbeat_response_assignment *a,
                 uint64_t *cells)
{
    const struct mixed *x = &m->run->mixed;
    bool known = true;
    *cells = 0;
    for (int32_t i = 0; i < a->topic_partitions_count; i++) {
        const struct consumer_group_heartbeat_response_topic_partitions *p =
            &a->topic_partitions[i];
        uint32_t t = mixed_topic_find(x, (struct wire_string){NULL, -1}, p->topic_id);
        for (int32_t k = 0; k < p->partitions_count; k++) {
            uint32_t index = (uint32_t)p->partitions[k];
            if (t == x->topics_count || index >= x->topics[t].partitions) {
                known = false;
                continue;
            }
            uint64_t cell = 1ull << (x->topics[t].first + index);
            if ((*cells & cell) != 0)
                run_fail(m->run, "%s: a partition is assigned twice in one answer", m->group->id);
            *cells |= cell;
        }
    }
    return known;
}

void mover_beaten(struct mover *m, const struct consumer_group_heartbeat_response *a)
{
    struct run *r = m->run;
    bool joined = m->epoch == 0, known = true;
    m->asking = false;
    if (mover_error(m, "ConsumerGroupHeartbeat", a->error_code))
        return;
    if (a->member_id.size <= 0 || a->member_id.size >= (int32_t)sizeof(m->id)) {
        run_fail(r, "%s: a member id of %d bytes", m->group->id, a->member_id.size);
        return;
    }
    memcpy(m->id, a->member_id.data, (size_t)a->member_id.size);
    m->id[a->member_id.size] = 0;
    mover_epoch(m, a->member_epoch, joined);
    m->said = m->saying;
    if (a->assignment != NULL)
        known = take(m, a->assignment, &m->told);
    else if (joined)
        run_fail(r, "%s: mover %u joined and was told no assignment", m->group->id, m->index);
    m->full = !known;
    mover_owns(m, m->owned | m->told, (m->owned & ~m->told) == 0 && known);
    bool fresh = false;
    for (uint32_t c = 0; c < m->group->cells_count; c++)
        fresh |= (m->owned >> c & 1) != 0 && m->next[c] < 0;
    mover_move(m, fresh ? MOVER_LOOK : MOVER_STABLE, known ? m->think_ns : MOVER_PAUSE_NS);
}
