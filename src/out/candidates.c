/* out/candidates.c - the addresses to try for a destination, in order
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "out/candidates.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SMTP_PORT 25

/* One more, zeroed but for these; NULL when there are enough of them, or no memory. */
static struct candidate *candidates_add(struct candidates *found, const char *host,
                                        const struct address *address)
{
    if (found->items == NULL)
        found->items = calloc(CANDIDATES_MAX, sizeof *found->items);
    if (found->items == NULL || found->count == CANDIDATES_MAX)
        return NULL;
    struct candidate *candidate = &found->items[found->count++];
    snprintf(candidate->host, sizeof candidate->host, "%s", host);
    candidate->address = *address;
    return candidate;
}

static enum own_reply candidates_reply_to(enum mx_result result)
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

static enum own_reply candidates_find_mx(const struct outbound *out, const char *domain,
                                         struct deadline deadline, struct candidates *found)
{
    struct mx_route route;
    enum mx_result result = mx_find(out->resolver, domain, &out->mx, deadline, &route);

    snprintf(found->reason, sizeof found->reason, "%s", route.reason);
    for (size_t i = 0; i < route.count; i++) {
        const struct mx_candidate *mx = &route.candidates[i];
        struct candidate *candidate = candidates_add(found, mx->host, &mx->address);
        if (candidate == NULL)
            break;
        snprintf(candidate->canonical, sizeof candidate->canonical, "%s", mx->canonical);
        candidate->host_secure = route.mx_secure;
        candidate->address_secure = mx->address_secure;
    }
    mx_route_clear(&route);
    return candidates_reply_to(result);
}

/* Whoever names an address names the host. */
static void candidates_add_literal(struct candidates *found, const char *text,
                                   const struct address *address)
{
    struct candidate *candidate = candidates_add(found, text, address);
    if (candidate != NULL)
        candidate->host_is_address = candidate->host_secure = candidate->address_secure = true;
}

/* user@[192.0.2.1], where that is allowed. */
static enum own_reply candidates_find_literal(const struct outbound *out, const char *domain,
                                              struct candidates *found)
{
    char text[ADDRESS_TEXT_MAX];
    const char *start = domain + 1;
    struct address address;

    if (strncasecmp(start, "IPv6:", 5) == 0)
        start += 5;
    snprintf(text, sizeof text, "%.*s", (int)strcspn(start, "]"), start);
    if (address_parse_ip(&address, text) != 0 || address_is_private(&address))
        return REPLY_NO_HOSTS;
    if (ourselves_has_address(&out->ours, &address))
        return REPLY_LOOP;
    address.port = SMTP_PORT;
    candidates_add_literal(found, text, &address);
    return REPLY_OK;
}

static bool candidates_is_wanted(const struct outbound *out, int family)
{
    return out->mx.family != (family == AF_INET ? MX_ONLY_IPV6 : MX_ONLY_IPV4);
}

static void candidates_add_answer(const struct outbound *out, const struct endpoint *hop,
                                  const char *name, const struct resolver_answer *answer,
                                  struct candidates *found, bool *loops)
{
    for (size_t i = 0; i < answer->count; i++) {
        struct address address;
        if (dns_address_read((const uint8_t *)answer->data[i], (size_t)answer->lengths[i],
                             &address) != 0)
            continue;
        address.port = hop->port;
        if (ourselves_listen(&out->ours, &address, hop->port)) {
            *loops = true;
            continue;
        }
        struct candidate *candidate = candidates_add(found, name, &address);
        if (candidate == NULL)
            return;
        snprintf(candidate->canonical, sizeof candidate->canonical, "%s", answer->canonical);
        candidate->host_secure = true;
        candidate->address_secure = answer->secure;
    }
}

/* Of a host named in the configuration: what it resolves to is the operator's business, so private
 * addresses are fine. Returns false when the DNS says nothing now. */
static bool candidates_find_host(const struct outbound *out, const struct endpoint *hop,
                                 struct deadline deadline, struct candidates *found, bool *loops)
{
    bool v4_first = out->mx.family == MX_PREFER_IPV4, known = true;
    char name[DNS_NAME_MAX];

    if (dns_name_to_ascii(hop->host, name) != 0)
        return true;
    for (int turn = 0; turn < 2; turn++) {
        struct resolver_answer answer;
        bool v4 = (turn == 0) == v4_first;
        if (!candidates_is_wanted(out, v4 ? AF_INET : AF_INET6))
            continue;
        known &= resolver_lookup(out->resolver, name, v4 ? DNS_TYPE_A : DNS_TYPE_AAAA, deadline,
                                 &answer) != RESOLVER_TEMPORARY;
        candidates_add_answer(out, hop, name, &answer, found, loops);
        resolver_answer_free(&answer);
    }
    return known;
}

static enum own_reply candidates_find_hops(const struct outbound *out, const struct route *route,
                                           struct deadline deadline, struct candidates *found)
{
    bool loops = false, known = true;

    for (size_t i = 0; i < route->hop_count; i++) {
        const struct endpoint *hop = &route->hops[i];
        struct address address = hop->address;
        address.port = hop->port;
        if (address.family == AF_UNSPEC)
            known &= candidates_find_host(out, hop, deadline, found, &loops);
        else if (ourselves_listen(&out->ours, &address, hop->port))
            loops = true;
        else
            candidates_add_literal(found, hop->host, &address);
    }
    if (found->count > 0)
        return REPLY_OK;
    snprintf(found->reason, sizeof found->reason, "the next hops of %s %s", route->name,
             loops ? "are this host" : "have no addresses");
    if (loops)
        return REPLY_LOOP;
    /* A name in our own configuration that does not resolve is nothing to bounce mail for. */
    return known ? REPLY_BACKEND_CONFIG : REPLY_DNS_TEMPORARY;
}

enum own_reply candidates_find(const struct outbound *out, const struct route *route,
                               const char *domain, struct deadline deadline,
                               struct candidates *found)
{
    enum own_reply why;

    *found = (struct candidates){.count = 0};
    if (route->hop_count > 0)
        why = candidates_find_hops(out, route, deadline, found);
    else if (domain[0] == '[')
        why = candidates_find_literal(out, domain, found);
    else
        why = candidates_find_mx(out, domain, deadline, found);
    if (why != REPLY_OK || found->count > 0)
        return why;
    snprintf(found->reason, sizeof found->reason, "out of memory");
    return REPLY_BACKEND_BUSY;
}

void candidates_clear(struct candidates *found)
{
    free(found->items);
    found->items = NULL;
    found->count = 0;
}
