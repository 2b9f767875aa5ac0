/* Committed offsets: who may commit, what comes back, what is forgotten and when. */
#include <criterion/criterion.h>

#include "tests/broker/group_rig.h"

#define DAY_MS (24 * 3600 * 1000)

Test(group_offset, comes_back_with_its_metadata_and_leader_epoch)
{
    struct group_rig r;
    rig_init(&r);
    cr_assert_eq(rig_commit(&r, "g", "", -1, "t", 3, 42, "a note"), 0);
    cr_assert_eq(rig_commit(&r, "g", "", -1, "t", 1, 7, NULL), 0);
    struct rig_call *all = rig_fetch_all(&r, "g");
    cr_assert_eq(all->tell.fetch.topics_count, 1);
    cr_assert_eq(all->tell.fetch.topics[0].partitions_count, 2);
    struct offset_fetch_response_partitions *p = all->tell.fetch.topics[0].partitions;
    cr_assert_eq(p[0].partition_index, 1);
    cr_assert_eq(p[0].metadata.size, 0); /* null is kept as nothing */
    cr_assert_eq(p[1].committed_offset, 42);
    cr_assert_eq(p[1].committed_leader_epoch, 5);
    cr_assert_str_eq(rig_text(&r, p[1].metadata), "a note");
    cr_assert_eq(rig_offset(&r, "g", "t", 2), -1);
    cr_assert_eq(rig_offset(&r, "g", "u", 0), -1);
    cr_assert_eq(rig_offset(&r, "h", "t", 3), -1);
    rig_end(&r);
}

Test(group_offset, a_group_that_never_joins_is_simple)
{
    struct group_rig r;
    rig_init(&r);
    cr_assert_eq(rig_commit(&r, "g", "", -1, "t", 0, 1, ""), 0);
    cr_assert_eq(rig_commit(&r, "g", "any", -1, "t", 0, 2, ""), 0);
    cr_assert_str_eq(rig_state(&r, "g"), "Empty");
    cr_assert_eq(rig_describe(&r, "g", 5)->tell.describe.protocol_type.size, 0);
    cr_assert_eq(r.log_count, 2); /* offsets only: the group has no record of its own */
    rig_end(&r);
}

Test(group_offset, with_members_only_they_may_commit_and_only_in_their_generation)
{
    struct group_rig r;
    rig_init(&r);
    const char *id = rig_stable(&r, "g", NULL);
    cr_assert_eq(rig_commit(&r, "g", id, 1, "t", 0, 1, ""), 0);
    cr_assert_eq(rig_commit(&r, "g", "", -1, "t", 0, 2, ""), KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(rig_commit(&r, "g", "other", 1, "t", 0, 2, ""), KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(rig_commit(&r, "g", id, 0, "t", 0, 2, ""), KE_ILLEGAL_GENERATION);
    cr_assert_eq(rig_commit(&r, "g", id, 2, "t", 0, 2, ""), KE_ILLEGAL_GENERATION);
    cr_assert_eq(rig_commit(&r, "g", id, -1, "t", 0, 2, ""), KE_ILLEGAL_GENERATION);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), 1);
    rig_end(&r);
}

static struct offset_commit_request commit_of(const char *group, int32_t generation,
                                              struct offset_commit_request_topic *t,
                                              struct offset_commit_request_partition *p,
                                              int32_t count)
{
    struct offset_commit_request q;
    offset_commit_request_init(&q);
    offset_commit_request_topic_init(t);
    q.group_id = wire_string_of(group);
    q.generation_id_or_member_epoch = generation;
    q.topics = t;
    q.topics_count = 1;
    t->name = wire_string_of("t");
    t->partitions = p;
    t->partitions_count = count;
    for (int32_t i = 0; i < count; i++) {
        offset_commit_request_partition_init(&p[i]);
        p[i].partition_index = i;
        p[i].committed_offset = 10 + i;
        p[i].committed_metadata = wire_string_of("");
    }
    return q;
}

