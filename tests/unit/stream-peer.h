/* tests/unit/stream-peer.h - the other end of a stream: sockets, certificates, clients by GnuTLS
 *
 * The tests of net/stream and net/tls use it as the peer of a stream. The clients use GnuTLS directly,
 * for what net/tls's own client does not do. Everything here ends the test on failure. The program has
 * one folder of certificates, made before the first test. A caller belongs to the thread that runs it, a
 * partner to the test's thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_TESTS_STREAM_PEER_H
#define POSTERN_TESTS_STREAM_PEER_H

#include <glib.h>
#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>

#include "net/stream.h"
#include "net/tls.h"

/* A short deadline, for input that is already there or never comes. */
struct deadline soon(void);

/* Two connected sockets, which send at once; the caller closes both. */
void tcp_pair(int fds[2]);
void unix_pair(int fds[2]);

/* The number of data segments that a TCP socket has sent so far. */
unsigned segments_sent(int fd);

/* Makes the folder with NAME.crt, NAME.key and NAME.pem (both in one) for three names: "ec" and "rsa" for
 * the host mail.example, "other" for other.example with a subject that is too long for struct tls_info.
 * All are self-signed. */
void certificates_open(void);
void certificates_close(void);

/* Makes "rsa" again, with a new key. */
void certificates_renew_rsa(void);

/* The path of a file in that folder; the caller frees it. */
char *certificates_path(const char *name);

/* A server with that one pair (key NULL: in the same file) that trusts "ec" as a client certificate. NULL
 * with `err` set on failure. */
struct tls_server *server_with(const char *cert, const char *key,
                               enum tls_client_certificates request,
                               const struct tls_tickets *tickets, struct error *err);

/* The priority of a client that supports nothing newer. */
#define TLS12 "NORMAL:-VERS-TLS1.3"

/* A client in its own thread: chooses versions and signatures, resumes, and can send a certificate
 * unasked. It reads one record and says goodbye; the socket's owner closes it. */
struct caller {
    const char *priority, *name, *certificate;
    const gnutls_datum_t *resume; /* a session of an earlier call */
    gnutls_datum_t *save;
    int fd;
    char subject[64]; /* of the server's certificate */
    char first[32];   /* the first record received */
};

/* For pthread_create(3): the argument is a struct caller. */
void *caller_run(void *argument);

/* A client in the test's own thread: the test decides when, and in which pieces, its octets arrive. */
struct partner {
    struct stream stream;
    struct stream_buffers buffers;
    int fd;
    bool deaf;
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    GByteArray *said; /* not yet delivered */
};

/* Takes ownership of both sockets; fds[0] becomes the stream. */
void partner_open(struct partner *partner, const int fds[2], const char *priority);
void partner_close(struct partner *partner);

/* Puts a text into its own record, which waits in `said`. */
void partner_say(struct partner *partner, const char *text, size_t len);

/* Writes the first octets of `said` to the stream's socket. */
void partner_deliver(struct partner *partner, size_t len);

/* Runs the handshake until both sides have finished. */
void partner_meet(struct partner *partner, struct tls_server *server);

#endif
