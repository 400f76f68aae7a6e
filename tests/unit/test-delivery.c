/* tests/unit/test-delivery.c - spool/delivery: from the spool to the next hops and the senders
 *
 * The hook plays the next hops, on the test's own clock, and counts what it was given.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "spool/delivery.h"
#include "spool/spool-internal.h"

#define MINUTE INT64_C(60000)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define START (INT64_C(1795247055) * 1000)
#define PER_TURN 2 /* recipients that turns.example takes in a minute */
#define TEXT "Subject: Hello\r\n\r\nBody\r\n"

struct fixture {
    char *folder;
    struct spool *spool;
    struct delivery_pool *pool;
    atomic_llong now, ahead; /* the monotonic clock; how far the time of day is ahead of it */
    atomic_int looks;        /* at the monotonic clock */
    atomic_int calls, delivered, unreached, at_once, most_at_once;
    atomic_int wanted_at_once; /* deliveries wait for each other until this many have begun */
    int64_t notice_ms;
    unsigned threads;
    atomic_int pause_us;
    GMutex lock;
    char *obstacle;     /* a folder to make as soon as a report is stored; NULL: none */
    GPtrArray *reports; /* the texts of the reports sent to the bounce route */
};

static int64_t read_clock(void *context)
{
    struct fixture *f = context;
    atomic_fetch_add(&f->looks, 1);
    return atomic_load(&f->now);
}

static int64_t read_time_of_day(void *context)
{
    struct fixture *f = context;
    return atomic_load(&f->now) + atomic_load(&f->ahead);
}

static void find_destination(void *context, const struct spool_envelope *envelope,
                             const struct path *recipient, char out[QUEUE_DESTINATION_MAX + 1])
{
    struct fixture *f = context;
    if (envelope->report && f->obstacle != NULL) {
        g_mkdir(f->obstacle, 0700);
        f->obstacle = NULL;
    }
    g_strlcpy(out, envelope->report ? "bounce route" : recipient->domain,
              QUEUE_DESTINATION_MAX + 1);
}

static void take_report(struct fixture *f, const struct delivery_job *job)
{
    char text[8192];
    ssize_t len = read(job->data_fd, text, sizeof text - 1);
    g_assert_cmpint(len, ==, job->envelope->size);
    text[len] = '\0';
    g_mutex_lock(&f->lock);
    g_ptr_array_add(f->reports,
                    g_strdup_printf("TO %s\n%s", job->envelope->recipients[0].path.mailbox, text));
    g_mutex_unlock(&f->lock);
}

/* The local part decides the outcome: "ok", "nodsn", "bad", or "greyN", deferred N times. */
static void play(struct delivery_job *job, size_t i)
{
    const struct spool_recipient *recipient = &job->envelope->recipients[job->recipients[i]];
    struct delivery_result *result = &job->results[i];
    const char *local = recipient->path.mailbox;
    unsigned times = g_str_has_prefix(local, "grey") ? (unsigned)atoi(local + 4) : 0;
    g_strlcpy(result->remote, "mx.test [192.0.2.1]", sizeof result->remote);
    result->outcome = DELIVERY_DONE;
    result->relayed = g_str_has_prefix(local, "nodsn");
    g_strlcpy(result->reply, "250 2.0.0 Taken", sizeof result->reply);
    if (g_str_has_prefix(local, "bad")) {
        result->outcome = DELIVERY_REFUSED;
        g_strlcpy(result->reply, "550 5.1.1 Unknown", sizeof result->reply);
    } else if (recipient->attempts < times) {
        result->outcome = DELIVERY_DEFERRED;
        g_strlcpy(result->reply, "451 4.7.1 Later", sizeof result->reply);
    }
}

static void deliver(void *context, struct delivery_job *job)
{
    struct fixture *f = context;
    int at_once = atomic_fetch_add(&f->at_once, 1) + 1;
    if (at_once > atomic_load(&f->most_at_once))
        atomic_store(&f->most_at_once, at_once);
    atomic_fetch_add(&f->calls, 1);
    for (int i = 0; i < 10000 && atomic_load(&f->most_at_once) < atomic_load(&f->wanted_at_once);
         i++)
        g_usleep(1000);
    if (atomic_load(&f->pause_us) > 0)
        g_usleep((gulong)atomic_load(&f->pause_us));
    if (strcmp(job->destination, "dead.example") == 0) {
        atomic_fetch_add(&f->unreached, 1);
        g_strlcpy(job->results[0].reply, "451 4.4.1 No route to host", 64);
        atomic_fetch_sub(&f->at_once, 1);
        return;
    }
    job->reached = true;
    delivery_owe(job);
    if (strcmp(job->destination, "bounce route") == 0)
        take_report(f, job);
    size_t most = strcmp(job->destination, "turns.example") == 0 ? PER_TURN : job->count;
    job->postponed_ms = job->count > most ? MINUTE : 0;
    for (size_t i = 0; i < job->count && i < most; i++) {
        play(job, i);
        if (job->results[i].outcome == DELIVERY_DONE && !job->envelope->sender.is_null)
            atomic_fetch_add(&f->delivered, 1);
    }
    atomic_fetch_sub(&f->at_once, 1);
}

