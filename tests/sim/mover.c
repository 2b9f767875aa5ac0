/* A mover: a member of a group that speaks the classic protocol or that of KIP-848, and goes from
 * the one to the other, one request at a time.
 *
 *   FIND ─▶ JOIN ─▶ (classic: SYNC) ─▶ LOOK (what is committed of what it has got) ─▶ STABLE ─┐
 *     ▲      ▲                          ▲                            heartbeat, commit, look │
 *     │      └── lost its place, fenced └── got something ◀─────────────────────────────────┘
 *     └── not the coordinator
 *
 * While harm is done it misbehaves: it leaves, dies and comes back under its own or another name,
 * stalls until its session must be over and goes on as if nothing had been, does not give up what
 * it should, commits as who it was before, subscribes to something else, and changes the protocol.
 * Afterwards it takes the protocol that is drawn for it, and its group must become stable.
 *
 * What it may count on. A request of it that was answered well was served after it was sent, so
 * until the shorter of its time-outs has passed since then nobody can have put it out: it holds
 * what it was told. The time-outs begin at the time of the serving core's clock, which is when its
 * turn began. None of this counts
 *
 *   - while an older request of it, on a connection that broke, may still arrive: till the node's
 *     next start
 *   - for a classic heartbeat, until it has looked in this start of the node: while the group loads
 *     heartbeats are answered well whoever sends them, as Kafka does; offsets are not
 *   - for a classic sync, and for a join that tells a generation which it may be in already: of a
 *     stable group they are answered without that the session begins anew, as by Kafka (a sync that
 *     ends the round begins it, but whose was that?). So from a sync on it counts on what its join
 *     has begun, else on its heartbeats
 *   - for a cooperative classic member, from its join until its sync is answered: see mover_join */
#include "tests/sim/mover_priv.h"

#include <stdio.h>

#include "proto/gen/find_coordinator.h"
#include "proto/gen/heartbeat.h"

#define ANSWER_LIMIT (16u << 20)
#define FIND_VERSION 3

static const struct mover_versions versions[MOVER_ERAS] = {
    {4, 1, 1, 2, 0, 6}, {5, 3, 3, 3, 1, 7}, {9, 5, 4, 5, 1, 9}};

static void mover_act(struct sim_event *e);

struct wire_string mover_text(const char *s)
{
    return (struct wire_string){s, (int32_t)strlen(s)};
}

struct wire_string mover_instance(const struct mover *m)
{
    return m->instance[0] != 0 ? mover_text(m->instance) : (struct wire_string){NULL, -1};
}

const struct mover_versions *mover_versions(const struct mover *m)
{
    return &versions[m->era];
}

void mover_later(struct mover *m, uint64_t mean_ns)
{
    struct run *r = m->run;
    sim_plan(r->sim, &m->act, sim_now_ns(r->sim) + 1 + chance_around(r->chance, mean_ns),
             mover_act);
}

void mover_move(struct mover *m, enum mover_state state, uint64_t after_ns)
{
    m->state = state;
    mover_later(m, after_ns);
}

uint32_t mover_subscribed(const struct mover *m)
{
    return mixed_subscribed(&m->run->mixed, m->topics, m->consumer ? m->pattern : 0);
}

/* ---- what it has ----------------------------------------------------------------------------- */

static bool mover_doubts(const struct mover *m)
{
    return m->doubt_start == m->run->node.starts;
}

void mover_owns(struct mover *m, uint64_t cells, bool clean)
{
    struct run *r = m->run;
    char text[GROUP_TEXT_MAX];
    uint32_t session_ms = m->consumer ? r->mixed.options.session_ms : m->session_ms;
    uint64_t until = m->since_ns + (uint64_t)MIN(session_ms, m->rebalance_ms) * NS_PER_MS;
    for (uint32_t c = 0; c < m->group->cells_count; c++) {
        if ((cells & ~m->owned) >> c & 1)
            m->next[c] = -1;
    }
    m->owned = cells;
    m->epoch_told = m->epoch;
    if (!group_holds(m->group, m->index, cells, sim_now_ns(r->sim),
                     clean && !mover_doubts(m) ? until : 0, text))
        run_fail(r, "%s", text);
}

