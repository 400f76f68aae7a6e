/* relay-out/tlscounts.h - counts the results of TLS sessions for each published policy (RFC 8460)
 *
 * Counts since the start, and for today and yesterday in UTC, which are the days of reports, by policy
 * domain and policy, in the terms of RFC 8460, for relayctl. Bounded: beyond TLSCOUNTS_MAX policies, the
 * least recently counted is dropped.
 * Lives as long as the process; thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_TLSCOUNTS_H
#define POSTERN_RELAY_OUT_TLSCOUNTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "dns/name.h"
#include "smtp/counters.h"

#define TLSCOUNTS_MAX 1000
#define TLSCOUNTS_REASON_MAX 200

/* RFC 8460 4.2. */
enum tls_policy_type { TLS_POLICY_NONE, TLS_POLICY_TLSA, TLS_POLICY_STS };

/* RFC 8460 4.3. */
enum tls_result {
    TLS_RESULT_SUCCESS,
    TLS_RESULT_STARTTLS_NOT_SUPPORTED,
    TLS_RESULT_CERTIFICATE_HOST_MISMATCH,
    TLS_RESULT_CERTIFICATE_EXPIRED,
    TLS_RESULT_CERTIFICATE_NOT_TRUSTED,
    TLS_RESULT_VALIDATION_FAILURE,
    TLS_RESULT_TLSA_INVALID,
    TLS_RESULT_DNSSEC_INVALID,
    TLS_RESULT_DANE_REQUIRED,
    TLS_RESULT_STS_POLICY_FETCH_ERROR,
    TLS_RESULT_STS_POLICY_INVALID,
    TLS_RESULT_STS_WEBPKI_INVALID,
    TLS_RESULTS, /* how many there are */
};

/* "no-policy-found", "tlsa", "sts"; and "starttls-not-supported", ... ; static text. */
const char *tls_policy_type_name(enum tls_policy_type type);
const char *tls_result_name(enum tls_result result);

struct tlscounts;
/* One for the process, owned by main. Failures of published policies also go to `counters`, which are borrowed
 * and may be NULL. NULL with a reason on failure. */
struct tlscounts *tlscounts_new(struct counters *counters, struct error *err);
void tlscounts_free(struct tlscounts *counts);

/* Counts one session or attempt at `now_s`, in seconds since the epoch. `domain` is the TLSA base domain
 * under DANE, otherwise the recipient's; `host` and `reason` describe a failure. True if it is the policy's
 * first failure in a day, which is worth a log line. */
bool tlscounts_add(struct tlscounts *counts, const char *domain, enum tls_policy_type type,
                   enum tls_result result, const char *host, const char *reason, int64_t now_s);

enum { TLSCOUNTS_TODAY, TLSCOUNTS_YESTERDAY, TLSCOUNTS_DAYS };
struct tlscounts_row {
    char domain[DNS_NAME_MAX];
    enum tls_policy_type type;
    uint64_t counts[TLS_RESULTS];               /* since the start */
    uint32_t days[TLSCOUNTS_DAYS][TLS_RESULTS]; /* as of `day` */
    int64_t day;                                /* days since the epoch */
    int64_t changed_s;                          /* seconds since the epoch */
    char host[DNS_NAME_MAX];                    /* of the last failure; "" = none */
    char reason[TLSCOUNTS_REASON_MAX];          /* of that failure */
};

/* Calls `take` for all rows as of `now_s`, most recently counted first, on this thread and without a lock. -1: out
 * of memory. */
int tlscounts_list(struct tlscounts *counts, int64_t now_s,
                   void (*take)(void *context, const struct tlscounts_row *row), void *context);

#endif
