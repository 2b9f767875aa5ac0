/* Where a broken belief ends: one line on stderr, then abort. Written without allocation, because
 * the belief that broke may be about memory. */
#include "core/assert.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void assert_failed(const char *condition, const char *file, int line)
{
    (void)fprintf(stderr, "torc: assertion failed: %s (%s:%d)\n", condition, file, line);
    abort();
}
