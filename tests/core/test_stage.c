/* Stages count themselves; states refuse what their table does not allow. */
#include "core/stage.h"

#include <criterion/criterion.h>
#include <signal.h>

enum { WAIT, WORK, REPLY, STAGES };

static const char *const names[] = {"wait", "work", "reply"};
static struct stage_table table;

static void begin(void)
{
    table = (struct stage_table){.name = "test", .names = names, .stages_count = STAGES};
}

TestSuite(stage, .init = begin);

Test(stage, moves_are_counted)
{
    struct stage a, b;
    stage_begin(&a, &table, WAIT);
    stage_begin(&b, &table, WAIT);
    cr_assert_eq(table.current[WAIT], 2);
    stage_move(&a, WORK);
    cr_assert_eq(table.current[WAIT], 1);
    cr_assert_eq(table.current[WORK], 1);
    stage_end(&a);
    stage_end(&b);
    for (uint32_t i = 0; i < STAGES; i++)
        cr_assert_eq(table.current[i], 0);
    cr_assert_eq(table.entered[WAIT], 2);
    cr_assert_eq(table.entered[WORK], 1);
    cr_assert_eq(table.entered[REPLY], 0);
}

Test(stage, may_be_entered_again)
{
    struct stage a;
    stage_begin(&a, &table, WORK);
    for (uint32_t i = 0; i < 5; i++)
        stage_move(&a, WORK);
    stage_end(&a);
    cr_assert_eq(table.entered[WORK], 6);
}

Test(stage, moving_to_no_stage_is_a_bug, .signal = SIGABRT)
{
    struct stage a;
    stage_begin(&a, &table, WAIT);
    stage_move(&a, STAGES);
}

Test(stage, ending_twice_is_a_bug, .signal = SIGABRT)
{
    struct stage a;
    stage_begin(&a, &table, WAIT);
    stage_end(&a);
    stage_end(&a);
}

enum { OPEN, CLOSING, CLOSED };

static const struct state_table door = {
    .name = "door",
    .names = names,
    .states_count = 3,
    .allowed = {[OPEN] = 1u << CLOSING, [CLOSING] = 1u << CLOSED | 1u << OPEN, [CLOSED] = 0}};

Test(state, follows_its_table)
{
    struct state s = {OPEN};
    cr_assert(state_allows(&s, &door, CLOSING));
    cr_assert_not(state_allows(&s, &door, CLOSED));
    cr_assert_not(state_allows(&s, &door, OPEN));
    cr_assert_not(state_allows(&s, &door, 31), "nor anything outside of it");
    state_move(&s, &door, CLOSING);
    state_move(&s, &door, OPEN);
    state_move(&s, &door, CLOSING);
    state_move(&s, &door, CLOSED);
    cr_assert_eq(s.now, CLOSED);
    for (uint8_t next = 0; next < 3; next++)
        cr_assert_not(state_allows(&s, &door, next));
}

Test(state, a_move_outside_the_table_is_a_bug, .signal = SIGABRT)
{
    struct state s = {OPEN};
    state_move(&s, &door, CLOSED);
}
