/* dns/mx.h - where mail for a domain goes (RFC 5321 5.1, RFC 7505)
 *
 * Turns a recipient's domain into the addresses to try, in order: MX hosts by preference, hosts of
 * equal preference shuffled, and each host's IPv6 and IPv4 addresses alternating. If there are
 * none, the result says why, so that the caller can answer the recipient:
 *
 *   MX_BAD_DOMAIN  550 5.1.2   not a domain name, or an IDN that cannot be converted
 *   MX_NO_DOMAIN   550 5.1.2   the domain does not exist
 *   MX_NULL        556 5.1.10  the domain says that it accepts no mail
 *   MX_NO_HOSTS    550 5.4.4   none of its hosts has an address
 *   MX_PRIVATE     550 5.4.4   its hosts have only private addresses
 *   MX_LOOP        554 5.4.6   this machine is its best host
 *   MX_TEMPORARY   451 4.4.3   the DNS has no answer now, or the answer is forged
 *
 * The resolver follows CNAME chains (at most 11). Stateless and thread-safe. Used by relay-out's
 * routing.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_DNS_MX_H
#define POSTERN_DNS_MX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"
#include "base/cidr.h"
#include "base/deadline.h"
#include "dns/name.h"
#include "dns/resolver.h"

#define MX_HOSTS_MAX 16         /* hosts with addresses that are tried */
#define MX_ADDRESSES_PER_HOST 4 /* if there is more than one host */
#define MX_ADDRESSES_MAX (MX_HOSTS_MAX * MX_ADDRESSES_PER_HOST)

enum mx_result {
    MX_FOUND,
    MX_BAD_DOMAIN,
    MX_NO_DOMAIN,
    MX_NULL,
    MX_NO_HOSTS,
    MX_PRIVATE,
    MX_LOOP,
    MX_TEMPORARY,
};

enum mx_family { MX_PREFER_IPV6, MX_PREFER_IPV4, MX_ONLY_IPV6, MX_ONLY_IPV4 };

struct mx_options {
    enum mx_family family;
    /* A host with one of these names or addresses is this machine. */
    const char *const *own_names;
    size_t own_name_count;
    const struct address *own_addresses;
    size_t own_address_count;
    const struct cidr_set *private_allowed; /* private networks to deliver to; NULL = none */
};

struct mx_candidate {
    char host[DNS_NAME_MAX];      /* from the MX record, or the domain: for SNI and verification */
    char canonical[DNS_NAME_MAX]; /* the end of the host's CNAMEs; usually the host itself */
    unsigned preference;
    struct address address; /* port 25 */
    bool address_secure;    /* DNSSEC proved host -> address, CNAMEs included */
};

struct mx_route {
    char domain[DNS_NAME_MAX]; /* in A-labels */
    bool bogus;                /* under MX_TEMPORARY: DNSSEC shows an answer forged or broken */
    bool late;                 /* under MX_TEMPORARY: an answer did not come in time */
    bool mx_secure;            /* DNSSEC proved the MX records, or their absence */
    size_t count;
    struct mx_candidate *candidates; /* at most MX_ADDRESSES_MAX; freed by mx_route_clear() */
    char reason[DNS_NAME_MAX + 128]; /* unless MX_FOUND: the question and its outcome, for logs */
};

/* `domain` is a domain name, possibly in UTF-8, but not an address literal. Waits until `deadline` at
 * most. Fills all of `route`, which the caller clears with mx_route_clear(). */
enum mx_result mx_find(struct resolver *resolver, const char *domain,
                       const struct mx_options *options, struct deadline deadline,
                       struct mx_route *route);
void mx_route_clear(struct mx_route *route);

#endif
