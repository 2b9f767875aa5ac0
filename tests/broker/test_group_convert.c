/* Groups that change their type while they live: what members of either protocol are told, what
 * stays, and that the records say the same. */
#include <criterion/criterion.h>

#include "core/core.h"
#include "tests/broker/group_rig.h"

static struct rig_call *beat_as(struct group_rig *r, const char *member, int32_t epoch,
                                const char *instance)
{
    const struct wire_string topic = wire_string_of("t");
    struct rig_call *c = rig_make(r, GROUP_CONSUMER_HEARTBEAT, 1);
    struct consumer_group_heartbeat_request *q = &c->ask.beat;
    consumer_group_heartbeat_request_init(q);
    q->group_id = wire_string_of("g");
    q->member_id = wire_string_of(member);
    q->member_epoch = epoch;
    q->rack_id = q->subscribed_topic_regex = q->server_assignor = wire_string_of(NULL);
    q->instance_id = wire_string_of(instance);
    q->rebalance_timeout_ms = epoch == 0 ? 30000 : -1;
    q->topic_partitions_count = epoch == 0 ? 0 : -1;
    q->subscribed_topic_names = arena_copy(&r->arena, &topic, sizeof(topic));
    q->subscribed_topic_names_count = epoch == 0 ? 1 : -1;
    rig_call(r, c);
    cr_assert(c->answered);
    return c;
}

static struct rig_call *beat(struct group_rig *r, const char *member, int32_t epoch)
{
    return beat_as(r, member, epoch, NULL);
}

static const struct consumer_group_describe_response_described_group *look(struct group_rig *r)
{
    struct rig_call *c = rig_make(r, GROUP_CONSUMER_DESCRIBE, 1);
    c->ask.group = wire_string_of("g");
    rig_call(r, c);
    return &c->tell.consumers;
}

static const char *type(struct group_rig *r)
{
    struct rig_call *c = rig_list(r, NULL, NULL);
    return c->tell.list.groups_count == 1 ? rig_text(r, c->tell.list.groups[0].group_type) : "none";
}

static void same_after_loading(struct group_rig *r)
{
    struct group_rig again;
    rig_load(&again, r);
    cr_assert_str_eq(type(&again), type(r));
    const struct consumer_group_describe_response_described_group *a = look(r), *b = look(&again);
    cr_assert_eq(a->error_code, b->error_code);
    cr_assert_eq(a->members_count, b->members_count);
    cr_assert_eq(a->group_epoch, b->group_epoch);
    cr_assert_eq(a->assignment_epoch, b->assignment_epoch);
    for (int32_t i = 0; i < a->members_count; i++) {
        cr_assert_eq(a->members[i].member_epoch, b->members[i].member_epoch);
        cr_assert_eq(a->members[i].member_type, b->members[i].member_type);
        cr_assert_eq(a->members[i].assignment.topic_partitions_count,
                     b->members[i].assignment.topic_partitions_count);
    }
    rig_end(&again);
}

/* A classic member that has both partitions of "t"; its id. */
static const char *classic(struct group_rig *r)
{
    static const char both[] = "\0\1\0\0\0\1\0\1t\0\0\0\2\0\0\0\0\0\0\0\1\xff\xff\xff\xff";
    struct rig_call *c = rig_join(r, "g", "", NULL, 4, "range=@t");
    c = rig_join(r, "g", rig_text(r, c->tell.join.member_id), NULL, 4, "range=@t");
    rig_pass(r, 1);
    const char *id = rig_text(r, c->tell.join.member_id);
    struct rig_call *s = rig_make(r, GROUP_SYNC, 4);
    sync_group_request_init(&s->ask.sync);
    s->ask.sync.group_id = wire_string_of("g");
    s->ask.sync.member_id = wire_string_of(id);
    s->ask.sync.generation_id = 1;
    s->ask.sync.group_instance_id = s->ask.sync.protocol_type = s->ask.sync.protocol_name =
        wire_string_of(NULL);
    s->ask.sync.assignments = arena_array(&r->arena, 1, sizeof(*s->ask.sync.assignments));
    s->ask.sync.assignments_count = 1;
    s->ask.sync.assignments[0].member_id = wire_string_of(id);
    s->ask.sync.assignments[0].assignment =
        (struct wire_bytes){(const uint8_t *)both, sizeof(both) - 1};
    rig_call(r, s);
    cr_assert_eq(s->tell.sync.error_code, 0);
    return id;
}

static void begin(struct group_rig *r)
{
    rig_init(r);
    rig_topic(r, "t", 2);
}

