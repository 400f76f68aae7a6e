/* server/gate-admit.c - who may come in: load balancers, lists, limits
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/gate-internal.h"

#include <unistd.h>

#include "base/deadline.h"
#include "base/log.h"

#define LOG_INTERVAL_MS 1000

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

static bool is_unwanted(const struct service *service, const struct address *client)
{
    return service->refuse_private && address_is_private(client) &&
           !cidr_set_contains(service->private_clients, client);
}

/* REPLY_OK and the client is counted, or why it may not come in. */
static enum own_reply judge(struct gate *gate, const struct service *service,
                            const struct address *client)
{
    if (is_unwanted(service, client)) {
        atomic_fetch_add(&gate->refused_private, 1);
        log_refusal(client, REPLY_CLIENT_REFUSED);
        return REPLY_CLIENT_REFUSED;
    }
    if (!clients_enter(gate->clients, client, service->connections_per_client)) {
        atomic_fetch_add(&gate->refused_client, 1);
        gate_log_limit(&gate->limited, client,
                       "event=limited reason=limits.connections_per_client");
        return REPLY_CLIENT_LIMIT;
    }
    return REPLY_OK;
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

void gate_admit(struct gate *gate, int fd, const struct address *peer,
                const struct listen_spec *spec)
{
    enum own_reply why = REPLY_OK;

    atomic_fetch_add(&gate->accepted, 1);
    if (spec->proxy && !is_load_balancer(gate, peer)) {
        close(fd);
        return;
    }
    if (is_full(gate, peer))
        why = REPLY_SERVER_BUSY;
    else if (!spec->proxy)
        why = judge(gate, gate->service, peer);
    if (why != REPLY_OK)
        gate_refuse(fd, spec, why);
    else
        gate_open(gate, fd, peer, spec);
}

enum own_reply gate_judge_proxied(struct connection *connection)
{
    enum own_reply why = judge(connection->gate, connection->service, &connection->client);
    connection->counted = why == REPLY_OK;
    return why;
}
