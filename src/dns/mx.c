/* dns/mx.c - where mail for a domain goes (RFC 5321 5.1, RFC 7505)
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "dns/mx.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define RECORDS_MAX 100 /* MX records read per domain */
#define SMTP_PORT 25

struct host {
    char name[DNS_NAME_MAX];
    unsigned preference;
    unsigned order; /* random: among hosts of the same preference */
    /* For its addresses, AAAA and A; a question without a name is not asked. */
    struct resolver_question questions[2];
};

enum { IPV6, IPV4 }; /* of questions */

struct search {
    struct resolver *resolver;
    const struct mx_options *options;
    struct deadline deadline;
    struct mx_route *route;
    struct host *hosts;
    size_t count;
    bool temporary, private; /* why hosts gave no usable address */
};

__attribute__((format(printf, 3, 4))) static enum mx_result
mx_conclude(struct mx_route *route, enum mx_result result, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(route->reason, sizeof route->reason, format, arguments);
    va_end(arguments);
    return result;
}

static unsigned mx_random_number(void)
{
    unsigned number = 0;
    /* Security does not depend on it: without randomness the order is the answer's. */
    if (getrandom(&number, sizeof number, GRND_NONBLOCK) != (ssize_t)sizeof number)
        return 0;
    return number;
}

static int mx_compare_hosts(const void *a, const void *b)
{
    const struct host *first = a, *second = b;
    if (first->preference != second->preference)
        return first->preference < second->preference ? -1 : 1;
    return first->order < second->order ? -1 : first->order > second->order;
}

/* Hosts. */

static void mx_add_host(struct search *search, const char *name, unsigned preference)
{
    struct host *host = &search->hosts[search->count++];
    snprintf(host->name, sizeof host->name, "%s", name);
    host->preference = preference;
    host->order = mx_random_number();
}

/* Skips names that no host can have: a "." among others, addresses, odd octets. */
static enum mx_result mx_read_hosts(struct search *search, const struct resolver_answer *answer)
{
    char name[DNS_NAME_MAX];
    unsigned preference;

    for (size_t i = 0; i < answer->count && search->count < RECORDS_MAX; i++) {
        if (dns_mx_read((const uint8_t *)answer->data[i], (size_t)answer->lengths[i], &preference,
                        name) != 0)
            continue;
        if (name[0] == '\0' && answer->count == 1)
            return mx_conclude(search->route, MX_NULL, "%s has a null MX", search->route->domain);
        if (dns_name_is_hostname(name))
            mx_add_host(search, name, preference);
    }
    if (search->count == 0)
        return mx_conclude(search->route, MX_NO_HOSTS, "no MX record of %s names a host",
                           search->route->domain);
    return MX_FOUND;
}

static enum mx_result mx_find_hosts(struct search *search)
{
    struct mx_route *route = search->route;
    struct resolver_answer answer;
    enum mx_result result = MX_FOUND;

    resolver_lookup(search->resolver, route->domain, DNS_TYPE_MX, search->deadline, &answer);
    route->mx_secure = answer.secure;
    switch (answer.result) {
    case RESOLVER_FOUND:
        result = mx_read_hosts(search, &answer);
        break;
    case RESOLVER_NO_DATA: /* RFC 5321 5.1: the implicit MX */
        mx_add_host(search, route->domain, 0);
        break;
    case RESOLVER_NO_NAME:
        result = mx_conclude(route, MX_NO_DOMAIN, "%s does not exist", route->domain);
        break;
    case RESOLVER_TEMPORARY:
        route->bogus = answer.bogus;
        route->late = answer.late;
        result = mx_conclude(route, MX_TEMPORARY, "MX of %s: %s", route->domain, answer.reason);
        break;
    }
    resolver_answer_free(&answer);
    return result;
}

static bool mx_is_own_name(const struct search *search, const char *name)
{
    for (size_t i = 0; i < search->options->own_name_count; i++) {
        if (dns_name_equal(search->options->own_names[i], name))
            return true;
    }
    return false;
}

/* Reads the address in record `i` of an answer. */
static bool mx_read_address(const struct resolver_answer *answer, size_t i, struct address *address)
{
    return dns_address_read((const uint8_t *)answer->data[i], (size_t)answer->lengths[i],
                            address) == 0;
}