Test(group_convert, a_classic_group_is_taken_over_with_what_its_members_have)
{
    struct group_rig r;
    begin(&r);
    const char *id = classic(&r);
    cr_assert_eq(rig_commit(&r, "g", id, 1, "t", 0, 5, ""), 0);
    cr_assert_eq(beat(&r, "m", 0)->tell.beat.error_code, 0);
    cr_assert_str_eq(type(&r), "consumer");
    cr_assert_eq(look(&r)->members_count, 2);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), 5);
    same_after_loading(&r);
    cr_assert_eq(rig_heartbeat(&r, "g", id, NULL, 1), KE_REBALANCE_IN_PROGRESS);
    struct rig_call *c = rig_join(&r, "g", id, NULL, 4, "range=@t");
    cr_assert_eq(c->tell.join.error_code, 0);
    cr_assert_eq(c->tell.join.generation_id, 2, "it says it owns nothing, so it is up to date");
    cr_assert_eq(rig_sync(&r, "g", id, 2, NULL)->tell.sync.error_code, 0);
    cr_assert_eq(rig_heartbeat(&r, "g", id, NULL, 2), 0);
    cr_assert_eq(rig_commit(&r, "g", id, 3, "t", 0, 5, ""), KE_ILLEGAL_GENERATION);
    same_after_loading(&r);
    rig_end(&r);
}

Test(group_convert, when_the_last_of_the_new_protocol_leaves_a_round_begins)
{
    struct group_rig r;
    begin(&r);
    const char *id = classic(&r);
    (void)beat(&r, "m", 0);
    (void)rig_join(&r, "g", id, NULL, 4, "range=@t");
    cr_assert_eq(beat(&r, "m", -1)->tell.beat.error_code, 0);
    cr_assert_str_eq(type(&r), "classic");
    cr_assert_str_eq(rig_state(&r, "g"), "PreparingRebalance");
    struct group_rig again;
    rig_load(&again, &r);
    cr_assert_str_eq(type(&again), "classic");
    cr_assert_str_eq(rig_state(&again, "g"), "Stable");
    rig_end(&again);
    struct rig_call *c = rig_join(&r, "g", id, NULL, 4, "range=@t");
    cr_assert_eq(c->tell.join.error_code, 0);
    cr_assert_eq(c->tell.join.generation_id, 3);
    rig_end(&r);
}

Test(group_convert, who_replaces_the_last_of_the_new_protocol_is_told_the_generation)
{
    struct group_rig r;
    begin(&r);
    r.settings[GROUP_ASSIGNMENT_INTERVAL] = 1000;
    (void)classic(&r);
    cr_assert_eq(beat_as(&r, "m", 0, "i")->tell.beat.error_code, 0);
    rig_topic(&r, "t", 3); /* a new epoch, whose target is not due yet */
    struct rig_call *c = rig_join(&r, "g", "", "i", 5, "range=@t");
    cr_assert_eq(c->tell.join.error_code, 0);
    cr_assert_eq(c->tell.join.generation_id, 3);
    cr_assert_str_eq(type(&r), "classic");
    same_after_loading(&r);
    rig_end(&r);
}

Test(group_convert, nobody_is_told_an_epoch_of_zero)
{
    struct group_rig r;
    begin(&r);
    r.config.group_initial_rebalance_delay_ms = 3000;
    struct rig_call *held = rig_join(&r, "g", "", NULL, 3, "range=@t"); /* the first round */
    cr_assert_not(held->answered);
    struct rig_call *c = rig_make(&r, GROUP_CONSUMER_HEARTBEAT, 1);
    c->ask.beat = beat(&r, "none", -1)->ask.beat;
    c->ask.beat.member_id = wire_string_of("m");
    c->ask.beat.member_epoch = 0;
    c->ask.beat.rebalance_timeout_ms = 30000;
    c->ask.beat.topic_partitions_count = 0;
    c->ask.beat.subscribed_topic_regex = wire_string_of("t.*"); /* resolved later: no new epoch */
    rig_call(&r, c);
    cr_assert_eq(c->tell.beat.error_code, 0);
    cr_assert_gt(c->tell.beat.member_epoch, 0);
    cr_assert_eq(held->tell.join.error_code, KE_REBALANCE_IN_PROGRESS);
    rig_end(&r);
}

