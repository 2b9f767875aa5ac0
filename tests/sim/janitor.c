/* A topic that comes and goes: see janitor.h.
 *
 *   CREATE ─▶ LOOK ─▶ WORK: append, fetch, ask for offsets, delete records, change a setting,
 *     ▲        │              look at the setting, delete the topic
 *     └────────┴── the topic is not there      one request at a time, chosen by chance
 *
 * What must hold, whatever harm is done:
 *  1. A record tells which topic (by id) it was written to, where, and the how-manieth it is: none
 * is ever read from another topic, and what was acknowledged is where it was said to be.
 *  2. The first offset never goes back, and is never above what it was asked to be, unless
 * retention may have removed more; and that leaves as many bytes as it is told to leave.
 *  3. The end is never below what was acknowledged.
 *  4. A topic that was deleted does not come back; its successor has another id and is empty.
 *  5. A setting is what it was set to last, or what was asked for since. */
#include "tests/sim/janitor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/error.h"
#include "proto/gen/api.h"
#include "proto/gen/create_topics.h"
#include "proto/gen/delete_records.h"
#include "proto/gen/delete_topics.h"
#include "proto/gen/describe_configs.h"
#include "proto/gen/fetch.h"
#include "proto/gen/incremental_alter_configs.h"
#include "proto/gen/list_offsets.h"
#include "proto/gen/metadata.h"
#include "proto/gen/produce.h"
#include "proto/record.h"
#include "tests/sim/run.h"

#define ANSWER_LIMIT   (16u << 20)
#define THINK_NS       (10 * NS_PER_MS)
#define STEPS          150u
#define STEPS_LINGER   600u
#define STEPS_AGAIN    24u
#define STAMP_SIZE     24u
#define VALUE_MAX      9000u
#define RECORDS_MAX    3u
#define SETTING        "min.compaction.lag.ms" /* a number only: it is not compacted */
#define SETTING_FIRST  1000u
#define TOPIC_RESOURCE 2

enum { /* API versions */
       CREATE = 7,
       DELETE = 6,
       METADATA = 12,
       PRODUCE = 13, /* these two ask by id: late ones do not meet the next topic of the name */
       FETCH = 13,
       OFFSETS = 7,
       RECORDS = 2,
       ALTER = 1,
       DESCRIBE = 4
};

static void janitor_acts(struct sim_event *e);

static struct wire_string text_of(const char *s)
{
    return (struct wire_string){s, (int32_t)strlen(s)};
}

static void janitor_later(struct janitor *j)
{
    struct run *r = j->run;
    uint64_t mean = r->options.swarm.lingers ? 20 * THINK_NS : THINK_NS;
    sim_plan(r->sim, &j->act, sim_now_ns(r->sim) + 1 + chance_around(r->chance, mean),
             janitor_acts);
}

/* May the broker refuse it for a while? */
static bool janitor_excused(const struct run *r, int16_t error)
{
    switch ((enum kafka_error)error) {
    case KE_UNKNOWN_TOPIC_OR_PARTITION: /* a core that does not know of it yet */
    case KE_UNKNOWN_TOPIC_ID:
    case KE_NOT_LEADER_OR_FOLLOWER:
    case KE_LEADER_NOT_AVAILABLE:
    case KE_REQUEST_TIMED_OUT:
    case KE_NOT_CONTROLLER:
    case KE_BROKER_NOT_AVAILABLE:
    case KE_COORDINATOR_NOT_AVAILABLE:
    case KE_INVALID_REPLICATION_FACTOR: /* while the broker is fenced */
        return true;
    case KE_KAFKA_STORAGE_ERROR:
        return r->faulted != 0 || r->faulted_before != 0 || r->full || r->full_before ||
               run_is_tight(r);
    case KE_CORRUPT_MESSAGE:
        return run_may_be_unreadable(r);
    default:
        return run_is_tight(r);
    }
}

static void janitor_wrong(struct janitor *j, const char *what, int64_t a, int64_t b)
{
    run_fail(j->run, "%s-%u: %s: %lld, %lld", j->name, j->part, what, (long long)a, (long long)b);
}

/* ---- asking ---------------------------------------------------------------------------------- */

