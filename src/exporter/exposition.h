/* exporter/exposition.h - the daemons' metrics in the form that Prometheus reads
 *
 * Turns the answers to "stats" (server/stats.h) into the text format 0.0.4, or into OpenMetrics 1.0 if
 * the client asks for it. Knows no metric by name: passes on whatever a daemon reports. Owns nothing.
 * Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_EXPORTER_EXPOSITION_H
#define POSTERN_EXPORTER_EXPOSITION_H

#include <stdbool.h>
#include <stdio.h>

#include "server/stats-read.h"

#define EXPOSITION_TEXT "text/plain; version=0.0.4; charset=utf-8"
#define EXPOSITION_OPENMETRICS "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* Does the Accept header of a request ask for OpenMetrics? NULL: no header. */
bool exposition_wants_openmetrics(const char *accept);

/* Writes all metrics that one daemon reports, except those that the other one (NULL: none) has reported
 * `before`, in the same exposition. */
void exposition_write(FILE *out, const struct stats *stats, const struct stats *before,
                      bool openmetrics);

/* Writes whether each daemon answered, and the end of the exposition. */
void exposition_write_own(FILE *out, bool in_up, bool out_up, bool openmetrics);

#endif
