/* relay-in/main.c - relay-in: the daemon on the internet side
 *
 * Policy and wiring only: which recipients are ours, what is announced, and a courier that runs
 * the same transaction with the backend. The life of the daemon is server/daemon.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/i18n.h"
#include "relay-in/backend.h"
#include "relay-in/courier.h"
#include "relay-in/domains.h"
#include "server/daemon.h"
#include "server/stats.h"

/* Lives as long as the process. Changed by the main thread only. */
struct relay_in {
    struct counters *counters; /* borrowed */
    struct missed *missed;     /* NULL: off */
    pthread_mutex_t lock;      /* of the next three, which the control socket looks at */
    struct service *current;   /* a reference */
    struct backend **backends; /* the current ones; a reload keeps those that it does not change */
    size_t backend_count;
    struct backend_live_count *live_count;
    struct resolver *resolver;
};

/* A snapshot with what its rules point to. */
struct inbound {
    struct service service;
    struct config *config;
    struct tls_server *tls;
    struct resolver *resolver; /* the process's */
    struct counters *counters; /* the same */
    struct domains domains;
    struct backend **backends; /* in.backend, then in.backends */
    size_t backend_count;
    struct backend *submission; /* NULL: none */
};

static void relay_in_shape(const struct config *config, struct daemon_shape *out)
{
    const struct config_in *in = &config->in;
    *out = (struct daemon_shape){
        .listen = in->listen.items,
        .listen_count = in->listen.count,
        .workers = (unsigned)in->workers,
        .queue = (unsigned)in->limits.queue,
        .connections = (unsigned)in->daemon.limits.connections,
        .drain_ms = in->daemon.timeouts.drain,
    };
}

static void *relay_in_start(const struct config *config, struct counters *counters,
                            struct error *err)
{
    struct relay_in *relay = calloc(1, sizeof *relay);
    struct resolver_config resolver;

    config_resolver(config, &resolver);
    if (relay != NULL)
        relay->live_count = backend_live_count_new();
    if (relay == NULL || relay->live_count == NULL) {
        error_set(err, _("out of memory"));
        free(relay);
        return NULL;
    }
    relay->counters = counters;
    pthread_mutex_init(&relay->lock, NULL);
    if (config->in.missed)
        relay->missed = missed_open(config->in.state, config->in.missed_sender, err);
    relay->resolver =
        !config->in.missed || relay->missed != NULL ? resolver_new(&resolver, err) : NULL;
    if (relay->resolver != NULL)
        return relay;
    backend_live_count_free(relay->live_count);
    free(relay);
    return NULL;
}

static void relay_in_drop_backends(struct backend **backends, size_t count)
{
    for (size_t i = 0; i < count; i++)
        backend_unref(backends[i]);
    free(backends);
}

static void relay_in_stop(void *shared)
{
    struct relay_in *relay = shared;
    service_unref(relay->current);
    relay_in_drop_backends(relay->backends, relay->backend_count);
    if (!backend_live_count_free(relay->live_count)) {
        /* Destructors must not run under a thread that is still at work. */
        fflush(NULL);
        _exit(EX_OK);
    }
    resolver_free(relay->resolver);
    missed_close(relay->missed);
    free(relay);
}

/* RFC 5321 4.5.1: <postmaster> without a domain is always taken; it is the first domain's. */
static enum own_reply relay_in_complete_postmaster(const struct inbound *inbound,
                                                   struct path *recipient, unsigned *backend)
{
    const struct domain *first = &inbound->domains.first;

    if (first->name == NULL)
        return REPLY_RELAY_DENIED;
    *backend = first->backend;
    return path_add_domain(recipient, first->name) ? REPLY_OK : REPLY_BAD_RECIPIENT;
}

/* Refused here are all forms by which a recipient of ours could mean somebody else's (promise
 * 4). */
