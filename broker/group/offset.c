/* How far groups have read: committed offsets, by topic and partition, with what the committer said
 * beside them. They outlive the members: a group that only commits and never joins ("simple") is a
 * group without a protocol type.
 *
 *   commit ─▶ check who commits ─▶ make room and records for all ─▶ put all     (all or nothing)
 *   expire ─▶ every offsets.retention.check.interval.ms: what nobody reads any more
 *
 * When an offset expires: a commit with a retention of its own at that time; of a group that is
 * empty, offsets.retention.minutes after it became so; of a stable "consumer" group, so long after
 * the commit, unless the group subscribes to the topic; of a simple group, so long after the
 * commit. Never while a transaction that commits it is open.
 *
 * Invariants
 *  1. Offsets of a topic are sorted by partition; each is live, except inside offsets_commit.
 *  2. A commit that answers an error for a partition has put nothing for it.
 *
 * Failure modes: no memory: COORDINATOR_NOT_AVAILABLE for every partition; more than a batch:
 * UNKNOWN_SERVER_ERROR, as Kafka calls it; in both cases nothing has changed. */
#include "broker/group/consumer_priv.h"
#include "core/assert.h"
#include "core/lab.h"
#include "proto/gen/offset_commit.h"
#include "proto/gen/offset_delete.h"
#include "proto/gen/offset_fetch.h"

/* ---- the table ------------------------------------------------------------------------------- */

static struct group_topic *topic_find(const struct group *g, struct wire_string name)
{
    return map_get(&g->topics_by_name, name.data, (uint32_t)MAX(name.size, 0));
}

static void topic_free(struct group *g, struct group_topic *t)
{
    struct mem *mem = g->shard->mem;
    for (uint32_t i = 0; i < t->offsets_count; i++) {
        disown_string(mem, &t->offsets[i].metadata);
        disown_string(mem, &t->offsets[i].staged);
    }
    (void)map_remove(&g->topics_by_name, t->name.data, (uint32_t)t->name.size);
    list_remove(&t->link);
    if (t->offsets_room > 0)
        mem_free(mem, t->offsets, t->offsets_room * sizeof(*t->offsets));
    disown_string(mem, &t->name);
    mem_free(mem, t, sizeof(*t));
}

static struct group_topic *topic_make(struct group *g, struct wire_string name)
{
    struct group_topic *t = topic_find(g, name);
    if (t != NULL)
        return t;
    t = mem_zalloc(g->shard->mem, sizeof(*t));
    if (t == NULL)
        return NULL;
    list_init(&t->link);
    if (!own_string(g->shard->mem, &t->name, name) ||
        map_put(&g->topics_by_name, t->name.data, (uint32_t)t->name.size, t) != 0) {
        disown_string(g->shard->mem, &t->name);
        mem_free(g->shard->mem, t, sizeof(*t));
        return NULL;
    }
    list_push_back(&g->topics, &t->link);
    return t;
}

