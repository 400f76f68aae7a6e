/* relay-out/queue-control.h - relay-out's queue commands for relayctl, over the control socket
 *
 *   queue list                            ok, for each message "message OCTETS" and its envelope;
 *                                         then "lost NOTICES": to senders, since the start
 *   queue show ID [header]                ok, the same for one, "data OCTETS" and its mail data, or
 *                                         only the header of it
 *   queue hold|release|retry|remove WHICH [from=SENDER] [bounce]
 *                                         ok, "done CHANGED BUSY" repeatedly as progress; the
 *                                         last line is the result
 *
 * The group of the daemon's user may only list (server/control.h). Envelopes are in the format of
 * postern-spool(5). WHICH is an ID, a domain or "all", SENDER an address, "@" and a domain, or "<>"; with
 * "bounce" the senders of removed messages are told. BUSY counts the messages being worked on now.
 *
 * Owns nothing beyond a request. Runs on the control socket's threads; a request that changes many messages
 * starts further threads, which end before it is answered.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_QUEUE_CONTROL_H
#define POSTERN_RELAY_OUT_QUEUE_CONTROL_H

#include "server/control.h"

/* A control_handler; the context is the spooler, or NULL if nothing is stored. */
void queue_control_handle(void *context, struct control_client *client, const char *const *words,
                          size_t count);

#endif
