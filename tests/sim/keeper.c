/* The compacted topic of a run: see keeper.h.
 *
 *   writer   batches of new versions, idempotent, one in flight, repeated till acknowledged
 *   reader   walks: offset 0 ─▶ high watermark, then again
 *
 * What must hold, whatever harm is done:
 *  1. A version has one offset and its own bytes; offsets ascend, and versions of a key with them.
 *  2. A walk ends with the version of each key that was the latest acknowledged when it began, or a
 *     later one; where that is a deletion it may be gone, and then no other of the key is there,
 *     unless the walk took longer than deletions are kept: it read the other one before.
 *  3. What a walk did not find where it was, no later one finds: nothing comes back. */
#include "tests/sim/keeper.h"

#include <stdio.h>
#include <string.h>

#include "proto/error.h"
#include "proto/gen/api.h"
#include "proto/gen/create_topics.h"
#include "proto/gen/fetch.h"
#include "proto/gen/init_producer_id.h"
#include "proto/gen/produce.h"
#include "proto/record.h"
#include "tests/sim/run.h"

#define ANSWER_LIMIT    (16u << 20)
#define CREATE_VERSION  7
#define INIT_VERSION    4
#define PRODUCE_VERSION 9
#define PAUSE_NS        (40 * NS_PER_MS)
#define THINK_NS        (15 * NS_PER_MS)
#define VALUE_MAX       600u
#define VALUE_MIN       8u
#define UNPACKED_MAX    (1u << 20)

static void keeper_act(struct sim_event *e);
static void keeper_look(struct sim_event *e);

static struct wire_string text_of(const char *s)
{
    return (struct wire_string){s, (int32_t)strlen(s)};
}

static void writer_later(struct keeper *k, uint64_t mean_ns)
{
    struct run *r = k->run;
    sim_plan(r->sim, &k->act, sim_now_ns(r->sim) + 1 + chance_around(r->chance, mean_ns),
             keeper_act);
}

static void reader_later(struct keeper *k, uint64_t mean_ns)
{
    struct run *r = k->run;
    sim_plan(r->sim, &k->look, sim_now_ns(r->sim) + 1 + chance_around(r->chance, mean_ns),
             keeper_look);
}

/* May the broker refuse it because of its disk? It may be on any. */
static bool keeper_excused(const struct run *r, int16_t error)
{
    switch ((enum kafka_error)error) {
    case KE_UNKNOWN_TOPIC_OR_PARTITION:
    case KE_NOT_LEADER_OR_FOLLOWER:
    case KE_LEADER_NOT_AVAILABLE:
    case KE_REQUEST_TIMED_OUT:
        return true;
    case KE_KAFKA_STORAGE_ERROR:
        return r->faulted != 0 || r->faulted_before != 0 || r->full || r->full_before;
    case KE_CORRUPT_MESSAGE:
        return run_may_be_unreadable(r);
    default:
        return false;
    }
}

/* ---- writing --------------------------------------------------------------------------------- */

static void writer_create(struct keeper *k)
{
    static const char *const codecs[] = {"producer", "producer", "lz4", "gzip"};
    struct run *r = k->run;
    struct create_topics_request_creatable_topic topic;
    struct create_topics_request_creatable_topic_config configs[5];
    char segment_ms[16], retention_ms[16];
    const char *const pairs[5][2] = {
        {"cleanup.policy", "compact"},
        {"segment.ms", segment_ms},
        {"min.cleanable.dirty.ratio", "0.01"},
        {"delete.retention.ms", retention_ms},
        {"compression.type", codecs[r->options.keeper_codec]},
    };
    (void)snprintf(segment_ms, sizeof(segment_ms), "%u", r->options.keeper_segment_ms);
    (void)snprintf(retention_ms, sizeof(retention_ms), "%u", r->options.keeper_retention_ms);
    for (uint32_t i = 0; i < 5; i++) {
        create_topics_request_creatable_topic_config_init(&configs[i]);
        configs[i].name = text_of(pairs[i][0]);
        configs[i].value = text_of(pairs[i][1]);
    }
    create_topics_request_creatable_topic_init(&topic);
    topic.name = text_of(KEEPER_TOPIC);
    topic.num_partitions = 1;
    topic.replication_factor = 1;
    topic.configs = configs;
    topic.configs_count = 5;
    struct create_topics_request m;
    create_topics_request_init(&m);
    m.topics = &topic;
    m.topics_count = 1;
    m.timeout_ms = 5000;
    LINK_ASK(&k->writer, &m, create_topics, API_CREATE_TOPICS, CREATE_VERSION, 0, true);
}

