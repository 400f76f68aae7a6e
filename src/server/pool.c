/* server/pool.c - a fixed set of worker threads with a bounded queue
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/pool.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/deadline.h"
#include "base/i18n.h"
#include "base/thread.h"

struct worker {
    struct pool *pool;
    pthread_t thread;
    void *scratch; /* NULL: it is resting and has no thread */
    /* While it is idle: */
    struct worker *next_idle;
    sem_t wake;           /* posted when it is taken off the idle list */
    struct pool_job *job; /* its job, or NULL: end the thread */
};

struct pool_queue {
    struct pool_job *first, **end;
};

struct pool {
    struct pool_work work;
    pthread_mutex_t lock;
    struct pool_queue first, rest; /* both empty while a worker is idle */
    unsigned queue_max, queued;
    uint64_t dequeued;      /* jobs taken from the queue so far ... */
    uint64_t seen_dequeued; /* ... and when pool_is_alive() last saw that number change, ... */
    int64_t seen_ms;        /* ... at this time */
    /* The last to become idle gets the next job: its memory is still in the caches, and workers that
     * are never needed never touch theirs. */
    struct worker *idle;
    bool ending;
    struct worker *workers;
    unsigned count;
};

/* Each worker has its own semaphore instead of a common condition variable: one futex call to sleep and one to
 * wake, nothing more. */
static struct pool_job *pool_wait_for_job(struct worker *worker)
{
    while (sem_wait(&worker->wake) != 0)
        ; /* EINTR */
    return worker->job;
}

static void pool_enqueue(struct pool *pool, struct pool_job *job, enum pool_order order)
{
    struct pool_queue *queue = order == POOL_FIRST ? &pool->first : &pool->rest;

    job->next = NULL;
    *queue->end = job;
    queue->end = &job->next;
    pool->queued++;
}

static struct pool_job *pool_dequeue(struct pool *pool)
{
    struct pool_queue *queue = pool->first.first != NULL ? &pool->first : &pool->rest;

    struct pool_job *job = queue->first;
    ASSERT(job != NULL && pool->queued > 0);
    queue->first = job->next;
    if (queue->first == NULL)
        queue->end = &queue->first;
    pool->queued--;
    pool->dequeued++;
    return job;
}

static struct pool_job *pool_take_job(struct worker *worker)
{
    struct pool *pool = worker->pool;
    struct pool_job *job = NULL;

    pthread_mutex_lock(&pool->lock);
    bool must_wait = pool->queued == 0 && !pool->ending;
    if (must_wait) {
        worker->next_idle = pool->idle;
        pool->idle = worker;
    } else if (pool->queued > 0) {
        job = pool_dequeue(pool);
    }
    pthread_mutex_unlock(&pool->lock);
    return must_wait ? pool_wait_for_job(worker) : job;
}

static void *pool_worker_main(void *argument)
{
    struct worker *worker = argument;
    struct pool_job *job;

    while ((job = pool_take_job(worker)) != NULL)
        worker->pool->work.run(job, worker->scratch);
    return NULL;
}

/* Starts a worker's thread. Returns 0 or an errno. */
static int pool_start_worker(struct worker *worker)
{
    worker->scratch = worker->pool->work.scratch_new();
    if (worker->scratch == NULL)
        return ENOMEM;
    sem_init(&worker->wake, 0, 0);
    int result = thread_start(&worker->thread, THREAD_STACK_SIZE, pool_worker_main, worker);
    if (result == 0)
        return 0;
    sem_destroy(&worker->wake);
    worker->pool->work.scratch_free(worker->scratch);
    worker->scratch = NULL;
    return result;
}

/* Starts all workers that have no thread. Returns 0, or the errno of the first failure. */
static int pool_start_workers(struct pool *pool)
{
    int result = 0;

    for (unsigned i = 0; i < pool->count && result == 0; i++) {
        if (pool->workers[i].scratch == NULL)
            result = pool_start_worker(&pool->workers[i]);
    }
    return result;
}

/* Joins a worker's thread, which was told to end, and frees its scratch. */
static void pool_end_worker(struct worker *worker)
{
    pthread_join(worker->thread, NULL);
    sem_destroy(&worker->wake);
    worker->pool->work.scratch_free(worker->scratch);
    worker->scratch = NULL;
}

struct pool *pool_new(unsigned workers, unsigned queue_max, const struct pool_work *work,
                      struct error *err)
{
    struct pool *pool = calloc(1, sizeof *pool);
    int result = ENOMEM;

    if (pool == NULL) {
        error_set(err, _("out of memory"));
        return NULL;
    }
    pool->work = *work;
    pool->queue_max = queue_max;
    pool->first.end = &pool->first.first;
    pool->rest.end = &pool->rest.first;
    pthread_mutex_init(&pool->lock, NULL);
    pool->workers = calloc(workers, sizeof *pool->workers);
    if (pool->workers != NULL) {
        pool->count = workers;
        for (unsigned i = 0; i < workers; i++)
            pool->workers[i].pool = pool;
        result = pool_start_workers(pool);
    }
    if (result == 0)
        return pool;
    error_set(err, _("cannot start a thread: %s"), strerror(result));
    pool_free(pool);
    return NULL;
}

bool pool_submit(struct pool *pool, struct pool_job *job, enum pool_order order)
{
    pthread_mutex_lock(&pool->lock);
    struct worker *worker = pool->idle;
    bool fits = worker != NULL || order != POOL_LAST || pool->queued < pool->queue_max;
    ASSERT(!pool->ending);
    if (worker != NULL) {
        ASSERT(pool->queued == 0);
        pool->idle = worker->next_idle;
        worker->job = job;
    } else if (fits) {
        pool_enqueue(pool, job, order);
    }
    pthread_mutex_unlock(&pool->lock);
    if (worker != NULL)
        sem_post(&worker->wake);
    return fits;
}

bool pool_is_alive(struct pool *pool, int64_t most_ms)
{
    int64_t now = deadline_now_ms();

    pthread_mutex_lock(&pool->lock);
    if (pool->seen_ms == 0 || pool->queued == 0 || pool->dequeued != pool->seen_dequeued) {
        pool->seen_dequeued = pool->dequeued;
        pool->seen_ms = now;
    }
    bool alive = now - pool->seen_ms < most_ms;
    pthread_mutex_unlock(&pool->lock);
    return alive;
}

/* Tells all idle workers to end, and returns the first of them. */
static struct worker *pool_dismiss_idle(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    struct worker *first = pool->idle;
    pool->idle = NULL;
    pthread_mutex_unlock(&pool->lock);
    for (struct worker *worker = first; worker != NULL; worker = worker->next_idle) {
        worker->job = NULL;
        sem_post(&worker->wake);
    }
    return first;
}

void pool_rest(struct pool *pool)
{
    struct worker *worker = pool_dismiss_idle(pool);

    while (worker != NULL) {
        struct worker *next = worker->next_idle;
        pool_end_worker(worker);
        worker = next;
    }
}

bool pool_wake(struct pool *pool)
{
    return pool_start_workers(pool) == 0;
}

void pool_free(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    pthread_mutex_unlock(&pool->lock);
    pool_dismiss_idle(pool);
    for (unsigned i = 0; i < pool->count; i++) {
        if (pool->workers[i].scratch != NULL)
            pool_end_worker(&pool->workers[i]);
    }
    pthread_mutex_destroy(&pool->lock);
    free(pool->workers);
    free(pool);
}
