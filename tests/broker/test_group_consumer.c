/* Consumer groups without a broker: members that join, share, give up and get, are fenced, come
 * back and leave, in virtual time; whatever they do, no partition is with two of them, and a second
 * shard that is loaded from the records has the same groups. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "core/assert.h"
#include "tests/broker/group_rig.h"

#define SAID_MAX  64
#define ACTORS    6
#define STEPS_MAX 400

/* ---- words ----------------------------------------------------------------------------------- */

static struct wire_string *names(struct group_rig *r, const char *list, int32_t *count)
{
    struct wire_string *to = arena_array(&r->arena, 8, sizeof(*to));
    *count = 0;
    for (const char *at = list; *at != '\0';) {
        size_t size = strcspn(at, ",");
        to[(*count)++] = (struct wire_string){at, (int32_t)size};
        at += size + (at[size] == ',');
    }
    return to;
}

static struct rig_call *ask(struct group_rig *r, const char *group, const char *member,
                            int32_t epoch)
{
    struct rig_call *c = rig_make(r, GROUP_CONSUMER_HEARTBEAT, 1);
    struct consumer_group_heartbeat_request *q = &c->ask.beat;
    consumer_group_heartbeat_request_init(q);
    q->group_id = wire_string_of(group);
    q->member_id = wire_string_of(member);
    q->member_epoch = epoch;
    q->instance_id = q->rack_id = q->subscribed_topic_regex = q->server_assignor =
        wire_string_of(NULL);
    q->subscribed_topic_names_count = q->topic_partitions_count = -1;
    q->rebalance_timeout_ms = -1;
    return c;
}

static struct rig_call *asked(struct group_rig *r, struct rig_call *c)
{
    rig_call(r, c);
    cr_assert(c->answered);
    rig_pass(r, 1); /* patterns are resolved beside it */
    return c;
}

/* Joins with the topics, or the pattern if the list begins with '~'. */
static struct rig_call *join(struct group_rig *r, const char *group, const char *member,
                             const char *instance, const char *topics)
{
    struct rig_call *c = ask(r, group, member, 0);
    c->ask.beat.instance_id = wire_string_of(instance);
    c->ask.beat.rebalance_timeout_ms = 30000;
    c->ask.beat.topic_partitions_count = 0;
    if (topics[0] == '~')
        c->ask.beat.subscribed_topic_regex = wire_string_of(topics + 1);
    else
        c->ask.beat.subscribed_topic_names =
            names(r, topics, &c->ask.beat.subscribed_topic_names_count);
    return asked(r, c);
}

static struct rig_call *beat(struct group_rig *r, const char *group, const char *member,
                             int32_t epoch)
{
    return asked(r, ask(r, group, member, epoch));
}

/* It says it has exactly what it was told last. */
static struct rig_call *confirm(struct group_rig *r, const char *group, const char *member,
                                int32_t epoch,
                                const struct consumer_group_heartbeat_response_assignment *has)
{
    struct rig_call *c = ask(r, group, member, epoch);
    int32_t count = has != NULL ? has->topic_partitions_count : 0;
    c->ask.beat.topic_partitions =
        arena_array(&r->arena, (size_t)count, sizeof(*c->ask.beat.topic_partitions));
    for (int32_t i = 0; i < count; i++) {
        c->ask.beat.topic_partitions[i].topic_id = has->topic_partitions[i].topic_id;
        c->ask.beat.topic_partitions[i].partitions = has->topic_partitions[i].partitions;
        c->ask.beat.topic_partitions[i].partitions_count =
            has->topic_partitions[i].partitions_count;
    }
    c->ask.beat.topic_partitions_count = count;
    return asked(r, c);
}

static int32_t told(const struct rig_call *c)
{
    int32_t count = 0;
    for (int32_t i = 0;
         c->tell.beat.assignment != NULL && i < c->tell.beat.assignment->topic_partitions_count;
         i++)
        count += c->tell.beat.assignment->topic_partitions[i].partitions_count;
    return c->tell.beat.assignment != NULL ? count : -1;
}

static struct rig_call *describe(struct group_rig *r, const char *group)
{
    struct rig_call *c = rig_make(r, GROUP_CONSUMER_DESCRIBE, 1);
    c->ask.group = wire_string_of(group);
    rig_call(r, c);
    cr_assert(c->answered);
    return c;
}

static const char *state(struct group_rig *r, const char *group)
{
    return rig_text(r, describe(r, group)->tell.consumers.group_state);
}

