/* out/orders.h - what relay-out does for relayctl, by its control socket
 *
 *   queue count                           ok MESSAGES HELD ACTIVE DESTINATIONS UNREACHABLE
 *   queue list                            ok, for each message "message OCTETS" and its envelope
 *   queue show ID                         ok, the same of one, "data OCTETS" and its mail data
 *   queue hold|release|retry WHICH        ok CHANGED BUSY; WHICH is an ID, a domain or "all"
 *   queue remove ID [bounce]              ok CHANGED BUSY; with "bounce" the sender is told
 *
 * Envelopes are as postern-spool(5) has them. BUSY are those that are being worked on just now.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_OUT_ORDERS_H
#define POSTERN_OUT_ORDERS_H

#include "server/control.h"

/* As a control_handler; the context is the depot, or NULL where nothing is stored. */
void orders_handle(void *context, struct control_client *client, const char *const *words,
                   size_t count);

#endif
