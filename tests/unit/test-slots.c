/* tests/unit/test-slots.c - relay-in/backend: who gets which of max_sessions, and when; what the keeper and a
 * session's courier do with theirs
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay-in/backend-internal.h"
#include "relay-in/courier.h"

enum { SESSIONS = 4, WAITING = 8 };

struct waiting {
    struct wakeup wakeup; /* the first member */
    struct backend_slot slot;
    atomic_int woken; /* by the keeper too */
};

/* While this is not 0, connections fail with this errno. */
static atomic_int no_connection;

int __real_connect(int fd, const struct sockaddr *address, socklen_t len);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len);

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len)
{
    int failure = atomic_load(&no_connection);
    if (failure == 0)
        return __real_connect(fd, address, len);
    errno = failure;
    return -1;
}

struct bed {
    char *folder;
    struct config *config;
    struct backend_live_count *live_count;
    struct backend *backend;
    struct waiting all[WAITING];
};

static void wake(struct wakeup *wakeup)
{
    ((struct waiting *)wakeup)->woken++;
}

static void complain(void *context, const char *text)
{
    (void)context;
    g_error("%s", text);
}

static void bed_open_at(struct bed *bed, unsigned port, unsigned spares)
{
    g_autofree char *text = g_strdup_printf(
        "hostname = \"mx.example.com\";\n"
        "in = { domains = [ \"example.com\" ]; workers = 32; state = \"\";\n"
        "  backend = { hosts = [ \"127.0.0.1:%u\" ]; identity = \"xclient\"; tls = \"none\";\n"
        "    spares = %u; max_sessions = 4; }; };\n",
        port, spares);
    struct error err = {""};

    *bed = (struct bed){.folder = g_dir_make_tmp("postern-slots-XXXXXX", NULL)};
    g_autofree char *file = g_build_filename(bed->folder, "relay.conf", NULL);
    g_assert_true(g_file_set_contents(file, text, -1, NULL));
    bed->config = config_load(file, complain, NULL);
    g_assert_nonnull(bed->config);
    g_unlink(file);
    bed->live_count = backend_live_count_new();
    bed->backend = backend_new(bed->config, &bed->config->in.backend, false, bed->live_count, NULL,
                               NULL, &err);
    g_assert_nonnull(bed->backend);
    for (int i = 0; i < WAITING; i++)
        bed->all[i].wakeup.wake = wake;
}

/* Nobody listens there: the keeper never gets a connection. */
static void bed_open(struct bed *bed)
{
    bed_open_at(bed, 1, 0);
}

static void bed_close(struct bed *bed)
{
    for (int i = 0; i < WAITING; i++)
        backend_give_slot(bed->backend, &bed->all[i].slot);
    backend_unref(bed->backend);
    g_assert_true(backend_live_count_free(bed->live_count));
    config_unref(bed->config);
    g_rmdir(bed->folder);
    g_free(bed->folder);
}

/* Asks for a slot from this address. */
static int64_t ask(struct bed *bed, int number, const char *ip)
{
    struct waiting *waiting = &bed->all[number];
    struct address client;

    g_assert_cmpint(address_parse_ip(&client, ip), ==, 0);
    return backend_ask_slot(bed->backend, &waiting->slot, &client, true, &waiting->wakeup);
}

/* It is granted at once, or when the keeper's own brief attempt gives the slot back. */
static void expect_slot(struct bed *bed, int number, const char *ip)
{
    struct waiting *waiting = &bed->all[number];

    if (ask(bed, number, ip) != 0) {
        for (int i = 0; i < 10000 && waiting->woken == 0; i++)
            g_usleep(1000);
    }
    g_assert_cmpint(waiting->slot.state, ==, BACKEND_SLOT_HELD);
    waiting->woken = 0;
}

/* All slots are held: it has to wait. */
static void expect_wait(struct bed *bed, int number, const char *ip)
{
    const int64_t until_ms = ask(bed, number, ip);

    g_assert_cmpint(until_ms, >, deadline_now_ms() + 3000);
    g_assert_cmpint(bed->all[number].slot.state, !=, BACKEND_SLOT_HELD);
    g_assert_cmpint(bed->all[number].woken, ==, 0);
}

