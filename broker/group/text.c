/* Texts of groups, and calls as seen from outside: what is owned by a group, what is copied for an
 * answer, how a call ends, and which partition an id belongs to.
 *
 * Invariants
 *  1. What an answer points at is the asker's own memory or the call's arena, never the group's:
 *     the group goes on while the answer is on its way.
 *  2. A call is answered once: it is linked nowhere while it is worked on or held.
 *
 * Failure modes: an answer that finds no room in its arena becomes COORDINATOR_NOT_AVAILABLE, which
 * every client retries. The step it belongs to has happened then, as if the answer had been lost on
 * the network. */
#include "broker/group/consumer_priv.h"
#include "core/assert.h"
#include "proto/gen/delete_groups.h"
#include "proto/gen/describe_groups.h"
#include "proto/gen/heartbeat.h"
#include "proto/gen/leave_group.h"
#include "proto/gen/list_groups.h"
#include "proto/gen/offset_commit.h"
#include "proto/gen/offset_delete.h"
#include "proto/gen/offset_fetch.h"
#include "proto/gen/sync_group.h"
#include "proto/gen/txn_offset_commit.h"

#include <stdio.h>

#define JAVA_UUID_TEXT 36

/* ---- owned ----------------------------------------------------------------------------------- */

bool own_bytes(struct mem *mem, struct wire_bytes *to, struct wire_bytes from)
{
    *to = (struct wire_bytes){(const uint8_t *)"", from.size};
    if (from.size <= 0)
        return true;
    uint8_t *copy = mem_alloc(mem, (size_t)from.size);
    if (copy == NULL) {
        *to = WIRE_NULL_BYTES;
        return false;
    }
    memcpy(copy, from.data, (size_t)from.size);
    to->data = copy;
    return true;
}

void disown_bytes(struct mem *mem, struct wire_bytes *b)
{
    if (b->size > 0)
        mem_free(mem, (void *)(uintptr_t)b->data, (size_t)b->size);
    *b = WIRE_NULL_BYTES;
}

bool own_string(struct mem *mem, struct wire_string *to, struct wire_string from)
{
    struct wire_bytes copy;
    bool done = own_bytes(mem, &copy, (struct wire_bytes){(const uint8_t *)from.data, from.size});
    *to = (struct wire_string){(const char *)copy.data, copy.size};
    return done;
}

void disown_string(struct mem *mem, struct wire_string *s)
{
    struct wire_bytes b = {(const uint8_t *)s->data, s->size};
    disown_bytes(mem, &b);
    *s = WIRE_NULL_STRING;
}

/* A random UUID, version 4. */
static struct uuid random_uuid(struct group_shard *s)
{
    uint64_t high = s->random(s->context), low = s->random(s->context);
    struct uuid id;
    high = (high & ~0xf000ull) | 0x4000;
    low = (low & ~(3ull << 62)) | 1ull << 63; /* variant 1 */
    for (int i = 0; i < 8; i++) {
        id.bytes[i] = (uint8_t)(high >> (56 - 8 * i));
        id.bytes[8 + i] = (uint8_t)(low >> (56 - 8 * i));
    }
    return id;
}

