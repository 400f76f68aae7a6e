/* in/domains.h - the domains that relay-in takes mail for
 *
 * A sorted, immutable list: "example.com" is that domain, ".example.com" every subdomain of it.
 * Borrows the strings it was made from. Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_IN_DOMAINS_H
#define POSTERN_IN_DOMAINS_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"

struct domains {
    const char **sorted;
    size_t count;
    const char *first; /* the first one of the configuration that is no ".suffix"; NULL if none */
};

/* `list` is lower case and must outlive it. 0, or -1 when out of memory. */
int domains_init(struct domains *domains, const struct string_list *list);
void domains_free(struct domains *domains);

/* Any case. */
bool domains_contain(const struct domains *domains, const char *domain);

#endif
