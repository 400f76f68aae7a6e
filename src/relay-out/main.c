/* relay-out/main.c - relay-out: the daemon on the tunnel's side
 *
 * Policy and wiring only: who may send, to whom, and which courier takes the mail. The daemon's life cycle
 * is in server/daemon.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/log.h"
#include "relay-out/courier-spool.h"
#include "relay-out/courier.h"
#include "relay-out/spooler.h"
#include "relay-out/host-cache-control.h"
#include "relay-out/queue-control.h"
#include "relay-out/refusal.h"
#include "relay-out/routeinfo.h"
#include "relay-out/stscache.h"
#include "relay-out/stsfetch.h"
#include "relay-out/talks-control.h"
#include "relay-out/tlscounts.h"
#include "relay-out/tlsorders.h"
#include "server/daemon.h"
#include "server/stats.h"

#define REFUSED_RECIPIENTS_MAX 1000000 /* per session: the client is trusted */

/* Lives as long as the process. Changed by the main thread only. */
struct relay_out {
    struct counters *counters; /* borrowed */
    struct refusal refusal;    /* the last */
    struct host_cache *host_cache;
    struct talks *talks;
    struct resolver *resolver;
    struct stsfetch *stsfetch;
    struct stscache *stscache;
    struct tlscounts *tlscounts;
    struct spooler *spooler;  /* NULL: nothing is ever stored */
    struct deadline patience; /* at the end, for what next hops still owe */
    uint64_t generation;
};

static void relay_out_shape(const struct config *config, struct daemon_shape *shape)
{
    const struct config_out *out = &config->out;
    *shape = (struct daemon_shape){
        .listen = out->listen.items,
        .listen_count = out->listen.count,
        .workers = (unsigned)out->workers,
        /* A full queue would mean 421, which Postfix takes as the end of this host. */
        .queue = (unsigned)out->daemon.limits.connections,
        .connections = (unsigned)(out->daemon.limits.connections +
                                  out->workers * out->limits.next_hops + out->deliveries),
        .drain_ms = out->daemon.timeouts.drain,
    };
}

/* Deliveries end in parallel with the sessions. */
static void relay_out_stopping(void *shared, int64_t drain_ms)
{
    struct relay_out *relay = shared;
    relay->patience = deadline_in_ms(drain_ms);
    if (relay->spooler != NULL)
        spooler_wind_down(relay->spooler, relay->patience);
}

static void relay_out_stop(void *shared)
{
    struct relay_out *relay = shared;

    if (relay->spooler != NULL && !spooler_close(relay->spooler, relay->patience)) {
        /* As with sessions that do not end in time: what is left is in the spool. */
        log_write(LOG_LEVEL_NOTICE, "event=stop-unfinished hint=\"deliveries in progress will be "
                                    "tried again after the next start\"");
        fflush(NULL);
        _exit(EX_OK);
    }
    host_cache_free(relay->host_cache);
    talks_free(relay->talks);
    stscache_free(relay->stscache);
    stsfetch_free(relay->stsfetch);
    tlscounts_free(relay->tlscounts);
    resolver_free(relay->resolver);
    free(relay);
}

/* Starts what keeps the policies that domains publish. */
static int relay_out_start_policies(struct relay_out *relay, const struct config *config,
                                    struct error *err)
{
    char folder[PATH_MAX] = "";

    relay->tlscounts = tlscounts_new(relay->counters, err);
    relay->stsfetch = relay->tlscounts != NULL ? stsfetch_new(relay->resolver, err) : NULL;
    if (relay->stsfetch == NULL)
        return -1;
    if (config->out.state[0] != '\0' &&
        snprintf(folder, sizeof folder, "%s/mta-sts", config->out.state) >= (int)sizeof folder)
        folder[0] = '\0';
    stsfetch_use(relay->stsfetch, config->out.tls.ca_file);
    const struct stscache_source source = stsfetch_source(relay->stsfetch);
    relay->stscache = stscache_new(folder, &source, err);
    return relay->stscache != NULL ? 0 : -1;
}

/* If nothing can be proven, that does not mean that everything is forged: mail goes on, without DANE. */
static void relay_out_check_validation(const struct relay_out *relay, const struct config *config)
{
    struct log_line line;

    if (!config->out.tls.dane || resolver_validates(relay->resolver))
        return;
    log_begin(&line, LOG_LEVEL_WARNING, "event=dane status=off");
    log_str(&line, "reason", "the DNS resolver has no trust anchor, or may not validate");
    log_str(&line, "hint",
            "install dns-root-data and leave dns.validate on; or set out.tls.dane to false");
    log_end(&line);
}