Test(group_offset, a_missing_group_is_called_so_from_version_9)
{
    struct group_rig r;
    struct offset_commit_request_topic t;
    struct offset_commit_request_partition p[1];
    struct offset_commit_request q = commit_of("g", 3, &t, p, 1);
    rig_init(&r);
    cr_assert_eq(rig_commit_with(&r, &q, 8)->tell.commit.topics[0].partitions[0].error_code,
                 KE_ILLEGAL_GENERATION);
    cr_assert_eq(rig_commit_with(&r, &q, 9)->tell.commit.topics[0].partitions[0].error_code,
                 KE_GROUP_ID_NOT_FOUND);
    cr_assert_str_eq(rig_state(&r, "g"), "Dead");
    rig_end(&r);
}

Test(group_offset, metadata_is_measured_as_java_does)
{
    struct group_rig r;
    struct offset_commit_request_topic t;
    struct offset_commit_request_partition p[3];
    struct offset_commit_request q = commit_of("g", -1, &t, p, 3);
    rig_init(&r);
    r.config.offset_metadata_max_bytes = 4;
    p[0].committed_metadata = wire_string_of("12345");
    p[1].committed_metadata = wire_string_of("\xc3\xa4\xc3\xb6\xc3\xbc!"); /* 7 bytes, 4 letters */
    p[2].committed_metadata = wire_string_of("\xf0\x9f\x98\x80\xf0\x9f\x98\x80!"); /* 2+2+1 */
    struct offset_commit_response_partition *out =
        rig_commit_with(&r, &q, 9)->tell.commit.topics[0].partitions;
    cr_assert_eq(out[0].error_code, KE_OFFSET_METADATA_TOO_LARGE);
    cr_assert_eq(out[1].error_code, 0);
    cr_assert_eq(out[2].error_code, KE_OFFSET_METADATA_TOO_LARGE);
    cr_assert_eq(rig_offset(&r, "g", "t", 1), 11);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), -1);
    rig_end(&r);
}

Test(group_offset, a_commit_of_nothing_makes_no_group)
{
    struct group_rig r;
    struct offset_commit_request_topic t;
    struct offset_commit_request_partition p[1];
    struct offset_commit_request q = commit_of("g", -1, &t, p, 1);
    rig_init(&r);
    r.config.offset_metadata_max_bytes = 0;
    p[0].committed_metadata = wire_string_of("x");
    (void)rig_commit_with(&r, &q, 9);
    cr_assert_str_eq(rig_state(&r, "g"), "Dead");
    cr_assert_eq(r.log_count, 0);
    rig_end(&r);
}

Test(group_offset, more_than_a_batch_is_refused_whole)
{
    struct group_rig r;
    struct offset_commit_request_topic t;
    struct offset_commit_request_partition p[100];
    struct offset_commit_request q = commit_of("g", -1, &t, p, 100);
    rig_init(&r);
    r.shard.batch_bytes_max = 2000;
    struct rig_call *c = rig_commit_with(&r, &q, 9);
    cr_assert_eq(c->tell.commit.topics[0].partitions[0].error_code, KE_UNKNOWN_SERVER_ERROR);
    cr_assert_eq(c->tell.commit.topics[0].partitions[99].error_code, KE_UNKNOWN_SERVER_ERROR);
    cr_assert_eq(r.log_count, 0);
    cr_assert_str_eq(rig_state(&r, "g"), "Dead");
    rig_end(&r);
}

Test(group_offset, without_memory_nothing_has_changed)
{
    struct group_rig r;
    struct offset_commit_request_topic t;
    struct offset_commit_request_partition p[20];
    struct offset_commit_request q = commit_of("g", -1, &t, p, 20);
    rig_init(&r);
    cr_assert_eq(rig_commit(&r, "g", "", -1, "t", 19, 1, "old"), 0);
    for (int i = 0; i < 20; i++)
        p[i].committed_metadata = wire_string_of("a text that takes some memory of its own");
    uint64_t budget = r.mem.budget_bytes, used = r.mem.used_bytes;
    bool done = false;
    for (uint64_t room = 0; !done; room += 512) {
        cr_assert_lt(room, 1u << 20);
        r.mem.budget_bytes = used + room;
        struct rig_call *c = rig_commit_with(&r, &q, 9);
        r.mem.budget_bytes = budget;
        done = c->tell.commit.topics[0].partitions[0].error_code == 0;
        if (done)
            break;
        cr_assert_eq(c->tell.commit.topics[0].partitions[19].error_code,
                     KE_COORDINATOR_NOT_AVAILABLE);
        cr_assert_eq(rig_offset(&r, "g", "t", 19), 1);
        cr_assert_eq(rig_fetch_all(&r, "g")->tell.fetch.topics[0].partitions_count, 1);
        cr_assert_eq(r.log_count, 1);
    }
    cr_assert_eq(rig_offset(&r, "g", "t", 19), 29);
    rig_end(&r);
}

