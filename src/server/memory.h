/* server/memory.h - returns memory to the system after a crowd of connections
 *
 * When a crowd has gone, its memory is free but not returned to the system. The allocator keeps it in its
 * arenas as long as anything above it is in use, and caches some blocks of each size per thread until the
 * thread ends. So idle workers are restarted, and then the arenas are trimmed. That takes some milliseconds,
 * so it is done only after a calm period. Owns nothing. Runs on the gate's thread, which passes the time.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_MEMORY_H
#define POSTERN_SERVER_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "server/pool.h"

#define MEMORY_CROWD 32      /* connections; memory of fewer is soon used again */
#define MEMORY_CALM_MS 30000 /* how long a crowd must be gone before its memory is returned */

/* Limits the allocator to as many arenas as threads can run at once, because each keeps some memory at its end.
 * Call it before any other thread starts. */
void memory_bound_arenas(void);

/* All zero at first. */
struct memory {
    unsigned crowd;        /* the most connections since memory was last returned */
    int64_t calm_since_ms; /* since when most of them are gone; 0 = they are not */
    bool short_of_workers; /* not all workers could be restarted */
};

/* Does what is due with the current number of connections. Returns when to call it again; INT64_MAX: when that
 * number changes. */
int64_t memory_look(struct memory *memory, struct pool *pool, unsigned connections, int64_t now_ms);

#endif
