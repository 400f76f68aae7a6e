/* relay-in/inbound.c - relay-in's snapshot: its rules and what they refer to
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-in/inbound.h"

#include <stdlib.h>
#include <string.h>

#include "base/i18n.h"
#include "relay-in/courier.h"
#include "relay-in/remembered.h"

/* RFC 5321 4.5.1: <postmaster> without a domain is always accepted; it belongs to the first domain. */
static enum own_reply inbound_complete_postmaster(const struct inbound *inbound,
                                                  struct path *recipient)
{
    if (inbound->domains.first == NULL)
        return REPLY_RELAY_DENIED;
    return path_add_domain(recipient, inbound->domains.first) ? REPLY_OK : REPLY_BAD_RECIPIENT;
}

/* Refuses every form by which one of our recipients could mean another domain's (promise 4). */
static enum own_reply inbound_check_recipient(void *context, struct path *recipient,
                                              const void **route)
{
    const struct inbound *inbound = context;
    enum own_reply verdict = REPLY_OK;
    unsigned backend = 0;

    if (recipient->has_source_route || recipient->has_routing_local || recipient->is_literal)
        return REPLY_RELAY_DENIED;
    if (path_is_postmaster(recipient))
        verdict = inbound_complete_postmaster(inbound, recipient);
    if (verdict == REPLY_OK && !domains_find(&inbound->domains, recipient->domain, &backend))
        verdict = REPLY_RELAY_DENIED;
    *route = inbound->backends[backend];
    return verdict;
}

/* A client that has logged in to the backend may send to whomever the backend allows. */
static enum own_reply inbound_check_submitted(void *context, struct path *recipient,
                                              const void **route)
{
    (void)context;
    (void)recipient;
    /* The same route as the login: another one would mean another connection. */
    *route = NULL;
    return REPLY_OK;
}

static unsigned inbound_offered_extensions(const struct backend *backend,
                                           const struct nexthop_capabilities *seen)
{
    unsigned extensions = seen->extensions & REMEMBERED_EXTENSIONS;

    if (!(extensions & EXTENSION_CHUNKING))
        extensions &= ~(unsigned)EXTENSION_BINARYMIME;
    /* RFC 8689 4.2.1: the next hop's certificate must be checked. */
    if (backend_settings(backend)->tls != CONFIG_TLS_VERIFY)
        extensions &= ~(unsigned)EXTENSION_REQUIRETLS;
    return extensions;
}

static void inbound_offer_of(struct backend *backend, struct session_offer *offer)
{
    struct nexthop_capabilities seen;

    backend_offer(backend, &seen);
    offer->extensions = inbound_offered_extensions(backend, &seen);
    offer->size_limit = seen.size_limit;
    offer->recipients = seen.recipients;
}

/* Extensions that are offered if any backend has them, at no cost to the others: a message that needs SMTPUTF8 is
 * refused for recipients at other backends, and chunks are joined for them. */
#define INBOUND_OFFERED_FOR_ANY (EXTENSION_SMTPUTF8 | EXTENSION_CHUNKING)

static uint64_t inbound_larger_limit(uint64_t a, uint64_t b)
{
    return a == 0 || b == 0 ? 0 : a > b ? a : b; /* 0: no limit */
}

/* Offers what every backend can do, and the largest size limit: the recipient decides what applies
 * (inbound_announce_route()). */
static void inbound_announce(void *context, struct session_offer *offer)
{
    const struct inbound *inbound = context;
    unsigned any;

    inbound_offer_of(inbound->backends[0], offer);
    any = offer->extensions & INBOUND_OFFERED_FOR_ANY;
    for (size_t i = 1; i < inbound->backend_count; i++) {
        struct session_offer other = {.extensions = 0};
        inbound_offer_of(inbound->backends[i], &other);
        offer->extensions &= other.extensions;
        any |= other.extensions & INBOUND_OFFERED_FOR_ANY;
        offer->size_limit = inbound_larger_limit(offer->size_limit, other.size_limit);
        offer->recipients = (unsigned)inbound_larger_limit(offer->recipients, other.recipients);
    }
    offer->extensions |= any;
}

