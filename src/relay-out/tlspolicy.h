/* relay-out/tlspolicy.h - what TLS does this next hop need?
 *
 * One function answers, from all there is to know before the connection is made: the route, what the
 * domain and the host publish, the configuration, the exceptions. The order of precedence stands
 * here and nowhere else:
 *
 *   1. the route's own tls
 *   2. DANE of the host (RFC 7672)
 *   3. MTA-STS of the domain (RFC 8461)
 *   4. out.tls.level and out.tls.no_tls
 *
 * What is published only ever raises what the configuration says. Pure, thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_TLSPOLICY_H
#define POSTERN_RELAY_OUT_TLSPOLICY_H

#include <stdbool.h>

#include "config/config.h"
#include "net/dane.h"
#include "relay-out/routes.h"
#include "relay-out/sts.h"
#include "relay-out/tlscounts.h"

/* What the TLSA records of a host are good for. */
enum tls_dane {
    TLS_DANE_NONE,     /* there are none, or none that is proven */
    TLS_DANE_USABLE,   /* one or more, RFC 7672 3.1 */
    TLS_DANE_UNUSABLE, /* none of them usable: TLS without authentication, RFC 7672 2.2 */
    TLS_DANE_FAILED,   /* nobody can tell: the host is not used, RFC 7672 2.1.2 */
};

struct tls_question {
    const struct route *route;
    const char *domain;   /* the recipient's */
    const char *ascii;    /* the same in A-labels; NULL when it is none */
    const char *host;     /* the next hop's name, or its address as text */
    bool host_is_address; /* the latter */
    bool host_secure;     /* the configuration names it, or DNSSEC has proven the MX records */
    /* What the host publishes. */
    enum tls_dane dane;
    const char *dane_base; /* the name that its records stand for; NULL unless some do */
    const struct dane_records *records; /* the same */
    const char *dane_reason;            /* of TLS_DANE_FAILED */
    /* What the domain publishes; NULL: nothing. */
    const struct sts_policy *sts;
};

#define TLS_NAMES_MAX 3

struct tls_need {
    enum config_out_tls level;   /* never DEFAULT */
    enum tls_policy_type policy; /* that it comes from, for counts */
    const char *name;            /* for SNI, and of the certificate under VERIFY; NULL: none */
    const char *why;             /* for logs: "dane", "mta-sts", "out.tls.level", "route", ... */
    const char *policy_domain;   /* for counts */
    /* Under DANE: */
    const struct dane_records *records;
    const char *names[TLS_NAMES_MAX]; /* that a certificate under an anchor may have */
    size_t name_count;
    bool unusable; /* there are records, but none that can be used: worth a count */
    bool unproven; /* nothing proves that this is the domain's host */
    /* Under MTA-STS that is only tested or logged: the certificate is looked at, and counted. */
    bool watched;
    /* Why the host is not to be used, or under `watched` would not be; NULL: it may be. */
    const char *refusal;
    enum tls_result refusal_result;
};

/* REQUIRETLS: the host must be proven, and its certificate valid (RFC 8689 4.2.1). Raises what was
 * found, or refuses the host. */
void tls_policy_require(const struct tls_question *question, struct tls_need *need);

/* What TLS a host must have, and why: DNSSEC that fails comes first, then what the route says, then DANE
 * (RFC 7672), MTA-STS (RFC 8461) and out.tls.level. Pure. */
void tls_policy_find(const struct config_out *config, const struct tls_question *question,
                     struct tls_need *need);

#endif
