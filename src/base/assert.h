/* base/assert.h - conditions that only a bug of ours can break
 *
 * Asserts stay in release builds. A daemon that continues with corrupt locks or lists loses or
 * duplicates mail; one that aborts is restarted. Never assert what input, a peer or a system failure
 * can cause: those get replies and errors. Owns nothing. Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_ASSERT_H
#define POSTERN_BASE_ASSERT_H

/* Writes the failed condition and its place to standard error, then calls abort(3). */
_Noreturn void assert_failed(const char *condition, const char *file, int line);

#define ASSERT(condition)                                                                          \
    (__builtin_expect(!(condition), 0) ? assert_failed(#condition, __FILE__, __LINE__) : (void)0)

#endif
