/* tests/unit/clock.h - the clock of base/deadline.h, for programs that let time pass
 *
 * A program that links clock.c has this clock instead of the library's: the monotonic one and what it
 * was put forward by. Waits that have begun are not woken by that; a thread that waits must be told of
 * something. Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_TESTS_CLOCK_H
#define POSTERN_TESTS_CLOCK_H

#include <stdint.h>

/* From now on it is `ms` milliseconds later, for everything that looks at the clock. */
void clock_advance_ms(int64_t ms);

#endif
