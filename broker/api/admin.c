/* Requests that change or ask the metadata, and nothing else: decoded here, decided on the control
 * core (broker/quorum/controller), answered here. One line each. */
#include "broker/api/api.h"
#include "broker/api/call.h"
#include "proto/gen/alter_configs.h"
#include "proto/gen/alter_partition_reassignments.h"
#include "proto/gen/create_partitions.h"
#include "proto/gen/create_topics.h"
#include "proto/gen/delete_topics.h"
#include "proto/gen/describe_quorum.h"
#include "proto/gen/elect_leaders.h"
#include "proto/gen/incremental_alter_configs.h"
#include "proto/gen/list_partition_reassignments.h"
#include "proto/gen/unregister_broker.h"
#include "proto/gen/update_features.h"

#define ADMIN_API(name)                                                                            \
    static void name##_answer(struct flow *f, void *response)                                      \
    {                                                                                              \
        const struct name##_response *r = response;                                                \
        FLOW_ANSWER(f, r, name##_response);                                                        \
    }                                                                                              \
    void name##_start(struct flow *f, struct wire_reader *body)                                    \
    {                                                                                              \
        struct name##_request *r = arena_alloc(&f->arena, sizeof(*r));                             \
        if (r == NULL || !FLOW_DECODE(f, name, r, body))                                           \
            flow_refuse(f, "malformed body");                                                      \
        else                                                                                       \
            control_ask(f, r, sizeof(struct name##_response), name##_answer);                      \
    }

ADMIN_API(alter_configs)
ADMIN_API(alter_partition_reassignments)
ADMIN_API(create_partitions)
ADMIN_API(create_topics)
ADMIN_API(delete_topics)
ADMIN_API(describe_quorum)
ADMIN_API(elect_leaders)
ADMIN_API(incremental_alter_configs)
ADMIN_API(list_partition_reassignments)
ADMIN_API(unregister_broker)
ADMIN_API(update_features)
