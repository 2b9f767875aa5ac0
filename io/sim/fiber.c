/* Fibers: the machine that lets a simulated core wait inside a call.
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
 * Switching is done here and not by swapcontext(), which asks the kernel twice each time for a mask
 * of signals that nobody changes: that was a fifth of what a simulation takes.
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

/* Pushes what a function keeps for its caller, leaves the stack's end in *save, and goes on from
 * the stack whose end is `to`, where `f` is what it gets if it begins there. */
void fiber_switch(void **save, void *to, struct fiber *f);
__asm__(".pushsection .text.fiber_switch,\"ax\",@progbits\n"
        ".type fiber_switch, @function\n"
        "fiber_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    movq %rdx, %rdi\n"
        "    ret\n"
        ".size fiber_switch, .-fiber_switch\n"
        ".popsection\n");

/* What fiber_switch pops from a stack on which nothing has run. */
struct first_frame {
    uint64_t kept[6];
    void (*begin)(struct fiber *f);
    uint64_t caller; /* none: who walks the stack ends here */
};
_Static_assert(sizeof(struct first_frame) % 16 == 0, "a function begins 8 bytes off 16");

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

/* First frame of every fiber. */
static void fiber_main(struct fiber *f)
{
    arrive(NULL, &f->back_stack, &f->back_stack_size);
    f->run(f->argument);
    pattern_check(f);
    f->alive = false;
    leave_for(NULL, f->back_stack, f->back_stack_size);
    fiber_switch(&f->away, f->back, f);
    assert(false); /* nobody resumes what has ended */
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
    struct first_frame *first = (void *)(f->stack + STACK_SIZE - sizeof(*first));
    *first = (struct first_frame){.begin = fiber_main};
    f->away = first;
}

void fiber_resume(struct fiber *f)
{
    assert(f->alive && !f->inside);
    f->inside = true;
    leave_for(&f->back_shadow, f->stack, STACK_SIZE);
    fiber_switch(&f->back, f->away, f);
    arrive(f->back_shadow, NULL, NULL);
    f->inside = false;
}

void fiber_yield(struct fiber *f)
{
    assert(f->alive && f->inside);
    pattern_check(f);
    leave_for(&f->shadow, f->back_stack, f->back_stack_size);
    fiber_switch(&f->away, f->back, f);
    arrive(f->shadow, &f->back_stack, &f->back_stack_size);
}

void fiber_drop(struct fiber *f)
{
    assert(!f->inside);
    f->alive = false;
    if (f->stack != NULL)
        guard_open(f->stack, STACK_SIZE);
}
