/* relay-out/stscache.h - the MTA-STS policies of the domains that mail goes to (RFC 8461 3.3, 5.1)
 *
 * Remembers the policy of each domain until its max_age is over, across restarts: one file per domain in
 * a separate folder, written by rename, so that a truncated file counts as none. The cache's own threads,
 * at most STSCACHE_FETCHERS, fetch policies, one fetch at a time per domain; a caller waits for a fetch
 * until its deadline at most. Policies in use are fetched again daily, at random times.
 *
 * The creator supplies the functions that fetch a policy, look up a record and tell the time.
 * Lives as long as the process; thread-safe. Used by relay-out.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_STSCACHE_H
#define POSTERN_RELAY_OUT_STSCACHE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/deadline.h"
#include "base/error.h"
#include "dns/name.h"
#include "relay-out/sts.h"

#define STSCACHE_DOMAINS_MAX 10000 /* beyond it, the least recently used is dropped */
#define STSCACHE_FETCHERS 4

/* What a lookup of the record of a domain said. */
enum stscache_record {
    STSCACHE_NO_RECORD,      /* there is none, or none that counts */
    STSCACHE_RECORD,         /* there is, with this id */
    STSCACHE_RECORD_UNKNOWN, /* the DNS did not say */
};

/* Why the last fetch gave no policy; in the terms of RFC 8460 4.3.2.2. */
enum stscache_failure {
    STSCACHE_NOTHING_FAILED,
    STSCACHE_FETCH_FAILED,   /* sts-policy-fetch-error */
    STSCACHE_WEBPKI_INVALID, /* sts-webpki-invalid */
    STSCACHE_POLICY_INVALID, /* sts-policy-invalid */
};

#define STSCACHE_WHY_MAX 200

/* The result of a fetch: the policy's octets, or why there are none. */
struct stscache_fetched {
    enum stscache_failure failure;
    char why[STSCACHE_WHY_MAX];
    char *text; /* for free(3) */
    size_t len;
};

struct stscache_source {
    /* Both may wait: a minute at most, and less when `ending` becomes true. */
    void (*fetch)(void *context, const char *domain, const atomic_bool *ending,
                  struct stscache_fetched *fetched);
    enum stscache_record (*record)(void *context, const char *domain, char id[STS_ID_MAX + 1]);
    int64_t (*now_s)(void *context); /* seconds since the epoch */
    void *context;
};

/* A kept policy; reference-counted, immutable. */
struct stscache_policy {
    atomic_uint references;
    struct sts_policy *policy;
    char id[STS_ID_MAX + 1];
    int64_t fetched_s, expires_s; /* since the epoch */
};

/* Drops a reference; the last one frees it. Thread-safe. NULL is fine. */
void stscache_policy_unref(struct stscache_policy *policy);

struct stscache_answer {
    struct stscache_policy *policy; /* a reference that the caller drops; NULL: none in force */
    enum stscache_failure failure;  /* of the last fetch */
    char why[STSCACHE_WHY_MAX];     /* why it failed */
};

struct stscache;

/* Reads the policies in `folder`, which is created if its parent exists. Without a writable folder ("":
 * none) policies are remembered in memory only, which is logged once when there is something to
 * remember. `source` is copied. NULL when out of memory. */
struct stscache *stscache_new(const char *folder, const struct stscache_source *source,
                              struct error *err);
/* Ends the fetches under way. NULL is fine. */
void stscache_free(struct stscache *cache);

/* Most domains announce no policy. This is remembered as long as the DNS allows (`ttl_s`, seconds), for
 * STSCACHE_BARE_MAX domains: asking the resolver each time, even for a cached answer, would cost more
 * than all our other work in a short delivery. */
#define STSCACHE_BARE_MAX 512
void stscache_note_bare(struct stscache *cache, const char *domain, unsigned ttl_s);
bool stscache_is_bare(struct stscache *cache, const char *domain);

/* The policy in force for `domain` (A-labels), given its record. Waits until `deadline` if it must be
 * fetched; a failed fetch is not repeated for five minutes. */
void stscache_find(struct stscache *cache, const char *domain, enum stscache_record record,
                   const char *id, struct deadline deadline, struct stscache_answer *answer);

/* Fetches the policy again, regardless of what is cached or has failed. If that fails, the cached one
 * stays. */
void stscache_refresh(struct stscache *cache, const char *domain, const char *id,
                      struct deadline deadline, struct stscache_answer *answer);

#endif
