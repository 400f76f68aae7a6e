/* net/certificate.h - what a certificate file says: dates, names, key, chain
 *
 * For those who tell an operator about a certificate, not for handshakes (net/tls). A file is read
 * once, whole, and its facts are owned by the struct. Thread-safe on distinct structs.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_CERTIFICATE_H
#define POSTERN_NET_CERTIFICATE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "net/tls.h"

#define CERTIFICATE_CHAIN_MAX 10
#define CERTIFICATE_NAMES_MAX 50
#define CERTIFICATE_NAME_MAX 256

enum certificate_chain {
    CERTIFICATE_TRUSTED,     /* ends at a CA of the system */
    CERTIFICATE_SELF_SIGNED, /* one's own, for clients that do not look */
    CERTIFICATE_INCOMPLETE,  /* the issuer of the last one is neither there nor known */
    CERTIFICATE_UNORDERED,   /* one is not the issuer of the one before it */
};

struct certificate {
    long long not_before, not_after; /* of the leaf, seconds since the epoch */
    const char *key;                 /* "ECDSA", "RSA", ...; static text */
    unsigned key_bits;
    enum certificate_chain state;
    struct tls_certificate chain[CERTIFICATE_CHAIN_MAX]; /* leaf first; owned */
    size_t chain_count;
    char (*names)[CERTIFICATE_NAME_MAX]; /* of the subject alternative names; A-labels */
    size_t name_count;
};

/* Reads a PEM file: the leaf first. `ca_file` NULL: the system's CAs. 0; -1 with a reason that names
 * the file. */
int certificate_read(struct certificate *certificate, const char *file, const char *ca_file,
                     struct error *err);
/* Frees what certificate_read() made; an empty struct is fine. */
void certificate_clear(struct certificate *certificate);

/* Is it for that host, by RFC 6125: a name of its own, or a wildcard of the leftmost label? */
bool certificate_covers(const struct certificate *certificate, const char *host);

#endif