static void start(struct fixture *f)
{
    static const int64_t schedule[] = {5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 40 * MINUTE,
                                       HOUR,       2 * HOUR,    4 * HOUR};
    struct spool_config spool_config = {.folder = f->folder};
    struct spool_scan_counts counts;
    struct error err = {""};
    struct delivery_config config = {
        .threads = f->threads,
        .destination_concurrency = 2,
        .retry_count = G_N_ELEMENTS(schedule),
        .answer_ms = 8 * HOUR,
        .lifetime_ms = 5 * DAY,
        .notice_ms = f->notice_ms,
        .return_max = 1000,
        .hostname = "relay.example.com",
        .hooks = {.deliver = deliver,
                  .destination = find_destination,
                  .now_ms = read_clock,
                  .epoch_now_ms = read_time_of_day},
        .context = f,
    };
    memcpy(config.retry_ms, schedule, sizeof schedule);
    f->spool = config.spool = spool_open(&spool_config, false, &err);
    if (f->spool == NULL)
        g_error("%s", err.text);
    f->pool = delivery_start(&config, &counts, &err);
    if (f->pool == NULL)
        g_error("%s", err.text);
}

static void stop(struct fixture *f)
{
    delivery_stop(f->pool);
    spool_close(f->spool);
}

static void set_up(struct fixture *f, gconstpointer data)
{
    (void)data;
    log_set_level((enum log_level)0);
    f->folder = g_dir_make_tmp("postern-delivery-XXXXXX", NULL);
    f->reports = g_ptr_array_new_with_free_func(g_free);
    f->threads = 4;
    atomic_store(&f->now, START);
    start(f);
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    static const char *const rest[] = {"queue", "quarantine", "lock"};
    (void)data;
    stop(f);
    for (size_t i = 0; i < G_N_ELEMENTS(rest); i++) {
        char *path = g_build_filename(f->folder, rest[i], NULL);
        g_assert_cmpint(g_remove(path), ==, 0);
        g_free(path);
    }
    g_rmdir(f->folder);
    g_free(f->folder);
    g_ptr_array_free(f->reports, TRUE);
}

/* Recipients are separated by spaces. "+s" after one asks for a success notice, "+n" for none. They are to be tried
 * at this time; 0: at once. */
static void submit_for(struct fixture *f, const char *sender, const char *recipients,
                       int64_t next_try)
{
    struct spool_message *message;
    struct spool_envelope envelope;
    struct iovec iov = {(char *)TEXT, strlen(TEXT)};
    size_t used;
    gchar **names = g_strsplit(recipients, " ", 0);

    spool_envelope_init(&envelope);
    envelope.arrived = read_time_of_day(f) / 1000;
    envelope.expires = envelope.arrived + 5 * DAY / 1000;
    g_assert_true(path_parse_reverse(&envelope.sender, sender, strlen(sender), &used));
    for (int i = 0; names[i] != NULL; i++) {
        struct path path;
        gchar **parts = g_strsplit(names[i], "+", 2);
        char *text = g_strdup_printf("<%s>", parts[0]);
        g_assert_true(path_parse_forward(&path, text, strlen(text), &used));
        struct spool_recipient *recipient = spool_envelope_add(&envelope, &path);
        recipient->next_try = next_try;
        if (parts[1] != NULL)
            recipient->notify = *parts[1] == 's' ? NOTIFY_SUCCESS : NOTIFY_NEVER;
        g_free(text);
        g_strfreev(parts);
    }
    g_assert_cmpint(spool_begin(f->spool, SPOOL_FOR_CLIENT, 0, &message, NULL), ==, SPOOL_OK);
    g_assert_cmpint(spool_write(message, &iov, 1, NULL), ==, SPOOL_OK);
    g_assert_cmpint(spool_commit(message, &envelope, NULL), ==, SPOOL_OK);
    g_assert_cmpint(delivery_accept(f->pool, &envelope), ==, 0);
    spool_envelope_clear(&envelope);
    g_strfreev(names);
}

