/* What a consumer group has on record, in Kafka's formats, and how it is read back.
 *
 *   kind 3  group                 epoch, hash of the topics' metadata
 *        4  group                 (older Kafka's copy of that metadata: only ever deleted here)
 *        5  group, member         what it told us
 *        6  group                 epoch and time of the target
 *        7  group, member         its part of the target
 *        8  group, member         its epoch, state, what it has and gives up
 *       16  group, pattern        the topics it stands for
 *
 * Invariants
 *  1. A record and the change it stands for are made in one step, the change by the same function
 *     that replay uses; if the change finds no memory the record is taken back.
 *  2. Members go in the order 8, 7, 5, the group after its members, 6 before 3: Kafka refuses to
 *     load a log in which they go otherwise.
 *
 * Failure modes: as in record.c. While replaying: what is about something that is not there is
 * passed over; a group that has classic members is not made a consumer group by a stray record. */
#include "broker/group/consumer_priv.h"
#include "core/assert.h"

typedef struct consumer_group_current_member_assignment_value_topic_partitions now_topic;
typedef struct consumer_group_target_assignment_member_value_topic_partition target_topic;

#define PARTS_MAX (1u << 22) /* partitions in one record: 16 MB of them fit into no batch */

static struct group_shard *shard_of(const struct consumer_group *cg)
{
    return cg->group->shard;
}

static struct arena *arena_of(const struct consumer_group *cg)
{
    return &shard_of(cg)->update.arena;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static struct batch_field group_key(const struct consumer_group *cg, int16_t kind)
{
    struct consumer_group_metadata_key key = {.group_id = cg->group->id};
    struct batch_field field = {0};
    RECORD_ENCODE(arena_of(cg), field, kind, consumer_group_metadata_key, &key, 0);
    return field;
}

/* Kinds with a member, or with a pattern: the fields have the same shape. */
static struct batch_field named_key(const struct consumer_group *cg, int16_t kind,
                                    struct wire_string name)
{
    struct consumer_group_member_metadata_key key = {cg->group->id, name};
    struct batch_field field = {0};
    RECORD_ENCODE(arena_of(cg), field, kind, consumer_group_member_metadata_key, &key, 0);
    return field;
}

static enum kafka_error add(struct consumer_group *cg, struct batch_field key,
                            struct batch_field value)
{
    if (key.data == NULL || value.data == NULL)
        return KE_COORDINATOR_NOT_AVAILABLE;
    return record_add(shard_of(cg), key, value);
}

static enum kafka_error add_gone(struct consumer_group *cg, struct batch_field key)
{
    if (key.data == NULL)
        return KE_COORDINATOR_NOT_AVAILABLE;
    return record_add(shard_of(cg), key, (struct batch_field){0});
}

/* The record stands; has the change been made? */
static enum kafka_error applied(struct consumer_group *cg, bool done)
{
    if (done)
        return KE_NONE;
    record_rewind(shard_of(cg), shard_of(cg)->update.records_count - 1);
    return KE_COORDINATOR_NOT_AVAILABLE;
}

/* ---- members --------------------------------------------------------------------------------- */

static enum kafka_error record_told(struct consumer_group *cg, struct wire_string id,
                                    const struct consumer_group_member_metadata_value *v)
{
    struct batch_field field = {0};
    RECORD_ENCODE(arena_of(cg), field, 0, consumer_group_member_metadata_value, v, 0);
    return add(cg, named_key(cg, CONSUMER_GROUP_MEMBER_METADATA_KEY_API_KEY, id), field);
}

enum kafka_error consumer_put(struct consumer_group *cg, struct wire_string id,
                              const struct consumer_group_member_metadata_value *v)
{
    enum kafka_error error = record_told(cg, id, v);
    return error == KE_NONE ? applied(cg, consumer_apply(cg, id, v)) : error;
}

/* The partitions of a run, as a record has them. */
static int32_t *run_indexes(struct arena *arena, const struct part_set *s, uint32_t from,
                            uint32_t count)
{
    int32_t *list = arena_array(arena, count, sizeof(*list));
    for (uint32_t i = 0; list != NULL && i < count; i++)
        list[i] = s->list[from + i].index;
    return list;
}

static uint32_t runs_count(const struct part_set *s)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->count; i += part_set_run(s, i))
        count++;
    return count;
}

