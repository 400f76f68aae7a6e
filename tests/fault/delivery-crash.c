/* tests/fault/delivery-crash.c - relay-out's delivery under load, killed again and again
 *
 * A child stores messages in the spool and delivers them with several threads to a receiver, which counts them in memory
 * that outlives the child. The child is killed at a random time or at a random call on its way to the disk, and the next
 * child continues with what it finds. At the end every acknowledged message must have reached its recipients, or a
 * report its sender. A second copy is allowed only if a child was killed between the receiver's reply and the record of
 * it; such copies are counted.
 *
 * POSTERN_CRASH_ROUNDS is the number of rounds.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "disk-stop.h"
#include "spool/delivery.h"

#define SLOTS 50000
#define THREADS 4
#define ROUNDS 100   /* between two complete checks */
#define IN_FLIGHT 40 /* messages that a child keeps waiting */

/* Each message has four recipients: one who gets it, one at another destination who gets it, one who gets it at the
 * second attempt, and one who does not exist, so that the sender must get a report. */
enum { OK_HERE, OK_ELSEWHERE, GREY, BAD, RECIPIENTS };

struct slot {
    atomic_bool started, acknowledged;
    atomic_int received[RECIPIENTS]; /* for BAD: reports to the sender */
};

struct ledger {
    struct slot slots[SLOTS];
    atomic_uint used;
    atomic_int nonsense; /* deliveries that no message asked for */
};

static struct ledger *ledger;
static char *folder, *queue_folder;

static void find_destination(void *context, const struct spool_envelope *envelope,
                             const struct path *recipient, char out[QUEUE_DESTINATION_MAX + 1])
{
    (void)context;
    g_strlcpy(out, envelope->report ? "bounce" : recipient->domain, QUEUE_DESTINATION_MAX + 1);
}

/* The number is in the sender's address: "s123@example.com"; a report goes back to it. */
static struct slot *slot_of(const struct delivery_job *job)
{
    const char *address = job->envelope->report ? job->envelope->recipients[0].path.mailbox
                                                : job->envelope->sender.mailbox;
    unsigned number = (unsigned)strtoul(address + 1, NULL, 10);
    if (*address != 's' || number >= atomic_load(&ledger->used)) {
        atomic_fetch_add(&ledger->nonsense, 1);
        return &ledger->slots[SLOTS - 1];
    }
    return &ledger->slots[number];
}

static void receive(struct delivery_job *job, size_t i, struct slot *slot)
{
    const struct spool_recipient *recipient = &job->envelope->recipients[job->recipients[i]];
    struct delivery_result *result = &job->results[i];
    int which = job->envelope->report ? BAD : recipient->path.mailbox[1] - '0';

    if (which == GREY && recipient->attempts == 0) {
        g_strlcpy(result->reply, "451 4.7.1 Later", sizeof result->reply);
    } else if (which == BAD && !job->envelope->report) {
        result->outcome = DELIVERY_REFUSED;
        g_strlcpy(result->reply, "550 5.1.1 Unknown", sizeof result->reply);
    } else {
        result->outcome = DELIVERY_DONE;
        g_strlcpy(result->reply, "250 2.0.0 Taken", sizeof result->reply);
        atomic_fetch_add(&slot->received[which], 1);
    }
}

static void deliver(void *context, struct delivery_job *job)
{
    char text[64] = "";
    struct slot *slot = slot_of(job);
    (void)context;
    job->reached = true;
    if (read(job->data_fd, text, sizeof text - 1) <= 0 ||
        !g_str_has_prefix(text, job->envelope->report ? "Date: " : "Subject: "))
        atomic_fetch_add(&ledger->nonsense, 1);
    for (size_t i = 0; i < job->count; i++)
        receive(job, i, slot);
}

static struct delivery_pool *start(struct spool **spool)
{
    struct spool_config spool_config = {.folder = folder};
    struct spool_scan_counts counts;
    struct error err = {""};
    struct delivery_config config = {
        .threads = THREADS,
        .destination_concurrency = THREADS,
        .retry_ms = {5},
        .retry_count = 1,
        .lifetime_ms = 432000000,
        .hostname = "relay.example.com",
        .hooks = {.deliver = deliver, .destination = find_destination},
    };
    *spool = config.spool = spool_open(&spool_config, false, &err);
    if (*spool == NULL)
        g_error("%s", err.text);
    struct delivery_pool *pool = delivery_start(&config, &counts, &err);
    if (pool == NULL)
        g_error("%s", err.text);
    if (counts.quarantined != 0)
        g_error("%u files were quarantined", counts.quarantined);
    return pool;
}

static void submit(struct spool *spool, struct delivery_pool *pool)
{
    static const char *const recipients[] = {"<r0@a.example>", "<r1@b.example>", "<r2@a.example>",
                                             "<r3@b.example>"};
    unsigned number = atomic_fetch_add(&ledger->used, 1);
    struct slot *slot = &ledger->slots[number];
    char sender[64], text[64];
    struct spool_message *message;
    struct spool_envelope envelope;
    struct path path;
    size_t used;

    g_assert_cmpuint(number, <, SLOTS - 1);
    atomic_store(&slot->started, true);
    spool_envelope_init(&envelope);
    envelope.arrived = g_get_real_time() / 1000000;
    envelope.expires = envelope.arrived + 432000;
    g_snprintf(sender, sizeof sender, "<s%u@example.com>", number);
    path_parse_reverse(&envelope.sender, sender, strlen(sender), &used);
    for (int i = 0; i < RECIPIENTS; i++) {
        path_parse_forward(&path, recipients[i], strlen(recipients[i]), &used);
        spool_envelope_add(&envelope, &path);
    }
    g_snprintf(text, sizeof text, "Subject: %u\r\n\r\nBody\r\n", number);
    struct iovec iov = {text, strlen(text)};
    g_assert_cmpint(spool_begin(spool, SPOOL_FOR_CLIENT, 0, &message, NULL), ==, SPOOL_OK);
    g_assert_cmpint(spool_write(message, &iov, 1, NULL), ==, SPOOL_OK);
    g_assert_cmpint(spool_commit(message, &envelope, NULL), ==, SPOOL_OK);
    atomic_store(&slot->acknowledged, true);
    g_assert_cmpint(delivery_accept(pool, &envelope), ==, 0);
    spool_envelope_clear(&envelope);
}

