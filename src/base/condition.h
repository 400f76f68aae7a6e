/* base/condition.h - condition variables that wait until a deadline
 *
 * pthread_cond_timedwait(3) goes by the time of day unless told otherwise, and a clock set by NTP must
 * not stretch a wait: these go by CLOCK_MONOTONIC, as deadlines do. Signalled and destroyed with the
 * pthread functions. Thread-safe as those are.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_CONDITION_H
#define POSTERN_BASE_CONDITION_H

#include <pthread.h>
#include <stdbool.h>

#include "base/deadline.h"

/* 0, or -1 when out of memory. */
int condition_init(pthread_cond_t *condition);

/* Waits, with `lock` held. False when the deadline has passed; true otherwise, also without a reason:
 * look again at what was waited for. */
bool condition_wait(pthread_cond_t *condition, pthread_mutex_t *lock, struct deadline deadline);

#endif
