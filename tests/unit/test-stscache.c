/* tests/unit/test-stscache.c - relay-out/stscache
 *
 * The test answers the fetches, and sets the time and the records.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "relay-out/stscache.h"

#define POLICY(mode, age) "version: STSv1\nmode: " mode "\nmx: mx.example\nmax_age: " age "\n"
#define DAY 86400

/* What the outside world answers. Changed only between questions, or under the lock. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const char *policy; /* NULL: the fetch fails */
    const char *record; /* NULL: none */
    bool is_slow;       /* fetches wait while this is set */
    int64_t now_s;
    unsigned fetches, under_way, most_under_way;
} world = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static char *folder;

static void fetch(void *context, const char *domain, const atomic_bool *ending,
                  struct stscache_fetched *fetched)
{
    (void)context, (void)domain, (void)ending;
    pthread_mutex_lock(&world.lock);
    world.fetches++;
    world.under_way++;
    world.most_under_way = MAX(world.most_under_way, world.under_way);
    pthread_cond_broadcast(&world.changed);
    while (world.is_slow)
        pthread_cond_wait(&world.changed, &world.lock);
    *fetched = (struct stscache_fetched){.failure = STSCACHE_FETCH_FAILED, .why = "refused"};
    if (world.policy != NULL) {
        fetched->failure = STSCACHE_NOTHING_FAILED;
        fetched->text = strdup(world.policy);
        fetched->len = strlen(world.policy);
    }
    world.under_way--;
    pthread_mutex_unlock(&world.lock);
}

static enum stscache_record look_up(void *context, const char *domain, char id[STS_ID_MAX + 1])
{
    (void)context, (void)domain;
    g_strlcpy(id, world.record != NULL ? world.record : "", STS_ID_MAX + 1);
    return world.record != NULL ? STSCACHE_RECORD : STSCACHE_NO_RECORD;
}

static int64_t now_s(void *context)
{
    (void)context;
    pthread_mutex_lock(&world.lock);
    int64_t now = world.now_s;
    pthread_mutex_unlock(&world.lock);
    return now;
}

static struct stscache *open_cache(void)
{
    const struct stscache_source source = {.fetch = fetch, .record = look_up, .now_s = now_s};
    struct error err = {""};
    struct stscache *cache = stscache_new(folder, &source, &err);
    g_assert_nonnull(cache);
    return cache;
}

/* Makes a fresh folder and resets the world. */
static struct stscache *begin(const char *policy)
{
    folder = g_dir_make_tmp("postern-sts-XXXXXX", NULL);
    world.policy = policy;
    world.record = NULL;
    world.now_s = 1000000;
    world.fetches = world.most_under_way = 0;
    return open_cache();
}

static void end(struct stscache *cache)
{
    stscache_free(cache);
    GDir *files = g_dir_open(folder, 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(files)) != NULL) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_remove(path);
    }
    g_dir_close(files);
    g_rmdir(folder);
    g_free(folder);
}

/* Returns the mode in force, or -1; stores the failure in `failure`. */
static int ask(struct stscache *cache, enum stscache_record record, const char *id,
               enum stscache_failure *failure)
{
    struct stscache_answer answer;
    stscache_find(cache, "a.example", record, id, deadline_in_ms(20000), &answer);
    int mode = answer.policy != NULL ? (int)answer.policy->policy->mode : -1;
    if (failure != NULL)
        *failure = answer.failure;
    stscache_policy_unref(answer.policy);
    return mode;
}

/* What is known, without a fetch. */
static void find_known(struct stscache *cache, const char *domain, struct stscache_answer *answer)
{
    stscache_find(cache, domain, STSCACHE_NO_RECORD, "", deadline_in_ms(20000), answer);
}

static void test_fetched_once(void)
{
    struct stscache *cache = begin(POLICY("enforce", "86400"));
    g_assert_cmpint(ask(cache, STSCACHE_RECORD, "1", NULL), ==, STS_MODE_ENFORCE);
    g_assert_cmpint(ask(cache, STSCACHE_RECORD, "1", NULL), ==, STS_MODE_ENFORCE);
    struct stscache_answer answer;
    stscache_find(cache, "A.Example", STSCACHE_RECORD, "1", deadline_in_ms(20000), &answer);
    g_assert_nonnull(answer.policy);
    g_assert_cmpstr(answer.policy->id, ==, "1");
    g_assert_cmpint(answer.policy->expires_s, ==, world.now_s + DAY);
    stscache_policy_unref(answer.policy);
    g_assert_cmpuint(world.fetches, ==, 1);
    end(cache);
}

