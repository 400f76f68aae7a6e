/* tests/fault/spool-crash.c - the spool, killed and cut off from power at any instant
 *
 * A child stores, delivers and removes messages. In memory that outlives it, it records what the spool has promised and
 * what a receiver got. It is ended at every point on its way to the disk, or at a random time. Then the parent opens the
 * same folder and compares: no acknowledged message may be missing or changed, none whose delivery was recorded may be
 * queued again, and nothing may be left over. A receiver may get a message twice only if it had accepted it and the
 * record of that was not yet acknowledged; such cases are counted.
 *
 * POSTERN_CRASH_ROUNDS is the number of random rounds.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "disk-stop.h"
#include "spool/spool-internal.h"

#define SLOTS 20000
#define RECIPIENTS 3
#define THREADS 3
#define TEXT_MAX 20000
#define ROUNDS 150 /* with one spool */

enum slot_state {
    UNUSED,
    STARTED,   /* may or may not be in the spool */
    PROMISED,  /* spool_commit() succeeded, or it was found in the spool */
    WITHDRAWN, /* spool_abort() returned */
};

struct slot {
    atomic_int state;
    atomic_int received[RECIPIENTS]; /* how often the receiver accepted it */
    atomic_int recorded[RECIPIENTS]; /* the spool said that the record is on disk */
    atomic_bool taken;               /* a thread of the child is working on it */
    uint64_t id;
    bool found;
};

struct ledger {
    struct slot slots[SLOTS];
    atomic_uint used;
    atomic_int broken_promises; /* seen by the child: recorded, but delivered again */
    unsigned kills, unacknowledged, lost_by_power;
};

static struct ledger *ledger;
static char *folder, *queue_folder;

static struct spool *open_spool(void)
{
    struct spool_config config = {.folder = folder};
    struct error err = {""};
    struct spool *spool = spool_open(&config, false, &err);
    if (spool == NULL)
        g_error("%s", err.text);
    return spool;
}

/* The content of a slot's message. */
static size_t make_text(unsigned slot, char *text)
{
    size_t len = (size_t)g_snprintf(text, TEXT_MAX, "Subject: %u\r\n\r\n", slot);
    size_t body = (slot * 7919U) % (TEXT_MAX - 100);
    for (size_t i = 0; i < body; i++)
        text[len++] = i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : (char)('a' + (slot + i) % 26);
    memcpy(text + len, "\r\n", 2);
    return len + 2;
}

/* The child. */

static void make_envelope(unsigned slot, struct spool_envelope *envelope)
{
    char text[64];
    struct path path;
    size_t used;
    spool_envelope_init(envelope);
    envelope->arrived = 1;
    envelope->expires = 2;
    g_snprintf(text, sizeof text, "%u", slot);
    spool_envelope_set_text(&envelope->origin, text, sizeof text);
    for (unsigned i = 0; i < RECIPIENTS; i++) {
        g_snprintf(text, sizeof text, "<r%u@example.net>", i);
        path_parse_forward(&path, text, strlen(text), &used);
        spool_envelope_add(envelope, &path);
    }
}

static void store(struct spool *spool, bool withdraw)
{
    unsigned number = atomic_fetch_add(&ledger->used, 1);
    struct slot *slot = &ledger->slots[number];
    struct spool_message *message;
    struct spool_envelope envelope;
    char text[TEXT_MAX + 64];
    size_t len = make_text(number, text), third = len / 3;
    struct iovec iov[2] = {{text, third}, {text + third, third}};
    struct iovec rest = {text + 2 * third, len - 2 * third};

    g_assert_cmpuint(number, <, SLOTS);
    atomic_store(&slot->state, STARTED);
    make_envelope(number, &envelope);
    g_assert_cmpint(spool_begin(spool, SPOOL_FOR_CLIENT, 0, &message, NULL), ==, SPOOL_OK);
    g_assert_cmpint(spool_write(message, iov, 2, NULL), ==, SPOOL_OK);
    g_assert_cmpint(spool_write(message, &rest, 1, NULL), ==, SPOOL_OK);
    if (withdraw) {
        spool_abort(message);
        atomic_store(&slot->state, WITHDRAWN);
    } else {
        g_assert_cmpint(spool_commit(message, &envelope, NULL), ==, SPOOL_OK);
        slot->id = envelope.id;
        atomic_store(&slot->state, PROMISED);
    }
    spool_envelope_clear(&envelope);
}

static enum spool_edit_action record(void *context, struct spool_envelope *envelope)
{
    envelope->recipients[*(unsigned *)context].state = RECIPIENT_DELIVERED;
    return spool_envelope_left(envelope) > 0 ? SPOOL_EDIT_WRITE : SPOOL_EDIT_REMOVE;
}

