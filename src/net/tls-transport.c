/* net/tls-transport.c - between a TLS session and its socket
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/tls-transport.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define RECORD_HEADER 5 /* RFC 8446 5.1 */
#define HELD_MAX 8192   /* a flight with a chain of certificates */
#define IOV_MAX_HERE 32 /* most pieces sent at once; GnuTLS would pass the rest again */

static ssize_t tls_transport_send_vector(const struct tls_transport *transport,
                                         const struct iovec *iov, size_t count)
{
    struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = count};
    return sendmsg(transport->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void tls_transport_drop_held(struct tls_transport *transport, size_t len)
{
    transport->held_len -= len;
    if (transport->held_len == 0)
        tls_transport_clear(transport);
    else
        memmove(transport->held, transport->held + len, transport->held_len);
}

/* Sends the held output, then `iov`. Returns the octets of `iov` that were sent. */
static ssize_t tls_transport_send_behind_held(struct tls_transport *transport,
                                              const struct iovec *iov, size_t count)
{
    struct iovec all[1 + IOV_MAX_HERE] = {{transport->held, transport->held_len}};

    if (count > IOV_MAX_HERE)
        count = IOV_MAX_HERE;
    for (size_t i = 0; i < count; i++)
        all[1 + i] = iov[i];
    ssize_t sent = tls_transport_send_vector(transport, all, 1 + count);
    if (sent < 0)
        return -1;
    size_t of_held = (size_t)sent < transport->held_len ? (size_t)sent : transport->held_len;
    tls_transport_drop_held(transport, of_held);
    sent -= (ssize_t)of_held;
    if (transport->held_len == 0 && (sent > 0 || count == 0))
        return sent;
    errno = EAGAIN;
    return -1;
}

/* Adds output to what is held. False if it does not fit or if out of memory. */
static bool tls_transport_hold(struct tls_transport *transport, const struct iovec *iov, int count,
                               size_t total)
{
    if (total > HELD_MAX - transport->held_len)
        return false;
    if (transport->held == NULL && (transport->held = malloc(HELD_MAX)) == NULL)
        return false;
    for (int i = 0; i < count; i++) {
        memcpy(transport->held + transport->held_len, iov[i].iov_base, iov[i].iov_len);
        transport->held_len += iov[i].iov_len;
    }
    return true;
}

static ssize_t tls_transport_push(gnutls_transport_ptr_t argument, const giovec_t *iov, int count)
{
    struct tls_transport *transport = argument;
    size_t total = 0;

    if (transport->holding) {
        for (int i = 0; i < count; i++)
            total += iov[i].iov_len;
        if (tls_transport_hold(transport, iov, count, total))
            return (ssize_t)total;
    }
    return transport->held_len > 0 ? tls_transport_send_behind_held(transport, iov, (size_t)count)
                                   : tls_transport_send_vector(transport, iov, (size_t)count);
}

/* Is what is held an empty change_cipher_spec alone? In TLS 1.3 GnuTLS hands it out before it reads on, but no peer
 * waits for it (RFC 8446 D.4): it leaves with what follows. */
static bool tls_transport_holds_filler(const struct tls_transport *transport)
{
    static const char filler[] = {20, 3, 3, 0, 1, 1};
    return transport->held_len == sizeof filler &&
           memcmp(transport->held, filler, sizeof filler) == 0;
}

/* Held output must leave before a wait for input. After the handshake, input that is already there is
 * read first: what is held then, a ticket, can leave with the reply. */
static ssize_t tls_transport_receive(struct tls_transport *transport, char *bytes, size_t len)
{
    bool wait = transport->may_wait;

    if (transport->held_len > 0 && !transport->holding) {
        ssize_t got = recv(transport->fd, bytes, len, MSG_DONTWAIT);
        if (got >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
            return got;
    }
    if (tls_transport_has_output(transport) &&
        tls_transport_send_behind_held(transport, NULL, 0) < 0)
        return -1;
    /* Block only once: a record that trickles in must not hold us past the deadline. */
    transport->may_wait = false;
    return recv(transport->fd, bytes, len, wait ? 0 : MSG_DONTWAIT);
}

static ssize_t tls_transport_take_ahead(struct tls_transport *transport, void *bytes, size_t len)
{
    size_t there = transport->ahead_end - transport->ahead_start;
    if (len > there)
        len = there;
    memcpy(bytes, transport->ahead + transport->ahead_start, len);
    transport->ahead_start += len;
    return (ssize_t)len;
}

/* Reads ahead only where a record begins. The rest of a record, including a split header, is read as
 * GnuTLS asks, so that a flood of records cannot keep `ahead` filled forever. */
static ssize_t tls_transport_pull(gnutls_transport_ptr_t argument, void *bytes, size_t len)
{
    struct tls_transport *transport = argument;

    transport->pulled = true;
    if (tls_transport_has_input(transport))
        return tls_transport_take_ahead(transport, bytes, len);
    if (len != RECORD_HEADER)
        return tls_transport_receive(transport, bytes, len);
    ssize_t got = tls_transport_receive(transport, transport->ahead, sizeof transport->ahead);
    if (got <= 0)
        return got;
    transport->ahead_start = 0;
    transport->ahead_end = (size_t)got;
    return tls_transport_take_ahead(transport, bytes, len);
}

void tls_transport_attach(struct tls_transport *transport, gnutls_session_t gnutls, int fd)
{
    transport->fd = fd;
    gnutls_transport_set_ptr(gnutls, transport);
    gnutls_transport_set_pull_function(gnutls, tls_transport_pull);
    gnutls_transport_set_vec_push_function(gnutls, tls_transport_push);
}

void tls_transport_clear(struct tls_transport *transport)
{
    free(transport->held);
    transport->held = NULL;
    transport->held_len = 0;
}

void tls_transport_flush(struct tls_transport *transport)
{
    if (transport->held_len > 0)
        tls_transport_send_behind_held(transport, NULL, 0);
}

bool tls_transport_has_input(const struct tls_transport *transport)
{
    return transport->ahead_end > transport->ahead_start;
}

bool tls_transport_has_output(const struct tls_transport *transport)
{
    return transport->held_len > 0 && !tls_transport_holds_filler(transport);
}
