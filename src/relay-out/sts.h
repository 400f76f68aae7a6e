/* relay-out/sts.h - MTA-STS: what records and policies say (RFC 8461)
 *
 * Reads the TXT record that announces a policy and the policy itself, and checks whether it allows an
 * MX host. Anything malformed counts as absent. Pure: relay-out/stscache fetches and keeps policies.
 * Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_STS_H
#define POSTERN_RELAY_OUT_STS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STS_ID_MAX 32             /* octets of an id (RFC 8461 3.1) */
#define STS_POLICY_MAX 65536      /* octets of a policy that are read (RFC 8461 3.3) */
#define STS_AGE_MAX_S 31557600    /* the longest max_age (RFC 8461 3.2) */
#define STS_HOST_PREFIX "mta-sts" /* in front of the domain: where its policy is (RFC 8461 3.3) */
#define STS_PATH "/.well-known/mta-sts.txt"
#define STS_RECORD_PREFIX "_mta-sts" /* in front of the domain: where its record is */

/* Reads the data of `count` TXT records. True with its `id` if exactly one announces a policy, and is well-formed. */
bool sts_read_record(const char *const *data, const int *lengths, size_t count,
                     char id[STS_ID_MAX + 1]);

enum sts_mode { STS_MODE_NONE, STS_MODE_TESTING, STS_MODE_ENFORCE };

/* In one piece; the caller frees it by free(3). */
struct sts_policy {
    enum sts_mode mode;
    uint32_t max_age_s;
    size_t pattern_count; /* of MX hosts */
    char patterns[];      /* one after another, each with its NUL, in lower case */
};

/* Reads a policy of `len` octets, not terminated. NULL with static text in `why` when it is invalid,
 * or there is no memory. */
struct sts_policy *sts_read_policy(const char *text, size_t len, const char **why);

/* "none", "testing", "enforce". */
const char *sts_mode_name(enum sts_mode mode);

/* Does the policy allow this host name of an MX record, in A-labels (RFC 8461 4.1)? */
bool sts_allows(const struct sts_policy *policy, const char *host);

/* Is this the media type of a policy, with any parameters? False for NULL. */
bool sts_is_policy_type(const char *content_type);

#endif