/* The whole description in one text. */
static const char *picture(struct group_rig *r, const char *group)
{
    const struct consumer_group_describe_response_described_group *g =
        &describe(r, group)->tell.consumers;
    size_t room = 1 << 16, at = 0;
    char *text = arena_alloc(&r->arena, room);
    at += (size_t)snprintf(text, room, "%d %s %d %d", g->error_code, rig_text(r, g->group_state),
                           g->group_epoch, g->assignment_epoch);
    for (int32_t i = 0; i < g->members_count; i++) {
        const struct consumer_group_describe_response_member *m = &g->members[i];
        at +=
            (size_t)snprintf(text + at, room - at, "\n%s %s %d type %d:", rig_text(r, m->member_id),
                             rig_text(r, m->instance_id), m->member_epoch, m->member_type);
        const struct consumer_group_describe_response_assignment *both[] = {&m->assignment,
                                                                            &m->target_assignment};
        for (int k = 0; k < 2; k++) {
            at += (size_t)snprintf(text + at, room - at, " |");
            for (int32_t t = 0; t < both[k]->topic_partitions_count; t++) {
                for (int32_t p = 0; p < both[k]->topic_partitions[t].partitions_count; p++)
                    at += (size_t)snprintf(text + at, room - at, " %s-%d",
                                           rig_text(r, both[k]->topic_partitions[t].topic_name),
                                           both[k]->topic_partitions[t].partitions[p]);
            }
        }
        cr_assert_lt(at, room);
    }
    return text;
}

static void same_after_loading(struct group_rig *r, const char *group)
{
    struct group_rig again;
    rig_load(&again, r);
    cr_assert_str_eq(picture(&again, group), picture(r, group));
    rig_end(&again);
}

/* ---- joining and leaving --------------------------------------------------------------------- */

Test(group_consumer, one_member_gets_everything)
{
    struct group_rig r;
    rig_init(&r);
    rig_topic(&r, "t", 3);
    struct rig_call *c = join(&r, "g", "m", NULL, "t");
    cr_assert_eq(c->tell.beat.error_code, 0);
    cr_assert_eq(c->tell.beat.heartbeat_interval_ms, 5000);
    cr_assert_eq(told(c), 3);
    cr_assert_str_eq(state(&r, "g"), "Stable");
    cr_assert_eq(told(beat(&r, "g", "m", c->tell.beat.member_epoch)), -1, "nothing has changed");
    same_after_loading(&r, "g");
    rig_end(&r);
}

Test(group_consumer, a_second_member_waits_till_the_first_has_given_up)
{
    struct group_rig r;
    rig_init(&r);
    rig_topic(&r, "t", 4);
    struct rig_call *a = join(&r, "g", "a", NULL, "t"), *b = join(&r, "g", "b", NULL, "t");
    cr_assert_eq(told(a), 4);
    cr_assert_eq(told(b), 0);
    int32_t old = a->tell.beat.member_epoch, new = b->tell.beat.member_epoch;
    cr_assert_eq(new, old + 1);
    a = beat(&r, "g", "a", old);
    cr_assert_eq(told(a), 2);
    cr_assert_eq(a->tell.beat.member_epoch, old, "it moves when it has given up");
    same_after_loading(&r, "g");
    cr_assert_eq(told(beat(&r, "g", "b", new)), -1);
    const struct consumer_group_heartbeat_response_assignment *kept = a->tell.beat.assignment;
    a = confirm(&r, "g", "a", old, kept);
    cr_assert_eq(a->tell.beat.member_epoch, new);
    cr_assert_eq(told(beat(&r, "g", "b", new)), 2);
    cr_assert_str_eq(state(&r, "g"), "Stable");
    /* The answer was lost: said again with what it has, it is let pass; with more it is not. */
    cr_assert_eq(confirm(&r, "g", "a", old, kept)->tell.beat.error_code, 0);
    cr_assert_eq(beat(&r, "g", "a", old)->tell.beat.error_code, KE_FENCED_MEMBER_EPOCH);
    same_after_loading(&r, "g");
    rig_end(&r);
}

