/* Offsets of a mover: it commits what it has, a little further each time, and sees what is
 * committed of what it gets; now and then it commits what is not its any more, as who it was when
 * it was, or in an epoch that has not come, which must be refused. */
#include "tests/sim/mover_priv.h"

static int16_t commit_version(const struct mover *m, bool consumer)
{
    if (!consumer)
        return mover_versions(m)->commit;
    return m->era > 1 ? 10 : 9;
}

static int16_t fetch_version(const struct mover *m)
{
    if (!m->consumer)
        return 8;
    return m->era > 1 ? 10 : 9;
}

/* ---- commits --------------------------------------------------------------------------------- */

static uint64_t late_cells(const struct mover *m)
{
    const struct mover_past *p = &m->past;
    uint64_t cells = 0;
    /* Who gives up and stays in its epoch may commit whatever it likes. */
    if (strcmp(p->id, m->id) == 0 ? m->epoch <= p->epoch : p->given_back)
        return 0;
    for (uint32_t c = 0; p->epoch > 0 && c < m->group->cells_count; c++) {
        if (((p->cells & ~m->owned) >> c & 1) != 0 &&
            group_taken_since(m->group, m->index, c, p->stamps[c]))
            cells |= 1ull << c;
    }
    return cells;
}

bool mover_is_late(const struct mover *m)
{
    return late_cells(m) != 0;
}

/* Somebody else has got, for certain, something that it believes is still its. */
static bool mover_is_behind(const struct mover *m)
{
    const struct group_holder *own = &m->group->holders[m->index];
    bool behind = false;
    for (uint32_t c = 0; c < m->group->cells_count; c++)
        behind |= (m->owned >> c & 1) != 0 && m->next[c] >= 0 &&
                  group_taken_since(m->group, m->index, c, own->stamps[c]);
    return behind && m->doubt_start != m->run->node.starts;
}

/* The offset to commit of a cell; -1: none. */
static int64_t next_of(struct mover *m, uint32_t cell, enum mover_commit how)
{
    if (how == MOVER_COMMITS && m->next[cell] < 0)
        return -1;
    if (how == MOVER_COMMITS)
        m->next[cell] += (int64_t)chance_between(m->run->chance, 1, 3);
    return how == MOVER_COMMITS ? m->next[cell] : 0; /* if it is taken, it goes back */
}

void mover_commit(struct mover *m, enum mover_commit how)
{
    struct run *r = m->run;
    const struct mixed *x = &r->mixed;
    bool late = how == MOVER_COMMITS_LATE;
    struct offset_commit_request q;
    struct offset_commit_request_topic topics[MIXED_TOPICS_MAX];
    struct offset_commit_request_partition parts[MIXED_TOPICS_MAX][PARTITIONS_MAX];
    uint64_t cells = late ? late_cells(m) : m->owned;
    offset_commit_request_init(&q);
    q.group_id = mover_text(m->group->id);
    q.generation_id_or_member_epoch =
        late ? m->past.epoch : m->epoch + (how == MOVER_COMMITS_AHEAD);
    q.member_id = mover_text(late ? m->past.id : m->id);
    q.group_instance_id = mover_instance(m);
    q.topics = topics;
    for (uint32_t t = 0; t < x->topics_count; t++) {
        struct offset_commit_request_topic *topic = &topics[q.topics_count];
        offset_commit_request_topic_init(topic);
        topic->name = mover_text(x->topics[t].name);
        topic->topic_id = x->topics[t].id;
        topic->partitions = parts[t];
        for (uint32_t i = 0; i < x->topics[t].partitions; i++) {
            uint32_t cell = x->topics[t].first + i;
            int64_t next = (cells >> cell & 1) != 0 ? next_of(m, cell, how) : -1;
            if (next < 0)
                continue;
            group_commit_sent(m->group, cell, next);
            struct offset_commit_request_partition *p = &parts[t][topic->partitions_count++];
            offset_commit_request_partition_init(p);
            p->partition_index = (int32_t)i;
            p->committed_offset = next;
            p->committed_metadata = mover_text("sim");
        }
        q.topics_count += topic->partitions_count > 0;
    }
    m->must_fail = how != MOVER_COMMITS || mover_is_behind(m);
    m->committing = true;
    LINK_ASK(&m->link, &q, offset_commit, API_OFFSET_COMMIT,
             commit_version(m, late ? m->past.consumer : m->consumer), (uint64_t)how, true);
}

/* The worst of an answer's errors; what was accepted is known from now on. */
static int16_t commit_errors(struct mover *m, const struct offset_commit_response *a, uint64_t tag)
{
    static const char *const ways[] = {"behind", "late", "ahead"};
    struct run *r = m->run;
    const struct mixed *x = &r->mixed;
    char text[GROUP_TEXT_MAX];
    int16_t error = KE_NONE;
    for (int32_t i = 0; i < a->topics_count && !r->failed; i++) {
        const struct offset_commit_response_topic *topic = &a->topics[i];
        bool named = topic->name.size > 0;
        uint32_t t = mixed_topic_find(x, named ? topic->name : (struct wire_string){NULL, -1},
                                      topic->topic_id);
        for (int32_t k = 0; k < topic->partitions_count && !r->failed; k++) {
            const struct offset_commit_response_partition *p = &topic->partitions[k];
            if (t == x->topics_count || (uint32_t)p->partition_index >= x->topics[t].partitions) {
                run_fail(r, "a commit of a partition that was not asked");
                return KE_NONE;
            }
            uint32_t cell = x->topics[t].first + (uint32_t)p->partition_index;
            if (p->error_code != KE_NONE)
                error = p->error_code;
            else if (m->must_fail)
                run_fail(
                    r, "%s: mover %u, %s, epoch %d, may not commit cell %u and did (%s, %u has it)",
                    m->group->id, m->index, m->id, m->epoch, cell, ways[tag],
                    m->group->cells[cell].taker);
            else if (!group_committed(m->group, cell, m->next[cell], 0, 0, text))
                run_fail(r, "%s", text);
        }
    }
    return error;
}

