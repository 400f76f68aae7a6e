/* exporter/plot.h - small plots as inline SVG
 *
 * Bars are stacked and lines are drawn over them. The axis is linear and begins at 0. Colours come from
 * the page's style sheet by class, so they follow its dark and light modes. A column without a value is
 * a gap, not a 0. Owns nothing. Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_EXPORTER_PLOT_H
#define POSTERN_EXPORTER_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define PLOT_SERIES_MAX 5
#define PLOT_COLUMNS_MAX 200

struct plot_series {
    const char *name;  /* in the legend */
    const char *style; /* the class: "good", "wait", "bad", "kept", "plain" */
    double values[PLOT_COLUMNS_MAX];
};

struct plot {
    const char *title;
    const char *unit; /* after the axis number; "" = none */
    bool lines;       /* instead of bars */
    size_t columns, series_count;
    bool known[PLOT_COLUMNS_MAX];
    const char *from, *to; /* labels below the axis */
    struct plot_series series[PLOT_SERIES_MAX];
};

/* Writes one plot, SVG within HTML. */
void plot_write(FILE *out, const struct plot *plot);

#endif
