/* net/tls.h - TLS credentials by GnuTLS, for the server side and for next hops
 *
 * A tls_server is an immutable set of certificates, priorities and client-certificate policy,
 * loaded from files, checked at once, counted by references: a reload makes a new one and running
 * sessions keep theirs. Ticket keys live in a tls_tickets that outlasts reloads, so returning
 * senders still resume. All functions are thread-safe on distinct or shared finished objects.
 * Layer: net/stream runs the handshakes; nobody else sees GnuTLS.
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
    const char *key;  /* PEM file; NULL or the same path: the key stands in `cert` */
};

/* Behind "NORMAL" in a GnuTLS priority string: all that is in it, the cheapest first. With secp256r1
 * first, as there, every client that sends a key share for X25519 alone, as OpenSSL does, is asked for
 * another and pays a round trip. Behind AES-128 stands SHA-256, the cheaper key schedule. */
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

/* Is the string one that leaves a version to speak? 0, or -1 with the reason. */
int tls_check_priority(const char *priority, enum tls_minimum_version minimum, struct error *err);

/* Is the first certificate of this file for that host? 1, 0, or -1 when it cannot be read. */
int tls_certificate_covers(const char *file, const char *hostname);

struct tls_tickets;
struct tls_tickets *tls_tickets_new(struct error *err);
void tls_tickets_free(struct tls_tickets *tickets);

struct tls_server;

/* Loads and checks everything (files readable, key fits certificate, priority string valid,
 * not yet expired: expiry is only worth a warning). NULL with a reason that
 * names the file. `tickets` may be NULL (no resumption) and must outlive the server. */
struct tls_server *tls_server_new(const struct tls_server_config *config,
                                  const struct tls_tickets *tickets, struct error *err);
struct tls_server *tls_server_ref(struct tls_server *server);
void tls_server_unref(struct tls_server *server);

/* A file it was loaded from has another mtime, size or inode now. */
bool tls_server_files_changed(const struct tls_server *server);

/* One of its certificates, for people. */
struct tls_server_certificate {
    const char *file;
    char name[256];   /* the first host name in it, or its subject's */
    long long expiry; /* seconds since the epoch; 0: cannot be told */
};
/* Returns their number; they live as long as the server. */
size_t tls_server_certificates(const struct tls_server *server,
                               const struct tls_server_certificate **certificates);

/* A certificate as a peer shows it, or a part of one: DER, borrowed. */
struct tls_certificate {
    const unsigned char *der;
    size_t len; /* octets */
};

/* What a server shows in a handshake; valid within a tls_judge. */
struct tls_session;
struct tls_peer {
    const struct tls_certificate *chain; /* leaf first, as it came */
    size_t count;
    struct tls_session *session;
};

/* Decides instead of a tls_client's `verify`: false ends the handshake with an alert, and `err` says
 * why. It is asked once, by the thread that runs the handshake, and may not wait. A handshake in
 * which nothing was shown fails. */
struct tls_judge {
    bool (*accepts)(void *context, const struct tls_peer *peer, struct error *err);
    void *context;
};

/* Is the chain one that the CAs of the tls_client vouch for, and for this name? `err` says why not. */
enum tls_trust { TLS_TRUSTED, TLS_NOT_TRUSTED, TLS_EXPIRED, TLS_WRONG_NAME };
enum tls_trust tls_peer_check(const struct tls_peer *peer, const char *name, struct error *err);

/* TLS 1.2 or newer. */
bool tls_peer_is_modern(const struct tls_peer *peer);

struct tls_client_config {
    const char *priority; /* NULL: "NORMAL" TLS_ORDER */
    bool verify;          /* chain and name; otherwise any certificate will do */
    const char *ca_file;  /* NULL: the system's */
    /* Shown when asked for, as in tls_server_config; NULL: none. */
    const struct tls_pair *pair;
};

struct tls_client;
struct tls_client *tls_client_new(const struct tls_client_config *config, struct error *err);
void tls_client_free(struct tls_client *client);

/* Its ca_file has another mtime, size or inode than when it was read. */
bool tls_client_files_changed(const struct tls_client *client);

#endif
