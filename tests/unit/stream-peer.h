/* tests/unit/stream-peer.h - the other end of a stream: sockets, certificates, clients by GnuTLS
 *
 * What the tests of net/stream and net/tls meet a stream with. The clients speak through GnuTLS
 * itself, for what net/tls's own client does not do. Everything here ends the test on failure.
 * The certificates lie in one folder for the program, made before the first test; a caller is of
 * the thread that runs it, a partner of the test's own.
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

/* A deadline for what is there already, or never comes. */
struct deadline soon(void);

/* Two connected sockets; the caller closes both. */
void tcp_pair(int fds[2]);
void unix_pair(int fds[2]);

/* The segments with data that left a TCP socket so far. */
unsigned segments_sent(int fd);

/* Makes the folder, and in it NAME.crt, NAME.key and NAME.pem, which holds both, for three names:
 * "ec" and "rsa" for the host mail.example, "other" for other.example with a subject longer than
 * struct tls_info notes. Each is signed by itself. */
void certificates_open(void);
void certificates_close(void);

/* "rsa" once more, with a new key. */
void certificates_renew_rsa(void);

/* The path of a file in that folder; the caller frees it. */
char *certificates_path(const char *name);

/* A server with that one pair (key NULL: in the same file), trusting "ec" where it asks for client
 * certificates. NULL with err set on failure. */
struct tls_server *server_with(const char *cert, const char *key,
                               enum tls_client_certificates request,
                               const struct tls_tickets *tickets, struct error *err);

/* The priority of a client that knows nothing newer. */
#define TLS12 "NORMAL:-VERS-TLS1.3"

/* A client on a thread of its own: chooses versions and signatures, resumes, sends a certificate
 * unasked-for. It reads one record and says goodbye; whoever made the socket closes it. */
struct caller {
    const char *priority, *name, *certificate;
    const gnutls_datum_t *resume; /* a session of an earlier call */
    gnutls_datum_t *save;
    int fd;
    char subject[64]; /* of the server's certificate */
    char first[32];   /* the first record that came */
};

/* For pthread_create(3): the argument is a struct caller. */
void *caller_run(void *argument);

/* A client on this same thread: the test says when, and in which pieces, its octets arrive. */
struct partner {
    struct stream stream;
    struct stream_buffers buffers;
    int fd;
    bool deaf;
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    GByteArray *said; /* not yet delivered */
};

/* Takes both sockets: fds[0] becomes the stream. */
void partner_open(struct partner *partner, const int fds[2], const char *priority);
void partner_close(struct partner *partner);

/* Says a text in a record of its own, which waits in `said`. */
void partner_say(struct partner *partner, const char *text, size_t len);

/* Writes the first octets of `said` to the stream's socket. */
void partner_deliver(struct partner *partner, size_t len);

/* A handshake, until both sides are through. */
void partner_meet(struct partner *partner, struct tls_server *server);

#endif