static void inbound_announce_route(void *context, const void *route, struct session_offer *offer)
{
    const struct inbound *inbound = context;
    inbound_offer_of(route != NULL ? (struct backend *)route : inbound->submission, offer);
}

static void inbound_announce_submission(void *context, struct session_offer *offer)
{
    const struct inbound *inbound = context;
    struct nexthop_capabilities seen;

    inbound_offer_of(inbound->submission, offer);
    backend_offer(inbound->submission, &seen);
    strcpy(offer->mechanisms, seen.mechanisms);
}

/* A session_policy's function. */
static void inbound_count_recipient(void *context, const struct reply *reply,
                                    enum own_reply verdict)
{
    const struct inbound *inbound = context;
    counters_add(inbound->counters,
                 reply_is_positive(reply)        ? COUNTER_RECIPIENTS_ACCEPTED
                 : reply_is_transient(reply)     ? COUNTER_RECIPIENTS_DEFERRED
                 : verdict == REPLY_OK           ? COUNTER_RECIPIENTS_REFUSED_BACKEND
                 : verdict == REPLY_RELAY_DENIED ? COUNTER_RECIPIENTS_REFUSED_DOMAIN
                                                 : COUNTER_RECIPIENTS_REFUSED_OTHER,
                 1);
}

static struct courier *inbound_new_courier(void *context, const void *route)
{
    (void)context;
    return courier_backend_new((struct backend *)route);
}

static struct courier *inbound_new_submission(void *context, const void *route)
{
    const struct inbound *inbound = context;
    (void)route;
    return courier_backend_new(inbound->submission);
}

static struct reverse_lookup *inbound_identify(void *context, const struct address *client)
{
    const struct inbound *inbound = context;
    return inbound->config->in.reverse_dns ? reverse_start(inbound->resolver, client) : NULL;
}

/* Decides as the gate does for clients that connect themselves. */
static enum own_reply inbound_serves(void *context, const struct address *client)
{
    const struct inbound *inbound = context;
    bool allowed;
    return service_judge(&inbound->service, client, &allowed);
}

static void inbound_destroy(struct service *service)
{
    struct inbound *inbound = (struct inbound *)service;
    for (size_t i = 0; i < inbound->backend_count; i++)
        backend_unref(inbound->backends[i]);
    free(inbound->backends);
    backend_unref(inbound->submission);
    tls_server_unref(inbound->tls);
    dnsbl_unref(inbound->service.dnsbl);
    domains_free(&inbound->domains);
    config_unref(inbound->config);
    free(inbound);
}

static void inbound_set_rules(struct inbound *inbound)
{
    const struct config_in *in = &inbound->config->in;
    struct session_rules *rules = &inbound->service.rules;

    rules->refused_recipients = (unsigned)in->limits.refused_recipients;
    rules->data_grace_ms = in->timeouts.data_grace;
    rules->min_data_rate = (uint64_t)in->limits.min_data_rate;
    rules->message_timeout_ms = in->timeouts.message;
    rules->session_timeout_ms = in->timeouts.session;
    rules->stress_timeout_ms = in->stress.timeout_ms;
    rules->stress_errors = (unsigned)in->stress.errors;
    rules->stress_junk_commands = (unsigned)in->stress.junk_commands;
    rules->xclient_hosts = in->xclient_hosts;
    rules->policy = (struct session_policy){
        .check_recipient = inbound_check_recipient,
        .offer = inbound_announce,
        .offer_route = inbound_announce_route,
        .courier_new = inbound_new_courier,
        .identify = inbound_identify,
        .serves = inbound_serves,
        .count_recipient = inbound_count_recipient,
        .context = inbound,
    };
}

static void inbound_set_submission_rules(struct inbound *inbound)
{
    struct session_rules *submission = &inbound->service.submission;
    *submission = inbound->service.rules;
    submission->submission = true;
    submission->no_tls = NULL;
    submission->policy.check_recipient = inbound_check_submitted;
    submission->policy.offer = inbound_announce_submission;
    submission->policy.courier_new = inbound_new_submission;
}

