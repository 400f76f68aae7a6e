/* tests/unit/test-queue.c - spool/queue: what is tried when, on the test's own clock
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <malloc.h>
#include <stdatomic.h>
#include <string.h>

#include "spool/queue-index.h"
#include "spool/queue.h"

#define MINUTE INT64_C(60000)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

static atomic_llong now;
static atomic_int woken;

static int64_t read_clock(void *context)
{
    (void)context;
    return atomic_load(&now);
}

static void wake(void *context)
{
    (void)context;
    atomic_fetch_add(&woken, 1);
}

static const int64_t schedule[] = {5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 40 * MINUTE,
                                   HOUR,       2 * HOUR,    4 * HOUR};

static struct queue *make(unsigned concurrency, unsigned per_destination)
{
    struct queue_config config = {
        .concurrency = concurrency,
        .destination_concurrency = per_destination,
        .retry_count = G_N_ELEMENTS(schedule),
        .seed = 1,
        .now_ms = read_clock,
        .wake = wake,
    };
    memcpy(config.retry_ms, schedule, sizeof schedule);
    atomic_store(&now, DAY);
    return queue_new(&config);
}

static void add(struct queue *queue, uint64_t id, const char *name)
{
    struct queue_destination destination = {.name = name};
    struct queue_entry entry = {
        .id = id,
        .expires_ms = atomic_load(&now) + 5 * DAY,
        .destinations = &destination,
        .count = 1,
    };
    g_assert_cmpint(queue_add(queue, &entry), ==, 0);
}

/* Takes the next piece of work, which must exist. */
static struct queue_work take(struct queue *queue)
{
    struct queue_work work;
    int64_t wait;
    g_assert_true(queue_take(queue, &work, &wait));
    return work;
}

/* Returns the time until the next work; nothing may be due now. */
static int64_t idle(struct queue *queue)
{
    struct queue_work work;
    int64_t wait;
    g_assert_false(queue_take(queue, &work, &wait));
    return wait;
}

static bool finish(struct queue *queue, const struct queue_work *work, enum queue_outcome outcome)
{
    queue_judge(queue, work, outcome, "no route");
    return queue_finish(queue, work);
}

static enum queue_answer take_out(struct queue *queue, uint64_t id)
{
    enum queue_answer answer = queue_claim(queue, id);
    if (answer == QUEUE_DONE)
        queue_unclaim(queue, id, true);
    return answer;
}

static struct queue_counts counts_of(struct queue *queue)
{
    struct queue_counts counts;
    queue_count(queue, &counts);
    return counts;
}

static void test_schedule(void)
{
    struct queue *queue = make(8, 4);
    int64_t last = atomic_load(&now), arrived = last;
    unsigned attempts = 0;
    struct queue_work work;

    add(queue, 1, "example.net");
    for (;;) {
        work = take(queue);
        if (work.kind == QUEUE_EXPIRE)
            break;
        g_assert_cmpuint(work.attempts, ==, attempts);
        if (attempts > 0 && atomic_load(&now) < arrived + 5 * DAY) {
            int64_t full = schedule[MIN(attempts - 1, G_N_ELEMENTS(schedule) - 1)];
            g_assert_cmpint(atomic_load(&now) - last, <=, full);
            g_assert_cmpint(atomic_load(&now) - last, >=, full - full / 5);
        }
        attempts++;
        last = atomic_load(&now);
        int64_t next = queue_judge(queue, &work, QUEUE_DEFERRED, NULL);
        g_assert_false(queue_finish(queue, &work));
        if (last >= arrived + 5 * DAY)
            continue; /* that was its last try */
        int64_t wait = idle(queue);
        g_assert_cmpint(wait, ==, MIN(next, arrived + 5 * DAY) - last);
        atomic_fetch_add(&now, wait - 1);
        g_assert_cmpint(idle(queue), ==, 1);
        atomic_fetch_add(&now, 1);
    }
    g_assert_cmpint(atomic_load(&now), ==, arrived + 5 * DAY);
    g_assert_cmpuint(attempts, >=, 35);
    g_assert_cmpuint(attempts, <=, 46);
    /* An expiry that fails (the disk is full) comes again, after one more try. */
    g_assert_false(finish(queue, &work, QUEUE_DEFERRED));
    g_assert_cmpint(idle(queue), <=, 5 * MINUTE);
    atomic_fetch_add(&now, 5 * MINUTE);
    work = take(queue);
    g_assert_cmpint(work.kind, ==, QUEUE_DELIVER);
    finish(queue, &work, QUEUE_DEFERRED);
    work = take(queue);
    g_assert_cmpint(work.kind, ==, QUEUE_EXPIRE);
    g_assert_true(finish(queue, &work, QUEUE_SETTLED));
    g_assert_cmpint(idle(queue), ==, -1);
    g_assert_cmpuint(counts_of(queue).messages + counts_of(queue).destinations, ==, 0);
    queue_free(queue);
}

static void test_fairness(void)
{
    struct queue *queue = make(100, 50);
    unsigned seen[3] = {0};
    for (uint64_t id = 1; id <= 60; id++)
        add(queue, id, "a");
    for (uint64_t id = 61; id <= 70; id++)
        add(queue, id, "b");
    add(queue, 71, "c");
    /* Every destination gets a turn before any gets another. */
    for (unsigned turn = 1; turn <= 10; turn++) {
        for (int i = 0; i < (turn == 1 ? 3 : 2); i++)
            seen[take(queue).destination[0] - 'a']++;
        g_assert_cmpuint(seen[0], ==, turn);
        g_assert_cmpuint(seen[1], ==, turn);
        g_assert_cmpuint(seen[2], ==, 1);
    }
    queue_free(queue);
}

