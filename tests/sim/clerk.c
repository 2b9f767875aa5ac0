/* The administrator: one request after the other, drawn from all errands, in a drawn version.
 *
 *   think ─▶ draw errand, desk, version, twist ─▶ ask ─▶ told: the model of the desk, or a failure
 *                                                   └─▶ the connection is lost: was it done or not?
 *
 * A desk whose change has no answer is forsaken: its topic is left as it is, and the desk goes on
 * under a new name. So what is known is certain. Between two good requests it sends one of junk now
 * and then, which must do nothing but be refused or answered. */
#include "tests/sim/run.h"

#include <stdio.h>

#include "broker/api/api.h"

#define THINK_NS     (15 * NS_PER_MS)
#define LAG_NS       (10 * NS_PER_S)
#define ANSWER_LIMIT (64u << 20)
#define FORSAKEN_MAX 24u /* then it stops: topics are not without end */
#define AGAIN        25u
#define ERRANDS_MAX  96u
#define JUNK_MAX     512u

static void clerk_acts(struct sim_event *e);

uint64_t clerk_below(struct clerk *c, uint64_t n)
{
    return chance_below(c->run->chance, n);
}

static void clerk_later(struct clerk *c)
{
    struct run *r = c->run;
    sim_plan(r->sim, &c->act, sim_now_ns(r->sim) + 1 + chance_around(r->chance, THINK_NS),
             clerk_acts);
}

static void desk_open(struct desk *d)
{
    uint32_t index = d->index, generation = d->generation;
    *d = (struct desk){.index = index, .generation = generation};
    (void)snprintf(d->name, sizeof(d->name), "desk-%u.%u", index, generation);
    for (uint32_t i = 0; i < DESK_PARTITIONS; i++)
        d->committed[i] = -1;
}

void desk_close(struct desk *d)
{
    d->generation += d->group != GROUP_NONE;
    desk_open(d);
}

static void desk_forsake(struct clerk *c)
{
    c->desk->generation++;
    c->forsaken++;
    desk_open(c->desk);
    if (c->forsaken >= FORSAKEN_MAX)
        c->left = 0;
}

/* ---- what an answer may be ------------------------------------------------------------------- */

bool clerk_lags(const struct clerk *c)
{
    const struct run *r = c->run;
    return r->phase == PHASE_HARM || sim_now_ns(r->sim) - c->desk->changed_ns < LAG_NS;
}

bool clerk_serves(const struct clerk *c)
{
    return c->run->phase != PHASE_HARM && c->ready && !c->run->stopping;
}

static bool clerk_excuses(const struct clerk *c, int16_t error)
{
    const struct run *r = c->run;
    bool disk = r->faulted != 0 || r->faulted_before != 0 || r->full || r->full_before;
    switch (error) {
    case KE_REQUEST_TIMED_OUT:
    case KE_NOT_CONTROLLER:
    case KE_BROKER_NOT_AVAILABLE:
    case KE_COORDINATOR_NOT_AVAILABLE:
    case KE_COORDINATOR_LOAD_IN_PROGRESS:
    case KE_NOT_COORDINATOR:
    case KE_LEADER_NOT_AVAILABLE:
    case KE_NOT_LEADER_OR_FOLLOWER:
    case KE_OFFSET_NOT_AVAILABLE:
        return true;
    case KE_INVALID_REPLICATION_FACTOR: /* the broker is fenced: it is starting */
        return c->errand->key == API_CREATE_TOPICS || c->errand->key == API_CREATE_PARTITIONS;
    case KE_INVALID_REPLICA_ASSIGNMENT:
        return c->errand->key == API_CREATE_TOPICS || c->errand->key == API_CREATE_PARTITIONS;
    case KE_KAFKA_STORAGE_ERROR:
    case KE_UNKNOWN_SERVER_ERROR:
        return disk;
    case KE_NONE:
    case KE_UNKNOWN_TOPIC_OR_PARTITION:
    case KE_UNKNOWN_TOPIC_ID:
        return !c->errand->changes && clerk_lags(c);
    default:
        return false;
    }
}

bool clerk_expect(struct clerk *c, int16_t error, int16_t wanted)
{
    if (error == wanted)
        return true;
    if (!clerk_excuses(c, error)) {
        run_fail(c->run, "clerk: api %d v%d twist %u on %s: error %d, not %d", c->errand->key,
                 c->version, c->twist, c->desk->name, error, wanted);
        return false;
    }
    c->excused++;
    if (c->errand->changes && error != KE_NONE)
        desk_forsake(c);
    return false;
}

bool clerk_check(struct clerk *c, bool holds, const char *what)
{
    if (!holds)
        run_fail(c->run, "clerk: api %d v%d twist %u on %s: %s", c->errand->key, c->version,
                 c->twist, c->desk->name, what);
    return holds;
}