static enum kafka_error record_target(struct consumer_group *cg, struct wire_string id,
                                      const struct part_set *target)
{
    struct arena *arena = arena_of(cg);
    struct consumer_group_target_assignment_member_value v;
    struct batch_field field = {0};
    consumer_group_target_assignment_member_value_init(&v);
    v.topic_partitions = arena_array(arena, runs_count(target), sizeof(target_topic));
    for (uint32_t i = 0; v.topic_partitions != NULL && i < target->count;) {
        uint32_t run = part_set_run(target, i);
        target_topic *t = &v.topic_partitions[v.topic_partitions_count++];
        t->topic_id = target->list[i].topic;
        t->partitions = run_indexes(arena, target, i, run);
        t->partitions_count = (int32_t)run;
        i += run;
    }
    if (arena->failed)
        return KE_COORDINATOR_NOT_AVAILABLE;
    RECORD_ENCODE(arena, field, 0, consumer_group_target_assignment_member_value, &v, 0);
    return add(cg, named_key(cg, CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_API_KEY, id), field);
}

enum kafka_error consumer_put_target(struct consumer *c, const struct part_set *target)
{
    enum kafka_error error = record_target(c->of, c->id, target);
    return error == KE_NONE ? applied(c->of, consumer_apply_target(c, target)) : error;
}

static now_topic *now_topics(struct arena *arena, const struct part_set *s, int32_t *count)
{
    now_topic *list = arena_array(arena, runs_count(s), sizeof(*list));
    *count = 0;
    for (uint32_t i = 0; list != NULL && i < s->count;) {
        uint32_t run = part_set_run(s, i);
        now_topic *t = &list[(*count)++];
        consumer_group_current_member_assignment_value_topic_partitions_init(t);
        t->topic_id = s->list[i].topic;
        t->partitions = run_indexes(arena, s, i, run);
        t->partitions_count = (int32_t)run;
        t->assignment_epochs = arena_array(arena, run, sizeof(int32_t));
        t->assignment_epochs_count = (int32_t)run;
        for (uint32_t k = 0; t->assignment_epochs != NULL && k < run; k++)
            t->assignment_epochs[k] = s->list[i + k].epoch;
        i += run;
    }
    return list;
}

static enum kafka_error record_now(struct consumer_group *cg, struct wire_string id,
                                   const struct consumer_now *now)
{
    struct arena *arena = arena_of(cg);
    struct consumer_group_current_member_assignment_value v;
    struct batch_field field = {0};
    consumer_group_current_member_assignment_value_init(&v);
    v.member_epoch = now->epoch;
    v.previous_member_epoch = now->previous_epoch;
    v.state = (int8_t)now->state;
    v.assigned_partitions = now_topics(arena, &now->assigned, &v.assigned_partitions_count);
    v.partitions_pending_revocation =
        now_topics(arena, &now->revoking, &v.partitions_pending_revocation_count);
    if (arena->failed)
        return KE_COORDINATOR_NOT_AVAILABLE;
    RECORD_ENCODE(arena, field, 0, consumer_group_current_member_assignment_value, &v, 0);
    return add(cg, named_key(cg, CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_API_KEY, id), field);
}

enum kafka_error consumer_put_now(struct consumer *c, const struct consumer_now *now)
{
    enum kafka_error error = record_now(c->of, c->id, now);
    return error == KE_NONE ? applied(c->of, consumer_apply_now(c, now)) : error;
}

static enum kafka_error record_consumer_gone(struct consumer *c)
{
    static const int16_t kinds[] = {CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_API_KEY,
                                    CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_API_KEY,
                                    CONSUMER_GROUP_MEMBER_METADATA_KEY_API_KEY};
    uint32_t before = shard_of(c->of)->update.records_count;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        enum kafka_error error = add_gone(c->of, named_key(c->of, kinds[i], c->id));
        if (error != KE_NONE) {
            record_rewind(shard_of(c->of), before);
            return error;
        }
    }
    return KE_NONE;
}

enum kafka_error consumer_forget(struct consumer *c)
{
    enum kafka_error error = record_consumer_gone(c);
    if (error == KE_NONE)
        consumer_drop(c);
    return error;
}

