/* server/stats-read.h - a daemon's answer to "stats" (server/stats.h), read
 *
 * Owns its lines. Used by relayctl and the exporter.
 *
 * One thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_STATS_READ_H
#define POSTERN_SERVER_STATS_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "server/control-client.h"
#include "smtp/counters.h"

struct stats {
    unsigned daemon; /* one of COUNTERS_... */
    char **lines;    /* without their ends */
    size_t count;
};

/* Asks one of the daemons; on CONTROL_ANSWERED `out` is to be freed. */
enum control_result stats_ask(struct stats *out, const char *folder, unsigned daemon,
                           struct error *err);
void stats_free(struct stats *stats);

/* relay-in or relay-out. */
const char *stats_program(unsigned daemon);

/* What stands behind this word in the `index`th line (from 0) that begins with it; NULL: none. */
const char *stats_line(const struct stats *stats, const char *word, size_t index);
/* The configuration file when it was changed after the daemon read it; else NULL. */
const char *stats_newer_file(const struct stats *stats);

/* A sample's value, and of a counter that of today; 0 when it is not there. `label` is the value of the
 * label of a COUNTER_EACH, or NULL. */
double stats_value(const struct stats *stats, enum counter which, const char *label);
double stats_today(const struct stats *stats, enum counter which);

#endif