static void give(struct bed *bed, int number)
{
    backend_give_slot(bed->backend, &bed->all[number].slot);
    bed->all[number].woken = 0;
}

/* Slots go to waiters in the order of asking, each told once. Asking again does not lose the place. */
static void test_order(void)
{
    struct bed bed;
    bed_open(&bed);
    for (int i = 0; i < SESSIONS; i++)
        expect_slot(&bed, i, i % 2 == 0 ? "192.0.2.1" : "198.51.100.1");
    for (int i = SESSIONS; i < WAITING; i++)
        expect_wait(&bed, i, i % 2 == 0 ? "203.0.113.1" : "203.0.114.1");
    g_assert_true(backend_is_wanted(bed.backend));
    g_assert_false(backend_reserve(bed.backend));
    expect_wait(&bed, 5, "203.0.114.1");
    give(&bed, 6); /* it leaves */
    static const int order[] = {4, 5, 7};
    for (int i = 0; i < 3; i++) {
        give(&bed, i);
        for (int k = SESSIONS; k < WAITING; k++)
            g_assert_cmpint(bed.all[k].woken, ==, k == order[i]);
        g_assert_cmpint(bed.all[order[i]].slot.state, ==, BACKEND_SLOT_HELD);
        bed.all[order[i]].woken = 0;
        expect_slot(&bed, order[i], "203.0.113.1");
    }
    g_assert_false(backend_is_wanted(bed.backend));
    bed_close(&bed);
}

/* A network that has half of the slots comes after all others, but gets the rest if nobody else wants them. */
static void test_networks(void)
{
    struct bed bed;
    bed_open(&bed);
    for (int i = 0; i < SESSIONS; i++)
        expect_slot(&bed, i, i % 2 == 0 ? "192.0.2.1" : "192.0.2.77");
    expect_wait(&bed, 4, "192.0.2.3");
    expect_wait(&bed, 5, "198.51.100.1");
    expect_wait(&bed, 6, "2001:db8::1");
    give(&bed, 0);
    g_assert_cmpint(bed.all[5].woken, ==, 1);
    give(&bed, 1);
    g_assert_cmpint(bed.all[6].woken, ==, 1);
    g_assert_cmpint(bed.all[4].woken, ==, 0);
    give(&bed, 2);
    g_assert_cmpint(bed.all[4].woken, ==, 1);
    bed_close(&bed);
}

static int listen_somewhere(unsigned *port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    g_assert_cmpint(bind(fd, (struct sockaddr *)&in, len), ==, 0);
    g_assert_cmpint(listen(fd, 8), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&in, &len), ==, 0);
    *port = ntohs(in.sin_port);
    return fd;
}

/* Refuses the connections that come within so many milliseconds, until `enough`. Returns their number. */
static int refuse(int listener, int ms, int enough)
{
    static const char reply[] = "421 4.7.0 too many connections\r\n";
    int count = 0;

    for (int i = 0; i < ms && count < enough; i++) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) {
            g_usleep(1000);
            continue;
        }
        g_assert_cmpint(send(fd, reply, sizeof reply - 1, MSG_NOSIGNAL), ==, sizeof reply - 1);
        close(fd);
        count++;
    }
    return count;
}

/* A backend at its limit is up for one session and down for the next. The keeper connects at once when it is up
 * again, but not each time. */
static void test_recovery(void)
{
    const struct nexthop_capabilities seen = {.extensions = EXTENSION_XCLIENT};
    struct backend_health health = {.status = BACKEND_UNKNOWN};
    struct bed bed;
    unsigned port;
    int listener = listen_somewhere(&port), more = 0;

    bed_open_at(&bed, port, 2);
    g_assert_cmpint(refuse(listener, 20000, 1), ==, 1);
    for (int i = 0; i < 20000 && health.status != BACKEND_DOWN; i++) {
        backend_health(bed.backend, &health);
        g_usleep(1000);
    }
    g_assert_cmpint(health.status, ==, BACKEND_DOWN);
    for (int i = 0; i < 20; i++) {
        backend_note(bed.backend, false, "421");
        backend_learn(bed.backend, &seen, true);
        if (i == 0)
            g_assert_cmpint(refuse(listener, 10000, 1), ==, 1);
        else
            more += refuse(listener, 20, 1);
    }
    g_assert_cmpint(more, <, 5);
    bed_close(&bed);
    close(listener);
}

