/* out/hosts.h - what relay-out tells relayctl of the hosts out there, by its control socket
 *
 *   hosts                                 ok, for each host that something is remembered of
 *                                         "host MARK SECONDS DESTINATION NAME ADDRESS REASON"
 *
 * MARK is "dead", "deferred" or "tls-failed", SECONDS how long it is remembered yet. REASON is the rest of the
 * line.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_OUT_HOSTS_H
#define POSTERN_OUT_HOSTS_H

#include "out/remotes.h"
#include "server/control.h"

void hosts_handle(struct remotes *remotes, struct control_client *client);

#endif