/* Index of the first offset whose partition is not below. */
static uint32_t offset_index(const struct group_topic *t, int32_t partition)
{
    uint32_t low = 0, high = t->offsets_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (t->offsets[middle].partition < partition)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct group_offset *offset_find(const struct group_topic *t, int32_t partition)
{
    uint32_t i = t != NULL ? offset_index(t, partition) : 0;
    if (t == NULL || i == t->offsets_count || t->offsets[i].partition != partition)
        return NULL;
    return &t->offsets[i];
}

/* The partition's place, not live if it is new. NULL: no memory. */
static struct group_offset *offset_make(struct group *g, struct group_topic *t, int32_t partition)
{
    uint32_t i = offset_index(t, partition);
    if (i < t->offsets_count && t->offsets[i].partition == partition)
        return &t->offsets[i];
    if (t->offsets_count == t->offsets_room) {
        uint32_t room = MAX(t->offsets_room * 2, 1u); /* many commit one partition only */
        struct group_offset *grown = mem_realloc(
            g->shard->mem, t->offsets, t->offsets_room * sizeof(*grown), room * sizeof(*grown));
        if (grown == NULL)
            return NULL;
        t->offsets = grown;
        t->offsets_room = room;
    }
    struct group_offset *o = &t->offsets[i];
    memmove(o + 1, o, (t->offsets_count - i) * sizeof(*o));
    *o = (struct group_offset){
        .partition = partition, .metadata = WIRE_NULL_STRING, .staged = WIRE_NULL_STRING};
    t->offsets_count++;
    return o;
}

static void offset_remove(struct group *g, struct group_topic *t, struct group_offset *o)
{
    uint32_t i = (uint32_t)(o - t->offsets);
    assert(i < t->offsets_count);
    disown_string(g->shard->mem, &o->metadata);
    disown_string(g->shard->mem, &o->staged);
    t->offsets_count--;
    memmove(o, o + 1, (t->offsets_count - i) * sizeof(*o));
}

static void offset_set(struct group *g, struct group_offset *o, int64_t record,
                       const struct offset_commit_value *v)
{
    if (o->staged.size >= 0) { /* not when a request names a partition twice: it has the last one */
        disown_string(g->shard->mem, &o->metadata);
        o->metadata = o->staged;
        o->staged = WIRE_NULL_STRING;
    }
    o->live = true;
    o->offset = v->offset;
    o->leader_epoch = v->leader_epoch;
    o->commit_ms = v->commit_timestamp;
    o->expire_ms = v->expire_timestamp;
    o->topic_id = v->topic_id;
    o->record = record;
}

/* Its place and its metadata. */
static bool offset_stage(struct group *g, struct wire_string topic, int32_t partition,
                         struct wire_string metadata)
{
    struct group_topic *t = topic_make(g, topic);
    struct group_offset *o = t != NULL ? offset_make(g, t, partition) : NULL;
    if (o == NULL)
        return false;
    disown_string(g->shard->mem, &o->staged);
    return own_string(g->shard->mem, &o->staged, metadata);
}

bool offsets_put(struct group *g, struct wire_string topic, int32_t partition, int64_t record,
                 const struct offset_commit_value *value)
{
    if (!offset_stage(g, topic, partition, value->metadata))
        return false; /* the loading ends here, so places without an offset do no harm */
    offset_set(g, offset_find(topic_find(g, topic), partition), record, value);
    return true;
}

void offsets_drop(struct group *g, struct wire_string topic, int32_t partition)
{
    struct group_topic *t = topic_find(g, topic);
    struct group_offset *o = offset_find(t, partition);
    if (o == NULL)
        return;
    offset_remove(g, t, o);
    if (t->offsets_count == 0)
        topic_free(g, t);
}

bool offsets_may_put(const struct group *g, struct wire_string topic, int32_t partition)
{
    return mem_may_grow(g->shard->mem) || offset_find(topic_find(g, topic), partition) != NULL;
}

int64_t offsets_record(const struct group *g, struct wire_string topic, int32_t partition)
{
    const struct group_offset *o = offset_find(topic_find(g, topic), partition);
    return o != NULL ? o->record : -1;
}

void offsets_free(struct group *g)
{
    LIST_EACH(l, &g->topics)
    topic_free(g, container_of(l, struct group_topic, link));
    assert(g->topics_by_name.count == 0);
}

/* ---- commit ---------------------------------------------------------------------------------- */

/* ClassicGroup.validateOffsetCommit. */
/* stale: each partition is to be asked about. */
static enum kafka_error commit_check(const struct group *g, const struct offset_commit_request *r,
                                     int16_t version, bool *stale)
{
    int32_t generation = r->generation_id_or_member_epoch;
    if (g->consumers != NULL)
        return consumers_check_commit(g->consumers, r->member_id, generation, version, stale);
    if (generation < 0 && group_is(g, GROUP_EMPTY))
        return KE_NONE;
    if (generation < 0 && r->member_id.size <= 0 && r->group_instance_id.size < 0)
        return KE_UNKNOWN_MEMBER_ID; /* others are at work in this group */
    enum kafka_error error = member_check(g, r->member_id, r->group_instance_id);
    if (error != KE_NONE)
        return error;
    if (generation != g->generation && !DEFECT(4))
        return KE_ILLEGAL_GENERATION;
    return group_is(g, GROUP_COMPLETING) ? KE_REBALANCE_IN_PROGRESS : KE_NONE;
}

/* Of an older epoch: every partition must have been the member's since that epoch, or nothing is
 * committed. */
static enum kafka_error commit_parts(const struct group *g, const struct offset_commit_request *r)
{
    const struct consumer *c = consumer_find(g->consumers, r->member_id);
    enum kafka_error error = KE_NONE;
    assert(c != NULL);
    for (int32_t i = 0; i < r->topics_count; i++) {
        const struct offset_commit_request_topic *t = &r->topics[i];
        for (int32_t j = 0; error == KE_NONE && j < t->partitions_count; j++)
            error = consumer_commits(c, t->topic_id, t->partitions[j].partition_index,
                                     r->generation_id_or_member_epoch);
    }
    return error;
}

static struct offset_commit_value commit_value(const struct group_shard *s,
                                               const struct offset_commit_request *r,
                                               const struct offset_commit_request_topic *t,
                                               const struct offset_commit_request_partition *p)
{
    struct offset_commit_value v;
    offset_commit_value_init(&v);
    v.offset = p->committed_offset;
    v.leader_epoch = p->committed_leader_epoch;
    v.metadata = p->committed_metadata.size >= 0 ? p->committed_metadata : wire_string_of("");
    v.commit_timestamp = *s->wall_ms;
    v.expire_timestamp = r->retention_time_ms == -1 ? -1 : *s->wall_ms + r->retention_time_ms;
    v.topic_id = t->topic_id;
    return v;
}

bool offsets_metadata_too_long(const struct group_shard *s, struct wire_string metadata)
{
    int64_t max = s->config->offset_metadata_max_bytes;
    return metadata.size > max && utf16_length(metadata) > max;
}

/* Rooms and records for everything that will be put. */
static enum kafka_error commit_stage(struct group *g, const struct offset_commit_request *r,
                                     struct offset_commit_response *out)
{
    struct group_shard *s = g->shard;
    for (int32_t i = 0; i < r->topics_count; i++) {
        const struct offset_commit_request_topic *t = &r->topics[i];
        for (int32_t j = 0; j < t->partitions_count; j++) {
            const struct offset_commit_request_partition *p = &t->partitions[j];
            int16_t *code = &out->topics[i].partitions[j].error_code;
            if (*code == KE_NONE && offsets_metadata_too_long(s, p->committed_metadata))
                *code = KE_OFFSET_METADATA_TOO_LARGE;
            if (*code != KE_NONE)
                continue;
            struct offset_commit_value v = commit_value(s, r, t, p);
            enum kafka_error error = record_offset(g, t->name, p->partition_index, &v);
            if (error != KE_NONE)
                return error;
            if (BATCH_HEADER_SIZE + s->update.records_bytes > s->batch_bytes_max)
                return KE_UNKNOWN_SERVER_ERROR;
            if (!offsets_may_put(g, t->name, p->partition_index) ||
                !offset_stage(g, t->name, p->partition_index, v.metadata))
                return KE_COORDINATOR_NOT_AVAILABLE;
        }
    }
    return KE_NONE;
}

static void commit_put(struct group *g, const struct offset_commit_request *r,
                       const struct offset_commit_response *out)
{
    for (int32_t i = 0; i < r->topics_count; i++) {
        const struct offset_commit_request_topic *t = &r->topics[i];
        for (int32_t j = 0; j < t->partitions_count; j++) {
            if (out->topics[i].partitions[j].error_code != KE_NONE)
                continue;
            const struct offset_commit_request_partition *p = &t->partitions[j];
            struct offset_commit_value v = commit_value(g->shard, r, t, p);
            struct group_offset *o = offset_find(topic_find(g, t->name), p->partition_index);
            assert(o != NULL);
            offset_set(g, o, g->shard->next_record++, &v);
        }
    }
}

/* Rooms that were made in vain. */
static void commit_unstage(struct group *g)
{
    LIST_EACH(l, &g->topics)
    {
        struct group_topic *t = container_of(l, struct group_topic, link);
        for (uint32_t i = t->offsets_count; i-- > 0;) {
            disown_string(g->shard->mem, &t->offsets[i].staged);
            if (!t->offsets[i].live)
                offset_remove(g, t, &t->offsets[i]);
        }
        if (t->offsets_count == 0)
            topic_free(g, t);
    }
}

/* The group that may be committed to, made if a simple one may be. */
static struct group *commit_group(struct group_shard *s, const struct group_call *call,
                                  enum kafka_error *error, bool *stale)
{
    const struct offset_commit_request *r = call->request;
    struct group *g = shard_find(s, r->group_id);
    *error = KE_NONE;
    *stale = false;
    if (g != NULL) {
        *error = commit_check(g, r, call->version, stale);
        return g;
    }
    if (r->generation_id_or_member_epoch >= 0) {
        SOMETIMES("a commit is for a group that is not there");
        *error = call->version >= 9 ? KE_GROUP_ID_NOT_FOUND : KE_ILLEGAL_GENERATION;
        return NULL;
    }
    g = shard_admit(s, r->group_id);
    *error = g != NULL ? KE_NONE : KE_COORDINATOR_NOT_AVAILABLE;
    return g;
}

void offsets_commit(struct group_shard *s, struct group_call *call)
{
    const struct offset_commit_request *r = call->request;
    uint32_t before = s->update.records_count;
    bool known = shard_find(s, r->group_id) != NULL;
    enum kafka_error error;
    bool stale;
    struct group *g = commit_group(s, call, &error, &stale);
    if (error == KE_NONE && stale)
        error = commit_parts(g, r);
    if (error != KE_NONE) {
        call_refused(s, call, error);
        return;
    }
    /* A commit is a sign of life. */
    struct group_member *m = member_find(g, r->member_id);
    if (m != NULL && (group_is(g, GROUP_STABLE) || group_is(g, GROUP_PREPARING)))
        member_beat(m, m->session_timeout_ms);
    error = commit_stage(g, r, call->response);
    if (error == KE_NONE) {
        commit_put(g, r, call->response);
    } else {
        record_rewind(s, before);
        commit_unstage(g);
    }
    if (!known && s->update.records_count == before)
        shard_remove(g); /* nothing was put: no group came to be */
    if (error != KE_NONE)
        call_refused(s, call, error);
    else
        call_answered(s, call);
}

/* ---- fetch ----------------------------------------------------------------------------------- */

static void fetch_none(struct offset_fetch_response_partitions *out, int32_t partition)
{
    offset_fetch_response_partitions_init(out);
    out->partition_index = partition;
    out->committed_offset = -1;
    out->committed_leader_epoch = -1;
    out->metadata = wire_string_of("");
}

static void fetch_tell(struct group_call *call, const struct group_offset *o,
                       struct offset_fetch_response_partitions *out)
{
    out->committed_offset = o->offset;
    out->committed_leader_epoch = o->leader_epoch;
    out->metadata = call_string(call, o->metadata);
}

/* A topic that was deleted and made anew has other offsets. */
static bool other_topic(struct uuid a, struct uuid b)
{
    return !uuid_is_zero(a) && !uuid_is_zero(b) && !uuid_equal(a, b);
}

static bool fetch_topic(struct group_shard *s, const struct group *g, struct group_call *call,
                        const struct offset_fetch_request_topics *asked,
                        struct offset_fetch_response_topics *out)
{
    const struct group_topic *t = g != NULL ? topic_find(g, asked->name) : NULL;
    const struct offset_fetch_request_group *q = call->request;
    uint32_t count = (uint32_t)MAX(asked->partition_indexes_count, 0);
    offset_fetch_response_topics_init(out);
    out->name = asked->name;
    out->topic_id = asked->topic_id;
    out->partitions = arena_array(call->arena, count, sizeof(*out->partitions));
    if (out->partitions == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct offset_fetch_response_partitions *p = &out->partitions[i];
        fetch_none(p, asked->partition_indexes[i]);
        const struct group_offset *o = offset_find(t, p->partition_index);
        if (o != NULL && !other_topic(o->topic_id, asked->topic_id))
            fetch_tell(call, o, p);
        if (call->require_stable && !DEFECT(10) &&
            transaction_holds(s, q->group_id, asked->name, p->partition_index)) {
            SOMETIMES("offsets are asked for that an open transaction will change");
            fetch_none(p, p->partition_index);
            p->error_code = KE_UNSTABLE_OFFSET_COMMIT;
        }
    }
    out->partitions_count = (int32_t)count;
    return true;
}

static bool fetch_all(struct group_shard *s, const struct group *g, struct group_call *call,
                      struct offset_fetch_response_group *r)
{
    uint32_t count = 0;
    LIST_EACH(l, &g->topics)
    count++;
    r->topics = arena_array(call->arena, count, sizeof(*r->topics));
    LIST_EACH(l, &g->topics)
    {
        const struct group_topic *t = container_of(l, struct group_topic, link);
        if (r->topics == NULL)
            return false;
        struct offset_fetch_response_topics *out = &r->topics[r->topics_count++];
        offset_fetch_response_topics_init(out);
        out->name = call_string(call, t->name);
        out->partitions = arena_array(call->arena, t->offsets_count, sizeof(*out->partitions));
        if (out->partitions == NULL)
            return false;
        for (uint32_t i = 0; i < t->offsets_count; i++) {
            struct offset_fetch_response_partitions *p = &out->partitions[i];
            fetch_none(p, t->offsets[i].partition);
            if (call->require_stable && transaction_holds(s, g->id, t->name, p->partition_index))
                p->error_code = KE_UNSTABLE_OFFSET_COMMIT;
            else
                fetch_tell(call, &t->offsets[i], p);
        }
        out->partitions_count = (int32_t)t->offsets_count;
    }
    return true;
}

static enum kafka_error fetch_check(const struct group *g,
                                    const struct offset_fetch_request_group *q, int16_t version)
{
    if (g == NULL || g->consumers == NULL)
        return KE_NONE;
    return version < 9 ? KE_NONE
                       : consumers_check_fetch(g->consumers, q->member_id, q->member_epoch);
}

void offsets_fetch(struct group_shard *s, struct group_call *call)
{
    const struct offset_fetch_request_group *q = call->request;
    struct offset_fetch_response_group *r = call->response;
    const struct group *g = shard_find(s, q->group_id);
    offset_fetch_response_group_init(r);
    r->group_id = q->group_id;
    enum kafka_error error = fetch_check(g, q, call->version);
    if (error != KE_NONE) {
        call_refused(s, call, error);
        return;
    }
    if (q->topics_count < 0) {
        if (g != NULL && !fetch_all(s, g, call, r))
            group_call_refuse(call, KE_COORDINATOR_NOT_AVAILABLE);
        call_answered(s, call);
        return;
    }
    r->topics = arena_array(call->arena, (size_t)q->topics_count, sizeof(*r->topics));
    for (int32_t i = 0; r->topics != NULL && i < q->topics_count; i++) {
        if (!fetch_topic(s, g, call, &q->topics[i], &r->topics[r->topics_count++]))
            break; /* the arena is full: call_answered says so */
    }
    call_answered(s, call);
}

/* ---- delete ---------------------------------------------------------------------------------- */

/* Members may be there if they are consumers: then what they subscribe to is protected. */
static enum kafka_error delete_check(const struct group *g)
{
    if (g == NULL)
        return KE_GROUP_ID_NOT_FOUND;
    return !group_has_members(g) || group_consumes(g) ? KE_NONE : KE_NON_EMPTY_GROUP;
}

void offsets_delete(struct group_shard *s, struct group_call *call)
{
    const struct offset_delete_request *q = call->request;
    struct offset_delete_response *r = call->response;
    struct group *g = shard_find(s, q->group_id);
    enum kafka_error error = delete_check(g);
    uint32_t before = s->update.records_count;
    for (int32_t i = 0; error == KE_NONE && i < q->topics_count; i++) {
        const struct offset_delete_request_topic *t = &q->topics[i];
        for (int32_t j = 0; error == KE_NONE && j < t->partitions_count; j++) {
            struct offset_delete_response_partition *p = &r->topics[i].partitions[j];
            int32_t partition = t->partitions[j].partition_index;
            if (p->error_code != KE_NONE)
                continue;
            if (group_subscribes(g, t->name))
                p->error_code = KE_GROUP_SUBSCRIBED_TO_TOPIC;
            else if (offset_find(topic_find(g, t->name), partition) != NULL ||
                     transaction_holds(s, g->id, t->name, partition))
                error = record_offset_gone(g, t->name, partition);
        }
    }
    if (error != KE_NONE) {
        record_rewind(s, before);
        call_refused(s, call, error);
        return;
    }
    for (int32_t i = 0; i < q->topics_count; i++) {
        const struct offset_delete_request_topic *t = &q->topics[i];
        for (int32_t j = 0; j < t->partitions_count; j++) {
            if (r->topics[i].partitions[j].error_code != KE_NONE)
                continue;
            struct offset_commit_key key = {g->id, t->name, t->partitions[j].partition_index};
            offsets_drop(g, t->name, key.partition);
            transaction_drop(s, &key);
        }
    }
    call_answered(s, call);
}

bool offsets_record_gone(struct group *g)
{
    uint32_t before = g->shard->update.records_count;
    LIST_EACH(l, &g->topics)
    {
        const struct group_topic *t = container_of(l, struct group_topic, link);
        for (uint32_t i = 0; i < t->offsets_count; i++) {
            if (record_offset_gone(g, t->name, t->offsets[i].partition) != KE_NONE) {
                record_rewind(g->shard, before);
                return false;
            }
        }
    }
    return true;
}

/* A tombstone, and it is gone. A record that cannot be made now is made at the next round. */
static bool offset_expel(struct group *g, struct group_topic *t, struct group_offset *o)
{
    if (record_offset_gone(g, t->name, o->partition) != KE_NONE)
        return false;
    offset_remove(g, t, o);
    return true;
}

void offsets_topic_deleted(struct group *g, struct wire_string topic, int32_t first_partition)
{
    struct group_topic *t = topic_find(g, topic);
    if (t == NULL)
        return;
    SOMETIMES("the offsets of a deleted topic go");
    for (uint32_t i = t->offsets_count; i-- > offset_index(t, first_partition);)
        g->shard->records_lost += !offset_expel(g, t, &t->offsets[i]);
    if (t->offsets_count == 0)
        topic_free(g, t);
}

/* ---- expire ---------------------------------------------------------------------------------- */

/* Since when the retention of an offset counts; false: it does not. */
static bool expiry_base(const struct group *g, const struct group_offset *o, int64_t *base_ms)
{
    *base_ms = o->commit_ms;
    if (g->consumers != NULL || g->protocol_type.size < 0)
        return true;
    if (group_is(g, GROUP_EMPTY)) {
        if (g->state_since_ms != -1)
            *base_ms = g->state_since_ms;
        return true;
    }
    return group_consumes(g) && g->subscribed_known && group_is(g, GROUP_STABLE);
}

static bool offset_expired(const struct group *g, const struct group_topic *t,
                           const struct group_offset *o)
{
    int64_t base_ms, now_ms = *g->shard->wall_ms;
    int64_t retention_ms = (int64_t)g->shard->config->offsets_retention_minutes * 60 * 1000;
    if (!expiry_base(g, o, &base_ms) || transaction_holds(g->shard, g->id, t->name, o->partition))
        return false;
    return o->expire_ms != -1 ? now_ms >= o->expire_ms : base_ms <= now_ms - retention_ms;
}

bool offsets_expire(struct group *g)
{
    bool empty = true;
    LIST_EACH(l, &g->topics)
    {
        struct group_topic *t = container_of(l, struct group_topic, link);
        bool read = group_subscribes(g, t->name);
        for (uint32_t i = t->offsets_count; i-- > 0 && !read;) {
            if (offset_expired(g, t, &t->offsets[i]))
                g->shard->records_lost += !offset_expel(g, t, &t->offsets[i]);
        }
        if (t->offsets_count == 0)
            topic_free(g, t);
        else
            empty = false;
    }
    return empty && !transaction_holds_group(g->shard, g->id);
}