Test(group_convert, who_does_not_rejoin_in_time_is_out)
{
    struct group_rig r;
    begin(&r);
    const char *id = classic(&r);
    int32_t epoch = beat(&r, "m", 0)->tell.beat.member_epoch;
    for (int i = 0; i < 10; i++) {
        cr_assert_eq(rig_heartbeat(&r, "g", id, NULL, 1), KE_REBALANCE_IN_PROGRESS);
        rig_pass(&r, 6000);
        (void)beat(&r, "m", epoch);
    }
    cr_assert_eq(rig_heartbeat(&r, "g", id, NULL, 1), KE_UNKNOWN_MEMBER_ID);
    cr_assert_str_eq(type(&r), "consumer");
    cr_assert_eq(look(&r)->members_count, 1);
    rig_end(&r);
}

Test(group_convert, the_policy_may_forbid_either_way)
{
    struct group_rig r;
    begin(&r);
    r.config.group_consumer_migration_policy = "downgrade";
    const char *id = classic(&r);
    cr_assert_eq(beat(&r, "m", 0)->tell.beat.error_code, KE_GROUP_ID_NOT_FOUND);
    cr_assert_str_eq(type(&r), "classic");
    r.config.group_consumer_migration_policy = "Upgrade";
    cr_assert_eq(beat(&r, "m", 0)->tell.beat.error_code, 0);
    (void)rig_join(&r, "g", id, NULL, 4, "range=@t");
    (void)beat(&r, "m", -1);
    cr_assert_str_eq(type(&r), "consumer", "nobody speaks it any more, but it stays");
    r.config.group_consumer_migration_policy = "disabled";
    cr_assert_eq(rig_join(&r, "g", id, NULL, 4, "range=@t")->tell.join.error_code,
                 KE_INCONSISTENT_GROUP_PROTOCOL);
    rig_end(&r);
}

Test(group_convert, a_group_of_others_is_not_taken_over)
{
    struct group_rig r;
    begin(&r);
    (void)rig_stable(&r, "g", "range=not a subscription");
    struct rig_call *c = beat(&r, "m", 0);
    cr_assert_eq(c->tell.beat.error_code, KE_GROUP_ID_NOT_FOUND);
    cr_assert_str_eq(type(&r), "classic");
    cr_assert_str_eq(rig_state(&r, "g"), "Stable");
    same_after_loading(&r);
    rig_end(&r);
}

Test(group_convert, an_empty_group_becomes_what_its_next_member_speaks)
{
    struct group_rig r;
    begin(&r);
    cr_assert_eq(rig_commit(&r, "g", "", -1, "t", 0, 7, ""), 0);
    cr_assert_eq(beat(&r, "m", 0)->tell.beat.error_code, 0);
    cr_assert_str_eq(type(&r), "consumer");
    (void)beat(&r, "m", -1);
    same_after_loading(&r);
    (void)classic(&r);
    cr_assert_str_eq(type(&r), "classic");
    cr_assert_eq(rig_offset(&r, "g", "t", 0), 7);
    same_after_loading(&r);
    rig_end(&r);
}

Test(group_convert, a_held_member_is_told_to_come_again)
{
    struct group_rig r;
    begin(&r);
    const char *id = classic(&r);
    struct rig_call *other = rig_join(&r, "g", "", "i", 5, "range=@t"); /* static: at once */
    cr_assert(!other->answered, "it waits for the first to come back");
    cr_assert_eq(beat(&r, "m", 0)->tell.beat.error_code, 0);
    cr_assert(other->answered);
    cr_assert_eq(other->tell.join.error_code, KE_REBALANCE_IN_PROGRESS);
    cr_assert_eq(look(&r)->members_count, 3);
    cr_assert_eq(rig_leave(&r, "g", id, NULL), 0);
    cr_assert_eq(look(&r)->members_count, 2);
    same_after_loading(&r);
    rig_end(&r);
}

Test(group_convert, without_memory_the_group_stays_what_it_was)
{
    for (uint64_t room = 0; room < 40000; room += 1000) {
        struct group_rig r;
        begin(&r);
        const char *id = classic(&r);
        uint64_t budget = r.mem.budget_bytes;
        r.mem.budget_bytes = r.mem.used_bytes + room;
        int16_t error = beat(&r, "m", 0)->tell.beat.error_code;
        cr_assert(error == 0 || error == KE_COORDINATOR_NOT_AVAILABLE ||
                  error == KE_GROUP_ID_NOT_FOUND);
        (void)rig_join(&r, "g", id, NULL, 4, "range=@t");
        (void)beat(&r, "m", -1);
        r.mem.budget_bytes = budget;
        cr_assert_str_neq(type(&r), "none");
        struct group_rig again;
        rig_load(&again, &r);
        cr_assert_str_eq(type(&again), type(&r));
        rig_end(&again);
        rig_end(&r);
    }
}
