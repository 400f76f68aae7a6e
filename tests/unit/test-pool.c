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

static void run(void *job, void *scratch)
{
    g_assert_nonnull(scratch);
    if (GPOINTER_TO_INT(job) == 1) {
        atomic_fetch_add(&blocked, 1);
        while (!atomic_load(&release_all))
            g_usleep(1000);
    }
    atomic_fetch_add(&ran, 1);
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
    g_assert_nonnull(pool);
    atomic_store(&release_all, 0);
    g_assert_true(pool_submit(pool, GINT_TO_POINTER(1)));
    g_assert_true(pool_submit(pool, GINT_TO_POINTER(1)));
    for (int i = 0; i < 2000 && atomic_load(&blocked) < 2; i++)
        g_usleep(1000);
    g_assert_cmpint(atomic_load(&blocked), ==, 2);
    for (int i = 0; i < 3; i++)
        g_assert_true(pool_submit(pool, GINT_TO_POINTER(2)));
    g_assert_false(pool_submit(pool, GINT_TO_POINTER(2)));
    atomic_store(&release_all, 1);
    pool_free(pool);
    /* What was queued has run. */
    g_assert_cmpint(atomic_load(&ran), ==, 5);
    g_assert_cmpint(atomic_load(&scratches), ==, 0);
}

static void test_many(void)
{
    struct error err;
    struct pool *pool = pool_new(8, 64, &work, &err);
    int submitted = 0;
    atomic_store(&ran, 0);
    for (int i = 0; i < 20000; i++) {
        if (pool_submit(pool, GINT_TO_POINTER(2)))
            submitted++;
        else
            g_usleep(100);
    }
    pool_free(pool);
    g_assert_cmpint(atomic_load(&ran), ==, submitted);
}

/* Jobs that come one by one stay with the workers that are warm. */
static pthread_t last;
static unsigned changes;

static void run_noting(void *job, void *scratch)
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
    atomic_store(&ran, 0);
    last = pthread_self();
    for (int i = 0; i < JOBS; i++) {
        g_assert_true(pool_submit(pool, GINT_TO_POINTER(2)));
        for (int k = 0; k < 2000 && atomic_load(&ran) == i; k++)
            g_usleep(1000);
        g_assert_cmpint(atomic_load(&ran), ==, i + 1);
    }
    pool_free(pool);
    /* Given out in turn, nearly each would run elsewhere than the one before; here that is where
     * the one before is not yet idle again, or not yet for the first time. */
    g_assert_cmpuint(changes, <, JOBS / 2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pool/bounds", test_bounds);
    g_test_add_func("/pool/many", test_many);
    g_test_add_func("/pool/warm", test_warm);
    return g_test_run();
}