/* Delivers to the first recipient that the envelope calls queued. False if the message is gone. */
static bool deliver(struct spool *spool, struct slot *slot)
{
    struct spool_envelope envelope;
    unsigned i = 0;

    if (spool_read(spool, slot->id, &envelope, NULL) != SPOOL_OK)
        return false;
    while (i < RECIPIENTS && envelope.recipients[i].state != RECIPIENT_QUEUED)
        i++;
    spool_envelope_clear(&envelope);
    g_assert_cmpuint(i, <, RECIPIENTS);
    if (atomic_load(&slot->recorded[i]))
        atomic_fetch_add(&ledger->broken_promises, 1);
    atomic_fetch_add(&slot->received[i], 1);
    g_assert_cmpint(spool_edit(spool, slot->id, record, &i, NULL), ==, SPOOL_OK);
    atomic_store(&slot->recorded[i], 1);
    return true;
}

static bool deliver_some(struct spool *spool, unsigned from)
{
    unsigned used = atomic_load(&ledger->used);
    for (unsigned i = 0; i < used; i++) {
        struct slot *slot = &ledger->slots[(from + i) % used];
        if (atomic_load(&slot->state) != PROMISED || atomic_load(&slot->recorded[RECIPIENTS - 1]) ||
            atomic_exchange(&slot->taken, true))
            continue;
        bool delivered = deliver(spool, slot);
        atomic_store(&slot->taken, false);
        if (delivered)
            return true;
    }
    return false;
}

static void *work_forever(void *data)
{
    unsigned seed = (unsigned)getpid() ^ (unsigned)(uintptr_t)&seed;
    for (;;) {
        unsigned choice = (unsigned)rand_r(&seed) % 16;
        if (choice < 4)
            store(data, false);
        else if (choice == 4)
            store(data, true);
        else if (!deliver_some(data, (unsigned)rand_r(&seed) % (atomic_load(&ledger->used) + 1)))
            store(data, false);
    }
    return NULL;
}

/* Does everything that the spool can do, once, in one thread. */
static void work_once(struct spool *spool)
{
    store(spool, false);
    store(spool, true);
    store(spool, false);
    for (unsigned i = 0; i < RECIPIENTS + 1; i++)
        g_assert_true(deliver_some(spool, 0));
    store(spool, false);
}

/* The parent. */

static void note_found(void *context, const struct spool_envelope *envelope)
{
    unsigned number = (unsigned)strtoul(envelope->origin, NULL, 10);
    struct slot *slot = &ledger->slots[number];
    char wanted[TEXT_MAX + 64];
    gsize len;
    char *got = NULL, digits[SPOOL_ID_LEN + 1];
    (void)context;

    g_assert_cmpuint(number, <, atomic_load(&ledger->used));
    g_assert_false(slot->found);
    slot->found = true;
    slot->id = envelope->id;
    g_assert_cmpint(atomic_load(&slot->state), !=, WITHDRAWN);
    char *path = g_strdup_printf("%s/%s.data", queue_folder, spool_id_format(envelope->id, digits));
    g_assert_true(g_file_get_contents(path, &got, &len, NULL));
    g_assert_cmpmem(got, len, wanted, make_text(number, wanted));
    g_assert_cmpuint(envelope->recipient_count, ==, RECIPIENTS);
    for (unsigned i = 0; i < RECIPIENTS; i++) {
        if (atomic_load(&slot->recorded[i]))
            g_assert_cmpint(envelope->recipients[i].state, ==, RECIPIENT_DELIVERED);
        if (envelope->recipients[i].state == RECIPIENT_DELIVERED)
            g_assert_cmpint(atomic_load(&slot->received[i]), >=, 1);
    }
    g_free(got);
    g_free(path);
}

static unsigned count_files(const char *path)
{
    GDir *dir = g_dir_open(path, 0, NULL);
    unsigned count = 0;
    while (g_dir_read_name(dir) != NULL)
        count++;
    g_dir_close(dir);
    return count;
}

static void judge_slot(struct slot *slot)
{
    bool everybody = true;
    for (unsigned i = 0; i < RECIPIENTS; i++)
        everybody = everybody && atomic_load(&slot->received[i]) > 0;
    if (atomic_load(&slot->state) == PROMISED && !slot->found && !everybody)
        g_error("a message that was acknowledged is gone, and not everybody has got it");
    if (atomic_load(&slot->state) == STARTED) {
        ledger->unacknowledged += slot->found;
        atomic_store(&slot->state, slot->found ? PROMISED : WITHDRAWN);
    }
    slot->found = false;
    atomic_store(&slot->taken, false);
}