static void test_places(void)
{
    struct queue *queue = make(6, 4);
    struct queue_work works[6];
    for (uint64_t id = 1; id <= 20; id++)
        add(queue, id, id % 2 ? "a" : "b");
    for (int i = 0; i < 6; i++)
        works[i] = take(queue);
    g_assert_cmpint(idle(queue), ==, -1);
    g_assert_cmpuint(counts_of(queue).active, ==, 6);
    /* A thread that returns work takes the next, and learns whether there is more for other threads. */
    int before = atomic_load(&woken);
    g_assert_true(finish(queue, &works[0], QUEUE_SETTLED));
    g_assert_true(finish(queue, &works[1], QUEUE_SETTLED));
    g_assert_cmpint(atomic_load(&woken), ==, before);
    int64_t more;
    g_assert_true(queue_take(queue, &works[0], &more));
    g_assert_cmpint(more, ==, 0);
    g_assert_true(queue_take(queue, &works[1], &more));
    g_assert_cmpint(more, ==, -1);
    g_assert_true(finish(queue, &works[0], QUEUE_SETTLED));
    works[0] = take(queue);
    for (int i = 0; i < 6; i++)
        finish(queue, &works[i], QUEUE_SETTLED);
    /* Only "b" is left, held back by its own limit. */
    for (uint64_t id = 1; id <= 20; id += 2)
        take_out(queue, id);
    for (int i = 0; i < 4; i++)
        g_assert_cmpstr(take(queue).destination, ==, "b");
    g_assert_cmpint(idle(queue), >, 0);
    queue_free(queue);
}

/* With 1,000 messages for a host that is down for five days, it is tried about as often as with one
 * message. Then all of them expire. */
static void test_dead_destination(void)
{
    struct queue *queue = make(20, 4);
    unsigned attempts = 0, expired = 0;
    char reason[QUEUE_REASON_MAX];

    for (uint64_t id = 1; id <= 1000; id++)
        add(queue, id, "dead.example");
    g_assert_false(queue_destination_reason(queue, "dead.example", reason));
    while (counts_of(queue).messages > 0) {
        struct queue_work works[20];
        int64_t wait;
        unsigned count = 0;
        while (count < 20 && queue_take(queue, &works[count], &wait))
            count++;
        for (unsigned i = 0; i < count; i++) {
            bool expiry = works[i].kind == QUEUE_EXPIRE;
            attempts += !expiry;
            expired += expiry;
            finish(queue, &works[i], expiry ? QUEUE_SETTLED : QUEUE_UNREACHABLE);
        }
        if (expired == 0) {
            g_assert_true(queue_destination_reason(queue, "dead.example", reason));
            g_assert_cmpstr(reason, ==, "no route");
            g_assert_cmpuint(counts_of(queue).unreachable, ==, 1);
        }
        if (count == 0) {
            g_assert_cmpint(wait, >, 0);
            atomic_fetch_add(&now, wait);
        }
    }
    g_assert_cmpuint(expired, ==, 1000);
    g_assert_cmpuint(attempts, >=, 35);
    g_assert_cmpuint(attempts, <=, 50);
    queue_free(queue);
}

static void test_recovery(void)
{
    struct queue *queue = make(20, 4);
    struct queue_work work, others[4];
    for (uint64_t id = 1; id <= 10; id++)
        add(queue, id, "a");
    for (int i = 0; i < 4; i++)
        others[i] = take(queue);
    for (int i = 0; i < 4; i++)
        finish(queue, &others[i], QUEUE_UNREACHABLE);
    /* Four failures at once count as one. */
    int64_t wait = idle(queue);
    g_assert_cmpint(wait, <=, 5 * MINUTE);
    atomic_fetch_add(&now, wait);
    work = take(queue);
    g_assert_cmpint(idle(queue), >, 0); /* only one probe */
    finish(queue, &work, QUEUE_DEFERRED);
    for (int i = 0; i < 4; i++)
        others[i] = take(queue);
    g_assert_cmpuint(counts_of(queue).unreachable, ==, 0);
    queue_free(queue);
}

/* An unreachable destination is probed for new mail, however long it has been so, and at once when somebody has
 * mended something. */
static void test_new_mail(void)
{
    struct queue *queue = make(20, 4);
    struct queue_work work;

    add(queue, 1, "a");
    for (int tries = 0; tries < 8; tries++) {
        work = take(queue);
        g_assert_false(finish(queue, &work, QUEUE_UNREACHABLE));
        atomic_fetch_add(&now, tries < 7 ? 4 * HOUR : MINUTE);
    }
    g_assert_cmpint(idle(queue), >, 3 * HOUR);
    add(queue, 2, "a");
    g_assert_cmpint(idle(queue), ==, 4 * MINUTE);
    atomic_fetch_add(&now, 4 * MINUTE);
    work = take(queue);
    g_assert_cmpuint(work.id, ==, 2);
    g_assert_false(finish(queue, &work, QUEUE_UNREACHABLE));
    g_assert_cmpint(idle(queue), >, 3 * HOUR);
    atomic_fetch_add(&now, HOUR);
    add(queue, 3, "a");
    work = take(queue);
    g_assert_cmpuint(work.id, !=, 1);
    g_assert_false(finish(queue, &work, QUEUE_UNREACHABLE));
    queue_forgive(queue);
    work = take(queue);
    g_assert_cmpuint(work.id, !=, 1);
    g_assert_true(finish(queue, &work, QUEUE_SETTLED));
    g_assert_cmpuint(counts_of(queue).unreachable, ==, 0);
    queue_free(queue);
}

