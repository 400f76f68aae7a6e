/* in/domains.c - the domains that relay-in takes mail for
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "in/domains.h"

#include <stdlib.h>
#include <string.h>

#include "smtp/path.h"

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int domains_init(struct domains *domains, const struct string_list *list)
{
    memset(domains, 0, sizeof *domains);
    domains->sorted = calloc(list->count + 1, sizeof *domains->sorted);
    if (domains->sorted == NULL)
        return -1;
    for (size_t i = 0; i < list->count; i++) {
        domains->sorted[i] = list->items[i];
        if (domains->first == NULL && list->items[i][0] != '.')
            domains->first = list->items[i];
    }
    domains->count = list->count;
    qsort(domains->sorted, domains->count, sizeof *domains->sorted, compare);
    return 0;
}

void domains_free(struct domains *domains)
{
    free(domains->sorted);
    memset(domains, 0, sizeof *domains);
}

static bool listed(const struct domains *domains, const char *name)
{
    return bsearch(&name, domains->sorted, domains->count, sizeof *domains->sorted, compare) !=
           NULL;
}

bool domains_contain(const struct domains *domains, const char *domain)
{
    char lower[PATH_DOMAIN_MAX + 1];
    size_t len = strlen(domain);

    if (len == 0 || len > PATH_DOMAIN_MAX)
        return false;
    /* Only ASCII has case here; UTF-8 labels must be listed as they are written. */
    for (size_t i = 0; i <= len; i++)
        lower[i] = domain[i] >= 'A' && domain[i] <= 'Z' ? (char)(domain[i] + 32) : domain[i];
    if (listed(domains, lower))
        return true;
    for (const char *dot = strchr(lower, '.'); dot != NULL; dot = strchr(dot + 1, '.')) {
        if (listed(domains, dot))
            return true;
    }
    return false;
}
