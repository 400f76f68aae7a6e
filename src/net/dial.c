/* net/dial.c - outgoing TCP connections under a deadline
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/dial.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int await_connected(int fd, struct deadline deadline)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    int failure = 0, ready;
    socklen_t size = sizeof failure;

    do {
        ready = poll(&poll_fd, 1, deadline_left_ms(deadline));
    } while (ready < 0 && errno == EINTR);
    if (ready == 0)
        return ETIMEDOUT;
    if (ready < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) != 0)
        return errno;
    return failure;
}

/* The time that connect(2) may take by itself. */
static bool limit_connect(int fd, struct deadline deadline)
{
    int left_ms = deadline_left_ms(deadline);
    const struct timeval limit = {left_ms / 1000, left_ms % 1000 * 1000};
    return left_ms > 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0;
}

/* 0 or an errno. */
static int connect_on(int fd, const struct address *to, const struct address *from,
                      int user_timeout_ms, struct deadline deadline)
{
    struct sockaddr_storage sockaddr;
    unsigned user_timeout = (unsigned)user_timeout_ms;
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (user_timeout_ms > 0)
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof user_timeout);
    if (from != NULL &&
        bind(fd, (struct sockaddr *)&sockaddr, address_to_sockaddr(from, &sockaddr)) != 0)
        return errno;
    if (!limit_connect(fd, deadline))
        return ETIMEDOUT;
    socklen_t len = address_to_sockaddr(to, &sockaddr);
    if (connect(fd, (struct sockaddr *)&sockaddr, len) == 0)
        return 0;
    return errno == EINPROGRESS || errno == EINTR ? await_connected(fd, deadline) : errno;
}

int dial_connect(const struct address *to, const struct address *from, int user_timeout_ms,
                 struct deadline deadline, struct error *err)
{
    char text[ADDRESS_TEXT_MAX];
    int fd = socket(to->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int failure = fd < 0 ? errno : connect_on(fd, to, from, user_timeout_ms, deadline);

    if (failure == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    error_set(err, "connect to %s: %s", address_format_endpoint(to, text), strerror(failure));
    errno = failure;
    return -1;
}

bool dial_failed_here(int failure)
{
    static const int ours[] = {EACCES,  EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT,
                               EMFILE,  ENETDOWN,   ENETUNREACH,   ENFILE,
                               ENOBUFS, ENOMEM,     EPERM};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (failure == ours[i])
            return true;
    }
    return false;
}