Test(group_consumer, who_does_not_give_up_in_time_is_out)
{
    struct group_rig r;
    rig_init(&r);
    rig_topic(&r, "t", 4);
    int32_t epoch = join(&r, "g", "a", NULL, "t")->tell.beat.member_epoch;
    int32_t other = join(&r, "g", "b", NULL, "t")->tell.beat.member_epoch;
    (void)beat(&r, "g", "a", epoch);
    for (int i = 0; i < 3; i++) {
        rig_pass(&r, 10000);
        (void)beat(&r, "g", "b", other);
        int16_t error = beat(&r, "g", "a", epoch)->tell.beat.error_code;
        cr_assert_eq(error, i < 2 ? 0 : KE_UNKNOWN_MEMBER_ID);
    }
    other = beat(&r, "g", "b", other)->tell.beat.member_epoch;
    cr_assert_eq(describe(&r, "g")->tell.consumers.members_count, 1);
    cr_assert_eq(told(confirm(&r, "g", "b", other, NULL)), -1);
    same_after_loading(&r, "g");
    rig_end(&r);
}

Test(group_consumer, silence_ends_a_session_also_after_a_restart)
{
    struct group_rig r, again;
    rig_init(&r);
    rig_topic(&r, "t", 1);
    (void)join(&r, "g", "m", NULL, "t");
    rig_pass(&r, 44990);
    cr_assert_str_eq(state(&r, "g"), "Stable");
    rig_load(&again, &r);
    rig_pass(&r, 20);
    cr_assert_str_eq(state(&r, "g"), "Empty");
    rig_pass(&again, 44990);
    cr_assert_str_eq(state(&again, "g"), "Stable");
    rig_pass(&again, 20);
    cr_assert_str_eq(state(&again, "g"), "Empty");
    rig_end(&again);
    rig_end(&r);
}

Test(group_consumer, a_static_member_comes_back_to_what_it_had)
{
    struct group_rig r;
    rig_init(&r);
    rig_topic(&r, "t", 4);
    (void)join(&r, "g", "a", "i", "t");
    struct rig_call *b = join(&r, "g", "b", NULL, "t");
    cr_assert_eq(join(&r, "g", "c", "i", "t")->tell.beat.error_code, KE_UNRELEASED_INSTANCE_ID);
    struct rig_call *leave = ask(&r, "g", "a", -2);
    leave->ask.beat.instance_id = wire_string_of("i");
    cr_assert_eq(asked(&r, leave)->tell.beat.member_epoch, -2);
    same_after_loading(&r, "g");
    struct rig_call *c = join(&r, "g", "c", "i", "t");
    cr_assert_eq(c->tell.beat.error_code, 0);
    cr_assert_eq(c->tell.beat.member_epoch, b->tell.beat.member_epoch);
    cr_assert_eq(describe(&r, "g")->tell.consumers.members_count, 2);
    struct rig_call *old = ask(&r, "g", "a", 2);
    old->ask.beat.instance_id = wire_string_of("i");
    cr_assert_eq(asked(&r, old)->tell.beat.error_code, KE_FENCED_INSTANCE_ID);
    same_after_loading(&r, "g");
    rig_end(&r);
}

Test(group_consumer, a_full_group_takes_nobody_else)
{
    struct group_rig r;
    rig_init(&r);
    r.config.group_consumer_max_size = 1;
    rig_topic(&r, "t", 1);
    cr_assert_eq(join(&r, "g", "a", NULL, "t")->tell.beat.error_code, 0);
    cr_assert_eq(join(&r, "g", "b", NULL, "t")->tell.beat.error_code, KE_GROUP_MAX_SIZE_REACHED);
    cr_assert_eq(join(&r, "g", "a", NULL, "t")->tell.beat.error_code, 0);
    rig_end(&r);
}

Test(group_consumer, an_assignment_waits_for_its_interval)
{
    struct group_rig r;
    rig_init(&r);
    r.settings[GROUP_ASSIGNMENT_INTERVAL] = 1000;
    rig_topic(&r, "t", 2);
    int32_t epoch = join(&r, "g", "a", NULL, "t")->tell.beat.member_epoch;
    (void)join(&r, "g", "b", NULL, "t");
    cr_assert_str_eq(state(&r, "g"), "Assigning");
    cr_assert_eq(told(beat(&r, "g", "a", epoch)), -1);
    rig_pass(&r, 1000);
    cr_assert_eq(told(beat(&r, "g", "a", epoch)), 1);
    cr_assert_str_eq(state(&r, "g"), "Reconciling");
    rig_end(&r);
}

