/* The rounds of a classic group, step by step, at exact virtual times. */
#include <criterion/criterion.h>

#include "tests/broker/group_rig.h"

/* What each request meets in each state: protocol 4.1's table. */
Test(group_classic, unknown_groups_and_members_are_told_so)
{
    struct group_rig r;
    rig_init(&r);
    cr_assert_eq(rig_join(&r, "g", "nobody", NULL, 9, NULL)->tell.join.error_code,
                 KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(rig_sync(&r, "g", "nobody", 1, NULL)->tell.sync.error_code, KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(rig_heartbeat(&r, "g", "nobody", NULL, 1), KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(rig_leave(&r, "g", "nobody", NULL), KE_UNKNOWN_MEMBER_ID);
    cr_assert_str_eq(rig_state(&r, "g"), "Dead");
    cr_assert_eq(r.log_count, 0);
    const char *id = rig_stable(&r, "g", NULL);
    cr_assert_eq(rig_leave(&r, "g", id, NULL), 0);
    cr_assert_str_eq(rig_state(&r, "g"), "Empty");
    cr_assert_eq(rig_join(&r, "g", id, NULL, 9, NULL)->tell.join.error_code, KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(rig_sync(&r, "g", id, 2, NULL)->tell.sync.error_code, KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(rig_heartbeat(&r, "g", id, NULL, 2), KE_UNKNOWN_MEMBER_ID);
    rig_end(&r);
}

Test(group_classic, a_first_member_of_version_4_comes_twice)
{
    struct group_rig r;
    rig_init(&r);
    struct rig_call *first = rig_join(&r, "g", "", NULL, 4, NULL);
    cr_assert(first->answered);
    cr_assert_eq(first->tell.join.error_code, KE_MEMBER_ID_REQUIRED);
    const char *id = rig_text(&r, first->tell.join.member_id);
    cr_assert_eq(strlen(id), 4 + 36);
    cr_assert(strncmp(id, "cli-", 4) == 0);
    cr_assert_eq(id[4 + 14], '4'); /* a random UUID */
    cr_assert_str_eq(rig_state(&r, "g"), "Empty");
    struct rig_call *again = rig_join(&r, "g", id, NULL, 4, NULL);
    cr_assert(!again->answered);
    cr_assert_str_eq(rig_state(&r, "g"), "PreparingRebalance");
    rig_pass(&r, 2);
    cr_assert(again->answered);
    cr_assert_eq(again->tell.join.error_code, 0);
    cr_assert_eq(again->tell.join.generation_id, 1);
    cr_assert_str_eq(rig_text(&r, again->tell.join.leader), id);
    cr_assert_eq(again->tell.join.members_count, 1);
    cr_assert_str_eq(rig_bytes(&r, again->tell.join.members[0].metadata), "m");
    rig_end(&r);
}

Test(group_classic, an_id_that_does_not_come_back_in_its_session_is_forgotten)
{
    struct group_rig r;
    rig_init(&r);
    const char *late =
        rig_text(&r, rig_join_for(&r, "g", "", NULL, 4, NULL, 500, 60000)->tell.join.member_id);
    const char *id = rig_text(&r, rig_join(&r, "g", "", NULL, 4, NULL)->tell.join.member_id);
    struct rig_call *join = rig_join(&r, "g", id, NULL, 4, NULL);
    rig_pass(&r, 2); /* the initial delay does not wait for ids given out */
    cr_assert(join->answered);
    struct rig_call *sync = rig_sync(&r, "g", id, 1, NULL);
    cr_assert(sync->answered);
    struct rig_call *lead = rig_join(&r, "g", id, NULL, 4, NULL); /* a round that waits for it */
    rig_pass(&r, 496);
    cr_assert(!lead->answered);
    rig_pass(&r, 4);
    cr_assert(lead->answered);
    cr_assert_eq(rig_join(&r, "g", late, NULL, 4, NULL)->tell.join.error_code,
                 KE_UNKNOWN_MEMBER_ID);
    rig_end(&r);
}

Test(group_classic, the_initial_delay_gives_others_time_and_grows_while_somebody_comes)
{
    struct group_rig r;
    rig_init(&r);
    r.config.group_initial_rebalance_delay_ms = 3000;
    struct rig_call *a = rig_join_for(&r, "g", "", NULL, 3, NULL, 10000, 7000);
    rig_pass(&r, 2000);
    struct rig_call *b = rig_join_for(&r, "g", "", NULL, 3, NULL, 10000, 7000);
    rig_pass(&r, 1001); /* 3001: extended by 3000, since b came */
    cr_assert(!a->answered && !b->answered);
    struct rig_call *c = rig_join_for(&r, "g", "", NULL, 3, NULL, 10000, 7000);
    rig_pass(&r, 2998); /* 5999 */
    cr_assert(!a->answered);
    rig_pass(&r, 2); /* 6001: extended by what is left of the rebalance timeout, 1000 */
    cr_assert(!a->answered);
    rig_pass(&r, 997); /* 6998 */
    cr_assert(!a->answered);
    rig_pass(&r, 5);
    cr_assert(a->answered && b->answered && c->answered);
    cr_assert_eq(a->tell.join.members_count, 3); /* the leader is told of all */
    cr_assert_eq(b->tell.join.members_count, 0);
    cr_assert_eq(c->tell.join.generation_id, 1);
    rig_end(&r);
}

/* A group of two in COMPLETING; the joins are answered. */
static void two_joined(struct group_rig *r, const char **leader, const char **other)
{
    r->config.group_initial_rebalance_delay_ms = 10;
    struct rig_call *a = rig_join(r, "g", "", NULL, 3, NULL);
    struct rig_call *b = rig_join(r, "g", "", NULL, 3, NULL);
    rig_pass(r, 25);
    cr_assert(a->answered && b->answered);
    *leader = rig_text(r, a->tell.join.member_id);
    *other = rig_text(r, b->tell.join.member_id);
    cr_assert_str_eq(rig_text(r, b->tell.join.leader), *leader);
    cr_assert_str_eq(rig_state(r, "g"), "CompletingRebalance");
}

Test(group_classic, followers_wait_for_the_leaders_assignment)
{
    struct group_rig r;
    const char *leader, *other;
    rig_init(&r);
    two_joined(&r, &leader, &other);
    struct rig_call *follows = rig_sync(&r, "g", other, 1, NULL);
    cr_assert(!follows->answered);
    cr_assert_eq(rig_heartbeat(&r, "g", other, NULL, 1), 0); /* 0 in COMPLETING */
    cr_assert_eq(rig_commit(&r, "g", other, 1, "t", 0, 5, ""), KE_REBALANCE_IN_PROGRESS);
    uint32_t before = r.log_count;
    struct rig_call *leads =
        rig_sync(&r, "g", leader, 1, (const char *const[]){leader, "first", other, "second", NULL});
    cr_assert(leads->answered && follows->answered);
    cr_assert_eq(r.log_count, before + 1); /* it is on record when they are told */
    cr_assert_str_eq(rig_bytes(&r, leads->tell.sync.assignment), "first");
    cr_assert_str_eq(rig_bytes(&r, follows->tell.sync.assignment), "second");
    cr_assert_str_eq(rig_text(&r, follows->tell.sync.protocol_name), "range");
    cr_assert_str_eq(rig_text(&r, follows->tell.sync.protocol_type), "consumer");
    cr_assert_str_eq(rig_state(&r, "g"), "Stable");
    struct rig_call *again = rig_sync(&r, "g", other, 1, NULL); /* the answer was lost */
    cr_assert_str_eq(rig_bytes(&r, again->tell.sync.assignment), "second");
    rig_end(&r);
}

Test(group_classic, a_sync_must_name_the_generation_and_the_protocol)
{
    struct group_rig r;
    const char *leader, *other;
    rig_init(&r);
    two_joined(&r, &leader, &other);
    cr_assert_eq(rig_sync(&r, "g", other, 2, NULL)->tell.sync.error_code, KE_ILLEGAL_GENERATION);
    cr_assert_eq(rig_sync(&r, "g", "nobody", 1, NULL)->tell.sync.error_code, KE_UNKNOWN_MEMBER_ID);
    struct rig_call *c = rig_make(&r, GROUP_SYNC, 5);
    sync_group_request_init(&c->ask.sync);
    c->ask.sync.group_id = wire_string_of("g");
    c->ask.sync.member_id = wire_string_of(other);
    c->ask.sync.generation_id = 1;
    c->ask.sync.protocol_type = wire_string_of("consumer");
    rig_call(&r, c);
    cr_assert_eq(c->tell.sync.error_code, KE_INCONSISTENT_GROUP_PROTOCOL); /* null in version 5 */
    c->answered = false;
    c->ask.sync.protocol_name = wire_string_of("roundrobin");
    rig_call(&r, c);
    cr_assert_eq(c->tell.sync.error_code, KE_INCONSISTENT_GROUP_PROTOCOL);
    rig_end(&r);
}

Test(group_classic, in_preparing_syncs_are_refused_and_heartbeats_call_to_join)
{
    struct group_rig r;
    const char *leader, *other;
    rig_init(&r);
    two_joined(&r, &leader, &other);
    struct rig_call *waits = rig_sync(&r, "g", other, 1, NULL);
    struct rig_call *third = rig_join(&r, "g", "", NULL, 3, NULL);
    cr_assert(!third->answered);
    cr_assert_str_eq(rig_state(&r, "g"), "PreparingRebalance");
    cr_assert(waits->answered); /* whoever waited for an assignment must join again */
    cr_assert_eq(waits->tell.sync.error_code, KE_REBALANCE_IN_PROGRESS);
    cr_assert_eq(rig_sync(&r, "g", other, 1, NULL)->tell.sync.error_code, KE_REBALANCE_IN_PROGRESS);
    cr_assert_eq(rig_heartbeat(&r, "g", other, NULL, 1), KE_REBALANCE_IN_PROGRESS);
    cr_assert_eq(rig_heartbeat(&r, "g", other, NULL, 2), KE_ILLEGAL_GENERATION);
    cr_assert_eq(rig_commit(&r, "g", other, 1, "t", 0, 5, ""), 0); /* its last work counts */
    struct rig_call *b = rig_join(&r, "g", other, NULL, 3, NULL);
    cr_assert(!b->answered);
    struct rig_call *a = rig_join(&r, "g", leader, NULL, 3, NULL);
    cr_assert(a->answered && b->answered && third->answered);
    cr_assert_eq(a->tell.join.generation_id, 2);
    cr_assert_eq(a->tell.join.members_count, 3);
    rig_end(&r);
}

Test(group_classic, a_repeated_join_in_completing_is_told_the_same_again)
{
    struct group_rig r;
    const char *leader, *other;
    rig_init(&r);
    two_joined(&r, &leader, &other);
    struct rig_call *a = rig_join(&r, "g", leader, NULL, 3, NULL);
    cr_assert(a->answered);
    cr_assert_eq(a->tell.join.generation_id, 1);
    cr_assert_eq(a->tell.join.members_count, 2);
    struct rig_call *b = rig_join(&r, "g", other, NULL, 3, "range=changed");
    cr_assert(!b->answered);
    cr_assert_str_eq(rig_state(&r, "g"), "PreparingRebalance");
    rig_end(&r);
}

Test(group_classic, in_stable_only_a_leader_or_a_change_makes_a_round)
{
    struct group_rig r;
    const char *leader, *other;
    rig_init(&r);
    two_joined(&r, &leader, &other);
    (void)rig_sync(&r, "g", leader, 1, NULL);
    struct rig_call *b = rig_join(&r, "g", other, NULL, 3, NULL);
    cr_assert(b->answered); /* nothing changed */
    cr_assert_eq(b->tell.join.generation_id, 1);
    cr_assert_str_eq(rig_state(&r, "g"), "Stable");
    struct rig_call *a = rig_join(&r, "g", leader, NULL, 3, NULL);
    cr_assert(!a->answered);
    cr_assert_str_eq(rig_state(&r, "g"), "PreparingRebalance");
    rig_end(&r);
}

Test(group_classic, who_has_not_joined_when_time_is_up_is_left_behind)
{
    struct group_rig r;
    rig_init(&r);
    r.config.group_initial_rebalance_delay_ms = 10;
    struct rig_call *a = rig_join_for(&r, "g", "", NULL, 3, NULL, 100000, 5000);
    struct rig_call *b = rig_join_for(&r, "g", "", NULL, 3, NULL, 100000, 7000);
    rig_pass(&r, 25);
    const char *leader = rig_text(&r, a->tell.join.member_id);
    const char *other = rig_text(&r, b->tell.join.member_id);
    (void)rig_sync(&r, "g", leader, 1, NULL);
    (void)rig_sync(&r, "g", other, 1, NULL);
    b = rig_join_for(&r, "g", other, NULL, 3, "range=changed", 100000, 7000);
    rig_pass(&r, 6999); /* the longest rebalance timeout of all */
    cr_assert(!b->answered);
    rig_pass(&r, 2);
    cr_assert(b->answered);
    cr_assert_eq(b->tell.join.generation_id, 2);
    cr_assert_str_eq(rig_text(&r, b->tell.join.leader), other); /* the old one has not joined */
    cr_assert_eq(b->tell.join.members_count, 1);
    cr_assert_eq(rig_heartbeat(&r, "g", leader, NULL, 1), KE_UNKNOWN_MEMBER_ID);
    rig_end(&r);
}

Test(group_classic, who_never_asks_for_its_assignment_is_removed)
{
    struct group_rig r;
    rig_init(&r);
    r.config.group_initial_rebalance_delay_ms = 10;
    struct rig_call *a = rig_join_for(&r, "g", "", NULL, 3, NULL, 100000, 4000);
    struct rig_call *b = rig_join_for(&r, "g", "", NULL, 3, NULL, 100000, 4000);
    rig_pass(&r, 21);
    const char *leader = rig_text(&r, a->tell.join.member_id);
    const char *silent = rig_text(&r, b->tell.join.member_id);
    (void)rig_sync(&r, "g", leader, 1, NULL);
    cr_assert_str_eq(rig_state(&r, "g"), "Stable");
    rig_pass(&r, 3990);
    cr_assert_eq(rig_heartbeat(&r, "g", silent, NULL, 1), 0);
    rig_pass(&r, 20);
    cr_assert_eq(rig_heartbeat(&r, "g", silent, NULL, 1), KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(rig_heartbeat(&r, "g", leader, NULL, 1), KE_REBALANCE_IN_PROGRESS);
    rig_end(&r);
}

Test(group_classic, a_session_ends_without_heartbeats_and_is_kept_by_them_and_by_commits)
{
    struct group_rig r;
    rig_init(&r);
    const char *id = rig_stable(&r, "g", NULL); /* 10 s */
    rig_pass(&r, 9998);
    cr_assert_eq(rig_heartbeat(&r, "g", id, NULL, 1), 0);
    rig_pass(&r, 9998);
    cr_assert_eq(rig_commit(&r, "g", id, 1, "t", 0, 5, ""), 0);
    rig_pass(&r, 9998);
    cr_assert_str_eq(rig_state(&r, "g"), "Stable");
    uint32_t before = r.log_count;
    rig_pass(&r, 3);
    cr_assert_str_eq(rig_state(&r, "g"), "Empty");
    cr_assert_eq(r.log_count, before + 1); /* the empty generation is on record */
    cr_assert_eq(rig_heartbeat(&r, "g", id, NULL, 1), KE_UNKNOWN_MEMBER_ID);
    rig_end(&r);
}

Test(group_classic, a_new_member_is_held_for_five_minutes_at_most)
{
    struct group_rig r;
    rig_init(&r);
    const char *id = rig_stable(&r, "g", NULL);
    struct rig_call *comes =
        rig_join_for(&r, "g", "", NULL, 3, NULL, 10000, GROUP_NEW_MEMBER_JOIN_MS * 2);
    for (int i = 0; i < GROUP_NEW_MEMBER_JOIN_MS / 5000; i++) {
        cr_assert(!comes->answered);
        rig_pass(&r, 5000 - (i == 0));
        (void)rig_heartbeat(&r, "g", id, NULL, 1); /* alive, but it does not join */
    }
    rig_pass(&r, 2);
    cr_assert(comes->answered);
    cr_assert_eq(comes->tell.join.error_code, KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(comes->tell.join.member_id.size, 0);
    rig_end(&r);
}

Test(group_classic, the_protocol_is_one_that_all_support_and_most_prefer)
{
    struct group_rig r;
    rig_init(&r);
    r.config.group_initial_rebalance_delay_ms = 10;
    struct rig_call *a = rig_join(&r, "g", "", NULL, 3, "own=1,range=1,sticky=1");
    struct rig_call *b = rig_join(&r, "g", "", NULL, 3, "sticky=2,range=2");
    struct rig_call *c = rig_join(&r, "g", "", NULL, 3, "sticky=3,range=3");
    struct rig_call *d = rig_join(&r, "g", "", NULL, 3, "own=4");
    cr_assert_eq(d->tell.join.error_code, KE_INCONSISTENT_GROUP_PROTOCOL);
    rig_pass(&r, 50);
    cr_assert(a->answered && b->answered && c->answered);
    cr_assert_str_eq(rig_text(&r, a->tell.join.protocol_name), "sticky");
    cr_assert_str_eq(rig_bytes(&r, a->tell.join.members[2].metadata), "3");
    struct rig_call *e = rig_make(&r, GROUP_JOIN, 3);
    e->ask.join = c->ask.join;
    e->ask.join.protocol_type = wire_string_of("connect");
    rig_call(&r, e);
    cr_assert_eq(e->tell.join.error_code, KE_INCONSISTENT_GROUP_PROTOCOL);
    rig_end(&r);
}

Test(group_classic, a_full_group_takes_nobody_and_sends_the_last_to_rejoin_away)
{
    struct group_rig r;
    const char *leader, *other;
    rig_init(&r);
    two_joined(&r, &leader, &other);
    (void)rig_sync(&r, "g", leader, 1, NULL);
    r.config.group_max_size = 2;
    struct rig_call *third = rig_join(&r, "g", "", NULL, 3, NULL);
    cr_assert_eq(third->tell.join.error_code, KE_GROUP_MAX_SIZE_REACHED);
    r.config.group_max_size = 1;
    struct rig_call *a = rig_join(&r, "g", leader, NULL, 3, NULL); /* a round */
    cr_assert(!a->answered);
    cr_assert_eq(rig_join(&r, "g", other, NULL, 3, NULL)->tell.join.error_code,
                 KE_GROUP_MAX_SIZE_REACHED);
    rig_end(&r);
}

Test(group_classic, session_timeouts_have_bounds)
{
    struct group_rig r;
    rig_init(&r);
    r.config.group_min_session_timeout_ms = 6000;
    cr_assert_eq(rig_join_for(&r, "g", "", NULL, 5, NULL, 5999, 1)->tell.join.error_code,
                 KE_INVALID_SESSION_TIMEOUT);
    cr_assert_eq(rig_join_for(&r, "g", "", NULL, 5, NULL, 1800001, 1)->tell.join.error_code,
                 KE_INVALID_SESSION_TIMEOUT);
    cr_assert_eq(rig_join_for(&r, "", "", NULL, 5, NULL, 6000, 1)->tell.join.error_code,
                 KE_INVALID_GROUP_ID);
    cr_assert_str_eq(rig_state(&r, "g"), "Dead");
    rig_end(&r);
}

Test(group_classic, version_0_waits_for_a_round_as_long_as_a_session)
{
    struct group_rig r;
    rig_init(&r);
    struct rig_call *a = rig_join_for(&r, "g", "", NULL, 0, NULL, 3000, -1);
    rig_pass(&r, 2);
    const char *id = rig_text(&r, a->tell.join.member_id);
    (void)rig_sync(&r, "g", id, 1, NULL);
    struct rig_call *b = rig_join_for(&r, "g", "", NULL, 0, NULL, 3000, -1);
    rig_pass(&r, 1500);
    (void)rig_heartbeat(&r, "g", id, NULL, 1);
    rig_pass(&r, 1495);
    cr_assert(!b->answered);
    rig_pass(&r, 10);
    cr_assert(b->answered);
    cr_assert_eq(b->tell.join.members_count, 1);
    rig_end(&r);
}

Test(group_classic, whoever_leaves_makes_a_round_for_the_others)
{
    struct group_rig r;
    const char *leader, *other;
    rig_init(&r);
    two_joined(&r, &leader, &other);
    struct rig_call *waits = rig_sync(&r, "g", other, 1, NULL);
    cr_assert_eq(rig_leave(&r, "g", leader, NULL), 0);
    cr_assert(waits->answered);
    cr_assert_eq(waits->tell.sync.error_code, KE_REBALANCE_IN_PROGRESS);
    struct rig_call *join = rig_join(&r, "g", other, NULL, 3, NULL);
    cr_assert(join->answered); /* nobody else is to come */
    cr_assert_str_eq(rig_text(&r, join->tell.join.leader), other);
    cr_assert_eq(join->tell.join.generation_id, 2);
    rig_end(&r);
}

Test(group_classic, who_leaves_while_it_waits_is_answered)
{
    struct group_rig r;
    const char *leader, *other;
    rig_init(&r);
    two_joined(&r, &leader, &other);
    struct rig_call *waits = rig_sync(&r, "g", other, 1, NULL);
    cr_assert_eq(rig_leave(&r, "g", other, NULL), 0);
    cr_assert(waits->answered);
    cr_assert_eq(waits->tell.sync.error_code, KE_UNKNOWN_MEMBER_ID);
    rig_end(&r);
}

Test(group_classic, a_member_whose_asker_is_gone_still_counts)
{
    struct group_rig r;
    const char *leader, *other;
    rig_init(&r);
    two_joined(&r, &leader, &other);
    (void)rig_sync(&r, "g", leader, 1, NULL);
    (void)rig_sync(&r, "g", other, 1, NULL);
    struct rig_call *gone = rig_join(&r, "g", leader, NULL, 3, NULL);
    group_shard_abandon(&r.shard, &gone->call);
    r.shard.changed(&r.shard);
    cr_assert(gone->answered);
    struct rig_call *b = rig_join(&r, "g", other, NULL, 3, NULL);
    cr_assert(b->answered); /* both have joined */
    cr_assert_str_eq(rig_text(&r, b->tell.join.leader), leader);
    rig_pass(&r, 10002); /* and its session ends as any other */
    cr_assert_eq(rig_heartbeat(&r, "g", leader, NULL, 2), KE_UNKNOWN_MEMBER_ID);
    rig_end(&r);
}

Test(group_classic, an_assignment_too_large_for_a_batch_makes_a_new_round)
{
    struct group_rig r;
    const char *leader, *other;
    rig_init(&r);
    two_joined(&r, &leader, &other);
    r.shard.batch_bytes_max = 4096;
    char *large = arena_alloc(&r.arena, 5000);
    memset(large, 'x', 4999);
    large[4999] = '\0';
    struct rig_call *sync =
        rig_sync(&r, "g", leader, 1, (const char *const[]){leader, large, NULL});
    cr_assert(sync->answered);
    cr_assert_eq(sync->tell.sync.error_code, KE_UNKNOWN_SERVER_ERROR);
    cr_assert_eq(sync->tell.sync.assignment.size, 0);
    cr_assert_str_eq(rig_state(&r, "g"), "PreparingRebalance");
    rig_end(&r);
}

Test(group_classic, without_memory_a_join_is_refused_and_leaves_nothing)
{
    struct group_rig r;
    rig_init(&r);
    const char *id = rig_stable(&r, "g", NULL);
    uint64_t budget = r.mem.budget_bytes, used = r.mem.used_bytes;
    uint32_t refused = 0, accepted = 0;
    for (uint64_t room = 0; room < 8192 && accepted == 0; room += 64) {
        r.mem.budget_bytes = used + room;
        struct rig_call *c = rig_join(&r, "g", "", NULL, 3, NULL);
        r.mem.budget_bytes = budget;
        if (!c->answered) {
            accepted++;
            continue;
        }
        cr_assert_eq(c->tell.join.error_code, KE_COORDINATOR_NOT_AVAILABLE);
        cr_assert_str_eq(rig_state(&r, "g"), "Stable");
        cr_assert_eq(rig_heartbeat(&r, "g", id, NULL, 1), 0);
        refused++;
    }
    cr_assert_gt(refused, 3);
    cr_assert_eq(accepted, 1);
    rig_end(&r);
}