Test(group_offset, the_last_of_a_partition_named_twice_counts)
{
    struct group_rig r;
    struct offset_commit_request_topic t;
    struct offset_commit_request_partition p[2];
    struct offset_commit_request q = commit_of("g", -1, &t, p, 2);
    rig_init(&r);
    p[1].partition_index = 0;
    p[0].committed_metadata = wire_string_of("first");
    p[1].committed_metadata = wire_string_of("second");
    (void)rig_commit_with(&r, &q, 9);
    struct offset_fetch_response_partitions *o =
        rig_fetch_all(&r, "g")->tell.fetch.topics[0].partitions;
    cr_assert_eq(o[0].committed_offset, 11);
    cr_assert_str_eq(rig_text(&r, o[0].metadata), "second");
    rig_end(&r);
}

Test(group_offset, a_topic_made_anew_has_no_offsets_of_the_old_one)
{
    struct group_rig r;
    struct offset_commit_request_topic t;
    struct offset_commit_request_partition p[1];
    struct offset_commit_request q = commit_of("g", -1, &t, p, 1);
    rig_init(&r);
    t.topic_id.bytes[0] = 1;
    (void)rig_commit_with(&r, &q, 10);
    struct rig_call *c = rig_make(&r, GROUP_FETCH, 10);
    int32_t partition = 0;
    struct offset_fetch_request_topics asked = {
        .name = wire_string_of("t"), .partition_indexes = &partition, .partition_indexes_count = 1};
    offset_fetch_request_group_init(&c->ask.fetch);
    c->ask.fetch.group_id = wire_string_of("g");
    c->ask.fetch.topics = &asked;
    c->ask.fetch.topics_count = 1;
    asked.topic_id.bytes[0] = 1;
    rig_call(&r, c);
    cr_assert_eq(c->tell.fetch.topics[0].partitions[0].committed_offset, 10);
    c->answered = false;
    asked.topic_id.bytes[0] = 2;
    rig_call(&r, c);
    cr_assert_eq(c->tell.fetch.topics[0].partitions[0].committed_offset, -1);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), 10); /* by name it is not known which is meant */
    rig_end(&r);
}

Test(group_offset, what_members_subscribe_to_is_not_deleted)
{
    struct group_rig r;
    rig_init(&r);
    cr_assert_eq(rig_offset_delete(&r, "g", "t", 0), KE_GROUP_ID_NOT_FOUND);
    const char *id = rig_stable(&r, "g", "range=@t");
    cr_assert_eq(rig_commit(&r, "g", id, 1, "t", 0, 1, ""), 0);
    cr_assert_eq(rig_commit(&r, "g", id, 1, "u", 0, 1, ""), 0);
    cr_assert_eq(rig_offset_delete(&r, "g", "t", 0), KE_GROUP_SUBSCRIBED_TO_TOPIC);
    cr_assert_eq(rig_offset_delete(&r, "g", "u", 0), 0);
    cr_assert_eq(rig_offset_delete(&r, "g", "u", 9), 0); /* there is none: nothing to do */
    cr_assert_eq(rig_offset(&r, "g", "t", 0), 1);
    cr_assert_eq(rig_offset(&r, "g", "u", 0), -1);
    rig_end(&r);
}

