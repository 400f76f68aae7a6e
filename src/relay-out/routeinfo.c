/* relay-out/routeinfo.c - tells relayctl where mail for an address would go, over the control socket
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/routeinfo.h"

#include "relay-out/hosts.h"
#include "server/stats.h"

#define PATIENCE_MS 20000

static const char *routeinfo_by(const struct outbound *out, const struct route *route,
                                const char *domain)
{
    if (routes_is_own(out->routes, domain))
        return "own";
    if (route->hop_count == 0)
        return "mx";
    return route == routes_default(out->routes) ? "default_route" : "route";
}

static void routeinfo_put_hosts(const struct outbound *out, struct control_client *client,
                                const struct route *route, const char *domain)
{
    struct hosts found;
    struct reply reply;
    char text[256];
    enum own_reply why = hosts_find(out, route, domain, deadline_in_ms(PATIENCE_MS), &found);

    for (size_t i = 0; i < found.count; i++)
        stats_put_line(client, "host %s %s", found.items[i].host,
                       address_format_endpoint(&found.items[i].address, text));
    if (why != REPLY_OK) {
        reply_own(&reply, why);
        stats_put_line(client, "problem %s", reply_summary(&reply, text, sizeof text));
    }
    hosts_clear(&found);
}

void routeinfo_put(const struct service *current, struct control_client *client,
                   const struct path *recipient, const void *of_session)
{
    const struct outbound *out = (const struct outbound *)current;
    const struct route *route = routes_find(out->routes, recipient->domain);

    (void)of_session;
    stats_put_line(client, "by %s", routeinfo_by(out, route, recipient->domain));
    if (route->user[0] != '\0')
        stats_put_line(client, "login %s", route->user);
    routeinfo_put_hosts(out, client, route, recipient->domain);
}
