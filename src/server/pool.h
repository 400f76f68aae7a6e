/* server/pool.h - the fixed set of worker threads and the bounded queue before it
 *
 * Each worker owns one session_scratch and runs one session at a time. Hand-over between gate and
 * workers is only by pool_submit(). Generic in what it runs, so that it can be tested without SMTP.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_POOL_H
#define POSTERN_SERVER_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct pool;

/* Embedded in what is to be worked for. The pool's from pool_submit() to run(). */
struct pool_job {
    struct pool_job *next;
};

enum pool_order {
    POOL_FIRST,   /* before all of the others; has a place in any case */
    POOL_RESUMED, /* in its turn; has a place in any case */
    POOL_LAST,    /* in its turn, if the queue is not full */
};

struct pool_work {
    /* Called on a worker with the job and the worker's own scratch. */
    void (*run)(struct pool_job *job, void *scratch);
    void *(*scratch_new)(void); /* once for each worker, before it starts; NULL = no memory */
    void (*scratch_free)(void *scratch);
};

/* Starts `workers` threads with all signals blocked. NULL with a reason on failure. */
struct pool *pool_new(unsigned workers, unsigned queue_max, const struct pool_work *work,
                      struct error *err);

/* Gives a job to the worker that has been idle for the shortest time, or queues it; never waits.
 * false, of POOL_LAST only, when all are at work and `queue_max` jobs are queued. Thread-safe, except
 * against pool_free(). */
bool pool_submit(struct pool *pool, struct pool_job *job, enum pool_order order);

/* Do jobs that are queued get to their workers? False when none has for so long, counted from when
 * that was seen here first: longer than any job may take that is well. Thread-safe. */
bool pool_is_alive(struct pool *pool, int64_t most_ms);

/* Ends the threads of the workers that are idle, and frees their scratch: what the allocator and their
 * stacks hold for them is free then. pool_wake() starts them again; false when some could not be, which
 * are then still to be started. Jobs that come in between wait. Both on the thread that submits. */
void pool_rest(struct pool *pool);
bool pool_wake(struct pool *pool);

/* Lets queued and running jobs finish, joins the threads, frees. */
void pool_free(struct pool *pool);

#endif
