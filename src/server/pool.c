/* server/pool.c - the fixed set of worker threads and the bounded queue before it
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/i18n.h"

struct pool {
    struct pool_work work;
    pthread_mutex_t lock;
    pthread_cond_t ready; /* a job is queued, or the pool ends */
    void **queue;         /* a ring */
    unsigned queue_max, first, queued;
    bool ending;
    pthread_t *threads;
    unsigned thread_count;
    void **scratches; /* one for each thread */
    unsigned started; /* threads that have taken their scratch */
};

static void *take_job(struct pool *pool)
{
    void *job = NULL;
    pthread_mutex_lock(&pool->lock);
    while (pool->queued == 0 && !pool->ending)
        pthread_cond_wait(&pool->ready, &pool->lock);
    if (pool->queued > 0) {
        job = pool->queue[pool->first];
        pool->first = (pool->first + 1) % pool->queue_max;
        pool->queued--;
    }
    pthread_mutex_unlock(&pool->lock);
    return job;
}

static void *worker_main(void *argument)
{
    struct pool *pool = argument;
    void *job;

    pthread_mutex_lock(&pool->lock);
    void *scratch = pool->scratches[pool->started++];
    pthread_mutex_unlock(&pool->lock);
    while ((job = take_job(pool)) != NULL)
        pool->work.run(job, scratch);
    return NULL;
}

static int start_thread(struct pool *pool, struct error *err)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, POOL_STACK_SIZE);
    int result = pthread_create(&pool->threads[pool->thread_count], &attributes, worker_main, pool);
    pthread_attr_destroy(&attributes);
    if (result != 0) {
        error_set(err, _("cannot start worker thread %u: %s"), pool->thread_count + 1,
                  strerror(result));
        return -1;
    }
    pool->thread_count++;
    return 0;
}

static int start_threads(struct pool *pool, unsigned workers, struct error *err)
{
    sigset_t all, before;
    int result = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < workers && result == 0; i++) {
        pool->scratches[i] = pool->work.scratch_new();
        if (pool->scratches[i] == NULL) {
            error_set(err, _("out of memory"));
            result = -1;
        } else {
            result = start_thread(pool, err);
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

struct pool *pool_new(unsigned workers, unsigned queue_max, const struct pool_work *work,
                      struct error *err)
{
    struct pool *pool = calloc(1, sizeof *pool);
    if (pool != NULL) {
        pool->work = *work;
        pool->queue_max = queue_max;
        pool->queue = calloc(queue_max, sizeof *pool->queue);
        pool->threads = calloc(workers, sizeof *pool->threads);
        pool->scratches = calloc(workers + 1, sizeof *pool->scratches);
        pthread_mutex_init(&pool->lock, NULL);
        pthread_cond_init(&pool->ready, NULL);
    }
    if (pool == NULL || pool->queue == NULL || pool->threads == NULL || pool->scratches == NULL)
        error_set(err, _("out of memory"));
    else if (start_threads(pool, workers, err) == 0)
        return pool;
    if (pool != NULL)
        pool_free(pool);
    return NULL;
}

bool pool_submit(struct pool *pool, void *job)
{
    pthread_mutex_lock(&pool->lock);
    bool fits = pool->queued < pool->queue_max;
    if (fits) {
        pool->queue[(pool->first + pool->queued++) % pool->queue_max] = job;
    }
    pthread_mutex_unlock(&pool->lock);
    /* Behind the lock, or the worker would wake only to wait for it. */
    if (fits)
        pthread_cond_signal(&pool->ready);
    return fits;
}

void pool_free(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->ready);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    for (unsigned i = 0; pool->scratches != NULL && pool->scratches[i] != NULL; i++)
        pool->work.scratch_free(pool->scratches[i]);
    pthread_cond_destroy(&pool->ready);
    pthread_mutex_destroy(&pool->lock);
    free(pool->queue);
    free(pool->threads);
    free(pool->scratches);
    free(pool);
}
