/* base/deadline.c - points in monotonic time by which something must have happened
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/deadline.h"

#include <limits.h>

struct deadline deadline_in_ms(int64_t ms)
{
    return (struct deadline){deadline_now_ms() + ms};
}

struct deadline deadline_earlier(struct deadline a, struct deadline b)
{
    return a.at_ms < b.at_ms ? a : b;
}

int deadline_left_ms(struct deadline deadline)
{
    if (deadline.at_ms == 0) /* no wait at all: no need to ask the clock */
        return 0;
    int64_t left = deadline.at_ms - deadline_now_ms();
    if (left <= 0)
        return 0;
    return left > INT_MAX ? INT_MAX : (int)left;
}

bool deadline_passed(struct deadline deadline)
{
    return deadline_left_ms(deadline) == 0;
}
