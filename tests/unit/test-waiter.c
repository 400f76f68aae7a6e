/* tests/unit/test-waiter.c - server/waiter
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/deadline.h"
#include "server/waiter.h"

enum { NEWS_A = WAITER_NEWS, NEWS_B = WAITER_NEWS << 1 };

struct thing {
    struct waiter_item item; /* the first member */
    int number;
    unsigned what;           /* all events so far */
    int times;               /* number of calls */
    struct thing *to_remove; /* removed when something happens to this one */
};

static GString *order;

static void happened(struct waiter_item *item, unsigned what)
{
    struct thing *thing = (struct thing *)item;

    thing->what |= what;
    thing->times++;
    g_string_append_printf(order, "%d ", thing->number);
    if (thing->to_remove != NULL)
        waiter_remove(&thing->to_remove->item);
    thing->to_remove = NULL;
}

static void thing_add(struct waiter *waiter, struct thing *thing, int number, int fd)
{
    *thing = (struct thing){.item = {.fd = fd, .happened = happened}, .number = number};
    g_assert_cmpint(waiter_add(waiter, &thing->item), ==, 0);
}

static void round_of(struct waiter *waiter)
{
    waiter_wait(waiter, deadline_now_ms());
    waiter_tell(waiter);
}

static struct waiter *waiter_open(void)
{
    struct waiter *waiter = waiter_new();
    g_assert_nonnull(waiter);
    order = g_string_new(NULL);
    return waiter;
}

static void waiter_close(struct waiter *waiter)
{
    waiter_leave(waiter);
    waiter_free(waiter);
    g_string_free(order, TRUE);
}

/* Items come due in the order of their times, however these were set, changed and withdrawn. */
static void test_times(void)
{
    enum { THINGS = 500 };
    struct waiter *waiter = waiter_open();
    g_autofree struct thing *things = g_new0(struct thing, THINGS);
    int64_t now = deadline_now_ms(), last = 0;

    for (int i = 0; i < THINGS; i++) {
        thing_add(waiter, &things[i], i, -1);
        waiter_set_due(&things[i].item, now - g_random_int_range(1, 10000));
    }
    for (int i = 0; i < THINGS; i++) {
        if (i % 3 == 0)
            waiter_set_due(&things[i].item, now - g_random_int_range(1, 10000));
        else if (i % 7 == 0)
            waiter_set_due(&things[i].item, i % 2 == 0 ? WAITER_NEVER : now + 3600000);
    }
    int64_t due[THINGS];
    int expected = 0;
    for (int i = 0; i < THINGS; i++) {
        due[i] = things[i].item.due_ms;
        expected += due[i] < now;
    }
    round_of(waiter);
    g_auto(GStrv) told = g_strsplit(order->str, " ", -1);
    g_assert_cmpint(g_strv_length(told), ==, expected + 1);
    for (int i = 0; i < expected; i++) {
        int number = atoi(told[i]);
        g_assert_cmpint(due[number], >=, last);
        g_assert_cmpuint(things[number].what, ==, WAITER_DUE);
        last = due[number];
    }
    for (int i = 0; i < THINGS; i++)
        waiter_remove(&things[i].item);
    waiter_close(waiter);
}

/* An item removed during a round is not called in it, so it may be freed. */
static void test_removed(void)
{
    struct waiter *waiter = waiter_open();
    struct thing things[3];
    int fds[3][2];

    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]), ==, 0);
        thing_add(waiter, &things[i], i, fds[i][0]);
        g_assert_cmpint(waiter_watch(&things[i].item, WAITER_READABLE, WAITER_ONCE), ==, 0);
        g_assert_cmpint(send(fds[i][1], "x", 1, 0), ==, 1);
        waiter_post(&things[i].item, NEWS_A);
        waiter_set_due(&things[i].item, 1);
    }
    /* The first one called removes the next one, for each kind of event. */
    things[0].to_remove = &things[1];
    round_of(waiter);
    g_assert_cmpint(things[1].times, ==, 0);
    g_assert_cmpuint(things[0].what, ==, WAITER_READABLE | NEWS_A | WAITER_DUE);
    g_assert_cmpuint(things[2].what, ==, WAITER_READABLE | NEWS_A | WAITER_DUE);
    thing_add(waiter, &things[1], 1, fds[1][0]);
    for (int i = 0; i < 3; i++)
        waiter_post(&things[i].item, NEWS_B);
    things[0].to_remove = &things[2];
    round_of(waiter);
    g_assert_cmpuint(things[1].what, ==, NEWS_B);
    g_assert_cmpuint(things[2].what & NEWS_B, ==, 0);
    for (int i = 0; i < 2; i++)
        waiter_remove(&things[i].item);
    for (int i = 0; i < 3; i++) {
        close(fds[i][0]);
        close(fds[i][1]);
    }
    waiter_close(waiter);
}

/* A descriptor is reported once. A hang-up is reported even if nobody asked. */
static void test_descriptors(void)
{
    struct waiter *waiter = waiter_open();
    struct thing thing;
    int fds[2];

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    thing_add(waiter, &thing, 0, fds[0]);
    g_assert_cmpint(waiter_watch(&thing.item, WAITER_WRITABLE, WAITER_ONCE), ==, 0);
    round_of(waiter);
    round_of(waiter);
    g_assert_cmpint(thing.times, ==, 1);
    g_assert_cmpuint(thing.what, ==, WAITER_WRITABLE);
    g_assert_cmpint(waiter_watch(&thing.item, 0, WAITER_ONCE), ==, 0);
    g_assert_cmpint(send(fds[1], "x", 1, 0), ==, 1);
    round_of(waiter);
    g_assert_cmpint(thing.times, ==, 1);
    close(fds[1]);
    round_of(waiter);
    g_assert_cmpuint(thing.what, ==, WAITER_WRITABLE | WAITER_BROKEN);
    waiter_remove(&thing.item);
    close(fds[0]);
    waiter_close(waiter);
}

static void *post_many(void *argument)
{
    struct thing *thing = argument;
    for (int i = 0; i < 2000; i++)
        waiter_post(&thing->item, i % 2 == 0 ? NEWS_A : NEWS_B);
    return NULL;
}

/* Posts from any thread wake it, and none is lost. */
static void test_posts(void)
{
    enum { THREADS = 4 };
    struct waiter *waiter = waiter_open();
    struct thing things[THREADS];
    pthread_t threads[THREADS];
    struct deadline deadline = deadline_in_ms(10000);
    int open = THREADS;

    for (int i = 0; i < THREADS; i++) {
        thing_add(waiter, &things[i], i, -1);
        pthread_create(&threads[i], NULL, post_many, &things[i]);
    }
    while (open > 0 && !deadline_passed(deadline)) {
        waiter_wait(waiter, deadline.at_ms);
        waiter_tell(waiter);
        open = 0;
        for (int i = 0; i < THREADS; i++)
            open += things[i].what != (NEWS_A | NEWS_B);
    }
    g_assert_cmpint(open, ==, 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        things[i].what = 0;
        waiter_post(&things[i].item, NEWS_A);
    }
    round_of(waiter);
    for (int i = 0; i < THREADS; i++) {
        g_assert_cmpuint(things[i].what & NEWS_A, ==, NEWS_A);
        waiter_remove(&things[i].item);
    }
    waiter_close(waiter);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/waiter/times", test_times);
    g_test_add_func("/waiter/removed", test_removed);
    g_test_add_func("/waiter/descriptors", test_descriptors);
    g_test_add_func("/waiter/posts", test_posts);
    return g_test_run();
}
