/* relay-out/tlspolicy.h - what TLS does this next hop need?
 *
 * One function decides, from all that is known before the connection is made: the route, what the
 * domain and the host publish, the configuration, the exceptions. The order of precedence is defined
 * only here:
 *
 *   1. the route's own tls
 *   2. DANE of the host (RFC 7672)
 *   3. MTA-STS of the domain (RFC 8461)
 *   4. out.tls.level and out.tls.no_tls
 *
 * Published policies can only raise the configured level. Pure, thread-safe.
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

/* Whether the TLSA records of a host can be used. */
enum tls_dane {
    TLS_DANE_NONE,     /* there are none, or none proven by DNSSEC */
    TLS_DANE_USABLE,   /* one or more, RFC 7672 3.1 */
    TLS_DANE_UNUSABLE, /* none of them usable: TLS without authentication, RFC 7672 2.2 */
    TLS_DANE_FAILED,   /* unknown: the host must not be used, RFC 7672 2.1.2 */
};

struct tls_question {
    const struct route *route;
    const char *domain;   /* the recipient's */
    const char *ascii;    /* the same in A-labels; NULL if it has no such form */
    const char *host;     /* the next hop's name, or its address as text */
    bool host_is_address; /* `host` is an address */
    bool host_secure;     /* the configuration names it, or DNSSEC has proven the MX records */
    /* What the host publishes. */
    enum tls_dane dane;
    const char *dane_base;              /* the TLSA base domain; NULL if there are no records */
    const struct dane_records *records; /* the same */
    const char *dane_reason;            /* of TLS_DANE_FAILED */
    /* What the domain publishes; NULL: nothing. */
    const struct sts_policy *sts;
};

#define TLS_NAMES_MAX 3

struct tls_need {
    enum config_out_tls level;   /* never DEFAULT */
    enum tls_policy_type policy; /* where the level comes from, for counts */
    const char *name;            /* for SNI, and under VERIFY for the certificate; NULL: none */
    const char *why;             /* for logs: "dane", "mta-sts", "out.tls.level", "route", ... */
    const char *policy_domain;   /* for counts */
    /* Under DANE: */
    const struct dane_records *records;
    const char *names[TLS_NAMES_MAX]; /* allowed in a certificate under a trust anchor */
    size_t name_count;
    bool unusable; /* there are records, but none usable: counted */
    bool unproven; /* nothing proves that this is the domain's host */
    /* MTA-STS in testing mode, or only logged: the certificate is checked and counted, nothing more. */
    bool watched;
    /* Why the host must not be used (if `watched`: would not be used); NULL: it may be used. */
    const char *refusal;
    enum tls_result refusal_result;
};

/* REQUIRETLS: the host must be proven, and its certificate valid (RFC 8689 4.2.1). Raises `need`
 * accordingly, or refuses the host. */
void tls_policy_require(const struct tls_question *question, struct tls_need *need);

/* Decides what TLS a host needs, and why: failed DNSSEC comes first, then the route's level, then DANE
 * (RFC 7672), MTA-STS (RFC 8461) and out.tls.level. Pure. */
void tls_policy_find(const struct config_out *config, const struct tls_question *question,
                     struct tls_need *need);

#endif