static bool is_woken(struct waiting *waiting)
{
    for (int i = 0; i < 10000 && waiting->woken == 0; i++)
        g_usleep(1000);
    return waiting->woken == 1;
}

static bool is_granted(struct bed *bed, int number)
{
    return is_woken(&bed->all[number]) && bed->all[number].slot.state == BACKEND_SLOT_HELD;
}

/* The next connection that comes; -1: none comes before `over`. */
static int let_in(int listener, const atomic_bool *over)
{
    int fd;

    while ((fd = accept(listener, NULL, NULL)) < 0 && !atomic_load(over))
        g_usleep(1000);
    return fd;
}

static void say(int fd, const char *text)
{
    send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/* The next command; false if the other side has hung up. */
static bool hear(int fd, char *line, size_t size)
{
    size_t len = 0;

    while (len + 1 < size && recv(fd, line + len, 1, 0) == 1 && line[len] != '\n')
        len++;
    line[len] = '\0';
    return len > 0;
}

#define OFFER "250-backend.example\r\n250 XCLIENT ADDR PORT NAME PROTO HELO\r\n"

/* The keeper takes the last slot for a spare. A session that begins to wait while it is being made gets it. */
static void test_spare_in_the_making(void)
{
    static const atomic_bool never = false;
    char line[512];
    struct bed bed;
    unsigned port;
    int listener = listen_somewhere(&port);

    bed_open_at(&bed, port, 1);
    int fd = let_in(listener, &never);
    for (int i = 0; i < SESSIONS - 1; i++)
        expect_slot(&bed, i, i % 2 == 0 ? "192.0.2.1" : "198.51.100.1");
    expect_wait(&bed, SESSIONS, "203.0.113.1");
    say(fd, "220 backend.example ESMTP\r\n");
    g_assert_true(hear(fd, line, sizeof line));
    g_assert_true(g_str_has_prefix(line, "EHLO "));
    say(fd, OFFER);
    g_assert_true(is_granted(&bed, SESSIONS));
    bed_close(&bed);
    close(fd);
    close(listener);
}

/* A backend that hangs up at a command. */
struct peer {
    int listener;
    const char *leaves_at;
    atomic_bool over;
};

static void converse(int fd, const char *leaves_at)
{
    char line[512];

    while (hear(fd, line, sizeof line) && !g_str_has_prefix(line, leaves_at))
        say(fd, g_str_has_prefix(line, "EHLO")      ? OFFER
                : g_str_has_prefix(line, "XCLIENT") ? "220 backend.example ESMTP\r\n"
                                                    : "250 2.0.0 Ok\r\n");
    close(fd);
}

static void *serve(void *argument)
{
    struct peer *peer = argument;
    int fd;

    while ((fd = let_in(peer->listener, &peer->over)) >= 0) {
        say(fd, "220 backend.example ESMTP\r\n");
        converse(fd, peer->leaves_at);
    }
    return NULL;
}

/* What a session gives its courier. */
struct journey {
    struct client_identity client;
    struct recipient recipient;
    struct envelope *envelope;
    struct courier_loan loan;
    struct courier *courier;
    struct reply reply;
};

static void journey_begin(struct journey *journey, struct bed *bed)
{
    *journey = (struct journey){
        .client = {.helo = "client.example",
                   .helo_is_valid = true,
                   .esmtp = true,
                   .session_id = "s"},
        .envelope = envelope_new(),
        .courier = courier_backend_new(bed->backend),
    };
    g_assert_cmpint(address_parse_ip(&journey->client.address, "192.0.2.99"), ==, 0);
    journey->client.local = journey->client.address;
    journey->envelope->client = &journey->client;
    journey->envelope->id = "t";
    journey->envelope->sender.is_null = true;
    journey->envelope->sender.mailbox[0] = '\0';
    strcpy(journey->recipient.path.mailbox, "a@example.com");
    g_assert_cmpint(stream_buffers_init(&journey->loan.buffers, 4096, 4096), ==, 0);
    journey->courier->ops->lend(journey->courier, &journey->loan);
}

/* Asks about the recipient, with or without a slot. */
static void journey_ask(struct journey *journey)
{
    const struct courier_ops *ops = journey->courier->ops;

    ops->send(journey->courier, journey->envelope, &journey->recipient, 1, COURIER_NOTHING);
    ops->recipient_reply(journey->courier, &journey->reply);
}

static void journey_end(struct journey *journey)
{
    journey->courier->ops->reset(journey->courier);
    journey->courier->ops->free(journey->courier);
    stream_buffers_free(&journey->loan.buffers);
    free(journey->envelope);
}

static int64_t journey_prepare(struct journey *journey, struct waiting *waiting)
{
    return journey->courier->ops->prepare(journey->courier, &journey->client, &journey->recipient,
                                          &waiting->wakeup);
}

static void *converse_by_thread(void *fd)
{
    converse(GPOINTER_TO_INT(fd), "QUIT");
    return NULL;
}

/* The first session that needs a connection while a spare is being made waits for it, until it is there, or fails,
 * or is late; the second does not. */
static void test_spare_awaited(const void *how)
{
    static const atomic_bool never = false;
    struct bed bed;
    struct journey first, second;
    pthread_t thread;
    unsigned port;
    int listener = listen_somewhere(&port);

    bed_open_at(&bed, port, 1);
    int fd = let_in(listener, &never);
    journey_begin(&first, &bed);
    journey_begin(&second, &bed);
    const int64_t until_ms = journey_prepare(&first, &bed.all[0]);
    g_assert_cmpint(until_ms, >, 0);
    g_assert_cmpint(journey_prepare(&second, &bed.all[1]), ==, 0);
    if (strcmp(how, "late") == 0) {
        while (deadline_now_ms() < until_ms)
            g_usleep(10000);
    } else {
        g_assert_cmpint(bed.all[0].woken, ==, 0);
        if (strcmp(how, "fails") == 0)
            shutdown(fd, SHUT_RDWR);
        else
            say(fd, "220 backend.example ESMTP\r\n");
        pthread_create(&thread, NULL, converse_by_thread, GINT_TO_POINTER(fd));
        g_assert_true(is_woken(&bed.all[0]));
    }
    g_assert_cmpint(bed.all[1].woken, ==, 0);
    g_assert_cmpint(journey_prepare(&first, &bed.all[0]), ==, 0);
    if (strcmp(how, "is there") == 0) {
        journey_ask(&first);
        g_assert_cmpint(first.reply.code, ==, 250);
    }
    journey_end(&second);
    journey_end(&first);
    if (strcmp(how, "late") == 0)
        close(fd);
    else
        pthread_join(thread, NULL);
    bed_close(&bed);
    close(listener);
}

/* A session that need not wait for a spare asks again with each recipient of its batch. It does not begin to wait
 * then: it may have a connection by that time. */
static void test_spare_begun_later(void)
{
    struct bed bed;
    struct journey journey;

    bed_open(&bed);
    journey_begin(&journey, &bed);
    while (journey_prepare(&journey, &bed.all[0]) > 0)
        g_usleep(1000);
    pthread_mutex_lock(&bed.backend->lock);
    bed.backend->making_since_ms = deadline_now_ms();
    pthread_mutex_unlock(&bed.backend->lock);
    g_assert_cmpint(journey_prepare(&journey, &bed.all[0]), ==, 0);
    g_assert_null(bed.backend->spare_waiter);
    journey_end(&journey);
    bed_close(&bed);
}

/* A session that has waited in vain is in nobody's way, even if it stays. */
static void test_waited_in_vain(void)
{
    struct bed bed;
    struct journey journey;

    bed_open(&bed);
    for (int i = 0; i < SESSIONS; i++)
        expect_slot(&bed, i, i % 2 == 0 ? "192.0.2.1" : "198.51.100.1");
    journey_begin(&journey, &bed);
    g_assert_cmpint(
        journey.courier->ops->prepare(journey.courier, &journey.client, &journey.recipient, NULL),
        >, 0);
    expect_wait(&bed, SESSIONS, "203.0.113.1");
    journey_ask(&journey);
    g_assert_cmpint(journey.reply.code, ==, 451);
    give(&bed, 0);
    g_assert_true(is_granted(&bed, SESSIONS));
    journey_end(&journey);
    bed_close(&bed);
}

/* A session that has lost its connection, and cannot get another, keeps no slot while its client talks on. */
static void test_lost(const void *leaves_at)
{
    struct peer peer = {.leaves_at = leaves_at};
    struct bed bed;
    struct journey journey;
    pthread_t thread;
    unsigned port;

    peer.listener = listen_somewhere(&port);
    pthread_create(&thread, NULL, serve, &peer);
    bed_open_at(&bed, port, 0);
    journey_begin(&journey, &bed);
    while (journey.courier->ops->prepare(journey.courier, &journey.client, &journey.recipient,
                                         NULL) > 0)
        g_usleep(1000);
    for (int i = 1; i < SESSIONS; i++)
        expect_slot(&bed, i, i % 2 == 0 ? "192.0.2.1" : "198.51.100.1");
    expect_wait(&bed, SESSIONS, "203.0.113.1");
    journey_ask(&journey);
    if (journey.reply.code == 250)
        journey.courier->ops->data_reply(journey.courier, &journey.reply);
    g_assert_cmpint(journey.reply.code, ==, 451);
    g_assert_true(is_granted(&bed, SESSIONS));
    journey_end(&journey);
    bed_close(&bed);
    atomic_store(&peer.over, true);
    pthread_join(thread, NULL);
    close(peer.listener);
}

/* A host that does not answer is left alone for a while, but not because we lack something. */
static void test_failures(void)
{
    static const struct {
        int failure;
        bool ours;
    } failures[] = {{EADDRNOTAVAIL, true}, {EMFILE, true}, {ECONNREFUSED, false}};
    struct backend_health health = {.status = BACKEND_UNKNOWN};
    struct bed bed;
    unsigned port;
    int listener = listen_somewhere(&port);

    atomic_store(&no_connection, EADDRNOTAVAIL);
    bed_open_at(&bed, port, 0);
    for (int i = 0; i < 10000 && health.status != BACKEND_DOWN; i++) { /* the keeper has tried */
        backend_health(bed.backend, &health);
        g_usleep(1000);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(failures); i++) {
        struct address host;
        struct error err;
        size_t next = 0;
        atomic_store(&no_connection, failures[i].failure);
        g_assert_cmpint(backend_connect(bed.backend, &next, &host, false, &err), ==, -1);
        atomic_store(&no_connection, 0);
        int fd = backend_connect(bed.backend, &next, &host, false, &err);
        g_assert_cmpint(fd >= 0, ==, failures[i].ours);
        if (fd >= 0)
            close(fd);
    }
    bed_close(&bed);
    close(listener);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/slots/order", test_order);
    g_test_add_func("/slots/networks", test_networks);
    g_test_add_func("/slots/recovery", test_recovery);
    g_test_add_func("/slots/failures", test_failures);
    g_test_add_func("/slots/spare in the making", test_spare_in_the_making);
    g_test_add_data_func("/slots/spare awaited is there", "is there", test_spare_awaited);
    g_test_add_data_func("/slots/spare awaited fails", "fails", test_spare_awaited);
    g_test_add_data_func("/slots/spare awaited is late", "late", test_spare_awaited);
    g_test_add_func("/slots/spare begun later", test_spare_begun_later);
    g_test_add_func("/slots/waited in vain", test_waited_in_vain);
    g_test_add_data_func("/slots/lost at RCPT", "RCPT", test_lost);
    g_test_add_data_func("/slots/lost at DATA", "DATA", test_lost);
    return g_test_run();
}
