/* exporter/history.h - past values for the page's plots
 *
 * Two rings in one file of fixed size: ten-second steps for a day, ten-minute steps for eight days.
 * Each look of the sampler rewrites the current step in its place, so a crash loses very little. A
 * file that cannot be used is started afresh. Owns the file and the steps in memory. One writer (the
 * sampler's thread); readers take the lock.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_EXPORTER_HISTORY_H
#define POSTERN_EXPORTER_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "server/stats-read.h"

/* The values of a step. Those before HISTORY_SUMS are sums over the step, the others the last value seen
 * in it. */
enum history_value {
    HISTORY_IN_DELIVERED,
    HISTORY_IN_DEFERRED,
    HISTORY_IN_REFUSED,
    HISTORY_OUT_DELIVERED,
    HISTORY_OUT_STORED,
    HISTORY_OUT_DEFERRED,
    HISTORY_OUT_REFUSED,
    HISTORY_TIMED, /* messages that HISTORY_TIME covers */
    HISTORY_TIME,  /* seconds that they took in total */
    HISTORY_TRIES, /* relay-out's delivery attempts, per recipient */
    HISTORY_TRIES_PUT_OFF,
    HISTORY_SUMS,
    HISTORY_SPOOL = HISTORY_SUMS, /* messages */
    HISTORY_MISSED,
    HISTORY_VALUES,
};

enum history_ring { HISTORY_DAY, HISTORY_WEEK, HISTORY_RINGS };

struct history;

/* Opens or makes the file; a NULL `file` keeps the history only in memory. The caller frees it with
 * history_close(). NULL with a reason in `err` on failure. */
struct history *history_open(const char *file, struct error *err);
void history_close(struct history *history);

/* Adds what the daemons report at the time `now` (seconds since 1970). NULL: that daemon does not
 * answer. Called by one thread only. */
void history_add(struct history *history, int64_t now, const struct stats *in,
                 const struct stats *out);

/* Stores the values over [from, to), in seconds since 1970: sums, or the last value seen. Returns the
 * number of steps found. Thread-safe. */
size_t history_sum(struct history *history, enum history_ring ring, int64_t from, int64_t to,
                   double out[HISTORY_VALUES]);

#endif
