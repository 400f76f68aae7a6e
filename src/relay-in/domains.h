/* relay-in/domains.h - the domains that relay-in accepts mail for, and the backend of each
 *
 * A sorted list: "example.com" is that domain, ".example.com" all its subdomains; the longest match decides.
 * Owns the list but borrows the strings. Filled once, then only read, so thread-safe.
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
    struct domain first; /* the first one added that is not a ".suffix"; name NULL if none */
};

/* Adds `list` for the backend with that number. The names are as dns_name_fold() makes them, and must outlive the
 * struct, which starts all zero. A domain that is already there goes to the later backend. Returns 0, or -1 if out
 * of memory. */
int domains_add(struct domains *domains, const struct string_list *list, unsigned backend);
void domains_free(struct domains *domains);

/* Finds the backend of a domain, in any spelling. False if the domain is not ours. */
bool domains_find(const struct domains *domains, const char *domain, unsigned *backend);

#endif
