/* server/memory.h - gives back what a crowd of connections has left behind
 *
 * When it is gone, what it had is free, but not the system's: the allocator keeps it in its arenas, for as
 * long as anything behind it lives, and a handful of each size for every thread, which only the thread's
 * end sets free. So idle workers are started afresh, and then the arenas are trimmed. That takes some
 * milliseconds, so it waits until it has been calm for a while. On the gate's thread, which hands over
 * the time.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_MEMORY_H
#define POSTERN_SERVER_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "server/pool.h"

#define MEMORY_CROWD 32      /* connections; what fewer leave behind is soon used again */
#define MEMORY_CALM_MS 30000 /* a crowd is gone for so long, before its memory is given back */

/* Before any other thread is started: the allocator makes no more arenas than threads can run at once.
 * Each keeps some memory at its end. */
void memory_bound_arenas(void);

/* All zero at first. */
struct memory {
    unsigned crowd;        /* the most connections since memory was given back last */
    int64_t calm_since_ms; /* most of them are gone; 0 = they are not */
    bool short_of_workers; /* not all could be started again */
};

/* There are `connections` now: does what is due. Returns when to look again, INT64_MAX: when their
 * number has changed. */
int64_t memory_look(struct memory *memory, struct pool *pool, unsigned connections, int64_t now_ms);

#endif
