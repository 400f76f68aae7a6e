/* dns/dnsbl-zone.c - a blocklist as the configuration names it
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "dns/dnsbl-zone.h"

#include <stdlib.h>
#include <string.h>

#include "base/i18n.h"

#define NAME_MAX_OCTETS (253 - 64) /* leaves room for the nibbles of an IPv6 address */
#define OCTETS 4

static void dnsbl_zone_want(struct dnsbl_zone *zone, unsigned octet, unsigned value)
{
    zone->wanted[octet][value / 64] |= UINT64_C(1) << value % 64;
}

bool dnsbl_fits(const struct dnsbl_zone *zone, const uint8_t answer[4])
{
    for (unsigned i = 0; zone->filtered && i < OCTETS; i++) {
        if (!(zone->wanted[i][answer[i] / 64] >> answer[i] % 64 & 1))
            return false;
    }
    return true;
}

/* Reads a number from 0 to 255 and moves *cursor past it. */
static int dnsbl_zone_read_number(const char **cursor, unsigned *value)
{
    const char *at = *cursor;
    *value = 0;
    while (*at >= '0' && *at <= '9' && *value <= 255)
        *value = *value * 10 + (unsigned)(*at++ - '0');
    if (at == *cursor || *value > 255)
        return -1;
    *cursor = at;
    return 0;
}

/* "2" or "2..11" */
static int dnsbl_zone_read_range(struct dnsbl_zone *zone, unsigned octet, const char **cursor)
{
    unsigned first, last;
    if (dnsbl_zone_read_number(cursor, &first) != 0)
        return -1;
    last = first;
    if ((*cursor)[0] == '.' && (*cursor)[1] == '.') {
        *cursor += 2;
        if (dnsbl_zone_read_number(cursor, &last) != 0 || last < first)
            return -1;
    }
    for (unsigned value = first; value <= last; value++)
        dnsbl_zone_want(zone, octet, value);
    return 0;
}

/* "2" or "[2;4..8]" */
static int dnsbl_zone_read_octet(struct dnsbl_zone *zone, unsigned octet, const char **cursor)
{
    unsigned value;
    if (**cursor != '[') {
        if (dnsbl_zone_read_number(cursor, &value) != 0)
            return -1;
        dnsbl_zone_want(zone, octet, value);
        return 0;
    }
    do {
        ++*cursor;
        if (dnsbl_zone_read_range(zone, octet, cursor) != 0)
            return -1;
    } while (**cursor == ';');
    return *(*cursor)++ == ']' ? 0 : -1;
}

static int dnsbl_zone_read_filter(struct dnsbl_zone *zone, const char **cursor)
{
    zone->filtered = true;
    for (unsigned octet = 0; octet < OCTETS; octet++) {
        if (octet > 0 && *(*cursor)++ != '.')
            return -1;
        if (dnsbl_zone_read_octet(zone, octet, cursor) != 0)
            return -1;
    }
    return 0;
}

static int dnsbl_zone_read_weight(struct dnsbl_zone *zone, const char **cursor)
{
    char *end;
    const char *digits = **cursor == '-' || **cursor == '+' ? *cursor + 1 : *cursor;
    long weight = strtol(*cursor, &end, 10);
    if (*digits < '0' || *digits > '9' || weight == 0 || weight < -DNSBL_WEIGHT_MAX ||
        weight > DNSBL_WEIGHT_MAX)
        return -1;
    zone->weight = (int)weight;
    *cursor = end;
    return 0;
}

static bool dnsbl_zone_may_answer_127(const struct dnsbl_zone *zone)
{
    return !zone->filtered || zone->wanted[0][127 / 64] >> 127 % 64 & 1;
}

int dnsbl_parse(const char *text, struct dnsbl_zone *zone, struct error *err)
{
    const char *cursor = text + strcspn(text, "=*");
    size_t len = (size_t)(cursor - text);

    memset(zone, 0, sizeof *zone);
    zone->weight = 1;
    if (len > NAME_MAX_OCTETS) {
        error_set(err, _("\"%.80s...\": the name of a blocklist has at most %d octets"), text,
                  NAME_MAX_OCTETS);
        return -1;
    }
    memcpy(zone->name, text, len);
    if (!dns_name_is_hostname(zone->name)) {
        error_set(err,
                  _("\"%s\" does not begin with a domain name; write ZONE, ZONE=ANSWERS or "
                    "ZONE=ANSWERS*WEIGHT, like \"zen.spamhaus.org=127.0.0.[2..11]*2\""),
                  text);
        return -1;
    }
    if (*cursor == '=' && (++cursor, dnsbl_zone_read_filter(zone, &cursor) != 0 ||
                                         !dnsbl_zone_may_answer_127(zone))) {
        error_set(err,
                  _("\"%s\": the answers are four numbers from 0 to 255, or [lists;and..ranges] of "
                    "them, like 127.0.0.[2;4..11], and begin with 127"),
                  text);
        return -1;
    }
    if (*cursor == '*' && (++cursor, dnsbl_zone_read_weight(zone, &cursor) != 0)) {
        error_set(err, _("\"%s\": the weight is a number from -%d to %d, not 0"), text,
                  DNSBL_WEIGHT_MAX, DNSBL_WEIGHT_MAX);
        return -1;
    }
    if (*cursor != '\0') {
        error_set(err, _("\"%s\": what does \"%s\" mean? Write ZONE=ANSWERS*WEIGHT"), text, cursor);
        return -1;
    }
    return 0;
}