static void ask_create(struct janitor *j)
{
    static const char *const names[] = {"segment.ms", "segment.bytes", "retention.bytes",
                                        "retention.ms", SETTING};
    const struct swarm *w = &j->run->options.swarm;
    struct create_topics_request_creatable_topic topic;
    struct create_topics_request_creatable_topic_config configs[5];
    char values[5][16];
    (void)snprintf(values[0], 16, "%u", 20 + w->check_ms / 4);
    (void)snprintf(values[1], 16, "%u", 1u << 20);
    (void)snprintf(values[2], 16, "%d", w->retention_bytes == 0 ? -1 : (int)w->retention_bytes);
    (void)snprintf(values[3], 16, "%d", w->retention_ms == 0 ? -1 : (int)w->retention_ms);
    (void)snprintf(values[4], 16, "%u", SETTING_FIRST);
    for (uint32_t i = 0; i < 5; i++) {
        create_topics_request_creatable_topic_config_init(&configs[i]);
        configs[i].name = text_of(names[i]);
        configs[i].value = text_of(values[i]);
    }
    create_topics_request_creatable_topic_init(&topic);
    topic.name = text_of(j->name);
    topic.num_partitions = JANITOR_PARTITIONS;
    topic.replication_factor = 1;
    topic.configs = configs;
    topic.configs_count = 5;
    struct create_topics_request m;
    create_topics_request_init(&m);
    m.topics = &topic;
    m.topics_count = 1;
    m.timeout_ms = 5000;
    LINK_ASK(&j->link, &m, create_topics, API_CREATE_TOPICS, CREATE, 0, true);
}

static void ask_look(struct janitor *j)
{
    struct metadata_request_topic topic;
    metadata_request_topic_init(&topic);
    topic.name = text_of(j->name);
    struct metadata_request m;
    metadata_request_init(&m);
    m.topics = &topic;
    m.topics_count = 1;
    m.allow_auto_topic_creation = false;
    LINK_ASK(&j->link, &m, metadata, API_METADATA, METADATA, 0, true);
}

static void batch_make(struct janitor *j)
{
    struct run *r = j->run;
    struct janitor_part *p = &j->parts[j->part];
    uint8_t room[RECORDS_MAX * (VALUE_MAX + 64) + BATCH_HEADER_SIZE], value[VALUE_MAX];
    struct batch_header header = batch_header_plain(0);
    struct batch_builder b;
    int64_t now = 1795262400000ll + (int64_t)(sim_now_ns(r->sim) / NS_PER_MS);
    uint32_t records = (uint32_t)chance_between(r->chance, 1, RECORDS_MAX);
    batch_builder_init(&b, room, sizeof(room), &header);
    j->batch = (struct janitor_batch){.offset = -1, .count = records, .number = p->made++};
    for (uint32_t i = 0; i < records; i++) {
        uint32_t size = (uint32_t)chance_between(r->chance, STAMP_SIZE, VALUE_MAX);
        memset(value, (int)(j->batch.number & 0xff), size);
        memcpy(value, j->id.bytes, 16);
        wire_store32(value + 16, j->part);
        wire_store32(value + 20, j->batch.number);
        bool added = batch_builder_add(&b, now, (struct batch_field){0},
                                       (struct batch_field){value, size}, NULL, 0);
        assert(added);
    }
    j->batch.size = batch_builder_finish(&b);
    j->bytes = mem_alloc(&r->mem, j->batch.size);
    assert(j->bytes != NULL);
    memcpy(j->bytes, room, j->batch.size);
}

static void ask_append(struct janitor *j)
{
    struct produce_request m;
    struct produce_request_topic_produce_data topic;
    struct produce_request_partition_produce_data part;
    if (j->parts[j->part].batches_count == JANITOR_BATCHES) {
        janitor_later(j);
        return;
    }
    batch_make(j);
    produce_request_init(&m);
    produce_request_topic_produce_data_init(&topic);
    produce_request_partition_produce_data_init(&part);
    part.index = (int32_t)j->part;
    part.records = (struct wire_records){.data = j->bytes, .size = (int32_t)j->batch.size};
    topic.name = text_of("");
    topic.topic_id = j->id;
    topic.partition_data = &part;
    topic.partition_data_count = 1;
    m.acks = -1;
    m.timeout_ms = 10000;
    m.topic_data = &topic;
    m.topic_data_count = 1;
    LINK_ASK(&j->link, &m, produce, API_PRODUCE, PRODUCE, 0, true);
}

