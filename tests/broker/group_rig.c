/* The rig behind the tests of groups: a shard in virtual time, see group_rig.h for what it does. */
#include "tests/broker/group_rig.h"

#include <criterion/criterion.h>
#include <stdio.h>

static uint64_t rig_random(void *context)
{
    struct group_rig *r = context;
    r->random += 0x9e3779b97f4a7c15ull;
    uint64_t z = r->random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    return z ^ (z >> 27);
}

static uint8_t *rig_keep(struct group_rig *r, struct batch_field field)
{
    if (field.data == NULL)
        return NULL;
    uint8_t *copy = arena_copy(&r->arena, field.data, field.size);
    cr_assert(copy != NULL);
    return copy;
}

static void rig_take(struct group_shard *s)
{
    struct group_rig *r = s->context;
    r->taken_in_txn = s->update.in_txn;
    r->taken_producer_id = s->update.producer_id;
    LIST_EACH(l, &s->update.records)
    {
        const struct shard_record *from = container_of(l, struct shard_record, link);
        cr_assert_lt(r->log_count, RIG_RECORDS_MAX);
        r->log[r->log_count++] = (struct rig_record){.key = rig_keep(r, from->key),
                                                     .key_size = from->key.size,
                                                     .value = rig_keep(r, from->value),
                                                     .value_size = from->value.size};
    }
    shard_update_taken(&s->update);
    struct list *l;
    while ((l = list_pop_front(&s->update.answered)) != NULL) {
        struct group_call *call = container_of(l, struct group_call, link);
        struct rig_call *c = container_of(call, struct rig_call, call);
        cr_assert(!c->answered);
        c->answered = true;
    }
}

/* ---- the world ------------------------------------------------------------------------------- */

static bool world_tell(const struct rig_topic *t, struct group_topic_facts *to)
{
    *to = (struct group_topic_facts){.id = t->id,
                                     .name = wire_string_of(t->name),
                                     .partitions_count = t->partitions_count,
                                     .topic = t};
    return true;
}

static bool world_by_name(void *context, struct wire_string name, struct group_topic_facts *to)
{
    const struct group_rig *r = context;
    for (uint32_t i = 0; i < r->topics_count; i++) {
        if (wire_string_equal(wire_string_of(r->topics[i].name), name))
            return world_tell(&r->topics[i], to);
    }
    return false;
}

static bool world_by_id(void *context, struct uuid id, struct group_topic_facts *to)
{
    const struct group_rig *r = context;
    for (uint32_t i = 0; i < r->topics_count; i++) {
        if (uuid_equal(r->topics[i].id, id))
            return world_tell(&r->topics[i], to);
    }
    return false;
}

static bool world_after(void *context, struct wire_string name, struct group_topic_facts *to)
{
    const struct group_rig *r = context;
    for (uint32_t i = 0; i < r->topics_count; i++) {
        size_t size = (size_t)MAX(name.size, 0);
        if (name.size < 0 || strncmp(r->topics[i].name, name.data, size) > 0 ||
            (strncmp(r->topics[i].name, name.data, size) == 0 && strlen(r->topics[i].name) > size))
            return world_tell(&r->topics[i], to);
    }
    return false;
}

static uint32_t world_racks(void *context, const struct group_topic_facts *t, uint32_t partition,
                            struct wire_string *racks, uint32_t max)
{
    (void)context;
    cr_assert(partition < t->partitions_count && racks != NULL && max > 0);
    return 0;
}

static int32_t world_setting(void *context, struct wire_string group, enum group_setting setting)
{
    const struct group_rig *r = context;
    cr_assert_gt(group.size, 0);
    return r->settings[setting];
}

static int64_t world_version(void *context)
{
    return ((const struct group_rig *)context)->metadata_version;
}

void rig_topic(struct group_rig *r, const char *name, uint32_t partitions)
{
    uint32_t at = 0;
    while (at < r->topics_count && strcmp(r->topics[at].name, name) < 0)
        at++;
    bool known = at < r->topics_count && strcmp(r->topics[at].name, name) == 0;
    if (!known) {
        cr_assert_lt(r->topics_count, RIG_TOPICS_MAX);
        memmove(&r->topics[at + 1], &r->topics[at], (r->topics_count - at) * sizeof(r->topics[0]));
        r->topics_count++;
        r->topics[at] = (struct rig_topic){0};
        (void)snprintf(r->topics[at].name, sizeof(r->topics[at].name), "%s", name);
        r->topics[at].id.bytes[0] = 0x40;
        r->topics[at].id.bytes[15] = (uint8_t)++r->topics_made;
    }
    r->topics[at].partitions_count = partitions;
    r->metadata_version++;
    group_shard_topic_changed(&r->shard, wire_string_of(name), !known);
}