struct wire_string make_uuid_text(struct group_shard *s, struct arena *arena)
{
    struct uuid id = random_uuid(s);
    char *text = arena_alloc(arena, JAVA_UUID_TEXT + 1);
    int size = 0;
    if (text == NULL)
        return WIRE_NULL_STRING;
    for (int i = 0; i < 16; i++)
        size += snprintf(text + size, (size_t)(JAVA_UUID_TEXT + 1 - size),
                         i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", id.bytes[i]);
    assert(size == JAVA_UUID_TEXT);
    return (struct wire_string){text, JAVA_UUID_TEXT};
}

struct wire_string make_member_name(struct group_shard *s, struct arena *arena)
{
    char *text = arena_alloc(arena, UUID_TEXT_SIZE);
    if (text == NULL)
        return WIRE_NULL_STRING;
    return wire_string_of(uuid_text(random_uuid(s), text));
}

/* ---- answers --------------------------------------------------------------------------------- */

struct wire_bytes call_bytes(struct group_call *call, struct wire_bytes b)
{
    if (b.size <= 0)
        return (struct wire_bytes){(const uint8_t *)"", b.size};
    const uint8_t *copy = arena_copy(call->arena, b.data, (size_t)b.size);
    return (struct wire_bytes){copy, copy != NULL ? b.size : 0};
}

struct wire_string call_string(struct group_call *call, struct wire_string s)
{
    struct wire_bytes copy = call_bytes(call, (struct wire_bytes){(const uint8_t *)s.data, s.size});
    return (struct wire_string){(const char *)copy.data, copy.size};
}

void call_answered(struct group_shard *s, struct group_call *call)
{
    assert(call->member == NULL);
    if (call->arena->failed)
        group_call_refuse(call, KE_COORDINATOR_NOT_AVAILABLE);
    list_init(&call->link);
    list_push_back(&s->update.answered, &call->link);
}

void call_refused(struct group_shard *s, struct group_call *call, enum kafka_error error)
{
    assert(call->member == NULL);
    assert(error != KE_NONE);
    group_call_refuse(call, error);
    list_init(&call->link);
    list_push_back(&s->update.answered, &call->link);
}

static void refuse_join(struct group_call *call, enum kafka_error error)
{
    const struct join_group_request *q = call->request;
    struct join_group_response *r = call->response;
    join_group_response_init(r);
    r->error_code = (int16_t)error;
    /* What is no fault of the member's says nothing about it. */
    if (error != KE_NOT_COORDINATOR && error != KE_COORDINATOR_LOAD_IN_PROGRESS)
        r->member_id = q->member_id;
    if (call->version >= 7)
        r->protocol_name = WIRE_NULL_STRING;
}

static void refuse_commit(struct group_call *call, enum kafka_error error)
{
    struct offset_commit_response *r = call->response;
    for (int32_t i = 0; i < r->topics_count; i++) {
        for (int32_t j = 0; j < r->topics[i].partitions_count; j++) {
            if (r->topics[i].partitions[j].error_code == KE_NONE)
                r->topics[i].partitions[j].error_code = (int16_t)error;
        }
    }
}

static void refuse_txn_commit(struct group_call *call, enum kafka_error error)
{
    struct txn_offset_commit_response *r = call->response;
    if (error == KE_COORDINATOR_LOAD_IN_PROGRESS && call->version < 2)
        error = KE_COORDINATOR_NOT_AVAILABLE; /* such clients do not know the other */
    for (int32_t i = 0; i < r->topics_count; i++) {
        for (int32_t j = 0; j < r->topics[i].partitions_count; j++) {
            if (r->topics[i].partitions[j].error_code == KE_NONE)
                r->topics[i].partitions[j].error_code = (int16_t)error;
        }
    }
}

/* Empty groups, or an unknown one, say so per member; other errors at the top. */
static void refuse_leave(struct group_call *call, enum kafka_error error)
{
    const struct leave_group_request *q = call->request;
    struct leave_group_response *r = call->response;
    leave_group_response_init(r);
    r->error_code = (int16_t)error;
    if (error != KE_UNKNOWN_MEMBER_ID)
        return;
    r->error_code = KE_NONE;
    if (q->members_count <= 0)
        return;
    struct leave_group_response_member_response *m =
        arena_array(call->arena, (size_t)q->members_count, sizeof(*m));
    if (m == NULL)
        return;
    for (int32_t i = 0; i < q->members_count; i++) {
        leave_group_response_member_response_init(&m[i]);
        m[i].member_id = q->members[i].member_id;
        m[i].group_instance_id = q->members[i].group_instance_id;
        m[i].error_code = (int16_t)error;
    }
    r->members = m;
    r->members_count = q->members_count;
}

static void refuse_fetch(struct group_call *call, enum kafka_error error)
{
    const struct offset_fetch_request_group *q = call->request;
    struct offset_fetch_response_group *r = call->response;
    offset_fetch_response_group_init(r);
    r->group_id = q->group_id;
    r->error_code = (int16_t)error;
}

static void refuse_describe(struct group_call *call, enum kafka_error error)
{
    const struct wire_string *id = call->request;
    struct describe_groups_response_described_group *r = call->response;
    describe_groups_response_described_group_init(r);
    r->group_id = *id;
    r->error_code = (int16_t)error;
}

void group_call_refuse(struct group_call *call, enum kafka_error error)
{
    switch (call->kind) {
    case GROUP_JOIN:
        refuse_join(call, error);
        return;
    case GROUP_SYNC: {
        struct sync_group_response *r = call->response;
        sync_group_response_init(r);
        r->error_code = (int16_t)error;
        return;
    }
    case GROUP_HEARTBEAT: {
        struct heartbeat_response *r = call->response;
        heartbeat_response_init(r);
        /* While the group loads nobody can say anything else: GroupCoordinatorService. */
        r->error_code = error == KE_COORDINATOR_LOAD_IN_PROGRESS ? KE_NONE : (int16_t)error;
        return;
    }
    case GROUP_LEAVE:
        refuse_leave(call, error);
        return;
    case GROUP_COMMIT:
        refuse_commit(call, error);
        return;
    case GROUP_TXN_COMMIT:
        refuse_txn_commit(call, error);
        return;
    case GROUP_FETCH:
        refuse_fetch(call, error);
        return;
    case GROUP_OFFSET_DELETE: {
        struct offset_delete_response *r = call->response;
        offset_delete_response_init(r);
        r->error_code = (int16_t)error;
        return;
    }
    case GROUP_DESCRIBE:
        refuse_describe(call, error);
        return;
    case GROUP_LIST: {
        struct list_groups_response *r = call->response;
        list_groups_response_init(r);
        r->error_code = (int16_t)error;
        return;
    }
    case GROUP_DELETE: {
        const struct wire_string *id = call->request;
        struct delete_groups_response_deletable_group_result *r = call->response;
        delete_groups_response_deletable_group_result_init(r);
        r->group_id = *id;
        r->error_code = (int16_t)error;
        return;
    }
    case GROUP_CONSUMER_HEARTBEAT:
    case GROUP_CONSUMER_DESCRIBE:
        consumer_refuse(call, error);
        return;
    case GROUP_CALL_KINDS:
        break;
    }
    assert(false); /* no such kind */
}

/* ---- before it is asked ---------------------------------------------------------------------- */

static enum kafka_error check_join(const struct broker_config *config,
                                   const struct join_group_request *r)
{
    if (r->group_id.size == 0)
        return KE_INVALID_GROUP_ID;
    if (r->session_timeout_ms < config->group_min_session_timeout_ms ||
        r->session_timeout_ms > config->group_max_session_timeout_ms)
        return KE_INVALID_SESSION_TIMEOUT;
    return KE_NONE;
}

/* From version 5 a sync says which protocol it believes in. */
static enum kafka_error check_sync(const struct group_call *call)
{
    const struct sync_group_request *r = call->request;
    if (call->version >= 5 && (r->protocol_type.size < 0 || r->protocol_name.size < 0))
        return KE_INCONSISTENT_GROUP_PROTOCOL;
    return r->group_id.size == 0 ? KE_INVALID_GROUP_ID : KE_NONE;
}

static enum kafka_error check_id(struct wire_string group_id)
{
    return group_id.size == 0 ? KE_INVALID_GROUP_ID : KE_NONE;
}

/* Offsets of the group "" are kept, and such a group is described and deleted, as ever. */
enum kafka_error group_call_check(const struct broker_config *config, struct group_call *call)
{
    switch (call->kind) {
    case GROUP_CONSUMER_HEARTBEAT:
        return consumer_check(config, call);
    case GROUP_CONSUMER_DESCRIBE:
        return check_id(*(const struct wire_string *)call->request);
    case GROUP_JOIN:
        return check_join(config, call->request);
    case GROUP_SYNC:
        return check_sync(call);
    case GROUP_HEARTBEAT:
        return check_id(((const struct heartbeat_request *)call->request)->group_id);
    case GROUP_LEAVE:
        return check_id(((const struct leave_group_request *)call->request)->group_id);
    case GROUP_OFFSET_DELETE:
        return check_id(((const struct offset_delete_request *)call->request)->group_id);
    case GROUP_TXN_COMMIT:
        return check_id(((const struct txn_offset_commit_request *)call->request)->group_id);
    case GROUP_COMMIT:
    case GROUP_FETCH:
    case GROUP_DESCRIBE:
    case GROUP_LIST:
    case GROUP_DELETE:
        return KE_NONE;
    case GROUP_CALL_KINDS:
        break;
    }
    assert(false); /* no such kind */
    return KE_UNKNOWN_SERVER_ERROR;
}

/* ---- where a group lives --------------------------------------------------------------------- */

/* The next code point of a text that calls itself UTF-8; bytes that are not are taken one by one,
 * as the replacement character that Java would have made of them. */
static uint32_t code_point(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *p = *at;
    uint32_t first = *p++;
    uint32_t more = first < 0x80   ? 0
                    : first < 0xc2 ? 9
                    : first < 0xe0 ? 1
                    : first < 0xf0 ? 2
                    : first < 0xf5 ? 3
                                   : 9;
    *at = p;
    if (more == 0)
        return first;
    if (more == 9 || (size_t)(end - p) < more)
        return 0xfffd;
    uint32_t value = first & (0x3fu >> more);
    for (uint32_t i = 0; i < more; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0xfffd;
        value = value << 6 | (p[i] & 0x3f);
    }
    *at = p + more;
    return value;
}

uint32_t utf16_length(struct wire_string s)
{
    const uint8_t *at = (const uint8_t *)s.data, *end = at + MAX(s.size, 0);
    uint32_t length = 0;
    while (at < end)
        length += code_point(&at, end) > 0xffff ? 2 : 1;
    return length;
}

int32_t group_partition(struct wire_string group_id, uint32_t partitions_count)
{
    assert(partitions_count > 0 && partitions_count <= INT32_MAX);
    const uint8_t *at = (const uint8_t *)group_id.data, *end = at + MAX(group_id.size, 0);
    uint32_t hash = 0;
    while (at < end) {
        uint32_t c = code_point(&at, end);
        if (c > 0xffff) {
            hash = hash * 31 + (0xd800 + ((c - 0x10000) >> 10));
            c = 0xdc00 + ((c - 0x10000) & 0x3ff);
        }
        hash = hash * 31 + c;
    }
    uint32_t magnitude = hash == 0x80000000u ? 0 : hash > 0x80000000u ? 0u - hash : hash;
    return (int32_t)(magnitude % partitions_count);
}