static void ask_fetch(struct janitor *j)
{
    struct janitor_part *p = &j->parts[j->part];
    struct fetch_request q;
    struct fetch_request_fetch_topic topic;
    struct fetch_request_fetch_partition part;
    fetch_request_init(&q);
    fetch_request_fetch_topic_init(&topic);
    fetch_request_fetch_partition_init(&part);
    j->offset = (int64_t)chance_between(j->run->chance, (uint64_t)p->start_floor,
                                        (uint64_t)MAX(p->end_floor, p->start_floor));
    part.partition = (int32_t)j->part;
    part.fetch_offset = j->offset;
    part.partition_max_bytes = 1 << 18;
    topic.topic = text_of("");
    topic.topic_id = j->id;
    topic.partitions = &part;
    topic.partitions_count = 1;
    q.max_bytes = 1 << 20;
    q.session_epoch = -1;
    q.rack_id = (struct wire_string){"", 0};
    q.topics = &topic;
    q.topics_count = 1;
    LINK_ASK(&j->link, &q, fetch, API_FETCH, FETCH, 0, true);
}

/* kind: -1 latest, -2 earliest, -3 of the largest time, else a time. */
static void ask_offsets(struct janitor *j, int64_t kind)
{
    struct list_offsets_request q;
    struct list_offsets_request_list_offsets_topic topic;
    struct list_offsets_request_list_offsets_partition part;
    list_offsets_request_init(&q);
    list_offsets_request_list_offsets_topic_init(&topic);
    list_offsets_request_list_offsets_partition_init(&part);
    part.partition_index = (int32_t)j->part;
    part.timestamp = kind;
    topic.name = text_of(j->name);
    topic.partitions = &part;
    topic.partitions_count = 1;
    q.replica_id = -1;
    q.topics = &topic;
    q.topics_count = 1;
    LINK_ASK(&j->link, &q, list_offsets, API_LIST_OFFSETS, OFFSETS, (uint64_t)kind, true);
}

static void ask_delete_records(struct janitor *j)
{
    struct janitor_part *p = &j->parts[j->part];
    struct delete_records_request q;
    struct delete_records_request_delete_records_topic topic;
    struct delete_records_request_delete_records_partition part;
    delete_records_request_init(&q);
    delete_records_request_delete_records_topic_init(&topic);
    delete_records_request_delete_records_partition_init(&part);
    j->offset = (int64_t)chance_between(j->run->chance, (uint64_t)p->start_floor,
                                        (uint64_t)MAX(p->end_floor, p->start_floor));
    if (chance_one_in(j->run->chance, 8))
        j->offset = p->end_floor + 1000000; /* there is no such offset */
    else
        p->deleted_below = MAX(p->deleted_below, j->offset);
    part.partition_index = (int32_t)j->part;
    part.offset = j->offset;
    topic.name = text_of(j->name);
    topic.partitions = &part;
    topic.partitions_count = 1;
    q.topics = &topic;
    q.topics_count = 1;
    q.timeout_ms = 5000;
    LINK_ASK(&j->link, &q, delete_records, API_DELETE_RECORDS, RECORDS, 0, true);
}

static void ask_alter(struct janitor *j)
{
    struct incremental_alter_configs_request q;
    struct incremental_alter_configs_request_alter_configs_resource resource;
    struct incremental_alter_configs_request_alterable_config config;
    char value[16];
    incremental_alter_configs_request_init(&q);
    incremental_alter_configs_request_alter_configs_resource_init(&resource);
    incremental_alter_configs_request_alterable_config_init(&config);
    j->setting = ++j->setting_sent;
    (void)snprintf(value, sizeof(value), "%u", j->setting);
    config.name = text_of(SETTING);
    config.value = text_of(value);
    resource.resource_type = TOPIC_RESOURCE;
    resource.resource_name = text_of(j->name);
    resource.configs = &config;
    resource.configs_count = 1;
    q.resources = &resource;
    q.resources_count = 1;
    LINK_ASK(&j->link, &q, incremental_alter_configs, API_INCREMENTAL_ALTER_CONFIGS, ALTER, 0,
             true);
}

