/* What only a laboratory build (meson -Dlab=true) has, and is nothing in any other: marks that say
 * which rare paths a simulation has been on, and defects that it must find. One thread only. */
#ifndef CORE_LAB_H
#define CORE_LAB_H

#include <stdbool.h>

#ifndef TORC_LAB
#define TORC_LAB 0
#endif

#if TORC_LAB
#include <stdint.h>

struct lab_mark {
    const char *name;
    uint64_t hits;
};

/* Counts that it was here; the linker gathers all there are (lab_marks). */
#define SOMETIMES(text)                                                                            \
    do {                                                                                           \
        static struct lab_mark mark_ = {text, 0};                                                  \
        static struct lab_mark *const at_ __attribute__((used, section("lab_marks"))) = &mark_;    \
        at_->hits++;                                                                               \
    } while (0)

/* Counts that it was here while this held. */
#define SOMETIMES_IF(condition, text)                                                              \
    do {                                                                                           \
        if (condition)                                                                             \
            SOMETIMES(text);                                                                       \
    } while (0)

/* Defect `number` is to show: tests/sim/bench.py lists them. */
#define DEFECT(number) (*lab_defect() == (number))
uint32_t *lab_defect(void);

/* The marks, and how many. */
struct lab_mark *const *lab_marks(uint32_t *count);

#else
#define SOMETIMES(text)               ((void)0)
#define SOMETIMES_IF(condition, text) ((void)sizeof(condition)) /* which is not evaluated */
#define DEFECT(number)                false
#endif

#endif