static void submit(struct fixture *f, const char *sender, const char *recipients)
{
    submit_for(f, sender, recipients, 0);
}

static size_t messages(struct fixture *f)
{
    struct queue_counts counts;
    queue_count(delivery_queue(f->pool), &counts);
    return counts.messages;
}

static bool is_at_work(struct fixture *f)
{
    struct queue_counts counts;
    queue_count(delivery_queue(f->pool), &counts);
    return counts.active > 0;
}

/* Lets time pass, and does what is due then. */
static void advance(struct fixture *f, int64_t by)
{
    int looks = atomic_load(&f->looks);
    atomic_fetch_add(&f->now, by);
    delivery_wake(f->pool);
    for (int i = 0; i < 50000 && (atomic_load(&f->looks) == looks || is_at_work(f)); i++)
        g_usleep(100);
}

/* Likewise in steps of ten minutes, until at most `left` messages remain or `most` has passed. */
static void pass(struct fixture *f, int64_t most, size_t left)
{
    for (int64_t passed = 0; passed < most && messages(f) > left; passed += 10 * MINUTE)
        advance(f, 10 * MINUTE);
}

/* Waits in real time for work that is due at once. */
static void settle(struct fixture *f, size_t left)
{
    for (int i = 0; i < 5000 && messages(f) != left; i++)
        g_usleep(1000);
    g_assert_cmpuint(messages(f), ==, left);
}

static void await_calls(struct fixture *f, int wanted)
{
    for (int i = 0; i < 5000 && atomic_load(&f->calls) < wanted; i++)
        g_usleep(1000);
    g_assert_cmpint(atomic_load(&f->calls), >=, wanted);
}

static guint reports(struct fixture *f)
{
    g_mutex_lock(&f->lock);
    guint count = f->reports->len;
    g_mutex_unlock(&f->lock);
    return count;
}

static void await_reports(struct fixture *f, guint wanted)
{
    for (int i = 0; i < 5000 && reports(f) < wanted; i++)
        g_usleep(1000);
    g_assert_cmpuint(reports(f), ==, wanted);
}

static unsigned queue_files(struct fixture *f)
{
    char *path = g_build_filename(f->folder, "queue", NULL);
    GDir *dir = g_dir_open(path, 0, NULL);
    unsigned count = 0;
    while (g_dir_read_name(dir) != NULL)
        count++;
    g_dir_close(dir);
    g_free(path);
    return count;
}

static void assert_report(struct fixture *f, const char *part, const char *other)
{
    bool found = false;
    for (guint i = 0; i < f->reports->len; i++) {
        const char *text = f->reports->pdata[i];
        found = found || (strstr(text, part) != NULL && strstr(text, other) != NULL);
    }
    if (!found)
        g_error("no report has both \"%s\" and \"%s\"", part, other);
}

static void test_outcomes(struct fixture *f, gconstpointer data)
{
    (void)data;
    submit(f, "<alice@example.com>", "ok@a.example bad@a.example ok@b.example grey2@b.example");
    submit(f, "<alice@example.com>", "nodsn@c.example+s nodsn@d.example");
    submit(f, "<alice@example.com>", "bad@c.example+n");
    submit(f, "<>", "bad@c.example");
    settle(f, 1);
    pass(f, HOUR, 0);
    settle(f, 0);
    g_assert_cmpint(atomic_load(&f->delivered), ==, 5);
    g_assert_cmpuint(queue_files(f), ==, 0);
    g_assert_cmpuint(reports(f), ==, 2);
    assert_report(f, "TO alice@example.com\n", "Final-Recipient: rfc822; bad@a.example\r\n");
    assert_report(f, "Action: relayed", "Final-Recipient: rfc822; nodsn@c.example\r\n");
}

