/* relay-out/hosts.c - the addresses to try for a destination, in order
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/hosts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SMTP_PORT 25
#define HOSTS_STEP 8 /* grows by this many; most destinations have fewer */

struct hosts_search {
    const struct outbound *out;
    const struct route *route;
    struct deadline deadline;
    struct hosts *found;
    bool loops;   /* a next hop is this host */
    bool unknown; /* the DNS has no answer for one at the moment, */
    bool bogus;   /* ... because it failed validation, */
    bool late;    /* ... or did not come in time */
};

static bool hosts_make_room(struct hosts *found)
{
    if (found->count % HOSTS_STEP != 0)
        return true;
    struct candidate *items = realloc(found->items, (found->count + HOSTS_STEP) * sizeof *items);
    if (items == NULL)
        return false;
    found->items = items;
    return true;
}

/* Adds a candidate, zeroed except for these. NULL: there are HOSTS_MAX already, or out of memory. */
static struct candidate *hosts_add(struct hosts_search *search, const char *host,
                                   const struct address *address)
{
    struct hosts *found = search->found;

    if (found->count == HOSTS_MAX || !hosts_make_room(found))
        return NULL;
    struct candidate *candidate = &found->items[found->count++];
    memset(candidate, 0, sizeof *candidate);
    snprintf(candidate->host, sizeof candidate->host, "%s", host);
    candidate->address = *address;
    candidate->route = search->route;
    return candidate;
}

static enum own_reply hosts_reply_to(enum mx_result result)
{
    switch (result) {
    case MX_FOUND:
        break;
    case MX_BAD_DOMAIN:
    case MX_NO_DOMAIN:
        return REPLY_NO_SUCH_DOMAIN;
    case MX_NULL:
        return REPLY_NULL_MX;
    case MX_NO_HOSTS:
    case MX_PRIVATE:
        return REPLY_NO_HOSTS;
    case MX_LOOP:
        return REPLY_LOOP;
    case MX_TEMPORARY:
        return REPLY_DNS_TEMPORARY;
    }
    return REPLY_OK;
}

static void hosts_count_failure(const struct hosts_search *search, bool bogus, bool late)
{
    counters_add(search->out->counters,
                 bogus  ? COUNTER_DNS_BOGUS
                 : late ? COUNTER_DNS_TIMEOUT
                        : COUNTER_DNS_SERVFAIL,
                 1);
}

static enum own_reply hosts_find_mx(struct hosts_search *search, const char *domain)
{
    struct mx_options options = search->out->mx;
    struct mx_route route;

    options.family = outbound_family(search->route->family);
    enum mx_result result =
        mx_find(search->out->resolver, domain, &options, search->deadline, &route);
    if (result == MX_TEMPORARY)
        hosts_count_failure(search, route.bogus, route.late);
    snprintf(search->found->reason, sizeof search->found->reason, "%s", route.reason);
    for (size_t i = 0; i < route.count; i++) {
        const struct mx_candidate *mx = &route.candidates[i];
        struct candidate *candidate = hosts_add(search, mx->host, &mx->address);
        if (candidate == NULL)
            break;
        snprintf(candidate->canonical, sizeof candidate->canonical, "%s", mx->canonical);
        candidate->host_secure = route.mx_secure;
        candidate->address_secure = mx->address_secure;
    }
    mx_route_clear(&route);
    return hosts_reply_to(result);
}

/* An address leaves nothing to look up, so that it counts as proven. */
static void hosts_add_literal(struct hosts_search *search, const char *text,
                              const struct address *address)
{
    struct candidate *candidate = hosts_add(search, text, address);
    if (candidate != NULL)
        candidate->host_is_address = candidate->host_secure = candidate->address_secure = true;
}

/* user@[192.0.2.1], where that is allowed. */
static enum own_reply hosts_find_literal(struct hosts_search *search, const char *domain)
{
    char text[ADDRESS_TEXT_MAX];
    const char *start = domain + 1;
    struct address address;

    if (strncasecmp(start, "IPv6:", 5) == 0)
        start += 5;
    snprintf(text, sizeof text, "%.*s", (int)strcspn(start, "]"), start);
    if (address_parse_ip(&address, text) != 0 || address_is_private(&address))
        return REPLY_NO_HOSTS;
    if (own_addresses_has_address(&search->out->ours, &address))
        return REPLY_LOOP;
    address.port = SMTP_PORT;
    hosts_add_literal(search, text, &address);
    return REPLY_OK;
}

