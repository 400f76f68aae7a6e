/* relay-out/security.h - what a destination and its hosts publish about TLS: DANE and MTA-STS
 *
 * Looks up the TLSA records of the hosts whose addresses DNSSEC has proven (RFC 7672 2.2), and the
 * MTA-STS policy of the domain (RFC 8461), and says what TLS a candidate needs; relay-out/tlspolicy
 * decides which takes precedence. Then checks the certificate that a host presents.
 *
 * Costs a domain without either no round trip: its record is looked up in parallel with its MX records,
 * TLSA only for proven hosts. Used by one thread at a time, relay-out/connect's.
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
    bool is_alias;       /* the name has a CNAME, which ends at `canonical` */
    bool alias_secure;   /* the CNAME is signed, but leads to addresses that are not */
    bool address_secure; /* DNSSEC has proven the way to its addresses, of one family at least */
    char canonical[DNS_NAME_MAX];
    enum tls_dane dane;
    char base[DNS_NAME_MAX];        /* the TLSA base domain of `records`: `canonical` or `name` */
    struct dane_records *records;   /* NULL: none that are proven */
    char reason[DNS_NAME_MAX + 64]; /* of TLS_DANE_FAILED */
};

struct security {
    char domain[DNS_NAME_MAX];       /* in A-labels; "" for an address literal */
    struct resolver_pending *record; /* the lookup of its MTA-STS record; NULL: none is pending */
    enum stscache_record sts_record;
    char sts_id[STS_ID_MAX + 1];
    struct stscache_answer sts;
    size_t count;
    struct security_host *hosts; /* those that may have TLSA records */
};

/* Starts the lookups that need no host; call it before the hosts are looked up. With `published` false
 * it looks nothing up, as if nothing were published. Always call security_clear(). */
void security_begin(struct security *security, const struct outbound *out,
                    const struct route *route, const char *domain, bool published,
                    struct deadline deadline);

/* Does the other lookups. Waits until `deadline`. -1: out of memory. */
int security_find(struct security *security, const struct outbound *out, const struct route *route,
                  const struct hosts *hosts, struct deadline deadline);

/* Ends pending lookups and frees the results. */
void security_clear(struct security *security);

/* The candidate's host; NULL if its records were not looked up. */
const struct security_host *security_find_host(const struct security *security,
                                               const struct candidate *candidate);

/* Says what TLS this candidate needs for mail to `domain`; `require`: under REQUIRETLS. `need` points
 * into the arguments, which must outlive it. */
void security_need(const struct security *security, const struct outbound *out, const char *domain,
                   const struct candidate *candidate, bool require, struct tls_need *need);

/* Is TLS the first thing said to this candidate? So it is on port 465, unless TLS is switched off. */
bool security_begins_with_tls(const struct candidate *candidate, const struct tls_need *need);

/* The context of a tls_judge that compares a server's certificate with what is needed. */
struct security_check {
    const struct tls_need *need;
    /* Filled. A failure ends the handshake, unless need->watched and need->level is below verify. */
    enum tls_result result;
    struct error reason;
    char matched[16]; /* "3 1 1", of DANE */
};

/* Is there anything to check? If not, the tls_client alone decides. */
bool security_is_judged(const struct tls_need *need);
/* The tls_client for this candidate: with the CAs that it needs, or with none. */
struct tls_client *security_tls_client(const struct outbound *out,
                                       const struct candidate *candidate,
                                       const struct tls_need *need);
bool security_accepts(void *context, const struct tls_peer *peer, struct error *err);

/* Writes "3 1 1", for logs, to `out` of `size` octets, at least 16. Returns `out`. */
const char *security_record_text(const struct dane_record *record, char *out, size_t size);

#endif
