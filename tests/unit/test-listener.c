/* tests/unit/test-listener.c - net/listener and net/dial
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <errno.h>
#include <glib.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "net/dial.h"
#include "net/listener.h"
#include "net/stream.h"

static const struct {
    const char *text;
    bool good, tls;
    const char *again; /* NULL: the same text */
} specs[] = {
    {"[::]:25", true, false, NULL},
    {"127.0.0.1:2525", true, false, NULL},
    {"[::]:465 tls", true, true, NULL},
    {"*:25", true, false, "[::]:25"},
    {"127.0.0.1:2525 proxy", true, false, NULL},
    {"[::]:465  submission   tls ", true, true, "[::]:465 tls submission"},
    {"[::]:465 proxy submission tls", true, true, "[::]:465 tls proxy submission"},
    {"[::]:465 tls,proxy", false, false, NULL},
    {"[::]:465 prox", false, false, NULL},
    {"25", false, false, NULL},
    {"127.0.0.1", false, false, NULL},
    {"127.0.0.1:25 ssl", false, false, NULL},
    {"host.example:25", false, false, NULL},
};

/* While this is set, the kernel seems to lack IPv6. */
static bool without_ipv6;

int socket(int domain, int type, int protocol)
{
    if (without_ipv6 && domain == AF_INET6) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    return (int)syscall(SYS_socket, domain, type, protocol);
}

static void test_without_ipv6(void)
{
    static const struct {
        const char *text;
        bool bound;
    } cases[] = {{"[::]:0", true}, {"*:0", true}, {"127.0.0.1:0", true}, {"[::1]:0", false}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct listen_spec spec = {0};
        struct address bound;
        struct error err = {""};
        g_test_message("%s", cases[i].text);
        g_assert_cmpint(address_parse_endpoint(&spec.address, cases[i].text, 1), ==, 0);
        without_ipv6 = true;
        int fd = listener_open(&spec, &err);
        without_ipv6 = false;
        g_assert_cmpint(fd >= 0, ==, cases[i].bound);
        if (fd < 0) {
            g_assert_nonnull(strstr(err.text, "::1"));
            continue;
        }
        g_assert_true(address_of_socket(&bound, fd));
        g_assert_cmpint(bound.family, ==, AF_INET);
        close(fd);
    }
}

static void test_parse(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(specs); i++) {
        struct listen_spec spec;
        struct error err = {""};
        g_test_message("%s", specs[i].text);
        g_assert_cmpint(listener_parse(&spec, specs[i].text, &err), ==, specs[i].good ? 0 : -1);
        g_assert_cmpint(err.text[0] == '\0', ==, specs[i].good);
        if (!specs[i].good)
            continue;
        g_assert_cmpint(spec.implicit_tls, ==, specs[i].tls);
        struct listen_spec again;
        char text[LISTENER_TEXT_MAX];
        listener_format(&spec, text);
        g_assert_cmpstr(text, ==, specs[i].again != NULL ? specs[i].again : specs[i].text);
        g_assert_cmpint(listener_parse(&again, text, &err), ==, 0);
        g_assert_true(address_same_ip(&spec.address, &again.address));
        g_assert_cmpint(spec.address.port, ==, again.address.port);
        g_assert_true(spec.implicit_tls == again.implicit_tls && spec.proxy == again.proxy &&
                      spec.submission == again.submission);
    }
}

static struct address bound(int fd)
{
    struct sockaddr_storage sockaddr;
    socklen_t len = sizeof sockaddr;
    struct address address;
    getsockname(fd, (struct sockaddr *)&sockaddr, &len);
    address_from_sockaddr(&address, (struct sockaddr *)&sockaddr);
    return address;
}

/* The local address is known in advance only if all connections share it. */
static void test_local_address(void)
{
    static const struct {
        const char *listen;
        bool known;
    } cases[] = {{"127.0.0.1:1", true}, {"[::1]:1", true}, {"0.0.0.0:1", false}, {"[::]:1", false}};

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct listen_spec spec;
        struct error err = {""};
        struct address local;
        g_test_message("%s", cases[i].listen);
        listener_parse(&spec, cases[i].listen, NULL);
        spec.address.port = 0;
        int fd = listener_open(&spec, &err);
        g_assert_cmpstr(err.text, ==, "");
        g_assert_cmpint(listener_local_address(fd, &local), ==, cases[i].known);
        if (cases[i].known) {
            g_assert_true(address_same_ip(&local, &spec.address));
            g_assert_cmpuint(local.port, ==, bound(fd).port);
        }
        close(fd);
    }
}