static void verify(void)
{
    struct spool_scan_counts counts;
    struct error err = {""};
    struct spool *spool = open_spool();
    if (spool_scan(spool, note_found, NULL, &counts, &err) != 0)
        g_error("%s", err.text);
    spool_close(spool);
    g_assert_cmpuint(counts.quarantined, ==, 0);
    g_assert_cmpuint(count_files(queue_folder), ==, counts.messages * 2);
    for (unsigned i = 0; i < atomic_load(&ledger->used); i++)
        judge_slot(&ledger->slots[i]);
    g_assert_cmpint(atomic_load(&ledger->broken_promises), ==, 0);
}

static void reset(void)
{
    if (folder == NULL) {
        folder = disk_stop_folder("postern-crash");
        queue_folder = g_build_filename(folder, "queue", NULL);
    }
    spool_close(open_spool());
    GDir *dir = g_dir_open(queue_folder, 0, NULL);
    const char *name;
    while ((name = g_dir_read_name(dir)) != NULL) {
        char *path = g_build_filename(queue_folder, name, NULL);
        g_unlink(path);
        g_free(path);
    }
    g_dir_close(dir);
    memset(ledger->slots, 0, sizeof ledger->slots);
    atomic_store(&ledger->used, 0);
    ledger->kills = ledger->unacknowledged = ledger->lost_by_power = 0;
}

static unsigned duplicates(void)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < atomic_load(&ledger->used) * RECIPIENTS; i++) {
        int received = atomic_load(&ledger->slots[i / RECIPIENTS].received[i % RECIPIENTS]);
        sum += received > 1 ? (unsigned)received - 1 : 0;
    }
    return sum;
}

/* Runs work_once() up to point `at`. False if it ended before that. */
static bool run_to(unsigned at, bool power)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        struct spool *spool = open_spool();
        disk_stop_arm(queue_folder, at, power);
        work_once(spool);
        _exit(0);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return false;
    g_assert_true(WIFSIGNALED(status));
    g_assert_cmpint(WTERMSIG(status), ==, SIGKILL);
    ledger->kills++;
    return true;
}

static void every_point(bool power, unsigned times)
{
    unsigned points = 0, lost = 0, unacknowledged = 0;
    for (unsigned at = 1;; at++) {
        bool killed = false;
        for (unsigned i = 0; i < times; i++) {
            reset();
            killed = run_to(at, power);
            if (power)
                lost += disk_stop_lose(queue_folder, g_random_int());
            verify();
            unacknowledged += ledger->unacknowledged;
        }
        if (!killed)
            break;
        points++;
        g_assert_cmpuint(points, <, 5000);
    }
    g_test_message("%u points, %u times each; %u things lost with the power; %u messages kept "
                   "whose acknowledgement was not seen",
                   points, times, lost, unacknowledged);
    /* Far fewer would mean that the calls are no longer caught. */
    g_assert_cmpuint(points, >, 120);
    if (power)
        g_assert_cmpuint(lost, >, points);
}

static void test_kill_everywhere(void)
{
    every_point(false, 1);
}

static void test_power_everywhere(void)
{
    every_point(true, 4);
}

static void run_and_kill(void)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        struct spool *spool = open_spool();
        for (int i = 1; i < THREADS; i++)
            pthread_create(&thread, NULL, work_forever, spool);
        work_forever(spool);
    }
    g_usleep((gulong)g_random_int_range(500, 15000));
    kill(child, SIGKILL);
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    ledger->kills++;
}

/* Kills one spool so many times, and then delivers the rest undisturbed. */
static void kill_at_random(unsigned rounds)
{
    unsigned pending = 0;
    reset();
    for (unsigned i = 0; i < rounds; i++) {
        run_and_kill();
        verify();
    }
    struct spool *spool = open_spool();
    while (deliver_some(spool, 0))
        pending++;
    spool_close(spool);
    verify();
    g_assert_cmpuint(count_files(queue_folder), ==, 0);
    g_test_message("%u kills, %u messages, %u deliveries left for the last round, %u messages kept "
                   "whose acknowledgement was not seen, %u duplicates",
                   ledger->kills, atomic_load(&ledger->used), pending, ledger->unacknowledged,
                   duplicates());
    g_assert_cmpuint(duplicates(), <=, ledger->kills * THREADS);
    g_assert_cmpuint(atomic_load(&ledger->used), >, rounds);
}

static void test_kill_at_random(void)
{
    const char *wanted = g_getenv("POSTERN_CRASH_ROUNDS");
    unsigned rounds = wanted != NULL ? (unsigned)atoi(wanted) : ROUNDS;
    for (unsigned done = 0; done < rounds; done += ROUNDS)
        kill_at_random(MIN(rounds - done, ROUNDS));
}

/* Messages that are stored at the same time share a sync of the folder, but never one that began before their names were
 * there. If it fails, it fails for all of them. */

enum { GROUP = 8 };

