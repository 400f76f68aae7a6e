/* relay-out/security.h - what a destination and its hosts publish about TLS: DANE and MTA-STS
 *
 * Looks up the TLSA records of the hosts whose addresses DNSSEC has proven (RFC 7672 2.2), and the
 * MTA-STS policy of the domain (RFC 8461), and says for one candidate what TLS it needs; the order
 * of precedence is relay-out/tlspolicy's. Checks then what a host shows in the handshake.
 *
 * Costs a domain without either no round trip: its record is asked for beside its MX records, TLSA
 * only of what is proven. Used by one thread at a time, relay-out/connect's.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_SECURITY_H
#define POSTERN_RELAY_OUT_SECURITY_H

#include "relay-out/hosts.h"
#include "relay-out/stscache.h"
#include "relay-out/tlspolicy.h"

/* A host, whatever its addresses. */
struct security_host {
    char name[DNS_NAME_MAX];
    uint16_t port;
    bool is_alias;       /* a CNAME: */
    bool alias_secure;   /* it leads out of what is signed, but is signed itself */
    bool address_secure; /* DNSSEC has proven the way to its addresses, of one family at least */
    char canonical[DNS_NAME_MAX];
    enum tls_dane dane;
    char base[DNS_NAME_MAX]; /* that the TLSA records stand for */
    struct dane_records *records;
    char reason[DNS_NAME_MAX + 64]; /* of TLS_DANE_FAILED */
};

struct security {
    char domain[DNS_NAME_MAX];       /* in A-labels; "" for an address literal */
    struct resolver_pending *record; /* the question for it */
    enum stscache_record sts_record;
    char sts_id[STS_ID_MAX + 1];
    struct stscache_answer sts;
    size_t count;
    struct security_host *hosts;
};

/* Asks for what needs no host: before the hosts are looked up; with `published` false for nothing, as
 * if nobody published anything. security_clear() in any case. */
void security_begin(struct security *security, const struct outbound *out,
                    const struct route *route, const char *domain, bool published,
                    struct deadline deadline);

/* The rest. Waits until `deadline`. -1: out of memory. */
int security_find(struct security *security, const struct outbound *out, const struct route *route,
                  const struct hosts *hosts, struct deadline deadline);

/* Ends what is still asked, and frees what was found. */
void security_clear(struct security *security);

/* The candidate's host; NULL where its records were not asked for. */
const struct security_host *security_find_host(const struct security *security,
                                               const struct candidate *candidate);

/* What TLS this candidate needs, for mail to `domain`, with `require` under REQUIRETLS. It points into
 * all that it is asked with. */
void security_need(const struct security *security, const struct outbound *out, const char *domain,
                   const struct candidate *candidate, bool require, struct tls_need *need);

/* A tls_judge's context: whether what a server shows is what is needed. */
struct security_check {
    const struct tls_need *need;
    /* Filled; under `watched` the handshake goes on all the same. */
    enum tls_result result;
    struct error reason;
    char matched[16]; /* "3 1 1", of DANE */
};

/* Is there anything to judge? Otherwise the tls_client alone decides. */
bool security_is_judged(const struct tls_need *need);
bool security_accepts(void *context, const struct tls_peer *peer, struct error *err);

/* "3 1 1", for logs; `out` of 16 octets or more. */
const char *security_record_text(const struct dane_record *record, char *out, size_t size);

#endif
