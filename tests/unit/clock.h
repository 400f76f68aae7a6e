/* tests/unit/clock.h - the clock of base/deadline.h, for programs that let time pass
 *
 * A program that links clock.c uses this clock instead of the library's: the monotonic clock plus the
 * time it was advanced by. Advancing it does not wake waits that have begun; wake such a thread by
 * other means. Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_TESTS_CLOCK_H
#define POSTERN_TESTS_CLOCK_H

#include <stdint.h>

/* Advances the clock by `ms` milliseconds for the whole process. */
void clock_advance_ms(int64_t ms);

#endif
