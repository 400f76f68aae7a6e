/* tests/unit/test-memory.c - server/memory, and the pool's rest
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/memory.h"

#define WORKERS 16

static atomic_int running, gone, scratches;
static atomic_bool may_go;

static void test_memory_run(struct pool_job *job, void *scratch)
{
    enum { SMALLEST = 32, LARGEST = 1024, STEP = 16, EACH = 16 };
    static _Thread_local char *blocks[EACH * (LARGEST - SMALLEST) / STEP];
    size_t count = 0;

    (void)job, (void)scratch;
    for (size_t size = SMALLEST; size < LARGEST; size += STEP) {
        for (int i = 0; i < EACH; i++) {
            blocks[count] = malloc(size);
            g_assert_nonnull(blocks[count]);
            memset(blocks[count++], 1, size);
        }
    }
    while (count > 0)
        free(blocks[--count]);
    atomic_fetch_add(&running, 1);
    while (!atomic_load(&may_go))
        g_usleep(1000);
    atomic_fetch_add(&gone, 1);
}

static void *test_memory_scratch_new(void)
{
    atomic_fetch_add(&scratches, 1);
    return malloc(100);
}

static void test_memory_scratch_free(void *scratch)
{
    atomic_fetch_sub(&scratches, 1);
    free(scratch);
}

static const struct pool_work test_memory_work = {test_memory_run, test_memory_scratch_new,
                                                  test_memory_scratch_free};

static struct pool *test_memory_pool(void)
{
    struct error err = {""};
    struct pool *pool = pool_new(WORKERS, 1, &test_memory_work, &err);

    g_assert_nonnull(pool);
    return pool;
}

static void test_memory_await(atomic_int *count, int value)
{
    for (int i = 0; i < 20000 && atomic_load(count) != value; i++)
        g_usleep(1000);
    g_assert_cmpint(atomic_load(count), ==, value);
}

/* Uses every worker at once. */
static void test_memory_use_all(struct pool *pool)
{
    struct pool_job jobs[WORKERS];

    atomic_store(&may_go, false);
    atomic_store(&running, 0);
    atomic_store(&gone, 0);
    for (int i = 0; i < WORKERS; i++)
        g_assert_true(pool_submit(pool, &jobs[i], POOL_RESUMED));
    test_memory_await(&running, WORKERS);
    atomic_store(&may_go, true);
    test_memory_await(&gone, WORKERS);
}

/* A crowd of 100 comes at 1000 ms, and goes. */
static void test_times(void)
{
    static const struct {
        unsigned connections;
        int64_t now_ms, until_ms;
    } looks[] = {
        {MEMORY_CROWD - 1, 500, INT64_MAX}, /* no crowd */
        {0, 900, INT64_MAX},
        {100, 1000, INT64_MAX},
        {26, 2000, INT64_MAX},
        {25, 3000, 3000 + MEMORY_CALM_MS},
        {24, 3000 + MEMORY_CALM_MS - 1, 3000 + MEMORY_CALM_MS},
        {26, 3000 + MEMORY_CALM_MS, INT64_MAX}, /* not yet calm */
        {0, 40000, 40000 + MEMORY_CALM_MS},
        {10, 40000 + MEMORY_CALM_MS, INT64_MAX}, /* given back */
        {0, 40000 + 2 * MEMORY_CALM_MS, INT64_MAX},
    };
    struct pool *pool = test_memory_pool();
    struct memory memory = {0};

    for (size_t i = 0; i < G_N_ELEMENTS(looks); i++)
        g_assert_cmpint(memory_look(&memory, pool, looks[i].connections, looks[i].now_ms), ==,
                        looks[i].until_ms);
    g_assert_cmpint(atomic_load(&scratches), ==, WORKERS);
    pool_free(pool);
}

/* Busy workers keep working. The others come back, and a job queued meanwhile runs. */
static void test_rest(void)
{
    struct pool *pool = test_memory_pool();
    struct pool_job busy, waiting;

    atomic_store(&may_go, false);
    atomic_store(&running, 0);
    atomic_store(&gone, 0);
    g_assert_true(pool_submit(pool, &busy, POOL_LAST));
    test_memory_await(&running, 1);
    /* Workers that have not been idle yet stay. */
    for (int i = 0; i < 20000 && atomic_load(&scratches) > 1; i++) {
        pool_rest(pool);
        g_usleep(1000);
    }
    g_assert_cmpint(atomic_load(&scratches), ==, 1);
    g_assert_true(pool_submit(pool, &waiting, POOL_RESUMED));
    g_assert_cmpint(atomic_load(&running), ==, 1);
    g_assert_true(pool_wake(pool));
    g_assert_cmpint(atomic_load(&scratches), ==, WORKERS);
    test_memory_await(&running, 2);
    atomic_store(&may_go, true);
    test_memory_await(&gone, 2);
    test_memory_use_all(pool);
    pool_free(pool);
    g_assert_cmpint(atomic_load(&scratches), ==, 0);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OTHER_ALLOCATOR
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OTHER_ALLOCATOR
#endif
#endif

#ifndef OTHER_ALLOCATOR
static long test_memory_kib(void)
{
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents("/proc/self/status", &text, NULL, NULL));
    const char *found = strstr(text, "RssAnon:");
    g_assert_nonnull(found);
    return strtol(found + strlen("RssAnon:"), NULL, 10);
}

/* Memory that worker threads and arenas kept is given back. */
static void test_given_back(void)
{
    struct pool *pool = test_memory_pool();
    struct memory memory = {0};
    long before = test_memory_kib();

    test_memory_use_all(pool);
    long kept = test_memory_kib() - before;
    g_assert_cmpint(kept, >, WORKERS * 200);
    memory_look(&memory, pool, MEMORY_CROWD, 1000);
    memory_look(&memory, pool, 0, 2000);
    g_assert_cmpint(test_memory_kib() - before, >, kept / 2);
    memory_look(&memory, pool, 0, 2000 + MEMORY_CALM_MS);
    long left = test_memory_kib() - before;
    g_test_message("%ld KiB kept, %ld left", kept, left);
    g_assert_cmpint(left, <, kept / 2);
    pool_free(pool);
}
#endif

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/memory/times", test_times);
    g_test_add_func("/memory/rest", test_rest);
#ifndef OTHER_ALLOCATOR
    g_test_add_func("/memory/given-back", test_given_back);
#endif
    return g_test_run();
}
