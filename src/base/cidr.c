/* base/cidr.c - sets of networks: allow lists, private clients, no-TLS hosts
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/cidr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/i18n.h"

struct cidr {
    struct address network;
    unsigned bits;
};

struct cidr_set {
    struct cidr *items;
    size_t count;
};

struct cidr_set *cidr_set_new(void)
{
    return calloc(1, sizeof(struct cidr_set));
}

void cidr_set_free(struct cidr_set *set)
{
    if (set == NULL)
        return;
    free(set->items);
    free(set);
}

static unsigned cidr_family_bits(const struct address *address)
{
    return address->family == AF_INET ? 32 : 128;
}

static bool cidr_is_clean(const struct cidr *cidr)
{
    for (unsigned bit = cidr->bits; bit < cidr_family_bits(&cidr->network); bit++) {
        if (cidr->network.ip[bit / 8] & (0x80 >> bit % 8))
            return false;
    }
    return true;
}

static int cidr_parse(struct cidr *cidr, const char *text, struct error *err)
{
    char host[ADDRESS_TEXT_MAX];
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);

    if (len < sizeof host) {
        memcpy(host, text, len);
        host[len] = '\0';
    }
    if (len >= sizeof host || address_parse_ip(&cidr->network, host) != 0) {
        error_set(
            err, _("\"%s\" is neither an address nor a network like 192.0.2.0/24 or 2001:db8::/32"),
            text);
        return -1;
    }
    cidr->bits = cidr_family_bits(&cidr->network);
    if (slash == NULL)
        return 0;
    char *end;
    unsigned long bits = strtoul(slash + 1, &end, 10);
    if (slash[1] < '0' || slash[1] > '9' || *end != '\0' || bits > cidr->bits) {
        error_set(err, _("\"%s\": the prefix length must be a number from 0 to %u"), text,
                  cidr->bits);
        return -1;
    }
    cidr->bits = (unsigned)bits;
    if (!cidr_is_clean(cidr)) {
        error_set(err, _("\"%s\": the address has bits set after the prefix"), text);
        return -1;
    }
    return 0;
}

int cidr_set_add(struct cidr_set *set, const char *text, struct error *err)
{
    struct cidr cidr;
    if (cidr_parse(&cidr, text, err) != 0)
        return -1;
    struct cidr *items = realloc(set->items, (set->count + 1) * sizeof *items);
    if (items == NULL) {
        error_set(err, _("out of memory"));
        return -1;
    }
    set->items = items;
    items[set->count++] = cidr;
    return 0;
}

size_t cidr_set_count(const struct cidr_set *set)
{
    return set != NULL ? set->count : 0;
}

const char *cidr_set_format(const struct cidr_set *set, size_t index, char out[ADDRESS_TEXT_MAX])
{
    char ip[ADDRESS_TEXT_MAX];
    const struct cidr *item = &set->items[index];
    snprintf(out, ADDRESS_TEXT_MAX, "%.46s/%u", address_format_ip(&item->network, ip), item->bits);
    return out;
}

bool cidr_set_is_wider(const struct cidr_set *set, size_t index, unsigned v4_bits, unsigned v6_bits)
{
    const struct cidr *item = &set->items[index];
    return item->bits < (item->network.family == AF_INET6 ? v6_bits : v4_bits);
}

bool cidr_set_contains(const struct cidr_set *set, const struct address *address)
{
    for (size_t i = 0; set != NULL && i < set->count; i++) {
        const struct cidr *item = &set->items[i];
        if (item->network.family == address->family &&
            address_same_prefix(item->network.ip, address->ip, item->bits))
            return true;
    }
    return false;
}
