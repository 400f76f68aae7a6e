/* tests/unit/test-pool.c - server/pool
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "server/pool.h"

static atomic_int ran, blocked, release_all, scratches;

struct job {
    struct pool_job job; /* the first member */
    bool blocks;
    int ran_as;
};

static void run(struct pool_job *base, void *scratch)
{
    struct job *job = (struct job *)base;

    g_assert_nonnull(scratch);
    if (job->blocks) {
        atomic_fetch_add(&blocked, 1);
        while (!atomic_load(&release_all))
            g_usleep(1000);
    }
    job->ran_as = atomic_fetch_add(&ran, 1);
}

static void *scratch_new(void)
{
    atomic_fetch_add(&scratches, 1);
    return malloc(1);
}

static void scratch_free(void *scratch)
{
    atomic_fetch_sub(&scratches, 1);
    free(scratch);
}

static const struct pool_work work = {run, scratch_new, scratch_free};

static void test_bounds(void)
{
    struct error err = {""};
    struct pool *pool = pool_new(2, 3, &work, &err);
    struct job blocking[2] = {{.blocks = true}, {.blocks = true}}, jobs[4] = {{.ran_as = -1}};
    g_assert_nonnull(pool);
    atomic_store(&release_all, 0);
    atomic_store(&blocked, 0);
    atomic_store(&ran, 0);
    g_assert_true(pool_submit(pool, &blocking[0].job, POOL_LAST));
    g_assert_true(pool_submit(pool, &blocking[1].job, POOL_LAST));
    for (int i = 0; i < 2000 && atomic_load(&blocked) < 2; i++)
        g_usleep(1000);
    g_assert_cmpint(atomic_load(&blocked), ==, 2);
    g_assert_true(pool_is_alive(pool, 1));
    for (int i = 0; i < 3; i++)
        g_assert_true(pool_submit(pool, &jobs[i].job, POOL_LAST));
    g_assert_true(pool_is_alive(pool, 1000));
    g_usleep(5000);
    g_assert_false(pool_is_alive(pool, 5));
    g_assert_true(pool_is_alive(pool, 100000));
    g_assert_false(pool_submit(pool, &jobs[3].job, POOL_LAST));
    atomic_store(&release_all, 1);
    pool_free(pool);
    /* The queued jobs have run. */
    g_assert_cmpint(atomic_load(&ran), ==, 5);
    g_assert_cmpint(atomic_load(&scratches), ==, 0);
}

/* A session that is in the middle of something runs before a new one, and has a place in a full queue. */
static void test_order(void)
{
    struct error err = {""};
    struct pool *pool = pool_new(1, 2, &work, &err);
    struct job blocking = {.blocks = true}, jobs[5] = {{.ran_as = -1}};
    atomic_store(&release_all, 0);
    atomic_store(&blocked, 0);
    atomic_store(&ran, 0);
    g_assert_true(pool_submit(pool, &blocking.job, POOL_LAST));
    for (int i = 0; i < 2000 && atomic_load(&blocked) < 1; i++)
        g_usleep(1000);
    static const enum pool_order orders[] = {POOL_LAST, POOL_RESUMED, POOL_FIRST, POOL_FIRST};
    for (int i = 0; i < 4; i++)
        g_assert_true(pool_submit(pool, &jobs[i].job, orders[i]));
    g_assert_false(pool_submit(pool, &jobs[4].job, POOL_LAST));
    g_assert_true(pool_submit(pool, &jobs[4].job, POOL_RESUMED));
    atomic_store(&release_all, 1);
    pool_free(pool);
    static const int order[] = {3, 4, 1, 2, 5};
    for (int i = 0; i < 5; i++)
        g_assert_cmpint(jobs[i].ran_as, ==, order[i]);
}

static void test_many(void)
{
    struct error err;
    struct pool *pool = pool_new(8, 64, &work, &err);
    int submitted = 0;
    g_autofree struct job *jobs = g_new0(struct job, 20000);
    atomic_store(&ran, 0);
    for (int i = 0; i < 20000; i++) {
        if (pool_submit(pool, &jobs[i].job, i % 3 == 0 ? POOL_FIRST : POOL_LAST))
            submitted++;
        else
            g_usleep(100);
    }
    pool_free(pool);
    g_assert_cmpint(atomic_load(&ran), ==, submitted);
}

/* Jobs that come one at a time stay with the warm workers. */
static pthread_t last;
static unsigned changes;

static void run_noting(struct pool_job *job, void *scratch)
{
    (void)job, (void)scratch;
    if (!pthread_equal(last, pthread_self()))
        changes++;
    last = pthread_self();
    atomic_fetch_add(&ran, 1);
}

static void test_warm(void)
{
    static const struct pool_work noting = {run_noting, scratch_new, scratch_free};
    enum { JOBS = 50 };
    struct error err;
    struct pool *pool = pool_new(8, 4, &noting, &err);
    struct job job = {.ran_as = -1};
    atomic_store(&ran, 0);
    last = pthread_self();
    for (int i = 0; i < JOBS; i++) {
        g_assert_true(pool_submit(pool, &job.job, POOL_LAST));
        for (int k = 0; k < 2000 && atomic_load(&ran) == i; k++)
            g_usleep(1000);
        g_assert_cmpint(atomic_load(&ran), ==, i + 1);
    }
    pool_free(pool);
    /* In round-robin order nearly every job would change workers. Here one changes only if the previous
     * worker is not idle again yet, or has not been idle at all yet. */
    g_assert_cmpuint(changes, <, JOBS / 2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pool/bounds", test_bounds);
    g_test_add_func("/pool/order", test_order);
    g_test_add_func("/pool/many", test_many);
    g_test_add_func("/pool/warm", test_warm);
    return g_test_run();
}