static void ask_describe(struct janitor *j)
{
    struct describe_configs_request q;
    struct describe_configs_request_describe_configs_resource resource;
    struct wire_string key = text_of(SETTING);
    describe_configs_request_init(&q);
    describe_configs_request_describe_configs_resource_init(&resource);
    resource.resource_type = TOPIC_RESOURCE;
    resource.resource_name = text_of(j->name);
    resource.configuration_keys = &key;
    resource.configuration_keys_count = 1;
    q.resources = &resource;
    q.resources_count = 1;
    j->setting = j->setting_known;
    LINK_ASK(&j->link, &q, describe_configs, API_DESCRIBE_CONFIGS, DESCRIBE, 0, true);
}

static void ask_delete(struct janitor *j)
{
    struct delete_topics_request q;
    struct delete_topics_request_delete_topic_state topic;
    delete_topics_request_init(&q);
    delete_topics_request_delete_topic_state_init(&topic);
    topic.topic_id = j->id;
    topic.name = (struct wire_string){NULL, -1};
    q.topics = &topic;
    q.topics_count = 1;
    q.timeout_ms = 5000;
    LINK_ASK(&j->link, &q, delete_topics, API_DELETE_TOPICS, DELETE, 0, true);
}

static void janitor_work(struct janitor *j)
{
    struct chance *c = j->run->chance;
    j->part = (uint32_t)chance_below(c, JANITOR_PARTITIONS);
    const struct janitor_part *p = &j->parts[j->part];
    uint64_t way = chance_below(c, 32);
    j->floor = p->start_floor;
    j->end_floor = p->end_floor;
    j->steps_left -= j->steps_left > 1 || j->run->phase != PHASE_HARM;
    j->steps++;
    if (way < 13)
        ask_append(j);
    else if (way < 18)
        ask_fetch(j);
    else if (way < 24)
        ask_offsets(j, way == 23 ? 1795262400000ll + (int64_t)(sim_now_ns(j->run->sim) / 2000000)
                                 : -1 - (int64_t)(way % 3));
    else if (way < 27)
        ask_delete_records(j);
    else if (way < 29)
        ask_alter(j);
    else if (way < 31)
        ask_describe(j);
    else
        ask_delete(j);
}

