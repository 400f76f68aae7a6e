/* net/tls-credentials.h - the contents of tls_server and tls_client, for net/tls*.c only
 *
 * A server is counted by references, a client has one owner. Immutable once made: thread-safe. New files
 * make new ones.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_TLS_CREDENTIALS_H
#define POSTERN_NET_TLS_CREDENTIALS_H

#include <gnutls/gnutls.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <time.h>

#include "net/tls.h"

/* A file's state when it was read. */
struct tls_file {
    char *path;
    struct timespec changed;
    off_t size;
    ino_t inode;
};

/* All files that a server or a client was loaded from. */
struct tls_files {
    struct tls_file *items;
    size_t count;
};

struct tls_server {
    atomic_uint references;
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
    gnutls_dh_params_t dh;            /* NULL: the RFC 7919 groups */
    const gnutls_datum_t *ticket_key; /* borrowed; NULL: no tickets */
    enum tls_client_certificates client_certificates;
    struct tls_server_certificate *certificates;
    gnutls_x509_crt_t *leaves; /* the first certificate of each pair; NULL: unreadable */
    /* For each pair, with which to serve a host that only its wildcard covers; NULL: it has none. */
    gnutls_certificate_credentials_t *wildcards;
    size_t certificate_count;
    struct tls_files files;
};

struct tls_client {
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
    bool verify;
    struct tls_files files;
};

#endif
