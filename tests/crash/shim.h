/* The log that shim.c writes of a disk: a record for each write, its bytes behind it, and for each
 * flush. In the order in which they happened, in this machine's byte order. */
#ifndef TESTS_CRASH_SHIM_H
#define TESTS_CRASH_SHIM_H

#include <stdint.h>

enum shim_event { SHIM_WRITE = 1, SHIM_FLUSH = 2 };

struct shim_record {
    uint32_t kind; /* enum shim_event */
    uint32_t size; /* bytes that follow */
    uint64_t offset;
    uint64_t at_ns; /* CLOCK_MONOTONIC, before it was answered */
};
_Static_assert(sizeof(struct shim_record) == 24, "read by images.c");

#endif
