/* base/lock.h - a mutex that knows which thread holds it
 *
 * A function that needs a lock can assert that its thread holds it (LOCK_ASSERT), and no thread can
 * take one twice or drop another's. Embedded in what it protects, whose owner destroys it.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_LOCK_H
#define POSTERN_BASE_LOCK_H

#include <pthread.h>
#include <stdbool.h>

#include "base/assert.h"
#include "base/condition.h"

struct lock {
    pthread_mutex_t mutex;
    pthread_t holder; /* valid while `taken`; written only under the mutex */
    bool taken;
};

static inline void lock_init(struct lock *lock)
{
    pthread_mutex_init(&lock->mutex, NULL);
    lock->taken = false;
}

static inline void lock_destroy(struct lock *lock)
{
    ASSERT(pthread_mutex_destroy(&lock->mutex) == 0);
}

static inline void lock_take(struct lock *lock)
{
    ASSERT(pthread_mutex_lock(&lock->mutex) == 0);
    ASSERT(!lock->taken);
    lock->holder = pthread_self();
    lock->taken = true;
}

/* Asserts that the calling thread holds the lock. */
#define LOCK_ASSERT(lock) ASSERT((lock)->taken &&pthread_equal((lock)->holder, pthread_self()))

static inline void lock_drop(struct lock *lock)
{
    LOCK_ASSERT(lock);
    lock->taken = false;
    ASSERT(pthread_mutex_unlock(&lock->mutex) == 0);
}

/* Like condition_wait(). */
static inline bool lock_wait(struct lock *lock, pthread_cond_t *condition, struct deadline deadline)
{
    LOCK_ASSERT(lock);
    lock->taken = false;
    bool in_time = condition_wait(condition, &lock->mutex, deadline);
    lock->holder = pthread_self();
    lock->taken = true;
    return in_time;
}

#endif
