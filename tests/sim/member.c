/* A member of a consumer group of the classic protocol, one request at a time.
 *
 *   FIND ─▶ JOIN ─▶ (leader: assigns) SYNC ─▶ LOOK (committed offsets) ─▶ STABLE ─▶ JOIN ...
 *     ▲                                                                     │ heartbeat, commit,
 * look └── not the coordinator, or lost its place ◀──────────────────────────┘
 *
 * While harm is done it misbehaves: it leaves and commits once more under the name it had, it
 * stalls until its session must be over and goes on as if nothing had been, it dies and comes back
 * as somebody new (or, with an instance id, as itself). Afterwards the group must become stable. */
#include "tests/sim/run.h"

#include <stdio.h>
#include <string.h>

#include "proto/error.h"
#include "proto/gen/api.h"
#include "proto/gen/find_coordinator.h"
#include "proto/gen/heartbeat.h"
#include "proto/gen/join_group.h"
#include "proto/gen/leave_group.h"
#include "proto/gen/offset_commit.h"
#include "proto/gen/offset_fetch.h"
#include "proto/gen/sync_group.h"

#define ANSWER_LIMIT (16u << 20)
#define FIND_VERSION 3
#define PAUSE_NS     (50 * NS_PER_MS)
#define MEMBERS_SEEN 16u

static const struct member_versions { /* old and new ones */
    int16_t join, sync, heartbeat, leave, commit, fetch;
} versions[] = {{4, 1, 1, 2, 6, 5}, {5, 3, 3, 3, 7, 7}, {9, 5, 4, 5, 9, 8}};

static void member_act(struct sim_event *e);

static struct wire_string text_of(const char *s)
{
    return (struct wire_string){s, (int32_t)strlen(s)};
}

static struct wire_string instance_of(const struct member *m)
{
    return m->instance[0] != 0 ? text_of(m->instance) : (struct wire_string){NULL, -1};
}

static void member_later(struct member *m, uint64_t mean_ns)
{
    struct run *r = m->run;
    sim_plan(r->sim, &m->act, sim_now_ns(r->sim) + 1 + chance_around(r->chance, mean_ns),
             member_act);
}

static void member_move(struct member *m, enum member_state state, uint64_t after_ns)
{
    m->state = state;
    member_later(m, after_ns);
}

static uint32_t cell_topic(const struct run *r, uint32_t cell, uint32_t *partition)
{
    uint32_t t = 0;
    while (cell >= r->topics[t].partitions_count)
        cell -= r->topics[t++].partitions_count;
    assert(t < r->options.topics);
    *partition = cell;
    return t;
}

