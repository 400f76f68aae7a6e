/* server/service.c - what a daemon serves: one immutable snapshot of rules and limits
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/service.h"

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
