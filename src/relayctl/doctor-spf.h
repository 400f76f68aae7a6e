/* relayctl/doctor-spf.h - what SPF says of an address (RFC 7208)
 *
 * check_host() for our own domains and addresses: all, include, a, mx, ip4, ip6, exists, redirect,
 * the limits of section 4.6.4. Macros and ptr are not evaluated: then the verdict is SPF_UNKNOWN.
 * Keeps no state, thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_DOCTOR_SPF_H
#define POSTERN_RELAYCTL_DOCTOR_SPF_H

#include "relayctl/doctor.h"

enum spf_verdict {
    SPF_PASS,
    SPF_FAIL,
    SPF_SOFTFAIL,
    SPF_NEUTRAL,
    SPF_NONE,
    SPF_TEMPERROR,
    SPF_PERMERROR,
    SPF_UNKNOWN, /* a macro or ptr decides */
};

struct spf_result {
    enum spf_verdict verdict;
    unsigned lookups;           /* DNS terms that were evaluated */
    char why[DNS_NAME_MAX * 2]; /* the term that decided, or what is wrong; translated */
};

void spf_check(const struct doctor *doctor, const char *domain, const struct address *address,
               struct spf_result *result);

/* "pass", "fail", ...; static. */
const char *spf_verdict_name(enum spf_verdict verdict);

#endif