/* 20 destinations that are down and due at once get half of the places, and leave the other half to one
 * that is up. */
static void test_probes(void)
{
    struct queue *queue = make(6, 6);
    struct queue_work works[6];
    unsigned probes = 0;
    char name[16];

    for (uint64_t id = 1; id <= 20; id++) {
        g_snprintf(name, sizeof name, "dead%u", (unsigned)id);
        add(queue, id, name);
        works[0] = take(queue);
        finish(queue, &works[0], QUEUE_UNREACHABLE);
    }
    for (uint64_t id = 100; id < 110; id++)
        add(queue, id, "alive");
    for (uint64_t id = 1; id <= 20; id++)
        queue_retry(queue, id);
    for (int i = 0; i < 6; i++) {
        works[i] = take(queue);
        probes += works[i].id <= 20;
    }
    g_assert_cmpuint(probes, ==, 3);
    /* With nothing else to do they still get only half, and the next one when one is done. */
    for (int i = 0; i < 6; i++) {
        if (works[i].id > 20)
            finish(queue, &works[i], QUEUE_SETTLED);
    }
    for (uint64_t id = 100; id < 110; id++)
        take_out(queue, id);
    idle(queue);
    for (int i = 0; i < 6; i++) {
        if (works[i].id <= 20)
            finish(queue, &works[i], QUEUE_UNREACHABLE);
    }
    for (int i = 0; i < 3; i++)
        take(queue);
    idle(queue);
    queue_free(queue);
}

/* Whoever orders a retry has mended something. If the try that began before fails, the next one comes soon, whatever
 * there was before. */
static void test_retry_of_running(void)
{
    static const enum queue_outcome outcomes[] = {QUEUE_DEFERRED, QUEUE_UNREACHABLE};
    for (size_t i = 0; i < G_N_ELEMENTS(outcomes); i++) {
        struct queue *queue = make(20, 4);
        struct queue_work work;
        add(queue, 1, "a");
        for (int tries = 0; tries < 6; tries++) {
            work = take(queue);
            g_assert_false(finish(queue, &work, outcomes[i]));
            atomic_fetch_add(&now, 4 * HOUR);
        }
        work = take(queue);
        g_assert_cmpint(queue_retry(queue, 1), ==, QUEUE_DONE);
        g_assert_cmpint(idle(queue), >, 4 * HOUR);
        g_assert_false(finish(queue, &work, outcomes[i]));
        g_assert_cmpint(idle(queue), <=, 5 * MINUTE);
        atomic_fetch_add(&now, 5 * MINUTE);
        work = take(queue);
        g_assert_false(finish(queue, &work, outcomes[i]));
        g_assert_cmpint(idle(queue), >, HOUR);
        g_assert_cmpint(queue_retry(queue, 1), ==, QUEUE_DONE);
        work = take(queue);
        g_assert_cmpint(queue_retry(queue, 1), ==, QUEUE_DONE);
        g_assert_true(finish(queue, &work, QUEUE_SETTLED));
        queue_free(queue);
    }
}

/* A retry that is ordered while the sender hears of a delay puts no other mail out of order. */
static void test_retry_in_hand(void)
{
    static const int64_t due[] = {HOUR, 2 * HOUR, 3 * HOUR, MINUTE, 4 * HOUR, 4 * HOUR, 4 * HOUR};
    struct queue *queue = make(20, 1);
    struct queue_work work, notice = {.id = 0};

    for (size_t i = 0; i < G_N_ELEMENTS(due); i++) {
        struct queue_destination destination = {.name = "a", .next_try_ms = DAY + due[i]};
        struct queue_entry entry = {.id = i + 1,
                                    .expires_ms = 5 * DAY,
                                    .notice_ms = i == 1 ? DAY : 0,
                                    .destinations = &destination,
                                    .count = 1};
        g_assert_cmpint(queue_add(queue, &entry), ==, 0);
        if (i != 1)
            continue;
        notice = take(queue);
        g_assert_cmpint(notice.kind, ==, QUEUE_NOTICE);
        g_assert_cmpint(queue_retry(queue, 2), ==, QUEUE_DONE);
    }
    g_assert_false(finish(queue, &notice, QUEUE_SETTLED));
    work = take(queue);
    g_assert_cmpuint(work.id, ==, 2);
    g_assert_true(finish(queue, &work, QUEUE_SETTLED));
    g_assert_cmpint(idle(queue), ==, MINUTE);
    queue_free(queue);
}

