/* The rigs of unit tests, without criterion around them: what they hold to be true ends the
 * program, which is what a fuzzer looks for. */
#ifndef TESTS_FUZZ_PLAIN_CRITERION_H
#define TESTS_FUZZ_PLAIN_CRITERION_H

#include "core/assert.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define cr_assert(condition, ...)   assert(condition)
#define cr_assert_eq(a, b, ...)     assert((a) == (b))
#define cr_assert_neq(a, b, ...)    assert((a) != (b))
#define cr_assert_lt(a, b, ...)     assert((a) < (b))
#define cr_assert_leq(a, b, ...)    assert((a) <= (b))
#define cr_assert_gt(a, b, ...)     assert((a) > (b))
#define cr_assert_geq(a, b, ...)    assert((a) >= (b))
#define cr_assert_null(a, ...)      assert((a) == NULL)
#define cr_assert_not_null(a, ...)  assert((a) != NULL)
#define cr_assert_str_eq(a, b, ...) assert(strcmp((a), (b)) == 0)
#define cr_assert_fail(...)         assert(false)

#endif
