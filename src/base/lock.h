/* base/lock.h - a mutex that knows who has it
 *
 * So that a function that needs a lock can assert it (LOCK_ASSERT), and nobody takes one twice or
 * drops another's. Where a condition variable waits on it, use a plain mutex.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_LOCK_H
#define POSTERN_BASE_LOCK_H

#include <pthread.h>
#include <stdbool.h>

#include "base/assert.h"

struct lock {
    pthread_mutex_t mutex;
    pthread_t holder; /* while it is taken, and written under it only */
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

/* For who has it: is it really he? */
#define LOCK_ASSERT(lock) ASSERT((lock)->taken &&pthread_equal((lock)->holder, pthread_self()))

static inline void lock_drop(struct lock *lock)
{
    LOCK_ASSERT(lock);
    lock->taken = false;
    ASSERT(pthread_mutex_unlock(&lock->mutex) == 0);
}

#endif