void rig_topic_gone(struct group_rig *r, const char *name)
{
    for (uint32_t i = 0; i < r->topics_count; i++) {
        if (strcmp(r->topics[i].name, name) != 0)
            continue;
        r->topics_count--;
        memmove(&r->topics[i], &r->topics[i + 1], (r->topics_count - i) * sizeof(r->topics[0]));
        r->metadata_version++;
        group_shard_topic_changed(&r->shard, wire_string_of(name), false);
        return;
    }
    cr_assert(false, "no such topic");
}

static void rig_begin(struct group_rig *r)
{
    memset(r, 0, sizeof(*r));
    cr_assert_eq(mem_init(&r->mem, 256u << 20), 0);
    cr_assert_eq(mem_init(&r->test_mem, 512u << 20), 0);
    arena_init(&r->arena, &r->test_mem, 256u << 20);
    r->now_ns = 1000 * NS_PER_S;
    r->wall_ms = 1700000000000;
    wheel_init(&r->wheel, r->now_ns);
    r->config.group_min_session_timeout_ms = 1;
    r->config.group_max_session_timeout_ms = 1800000;
    r->config.group_max_size = INT32_MAX;
    r->config.group_consumer_max_size = INT32_MAX;
    r->config.group_consumer_assignors[0] = "uniform";
    r->config.group_consumer_assignors[1] = "range";
    r->config.group_consumer_assignors_count = 2;
    r->config.group_consumer_regex_refresh_interval_ms = 600000;
    r->settings[GROUP_SESSION_TIMEOUT] = 45000;
    r->settings[GROUP_HEARTBEAT_INTERVAL] = 5000;
    r->metadata_version = 1;
    r->world = (struct group_world){.context = r,
                                    .topic_by_name = world_by_name,
                                    .topic_by_id = world_by_id,
                                    .topic_after = world_after,
                                    .racks = world_racks,
                                    .setting = world_setting,
                                    .version = world_version};
    r->config.offset_metadata_max_bytes = 4096;
    r->config.offsets_retention_minutes = 10080;
    r->config.offsets_retention_check_interval_ms = 600000;
    r->shard = (struct group_shard){.mem = &r->mem,
                                    .wheel = &r->wheel,
                                    .now_ns = &r->now_ns,
                                    .wall_ms = &r->wall_ms,
                                    .config = &r->config,
                                    .world = &r->world,
                                    .batch_bytes_max = 1048588,
                                    .random = rig_random,
                                    .changed = rig_take,
                                    .context = r};
    group_shard_init(&r->shard, 7);
}

void rig_init(struct group_rig *r)
{
    rig_begin(r);
    group_shard_loaded(&r->shard);
}

void rig_load(struct group_rig *r, const struct group_rig *from)
{
    rig_begin(r);
    r->config = from->config;
    memcpy(r->topics, from->topics, sizeof(r->topics));
    memcpy(r->settings, from->settings, sizeof(r->settings));
    r->topics_count = from->topics_count;
    r->topics_made = from->topics_made;
    r->metadata_version = from->metadata_version;
    r->now_ns = from->now_ns;
    r->wall_ms = from->wall_ms;
    wheel_init(&r->wheel, r->now_ns);
    for (uint32_t i = 0; i < from->log_count; i++) {
        const struct rig_record *l = &from->log[i];
        cr_assert(group_shard_replay(&r->shard, i, -1, (struct batch_field){l->key, l->key_size},
                                     (struct batch_field){l->value, l->value_size}));
    }
    group_shard_loaded(&r->shard);
    rig_take(&r->shard);
}

void rig_end(struct group_rig *r)
{
    group_shard_close(&r->shard, KE_NOT_COORDINATOR);
    rig_take(&r->shard);
    cr_assert_eq(r->wheel.armed_count, 0);
    cr_assert_eq(r->mem.used_bytes, 0);
    arena_release(&r->arena);
    cr_assert_eq(r->test_mem.used_bytes, 0);
    mem_destroy(&r->mem);
    mem_destroy(&r->test_mem);
}

