/* Offsets committed in a transaction: they count when it commits, and not before. */
#include "tests/broker/group_rig.h"

#include "proto/gen/txn_offset_commit.h"

#include <criterion/criterion.h>

static int16_t commit(struct group_rig *r, int64_t producer_id, const char *group,
                      const char *member, int32_t generation, const char *topic, int64_t offset)
{
    struct rig_call *c = rig_make(r, GROUP_TXN_COMMIT, 3);
    struct txn_offset_commit_request q;
    struct txn_offset_commit_request_topic t;
    struct txn_offset_commit_request_partition p;
    struct txn_offset_commit_response out;
    struct txn_offset_commit_response_topic out_topic;
    struct txn_offset_commit_response_partition out_partition;
    txn_offset_commit_request_init(&q);
    txn_offset_commit_request_topic_init(&t);
    txn_offset_commit_request_partition_init(&p);
    txn_offset_commit_response_init(&out);
    txn_offset_commit_response_topic_init(&out_topic);
    txn_offset_commit_response_partition_init(&out_partition);
    q.group_id = wire_string_of(group);
    q.member_id = wire_string_of(member);
    q.generation_id = generation;
    q.producer_id = producer_id;
    q.topics = &t;
    t.name = wire_string_of(topic);
    t.partitions = &p;
    p.committed_offset = offset;
    out.topics = &out_topic;
    out_topic.partitions = &out_partition;
    q.topics_count = t.partitions_count = out.topics_count = out_topic.partitions_count = 1;
    c->call.request = &q;
    c->call.response = &out;
    rig_call(r, c);
    cr_assert(c->answered);
    return out_partition.error_code;
}

/* Asked with require_stable. */
static int16_t stable_code(struct group_rig *r, const char *group, const char *topic)
{
    struct rig_call *c = rig_make(r, GROUP_FETCH, 8);
    struct offset_fetch_request_group *q = &c->ask.fetch;
    struct offset_fetch_request_topics t;
    int32_t partition = 0;
    offset_fetch_request_group_init(q);
    offset_fetch_request_topics_init(&t);
    q->group_id = wire_string_of(group);
    q->topics = &t;
    q->topics_count = 1;
    t.name = wire_string_of(topic);
    t.partition_indexes = &partition;
    t.partition_indexes_count = 1;
    c->call.require_stable = true;
    rig_call(r, c);
    return c->tell.fetch.topics[0].partitions[0].error_code;
}

static void end(struct group_rig *r, int64_t producer_id, bool committed)
{
    cr_assert(group_shard_end_transaction(&r->shard, producer_id, committed));
}

Test(group_txn, an_offset_counts_when_its_transaction_commits)
{
    struct group_rig r;
    rig_init(&r);
    cr_assert_eq(commit(&r, 7, "g", "", -1, "t", 42), 0);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), -1);
    cr_assert_eq(stable_code(&r, "g", "t"), KE_UNSTABLE_OFFSET_COMMIT);
    end(&r, 8, true); /* another's */
    cr_assert_eq(rig_offset(&r, "g", "t", 0), -1);
    end(&r, 7, true);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), 42);
    cr_assert_eq(stable_code(&r, "g", "t"), 0);
    rig_end(&r);
}

Test(group_txn, an_offset_is_forgotten_when_its_transaction_aborts)
{
    struct group_rig r;
    rig_init(&r);
    cr_assert_eq(rig_commit(&r, "g", "", -1, "t", 0, 5, ""), 0);
    cr_assert_eq(commit(&r, 7, "g", "", -1, "t", 42), 0);
    end(&r, 7, false);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), 5);
    cr_assert_eq(stable_code(&r, "g", "t"), 0);
    rig_end(&r);
}

Test(group_txn, the_later_of_two_commits_counts_whatever_ends_when)
{
    struct group_rig r;
    rig_init(&r);
    cr_assert_eq(commit(&r, 7, "g", "", -1, "t", 42), 0);
    cr_assert_eq(rig_commit(&r, "g", "", -1, "t", 0, 50, ""), 0); /* later in the log */
    end(&r, 7, true);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), 50);
    cr_assert_eq(commit(&r, 7, "g", "", -1, "t", 60), 0);
    end(&r, 7, true);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), 60);
    rig_end(&r);
}

Test(group_txn, members_and_generations_are_checked_where_they_are_named)
{
    struct group_rig r;
    rig_init(&r);
    const char *member = rig_stable(&r, "g", NULL);
    cr_assert_eq(commit(&r, 7, "g", "stranger", 1, "t", 1), KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(commit(&r, 7, "g", member, 9, "t", 1), KE_ILLEGAL_GENERATION);
    cr_assert_eq(commit(&r, 7, "g", member, 1, "t", 1), 0);
    cr_assert_eq(commit(&r, 7, "g", "", -1, "t", 2), 0); /* old clients name nobody */
    cr_assert_eq(commit(&r, 7, "new", "x", 3, "t", 2), KE_ILLEGAL_GENERATION);
    cr_assert_str_eq(rig_state(&r, "new"), "Dead");
    rig_end(&r);
}

Test(group_txn, records_are_of_the_producers_transaction)
{
    struct group_rig r;
    rig_init(&r);
    cr_assert_eq(commit(&r, 7, "g", "", -1, "t", 42), 0);
    cr_assert_eq(r.log_count, 1);
    cr_assert(r.taken_in_txn);
    cr_assert_eq(r.taken_producer_id, 7);
    cr_assert_eq(rig_commit(&r, "g", "", -1, "t", 0, 50, ""), 0);
    cr_assert(!r.taken_in_txn);
    rig_end(&r);
}

Test(group_txn, what_waits_goes_with_its_group_and_its_topic)
{
    struct group_rig r;
    rig_init(&r);
    cr_assert_eq(commit(&r, 7, "g", "", -1, "t", 42), 0);
    cr_assert_eq(rig_delete(&r, "g"), 0);
    cr_assert_eq(r.log_count, 3); /* the offset, its tombstone, the group's */
    end(&r, 7, true);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), -1);
    cr_assert_eq(commit(&r, 7, "h", "", -1, "t", 42), 0);
    group_shard_topic_deleted(&r.shard, wire_string_of("t"), 0);
    shard_update_taken(&r.shard.update);
    end(&r, 7, true);
    cr_assert_eq(rig_offset(&r, "h", "t", 0), -1);
    rig_end(&r);
}
