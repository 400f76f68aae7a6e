/* base/assert.h - what can only be wrong by a fault of ours
 *
 * Kept in release builds: a daemon that goes on after its locks or lists are in disorder loses or
 * doubles mail, and one that ends is started again. Only for what no input, no peer and no failure of
 * the system can bring about: those have replies and errors.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_ASSERT_H
#define POSTERN_BASE_ASSERT_H

/* Says what was expected, and where, on standard error and ends the process by abort(3). */
_Noreturn void assert_failed(const char *condition, const char *file, int line);

#define ASSERT(condition)                                                                          \
    (__builtin_expect(!(condition), 0) ? assert_failed(#condition, __FILE__, __LINE__) : (void)0)

#endif
