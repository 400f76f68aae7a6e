/* base/clock.c - the clock of all deadlines
 *
 * Alone in its file, so that a test program can put tests/unit/clock.c in its place.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <time.h>

#include "base/deadline.h"

int64_t deadline_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
