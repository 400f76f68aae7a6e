/* relay-out/courier.h - relay-out's courier: the same transaction, with every next hop it needs
 *
 * At RCPT the recipient's next hop is contacted, and its own answer passed back; several new ones of
 * a batch are contacted side by side. The mail data goes to all of them as it comes. Where all agree
 * at the end, their answer is the answer; where they do not, the rest is stored before the 250 (see
 * relay-out/spooler.h). Without a spool a message has one next hop only.
 *
 * Each outcome is a log line in Postfix's words.
 *
 * Owns its targets, but for those that go on in the spooler. Used by the worker that runs the session;
 * targets are connected to on threads of their own meanwhile.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_COURIER_H
#define POSTERN_RELAY_OUT_COURIER_H

#include "relay-out/outbound.h"
#include "smtp/courier.h"

/* A courier for one session; borrows the snapshot. NULL when out of memory. */
struct courier *courier_out_new(const struct outbound *out);

/* What became of a recipient, logged and counted, as Postfix says it: "ID: to=<a@example.com>,
 * relay=mx[192.0.2.1]:25, delay=0.51, dsn=2.0.0, status=sent (250 Ok)". The delay is that since
 * `since_ms`. */
void courier_out_log(const struct outbound *out, const struct envelope *envelope,
                     const struct path *path, const char *relay, int64_t since_ms,
                     const struct reply *reply);

#endif