Test(group_consumer, an_assignment_does_not_wait_for_a_clock_that_was_set_back)
{
    struct group_rig r;
    rig_init(&r);
    r.settings[GROUP_ASSIGNMENT_INTERVAL] = 1000;
    rig_topic(&r, "t", 2);
    int32_t epoch = join(&r, "g", "a", NULL, "t")->tell.beat.member_epoch;
    (void)join(&r, "g", "b", NULL, "t");
    r.wall_ms -= 3600000;
    cr_assert_eq(told(beat(&r, "g", "a", epoch)), 1);
    rig_end(&r);
}

/* ---- the metadata ---------------------------------------------------------------------------- */

Test(group_consumer, topics_that_come_grow_and_go_are_assigned_anew)
{
    struct group_rig r;
    rig_init(&r);
    rig_topic(&r, "t", 1);
    struct rig_call *c = join(&r, "g", "m", NULL, "t,u");
    int32_t epoch = c->tell.beat.member_epoch;
    cr_assert_eq(told(c), 1);
    rig_topic(&r, "t", 3);
    c = beat(&r, "g", "m", epoch);
    cr_assert_eq(told(c), 3);
    cr_assert_eq(c->tell.beat.member_epoch, epoch + 1);
    rig_topic(&r, "u", 2);
    c = beat(&r, "g", "m", epoch + 1);
    cr_assert_eq(told(c), 5);
    rig_topic_gone(&r, "t");
    c = beat(&r, "g", "m", epoch + 2);
    cr_assert_eq(told(c), 2);
    rig_topic(&r, "other", 2);
    cr_assert_eq(told(beat(&r, "g", "m", epoch + 2)), -1, "nobody subscribes to it");
    same_after_loading(&r, "g");
    rig_end(&r);
}

Test(group_consumer, a_pattern_stands_for_the_topics_that_are_there)
{
    struct group_rig r;
    rig_init(&r);
    rig_topic(&r, "orders-a", 1);
    rig_topic(&r, "orders-b", 2);
    rig_topic(&r, "other", 4);
    struct rig_call *c = join(&r, "g", "m", NULL, "~orders-.*");
    cr_assert_eq(c->tell.beat.error_code, 0);
    c = beat(&r, "g", "m", c->tell.beat.member_epoch);
    cr_assert_eq(told(c), 3);
    same_after_loading(&r, "g");
    int32_t epoch = c->tell.beat.member_epoch;
    rig_topic(&r, "orders-c", 1);
    cr_assert_eq(told(beat(&r, "g", "m", epoch)), -1, "not within ten seconds");
    rig_pass(&r, 10000);
    (void)beat(&r, "g", "m", epoch);
    c = beat(&r, "g", "m", epoch);
    cr_assert_eq(told(c), 4);
    cr_assert_eq(join(&r, "g", "n", NULL, "~orders-(")->tell.beat.error_code,
                 KE_INVALID_REGULAR_EXPRESSION);
    cr_assert_eq(beat(&r, "g", "m", -1)->tell.beat.error_code, 0);
    same_after_loading(&r, "g");
    rig_end(&r);
}

Test(group_consumer, a_pattern_does_not_wait_for_a_clock_that_was_set_back)
{
    struct group_rig r;
    rig_init(&r);
    rig_topic(&r, "orders-a", 1);
    (void)join(&r, "g", "m", NULL, "~orders-.*");
    int32_t epoch = join(&r, "g", "m", NULL, "~orders-.*")->tell.beat.member_epoch;
    r.wall_ms -= 3600000;
    rig_topic(&r, "orders-b", 1);
    (void)beat(&r, "g", "m", epoch);
    cr_assert_eq(told(beat(&r, "g", "m", epoch)), 2);
    rig_end(&r);
}

Test(group_consumer, many_patterns_are_resolved_over_turns_and_move_the_epoch_once)
{
    struct group_rig r;
    rig_init(&r);
    for (int i = 0; i < 60; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "t-%02d", i);
        rig_topic(&r, name, 1);
    }
    for (int i = 0; i < 12; i++) { /* the first is resolved at once, the others together later */
        char *pattern = arena_alloc(&r.arena, 32), *member = arena_alloc(&r.arena, 8);
        (void)snprintf(pattern, 32, "~t-(%d.|1%d)", i % 6, i % 10);
        (void)snprintf(member, 8, "m%d", i);
        cr_assert_eq(join(&r, "g", member, NULL, pattern)->tell.beat.error_code, 0);
    }
    int32_t before = describe(&r, "g")->tell.consumers.group_epoch;
    rig_pass(&r, 10000);
    cr_assert_eq(join(&r, "g", "m0", NULL, "~t-(0.|10)")->tell.beat.error_code, 0);
    rig_pass(&r, 5);
    cr_assert_eq(describe(&r, "g")->tell.consumers.group_epoch, before + 1);
    (void)join(&r, "g", "m0", NULL, "~t-(0.|10)");
    int32_t parts = 0;
    for (int i = 0; i < describe(&r, "g")->tell.consumers.members_count; i++) {
        const struct consumer_group_describe_response_assignment *a =
            &describe(&r, "g")->tell.consumers.members[i].target_assignment;
        parts += a->topic_partitions_count;
    }
    cr_assert_eq(parts, 60);
    same_after_loading(&r, "g");
    rig_end(&r);
}

