/* relayctl/doctor-spf.h - what SPF says about an address (RFC 7208)
 *
 * RFC 7208's check_host() for our own domains and addresses: all, include, a, mx, ip4, ip6, exists,
 * redirect, and the limits of section 4.6.4. Macros and ptr are not evaluated; if they decide, the
 * verdict is SPF_UNKNOWN. Stateless, thread-safe.
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
    unsigned lookups;           /* DNS terms evaluated */
    char why[DNS_NAME_MAX * 2]; /* the term that decided, or the error; translated */
};

/* What the SPF record of `domain` says of mail from this address (RFC 7208 4). Waits for the DNS, within the
 * doctor's deadline. */
void spf_check(const struct doctor *doctor, const char *domain, const struct address *address,
               struct spf_result *result);

/* "pass", "fail", ...; static. */
const char *spf_verdict_name(enum spf_verdict verdict);

#endif
