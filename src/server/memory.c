/* server/memory.c - returns memory to the system after a crowd of connections
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/memory.h"

#include <malloc.h>
#include <unistd.h>

#define RETRY_MS 1000 /* after a worker could not be started */
#define ARENAS_MIN 2  /* one is the main thread's */

void memory_bound_arenas(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    mallopt(M_ARENA_MAX, processors > ARENAS_MIN ? (int)processors : ARENAS_MIN);
}

static int64_t memory_start_workers(struct memory *memory, struct pool *pool, int64_t now_ms)
{
    memory->short_of_workers = !pool_wake(pool);
    return memory->short_of_workers ? now_ms + RETRY_MS : INT64_MAX;
}

int64_t memory_look(struct memory *memory, struct pool *pool, unsigned connections, int64_t now_ms)
{
    if (memory->short_of_workers)
        return memory_start_workers(memory, pool, now_ms);
    if (connections > memory->crowd)
        memory->crowd = connections;
    if (memory->crowd < MEMORY_CROWD || connections > memory->crowd / 4) {
        memory->calm_since_ms = 0;
        return INT64_MAX;
    }
    if (memory->calm_since_ms == 0)
        memory->calm_since_ms = now_ms;
    if (now_ms - memory->calm_since_ms < MEMORY_CALM_MS)
        return memory->calm_since_ms + MEMORY_CALM_MS;
    pool_rest(pool);
    malloc_trim(0);
    memory->crowd = connections;
    memory->calm_since_ms = 0;
    return memory_start_workers(memory, pool, now_ms);
}
