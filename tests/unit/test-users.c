/* tests/unit/test-users.c - who may log in, and with which sender addresses
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <crypt.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <string.h>

#include "base/deadline.h"
#include "relay-out/users.h"

static char *file;

/* A cheap hash: crypt(3) itself is not under test. */
static const char *hash_of(const char *password)
{
    static struct crypt_data data;
    const char *hash = crypt_r(password, "$5$rounds=1000$salt$", &data);
    g_assert_cmpint(hash[0], ==, '$');
    return hash;
}

static struct users *load(const char *text, unsigned failures)
{
    struct error err = {""};
    g_assert_true(g_file_set_contents(file, text, -1, NULL));
    struct users *users = users_new(file, failures, &err);
    g_assert_cmpstr(err.text, ==, "");
    return users;
}

static struct address client_of(const char *ip)
{
    struct address address;
    g_assert_cmpint(address_parse_ip(&address, ip), ==, 0);
    return address;
}

static void test_check(void)
{
    g_autofree char *text = g_strdup_printf(
        "# people\n\nann:%s:@x.example\r\nlocked:!\nlocked2:*\n", hash_of("secret"));
    struct users *users = load(text, 100);
    struct address client = client_of("192.0.2.1");
    static const struct {
        const char *user, *password;
        enum own_reply reply;
    } cases[] = {
        {"ann", "secret", REPLY_OK},          {"ann", "Secret", REPLY_AUTH_FAILED},
        {"ann", "", REPLY_AUTH_FAILED},       {"Ann", "secret", REPLY_AUTH_FAILED},
        {"bob", "secret", REPLY_AUTH_FAILED}, {"locked", "!", REPLY_AUTH_FAILED},
        {"locked2", "*", REPLY_AUTH_FAILED},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        int64_t start = deadline_now_ms();
        g_test_message("%s %s", cases[i].user, cases[i].password);
        int64_t at_ms;
        g_assert_cmpint(users_check(users, &client, cases[i].user, cases[i].password, &at_ms), ==,
                        cases[i].reply);
        if (cases[i].reply != REPLY_OK)
            g_assert_cmpint(at_ms - start, >=, 990);
        else
            g_assert_cmpint(at_ms, ==, 0);
    }
    users_free(users);
}

static void test_limit(void)
{
    g_autofree char *text = g_strdup_printf("ann:%s\n", hash_of("secret"));
    struct users *users = load(text, 2);
    struct address client = client_of("2001:db8::1"), neighbour = client_of("2001:db8::2"),
                   other = client_of("2001:db8:0:1::1");
    int64_t at_ms;

    g_assert_cmpint(users_check(users, &client, "ann", "wrong", &at_ms), ==, REPLY_AUTH_FAILED);
    g_assert_cmpint(users_check(users, &client, "ann", "secret", &at_ms), ==, REPLY_OK);
    g_assert_cmpint(users_check(users, &neighbour, "x", "wrong", &at_ms), ==, REPLY_AUTH_FAILED);
    g_assert_cmpint(users_check(users, &client, "ann", "secret", &at_ms), ==, REPLY_AUTH_TOO_OFTEN);
    g_assert_cmpint(users_check(users, &neighbour, "ann", "secret", &at_ms), ==, REPLY_AUTH_TOO_OFTEN);
    g_assert_cmpint(users_check(users, &other, "ann", "secret", &at_ms), ==, REPLY_OK);
    users_free(users);
}

#define GUESSERS 12

struct guesser {
    struct users *users;
    pthread_barrier_t *start;
    enum own_reply said;
};

static void *guess(void *context)
{
    struct guesser *guesser = context;
    struct address client = client_of("192.0.2.1");
    int64_t at_ms;

    pthread_barrier_wait(guesser->start);
    guesser->said = users_check(guesser->users, &client, "ann", "wrong", &at_ms);
    return NULL;
}