static size_t waiting(struct delivery_pool *pool)
{
    struct queue_counts counts;
    queue_count(delivery_queue(pool), &counts);
    return counts.messages;
}

static void work_until_killed(unsigned stop_at)
{
    struct spool *spool;
    disk_stop_arm(queue_folder, stop_at, false);
    struct delivery_pool *pool = start(&spool);
    for (;;) {
        if (waiting(pool) < IN_FLIGHT)
            submit(spool, pool);
        else
            g_usleep(200);
    }
}

static void run_round(void)
{
    int status;
    bool at_a_call = g_random_boolean();
    unsigned stop_at = at_a_call ? (unsigned)g_random_int_range(1, 600) : 0;
    pid_t child = fork();
    if (child == 0)
        work_until_killed(stop_at);
    if (!at_a_call) {
        g_usleep((gulong)g_random_int_range(500, 25000));
        kill(child, SIGKILL);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFSIGNALED(status));
    g_assert_cmpint(WTERMSIG(status), ==, SIGKILL);
}

/* No child is killed any more: the rest is delivered. */
static void drain(void)
{
    struct spool *spool;
    struct delivery_pool *pool = start(&spool);
    gint64 until = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;
    while (waiting(pool) > 0 && g_get_monotonic_time() < until)
        g_usleep(1000);
    g_assert_cmpuint(waiting(pool), ==, 0);
    delivery_stop(pool);
    spool_close(spool);
}

static void judge(unsigned rounds)
{
    unsigned acknowledged = 0, twice = 0;
    for (unsigned i = 0; i < atomic_load(&ledger->used); i++) {
        const struct slot *slot = &ledger->slots[i];
        acknowledged += atomic_load(&slot->acknowledged);
        for (int k = 0; k < RECIPIENTS; k++) {
            int received = atomic_load(&slot->received[k]);
            if (atomic_load(&slot->acknowledged) && received == 0)
                g_error("message %u was acknowledged, and recipient %d has not got it", i, k);
            twice += received > 1 ? (unsigned)received - 1 : 0;
        }
    }
    GDir *dir = g_dir_open(queue_folder, 0, NULL);
    g_assert_null(g_dir_read_name(dir));
    g_dir_close(dir);
    g_assert_cmpint(atomic_load(&ledger->nonsense), ==, 0);
    g_test_message("%u kills, %u messages acknowledged, %u deliveries or reports twice", rounds,
                   acknowledged, twice);
    g_assert_cmpuint(acknowledged, >, rounds);
    /* Here, a delivery of one message to one destination has two recipients. */
    g_assert_cmpuint(twice, <=, rounds * THREADS * 2);
}

static void test_under_load(void)
{
    const char *wanted = g_getenv("POSTERN_CRASH_ROUNDS");
    unsigned rounds = wanted != NULL ? (unsigned)atoi(wanted) : ROUNDS;
    for (unsigned done = 0; done < rounds; done += ROUNDS) {
        unsigned batch = MIN(rounds - done, ROUNDS);
        memset(ledger, 0, sizeof *ledger);
        for (unsigned i = 0; i < batch; i++)
            run_round();
        drain();
        judge(batch);
    }
}

/* An envelope that the disk does not return at the start may be readable later: then it is delivered. */
static void test_unreadable(void)
{
    struct spool *spool;

    memset(ledger, 0, sizeof *ledger);
    struct delivery_pool *pool = start(&spool);
    delivery_wind_down(pool);
    submit(spool, pool);
    delivery_stop(pool);
    spool_close(spool);
    atomic_store(&disk_stop_unreadable, true);
    pool = start(&spool);
    for (int i = 0; i < 20; i++) {
        g_usleep(1000);
        delivery_wake(pool);
        g_assert_cmpuint(waiting(pool), ==, 1);
    }
    atomic_store(&disk_stop_unreadable, false);
    for (int i = 0; i < 5000 && waiting(pool) > 0; i++)
        g_usleep(1000);
    g_assert_cmpuint(waiting(pool), ==, 0);
    delivery_stop(pool);
    spool_close(spool);
    judge(0);
}

int main(int argc, char **argv)
{
    static const char *const rest[] = {"queue", "quarantine", "lock"};
    g_test_init(&argc, &argv, NULL);
    log_set_level((enum log_level)0);
    disk_stop_init();
    ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert_true(ledger != MAP_FAILED);
    folder = disk_stop_folder("postern-delivery-crash");
    queue_folder = g_build_filename(folder, "queue", NULL);
    struct spool_config config = {.folder = folder};
    spool_close(spool_open(&config, false, NULL));
    g_test_add_func("/delivery-crash/unreadable for a while", test_unreadable);
    g_test_add_func("/delivery-crash/under load", test_under_load);
    int result = g_test_run();
    for (size_t i = 0; i < G_N_ELEMENTS(rest); i++) {
        char *path = g_build_filename(folder, rest[i], NULL);
        g_remove(path);
        g_free(path);
    }
    g_rmdir(folder);
    return result;
}
