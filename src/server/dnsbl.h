/* server/dnsbl.h - a client's score in DNS blocklists and allowlists (RFC 5782)
 *
 * All zones are asked at once, with one deadline. A zone whose answer matches its filter adds its weight
 * to the score; an allowlist has a negative weight. A late answer adds nothing, because a list that is
 * down must not stop mail. Nor does an answer that is not a listing: outside 127.0.0.0/8 (an abandoned
 * zone, a name server that invents answers) or in 127.255.255.0/24 ("your query is refused"). Such
 * answers are logged as errors, once an hour per zone, with the remedy.
 *
 * A struct dnsbl holds the zones of one configuration; it is reference-counted and may be dropped while
 * checks are running. A struct dnsbl_check is one client. Thread-safe. Used by the gate.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_DNSBL_H
#define POSTERN_SERVER_DNSBL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/error.h"
#include "dns/dnsbl-zone.h"
#include "dns/resolver.h"

#define DNSBL_ZONES_MAX 32
#define DNSBL_TEXT_MAX 512

struct dnsbl;

/* Copies the zones (at most DNSBL_ZONES_MAX). A client whose score reaches `threshold` is `listed`. Returns the
 * caller's reference, dropped by dnsbl_unref(). NULL if out of memory. */
struct dnsbl *dnsbl_new(const struct dnsbl_zone *zones, size_t count, int threshold,
                        int64_t timeout_ms);
void dnsbl_unref(struct dnsbl *dnsbl);

struct dnsbl_verdict {
    int score;
    bool listed;              /* the threshold is reached */
    unsigned unanswered;      /* zones without an answer in time */
    char worst[DNS_NAME_MAX]; /* the zone with the greatest positive weight among the hits, or "" */
    char hits[DNSBL_TEXT_MAX]; /* "zen.example=127.0.0.4*2,white.example=127.0.1.2*-1"; or "" */
};

typedef void dnsbl_callback(void *context, const struct dnsbl_verdict *verdict);

struct dnsbl_check;

/* Asks about `client`; never waits. `callback` is called once, in the resolver's thread, no later than the
 * timeout, unless dnsbl_end() comes first. The caller ends the check with dnsbl_end(). NULL if nothing could be
 * asked (no zones, no memory, the resolver is full): the client then counts as not listed. */
struct dnsbl_check *dnsbl_start(struct dnsbl *dnsbl, struct resolver *resolver,
                                const struct address *client, dnsbl_callback *callback,
                                void *context);

/* Ends the check. When it returns, the callback has returned or will never be called. So don't hold a lock that
 * the callback takes, and don't call it from the callback. NULL is fine. */
void dnsbl_end(struct dnsbl_check *check);

#endif
