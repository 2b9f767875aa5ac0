/* Fetch sessions: what a request's session fields mean, and what an incremental answer carries. */
#include "broker/api/fetch_session.h"
#include "broker/data_core.h"

#include <criterion/criterion.h>

static void sink(void *context, const char *line, size_t size)
{
    (void)context;
    (void)line;
    (void)size;
}

/* A core with just what sessions need. */
struct rig {
    struct io_world *world;
    struct data_core core;
    struct broker_config config;
    int64_t wall;
};

static void rig_open(struct rig *r, int32_t slots)
{
    char why[256];
    memset(r, 0, sizeof(*r));
    core_enter((struct core_id){0});
    cr_assert_eq(io_world_start(&r->world, 1, why, sizeof(why)), 0, "%s", why);
    cr_assert_eq(mem_init(&r->core.mem, 16 << 20), 0);
    trace_init(&r->core.trace, sink, NULL, &r->wall);
    struct io_config io = {.world = r->world, .mem = &r->core.mem, .trace = &r->core.trace};
    cr_assert_eq(io_start(&r->core.io, &io, why, sizeof(why)), 0, "%s", why);
    r->config.max_incremental_fetch_session_cache_slots = slots;
    r->core.config = &r->config;
    r->core.cores_count = 1;
    cr_assert_eq(fetch_sessions_init(&r->core.sessions, &r->core), 0);
}

static void rig_close(struct rig *r)
{
    fetch_sessions_free(r->core.sessions);
    io_stop(r->core.io);
    cr_expect_eq(r->core.mem.used_bytes, 0, "leaked %lu", (unsigned long)r->core.mem.used_bytes);
    mem_destroy(&r->core.mem);
    io_world_stop(r->world);
    core_leave();
}

static struct fetch_request_fetch_partition asked[4];
static struct fetch_request_fetch_topic topic;

static struct fetch_request request(int32_t id, int32_t epoch, int32_t partitions)
{
    struct fetch_request r;
    fetch_request_init(&r);
    r.session_id = id;
    r.session_epoch = epoch;
    for (int32_t i = 0; i < partitions; i++) {
        fetch_request_fetch_partition_init(&asked[i]);
        asked[i].partition = i;
        asked[i].fetch_offset = 10 * i;
        asked[i].partition_max_bytes = 1000;
    }
    fetch_request_fetch_topic_init(&topic);
    topic.topic = wire_string_of("orders");
    topic.partitions = asked;
    topic.partitions_count = partitions;
    r.topics = &topic;
    r.topics_count = partitions > 0 ? 1 : 0;
    return r;
}

static struct fetch_response_partition_data told(int64_t high_watermark)
{
    struct fetch_response_partition_data d;
    fetch_response_partition_data_init(&d);
    d.high_watermark = high_watermark;
    d.log_start_offset = 0;
    return d;
}

static struct fetch_session *session_of(struct rig *r, int32_t partitions)
{
    struct fetch_request full = request(0, 0, partitions);
    struct fetch_context c;
    cr_assert_eq(fetch_context_begin(r->core.sessions, &c, &full, 12), KE_NONE);
    cr_assert_eq(c.kind, FETCH_FULL);
    struct fetch_session *s = fetch_session_create(r->core.sessions, false, (uint32_t)partitions);
    struct fetch_response_partition_data d = told(5);
    for (int32_t i = 0; s != NULL && i < partitions; i++)
        cr_assert(fetch_session_add(r->core.sessions, s, &topic, &asked[i], &d));
    return s;
}

Test(fetch_session, needs_no_memory_for_epoch_minus_one)
{
    struct rig r;
    rig_open(&r, 10);
    struct fetch_request full = request(0, -1, 2);
    struct fetch_context c;
    cr_expect_eq(fetch_context_begin(r.core.sessions, &c, &full, 12), KE_NONE);
    cr_expect_eq(c.kind, FETCH_SESSIONLESS);
    cr_expect_null(c.session);
    rig_close(&r);
}

Test(fetch_session, refuses_ids_and_epochs_that_are_not_the_next)
{
    struct rig r;
    rig_open(&r, 10);
    struct fetch_session *s = session_of(&r, 2);
    struct fetch_context c;
    struct fetch_request q = request(s->id == 77 ? 78 : 77, 1, 0);
    cr_expect_eq(fetch_context_begin(r.core.sessions, &c, &q, 12), KE_FETCH_SESSION_ID_NOT_FOUND);
    q = request(s->id, 2, 0);
    cr_expect_eq(fetch_context_begin(r.core.sessions, &c, &q, 12), KE_INVALID_FETCH_SESSION_EPOCH);
    q = request(s->id, 1, 0);
    cr_expect_eq(fetch_context_begin(r.core.sessions, &c, &q, 13), KE_FETCH_SESSION_TOPIC_ID_ERROR);
    cr_expect_eq(fetch_context_begin(r.core.sessions, &c, &q, 12), KE_NONE);
    cr_expect_eq(c.kind, FETCH_INCREMENTAL);
    cr_expect_eq(s->epoch, 2);
    fetch_context_end(r.core.sessions, &c);
    rig_close(&r);
}

