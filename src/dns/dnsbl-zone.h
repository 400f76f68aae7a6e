/* dns/dnsbl-zone.h - a blocklist as the configuration names it
 *
 * Uses Postfix's notation (postscreen_dnsbl_sites): a zone, the answers that count, a weight. Pure
 * functions over plain values: nothing to free, thread-safe. config/ uses them to check options,
 * server/dnsbl to score answers.
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
    uint64_t wanted[4][4]; /* per octet of the answer: a bit for each value that counts */
};

/* Parses "zone", "zone=127.0.0.2" or "zone=127.0.[0..255].[1;2;4..8]", each optionally followed by
 * "*weight" (default 1). Returns 0, or -1 with a reason in `err`. */
int dnsbl_parse(const char *text, struct dnsbl_zone *zone, struct error *err);

/* Does this zone's filter let the answer count? */
bool dnsbl_fits(const struct dnsbl_zone *zone, const uint8_t answer[4]);

#endif
