/* Offsets of a group that nobody is in, groups as a whole, the cluster, and what is asked of it by
 * those who administer transactions, features and access. */
#include "tests/sim/run.h"

#include "proto/gen/api_versions.h"
#include "proto/gen/create_acls.h"
#include "proto/gen/delete_acls.h"
#include "proto/gen/delete_groups.h"
#include "proto/gen/describe_acls.h"
#include "proto/gen/describe_cluster.h"
#include "proto/gen/describe_groups.h"
#include "proto/gen/describe_quorum.h"
#include "proto/gen/describe_transactions.h"
#include "proto/gen/find_coordinator.h"
#include "proto/gen/init_producer_id.h"
#include "proto/gen/list_groups.h"
#include "proto/gen/list_transactions.h"
#include "proto/gen/offset_commit.h"
#include "proto/gen/offset_delete.h"
#include "proto/gen/offset_fetch.h"
#include "proto/gen/unregister_broker.h"
#include "proto/gen/update_features.h"

#define NO_TXN_ID "clerk-nobody"

/* ---- offsets --------------------------------------------------------------------------------- */

static void commit_ask(struct clerk *c)
{
    struct offset_commit_request m;
    struct offset_commit_request_topic t;
    struct offset_commit_request_partition p;
    offset_commit_request_init(&m);
    offset_commit_request_topic_init(&t);
    offset_commit_request_partition_init(&p);
    c->number = (int64_t)clerk_below(c, 100000);
    m.group_id = clerk_text(c->desk->name);
    m.generation_id_or_member_epoch = -1;
    m.retention_time_ms = -1;
    m.topics = &t;
    m.topics_count = 1;
    t.name = clerk_text(c->desk->name);
    t.topic_id = c->desk->id;
    t.partitions = &p;
    t.partitions_count = 1;
    p.partition_index = c->partition;
    p.committed_offset = c->number;
    p.committed_metadata = clerk_text(c->twist % 2 == 0 ? "" : "of the clerk");
    CLERK_ASK(c, m, offset_commit);
}

static int16_t named_wanted(const struct clerk *c)
{
    return c->version >= 10 && !clerk_has_id(c->desk) ? KE_UNKNOWN_TOPIC_ID : clerk_wanted(c);
}

static void commit_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, offset_commit)
    if (!clerk_check(c, m.topics_count == 1 && m.topics[0].partitions_count == 1, "not one result"))
        return;
    int16_t error = m.topics[0].partitions[0].error_code;
    bool early = error == KE_UNKNOWN_TOPIC_OR_PARTITION || error == KE_UNKNOWN_TOPIC_ID;
    if (early && clerk_lags(c))
        return; /* nothing was committed */
    if (clerk_expect(c, error, named_wanted(c)) && error == KE_NONE) {
        c->desk->committed[c->partition] = c->number;
        c->desk->group = GROUP_THERE;
    }
}

static void fetched_ask(struct clerk *c)
{
    struct offset_fetch_request m;
    struct offset_fetch_request_topic old;
    struct offset_fetch_request_topics t;
    struct offset_fetch_request_group g;
    offset_fetch_request_init(&m);
    offset_fetch_request_topic_init(&old);
    offset_fetch_request_topics_init(&t);
    offset_fetch_request_group_init(&g);
    g.group_id = clerk_text(c->desk->name);
    m.group_id = c->version < 8 ? g.group_id : clerk_text("");
    old.name = t.name = clerk_text(c->desk->name);
    t.topic_id = c->desk->id;
    old.partition_indexes = t.partition_indexes = &c->partition;
    old.partition_indexes_count = t.partition_indexes_count = 1;
    m.topics = &old;
    m.topics_count = c->version < 8;
    g.topics = &t;
    g.topics_count = 1;
    m.groups = &g;
    m.groups_count = c->version >= 8;
    m.require_stable = c->version >= 7 && c->twist % 2 == 0;
    g.member_epoch = -1;
    g.member_id = (struct wire_string){NULL, -1};
    CLERK_ASK(c, m, offset_fetch);
}

