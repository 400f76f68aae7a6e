/* relay-out/routeinfo.h - tells relayctl where mail for an address would go, over the control socket
 *
 *   route ADDRESS                         ok, then
 *     refused REPLY                       and nothing else, or
 *     by WHAT                             own (in.domains), route, default_route or mx
 *     login USER                          if one is used
 *     host NAME ADDRESS:PORT              in the order in which they would be tried
 *     problem REPLY                       there is no host; the client would get this reply
 *
 * Asks the DNS, but connects to no host. REPLY and NAME are as the client and the log would show them.
 *
 * Owns nothing. Runs on the control socket's threads, which wait for the DNS.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_ROUTEINFO_H
#define POSTERN_RELAY_OUT_ROUTEINFO_H

#include "relay-out/outbound.h"
#include "server/control.h"

/* A daemon_program's function. `current` is a struct outbound. */
void routeinfo_put(const struct service *current, struct control_client *client,
                   const struct path *recipient, const void *of_session);

#endif