static void hosts_add_answer(struct hosts_search *search, const struct endpoint *hop,
                             const char *name, const struct resolver_answer *answer)
{
    for (size_t i = 0; i < answer->count; i++) {
        struct address address;
        if (dns_address_read((const uint8_t *)answer->data[i], (size_t)answer->lengths[i],
                             &address) != 0)
            continue;
        address.port = hop->port;
        if (own_addresses_listen(&search->out->ours, &address, hop->port)) {
            search->loops = true;
            continue;
        }
        struct candidate *candidate = hosts_add(search, name, &address);
        if (candidate == NULL)
            return;
        snprintf(candidate->canonical, sizeof candidate->canonical, "%s", answer->canonical);
        candidate->host_secure = true;
        candidate->address_secure = answer->secure;
    }
}

/* Adds the addresses of a host named in the configuration. What it resolves to is the operator's
 * business, so private addresses are fine. */
static void hosts_find_host(struct hosts_search *search, const struct endpoint *hop)
{
    enum mx_family family = outbound_family(search->route->family);
    char name[DNS_NAME_MAX];

    if (dns_name_to_ascii(hop->host, name) != 0)
        return;
    for (int turn = 0; turn < 2; turn++) {
        struct resolver_answer answer;
        bool v4 = (turn == 0) == (family == MX_PREFER_IPV4);
        if (family == (v4 ? MX_ONLY_IPV6 : MX_ONLY_IPV4))
            continue;
        search->unknown |=
            resolver_lookup(search->out->resolver, name, v4 ? DNS_TYPE_A : DNS_TYPE_AAAA,
                            search->deadline, &answer) == RESOLVER_TEMPORARY;
        search->bogus |= answer.bogus;
        search->late |= answer.late;
        hosts_add_answer(search, hop, name, &answer);
        resolver_answer_free(&answer);
    }
}

static enum own_reply hosts_find_hops(struct hosts_search *search)
{
    const struct route *route = search->route;
    const size_t before = search->found->count;

    for (size_t i = 0; i < route->hop_count; i++) {
        const struct endpoint *hop = &route->hops[i];
        struct address address = hop->address;
        address.port = hop->port;
        if (address.family == AF_UNSPEC)
            hosts_find_host(search, hop);
        else if (own_addresses_listen(&search->out->ours, &address, hop->port))
            search->loops = true;
        else
            hosts_add_literal(search, hop->host, &address);
    }
    if (search->found->count > before)
        return REPLY_OK;
    snprintf(search->found->reason, sizeof search->found->reason, "the next hops of %s %s",
             route->name, search->loops ? "are this host" : "have no addresses");
    if (search->loops)
        return REPLY_LOOP;
    if (search->unknown)
        hosts_count_failure(search, search->bogus, search->late);
    /* A name in our own configuration that does not resolve is no reason to bounce mail. */
    return search->unknown ? REPLY_DNS_TEMPORARY : REPLY_BACKEND_CONFIG;
}

/* Adds the fallback after the hosts found, or if the DNS has no answer at the moment; not if the DNS
 * says that there are none. */
static enum own_reply hosts_add_fallback(struct hosts_search *search, enum own_reply why)
{
    search->route = routes_fallback(search->out->routes);
    if (search->route == NULL || (why != REPLY_OK && why != REPLY_DNS_TEMPORARY))
        return why;
    enum own_reply fallback = hosts_find_hops(search);
    return fallback == REPLY_OK ? REPLY_OK : why;
}

enum own_reply hosts_find(const struct outbound *out, const struct route *route, const char *domain,
                          struct deadline deadline, struct hosts *found)
{
    struct hosts_search search = {.out = out, .route = route, .deadline = deadline, .found = found};
    enum own_reply why;

    *found = (struct hosts){.count = 0};
    if (route->denied) { /* since a reload, for stored mail */
        snprintf(found->reason, sizeof found->reason, "%s denies mail for %s", route->name, domain);
        return REPLY_RELAY_DENIED;
    }
    if (route->hop_count > 0)
        why = hosts_find_hops(&search);
    else if (domain[0] == '[')
        why = hosts_add_fallback(&search, hosts_find_literal(&search, domain));
    else
        why = hosts_add_fallback(&search, hosts_find_mx(&search, domain));
    if (why != REPLY_OK || found->count > 0)
        return why;
    snprintf(found->reason, sizeof found->reason, "out of memory");
    return REPLY_BACKEND_BUSY;
}

void hosts_clear(struct hosts *found)
{
    free(found->items);
    found->items = NULL;
    found->count = 0;
}