static void fetched_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    const struct desk *d = c->desk;
    int16_t error = KE_NONE;
    int64_t offset = -2;
    CLERK_TOLD(c, m, offset_fetch)
    if (c->version < 8) {
        error = c->version >= 2 ? m.error_code : KE_NONE;
        if (error == KE_NONE && m.topics_count == 1 && m.topics[0].partitions_count == 1) {
            error = m.topics[0].partitions[0].error_code;
            offset = m.topics[0].partitions[0].committed_offset;
        }
    } else if (clerk_check(c, m.groups_count == 1, "not one group")) {
        const struct offset_fetch_response_group *g = &m.groups[0];
        error = g->error_code;
        if (error == KE_NONE && g->topics_count == 1 && g->topics[0].partitions_count == 1) {
            error = g->topics[0].partitions[0].error_code;
            offset = g->topics[0].partitions[0].committed_offset;
        }
    }
    if (error == KE_UNKNOWN_TOPIC_ID && c->version >= 10)
        return; /* as in named_wanted, or on its way */
    if (clerk_expect(c, error, KE_NONE))
        (void)clerk_check(c, offset == d->committed[c->partition], "another committed offset");
}

static void undone_ask(struct clerk *c)
{
    struct offset_delete_request m;
    struct offset_delete_request_topic t;
    struct offset_delete_request_partition p;
    offset_delete_request_init(&m);
    offset_delete_request_topic_init(&t);
    offset_delete_request_partition_init(&p);
    m.group_id = clerk_text(c->desk->name);
    m.topics = &t;
    m.topics_count = 1;
    t.name = clerk_text(c->desk->name);
    t.partitions = &p;
    t.partitions_count = 1;
    p.partition_index = c->partition;
    CLERK_ASK(c, m, offset_delete);
}

static void undone_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    struct desk *d = c->desk;
    CLERK_TOLD(c, m, offset_delete)
    if (m.error_code == KE_GROUP_ID_NOT_FOUND) {
        (void)clerk_check(c, d->group != GROUP_THERE, "the group is not found");
        return;
    }
    if (!clerk_expect(c, m.error_code, KE_NONE) || m.topics_count != 1)
        return;
    int16_t error = m.topics[0].partitions[0].error_code;
    if (error == KE_UNKNOWN_TOPIC_OR_PARTITION && (!d->there || clerk_lags(c)))
        return;
    if (clerk_expect(c, error, KE_NONE)) {
        d->committed[c->partition] = -1;
        d->group = GROUP_MAYBE; /* with its last offset it goes, at once or later */
    }
}

/* ---- groups ---------------------------------------------------------------------------------- */

static void group_gone_ask(struct clerk *c)
{
    struct delete_groups_request m;
    struct wire_string name = clerk_text(c->desk->name);
    delete_groups_request_init(&m);
    m.groups_names = &name;
    m.groups_names_count = 1;
    CLERK_ASK(c, m, delete_groups);
}

static void group_gone_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    struct desk *d = c->desk;
    CLERK_TOLD(c, m, delete_groups)
    if (!clerk_check(c, m.results_count == 1, "not one result"))
        return;
    int16_t error = m.results[0].error_code;
    if (d->group == GROUP_MAYBE && (error == KE_NONE || error == KE_GROUP_ID_NOT_FOUND))
        d->group = GROUP_NONE;
    else if (!clerk_expect(c, error, d->group == GROUP_NONE ? KE_GROUP_ID_NOT_FOUND : KE_NONE))
        return;
    d->group = GROUP_NONE;
    memset(d->committed, 0xff, sizeof(d->committed));
}

static void group_ask(struct clerk *c)
{
    struct describe_groups_request m;
    struct wire_string name = clerk_text(c->desk->name);
    describe_groups_request_init(&m);
    m.groups = &name;
    m.groups_count = 1;
    m.include_authorized_operations = c->version >= 3 && c->twist % 2 == 0;
    CLERK_ASK(c, m, describe_groups);
}

static void group_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    const struct desk *d = c->desk;
    CLERK_TOLD(c, m, describe_groups)
    if (!clerk_check(c, m.groups_count == 1, "not one group"))
        return;
    bool missing = m.groups[0].error_code == KE_GROUP_ID_NOT_FOUND;
    if (!missing && !clerk_expect(c, m.groups[0].error_code, KE_NONE))
        return;
    (void)clerk_check(c, !missing || d->group != GROUP_THERE, "the group is not found");
    if (d->group == GROUP_THERE)
        (void)clerk_check(c, clerk_is(m.groups[0].group_state, "Empty"), "its state is not Empty");
    else if (d->group == GROUP_NONE)
        (void)clerk_check(c, clerk_is(m.groups[0].group_state, "Dead"), "its state is not Dead");
}