/* Guessing occupies only a few threads at a time, whoever guesses. */
static void test_crowd(void)
{
    struct crypt_data data = {0};
    /* A hash that takes longer than it takes all threads to begin. */
    const char *hash = crypt_r("secret", "$6$rounds=500000$saltsaltsalt", &data);
    g_autofree char *text = g_strdup_printf("ann:%s\n", hash);
    struct users *users = load(text, 1000);
    struct guesser guessers[GUESSERS];
    pthread_t threads[GUESSERS];
    pthread_barrier_t start;
    unsigned failed = 0, put_off = 0;

    pthread_barrier_init(&start, NULL, GUESSERS);
    for (int i = 0; i < GUESSERS; i++) {
        guessers[i] = (struct guesser){users, &start, REPLY_OK};
        g_assert_cmpint(pthread_create(&threads[i], NULL, guess, &guessers[i]), ==, 0);
    }
    for (int i = 0; i < GUESSERS; i++) {
        pthread_join(threads[i], NULL);
        failed += guessers[i].said == REPLY_AUTH_FAILED;
        put_off += guessers[i].said == REPLY_AUTH_TEMPORARY;
    }
    pthread_barrier_destroy(&start);
    g_assert_cmpuint(failed + put_off, ==, GUESSERS);
    g_assert_cmpuint(failed, >, 0);
    g_assert_cmpuint(put_off, >, 0);
    users_free(users);
}

static void test_senders(void)
{
    struct users *users =
        load("any:x\nstar:x:*\none:x:a@x.example\nmore:x:a@x.example @y.example,b@z.example\n"
             "idn:x:a@b\xc3\xbc" "cher.example @xn--fsq.example\n", 1);
    static const struct {
        const char *user, *sender;
        bool may;
    } cases[] = {
        {"any", "<a@b.example>", true},
        {"star", "<a@b.example>", true},
        {"one", "<a@x.example>", true},
        {"one", "<A@X.example>", true},
        {"one", "<b@x.example>", false},
        {"one", "<a@x.example.org>", false},
        {"one", "<>", true},
        {"more", "<q@y.example>", true},
        {"more", "<b@z.example>", true},
        {"more", "<q@z.example>", false},
        {"more", "<q@sub.y.example>", false},
        {"nobody", "<>", false},
        {"idn", "<a@xn--bcher-kva.example>", true},
        {"idn", "<A@B\xc3\x9c" "CHER.example>", true},
        {"idn", "<b@xn--bcher-kva.example>", false},
        {"idn", "<a@bucher.example>", false},
        {"idn", "<q@\xe4\xbe\x8b.example>", true},
        {"one", "<\"a\"@x.example>", true},
        {"one", "<a@x.example@evil.example>", false},
        {"one", "<\"a@x.example\"@evil.example>", false},
        {"one", "<Joe <a@x.example>>", true},
        {"one", "<a..@x.example>", false},
        {"more", "<q%evil.example@y.example>", true},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct path path;
        size_t used;
        g_test_message("%s as %s", cases[i].user, cases[i].sender);
        g_assert_true(path_parse_reverse(&path, cases[i].sender, strlen(cases[i].sender), &used));
        g_assert_cmpint(users_may_send(users, cases[i].user, &path), ==, cases[i].may);
    }
    users_free(users);
}

static void test_bad(void)
{
    static const char *const bad[] = {"ann\n", ":hash\n", "ann:\n", "ann::senders\n"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct error err = {""};
        g_autofree char *text = g_strdup_printf("# one line before\n%s", bad[i]);
        g_assert_true(g_file_set_contents(file, text, -1, NULL));
        g_test_message("%s", bad[i]);
        g_assert_null(users_new(file, 1, &err));
        g_assert_nonnull(strstr(err.text, ":2: expected NAME:HASH"));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_autofree char *folder = g_dir_make_tmp("postern-users-XXXXXX", NULL);
    file = g_build_filename(folder, "users", NULL);
    g_test_add_func("/users/check", test_check);
    g_test_add_func("/users/limit", test_limit);
    g_test_add_func("/users/crowd", test_crowd);
    g_test_add_func("/users/senders", test_senders);
    g_test_add_func("/users/bad", test_bad);
    int result = g_test_run();
    g_remove(file);
    g_rmdir(folder);
    g_free(file);
    return result;
}
