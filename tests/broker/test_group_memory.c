/* What a group costs that does nothing: its id, what it committed, who is in it. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "tests/broker/group_rig.h"

#define GROUPS 200u /* what they share, as the table of groups, is shared by so many at least */

static const char *name(char *to, uint32_t number)
{
    (void)snprintf(to, 32, "a-group-of-some-name-%u", number);
    return to;
}

static uint64_t each(const struct group_rig *r, uint64_t before)
{
    return (r->mem.used_bytes - before) / GROUPS;
}

Test(group_memory, of_a_group_without_members_is_at_most_850_bytes)
{
    static struct group_rig r;
    char group[32];
    rig_init(&r);
    uint64_t before = r.mem.used_bytes;
    for (uint32_t i = 0; i < GROUPS; i++)
        cr_assert_eq(rig_commit(&r, name(group, i), "", -1, "a-topic", 0, 5, ""), 0);
    cr_assert_leq(each(&r, before), 850, "%lu", each(&r, before));
    rig_end(&r);
}

Test(group_memory, of_a_group_of_one_classic_member_is_at_most_1400_bytes)
{
    static struct group_rig r;
    char group[32];
    rig_init(&r);
    uint64_t before = r.mem.used_bytes;
    for (uint32_t i = 0; i < GROUPS; i++) {
        const char *id = rig_stable(&r, name(group, i), "range=@t");
        cr_assert_eq(rig_commit(&r, group, id, 1, "t", 0, 5, ""), 0);
    }
    cr_assert_leq(each(&r, before), 1400, "%lu", each(&r, before));
    rig_end(&r);
}

static int32_t beat(struct group_rig *r, const char *group, int32_t epoch,
                    struct wire_string *topic,
                    struct consumer_group_heartbeat_request_topic_partitions *held)
{
    struct rig_call *c = rig_make(r, GROUP_CONSUMER_HEARTBEAT, 1);
    struct consumer_group_heartbeat_request *q = &c->ask.beat;
    consumer_group_heartbeat_request_init(q);
    q->group_id = wire_string_of(group);
    q->member_id = wire_string_of("AAAAAAAAAAAAAAAAAAAAAA");
    q->member_epoch = epoch;
    q->rebalance_timeout_ms = topic != NULL ? 30000 : -1;
    q->subscribed_topic_names = topic;
    q->subscribed_topic_names_count = topic != NULL ? 1 : -1;
    q->topic_partitions = held;
    q->topic_partitions_count = topic != NULL ? 0 : 1;
    rig_call(r, c);
    cr_assert(c->answered);
    cr_assert_eq(c->tell.beat.error_code, 0);
    return c->tell.beat.member_epoch;
}

Test(group_memory, of_a_group_of_one_consumer_is_at_most_1900_bytes)
{
    static struct group_rig r;
    struct wire_string topic = wire_string_of("t");
    int32_t first = 0;
    char group[32];
    rig_init(&r);
    rig_topic(&r, "t", 1);
    struct consumer_group_heartbeat_request_topic_partitions held = {
        .topic_id = r.topics[0].id, .partitions = &first, .partitions_count = 1};
    uint64_t before = r.mem.used_bytes;
    for (uint32_t i = 0; i < GROUPS; i++) {
        int32_t epoch = beat(&r, name(group, i), 0, &topic, NULL);
        (void)beat(&r, group, epoch, NULL, &held);
        cr_assert_eq(rig_commit(&r, group, "AAAAAAAAAAAAAAAAAAAAAA", epoch, "t", 0, 5, ""), 0);
    }
    cr_assert_leq(each(&r, before), 1900, "%lu", each(&r, before));
    rig_end(&r);
}

/* It was all of the core's memory: connections closed, partitions failed for the next request. */
Test(group_memory, a_crowd_of_groups_leaves_the_last_of_it_to_those_that_are_there)
{
    static struct group_rig r;
    char group[32];
    uint32_t made = 0;
    rig_init(&r);
    r.mem.budget_bytes = r.mem.used_bytes + (1u << 20);
    while (made < 10000 && rig_commit(&r, name(group, made), "", -1, "t", 0, 5, "") == 0)
        made++;
    cr_assert_gt(made, 500);
    cr_assert_eq(rig_commit(&r, group, "", -1, "t", 0, 5, ""), KE_COORDINATOR_NOT_AVAILABLE);
    cr_assert_gt(r.mem.budget_bytes - r.mem.used_bytes, r.mem.budget_bytes / 10);
    cr_assert_eq(rig_commit(&r, name(group, 0), "", -1, "t", 0, 6, ""), 0);
    cr_assert_eq(rig_offset(&r, group, "t", 0), 6);
    rig_end(&r);
}

Test(group_memory, that_the_log_counts_on_is_not_for_groups)
{
    static struct group_rig r;
    rig_init(&r);
    r.mem.promised_bytes = r.mem.budget_bytes / 8 * 7;
    cr_assert_eq(rig_commit(&r, "g", "", -1, "t", 0, 5, ""), KE_COORDINATOR_NOT_AVAILABLE);
    r.mem.promised_bytes = 0;
    cr_assert_eq(rig_commit(&r, "g", "", -1, "t", 0, 5, ""), 0);
    r.mem.promised_bytes = r.mem.budget_bytes / 8 * 7;
    cr_assert_eq(rig_commit(&r, "g", "", -1, "t", 0, 6, ""), 0);
    cr_assert_eq(rig_commit(&r, "g", "", -1, "t", 1, 6, ""), KE_COORDINATOR_NOT_AVAILABLE);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), 6);
    cr_assert_eq(rig_offset(&r, "g", "t", 1), -1);
    rig_end(&r);
}