static void writer_ask_id(struct keeper *k)
{
    struct init_producer_id_request m;
    init_producer_id_request_init(&m);
    m.transactional_id = (struct wire_string){NULL, -1};
    LINK_ASK(&k->writer, &m, init_producer_id, API_INIT_PRODUCER_ID, INIT_VERSION, 0, true);
}

static uint8_t value_byte(uint32_t key, uint32_t version, uint32_t at)
{
    return (uint8_t)(key * 31 + version * 7 + at / 9);
}

static void writer_add(struct keeper *k, struct batch_builder *b, int64_t timestamp)
{
    struct run *r = k->run;
    uint8_t value[VALUE_MAX];
    uint32_t n = (uint32_t)chance_below(r->chance, KEEPER_KEYS);
    uint32_t size = (uint32_t)chance_between(r->chance, VALUE_MIN, VALUE_MAX);
    struct keeper_key *key = &k->keys[n];
    uint32_t version = key->made;
    bool deletes = chance_one_in(r->chance, 5);
    char name[24]; /* a deletion has no value to say its version in */
    if (version == KEEPER_VERSIONS)
        return;
    int name_size = snprintf(name, sizeof(name), "key-%u", n);
    wire_store32(value, n);
    wire_store32(value + 4, version);
    for (uint32_t i = VALUE_MIN; i < size; i++)
        value[i] = value_byte(n, version, i);
    uint8_t told[4];
    wire_store32(told, version);
    struct batch_record_header header = {{(const uint8_t *)"v", 1}, {told, sizeof(told)}};
    struct batch_field name_field = {(const uint8_t *)name, (uint32_t)name_size};
    struct batch_field content = {value, size}, none = {0};
    bool added = batch_builder_add(b, timestamp, name_field, deletes ? none : content, &header, 1);
    assert(added);
    key->versions[version] = (struct keeper_version){.offset = -1, .deletes = deletes};
    key->made++;
    k->batch_keys[k->count] = (uint8_t)n;
    k->batch_versions[k->count++] = version;
}

static bool writer_make(struct keeper *k)
{
    struct run *r = k->run;
    uint8_t room[KEEPER_RECORDS * (VALUE_MAX + 64) + BATCH_HEADER_SIZE];
    struct batch_header header = batch_header_plain(0);
    struct batch_builder builder;
    header.producer_id = k->producer_id;
    header.producer_epoch = k->producer_epoch;
    header.base_sequence = k->sequence;
    batch_builder_init(&builder, room, sizeof(room), &header);
    uint32_t wanted = (uint32_t)chance_between(r->chance, 1, KEEPER_RECORDS);
    k->count = 0;
    for (uint32_t i = 0; i < wanted; i++)
        writer_add(k, &builder, 1795262400000ll + (int64_t)(sim_now_ns(r->sim) / NS_PER_MS));
    if (k->count == 0)
        return false;
    k->size = batch_builder_finish(&builder);
    k->bytes = mem_alloc(&r->mem, k->size);
    assert(k->bytes != NULL);
    memcpy(k->bytes, room, k->size);
    return true;
}

static void writer_send(struct keeper *k)
{
    struct produce_request m;
    struct produce_request_topic_produce_data topic;
    struct produce_request_partition_produce_data part;
    produce_request_init(&m);
    produce_request_topic_produce_data_init(&topic);
    produce_request_partition_produce_data_init(&part);
    part.records = (struct wire_records){.data = k->bytes, .size = (int32_t)k->size};
    topic.name = text_of(KEEPER_TOPIC);
    topic.partition_data = &part;
    topic.partition_data_count = 1;
    m.acks = -1;
    m.timeout_ms = 10000;
    m.topic_data = &topic;
    m.topic_data_count = 1;
    LINK_ASK(&k->writer, &m, produce, API_PRODUCE, PRODUCE_VERSION, 0, true);
}

static void keeper_act(struct sim_event *e)
{
    struct keeper *k = container_of(e, struct keeper, act);
    if (!k->writer.is_up || k->writer.requests_count > 0)
        return;
    if (!k->made) {
        writer_create(k);
    } else if (k->producer_id < 0) {
        writer_ask_id(k);
    } else if (k->bytes != NULL) {
        writer_send(k);
    } else if (k->left > 0) {
        k->left--;
        if (writer_make(k))
            writer_send(k);
        else
            writer_later(k, THINK_NS);
    }
}

