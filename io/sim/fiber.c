/* Fibers on ucontext: the machine that lets a simulated core wait inside a call.
 *
 *   scheduler ── fiber_resume ─▶ core's stack: data_core_turn ─▶ io_poll ─▶ fiber_yield ──┐
 *       ▲                                                                                 │
 *       └─────────────────────────────────────────────────────────────────────────────────┘
 *   a crash is a fiber that is never resumed again: fiber_drop.
 *
 * Invariants:
 *  1. One fiber runs at a time, and only its resumer can follow it.
 *  2. The lowest bytes of the stack hold a pattern; each yield looks whether it is whole, because
 *     nothing else would notice that a core ran over the end of its stack.
 *  3. A stack is reused for the next run of the same core: a simulation restarts nodes thousands of
 *     times.
 *
 * Failure modes: no memory for a stack is our bug (the simulator's budget is set by its caller).
 *
 * The address sanitizer is told of each change of stack, and a dropped stack is opened whole again:
 * its frames never return, so nobody else takes their red zones away. */
#include "io/sim/fiber.h"

#include <string.h>

#include "core/guard.h"

#define STACK_SIZE   (1u << 20)
#define PATTERN_SIZE 64u
#define PATTERN      0x5a

#if GUARD_ACTIVE
void __sanitizer_start_switch_fiber(void **save, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *save, const void **bottom, size_t *size);
#endif

static void leave_for(void **save, const void *stack, size_t size)
{
#if GUARD_ACTIVE
    __sanitizer_start_switch_fiber(save, stack, size);
#else
    (void)save, (void)stack, (void)size;
#endif
}

static void arrive(void *save, const void **stack, size_t *size)
{
#if GUARD_ACTIVE
    __sanitizer_finish_switch_fiber(save, stack, size);
#else
    (void)save, (void)stack, (void)size;
#endif
}

static void pattern_check(const struct fiber *f)
{
    for (uint32_t i = 0; i < PATTERN_SIZE; i++)
        assert(f->stack[i] == PATTERN); /* a simulated core has overrun its stack */
}

void fiber_init(struct fiber *f, struct mem *mem)
{
    *f = (struct fiber){.mem = mem};
}

void fiber_free(struct fiber *f)
{
    assert(!f->inside);
    f->alive = false;
    if (f->stack != NULL)
        guard_open(f->stack, STACK_SIZE);
    mem_pages_free(f->mem, f->stack, STACK_SIZE);
    f->stack = NULL;
}

/* First frame of every fiber. makecontext passes ints, so the pointer comes in two halves. */
static void fiber_main(unsigned high, unsigned low)
{
    struct fiber *f = (struct fiber *)((uintptr_t)high << 32 | low);
    arrive(NULL, &f->back_stack, &f->back_stack_size);
    f->run(f->argument);
    pattern_check(f);
    f->alive = false;
    leave_for(NULL, f->back_stack, f->back_stack_size);
    (void)setcontext(&f->back);
    assert(false); /* setcontext does not return */
}

void fiber_start(struct fiber *f, void (*run)(void *argument), void *argument)
{
    assert(!f->alive && !f->inside);
    assert(run != NULL);
    if (f->stack == NULL)
        f->stack = mem_pages(f->mem, STACK_SIZE);
    assert(f->stack != NULL);
    guard_open(f->stack, STACK_SIZE);
    memset(f->stack, PATTERN, PATTERN_SIZE);
    f->run = run;
    f->argument = argument;
    f->alive = true;
    f->shadow = NULL;
    int error = getcontext(&f->context);
    assert(error == 0);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_SIZE;
    f->context.uc_link = NULL;
    uintptr_t self = (uintptr_t)f;
    makecontext(&f->context, (void (*)(void))(uintptr_t)fiber_main, 2, (unsigned)(self >> 32),
                (unsigned)(self & UINT32_MAX));
}

void fiber_resume(struct fiber *f)
{
    assert(f->alive && !f->inside);
    f->inside = true;
    leave_for(&f->back_shadow, f->stack, STACK_SIZE);
    int error = swapcontext(&f->back, &f->context);
    assert(error == 0);
    arrive(f->back_shadow, NULL, NULL);
    f->inside = false;
}

void fiber_yield(struct fiber *f)
{
    assert(f->alive && f->inside);
    pattern_check(f);
    leave_for(&f->shadow, f->back_stack, f->back_stack_size);
    int error = swapcontext(&f->context, &f->back);
    assert(error == 0);
    arrive(f->shadow, &f->back_stack, &f->back_stack_size);
}

void fiber_drop(struct fiber *f)
{
    assert(!f->inside);
    f->alive = false;
    if (f->stack != NULL)
        guard_open(f->stack, STACK_SIZE);
}
