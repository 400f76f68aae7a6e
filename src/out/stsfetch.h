/* out/stsfetch.h - fetching an MTA-STS policy by HTTPS (RFC 8461 3.3)
 *
 * By libcurl, which is told the addresses: they come from our own resolver, and none of them is
 * private, so that a policy host cannot point us at what only we can reach. No redirects, no proxies,
 * no cookies, no cache, no credentials. Waits; for out/stscache's threads. Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_OUT_STSFETCH_H
#define POSTERN_OUT_STSFETCH_H

#include "net/resolver.h"
#include "out/stscache.h"

#define STSFETCH_TIMEOUT_MS 60000 /* RFC 8461 3.3 */

/* Of https://mta-sts.DOMAIN/.well-known/mta-sts.txt, with a certificate that the CAs of `ca_file`
 * (PEM; NULL: the system's) vouch for. Fills `fetched`, whose text the caller frees. Gives up early
 * when `ending` becomes true. */
void stsfetch_get(struct resolver *resolver, const char *ca_file, const char *domain,
                  const atomic_bool *ending, struct stscache_fetched *fetched);

/* What the record of a domain says (RFC 8461 3.1). */
enum stscache_record stsfetch_record(struct resolver *resolver, const char *domain,
                                     struct deadline deadline, char id[STS_ID_MAX + 1]);

/* The same of an answer to a question for TXT. */
enum stscache_record stsfetch_read_record(const struct resolver_answer *answer,
                                          char id[STS_ID_MAX + 1]);

#endif
