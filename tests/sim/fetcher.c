/* A consumer without a group: fetches some partitions from where it is, with or without a fetch
 * session, and tells the model each batch and watermark it is given. It goes back now and then, so
 * that old bytes are read again from where they are by then. A walker reads everything once, from
 * the beginning, and says what it met in order.
 *
 * What must hold of every answer: batches whole and dense, the first one holding the offset asked
 * for, all below the watermark; the watermark at or above all that was known when it was asked. */
#include "tests/sim/run.h"

#include <string.h>

#include "proto/error.h"
#include "proto/gen/api.h"
#include "proto/gen/fetch.h"

#define ANSWER_LIMIT (64u << 20)
#define THINK_NS     (5 * NS_PER_MS)

/* ---- asking ---------------------------------------------------------------------------------- */

static bool fetcher_wants(const struct fetcher *f, uint32_t t, uint32_t i)
{
    const struct fetch_position *at = &f->at[t][i];
    bool again = !f->sessions || f->session_id == 0 || at->changed;
    return at->wanted && !(f->walks && at->walked) && again;
}

static void fetcher_fill(struct fetcher *f, struct fetch_request *m,
                         struct fetch_request_fetch_topic *topics,
                         struct fetch_request_fetch_partition (*parts)[PARTITIONS_MAX])
{
    struct run *r = f->run;
    for (uint32_t t = 0; t < r->options.topics; t++) {
        struct fetch_request_fetch_topic *topic = &topics[m->topics_count];
        fetch_request_fetch_topic_init(topic);
        topic->topic = (struct wire_string){r->topics[t].name, (int32_t)strlen(r->topics[t].name)};
        topic->topic_id = r->topics[t].id;
        topic->partitions = parts[t];
        for (uint32_t i = 0; i < r->topics[t].partitions_count; i++) {
            struct fetch_position *at = &f->at[t][i];
            at->floor = model_floor(&r->topics[t].partitions[i]);
            if (!fetcher_wants(f, t, i))
                continue;
            struct fetch_request_fetch_partition *part = &parts[t][topic->partitions_count++];
            fetch_request_fetch_partition_init(part);
            part->partition = (int32_t)i;
            part->fetch_offset = at->offset;
            part->partition_max_bytes = (int32_t)f->partition_max_bytes;
            at->changed = false;
        }
        m->topics_count += topic->partitions_count > 0;
    }
}

static void fetcher_ask(struct fetcher *f)
{
    struct fetch_request_fetch_topic topics[TOPICS_MAX];
    struct fetch_request_fetch_partition parts[TOPICS_MAX][PARTITIONS_MAX];
    struct fetch_request m;
    fetch_request_init(&m);
    m.cluster_id = (struct wire_string){NULL, -1};
    m.rack_id = (struct wire_string){"", 0};
    m.max_wait_ms = (int32_t)f->max_wait_ms;
    m.min_bytes = 1;
    m.max_bytes = (int32_t)f->max_bytes;
    m.topics = topics;
    m.session_id = f->sessions ? f->session_id : 0;
    m.session_epoch = f->sessions ? f->session_epoch : -1;
    fetcher_fill(f, &m, topics, parts);
    LINK_ASK(&f->link, &m, fetch, API_FETCH, f->version, 0, true);
}

static void fetcher_thought(struct sim_event *e)
{
    struct fetcher *f = container_of(e, struct fetcher, think);
    if (!f->link.is_up || f->link.requests_count > 0)
        return;
    if (!f->run->admin.created)
        sim_plan(f->run->sim, &f->think, sim_now_ns(f->run->sim) + THINK_NS, fetcher_thought);
    else if (!f->walks || !fetcher_done(f))
        fetcher_ask(f);
}

static void fetcher_think(struct fetcher *f)
{
    struct run *r = f->run;
    uint64_t after = 1 + chance_around(r->chance, f->walks ? 1 : THINK_NS);
    sim_plan(r->sim, &f->think, sim_now_ns(r->sim) + after, fetcher_thought);
}

static void fetcher_forget_session(struct fetcher *f)
{
    f->session_id = f->session_epoch = 0;
}

