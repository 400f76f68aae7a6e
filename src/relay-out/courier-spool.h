/* relay-out/courier-spool.h - the courier of delivery = "spool": every message is stored, then delivered
 *
 * Recipients are judged by routes and, where MX hosts are used, by what the DNS says for certain
 * (no such domain, null MX, only this host); if that is not known quickly, the recipient is accepted.
 * The 250 after the data means that the whole message is on disk.
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
