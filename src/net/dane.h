/* net/dane.h - does this certificate chain fit these TLSA records? (RFC 6698, 7671, 7672)
 *
 * From the TLSA RRset of a mail server to those of its records that can be used, and from the chain
 * that the server shows to a verdict. What it takes for granted is that DNSSEC has proven the
 * records. Pure: no DNS, no sockets, no clock but the one that certificates expire by. Chains and
 * names are checked by a trust list of GnuTLS that holds nothing but what the records name.
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

#define DANE_RECORDS_MAX 32 /* of an RRset that are looked at */

/* Certificate usages, selectors and matching types that mail uses (RFC 7672 3.1). */
enum { DANE_USAGE_TA = 2, DANE_USAGE_EE = 3 };
enum { DANE_SELECT_CERTIFICATE = 0, DANE_SELECT_KEY = 1 };
enum { DANE_TYPE_FULL = 0, DANE_TYPE_SHA256 = 1, DANE_TYPE_SHA512 = 2 };

struct dane_record {
    uint8_t usage, selector, type;
    const uint8_t *data;
    size_t len; /* octets */
};

/* The records of one RRset that can be used; those that cannot are only counted. In one piece. */
struct dane_records {
    size_t unusable;
    size_t count;
    struct dane_record items[];
};

/* Reads the data of `count` TLSA records. Usable are the usages 2 and 3, with selector 0 or 1 and a
 * digest of the right length, or a certificate or key that can be read (RFC 7672 3.1.3). Of one
 * usage and selector the weaker digests are left out when there is a stronger one (RFC 7671 9).
 * NULL when out of memory. The caller frees it by free(3). */
struct dane_records *dane_records_new(const char *const *data, const int *lengths, size_t count);

enum dane_result {
    DANE_MATCH,          /* proven by one of the records */
    DANE_NO_MATCH,       /* no record is about what was shown */
    DANE_BAD_CHAIN,      /* a record names an anchor, but there is no way to it from the leaf */
    DANE_EXPIRED,        /* there is, but not at this time */
    DANE_WRONG_NAME,     /* there is, but the leaf is another host's */
    DANE_BAD_CERTIFICATE /* nothing was shown, or nothing that can be read; or out of memory */
};

struct dane_verdict {
    enum dane_result result;
    const struct dane_record *record; /* that matched, or named the anchor; NULL: none */
};

/* Judges a chain, leaf first. `names` are what the leaf may be called where a record names an
 * anchor (RFC 7672 3.2.3), A-labels without a final dot. A record of usage 3 asks for no name, no
 * date and no chain (RFC 7672 3.1.1). Any one record is enough. */
struct dane_verdict dane_match(const struct dane_records *records,
                               const struct tls_certificate *chain, size_t count,
                               const char *const *names, size_t name_count);

/* What the certificate does: "matches no record", "is for another name", ...; static text. */
const char *dane_result_text(enum dane_result result);

/* The subjectPublicKeyInfo of a certificate, as it stands there: to encode a key anew is not always
 * to get the same octets. 0 and a part of `certificate` in `key`; -1 when it is no certificate. */
int dane_public_key(const struct tls_certificate *certificate, struct tls_certificate *key);

#endif
