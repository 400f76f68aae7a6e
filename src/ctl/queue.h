/* ctl/queue.h - relayctl queue: looking at the spool, and changing it while relay-out is down
 *
 * Looking needs no lock and works at any time. Changing takes the spool's lock, so it is refused
 * while the daemon runs.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_CTL_QUEUE_H
#define POSTERN_CTL_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "spool/spool.h"

/* Printing; `now` in seconds since the epoch. */
void queue_print_heading(FILE *out);
void queue_print_row(FILE *out, const struct spool_envelope *envelope, int64_t now);
void queue_print_json(FILE *out, const struct spool_envelope *envelope);
void queue_print_envelope(FILE *out, const struct spool_envelope *envelope);
/* The mail data as it was meant: dots unstuffed, without CRs; only the header unless `body`. 0, or
 * -1 when it cannot be read (errno). */
int queue_print_data(FILE *out, int fd, bool body);

/* Orders, on a spool that is open for writing. A recipient is named by `domain`; NULL: all. They
 * return what spool_edit() does; *changed counts the messages. */
enum queue_order { QUEUE_ORDER_HOLD, QUEUE_ORDER_RELEASE, QUEUE_ORDER_RETRY, QUEUE_ORDER_REMOVE };
enum spool_result queue_order(struct spool *spool, enum queue_order order, uint64_t id,
                              const char *domain, unsigned *changed, struct error *err);

#endif
