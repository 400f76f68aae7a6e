/* relay-out/stscache.h - the MTA-STS policies of the domains that mail goes to (RFC 8461 3.3, 5.1)
 *
 * Remembers the policy of each domain until its max_age is over, across restarts: a file a domain in
 * a folder of its own, written by rename, so that one cut short is as good as none. Fetches happen in
 * threads of the cache's own, STSCACHE_FETCHERS at most, one at a time for a domain; who asks waits
 * for one no longer than his deadline. Policies in use are fetched again daily, at random times.
 *
 * How a policy is fetched, how a record is looked up and what time it is, is told by whoever makes
 * the cache. Lives as long as the process; thread-safe. Used by relay-out.
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

#define STSCACHE_DOMAINS_MAX 10000 /* the one that was used longest ago goes */
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

/* What came of a fetch: the policy's octets, or why there are none. */
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

/* A policy as it is kept; counted by references, immutable. */
struct stscache_policy {
    atomic_uint references;
    struct sts_policy *policy;
    char id[STS_ID_MAX + 1];
    int64_t fetched_s, expires_s; /* since the epoch */
};

/* Drops a reference; the last one frees it. Thread-safe. NULL is fine. */
void stscache_policy_unref(struct stscache_policy *policy);

struct stscache_answer {
    struct stscache_policy *policy; /* a reference of the caller's; NULL: none that holds */
    enum stscache_failure failure;  /* of the last fetch */
    char why[STSCACHE_WHY_MAX];     /* of that */
};

struct stscache;

/* Reads what is in `folder`, which is made when its parent is there. Without one that can be written
 * ("": none is wanted) it remembers until its end only, and says so once in the log when there is
 * something to remember. `source` is copied. NULL when out of memory. */
struct stscache *stscache_new(const char *folder, const struct stscache_source *source,
                              struct error *err);
/* Ends the fetches under way. NULL is fine. */
void stscache_free(struct stscache *cache);

/* Most domains announce no policy. That one of them does not is remembered as long as the DNS allows,
 * of STSCACHE_BARE_MAX of them: to ask the resolver each time, even for what it knows, would cost more
 * than all the rest of a short delivery that is ours. */
#define STSCACHE_BARE_MAX 512
void stscache_note_bare(struct stscache *cache, const char *domain, unsigned ttl_s);
bool stscache_is_bare(struct stscache *cache, const char *domain);

/* The policy that holds for `domain` (A-labels), whose record is this. Waits until `deadline` where
 * one has to be fetched; a fetch that failed is not tried again for five minutes. */
void stscache_find(struct stscache *cache, const char *domain, enum stscache_record record,
                   const char *id, struct deadline deadline, struct stscache_answer *answer);

/* Fetches the policy anew, whatever is known and failed; what is known stays where that fails. */
void stscache_refresh(struct stscache *cache, const char *domain, const char *id,
                      struct deadline deadline, struct stscache_answer *answer);

#endif