static bool mx_is_ourselves(const struct search *search, const struct host *host)
{
    struct address address;

    if (mx_is_own_name(search, host->name))
        return true;
    for (int family = IPV6; family <= IPV4; family++) {
        const struct resolver_answer *answer = &host->questions[family].answer;
        for (size_t i = 0; i < answer->count; i++) {
            if (mx_read_address(answer, i, &address) &&
                address_is_among(&address, search->options->own_addresses,
                                 search->options->own_address_count))
                return true;
        }
    }
    return false;
}

/* RFC 5321 5.1: drops all hosts from our own preference on, or mail would loop. `count` is the
 * number of sorted hosts to look at, and becomes the number left. */
static enum mx_result mx_drop_from_ourselves(struct search *search, size_t *count)
{
    for (size_t i = 0; i < *count; i++) {
        if (!mx_is_ourselves(search, &search->hosts[i]))
            continue;
        size_t keep = i;
        while (keep > 0 && search->hosts[keep - 1].preference == search->hosts[i].preference)
            keep--;
        if (keep == 0)
            return mx_conclude(search->route, MX_LOOP, "the best MX host of %s is this host (%s)",
                               search->route->domain, search->hosts[i].name);
        *count = keep;
        break;
    }
    return MX_FOUND;
}

/* Addresses. */

/* Asks for the addresses of the hosts from number `first` to `end`, MX_HOSTS_MAX at most. */
static void mx_ask_addresses(struct search *search, size_t first, size_t end)
{
    static const int types[] = {DNS_TYPE_AAAA, DNS_TYPE_A};
    struct resolver_question questions[2 * MX_HOSTS_MAX], *from[2 * MX_HOSTS_MAX];
    enum mx_family family = search->options->family;
    size_t asked = 0;

    for (size_t i = first; i < end; i++) {
        for (int which = IPV6; which <= IPV4; which++) {
            if (family == (which == IPV6 ? MX_ONLY_IPV4 : MX_ONLY_IPV6))
                continue;
            from[asked] = &search->hosts[i].questions[which];
            *from[asked] =
                (struct resolver_question){.name = search->hosts[i].name, .type = types[which]};
            questions[asked] = *from[asked];
            asked++;
        }
    }
    resolver_lookup_all(search->resolver, questions, asked, search->deadline);
    for (size_t i = 0; i < asked; i++)
        *from[i] = questions[i];
}

/* Copies the host's usable addresses of one family to `out`, from a random start. Returns their
 * number. */
static size_t mx_usable_addresses(struct search *search, const struct resolver_question *question,
                                  struct address out[MX_ADDRESSES_MAX])
{
    const struct resolver_answer *answer = &question->answer;
    size_t count = 0, start = answer->count > 0 ? mx_random_number() % answer->count : 0;
    struct address address;

    if (question->name != NULL && answer->result == RESOLVER_TEMPORARY) {
        search->temporary = true;
        search->route->bogus |= answer->bogus;
        search->route->late |= answer->late;
        mx_conclude(search->route, MX_TEMPORARY, "addresses of %s: %s", question->name,
                    answer->reason);
    }
    for (size_t i = 0; i < answer->count && count < MX_ADDRESSES_MAX; i++) {
        if (!mx_read_address(answer, (start + i) % answer->count, &address))
            continue;
        address.port = SMTP_PORT;
        if (!address_is_private(&address) ||
            cidr_set_contains(search->options->private_allowed, &address))
            out[count++] = address;
        else
            search->private = true;
    }
    return count;
}

static void mx_add_candidate(struct mx_route *route, const struct host *host, int family,
                             const struct address *address)
{
    const struct resolver_answer *answer = &host->questions[family].answer;
    struct mx_candidate *candidate = &route->candidates[route->count++];

    snprintf(candidate->host, sizeof candidate->host, "%s", host->name);
    snprintf(candidate->canonical, sizeof candidate->canonical, "%s", answer->canonical);
    candidate->preference = host->preference;
    candidate->address = *address;
    candidate->address_secure = answer->secure;
}