static void writer_created(struct keeper *k, struct wire_reader *body, struct arena *arena)
{
    struct create_topics_response m;
    if (create_topics_response_decode(&m, body, CREATE_VERSION, arena) != 0) {
        run_broken(k->run, "keeper", "an unreadable CreateTopics response");
        return;
    }
    int16_t error = m.topics_count == 1 ? m.topics[0].error_code : KE_UNKNOWN_SERVER_ERROR;
    k->made = error == KE_NONE || error == KE_TOPIC_ALREADY_EXISTS;
}

static void writer_wrote(struct keeper *k,
                         const struct produce_response_partition_produce_response *answer)
{
    struct run *r = k->run;
    int16_t error = answer->error_code;
    if (error != KE_NONE && error != KE_DUPLICATE_SEQUENCE_NUMBER) {
        if (!keeper_excused(r, error))
            run_fail(r, "produce to kept-0: error %d", error);
        return;
    }
    for (uint32_t i = 0; i < k->count; i++) {
        struct keeper_key *key = &k->keys[k->batch_keys[i]];
        struct keeper_version *v = &key->versions[k->batch_versions[i]];
        int64_t offset = answer->base_offset + i;
        if (error == KE_NONE && v->offset >= 0 && v->offset != offset)
            run_fail(r, "kept-0: key %u version %u is acknowledged at %lld, and was at %lld",
                     k->batch_keys[i], k->batch_versions[i], (long long)offset,
                     (long long)v->offset);
        if (error == KE_NONE)
            v->offset = offset;
        v->acknowledged = true;
        key->acknowledged = (int32_t)k->batch_versions[i];
    }
    if (error == KE_NONE)
        k->known_end = MAX(k->known_end, answer->base_offset + k->count);
    k->sequence += (int32_t)k->count;
    mem_free(&r->mem, k->bytes, k->size);
    k->bytes = NULL;
}

