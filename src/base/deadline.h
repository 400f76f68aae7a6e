/* base/deadline.h - points in monotonic time by which something must have happened
 *
 * A deadline is made where a rule of the protocol starts the clock and handed down; only
 * net/stream and the gate look at it when they wait. Plain values: copy them freely.
 *
 * Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_DEADLINE_H
#define POSTERN_BASE_DEADLINE_H

#include <stdbool.h>
#include <stdint.h>

struct deadline {
    int64_t at_ms; /* CLOCK_MONOTONIC, milliseconds */
};

/* Now, on CLOCK_MONOTONIC, in milliseconds; by base/clock.c. */
int64_t deadline_now_ms(void);

/* The point `ms` milliseconds from now. */
struct deadline deadline_in_ms(int64_t ms);

/* The earlier of the two. */
struct deadline deadline_earlier(struct deadline a, struct deadline b);

/* Milliseconds left, as poll(2) takes them: 0 once passed, INT_MAX at most. */
int deadline_left_ms(struct deadline deadline);

/* Is it over? */
bool deadline_passed(struct deadline deadline);

#endif
