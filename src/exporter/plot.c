/* exporter/plot.c - small plots as inline SVG
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "exporter/plot.h"

#define PLOT_WIDTH 600.0
#define PLOT_HEIGHT 120.0
#define PLOT_LEFT 44.0
#define PLOT_TOP 8.0
#define PLOT_BOTTOM 18.0

/* The height of a column: the sum of its bars, or the highest line. */
static double plot_column(const struct plot *plot, size_t column)
{
    double sum = 0;

    for (size_t s = 0; s < plot->series_count; s++) {
        double value = plot->series[s].values[column];
        if (!plot->lines)
            sum += value;
        else if (value > sum)
            sum = value;
    }
    return sum;
}

/* 1, 2 or 5 times a power of ten: the end of the axis. */
static double plot_top(const struct plot *plot)
{
    static const double steps[] = {1, 2, 5, 10};
    double highest = 0, power = 0.001;

    for (size_t c = 0; c < plot->columns; c++) {
        if (plot->known[c] && plot_column(plot, c) > highest)
            highest = plot_column(plot, c);
    }
    if (highest <= 0)
        return 1;
    while (power * 10 < highest)
        power *= 10;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        if (power * steps[i] >= highest)
            return power * steps[i];
    }
    return power * 10;
}

static double plot_x(const struct plot *plot, double column)
{
    return PLOT_LEFT + (PLOT_WIDTH - PLOT_LEFT) * column / (double)plot->columns;
}

static double plot_y(double value, double top)
{
    double room = PLOT_HEIGHT - PLOT_TOP - PLOT_BOTTOM;
    return PLOT_TOP + room * (1 - value / top);
}

static void plot_bars(FILE *out, const struct plot *plot, double top)
{
    for (size_t c = 0; c < plot->columns; c++) {
        double below = 0;
        for (size_t s = 0; plot->known[c] && s < plot->series_count; s++) {
            double value = plot->series[s].values[c];
            if (value <= 0)
                continue;
            double y = plot_y(below + value, top);
            fprintf(out,
                    "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>",
                    plot->series[s].style, plot_x(plot, (double)c) + 0.3, y,
                    plot_x(plot, 1) - plot_x(plot, 0) - 0.6, plot_y(below, top) - y);
            below += value;
        }
    }
}

static void plot_lines(FILE *out, const struct plot *plot, double top)
{
    for (size_t s = 0; s < plot->series_count; s++) {
        bool open = false;
        fprintf(out, "<path class=\"line %s\" d=\"", plot->series[s].style);
        for (size_t c = 0; c < plot->columns; c++) {
            if (plot->known[c])
                fprintf(out, "%c%.1f %.1f", open ? 'L' : 'M', plot_x(plot, (double)c + 0.5),
                        plot_y(plot->series[s].values[c], top));
            /* A single value still gets a mark. */
            if (plot->known[c] && !open)
                fputs("h0.1", out);
            open = plot->known[c];
        }
        fputs("\"/>", out);
    }
}

void plot_write(FILE *out, const struct plot *plot)
{
    double top = plot_top(plot);

    fprintf(out, "<figure><figcaption>%s", plot->title);
    for (size_t s = 0; s < plot->series_count && plot->series_count > 1; s++)
        fprintf(out, " <span class=\"key\"><i class=\"%s\"></i>%s</span>", plot->series[s].style,
                plot->series[s].name);
    fprintf(out, "</figcaption><svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\">",
            PLOT_WIDTH, PLOT_HEIGHT, plot->title);
    for (int i = 0; i <= 2; i++) {
        double value = top * i / 2;
        fprintf(out,
                "<path class=\"grid\" d=\"M%.1f %.1fH%.0f\"/><text x=\"%.1f\" y=\"%.1f\" "
                "class=\"axis\">%g%s</text>",
                PLOT_LEFT, plot_y(value, top), PLOT_WIDTH, PLOT_LEFT - 4, plot_y(value, top) + 3,
                value, i > 0 ? plot->unit : "");
    }
    if (plot->lines)
        plot_lines(out, plot, top);
    else
        plot_bars(out, plot, top);
    fprintf(out,
            "<text class=\"time\" x=\"%.1f\" y=\"%.1f\">%s</text><text class=\"time end\" "
            "x=\"%.1f\" y=\"%.1f\">%s</text></svg></figure>\n",
            PLOT_LEFT, PLOT_HEIGHT - 4, plot->from, PLOT_WIDTH, PLOT_HEIGHT - 4, plot->to);
}
