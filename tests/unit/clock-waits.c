/* tests/unit/clock-waits.c - waits that end when the clock of clock.h is advanced
 *
 * Link it with --wrap=poll,--wrap=pthread_cond_timedwait. poll(2) waits in short pieces and reads the clock between
 * them. A wait for a condition ends after one piece, as if by a spurious wakeup: the caller looks at what it waits
 * for before it waits again.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <time.h>

#include "base/deadline.h"

#define SLICE_MS 2

int __real_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
int __real_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *lock,
                                  const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *lock,
                                  const struct timespec *until);

static int slice_ms(struct deadline deadline)
{
    const int left_ms = deadline_left_ms(deadline);
    return left_ms < SLICE_MS ? left_ms : SLICE_MS;
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    if (timeout_ms <= 0)
        return __real_poll(fds, count, timeout_ms);
    const struct deadline deadline = deadline_in_ms(timeout_ms);
    int ready, wait_ms;
    do {
        wait_ms = slice_ms(deadline);
        ready = __real_poll(fds, count, wait_ms);
    } while (ready == 0 && wait_ms > 0);
    return ready;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *lock,
                                  const struct timespec *until)
{
    const struct deadline deadline = {(int64_t)until->tv_sec * 1000 + until->tv_nsec / 1000000};
    const int wait_ms = slice_ms(deadline);
    struct timespec slice;
    clock_gettime(CLOCK_MONOTONIC, &slice);
    slice.tv_nsec += wait_ms * 1000000L;
    slice.tv_sec += slice.tv_nsec / 1000000000;
    slice.tv_nsec %= 1000000000;
    int result = __real_pthread_cond_timedwait(condition, lock, &slice);
    return result == ETIMEDOUT && wait_ms > 0 ? 0 : result;
}
