/* in/main.c - relay-in: the daemon on the internet side
 *
 * Policy and wiring only: which recipients are ours, what is announced, and a courier that runs
 * the same transaction with the backend. The life of the daemon is server/daemon.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/i18n.h"
#include "in/backend.h"
#include "in/courier.h"
#include "in/domains.h"
#include "server/daemon.h"

/* Refused mail data is read away so far, so that the client hears the refusal and does not come back
 * with the same message again and again. */
#define DRAIN_TIMEOUT_MS 60000
#define DRAIN_OCTETS_MORE (64 * 1024 * 1024)

/* Lives as long as the process. Touched by the main thread only. */
struct relay_in {
    struct backend_census *census;
    struct backend *backend; /* the current one; a reload that does not change it keeps it */
};

/* A snapshot with what its rules point to. */
struct inbound {
    struct service service;
    struct config *config;
    struct tls_server *tls;
    struct domains domains;
    struct backend *backend;
};

static void relay_in_shape(const struct config *config, struct daemon_shape *out)
{
    const struct config_in *in = &config->in;
    *out = (struct daemon_shape){
        .listen = in->listen.items,
        .listen_count = in->listen.count,
        .workers = (unsigned)in->workers,
        .queue = (unsigned)in->limits.queue,
        .connections = (unsigned)in->limits.connections,
        .drain_ms = in->timeouts.drain,
    };
}

static void *relay_in_start(const struct config *config, struct error *err)
{
    struct relay_in *relay = calloc(1, sizeof *relay);
    (void)config;
    if (relay != NULL)
        relay->census = backend_census_new();
    if (relay == NULL || relay->census == NULL) {
        error_set(err, _("out of memory"));
        free(relay);
        return NULL;
    }
    return relay;
}

static void relay_in_stop(void *shared)
{
    struct relay_in *relay = shared;
    backend_unref(relay->backend);
    backend_census_free(relay->census);
    free(relay);
}

/* RFC 5321 4.5.1: <postmaster> without a domain is always taken; it is the first domain's. */
static enum own_reply complete_postmaster(const struct inbound *inbound, struct path *recipient)
{
    const char *domain = inbound->domains.first;
    size_t len = strlen(recipient->mailbox);

    if (domain == NULL)
        return REPLY_RELAY_DENIED;
    if (len + 1 + strlen(domain) > PATH_MAX_OCTETS)
        return REPLY_BAD_RECIPIENT;
    recipient->mailbox[len] = '@';
    strcpy(recipient->mailbox + len + 1, domain);
    recipient->local_len = len;
    recipient->domain = recipient->mailbox + len + 1;
    return REPLY_OK;
}

/* Refused here are all forms by which a recipient of ours could mean somebody else's (promise 4). */
static enum own_reply check_recipient(void *context, struct path *recipient)
{
    const struct inbound *inbound = context;

    if (recipient->has_source_route || recipient->has_routing_local || recipient->is_literal)
        return REPLY_RELAY_DENIED;
    if (recipient->domain[0] == '\0')
        return complete_postmaster(inbound, recipient);
    return domains_contain(&inbound->domains, recipient->domain) ? REPLY_OK : REPLY_RELAY_DENIED;
}

static void announce(void *context, unsigned *extensions, uint64_t *size_limit)
{
    const struct inbound *inbound = context;
    struct nexthop_capabilities backend;

    *extensions = 0;
    *size_limit = 0;
    if (!backend_capabilities(inbound->backend, &backend))
        return;
    *size_limit = backend.size_limit;
    if (backend.extensions & NEXTHOP_8BITMIME)
        *extensions |= EXTENSION_8BITMIME;
    if (backend.extensions & NEXTHOP_SMTPUTF8)
        *extensions |= EXTENSION_SMTPUTF8;
    if (backend.extensions & NEXTHOP_ENHANCEDSTATUSCODES)
        *extensions |= EXTENSION_ENHANCEDSTATUSCODES;
}

static struct courier *new_courier(void *context)
{
    const struct inbound *inbound = context;
    return courier_backend_new(inbound->backend);
}

static void inbound_destroy(struct service *service)
{
    struct inbound *inbound = (struct inbound *)service;
    backend_unref(inbound->backend);
    tls_server_unref(inbound->tls);
    domains_free(&inbound->domains);
    config_unref(inbound->config);
    free(inbound);
}

