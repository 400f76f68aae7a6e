/* net/listener.c - listening sockets: opened by us or handed over by systemd
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/i18n.h"

#define FIRST_INHERITED 3 /* SD_LISTEN_FDS_START */

static int listener_take_word(struct listen_spec *spec, const char *word, size_t len)
{
    static const char *const words[] = {"tls", "proxy", "submission"};
    bool *const places[] = {&spec->implicit_tls, &spec->proxy, &spec->submission};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strlen(words[i]) == len && memcmp(words[i], word, len) == 0) {
            *places[i] = true;
            return 0;
        }
    }
    return -1;
}

int listener_parse(struct listen_spec *spec, const char *text, struct error *err)
{
    char endpoint[ADDRESS_TEXT_MAX + 1];
    size_t len = strcspn(text, " ");

    memset(spec, 0, sizeof *spec);
    snprintf(endpoint, sizeof endpoint, "%.*s", (int)len, text);
    if (address_parse_endpoint(&spec->address, endpoint, 0) != 0) {
        error_set(err, _("\"%s\" is not an address with a port, like [::]:25 or 192.0.2.1:25"),
                  text);
        return -1;
    }
    for (const char *word = text + len;; word += len) {
        word += strspn(word, " ");
        len = strcspn(word, " ");
        if (len == 0)
            return 0;
        if (listener_take_word(spec, word, len) != 0)
            break;
    }
    error_set(err, _("\"%s\": only \"tls\", \"proxy\" and \"submission\" may follow the port"),
              text);
    return -1;
}

const char *listener_format(const struct listen_spec *spec, char out[LISTENER_TEXT_MAX])
{
    char text[ADDRESS_TEXT_MAX];
    snprintf(out, LISTENER_TEXT_MAX, "%s%s%s%s", address_format_endpoint(&spec->address, text),
             spec->implicit_tls ? " tls" : "", spec->proxy ? " proxy" : "",
             spec->submission ? " submission" : "");
    return out;
}

static void listener_explain(const struct listen_spec *spec, int failure, struct error *err)
{
    char text[ADDRESS_TEXT_MAX];
    const char *remedy = "";
    if (failure == EACCES)
        remedy = _("; ports below 1024 require CAP_NET_BIND_SERVICE or starting as root");
    else if (failure == EADDRINUSE)
        remedy = _("; another program listens there (ss -ltnp shows which)");
    error_set(err, _("cannot listen on %s: %s%s"), address_format_endpoint(&spec->address, text),
              strerror(failure), remedy);
}

/* Nagle's algorithm would hold back each reply until the previous one is acknowledged. Accepted
 * connections inherit the option. */
static void listener_no_delay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Returns 0 or an errno. */
static int listener_set_up(int fd, const struct listen_spec *spec)
{
    struct sockaddr_storage sockaddr;
    int on = 1, off = 0;

    listener_no_delay(fd);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* The address, a tunnel's for example, may come up later. */
    if (spec->address.family == AF_INET) {
        setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof on);
    } else {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        setsockopt(fd, IPPROTO_IPV6, IPV6_FREEBIND, &on, sizeof on);
    }
    socklen_t len = address_to_sockaddr(&spec->address, &sockaddr);
    return bind(fd, (struct sockaddr *)&sockaddr, len) == 0 ? 0 : errno;
}

/* [::] means every address. On a kernel without IPv6 those are the IPv4 ones. */
static int listener_bind_ipv4(const struct listen_spec *spec, int *failure)
{
    struct listen_spec any = *spec;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    any.address.family = AF_INET;
    *failure = fd < 0 ? errno : listener_set_up(fd, &any);
    return fd;
}

int listener_bind(const struct listen_spec *spec, struct error *err)
{
    int fd = socket(spec->address.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int failure = fd < 0 ? errno : listener_set_up(fd, spec);

    if (fd < 0 && failure == EAFNOSUPPORT && address_is_wildcard(&spec->address))
        fd = listener_bind_ipv4(spec, &failure);
    if (failure == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    listener_explain(spec, failure, err);
    return -1;
}

int listener_listen(int fd, const struct listen_spec *spec, struct error *err)
{
    if (listen(fd, LISTENER_BACKLOG) == 0)
        return 0;
    listener_explain(spec, errno, err);
    return -1;
}

int listener_open(const struct listen_spec *spec, struct error *err)
{
    int fd = listener_bind(spec, err);
    if (fd < 0 || listener_listen(fd, spec, err) == 0)
        return fd;
    close(fd);
    return -1;
}

static bool listener_is_transparent(int fd)
{
    int on = 0;
    socklen_t len = sizeof on;
    return getsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &on, &len) != 0 || on != 0;
}

bool listener_local_address(int fd, struct address *local)
{
    return address_of_socket(local, fd) && local->family != AF_UNSPEC &&
           !address_is_wildcard(local) && !listener_is_transparent(fd);
}

size_t listener_inherited(int *fds, size_t max)
{
    const char *pid = getenv("LISTEN_PID"), *number = getenv("LISTEN_FDS");
    size_t count = 0;

    if (pid != NULL && number != NULL && strtol(pid, NULL, 10) == (long)getpid()) {
        long handed = strtol(number, NULL, 10);
        for (int fd = FIRST_INHERITED; fd < FIRST_INHERITED + handed && count < max; fd++) {
            fcntl(fd, F_SETFD, FD_CLOEXEC);
            fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
            listener_no_delay(fd);
            fds[count++] = fd;
        }
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return count;
}

int listener_take(const struct listen_spec *spec, int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct sockaddr_storage sockaddr;
        socklen_t len = sizeof sockaddr;
        struct address bound;
        if (fds[i] < 0 || getsockname(fds[i], (struct sockaddr *)&sockaddr, &len) != 0)
            continue;
        address_from_sockaddr(&bound, (struct sockaddr *)&sockaddr);
        if (address_equal(&bound, &spec->address)) {
            int fd = fds[i];
            fds[i] = -1;
            return fd;
        }
    }
    return -1;
}