Test(fetch_session, wraps_its_epoch_to_one)
{
    struct rig r;
    rig_open(&r, 10);
    struct fetch_session *s = session_of(&r, 1);
    struct fetch_context c;
    s->epoch = INT32_MAX;
    struct fetch_request q = request(s->id, INT32_MAX, 0);
    cr_expect_eq(fetch_context_begin(r.core.sessions, &c, &q, 12), KE_NONE);
    cr_expect_eq(s->epoch, 1);
    fetch_context_end(r.core.sessions, &c);
    rig_close(&r);
}

Test(fetch_session, tells_only_what_is_new_and_rotates_what_had_records)
{
    struct rig r;
    rig_open(&r, 10);
    struct fetch_session *s = session_of(&r, 2);
    struct fetch_partition *first =
        container_of(list_first(&s->partitions), struct fetch_partition, link);
    struct fetch_response_partition_data d = told(5);
    cr_expect_eq(first->partition, 0);
    cr_expect_not(fetch_partition_tells(s, first, &d, 0));
    d = told(6);
    cr_expect(fetch_partition_tells(s, first, &d, 0), "a new high watermark");
    cr_expect_not(fetch_partition_tells(s, first, &d, 0), "but only once");
    cr_expect(fetch_partition_tells(s, first, &d, 100), "records");
    struct fetch_partition *now =
        container_of(list_first(&s->partitions), struct fetch_partition, link);
    cr_expect_eq(now->partition, 1, "the one with records went to the end");
    d.error_code = KE_KAFKA_STORAGE_ERROR;
    cr_expect(fetch_partition_tells(s, first, &d, 0), "an error");
    d.error_code = KE_NONE;
    cr_expect(fetch_partition_tells(s, first, &d, 0), "and that it is over");
    rig_close(&r);
}

Test(fetch_session, forgets_and_learns_partitions_and_ends_when_empty)
{
    struct rig r;
    rig_open(&r, 10);
    struct fetch_session *s = session_of(&r, 2);
    int32_t forgotten[] = {0, 1};
    struct fetch_request_forgotten_topic f;
    struct fetch_context c;
    fetch_request_forgotten_topic_init(&f);
    f.topic = wire_string_of("orders");
    f.partitions = forgotten;
    f.partitions_count = 1;
    struct fetch_request q = request(s->id, 1, 0);
    q.forgotten_topics_data = &f;
    q.forgotten_topics_data_count = 1;
    cr_expect_eq(fetch_context_begin(r.core.sessions, &c, &q, 12), KE_NONE);
    cr_expect_eq(c.session->by_key.count, 1);
    fetch_context_end(r.core.sessions, &c);
    q.session_epoch = 2;
    f.partitions_count = 2;
    cr_expect_eq(fetch_context_begin(r.core.sessions, &c, &q, 12), KE_NONE);
    cr_expect_eq(c.kind, FETCH_SESSIONLESS, "nothing is left to remember");
    cr_expect_eq(r.core.sessions->by_id.count, 0);
    rig_close(&r);
}

Test(fetch_session, survives_its_removal_while_a_flow_works_with_it)
{
    struct rig r;
    rig_open(&r, 10);
    struct fetch_session *s = session_of(&r, 2);
    struct fetch_context c, other;
    struct fetch_request q = request(s->id, 1, 0);
    cr_expect_eq(fetch_context_begin(r.core.sessions, &c, &q, 12), KE_NONE);
    struct fetch_request close = request(s->id, -1, 0);
    cr_expect_eq(fetch_context_begin(r.core.sessions, &other, &close, 12), KE_NONE);
    cr_expect_eq(r.core.sessions->by_id.count, 0);
    cr_expect_eq(c.session->by_key.count, 2, "still whole for its flow");
    fetch_context_end(r.core.sessions, &c);
    rig_close(&r);
}

Test(fetch_session, gives_no_slot_when_all_are_taken_by_larger_and_recent_ones)
{
    struct rig r;
    rig_open(&r, 1);
    cr_assert_not_null(session_of(&r, 2));
    cr_expect_null(session_of(&r, 1), "smaller");
    cr_expect_null(session_of(&r, 2), "as large");
    cr_expect_not_null(session_of(&r, 3), "larger ones push smaller ones out");
    cr_expect_eq(r.core.sessions->by_id.count, 1);
    cr_expect_eq(r.core.sessions->evicted, 1);
    rig_close(&r);
}
