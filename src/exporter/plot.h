/* exporter/plot.h - small plots as inline SVG
 *
 * Bars stand on each other, lines are drawn over them; the axis is linear and begins at 0. Colours come from
 * the page's style sheet by class, so that they follow its dark and light forms. Columns without a value are
 * a gap, not a 0. Thread-safe.
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
    const char *unit; /* behind the number of the axis; "" = none */
    bool lines;       /* instead of bars */
    size_t columns, series_count;
    bool known[PLOT_COLUMNS_MAX];
    const char *from, *to; /* below the axis */
    struct plot_series series[PLOT_SERIES_MAX];
};

void plot_write(FILE *out, const struct plot *plot);

#endif
