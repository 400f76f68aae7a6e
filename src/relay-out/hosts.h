/* relay-out/hosts.h - the addresses to try for a destination, in order
 *
 * For a route, its next hops; for a domain, its MX hosts followed by the fallback's next hops.
 * This host's own addresses are left out. No state; thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_HOSTS_H
#define POSTERN_RELAY_OUT_HOSTS_H

#include "relay-out/outbound.h"

#define HOSTS_MAX (MX_ADDRESSES_MAX + 16)

struct candidate {
    char host[DNS_NAME_MAX];      /* its name, or its address as text */
    char canonical[DNS_NAME_MAX]; /* where its CNAMEs end; "" for an address */
    bool host_is_address;
    bool host_secure;    /* the configuration names the host, or DNSSEC has proven the MX records */
    bool address_secure; /* the same for host -> address */
    bool asked;          /* set by the caller */
    bool tls_failed;     /* set by the caller: to be asked again in plain text */
    const struct route *route; /* the route for it: the one asked for, or the fallback */
    struct address address;
};

struct hosts {
    size_t count;
    struct candidate *items;         /* HOSTS_MAX at most */
    char reason[DNS_NAME_MAX + 128]; /* why there are none */
};

/* REPLY_OK, or the reply for the recipient. Always fills `found`; the caller clears it. */
enum own_reply hosts_find(const struct outbound *out, const struct route *route, const char *domain,
                          struct deadline deadline, struct hosts *found);
void hosts_clear(struct hosts *found);

#endif
