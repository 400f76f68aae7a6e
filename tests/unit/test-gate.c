/* tests/unit/test-gate.c - server/gate with the real session and a courier that accepts everything
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "dns-server.h"
#include "net/dial.h"
#include "server/connection.h"
#include "server/gate.h"

/* While this is set, the next hop does not answer and holds its worker. */
static atomic_bool holding;
static atomic_bool holding_looks; /* the same for who looks whether anybody waits */
static atomic_int held_workers;
static atomic_int sends; /* to the next hop, so far */

/* Until this time a recipient must wait, unless the waiter is woken. */
static _Atomic(int64_t) granted_at_ms;
static _Atomic(struct wakeup *) waiter;

/* The local address of the last client that sent. */
static pthread_mutex_t told_lock = PTHREAD_MUTEX_INITIALIZER;
static struct address told_local;

static int64_t take_prepare(struct courier *c, const struct client_identity *i,
                            const struct recipient *r, struct wakeup *wakeup)
{
    (void)i, (void)r;
    int64_t until_ms = atomic_load(&granted_at_ms);
    c->wants_slot = true;
    atomic_store(&waiter, wakeup);
    return deadline_now_ms() < until_ms ? until_ms : 0;
}

static void take_send(struct courier *c, const struct envelope *e, const struct recipient *r,
                      size_t n, enum courier_data d)
{
    (void)c, (void)r, (void)n, (void)d;
    pthread_mutex_lock(&told_lock);
    told_local = e->client->local;
    pthread_mutex_unlock(&told_lock);
    atomic_fetch_add(&sends, 1);
    atomic_fetch_add(&held_workers, 1);
    while (atomic_load(&holding))
        g_usleep(1000);
    atomic_fetch_sub(&held_workers, 1);
}
static void take_rcpt(struct courier *c, struct reply *reply)
{
    (void)c;
    reply_own(reply, REPLY_OK);
}
static void take_data(struct courier *c, struct reply *reply)
{
    (void)c;
    reply_own(reply, REPLY_START_DATA);
}
static int take_write(struct courier *c, const struct iovec *iov, int count)
{
    (void)c, (void)iov, (void)count;
    return 0;
}
static void take_nothing(struct courier *c)
{
    (void)c;
}
/* What it holds goes to the one who waits, if anybody does. */
static bool is_wanted(struct courier *c)
{
    (void)c;
    bool wanted = deadline_now_ms() < atomic_load(&granted_at_ms);
    atomic_fetch_add(&held_workers, 1);
    while (atomic_load(&holding_looks))
        g_usleep(1000);
    atomic_fetch_sub(&held_workers, 1);
    return wanted;
}
static void take_free(struct courier *c)
{
    if (is_wanted(c)) {
        atomic_store(&granted_at_ms, 0);
        wakeup_call(atomic_load(&waiter));
    }
    free(c);
}

static struct courier *take_new(void *context, const void *route)
{
    static const struct courier_ops ops = {
        .prepare = take_prepare,
        .is_wanted = is_wanted,
        .send = take_send,
        .recipient_reply = take_rcpt,
        .data_reply = take_data,
        .write = take_write,
        .end = take_rcpt,
        .reset = take_nothing,
        .abort = take_nothing,
        .free = take_free,
    };
    struct courier *courier = calloc(1, sizeof *courier);
    (void)context, (void)route;
    courier->ops = &ops;
    return courier;
}

static enum own_reply take_check(void *context, struct path *recipient, const void **route)
{
    (void)context, (void)recipient, (void)route;
    return REPLY_OK;
}

static enum own_reply take_serves(void *context, const struct address *client)
{
    (void)context, (void)client;
    return REPLY_OK;
}

static void take_offer(void *context, struct session_offer *offer)
{
    (void)context, (void)offer;
}

static atomic_int services;
static struct counters counted;

static void service_destroy(struct service *service)
{
    atomic_fetch_sub(&services, 1);
    cidr_set_free((struct cidr_set *)service->private_clients);
    cidr_set_free((struct cidr_set *)service->proxy_hosts);
    cidr_set_free((struct cidr_set *)service->allow);
    cidr_set_free((struct cidr_set *)service->deny);
    cidr_set_free((struct cidr_set *)service->rules.xclient_hosts);
    dnsbl_unref(service->dnsbl);
    free((char *)service->rules.hostname);
    free(service);
}

static struct service *make_service(const char *hostname)
{
    struct service *service = calloc(1, sizeof *service);
    struct cidr_set *loopback = cidr_set_new();
    cidr_set_add(loopback, "127.0.0.0/8", NULL);
    atomic_init(&service->references, 1);
    service->rules = (struct session_rules){
        .hostname = strdup(hostname),
        .message_size = 100000,
        .recipients = 100,
        .errors = 10,
        .junk_commands = 10000,
        .refused_recipients = 3,
        .received_headers = 100,
        .park_after_ms = 20,
        .command_timeout_ms = 5000,
        .line_timeout_ms = 1000,
        .data_timeout_ms = 5000,
        .drain_octets = 100000,
        .drain_timeout_ms = 1000,
        .counters = &counted,
        .policy = {.check_recipient = take_check,
                   .serves = take_serves,
                   .offer = take_offer,
                   .courier_new = take_new},
    };
    service->connections = 2000;
    service->limits.connections = 2000;
    service->idle_timeout_ms = 60000;
    service->private_clients = loopback;
    service->refuse_private = true;
    service->destroy = service_destroy;
    atomic_fetch_add(&services, 1);
    return service;
}

struct bed {
    struct gate *gate;
    struct gate_listener listener;
    struct address address;
    pthread_t thread;
    atomic_bool over;
};

static void *run(void *gate)
{
    gate_run(gate);
    return NULL;
}

static void bed_open_at(struct bed *bed, const char *listen, struct service *service,
                        unsigned workers, unsigned queue)
{
    struct error err = {""};
    struct sockaddr_storage sockaddr;
    socklen_t len = sizeof sockaddr;
    memset(&counted, 0, sizeof counted);
    bed->listener = (struct gate_listener){.fd = -1};
    listener_parse(&bed->listener.spec, listen, &err);
    bed->listener.spec.address.port = 0;
    bed->listener.fd = listener_open(&bed->listener.spec, &err);
    g_assert_cmpstr(err.text, ==, "");
    getsockname(bed->listener.fd, (struct sockaddr *)&sockaddr, &len);
    address_from_sockaddr(&bed->address, (struct sockaddr *)&sockaddr);
    bed->gate = gate_new(&bed->listener, 1, service, workers, queue, &err);
    g_assert_nonnull(bed->gate);
    service_unref(service);
    pthread_create(&bed->thread, NULL, run, bed->gate);
}