static enum kafka_error record_rename(struct consumer *c, struct wire_string id)
{
    struct consumer_group_member_metadata_value v;
    struct consumer_now now = {.state = c->state, .assigned = c->assigned, .revoking = c->revoking};
    if (!consumer_told(c, arena_of(c->of), &v))
        return KE_COORDINATOR_NOT_AVAILABLE;
    enum kafka_error error = record_consumer_gone(c);
    if (error == KE_NONE)
        error = record_told(c->of, id, &v);
    if (error == KE_NONE)
        error = record_target(c->of, id, &c->target);
    if (error == KE_NONE)
        error = record_now(c->of, id, &now);
    return error;
}

enum kafka_error consumer_rename(struct consumer *c, struct wire_string id)
{
    struct group_shard *s = shard_of(c->of);
    uint32_t before = s->update.records_count;
    enum kafka_error error = record_rename(c, id);
    if (error == KE_NONE && !consumer_apply_rename(c, id))
        error = KE_COORDINATOR_NOT_AVAILABLE;
    if (error != KE_NONE) {
        record_rewind(s, before);
        return error;
    }
    c->epoch = c->previous_epoch = 0;
    return KE_NONE;
}

/* ---- the group ------------------------------------------------------------------------------- */

enum kafka_error consumers_put_epoch(struct consumer_group *cg, int32_t epoch, int64_t hash)
{
    struct consumer_group_metadata_value v = {.epoch = epoch, .metadata_hash = hash};
    struct batch_field field = {0};
    RECORD_ENCODE(arena_of(cg), field, 0, consumer_group_metadata_value, &v, 0);
    enum kafka_error error = add(cg, group_key(cg, CONSUMER_GROUP_METADATA_KEY_API_KEY), field);
    if (error != KE_NONE)
        return error;
    cg->epoch = epoch;
    cg->hash = hash;
    return KE_NONE;
}

enum kafka_error consumers_put_target_epoch(struct consumer_group *cg, int32_t epoch, int64_t at_ms)
{
    struct consumer_group_target_assignment_metadata_value v = {.assignment_epoch = epoch,
                                                                .assignment_timestamp = at_ms};
    struct batch_field field = {0};
    RECORD_ENCODE(arena_of(cg), field, 0, consumer_group_target_assignment_metadata_value, &v, 0);
    enum kafka_error error =
        add(cg, group_key(cg, CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA_KEY_API_KEY), field);
    if (error != KE_NONE)
        return error;
    cg->target_epoch = epoch;
    cg->target_ms = at_ms;
    return KE_NONE;
}

enum kafka_error consumers_put_pattern(struct consumer_group *cg, struct wire_string text,
                                       const struct consumer_group_regular_expression_value *v)
{
    struct batch_field field = {0};
    RECORD_ENCODE(arena_of(cg), field, 0, consumer_group_regular_expression_value, v, 0);
    enum kafka_error error =
        add(cg, named_key(cg, CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_API_KEY, text), field);
    return error == KE_NONE ? applied(cg, consumers_apply_pattern(cg, text, v)) : error;
}

enum kafka_error consumers_forget_pattern(struct consumer_group *cg, struct wire_string text)
{
    enum kafka_error error =
        add_gone(cg, named_key(cg, CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_API_KEY, text));
    if (error == KE_NONE)
        consumers_drop_pattern(cg, text);
    return error;
}

enum kafka_error consumers_forget_old_metadata(struct consumer_group *cg)
{
    if (!cg->old_metadata)
        return KE_NONE;
    enum kafka_error error =
        add_gone(cg, group_key(cg, CONSUMER_GROUP_PARTITION_METADATA_KEY_API_KEY));
    cg->old_metadata = error != KE_NONE;
    return error;
}

static enum kafka_error record_all_gone(struct consumer_group *cg)
{
    enum kafka_error error = KE_NONE;
    LIST_EACH(l, &cg->patterns)
    {
        struct consumer_pattern *p = container_of(l, struct consumer_pattern, link);
        if (p->resolved && error == KE_NONE)
            error =
                add_gone(cg, named_key(cg, CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_API_KEY, p->text));
    }
    LIST_EACH(l, &cg->members)
    {
        if (error == KE_NONE)
            error = record_consumer_gone(container_of(l, struct consumer, link));
    }
    if (error == KE_NONE)
        error = add_gone(cg, group_key(cg, CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA_KEY_API_KEY));
    if (error == KE_NONE && cg->old_metadata)
        error = add_gone(cg, group_key(cg, CONSUMER_GROUP_PARTITION_METADATA_KEY_API_KEY));
    if (error == KE_NONE)
        error = add_gone(cg, group_key(cg, CONSUMER_GROUP_METADATA_KEY_API_KEY));
    return error;
}

