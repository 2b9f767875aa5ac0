/* struct fiber: a stack of its own for one simulated core, so that a core can be left in the middle
 * of a call (io_poll that waits, a file operation that takes time) and be gone back to, or never.
 * One thread; who resumes a fiber gets control back when it yields or ends. */
#ifndef IO_SIM_FIBER_H
#define IO_SIM_FIBER_H

#include "core/mem.h"

#include <stdbool.h>

struct fiber {
    void *away; /* the stack's end while it is left: the fiber's, */
    void *back; /* and that of who resumed it */
    struct mem *mem;
    uint8_t *stack; /* kept from run to run */
    void (*run)(void *argument);
    void *argument;
    bool alive;             /* started, and neither ended nor dropped */
    bool inside;            /* between resume and yield */
    void *shadow;           /* the address sanitizer's, while the fiber is away */
    void *back_shadow;      /* and of who resumed it */
    const void *back_stack; /* whose stack this is */
    size_t back_stack_size;
};

void fiber_init(struct fiber *f, struct mem *mem);
/* Gives the stack back. Not from inside. */
void fiber_free(struct fiber *f);
/* The next resume calls run(argument) on the fiber's stack. Not alive. */
void fiber_start(struct fiber *f, void (*run)(void *argument), void *argument);
/* Runs it until it yields or ends (then it is no longer alive). */
void fiber_resume(struct fiber *f);
/* Back to who resumed; returns when it is resumed again. From inside. */
void fiber_yield(struct fiber *f);
/* It never runs again: what its stack refers to is forgotten. Not from inside. */
void fiber_drop(struct fiber *f);

#endif
