/* config/domains.h - a list of domains and of suffixes, each with a number
 *
 * Sorted: "example.com" is that domain, ".example.com" all its subdomains; the longest match decides. Tells
 * relay-in the backend, and relay-out the route, of a recipient's domain.
 * Owns the list but borrows the strings. Filled once, then only read, so thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_CONFIG_DOMAINS_H
#define POSTERN_CONFIG_DOMAINS_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"

struct domain {
    const char *name;
    unsigned number;
};

struct domains {
    struct domain *sorted;
    size_t count;
    const char *first; /* the first one added that is not a ".suffix"; NULL: none */
};

/* Adds `list` with that number. The names are as dns_name_fold() makes them, and must outlive the struct, which
 * starts all zero. A domain that is already there gets the later number. Returns 0, or -1 if out of memory. */
int domains_add(struct domains *domains, const struct string_list *list, unsigned number);
void domains_free(struct domains *domains);

/* Finds the number of a domain, in any spelling. False, with *number unchanged, if nothing matches it. */
bool domains_find(const struct domains *domains, const char *domain, unsigned *number);

#endif