void rig_pass(struct group_rig *r, int32_t ms)
{
    for (int32_t i = 0; i < ms; i++) {
        r->now_ns += NS_PER_MS;
        r->wall_ms++;
        (void)wheel_run(&r->wheel, r->now_ns, 1000);
    }
}

/* ---- calls ----------------------------------------------------------------------------------- */

struct rig_call *rig_make(struct group_rig *r, enum group_call_kind kind, int16_t version)
{
    struct rig_call *c = arena_array(&r->arena, 1, sizeof(*c));
    cr_assert(c != NULL);
    c->call.kind = kind;
    c->call.version = version;
    c->call.client_id = wire_string_of("cli");
    c->call.client_host = wire_string_of("/127.0.0.1");
    c->call.request = &c->ask;
    c->call.response = &c->tell;
    c->call.arena = &r->arena;
    return c;
}

void rig_call(struct group_rig *r, struct rig_call *c)
{
    enum kafka_error error = group_call_check(&r->config, &c->call);
    if (error != KE_NONE) {
        group_call_refuse(&c->call, error);
        c->answered = true;
        return;
    }
    group_shard_call(&r->shard, &c->call);
    rig_take(&r->shard);
}

static struct wire_string split(const char **at, char until)
{
    const char *end = strchr(*at, until);
    size_t size = end != NULL ? (size_t)(end - *at) : strlen(*at);
    struct wire_string s = {*at, (int32_t)size};
    *at += size + (end != NULL);
    return s;
}

struct rig_call *rig_join_for(struct group_rig *r, const char *group, const char *member,
                              const char *instance, int16_t version, const char *protocols,
                              int32_t session_ms, int32_t rebalance_ms)
{
    struct rig_call *c = rig_make(r, GROUP_JOIN, version);
    struct join_group_request *q = &c->ask.join;
    join_group_request_init(q);
    q->group_id = wire_string_of(group);
    q->member_id = wire_string_of(member);
    q->group_instance_id = wire_string_of(instance);
    q->session_timeout_ms = session_ms;
    q->rebalance_timeout_ms = rebalance_ms;
    q->protocol_type = wire_string_of("consumer");
    q->protocols = arena_array(&r->arena, 8, sizeof(*q->protocols));
    const char *at = protocols != NULL ? protocols : "range=m";
    while (*at != '\0') {
        struct join_group_request_protocol *p = &q->protocols[q->protocols_count++];
        p->name = split(&at, '=');
        struct wire_string metadata = split(&at, ',');
        p->metadata = (struct wire_bytes){(const uint8_t *)metadata.data, metadata.size};
        if (wire_string_equal(metadata, wire_string_of("@t")))
            p->metadata = rig_subscription(r, "t");
    }
    rig_call(r, c);
    return c;
}

struct rig_call *rig_join(struct group_rig *r, const char *group, const char *member,
                          const char *instance, int16_t version, const char *protocols)
{
    return rig_join_for(r, group, member, instance, version, protocols, 10000, 60000);
}

struct rig_call *rig_sync(struct group_rig *r, const char *group, const char *member,
                          int32_t generation, const char *const *assignments)
{
    struct rig_call *c = rig_make(r, GROUP_SYNC, 4);
    struct sync_group_request *q = &c->ask.sync;
    sync_group_request_init(q);
    q->group_id = wire_string_of(group);
    q->member_id = wire_string_of(member);
    q->generation_id = generation;
    q->assignments = arena_array(&r->arena, 16, sizeof(*q->assignments));
    for (int32_t i = 0; assignments != NULL && assignments[i] != NULL; i += 2) {
        struct sync_group_request_assignment *a = &q->assignments[q->assignments_count++];
        a->member_id = wire_string_of(assignments[i]);
        a->assignment = (struct wire_bytes){(const uint8_t *)assignments[i + 1],
                                            (int32_t)strlen(assignments[i + 1])};
    }
    rig_call(r, c);
    return c;
}

int16_t rig_heartbeat(struct group_rig *r, const char *group, const char *member,
                      const char *instance, int32_t generation)
{
    struct rig_call *c = rig_make(r, GROUP_HEARTBEAT, 4);
    heartbeat_request_init(&c->ask.heartbeat);
    c->ask.heartbeat.group_id = wire_string_of(group);
    c->ask.heartbeat.member_id = wire_string_of(member);
    c->ask.heartbeat.group_instance_id = wire_string_of(instance);
    c->ask.heartbeat.generation_id = generation;
    rig_call(r, c);
    cr_assert(c->answered);
    return c->tell.heartbeat.error_code;
}

