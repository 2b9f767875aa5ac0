/* Assertions that stay on: a broken belief about our own code ends the node before it can spread.
 * Peer input is never asserted; it is refused (see STYLE: three kinds of error). */
#ifndef CORE_ASSERT_H
#define CORE_ASSERT_H

/* Prints the condition and where it stands to stderr and aborts (SIGABRT, core dump). Any core. */
_Noreturn void assert_failed(const char *condition, const char *file, int line);

#undef assert
#define assert(condition)                                                                          \
    (__builtin_expect(!!(condition), 1) ? (void)0 : assert_failed(#condition, __FILE__, __LINE__))

#define FALLTHROUGH __attribute__((fallthrough))
#define NODISCARD   __attribute__((warn_unused_result))

#endif
