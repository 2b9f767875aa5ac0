/* What the main thread does for a load of groups: before it, what members say of themselves; after
 * it, how many of their commits each group has, and the groups' end.
 *
 *   groups_plan ─▶ members run (member.c) ─▶ groups_check ─▶ groups_end: members leave, groups go
 *
 * Failure modes: a group that has less than was acknowledged lost commits, and one that has more
 * than was sent has what nobody wrote: both are counted, the load is not sound. Groups of a load
 * that breaks stay until their offsets expire. */
#include "broker/bench/worker.h"
#include "core/core.h"
#include "proto/error.h"
#include "proto/gen/consumer_group_heartbeat.h"
#include "proto/gen/delete_groups.h"
#include "proto/gen/leave_group.h"
#include "proto/gen/offset_fetch.h"
#include "proto/gen/record_consumer_protocol.h"

#define AT_ONCE           100u /* groups in one request */
#define FETCH_GROUPS_MIN  8    /* versions from which requests name several groups, and members */
#define LEAVE_MEMBERS_MIN 3
#define BLOB_VERSION      0
#define EPOCH_LEAVES      (-1)

/* ---- before ---------------------------------------------------------------------------------- */

static void put_subscription(struct wire_writer *w, const struct plan *p)
{
    struct wire_string topic = wire_string_of(p->topic->name);
    struct consumer_protocol_subscription s;
    consumer_protocol_subscription_init(&s);
    s.topics = &topic;
    s.topics_count = 1;
    wire_put_int16(w, BLOB_VERSION);
    consumer_protocol_subscription_encode(&s, w, BLOB_VERSION);
}

static void put_assignment(struct wire_writer *w, const struct plan *p, int32_t *all)
{
    struct consumer_protocol_assignment_topic_partition t;
    struct consumer_protocol_assignment a;
    consumer_protocol_assignment_topic_partition_init(&t);
    t.topic = wire_string_of(p->topic->name);
    t.partitions = all;
    t.partitions_count = (int32_t)p->topic->partitions_count;
    consumer_protocol_assignment_init(&a);
    a.assigned_partitions = &t;
    a.assigned_partitions_count = 1;
    wire_put_int16(w, BLOB_VERSION);
    consumer_protocol_assignment_encode(&a, w, BLOB_VERSION);
}

static bool blob_make(struct wire_bytes *b, struct mem *mem, const struct plan *p, int32_t *all)
{
    struct wire_writer w = {0};
    uint8_t *data = NULL;
    for (uint32_t pass = 0; pass < 2; pass++) { /* how large it is, then what it is */
        if (pass == 1)
            wire_writer_init(&w, data, (uint64_t)b->size);
        if (all == NULL)
            put_subscription(&w, p);
        else
            put_assignment(&w, p, all);
        if (pass == 1)
            break;
        b->size = (int32_t)w.position;
        b->data = data = mem_alloc(mem, w.position);
        if (data == NULL)
            return false;
    }
    assert(wire_writer_ok(&w) && w.position == (uint64_t)b->size);
    return true;
}

bool groups_plan(struct bench_client *c, struct plan *p, struct mem *mem)
{
    static const int16_t classic[] = {API_JOIN_GROUP, API_SYNC_GROUP, API_HEARTBEAT};
    bool served = bench_ask_begin(c, API_OFFSET_COMMIT);
    if (p->o.consumer_protocol)
        served = served && bench_ask_begin(c, API_CONSUMER_GROUP_HEARTBEAT);
    for (size_t i = 0; i < sizeof(classic) / sizeof(classic[0]) && !p->o.consumer_protocol; i++)
        served = served && bench_ask_begin(c, classic[i]);
    if (!served)
        return false;
    if (c->versions[API_OFFSET_FETCH] < FETCH_GROUPS_MIN ||
        c->versions[API_LEAVE_GROUP] < LEAVE_MEMBERS_MIN)
        return bench_client_fail(c, "a broker too old to be asked for many groups at once");
    uint32_t count = p->topic->partitions_count;
    int32_t *all = mem_alloc(mem, count * sizeof(*all));
    for (uint32_t i = 0; i < count && all != NULL; i++)
        all[i] = (int32_t)i;
    p->versions = c->versions;
    bool good = all != NULL && blob_make(&p->subscription, mem, p, NULL) &&
                blob_make(&p->assignment, mem, p, all);
    mem_free(mem, all, count * sizeof(*all));
    return good || bench_client_fail(c, "no memory");
}

void groups_free(struct plan *p, struct mem *mem)
{
    mem_free(mem, (void *)(uintptr_t)p->subscription.data, (size_t)MAX(p->subscription.size, 0));
    mem_free(mem, (void *)(uintptr_t)p->assignment.data, (size_t)MAX(p->assignment.size, 0));
}

/* ---- after ----------------------------------------------------------------------------------- */

