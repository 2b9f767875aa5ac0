/* Lets the address sanitizer see inside memory that we cut up ourselves: what an arena has not
 * handed out and what a pool has back is poisoned, so touching it is a finding. Nothing otherwise.
 */
#ifndef CORE_GUARD_H
#define CORE_GUARD_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define GUARD_ACTIVE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GUARD_ACTIVE 1
#else
#define GUARD_ACTIVE 0
#endif
#else
#define GUARD_ACTIVE 0
#endif

#if GUARD_ACTIVE
void __asan_poison_memory_region(const volatile void *at, size_t size);
void __asan_unpoison_memory_region(const volatile void *at, size_t size);
#endif

static inline void guard_close(void *at, size_t size)
{
#if GUARD_ACTIVE
    __asan_poison_memory_region(at, size);
#else
    (void)at, (void)size;
#endif
}

static inline void guard_open(void *at, size_t size)
{
#if GUARD_ACTIVE
    __asan_unpoison_memory_region(at, size);
#else
    (void)at, (void)size;
#endif
}

#endif