static void test_dead_destination(struct fixture *f, gconstpointer data)
{
    (void)data;
    for (int i = 0; i < 20; i++)
        submit(f, "<alice@example.com>", "ok@dead.example");
    submit(f, "<>", "ok@dead.example");
    submit(f, "<alice@example.com>", "ok@a.example");
    settle(f, 21);
    pass(f, 4 * DAY, 0);
    g_assert_cmpuint(messages(f), ==, 21);
    g_assert_cmpuint(reports(f), ==, 0);
    pass(f, 2 * DAY, 0);
    settle(f, 0);
    g_assert_cmpint(atomic_load(&f->delivered), ==, 1);
    g_assert_cmpint(atomic_load(&f->unreached), <, 60);
    g_assert_cmpuint(reports(f), ==, 20);
    for (guint i = 0; i < f->reports->len; i++) {
        g_assert_nonnull(strstr(f->reports->pdata[i], "Status: 5.4.7"));
        g_assert_nonnull(strstr(f->reports->pdata[i], "451 4.4.1 No route to host"));
    }
    g_assert_cmpuint(queue_files(f), ==, 0);
}

static void test_notice(struct fixture *f, gconstpointer data)
{
    (void)data;
    stop(f);
    f->notice_ms = 4 * HOUR;
    start(f);
    submit(f, "<alice@example.com>", "ok@dead.example grey99@a.example ok@a.example");
    pass(f, 3 * HOUR, 0);
    g_assert_cmpuint(reports(f), ==, 0);
    pass(f, 2 * HOUR, 0);
    await_reports(f, 1);
    settle(f, 1);
    assert_report(f, "Action: delayed", "Final-Recipient: rfc822; ok@dead.example\r\n");
    assert_report(f, "Will-Retry-Until:", "Final-Recipient: rfc822; grey99@a.example\r\n");
    /* It is not sent again, even after a restart. */
    stop(f);
    start(f);
    pass(f, DAY, 0);
    settle(f, 1);
    g_assert_cmpuint(reports(f), ==, 1);
    pass(f, 5 * DAY, 0);
    settle(f, 0);
    g_assert_cmpuint(reports(f), ==, 2);
}

static void test_restart(struct fixture *f, gconstpointer data)
{
    (void)data;
    submit(f, "<alice@example.com>", "ok@a.example grey4@a.example ok@b.example");
    for (int i = 0; i < 5000 && atomic_load(&f->delivered) < 2; i++)
        g_usleep(1000);
    stop(f);
    start(f);
    for (int i = 0; i < 12 && messages(f) > 0; i++) {
        pass(f, HOUR, 0);
        stop(f);
        start(f);
    }
    settle(f, 0);
    /* Nobody gets it twice, and the attempts keep counting. */
    g_assert_cmpint(atomic_load(&f->delivered), ==, 3);
    g_assert_cmpint(atomic_load(&f->calls), ==, 6);
}

static void test_places(struct fixture *f, gconstpointer data)
{
    (void)data;
    atomic_store(&f->pause_us, 2000);
    for (int i = 0; i < 20; i++)
        submit(f, "<alice@example.com>", "ok@a.example");
    settle(f, 0);
    g_assert_cmpint(atomic_load(&f->most_at_once), <=, 2);
    atomic_store(&f->wanted_at_once, 4);
    for (int i = 0; i < 20; i++)
        submit(f, "<alice@example.com>", "ok@a.example ok@b.example ok@c.example");
    settle(f, 0);
    g_assert_cmpint(atomic_load(&f->most_at_once), ==, 4);
    g_assert_cmpint(atomic_load(&f->delivered), ==, 80);
}

/* While no file can be written, delivered mail is not delivered again, and is recorded later. */
static void test_unrecorded(struct fixture *f, gconstpointer data)
{
    (void)data;
    struct rlimit before, none;
    signal(SIGXFSZ, SIG_IGN);
    atomic_store(&f->pause_us, 100000);
    submit(f, "<alice@example.com>", "ok@a.example grey1@a.example bad@a.example");
    getrlimit(RLIMIT_FSIZE, &before);
    none = before;
    none.rlim_cur = 0;
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &none), ==, 0);
    await_calls(f, 1);
    atomic_store(&f->pause_us, 0);
    pass(f, 3 * HOUR, 0);
    g_assert_cmpuint(messages(f), ==, 1);
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &before), ==, 0);
    pass(f, DAY, 0);
    settle(f, 0);
    g_assert_cmpint(atomic_load(&f->delivered), ==, 2);
    g_assert_cmpuint(reports(f), ==, 1);
    assert_report(f, "TO alice@example.com\n", "Final-Recipient: rfc822; bad@a.example\r\n");
    g_assert_cmpuint(queue_files(f), ==, 0);
}

