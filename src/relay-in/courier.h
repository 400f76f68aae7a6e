/* relay-in/courier.h - relay-in's courier: runs the same transaction with the backend, synchronously
 *
 * Connects at the first batch of recipients, names the client with XCLIENT, repeats its EHLO, and then passes
 * on every step and every reply. If the backend sends no reply, the client gets the one in the table below.
 * Apart from the backend's own replies, the client only ever gets 4xx.
 *
 *   event at the backend                               reply to the client
 *   unreachable, or not tried again after a failure    451 4.4.1
 *   max_sessions are in use                            451 4.3.2
 *   greeting is 4xx or 5xx (about us)                  451 4.3.2; for 5xx also an error in the log
 *   XCLIENT refused or not offered                     451 4.3.5, and an error that names the fix
 *   another verdict instead of XCLIENT's 220           that verdict
 *   EHLO or MAIL refused                               that reply, to each recipient
 *   an announced extension is missing                  451 4.3.5
 *   reply to RCPT, DATA, mail data, end of data        that reply
 *   a reply that makes no sense (354 to MAIL)          500 5.5.0
 *   it closes or stalls at any step                    451 4.4.2
 *
 * A courier owns its connection and its slot, and holds a reference to the backend. Used by the worker that
 * runs the session.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_IN_COURIER_H
#define POSTERN_RELAY_IN_COURIER_H

#include "relay-in/backend.h"
#include "smtp/courier.h"

/* Makes a courier for one session, which takes its own reference to the backend. NULL if out of memory. */
struct courier *courier_backend_new(struct backend *backend);

#endif