static void bed_open(struct bed *bed, struct service *service, unsigned workers, unsigned queue)
{
    bed_open_at(bed, "127.0.0.1:1", service, workers, queue);
}

static void bed_close(struct bed *bed)
{
    gate_drain(bed->gate, 1000);
    pthread_join(bed->thread, NULL);
    g_assert_cmpuint(gate_counts(bed->gate).working, ==, 0);
    gate_free(bed->gate);
    close(bed->listener.fd);
    g_assert_cmpint(atomic_load(&services), ==, 0);
}

static int dial(struct bed *bed)
{
    struct error err = {""};
    int fd = dial_connect(&bed->address, NULL, 0, deadline_in_ms(2000), &err);
    struct timeval limit = {10, 0};
    g_assert_cmpstr(err.text, ==, "");
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

/* The last line of the next reply; "" if the connection is closed. */
static char *hear(int fd)
{
    /* Not a GString: its memory, shared between threads, confuses the thread sanitizer. */
    char line[1024];
    size_t len = 0;
    while (len + 1 < sizeof line && recv(fd, line + len, 1, 0) == 1) {
        if (line[len++] != '\n')
            continue;
        if (len > 3 && line[3] == ' ')
            break;
        len = 0;
    }
    line[len] = '\0';
    return strdup(line);
}

static void expect(int fd, const char *text, const char *reply)
{
    if (text != NULL)
        g_assert_cmpint(send(fd, text, strlen(text), MSG_NOSIGNAL), ==, (gssize)strlen(text));
    g_autofree char *heard = hear(fd);
    if (!g_str_has_prefix(heard, reply))
        g_error("sent %s, expected %s, got %s", text != NULL ? text : "nothing", reply, heard);
}

/* Waits until the gate has done a round, with everything that it was told before. */
static void come_round(struct bed *bed)
{
    struct gate_session any;
    gate_list(bed->gate, &any, 1, deadline_in_ms(10000));
}

/* Lets time pass until the gate has handled what is due. It may be in a round that began earlier, and it
 * acts on what it saw in one round at the start of the next. */
static void pass(struct bed *bed, int64_t ms)
{
    come_round(bed);
    clock_advance_ms(ms);
    for (int i = 0; i < 3; i++)
        come_round(bed);
}

/* Takes the caller's reference. */
static void change_service(struct bed *bed, struct service *service)
{
    gate_set_service(bed->gate, service);
    service_unref(service);
    come_round(bed);
}

/* Waits until this many connections are with the workers, queued or not. */
static void await_working(struct bed *bed, unsigned wanted)
{
    for (int i = 0; i < 10000 && gate_counts(bed->gate).working != wanted; i++)
        g_usleep(1000);
    g_assert_cmpuint(gate_counts(bed->gate).working, ==, wanted);
}

static void await_connections(struct bed *bed, unsigned wanted)
{
    for (int i = 0; i < 10000 && gate_counts(bed->gate).connections != wanted; i++)
        g_usleep(1000);
    g_assert_cmpuint(gate_counts(bed->gate).connections, ==, wanted);
}

/* Waits until the gate has a connection at that stage. */
static void await_stage(struct bed *bed, const char *stage)
{
    for (int i = 0; i < 10000; i++) {
        struct gate_session sessions[8];
        size_t count =
            gate_list(bed->gate, sessions, G_N_ELEMENTS(sessions), deadline_in_ms(10000));
        for (size_t k = 0; k < count; k++) {
            if (strcmp(sessions[k].stage, stage) == 0)
                return;
        }
        g_usleep(1000);
    }
    g_error("nobody is at the stage \"%s\"", stage);
}

static void await_held_worker(void)
{
    for (int i = 0; i < 10000 && atomic_load(&held_workers) == 0; i++)
        g_usleep(1000);
    g_assert_cmpint(atomic_load(&held_workers), ==, 1);
}

static void expect_silence(int fd)
{
    char octet;
    g_assert_cmpint(recv(fd, &octet, 1, MSG_DONTWAIT), ==, -1);
}

/* The watchdog watches the gate's thread, not the caller's. */
static void test_alive(void)
{
    struct bed bed = {.listener.fd = -1};
    struct error err = {""};
    struct service *service = make_service("gate.example");
    bed.gate = gate_new(NULL, 0, service, 1, 1, &err);
    service_unref(service);
    g_assert_true(gate_is_alive(bed.gate));
    for (int i = 0; i < 3; i++)
        g_assert_false(gate_is_alive(bed.gate));
    pthread_create(&bed.thread, NULL, run, bed.gate);
    for (int i = 0; i < 5; i++) {
        struct deadline deadline = deadline_in_ms(10000);
        while (!gate_is_alive(bed.gate) && !deadline_passed(deadline))
            g_usleep(1000);
        g_assert_false(deadline_passed(deadline));
    }
    bed_close(&bed);
}

static void test_idle(void)
{
    struct bed bed;
    enum { IDLE = 1000 };
    static int fds[IDLE];
    bed_open(&bed, make_service("gate.example"), 4, 256);
    for (int i = 0; i < IDLE; i++) {
        fds[i] = dial(&bed);
        expect(fds[i], NULL, "220 gate.example");
    }
    g_assert_cmpuint(gate_counts(bed.gate).working, ==, 0);
    for (int i = 0; i < IDLE / 2; i++)
        expect(fds[i], "EHLO x.example\r\n", "250 ");
    int fresh = dial(&bed);
    expect(fresh, NULL, "220");
    expect(fresh, "EHLO x.example\r\nMAIL FROM:<>\r\n", "250");
    expect(fresh, NULL, "250");
    expect(fresh, "RCPT TO:<a@b.example>\r\n", "250");
    expect(fresh, "DATA\r\n", "354");
    expect(fresh, "x\r\n.\r\n", "250");
    /* It is parked and resumed repeatedly. */
    for (int round = 0; round < 5; round++) {
        await_working(&bed, 0);
        expect(fds[0], "NOOP\r\n", "250");
    }
    for (int i = 0; i < IDLE; i++)
        close(fds[i]);
    close(fresh);
    bed_close(&bed);
}

static void test_limits(void)
{
    struct bed bed;
    struct service *service = make_service("gate.example");
    service->limits.connections = 2;
    bed_open(&bed, service, 2, 8);
    int a = dial(&bed), b = dial(&bed);
    expect(a, NULL, "220");
    expect(b, NULL, "220");
    int c = dial(&bed);
    expect(c, NULL, "421 4.7.0");
    service = make_service("gate.example");
    service->connections = 2;
    change_service(&bed, service);
    int d = dial(&bed);
    expect(d, NULL, "421 4.3.2");
    service = make_service("gate.example");
    cidr_set_free((struct cidr_set *)service->private_clients);
    service->private_clients = NULL;
    change_service(&bed, service);
    int e = dial(&bed);
    expect(e, NULL, "554 5.7.1");
    g_assert_cmpuint(counters_get(&counted, COUNTER_REJECTED_PRIVATE), ==, 1);
    close(a), close(b), close(c), close(d), close(e);
    bed_close(&bed);
}

/* A session ends while the gate sleeps. The client's next connection is judged by the new count. */
static void test_limits_after_end(void)
{
    struct bed bed;
    struct service *service = make_service("gate.example");
    service->connections = service->limits.connections = 1;
    bed_open(&bed, service, 2, 8);
    for (int i = 0; i < 50; i++) {
        int fd = dial(&bed);
        expect(fd, NULL, "220");
        expect(fd, i % 2 == 0 ? "QUIT\r\n" : "NOOP\r\n", "2");
        close(fd);
        await_connections(&bed, 0);
        g_assert_cmpuint(gate_counts(bed.gate).working, ==, 0);
    }
    g_assert_cmpuint(counters_get(&counted, COUNTER_REJECTED_CLIENT), ==, 0);
    bed_close(&bed);
}

/* Many connections at once, more than one round of the gate accepts. */
static void test_rush(void)
{
    struct bed bed;
    enum { CLIENTS = 300 };
    static int fds[CLIENTS];
    bed_open(&bed, make_service("gate.example"), 4, 512);
    for (int i = 0; i < CLIENTS; i++)
        fds[i] = dial(&bed);
    for (int i = 0; i < CLIENTS; i++)
        g_assert_cmpint(send(fds[i], "QUIT\r\n", 6, MSG_NOSIGNAL), ==, 6);
    for (int i = 0; i < CLIENTS; i++) {
        expect(fds[i], NULL, "220");
        expect(fds[i], NULL, "221");
        expect(fds[i], NULL, "");
        close(fds[i]);
    }
    bed_close(&bed);
}

static void test_early_talker(void)
{
    struct bed bed;
    struct service *service = make_service("gate.example");
    service->greet_delay_ms = 60000;
    bed_open(&bed, service, 2, 8);
    int early = dial(&bed), patient = dial(&bed);
    expect(early, "EHLO x\r\n", "554 5.5.0");
    await_stage(&bed, "greeting");
    pass(&bed, 59000);
    expect_silence(patient);
    pass(&bed, 1000);
    expect(patient, NULL, "220");
    close(early), close(patient);
    bed_close(&bed);
}

static void test_idle_timeout(void)
{
    struct bed bed;
    bed_open(&bed, make_service("gate.example"), 2, 8);
    int silent = dial(&bed), parked = dial(&bed);
    expect(silent, NULL, "220");
    expect(parked, NULL, "220");
    expect(parked, "EHLO x\r\n", "250");
    await_working(&bed, 0);
    pass(&bed, 60000);
    expect(silent, NULL, "421 4.4.2");
    expect(parked, NULL, "421 4.4.2");
    close(silent), close(parked);
    bed_close(&bed);
}

/* A reload that shortens the timeout applies to new connections, even if others already wait. */
static void test_idle_timeout_reload(void)
{
    struct bed bed;
    bed_open(&bed, make_service("gate.example"), 2, 8);
    int patient = dial(&bed);
    expect(patient, NULL, "220 gate.example");
    struct service *service = make_service("next.example");
    service->idle_timeout_ms = 100;
    change_service(&bed, service);
    int brief = dial(&bed);
    expect(brief, NULL, "220 next.example");
    pass(&bed, 100);
    expect(brief, NULL, "421 4.4.2");
    expect(patient, "EHLO x\r\n", "250");
    g_assert_cmpuint(counters_get(&counted, COUNTER_DROPPED_IDLE), ==, 1);
    close(patient), close(brief);
    bed_close(&bed);
}

/* A reload may remove what an open listener needs; the listener stays open until a restart. */
static void test_listener_without_service(void)
{
    static const struct {
        const char *listen, *reply;
    } cases[] = {{"127.0.0.1:1 submission", "421 4.3.2"}, {"127.0.0.1:1 tls", ""}};

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct bed bed;
        bed_open_at(&bed, cases[i].listen, make_service("gate.example"), 2, 8);
        int fd = dial(&bed);
        /* Unread input at the close could let RST overtake a reply. */
        if (cases[i].reply[0] == '\0')
            send(fd, "EHLO x\r\n", 8, MSG_NOSIGNAL);
        expect(fd, NULL, cases[i].reply);
        g_autofree char *rest = hear(fd);
        g_assert_cmpstr(rest, ==, "");
        close(fd);
        bed_close(&bed);
    }
}

