/* The founder learns the ids of topics, makes some that were not there at the beginning, and gives
 * them more partitions, so that patterns come to stand for something else and groups have more to
 * share.
 *
 *   CreateTopics (one partition) ─▶ Metadata ─▶ CreatePartitions ─▶ Metadata ─▶ the next topic */
#include "tests/sim/run.h"

#include <string.h>

#include "proto/error.h"
#include "proto/gen/api.h"
#include "proto/gen/create_partitions.h"
#include "proto/gen/create_topics.h"
#include "proto/gen/metadata.h"

#define CREATE_VERSION   7
#define MORE_VERSION     3
#define METADATA_VERSION 12
#define REST_NS          (1500 * NS_PER_MS) /* between two of its deeds */
#define PAUSE_NS         (50 * NS_PER_MS)
#define ANSWER_LIMIT     (64u << 20)

static void founder_act(struct sim_event *e);

static void founder_later(struct founder *f, uint64_t mean_ns)
{
    struct run *r = f->run;
    sim_plan(r->sim, &f->act, sim_now_ns(r->sim) + 1 + chance_around(r->chance, mean_ns),
             founder_act);
}

/* What is not there yet, or not whole. NULL: nothing. */
static struct mixed_topic *founder_next(struct founder *f)
{
    struct mixed *x = &f->run->mixed;
    for (uint32_t t = 0; t < x->topics_count; t++) {
        if (!x->topics[t].known || x->topics[t].partitions < x->topics[t].partitions_wanted)
            return &x->topics[t];
    }
    return NULL;
}

static void founder_create(struct founder *f, const struct mixed_topic *t)
{
    struct create_topics_request q;
    struct create_topics_request_creatable_topic topic;
    create_topics_request_init(&q);
    create_topics_request_creatable_topic_init(&topic);
    topic.name = wire_string_of(t->name);
    topic.num_partitions = 1;
    topic.replication_factor = 1;
    q.topics = &topic;
    q.topics_count = 1;
    q.timeout_ms = 5000;
    LINK_ASK(&f->link, &q, create_topics, API_CREATE_TOPICS, CREATE_VERSION, 0, true);
}

static void founder_grow(struct founder *f, const struct mixed_topic *t)
{
    struct create_partitions_request q;
    struct create_partitions_request_create_partitions_topic topic;
    create_partitions_request_init(&q);
    create_partitions_request_create_partitions_topic_init(&topic);
    topic.name = wire_string_of(t->name);
    topic.count = (int32_t)t->partitions_wanted;
    topic.assignments_count = -1; /* the controller chooses */
    q.topics = &topic;
    q.topics_count = 1;
    q.timeout_ms = 5000;
    LINK_ASK(&f->link, &q, create_partitions, API_CREATE_PARTITIONS, MORE_VERSION, 0, true);
}

static void founder_look(struct founder *f, const struct mixed_topic *t)
{
    struct metadata_request q;
    struct metadata_request_topic topic;
    metadata_request_init(&q);
    metadata_request_topic_init(&topic);
    topic.name = wire_string_of(t->name);
    q.topics = &topic;
    q.topics_count = 1;
    q.allow_auto_topic_creation = false;
    LINK_ASK(&f->link, &q, metadata, API_METADATA, METADATA_VERSION, 0, true);
}

static void founder_act(struct sim_event *e)
{
    struct founder *f = container_of(e, struct founder, act);
    const struct mixed_topic *t = founder_next(f);
    if (!f->link.is_up || f->link.requests_count > 0 || t == NULL)
        return;
    if (!f->run->admin.created)
        founder_later(f, PAUSE_NS);
    else if (f->looking || !t->late)
        founder_look(f, t);
    else if (t->partitions == 0)
        founder_create(f, t);
    else
        founder_grow(f, t);
}

/* Whatever the answer: what is there is looked for. */
static void founder_did(struct founder *f)
{
    f->looking = true;
    founder_later(f, PAUSE_NS);
}

static void founder_looked(struct founder *f, const struct metadata_response *a)
{
    struct mixed *x = &f->run->mixed;
    f->looking = false;
    for (int32_t i = 0; i < a->topics_count; i++) {
        uint32_t t = mixed_topic_find(x, a->topics[i].name, (struct uuid){{0}});
        if (t == x->topics_count || a->topics[i].error_code != KE_NONE)
            continue;
        x->topics[t].id = a->topics[i].topic_id;
        x->topics[t].known = true;
        x->topics[t].partitions =
            MAX(x->topics[t].partitions, (uint32_t)a->topics[i].partitions_count);
    }
    const struct mixed_topic *next = founder_next(f);
    if (next != NULL)
        founder_later(f, next->late && f->run->phase == PHASE_HARM ? REST_NS : PAUSE_NS);
}

static void founder_answered(struct link *l, const struct link_request *q, struct wire_reader *body)
{
    struct founder *f = l->owner;
    struct metadata_response a;
    struct arena arena;
    arena_init(&arena, &f->run->mem, ANSWER_LIMIT);
    if (q->api_key != API_METADATA)
        founder_did(f);
    else if (metadata_response_decode(&a, body, METADATA_VERSION, &arena) != 0)
        run_broken(f->run, "founder", "an unreadable Metadata response");
    else
        founder_looked(f, &a);
    arena_release(&arena);
}

static void founder_up(struct link *l)
{
    founder_later(l->owner, PAUSE_NS);
}

static void founder_down(struct link *l)
{
    struct founder *f = l->owner;
    f->looking = true; /* what was asked may have been done */
    sim_unplan(f->run->sim, &f->act);
}

static void founder_broken(struct link *l, const char *why)
{
    struct founder *f = l->owner;
    run_broken(f->run, "founder", why);
}

void founder_start(struct founder *f, struct run *r)
{
    *f = (struct founder){.run = r};
    f->link = (struct link){.sim = r->sim,
                            .mem = &r->mem,
                            .to = r->machine,
                            .port = SIM_NODE_PORT,
                            .timeout_ns = 20 * NS_PER_S,
                            .owner = f,
                            .up = founder_up,
                            .down = founder_down,
                            .answered = founder_answered,
                            .broken = founder_broken};
    link_start(&f->link);
}

void founder_stop(struct founder *f)
{
    sim_unplan(f->run->sim, &f->act);
    link_stop(&f->link);
}
