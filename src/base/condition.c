/* base/condition.c - condition variables that wait until a deadline
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/condition.h"

#include <errno.h>
#include <time.h>

int condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0)
        return -1;
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    int result = pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
    return result == 0 ? 0 : -1;
}

bool condition_wait(pthread_cond_t *condition, pthread_mutex_t *lock, struct deadline deadline)
{
    const struct timespec at = {.tv_sec = deadline.at_ms / 1000,
                                .tv_nsec = deadline.at_ms % 1000 * 1000000};
    return pthread_cond_timedwait(condition, lock, &at) != ETIMEDOUT;
}
