/* struct op: one in-flight I/O, embedded in the thing that waits for it. Its address is what the
 * kernel hands back, so the owner must outlive the op: nobody frees an object whose op is armed.
 * `done` never runs inside the call that started the op. */
#ifndef CORE_OP_H
#define CORE_OP_H

#include <stdbool.h>
#include <stdint.h>

struct op {
    void (*done)(struct op *op); /* runs on the core that started it; may start it again */
    int32_t result;              /* >= 0: bytes or fd, as the call says; < 0: -errno */
    bool armed;                  /* in flight; set by io, cleared before `done` */
};

static inline void op_init(struct op *op, void (*done)(struct op *op))
{
    *op = (struct op){.done = done};
}

#endif
