/* server/gate-admit.c - who may come in: load balancers, lists, limits
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/gate-internal.h"

#include <unistd.h>

#include "base/deadline.h"
#include "base/log.h"

#define LOG_INTERVAL_MS 1000
#define CLIENT_LOG_INTERVAL_MS 10000 /* between two lines on one client over its limits */

/* In Postfix's words, for those who count them. */
static void log_refusal(const struct address *client, enum own_reply which)
{
    struct log_line line;
    struct reply reply;
    char ip[ADDRESS_TEXT_MAX], text[256];
    reply_own(&reply, which);
    log_begin(&line, LOG_LEVEL_INFO, "NOQUEUE: reject: CONNECT from ");
    log_text(&line, "unknown[%s]:%u: %s; proto=SMTP", address_format_ip(client, ip), client->port,
             reply_summary(&reply, text, sizeof text));
    log_end(&line);
}

void gate_log_limit(struct refusals *refusals, const struct address *client, const char *event)
{
    struct log_line line;
    char text[ADDRESS_TEXT_MAX];
    int64_t now = deadline_now_ms();

    refusals->unlogged++;
    if (now - refusals->logged_ms < LOG_INTERVAL_MS)
        return;
    log_begin(&line, LOG_LEVEL_WARNING, event);
    log_str(&line, "client", address_format_endpoint(client, text));
    log_int(&line, "count", refusals->unlogged);
    log_end(&line);
    refusals->logged_ms = now;
    refusals->unlogged = 0;
}

static void log_over(struct gate *gate, const struct address *client, enum clients_result result)
{
    static const char *const options[] = {
        [CLIENTS_CONNECTIONS] = "limits.connections_per_client",
        [CLIENTS_NETWORK_CONNECTIONS] = "limits.connections_per_network",
        [CLIENTS_RATE] = "limits.rate_per_client",
        [CLIENTS_NETWORK_RATE] = "limits.rate_per_network",
        [CLIENTS_NO_MEMORY] = "memory",
    };
    struct log_line line;
    char text[ADDRESS_TEXT_MAX];
    unsigned count =
        clients_refusals_to_log(gate->clients, client, deadline_now_ms(), CLIENT_LOG_INTERVAL_MS);

    if (count == 0)
        return;
    log_begin(&line, LOG_LEVEL_WARNING, "event=limited");
    log_str(&line, "reason", options[result]);
    log_str(&line, "client", address_format_endpoint(client, text));
    log_int(&line, "count", count);
    log_end(&line);
}

static void count_client(struct gate *gate, const struct service *service,
                         const struct address *client, struct judgement *judgement)
{
    static const struct session_bar later = {
        451, "4.7.1", "Too many connections from your network, try again later"};
    struct clients_limits twice = {2 * service->limits.connections,
                                   2 * service->limits.network_connections, 0, 0};
    struct clients_limits none = {0};
    int64_t now = deadline_now_ms();

    gate_uncount_ended(gate);
    enum clients_result result =
        clients_enter(gate->clients, client, judgement->allowed ? &none : &service->limits, now);
    if (result == CLIENTS_OK)
        return;
    atomic_fetch_add(&gate->refused_client, 1);
    log_over(gate, client, result);
    if (service->over_limit == SERVICE_OVER_TEMPFAIL && result != CLIENTS_NO_MEMORY &&
        clients_enter(gate->clients, client, &twice, now) == CLIENTS_OK)
        judgement->bar = &later;
    else if (result == CLIENTS_CONNECTIONS || result == CLIENTS_RATE)
        judgement->why = REPLY_CLIENT_LIMIT;
    else
        judgement->why = result == CLIENTS_NO_MEMORY ? REPLY_SERVER_BUSY : REPLY_NETWORK_LIMIT;
}

struct judgement gate_judge(struct gate *gate, const struct service *service,
                            const struct address *client)
{
    struct judgement judgement = {.why = REPLY_OK};

    judgement.why = service_judge(service, client, &judgement.allowed);
    if (judgement.why == REPLY_OK) {
        count_client(gate, service, client, &judgement);
        return judgement;
    }
    atomic_fetch_add(
        judgement.why == REPLY_CLIENT_REFUSED ? &gate->refused_private : &gate->refused_listed, 1);
    log_refusal(client, judgement.why);
    return judgement;
}

/* Its look whether we are well is answered, whatever address it has. Mail behind it would go on in
 * its own name, which the backend may trust. */
struct judgement gate_judge_balancer(struct gate *gate, const struct service *service,
                                     const struct address *balancer)
{
    static const struct session_bar nameless = {
        451, "4.7.1", "The load balancer names no client, and may not send mail itself"};
    struct judgement judgement = {.why = REPLY_OK, .allowed = true, .bar = &nameless};

    count_client(gate, service, balancer, &judgement);
    return judgement;
}

static bool is_full(struct gate *gate, const struct address *client)
{
    if (atomic_load(&gate->connections) < gate->service->connections)
        return false;
    atomic_fetch_add(&gate->refused_limit, 1);
    gate_log_limit(&gate->busy, client, "event=busy reason=limits.connections");
    return true;
}

/* Nobody who may not speak for others is told anything. */
static bool is_load_balancer(struct gate *gate, const struct address *peer)
{
    if (cidr_set_contains(gate->service->proxy_hosts, peer))
        return true;
    atomic_fetch_add(&gate->refused_proxy, 1);
    gate_log_limit(&gate->strangers, peer,
                   "event=proxy-refused hint=\"load balancers are listed in in.proxy_hosts\"");
    return false;
}

static void admit_client(struct gate *gate, int fd, const struct address *client,
                         const struct listener *listener)
{
    struct judgement judgement = gate_judge(gate, gate->service, client);
    if (judgement.why != REPLY_OK) {
        gate_refuse(fd, &listener->given.spec, judgement.why);
        return;
    }
    struct connection *connection = gate_open(gate, fd, client, listener);
    if (connection != NULL)
        gate_begin(connection, &judgement);
    else
        clients_leave(gate->clients, client);
}

/* Listeners stay open until a restart, though a reload may have taken away what they are for. */
static bool is_served(const struct service *service, const struct listen_spec *spec)
{
    const struct session_rules *rules = gate_rules(service, spec);
    return rules->policy.check_recipient != NULL && (!spec->implicit_tls || rules->tls != NULL);
}

void gate_admit(struct gate *gate, int fd, const struct address *peer,
                const struct listener *listener)
{
    const struct listen_spec *spec = &listener->given.spec;

    atomic_fetch_add(&gate->accepted, 1);
    if (spec->proxy && !is_load_balancer(gate, peer))
        close(fd);
    else if (!is_served(gate->service, spec))
        gate_refuse(fd, spec, REPLY_SHUTTING_DOWN);
    else if (is_full(gate, peer))
        gate_refuse(fd, spec, REPLY_SERVER_BUSY);
    else if (spec->proxy)
        gate_open(gate, fd, peer, listener);
    else
        admit_client(gate, fd, peer, listener);
}