/* ---- offsets --------------------------------------------------------------------------------- */

Test(group_consumer, commits_count_in_the_epoch_of_the_assignment_or_later)
{
    struct group_rig r;
    rig_init(&r);
    rig_topic(&r, "t", 2);
    int32_t epoch = join(&r, "g", "m", NULL, "t")->tell.beat.member_epoch;
    cr_assert_eq(rig_commit(&r, "g", "m", epoch, "t", 0, 5, ""), 0);
    cr_assert_eq(rig_commit(&r, "g", "m", epoch + 1, "t", 0, 5, ""), KE_STALE_MEMBER_EPOCH);
    cr_assert_eq(rig_commit(&r, "g", "m", epoch - 1, "t", 0, 5, ""), KE_STALE_MEMBER_EPOCH);
    cr_assert_eq(rig_commit(&r, "g", "x", epoch, "t", 0, 5, ""), KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(rig_commit(&r, "g", "", -1, "t", 0, 5, ""), KE_UNKNOWN_MEMBER_ID);
    cr_assert_eq(rig_delete(&r, "g"), KE_NON_EMPTY_GROUP);
    cr_assert_eq(rig_offset_delete(&r, "g", "t", 0), KE_GROUP_SUBSCRIBED_TO_TOPIC);
    (void)beat(&r, "g", "m", -1);
    cr_assert_eq(rig_commit(&r, "g", "", -1, "t", 0, 9, ""), 0);
    cr_assert_eq(rig_offset(&r, "g", "t", 0), 9);
    same_after_loading(&r, "g");
    cr_assert_eq(rig_delete(&r, "g"), 0);
    struct group_rig again;
    rig_load(&again, &r);
    cr_assert_eq(again.shard.groups.count, 0);
    rig_end(&again);
    rig_end(&r);
}

/* ---- whatever they do ------------------------------------------------------------------------ */

struct actor {
    char name[8];
    int32_t epoch; /* 0: not in the group */
    const struct consumer_group_heartbeat_response_assignment *has;
};

static uint32_t dice(struct group_rig *r, uint32_t sides)
{
    return (uint32_t)(r->shard.random(r) >> 33) % sides;
}

static void hear(struct actor *a, const struct rig_call *c)
{
    int16_t error = c->tell.beat.error_code;
    if (error == KE_FENCED_MEMBER_EPOCH || error == KE_UNKNOWN_MEMBER_ID) {
        a->epoch = 0;
        a->has = NULL;
        return;
    }
    cr_assert_eq(error, 0, "error %d", error);
    a->epoch = MAX(c->tell.beat.member_epoch, 0);
    if (c->tell.beat.assignment != NULL)
        a->has = c->tell.beat.assignment;
}

/* What actors were told they have: no partition with two of them. */
static void nobody_shares(const struct actor *actors)
{
    uint8_t seen[256] = {0};
    for (uint32_t i = 0; i < ACTORS; i++) {
        for (int32_t t = 0; actors[i].has != NULL && t < actors[i].has->topic_partitions_count;
             t++) {
            const struct consumer_group_heartbeat_response_topic_partitions *p =
                &actors[i].has->topic_partitions[t];
            for (int32_t k = 0; k < p->partitions_count; k++) {
                uint32_t slot = p->topic_id.bytes[15] * 16u + (uint32_t)p->partitions[k];
                cr_assert_lt(slot, sizeof(seen));
                cr_assert_eq(seen[slot], 0, "%s has what another one has", actors[i].name);
                seen[slot] = 1;
            }
        }
    }
}

static void act(struct group_rig *r, struct actor *a, uint32_t choice)
{
    static const char *const wishes[] = {"t", "t,u", "u", "~[tu]", "t,nowhere"};
    if (a->epoch == 0) {
        a->has = NULL;
        hear(a, join(r, "g", a->name, NULL, wishes[choice % 5]));
    } else if (choice == 0) {
        (void)beat(r, "g", a->name, -1);
        a->epoch = 0;
        a->has = NULL;
    } else if (choice == 1) {
        struct rig_call *c = ask(r, "g", a->name, a->epoch);
        c->ask.beat.subscribed_topic_names =
            names(r, wishes[dice(r, 3)], &c->ask.beat.subscribed_topic_names_count);
        c->ask.beat.subscribed_topic_regex = wire_string_of("");
        hear(a, asked(r, c));
    } else {
        hear(a, confirm(r, "g", a->name, a->epoch, a->has));
    }
}

static void settle(struct group_rig *r, struct actor *actors)
{
    for (uint32_t n = 0; n < 6; n++) {
        for (uint32_t i = 0; i < ACTORS; i++) {
            if (actors[i].epoch > 0)
                hear(&actors[i], confirm(r, "g", actors[i].name, actors[i].epoch, actors[i].has));
            nobody_shares(actors);
        }
        rig_pass(r, 11);
    }
}

Test(group_consumer, no_partition_is_ever_with_two_whatever_they_do)
{
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct group_rig r;
        struct actor actors[ACTORS] = {0};
        rig_init(&r);
        r.random = seed * 77;
        rig_topic(&r, "t", 3);
        for (uint32_t i = 0; i < ACTORS; i++)
            (void)snprintf(actors[i].name, sizeof(actors[i].name), "m%u", i);
        for (uint32_t n = 0; n < STEPS_MAX / 2; n++) {
            act(&r, &actors[dice(&r, ACTORS)], dice(&r, 12));
            nobody_shares(actors);
            if (n == 60)
                rig_topic(&r, "u", 5);
            if (n == 120)
                rig_topic(&r, "t", 7);
            if (n % 50 == 49)
                same_after_loading(&r, "g");
        }
        settle(&r, actors);
        cr_assert(strcmp(state(&r, "g"), "Stable") == 0 || strcmp(state(&r, "g"), "Empty") == 0,
                  "seed %llu: %s", (unsigned long long)seed, picture(&r, "g"));
        same_after_loading(&r, "g");
        rig_end(&r);
    }
}

