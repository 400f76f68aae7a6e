/* relay-out/routeinfo.c - tells relayctl where mail for an address would go, over the control socket
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/routeinfo.h"

#include <string.h>

#include "relay-out/hosts.h"
#include "server/stats.h"

#define PATIENCE_MS 20000

static void routeinfo_put_reply(struct control_client *client, const char *word,
                                enum own_reply which)
{
    struct reply reply;
    char text[256];

    reply_own(&reply, which);
    stats_put_line(client, "%s %s", word, reply_summary(&reply, text, sizeof text));
}

static const char *routeinfo_by(const struct outbound *out, const struct route *route,
                                const char *domain)
{
    if (routes_is_own(out->routes, domain))
        return "own";
    if (route->hop_count == 0)
        return "mx";
    return route == routes_fallback(out->routes) ? "default_route" : "route";
}

static void routeinfo_put_hosts(const struct outbound *out, struct control_client *client,
                                const struct route *route, const char *domain)
{
    struct hosts found;
    char text[ADDRESS_TEXT_MAX];
    enum own_reply why = hosts_find(out, route, domain, deadline_in_ms(PATIENCE_MS), &found);

    for (size_t i = 0; i < found.count; i++)
        stats_put_line(client, "host %s %s", found.items[i].host,
                       address_format_endpoint(&found.items[i].address, text));
    if (why != REPLY_OK)
        routeinfo_put_reply(client, "problem", why);
    hosts_clear(&found);
}

void routeinfo_handle(const struct outbound *out, struct control_client *client,
                      const char *address)
{
    const struct session_policy *policy = &out->service.rules.policy;
    struct path path;
    const void *unused;
    size_t used;

    if (path_parse_forward(&path, address, strlen(address), &used) != PATH_OK ||
        used != strlen(address)) {
        control_error(client, "an address is required");
        return;
    }
    control_ok(client, "%s", "");
    enum own_reply verdict = policy->check_recipient(policy->context, &path, &unused);
    if (verdict != REPLY_OK) {
        routeinfo_put_reply(client, "refused", verdict);
        return;
    }
    const struct route *route = routes_find(out->routes, path.domain);
    stats_put_line(client, "by %s", routeinfo_by(out, route, path.domain));
    if (route->user[0] != '\0')
        stats_put_line(client, "login %s", route->user);
    routeinfo_put_hosts(out, client, route, path.domain);
}
