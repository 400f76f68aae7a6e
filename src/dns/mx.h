/* dns/mx.h - where mail for a domain goes (RFC 5321 5.1, RFC 7505)
 *
 * From a recipient's domain to the addresses to try, in order: MX hosts by preference, equal ones
 * shuffled, of each host its IPv6 and IPv4 addresses by turns. Says why when there are none, so
 * that the caller can answer the recipient:
 *
 *   MX_BAD_DOMAIN  550 5.1.2   no domain name, or no IDN that can be converted
 *   MX_NO_DOMAIN   550 5.1.2   the domain does not exist
 *   MX_NULL        556 5.1.10  the domain says that it takes no mail
 *   MX_NO_HOSTS    550 5.4.4   none of its hosts has an address
 *   MX_PRIVATE     550 5.4.4   its hosts have no other than private addresses
 *   MX_LOOP        554 5.4.6   we are its best host ourselves
 *   MX_TEMPORARY   451 4.4.3   the DNS does not say now, or what it says is forged
 *
 * Chains of CNAMEs are followed by the resolver (11 at most). Thread-safe; no state of its own.
 * Used by relay-out's routing.
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

#define MX_HOSTS_MAX 16         /* whose addresses are looked up */
#define MX_ADDRESSES_PER_HOST 4 /* where there are other hosts too */
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
    /* Hosts of these names and with these addresses are we ourselves. */
    const char *const *own_names;
    size_t own_name_count;
    const struct address *own_addresses;
    size_t own_address_count;
    const struct cidr_set *private_allowed; /* private networks to deliver to; NULL = none */
};

struct mx_candidate {
    char host[DNS_NAME_MAX];      /* of the MX record, or the domain: for SNI and verification */
    char canonical[DNS_NAME_MAX]; /* where the host's CNAMEs end; mostly the host itself */
    unsigned preference;
    struct address address; /* port 25 */
    bool address_secure;    /* DNSSEC proved host -> address, CNAMEs included */
};

struct mx_route {
    enum mx_result result;
    char domain[DNS_NAME_MAX]; /* in A-labels */
    bool implicit;             /* there is no MX record: the domain itself is the host */
    bool mx_secure;            /* DNSSEC proved the MX records, or that there are none */
    size_t count;
    struct mx_candidate *candidates; /* MX_ADDRESSES_MAX at most; see mx_route_clear() */
    char reason[DNS_NAME_MAX + 128]; /* unless MX_FOUND: what was asked and what came, for a log */
};

/* `domain` is a domain name, in UTF-8 too, not an address literal. Waits until `deadline` at most.
 * Fills the whole of `route`, which the caller clears. */
enum mx_result mx_find(struct resolver *resolver, const char *domain,
                       const struct mx_options *options, struct deadline deadline,
                       struct mx_route *route);
void mx_route_clear(struct mx_route *route);

#endif
