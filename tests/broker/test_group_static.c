/* Static members: a name that survives the process behind it. */
#include <criterion/criterion.h>

#include "tests/broker/group_rig.h"

/* Two static members, "one" leads; stable in generation 1. */
static void two_stable(struct group_rig *r, const char **one, const char **two)
{
    r->config.group_initial_rebalance_delay_ms = 10;
    struct rig_call *a = rig_join(r, "g", "", "one", 7, NULL);
    struct rig_call *b = rig_join(r, "g", "", "two", 7, NULL);
    rig_pass(r, 25);
    cr_assert(a->answered && b->answered);
    *one = rig_text(r, a->tell.join.member_id);
    *two = rig_text(r, b->tell.join.member_id);
    (void)rig_sync(r, "g", *one, 1, (const char *const[]){*one, "first", *two, "second", NULL});
    (void)rig_sync(r, "g", *two, 1, NULL);
    cr_assert_str_eq(rig_state(r, "g"), "Stable");
}

Test(group_static, ids_begin_with_the_instance_and_are_given_at_once)
{
    struct group_rig r;
    const char *one, *two;
    rig_init(&r);
    two_stable(&r, &one, &two);
    cr_assert(strncmp(one, "one-", 4) == 0 && strlen(one) == 40);
    rig_end(&r);
}

Test(group_static, who_comes_back_gets_its_place_without_a_round)
{
    struct group_rig r;
    const char *one, *two;
    rig_init(&r);
    two_stable(&r, &one, &two);
    uint32_t before = r.log_count;
    struct rig_call *back = rig_join(&r, "g", "", "two", 7, NULL);
    cr_assert(back->answered);
    cr_assert_eq(back->tell.join.error_code, 0);
    cr_assert_eq(back->tell.join.generation_id, 1);
    cr_assert_eq(back->tell.join.members_count, 0);
    cr_assert_eq(r.log_count, before + 1); /* the new id is on record */
    const char *again = rig_text(&r, back->tell.join.member_id);
    cr_assert_str_neq(again, two);
    cr_assert_str_eq(rig_text(&r, back->tell.join.leader), one);
    cr_assert_str_eq(rig_state(&r, "g"), "Stable");
    struct rig_call *sync = rig_sync(&r, "g", again, 1, NULL);
    cr_assert_str_eq(rig_bytes(&r, sync->tell.sync.assignment), "second");
    rig_end(&r);
}

