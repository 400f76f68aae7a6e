/* exporter/exposition.h - the daemons' numbers as Prometheus reads them
 *
 * From the answers to "stats" (server/stats.h) to the text format 0.0.4, or to OpenMetrics 1.0 where that is
 * asked for. Knows no metric by name: what a daemon tells is passed on. Thread-safe.
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

/* Does the Accept header of a request ask for OpenMetrics? NULL: there is none. */
bool exposition_wants_openmetrics(const char *accept);

/* All metrics that one daemon tells. */
void exposition_write(FILE *out, const struct stats *stats, bool openmetrics);

/* Whether each daemon answered, and the end. */
void exposition_write_own(FILE *out, bool in_up, bool out_up, bool openmetrics);

#endif
