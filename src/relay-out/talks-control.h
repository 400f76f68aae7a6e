/* relay-out/talks-control.h - tells relayctl about connections to next hops, over the control socket
 *
 *   talks                                 ok, for each connection to a next hop, and each that is being
 *                                         made, "talk PHASE SECONDS DESTINATION HOST"; then, where
 *                                         these are not all, "more NUMBER"
 *
 * PHASE is lookup, connect, greeting, tls, login, envelope, data, reply or kept, SECONDS how long it has
 * been in it. HOST is "-" before there is one. The connection longest in its phase comes first, kept ones
 * come last.
 *
 * Owns nothing. Runs on the control socket's threads.
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
