/* dns/dnsbl-zone.h - how a blocklist stands in the configuration
 *
 * Postfix's notation (postscreen_dnsbl_sites): a zone, the answers that count, a weight. Pure
 * functions, thread-safe. Used by config/ to check, by server/dnsbl to judge answers.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_DNS_DNSBL_ZONE_H
#define POSTERN_DNS_DNSBL_ZONE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "dns/name.h"

#define DNSBL_WEIGHT_MAX 1000

struct dnsbl_zone {
    char name[DNS_NAME_MAX];
    int weight;
    bool filtered;         /* only answers in `wanted` count; else every listing does */
    uint64_t wanted[4][4]; /* for each octet of the answer the values that fit, a bit each */
};

/* "zone", "zone=127.0.0.2", "zone=127.0.[0..255].[1;2;4..8]", each with "*weight" behind it or
 * without (1). 0; -1 with a reason. */
int dnsbl_parse(const char *text, struct dnsbl_zone *zone, struct error *err);

/* Does an answer from this zone count by its filter? */
bool dnsbl_fits(const struct dnsbl_zone *zone, const uint8_t answer[4]);

#endif
