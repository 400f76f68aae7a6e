/* relay-in/domains.h - the domains that relay-in takes mail for, and which backend each belongs to
 *
 * A sorted list: "example.com" is that domain, ".example.com" every subdomain of it; the longest
 * that fits decides. Borrows the strings it was made from. Filled once, then only read:
 * thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_IN_DOMAINS_H
#define POSTERN_RELAY_IN_DOMAINS_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"

struct domain {
    const char *name;
    unsigned backend;
};

struct domains {
    struct domain *sorted;
    size_t count;
    struct domain first; /* the first one given that is no ".suffix"; name NULL if none */
};

/* Adds `list`, which is as dns_name_fold() makes it and must outlive it, for the backend of that number. A domain
 * that is there already goes to the later one. 0, or -1 when out of memory. Starts from an all-zero
 * struct. */
int domains_add(struct domains *domains, const struct string_list *list, unsigned backend);
void domains_free(struct domains *domains);

/* In any form. False when the domain is not ours. */
bool domains_find(const struct domains *domains, const char *domain, unsigned *backend);

#endif