static void janitor_acts(struct sim_event *e)
{
    struct janitor *j = container_of(e, struct janitor, act);
    if (!j->link.is_up || j->link.requests_count > 0)
        return;
    if (j->state == JANITOR_CREATE)
        ask_create(j);
    else if (j->state == JANITOR_LOOK)
        ask_look(j);
    else if (j->steps_left > 0)
        janitor_work(j);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* Whether the answer tells of success; what is no passing refusal is a failure of the run. */
static bool answer_good(struct janitor *j, const char *what, int16_t error)
{
    if (error == KE_NONE) {
        j->told++;
        return true;
    }
    j->refused++;
    if (!janitor_excused(j->run, error))
        run_fail(j->run, "%s of %s-%u: error %d", what, j->name, j->part, error);
    if (error == KE_UNKNOWN_TOPIC_OR_PARTITION || error == KE_UNKNOWN_TOPIC_ID)
        j->state = JANITOR_LOOK;
    return false;
}

static void told_create(struct janitor *j, const struct create_topics_response *m)
{
    int16_t error = m->topics_count == 1 ? m->topics[0].error_code : KE_UNKNOWN_SERVER_ERROR;
    if (error == KE_TOPIC_ALREADY_EXISTS || answer_good(j, "the making", error))
        j->state = JANITOR_LOOK;
}

static void told_look(struct janitor *j, const struct metadata_response *m)
{
    if (m->topics_count != 1) {
        run_fail(j->run, "%s: metadata of %d topics", j->name, m->topics_count);
        return;
    }
    int16_t error = m->topics[0].error_code;
    struct uuid id = m->topics[0].topic_id;
    if (error == KE_UNKNOWN_TOPIC_OR_PARTITION)
        j->state = JANITOR_CREATE;
    if (error != KE_NONE)
        return;
    if (uuid_equal(id, j->gone_id))
        run_fail(j->run, "%s: a topic that was deleted is there", j->name);
    j->state = JANITOR_WORK;
    if (uuid_equal(id, j->id))
        return;
    j->id = id;
    j->topics++;
    j->setting_known = SETTING_FIRST;
    for (uint32_t i = 0; i < JANITOR_PARTITIONS; i++) {
        int64_t carried = j->parts[i].carried;
        memset(&j->parts[i], 0, sizeof(j->parts[i]));
        j->parts[i].deleted_below = j->parts[i].carried = carried;
    }
}

static void told_append(struct janitor *j, const struct produce_response *m)
{
    struct janitor_part *p = &j->parts[j->part];
    const struct produce_response_partition_produce_response *a =
        &m->responses[0].partition_responses[0];
    if (!answer_good(j, "an append", a->error_code)) {
        p->unsure_bytes += j->batch.size;
        return;
    }
    j->batch.offset = a->base_offset;
    if (a->base_offset < j->end_floor)
        janitor_wrong(j, "appended below what was appended before", a->base_offset, j->end_floor);
    p->batches[p->batches_count++] = j->batch;
    p->end_floor = MAX(p->end_floor, a->base_offset + j->batch.count);
}

static const struct janitor_batch *batch_at(const struct janitor_part *p, int64_t offset)
{
    for (uint32_t i = p->batches_count; i > 0; i--) {
        if (p->batches[i - 1].offset <= offset)
            return p->batches[i - 1].offset == offset ? &p->batches[i - 1] : NULL;
    }
    return NULL;
}

/* Invariant 1. */
static void batch_check(struct janitor *j, const uint8_t *batch, const struct batch_header *h)
{
    struct janitor_part *p = &j->parts[j->part];
    struct record_iter it;
    struct record r;
    if (!batch_crc_matches(batch, h->size))
        janitor_wrong(j, "the checksum does not match", h->base_offset, 0);
    record_iter_init(&it, batch + BATCH_HEADER_SIZE, h->size - BATCH_HEADER_SIZE, h->record_count);
    if (!record_next(&it, &r) || r.value.data == NULL || r.value.size < STAMP_SIZE) {
        janitor_wrong(j, "a record that nobody wrote", h->base_offset, 0);
        return;
    }
    uint32_t part = wire_load32(r.value.data + 16), number = wire_load32(r.value.data + 20);
    const struct janitor_batch *known = batch_at(p, h->base_offset);
    if (memcmp(r.value.data, j->id.bytes, 16) != 0 || part != j->part)
        janitor_wrong(j, "a record of another topic or partition", h->base_offset, part);
    else if (known != NULL && known->number != number)
        janitor_wrong(j, "another batch than was acknowledged there", known->number, number);
}

static void told_fetch(struct janitor *j, const struct fetch_response *m)
{
    struct janitor_part *p = &j->parts[j->part];
    if (m->error_code != KE_NONE || m->responses_count != 1 ||
        m->responses[0].partitions_count != 1) {
        run_fail(j->run, "%s: a fetch of one partition, error %d", j->name, m->error_code);
        return;
    }
    const struct fetch_response_partition_data *d = &m->responses[0].partitions[0];
    const struct swarm *w = &j->run->options.swarm;
    bool retained = w->retention_bytes > 0 || w->retention_ms > 0;
    if (d->error_code == KE_OFFSET_OUT_OF_RANGE && (retained || j->offset < p->deleted_below))
        return;
    if (!answer_good(j, "a fetch", d->error_code))
        return;
    if (d->log_start_offset < j->floor)
        janitor_wrong(j, "the first offset has gone back", d->log_start_offset, j->floor);
    if (d->high_watermark < j->end_floor)
        janitor_wrong(j, "the end has gone back", d->high_watermark, j->end_floor);
    p->start_floor = MAX(p->start_floor, d->log_start_offset);
    struct batch_iter it;
    struct batch_header h;
    const uint8_t *batch;
    batch_iter_init(&it, d->records.data, (size_t)MAX(d->records.size, 0));
    while (!j->run->failed && batch_next(&it, &batch, &h))
        batch_check(j, batch, &h);
}

/* Invariant 2. */
static void start_check(struct janitor *j, int64_t start)
{
    struct janitor_part *p = &j->parts[j->part];
    const struct swarm *w = &j->run->options.swarm;
    uint64_t kept = 0, all = 0;
    if (start < j->floor)
        janitor_wrong(j, "the first offset has gone back", start, j->floor);
    p->start_floor = MAX(p->start_floor, start);
    if (w->retention_ms > 0)
        return;
    if (w->retention_bytes == 0 && start > p->deleted_below)
        janitor_wrong(j, "records are gone that nobody deleted", start, p->deleted_below);
    for (uint32_t i = 0; i < p->batches_count; i++) {
        const struct janitor_batch *b = &p->batches[i];
        all += b->offset >= p->deleted_below ? b->size : 0;
        kept += b->offset >= p->deleted_below && b->offset >= start ? b->size : 0;
    }
    if (kept + p->unsure_bytes < MIN(all, (uint64_t)w->retention_bytes))
        janitor_wrong(j, "retention has removed too much", (int64_t)kept, (int64_t)all);
}

static void told_offsets(struct janitor *j, const struct list_offsets_response *m, int64_t kind)
{
    struct janitor_part *p = &j->parts[j->part];
    const struct list_offsets_response_list_offsets_partition_response *a =
        &m->topics[0].partitions[0];
    if (!answer_good(j, "asking for offsets", a->error_code))
        return;
    if (kind == -2)
        start_check(j, a->offset);
    if (kind != -1)
        return;
    if (a->offset < j->end_floor)
        janitor_wrong(j, "the end has gone back", a->offset, j->end_floor);
    p->end_floor = MAX(p->end_floor, a->offset);
}

static void told_delete_records(struct janitor *j, const struct delete_records_response *m)
{
    struct janitor_part *p = &j->parts[j->part];
    const struct delete_records_response_delete_records_partition_result *a =
        &m->topics[0].partitions[0];
    if (a->error_code == KE_OFFSET_OUT_OF_RANGE && j->offset > p->end_floor)
        return;
    if (!answer_good(j, "deleting records", a->error_code))
        return;
    if (a->low_watermark < j->offset)
        janitor_wrong(j, "deleted, but not all", a->low_watermark, j->offset);
    p->start_floor = MAX(p->start_floor, j->offset);
}

static uint32_t doubt_of(const struct janitor *j)
{
    return j->doubt_start == j->run->node.starts ? j->doubt : UINT32_MAX;
}

/* Invariant 5. */
static void told_describe(struct janitor *j, const struct describe_configs_response *m)
{
    const struct describe_configs_response_describe_configs_result *a = &m->results[0];
    if (!answer_good(j, "describing", a->error_code))
        return;
    if (a->configs_count != 1 || a->configs[0].value.size <= 0 || a->configs[0].value.size > 10) {
        run_fail(j->run, "%s: %d settings told", j->name, a->configs_count);
        return;
    }
    char text[16] = "";
    memcpy(text, a->configs[0].value.data, (size_t)a->configs[0].value.size);
    uint32_t value = (uint32_t)strtoul(text, NULL, 10);
    if (value > j->setting_sent || (value < j->setting && value < doubt_of(j)))
        janitor_wrong(j, "a setting is not what it was set to", value, j->setting);
    j->setting_known = MIN(MAX(j->setting_known, value), doubt_of(j));
}

static void told_alter(struct janitor *j, const struct incremental_alter_configs_response *m)
{
    if (answer_good(j, "setting", m->responses[0].error_code))
        j->setting_known = MIN(j->setting, doubt_of(j));
}

static void told_delete(struct janitor *j, const struct delete_topics_response *m)
{
    if (!answer_good(j, "the end", m->responses[0].error_code))
        return;
    j->gone_id = j->id;
    j->state = JANITOR_CREATE;
}

/* Decodes the answer, which has at least one entry, or breaks the run. */
#define TOLD(name, version, entries, ...)                                                          \
    do {                                                                                           \
        struct name##_response m_;                                                                 \
        if (name##_response_decode(&m_, body, (version), arena) != 0 || (entries) < 1)             \
            run_broken(j->run, "janitor", "an unreadable " #name " response");                     \
        else                                                                                       \
            told_##__VA_ARGS__;                                                                    \
    } while (0)

static void janitor_told(struct janitor *j, const struct link_request *q, struct wire_reader *body,
                         struct arena *arena)
{
    switch (q->api_key) {
    case API_CREATE_TOPICS:
        TOLD(create_topics, CREATE, m_.topics_count, create(j, &m_));
        break;
    case API_METADATA:
        TOLD(metadata, METADATA, m_.topics_count, look(j, &m_));
        break;
    case API_PRODUCE:
        TOLD(produce, PRODUCE, m_.responses_count, append(j, &m_));
        break;
    case API_FETCH:
        TOLD(fetch, FETCH, 1, fetch(j, &m_));
        break;
    case API_LIST_OFFSETS:
        TOLD(list_offsets, OFFSETS, m_.topics_count, offsets(j, &m_, (int64_t)q->tag));
        break;
    case API_DELETE_RECORDS:
        TOLD(delete_records, RECORDS, m_.topics_count, delete_records(j, &m_));
        break;
    case API_INCREMENTAL_ALTER_CONFIGS:
        TOLD(incremental_alter_configs, ALTER, m_.responses_count, alter(j, &m_));
        break;
    case API_DESCRIBE_CONFIGS:
        TOLD(describe_configs, DESCRIBE, m_.results_count, describe(j, &m_));
        break;
    default:
        TOLD(delete_topics, DELETE, m_.responses_count, delete (j, &m_));
        break;
    }
}

static void janitor_drop_bytes(struct janitor *j)
{
    mem_free(&j->run->mem, j->bytes, j->batch.size);
    j->bytes = NULL;
}

static void janitor_answered(struct link *l, const struct link_request *q, struct wire_reader *body)
{
    struct janitor *j = l->owner;
    struct arena arena;
    arena_init(&arena, &j->run->mem, ANSWER_LIMIT);
    janitor_told(j, q, body, &arena);
    arena_release(&arena);
    janitor_drop_bytes(j);
    janitor_later(j);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void janitor_up(struct link *l)
{
    janitor_later(l->owner);
}

/* Whatever was under way may have been done or not. */
static void janitor_down(struct link *l)
{
    struct janitor *j = l->owner;
    struct janitor_part *p = &j->parts[j->part];
    sim_unplan(j->run->sim, &j->act);
    if (j->bytes != NULL)
        p->unsure_bytes += j->batch.size;
    p->carried = MAX(p->carried, p->deleted_below);
    if (j->setting_sent > j->setting_known) {
        j->doubt = MIN(doubt_of(j), j->setting_sent);
        j->doubt_start = j->run->node.starts;
        j->setting_known = MIN(j->setting_known, j->doubt);
    }
    janitor_drop_bytes(j);
    if (j->state == JANITOR_WORK)
        j->state = JANITOR_LOOK;
}

static void janitor_broken(struct link *l, const char *why)
{
    struct janitor *j = l->owner;
    run_broken(j->run, "janitor", why);
}

void janitor_start(struct janitor *j, struct run *r, uint32_t index)
{
    *j = (struct janitor){.run = r, .index = index};
    j->steps_left = r->options.swarm.lingers ? STEPS_LINGER : STEPS;
    j->setting_sent = j->setting_known = SETTING_FIRST;
    (void)snprintf(j->name, sizeof(j->name), "litter-%u", index);
    j->link = (struct link){.sim = r->sim,
                            .mem = &r->mem,
                            .to = r->machine,
                            .port = SIM_NODE_PORT,
                            .timeout_ns = 20 * NS_PER_S,
                            .owner = j,
                            .up = janitor_up,
                            .down = janitor_down,
                            .answered = janitor_answered,
                            .broken = janitor_broken};
    link_start(&j->link);
}

void janitor_stop(struct janitor *j)
{
    sim_unplan(j->run->sim, &j->act);
    link_stop(&j->link);
    janitor_drop_bytes(j);
}

void janitor_again(struct janitor *j)
{
    j->steps_left = STEPS_AGAIN;
    if (j->link.is_up && j->link.requests_count == 0)
        janitor_later(j);
}

bool janitor_done(const struct janitor *j)
{
    return j->steps_left == 0 && j->link.requests_count == 0 && j->topics > 0;
}