enum kafka_error consumers_record_gone(struct consumer_group *cg)
{
    uint32_t before = shard_of(cg)->update.records_count;
    enum kafka_error error = record_all_gone(cg);
    if (error != KE_NONE)
        record_rewind(shard_of(cg), before);
    return error;
}

/* ---- replay ---------------------------------------------------------------------------------- */

/* The consumer group of that id, made if it may be. A classic group without a record of its own is
 * one that was made for offsets alone. *known: false, the record is about something else. */
static struct consumer_group *replay_group(struct group_shard *s, struct wire_string id,
                                           bool deletes, bool *known)
{
    struct group *g = shard_find(s, id);
    *known = true;
    if (g != NULL && g->consumers != NULL)
        return g->consumers;
    bool simple = g == NULL || (g->protocol_type.size < 0 && g->members_count == 0);
    if (deletes || !simple) {
        *known = false;
        return NULL;
    }
    if (g == NULL)
        g = shard_create(s, id);
    return g != NULL ? consumers_make(g) : NULL;
}

static bool replay_parts(struct arena *arena, const now_topic *topics, int32_t count, int32_t epoch,
                         struct part_set *to)
{
    uint64_t total = 0;
    for (int32_t i = 0; i < count; i++)
        total += (uint32_t)MAX(topics[i].partitions_count, 0);
    *to = (struct part_set){0};
    if (total > PARTS_MAX)
        return false;
    to->list = arena_array(arena, total, sizeof(*to->list));
    if (to->list == NULL)
        return false;
    for (int32_t i = 0; i < count; i++) {
        const now_topic *t = &topics[i];
        bool epochs = t->assignment_epochs_count == t->partitions_count;
        for (int32_t k = 0; k < t->partitions_count; k++)
            to->list[to->count++] =
                (struct part){.topic = t->topic_id,
                              .index = t->partitions[k],
                              .epoch = epochs ? t->assignment_epochs[k] : epoch};
    }
    part_set_order(to);
    return true;
}

static bool replay_now(struct consumer *c, struct wire_reader *r, struct arena *arena)
{
    struct consumer_group_current_member_assignment_value v;
    struct consumer_now now = {0};
    if (consumer_group_current_member_assignment_value_decode(&v, r, 0, arena) != 0)
        return true;
    now.epoch = v.member_epoch;
    now.previous_epoch = v.previous_member_epoch;
    now.state = v.state >= CONSUMER_STABLE && v.state <= CONSUMER_UNRELEASED ? (uint8_t)v.state
                                                                             : CONSUMER_UNRELEASED;
    if (!replay_parts(arena, v.assigned_partitions, v.assigned_partitions_count, v.member_epoch,
                      &now.assigned) ||
        !replay_parts(arena, v.partitions_pending_revocation, v.partitions_pending_revocation_count,
                      v.member_epoch, &now.revoking))
        return false;
    return consumer_apply_now(c, &now);
}

static bool replay_target(struct consumer *c, struct wire_reader *r, struct arena *arena)
{
    struct consumer_group_target_assignment_member_value v;
    struct part_set target = {0};
    uint64_t total = 0;
    if (consumer_group_target_assignment_member_value_decode(&v, r, 0, arena) != 0)
        return true;
    for (int32_t i = 0; i < v.topic_partitions_count; i++)
        total += (uint32_t)MAX(v.topic_partitions[i].partitions_count, 0);
    target.list = arena_array(arena, total, sizeof(*target.list));
    if (target.list == NULL)
        return false;
    for (int32_t i = 0; i < v.topic_partitions_count; i++) {
        for (int32_t k = 0; k < v.topic_partitions[i].partitions_count; k++)
            target.list[target.count++] =
                (struct part){.topic = v.topic_partitions[i].topic_id,
                              .index = v.topic_partitions[i].partitions[k]};
    }
    part_set_order(&target);
    return consumer_apply_target(c, &target);
}

