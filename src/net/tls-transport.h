/* net/tls-transport.h - between a TLS session and its socket, for net/tls-session.c only
 *
 * GnuTLS reads each record in two pieces and would send a handshake flight in three. This layer
 * reads ahead, so that a short record costs one recv(2). It holds a handshake's output until
 * somebody waits for the answer or adds something; then all of it leaves in one sendmsg(2). A lone
 * empty change_cipher_spec, which nobody waits for, leaves with what follows. It reads nothing
 * ahead before the first record, so it never sees plain text. It blocks at most in one recv(2), and
 * only if allowed.
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

/* Octets: enough for a command or a client's first flight. Every idle session pays for it. */
#define TLS_AHEAD_MAX 640

struct tls_transport {
    int fd;
    bool may_wait; /* the next recv(2) may block */
    bool holding;  /* hold output back */
    bool pulled;   /* GnuTLS has asked for input; the session resets it */
    char *held;    /* output held back; NULL: none */
    size_t held_len;
    size_t ahead_start, ahead_end;
    char ahead[TLS_AHEAD_MAX];
};

/* Makes the session use `transport` for its socket. */
void tls_transport_attach(struct tls_transport *transport, gnutls_session_t gnutls, int fd);
/* Discards the output that is held. */
void tls_transport_clear(struct tls_transport *transport);

/* Tries once to send the held output. What remains goes out before anything else. */
void tls_transport_flush(struct tls_transport *transport);

/* Are there octets read ahead, which poll(2) cannot report? */
bool tls_transport_has_input(const struct tls_transport *transport);
/* Is output held that must leave before a wait? If GnuTLS would block, this is why: the socket did not take it. */
bool tls_transport_has_output(const struct tls_transport *transport);

#endif