static uint32_t cell_of(const struct run *r, uint32_t topic, uint32_t partition)
{
    uint32_t cell = partition;
    for (uint32_t t = 0; t < topic; t++)
        cell += r->topics[t].partitions_count;
    return cell;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void member_find(struct member *m)
{
    struct find_coordinator_request q;
    find_coordinator_request_init(&q);
    q.key = text_of(m->group->id);
    LINK_ASK(&m->link, &q, find_coordinator, API_FIND_COORDINATOR, FIND_VERSION, 0, true);
}

static void member_join(struct member *m)
{
    struct join_group_request q;
    struct join_group_request_protocol protocol;
    join_group_request_init(&q);
    join_group_request_protocol_init(&protocol);
    protocol.name = text_of("range");
    protocol.metadata = (struct wire_bytes){(const uint8_t *)"sim", 3};
    q.group_id = text_of(m->group->id);
    q.session_timeout_ms = (int32_t)m->session_ms;
    q.rebalance_timeout_ms = 2 * (int32_t)m->session_ms;
    q.member_id = text_of(m->id);
    q.group_instance_id = instance_of(m);
    q.protocol_type = text_of("sim");
    q.protocols = &protocol;
    q.protocols_count = 1;
    m->floor = m->group->synced;
    LINK_ASK(&m->link, &q, join_group, API_JOIN_GROUP, versions[m->era].join, 0, true);
}

/* Shares the cells out: each goes to the next member. An assignment is a byte per cell. */
static void member_assign(struct member *m, const struct join_group_response *a)
{
    uint32_t first = (uint32_t)chance_below(m->run->chance, MEMBERS_SEEN);
    m->seen_count = 0;
    for (int32_t i = 0; i < a->members_count && m->seen_count < MEMBERS_SEEN; i++) {
        struct member_seen *s = &m->seen[m->seen_count];
        if (a->members[i].member_id.size >= (int32_t)sizeof(s->id))
            continue;
        memcpy(s->id, a->members[i].member_id.data, (size_t)a->members[i].member_id.size);
        s->id[a->members[i].member_id.size] = 0;
        s->cells_count = 0;
        m->seen_count++;
    }
    for (uint32_t c = 0; c < m->group->cells_count && m->seen_count > 0; c++) {
        struct member_seen *s = &m->seen[(c + first) % m->seen_count];
        s->cells[s->cells_count++] = (uint8_t)c;
    }
}

static void member_sync(struct member *m)
{
    struct sync_group_request q;
    struct sync_group_request_assignment parts[MEMBERS_SEEN];
    sync_group_request_init(&q);
    q.group_id = text_of(m->group->id);
    q.generation_id = m->generation;
    q.member_id = text_of(m->id);
    q.group_instance_id = instance_of(m);
    q.protocol_type = text_of("sim");
    q.protocol_name = text_of("range");
    q.assignments = parts;
    for (uint32_t i = 0; i < m->seen_count; i++) {
        sync_group_request_assignment_init(&parts[i]);
        parts[i].member_id = text_of(m->seen[i].id);
        parts[i].assignment =
            (struct wire_bytes){m->seen[i].cells, (int32_t)m->seen[i].cells_count};
    }
    q.assignments_count = (int32_t)m->seen_count;
    LINK_ASK(&m->link, &q, sync_group, API_SYNC_GROUP, versions[m->era].sync, 0, true);
}

static void member_heartbeat(struct member *m)
{
    struct heartbeat_request q;
    heartbeat_request_init(&q);
    q.group_id = text_of(m->group->id);
    q.generation_id = m->generation;
    q.member_id = text_of(m->id);
    q.group_instance_id = instance_of(m);
    LINK_ASK(&m->link, &q, heartbeat, API_HEARTBEAT, versions[m->era].heartbeat, 0, true);
}

static void member_leave(struct member *m)
{
    struct leave_group_request q;
    struct leave_group_request_member_identity who;
    leave_group_request_init(&q);
    leave_group_request_member_identity_init(&who);
    who.member_id = text_of(m->id);
    who.group_instance_id = instance_of(m);
    who.reason = (struct wire_string){NULL, -1};
    q.group_id = text_of(m->group->id);
    if (versions[m->era].leave < 3)
        q.member_id = text_of(m->id);
    q.members = &who;
    q.members_count = versions[m->era].leave >= 3;
    LINK_ASK(&m->link, &q, leave_group, API_LEAVE_GROUP, versions[m->era].leave, 0, true);
}

enum { COMMIT_WELL, COMMIT_HAVING_LEFT, COMMIT_LATE }; /* late: under the generation before */

static int32_t commit_generation(const struct member *m, uint64_t tag)
{
    return m->generation - (tag == COMMIT_LATE);
}

/* All that it owns. */
static void member_commit(struct member *m, uint64_t tag)
{
    struct run *r = m->run;
    struct offset_commit_request q;
    struct offset_commit_request_topic topics[TOPICS_MAX];
    struct offset_commit_request_partition parts[TOPICS_MAX][PARTITIONS_MAX];
    offset_commit_request_init(&q);
    q.group_id = text_of(m->group->id);
    q.generation_id_or_member_epoch = commit_generation(m, tag);
    q.member_id = text_of(m->id);
    q.group_instance_id = instance_of(m);
    q.topics = topics;
    m->floor = m->group->synced;
    for (uint32_t t = 0; t < r->options.topics; t++) {
        struct offset_commit_request_topic *topic = &topics[q.topics_count];
        offset_commit_request_topic_init(topic);
        topic->name = text_of(r->topics[t].name);
        topic->partitions = parts[t];
        for (uint32_t i = 0; i < r->topics[t].partitions_count; i++) {
            uint32_t cell = cell_of(r, t, i);
            if ((m->cells >> cell & 1) == 0 || m->next[cell] < 0)
                continue;
            m->next[cell] += (int64_t)chance_between(r->chance, 1, 3);
            group_commit_sent(m->group, cell, m->next[cell]);
            struct offset_commit_request_partition *p = &parts[t][topic->partitions_count++];
            offset_commit_request_partition_init(p);
            p->partition_index = (int32_t)i;
            p->committed_offset = m->next[cell];
            p->committed_metadata = text_of("sim");
        }
        q.topics_count += topic->partitions_count > 0;
    }
    m->committing = true;
    LINK_ASK(&m->link, &q, offset_commit, API_OFFSET_COMMIT, versions[m->era].commit, tag, true);
}

/* The offsets of all cells. */
static void member_look(struct member *m)
{
    struct run *r = m->run;
    struct offset_fetch_request q;
    struct offset_fetch_request_topic old[TOPICS_MAX];
    struct offset_fetch_request_topics topics[TOPICS_MAX];
    struct offset_fetch_request_group group;
    int32_t indexes[PARTITIONS_MAX];
    offset_fetch_request_init(&q);
    offset_fetch_request_group_init(&group);
    for (uint32_t i = 0; i < PARTITIONS_MAX; i++)
        indexes[i] = (int32_t)i;
    for (uint32_t t = 0; t < r->options.topics; t++) {
        offset_fetch_request_topic_init(&old[t]);
        offset_fetch_request_topics_init(&topics[t]);
        old[t].name = topics[t].name = text_of(r->topics[t].name);
        old[t].partition_indexes = topics[t].partition_indexes = indexes;
        old[t].partition_indexes_count = topics[t].partition_indexes_count =
            (int32_t)r->topics[t].partitions_count;
    }
    if (versions[m->era].fetch < 8) {
        q.group_id = text_of(m->group->id);
        q.topics = old;
        q.topics_count = (int32_t)r->options.topics;
    } else {
        group.group_id = text_of(m->group->id);
        group.topics = topics;
        group.topics_count = (int32_t)r->options.topics;
        q.groups = &group;
        q.groups_count = 1;
    }
    for (uint32_t c = 0; c < m->group->cells_count; c++)
        m->floors[c] = group_floor(m->group, c);
    LINK_ASK(&m->link, &q, offset_fetch, API_OFFSET_FETCH, versions[m->era].fetch, 0, true);
}

/* ---- what it does next ----------------------------------------------------------------------- */

static void member_forget(struct member *m)
{
    m->id[0] = 0;
    m->generation = -1;
    m->cells = 0;
}

/* Something that no good member does. False: not now. */
static bool member_misbehave(struct member *m)
{
    struct run *r = m->run;
    uint64_t what = chance_below(r->chance, 20);
    if (r->phase != PHASE_HARM)
        return false;
    switch (what) {
    case 0:
        member_leave(m);
        return true;
    case 1: /* and then goes on as it was */
        sim_plan(r->sim, &m->act, sim_now_ns(r->sim) + 2 * (uint64_t)m->session_ms * NS_PER_MS,
                 member_act);
        return true;
    case 2:
        member_forget(m);
        m->state = MEMBER_FIND;
        link_break(&m->link);
        return true;
    case 3:
        member_commit(m, COMMIT_LATE);
        return true;
    default:
        return false;
    }
}

static void member_stable(struct member *m)
{
    struct run *r = m->run;
    uint64_t what = chance_below(r->chance, 8);
    if (member_misbehave(m))
        return;
    if (m->looked_start != r->node.starts || what == 0)
        member_look(m);
    else if (what < 4)
        member_commit(m, COMMIT_WELL);
    else
        member_heartbeat(m);
}

static void member_act(struct sim_event *e)
{
    struct member *m = container_of(e, struct member, act);
    struct run *r = m->run;
    if (!m->link.is_up || m->link.requests_count > 0)
        return;
    if (!r->admin.created) {
        member_later(m, PAUSE_NS);
        return;
    }
    switch (m->state) {
    case MEMBER_FIND:
        member_find(m);
        break;
    case MEMBER_JOIN:
        member_join(m);
        break;
    case MEMBER_SYNC:
        member_sync(m);
        break;
    case MEMBER_LOOK:
        member_look(m);
        break;
    case MEMBER_STABLE:
        member_stable(m);
        break;
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

/* What an error means for a member; KE_NONE: nothing. True: it goes on elsewhere. */
static bool member_error(struct member *m, const char *what, int16_t error)
{
    m->group->refused += error != KE_NONE;
    switch ((enum kafka_error)error) {
    case KE_NONE:
        return false;
    case KE_COORDINATOR_LOAD_IN_PROGRESS:
    case KE_COORDINATOR_NOT_AVAILABLE:
    case KE_NOT_COORDINATOR:
    case KE_REQUEST_TIMED_OUT:
    case KE_BROKER_NOT_AVAILABLE:
        member_move(m, MEMBER_FIND, PAUSE_NS);
        return true;
    case KE_REBALANCE_IN_PROGRESS:
        member_move(m, MEMBER_JOIN, 1);
        return true;
    case KE_ILLEGAL_GENERATION:
        m->generation = -1;
        m->cells = 0;
        member_move(m, MEMBER_JOIN, 1);
        return true;
    case KE_UNKNOWN_MEMBER_ID:
    case KE_FENCED_INSTANCE_ID:
        member_forget(m);
        member_move(m, MEMBER_JOIN, 1);
        return true;
    default:
        run_fail(m->run, "%s of %s: error %d", what, m->group->id, error);
        return true;
    }
}

static void member_found(struct member *m, const struct find_coordinator_response *a)
{
    if (a->error_code == KE_INVALID_REPLICATION_FACTOR || a->error_code == KE_KAFKA_STORAGE_ERROR)
        member_move(m, MEMBER_FIND, PAUSE_NS); /* the broker is starting, or its disk is bad */
    else if (!member_error(m, "FindCoordinator", a->error_code))
        member_move(m, m->generation < 0 ? MEMBER_JOIN : MEMBER_STABLE, 1);
}

static void member_joined(struct member *m, const struct join_group_response *a)
{
    char text[GROUP_TEXT_MAX];
    if (a->member_id.size >= (int32_t)sizeof(m->id)) {
        run_fail(m->run, "a member id of %d bytes", a->member_id.size);
        return;
    }
    bool named = a->error_code == KE_NONE || a->error_code == KE_MEMBER_ID_REQUIRED;
    if (named) {
        memcpy(m->id, a->member_id.data, (size_t)MAX(a->member_id.size, 0));
        m->id[MAX(a->member_id.size, 0)] = 0;
    }
    if (a->error_code == KE_MEMBER_ID_REQUIRED) {
        member_move(m, MEMBER_JOIN, 1);
        return;
    }
    if (member_error(m, "JoinGroup", a->error_code))
        return;
    if (!group_joined(m->group, m->floor, a->generation_id, text))
        run_fail(m->run, "%s", text);
    m->generation = a->generation_id;
    m->cells = 0;
    m->seen_count = 0;
    bool leads = a->leader.size == (int32_t)strlen(m->id) &&
                 memcmp(a->leader.data, m->id, strlen(m->id)) == 0;
    if (leads && !a->skip_assignment)
        member_assign(m, a);
    member_move(m, MEMBER_SYNC, 1);
}

static void member_synced(struct member *m, const struct sync_group_response *a)
{
    char text[GROUP_TEXT_MAX];
    if (member_error(m, "SyncGroup", a->error_code))
        return;
    m->cells = 0;
    for (int32_t i = 0; i < a->assignment.size; i++) {
        uint8_t cell = ((const uint8_t *)a->assignment.data)[i];
        if (cell >= m->group->cells_count) {
            run_fail(m->run, "%s: an assignment that nobody made", m->group->id);
            return;
        }
        m->cells |= 1ull << cell;
        m->next[cell] = -1;
    }
    if (!group_synced(m->group, m->index, m->generation, m->cells, text))
        run_fail(m->run, "%s", text);
    member_move(m, MEMBER_LOOK, 1);
}

static void member_committed(struct member *m, const struct offset_commit_response *a, uint64_t tag)
{
    struct run *r = m->run;
    char text[GROUP_TEXT_MAX];
    int16_t error = KE_NONE;
    m->committing = false;
    for (int32_t t = 0; t < a->topics_count; t++) {
        for (int32_t i = 0; i < a->topics[t].partitions_count; i++) {
            const struct offset_commit_response_partition *p = &a->topics[t].partitions[i];
            uint32_t topic = 0;
            while (topic < r->options.topics &&
                   (a->topics[t].name.size != (int32_t)strlen(r->topics[topic].name) ||
                    memcmp(a->topics[t].name.data, r->topics[topic].name,
                           strlen(r->topics[topic].name)) != 0))
                topic++;
            if (topic == r->options.topics || p->partition_index < 0 ||
                p->partition_index >= (int32_t)r->topics[topic].partitions_count) {
                run_fail(r, "a commit of a partition that was not asked");
                return;
            }
            uint32_t cell = cell_of(r, topic, (uint32_t)p->partition_index);
            error = p->error_code != KE_NONE ? p->error_code : error;
            if (p->error_code != KE_NONE)
                continue;
            if (tag == COMMIT_HAVING_LEFT && m->left_start == r->node.starts)
                run_fail(r, "%s: a commit of a member that had left was accepted", m->group->id);
            if (!group_committed(m->group, cell, m->next[cell], commit_generation(m, tag), m->floor,
                                 text))
                run_fail(r, "%s", text);
        }
    }
    if (tag == COMMIT_HAVING_LEFT) {
        member_forget(m);
        member_move(m, MEMBER_JOIN, m->session_ms * NS_PER_MS / 2);
        return;
    }
    if (tag == COMMIT_LATE) {
        member_later(m, m->think_ns);
        return;
    }
    if (error == KE_UNKNOWN_TOPIC_OR_PARTITION)
        error = KE_COORDINATOR_NOT_AVAILABLE; /* the metadata is being loaded */
    m->commits_well += error == KE_NONE && r->phase != PHASE_HARM;
    if (!member_error(m, "OffsetCommit", error))
        member_later(m, m->think_ns);
}

static bool member_saw(struct member *m, struct wire_string topic, int32_t partition,
                       int64_t offset)
{
    struct run *r = m->run;
    char text[GROUP_TEXT_MAX];
    for (uint32_t c = 0; c < m->group->cells_count; c++) {
        uint32_t at;
        const char *name = r->topics[cell_topic(r, c, &at)].name;
        if ((int32_t)at != partition || topic.size != (int32_t)strlen(name) ||
            memcmp(topic.data, name, strlen(name)) != 0)
            continue;
        if (!group_fetched(m->group, c, m->floors[c], offset, text))
            run_fail(r, "%s", text);
        if (m->state == MEMBER_LOOK)
            m->next[c] = MAX(offset, 0);
        return true;
    }
    run_fail(r, "offsets of a partition that was not asked");
    return false;
}

static void member_looked(struct member *m, const struct offset_fetch_response *a)
{
    struct run *r = m->run;
    const struct offset_fetch_response_group *g = a->groups_count > 0 ? a->groups : NULL;
    int16_t error = g != NULL ? g->error_code : a->error_code;
    if (member_error(m, "OffsetFetch", error))
        return;
    for (int32_t t = 0; t < a->topics_count && !r->failed; t++) {
        for (int32_t i = 0; i < a->topics[t].partitions_count && !r->failed; i++)
            (void)member_saw(m, a->topics[t].name, a->topics[t].partitions[i].partition_index,
                             a->topics[t].partitions[i].committed_offset);
    }
    for (int32_t t = 0; g != NULL && t < g->topics_count && !r->failed; t++) {
        for (int32_t i = 0; i < g->topics[t].partitions_count && !r->failed; i++)
            (void)member_saw(m, g->topics[t].name, g->topics[t].partitions[i].partition_index,
                             g->topics[t].partitions[i].committed_offset);
    }
    m->looked_start = r->node.starts;
    member_move(m, MEMBER_STABLE, m->think_ns);
}

static void member_left(struct member *m, const struct leave_group_response *a)
{
    int16_t error = a->error_code;
    if (error == KE_NONE && a->members_count > 0)
        error = a->members[0].error_code;
    if (member_error(m, "LeaveGroup", error))
        return;
    m->left_start = m->run->node.starts;
    if (m->cells != 0 && chance_one_in(m->run->chance, 2)) {
        member_commit(m, COMMIT_HAVING_LEFT);
        return;
    }
    member_forget(m);
    member_move(m, MEMBER_JOIN, m->session_ms * NS_PER_MS / 2);
}

#define MEMBER_DECODE(name, version)                                                               \
    struct name##_response a;                                                                      \
    bool read = name##_response_decode(&a, body, version, &arena) == 0;                            \
    if (!read)                                                                                     \
    run_broken(m->run, "member", "an unreadable " #name " response")

static void member_answered(struct link *l, const struct link_request *q, struct wire_reader *body)
{
    struct member *m = l->owner;
    const struct member_versions *v = &versions[m->era];
    struct arena arena;
    arena_init(&arena, &m->run->mem, ANSWER_LIMIT);
    if (q->api_key == API_FIND_COORDINATOR) {
        MEMBER_DECODE(find_coordinator, FIND_VERSION);
        if (read)
            member_found(m, &a);
    } else if (q->api_key == API_JOIN_GROUP) {
        MEMBER_DECODE(join_group, v->join);
        if (read)
            member_joined(m, &a);
    } else if (q->api_key == API_SYNC_GROUP) {
        MEMBER_DECODE(sync_group, v->sync);
        if (read)
            member_synced(m, &a);
    } else if (q->api_key == API_HEARTBEAT) {
        MEMBER_DECODE(heartbeat, v->heartbeat);
        if (read && !member_error(m, "Heartbeat", a.error_code))
            member_later(m, m->think_ns);
    } else if (q->api_key == API_LEAVE_GROUP) {
        MEMBER_DECODE(leave_group, v->leave);
        if (read)
            member_left(m, &a);
    } else if (q->api_key == API_OFFSET_COMMIT) {
        MEMBER_DECODE(offset_commit, v->commit);
        if (read)
            member_committed(m, &a, q->tag);
    } else {
        MEMBER_DECODE(offset_fetch, v->fetch);
        if (read)
            member_looked(m, &a);
    }
    arena_release(&arena);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void member_up(struct link *l)
{
    struct member *m = l->owner;
    member_move(m, MEMBER_FIND, 1);
}

static void member_down(struct link *l)
{
    struct member *m = l->owner;
    sim_unplan(m->run->sim, &m->act);
    /* Nobody numbers commits: one that is still under way on the old connection may come after a
     * later one on the next. As somebody new it has no later ones under this generation. */
    if (m->committing)
        member_forget(m);
    m->committing = false;
}

static void member_broken(struct link *l, const char *why)
{
    struct member *m = l->owner;
    run_broken(m->run, "member", why);
}

void member_start(struct member *m, struct run *r, uint32_t index)
{
    struct chance *c = r->chance;
    *m = (struct member){.run = r, .index = index, .generation = -1, .seen_count = 0};
    m->group = &r->groups[index % r->options.groups];
    m->era = (uint32_t)chance_below(c, sizeof(versions) / sizeof(versions[0]));
    m->session_ms = (uint32_t)chance_between(c, 200, 1500);
    m->think_ns = MIN((uint64_t)m->session_ms * NS_PER_MS / 8, 50 * NS_PER_MS);
    if (m->era > 0 && chance_one_in(c, 3))
        (void)snprintf(m->instance, sizeof(m->instance), "instance-%u", index);
    m->link = (struct link){.sim = r->sim,
                            .mem = &r->mem,
                            .to = r->machine,
                            .port = SIM_NODE_PORT,
                            .timeout_ns = 30 * NS_PER_S,
                            .owner = m,
                            .up = member_up,
                            .down = member_down,
                            .answered = member_answered,
                            .broken = member_broken};
    link_start(&m->link);
}

void member_stop(struct member *m)
{
    sim_unplan(m->run->sim, &m->act);
    link_stop(&m->link);
}

bool member_done(const struct member *m)
{
    const struct run *r = m->run;
    uint64_t owned = 0;
    for (uint32_t i = 0; i < r->options.members; i++) {
        const struct member *other = &r->members[i];
        if (other->group == m->group && other->generation == m->group->synced)
            owned |= other->cells;
    }
    return m->state == MEMBER_STABLE && m->generation == m->group->synced &&
           m->looked_start == r->node.starts && (m->cells == 0 || m->commits_well > 0) &&
           owned == (1ull << m->group->cells_count) - 1;
}
