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

/* Answers "route"; `address` is as the operator typed it. */
void routeinfo_handle(const struct outbound *out, struct control_client *client,
                      const char *address);

#endif
