/* base/thread.c - threads with small stacks that signals leave alone
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/thread.h"

#include <signal.h>

int thread_start(pthread_t *thread, size_t stack_size, void *(*run)(void *argument), void *argument)
{
    pthread_attr_t attributes;
    sigset_t all, before;

    int result = pthread_attr_init(&attributes);
    if (result != 0)
        return result;
    pthread_attr_setstacksize(&attributes, stack_size);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    result = pthread_create(thread, &attributes, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return result;
}
