/* Any bytes as metadata records: a log or snapshot that somebody else wrote. The input is a row of
 * values, each behind its size (16 bits). What is refused must leave nothing behind; what is
 * accepted must come to the same metadata again when it is read from its own snapshot. Seeds:
 * something of every kind that the controller writes. */
#include "tests/fuzz/fuzz.h"

#include "broker/quorum/leaf.h"
#include "broker/quorum/metadata.h"
#include "proto/gen/record_broker.h"
#include "proto/gen/record_cluster.h"
#include "proto/gen/record_topic.h"

#define BUDGET      (256u << 20)
#define ARENA_BYTES (16u << 20)
#define RECORDS_MAX 512u

/* All of them become one delta, or none does. */
static bool replay_values(struct metadata *md, const struct record_value *values, uint32_t count)
{
    struct replay r;
    struct image_delta *delta;
    int result = 0;
    replay_init(&r, md, ARENA_BYTES);
    for (uint32_t i = 0; i < count && result == 0; i++)
        result = replay_record(&r, values[i]);
    if (result == 0)
        result = replay_finish(&r, md->image.offset + 1, 1, &delta);
    if (result != 0) {
        replay_drop(&r);
        return false;
    }
    result = metadata_apply(md, delta);
    assert(result == 0);
    delta_retire(md->mem, delta);
    return true;
}

static void same(const struct image *a, const struct image *b)
{
    assert(a->topics_count == b->topics_count && a->partitions_count == b->partitions_count);
    assert(a->brokers_count == b->brokers_count && a->configs_count == b->configs_count);
    for (uint32_t i = 0; i < a->topics_count; i++) {
        const struct topic_image *x = a->topics[i], *y = b->topics[i];
        assert(uuid_equal(x->id, y->id) && x->name_size == y->name_size);
        assert(memcmp(x->name, y->name, x->name_size) == 0);
        assert(x->overrides.set.count == y->overrides.set.count);
        for (uint32_t p = 0; p < x->partitions_count; p++) {
            const struct partition_image *u = &x->partitions[p], *v = &y->partitions[p];
            assert(u->leader == v->leader && u->leader_epoch == v->leader_epoch);
            assert(u->replicas_count == v->replicas_count && u->isr_count == v->isr_count);
        }
    }
    for (uint32_t i = 0; i < a->configs_count; i++) {
        assert(a->configs[i]->type == b->configs[i]->type);
        assert(a->configs[i]->set.count == b->configs[i]->set.count);
    }
}