static const struct cidr_set *networks(const char *network)
{
    struct cidr_set *set = cidr_set_new();
    g_assert_cmpint(cidr_set_add(set, network, NULL), ==, 0);
    return set;
}

static struct service *make_proxied(const char *proxy_hosts)
{
    struct service *service = make_service("gate.example");
    service->proxy_hosts = networks(proxy_hosts);
    service->proxy_timeout_ms = 5000;
    return service;
}

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define V2_FROM(a, b, c, d) V2 "\x21\x11\0\x0c" a b c d "\xcb\0\x71\5\x10\1\0\x19"

/* A header, and the first reply; "" is a close without a reply. */
static const struct {
    const char *name, *header;
    size_t len;
    const char *heard;
} headers[] = {
#define TEXT(name, header, heard) {name, header, sizeof header - 1, heard}
    TEXT("v1 IPv4", "PROXY TCP4 198.51.100.7 203.0.113.5 1025 25\r\n", "220"),
    TEXT("v1 IPv6", "PROXY TCP6 2001:db8::7 2001:db8::1 1025 25\r\n", "220"),
    TEXT("v1 UNKNOWN is the load balancer", "PROXY UNKNOWN\r\n", "220"),
    TEXT("v1 private client", "PROXY TCP4 10.0.0.7 203.0.113.5 1025 25\r\n", "554 5.7.1"),
    TEXT("v1 mapped private client", "PROXY TCP6 ::ffff:10.0.0.7 ::1 1025 25\r\n", "554 5.7.1"),
    TEXT("v2 IPv4", V2_FROM("\xc6", "\x33", "\x64", "\7"), "220"),
    TEXT("v2 private client", V2_FROM("\x0a", "\0", "\0", "\7"), "554 5.7.1"),
    TEXT("v2 LOCAL is the load balancer", V2 "\x20\0\0\0", "220"),
    TEXT("no header", "EHLO x.example\r\n", ""),
    TEXT("v1 bad address", "PROXY TCP4 198.51.100 203.0.113.5 1025 25\r\n", ""),
    TEXT("v2 bad version", V2 "\x31\x11\0\x0c", ""),
#undef TEXT
};

