/* exporter/history.h - what was, for the page's plots
 *
 * Two rings in one file of a fixed size: ten-second steps for a day, ten-minute steps for eight days. A step is
 * written when it is over, at its place, so a crash loses no more than the step under way; a file that
 * makes no sense is begun anew. One writer (the sampler's thread); readers take the lock.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_EXPORTER_HISTORY_H
#define POSTERN_EXPORTER_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "server/stats-read.h"

/* Of each step. The first ones are sums over the step, the others what was last seen in it. */
enum history_value {
    HISTORY_IN_DELIVERED,
    HISTORY_IN_DEFERRED,
    HISTORY_IN_REFUSED,
    HISTORY_OUT_DELIVERED,
    HISTORY_OUT_STORED,
    HISTORY_OUT_DEFERRED,
    HISTORY_OUT_REFUSED,
    HISTORY_TIMED, /* messages whose time is in the next one */
    HISTORY_TIME,  /* seconds that they took, together */
    HISTORY_TRIES, /* of relay-out, for a recipient each */
    HISTORY_TRIES_PUT_OFF,
    HISTORY_SUMS,
    HISTORY_SPOOL = HISTORY_SUMS, /* messages */
    HISTORY_MISSED,
    HISTORY_VALUES,
};

enum history_ring { HISTORY_DAY, HISTORY_WEEK, HISTORY_RINGS };

struct history;

/* `file` NULL: in memory alone. NULL with a reason. */
struct history *history_open(const char *file, struct error *err);
void history_close(struct history *history);

/* What the daemons say at the time `now` (seconds since 1970); NULL: one does not answer. */
void history_add(struct history *history, int64_t now, const struct stats *in,
                 const struct stats *out);

/* Sums over [from, to), or the last that was seen in it. The number of steps that were there. */
size_t history_sum(struct history *history, enum history_ring ring, int64_t from, int64_t to,
                   double out[HISTORY_VALUES]);

#endif