static void groups_ask(struct clerk *c)
{
    struct list_groups_request m;
    struct wire_string state = clerk_text("Empty"), type = clerk_text("classic");
    list_groups_request_init(&m);
    m.states_filter = &state;
    m.states_filter_count = c->version >= 4 && c->twist % 2 == 0;
    m.types_filter = &type;
    m.types_filter_count = c->version >= 5 && c->twist % 3 == 0;
    CLERK_ASK(c, m, list_groups);
}

static void groups_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    const struct desk *d = c->desk;
    const struct run *r = c->run;
    /* Else its partition may be offline, whose groups are not listed, as by Apache Kafka. */
    bool whole = r->faulted == 0 && r->faulted_before == 0 && !r->full && !r->full_before;
    bool found = false;
    CLERK_TOLD(c, m, list_groups)
    if (!clerk_expect(c, m.error_code, KE_NONE))
        return;
    for (int32_t i = 0; i < m.groups_count; i++)
        found |= clerk_is(m.groups[i].group_id, d->name);
    if (d->group != GROUP_MAYBE && (whole || found))
        (void)clerk_check(c, found == (d->group == GROUP_THERE), "a group is listed, or not");
}

static void find_ask(struct clerk *c)
{
    struct find_coordinator_request m;
    struct wire_string key = clerk_text(c->desk->name);
    find_coordinator_request_init(&m);
    m.key = c->version < 4 ? key : clerk_text("");
    m.key_type = c->version >= 1 && c->twist % 2 == 0; /* 1: of transactions */
    m.coordinator_keys = &key;
    m.coordinator_keys_count = c->version >= 4;
    CLERK_ASK(c, m, find_coordinator);
}

static void find_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, find_coordinator)
    bool many = c->version >= 4;
    if (many && !clerk_check(c, m.coordinators_count == 1, "not one coordinator"))
        return;
    if (clerk_expect(c, many ? m.coordinators[0].error_code : m.error_code, KE_NONE))
        (void)clerk_check(c, (many ? m.coordinators[0].node_id : m.node_id) == 1, "another broker");
}

/* ---- the cluster ----------------------------------------------------------------------------- */

static void cluster_ask(struct clerk *c)
{
    struct describe_cluster_request m;
    describe_cluster_request_init(&m);
    m.include_cluster_authorized_operations = c->twist % 2 == 0;
    m.endpoint_type = c->version >= 1 && c->twist < 2 ? (int8_t)(2 + c->twist) : 1;
    CLERK_ASK(c, m, describe_cluster);
}

static void cluster_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, describe_cluster)
    int16_t wanted = c->version < 1 || c->twist > 1 ? KE_NONE
                     : c->twist == 0                ? KE_MISMATCHED_ENDPOINT_TYPE
                                                    : KE_UNSUPPORTED_ENDPOINT_TYPE;
    if (clerk_expect(c, m.error_code, wanted) && wanted == KE_NONE && clerk_serves(c))
        (void)clerk_check(c,
                          m.brokers_count == 1 && m.brokers[0].broker_id == 1 &&
                              m.brokers[0].port == SIM_NODE_PORT,
                          "not the one broker");
}

static void quorum_ask(struct clerk *c)
{
    struct describe_quorum_request m;
    struct describe_quorum_request_topic_data t;
    struct describe_quorum_request_partition_data p;
    describe_quorum_request_init(&m);
    describe_quorum_request_topic_data_init(&t);
    describe_quorum_request_partition_data_init(&p);
    t.topic_name = clerk_text(c->twist == 0 ? c->desk->name : "__cluster_metadata");
    t.partitions = &p;
    t.partitions_count = 1;
    m.topics = &t;
    m.topics_count = 1;
    CLERK_ASK(c, m, describe_quorum);
}

