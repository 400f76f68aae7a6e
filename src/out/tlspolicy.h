/* out/tlspolicy.h - what TLS does this next hop need?
 *
 * One function answers, from all there is to know before the connection is made: the route, the
 * configuration, the exceptions. Policies that domains publish themselves (DANE, MTA-STS) belong
 * here too: they can only raise what is found. Pure, thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_OUT_TLSPOLICY_H
#define POSTERN_OUT_TLSPOLICY_H

#include <stdbool.h>

#include "config/config.h"
#include "out/routes.h"

struct tls_question {
    const struct route *route;
    const char *domain;   /* the recipient's */
    const char *ascii;    /* the same in A-labels; NULL when it is none */
    const char *host;     /* the next hop's name, or its address as text */
    bool host_is_address; /* the latter */
    bool host_secure;     /* the configuration names it, or DNSSEC has proven the MX records */
};

struct tls_need {
    enum config_out_tls level; /* never DEFAULT */
    const char *name;          /* for SNI, and of the certificate under VERIFY; NULL: none */
    const char *why;           /* for logs: "out.tls.level", "route", "no_tls" */
};

void tls_policy_find(const struct config_out *config, const struct tls_question *question,
                     struct tls_need *need);

#endif