Test(group_static, the_old_id_is_fenced)
{
    struct group_rig r;
    const char *one, *two;
    rig_init(&r);
    two_stable(&r, &one, &two);
    (void)rig_join(&r, "g", "", "two", 7, NULL);
    cr_assert_eq(rig_heartbeat(&r, "g", two, "two", 1), KE_FENCED_INSTANCE_ID);
    cr_assert_eq(rig_heartbeat(&r, "g", two, NULL, 1), KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(rig_join(&r, "g", two, "two", 7, NULL)->tell.join.error_code,
                 KE_FENCED_INSTANCE_ID);
    cr_assert_eq(rig_leave(&r, "g", two, "two"), KE_FENCED_INSTANCE_ID);
    cr_assert_eq(rig_heartbeat(&r, "g", two, "three", 1), KE_UNKNOWN_MEMBER_ID);
    rig_end(&r);
}

Test(group_static, who_waits_under_the_old_id_is_fenced_at_once)
{
    struct group_rig r;
    const char *one, *two;
    rig_init(&r);
    two_stable(&r, &one, &two);
    struct rig_call *waits = rig_join(&r, "g", two, "two", 7, "range=changed");
    cr_assert(!waits->answered);
    struct rig_call *other = rig_join(&r, "g", "", "two", 7, "range=changed");
    cr_assert(waits->answered);
    cr_assert_eq(waits->tell.join.error_code, KE_FENCED_INSTANCE_ID);
    cr_assert_str_eq(rig_text(&r, waits->tell.join.member_id), two);
    struct rig_call *lead = rig_join(&r, "g", one, "one", 7, NULL);
    cr_assert(lead->answered && other->answered);
    cr_assert_eq(lead->tell.join.generation_id, 2);
    rig_end(&r);
}

Test(group_static, a_leader_that_comes_back_is_told_of_the_old_leader_before_version_9)
{
    struct group_rig r;
    const char *one, *two;
    rig_init(&r);
    two_stable(&r, &one, &two);
    struct rig_call *back = rig_join(&r, "g", "", "one", 8, NULL);
    cr_assert(back->answered);
    cr_assert_str_eq(rig_text(&r, back->tell.join.leader), one); /* so it does not assign */
    cr_assert_eq(back->tell.join.members_count, 0);
    cr_assert(!back->tell.join.skip_assignment);
    rig_end(&r);
}

Test(group_static, from_version_9_it_leads_and_skips_the_assignment)
{
    struct group_rig r;
    const char *one, *two;
    rig_init(&r);
    two_stable(&r, &one, &two);
    struct rig_call *back = rig_join(&r, "g", "", "one", 9, NULL);
    const char *again = rig_text(&r, back->tell.join.member_id);
    cr_assert_str_eq(rig_text(&r, back->tell.join.leader), again);
    cr_assert_eq(back->tell.join.members_count, 2);
    cr_assert(back->tell.join.skip_assignment);
    cr_assert(!rig_join(&r, "g", "", "two", 9, NULL)->tell.join.skip_assignment);
    rig_end(&r);
}

Test(group_static, a_change_of_the_chosen_protocol_makes_a_round)
{
    struct group_rig r;
    rig_init(&r);
    struct rig_call *a = rig_join(&r, "g", "", "one", 7, "range=1,sticky=1");
    rig_pass(&r, 2);
    (void)rig_sync(&r, "g", rig_text(&r, a->tell.join.member_id), 1, NULL);
    struct rig_call *back = rig_join(&r, "g", "", "one", 7, "sticky=1,range=1");
    cr_assert(back->answered); /* it is alone, so the round is over at once */
    cr_assert_eq(back->tell.join.generation_id, 2);
    cr_assert_str_eq(rig_text(&r, back->tell.join.protocol_name), "sticky");
    rig_end(&r);
}

Test(group_static, a_return_while_the_leader_assigns_makes_a_round)
{
    struct group_rig r;
    rig_init(&r);
    r.config.group_initial_rebalance_delay_ms = 10;
    struct rig_call *a = rig_join(&r, "g", "", "one", 7, NULL);
    (void)rig_join(&r, "g", "", "two", 7, NULL);
    rig_pass(&r, 25);
    cr_assert_str_eq(rig_state(&r, "g"), "CompletingRebalance");
    struct rig_call *back = rig_join(&r, "g", "", "two", 7, NULL);
    cr_assert(!back->answered);
    cr_assert_str_eq(rig_state(&r, "g"), "PreparingRebalance");
    struct rig_call *lead = rig_join(&r, "g", rig_text(&r, a->tell.join.member_id), "one", 7, NULL);
    cr_assert(lead->answered && back->answered);
    rig_end(&r);
}

Test(group_static, one_that_is_away_keeps_its_place_in_a_round_till_its_session_ends)
{
    struct group_rig r;
    rig_init(&r);
    r.config.group_initial_rebalance_delay_ms = 10;
    struct rig_call *a = rig_join_for(&r, "g", "", "one", 7, NULL, 100000, 2000);
    struct rig_call *b = rig_join_for(&r, "g", "", "two", 7, NULL, 5000, 2000);
    rig_pass(&r, 25);
    const char *one = rig_text(&r, a->tell.join.member_id);
    (void)rig_sync(&r, "g", one, 1, NULL);
    (void)rig_sync(&r, "g", rig_text(&r, b->tell.join.member_id), 1, NULL);
    struct rig_call *lead = rig_join_for(&r, "g", one, "one", 7, NULL, 100000, 2000);
    rig_pass(&r, 2001);
    cr_assert(lead->answered);
    cr_assert_eq(lead->tell.join.members_count, 2); /* "two" is still reckoned with */
    rig_end(&r);
}

Test(group_static, an_administrator_removes_one_by_its_name)
{
    struct group_rig r;
    const char *one, *two;
    rig_init(&r);
    two_stable(&r, &one, &two);
    cr_assert_eq(rig_leave(&r, "g", "", "three"), KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(rig_leave(&r, "g", "", NULL), KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(rig_leave(&r, "g", "", "two"), 0);
    cr_assert_eq(rig_heartbeat(&r, "g", two, NULL, 1), KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(rig_heartbeat(&r, "g", one, "one", 1), KE_REBALANCE_IN_PROGRESS);
    rig_end(&r);
}

Test(group_static, without_memory_a_return_is_refused_and_the_old_id_stays)
{
    struct group_rig r;
    const char *one, *two;
    rig_init(&r);
    two_stable(&r, &one, &two);
    uint64_t budget = r.mem.budget_bytes;
    r.mem.budget_bytes = r.mem.used_bytes;
    struct rig_call *back = rig_join(&r, "g", "", "two", 7, NULL);
    r.mem.budget_bytes = budget;
    cr_assert_eq(back->tell.join.error_code, KE_COORDINATOR_NOT_AVAILABLE);
    cr_assert_eq(rig_heartbeat(&r, "g", two, "two", 1), 0);
    rig_end(&r);
}