static void quorum_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, describe_quorum)
    if (!clerk_expect(c, m.error_code, KE_NONE) || c->twist == 0 ||
        !clerk_check(c, m.topics_count == 1 && m.topics[0].partitions_count == 1, "not one result"))
        return;
    if (clerk_expect(c, m.topics[0].partitions[0].error_code, KE_NONE))
        (void)clerk_check(c, m.topics[0].partitions[0].leader_id == 1, "another leader");
}

static void versions_ask(struct clerk *c)
{
    struct api_versions_request m;
    api_versions_request_init(&m);
    m.client_software_name = clerk_text(c->twist == 0 ? "no good name!" : "clerk");
    m.client_software_version = clerk_text("1");
    CLERK_ASK(c, m, api_versions);
}

static void versions_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, api_versions)
    bool bad = c->version >= 3 && c->twist == 0;
    if (clerk_expect(c, m.error_code, bad ? KE_INVALID_REQUEST : KE_NONE) && !bad)
        (void)clerk_check(c, m.api_keys_count > 40, "few requests are served");
}

static void features_ask(struct clerk *c)
{
    struct update_features_request m;
    struct update_features_request_feature_update_key f;
    update_features_request_init(&m);
    update_features_request_feature_update_key_init(&f);
    bool known = c->version >= 1 && c->twist % 2 == 0;
    f.feature = clerk_text(known ? "metadata.version" : "no.such.feature");
    f.max_version_level = (int16_t)(1 + clerk_below(c, 60));
    f.upgrade_type = c->version >= 1 ? (int8_t)(1 + clerk_below(c, 3)) : 1;
    m.feature_updates = &f;
    m.feature_updates_count = 1;
    m.validate_only = c->version >= 1;
    m.timeout_ms = 10000;
    c->number = known;
    CLERK_ASK(c, m, update_features);
}

static void features_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, update_features)
    int16_t error = m.error_code;
    for (int32_t i = 0; i < m.results_count && error == KE_NONE; i++)
        error = m.results[i].error_code;
    if (c->number == 0)
        (void)clerk_check(c, error != KE_NONE, "a feature that nobody knows is set");
    else if (error != KE_NONE && error != KE_FEATURE_UPDATE_FAILED)
        (void)clerk_expect(c, error, KE_INVALID_UPDATE_VERSION);
}

static void unregister_ask(struct clerk *c)
{
    struct unregister_broker_request m;
    unregister_broker_request_init(&m);
    m.broker_id = 77;
    CLERK_ASK(c, m, unregister_broker);
}

static void unregister_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, unregister_broker)
    (void)clerk_expect(c, m.error_code, KE_BROKER_ID_NOT_REGISTERED);
}

/* ---- transactions, ids, access --------------------------------------------------------------- */

static void id_ask(struct clerk *c)
{
    struct init_producer_id_request m;
    init_producer_id_request_init(&m);
    m.transactional_id = (struct wire_string){NULL, -1};
    CLERK_ASK(c, m, init_producer_id);
}

static void id_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    struct producer nobody;
    CLERK_TOLD(c, m, init_producer_id)
    if (clerk_expect(c, m.error_code, KE_NONE))
        run_new_id(c->run, &nobody, m.producer_id, m.producer_epoch);
}

static void txns_ask(struct clerk *c)
{
    struct list_transactions_request m;
    struct wire_string state = clerk_text(c->twist % 2 == 0 ? "Ongoing" : "NoSuchState");
    list_transactions_request_init(&m);
    m.state_filters = &state;
    m.state_filters_count = c->twist < 4;
    m.duration_filter = c->version >= 1 && c->twist % 3 == 0 ? 1 : -1;
    if (c->version >= 2 && c->twist < 6)
        m.transactional_id_pattern = clerk_text("clerk.*");
    CLERK_ASK(c, m, list_transactions);
}

static void txns_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, list_transactions)
    if (!clerk_expect(c, m.error_code, KE_NONE))
        return;
    bool unknown = c->twist < 4 && c->twist % 2 == 1;
    (void)clerk_check(c, m.unknown_state_filters_count == unknown, "unknown states");
    if (c->version >= 2 && c->twist < 6)
        (void)clerk_check(c, m.transaction_states_count == 0, "transactions of nobody");
}