static void writer_answered(struct link *l, const struct link_request *q, struct wire_reader *body)
{
    struct keeper *k = l->owner;
    struct run *r = k->run;
    struct arena arena;
    bool writing = k->bytes != NULL;
    arena_init(&arena, &r->mem, ANSWER_LIMIT);
    if (q->api_key == API_CREATE_TOPICS) {
        writer_created(k, body, &arena);
    } else if (q->api_key == API_INIT_PRODUCER_ID) {
        struct init_producer_id_response m;
        if (init_producer_id_response_decode(&m, body, INIT_VERSION, &arena) != 0)
            run_broken(r, "keeper", "an unreadable InitProducerId response");
        else if (m.error_code == KE_NONE) {
            k->producer_id = m.producer_id;
            k->producer_epoch = m.producer_epoch;
        }
    } else {
        struct produce_response m;
        if (produce_response_decode(&m, body, PRODUCE_VERSION, &arena) != 0 ||
            m.responses_count != 1 || m.responses[0].partition_responses_count != 1)
            run_broken(r, "keeper", "an unreadable Produce response");
        else
            writer_wrote(k, &m.responses[0].partition_responses[0]);
    }
    arena_release(&arena);
    writer_later(k, k->bytes != NULL && writing ? PAUSE_NS : THINK_NS);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void walk_begin(struct keeper *k)
{
    k->walk++;
    k->began_ns = sim_now_ns(k->run->sim);
    k->offset = k->record_next = 0;
    k->whole = k->left == 0 && k->bytes == NULL;
    for (uint32_t i = 0; i < KEEPER_KEYS; i++) {
        k->keys[i].owed = k->keys[i].acknowledged;
        k->keys[i].found = -1;
    }
}

static void reader_ask(struct keeper *k)
{
    struct fetch_request q;
    struct fetch_request_fetch_topic topic;
    struct fetch_request_fetch_partition part;
    fetch_request_init(&q);
    fetch_request_fetch_topic_init(&topic);
    fetch_request_fetch_partition_init(&part);
    part.fetch_offset = k->offset;
    part.partition_max_bytes = (int32_t)k->max_bytes;
    topic.topic = text_of(KEEPER_TOPIC);
    topic.partitions = &part;
    topic.partitions_count = 1;
    q.min_bytes = 1;
    q.max_bytes = 1 << 20;
    q.session_epoch = -1;
    q.rack_id = (struct wire_string){"", 0};
    q.topics = &topic;
    q.topics_count = 1;
    k->floor = k->known_end;
    LINK_ASK(&k->reader, &q, fetch, API_FETCH, k->version, 0, true);
}

static void keeper_look(struct sim_event *e)
{
    struct keeper *k = container_of(e, struct keeper, look);
    if (!k->reader.is_up || k->reader.requests_count > 0)
        return;
    if (k->made)
        reader_ask(k);
    else
        reader_later(k, PAUSE_NS);
}

/* Which key and version a record is; false: nobody has written it so. */
static bool record_known(const struct keeper *k, const struct record *record, uint32_t *key,
                         uint32_t *version)
{
    char name[24];
    struct record_header_iter it;
    struct batch_record_header header;
    if (record->key.data == NULL || record->headers_count != 1)
        return false;
    record_header_iter_init(&it, record);
    if (!record_header_next(&it, &header) || header.value.size != 4)
        return false;
    *version = wire_load32(header.value.data);
    for (*key = 0; *key < KEEPER_KEYS; (*key)++) {
        int size = snprintf(name, sizeof(name), "key-%u", *key);
        if (record->key.size == (uint32_t)size && memcmp(record->key.data, name, (size_t)size) == 0)
            break;
    }
    if (*key == KEEPER_KEYS || *version >= k->keys[*key].made)
        return false;
    bool right = k->keys[*key].versions[*version].deletes == (record->value.data == NULL);
    if (record->value.data == NULL || !right)
        return right;
    right = record->value.size >= VALUE_MIN && wire_load32(record->value.data) == *key &&
            wire_load32(record->value.data + 4) == *version;
    for (uint32_t i = VALUE_MIN; i < record->value.size && right; i++)
        right = record->value.data[i] == value_byte(*key, *version, i);
    return right;
}

static void reader_record(struct keeper *k, int64_t offset, const struct record *record)
{
    struct run *r = k->run;
    uint32_t n, number;
    if (offset < k->record_next) {
        run_fail(r, "kept-0 offset %lld: behind %lld", (long long)offset,
                 (long long)k->record_next - 1);
        return;
    }
    k->record_next = offset + 1;
    if (!record_known(k, record, &n, &number)) {
        run_fail(r, "kept-0 offset %lld: a record that nobody sent", (long long)offset);
        return;
    }
    struct keeper_key *key = &k->keys[n];
    struct keeper_version *v = &key->versions[number];
    if (v->offset >= 0 && v->offset != offset)
        run_fail(r, "kept-0 offset %lld: key %u version %u was at %lld", (long long)offset, n,
                 number, (long long)v->offset);
    else if (v->gone)
        run_fail(r, "kept-0 offset %lld: key %u version %u was gone and has come back",
                 (long long)offset, n, number);
    else if (key->found >= (int32_t)number)
        run_fail(r, "kept-0 offset %lld: key %u version %u behind version %d", (long long)offset, n,
                 number, key->found);
    v->offset = offset;
    v->seen = true;
    v->walk = k->walk;
    key->found = (int32_t)number;
    k->came++;
}

static void reader_batches(struct keeper *k, const struct fetch_response_partition_data *d)
{
    struct run *r = k->run;
    struct batch_iter it;
    struct batch_header h;
    const uint8_t *batch;
    batch_iter_init(&it, d->records.data, (size_t)MAX(d->records.size, 0));
    while (batch_next(&it, &batch, &h) && !r->failed) {
        struct record_iter records;
        struct record record;
        if (!batch_crc_matches(batch, h.size) || batch_last_offset(&h) >= d->high_watermark ||
            batch_last_offset(&h) < k->offset ||
            record_open(&k->compress, batch, &h, UNPACKED_MAX, &records) != COMPRESS_OK) {
            run_fail(r, "kept-0 offset %lld: damaged, or not asked for", (long long)h.base_offset);
            return;
        }
        while (record_next(&records, &record) && !r->failed)
            if (h.base_offset + record.offset_delta >= k->offset)
                reader_record(k, h.base_offset + record.offset_delta, &record);
        if (records.malformed)
            run_fail(r, "kept-0 offset %lld: malformed", (long long)h.base_offset);
        k->offset = batch_last_offset(&h) + 1;
    }
}

/* Longer than delete.retention.ms, by a clock that may jump. */
static bool walk_was_slow(const struct keeper *k)
{
    const struct run_options *o = &k->run->options;
    return (o->harms & HARM_WALL) != 0 ||
           sim_now_ns(k->run->sim) - k->began_ns >= o->keeper_retention_ms * NS_PER_MS;
}

/* Some version from the owed one on is a deletion: when it has expired nothing is left of them. */
static bool was_deleted(const struct keeper_key *key)
{
    bool deleted = false;
    for (uint32_t i = (uint32_t)MAX(key->owed, 0); i < key->made; i++)
        deleted |= key->versions[i].deletes;
    return deleted;
}

/* The end of a walk. */
static void walk_judge(struct keeper *k)
{
    struct run *r = k->run;
    bool slow = walk_was_slow(k);
    for (uint32_t n = 0; n < KEEPER_KEYS && !r->failed; n++) {
        struct keeper_key *key = &k->keys[n];
        bool deleted = key->owed >= 0 && key->versions[key->owed].deletes;
        if (key->found < key->owed && !(deleted && key->found < 0) && !(slow && was_deleted(key)))
            run_fail(r, "kept-0: of key %u version %d was acknowledged%s, version %d is the last",
                     n, key->owed, deleted ? " as a deletion" : "", key->found);
        for (uint32_t i = 0; i < key->made; i++) {
            struct keeper_version *v = &key->versions[i];
            bool passed = v->offset >= 0 && v->offset < k->offset && (int32_t)i <= key->owed;
            if (passed && v->walk != k->walk && !v->gone) {
                v->gone = true;
                k->gone++;
            }
        }
    }
    k->complete += k->whole;
}

static void reader_partition(struct keeper *k, const struct fetch_response_partition_data *d)
{
    struct run *r = k->run;
    if (d->error_code != KE_NONE) {
        if (!keeper_excused(r, d->error_code))
            run_fail(r, "fetch of kept-0 at %lld: error %d", (long long)k->offset, d->error_code);
        return;
    }
    if (d->high_watermark < k->floor) {
        run_fail(r, "kept-0: high watermark %lld, after %lld was known",
                 (long long)d->high_watermark, (long long)k->floor);
        return;
    }
    k->known_end = MAX(k->known_end, d->high_watermark);
    reader_batches(k, d);
    if (k->offset < d->high_watermark || r->failed)
        return;
    walk_judge(k);
    walk_begin(k);
}

static void reader_answered(struct link *l, const struct link_request *q, struct wire_reader *body)
{
    struct keeper *k = l->owner;
    struct run *r = k->run;
    struct fetch_response m;
    struct arena arena;
    (void)q;
    arena_init(&arena, &r->mem, ANSWER_LIMIT);
    uint32_t walk = k->walk;
    if (fetch_response_decode(&m, body, k->version, &arena) != 0)
        run_broken(r, "keeper", "an unreadable Fetch response");
    else if (m.responses_count == 1 && m.responses[0].partitions_count == 1)
        reader_partition(k, &m.responses[0].partitions[0]);
    arena_release(&arena);
    reader_later(k, k->walk == walk ? NS_PER_MS : PAUSE_NS);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void writer_up(struct link *l)
{
    writer_later(l->owner, 1);
}

static void writer_down(struct link *l)
{
    struct keeper *k = l->owner;
    sim_unplan(k->run->sim, &k->act);
}

static void reader_up(struct link *l)
{
    reader_later(l->owner, 1);
}

static void reader_down(struct link *l)
{
    struct keeper *k = l->owner;
    sim_unplan(k->run->sim, &k->look);
}

static void keeper_broken(struct link *l, const char *why)
{
    struct keeper *k = l->owner;
    run_broken(k->run, "keeper", why);
}

void keeper_start(struct keeper *k, struct run *r)
{
    static const uint32_t sizes[] = {1, 700, 65536};
    *k = (struct keeper){.run = r, .producer_id = -1, .left = r->options.keeper_batches};
    compress_init(&k->compress, &r->mem);
    for (uint32_t i = 0; i < KEEPER_KEYS; i++)
        k->keys[i].acknowledged = -1;
    k->version = (int16_t)chance_between(r->chance, 4, 12);
    k->max_bytes = sizes[chance_below(r->chance, 3)];
    walk_begin(k);
    struct link link = {.sim = r->sim,
                        .mem = &r->mem,
                        .to = r->machine,
                        .port = SIM_NODE_PORT,
                        .timeout_ns = 30 * NS_PER_S,
                        .owner = k,
                        .broken = keeper_broken};
    k->writer = k->reader = link;
    k->writer.up = writer_up;
    k->writer.down = writer_down;
    k->writer.answered = writer_answered;
    k->reader.up = reader_up;
    k->reader.down = reader_down;
    k->reader.answered = reader_answered;
    link_start(&k->writer);
    link_start(&k->reader);
}

void keeper_stop(struct keeper *k)
{
    sim_unplan(k->run->sim, &k->act);
    sim_unplan(k->run->sim, &k->look);
    if (k->bytes != NULL)
        mem_free(&k->run->mem, k->bytes, k->size);
    compress_free(&k->compress);
    link_stop(&k->writer);
    link_stop(&k->reader);
}

void keeper_again(struct keeper *k)
{
    k->complete = 0;
    k->whole = false; /* the walk under way began before */
}

bool keeper_done(const struct keeper *k)
{
    return k->left == 0 && k->bytes == NULL && k->complete > 0;
}