/* An IPv4 client of a dual-stack listener has an IPv4 address. */
static void test_dual_stack(void)
{
    struct listen_spec spec;
    struct error err = {""};
    struct sockaddr_storage sockaddr;
    socklen_t len = sizeof sockaddr;
    struct address target, client;
    char text[ADDRESS_TEXT_MAX];
    listener_parse(&spec, "[::]:1", NULL);
    spec.address.port = 0;
    int listener = listener_open(&spec, &err);
    g_assert_cmpstr(err.text, ==, "");
    address_parse_ip(&target, "127.0.0.1");
    target.port = bound(listener).port;
    int fd = dial_connect(&target, NULL, 1000, deadline_in_ms(1000), &err);
    g_assert_cmpint(fd, >=, 0);
    int accepted = accept(listener, (struct sockaddr *)&sockaddr, &len);
    g_assert_cmpint(accepted, >=, 0);
    address_from_sockaddr(&client, (struct sockaddr *)&sockaddr);
    g_assert_cmpstr(address_format_ip(&client, text), ==, "127.0.0.1");
    /* TCP keepalive probes an idle peer that may have vanished. */
    struct stream stream;
    stream_init_borrowed(&stream, fd);
    stream_keep_alive(&stream);
    int idle_s = 0, interval_s = 0, count = 0;
    socklen_t size = sizeof idle_s;
    g_assert_cmpint(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, &size), ==, 0);
    g_assert_cmpint(getsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, &size), ==, 0);
    g_assert_cmpint(getsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, &size), ==, 0);
    g_assert_cmpint(idle_s + count * interval_s, <=, 60);
    close(accepted);
    close(fd);
    /* The port is taken: the error names the address. */
    spec.address.port = target.port;
    g_assert_cmpint(listener_open(&spec, &err), ==, -1);
    g_assert_true(strstr(err.text, "cannot listen on [::]:") != NULL);
    close(listener);
    g_assert_cmpint(dial_connect(&target, NULL, 0, deadline_in_ms(1000), &err), ==, -1);
    g_assert_true(strstr(err.text, "Connection refused") != NULL);
}

/* The tunnel's address may come up after the daemon. */
static void test_freebind(void)
{
    static const char *const absent[] = {"192.0.2.77:1", "[2001:db8::77]:1"};
    for (size_t i = 0; i < G_N_ELEMENTS(absent); i++) {
        struct listen_spec spec;
        struct error err = {""};
        g_assert_cmpint(listener_parse(&spec, absent[i], &err), ==, 0);
        spec.address.port = 0;
        int listener = listener_open(&spec, &err);
        g_assert_cmpstr(err.text, ==, "");
        struct address got = bound(listener);
        g_assert_true(address_same_ip(&got, &spec.address));
        close(listener);
    }
}

static void test_inherited(void)
{
    int fds[LISTENERS_MAX];
    char pid[16];
    struct listen_spec spec;
    struct error err;
    g_assert_cmpuint(listener_inherited(fds, LISTENERS_MAX), ==, 0);
    listener_parse(&spec, "127.0.0.1:1", NULL);
    spec.address.port = 0;
    int listener = listener_open(&spec, &err);
    int saved = dup(3);
    dup2(listener, 3);
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    g_setenv("LISTEN_PID", pid, TRUE);
    g_setenv("LISTEN_FDS", "1", TRUE);
    g_assert_cmpuint(listener_inherited(fds, LISTENERS_MAX), ==, 1);
    g_assert_null(g_getenv("LISTEN_FDS"));
    spec.address = bound(listener);
    struct listen_spec other = spec;
    other.address.port ^= 1;
    g_assert_cmpint(listener_take(&other, fds, 1), ==, -1);
    g_assert_cmpint(listener_take(&spec, fds, 1), ==, 3);
    g_assert_cmpint(fds[0], ==, -1);
    close(3);
    if (saved >= 0) {
        dup2(saved, 3);
        close(saved);
    }
    close(listener);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/listener/parse", test_parse);
    g_test_add_func("/listener/without IPv6", test_without_ipv6);
    g_test_add_func("/listener/dual stack", test_dual_stack);
    g_test_add_func("/listener/freebind", test_freebind);
    g_test_add_func("/listener/inherited", test_inherited);
    g_test_add_func("/listener/local address", test_local_address);
    return g_test_run();
}
