/* base/condition.h - condition variables that wait until a deadline
 *
 * By default pthread_cond_timedwait(3) uses the time of day, and a clock step by NTP would stretch
 * the wait. These use CLOCK_MONOTONIC, as deadlines do. The caller owns the variable; signal and
 * destroy it with the pthread functions. Thread-safe as those are.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_CONDITION_H
#define POSTERN_BASE_CONDITION_H

#include <pthread.h>
#include <stdbool.h>

#include "base/deadline.h"

/* Returns 0, or -1 if out of memory. */
int condition_init(pthread_cond_t *condition);

/* Waits; the caller holds `lock`. False once the deadline has passed. True otherwise, even after a
 * spurious wakeup: check the condition again. */
bool condition_wait(pthread_cond_t *condition, pthread_mutex_t *lock, struct deadline deadline);

#endif