static void txn_ask(struct clerk *c)
{
    struct describe_transactions_request m;
    struct wire_string id = clerk_text(NO_TXN_ID);
    describe_transactions_request_init(&m);
    m.transactional_ids = &id;
    m.transactional_ids_count = 1;
    CLERK_ASK(c, m, describe_transactions);
}

static void txn_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, describe_transactions)
    if (clerk_check(c, m.transaction_states_count == 1, "not one result"))
        (void)clerk_expect(c, m.transaction_states[0].error_code, KE_TRANSACTIONAL_ID_NOT_FOUND);
}

static void acls_ask(struct clerk *c)
{
    struct describe_acls_request m;
    describe_acls_request_init(&m);
    m.resource_type_filter = m.operation = m.permission_type = 1; /* any */
    m.pattern_type_filter = c->version >= 1 ? 1 : 3;
    CLERK_ASK(c, m, describe_acls);
}

static void acls_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, describe_acls)
    (void)clerk_expect(c, m.error_code, KE_SECURITY_DISABLED);
}

static void allow_ask(struct clerk *c)
{
    struct create_acls_request m;
    struct create_acls_request_acl_creation a;
    create_acls_request_init(&m);
    create_acls_request_acl_creation_init(&a);
    a.resource_type = 2;
    a.resource_pattern_type = 3;
    a.resource_name = clerk_text(c->desk->name);
    a.principal = clerk_text("User:clerk");
    a.host = clerk_text("*");
    a.operation = a.permission_type = 3;
    m.creations = &a;
    m.creations_count = 1;
    CLERK_ASK(c, m, create_acls);
}

static void allow_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, create_acls)
    if (clerk_check(c, m.results_count == 1, "not one result"))
        (void)clerk_expect(c, m.results[0].error_code, KE_SECURITY_DISABLED);
}

static void forbid_ask(struct clerk *c)
{
    struct delete_acls_request m;
    struct delete_acls_request_delete_acls_filter f;
    delete_acls_request_init(&m);
    delete_acls_request_delete_acls_filter_init(&f);
    f.resource_type_filter = f.operation = f.permission_type = 1;
    f.pattern_type_filter = 1;
    m.filters = &f;
    m.filters_count = 1;
    CLERK_ASK(c, m, delete_acls);
}

static void forbid_told(struct clerk *c, struct wire_reader *body, struct arena *arena)
{
    CLERK_TOLD(c, m, delete_acls)
    if (clerk_check(c, m.filter_results_count == 1, "not one result"))
        (void)clerk_expect(c, m.filter_results[0].error_code, KE_SECURITY_DISABLED);
}

static const struct errand errands[] = {
    {API_OFFSET_COMMIT, true, commit_ask, commit_told},
    {API_OFFSET_COMMIT, true, commit_ask, commit_told}, /* more often */
    {API_OFFSET_FETCH, false, fetched_ask, fetched_told},
    {API_OFFSET_FETCH, false, fetched_ask, fetched_told},
    {API_OFFSET_DELETE, true, undone_ask, undone_told},
    {API_DELETE_GROUPS, true, group_gone_ask, group_gone_told},
    {API_DESCRIBE_GROUPS, false, group_ask, group_told},
    {API_LIST_GROUPS, false, groups_ask, groups_told},
    {API_FIND_COORDINATOR, false, find_ask, find_told},
    {API_DESCRIBE_CLUSTER, false, cluster_ask, cluster_told},
    {API_DESCRIBE_QUORUM, false, quorum_ask, quorum_told},
    {API_API_VERSIONS, false, versions_ask, versions_told},
    {API_UPDATE_FEATURES, false, features_ask, features_told},
    {API_UNREGISTER_BROKER, false, unregister_ask, unregister_told},
    {API_INIT_PRODUCER_ID, false, id_ask, id_told},
    {API_LIST_TRANSACTIONS, false, txns_ask, txns_told},
    {API_DESCRIBE_TRANSACTIONS, false, txn_ask, txn_told},
    {API_DESCRIBE_ACLS, false, acls_ask, acls_told},
    {API_CREATE_ACLS, false, allow_ask, allow_told},
    {API_DELETE_ACLS, false, forbid_ask, forbid_told},
};

const struct errand *clerk_groups(uint32_t *count)
{
    *count = sizeof(errands) / sizeof(errands[0]);
    return errands;
}
