/* net/tls-internal.h - TLS sessions, between net/tls and net/stream
 *
 * Internal to net/stream, with tls-session.c, which implements it: nobody else sees GnuTLS. A session
 * works in steps that never wait on their own: a step that would block says what it waits for, and the
 * stream, which has the deadline, waits. A stream owns its session and uses it from one thread at a time.
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

/* NULL with a reason on failure. The session holds a reference to its server; a client must outlive
 * it. */
struct tls_session *tls_session_new_server(struct tls_server *server, int fd, struct error *err);
/* A NULL `judge` means the client's own rules; otherwise it must outlive the handshake. */
struct tls_session *tls_session_new_client(struct tls_client *client, int fd, const char *name,
                                           const struct tls_judge *judge, struct error *err);
void tls_session_free(struct tls_session *session);

/* With `wait`, the next two may block in one recv(2), for the socket's SO_RCVTIMEO. Nothing else
 * blocks. */

/* Returns 0 when done, or TLS_BROKEN with a reason. The last flight may still be held back: it leaves
 * with the next output, before the next wait for input, or with close_notify. */
int tls_session_handshake(struct tls_session *session, bool wait, struct error *err);

/* Return the octets moved. 0 from receive is the peer's close_notify. */
ssize_t tls_session_receive(struct tls_session *session, char *bytes, size_t len, bool wait);
ssize_t tls_session_send(struct tls_session *session, const char *bytes, size_t len);

/* Output collects between the cork and a tls_session_uncork() that returns 0, and leaves in one
 * record. */
void tls_session_cork(struct tls_session *session);
int tls_session_uncork(struct tls_session *session);

/* Has it input that poll(2) cannot report: decrypted, or read ahead? */
bool tls_session_has_pending(const struct tls_session *session);
void tls_session_info(const struct tls_session *session, struct tls_info *info);

/* The reason in the peer's alert, such as "Certificate is bad"; NULL if there was none. Static text. */
const char *tls_session_refusal(const struct tls_session *session);

/* Tries once to send close_notify. */
void tls_session_bye(struct tls_session *session);

#endif
