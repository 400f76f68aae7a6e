/* server/pool.h - a fixed set of worker threads with a bounded queue
 *
 * Each worker owns one session_scratch and runs one session at a time. The gate hands work over only with
 * pool_submit(). The pool does not know what it runs, so it can be tested without SMTP. It owns its threads
 * and scratch.
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

/* Embedded in the object to be worked on. Belongs to the pool from pool_submit() to run(). */
struct pool_job {
    struct pool_job *next;
};

enum pool_order {
    POOL_FIRST,   /* before all others; accepted even if the queue is full */
    POOL_RESUMED, /* in turn; accepted even if the queue is full */
    POOL_LAST,    /* in turn, if the queue is not full */
};

struct pool_work {
    /* Called on a worker with the job and the worker's own scratch. */
    void (*run)(struct pool_job *job, void *scratch);
    void *(*scratch_new)(void); /* once per worker, before it starts; NULL = out of memory */
    void (*scratch_free)(void *scratch);
};

/* Starts `workers` threads with all signals blocked. NULL with a reason on failure. */
struct pool *pool_new(unsigned workers, unsigned queue_max, const struct pool_work *work,
                      struct error *err);

/* Gives a job to the worker that has been idle for the shortest time, or queues it; never waits. False, only for
 * POOL_LAST, if all workers are busy and `queue_max` jobs are queued. Thread-safe, except against pool_free(). */
bool pool_submit(struct pool *pool, struct pool_job *job, enum pool_order order);

/* Do queued jobs reach workers? False if none has for `most_ms`, which must be longer than any healthy job takes;
 * the time counts from when this function first saw it. Thread-safe. */
bool pool_is_alive(struct pool *pool, int64_t most_ms);

/* Ends the threads of idle workers and frees their scratch, which also frees their stacks and allocator caches.
 * pool_wake() starts them again; false if some could not be started: call it again later. Jobs that come in
 * between wait. Call both on the thread that submits. */
void pool_rest(struct pool *pool);
bool pool_wake(struct pool *pool);

/* Lets queued and running jobs finish, joins the threads, frees. */
void pool_free(struct pool *pool);

#endif