/* ---- without memory -------------------------------------------------------------------------- */

static void story(struct group_rig *r)
{
    (void)join(r, "g", "a", "i", "t,u");
    (void)join(r, "g", "b", NULL, "~[tu]");
    (void)beat(r, "g", "a", 2);
    (void)confirm(r, "g", "b", 3, NULL);
    struct rig_call *leave = ask(r, "g", "a", -2);
    leave->ask.beat.instance_id = wire_string_of("i");
    (void)asked(r, leave);
    (void)join(r, "g", "c", "i", "t");
    (void)describe(r, "g");
    (void)beat(r, "g", "b", -1);
}

Test(group_consumer, without_memory_a_heartbeat_is_refused_and_the_group_goes_on)
{
    for (uint64_t room = 0; room < 60000; room += 1500) {
        struct group_rig r;
        rig_init(&r);
        rig_topic(&r, "t", 3);
        rig_topic(&r, "u", 2);
        uint64_t budget = r.mem.budget_bytes;
        r.mem.budget_bytes = r.mem.used_bytes + room;
        story(&r);
        r.mem.budget_bytes = budget;
        story(&r);
        if (r.shard.records_lost == 0)
            same_after_loading(&r, "g");
        rig_end(&r);
    }
}

Test(group_consumer, an_idle_group_takes_no_more_than_two_kilobytes)
{
    struct group_rig r;
    rig_init(&r);
    rig_topic(&r, "t", 1);
    uint64_t before = r.mem.used_bytes;
    for (int i = 0; i < 512; i++) {
        char *name = arena_alloc(&r.arena, 16);
        (void)snprintf(name, 16, "group-%d", i);
        (void)join(&r, name, "m", NULL, "t");
    }
    uint64_t with_member = (r.mem.used_bytes - before) / 512;
    for (int i = 0; i < 512; i++) {
        char *name = arena_alloc(&r.arena, 16);
        (void)snprintf(name, 16, "group-%d", i);
        (void)beat(&r, name, "m", -1);
    }
    uint64_t empty = (r.mem.used_bytes - before) / 512;
    cr_assert_lt(empty, 2048, "an empty one takes %llu bytes", (unsigned long long)empty);
    cr_assert_lt(with_member, 2048, "one with a member takes %llu bytes",
                 (unsigned long long)with_member);
    rig_end(&r);
}
