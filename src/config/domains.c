/* config/domains.c - a list of domains and of suffixes, each with a number
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "config/domains.h"

#include <stdlib.h>
#include <string.h>

#include "dns/name.h"

static int domains_compare(const void *a, const void *b)
{
    return strcmp(((const struct domain *)a)->name, ((const struct domain *)b)->name);
}

static struct domain *domains_find_name(const struct domains *domains, const char *name)
{
    const struct domain key = {.name = name};
    if (domains->count == 0)
        return NULL;
    return bsearch(&key, domains->sorted, domains->count, sizeof *domains->sorted, domains_compare);
}

int domains_add(struct domains *domains, const struct string_list *list, unsigned number)
{
    struct domain *sorted =
        realloc(domains->sorted, (domains->count + list->count + 1) * sizeof *sorted);
    size_t known = domains->count, added = 0;

    if (sorted == NULL)
        return -1;
    domains->sorted = sorted;
    for (size_t i = 0; i < list->count; i++) {
        const struct domain given = {list->items[i], number};
        struct domain *there = domains_find_name(domains, given.name);
        if (there != NULL)
            there->number = number;
        else
            sorted[known + added++] = given;
        if (domains->first == NULL && given.name[0] != '.')
            domains->first = given.name;
    }
    domains->count += added;
    qsort(sorted, domains->count, sizeof *sorted, domains_compare);
    return 0;
}

void domains_free(struct domains *domains)
{
    free(domains->sorted);
    memset(domains, 0, sizeof *domains);
}

bool domains_find(const struct domains *domains, const char *domain, unsigned *number)
{
    char folded[DNS_NAME_MAX];

    if (!dns_name_fold(domain, folded))
        return false;
    const struct domain *found = domains_find_name(domains, folded);
    for (const char *dot = strchr(folded, '.'); found == NULL && dot != NULL;
         dot = strchr(dot + 1, '.'))
        found = domains_find_name(domains, dot);
    if (found != NULL)
        *number = found->number;
    return found != NULL;
}