static void test_orders(void)
{
    struct queue *queue = make(20, 4);
    struct queue_work work;

    add(queue, 1, "a");
    add(queue, 2, "b");
    g_assert_cmpuint(counts_of(queue).shares[QUEUE_DUE].messages, ==, 2);
    g_assert_cmpint(queue_hold(queue, 1), ==, QUEUE_DONE);
    g_assert_cmpint(queue_hold(queue, 1), ==, QUEUE_DONE);
    g_assert_cmpuint(counts_of(queue).shares[QUEUE_HELD].messages, ==, 1);
    work = take(queue);
    g_assert_cmpuint(work.id, ==, 2);
    g_assert_cmpint(queue_claim(queue, 2), ==, QUEUE_BUSY);
    g_assert_cmpuint(counts_of(queue).shares[QUEUE_DUE].messages, ==, 1);
    finish(queue, &work, QUEUE_UNREACHABLE);
    idle(queue);
    g_assert_cmpuint(counts_of(queue).shares[QUEUE_WAITING].messages, ==, 1);
    g_assert_cmpint(queue_retry(queue, 2), ==, QUEUE_DONE);
    work = take(queue);
    finish(queue, &work, QUEUE_UNREACHABLE);
    /* Nobody else works on a claimed message. Given back, it is as before. */
    g_assert_cmpint(queue_claim(queue, 2), ==, QUEUE_DONE);
    g_assert_cmpint(queue_claim(queue, 2), ==, QUEUE_BUSY);
    g_assert_cmpint(queue_retry(queue, 2), ==, QUEUE_DONE);
    g_assert_cmpint(idle(queue), ==, -1);
    queue_unclaim(queue, 2, false);
    work = take(queue);
    g_assert_cmpuint(work.attempts, ==, 2);
    /* It is held during a delivery, so it is not tried again. */
    g_assert_cmpint(queue_hold(queue, 2), ==, QUEUE_DONE);
    finish(queue, &work, QUEUE_DEFERRED);
    /* A held message does not expire, and its time on hold does not count. */
    atomic_fetch_add(&now, 6 * DAY);
    g_assert_cmpint(idle(queue), ==, -1);
    g_assert_cmpint(queue_release(queue, 1), ==, QUEUE_DONE);
    work = take(queue);
    g_assert_cmpint(work.kind, ==, QUEUE_DELIVER);
    finish(queue, &work, QUEUE_DEFERRED);
    atomic_fetch_add(&now, 5 * DAY);
    work = take(queue);
    g_assert_cmpint(work.kind, ==, QUEUE_DELIVER);
    finish(queue, &work, QUEUE_DEFERRED);
    work = take(queue);
    g_assert_cmpint(work.kind, ==, QUEUE_EXPIRE);
    g_assert_cmpint(queue_claim(queue, 1), ==, QUEUE_BUSY);
    g_assert_cmpint(queue_retry(queue, 1), ==, QUEUE_DONE);
    idle(queue); /* no recipient is delivered to while it expires */
    g_assert_true(finish(queue, &work, QUEUE_SETTLED));
    g_assert_cmpint(take_out(queue, 2), ==, QUEUE_DONE);
    g_assert_cmpint(take_out(queue, 2), ==, QUEUE_NO_SUCH);
    g_assert_cmpint(queue_hold(queue, 2), ==, QUEUE_NO_SUCH);
    g_assert_cmpuint(counts_of(queue).messages + counts_of(queue).destinations, ==, 0);
    queue_free(queue);
}

static void test_notice(void)
{
    struct queue *queue = make(20, 4);
    struct queue_destination destinations[] = {{.name = "a"}, {.name = "b"}};
    struct queue_entry entry = {.id = 9,
                                .expires_ms = atomic_load(&now) + DAY,
                                .notice_ms = atomic_load(&now) + HOUR,
                                .destinations = destinations,
                                .count = 2};
    struct queue_work first, second, notice;

    g_assert_cmpint(queue_add(queue, &entry), ==, 0);
    g_assert_cmpint(queue_add(queue, &entry), ==, -1);
    first = take(queue);
    second = take(queue);
    g_assert_false(finish(queue, &first, QUEUE_SETTLED));
    atomic_fetch_add(&now, HOUR);
    notice = take(queue);
    g_assert_cmpint(notice.kind, ==, QUEUE_NOTICE);
    /* Everything is settled meanwhile: the message is removed with the last work returned. */
    g_assert_false(finish(queue, &second, QUEUE_SETTLED));
    g_assert_true(finish(queue, &notice, QUEUE_SETTLED));

    /* A delivery that runs at the expiry is waited for, and is the last try. */
    entry.expires_ms = atomic_load(&now) + DAY;
    entry.notice_ms = 0;
    g_assert_cmpint(queue_add(queue, &entry), ==, 0);
    first = take(queue);
    second = take(queue);
    finish(queue, &second, QUEUE_DEFERRED);
    atomic_fetch_add(&now, DAY);
    second = take(queue);
    g_assert_cmpint(second.kind, ==, QUEUE_DELIVER);
    g_assert_cmpstr(second.destination, !=, first.destination);
    g_assert_cmpint(idle(queue), ==, -1);
    g_assert_false(finish(queue, &second, QUEUE_DEFERRED));
    g_assert_cmpint(idle(queue), ==, -1);
    g_assert_false(finish(queue, &first, QUEUE_DEFERRED));
    first = take(queue);
    g_assert_cmpint(first.kind, ==, QUEUE_EXPIRE);
    g_assert_true(finish(queue, &first, QUEUE_SETTLED));
    queue_free(queue);
}

