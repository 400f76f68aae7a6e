/* relayctl/queue-live.h - relayctl queue: asking the daemon that runs
 *
 * Speaks to relay-out's control socket (server/control.h, relay-out/queue-control.h). An answer is taken whole
 * before anything of it is shown, so that a reader who stops in between holds up nobody.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_QUEUE_LIVE_H
#define POSTERN_RELAYCTL_QUEUE_LIVE_H

#include <stdio.h>

#include "server/control-client.h"
#include "spool/spool.h"

/* Asks; `folder` is the control option. On CONTROL_ANSWERED *answer stands behind the word "ok", the rest of
 * that line first; the caller closes it. */
enum control_result live_ask(const char *folder, FILE **answer, struct error *err,
                             const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The next message of an answer, into an empty envelope. 1; 0 when there is none any more, and then
 * *lost (if not NULL) are the notices to senders that came to nothing; -1 with a reason. */
int live_message(FILE *answer, struct spool_envelope *envelope, unsigned *lost, struct error *err);

/* The answer stands before that many octets of mail data. 0, or -1 with a reason. */
int live_data(FILE *answer, uint64_t *size, struct error *err);

/* What an order has done. 0, or -1 with a reason: then so much was done before it. */
int live_done(FILE *answer, unsigned *changed, unsigned *busy, struct error *err);

#endif