static void test_proxy_headers(void)
{
    struct bed bed;
    bed_open_at(&bed, "127.0.0.1:1 proxy", make_proxied("127.0.0.0/8"), 2, 8);
    for (size_t i = 0; i < G_N_ELEMENTS(headers); i++) {
        for (int pieces = 0; pieces < 2; pieces++) {
            g_test_message("%s%s", headers[i].name, pieces ? ", octet by octet" : "");
            int fd = dial(&bed);
            size_t step = pieces ? 1 : headers[i].len;
            for (size_t at = 0; at < headers[i].len; at += step) {
                /* The gate may close before the last octet of a refused header. */
                if (send(fd, headers[i].header + at, step, MSG_NOSIGNAL) < 0)
                    break;
                if (pieces)
                    g_usleep(500);
            }
            g_autofree char *heard = hear(fd);
            if (headers[i].heard[0] == '\0' ? heard[0] != '\0'
                                            : !g_str_has_prefix(heard, headers[i].heard))
                g_error("%s: expected \"%s\", got \"%s\"", headers[i].name, headers[i].heard, heard);
            close(fd);
        }
    }
    bed_close(&bed);
}

static int dial_proxied(struct bed *bed, const char *client, const char *more)
{
    char header[200];
    int fd = dial(bed);
    bool v6 = strchr(client, ':') != NULL;
    int len = snprintf(header, sizeof header, "PROXY TCP%d %s %s 1025 25\r\n%s", v6 ? 6 : 4, client,
                       v6 ? "2001:db8::1" : "203.0.113.5", more);
    g_assert_cmpint(send(fd, header, (size_t)len, MSG_NOSIGNAL), ==, len);
    return fd;
}

/* Limits and greet delay apply to the client, not to the load balancer. Input after the header is not
 * lost. */
static void test_proxy_client(void)
{
    struct bed bed;
    struct service *service = make_proxied("127.0.0.0/8");
    service->limits.connections = 1;
    bed_open_at(&bed, "127.0.0.1:1 proxy", service, 2, 8);
    int a = dial_proxied(&bed, "198.51.100.7", ""), b = dial_proxied(&bed, "198.51.100.8", "");
    expect(a, NULL, "220");
    expect(b, NULL, "220");
    int again = dial_proxied(&bed, "::ffff:198.51.100.7", "");
    expect(again, NULL, "421 4.7.0");
    close(a);
    await_connections(&bed, 1);
    int c = dial_proxied(&bed, "198.51.100.7", "EHLO x.example\r\n");
    expect(c, NULL, "220");
    expect(c, NULL, "250 ");
    close(b), close(c), close(again);

    service = make_proxied("127.0.0.0/8");
    service->greet_delay_ms = 60000;
    change_service(&bed, service);
    int early = dial_proxied(&bed, "198.51.100.9", "EHLO x.example\r\n");
    expect(early, NULL, "554 5.5.0");
    int patient = dial_proxied(&bed, "198.51.100.9", "");
    await_stage(&bed, "greeting");
    pass(&bed, 60000);
    expect(patient, NULL, "220");
    expect(patient, "EHLO x.example\r\n", "250 ");
    close(early), close(patient);
    bed_close(&bed);
}

static void test_proxy_strangers(void)
{
    struct bed bed;
    struct service *service = make_proxied("192.0.2.0/24");
    bed_open_at(&bed, "127.0.0.1:1 proxy", service, 2, 8);
    int stranger = dial(&bed);
    expect(stranger, NULL, "");
    g_assert_cmpuint(counters_get(&counted, COUNTER_REJECTED_PROXY), ==, 1);
    service = make_proxied("127.0.0.0/8");
    change_service(&bed, service);
    int late = dial(&bed);
    g_assert_cmpint(send(late, "PROXY ", 6, 0), ==, 6);
    await_stage(&bed, "proxy");
    pass(&bed, 5000);
    g_autofree char *heard = hear(late);
    g_assert_cmpstr(heard, ==, "");
    g_assert_cmpuint(counters_get(&counted, COUNTER_REJECTED_PROXY), ==, 2);
    close(stranger), close(late);
    bed_close(&bed);
}

/* Clients come with PROXY headers, so that they can have many addresses. */
static void test_lists(void)
{
    struct bed bed;
    struct service *service = make_proxied("127.0.0.0/8");
    service->deny = networks("198.51.100.0/24");
    service->allow = networks("198.51.100.7");
    service->limits.connections = 1;
    service->greet_delay_ms = 60000;
    bed_open_at(&bed, "127.0.0.1:1 proxy", service, 2, 8);
    int denied = dial_proxied(&bed, "198.51.100.8", "");
    expect(denied, NULL, "554 5.7.1 Access denied");
    g_assert_cmpuint(counters_get(&counted, COUNTER_REJECTED_DENIED), ==, 1);
    /* It is neither denied, nor delayed, nor limited. */
    int first = dial_proxied(&bed, "198.51.100.7", ""), second = dial_proxied(&bed, "198.51.100.7", "");
    expect(first, NULL, "220");
    expect(second, NULL, "220");
    close(denied), close(first), close(second);
    bed_close(&bed);
}