static void test_no_record(void)
{
    struct stscache *cache = begin(POLICY("enforce", "86400"));
    g_assert_cmpint(ask(cache, STSCACHE_NO_RECORD, "", NULL), ==, -1);
    g_assert_cmpint(ask(cache, STSCACHE_RECORD_UNKNOWN, "", NULL), ==, -1);
    g_assert_cmpuint(world.fetches, ==, 0);
    end(cache);
}

/* RFC 8461 3.1, 5.1: a known policy is valid until its time is over. */
static void test_cached_holds(void)
{
    struct stscache *cache = begin(POLICY("enforce", "86400"));
    enum stscache_failure failure;
    ask(cache, STSCACHE_RECORD, "1", NULL);
    g_assert_cmpint(ask(cache, STSCACHE_NO_RECORD, "", NULL), ==, STS_MODE_ENFORCE);
    g_assert_cmpint(ask(cache, STSCACHE_RECORD_UNKNOWN, "", NULL), ==, STS_MODE_ENFORCE);
    world.policy = NULL;
    g_assert_cmpint(ask(cache, STSCACHE_RECORD, "2", &failure), ==, STS_MODE_ENFORCE);
    g_assert_cmpint(failure, ==, STSCACHE_FETCH_FAILED);
    world.now_s += DAY - 1;
    g_assert_cmpint(ask(cache, STSCACHE_NO_RECORD, "", NULL), ==, STS_MODE_ENFORCE);
    world.now_s += 1;
    g_assert_cmpint(ask(cache, STSCACHE_NO_RECORD, "", NULL), ==, -1);
    end(cache);
}

static void test_new_id(void)
{
    struct stscache *cache = begin(POLICY("enforce", "86400"));
    ask(cache, STSCACHE_RECORD, "1", NULL);
    world.policy = POLICY("testing", "86400");
    g_assert_cmpint(ask(cache, STSCACHE_RECORD, "1", NULL), ==, STS_MODE_ENFORCE);
    g_assert_cmpint(ask(cache, STSCACHE_RECORD, "2", NULL), ==, STS_MODE_TESTING);
    world.policy = POLICY("none", "86400");
    g_assert_cmpint(ask(cache, STSCACHE_RECORD, "3", NULL), ==, STS_MODE_NONE);
    g_assert_cmpuint(world.fetches, ==, 3);
    end(cache);
}

/* A host that fails is not asked again for five minutes. */
static void test_back_off(void)
{
    struct stscache *cache = begin(NULL);
    enum stscache_failure failure;
    g_assert_cmpint(ask(cache, STSCACHE_RECORD, "1", &failure), ==, -1);
    g_assert_cmpint(failure, ==, STSCACHE_FETCH_FAILED);
    world.policy = POLICY("enforce", "86400");
    g_assert_cmpint(ask(cache, STSCACHE_RECORD, "1", NULL), ==, -1);
    g_assert_cmpuint(world.fetches, ==, 1);
    /* A person may ask sooner. */
    struct stscache_answer answer;
    stscache_refresh(cache, "a.example", "1", deadline_in_ms(20000), &answer);
    g_assert_nonnull(answer.policy);
    stscache_policy_unref(answer.policy);
    g_assert_cmpint(ask(cache, STSCACHE_RECORD, "1", NULL), ==, STS_MODE_ENFORCE);
    end(cache);
}

static void test_invalid(void)
{
    struct stscache *cache = begin("version: STSv1\nmode: enforce\nmax_age: 86400\n");
    enum stscache_failure failure;
    g_assert_cmpint(ask(cache, STSCACHE_RECORD, "1", &failure), ==, -1);
    g_assert_cmpint(failure, ==, STSCACHE_POLICY_INVALID);
    end(cache);
}

static struct stscache *reopen(struct stscache *cache)
{
    stscache_free(cache);
    return open_cache();
}

static void test_restart(void)
{
    struct stscache *cache = begin(POLICY("enforce", "604800"));
    ask(cache, STSCACHE_RECORD, "1", NULL);
    world.policy = NULL;
    cache = reopen(cache);
    g_assert_cmpint(ask(cache, STSCACHE_RECORD, "1", NULL), ==, STS_MODE_ENFORCE);
    g_assert_cmpint(ask(cache, STSCACHE_NO_RECORD, "", NULL), ==, STS_MODE_ENFORCE);
    g_assert_cmpuint(world.fetches, ==, 1);
    world.now_s += 8 * DAY;
    cache = reopen(cache);
    g_assert_cmpint(ask(cache, STSCACHE_NO_RECORD, "", NULL), ==, -1);
    end(cache);
}