/* What was asked may not have come: all is told again. */
static void fetcher_doubt(struct fetcher *f)
{
    for (uint32_t t = 0; t < TOPICS_MAX; t++) {
        for (uint32_t i = 0; i < PARTITIONS_MAX; i++)
            f->at[t][i].changed = true;
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

static bool batch_fits(struct fetcher *f, const struct fetch_position *at, bool first,
                       const struct batch_header *h, int64_t next, int64_t watermark)
{
    int64_t last = batch_last_offset(h);
    if (h->last_offset_delta != h->record_count - 1)
        run_fail(f->run, "fetched a batch of %d records with last delta %d", h->record_count,
                 h->last_offset_delta);
    else if (first && (h->base_offset > at->offset || last < at->offset))
        run_fail(f->run, "asked for offset %lld, got %lld to %lld", (long long)at->offset,
                 (long long)h->base_offset, (long long)last);
    else if (!first && h->base_offset != next)
        run_fail(f->run, "fetched offset %lld behind %lld: not dense", (long long)h->base_offset,
                 (long long)next - 1);
    else if (last >= watermark)
        run_fail(f->run, "fetched offset %lld above the watermark %lld", (long long)last,
                 (long long)watermark);
    return !f->run->failed;
}

static void fetcher_records(struct fetcher *f, struct fetch_position *at,
                            struct model_partition *known,
                            const struct fetch_response_partition_data *d)
{
    struct batch_iter it;
    struct batch_header h;
    const uint8_t *batch;
    char text[MODEL_TEXT_MAX];
    int64_t next = at->offset;
    bool first = true;
    batch_iter_init(&it, d->records.data, (size_t)MAX(d->records.size, 0));
    while (batch_next(&it, &batch, &h)) {
        if (!batch_fits(f, at, first, &h, next, d->high_watermark))
            return;
        if (!model_seen(known, batch, &h, text) ||
            (f->walks && !model_walk(known, batch, &h, text))) {
            run_fail(f->run, "%s: %s", f->walks ? "at the end" : "fetched", text);
            return;
        }
        next = batch_last_offset(&h) + 1;
        first = false;
        f->batches++;
    }
    if (it.stopped != BATCH_WHOLE && it.stopped != BATCH_PARTIAL)
        run_fail(f->run, "fetched a malformed batch behind offset %lld", (long long)next - 1);
    at->changed = next != at->offset;
    at->offset = next;
}

static void fetcher_partition(struct fetcher *f, uint32_t t,
                              const struct fetch_response_partition_data *d)
{
    struct run *r = f->run;
    char text[MODEL_TEXT_MAX];
    if (d->partition_index < 0 || d->partition_index >= (int32_t)r->topics[t].partitions_count) {
        run_fail(r, "fetched partition %d, which there is not", d->partition_index);
        return;
    }
    struct fetch_position *at = &f->at[t][d->partition_index];
    struct model_partition *known = &r->topics[t].partitions[d->partition_index];
    if (d->error_code != KE_NONE) {
        bool passes = d->error_code == KE_UNKNOWN_TOPIC_OR_PARTITION ||
                      d->error_code == KE_NOT_LEADER_OR_FOLLOWER ||
                      d->error_code == KE_UNKNOWN_TOPIC_ID ||
                      d->error_code == KE_LEADER_NOT_AVAILABLE ||
                      (d->error_code == KE_KAFKA_STORAGE_ERROR &&
                       run_may_be_offline(r, t, (uint32_t)d->partition_index)) ||
                      (d->error_code == KE_CORRUPT_MESSAGE && run_may_be_unreadable(r));
        if (!passes)
            run_fail(r, "fetch of %s-%d at %lld: error %d", known->topic, known->index,
                     (long long)at->offset, d->error_code);
        at->changed = true;
        return;
    }
    if (!model_watermark(known, at->floor, d->high_watermark, text)) {
        run_fail(r, "%s", text);
        return;
    }
    fetcher_records(f, at, known, d);
    if (!f->walks || r->failed || at->offset < d->high_watermark)
        return;
    at->walked = true;
    if (!model_walk_end(known, d->high_watermark, text))
        run_fail(r, "at the end: %s", text);
}

static int32_t fetcher_topic(struct fetcher *f,
                             const struct fetch_response_fetchable_topic_response *topic)
{
    for (uint32_t t = 0; t < f->run->options.topics; t++) {
        const struct topic *mine = &f->run->topics[t];
        if (f->version >= 13 ? uuid_equal(mine->id, topic->topic_id)
                             : (size_t)topic->topic.size == strlen(mine->name) &&
                                   memcmp(topic->topic.data, mine->name, strlen(mine->name)) == 0)
            return (int32_t)t;
    }
    return -1;
}

static void fetcher_take(struct fetcher *f, const struct fetch_response *m)
{
    struct run *r = f->run;
    if (m->error_code == KE_FETCH_SESSION_ID_NOT_FOUND ||
        m->error_code == KE_INVALID_FETCH_SESSION_EPOCH ||
        m->error_code == KE_FETCH_SESSION_TOPIC_ID_ERROR) {
        fetcher_forget_session(f);
        return;
    }
    if (m->error_code != KE_NONE) {
        run_fail(r, "fetch: error %d", m->error_code);
        return;
    }
    if (f->sessions) {
        f->session_id = m->session_id;
        f->session_epoch = m->session_id == 0 ? 0 : f->session_epoch + 1;
    }
    for (int32_t i = 0; i < m->responses_count && !r->failed; i++) {
        int32_t t = fetcher_topic(f, &m->responses[i]);
        if (t < 0)
            run_fail(r, "fetched a topic that was not asked for");
        for (int32_t j = 0; t >= 0 && j < m->responses[i].partitions_count && !r->failed; j++)
            fetcher_partition(f, (uint32_t)t, &m->responses[i].partitions[j]);
    }
}

/* Goes back to some offset that was there. */
static void fetcher_wander(struct fetcher *f)
{
    struct run *r = f->run;
    uint32_t t = (uint32_t)chance_below(r->chance, r->options.topics);
    uint32_t i = (uint32_t)chance_below(r->chance, r->topics[t].partitions_count);
    struct fetch_position *at = &f->at[t][i];
    bool goes = chance_one_in(r->chance, 10);
    int64_t to = (int64_t)chance_between(r->chance, 0, (uint64_t)at->offset);
    if (!goes || !at->wanted)
        return;
    at->offset = to;
    at->changed = true;
}

static void fetcher_answered(struct link *l, const struct link_request *q, struct wire_reader *body)
{
    struct fetcher *f = l->owner;
    struct fetch_response m;
    struct arena arena;
    (void)q;
    arena_init(&arena, &f->run->mem, ANSWER_LIMIT);
    if (fetch_response_decode(&m, body, f->version, &arena) != 0)
        run_broken(f->run, "fetcher", "an unreadable Fetch response");
    else
        fetcher_take(f, &m);
    arena_release(&arena);
    if (f->wanders && f->run->phase == PHASE_HARM)
        fetcher_wander(f);
    fetcher_think(f);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void fetcher_up(struct link *l)
{
    struct fetcher *f = l->owner;
    if (!f->run->options.swarm.keeps_sessions || f->walks)
        fetcher_forget_session(f);
    fetcher_think(f);
}

static void fetcher_down(struct link *l)
{
    struct fetcher *f = l->owner;
    fetcher_doubt(f);
    sim_unplan(f->run->sim, &f->think);
}

static void fetcher_broken(struct link *l, const char *why)
{
    struct fetcher *f = l->owner;
    run_broken(f->run, "fetcher", why);
}

void fetcher_start(struct fetcher *f, struct run *r, uint32_t index, bool walks)
{
    static const uint32_t sizes[] = {1, 1000, 65536, 4u << 20};
    struct chance *c = r->chance;
    *f = (struct fetcher){.run = r, .index = index, .walks = walks};
    f->version = (int16_t)chance_between(c, 4, 17);
    f->sessions = !walks && f->version >= 7 && chance_one_in(c, 2);
    f->wanders = !walks && chance_one_in(c, 2);
    f->max_bytes = walks ? 8u << 20 : sizes[chance_below(c, 4)];
    f->partition_max_bytes = walks ? 1u << 20 : sizes[chance_below(c, 4)];
    f->max_wait_ms = walks ? 0 : (uint32_t)chance_between(c, 0, 500);
    bool all = walks || chance_one_in(c, 2);
    for (uint32_t t = 0; t < r->options.topics; t++) {
        for (uint32_t i = 0; i < r->topics[t].partitions_count; i++) {
            f->at[t][i].wanted = all || chance_one_in(c, 2);
            if (walks)
                model_walk_begin(&r->topics[t].partitions[i]);
        }
    }
    f->at[0][0].wanted = true;
    f->link = (struct link){.sim = r->sim,
                            .mem = &r->mem,
                            .to = r->machine,
                            .port = SIM_NODE_PORT,
                            .timeout_ns = 30 * NS_PER_S,
                            .owner = f,
                            .up = fetcher_up,
                            .down = fetcher_down,
                            .answered = fetcher_answered,
                            .broken = fetcher_broken};
    link_start(&f->link);
}

void fetcher_stop(struct fetcher *f)
{
    sim_unplan(f->run->sim, &f->think);
    link_stop(&f->link);
}

bool fetcher_done(const struct fetcher *f)
{
    for (uint32_t t = 0; t < f->run->options.topics; t++) {
        for (uint32_t i = 0; i < f->run->topics[t].partitions_count; i++) {
            const struct fetch_position *at = &f->at[t][i];
            int64_t known = model_floor(&f->run->topics[t].partitions[i]);
            if (at->wanted && (f->walks ? !at->walked : at->offset < known))
                return false;
        }
    }
    return true;
}
