/* server/stats-read.h - reads a daemon's answer to "stats" (server/stats.h)
 *
 * The struct owns its lines. Thread-safe on distinct structs. Used by relayctl and the exporter.
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

/* Asks one of the daemons. On CONTROL_ANSWERED the caller frees `out` with stats_free(). */
enum control_result stats_ask(struct stats *out, const char *folder, unsigned daemon,
                              struct error *err);
void stats_free(struct stats *stats);

/* "relay-in" or "relay-out". */
const char *stats_program(unsigned daemon);

/* The text after this word in the `index`th line (from 0) that begins with it; NULL: none. */
const char *stats_line(const struct stats *stats, const char *word, size_t index);
/* The configuration file if it was changed after the daemon read it, otherwise NULL. */
const char *stats_newer_file(const struct stats *stats);

/* A sample's value, and today's value of a counter; 0 if it is missing. `label` is the label's value for a
 * COUNTER_EACH, or NULL. */
double stats_value(const struct stats *stats, enum counter which, const char *label);
double stats_today(const struct stats *stats, enum counter which);
/* Sums over the labels of a metric: the connections that have ended, those that are open, and the messages in the
 * spool. */
double stats_connections(const struct stats *stats);
double stats_open(const struct stats *stats);
double stats_spooled(const struct stats *stats);

#endif