static void test_over_limit(void)
{
    struct bed bed;
    struct service *service = make_proxied("127.0.0.0/8");
    service->limits = (struct clients_limits){1, 2, 0, 0};
    service->over_limit = SERVICE_OVER_TEMPFAIL;
    bed_open_at(&bed, "127.0.0.1:1 proxy", service, 2, 8);
    int first = dial_proxied(&bed, "198.51.100.7", "");
    expect(first, NULL, "220");
    expect(first, "EHLO x\r\n", "250");
    expect(first, "MAIL FROM:<>\r\n", "250");
    int barred = dial_proxied(&bed, "198.51.100.7", "");
    expect(barred, NULL, "220");
    expect(barred, "EHLO x\r\n", "250");
    expect(barred, "MAIL FROM:<>\r\n", "451 4.7.1");
    expect(barred, "RCPT TO:<a@b.example>\r\n", "503");
    expect(barred, "MAIL FROM:<>\r\n", "451 4.7.1");
    int beyond = dial_proxied(&bed, "198.51.100.7", "");
    expect(beyond, NULL, "421 4.7.0 Too many connections from your address");
    expect(barred, "QUIT\r\n", "221");
    g_assert_cmpuint(counters_get(&counted, COUNTER_REJECTED_CLIENT), ==, 2);
    close(first), close(barred), close(beyond);

    service = make_proxied("127.0.0.0/8");
    service->limits = (struct clients_limits){0, 0, 0, 2};
    change_service(&bed, service);
    const char *const heard[] = {"220", "220", "421 4.7.0 Too many connections from your network"};
    for (int i = 0; i < 3; i++) {
        char text[32];
        snprintf(text, sizeof text, "192.0.2.%d", i + 1);
        int fd = dial_proxied(&bed, text, "");
        expect(fd, NULL, heard[i]);
        close(fd);
    }
    bed_close(&bed);
}

#define PATIENT_MS 10000 /* for a list that answers, on a busy machine as well */
#define IMPATIENT_MS 100

static const struct dns_row dns_rows[] = {
    {"7.100.51.198.bl.example", DNS_TYPE_A, "127.0.0.2"},
    {"8.100.51.198.bl.example", DNS_TYPE_A, "!DROP"},
};

/* Asks one list, and waits so long for its answer. */
static struct service *make_listing(struct resolver *resolver, enum service_listed action,
                                    int64_t timeout_ms)
{
    struct service *service = make_proxied("127.0.0.0/8");
    struct dnsbl_zone zone;
    g_assert_cmpint(dnsbl_parse("bl.example*2", &zone, NULL), ==, 0);
    service->dnsbl = dnsbl_new(&zone, 1, 2, timeout_ms);
    service->resolver = resolver;
    service->listed = action;
    service->dnsbl_timeout_ms = timeout_ms;
    service->tarpit_ms = 150;
    service->allow = networks("198.51.100.9");
    return service;
}

static int64_t expect_greeting(struct bed *bed, const char *client)
{
    gint64 began = g_get_monotonic_time();
    int fd = dial_proxied(bed, client, "");
    expect(fd, NULL, "220");
    expect(fd, "EHLO x\r\n", "250");
    expect(fd, "MAIL FROM:<>\r\n", "250");
    close(fd);
    return (g_get_monotonic_time() - began) / 1000;
}

static void test_blocklist(void)
{
    struct bed bed;
    struct dns_server *server = dns_server_open(dns_rows, G_N_ELEMENTS(dns_rows));
    struct resolver *resolver = dns_server_resolver(server, NULL);
    bed_open_at(&bed, "127.0.0.1:1 proxy", make_listing(resolver, SERVICE_LISTED_REJECT, PATIENT_MS),
                2, 8);
    int listed = dial_proxied(&bed, "198.51.100.7", "");
    expect(listed, NULL,
           "554 5.7.1 Service unavailable; client [198.51.100.7] blocked using bl.example");
    close(listed);
    expect_greeting(&bed, "198.51.100.10");
    change_service(&bed, make_listing(resolver, SERVICE_LISTED_REJECT, IMPATIENT_MS));
    /* A list that does not answer stops nobody; our own clients are not looked up. */
    expect_greeting(&bed, "198.51.100.8");
    expect_greeting(&bed, "198.51.100.9");
    g_assert_cmpuint(dns_server_asked(server, "9.100.51.198.bl.example", DNS_TYPE_A), ==, 0);
    g_assert_cmpuint(counters_get(&counted, COUNTER_REJECTED_DNSBL), ==, 1);
    /* Clients that leave, or talk, before the verdict. */
    for (int i = 0; i < 20; i++)
        close(dial_proxied(&bed, "198.51.100.8", i % 2 == 0 ? "" : "EHLO x\r\n"));

    struct service *service = make_listing(resolver, SERVICE_LISTED_TEMPFAIL, PATIENT_MS);
    change_service(&bed, service);
    int later = dial_proxied(&bed, "198.51.100.7", "");
    expect(later, NULL, "220");
    expect(later, "EHLO x\r\n", "250");
    expect(later, "MAIL FROM:<>\r\n", "451 4.7.1 Service unavailable; client [198.51.100.7]");
    close(later);

    service = make_listing(resolver, SERVICE_LISTED_TARPIT, PATIENT_MS);
    service->greet_delay_ms = 50;
    change_service(&bed, service);
    g_assert_cmpint(expect_greeting(&bed, "198.51.100.7"), >=, 145);
    g_assert_cmpint(expect_greeting(&bed, "198.51.100.10"), >=, 45);
    /* A drain while checks are running. */
    change_service(&bed, make_listing(resolver, SERVICE_LISTED_REJECT, IMPATIENT_MS));
    int open = dial_proxied(&bed, "198.51.100.8", "");
    await_stage(&bed, "greeting");
    bed_close(&bed);
    close(open);
    resolver_free(resolver);
    dns_server_close(server);
}

static void test_full_queue(void)
{
    struct bed bed;
    bed_open(&bed, make_service("gate.example"), 1, 1);
    int held = dial(&bed);
    expect(held, NULL, "220");
    atomic_store(&holding, true);
    expect(held, "EHLO x\r\nMAIL FROM:<>\r\n", "250");
    expect(held, NULL, "250");
    g_assert_cmpint(send(held, "RCPT TO:<a@b.example>\r\n", 23, 0), ==, 23);
    await_held_worker();
    /* The one worker waits for the next hop; the queue takes one more, a third gets 421. */
    int queued = dial(&bed), refused = dial(&bed);
    expect(queued, NULL, "220");
    expect(refused, NULL, "220");
    g_assert_cmpint(send(queued, "NOOP\r\n", 6, 0), ==, 6);
    await_working(&bed, 2);
    expect(refused, "NOOP\r\n", "421 4.3.2");
    atomic_store(&holding, false);
    expect(held, NULL, "250");
    expect(held, "QUIT\r\n", "221");
    expect(queued, NULL, "250");
    close(held), close(queued), close(refused);
    bed_close(&bed);
}

#define HELLO "EHLO x\r\n"
#define ENVELOPE "MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\n"

