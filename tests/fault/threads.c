/* tests/fault/threads.c - reports at exit which threads were not joined
 *
 * Preloaded into a daemon. A thread that is alive while the C library ends the process runs on memory that is being
 * freed. That crashes once in a thousand exits, but a missing join shows every time. It is not used with the sanitizers,
 * which have a pthread_create() of their own.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static atomic_int unjoined;

int pthread_create(pthread_t *restrict thread, const pthread_attr_t *restrict attributes,
                   void *(*run)(void *), void *restrict argument)
{
    int result = NEXT(pthread_create)(thread, attributes, run, argument);
    if (result == 0)
        atomic_fetch_add(&unjoined, 1);
    return result;
}

int pthread_join(pthread_t thread, void **value)
{
    int result = NEXT(pthread_join)(thread, value);
    if (result == 0)
        atomic_fetch_sub(&unjoined, 1);
    return result;
}

static void tell(void)
{
    char text[64];
    int left = atomic_load(&unjoined);
    if (left == 0)
        return;
    int len = snprintf(text, sizeof text, "threads: %d not joined at exit\n", left);
    if (write(STDERR_FILENO, text, (size_t)len) < 0)
        _exit(70);
    _exit(71);
}

/* Registered before main() is entered, so that it is called after everything that is registered later. */
__attribute__((constructor)) static void watch_exit(void)
{
    if (atexit(tell) != 0)
        _exit(70);
}