static enum own_reply relay_in_check_recipient(void *context, struct path *recipient,
                                               const void **route)
{
    const struct inbound *inbound = context;
    enum own_reply verdict = REPLY_OK;
    unsigned backend = 0;

    if (recipient->has_source_route || recipient->has_routing_local || recipient->is_literal)
        return REPLY_RELAY_DENIED;
    if (path_is_postmaster(recipient))
        verdict = relay_in_complete_postmaster(inbound, recipient, &backend);
    else if (!domains_find(&inbound->domains, recipient->domain, &backend))
        verdict = REPLY_RELAY_DENIED;
    *route = inbound->backends[backend];
    return verdict;
}

/* Whoever has logged in at the backend may send to whom the backend lets them. */
static enum own_reply relay_in_check_submitted(void *context, struct path *recipient,
                                               const void **route)
{
    (void)context;
    (void)recipient;
    /* The one that the log-in took as well: another route would be another connection. */
    *route = NULL;
    return REPLY_OK;
}

static unsigned relay_in_offered_extensions(const struct backend *backend,
                                            const struct nexthop_capabilities *seen)
{
    static const struct {
        unsigned seen, extension;
    } table[] = {
        {NEXTHOP_8BITMIME, EXTENSION_8BITMIME},
        {NEXTHOP_SMTPUTF8, EXTENSION_SMTPUTF8},
        {NEXTHOP_ENHANCEDSTATUSCODES, EXTENSION_ENHANCEDSTATUSCODES},
        {NEXTHOP_DSN, EXTENSION_DSN},
        {NEXTHOP_CHUNKING, EXTENSION_CHUNKING},
        {NEXTHOP_BINARYMIME | NEXTHOP_CHUNKING, EXTENSION_BINARYMIME},
    };
    unsigned extensions = 0;

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if ((seen->extensions & table[i].seen) == table[i].seen)
            extensions |= table[i].extension;
    }
    /* RFC 8689 4.2.1: the next hop's certificate must be checked. */
    if ((seen->extensions & NEXTHOP_REQUIRETLS) &&
        backend_settings(backend)->tls == CONFIG_TLS_VERIFY)
        extensions |= EXTENSION_REQUIRETLS;
    return extensions;
}

static void relay_in_offer_of(struct backend *backend, struct session_offer *offer)
{
    struct nexthop_capabilities seen;

    backend_offer(backend, &seen);
    offer->extensions = relay_in_offered_extensions(backend, &seen);
    offer->size_limit = seen.size_limit;
    offer->recipients = seen.recipients;
}

/* What one of them can do and costs the others nothing: a message that needs SMTPUTF8 is refused for
 * whom it does not fit, and chunks are put together again. */
#define OFFERED_FOR_ANY (EXTENSION_SMTPUTF8 | EXTENSION_CHUNKING)

static uint64_t relay_in_larger_limit(uint64_t a, uint64_t b)
{
    return a == 0 || b == 0 ? 0 : a > b ? a : b; /* 0: none */
}

/* What every backend can do, and what the largest of them takes: who the recipient is tells which
 * holds (relay_in_announce_route()). */
static void relay_in_announce(void *context, struct session_offer *offer)
{
    const struct inbound *inbound = context;
    unsigned any;

    relay_in_offer_of(inbound->backends[0], offer);
    any = offer->extensions & OFFERED_FOR_ANY;
    for (size_t i = 1; i < inbound->backend_count; i++) {
        struct session_offer other = {.extensions = 0};
        relay_in_offer_of(inbound->backends[i], &other);
        offer->extensions &= other.extensions;
        any |= other.extensions & OFFERED_FOR_ANY;
        offer->size_limit = relay_in_larger_limit(offer->size_limit, other.size_limit);
        offer->recipients = (unsigned)relay_in_larger_limit(offer->recipients, other.recipients);
    }
    offer->extensions |= any;
}

static void relay_in_announce_route(void *context, const void *route, struct session_offer *offer)
{
    const struct inbound *inbound = context;
    relay_in_offer_of(route != NULL ? (struct backend *)route : inbound->submission, offer);
}

static void relay_in_announce_submission(void *context, struct session_offer *offer)
{
    const struct inbound *inbound = context;
    struct nexthop_capabilities seen;

    relay_in_offer_of(inbound->submission, offer);
    backend_offer(inbound->submission, &seen);
    strcpy(offer->mechanisms, seen.mechanisms);
}

