/* relay-out/courier.h - relay-out's courier: repeats a transaction with every next hop it needs
 *
 * At RCPT it connects to the recipient's next hop and passes back that host's own answer; several new
 * next hops of a batch are connected to in parallel. The mail data goes to all of them as it arrives.
 * If all agree at the end, the client gets their answer; if not, the rest is stored before the 250 (see
 * relay-out/spooler.h). Without a spool a message has only one next hop.
 *
 * Each outcome is a log line in Postfix's words.
 *
 * Owns its targets, except those handed over to the spooler. Used by the worker that runs the session;
 * meanwhile, targets connect on separate threads.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_COURIER_H
#define POSTERN_RELAY_OUT_COURIER_H

#include "relay-out/outbound.h"
#include "smtp/courier.h"

/* A courier for one session; borrows the snapshot. NULL when out of memory. */
struct courier *courier_out_new(const struct outbound *out);

/* Logs and counts the outcome of a recipient, in Postfix's format: "ID: to=<a@example.com>,
 * relay=mx[192.0.2.1]:25, delay=0.51, dsn=2.0.0, status=sent (250 Ok)". The delay is the time since
 * `since_ms`. */
void courier_out_log(const struct outbound *out, const struct envelope *envelope,
                     const struct path *path, const char *relay, int64_t since_ms,
                     const struct reply *reply);

#endif
