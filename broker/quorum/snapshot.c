/* A snapshot: what one would have to replay to come to the metadata that is there.
 *
 *   control batch:  SnapshotHeader [KRaftVersion, KRaftVoters]
 *   data batches:   features | broker registrations | configs | topics | producer ids | kept
 *   control batch:  SnapshotFooter
 *
 * Offsets inside count from 0 and mean nothing; the epoch is that of the snapshot's id.
 * metadata.version comes first, because how everything after it may be written depends on it.
 *
 * Invariants
 *  1. Loading it gives equal metadata (tests hold this against a replay of the whole log).
 *  2. A record is written in the version that the finalized metadata.version asks for.
 *
 * Failure: memory, seen in the list's and the buffer's `failed`. */
#include "broker/quorum/metadata.h"

#include <string.h>

#include "broker/quorum/levels.h"
#include "core/assert.h"
#include "core/lab.h"
#include "proto/gen/record_broker.h"
#include "proto/gen/record_cluster.h"
#include "proto/gen/record_quorum.h"
#include "proto/gen/record_topic.h"

#define SNAPSHOT_BATCH_RECORDS 1024 /* as many as Kafka puts into one */
#define SNAPSHOT_BATCH_BYTES   (1u << 20)

static struct wire_string text_of(const char *text, uint32_t size)
{
    return (struct wire_string){text, (int32_t)size};
}

/* The encoders only read; generated structs have no const arrays. */
static int32_t *ids_of(const int32_t *ids)
{
    union {
        const int32_t *read;
        int32_t *plain;
    } u = {.read = ids};
    return u.plain;
}

static struct uuid *uuids_of(const struct uuid *ids)
{
    union {
        const struct uuid *read;
        struct uuid *plain;
    } u = {.read = ids};
    return u.plain;
}

static void features_write(const struct features_image *f, struct record_list *to)
{
    for (int first = 1; first >= 0; first--) {
        for (uint32_t i = 0; i < f->features_count; i++) {
            bool is_metadata = strcmp(f->features[i].name, FEATURE_METADATA_VERSION) == 0;
            if (is_metadata != (first == 1))
                continue;
            struct feature_level_record m;
            feature_level_record_init(&m);
            m.name = text_of(f->features[i].name, f->features[i].name_size);
            m.feature_level = f->features[i].level;
            record_list_add(to, FEATURE_LEVEL_RECORD_API_KEY, 0, &m);
        }
    }
}

static void broker_write(const struct broker_image *b, int16_t level, struct record_list *to)
{
    int16_t version = level_register_broker_version(level);
    struct register_broker_record m;
    register_broker_record_init(&m);
    m.broker_id = b->id;
    m.incarnation_id = b->incarnation;
    m.broker_epoch = b->epoch;
    m.rack = wire_string_of(b->rack);
    m.fenced = b->fenced;
    m.in_controlled_shutdown = b->in_controlled_shutdown;
    m.end_points = arena_array(to->arena, b->endpoints_count, sizeof(*m.end_points));
    m.features = arena_array(to->arena, b->features_count, sizeof(*m.features));
    if (m.end_points == NULL || m.features == NULL) {
        to->failed = true;
        return;
    }
    for (uint32_t i = 0; i < b->endpoints_count; i++) {
        m.end_points[i].name = wire_string_of(b->endpoints[i].listener);
        m.end_points[i].host = wire_string_of(b->endpoints[i].host);
        m.end_points[i].port = b->endpoints[i].port;
        m.end_points[i].security_protocol = b->endpoints[i].security_protocol;
    }
    for (uint32_t i = 0; i < b->features_count; i++) {
        m.features[i].name = wire_string_of(b->features[i].name);
        m.features[i].min_supported_version = b->features[i].min;
        m.features[i].max_supported_version = b->features[i].max;
    }
    m.end_points_count = (int32_t)b->endpoints_count;
    m.features_count = (int32_t)b->features_count;
    if (version >= 3) {
        m.log_dirs = uuids_of(b->log_dirs);
        m.log_dirs_count = (int32_t)b->log_dirs_count;
    }
    m.cordoned_log_dirs_count = -1;
    if (version >= 4) {
        m.cordoned_log_dirs = uuids_of(b->cordoned_log_dirs);
        m.cordoned_log_dirs_count = (int32_t)b->cordoned_log_dirs_count;
    }
    record_list_add(to, REGISTER_BROKER_RECORD_API_KEY, version, &m);
}

static void config_write(const struct config_image *c, struct record_list *to)
{
    for (uint32_t i = 0; i < c->set.count; i++) {
        struct config_record m;
        config_record_init(&m);
        m.resource_type = (int8_t)c->type;
        m.resource_name = text_of(c->name, c->name_size);
        m.name = wire_string_of(c->set.entries[i].name);
        m.value = wire_string_of(c->set.entries[i].value);
        record_list_add(to, CONFIG_RECORD_API_KEY, 0, &m);
    }
}