/* Kinds 5, 7 and 8: a member that is not known yet is made, whichever comes first after a log has
 * been compacted. */
static bool replay_member(struct consumer_group *cg, int16_t kind, struct wire_string id,
                          struct wire_reader *r, bool deletes)
{
    struct arena *arena = arena_of(cg);
    struct consumer *c = consumer_find(cg, id);
    if (deletes) {
        struct consumer_now none = {.epoch = CONSUMER_LEAVES, .previous_epoch = -1};
        if (c != NULL && kind == CONSUMER_GROUP_MEMBER_METADATA_KEY_API_KEY)
            consumer_drop(c);
        else if (c != NULL && kind == CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_API_KEY)
            return consumer_apply_now(c, &none);
        else if (c != NULL && consumer_apply_target(c, &none.assigned))
            c->has_target = false;
        return true;
    }
    struct consumer_group_member_metadata_value v;
    if (kind == CONSUMER_GROUP_MEMBER_METADATA_KEY_API_KEY) {
        if (consumer_group_member_metadata_value_decode(&v, r, 0, arena) != 0)
            return true;
        return consumer_apply(cg, id, &v);
    }
    if (c == NULL && id.size > 0) {
        consumer_told_nothing(&v);
        if (!consumer_apply(cg, id, &v))
            return false;
        c = consumer_find(cg, id);
    }
    if (c == NULL)
        return true;
    return kind == CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_API_KEY ? replay_target(c, r, arena)
                                                                       : replay_now(c, r, arena);
}

static void replay_group_gone(struct consumer_group *cg)
{
    struct group *g = cg->group;
    consumers_free(g);
    if (g->topics_by_name.count == 0)
        shard_remove(g);
}

static bool replay_epochs(struct consumer_group *cg, int16_t kind, struct wire_reader *r,
                          bool deletes)
{
    struct consumer_group_metadata_value v;
    struct consumer_group_target_assignment_metadata_value t;
    if (kind == CONSUMER_GROUP_PARTITION_METADATA_KEY_API_KEY) {
        cg->old_metadata = !deletes;
    } else if (kind == CONSUMER_GROUP_METADATA_KEY_API_KEY) {
        if (deletes) {
            replay_group_gone(cg);
        } else if (consumer_group_metadata_value_decode(&v, r, 0, arena_of(cg)) == 0) {
            cg->epoch = v.epoch;
            cg->hash = v.metadata_hash;
        }
    } else if (deletes) {
        cg->target_epoch = -1;
        cg->target_ms = 0;
    } else if (consumer_group_target_assignment_metadata_value_decode(&t, r, 0, arena_of(cg)) ==
               0) {
        cg->target_epoch = t.assignment_epoch;
        cg->target_ms = t.assignment_timestamp;
    }
    return true;
}

bool consumers_replay(struct group_shard *s, int16_t kind, struct wire_reader *key,
                      struct batch_field value)
{
    struct wire_string id = wire_get_string(key, false), name = WIRE_NULL_STRING;
    bool named = kind == CONSUMER_GROUP_MEMBER_METADATA_KEY_API_KEY ||
                 kind == CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER_KEY_API_KEY ||
                 kind == CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT_KEY_API_KEY ||
                 kind == CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_API_KEY;
    bool deletes = value.data == NULL, known;
    struct wire_reader r;
    if (named)
        name = wire_get_string(key, false);
    wire_reader_init(&r, value.data, deletes ? 0 : value.size);
    int16_t version = deletes ? 0 : wire_get_int16(&r);
    if (key->error != 0 || r.error != 0 || version != 0)
        return true; /* malformed, or of a version that is not known */
    struct consumer_group *cg = replay_group(s, id, deletes, &known);
    if (cg == NULL)
        return !known;
    if (!named)
        return replay_epochs(cg, kind, &r, deletes);
    if (kind != CONSUMER_GROUP_REGULAR_EXPRESSION_KEY_API_KEY)
        return replay_member(cg, kind, name, &r, deletes);
    struct consumer_group_regular_expression_value v;
    if (deletes)
        consumers_drop_pattern(cg, name);
    else if (consumer_group_regular_expression_value_decode(&v, &r, 0, arena_of(cg)) == 0)
        return consumers_apply_pattern(cg, name, &v);
    return true;
}
