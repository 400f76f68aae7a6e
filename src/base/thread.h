/* base/thread.h - threads with small stacks that signals leave alone
 *
 * All threads of the daemons but main are started here, so that signals reach main's thread only and a
 * crowd of threads costs little memory. Whoever starts one joins it.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_THREAD_H
#define POSTERN_BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

#define THREAD_STACK_SIZE ((size_t)256 * 1024) /* octets; enough for a session and its next hop */

/* Starts `run(argument)` with a stack of `stack_size` octets and all signals blocked, into *thread.
 * Returns 0, or an errno. Thread-safe. */
int thread_start(pthread_t *thread, size_t stack_size, void *(*run)(void *argument),
                 void *argument);

#endif
