/* relay-out/courier-spool.h - the courier of delivery = "spool": every message is stored, then delivered
 *
 * Recipients are judged by routes and, where the MX hosts count, by what the DNS says for certain
 * (no such domain, null MX, only this host); whatever is not certain within a moment is accepted.
 * The 250 behind the data means that all of it is on disk.
 *
 * Owns the message until it is in the spool. Used by the worker that runs the session.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_COURIER_SPOOL_H
#define POSTERN_RELAY_OUT_COURIER_SPOOL_H

#include "relay-out/spooler.h"
#include "smtp/courier.h"

/* A courier for one session; borrows the snapshot, which has a spooler. NULL when out of memory. */
struct courier *courier_spool_new(const struct outbound *out);

#endif
