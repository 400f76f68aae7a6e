/* net/tls-transport.h - between a TLS session and its socket, for net/tls-session.c only
 *
 * GnuTLS asks for each record in two pieces and would send a flight of a handshake in three. Here
 * the beginning of what comes is read ahead, so that a short record costs one recv(2), and what a
 * handshake says is held until somebody is going to wait for the answer, or has something to add:
 * then it leaves in one sendmsg(2). Nothing is read ahead before the first record: what came in
 * plain text is not seen here. Never waits longer than one recv(2) that it was allowed.
 *
 * Owns the output it holds, not the socket. Used by one thread at a time.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_TLS_TRANSPORT_H
#define POSTERN_NET_TLS_TRANSPORT_H

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>

/* A command, or a client's first flight; every idle session pays for it. */
#define TLS_AHEAD_MAX 640

struct tls_transport {
    int fd;
    bool may_wait; /* the next recv(2) */
    bool holding;  /* what is said now is held */
    bool pulled;   /* GnuTLS has asked for input; the session resets it */
    char *held;    /* output; NULL: none */
    size_t held_len;
    size_t ahead_start, ahead_end;
    char ahead[TLS_AHEAD_MAX];
};

/* Gives the session `transport` for its socket. */
void tls_transport_attach(struct tls_transport *transport, gnutls_session_t gnutls, int fd);
/* Forgets what is held. */
void tls_transport_clear(struct tls_transport *transport);

/* Sends what is held, tried once: what stays goes before anything else. */
void tls_transport_flush(struct tls_transport *transport);

/* Octets were read ahead, of which no poll(2) will tell. They end with the record that was begun in
 * them: after it there are none, until the next is asked for. */
bool tls_transport_has_input(const struct tls_transport *transport);
/* Output is held that the socket did not take: when GnuTLS gave up, that was why. */
bool tls_transport_has_output(const struct tls_transport *transport);

#endif