int16_t rig_leave(struct group_rig *r, const char *group, const char *member, const char *instance)
{
    struct rig_call *c = rig_make(r, GROUP_LEAVE, 4);
    struct leave_group_request *q = &c->ask.leave;
    leave_group_request_init(q);
    q->group_id = wire_string_of(group);
    q->members = arena_array(&r->arena, 1, sizeof(*q->members));
    q->members_count = 1;
    q->members[0].member_id = wire_string_of(member);
    q->members[0].group_instance_id = wire_string_of(instance);
    q->members[0].reason = WIRE_NULL_STRING;
    rig_call(r, c);
    cr_assert(c->answered);
    cr_assert_eq(c->tell.leave.error_code, 0);
    cr_assert_eq(c->tell.leave.members_count, 1);
    return c->tell.leave.members[0].error_code;
}

struct rig_call *rig_commit_with(struct group_rig *r, struct offset_commit_request *request,
                                 int16_t version)
{
    struct rig_call *c = rig_make(r, GROUP_COMMIT, version);
    c->ask.commit = *request;
    struct offset_commit_response *out = &c->tell.commit;
    offset_commit_response_init(out);
    out->topics = arena_array(&r->arena, (size_t)request->topics_count, sizeof(*out->topics));
    out->topics_count = request->topics_count;
    for (int32_t i = 0; i < request->topics_count; i++) {
        int32_t count = request->topics[i].partitions_count;
        out->topics[i].partitions =
            arena_array(&r->arena, (size_t)count, sizeof(*out->topics[i].partitions));
        out->topics[i].partitions_count = count;
    }
    rig_call(r, c);
    cr_assert(c->answered);
    return c;
}

int16_t rig_commit(struct group_rig *r, const char *group, const char *member, int32_t generation,
                   const char *topic, int32_t partition, int64_t offset, const char *metadata)
{
    struct offset_commit_request q;
    struct offset_commit_request_topic t;
    struct offset_commit_request_partition p;
    offset_commit_request_init(&q);
    offset_commit_request_topic_init(&t);
    offset_commit_request_partition_init(&p);
    q.group_id = wire_string_of(group);
    q.member_id = wire_string_of(member);
    q.generation_id_or_member_epoch = generation;
    q.topics = &t;
    q.topics_count = 1;
    t.name = wire_string_of(topic);
    t.partitions = &p;
    t.partitions_count = 1;
    p.partition_index = partition;
    p.committed_offset = offset;
    p.committed_leader_epoch = 5;
    p.committed_metadata = wire_string_of(metadata);
    return rig_commit_with(r, &q, 9)->tell.commit.topics[0].partitions[0].error_code;
}

static struct rig_call *rig_fetch(struct group_rig *r, const char *group, const char *topic,
                                  int32_t partition)
{
    struct rig_call *c = rig_make(r, GROUP_FETCH, 8);
    struct offset_fetch_request_group *q = &c->ask.fetch;
    offset_fetch_request_group_init(q);
    q->group_id = wire_string_of(group);
    q->topics_count = -1;
    if (topic != NULL) {
        q->topics = arena_array(&r->arena, 1, sizeof(*q->topics));
        q->topics_count = 1;
        q->topics[0].name = wire_string_of(topic);
        q->topics[0].partition_indexes = arena_array(&r->arena, 1, sizeof(int32_t));
        q->topics[0].partition_indexes[0] = partition;
        q->topics[0].partition_indexes_count = 1;
    }
    rig_call(r, c);
    cr_assert(c->answered);
    cr_assert_eq(c->tell.fetch.error_code, 0);
    return c;
}

int64_t rig_offset(struct group_rig *r, const char *group, const char *topic, int32_t partition)
{
    return rig_fetch(r, group, topic, partition)
        ->tell.fetch.topics[0]
        .partitions[0]
        .committed_offset;
}

struct rig_call *rig_fetch_all(struct group_rig *r, const char *group)
{
    return rig_fetch(r, group, NULL, 0);
}

