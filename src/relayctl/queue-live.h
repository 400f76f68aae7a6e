/* relayctl/queue-live.h - relayctl queue: asks the running daemon
 *
 * Speaks to relay-out's control socket (server/control.h, relay-out/queue-control.h). It receives a
 * whole answer before it shows any of it, so that a user who pauses the output does not hold up the
 * daemon. Answers belong to the caller. One thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_QUEUE_LIVE_H
#define POSTERN_RELAYCTL_QUEUE_LIVE_H

#include <stdio.h>

#include "server/control-client.h"
#include "spool/spool.h"

/* Asks; `folder` is the control option. On CONTROL_ANSWERED *answer is positioned after the word "ok",
 * before the rest of that line; the caller closes it. */
enum control_result live_ask(const char *folder, FILE **answer, struct error *err,
                             const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Reads the next message of an answer into an empty envelope. Returns 1; 0 if there are no more, and
 * then *lost (unless NULL) is the number of notices to senders that were lost; or -1 with a reason. */
int live_message(FILE *answer, struct spool_envelope *envelope, unsigned *lost, struct error *err);

/* Reads the size in octets of the mail data that follows in the answer. Returns 0, or -1 with a reason. */
int live_data(FILE *answer, uint64_t *size, struct error *err);

/* Reads what an order has done. Returns 0, or -1 with a reason; the counts then say what was done before
 * the error. */
int live_done(FILE *answer, unsigned *changed, unsigned *busy, struct error *err);

#endif