static void round_trip(const struct metadata *md, struct mem *mem)
{
    struct metadata other;
    struct arena arena;
    struct record_list list;
    /* Below these levels a snapshot cannot say all that a log of any bytes may hold. */
    if (image_feature(&md->image, "metadata.version") < 30)
        return;
    metadata_init(&other, mem, NULL);
    arena_init(&arena, mem, ARENA_BYTES);
    record_list_init(&list, &arena);
    snapshot_records(md, &list);
    assert(!list.failed);
    bool accepted = replay_values(&other, list.items, list.count);
    assert(accepted);
    same(&md->image, &other.image);
    assert(md->kept.count == other.kept.count);
    assert(md->next_producer_id == other.next_producer_id);
    arena_release(&arena);
    metadata_destroy(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mem mem;
    struct metadata md;
    struct record_value values[RECORDS_MAX];
    uint32_t count = 0;
    int error = mem.budget_bytes == 0 ? mem_init(&mem, BUDGET) : 0;
    assert(error == 0);
    for (size_t at = 0; at + 2 <= size && count < RECORDS_MAX;) {
        size_t wanted = (size_t)data[at] << 8 | data[at + 1];
        size_t taken = MIN(wanted, size - at - 2);
        values[count++] = (struct record_value){data + at + 2, (uint32_t)taken};
        at += 2 + taken;
    }
    metadata_init(&md, &mem, NULL);
    if (replay_values(&md, values, count))
        round_trip(&md, &mem);
    metadata_destroy(&md);
    assert(mem.used_bytes == 0);
    return 0;
}

static void real_records(struct record_list *l)
{
    struct feature_level_record feature;
    struct register_broker_record broker;
    struct register_broker_record_broker_endpoint endpoint;
    struct topic_record topic;
    struct partition_record partition;
    struct config_record config;
    struct producer_ids_record ids;
    static int32_t replicas[] = {1};
    static struct uuid dirs[] = {{{9}}};
    feature_level_record_init(&feature);
    feature.name = wire_string_of("metadata.version");
    feature.feature_level = 30;
    record_list_add(l, FEATURE_LEVEL_RECORD_API_KEY, 0, &feature);
    register_broker_record_init(&broker);
    register_broker_record_broker_endpoint_init(&endpoint);
    endpoint.name = endpoint.host = wire_string_of("h");
    broker.broker_id = 1;
    broker.end_points = &endpoint;
    broker.end_points_count = 1;
    broker.log_dirs = dirs;
    broker.log_dirs_count = 1;
    record_list_add(l, REGISTER_BROKER_RECORD_API_KEY, 4, &broker);
    topic_record_init(&topic);
    topic.name = wire_string_of("topic");
    topic.topic_id.bytes[0] = 7;
    record_list_add(l, TOPIC_RECORD_API_KEY, 0, &topic);
    partition_record_init(&partition);
    partition.topic_id = topic.topic_id;
    partition.replicas = partition.isr = replicas;
    partition.replicas_count = partition.isr_count = 1;
    partition.directories = dirs;
    partition.directories_count = 1;
    partition.eligible_leader_replicas_count = partition.last_known_elr_count = -1;
    for (partition.partition_id = 0; partition.partition_id < 3; partition.partition_id++)
        record_list_add(l, PARTITION_RECORD_API_KEY, 2, &partition);
    config_record_init(&config);
    config.resource_type = RESOURCE_TOPIC;
    config.resource_name = topic.name;
    config.name = wire_string_of("retention.ms");
    config.value = wire_string_of("5");
    record_list_add(l, CONFIG_RECORD_API_KEY, 0, &config);
    config.resource_type = RESOURCE_GROUP;
    record_list_add(l, CONFIG_RECORD_API_KEY, 0, &config);
    producer_ids_record_init(&ids);
    ids.next_producer_id = 1000;
    record_list_add(l, PRODUCER_IDS_RECORD_API_KEY, 0, &ids);
}

/* What undoes or changes what real_records made: one of them. */
static void real_change(struct record_list *l, uint32_t n)
{
    struct remove_topic_record gone;
    struct partition_change_record change;
    struct config_record config;
    struct unregister_broker_record left;
    struct broker_registration_change_record fenced;
    struct uuid id = {{7}};
    switch (n) {
    case 0:
        remove_topic_record_init(&gone);
        gone.topic_id = id;
        record_list_add(l, REMOVE_TOPIC_RECORD_API_KEY, 0, &gone);
        return;
    case 1:
        partition_change_record_init(&change);
        change.topic_id = id;
        change.partition_id = 1;
        change.leader = 1;
        record_list_add(l, PARTITION_CHANGE_RECORD_API_KEY, 2, &change);
        return;
    case 2:
        config_record_init(&config);
        config.resource_type = RESOURCE_TOPIC;
        config.resource_name = wire_string_of("topic");
        config.name = wire_string_of("retention.ms");
        config.value = wire_string_of(NULL);
        record_list_add(l, CONFIG_RECORD_API_KEY, 0, &config);
        return;
    case 3:
        unregister_broker_record_init(&left);
        left.broker_id = 1;
        record_list_add(l, UNREGISTER_BROKER_RECORD_API_KEY, 0, &left);
        return;
    default:
        broker_registration_change_record_init(&fenced);
        fenced.broker_id = 1;
        fenced.fenced = 1;
        record_list_add(l, BROKER_REGISTRATION_CHANGE_RECORD_API_KEY, 2, &fenced);
    }
}

size_t fuzz_seed(uint32_t n, uint8_t *to)
{
    struct mem mem;
    struct arena arena;
    struct record_list list;
    size_t size = 0;
    if (n > 5)
        return 0;
    int error = mem_init(&mem, BUDGET);
    assert(error == 0);
    arena_init(&arena, &mem, ARENA_BYTES);
    record_list_init(&list, &arena);
    real_records(&list);
    if (n > 0)
        real_change(&list, n - 1);
    for (uint32_t i = 0; i < list.count; i++) {
        to[size++] = (uint8_t)(list.items[i].size >> 8);
        to[size++] = (uint8_t)list.items[i].size;
        memcpy(to + size, list.items[i].data, list.items[i].size);
        size += list.items[i].size;
    }
    arena_release(&arena);
    mem_destroy(&mem);
    return size;
}