static uint64_t only_id(struct fixture *f)
{
    uint64_t id = 0;
    char *path = g_build_filename(f->folder, "queue", NULL);
    GDir *dir = g_dir_open(path, 0, NULL);
    const char *name = g_dir_read_name(dir);
    g_assert_nonnull(name);
    g_assert_true(spool_id_parse(name, SPOOL_ID_LEN, &id));
    g_dir_close(dir);
    g_free(path);
    return id;
}

static void test_retry_now(struct fixture *f, gconstpointer data)
{
    (void)data;
    submit(f, "<alice@example.com>", "grey1@a.example");
    await_calls(f, 1);
    for (int i = 0; i < 5000 && is_at_work(f); i++)
        g_usleep(1000);
    queue_retry(delivery_queue(f->pool), only_id(f));
    settle(f, 0);
    g_assert_cmpint(atomic_load(&f->delivered), ==, 1);
}

/* Repeats the order while the message is being worked on. */
static enum queue_answer discard(struct fixture *f, uint64_t id, bool bounce)
{
    enum queue_answer answer = QUEUE_BUSY;
    for (int i = 0; i < 5000 && answer == QUEUE_BUSY; i++) {
        g_usleep(1000);
        answer = delivery_discard(f->pool, id, NULL, bounce, NULL);
    }
    return answer;
}

static void test_orders(struct fixture *f, gconstpointer data)
{
    (void)data;
    submit(f, "<alice@example.com>", "grey9@a.example grey9@b.example+n");
    uint64_t id = only_id(f);
    g_assert_cmpint(delivery_hold(f->pool, 7, NULL), ==, QUEUE_NO_SUCH);
    g_assert_cmpint(delivery_hold(f->pool, id, NULL), ==, QUEUE_DONE);
    /* It stays held through a restart and past its lifetime. */
    stop(f);
    start(f);
    int calls = atomic_load(&f->calls);
    pass(f, 6 * DAY, 0);
    g_assert_cmpuint(messages(f), ==, 1);
    g_assert_cmpint(atomic_load(&f->calls), ==, calls);
    atomic_store(&f->now, START);
    g_assert_cmpint(delivery_release(f->pool, id, NULL), ==, QUEUE_DONE);
    pass(f, HOUR, 0);
    g_assert_cmpint(atomic_load(&f->calls), >, calls);
    g_assert_cmpint(discard(f, id, true), ==, QUEUE_DONE);
    settle(f, 0);
    g_assert_cmpuint(reports(f), ==, 1);
    assert_report(f, "Status: 5.0.0", "Final-Recipient: rfc822; grey9@a.example\r\n");
    g_assert_null(strstr(f->reports->pdata[0], "grey9@b.example"));
    g_assert_cmpint(discard(f, id, true), ==, QUEUE_NO_SUCH);
    submit(f, "<alice@example.com>", "ok@dead.example");
    g_assert_cmpint(discard(f, only_id(f), false), ==, QUEUE_DONE);
    g_assert_cmpuint(queue_files(f), ==, 0);
    g_assert_cmpuint(reports(f), ==, 1);
}

