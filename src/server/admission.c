/* server/admission.c - decides which clients are admitted: lists, limits
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/admission.h"

#include "base/deadline.h"
#include "base/log.h"

#define CLIENT_LOG_INTERVAL_MS 10000 /* between two lines about one client over its limits */

void admission_log_refusal(const struct address *client, const struct reply *reply)
{
    struct log_line line;
    char ip[ADDRESS_TEXT_MAX], text[512];

    log_begin(&line, LOG_LEVEL_INFO, "NOQUEUE: reject: CONNECT from ");
    log_text(&line, "unknown[%s]:%u: %s; proto=SMTP", address_format_ip(client, ip), client->port,
             reply_summary(reply, text, sizeof text));
    log_end(&line);
}

/* Logs and counts a client over a limit. */
static void admission_note_over(struct connections *all, const struct address *client,
                                enum clients_result result)
{
    static const struct {
        const char *reason;
        enum counter counter;
    } limits[] = {
        [CLIENTS_CONNECTIONS] = {"limits.connections_per_client", COUNTER_REJECTED_CLIENT},
        [CLIENTS_NETWORK_CONNECTIONS] = {"limits.connections_per_network",
                                         COUNTER_REJECTED_NETWORK},
        [CLIENTS_RATE] = {"limits.rate_per_client", COUNTER_REJECTED_RATE},
        [CLIENTS_NETWORK_RATE] = {"limits.rate_per_network", COUNTER_REJECTED_RATE},
        [CLIENTS_NO_MEMORY] = {"memory", COUNTER_REJECTED_BUSY},
    };
    struct log_line line;
    char text[ADDRESS_TEXT_MAX];
    unsigned count =
        clients_refusals_to_log(all->clients, client, deadline_now_ms(), CLIENT_LOG_INTERVAL_MS);

    counters_add(all->counters, limits[result].counter, 1);
    if (count == 0)
        return;
    log_begin(&line, LOG_LEVEL_WARNING, "event=limited");
    log_str(&line, "reason", limits[result].reason);
    log_str(&line, "client", address_format_endpoint(client, text));
    log_int(&line, "count", count);
    log_end(&line);
}

static void admission_count(struct connections *all, const struct service *service,
                            const struct address *client, struct admission *admission)
{
    static const struct session_deferral later = {.why = REPLY_NETWORK_LIMIT_LATER};
    struct clients_limits twice = {2 * service->limits.connections,
                                   2 * service->limits.network_connections, 0, 0};
    struct clients_limits none = {0};
    int64_t now = deadline_now_ms();

    connections_free_ended(all);
    enum clients_result result =
        clients_enter(all->clients, client, admission->allowed ? &none : &service->limits, now);
    if (result == CLIENTS_OK)
        return;
    admission_note_over(all, client, result);
    if (service->over_limit == SERVICE_OVER_TEMPFAIL && result != CLIENTS_NO_MEMORY &&
        clients_enter(all->clients, client, &twice, now) == CLIENTS_OK)
        admission->deferral = &later;
    else if (result == CLIENTS_CONNECTIONS || result == CLIENTS_RATE)
        admission->why = REPLY_CLIENT_LIMIT;
    else
        admission->why = result == CLIENTS_NO_MEMORY ? REPLY_SERVER_BUSY : REPLY_NETWORK_LIMIT;
}

struct admission admission_judge(struct connections *all, const struct service *service,
                                 const struct address *client)
{
    struct admission admission = {.why = REPLY_OK};
    struct reply reply;

    admission.why = service_judge(service, client, &admission.allowed);
    if (admission.why == REPLY_OK) {
        admission_count(all, service, client, &admission);
        return admission;
    }
    counters_add(all->counters,
                 admission.why == REPLY_CLIENT_REFUSED ? COUNTER_REJECTED_PRIVATE
                                                       : COUNTER_REJECTED_DENIED,
                 1);
    reply_own(&reply, admission.why);
    admission_log_refusal(client, &reply);
    return admission;
}

struct admission admission_judge_balancer(struct connections *all, const struct service *service,
                                          const struct address *balancer)
{
    static const struct session_deferral nameless = {.why = REPLY_BALANCER_UNNAMED};
    struct admission admission = {.why = REPLY_OK, .allowed = true, .deferral = &nameless};

    admission_count(all, service, balancer, &admission);
    return admission;
}

static bool admission_is_full(struct connections *all, const struct service *service,
                              const struct address *client)
{
    if (atomic_load(&all->count) < service->connections)
        return false;
    counters_add(all->counters, COUNTER_REJECTED_BUSY, 1);
    connection_log_limit(&all->busy, client, "event=busy reason=limits.connections");
    return true;
}

static bool admission_is_balancer(struct connections *all, const struct service *service,
                                  const struct address *peer)
{
    if (cidr_set_contains(service->proxy_hosts, peer))
        return true;
    counters_add(all->counters, COUNTER_REJECTED_PROXY, 1);
    connection_log_limit(&all->strangers, peer,
                         "event=proxy-refused hint=\"load balancers are listed in "
                         "in.proxy_hosts\"");
    return false;
}

/* A listener stays open until a restart, even if a reload has removed what it needs. */
static bool admission_is_served(const struct service *service, const struct listen_spec *spec)
{
    const struct session_rules *rules = service_rules(service, spec->submission);
    return rules->policy.check_recipient != NULL && (!spec->implicit_tls || rules->tls != NULL);
}

enum own_reply admission_check_peer(struct connections *all, const struct service *service,
                                    const struct listen_spec *spec, const struct address *peer)
{
    atomic_fetch_add(&all->accepted, 1);
    if (spec->proxy && !admission_is_balancer(all, service, peer))
        return REPLY_CLOSING;
    if (!admission_is_served(service, spec))
        return REPLY_SHUTTING_DOWN;
    return admission_is_full(all, service, peer) ? REPLY_SERVER_BUSY : REPLY_OK;
}