/* Connects, reads the greeting, sends `text` and reads its replies. */
static int dial_into(struct bed *bed, const char *text, int replies)
{
    int fd = dial(bed);
    expect(fd, NULL, "220");
    g_assert_cmpint(send(fd, text, strlen(text), MSG_NOSIGNAL), ==, (gssize)strlen(text));
    for (int i = 0; i < replies; i++) {
        g_autofree char *heard = hear(fd);
        g_assert_cmpint(heard[0], >=, '2');
        g_assert_cmpint(heard[0], <=, '3');
    }
    return fd;
}

static void send_message(struct bed *bed)
{
    int fd = dial_into(bed, HELLO ENVELOPE, 3);
    expect(fd, "DATA\r\n", "354");
    expect(fd, "x\r\n.\r\n", "250");
    expect(fd, "QUIT\r\n", "221");
    close(fd);
}

/* The local address is the listener's, or the connection's if the listener is for all addresses. */
static void test_local_address(void)
{
    static const char *const listen[] = {"127.0.0.1:1", "0.0.0.0:1", "[::]:1"};

    for (size_t i = 0; i < G_N_ELEMENTS(listen); i++) {
        struct bed bed;
        char text[ADDRESS_TEXT_MAX];
        bed_open_at(&bed, listen[i], make_service("gate.example"), 1, 8);
        address_parse_endpoint(&bed.address, "127.0.0.1", bed.address.port);
        send_message(&bed);
        pthread_mutex_lock(&told_lock);
        struct address local = told_local;
        pthread_mutex_unlock(&told_lock);
        g_assert_cmpstr(address_format_ip(&local, text), ==, "127.0.0.1");
        g_assert_cmpuint(local.port, ==, bed.address.port);
        bed_close(&bed);
    }
}

/* The only worker stays free: a client that is silent in the middle of anything holds none. */
static void test_waiting(void)
{
    struct bed bed;
    struct service *service = make_service("gate.example");
    service->rules.line_timeout_ms = 5000;
    bed_open(&bed, service, 1, 256);
    enum { EACH = 20 };
    int in_line[EACH], in_transaction[EACH], in_data[EACH];
    for (int i = 0; i < EACH; i++) {
        in_line[i] = dial_into(&bed, HELLO "MAIL FR", 1);
        in_transaction[i] = dial_into(&bed, HELLO ENVELOPE, 3);
        in_data[i] = dial_into(&bed, HELLO ENVELOPE "DATA\r\nhalf", 4);
    }
    gint64 began = g_get_monotonic_time();
    send_message(&bed);
    g_assert_cmpint(g_get_monotonic_time() - began, <, 1000000);
    for (int i = 0; i < EACH; i++) {
        expect(in_line[i], "OM:<>\r\n", "250 2.1.0");
        expect(in_transaction[i], "DATA\r\n", "354");
        expect(in_transaction[i], ".\r\n", "250 2.0.0");
        expect(in_data[i], " a line\r\n.\r\n", "250 2.0.0");
        close(in_line[i]), close(in_transaction[i]), close(in_data[i]);
    }
    bed_close(&bed);
}

/* A client that hangs up while it waits for its next hop is not passed on to it. */
static void test_gone(void)
{
    struct bed bed;
    const struct linger at_once = {1, 0};
    bed_open(&bed, make_service("gate.example"), 1, 8);
    atomic_store(&granted_at_ms, INT64_MAX);
    atomic_store(&sends, 0);
    int fd = dial_into(&bed, HELLO ENVELOPE, 2);
    await_stage(&bed, "waiting");
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
    await_connections(&bed, 0);
    g_assert_cmpint(atomic_load(&sends), ==, 0);
    atomic_store(&granted_at_ms, 0);
    bed_close(&bed);
}

/* What is kept for a next message goes to a client that begins to wait for it. */
static void test_recall(void)
{
    struct bed bed;
    struct service *service = make_service("gate.example");
    service->rules.park_after_ms = service->rules.data_grace_ms = INT32_MAX;
    bed_open(&bed, service, 1, 8);
    int keeps = dial_into(&bed, HELLO ENVELOPE "DATA\r\n", 4);
    expect(keeps, ".\r\n", "250");
    await_working(&bed, 0);
    await_stage(&bed, "waiting");
    atomic_store(&granted_at_ms, INT64_MAX);
    int wants = dial_into(&bed, HELLO ENVELOPE, 3);
    expect(keeps, "NOOP\r\n", "250");
    close(keeps), close(wants);
    bed_close(&bed);
}

/* The same if it begins when the other's session has just looked whether anybody waits. */
static void test_recall_late(void)
{
    struct bed bed;
    struct service *service = make_service("gate.example");
    service->rules.park_after_ms = service->rules.data_grace_ms = INT32_MAX;
    bed_open(&bed, service, 2, 8);
    atomic_store(&holding_looks, true);
    int keeps = dial_into(&bed, HELLO ENVELOPE "DATA\r\n", 4);
    expect(keeps, ".\r\n", "250");
    await_held_worker();
    atomic_store(&granted_at_ms, INT64_MAX);
    int wants = dial_into(&bed, HELLO ENVELOPE, 2);
    await_stage(&bed, "waiting");
    atomic_store(&holding_looks, false);
    expect(wants, NULL, "250");
    close(keeps), close(wants);
    bed_close(&bed);
}

/* XCLIENT names a client, a list does not answer in time, and its verdict comes when the session has gone on and
 * waits for something else. */
static void test_late_verdict(void)
{
    struct bed bed;
    struct dns_server *server = dns_server_open(dns_rows, G_N_ELEMENTS(dns_rows));
    struct resolver *resolver = dns_server_resolver(server, NULL);
    struct service *service = make_listing(resolver, SERVICE_LISTED_REJECT, PATIENT_MS);
    service->rules.xclient_hosts = networks("127.0.0.0/8");
    service->rules.command_timeout_ms = service->rules.line_timeout_ms = INT32_MAX;
    bed_open(&bed, service, 2, 8);
    int late = dial_into(&bed, HELLO "XCLIENT ADDR=198.51.100.8\r\n", 1);
    await_stage(&bed, "waiting");
    pass(&bed, PATIENT_MS + 2000);
    expect(late, NULL, "220");
    atomic_store(&granted_at_ms, INT64_MAX);
    expect(late, HELLO ENVELOPE, "250");
    expect(late, NULL, "250");
    await_stage(&bed, "waiting");
    /* This question makes the resolver see what is late, before it is answered itself. */
    int next = dial_into(&bed, HELLO "XCLIENT ADDR=198.51.100.10\r\n", 2);
    come_round(&bed);
    expect_silence(late);
    atomic_store(&granted_at_ms, 0);
    wakeup_call(atomic_load(&waiter));
    expect(late, NULL, "250");
    close(late), close(next);
    bed_close(&bed);
    resolver_free(resolver);
    dns_server_close(server);
}