/* Odd files in the folder are ignored, and the start succeeds. */
static void test_odd_files(void)
{
    static const struct {
        const char *name, *text;
    } files[] = {
        {"b.example", ""},
        {"c.example", "id: 1\nfetched: 1000000\nexpires: 1086400\nused: 1000000\n\n"},
        {"d.example",
         "id: 1\nfetched: 1000000\nexpires: 9086400\nused: 1000000\n\n" POLICY("enforce", "86400")},
        {"e.example",
         "id: -\nfetched: 1000000\nexpires: 1086400\nused: 1000000\n\n" POLICY("enforce", "86400")},
        {"f.example", POLICY("enforce", "86400")},
        {".g.example", "id: 1\nfet"},
        {"H.example",
         "id: 1\nfetched: 1000000\nexpires: 1086400\nused: 1000000\n\n" POLICY("enforce", "86400")},
        {"a b", "x"},
    };
    struct stscache *cache = begin(POLICY("enforce", "86400"));
    struct stscache_answer answer;

    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(folder, files[i].name, NULL);
        g_assert_true(g_file_set_contents(path, files[i].text, -1, NULL));
    }
    ask(cache, STSCACHE_RECORD, "1", NULL);
    cache = reopen(cache);
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_test_message("%s", files[i].name);
        find_known(cache, files[i].name, &answer);
        g_assert_null(answer.policy);
    }
    g_autofree char *cut = g_build_filename(folder, ".g.example", NULL);
    g_assert_false(g_file_test(cut, G_FILE_TEST_EXISTS));
    g_assert_cmpint(ask(cache, STSCACHE_NO_RECORD, "", NULL), ==, STS_MODE_ENFORCE);
    end(cache);
}

static void *ask_on_thread(void *argument)
{
    return GINT_TO_POINTER(ask(argument, STSCACHE_RECORD, "1", NULL));
}

/* Many callers wait for one fetch; those who cannot wait continue without it. */
static void test_one_at_a_time(void)
{
    struct stscache *cache = begin(POLICY("enforce", "86400"));
    struct stscache_answer answer;
    pthread_t threads[5];

    world.is_slow = true;
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        pthread_create(&threads[i], NULL, ask_on_thread, cache);
    pthread_mutex_lock(&world.lock);
    while (world.fetches == 0)
        pthread_cond_wait(&world.changed, &world.lock);
    pthread_mutex_unlock(&world.lock);
    stscache_find(cache, "a.example", STSCACHE_RECORD, "1", deadline_in_ms(0), &answer);
    g_assert_null(answer.policy);
    /* Another domain's fetch does not wait for this one's. */
    stscache_find(cache, "b.example", STSCACHE_RECORD, "1", deadline_in_ms(0), &answer);
    g_assert_null(answer.policy);
    pthread_mutex_lock(&world.lock);
    while (world.under_way < 2)
        pthread_cond_wait(&world.changed, &world.lock);
    world.is_slow = false;
    pthread_cond_broadcast(&world.changed);
    pthread_mutex_unlock(&world.lock);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++) {
        void *mode;
        pthread_join(threads[i], &mode);
        g_assert_cmpint(GPOINTER_TO_INT(mode), ==, STS_MODE_ENFORCE);
    }
    g_assert_cmpuint(world.fetches, ==, 2);
    end(cache);
}

/* The only thread is idle, and two policies are asked for before it has woken up. */
static void test_two_at_once(void)
{
    static const char *const domains[] = {"b.example", "c.example"};
    struct stscache *cache = begin(POLICY("enforce", "86400"));
    struct stscache_answer answer;

    g_assert_cmpint(ask(cache, STSCACHE_RECORD, "1", NULL), ==, STS_MODE_ENFORCE);
    g_usleep(20000); /* so that it is idle; without that, this tests nothing */
    world.is_slow = true;
    for (size_t i = 0; i < G_N_ELEMENTS(domains); i++)
        stscache_find(cache, domains[i], STSCACHE_RECORD, "1", deadline_in_ms(0), &answer);
    pthread_mutex_lock(&world.lock);
    for (int i = 0; i < 10000 && world.under_way < 2; i++) {
        pthread_mutex_unlock(&world.lock);
        g_usleep(1000);
        pthread_mutex_lock(&world.lock);
    }
    g_assert_cmpuint(world.under_way, ==, 2);
    world.is_slow = false;
    pthread_cond_broadcast(&world.changed);
    pthread_mutex_unlock(&world.lock);
    end(cache);
}