void mover_gives_up(struct mover *m, uint64_t cells, bool remember)
{
    struct group_model *g = m->group;
    cells &= m->owned;
    uint64_t subscribed = mixed_cells(&m->run->mixed, mover_subscribed(m));
    if (remember && (cells & subscribed) != 0 && m->epoch > 0) {
        struct mover_past *p = &m->past;
        *p = (struct mover_past){.consumer = m->consumer, .epoch = m->epoch_told};
        p->given_back = cells != m->owned;
        memcpy(p->id, m->id, sizeof(p->id));
        p->cells = cells & subscribed;
        memcpy(p->stamps, g->holders[m->index].stamps, sizeof(p->stamps));
    }
    m->owned &= ~cells;
    group_gives_up(g, m->index, cells);
}

void mover_forget(struct mover *m, bool anew)
{
    mover_gives_up(m, m->owned, true);
    m->epoch = 0;
    m->told = m->said = 0;
    m->seen_count = 0;
    m->full = true;
    group_doubts(m->group, m->index);
    if (!anew && m->id[0] != 0)
        return;
    m->id[0] = 0;
    if (m->consumer && versions[m->era].beat > 0)
        (void)snprintf(m->id, sizeof(m->id), "mover-%u-%u", m->index, m->names++);
}

void mover_epoch(struct mover *m, int32_t epoch, bool joined)
{
    struct run *r = m->run;
    bool surely = m->consumer || m->group->holders[m->index].until_ns > sim_now_ns(r->sim);
    if (epoch <= 0 || (!joined && epoch < m->epoch && surely))
        run_fail(r, "%s: mover %u is told epoch %d after %d", m->group->id, m->index, epoch,
                 m->epoch);
    bool others = m->floor > 0 && m->group->holders[m->floor_of].until_ns > sim_now_ns(r->sim);
    if (joined && others && epoch < m->floor)
        run_fail(r, "%s: mover %u joined in epoch %d, after %d", m->group->id, m->index, epoch,
                 m->floor);
    m->group->joins += joined;
    if (epoch < m->epoch) /* it was put out, and let in again under the same name */
        mover_forget(m, false);
    m->epoch = epoch;
}

/* Before it joins: what others have been told. */
static void mover_look_round(struct mover *m)
{
    const struct run *r = m->run;
    m->floor = 0;
    for (uint32_t i = 0; i < r->mixed.options.movers; i++) {
        const struct mover *other = &r->mixed.movers[i];
        if (i == m->index || other->group != m->group || other->epoch <= m->floor ||
            m->group->holders[i].until_ns <= m->sent_ns)
            continue;
        m->floor = other->epoch;
        m->floor_of = i;
    }
}

/* ---- what it does next ----------------------------------------------------------------------- */

static void mover_find(struct mover *m)
{
    struct find_coordinator_request q;
    find_coordinator_request_init(&q);
    q.key = mover_text(m->group->id);
    LINK_ASK(&m->link, &q, find_coordinator, API_FIND_COORDINATOR, FIND_VERSION, 0, true);
}

/* Leaves in order; afterwards it speaks as consumer_next says. */
static void mover_goes(struct mover *m, bool consumer_next)
{
    bool returns = m->consumer && m->instance[0] != 0 && chance_one_in(m->run->chance, 2);
    m->consumer_next = consumer_next;
    m->leaving = m->asking = true;
    mover_gives_up(m, m->owned, true);
    group_doubts(m->group, m->index);
    if (m->consumer)
        mover_beat_leave(m, returns ? -2 : -1);
    else
        mover_leave(m);
}

/* Takes the protocol; it is no member. */
static void mover_turn(struct mover *m, bool consumer)
{
    m->moves += m->consumer != consumer;
    bool other = m->consumer != consumer;
    m->consumer = consumer;
    mover_forget(m, other || m->id[0] == 0 || chance_one_in(m->run->chance, 2));
}

static void mover_dies(struct mover *m)
{
    mover_turn(m, m->consumer ^ chance_one_in(m->run->chance, 4));
    m->state = MOVER_FIND;
    link_break(&m->link);
}

static void mover_subscribes(struct mover *m)
{
    struct chance *c = m->run->chance;
    uint32_t all = (1u << m->run->mixed.topics_count) - 1;
    m->topics = chance_one_in(c, 2) ? all : (uint32_t)chance_between(c, 1, all);
    m->pattern = 0;
    if (versions[m->era].beat > 0 && chance_one_in(c, 3))
        m->pattern = (uint32_t)chance_between(c, 1, 4);
    if (m->pattern > 0 && chance_one_in(c, 2))
        m->topics = 0;
    m->assignor = (uint32_t)chance_below(c, 3);
}

