/* relay-in/courier.h - relay-in's courier: the same transaction, with the backend, at the same time
 *
 * Connects at the first batch of recipients, introduces the client by XCLIENT, replays its EHLO,
 * and from then on passes every step and every reply. Where the backend gives no reply, the client
 * gets the one of the table below; it is never told anything the backend has not said but 4xx.
 *
 *   what happens at the backend                        what the client is told
 *   not reachable, or it rests after a failure         451 4.4.1
 *   max_sessions are in use                            451 4.3.2
 *   greeting is 4xx or 5xx (it judges us)              451 4.3.2, 5xx also an error in the log
 *   XCLIENT refused or not offered                     451 4.3.5 and an error that names the fix
 *   another verdict in place of XCLIENT's 220          that verdict
 *   EHLO, MAIL refused                                 that reply, to each recipient
 *   it lacks an extension that was announced           451 4.3.5
 *   RCPT, DATA, mail data, end of data answered        that reply
 *   a reply that means nothing there (354 to MAIL)     500 5.5.0
 *   it closes or stalls at any step                    451 4.4.2
 *
 * A courier owns its connection and its slot, and borrows the backend. Used by the worker that runs the
 * session.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_IN_COURIER_H
#define POSTERN_RELAY_IN_COURIER_H

#include "relay-in/backend.h"
#include "smtp/courier.h"

/* A courier for one session; holds its own reference of the backend. NULL when out of memory. */
struct courier *courier_backend_new(struct backend *backend);

#endif