/* If more than two clients wait in a transaction, the one that has sent least for its time is cut. */
static void test_eviction(void)
{
    struct bed bed;
    struct service *service = make_service("gate.example");
    service->waiting_transactions = 2;
    service->rules.data_grace_ms = 5000;
    service->rules.min_data_rate = 1;
    bed_open(&bed, service, 2, 256);
    /* At one octet per second it has sent enough for 20 seconds, the other for one. */
    int good = dial_into(&bed, HELLO ENVELOPE "DATA\r\na whole line of text\r\n", 4);
    int slow = dial_into(&bed, HELLO ENVELOPE "DATA\r\nx", 4);
    await_working(&bed, 0);
    pass(&bed, 2100);
    int third = dial_into(&bed, HELLO ENVELOPE, 3);
    expect(slow, NULL, "421 4.4.2");
    g_assert_cmpuint(counters_get(&counted, COUNTER_DROPPED_SLOW), ==, 1);
    expect(good, "\r\n.\r\n", "250");
    expect(third, "DATA\r\n", "354");
    expect(third, ".\r\n", "250");
    close(good), close(slow), close(third);
    bed_close(&bed);
}

/* If few workers are free for a while, idle and slow clients get little time, until it has been calm. */
static void test_stress(void)
{
    struct bed bed;
    struct service *service = make_service("gate.example");
    service->stress = (struct service_stress){20, 0, 200, 300, 200};
    service->rules.stress_timeout_ms = 200;
    bed_open(&bed, service, 1, 256);
    int idle = dial_into(&bed, HELLO, 1), in_data = dial_into(&bed, HELLO ENVELOPE "DATA\r\nhalf", 4);
    int held = dial_into(&bed, HELLO, 1);
    await_working(&bed, 0);
    pass(&bed, 200);
    g_assert_false(gate_counts(bed.gate).stressed);
    atomic_store(&holding, true);
    g_assert_cmpint(send(held, ENVELOPE, strlen(ENVELOPE), 0), ==, (gssize)strlen(ENVELOPE));
    await_held_worker();
    pass(&bed, 200);
    g_assert_true(gate_counts(bed.gate).stressed);
    pass(&bed, 200);
    expect(idle, NULL, "421 4.4.2");
    atomic_store(&holding, false);
    expect(in_data, NULL, "421 4.4.2");
    expect(held, NULL, "250");
    expect(held, NULL, "250");
    await_working(&bed, 0);
    pass(&bed, 300);
    g_assert_false(gate_counts(bed.gate).stressed);
    g_assert_cmpuint(counters_get(&counted, COUNTER_STRESSES), ==, 1);
    /* Now all clients have their full time again. */
    int patient = dial_into(&bed, HELLO ENVELOPE "DATA\r\nhalf", 4);
    await_working(&bed, 0);
    pass(&bed, 400);
    expect(patient, "\r\n.\r\n", "250");
    close(idle), close(in_data), close(held), close(patient);
    bed_close(&bed);
}

/* A running transaction finishes, idle clients get 421, and the gate then ends by itself. */
static void test_drain(void)
{
    struct bed bed;
    bed_open(&bed, make_service("gate.example"), 2, 8);
    int idle = dial(&bed), busy = dial(&bed);
    expect(idle, NULL, "220");
    expect(busy, NULL, "220");
    expect(busy, "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n", "250");
    expect(busy, NULL, "250");
    expect(busy, NULL, "250");
    expect(busy, NULL, "354");
    gate_drain(bed.gate, 5000);
    expect(idle, NULL, "421 4.3.2");
    expect(busy, "x\r\n.\r\n", "250");
    expect(busy, "MAIL FROM:<>\r\n", "421 4.3.2");
    close(idle), close(busy);
    pthread_join(bed.thread, NULL);
    g_assert_cmpuint(gate_counts(bed.gate).connections, ==, 0);
    gate_free(bed.gate);
    close(bed.listener.fd);
    g_assert_cmpint(atomic_load(&services), ==, 0);
}

/* A next hop that is kept for a next message holds nothing up. */
static void test_drain_kept(void)
{
    struct bed bed;
    struct service *service = make_service("gate.example");
    service->rules.park_after_ms = INT32_MAX;
    bed_open(&bed, service, 1, 8);
    int keeps = dial_into(&bed, HELLO ENVELOPE "DATA\r\n", 4);
    expect(keeps, ".\r\n", "250");
    await_working(&bed, 0);
    await_stage(&bed, "waiting");
    gate_drain(bed.gate, INT32_MAX);
    expect(keeps, NULL, "421 4.3.2");
    close(keeps);
    pthread_join(bed.thread, NULL);
    gate_free(bed.gate);
    close(bed.listener.fd);
    g_assert_cmpint(atomic_load(&services), ==, 0);
}

/* Waits for the end of the gate's thread, which is woken now and then: the clock has been advanced. */
static void join_gate(struct bed *bed)
{
    int result = EBUSY;
    for (int i = 0; i < 20000 && result != 0; i++) {
        gate_is_alive(bed->gate);
        g_usleep(1000);
        result = pthread_tryjoin_np(bed->thread, NULL);
    }
    g_assert_cmpint(result, ==, 0);
}

/* A client that does not finish in time is cut off. */
static void test_drain_timeout(void)
{
    struct bed bed;
    bed_open(&bed, make_service("gate.example"), 2, 8);
    int busy = dial(&bed);
    expect(busy, NULL, "220");
    expect(busy, "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n", "250");
    expect(busy, NULL, "250");
    expect(busy, NULL, "250");
    expect(busy, NULL, "354");
    gate_drain(bed.gate, 60000);
    pass(&bed, 30000);
    g_assert_cmpuint(gate_counts(bed.gate).connections, ==, 1);
    clock_advance_ms(30000);
    join_gate(&bed);
    g_assert_cmpuint(gate_counts(bed.gate).connections, ==, 0);
    gate_free(bed.gate);
    close(busy);
    close(bed.listener.fd);
    g_assert_cmpint(atomic_load(&services), ==, 0);
}