static struct courier *relay_in_new_courier(void *context, const void *route)
{
    (void)context;
    return courier_backend_new((struct backend *)route);
}

static struct courier *relay_in_new_submission(void *context, const void *route)
{
    const struct inbound *inbound = context;
    (void)route;
    return courier_backend_new(inbound->submission);
}

static struct reverse_lookup *relay_in_identify(void *context, const struct address *client)
{
    const struct inbound *inbound = context;
    return inbound->config->in.reverse_dns ? reverse_start(inbound->resolver, client) : NULL;
}

/* As the gate judges those that connect themselves. */
static enum own_reply relay_in_serves(void *context, const struct address *client)
{
    const struct inbound *inbound = context;
    bool allowed;
    return service_judge(&inbound->service, client, &allowed);
}

static void inbound_destroy(struct service *service)
{
    struct inbound *inbound = (struct inbound *)service;
    relay_in_drop_backends(inbound->backends, inbound->backend_count);
    backend_unref(inbound->submission);
    tls_server_unref(inbound->tls);
    dnsbl_unref(inbound->service.dnsbl);
    domains_free(&inbound->domains);
    config_unref(inbound->config);
    free(inbound);
}

static void relay_in_set_rules(struct inbound *inbound)
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
        .check_recipient = relay_in_check_recipient,
        .offer = relay_in_announce,
        .offer_route = relay_in_announce_route,
        .courier_new = relay_in_new_courier,
        .identify = relay_in_identify,
        .serves = relay_in_serves,
        .context = inbound,
    };
}

static void relay_in_set_submission_rules(struct inbound *inbound)
{
    struct session_rules *submission = &inbound->service.submission;
    *submission = inbound->service.rules;
    submission->submission = true;
    submission->no_tls = NULL;
    submission->policy.check_recipient = relay_in_check_submitted;
    submission->policy.offer = relay_in_announce_submission;
    submission->policy.courier_new = relay_in_new_submission;
}

static struct backend *relay_in_find_backend(struct backend *const *backends, size_t count,
                                             const struct config *config,
                                             const struct config_backend *settings, bool submission)
{
    for (size_t i = 0; i < count; i++) {
        if (backend_serves(backends[i], config, settings, submission))
            return backend_ref(backends[i]);
    }
    return NULL;
}

/* One that is known already, from before the reload or from another group of this configuration, if
 * the settings mean the same. So groups with one mail server share its sessions and spares. */
static struct backend *relay_in_backend_for(struct relay_in *relay, const struct inbound *inbound,
                                            const struct config_backend *settings, bool submission,
                                            struct error *err)
{
    struct config *config = inbound->config;
    struct backend *backend = relay_in_find_backend(inbound->backends, inbound->backend_count,
                                                    config, settings, submission);

    if (backend == NULL)
        backend = relay_in_find_backend(relay->backends, relay->backend_count, config, settings,
                                        submission);
    return backend != NULL ? backend
                           : backend_new(config, settings, submission, relay->live_count,
                                         relay->counters, relay->missed, err);
}

static int relay_in_find_backends(struct inbound *inbound, struct relay_in *relay,
                                  struct error *err)
{
    const struct config_in *in = &inbound->config->in;
    const struct config_backend *of_domains = in->backends.items;

    inbound->backends = calloc(1 + in->backends.count, sizeof *inbound->backends);
    if (inbound->backends == NULL) {
        error_set(err, _("out of memory"));
        return -1;
    }
    for (size_t i = 0; i <= in->backends.count; i++) {
        struct backend *backend = relay_in_backend_for(
            relay, inbound, i == 0 ? &in->backend : &of_domains[i - 1], false, err);
        if (backend == NULL)
            return -1;
        inbound->backends[inbound->backend_count++] = backend;
    }
    if (!in->submission.given)
        return 0;
    inbound->submission = relay_in_backend_for(relay, inbound, &in->submission, true, err);
    return inbound->submission != NULL ? 0 : -1;
}

/* For the next reload to find. */
static int relay_in_remember_backends(struct relay_in *relay, const struct inbound *inbound,
                                      struct error *err)
{
    size_t count = inbound->backend_count + (inbound->submission != NULL);
    struct backend **backends = calloc(count, sizeof *backends);

