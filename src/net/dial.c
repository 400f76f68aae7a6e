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

static int dial_await_connected(int fd, struct deadline deadline)
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

/* Limits how long connect(2) itself may block. */
static bool dial_limit_connect(int fd, struct deadline deadline)
{
    int left_ms = deadline_left_ms(deadline);
    const struct timeval limit = {left_ms / 1000, left_ms % 1000 * 1000};
    return left_ms > 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0;
}

/* Returns 0 or an errno. */
static int dial_set_up(int fd, const struct address *from, int user_timeout_ms)
{
    struct sockaddr_storage sockaddr;
    unsigned user_timeout = (unsigned)user_timeout_ms;
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (user_timeout_ms > 0)
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof user_timeout);
    if (from == NULL)
        return 0;
    socklen_t len = address_to_sockaddr(from, &sockaddr);
    return bind(fd, (struct sockaddr *)&sockaddr, len) == 0 ? 0 : errno;
}

/* Returns 0 or an errno. */
static int dial_connect_on(int fd, const struct address *to, struct deadline deadline)
{
    struct sockaddr_storage sockaddr;

    if (!dial_limit_connect(fd, deadline))
        return ETIMEDOUT;
    socklen_t len = address_to_sockaddr(to, &sockaddr);
    if (connect(fd, (struct sockaddr *)&sockaddr, len) == 0)
        return 0;
    return errno == EINPROGRESS || errno == EINTR ? dial_await_connected(fd, deadline) : errno;
}

static int dial_fail(const struct address *to, int failure, struct error *err)
{
    char text[ADDRESS_TEXT_MAX];
    error_set(err, "connect to %s: %s", address_format_endpoint(to, text), strerror(failure));
    errno = failure;
    return -1;
}

int dial_open(const struct address *to, const struct address *from, int user_timeout_ms,
              struct error *err)
{
    int fd = socket(to->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int failure = fd < 0 ? errno : dial_set_up(fd, from, user_timeout_ms);

    if (failure == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return dial_fail(to, failure, err);
}

int dial_finish(int fd, const struct address *to, struct deadline deadline, struct error *err)
{
    int failure = dial_connect_on(fd, to, deadline);
    return failure == 0 ? 0 : dial_fail(to, failure, err);
}

int dial_connect(const struct address *to, const struct address *from, int user_timeout_ms,
                 struct deadline deadline, struct error *err)
{
    int fd = dial_open(to, from, user_timeout_ms, err);

    if (fd < 0 || dial_finish(fd, to, deadline, err) == 0)
        return fd;
    int failure = errno;
    close(fd);
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