static void *relay_out_start(const struct config *config, struct counters *counters,
                             struct error *err)
{
    struct relay_out *relay = calloc(1, sizeof *relay);
    struct resolver_config resolver;

    if (relay == NULL) {
        error_set(err, _("out of memory"));
        return NULL;
    }
    relay->counters = counters;
    refusal_init(&relay->refusal);
    config_resolver(config, &resolver);
    relay->resolver = resolver_new(&resolver, err);
    if (relay->resolver != NULL && relay_out_start_policies(relay, config, err) == 0)
        relay->talks = talks_new(relay->counters, err);
    if (relay->talks != NULL)
        relay->host_cache = host_cache_new(err);
    if (relay->host_cache != NULL && config->out.spool[0] != '\0')
        relay->spooler = spooler_open(config, err);
    if (relay->host_cache != NULL && (relay->spooler != NULL || config->out.spool[0] == '\0')) {
        relay_out_check_validation(relay, config);
        return relay;
    }
    relay_out_stop(relay);
    return NULL;
}

/* RFC 5321 4.5.1: <postmaster> without a domain is always accepted. It gets the first own domain. */
static enum own_reply relay_out_complete_postmaster(const struct outbound *out,
                                                    struct path *recipient)
{
    const char *domain = routes_own_domain(out->routes);

    if (domain == NULL)
        return REPLY_RELAY_DENIED;
    return path_add_domain(recipient, domain) ? REPLY_OK : REPLY_BAD_RECIPIENT;
}

/* Checks what can be checked without a next hop. Source routes are refused in all forms. A local part
 * that looks like one is up to the next hop, unless that is our backend, which may trust us. */
static enum own_reply relay_out_check_recipient(void *context, struct path *recipient,
                                                const void **route)
{
    const struct outbound *out = context;

    *route = NULL;
    if (recipient->has_source_route)
        return REPLY_RELAY_DENIED;
    if (path_is_postmaster(recipient))
        return relay_out_complete_postmaster(out, recipient);
    if (recipient->is_literal && !out->config->out.address_literals)
        return REPLY_LITERAL_DENIED;
    if (routes_is_own(out->routes, recipient->domain))
        return recipient->has_routing_local ? REPLY_RELAY_DENIED : REPLY_OK;
    if (own_addresses_has_name(&out->ours, recipient->domain))
        return REPLY_LOOP;
    return routes_find(out->routes, recipient->domain)->denied ? REPLY_RELAY_DENIED : REPLY_OK;
}

static enum own_reply relay_out_check_password(void *context, const struct address *client,
                                               const char *user, const char *password,
                                               int64_t *answer_at_ms)
{
    const struct outbound *out = context;
    return users_check(out->users, client, user, password, answer_at_ms);
}

static enum own_reply relay_out_check_sender(void *context, const char *user,
                                             const struct path *sender)
{
    const struct outbound *out = context;
    return user == NULL || users_may_send(out->users, user, sender) ? REPLY_OK
                                                                    : REPLY_SENDER_DENIED;
}

static bool relay_out_stores_all(const struct outbound *out)
{
    return out->spooler != NULL && out->config->out.delivery == CONFIG_DELIVERY_SPOOL;
}

/* DSN is offered only if everything is stored. It obliges us to send "relayed" notices if the next hop
 * lacks DSN (RFC 3461 5.2.2). If we do not offer it, the client does that itself. */
static void relay_out_announce(void *context, struct session_offer *offer)
{
    const struct outbound *out = context;
    offer->extensions = EXTENSION_8BITMIME | EXTENSION_SMTPUTF8 | EXTENSION_ENHANCEDSTATUSCODES |
                        EXTENSION_REQUIRETLS;
    if (relay_out_stores_all(out))
        offer->extensions |= EXTENSION_DSN;
    strcpy(offer->mechanisms, out->users != NULL ? "PLAIN LOGIN" : "");
}

static struct courier *relay_out_new_courier(void *context, const void *route)
{
    const struct outbound *out = context;
    (void)route;
    return relay_out_stores_all(out) ? courier_spool_new(out) : courier_out_new(out);
}

/* A session_policy's function. */
static void relay_out_count_recipient(void *context, const struct reply *reply,
                                      enum own_reply verdict)
{
    static const enum counter counters[][2] = {
        {COUNTER_RECIPIENTS_2XX_FAR, COUNTER_RECIPIENTS_2XX_US},
        {COUNTER_RECIPIENTS_4XX_FAR, COUNTER_RECIPIENTS_4XX_US},
        {COUNTER_RECIPIENTS_5XX_FAR, COUNTER_RECIPIENTS_5XX_US},
    };
    const struct outbound *out = context;
    const int class = reply_is_positive(reply) ? 0 : reply_is_transient(reply) ? 1 : 2;