static void spoil_data(struct fixture *f, uint64_t id, const char *text)
{
    char digits[SPOOL_ID_LEN + 1];
    g_autofree char *name = g_strdup_printf("%s.data", spool_id_format(id, digits));
    g_autofree char *path = g_build_filename(f->folder, "queue", name, NULL);
    g_assert_cmpint(g_unlink(path), ==, 0);
    if (text != NULL)
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

/* If a message can no longer be delivered, its sender is told at the next try. */
static void test_lost_data(struct fixture *f, gconstpointer data)
{
    (void)data;
    for (int i = 0; i < 2; i++) {
        submit(f, "<alice@example.com>", "grey1@a.example");
        await_calls(f, 1 + 2 * i);
        spoil_data(f, only_id(f), i == 0 ? NULL : "half");
        pass(f, HOUR, 0);
        settle(f, 0);
        await_reports(f, (guint)i + 1);
        g_assert_cmpuint(queue_files(f), ==, 0);
    }
    g_assert_cmpint(atomic_load(&f->calls), ==, 4); /* two of them for the reports */
    assert_report(f, "554 5.3.0", "Final-Recipient: rfc822; grey1@a.example\r\n");
    char *quarantine = g_build_filename(f->folder, "quarantine", NULL);
    GDir *dir = g_dir_open(quarantine, 0, NULL);
    g_autofree char *kept = g_build_filename(quarantine, g_dir_read_name(dir), NULL);
    g_dir_close(dir);
    g_free(quarantine);
    g_assert_cmpint(g_unlink(kept), ==, 0);
}

/* After a downtime longer than a message may live, it is tried before it is given up. */
static void test_downtime(struct fixture *f, gconstpointer data)
{
    (void)data;
    submit(f, "<alice@example.com>", "grey1@a.example");
    submit(f, "<alice@example.com>", "grey9@b.example");
    await_calls(f, 2);
    stop(f);
    atomic_fetch_add(&f->now, 6 * DAY);
    start(f);
    settle(f, 0);
    g_assert_cmpint(atomic_load(&f->delivered), ==, 1);
    await_reports(f, 1);
    assert_report(f, "Status: 5.4.7", "Final-Recipient: rfc822; grey9@b.example\r\n");
}

/* Setting the clock changes no wait, neither of old messages nor of new ones. */
static void test_clock_set(struct fixture *f, gconstpointer data)
{
    (void)data;
    static const int64_t jumps[] = {2 * DAY, -20 * DAY, 20 * DAY};
    for (size_t i = 0; i < G_N_ELEMENTS(jumps); i++) {
        int before = atomic_load(&f->delivered), calls = atomic_load(&f->calls);
        submit(f, "<alice@example.com>", "grey1@a.example");
        atomic_fetch_add(&f->ahead, jumps[i]);
        submit(f, "<alice@example.com>", "grey1@a.example");
        await_calls(f, calls + 2);
        pass(f, HOUR, 0);
        settle(f, 0);
        g_assert_cmpint(atomic_load(&f->delivered), ==, before + 2);
        g_assert_cmpuint(reports(f), ==, 0);
    }
    /* Nor does a restart afterwards: the next try has corrected the envelope. */
    int tries = atomic_load(&f->calls);
    submit(f, "<alice@example.com>", "grey99@a.example");
    await_calls(f, tries + 1);
    atomic_fetch_add(&f->ahead, 20 * DAY);
    pass(f, HOUR, 0);
    await_calls(f, tries + 2);
    stop(f);
    start(f);
    pass(f, 2 * DAY, 0);
    g_assert_cmpuint(messages(f), ==, 1);
    g_assert_cmpuint(reports(f), ==, 0);
    pass(f, 4 * DAY, 0);
    settle(f, 0);
    await_reports(f, 1);
    /* A message stored while the clock was ahead is tried, and lives no longer than others. */
    int calls = atomic_load(&f->calls);
    submit(f, "<alice@example.com>", "grey9@a.example");
    await_calls(f, calls + 1);
    stop(f);
    atomic_fetch_sub(&f->ahead, 30 * DAY);
    start(f);
    pass(f, HOUR, 0);
    await_calls(f, calls + 2);
    pass(f, 6 * DAY, 0);
    settle(f, 0);
}

/* The sender of a message that was stored while the clock was ahead is told of its delay all the same. */
static void test_notice_clock_set(struct fixture *f, gconstpointer data)
{
    (void)data;
    stop(f);
    f->notice_ms = 4 * HOUR;
    start(f);
    submit(f, "<alice@example.com>", "grey99@b.example");
    await_calls(f, 1);
    stop(f);
    atomic_fetch_sub(&f->ahead, 30 * DAY);
    start(f);
    pass(f, 5 * HOUR, 0);
    await_reports(f, 1);
    assert_report(f, "Action: delayed", "Final-Recipient: rfc822; grey99@b.example\r\n");
    pass(f, 5 * DAY, 0);
    settle(f, 0);
}

/* A late answer may take longer than any wait for a retry. No delivery stands by for it. */
static void test_late_answer(struct fixture *f, gconstpointer data)
{
    (void)data;
    submit_for(f, "<alice@example.com>", "ok@a.example",
               read_time_of_day(f) / 1000 + 7 * HOUR / 1000);
    pass(f, 6 * HOUR, 0);
    g_assert_cmpint(atomic_load(&f->calls), ==, 0);
    pass(f, 2 * HOUR, 0);
    settle(f, 0);
    /* What is later still was written while the clock was ahead. */
    submit_for(f, "<alice@example.com>", "ok@a.example",
               read_time_of_day(f) / 1000 + 9 * HOUR / 1000);
    settle(f, 0);
}

/* An order that fails on the disk leaves the message in the queue. */
static void test_unreadable(struct fixture *f, gconstpointer data)
{
    (void)data;
    char digits[SPOOL_ID_LEN + 1];
    struct error err = {""};
    submit(f, "<alice@example.com>", "grey1@a.example");
    uint64_t id = only_id(f);
    g_autofree char *name = g_strdup_printf("%s.env", spool_id_format(id, digits));
    g_autofree char *path = g_build_filename(f->folder, "queue", name, NULL);
    g_autofree char *away = g_build_filename(f->folder, "away", NULL);
    await_calls(f, 1);
    g_assert_cmpint(g_rename(path, away), ==, 0);
    g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    for (int i = 0; i < 5000 && err.text[0] == '\0'; i++)
        g_assert_cmpint(delivery_discard(f->pool, id, NULL, false, &err), ==, QUEUE_BUSY);
    g_assert_cmpuint(messages(f), ==, 1);
    g_assert_cmpint(g_rmdir(path), ==, 0);
    g_assert_cmpint(g_rename(away, path), ==, 0);
    pass(f, HOUR, 0);
    settle(f, 0);
    g_assert_cmpint(atomic_load(&f->delivered), ==, 1);
}

/* With a slow disk, the work is not over with the next hop's reply: a daemon that ended before the record
 * is written would deliver again. */
static void test_owed(struct fixture *f, gconstpointer data)
{
    (void)data;
    for (int i = 0; i < SPOOL_EDIT_LOCKS; i++)
        lock_take(&f->spool->edit_locks[i]);
    submit(f, "<alice@example.com>", "ok@a.example");
    for (int i = 0; i < 5000 && atomic_load(&f->delivered) < 1; i++)
        g_usleep(1000);
    delivery_wind_down(f->pool);
    g_assert_false(delivery_wait(f->pool, deadline_in_ms(200)));
    g_assert_cmpuint(delivery_unconfirmed(f->pool), ==, 1);
    for (int i = 0; i < SPOOL_EDIT_LOCKS; i++)
        lock_drop(&f->spool->edit_locks[i]);
    g_assert_true(delivery_wait(f->pool, deadline_in_ms(5000)));
    g_assert_cmpuint(delivery_unconfirmed(f->pool), ==, 0);
    g_assert_cmpuint(queue_files(f), ==, 0);
}

/* At the end nothing is begun, but what is confirmed is still set down. */
static void test_confirmed_at_end(struct fixture *f, gconstpointer data)
{
    (void)data;
    submit(f, "<alice@example.com>", "grey1@a.example grey1@b.example");
    await_calls(f, 2);
    uint64_t id = only_id(f);
    delivery_wind_down(f->pool);
    atomic_fetch_add(&f->now, HOUR);
    delivery_wake(f->pool);
    g_assert_cmpint(delivery_confirm(f->pool, id, "a.example"), ==, QUEUE_DONE);
    g_assert_cmpint(delivery_confirm(f->pool, id, "c.example"), ==, QUEUE_NO_SUCH);
    await_calls(f, 3);
    g_assert_true(delivery_wait(f->pool, deadline_in_ms(60000)));
    g_assert_cmpint(atomic_load(&f->calls), ==, 3);
    g_assert_cmpint(atomic_load(&f->delivered), ==, 1);
    stop(f);
    start(f);
    pass(f, HOUR, 0);
    settle(f, 0);
    g_assert_cmpint(atomic_load(&f->delivered), ==, 2);
}

/* A destination takes a message in parts: what has not been tried waits for its turn, without an attempt. */
static void test_parts(struct fixture *f, gconstpointer data)
{
    (void)data;
    struct spool_envelope envelope;

    submit(f, "<alice@example.com>",
           "ok1@turns.example ok2@turns.example ok3@turns.example grey1@turns.example");
    await_calls(f, 1);
    advance(f, 0);
    g_assert_cmpint(spool_read(f->spool, only_id(f), &envelope, NULL), ==, SPOOL_OK);
    g_assert_cmpuint(spool_envelope_left(&envelope), ==, 2);
    g_assert_cmpint(envelope.recipients[1].state, ==, RECIPIENT_DELIVERED);
    g_assert_cmpuint(envelope.recipients[2].attempts, ==, 0);
    g_assert_null(envelope.recipients[2].reply);
    spool_envelope_clear(&envelope);
    g_assert_cmpint(atomic_load(&f->calls), ==, 1);
    advance(f, MINUTE);
    await_calls(f, 2);
    advance(f, 0);
    g_assert_cmpint(atomic_load(&f->delivered), ==, 3);
    pass(f, HOUR, 0);
    settle(f, 0);
    g_assert_cmpint(atomic_load(&f->calls), ==, 3);
    g_assert_cmpint(atomic_load(&f->delivered), ==, 4);
    /* Those who go first are put off: all wait as after any attempt. */
    submit(f, "<alice@example.com>", "grey1@turns.example grey1b@turns.example ok@turns.example");
    await_calls(f, 4);
    advance(f, 0);
    advance(f, 2 * MINUTE);
    g_assert_cmpint(atomic_load(&f->calls), ==, 4);
    pass(f, HOUR, 0);
    settle(f, 0);
    g_assert_cmpint(atomic_load(&f->calls), ==, 6);
    g_assert_cmpint(atomic_load(&f->delivered), ==, 7);
    g_assert_cmpuint(queue_files(f), ==, 0);
}

/* The last recipient of a live message was refused and the sender told, but that could not be recorded.
 * The record is made later; nobody is asked again or told twice. */
static void test_refused_unrecorded(struct fixture *f, gconstpointer data)
{
    (void)data;
    struct spool_message *message;
    struct spool_envelope envelope;
    struct path path;
    char id[SPOOL_ID_LEN + 1];
    size_t used;
    const char *sender = "<alice@example.com>", *bad = "<bad@a.example>";

    spool_envelope_init(&envelope);
    envelope.arrived = START / 1000;
    envelope.expires = envelope.arrived + 5 * DAY / 1000;
    g_assert_true(path_parse_reverse(&envelope.sender, sender, strlen(sender), &used));
    g_assert_true(path_parse_forward(&path, bad, strlen(bad), &used));
    spool_envelope_add(&envelope, &path)->state = RECIPIENT_FAILED;
    g_assert_cmpint(spool_begin(f->spool, SPOOL_FOR_CLIENT, 0, &message, NULL), ==, SPOOL_OK);
    g_autofree char *name =
        g_strdup_printf("%s.env.new", spool_id_format(spool_message_id(message), id));
    g_autofree char *obstacle = g_build_filename(f->folder, "queue", name, NULL);
    f->obstacle = obstacle;
    g_assert_cmpint(delivery_store(f->pool, message, &envelope, NULL), ==, SPOOL_OK);
    g_assert_cmpint(g_rmdir(obstacle), ==, 0);
    pass(f, HOUR, 0);
    settle(f, 0);
    g_assert_cmpuint(queue_files(f), ==, 0);
    g_assert_cmpuint(reports(f), ==, 1);
    g_assert_cmpint(atomic_load(&f->calls), ==, 1); /* for the report */
    spool_envelope_clear(&envelope);
}

/* The message expired and the sender was told, but it could not be removed. It goes later; nobody is told twice. */
static void test_expired_unremoved(struct fixture *f, gconstpointer data)
{
    (void)data;
    char id[SPOOL_ID_LEN + 1];

    submit(f, "<alice@example.com>", "ok@dead.example ok+n@dead.example");
    g_autofree char *name = g_strdup_printf("%s.env.new", spool_id_format(only_id(f), id));
    g_autofree char *obstacle = g_build_filename(f->folder, "queue", name, NULL);
    pass(f, 4 * DAY, 0);
    f->obstacle = obstacle;
    for (int hours = 0; hours < 30; hours++)
        advance(f, HOUR);
    await_reports(f, 1);
    g_assert_cmpuint(messages(f), ==, 1);
    g_assert_cmpint(g_rmdir(obstacle), ==, 0);
    pass(f, DAY, 0);
    settle(f, 0);
    g_assert_cmpuint(reports(f), ==, 1);
    g_assert_cmpuint(queue_files(f), ==, 0);
}

#define ADD(name, function)                                                                        \
    g_test_add("/delivery/" name, struct fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("outcomes", test_outcomes);
    ADD("dead destination", test_dead_destination);
    ADD("notice", test_notice);
    ADD("restart", test_restart);
    ADD("places", test_places);
    ADD("unrecorded", test_unrecorded);
    ADD("retry now", test_retry_now);
    ADD("orders", test_orders);
    ADD("lost data", test_lost_data);
    ADD("downtime", test_downtime);
    ADD("clock set", test_clock_set);
    ADD("clock set, notice", test_notice_clock_set);
    ADD("late answer", test_late_answer);
    ADD("unreadable", test_unreadable);
    ADD("owed", test_owed);
    ADD("parts", test_parts);
    ADD("confirmed at the end", test_confirmed_at_end);
    ADD("refused, unrecorded", test_refused_unrecorded);
    ADD("expired, unremoved", test_expired_unremoved);
    return g_test_run();
}