static void set_rules(struct inbound *inbound)
{
    const struct config_in *in = &inbound->config->in;
    inbound->service.rules = (struct session_rules){
        .hostname = inbound->config->hostname,
        .message_size = (uint64_t)in->limits.message_size,
        .recipients = (unsigned)in->limits.recipients,
        .errors = (unsigned)in->limits.errors,
        .junk_commands = (unsigned)in->limits.junk_commands,
        .refused_recipients = (unsigned)in->limits.refused_recipients,
        .received_headers = (unsigned)in->limits.received_headers,
        .bare_newlines =
            in->bare_newlines == CONFIG_NEWLINES_REJECT ? DATALINE_REJECT : DATALINE_NORMALIZE,
        .park_after_ms = in->timeouts.park_after,
        .command_timeout_ms = in->timeouts.command,
        .line_timeout_ms = in->timeouts.line,
        .handshake_timeout_ms = in->timeouts.handshake,
        .data_timeout_ms = in->timeouts.data,
        .drain_octets = 2 * (uint64_t)in->limits.message_size + DRAIN_OCTETS_MORE,
        .drain_timeout_ms = DRAIN_TIMEOUT_MS,
        .tls = inbound->tls,
        .no_tls = in->no_tls_hosts,
        .policy =
            {
                .check_recipient = check_recipient,
                .capabilities = announce,
                .courier_new = new_courier,
                .context = inbound,
            },
    };
}

/* The backend that is already known, if the configuration still means the same. */
static struct backend *backend_for(struct relay_in *relay, struct config *config, struct error *err)
{
    if (relay->backend == NULL || !backend_serves(relay->backend, config)) {
        struct backend *fresh = backend_new(config, relay->census, err);
        if (fresh == NULL)
            return NULL;
        backend_unref(relay->backend);
        relay->backend = fresh;
    }
    return backend_ref(relay->backend);
}

static void set_gate(struct service *service, const struct config_in *in)
{
    const struct config_limits *limits = &in->limits;
    bool below = limits->connections_per_network < limits->connections_per_client;

    service->connections = (unsigned)limits->connections;
    service->limits = (struct clients_limits){
        .connections = (unsigned)limits->connections_per_client,
        .network_connections = limits->connections_per_network == 0 ? 0
                               : below ? (unsigned)limits->connections_per_client
                                       : (unsigned)limits->connections_per_network,
        .rate = (unsigned)limits->rate_per_client,
        .network_rate = (unsigned)limits->rate_per_network,
    };
    service->over_limit =
        in->clients.over_limit == CONFIG_OVER_TEMPFAIL ? SERVICE_OVER_TEMPFAIL : SERVICE_OVER_CLOSE;
    service->allow = in->clients.allow;
    service->deny = in->clients.deny;
    service->greet_delay_ms = in->greet_delay_ms;
    service->idle_timeout_ms = in->timeouts.command;
    service->private_clients = in->private_clients;
    service->refuse_private = true;
    service->proxy_hosts = in->proxy_hosts;
    service->proxy_timeout_ms = in->timeouts.proxy_header;
}

static struct service *relay_in_service(void *shared, struct config *config, struct tls_server *tls,
                                        struct error *err)
{
    struct inbound *inbound = calloc(1, sizeof *inbound);

    if (inbound == NULL || domains_init(&inbound->domains, &config->in.domains) != 0) {
        error_set(err, _("out of memory"));
        free(inbound);
        return NULL;
    }
    inbound->config = config_ref(config);
    inbound->tls = tls != NULL ? tls_server_ref(tls) : NULL;
    atomic_init(&inbound->service.references, 1);
    inbound->service.destroy = inbound_destroy;
    set_gate(&inbound->service, &config->in);
    set_rules(inbound);
    inbound->backend = backend_for(shared, config, err);
    if (inbound->backend == NULL) {
        service_unref(&inbound->service);
        return NULL;
    }
    return &inbound->service;
}

int main(int argc, char **argv)
{
    static const struct daemon_program program = {
        .name = "relay-in",
        .summary = N_("receives mail from the internet and passes it to the backend as it comes"),
        .shape = relay_in_shape,
        .start = relay_in_start,
        .service_new = relay_in_service,
        .stop = relay_in_stop,
    };
    return daemon_main(&program, argc, argv);
}
