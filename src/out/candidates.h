/* out/candidates.h - the addresses to try for a destination, in order
 *
 * Of a route its next hops, of a domain its MX hosts. Addresses that are this host's own are left
 * out. No state; thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_OUT_CANDIDATES_H
#define POSTERN_OUT_CANDIDATES_H

#include "out/outbound.h"

#define CANDIDATES_MAX 12

struct candidate {
    char host[DNS_NAME_MAX]; /* its name, or its address as text */
    bool host_is_address;
    bool secure; /* DNSSEC has proven how it was found */
    struct address address;
};

struct candidates {
    size_t count;
    struct candidate items[CANDIDATES_MAX];
    char reason[DNS_NAME_MAX + 128]; /* why there are none */
};

/* REPLY_OK, or the reply for the recipient. */
enum own_reply candidates_find(const struct outbound *out, const struct route *route,
                               const char *domain, struct deadline deadline,
                               struct candidates *found);

#endif