void mover_committed(struct mover *m, const struct offset_commit_response *a, uint64_t tag)
{
    struct run *r = m->run;
    m->committing = false;
    int16_t error = commit_errors(m, a, tag);
    if (tag != MOVER_COMMITS) {
        if (tag == MOVER_COMMITS_LATE)
            m->past.epoch = chance_one_in(r->chance, 2) ? 0 : m->past.epoch;
        mover_later(m, m->think_ns);
        return;
    }
    if (error == KE_UNKNOWN_TOPIC_OR_PARTITION || error == KE_UNKNOWN_TOPIC_ID)
        error = KE_COORDINATOR_NOT_AVAILABLE; /* the metadata is being loaded */
    m->commits_well += error == KE_NONE && r->phase != PHASE_HARM;
    if (!mover_error(m, "OffsetCommit", error))
        mover_later(m, m->think_ns);
}

/* ---- fetches --------------------------------------------------------------------------------- */

void mover_look(struct mover *m)
{
    const struct mixed *x = &m->run->mixed;
    struct offset_fetch_request q;
    struct offset_fetch_request_group group;
    struct offset_fetch_request_topics topics[MIXED_TOPICS_MAX];
    int32_t indexes[PARTITIONS_MAX];
    offset_fetch_request_init(&q);
    offset_fetch_request_group_init(&group);
    for (uint32_t i = 0; i < PARTITIONS_MAX; i++)
        indexes[i] = (int32_t)i;
    for (uint32_t t = 0; t < x->topics_count; t++) {
        struct offset_fetch_request_topics *topic = &topics[group.topics_count];
        offset_fetch_request_topics_init(topic);
        topic->name = mover_text(x->topics[t].name);
        topic->topic_id = x->topics[t].id;
        topic->partition_indexes = indexes;
        topic->partition_indexes_count = (int32_t)x->topics[t].partitions;
        group.topics_count += x->topics[t].known && x->topics[t].partitions > 0;
    }
    group.group_id = mover_text(m->group->id);
    if (m->consumer) {
        group.member_id = mover_text(m->id);
        group.member_epoch = m->epoch;
    }
    group.topics = topics;
    q.groups = &group;
    q.groups_count = 1;
    for (uint32_t c = 0; c < m->group->cells_count; c++)
        m->floors[c] = group_floor(m->group, c);
    LINK_ASK(&m->link, &q, offset_fetch, API_OFFSET_FETCH, fetch_version(m), 0, true);
}

/* KE_NONE, or what is wrong with a topic: its id is not known yet. */
static int16_t looked_topic(struct mover *m, const struct offset_fetch_response_topics *topic)
{
    struct run *r = m->run;
    const struct mixed *x = &r->mixed;
    char text[GROUP_TEXT_MAX];
    int16_t error = KE_NONE;
    uint32_t t = mixed_topic_find(
        x, topic->name.size > 0 ? topic->name : (struct wire_string){NULL, -1}, topic->topic_id);
    for (int32_t i = 0; i < topic->partitions_count && !r->failed; i++) {
        const struct offset_fetch_response_partitions *p = &topic->partitions[i];
        if (t == x->topics_count || (uint32_t)p->partition_index >= x->topics[t].partitions) {
            run_fail(r, "offsets of a partition that was not asked");
            return KE_NONE;
        }
        uint32_t cell = x->topics[t].first + (uint32_t)p->partition_index;
        if (p->error_code != KE_NONE) {
            error = p->error_code;
            continue;
        }
        if (!group_fetched(m->group, cell, m->floors[cell], p->committed_offset, text))
            run_fail(r, "%s", text);
        if (m->state == MOVER_LOOK && m->next[cell] < 0)
            m->next[cell] = MAX(p->committed_offset, 0);
    }
    return error;
}

void mover_looked(struct mover *m, const struct offset_fetch_response *a)
{
    int16_t error = a->groups_count == 1 ? a->groups[0].error_code : a->error_code;
    for (int32_t i = 0; error == KE_NONE && i < a->groups[0].topics_count; i++)
        error = looked_topic(m, &a->groups[0].topics[i]);
    if (error == KE_UNKNOWN_TOPIC_OR_PARTITION || error == KE_UNKNOWN_TOPIC_ID)
        error = KE_COORDINATOR_NOT_AVAILABLE; /* the metadata is being loaded */
    if (mover_error(m, "OffsetFetch", error))
        return;
    m->looked_start = m->run->node.starts;
    mover_move(m, MOVER_STABLE, m->think_ns);
}