static struct {
    GMutex lock;
    GCond changed;
    struct spool *spool;
    ino_t inode;
    unsigned syncs, most_new; /* of the folder; new names between two of them */
    unsigned names;           /* at the last sync */
    bool held, fails;
} group;

static unsigned waiting_for_sync(void)
{
    unsigned count = 0;
    pthread_mutex_lock(&group.spool->sync_lock);
    for (const struct spool_sync *sync = group.spool->to_sync; sync != NULL; sync = sync->next)
        count++;
    pthread_mutex_unlock(&group.spool->sync_lock);
    return count;
}

static unsigned count_envelopes(void)
{
    GDir *dir = g_dir_open(queue_folder, 0, NULL);
    const char *name;
    unsigned count = 0;
    while ((name = g_dir_read_name(dir)) != NULL)
        count += g_str_has_suffix(name, ".env");
    g_dir_close(dir);
    return count;
}

static int sync_group(int fd)
{
    struct stat stat;
    if (fstat(fd, &stat) != 0 || stat.st_ino != group.inode)
        return __real_fsync(fd);
    g_mutex_lock(&group.lock);
    unsigned names = count_envelopes();
    group.most_new = MAX(group.most_new, names - group.names);
    group.names = names;
    group.syncs++;
    g_cond_broadcast(&group.changed);
    while (group.held)
        g_cond_wait(&group.changed, &group.lock);
    bool fails = group.fails;
    g_mutex_unlock(&group.lock);
    errno = EIO;
    return fails ? -1 : __real_fsync(fd);
}

static gpointer store_one(gpointer data)
{
    struct spool_message *message;
    struct spool_envelope envelope;
    struct iovec iov = {(char *)"x\r\n", 3};
    (void)data;
    make_envelope(1, &envelope);
    g_assert_cmpint(spool_begin(group.spool, SPOOL_FOR_CLIENT, 0, &message, NULL), ==, SPOOL_OK);
    g_assert_cmpint(spool_write(message, &iov, 1, NULL), ==, SPOOL_OK);
    enum spool_result result = spool_commit(message, &envelope, NULL);
    spool_envelope_clear(&envelope);
    return GINT_TO_POINTER(result);
}

static void hold(bool held)
{
    g_mutex_lock(&group.lock);
    group.held = held;
    g_cond_broadcast(&group.changed);
    g_mutex_unlock(&group.lock);
}

static void await_sync(unsigned count)
{
    g_mutex_lock(&group.lock);
    while (group.syncs < count)
        g_cond_wait(&group.changed, &group.lock);
    g_mutex_unlock(&group.lock);
}

static void test_group(void)
{
    GThread *first, *rest[GROUP];
    struct stat stat;

    reset();
    group.spool = open_spool();
    g_assert_cmpint(fstat(group.spool->queue_fd, &stat), ==, 0);
    group.inode = stat.st_ino;
    disk_stop_sync = sync_group;
    for (unsigned round = 0; round < 2; round++) {
        unsigned before = group.syncs, stored = group.names;
        hold(true);
        first = g_thread_new("first", store_one, NULL);
        await_sync(before + 1);
        for (int i = 0; i < GROUP; i++)
            rest[i] = g_thread_new("rest", store_one, NULL);
        while (waiting_for_sync() < GROUP)
            g_usleep(1000);
        group.most_new = 0;
        group.fails = round == 1;
        hold(false);
        g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(first)), ==,
                        round == 1 ? SPOOL_BROKEN : SPOOL_OK);
        for (int i = 0; i < GROUP; i++)
            g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(rest[i])), ==,
                            round == 1 ? SPOOL_BROKEN : SPOOL_OK);
        g_assert_cmpuint(group.syncs, ==, before + 2);
        g_assert_cmpuint(count_envelopes(), ==, round == 1 ? stored : stored + GROUP + 1);
        if (round == 0)
            g_assert_cmpuint(group.most_new, ==, GROUP);
    }
    disk_stop_sync = NULL;
    spool_close(group.spool);
    reset();
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_level((enum log_level)0);
    disk_stop_init();
    ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert_true(ledger != MAP_FAILED);
    g_test_add_func("/spool-crash/stored together", test_group);
    g_test_add_func("/spool-crash/killed at every point", test_kill_everywhere);
    g_test_add_func("/spool-crash/power lost at every point", test_power_everywhere);
    g_test_add_func("/spool-crash/killed at random", test_kill_at_random);
    int result = g_test_run();
    static const char *const rest[] = {"queue", "quarantine", "lock", NULL};
    for (int i = 0; rest[i] != NULL; i++) {
        char *path = g_build_filename(folder, rest[i], NULL);
        g_remove(path);
        g_free(path);
    }
    g_rmdir(folder);
    return result;
}