int16_t rig_offset_delete(struct group_rig *r, const char *group, const char *topic,
                          int32_t partition)
{
    struct rig_call *c = rig_make(r, GROUP_OFFSET_DELETE, 0);
    struct offset_delete_request *q = &c->ask.offset_delete;
    struct offset_delete_response *out = &c->tell.offset_delete;
    offset_delete_request_init(q);
    offset_delete_response_init(out);
    q->group_id = wire_string_of(group);
    q->topics = arena_array(&r->arena, 1, sizeof(*q->topics));
    q->topics_count = out->topics_count = 1;
    q->topics[0].name = wire_string_of(topic);
    q->topics[0].partitions = arena_array(&r->arena, 1, sizeof(*q->topics[0].partitions));
    q->topics[0].partitions[0].partition_index = partition;
    q->topics[0].partitions_count = 1;
    out->topics = arena_array(&r->arena, 1, sizeof(*out->topics));
    out->topics[0].partitions = arena_array(&r->arena, 1, sizeof(*out->topics[0].partitions));
    out->topics[0].partitions_count = 1;
    rig_call(r, c);
    cr_assert(c->answered);
    return out->error_code != 0 ? out->error_code : out->topics[0].partitions[0].error_code;
}

struct rig_call *rig_describe(struct group_rig *r, const char *group, int16_t version)
{
    struct rig_call *c = rig_make(r, GROUP_DESCRIBE, version);
    c->ask.group = wire_string_of(group);
    rig_call(r, c);
    cr_assert(c->answered);
    return c;
}

struct rig_call *rig_list(struct group_rig *r, const char *state, const char *type)
{
    struct rig_call *c = rig_make(r, GROUP_LIST, 5);
    list_groups_request_init(&c->ask.list);
    list_groups_response_init(&c->tell.list);
    struct wire_string *filters = arena_array(&r->arena, 2, sizeof(*filters));
    filters[0] = wire_string_of(state);
    filters[1] = wire_string_of(type);
    c->ask.list.states_filter = &filters[0];
    c->ask.list.states_filter_count = state != NULL;
    c->ask.list.types_filter = &filters[1];
    c->ask.list.types_filter_count = type != NULL;
    rig_call(r, c);
    cr_assert(c->answered);
    return c;
}

int16_t rig_delete(struct group_rig *r, const char *group)
{
    struct rig_call *c = rig_make(r, GROUP_DELETE, 2);
    c->ask.group = wire_string_of(group);
    rig_call(r, c);
    cr_assert(c->answered);
    return c->tell.delete.error_code;
}

/* ---- short words ----------------------------------------------------------------------------- */

const char *rig_text(struct group_rig *r, struct wire_string s)
{
    if (s.size < 0)
        return "(null)";
    char *text = arena_alloc(&r->arena, (size_t)s.size + 1);
    cr_assert(text != NULL);
    if (s.size > 0)
        memcpy(text, s.data, (size_t)s.size);
    text[s.size] = '\0';
    return text;
}

const char *rig_bytes(struct group_rig *r, struct wire_bytes b)
{
    return rig_text(r, (struct wire_string){(const char *)b.data, b.size});
}

const char *rig_state(struct group_rig *r, const char *group)
{
    return rig_text(r, rig_describe(r, group, 5)->tell.describe.group_state);
}

struct wire_bytes rig_subscription(struct group_rig *r, const char *topic)
{
    size_t size = strlen(topic);
    struct wire_writer w;
    uint8_t *bytes = arena_alloc(&r->arena, 16 + size);
    wire_writer_init(&w, bytes, 16 + size);
    wire_put_int16(&w, 1);
    wire_put_int32(&w, 1);
    wire_put_string(&w, wire_string_of(topic), false);
    wire_put_int32(&w, -1);
    wire_put_int32(&w, 0); /* what version 1 adds is not looked at */
    cr_assert(wire_writer_ok(&w));
    return (struct wire_bytes){bytes, (int32_t)w.position};
}

const char *rig_stable(struct group_rig *r, const char *group, const char *protocols)
{
    struct rig_call *join = rig_join(r, group, "", NULL, 3, protocols);
    rig_pass(r, r->config.group_initial_rebalance_delay_ms + 1);
    cr_assert(join->answered);
    cr_assert_eq(join->tell.join.error_code, 0);
    const char *id = rig_text(r, join->tell.join.member_id);
    struct rig_call *sync = rig_sync(r, group, id, join->tell.join.generation_id,
                                     (const char *const[]){id, "mine", NULL});
    cr_assert(sync->answered);
    cr_assert_eq(sync->tell.sync.error_code, 0);
    cr_assert_str_eq(rig_state(r, group), "Stable");
    return id;
}
