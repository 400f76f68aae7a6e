/* relay-out/queue-control.h - what relay-out does for relayctl, by its control socket
 *
 *   queue list                            ok, for each message "message OCTETS" and its envelope;
 *                                         then "lost NOTICES": to senders, since the start
 *   queue show ID [header]                ok, the same of one, "data OCTETS" and its mail data, or
 *                                         only the header of it
 *   queue hold|release|retry|remove WHICH [from=SENDER] [bounce]
 *                                         ok, "done CHANGED BUSY" again and again, the last one
 *                                         at the end
 *
 * The group of the daemon's user may only list (server/control.h). Envelopes are as postern-spool(5) has them. WHICH is an ID, a domain or "all", SENDER an address,
 * "@" and a domain, or "<>"; with "bounce" the senders of what is removed are told. BUSY are the
 * messages that are being worked on just now.
 *
 * Owns nothing beyond a request. On the control socket's threads; a request that changes many messages has
 * threads of its own until it is answered.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_QUEUE_CONTROL_H
#define POSTERN_RELAY_OUT_QUEUE_CONTROL_H

#include "server/control.h"

/* As a control_handler; the context is the spooler, or NULL where nothing is stored. */
void queue_control_handle(void *context, struct control_client *client, const char *const *words,
                          size_t count);

#endif
