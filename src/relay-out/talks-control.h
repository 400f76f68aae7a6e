/* relay-out/talks-control.h - what relay-out tells relayctl of the next hops, by its control socket
 *
 *   talks                                 ok, for each connection to a next hop, and each that is being
 *                                         made, "talk PHASE SECONDS DESTINATION HOST"; then, where
 *                                         these are not all, "more NUMBER"
 *
 * PHASE is lookup, connect, greeting, tls, login, envelope, data, reply or kept, SECONDS how long it is
 * that already. HOST is "-" before there is one. Who is longest in a phase comes first, those that are
 * kept last.
 *
 * Owns nothing. On the control socket's threads.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_TALKS_CONTROL_H
#define POSTERN_RELAY_OUT_TALKS_CONTROL_H

#include "relay-out/talks.h"
#include "server/control.h"

/* Answers "talks". */
void talks_control_handle(struct talks *talks, struct host_cache *host_cache,
                          struct control_client *client);

#endif