static void group_count(struct bench_counts *counts, const struct member *m, int64_t found)
{
    counts->checked++;
    if (found < (int64_t)m->acknowledged)
        counts->lost += m->acknowledged - (uint64_t)MAX(found, 0);
    else if (found > (int64_t)m->made)
        counts->misplaced++;
}

/* What the group has of its partition; -1: nothing, as when the topic is gone. false: it does not
 * say. */
static bool group_offset(struct bench_client *c, const struct offset_fetch_response_group *g,
                         int64_t *offset)
{
    bool one = g->topics_count == 1 && g->topics[0].partitions_count == 1;
    int16_t error = g->error_code;
    if (error == KE_NONE && one)
        error = g->topics[0].partitions[0].error_code;
    *offset = -1;
    if (error == KE_UNKNOWN_TOPIC_OR_PARTITION || error == KE_UNKNOWN_TOPIC_ID)
        return true;
    if (error != KE_NONE || !one)
        return bench_client_fail(c, "OffsetFetch of a group: %s",
                                 kafka_error_name((enum kafka_error)error));
    *offset = g->topics[0].partitions[0].committed_offset;
    return true;
}

static bool members_check(struct bench_client *c, const struct plan *p, struct member **members,
                          uint32_t count, struct bench_counts *counts)
{
    struct offset_fetch_request_group groups[AT_ONCE];
    struct offset_fetch_request_topics topics[AT_ONCE];
    int32_t partitions[AT_ONCE];
    struct offset_fetch_request request;
    struct offset_fetch_response response;
    assert(count <= AT_ONCE);
    for (uint32_t i = 0; i < count; i++) {
        partitions[i] = (int32_t)members[i]->share->own[0];
        offset_fetch_request_topics_init(&topics[i]);
        topics[i].name = wire_string_of(p->topic->name);
        topics[i].topic_id = p->topic->id;
        topics[i].partition_indexes = &partitions[i];
        topics[i].partition_indexes_count = 1;
        offset_fetch_request_group_init(&groups[i]);
        groups[i].group_id = wire_string_of(members[i]->group);
        groups[i].topics = &topics[i];
        groups[i].topics_count = 1;
    }
    offset_fetch_request_init(&request);
    request.groups = groups;
    request.groups_count = (int32_t)count;
    if (!BENCH_ASK(c, API_OFFSET_FETCH, offset_fetch, &request, &response))
        return false;
    if (response.groups_count != (int32_t)count)
        return bench_client_fail(c, "OffsetFetch: %d groups answered of %u", response.groups_count,
                                 count);
    for (uint32_t i = 0; i < count; i++) {
        int64_t found;
        if (!group_offset(c, &response.groups[i], &found))
            return false;
        group_count(counts, members[i], found);
    }
    return true;
}

static bool member_leave(struct bench_client *c, const struct plan *p, const struct member *m)
{
    struct wire_string id = {m->id, (int32_t)m->id_size};
    if (p->o.consumer_protocol) {
        struct consumer_group_heartbeat_request request;
        struct consumer_group_heartbeat_response response;
        consumer_group_heartbeat_request_init(&request);
        request.group_id = wire_string_of(m->group);
        request.member_id = id;
        request.member_epoch = EPOCH_LEAVES;
        return BENCH_ASK(c, API_CONSUMER_GROUP_HEARTBEAT, consumer_group_heartbeat, &request,
                         &response);
    }
    struct leave_group_request_member_identity self;
    struct leave_group_request request;
    struct leave_group_response response;
    leave_group_request_member_identity_init(&self);
    self.member_id = id;
    leave_group_request_init(&request);
    request.group_id = wire_string_of(m->group);
    request.members = &self;
    request.members_count = 1;
    return BENCH_ASK(c, API_LEAVE_GROUP, leave_group, &request, &response);
}

static bool members_end(struct bench_client *c, const struct plan *p, struct member **members,
                        uint32_t count)
{
    struct wire_string names[AT_ONCE];
    struct delete_groups_request request;
    struct delete_groups_response response;
    for (uint32_t i = 0; i < count; i++) {
        names[i] = wire_string_of(members[i]->group);
        if (!member_leave(c, p, members[i]))
            return false;
    }
    delete_groups_request_init(&request);
    request.groups_names = names;
    request.groups_names_count = (int32_t)count;
    return BENCH_ASK(c, API_DELETE_GROUPS, delete_groups, &request, &response);
}

bool groups_end(struct bench_client *c, const struct plan *p, struct worker *workers,
                struct bench_counts *counts)
{
    for (uint32_t i = 0; i < p->threads_count; i++)
        for (uint32_t n = 0; n < workers[i].senders_count; n += AT_ONCE) {
            struct member **members = workers[i].members + n;
            uint32_t count = MIN(AT_ONCE, workers[i].senders_count - n);
            if (!members_check(c, p, members, count, counts) || !members_end(c, p, members, count))
                return false;
        }
    return true;
}