    if (backends == NULL) {
        error_set(err, _("out of memory"));
        return -1;
    }
    for (size_t i = 0; i < count; i++)
        backends[i] =
            backend_ref(i < inbound->backend_count ? inbound->backends[i] : inbound->submission);
    struct backend **old = relay->backends;
    size_t old_count = relay->backend_count;
    pthread_mutex_lock(&relay->lock);
    relay->backends = backends;
    relay->backend_count = count;
    pthread_mutex_unlock(&relay->lock);
    relay_in_drop_backends(old, old_count);
    return 0;
}

static int relay_in_list_domains(struct inbound *inbound, struct error *err)
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

static void relay_in_set_gate(struct service *service, const struct config_in *in)
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

/* The zones have been checked with the configuration. */
static int relay_in_set_dnsbl(struct service *service, struct resolver *resolver,
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

static struct service *relay_in_service(void *shared, struct config *config, struct tls_server *tls,
                                        struct error *err)
{
    struct relay_in *relay = shared;
    struct inbound *inbound = calloc(1, sizeof *inbound);
    struct resolver_config resolver;

    if (inbound == NULL) {
        error_set(err, _("out of memory"));
        return NULL;
    }
    config_resolver(config, &resolver);
    inbound->config = config_ref(config);
    inbound->resolver = relay->resolver;
    inbound->counters = relay->counters;
    inbound->tls = tls != NULL ? tls_server_ref(tls) : NULL;
    atomic_init(&inbound->service.references, 1);
    inbound->service.destroy = inbound_destroy;
    service_configure(&inbound->service, config, &config->in.daemon, inbound->tls,
                      inbound->counters);
    relay_in_set_gate(&inbound->service, &config->in);
    relay_in_set_rules(inbound);
    if (config->in.submission.given)
        relay_in_set_submission_rules(inbound);
    if (relay_in_set_dnsbl(&inbound->service, relay->resolver, &config->in.dnsbl, err) != 0 ||
        relay_in_list_domains(inbound, err) != 0 ||
        relay_in_find_backends(inbound, relay, err) != 0 ||
        resolver_configure(relay->resolver, &resolver, err) != 0 ||
        relay_in_remember_backends(relay, inbound, err) != 0) {
        service_unref(&inbound->service);
        return NULL;
    }
    pthread_mutex_lock(&relay->lock);
    struct service *before = relay->current;
    relay->current = service_ref(&inbound->service);
    pthread_mutex_unlock(&relay->lock);
    service_unref(before);
    return &inbound->service;
}

/* Groups may share one. */
static bool relay_in_is_listed_before(struct backend *const *backends, size_t which)
{
    for (size_t i = 0; i < which; i++) {
        if (backends[i] == backends[which])
            return true;
    }
    return false;
}

static void relay_in_measure_backend(struct backend *backend, unsigned index,
                                     struct control_client *client)
{
    static const char *const words[] = {"unknown", "up", "down"};
    struct backend_health health;
    char name[BACKEND_NAME_MAX], label[16];

    backend_health(backend, &health);
    snprintf(label, sizeof label, "%u", index);
    stats_put_each(client, COUNTER_BACKEND_UP, COUNTERS_IN, label, health.status == BACKEND_UP);
    stats_put_each(client, COUNTER_BACKEND_SESSIONS, COUNTERS_IN, label, health.sessions);
    stats_put_each(client, COUNTER_BACKEND_LIMIT, COUNTERS_IN, label,
                   (double)backend_settings(backend)->max_sessions);
    stats_put_each(client, COUNTER_BACKEND_SPARES, COUNTERS_IN, label, health.spares);
    if (health.connect_ms >= 0)
        stats_put_each(client, COUNTER_BACKEND_LATENCY, COUNTERS_IN, label,
                       (double)health.connect_ms / 1000);
    stats_put_line(client, "backend %s %s %lld %lld %s %s", label, words[health.status],
                   (long long)health.since, (long long)health.connect_ms,
                   backend_name(backend, name), health.reason[0] != '\0' ? health.reason : "-");
}

static void relay_in_measure_missed(struct relay_in *relay)
{
    struct missed_counts counts;

    missed_count(relay->missed, &counts);
    int64_t age = counts.oldest != 0 ? (int64_t)time(NULL) - counts.oldest : 0;
    counters_set(relay->counters, COUNTER_MISSED_PENDING, counts.pending);
    counters_set(relay->counters, COUNTER_MISSED_OLDEST, age > 0 ? (uint64_t)age : 0);
}

/* "route ADDRESS" is answered by "refused REPLY", or "backend NAME, STATUS". */
static void relay_in_answer_route(struct relay_in *relay, struct control_client *client,
                                  const char *address)
{
    static const char *const words[] = {"not tried yet", "up", "down"};
    char name[BACKEND_NAME_MAX], text[256];
    struct backend_health health;
    const void *route = NULL;
    struct reply reply;
    struct path path;
    size_t used;

    if (path_parse_forward(&path, address, strlen(address), &used) != PATH_OK ||
        used != strlen(address)) {
        control_error(client, "an address is wanted");
        return;
    }
    pthread_mutex_lock(&relay->lock);
    struct service *current = service_ref(relay->current);
    pthread_mutex_unlock(&relay->lock);
    control_ok(client, "%s", "");
    enum own_reply verdict = relay_in_check_recipient(current->rules.policy.context, &path, &route);
    if (verdict == REPLY_OK) {
        struct backend *backend = (struct backend *)route;
        backend_health(backend, &health);
        stats_put_line(client, "backend %s, %s", backend_name(backend, name), words[health.status]);
    } else {
        reply_own(&reply, verdict);
        stats_put_line(client, "refused %s", reply_summary(&reply, text, sizeof text));
    }
    service_unref(current);
}

/* A control_handler: "missed" is answered by a line for each entry,
 *   missed STATE FIRST LAST SETTLED TRIES REASON NAMED SENDER RECIPIENT CLIENT
 * with "-" for no sender. */
static void relay_in_answer(void *shared, struct control_client *client, const char *const *words,
                            size_t count)
{
    static const char *const states[] = {"pending", "came-back", "refused"};
    struct relay_in *relay = shared;
    unsigned entries;

    if (count == 2 && strcmp(words[0], "route") == 0) {
        relay_in_answer_route(relay, client, words[1]);
        return;
    }
    if (count != 1 || strcmp(words[0], "missed") != 0) {
        control_error(client, "no such request");
        return;
    }
    if (relay->missed == NULL) {
        control_error(client, "the ledger is off (in.missed)");
        return;
    }
    struct missed_entry *list = missed_list(relay->missed, &entries);
    control_ok(client, "%s", "");
    for (unsigned i = 0; i < entries; i++) {
        const struct missed_entry *entry = &list[i];
        stats_put_line(client, "missed %s %lld %lld %lld %u %s %d %s %s %s", states[entry->state],
                       (long long)entry->first, (long long)entry->last, (long long)entry->settled,
                       entry->tries, missed_reason_name(entry->reason), entry->has_name,
                       entry->sender[0] != '\0' ? entry->sender : "-", entry->recipient,
                       entry->client);
    }
    free(list);
}

static void relay_in_measure(void *shared, struct control_client *client)
{
    struct relay_in *relay = shared;
    unsigned index = 0;

    if (client == NULL) {
        relay_in_measure_missed(relay);
        return;
    }
    pthread_mutex_lock(&relay->lock);
    for (size_t i = 0; i < relay->backend_count; i++) {
        if (!relay_in_is_listed_before(relay->backends, i))
            relay_in_measure_backend(relay->backends[i], index++, client);
    }
    pthread_mutex_unlock(&relay->lock);
}

int main(int argc, char **argv)
{
    static const struct daemon_program program = {
        .name = "relay-in",
        .summary = N_("receives mail from the internet and passes it to the backend as it comes"),
        .part = CONFIG_PART_IN,
        .shape = relay_in_shape,
        .start = relay_in_start,
        .service_new = relay_in_service,
        .measure = relay_in_measure,
        .request = relay_in_answer,
        .stop = relay_in_stop,
    };
    return daemon_main(&program, argc, argv);
}
