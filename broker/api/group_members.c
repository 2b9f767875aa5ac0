/* JoinGroup, SyncGroup, Heartbeat, LeaveGroup (keys 11, 14, 12, 13): what members of a classic
 * group ask its coordinator. Decoded here, decided in broker/group, answered here. */
#include "broker/api/api.h"
#include "broker/api/group_ask.h"
#include "broker/data_core.h"
#include "proto/gen/heartbeat.h"
#include "proto/gen/join_group.h"
#include "proto/gen/leave_group.h"
#include "proto/gen/sync_group.h"

/* One request, one group, one response. */
#define MEMBER_API(name, of_kind)                                                                  \
    struct name##_asked {                                                                          \
        struct group_item item;                                                                    \
        struct name##_request request;                                                             \
        struct name##_response response;                                                           \
    };                                                                                             \
    static void name##_answer(struct group_ask *a)                                                 \
    {                                                                                              \
        struct name##_asked *s = a->state;                                                         \
        name##_finish(a->flow, &s->response);                                                      \
        FLOW_ANSWER(a->flow, &s->response, name##_response);                                       \
    }                                                                                              \
    void name##_start(struct flow *f, struct wire_reader *body)                                    \
    {                                                                                              \
        struct name##_asked *s = arena_array(&f->arena, 1, sizeof(*s));                            \
        if (s == NULL || !FLOW_DECODE(f, name, &s->request, body) ||                               \
            !name##_normalize(f, &s->request)) {                                                   \
            flow_refuse(f, "malformed body");                                                      \
            return;                                                                                \
        }                                                                                          \
        struct group_ask *a = group_ask_make(f, name##_answer, s);                                 \
        if (a == NULL)                                                                             \
            return;                                                                                \
        s->item.call.kind = (of_kind);                                                             \
        s->item.call.request = &s->request;                                                        \
        s->item.call.response = &s->response;                                                      \
        group_ask_add(a, &s->item, s->request.group_id);                                           \
        group_ask_run(a);                                                                          \
    }

#define PLAIN_REQUEST(name)                                                                        \
    static bool name##_normalize(struct flow *f, struct name##_request *r)                         \
    {                                                                                              \
        (void)f;                                                                                   \
        (void)r;                                                                                   \
        return true;                                                                               \
    }
#define PLAIN_RESPONSE(name)                                                                       \
    static void name##_finish(const struct flow *f, struct name##_response *r)                     \
    {                                                                                              \
        (void)f;                                                                                   \
        (void)r;                                                                                   \
    }

PLAIN_REQUEST(join_group)
PLAIN_RESPONSE(join_group)
MEMBER_API(join_group, GROUP_JOIN)

PLAIN_REQUEST(sync_group)
PLAIN_RESPONSE(sync_group)
MEMBER_API(sync_group, GROUP_SYNC)

PLAIN_REQUEST(heartbeat)
PLAIN_RESPONSE(heartbeat)
MEMBER_API(heartbeat, GROUP_HEARTBEAT)

/* Up to version 2 one member leaves, and its error is the answer's. */
static bool leave_group_normalize(struct flow *f, struct leave_group_request *r)
{
    if (f->api_version >= 3)
        return true;
    r->members = arena_array(&f->arena, 1, sizeof(*r->members));
    if (r->members == NULL)
        return false;
    leave_group_request_member_identity_init(&r->members[0]);
    r->members[0].member_id = r->member_id;
    r->members_count = 1;
    return true;
}

static void leave_group_finish(const struct flow *f, struct leave_group_response *r)
{
    if (f->api_version >= 3)
        return;
    if (r->error_code == KE_NONE && r->members_count > 0)
        r->error_code = r->members[0].error_code;
    r->members_count = 0;
}
MEMBER_API(leave_group, GROUP_LEAVE)