/* Nobody tries a message while it expires, however long that takes: it would be both delivered and returned. */
static void test_expiry_in_hand(void)
{
    struct queue *queue = make(20, 1);
    struct queue_work work, expiry;

    add(queue, 1, "a");
    work = take(queue);
    atomic_fetch_add(&now, 5 * DAY);
    g_assert_false(finish(queue, &work, QUEUE_DEFERRED)); /* its last try */
    expiry = take(queue);
    g_assert_cmpint(expiry.kind, ==, QUEUE_EXPIRE);
    atomic_fetch_add(&now, DAY);
    g_assert_cmpint(idle(queue), ==, -1);
    g_assert_cmpint(queue_retry(queue, 1), ==, QUEUE_DONE);
    g_assert_cmpint(idle(queue), ==, -1);
    add(queue, 2, "a");
    work = take(queue);
    g_assert_cmpuint(work.id, ==, 2);
    g_assert_true(finish(queue, &work, QUEUE_SETTLED));
    /* If the sender cannot be told now, it goes on. */
    g_assert_false(finish(queue, &expiry, QUEUE_DEFERRED));
    work = take(queue);
    g_assert_cmpint(work.kind, ==, QUEUE_DELIVER);
    g_assert_true(finish(queue, &work, QUEUE_SETTLED));
    queue_free(queue);
}

/* After a stop, or an operator's hold, a message is tried before its sender hears of a delay. */
static void test_notice_behind_try(void)
{
    struct queue *queue = make(20, 4);
    struct queue_destination destination = {.name = "a", .next_try_ms = DAY - HOUR};
    struct queue_entry entry = {.id = 9,
                                .expires_ms = 5 * DAY,
                                .notice_ms = DAY - HOUR,
                                .destinations = &destination,
                                .count = 1};
    struct queue_work work;

    g_assert_cmpint(queue_add(queue, &entry), ==, 0);
    work = take(queue);
    g_assert_cmpint(work.kind, ==, QUEUE_DELIVER);
    g_assert_false(finish(queue, &work, QUEUE_DEFERRED));
    g_assert_cmpint(idle(queue), <=, schedule[0]);
    atomic_fetch_add(&now, schedule[0]);
    work = take(queue); /* once only: another try is due */
    g_assert_cmpint(work.kind, ==, QUEUE_NOTICE);
    g_assert_false(finish(queue, &work, QUEUE_SETTLED));
    g_assert_cmpint(take_out(queue, 9), ==, QUEUE_DONE);

    /* Nothing is due: there is nothing to wait for. */
    destination.next_try_ms = 2 * DAY;
    g_assert_cmpint(queue_add(queue, &entry), ==, 0);
    work = take(queue);
    g_assert_cmpint(work.kind, ==, QUEUE_NOTICE);
    g_assert_false(finish(queue, &work, QUEUE_DEFERRED));
    g_assert_cmpint(queue_hold(queue, 9), ==, QUEUE_DONE);
    atomic_fetch_add(&now, HOUR);
    g_assert_cmpint(idle(queue), ==, -1);
    g_assert_cmpint(queue_release(queue, 9), ==, QUEUE_DONE);
    work = take(queue);
    g_assert_cmpint(work.kind, ==, QUEUE_DELIVER);
    g_assert_true(finish(queue, &work, QUEUE_SETTLED));
    queue_free(queue);
}

/* A message is tried before it expires, even after a long downtime, and even if its destination is known
 * to be dead. */
static void test_last_try(void)
{
    struct queue *queue = make(20, 4);
    struct queue_destination destination = {.name = "a",
                                            .next_try_ms = atomic_load(&now) + 4 * HOUR};
    struct queue_entry entry = {
        .id = 1, .expires_ms = atomic_load(&now) - DAY, .destinations = &destination, .count = 1};
    struct queue_work work;

    queue_add(queue, &entry);
    work = take(queue);
    g_assert_cmpint(work.kind, ==, QUEUE_DELIVER);
    g_assert_true(finish(queue, &work, QUEUE_SETTLED));

    /* Two that expire one after the other, for a destination just found dead. */
    for (uint64_t id = 2; id <= 3; id++) {
        entry.id = id;
        entry.expires_ms = atomic_load(&now) + (int64_t)id;
        destination.next_try_ms = 0;
        queue_add(queue, &entry);
    }
    work = take(queue);
    finish(queue, &work, QUEUE_UNREACHABLE);
    g_assert_cmpint(idle(queue), ==, 2);
    atomic_fetch_add(&now, 2);
    work = take(queue);
    g_assert_cmpint(work.kind, ==, QUEUE_DELIVER);
    atomic_fetch_add(&now, 1); /* the other expires meanwhile: this counts as its try too */
    g_assert_cmpint(idle(queue), ==, -1);
    finish(queue, &work, QUEUE_UNREACHABLE);
    for (int i = 0; i < 2; i++) {
        work = take(queue);
        g_assert_cmpint(work.kind, ==, QUEUE_EXPIRE);
        g_assert_true(finish(queue, &work, QUEUE_SETTLED));
    }
    g_assert_cmpuint(counts_of(queue).messages + counts_of(queue).destinations, ==, 0);
    queue_free(queue);
}