/* If the owner changes the policy but not the id, it is noticed a day later, without a question. */
static void test_refresh(void)
{
    struct stscache *cache = begin(POLICY("enforce", "604800"));
    ask(cache, STSCACHE_RECORD, "1", NULL);
    world.policy = POLICY("testing", "604800");
    world.record = "1";
    world.now_s += DAY + 1;
    cache = reopen(cache); /* checks at once what is due */
    pthread_mutex_lock(&world.lock);
    while (world.fetches < 2)
        pthread_cond_wait(&world.changed, &world.lock);
    pthread_mutex_unlock(&world.lock);
    for (int mode = -1; mode != STS_MODE_TESTING; g_usleep(1000))
        mode = ask(cache, STSCACHE_NO_RECORD, "", NULL);
    end(cache);
}

/* Domains without a record are remembered for their time, which does not forget a policy. */
static void test_bare(void)
{
    struct stscache *cache = begin(POLICY("enforce", "86400"));
    g_assert_false(stscache_is_bare(cache, "a.example"));
    stscache_note_bare(cache, "a.example", 60);
    g_assert_true(stscache_is_bare(cache, "A.Example"));
    g_assert_false(stscache_is_bare(cache, "b.example"));
    stscache_note_bare(cache, "a.example", 0);
    g_assert_false(stscache_is_bare(cache, "a.example"));
    ask(cache, STSCACHE_RECORD, "1", NULL);
    for (int i = 0; i < 3 * STSCACHE_BARE_MAX; i++) {
        g_autofree char *domain = g_strdup_printf("d%d.example", i);
        stscache_note_bare(cache, domain, 60);
        g_assert_true(stscache_is_bare(cache, domain));
    }
    g_assert_cmpint(ask(cache, STSCACHE_NO_RECORD, "", NULL), ==, STS_MODE_ENFORCE);
    end(cache);
}

/* It remembers policies even without a folder. */
static void test_no_folder(void)
{
    struct stscache *cache = begin(POLICY("enforce", "86400"));
    stscache_free(cache);
    g_rmdir(folder);
    g_free(folder);
    folder = g_strdup("/proc/none/such");
    log_set_level(LOG_LEVEL_ERROR);
    cache = open_cache();
    g_assert_cmpint(ask(cache, STSCACHE_RECORD, "1", NULL), ==, STS_MODE_ENFORCE);
    g_assert_cmpint(ask(cache, STSCACHE_NO_RECORD, "", NULL), ==, STS_MODE_ENFORCE);
    stscache_free(cache);
    g_free(folder);
}

static void test_full(void)
{
    struct stscache *cache = begin(NULL);
    struct stscache_answer answer;

    /* Each has no policy, and is used later than the one before. */
    for (int i = 0; i < STSCACHE_DOMAINS_MAX + 5; i++) {
        g_autofree char *domain = g_strdup_printf("d%d.example", i);
        world.now_s++;
        stscache_find(cache, domain, STSCACHE_RECORD, "1", deadline_in_ms(20000), &answer);
        g_assert_null(answer.policy);
    }
    find_known(cache, "d0.example", &answer);
    g_assert_cmpint(answer.failure, ==, STSCACHE_NOTHING_FAILED);
    find_known(cache, "d10.example", &answer);
    g_assert_cmpint(answer.failure, ==, STSCACHE_FETCH_FAILED);
    end(cache);
}

int main(int argc, char **argv)
{
    log_set_level(LOG_LEVEL_WARNING);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stscache/fetched-once", test_fetched_once);
    g_test_add_func("/stscache/no-record", test_no_record);
    g_test_add_func("/stscache/cached-holds", test_cached_holds);
    g_test_add_func("/stscache/new-id", test_new_id);
    g_test_add_func("/stscache/back-off", test_back_off);
    g_test_add_func("/stscache/invalid", test_invalid);
    g_test_add_func("/stscache/restart", test_restart);
    g_test_add_func("/stscache/odd-files", test_odd_files);
    g_test_add_func("/stscache/one-at-a-time", test_one_at_a_time);
    g_test_add_func("/stscache/two-at-once", test_two_at_once);
    g_test_add_func("/stscache/refresh", test_refresh);
    g_test_add_func("/stscache/bare", test_bare);
    g_test_add_func("/stscache/no-folder", test_no_folder);
    g_test_add_func("/stscache/full", test_full);
    return g_test_run();
}
