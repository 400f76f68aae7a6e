/* relay-out/host-cache-control.h - tells relayctl what is remembered about other hosts, over the control socket
 *
 *   hosts                                 ok, for each host about which something is remembered
 *                                         "host MARK SECONDS DESTINATION NAME ADDRESS REASON"
 *
 * MARK is "dead", "deferred", "tls-failed" or "login-refused", SECONDS how much longer it is remembered. REASON is the rest of the
 * line.
 *
 * Owns nothing. Runs on the control socket's threads.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_HOST_CACHE_CONTROL_H
#define POSTERN_RELAY_OUT_HOST_CACHE_CONTROL_H

#include "relay-out/host-cache.h"
#include "server/control.h"

/* Answers "hosts". */
void host_cache_control_handle(struct host_cache *host_cache, struct control_client *client);

#endif