/* Sends until it is cut off. */
static void *send_on(void *argument)
{
    struct bed *bed = argument;
    struct error err = {""};
    int fd;
    while ((fd = dial_connect(&bed->address, NULL, 2000, deadline_in_ms(2000), &err)) >= 0) {
        static const char text[] = HELLO ENVELOPE "DATA\r\nx\r\n.\r\nQUIT\r\n";
        char heard[1024];
        ssize_t len = send(fd, text, strlen(text), MSG_NOSIGNAL);
        while (len > 0)
            len = recv(fd, heard, sizeof heard, 0);
        close(fd);
        if (atomic_load(&bed->over))
            return NULL;
    }
    return NULL;
}

static void test_cut_under_load(void)
{
    for (int round = 0; round < 10; round++) {
        struct bed bed = {.over = false};
        pthread_t threads[4];
        bed_open(&bed, make_service("gate.example"), 4, 64);
        for (int i = 0; i < 4; i++)
            pthread_create(&threads[i], NULL, send_on, &bed);
        g_usleep(30000);
        gint64 began = g_get_monotonic_time();
        gate_drain(bed.gate, 0);
        pthread_join(bed.thread, NULL);
        g_assert_cmpint(g_get_monotonic_time() - began, <, 1900000);
        g_assert_cmpuint(gate_counts(bed.gate).connections, ==, 0);
        atomic_store(&bed.over, true);
        gate_free(bed.gate);
        close(bed.listener.fd);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        g_assert_cmpint(atomic_load(&services), ==, 0);
    }
}

/* Snapshots keep changing under load; each is freed with its last connection. */
static void *load(void *argument)
{
    struct bed *bed = argument;
    for (int i = 0; i < 100; i++) {
        int fd = dial(bed);
        expect(fd, NULL, "220");
        expect(fd, "EHLO x\r\n", "250");
        if (i % 3 == 0)
            g_usleep(5000);
        expect(fd, "QUIT\r\n", "221");
        close(fd);
    }
    return NULL;
}

/* Makes a service whose sessions are parked soon. */
static struct service *make_reloaded(const char *hostname)
{
    struct service *service = make_service(hostname);
    service->rules.park_after_ms = 2;
    return service;
}

static void test_reload(void)
{
    struct bed bed;
    pthread_t threads[3];
    bed_open(&bed, make_reloaded("first.example"), 3, 64);
    int old = dial(&bed);
    expect(old, NULL, "220 first.example");
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, load, &bed);
    for (int i = 0; i < 200; i++) {
        struct service *service = make_reloaded("next.example");
        gate_set_service(bed.gate, service);
        service_unref(service);
        g_usleep(1000);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    int fresh = dial(&bed);
    expect(fresh, NULL, "220 next.example");
    /* The old session keeps the old snapshot. */
    expect(old, "EHLO x\r\n", "250");
    g_assert_cmpint(atomic_load(&services), ==, 2);
    close(old), close(fresh);
    bed_close(&bed);
}

static void *ask_often(void *context)
{
    struct bed *bed = context;
    struct gate_session any;
    for (int i = 0; i < 500; i++)
        g_assert_cmpuint(gate_list(bed->gate, &any, 1, deadline_in_ms(60000)), ==, 1);
    return NULL;
}

/* Those who ask for the list at the same time all get it. */
static void test_askers(void)
{
    struct bed bed = {.listener.fd = -1};
    pthread_t askers[4];
    bed_open(&bed, make_service("gate.example"), 1, 1);
    int fd = dial(&bed);
    await_connections(&bed, 1);
    for (size_t i = 0; i < G_N_ELEMENTS(askers); i++)
        pthread_create(&askers[i], NULL, ask_often, &bed);
    for (size_t i = 0; i < G_N_ELEMENTS(askers); i++)
        pthread_join(askers[i], NULL);
    close(fd);
    bed_close(&bed);
}

/* With a quarter of the workers free, those that are busy may linger for their clients; with fewer not. */
static void test_crowded(void)
{
    static const struct {
        unsigned workers, most;
    } rows[] = {{1, 0}, {2, 1}, {8, 6}, {32, 24}};

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct connections all = {.workers = rows[i].workers};
        lock_init(&all.lock);
        connections_count_working(&all, (int)rows[i].most);
        g_assert_false(atomic_load(&all.signals.crowded));
        connections_count_working(&all, 1);
        g_assert_true(atomic_load(&all.signals.crowded));
        connections_count_working(&all, -1);
        g_assert_false(atomic_load(&all.signals.crowded));
        lock_destroy(&all.lock);
    }
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    g_test_init(&argc, &argv, NULL);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    g_test_add_func("/gate/alive", test_alive);
    g_test_add_func("/gate/askers", test_askers);
    g_test_add_func("/gate/crowded", test_crowded);
    g_test_add_func("/gate/idle", test_idle);
    g_test_add_func("/gate/limits", test_limits);
    g_test_add_func("/gate/limits after an end", test_limits_after_end);
    g_test_add_func("/gate/rush", test_rush);
    g_test_add_func("/gate/early talker", test_early_talker);
    g_test_add_func("/gate/idle timeout", test_idle_timeout);
    g_test_add_func("/gate/idle timeout after reload", test_idle_timeout_reload);
    g_test_add_func("/gate/listener without service", test_listener_without_service);
    g_test_add_func("/gate/proxy/headers", test_proxy_headers);
    g_test_add_func("/gate/proxy/client", test_proxy_client);
    g_test_add_func("/gate/proxy/strangers", test_proxy_strangers);
    g_test_add_func("/gate/lists", test_lists);
    g_test_add_func("/gate/over limit", test_over_limit);
    g_test_add_func("/gate/blocklist", test_blocklist);
    g_test_add_func("/gate/full queue", test_full_queue);
    g_test_add_func("/gate/local address", test_local_address);
    g_test_add_func("/gate/waiting", test_waiting);
    g_test_add_func("/gate/gone", test_gone);
    g_test_add_func("/gate/recall", test_recall);
    g_test_add_func("/gate/recall late", test_recall_late);
    g_test_add_func("/gate/late verdict", test_late_verdict);
    g_test_add_func("/gate/eviction", test_eviction);
    g_test_add_func("/gate/stress", test_stress);
    g_test_add_func("/gate/drain", test_drain);
    g_test_add_func("/gate/drain kept", test_drain_kept);
    g_test_add_func("/gate/drain timeout", test_drain_timeout);
    g_test_add_func("/gate/drain timeout under load", test_cut_under_load);
    g_test_add_func("/gate/reload", test_reload);
    return g_test_run();
}