void snapshot_partition(const struct partition_image *p, struct uuid topic_id, int16_t level,
                        struct record_list *to)
{
    int16_t version = level_partition_version(level);
    struct partition_record m;
    partition_record_init(&m);
    m.partition_id = p->index;
    m.topic_id = topic_id;
    m.replicas = ids_of(p->replicas);
    m.replicas_count = p->replicas_count;
    m.isr = ids_of(p->isr);
    m.isr_count = p->isr_count;
    m.removing_replicas = ids_of(p->removing);
    m.removing_replicas_count = p->removing_count;
    m.adding_replicas = ids_of(p->adding);
    m.adding_replicas_count = p->adding_count;
    m.leader = p->leader;
    m.leader_recovery_state = p->recovery_state;
    m.leader_epoch = p->leader_epoch;
    m.partition_epoch = p->partition_epoch;
    if (version >= 1) {
        m.directories = uuids_of(p->directories);
        m.directories_count = p->replicas_count;
    }
    m.eligible_leader_replicas_count = m.last_known_elr_count = -1;
    if (version >= 2 && p->elr_count > 0) {
        m.eligible_leader_replicas = ids_of(p->elr);
        m.eligible_leader_replicas_count = p->elr_count;
    }
    if (version >= 2 && p->last_known_elr_count > 0) {
        m.last_known_elr = ids_of(p->last_known_elr);
        m.last_known_elr_count = p->last_known_elr_count;
    }
    record_list_add(to, PARTITION_RECORD_API_KEY, version, &m);
}

static void topic_write(const struct topic_image *t, int16_t level, struct record_list *to)
{
    struct topic_record m;
    topic_record_init(&m);
    m.name = text_of(t->name, t->name_size);
    m.topic_id = t->id;
    record_list_add(to, TOPIC_RECORD_API_KEY, 0, &m);
    for (uint32_t i = 0; i < t->partitions_count; i++)
        snapshot_partition(&t->partitions[i], t->id, level, to);
    if (!DEFECT(28))
        config_write(&t->overrides, to);
}

void snapshot_records(const struct metadata *md, struct record_list *to)
{
    const struct image *img = &md->image;
    int16_t level = image_feature(img, FEATURE_METADATA_VERSION);
    assert(to->arena != NULL);
    if (img->features != NULL)
        features_write(img->features, to);
    for (uint32_t i = 0; i < img->brokers_count; i++)
        broker_write(img->brokers[i], level, to);
    for (uint32_t i = 0; i < img->configs_count; i++)
        config_write(img->configs[i], to);
    for (uint32_t i = 0; i < img->topics_count && !to->failed; i++)
        topic_write(img->topics[i], level, to);
    if (md->next_producer_id > 0) {
        struct producer_ids_record m;
        producer_ids_record_init(&m);
        m.broker_id = -1;
        m.next_producer_id = md->next_producer_id;
        record_list_add(to, PRODUCER_IDS_RECORD_API_KEY, 0, &m);
    }
    uint32_t at = 0;
    const struct kept_record *k;
    while ((k = map_next(&md->kept, &at)) != NULL)
        record_list_add_value(to, k->value);
}

static void header_write(const struct metadata *md, struct batch_buffer *to, int32_t epoch,
                         int64_t now_ms, int64_t *offset, struct arena *arena)
{
    struct snapshot_header_record header;
    snapshot_header_record_init(&header);
    header.last_contained_log_timestamp = MAX(md->last_timestamp_ms, 0);
    struct kraft_version_record version;
    kraft_version_record_init(&version);
    version.kraft_version = md->kraft_version;
    struct voters_record voters;
    voters_record_init(&voters);
    struct control_record controls[3] = {
        {BATCH_CONTROL_SNAPSHOT_HEADER, &header, 0},
        {BATCH_CONTROL_KRAFT_VERSION, &version, 0},
        {BATCH_CONTROL_KRAFT_VOTERS, &voters, 0},
    };
    uint32_t count = 1;
    if (md->kraft_version > 0 && md->voters != NULL) {
        struct wire_reader r;
        wire_reader_init(&r, md->voters, md->voters_size);
        if (voters_record_decode(&voters, &r, 0, arena) == 0)
            count = 3;
        else
            to->failed = true;
    }
    batch_buffer_add_controls(to, *offset, epoch, now_ms, controls, count);
    *offset += count;
}

void snapshot_build(const struct metadata *md, struct batch_buffer *to, int32_t epoch,
                    int64_t now_ms)
{
    struct arena arena;
    struct record_list list;
    int64_t offset = 0;
    arena_init(&arena, md->mem, md->mem->budget_bytes);
    record_list_init(&list, &arena);
    snapshot_records(md, &list);
    header_write(md, to, epoch, now_ms, &offset, &arena);
    for (uint32_t i = 0; i < list.count && !to->failed;) {
        uint32_t count = 0, bytes = 0;
        while (i + count < list.count && count < SNAPSHOT_BATCH_RECORDS &&
               (count == 0 || bytes + list.items[i + count].size <= SNAPSHOT_BATCH_BYTES))
            bytes += list.items[i + count++].size;
        batch_buffer_add_records(to, offset, epoch, now_ms, &list.items[i], count);
        offset += count;
        i += count;
    }
    struct snapshot_footer_record footer;
    snapshot_footer_record_init(&footer);
    struct control_record last = {BATCH_CONTROL_SNAPSHOT_FOOTER, &footer, 0};
    batch_buffer_add_controls(to, offset, epoch, now_ms, &last, 1);
    if (list.failed)
        to->failed = true;
    arena_release(&arena);
}
