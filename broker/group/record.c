/* What the coordinator writes, in Kafka's formats, so that either broker reads the other's topic.
 *
 *   key    int16 kind        | fields            kind 1: offset of a group in a partition
 *   value  int16 version     | fields                 2: a classic group
 *          (none: a tombstone)
 *
 *   kind 1: group, topic, partition -> version 4, with the topic's id if it is known, or 1 when the
 *           commit has an end of its own (retention_time_ms, requests 2-4)
 *   kind 2: group -> version 3: protocol, generation, leader, since when, members
 *
 * Invariants
 *  1. A record and the change it stands for are made in one step: what is in memory is what replay
 *     makes of the log (shard.c).
 *  2. Keys and values live in update.arena till the driver has copied them.
 *
 * Failure modes: no memory, or larger than a batch may be: said to the caller, nothing is added. */
#include "broker/group/group_priv.h"
#include "core/assert.h"

#define GROUP_VALUE_VERSION  3
#define OFFSET_VALUE_EXPIRES 1
#define OFFSET_VALUE_BY_ID   4

/* Both encoded, or the value left out for a tombstone. */
enum kafka_error record_add(struct group_shard *s, struct batch_field key, struct batch_field value)
{
    return shard_update_add(&s->update, key, value, s->batch_bytes_max);
}

void record_rewind(struct group_shard *s, uint32_t count)
{
    struct shard_update *u = &s->update;
    assert(count <= u->records_count);
    while (u->records_count > count) {
        struct shard_record *r = container_of(u->records.prev, struct shard_record, link);
        u->records_bytes -= batch_record_size_max(r->key, r->value, NULL, 0);
        u->records_count--;
        list_remove(&r->link);
    }
}

static struct batch_field offset_key(struct group *g, struct wire_string topic, int32_t partition)
{
    struct offset_commit_key key = {.group = g->id, .topic = topic, .partition = partition};
    struct batch_field field = {0};
    RECORD_ENCODE(&g->shard->update.arena, field, OFFSET_COMMIT_KEY_API_KEY, offset_commit_key,
                  &key, 0);
    return field;
}

enum kafka_error record_offset(struct group *g, struct wire_string topic, int32_t partition,
                               const struct offset_commit_value *value)
{
    struct arena *arena = &g->shard->update.arena;
    struct batch_field key = offset_key(g, topic, partition), field = {0};
    int16_t version = value->expire_timestamp != -1 ? OFFSET_VALUE_EXPIRES : OFFSET_VALUE_BY_ID;
    RECORD_ENCODE(arena, field, version, offset_commit_value, value, version);
    if (key.data == NULL || field.data == NULL)
        return KE_COORDINATOR_NOT_AVAILABLE;
    return record_add(g->shard, key, field);
}

enum kafka_error record_offset_gone(struct group *g, struct wire_string topic, int32_t partition)
{
    struct batch_field key = offset_key(g, topic, partition);
    if (key.data == NULL)
        return KE_COORDINATOR_NOT_AVAILABLE;
    return record_add(g->shard, key, (struct batch_field){0});
}

static struct batch_field group_key(struct group *g)
{
    struct group_metadata_key key = {.group = g->id};
    struct batch_field field = {0};
    RECORD_ENCODE(&g->shard->update.arena, field, GROUP_METADATA_KEY_API_KEY, group_metadata_key,
                  &key, 0);
    return field;
}

static struct wire_bytes or_empty(struct wire_bytes b)
{
    return b.size >= 0 ? b : (struct wire_bytes){(const uint8_t *)"", 0};
}

static bool group_value(struct group *g, struct group_metadata_value *v)
{
    group_metadata_value_init(v);
    v->members = arena_array(&g->shard->update.arena, g->members_count, sizeof(*v->members));
    if (v->members == NULL)
        return false;
    v->protocol_type = g->protocol_type.size >= 0 ? g->protocol_type : wire_string_of("");
    v->generation = g->generation;
    v->protocol = g->protocol_name;
    v->leader = g->leader != NULL ? g->leader->id : WIRE_NULL_STRING;
    v->current_state_timestamp = g->state_since_ms;
    LIST_EACH(l, &g->members)
    {
        const struct group_member *m = container_of(l, struct group_member, link);
        struct group_metadata_value_member_metadata *out = &v->members[v->members_count++];
        group_metadata_value_member_metadata_init(out);
        out->member_id = m->id;
        out->group_instance_id = m->instance_id;
        out->client_id = m->client_id.size >= 0 ? m->client_id : wire_string_of("");
        out->client_host = m->client_host.size >= 0 ? m->client_host : wire_string_of("");
        out->rebalance_timeout = m->rebalance_timeout_ms;
        out->session_timeout = m->session_timeout_ms;
        out->subscription = member_metadata(m);
        out->assignment = or_empty(m->assignment);
    }
    return true;
}

enum kafka_error record_group(struct group *g)
{
    struct group_metadata_value v;
    struct batch_field key = group_key(g), field = {0};
    if (key.data == NULL || !group_value(g, &v))
        return KE_COORDINATOR_NOT_AVAILABLE;
    RECORD_ENCODE(&g->shard->update.arena, field, GROUP_VALUE_VERSION, group_metadata_value, &v,
                  GROUP_VALUE_VERSION);
    if (field.data == NULL)
        return KE_COORDINATOR_NOT_AVAILABLE;
    return record_add(g->shard, key, field);
}

enum kafka_error record_group_gone(struct group *g)
{
    struct batch_field key = group_key(g);
    if (key.data == NULL)
        return KE_COORDINATOR_NOT_AVAILABLE;
    return record_add(g->shard, key, (struct batch_field){0});
}
