/* net/dane.h - does this certificate chain match these TLSA records? (RFC 6698, 7671, 7672)
 *
 * Reads the usable records of a mail server's TLSA RRset, and judges the certificate chain that the
 * server presents. The caller guarantees that DNSSEC has proven the records. Pure: no DNS, no
 * sockets, and no clock except for certificate expiry. A GnuTLS trust list that contains only what
 * the records name checks chains and names.
 *
 * Thread-safe. Used by relay-out.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_DANE_H
#define POSTERN_NET_DANE_H

#include <stddef.h>
#include <stdint.h>

#include "net/tls.h"

#define DANE_RECORDS_MAX 32 /* records read per RRset */

/* Certificate usages, selectors and matching types that mail uses (RFC 7672 3.1). */
enum { DANE_USAGE_TA = 2, DANE_USAGE_EE = 3 };
enum { DANE_SELECT_CERTIFICATE = 0, DANE_SELECT_KEY = 1 };
enum { DANE_TYPE_FULL = 0, DANE_TYPE_SHA256 = 1, DANE_TYPE_SHA512 = 2 };

struct dane_record {
    uint8_t usage, selector, type;
    const uint8_t *data;
    size_t len; /* octets */
};

/* The usable records of one RRset; unusable ones are only counted. One allocation. */
struct dane_records {
    size_t unusable;
    size_t count;
    struct dane_record items[];
};

/* Reads the data of `count` TLSA records. A record is usable if its usage is 2 or 3, its selector 0
 * or 1, and it holds a digest of the right length or a readable certificate or key (RFC 7672
 * 3.1.3). Among records of the same usage and selector, weaker digests are dropped if there is a
 * stronger one (RFC 7671 9). NULL if out of memory. The caller frees it with free(3). */
struct dane_records *dane_records_new(const char *const *data, const int *lengths, size_t count);

enum dane_result {
    DANE_MATCH,          /* a record proves the certificate */
    DANE_NO_MATCH,       /* no record matches what the server presented */
    DANE_BAD_CHAIN,      /* a record names an anchor, but the leaf does not chain to it */
    DANE_EXPIRED,        /* the leaf chains to an anchor, but is not valid at this time */
    DANE_WRONG_NAME,     /* the leaf chains to an anchor, but is for another host */
    DANE_BAD_CERTIFICATE /* no certificate, or an unreadable one; or out of memory */
};

struct dane_verdict {
    enum dane_result result;
    const struct dane_record *record; /* the one that matched or named the anchor; NULL: none */
};

/* Judges a chain, leaf first. If a record names an anchor, the leaf must have one of `names` (RFC 7672
 * 3.2.3): A-labels without a final dot. A record of usage 3 requires no name, no date and no chain
 * (RFC 7672 3.1.1). One matching record is enough. */
struct dane_verdict dane_match(const struct dane_records *records,
                               const struct tls_certificate *chain, size_t count,
                               const char *const *names, size_t name_count);

/* A predicate for the certificate: "matches no record", "is for another name", ...; static text. */
const char *dane_result_text(enum dane_result result);

/* Finds the subjectPublicKeyInfo of a certificate exactly as it is encoded there, because re-encoding
 * a key can yield different octets. Returns 0, with `key` pointing into `certificate`, or -1 if it
 * is not a certificate. */
int dane_public_key(const struct tls_certificate *certificate, struct tls_certificate *key);

#endif