static void inbound_set_gate(struct service *service, const struct config_in *in)
{
    const struct config_limits *limits = &in->limits;
    unsigned network = (unsigned)limits->connections_per_network;

    service->limits.network_connections = network == 0 || network >= service->limits.connections
                                              ? network
                                              : service->limits.connections;
    service->limits.rate = (unsigned)limits->rate_per_client;
    service->limits.network_rate = (unsigned)limits->rate_per_network;
    service->over_limit =
        in->clients.over_limit == CONFIG_OVER_TEMPFAIL ? SERVICE_OVER_TEMPFAIL : SERVICE_OVER_CLOSE;
    service->allow = in->clients.allow;
    service->deny = in->clients.deny;
    service->stress = (struct service_stress){
        .free_workers = (unsigned)in->stress.free_workers,
        .free_connections = (unsigned)in->stress.free_connections,
        .after_ms = in->stress.after_ms,
        .calm_ms = in->stress.calm_ms,
        .idle_timeout_ms = in->stress.timeout_ms,
    };
    service->waiting_transactions = (unsigned)in->limits.waiting_transactions;
    service->greet_delay_ms = in->greet_delay_ms;
    service->private_clients = in->private_clients;
    service->refuse_private = true;
    service->proxy_hosts = in->proxy_hosts;
    service->proxy_timeout_ms = in->timeouts.proxy_header;
}

/* Sets up the blocklists. The configuration check has validated the zones. */
static int inbound_set_dnsbl(struct service *service, struct resolver *resolver,
                             const struct config_dnsbl *config, struct error *err)
{
    static const enum service_listed actions[] = {
        [CONFIG_DNSBL_REJECT] = SERVICE_LISTED_REJECT,
        [CONFIG_DNSBL_TEMPFAIL] = SERVICE_LISTED_TEMPFAIL,
        [CONFIG_DNSBL_TARPIT] = SERVICE_LISTED_TARPIT,
    };
    struct dnsbl_zone zones[CONFIG_DNSBL_ZONES_MAX];

    if (config->zones.count == 0)
        return 0;
    for (size_t i = 0; i < config->zones.count; i++) {
        if (dnsbl_parse(config->zones.items[i], &zones[i], err) != 0)
            return -1;
    }
    service->dnsbl =
        dnsbl_new(zones, config->zones.count, (int)config->threshold, config->timeout_ms);
    service->resolver = resolver;
    service->listed = actions[config->action];
    service->dnsbl_timeout_ms = config->timeout_ms;
    service->tarpit_ms = config->tarpit_ms;
    if (service->dnsbl != NULL)
        return 0;
    error_set(err, _("out of memory"));
    return -1;
}

static int inbound_list_domains(struct inbound *inbound, struct error *err)
{
    const struct config_in *in = &inbound->config->in;
    const struct config_backend *backends = in->backends.items;
    int result = domains_add(&inbound->domains, &in->domains, 0);

    for (size_t i = 0; i < in->backends.count && result == 0; i++)
        result = domains_add(&inbound->domains, &backends[i].domains, (unsigned)i + 1);
    if (result != 0)
        error_set(err, _("out of memory"));
    return result;
}

struct inbound *inbound_new(struct config *config, struct tls_server *tls,
                            struct resolver *resolver, struct counters *counters, struct error *err)
{
    struct inbound *inbound = calloc(1, sizeof *inbound);

    if (inbound == NULL) {
        error_set(err, _("out of memory"));
        return NULL;
    }
    inbound->config = config_ref(config);
    inbound->resolver = resolver;
    inbound->counters = counters;
    inbound->tls = tls != NULL ? tls_server_ref(tls) : NULL;
    atomic_init(&inbound->service.references, 1);
    inbound->service.destroy = inbound_destroy;
    service_configure(&inbound->service, config, &config->in.daemon, inbound->tls, counters);
    inbound_set_gate(&inbound->service, &config->in);
    inbound_set_rules(inbound);
    if (config->in.submission.given)
        inbound_set_submission_rules(inbound);
    if (inbound_set_dnsbl(&inbound->service, resolver, &config->in.dnsbl, err) == 0 &&
        inbound_list_domains(inbound, err) == 0)
        return inbound;
    service_unref(&inbound->service);
    return NULL;
}