    counters_add(out->counters, counters[class][verdict != REPLY_OK || reply->ours], 1);
}

/* Allowed clients have no limit except the total one, so that the mail server is always greeted. */
static void relay_out_set_rules(struct outbound *out)
{
    const struct config_out *config = &out->config->out;
    struct session_rules *rules = &out->service.rules;

    out->service.allow = config->allow;
    out->service.only_allowed = out->users == NULL && !config->open_relay;
    rules->refused_recipients = REFUSED_RECIPIENTS_MAX;
    rules->submission = out->users != NULL && !config->open_relay;
    rules->trusted = config->allow;
    rules->hide_client = !config->received_client;
    rules->policy = (struct session_policy){
        .check_recipient = relay_out_check_recipient,
        .offer = relay_out_announce,
        .courier_new = relay_out_new_courier,
        .check_password = relay_out_check_password,
        .check_sender = relay_out_check_sender,
        .count_recipient = relay_out_count_recipient,
        .context = out,
    };
    out->service.submission = out->service.rules;
    out->service.submission.submission = true;
    out->service.submission.trusted = NULL;
}

static void outbound_destroy(struct service *service)
{
    outbound_free((struct outbound *)service);
}

static void relay_out_answer_request(void *shared, const struct service *current,
                                     struct control_client *client, const char *const *words,
                                     size_t count)
{
    struct relay_out *relay = shared;
    const struct outbound *out = (const struct outbound *)current;

    if (count == 1 && strcmp(words[0], "hosts") == 0)
        host_cache_control_handle(relay->host_cache, client);
    else if (count == 1 && strcmp(words[0], "talks") == 0)
        talks_control_handle(relay->talks, relay->host_cache, client);
    else if (count > 1 && strcmp(words[0], "tls") == 0)
        tlsorders_handle(out, client, words + 1, count - 1);
    else
        queue_control_handle(relay->spooler, client, words, count);
}

static void relay_out_put_login(void *client, const struct remote_note *note)
{
    if (note->mark == REMOTE_LOGIN_REFUSED)
        stats_put_line(client, "login-refused %s %s", note->name, note->reason);
}

static void relay_out_measure(void *shared, const struct service *current,
                              struct control_client *client)
{
    struct relay_out *relay = shared;
    char text[REFUSAL_TEXT_MAX];
    int64_t at;

    (void)current;
    if (client == NULL) {
        if (relay->spooler != NULL)
            spooler_measure(relay->spooler, relay->counters);
        return;
    }
    if (refusal_get(&relay->refusal, &at, text))
        stats_put_line(client, "refusal %lld %s", (long long)at, text);
    host_cache_list(relay->host_cache, relay_out_put_login, client);
}

static struct service *relay_out_service(void *shared, const struct service *before,
                                         struct config *config, struct tls_server *tls,
                                         struct error *err)
{
    struct relay_out *relay = shared;
    struct outbound *out = outbound_new(config, relay->host_cache, relay->resolver, err);
    struct resolver_config resolver;

    (void)before;
    if (out == NULL)
        return NULL;
    config_resolver(config, &resolver);
    if (resolver_configure(relay->resolver, &resolver, err) != 0) {
        outbound_free(out);
        return NULL;
    }
    out->tls = tls != NULL ? tls_server_ref(tls) : NULL;
    out->counters = relay->counters;
    out->refusal = &relay->refusal;
    out->talks = relay->talks;
    out->generation = ++relay->generation;
    host_cache_forget_dead(relay->host_cache);
    out->stscache = relay->stscache;
    out->tlscounts = relay->tlscounts;
    stsfetch_use(relay->stsfetch, config->out.tls.ca_file);
    atomic_init(&out->service.references, 1);
    out->service.destroy = outbound_destroy;
    service_configure(&out->service, out->config, &out->config->out.daemon, out->tls,
                      out->counters);
    relay_out_set_rules(out);
    if (relay->spooler != NULL) {
        out->spooler = relay->spooler;
        if (spooler_use(relay->spooler, out, err) != 0) {
            service_unref(&out->service);
            return NULL;
        }
    }
    return &out->service;
}

int main(int argc, char **argv)
{
    static const struct daemon_program program = {
        .name = "relay-out",
        .summary = N_("takes mail from the mail server and delivers it to the internet"),
        .part = CONFIG_PART_OUT,
        .shape = relay_out_shape,
        .start = relay_out_start,
        .service_new = relay_out_service,
        .stopping = relay_out_stopping,
        .measure = relay_out_measure,
        .put_route = routeinfo_put,
        .request = relay_out_answer_request,
        .stop = relay_out_stop,
    };
    return daemon_main(&program, argc, argv);
}
