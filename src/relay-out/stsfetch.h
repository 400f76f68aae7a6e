/* relay-out/stsfetch.h - fetches MTA-STS policies by HTTPS (RFC 8461 3.3)
 *
 * Uses libcurl and gives it the addresses: they come from our own resolver, and private ones are
 * excluded, so that a policy host cannot direct us to internal hosts. No redirects, no proxies, no
 * cookies, no cache, no credentials. Blocks; runs on relay-out/stscache's threads. Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_STSFETCH_H
#define POSTERN_RELAY_OUT_STSFETCH_H

#include "dns/resolver.h"
#include "relay-out/stscache.h"

#define STSFETCH_TIMEOUT_MS 60000 /* RFC 8461 3.3 */

struct stsfetch;

/* Borrows the resolver. NULL when out of memory. Free it after the cache that it serves. */
struct stsfetch *stsfetch_new(struct resolver *resolver, struct error *err);
void stsfetch_free(struct stsfetch *fetch);

/* Sets the CAs (PEM; "": the system's) that policy hosts' certificates are checked against from now on. */
void stsfetch_use(struct stsfetch *fetch, const char *ca_file);

/* A source for a cache; borrows `fetch`. */
struct stscache_source stsfetch_source(struct stsfetch *fetch);

/* The name whose TXT record announces the policy of a domain; -1: it would be too long. */
int stsfetch_record_name(const char *domain, char name[DNS_NAME_MAX]);

/* Reads the answer to a lookup of that name (RFC 8461 3.1). */
enum stscache_record stsfetch_read_record(const struct resolver_answer *answer,
                                          char id[STS_ID_MAX + 1]);

#endif
