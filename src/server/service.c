/* server/service.c - what a daemon serves: one immutable snapshot of rules and limits
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/service.h"

/* How much refused mail data is discarded, so that the client reads the refusal instead of sending the same
 * message again and again. */
#define DRAIN_TIMEOUT_MS 60000
#define DRAIN_OCTETS_MORE (64 * 1024 * 1024) /* beyond twice the message size */

void service_configure(struct service *service, const struct config *config,
                       const struct config_daemon *part, struct tls_server *tls,
                       struct counters *counters)
{
    service->rules = (struct session_rules){
        .hostname = config->hostname,
        .message_size = (uint64_t)part->limits.message_size,
        .recipients = (unsigned)part->limits.recipients,
        .errors = (unsigned)part->limits.errors,
        .junk_commands = (unsigned)part->limits.junk_commands,
        .received_headers = (unsigned)part->limits.received_headers,
        .bare_newlines =
            part->bare_newlines == CONFIG_NEWLINES_REJECT ? DATALINE_REJECT : DATALINE_NORMALIZE,
        .park_after_ms = part->timeouts.park_after,
        .command_timeout_ms = part->timeouts.command,
        .line_timeout_ms = part->timeouts.line,
        .handshake_timeout_ms = part->timeouts.handshake,
        .data_timeout_ms = part->timeouts.data,
        .drain_octets = 2 * (uint64_t)part->limits.message_size + DRAIN_OCTETS_MORE,
        .drain_timeout_ms = DRAIN_TIMEOUT_MS,
        .tls = tls,
        .no_tls = part->no_tls_hosts,
        .counters = counters,
    };
    service->connections = (unsigned)part->limits.connections;
    service->limits.connections = (unsigned)part->limits.connections_per_client;
    service->idle_timeout_ms = part->timeouts.command;
}

enum own_reply service_judge(const struct service *service, const struct address *client,
                             bool *allowed)
{
    *allowed = cidr_set_contains(service->allow, client) ||
               cidr_set_contains(service->rules.xclient_hosts, client);
    if (service->refuse_private && address_is_private(client) &&
        !cidr_set_contains(service->private_clients, client))
        return REPLY_CLIENT_REFUSED;
    if (!*allowed && (service->only_allowed || cidr_set_contains(service->deny, client)))
        return REPLY_CLIENT_DENIED;
    return REPLY_OK;
}

const struct session_rules *service_rules(const struct service *service, bool submission)
{
    return submission ? &service->submission : &service->rules;
}

struct service *service_ref(struct service *service)
{
    atomic_fetch_add(&service->references, 1);
    return service;
}

void service_unref(struct service *service)
{
    if (service != NULL && atomic_fetch_sub(&service->references, 1) == 1)
        service->destroy(service);
}
