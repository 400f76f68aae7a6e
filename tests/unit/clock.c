/* tests/unit/clock.c - the clock of base/deadline.h, for programs that let time pass
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "clock.h"

#include <stdatomic.h>
#include <time.h>

#include "base/deadline.h"

static atomic_llong ahead_ms;

int64_t deadline_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + atomic_load(&ahead_ms);
}

void clock_advance_ms(int64_t ms)
{
    atomic_fetch_add(&ahead_ms, ms);
}