static size_t memory_in_use(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* 10,000 messages for 1,000 destinations, half of them dead, over five days. */
static void test_ten_thousand(void)
{
    size_t before = memory_in_use();
    gint64 start = g_get_monotonic_time();
    struct queue *queue = make(20, 4);
    unsigned delivered = 0, failed = 0, expired = 0;
    char name[64];

    for (uint64_t id = 1; id <= 10000; id++) {
        g_snprintf(name, sizeof name, "destination-%u.example.com", (unsigned)(id % 1000));
        add(queue, id, name);
    }
    size_t used = memory_in_use() - before;
    while (delivered + expired < 10000) { /* counting the queue takes longer than all the rest */
        struct queue_work work;
        int64_t wait;
        if (!queue_take(queue, &work, &wait)) {
            g_assert_cmpint(wait, >, 0);
            atomic_fetch_add(&now, wait);
            continue;
        }
        bool dead = work.kind == QUEUE_DELIVER && work.id % 2;
        delivered += work.kind == QUEUE_DELIVER && !dead;
        failed += dead;
        expired += work.kind == QUEUE_EXPIRE;
        finish(queue, &work, dead ? QUEUE_UNREACHABLE : QUEUE_SETTLED);
    }
    g_test_message(
        "%zu octets a message, %u attempts at 500 dead destinations, five days in %.0f ms",
        used / 10000, failed, (double)(g_get_monotonic_time() - start) / 1000);
    g_assert_cmpuint(counts_of(queue).messages, ==, 0);
    g_assert_cmpuint(delivered, ==, 5000);
    g_assert_cmpuint(expired, ==, 5000);
    g_assert_cmpuint(failed, <, 500 * 60);
    g_assert_cmpuint(used / 10000, <, 300);
    queue_free(queue);
}

struct shared {
    struct queue *queue;
    atomic_uint done;
};

static gpointer work_on(gpointer data)
{
    struct shared *shared = data;
    struct queue_work work;
    int64_t wait;
    while (atomic_load(&shared->done) < 5000) {
        if (!queue_take(shared->queue, &work, &wait)) {
            atomic_fetch_add(&now, 60000);
            continue;
        }
        enum queue_outcome outcome =
            work.attempts < work.id % 3 ? (enum queue_outcome)(work.id % 3) : QUEUE_SETTLED;
        if (work.id % 17 == 0)
            queue_retry(shared->queue, work.id);
        if (finish(shared->queue, &work, outcome))
            atomic_fetch_add(&shared->done, 1);
    }
    return NULL;
}

/* Confirms, takes and gives back, which must be possible. */
static void take_confirmed(struct queue *queue, uint64_t id, const char *name,
                           enum queue_outcome outcome)
{
    int before = atomic_load(&woken);
    g_assert_cmpint(queue_confirm(queue, id, name), ==, QUEUE_DONE);
    g_assert_cmpint(atomic_load(&woken), ==, before + 1);
    struct queue_work work = take(queue);
    g_assert_cmpint(work.kind, ==, QUEUE_DELIVER);
    g_assert_cmpuint(work.id, ==, id);
    g_assert_cmpstr(work.destination, ==, name);
    finish(queue, &work, outcome);
}

/* What is confirmed comes before all, whatever else keeps it waiting. */
static void test_confirmed(void)
{
    struct queue *queue = make(1, 1);
    struct queue_work work, other;
    struct queue_destination destinations[] = {{.name = "a"}, {.name = "b"}, {.name = "c"}};
    struct queue_entry entry = {.id = 2,
                                .expires_ms = atomic_load(&now) + 5 * DAY,
                                .destinations = destinations,
                                .count = G_N_ELEMENTS(destinations)};

    for (size_t i = 0; i < G_N_ELEMENTS(destinations); i++)
        destinations[i].next_try_ms = atomic_load(&now) + DAY;
    g_assert_cmpint(queue_add(queue, &entry), ==, 0);
    g_assert_cmpint(queue_confirm(queue, 1, "a"), ==, QUEUE_NO_SUCH);
    g_assert_cmpint(queue_confirm(queue, 2, "x"), ==, QUEUE_NO_SUCH);
    add(queue, 3, "dead");
    work = take(queue);
    finish(queue, &work, QUEUE_UNREACHABLE);
    add(queue, 4, "d");
    work = take(queue);
    idle(queue);
    /* All places are taken; it is not due; it is on hold; the destination is dead. */
    take_confirmed(queue, 2, "a", QUEUE_DEFERRED);
    idle(queue);
    g_assert_cmpint(queue_hold(queue, 2), ==, QUEUE_DONE);
    take_confirmed(queue, 2, "b", QUEUE_SETTLED);
    take_confirmed(queue, 3, "dead", QUEUE_DEFERRED);
    idle(queue);
    /* Settled is settled. */
    g_assert_cmpint(queue_confirm(queue, 2, "b"), ==, QUEUE_NO_SUCH);
    /* In hand, it comes when it is given back, if it is not settled then. */
    g_assert_cmpint(queue_confirm(queue, 4, "d"), ==, QUEUE_DONE);
    idle(queue);
    finish(queue, &work, QUEUE_DEFERRED);
    work = take(queue);
    g_assert_cmpuint(work.id, ==, 4);
    g_assert_cmpint(queue_confirm(queue, 4, "d"), ==, QUEUE_DONE);
    g_assert_true(finish(queue, &work, QUEUE_SETTLED));
    idle(queue);
    /* Claimed by an operator, the same. */
    g_assert_cmpint(queue_claim(queue, 2), ==, QUEUE_DONE);
    g_assert_cmpint(queue_confirm(queue, 2, "c"), ==, QUEUE_DONE);
    idle(queue);
    queue_unclaim(queue, 2, false);
    work = take(queue);
    g_assert_cmpstr(work.destination, ==, "c");
    g_assert_cmpint(queue_release(queue, 2), ==, QUEUE_DONE);
    finish(queue, &work, QUEUE_SETTLED);
    /* At the end it is all that is taken. */
    add(queue, 5, "e");
    queue_wind_down(queue);
    g_assert_cmpint(idle(queue), ==, -1);
    take_confirmed(queue, 5, "e", QUEUE_DEFERRED);
    g_assert_cmpint(queue_confirm(queue, 2, "a"), ==, QUEUE_DONE);
    g_assert_cmpint(queue_confirm(queue, 3, "dead"), ==, QUEUE_DONE);
    work = take(queue);
    other = take(queue);
    g_assert_cmpuint(work.id + other.id, ==, 5);
    finish(queue, &work, QUEUE_DEFERRED);
    finish(queue, &other, QUEUE_DEFERRED);
    g_assert_cmpint(idle(queue), ==, -1);
    queue_free(queue);
}

/* A destination that takes nothing for a while: no attempt, no failure, and others go on. */
static void test_postponed(void)
{
    struct queue *queue = make(2, 2);
    struct queue_work work;

    add(queue, 1, "a");
    work = take(queue);
    queue_postpone(queue, &work, MINUTE);
    g_assert_false(queue_finish(queue, &work));
    g_assert_cmpint(idle(queue), ==, MINUTE);
    add(queue, 2, "b");
    work = take(queue);
    g_assert_cmpuint(work.id, ==, 2);
    finish(queue, &work, QUEUE_SETTLED);
    /* It takes something earlier than expected. */
    queue_resume(queue, "b");
    queue_resume(queue, "a");
    work = take(queue);
    g_assert_cmpstr(work.destination, ==, "a");
    queue_postpone(queue, &work, MINUTE);
    g_assert_false(queue_finish(queue, &work));
    /* Its time is over: it is tried before it expires, however long that takes. */
    atomic_fetch_add(&now, 6 * DAY);
    for (int i = 0; i < 3; i++) {
        work = take(queue);
        g_assert_cmpint(work.kind, ==, QUEUE_DELIVER);
        g_assert_cmpuint(work.attempts, ==, 0);
        queue_postpone(queue, &work, MINUTE);
        g_assert_false(queue_finish(queue, &work));
        g_assert_cmpint(idle(queue), ==, MINUTE);
        atomic_fetch_add(&now, MINUTE);
    }
    work = take(queue);
    finish(queue, &work, QUEUE_SETTLED);
    g_assert_cmpuint(counts_of(queue).unreachable, ==, 0);
    g_assert_cmpuint(counts_of(queue).messages, ==, 0);
    queue_free(queue);
}

/* One that has no place waits while another finds the destination dead: that is known all the same. */
static void test_postponed_beside_failure(void)
{
    struct queue *queue = make(2, 2);
    struct queue_work first, second;

    add(queue, 1, "a");
    add(queue, 2, "a");
    first = take(queue);
    second = take(queue);
    queue_postpone(queue, &second, 1000);
    g_assert_false(queue_finish(queue, &second));
    g_assert_false(finish(queue, &first, QUEUE_UNREACHABLE));
    g_assert_cmpuint(counts_of(queue).unreachable, ==, 1);
    g_assert_cmpint(idle(queue), >=, 4 * MINUTE);
    queue_free(queue);
}

static void test_threads(void)
{
    struct shared shared = {.queue = make(3, 2)};
    GThread *threads[4];
    char name[16];
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("work", work_on, &shared);
    for (uint64_t id = 1; id <= 5000; id++) {
        g_snprintf(name, sizeof name, "d%u", (unsigned)(id % 50));
        add(shared.queue, id, name);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_assert_cmpuint(counts_of(shared.queue).messages, ==, 0);
    g_assert_cmpuint(counts_of(shared.queue).active, ==, 0);
    queue_free(shared.queue);
}

static void test_heap(void)
{
    enum { NODES = 500 };
    struct heap heap = {.nodes = NULL};
    struct heap_node nodes[NODES] = {{.place = 0}};
    GRand *rand = g_rand_new_with_seed(1);

    g_assert_null(heap_top(&heap));
    g_assert_cmpint(heap_reserve(&heap, NODES), ==, 0);
    for (int round = 0; round < 20000; round++) {
        struct heap_node *node = &nodes[g_rand_int_range(rand, 0, NODES)];
        if (g_rand_boolean(rand))
            heap_put(&heap, node, g_rand_int_range(rand, 0, 1000));
        else
            heap_remove(&heap, node);
        size_t inside = 0;
        for (int i = 0; i < NODES; i++) {
            inside += nodes[i].place != 0;
            if (nodes[i].place != 0 && heap_top(&heap)->key > nodes[i].key)
                g_test_fail();
        }
        g_assert_cmpuint(inside, ==, heap.count);
    }
    g_rand_free(rand);
    heap_free(&heap);
}

#define HANDS 6

/* Work that was taken and not returned yet, and the messages that are claimed. */
struct hands {
    struct queue_work work[HANDS];
    size_t count;
    uint64_t claimed; /* 0: none */
};

static void add_some(struct queue *queue, GRand *random, uint64_t id)
{
    static const char *const names[] = {"a", "b", "c", "d", "a", "b"};
    const int64_t at = atomic_load(&now);
    struct queue_destination destinations[3];
    struct queue_entry entry = {.id = id,
                                .expires_ms = at + g_rand_int_range(random, 0, 600) * MINUTE,
                                .notice_ms = at + g_rand_int_range(random, 0, 200) * MINUTE,
                                .destinations = destinations,
                                .count = (size_t)g_rand_int_range(random, 1, 4)};
    int first = g_rand_int_range(random, 0, 4);

    for (size_t i = 0; i < entry.count; i++)
        destinations[i] = (struct queue_destination){
            .name = names[first + (int)i],
            .next_try_ms = at + g_rand_int_range(random, -50, 50) * MINUTE};
    g_assert_cmpint(queue_add(queue, &entry), ==, 0);
}

/* Nobody else may work on it, except that deliveries and a notice do not disturb each other. */
static void take_some(struct queue *queue, struct hands *hands)
{
    struct queue_work work;
    int64_t wait;

    if (!queue_take(queue, &work, &wait))
        return;
    g_assert_cmpuint(hands->count, <, HANDS);
    g_assert_cmpuint(work.id, !=, hands->claimed);
    for (size_t i = 0; i < hands->count; i++) {
        const struct queue_work *other = &hands->work[i];
        if (other->id != work.id)
            continue;
        g_assert_true(work.kind != QUEUE_EXPIRE && other->kind != QUEUE_EXPIRE);
        g_assert_cmpstr(work.destination, !=, other->destination);
    }
    hands->work[hands->count++] = work;
}

static void return_some(struct queue *queue, struct hands *hands, GRand *random)
{
    if (hands->count == 0)
        return;
    size_t i = (size_t)g_rand_int_range(random, 0, (int)hands->count);
    struct queue_work work = hands->work[i];
    hands->work[i] = hands->work[--hands->count];
    if (work.kind == QUEUE_DELIVER && g_rand_int_range(random, 0, 6) == 0) {
        queue_postpone(queue, &work, g_rand_int_range(random, 1, 200000));
        queue_finish(queue, &work);
    } else {
        finish(queue, &work,
               (enum queue_outcome)g_rand_int_range(random, 0, work.kind == QUEUE_DELIVER ? 3 : 2));
    }
}

static void claim_some(struct queue *queue, struct hands *hands, GRand *random, uint64_t id)
{
    if (hands->claimed != 0) {
        queue_unclaim(queue, hands->claimed, g_rand_boolean(random));
        hands->claimed = 0;
    } else if (queue_claim(queue, id) == QUEUE_DONE) {
        hands->claimed = id;
    }
}

static void order_some(struct queue *queue, struct hands *hands, GRand *random, uint64_t id)
{
    static enum queue_answer (*const orders[])(struct queue *,
                                               uint64_t) = {queue_hold, queue_release, queue_retry};
    int which = g_rand_int_range(random, 0, 5);

    if (which < 3)
        orders[which](queue, id);
    else if (which == 3)
        queue_forgive(queue);
    else
        claim_some(queue, hands, random, id);
}

/* Whatever is ordered when, no work is given out twice, and no message stays behind. */
static void test_any_order(void)
{
    struct queue *queue = make(HANDS, 2);
    GRand *random = g_rand_new_with_seed(1);
    struct hands hands = {.count = 0};
    struct queue_work work;
    uint64_t last = 0;
    int64_t wait;

    for (int step = 0; step < 300000; step++) {
        uint64_t id = last > 60 ? last - (uint64_t)g_rand_int_range(random, 0, 60) : last;
        int what = g_rand_int_range(random, 0, 16);
        if (what < 2 && counts_of(queue).messages < 25)
            add_some(queue, random, ++last);
        else if (what < 7)
            take_some(queue, &hands);
        else if (what < 12)
            return_some(queue, &hands, random);
        else if (what < 14)
            order_some(queue, &hands, random, id);
        else
            atomic_fetch_add(&now, g_rand_int_range(random, 0, 20) * MINUTE);
    }
    while (hands.count > 0)
        return_some(queue, &hands, random);
    if (hands.claimed != 0)
        queue_unclaim(queue, hands.claimed, false);
    for (uint64_t id = 1; id <= last; id++)
        queue_release(queue, id);
    while (counts_of(queue).messages > 0) {
        if (queue_take(queue, &work, &wait)) {
            finish(queue, &work, QUEUE_SETTLED);
        } else {
            g_assert_cmpint(wait, >, 0);
            atomic_fetch_add(&now, wait);
        }
    }
    g_assert_cmpuint(counts_of(queue).destinations, ==, 0);
    g_assert_cmpuint(counts_of(queue).active, ==, 0);
    g_rand_free(random);
    queue_free(queue);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/queue/heap", test_heap);
    g_test_add_func("/queue/schedule", test_schedule);
    g_test_add_func("/queue/fairness", test_fairness);
    g_test_add_func("/queue/places", test_places);
    g_test_add_func("/queue/dead destination", test_dead_destination);
    g_test_add_func("/queue/recovery", test_recovery);
    g_test_add_func("/queue/new mail", test_new_mail);
    g_test_add_func("/queue/probes", test_probes);
    g_test_add_func("/queue/orders", test_orders);
    g_test_add_func("/queue/retry of a running try", test_retry_of_running);
    g_test_add_func("/queue/notice", test_notice);
    g_test_add_func("/queue/expiry in hand", test_expiry_in_hand);
    g_test_add_func("/queue/retry in hand", test_retry_in_hand);
    g_test_add_func("/queue/notice behind try", test_notice_behind_try);
    g_test_add_func("/queue/last try", test_last_try);
    g_test_add_func("/queue/confirmed", test_confirmed);
    g_test_add_func("/queue/postponed", test_postponed);
    g_test_add_func("/queue/postponed beside a failure", test_postponed_beside_failure);
    g_test_add_func("/queue/ten thousand", test_ten_thousand);
    g_test_add_func("/queue/threads", test_threads);
    g_test_add_func("/queue/any order", test_any_order);
    return g_test_run();
}