/* Something that no good member does. False: not now. */
static bool mover_misbehave(struct mover *m)
{
    struct run *r = m->run;
    if (r->phase != PHASE_HARM)
        return false;
    if (mover_is_late(m) && chance_one_in(r->chance, 4)) {
        mover_commit(m, MOVER_COMMITS_LATE);
        return true;
    }
    switch (chance_below(r->chance, 40)) {
    case 0:
        mover_goes(m, m->consumer ^ chance_one_in(r->chance, 2));
        return true;
    case 1: /* and then goes on as it was */
        sim_plan(r->sim, &m->act,
                 sim_now_ns(r->sim) +
                     2 * NS_PER_MS * (m->consumer ? r->mixed.options.session_ms : m->session_ms),
                 mover_act);
        return true;
    case 2:
        mover_dies(m);
        return true;
    case 3:
        if (!m->consumer || m->full || m->owned == 0 || mover_doubts(m))
            return false;
        mover_commit(m, MOVER_COMMITS_AHEAD);
        return true;
    case 4:
    case 5:
        mover_subscribes(m);
        m->full = true;
        if (!m->consumer)
            mover_move(m, MOVER_JOIN, 1);
        return !m->consumer;
    case 6:
        m->lags = (uint32_t)chance_between(r->chance, 1, 60);
        return false;
    case 7:
        m->full = true;
        return false;
    default:
        return false;
    }
}

/* In the end each speaks what was drawn for it. */
static bool mover_must_turn(const struct mover *m)
{
    return m->run->phase != PHASE_HARM && m->consumer != m->consumer_at_last;
}

static bool mover_gives_back(struct mover *m)
{
    struct run *r = m->run;
    uint64_t lost = m->consumer ? m->owned & ~m->told : 0;
    if (lost == 0)
        return false;
    if (m->lags > 0 && r->phase == PHASE_HARM) {
        m->lags--;
        return false;
    }
    if (chance_one_in(r->chance, 3))
        return false; /* it may commit first */
    mover_gives_up(m, lost, true);
    return true;
}

static void mover_stable(struct mover *m)
{
    struct run *r = m->run;
    if (mover_must_turn(m)) {
        mover_goes(m, m->consumer_at_last);
        return;
    }
    if (mover_misbehave(m))
        return;
    if (!m->consumer && m->offered != mixed_cells(&r->mixed, m->topics)) {
        mover_move(m, MOVER_JOIN, 1); /* there is more to share */
        return;
    }
    uint64_t what = mover_gives_back(m) || m->full ? 7 : chance_below(r->chance, 8);
    if (what < 4 && (m->looked_start != r->node.starts || what == 0))
        mover_look(m);
    else if (what < 4)
        mover_commit(m, MOVER_COMMITS);
    else if (m->consumer)
        mover_beat(m);
    else
        mover_heartbeat(m);
}

static void mover_enter(struct mover *m)
{
    if (mover_must_turn(m) && m->epoch == 0)
        mover_turn(m, m->consumer_at_last);
    mover_look_round(m);
    if (m->consumer)
        mover_beat(m);
    else
        mover_join(m);
}