/* Alternates IPv6 and IPv4, so that a broken family costs only one attempt. */
static void mx_add_candidates(struct search *search, const struct host *host, size_t most)
{
    struct address addresses[2][MX_ADDRESSES_MAX];
    size_t counts[2], next[2] = {0, 0};
    struct mx_route *route = search->route;
    int family = search->options->family == MX_PREFER_IPV4 ? IPV4 : IPV6;

    for (int i = IPV6; i <= IPV4; i++)
        counts[i] = mx_usable_addresses(search, &host->questions[i], addresses[i]);
    for (size_t i = 0; i < most && route->count < MX_ADDRESSES_MAX; i++) {
        if (next[family] == counts[family])
            family = IPV6 + IPV4 - family;
        if (next[family] == counts[family])
            return;
        mx_add_candidate(route, host, family, &addresses[family][next[family]++]);
        family = IPV6 + IPV4 - family;
    }
}

/* Takes the addresses of these hosts. */
static enum mx_result mx_choose(struct search *search, size_t first, size_t end)
{
    struct mx_route *route = search->route;
    size_t most = end > 1 ? MX_ADDRESSES_PER_HOST : MX_ADDRESSES_MAX;

    route->candidates = calloc((end - first) * most, sizeof *route->candidates);
    if (route->candidates == NULL)
        return mx_conclude(route, MX_TEMPORARY, "out of memory");
    for (size_t i = first; i < end; i++)
        mx_add_candidates(search, &search->hosts[i], most);
    if (route->count > 0) {
        route->reason[0] = '\0';
        return MX_FOUND;
    }
    mx_route_clear(route);
    if (search->temporary)
        return MX_TEMPORARY; /* mx_usable_addresses() has set the reason */
    if (search->private)
        return mx_conclude(route, MX_PRIVATE, "all hosts of %s have private addresses",
                           route->domain);
    return mx_conclude(route, MX_NO_HOSTS, "no host of %s has an address", route->domain);
}

static size_t mx_batch_end(size_t first, size_t count)
{
    return count - first < MX_HOSTS_MAX ? count : first + MX_HOSTS_MAX;
}

static enum mx_result mx_search_hosts(struct search *search)
{
    enum mx_result result = mx_find_hosts(search);
    size_t count;

    if (result != MX_FOUND)
        return result;
    qsort(search->hosts, search->count, sizeof *search->hosts, mx_compare_hosts);
    count = search->count;
    /* Check names first: hosts dropped by name need no address look-up. */
    if (mx_drop_from_ourselves(search, &count) != MX_FOUND)
        return MX_LOOP;
    /* Further hosts are asked about only if those before have no usable address, and there is time left. */
    for (size_t at = 0; at < count; at += MX_HOSTS_MAX) {
        if (at > 0 && (result == MX_FOUND || deadline_passed(search->deadline)))
            break;
        mx_ask_addresses(search, at, mx_batch_end(at, count));
        if (mx_drop_from_ourselves(search, &count) != MX_FOUND)
            return MX_LOOP;
        if (at < count)
            result = mx_choose(search, at, mx_batch_end(at, count));
    }
    return result;
}

enum mx_result mx_find(struct resolver *resolver, const char *domain,
                       const struct mx_options *options, struct deadline deadline,
                       struct mx_route *route)
{
    struct search search = {
        .resolver = resolver, .options = options, .deadline = deadline, .route = route};

    memset(route, 0, sizeof *route);
    if (dns_name_to_ascii(domain, route->domain) != 0)
        return mx_conclude(route, MX_BAD_DOMAIN, "%.200s is not a domain name", domain);
    search.hosts = calloc(RECORDS_MAX, sizeof *search.hosts);
    if (search.hosts == NULL)
        return mx_conclude(route, MX_TEMPORARY, "out of memory");
    enum mx_result result = mx_search_hosts(&search);
    for (size_t i = 0; i < search.count; i++) {
        resolver_answer_free(&search.hosts[i].questions[IPV6].answer);
        resolver_answer_free(&search.hosts[i].questions[IPV4].answer);
    }
    free(search.hosts);
    return result;
}

void mx_route_clear(struct mx_route *route)
{
    free(route->candidates);
    route->candidates = NULL;
    route->count = 0;
}