Test(group_offset, subscriptions_that_cannot_be_read_protect_everything)
{
    struct group_rig r;
    rig_init(&r);
    const char *id = rig_stable(&r, "g", "range=?");
    cr_assert_eq(rig_commit(&r, "g", id, 1, "u", 0, 1, ""), 0);
    cr_assert_eq(rig_offset_delete(&r, "g", "u", 0), KE_GROUP_SUBSCRIBED_TO_TOPIC);
    cr_assert_eq(rig_leave(&r, "g", id, NULL), 0);
    cr_assert_eq(rig_offset_delete(&r, "g", "u", 0), 0);
    rig_end(&r);
}

/* Virtual days pass: only the expiry is of interest, so time jumps. */
static void days_pass(struct group_rig *r, int days)
{
    r->wall_ms += (int64_t)days * DAY_MS;
    rig_pass(r, 600001);
}

Test(group_offset, of_simple_groups_expire_a_week_after_the_commit)
{
    struct group_rig r;
    rig_init(&r);
    (void)rig_commit(&r, "g", "", -1, "t", 0, 1, "");
    days_pass(&r, 4);
    (void)rig_commit(&r, "g", "", -1, "t", 1, 1, "");
    days_pass(&r, 3);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), -1);
    cr_assert_eq(rig_offset(&r, "g", "t", 1), 1);
    uint32_t before = r.log_count;
    days_pass(&r, 7);
    cr_assert_str_eq(rig_state(&r, "g"), "Dead"); /* nothing is left of it */
    cr_assert_eq(r.log_count, before + 2);        /* tombstones of the offset and of the group */
    cr_assert(r.log[before].value == NULL && r.log[before + 1].value == NULL);
    rig_end(&r);
}

Test(group_offset, of_an_empty_group_expire_a_week_after_the_last_member_left)
{
    struct group_rig r;
    rig_init(&r);
    const char *id = rig_stable(&r, "g", "range=@t");
    (void)rig_commit(&r, "g", id, 1, "t", 0, 1, "");
    r.wall_ms += 10ll * DAY_MS;
    cr_assert_eq(rig_leave(&r, "g", id, NULL), 0);
    rig_pass(&r, 600001);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), 1); /* the commit is old, the emptiness is not */
    days_pass(&r, 7);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), -1);
    rig_end(&r);
}

Test(group_offset, of_a_stable_group_expire_only_for_topics_it_does_not_subscribe)
{
    struct group_rig r;
    rig_init(&r);
    const char *id = rig_stable(&r, "g", "range=@t");
    (void)rig_commit(&r, "g", id, 1, "t", 0, 1, "");
    (void)rig_commit(&r, "g", id, 1, "u", 0, 1, "");
    r.wall_ms += 8ll * DAY_MS;
    for (int i = 0; i < 120; i++) {
        rig_pass(&r, 5001);
        cr_assert_eq(rig_heartbeat(&r, "g", id, NULL, 1), 0);
    }
    cr_assert_eq(rig_offset(&r, "g", "t", 0), 1);
    cr_assert_eq(rig_offset(&r, "g", "u", 0), -1);
    rig_end(&r);
}

Test(group_offset, a_retention_of_its_own_is_kept)
{
    struct group_rig r;
    struct offset_commit_request_topic t;
    struct offset_commit_request_partition p[1];
    struct offset_commit_request q = commit_of("g", -1, &t, p, 1);
    rig_init(&r);
    q.retention_time_ms = 2 * 600000;
    (void)rig_commit_with(&r, &q, 2);
    rig_pass(&r, 600001);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), 10);
    rig_pass(&r, 600001);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), -1);
    rig_end(&r);
}

Test(group_offset, of_a_deleted_topic_go_with_tombstones)
{
    struct group_rig r;
    rig_init(&r);
    (void)rig_commit(&r, "g", "", -1, "t", 0, 1, "");
    (void)rig_commit(&r, "g", "", -1, "u", 0, 1, "");
    (void)rig_commit(&r, "h", "", -1, "t", 5, 1, "");
    uint32_t before = r.log_count;
    group_shard_topic_deleted(&r.shard, wire_string_of("t"), 0);
    r.shard.changed(&r.shard);
    cr_assert_eq(r.log_count, before + 2);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), -1);
    cr_assert_eq(rig_offset(&r, "h", "t", 5), -1);
    cr_assert_eq(rig_offset(&r, "g", "u", 0), 1);
    rig_end(&r);
}