static void mover_act(struct sim_event *e)
{
    struct mover *m = container_of(e, struct mover, act);
    struct run *r = m->run;
    if (!m->link.is_up || m->link.requests_count > 0)
        return;
    if (!r->admin.created) {
        mover_later(m, MOVER_PAUSE_NS);
        return;
    }
    m->sent_ns = sim_now_ns(r->sim);
    m->since_ns = sim_clock_ns(r->machine);
    switch (m->state) {
    case MOVER_FIND:
        mover_find(m);
        break;
    case MOVER_JOIN:
        mover_enter(m);
        break;
    case MOVER_SYNC:
        mover_sync(m);
        break;
    case MOVER_LOOK:
        mover_look(m);
        break;
    case MOVER_STABLE:
        mover_stable(m);
        break;
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

/* The group is of the other kind, and may not be converted. */
static void mover_refused(struct mover *m)
{
    struct run *r = m->run;
    bool turns = r->phase == PHASE_HARM && chance_one_in(r->chance, 4);
    if (m->epoch > 0)
        mover_forget(m, false);
    else if (turns)
        mover_turn(m, !m->consumer);
    mover_move(m, MOVER_JOIN, MOVER_PAUSE_NS);
}

bool mover_error(struct mover *m, const char *what, int16_t error)
{
    m->group->refused += error != KE_NONE;
    if (m->run->view->verbose)
        (void)fprintf(stderr, "[%9.6f] mover %u %s epoch %d owns %#llx: %s: %d\n",
                      (double)sim_now_ns(m->run->sim) / 1e9, m->index, m->id, m->epoch,
                      (unsigned long long)m->owned, what, error);
    switch ((enum kafka_error)error) {
    case KE_NONE:
        return false;
    case KE_COORDINATOR_LOAD_IN_PROGRESS:
    case KE_COORDINATOR_NOT_AVAILABLE:
    case KE_NOT_COORDINATOR:
    case KE_REQUEST_TIMED_OUT:
    case KE_BROKER_NOT_AVAILABLE:
        mover_move(m, MOVER_FIND, MOVER_PAUSE_NS);
        return true;
    case KE_REBALANCE_IN_PROGRESS:
        mover_move(m, MOVER_JOIN, 1);
        return true;
    case KE_FENCED_MEMBER_EPOCH:
    case KE_UNKNOWN_MEMBER_ID:
    case KE_ILLEGAL_GENERATION:
        m->fences += error == KE_FENCED_MEMBER_EPOCH;
        mover_forget(m, !m->consumer && error == KE_UNKNOWN_MEMBER_ID);
        mover_move(m, MOVER_JOIN, 1);
        return true;
    case KE_FENCED_INSTANCE_ID:
        mover_forget(m, true);
        mover_move(m, MOVER_JOIN, 1);
        return true;
    case KE_UNRELEASED_INSTANCE_ID: /* its former self is still there */
        mover_move(m, MOVER_JOIN, m->run->mixed.options.session_ms * NS_PER_MS / 2);
        return true;
    case KE_STALE_MEMBER_EPOCH: /* a heartbeat tells it the new one */
        m->full = true;
        mover_move(m, MOVER_STABLE, 1);
        return true;
    case KE_GROUP_ID_NOT_FOUND:
    case KE_INCONSISTENT_GROUP_PROTOCOL:
        mover_refused(m);
        return true;
    default:
        run_fail(m->run, "%s of %s: error %d", what, m->group->id, error);
        return true;
    }
}

static void mover_found(struct mover *m, const struct find_coordinator_response *a)
{
    if (a->error_code == KE_INVALID_REPLICATION_FACTOR || a->error_code == KE_KAFKA_STORAGE_ERROR)
        mover_move(m, MOVER_FIND, MOVER_PAUSE_NS); /* it is starting, or its disk is bad */
    else if (!mover_error(m, "FindCoordinator", a->error_code))
        mover_move(m, m->epoch == 0 ? MOVER_JOIN : MOVER_STABLE, 1);
}

/* What comes after it has left, answered or not. */
static void mover_gone(struct mover *m)
{
    m->leaving = false;
    mover_turn(m, m->consumer_next);
}

static void mover_done_leaving(struct mover *m, const char *what, int16_t error)
{
    m->asking = false;
    bool elsewhere = mover_error(m, what, error);
    mover_gone(m);
    if (!elsewhere)
        mover_move(m, MOVER_JOIN, m->session_ms * NS_PER_MS / 4);
}

static void mover_left(struct mover *m, const struct leave_group_response *a)
{
    int16_t error = a->error_code;
    if (error == KE_NONE && a->members_count > 0)
        error = a->members[0].error_code;
    mover_done_leaving(m, "LeaveGroup", error);
}

static void mover_alive(struct mover *m, int16_t error)
{
    m->asking = false;
    if (mover_error(m, "Heartbeat", error))
        return;
    m->full = false;
    mover_owns(m, m->owned, m->looked_start == m->run->node.starts);
    mover_later(m, m->think_ns);
}

#define MOVER_DECODE(name, version)                                                                \
    struct name##_response a;                                                                      \
    bool read = name##_response_decode(&a, body, version, &arena) == 0;                            \
    if (!read)                                                                                     \
    run_broken(m->run, "mover", "an unreadable " #name " response")

static void mover_answered_member(struct mover *m, const struct link_request *q,
                                  struct wire_reader *body)
{
    struct arena arena;
    arena_init(&arena, &m->run->mem, ANSWER_LIMIT);
    if (q->api_key == API_CONSUMER_GROUP_HEARTBEAT) {
        MOVER_DECODE(consumer_group_heartbeat, q->version);
        if (read && m->leaving)
            mover_done_leaving(m, "ConsumerGroupHeartbeat (leaving)", a.error_code);
        else if (read)
            mover_beaten(m, &a);
    } else if (q->api_key == API_JOIN_GROUP) {
        MOVER_DECODE(join_group, q->version);
        if (read)
            mover_joined(m, &a, &arena);
    } else if (q->api_key == API_SYNC_GROUP) {
        MOVER_DECODE(sync_group, q->version);
        if (read)
            mover_synced(m, &a, &arena);
    } else if (q->api_key == API_HEARTBEAT) {
        MOVER_DECODE(heartbeat, q->version);
        if (read)
            mover_alive(m, a.error_code);
    } else {
        MOVER_DECODE(leave_group, q->version);
        if (read)
            mover_left(m, &a);
    }
    arena_release(&arena);
}

static void mover_answered(struct link *l, const struct link_request *q, struct wire_reader *body)
{
    struct mover *m = l->owner;
    struct arena arena;
    arena_init(&arena, &m->run->mem, ANSWER_LIMIT);
    if (q->api_key == API_FIND_COORDINATOR) {
        MOVER_DECODE(find_coordinator, FIND_VERSION);
        if (read)
            mover_found(m, &a);
    } else if (q->api_key == API_OFFSET_COMMIT) {
        MOVER_DECODE(offset_commit, q->version);
        if (read)
            mover_committed(m, &a, q->tag);
    } else if (q->api_key == API_OFFSET_FETCH) {
        MOVER_DECODE(offset_fetch, q->version);
        if (read)
            mover_looked(m, &a);
    } else {
        mover_answered_member(m, q, body);
    }
    arena_release(&arena);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void mover_up(struct link *l)
{
    struct mover *m = l->owner;
    /* Nobody numbers commits: one that is still under way on the old connection may come after a
     * later one on the next. As somebody new it has no later ones in this epoch. */
    if (m->committing && mover_doubts(m))
        mover_forget(m, true);
    m->committing = false;
    mover_move(m, MOVER_FIND, 1);
}

static void mover_down(struct link *l)
{
    struct mover *m = l->owner;
    sim_unplan(m->run->sim, &m->act);
    if (m->asking || m->committing) {
        m->doubt_start = m->run->node.starts;
        group_doubts(m->group, m->index);
    }
    m->full = true;
    if (m->asking)
        m->heard = INT32_MAX;
    m->asking = false;
    if (m->leaving)
        mover_gone(m);
    else if (m->state == MOVER_SYNC) /* what it has in the new generation it was not told */
        mover_forget(m, false);
}

static void mover_broken(struct link *l, const char *why)
{
    struct mover *m = l->owner;
    run_broken(m->run, "mover", why);
}

void mover_start(struct mover *m, struct run *r, uint32_t index)
{
    struct chance *c = r->chance;
    *m = (struct mover){.run = r, .index = index, .doubt_start = UINT32_MAX, .full = true};
    m->group = &r->mixed.groups[index % r->mixed.options.groups];
    m->era = (uint32_t)chance_below(c, MOVER_ERAS);
    m->session_ms = (uint32_t)chance_between(c, 200, 1500);
    m->rebalance_ms = (uint32_t)chance_between(c, 200, 2000);
    m->think_ns = MIN((uint64_t)MIN(m->session_ms, r->mixed.options.session_ms) * NS_PER_MS / 8,
                      50 * NS_PER_MS);
    m->consumer = chance_one_in(c, 2);
    m->consumer_at_last = mixed_may_mix(&r->options.mixed)
                              ? chance_one_in(c, 2)
                              : ((r->plan->seed >> (index % r->mixed.options.groups)) & 1) != 0;
    if (m->era > 0 && chance_one_in(c, 3))
        (void)snprintf(m->instance, sizeof(m->instance), "instance-%u", index);
    mover_subscribes(m);
    mover_forget(m, true);
    m->link = (struct link){.sim = r->sim,
                            .mem = &r->mem,
                            .to = r->machine,
                            .port = SIM_NODE_PORT,
                            .timeout_ns = 30 * NS_PER_S,
                            .owner = m,
                            .up = mover_up,
                            .down = mover_down,
                            .answered = mover_answered,
                            .broken = mover_broken};
    link_start(&m->link);
}

void mover_stop(struct mover *m)
{
    sim_unplan(m->run->sim, &m->act);
    link_stop(&m->link);
}

bool mover_done(const struct mover *m)
{
    return m->state == MOVER_STABLE && m->epoch > 0 && m->consumer == m->consumer_at_last &&
           !m->full && m->looked_start == m->run->node.starts &&
           (m->owned == 0 || m->commits_well > 0) && (!m->consumer || m->owned == m->told);
}
