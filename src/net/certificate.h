/* net/certificate.h - reads the facts of a certificate file: dates, names, key, chain
 *
 * For reports to the operator, not for handshakes (net/tls). The file is read once, whole; the struct
 * owns the facts. Thread-safe on distinct structs.
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
#define CERTIFICATE_SOON_DAYS 14 /* warn if fewer are left; ACME clients renew well before */

enum certificate_chain {
    CERTIFICATE_TRUSTED,     /* ends at a CA of the system */
    CERTIFICATE_SELF_SIGNED, /* good only for clients that do not verify */
    CERTIFICATE_INCOMPLETE,  /* the last certificate's issuer is neither included nor known */
    CERTIFICATE_UNORDERED,   /* a certificate is not the issuer of the one before it */
};

struct certificate {
    long long not_before, not_after; /* of the leaf, seconds since the epoch */
    const char *key;                 /* "ECDSA", "RSA", ...; static text */
    unsigned key_bits;
    enum certificate_chain state;
    struct tls_certificate chain[CERTIFICATE_CHAIN_MAX]; /* leaf first; owned */
    size_t chain_count;
    char (*names)[CERTIFICATE_NAME_MAX]; /* subject alternative names in A-labels; owned */
    size_t name_count;
};

/* Reads a PEM file with the leaf first. Returns 0, or -1 with
 * a reason in `err` that names the file. */
int certificate_read(struct certificate *certificate, const char *file, struct error *err);
/* Frees what certificate_read() made; an empty struct is fine. */
void certificate_clear(struct certificate *certificate);

/* Does it cover that host by RFC 6125: by name, or by a wildcard for the leftmost label? */
bool certificate_covers(const struct certificate *certificate, const char *host);

#endif
