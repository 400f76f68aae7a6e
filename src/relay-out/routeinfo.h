/* relay-out/routeinfo.h - what relay-out would do with mail for an address, told by its control socket
 *
 *   route ADDRESS                         ok, then
 *     refused REPLY                       and nothing else, or
 *     by WHAT                             own (in.domains), route, default_route or mx
 *     login USER                          where one is used
 *     host NAME ADDRESS:PORT              in the order in which they would be tried
 *     problem REPLY                       there is no host, and this is what the client would hear
 *
 * The DNS is asked; nobody is connected to. REPLY and NAME are as the client and the log have them.
 *
 * Owns nothing. On the control socket's threads, which it lets wait for the DNS.
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
