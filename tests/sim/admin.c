/* The client that makes the topics: CreateTopics until each is there, then Metadata for their ids.
 * Whatever is refused for a while, or lost with the connection, is asked again. */
#include "tests/sim/run.h"

#include <stdio.h>
#include <string.h>

#include "proto/error.h"
#include "proto/gen/api.h"
#include "proto/gen/create_topics.h"
#include "proto/gen/metadata.h"

#define CREATE_VERSION   7
#define METADATA_VERSION 12
#define PAUSE_NS         (50 * NS_PER_MS)
#define ANSWER_LIMIT     (64u << 20)

static struct wire_string text_of(const char *s)
{
    return (struct wire_string){s, (int32_t)strlen(s)};
}

static void admin_create(struct admin *a)
{
    struct run *r = a->run;
    struct create_topics_request_creatable_topic topics[TOPICS_MAX];
    struct create_topics_request_creatable_topic_config configs[4];
    char segment_ms[16], interval[16];
    uint32_t configs_count = 0;
    for (uint32_t i = 0; i < 4; i++)
        create_topics_request_creatable_topic_config_init(&configs[i]);
    (void)snprintf(segment_ms, sizeof(segment_ms), "%u", r->options.segment_ms);
    (void)snprintf(interval, sizeof(interval), "%u", r->options.index_interval);
    configs[configs_count].name = text_of("index.interval.bytes");
    configs[configs_count++].value = text_of(interval);
    if (r->options.segment_ms > 0) {
        configs[configs_count].name = text_of("segment.ms");
        configs[configs_count++].value = text_of(segment_ms);
    }
    configs[configs_count].name = text_of("flush.ms"); /* these two are for the first topic */
    configs[configs_count].value = text_of("300");
    configs[configs_count + 1].name = text_of("write.caching");
    configs[configs_count + 1].value = text_of("true");
    for (uint32_t i = 0; i < r->options.topics; i++) {
        create_topics_request_creatable_topic_init(&topics[i]);
        topics[i].name = text_of(r->topics[i].name);
        topics[i].num_partitions = (int32_t)r->topics[i].partitions_count;
        topics[i].replication_factor = 1;
        topics[i].configs = configs;
        topics[i].configs_count =
            (int32_t)(configs_count + (i == 0 && r->options.swarm.cached ? 2 : 0));
    }
    struct create_topics_request m;
    create_topics_request_init(&m);
    m.topics = topics;
    m.topics_count = (int32_t)r->options.topics;
    m.timeout_ms = 5000;
    LINK_ASK(&a->link, &m, create_topics, API_CREATE_TOPICS, CREATE_VERSION, 0, true);
}

static void admin_look(struct admin *a)
{
    struct run *r = a->run;
    struct metadata_request_topic topics[TOPICS_MAX];
    for (uint32_t i = 0; i < r->options.topics; i++) {
        metadata_request_topic_init(&topics[i]);
        topics[i].name = text_of(r->topics[i].name);
    }
    struct metadata_request m;
    metadata_request_init(&m);
    m.topics = topics;
    m.topics_count = (int32_t)r->options.topics;
    m.allow_auto_topic_creation = false;
    LINK_ASK(&a->link, &m, metadata, API_METADATA, METADATA_VERSION, 0, true);
}

static void admin_paused(struct sim_event *e)
{
    struct admin *a = container_of(e, struct admin, pause);
    if (a->link.is_up && a->link.requests_count == 0)
        admin_create(a);
}

static void admin_later(struct admin *a)
{
    sim_plan(a->run->sim, &a->pause, sim_now_ns(a->run->sim) + PAUSE_NS, admin_paused);
}

/* Disks as they are, or were in the start before: its last answers may still be under way. */
static bool admin_excuses_disk(const struct run *r)
{
    return ((r->faulted | r->faulted_before) & 1) != 0 || r->full || r->full_before;
}

static void admin_created(struct admin *a, struct wire_reader *body, struct arena *arena)
{
    struct create_topics_response m;
    if (create_topics_response_decode(&m, body, CREATE_VERSION, arena) != 0) {
        run_broken(a->run, "admin", "an unreadable CreateTopics response");
        return;
    }
    for (int32_t i = 0; i < m.topics_count; i++) {
        int16_t error = m.topics[i].error_code;
        if (error == KE_NONE || error == KE_TOPIC_ALREADY_EXISTS)
            continue;
        /* The replication factor cannot be had while the broker is fenced: it is starting. */
        if (error != KE_REQUEST_TIMED_OUT && error != KE_NOT_CONTROLLER &&
            error != KE_BROKER_NOT_AVAILABLE && error != KE_COORDINATOR_NOT_AVAILABLE &&
            error != KE_INVALID_REPLICATION_FACTOR &&
            !(error == KE_KAFKA_STORAGE_ERROR && admin_excuses_disk(a->run)))
            run_fail(a->run, "CreateTopics: error %d: %.*s", error,
                     (int)MAX(m.topics[i].error_message.size, 0), m.topics[i].error_message.data);
        admin_later(a);
        return;
    }
    admin_look(a);
}

static void admin_looked(struct admin *a, struct wire_reader *body, struct arena *arena)
{
    struct run *r = a->run;
    struct metadata_response m;
    if (metadata_response_decode(&m, body, METADATA_VERSION, arena) != 0) {
        run_broken(r, "admin", "an unreadable Metadata response");
        return;
    }
    uint32_t found = 0;
    for (int32_t i = 0; i < m.topics_count; i++) {
        for (uint32_t t = 0; t < r->options.topics; t++) {
            struct topic *topic = &r->topics[t];
            if (m.topics[i].error_code != KE_NONE ||
                (size_t)m.topics[i].name.size != strlen(topic->name) ||
                memcmp(m.topics[i].name.data, topic->name, strlen(topic->name)) != 0)
                continue;
            found += m.topics[i].partitions_count == (int32_t)topic->partitions_count;
            topic->id = m.topics[i].topic_id;
        }
    }
    a->created = found == r->options.topics;
    if (!a->created)
        admin_later(a);
}

static void admin_answered(struct link *l, const struct link_request *q, struct wire_reader *body)
{
    struct admin *a = l->owner;
    struct arena arena;
    arena_init(&arena, &a->run->mem, ANSWER_LIMIT);
    if (q->api_key == API_CREATE_TOPICS)
        admin_created(a, body, &arena);
    else
        admin_looked(a, body, &arena);
    arena_release(&arena);
}

static void admin_up(struct link *l)
{
    struct admin *a = l->owner;
    if (!a->created)
        admin_create(a);
}

static void admin_down(struct link *l)
{
    struct admin *a = l->owner;
    sim_unplan(a->run->sim, &a->pause);
}

static void admin_broken(struct link *l, const char *why)
{
    struct admin *a = l->owner;
    run_broken(a->run, "admin", why);
}

void admin_start(struct admin *a, struct run *r)
{
    *a = (struct admin){.run = r};
    a->link = (struct link){.sim = r->sim,
                            .mem = &r->mem,
                            .to = r->machine,
                            .port = SIM_NODE_PORT,
                            .timeout_ns = 20 * NS_PER_S,
                            .owner = a,
                            .up = admin_up,
                            .down = admin_down,
                            .answered = admin_answered,
                            .broken = admin_broken};
    link_start(&a->link);
}

void admin_stop(struct admin *a)
{
    sim_unplan(a->run->sim, &a->pause);
    link_stop(&a->link);
}