int16_t clerk_wanted(const struct clerk *c)
{
    return c->desk->there ? KE_NONE : KE_UNKNOWN_TOPIC_OR_PARTITION;
}

void clerk_unreadable(struct clerk *c)
{
    (void)clerk_check(c, false, "an unreadable response");
}

/* ---- junk ------------------------------------------------------------------------------------ */

/* A header that is right, for a body that is not: bytes at random, or zeros, or nothing. */
static void junk_ask(struct clerk *c)
{
    uint32_t count = 0;
    const struct api *table = api_table(&count);
    const struct api *api =
        &table[1 + clerk_below(c, count - 1)]; /* not Produce: its acks may be 0 */
    struct wire_writer w;
    uint8_t junk[JUNK_MAX] = {0};
    uint32_t size = (uint32_t)clerk_below(c, JUNK_MAX);
    for (uint32_t i = 0; i < size && c->twist % 2 == 0; i++)
        junk[i] = (uint8_t)clerk_below(c, c->twist % 4 == 0 ? 256 : 3);
    int16_t version = MIN((int16_t)(api->min + (int16_t)clerk_below(c, 16)), api->max);
    c->version = version;
    link_begin(&c->link, &w, api->key, version, size);
    wire_put_raw(&w, junk, size);
    link_end(&c->link, &w, api->key, version, 0, true);
}

/* It was answered; what, nobody cares. */
static void junk_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    (void)c, (void)body, (void)arena;
}

static const struct errand junk = {API_PRODUCE, false, junk_ask, junk_told};

/* ---- one after the other --------------------------------------------------------------------- */

static const struct errand *errand_draw(struct clerk *c)
{
    const struct errand *all[ERRANDS_MAX];
    const struct errand *(*const kinds[])(uint32_t *) = {clerk_topics, clerk_logs, clerk_groups};
    uint32_t total = 0;
    for (uint32_t k = 0; k < 3; k++) {
        uint32_t count;
        const struct errand *list = kinds[k](&count);
        assert(total + count < ERRANDS_MAX);
        for (uint32_t i = 0; i < count; i++)
            all[total++] = &list[i];
    }
    all[total++] = &junk;
    return all[clerk_below(c, total)];
}

static void clerk_acts(struct sim_event *e)
{
    struct clerk *c = container_of(e, struct clerk, act);
    if (c->left > 0 && c->link.is_up && c->errand == NULL) {
        c->errand = errand_draw(c);
        const struct api *api = api_served(c->errand->key);
        assert(api != NULL);
        c->desk = &c->desks[clerk_below(c, DESKS)];
        c->twist = (uint32_t)clerk_below(c, 8);
        c->partition = c->desk->there ? (int32_t)clerk_below(c, (uint64_t)c->desk->partitions) : 0;
        c->version =
            (int16_t)(api->min + (int16_t)clerk_below(c, (uint64_t)(api->max - api->min + 1)));
        c->ready = c->run->node.ready;
        c->errand->ask(c);
    }
    clerk_later(c);
}

static void clerk_up(struct link *l)
{
    (void)l;
}

static void clerk_down(struct link *l)
{
    struct clerk *c = l->owner;
    if (c->errand != NULL && c->errand->changes)
        desk_forsake(c);
    c->errand = NULL;
}

static void clerk_answered(struct link *l, const struct link_request *q, struct wire_reader *body)
{
    struct clerk *c = l->owner;
    struct arena arena;
    (void)q;
    assert(c->errand != NULL);
    arena_init(&arena, &c->run->mem, ANSWER_LIMIT);
    c->errand->told(c, body, &arena);
    arena_release(&arena);
    c->errand = NULL;
    c->done++;
    c->left -= c->left > 0;
}

static void clerk_broken(struct link *l, const char *why)
{
    struct clerk *c = l->owner;
    run_broken(c->run, "clerk", why);
}

void clerk_start(struct clerk *c, struct run *r)
{
    *c = (struct clerk){.run = r, .left = r->options.errands};
    for (uint32_t i = 0; i < DESKS; i++) {
        c->desks[i].index = i;
        desk_open(&c->desks[i]);
    }
    c->link = (struct link){.sim = r->sim,
                            .mem = &r->mem,
                            .to = r->machine,
                            .port = SIM_NODE_PORT,
                            .timeout_ns = 20 * NS_PER_S,
                            .owner = c,
                            .up = clerk_up,
                            .down = clerk_down,
                            .answered = clerk_answered,
                            .broken = clerk_broken};
    link_start(&c->link);
    clerk_later(c);
}

void clerk_stop(struct clerk *c)
{
    sim_unplan(c->run->sim, &c->act);
    link_stop(&c->link);
}

void clerk_again(struct clerk *c)
{
    c->left = c->forsaken < FORSAKEN_MAX ? AGAIN : 0;
}

bool clerk_done(const struct clerk *c)
{
    return c->left == 0 && c->errand == NULL;
}
