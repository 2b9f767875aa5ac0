/* The state of a laboratory build: the list that the linker makes of the marks, and which defect is
 * on. In every other build this file is empty. */
#include "core/lab.h"

#if TORC_LAB

extern struct lab_mark *const __start_lab_marks[] __attribute__((weak));
extern struct lab_mark *const __stop_lab_marks[] __attribute__((weak));

uint32_t *lab_defect(void)
{
    static uint32_t defect;
    return &defect;
}

struct lab_mark *const *lab_marks(uint32_t *count)
{
    *count = (uint32_t)(__stop_lab_marks - __start_lab_marks);
    return __start_lab_marks;
}

#endif
