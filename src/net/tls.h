/* net/tls.h - TLS credentials by GnuTLS, for the server side and for next hops
 *
 * A tls_server is an immutable, reference-counted set of certificates, priorities and
 * client-certificate policy. It is loaded from files and checked at once; a reload makes a new one,
 * and running sessions keep theirs. Ticket keys live in a tls_tickets that outlives reloads, so that
 * returning senders can still resume. All functions are thread-safe, also on shared objects once
 * they are made. net/stream runs the handshakes; nobody else sees GnuTLS.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_TLS_H
#define POSTERN_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum tls_client_certificates { TLS_CLIENT_NONE, TLS_CLIENT_REQUEST, TLS_CLIENT_REQUIRE };
enum tls_minimum_version { TLS_MIN_1_0, TLS_MIN_1_1, TLS_MIN_1_2, TLS_MIN_1_3 };

struct tls_pair {
    const char *cert; /* PEM file: the certificate and its chain */
    const char *key;  /* PEM file; NULL, "" or the same path: the key is in `cert` */
};

/* Appended to "NORMAL" in a GnuTLS priority string: keeps everything in it, the cheapest first. NORMAL
 * puts secp256r1 first, so a client that sends a key share only for X25519, as OpenSSL does, would be
 * asked for another and pay a round trip. AES-128 comes with SHA-256, the cheaper key schedule. */
#define TLS_ORDER ":-GROUP-ALL:+GROUP-X25519:+GROUP-ALL:-CIPHER-ALL:+AES-128-GCM:+CIPHER-ALL"

struct tls_server_config {
    const struct tls_pair *pairs; /* at least one; chosen by SNI and key type, first = default */
    size_t pair_count;
    const char *priority; /* GnuTLS priority string */
    enum tls_minimum_version minimum_version;
    enum tls_client_certificates client_certificates;
    const char *ca_file;   /* for client certificates; NULL unless requested */
    const char *dh_params; /* PEM file; NULL: RFC 7919 groups */
};

/* Is the priority string valid, and does it leave a usable version? Returns 0, or -1 with the reason
 * in `err`. */
int tls_check_priority(const char *priority, enum tls_minimum_version minimum, struct error *err);

/* Does the first certificate of this file cover that host? 1, 0, or -1 if it cannot be read. */
int tls_certificate_covers(const char *file, const char *hostname);

struct tls_tickets;
/* The keys of session tickets (RFC 5077), which outlive reloads. One for the process, owned by main. NULL with a
 * reason on failure. */
struct tls_tickets *tls_tickets_new(struct error *err);
void tls_tickets_free(struct tls_tickets *tickets);

struct tls_server;

/* Loads and checks everything: files readable, key matches certificate, priority string valid. An
 * expired certificate is not an error here. Returns the caller's reference, or NULL with a reason that
 * names the file. `tickets` may be NULL (no resumption) and must outlive the server. */
struct tls_server *tls_server_new(const struct tls_server_config *config,
                                  const struct tls_tickets *tickets, struct error *err);
struct tls_server *tls_server_ref(struct tls_server *server);
void tls_server_unref(struct tls_server *server);

/* Has a file that it was loaded from another mtime, size or inode now? */
bool tls_server_files_changed(const struct tls_server *server);

/* One of its certificates, for reports to people. */
struct tls_server_certificate {
    const char *file;
    char name[256];   /* the first host name in it, or its subject's */
    long long expiry; /* seconds since the epoch; 0: unknown */
};
/* Stores a pointer to the certificates, which live as long as the server. Returns their number. */
size_t tls_server_certificates(const struct tls_server *server,
                               const struct tls_server_certificate **certificates);

/* A certificate as a peer presents it, or a part of one: DER, borrowed. */
struct tls_certificate {
    const unsigned char *der;
    size_t len; /* octets */
};

/* What a server presents in a handshake; valid only inside a tls_judge. */
struct tls_session;
struct tls_peer {
    const struct tls_certificate *chain; /* leaf first, as received */
    size_t count;
    struct tls_session *session;
};

/* Replaces a tls_client's `verify`. Returning false ends the handshake with an alert; `err` says why.
 * The thread that runs the handshake calls it once; it must not wait. A handshake in which the server
 * presents no certificate fails. */
struct tls_judge {
    bool (*accepts)(void *context, const struct tls_peer *peer, struct error *err);
    void *context;
};

/* Do the CAs of the tls_client vouch for the chain, and is it for this name? If not, `err` says why. */
enum tls_trust { TLS_TRUSTED, TLS_NOT_TRUSTED, TLS_EXPIRED, TLS_WRONG_NAME };
enum tls_trust tls_peer_check(const struct tls_peer *peer, const char *name, struct error *err);

/* Does the session use TLS 1.2 or newer? */
bool tls_peer_is_modern(const struct tls_peer *peer);

struct tls_client_config {
    const char *priority; /* NULL: "NORMAL" TLS_ORDER */
    bool verify;          /* chain and name; otherwise any certificate will do */
    const char *ca_file;  /* NULL or "": the system's */
    struct tls_pair
        pair; /* the client certificate, presented if the server asks; `cert` NULL or "": none */
};

struct tls_client;
struct tls_client *tls_client_new(const struct tls_client_config *config, struct error *err);
void tls_client_free(struct tls_client *client);

/* Has one of its files another mtime, size or inode than when it was read? */
bool tls_client_files_changed(const struct tls_client *client);

#endif
