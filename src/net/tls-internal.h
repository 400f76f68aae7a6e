/* net/tls-internal.h - TLS sessions, between net/tls and net/stream
 *
 * Internal to net/stream, with tls-session.c. One step at a time and never waiting: a step that would block says what it waits for, and the
 * stream, which has the deadline, waits. Nobody else includes this or sees GnuTLS.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_TLS_INTERNAL_H
#define POSTERN_NET_TLS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "net/stream.h"
#include "net/tls.h"

/* Negative results of the steps. */
enum {
    TLS_WANT_READ = -1,
    TLS_WANT_WRITE = -2,
    TLS_BROKEN = -3,
};

/* NULL with a reason. The session holds a reference of its server; a client must outlive it. */
struct tls_session *tls_session_new_server(struct tls_server *server, int fd, struct error *err);
/* `judge` NULL: the client's own rules hold; else it must outlive the handshake. */
struct tls_session *tls_session_new_client(struct tls_client *client, int fd, const char *name,
                                           const struct tls_judge *judge, struct error *err);
void tls_session_free(struct tls_session *session);

/* Where `wait` is said, one recv(2) may wait, for as long as the socket lets it; nothing else
 * does. */

/* 0 when done; TLS_BROKEN with a reason. The last flight may still be held: it leaves with what is
 * sent next, or before the next wait for input, or with close_notify. */
int tls_session_handshake(struct tls_session *session, bool wait, struct error *err);

/* Octets moved; 0 from receive is the peer's close_notify. */
ssize_t tls_session_receive(struct tls_session *session, char *bytes, size_t len, bool wait);
ssize_t tls_session_send(struct tls_session *session, const char *bytes, size_t len);

/* Octets collect between cork and a tls_session_uncork() that returns 0, and leave in one
 * record. */
void tls_session_cork(struct tls_session *session);
int tls_session_uncork(struct tls_session *session);

/* Octets that came and no poll(2) will tell of: decrypted, or read ahead. */
bool tls_session_has_pending(const struct tls_session *session);
void tls_session_info(const struct tls_session *session, struct tls_info *info);

/* What the peer has refused by an alert, "Certificate is bad"; NULL when it has not. Static text. */
const char *tls_session_refusal(const struct tls_session *session);

/* close_notify, tried once. */
void tls_session_bye(struct tls_session *session);

#endif
