/* server/events.h - what the daemons log, in one table
 *
 * A row is a kind of line: the event that it begins with, or its first words where it is written as
 * Postfix writes it, the levels that it has, and what it means. postern-events(7) is made from the
 * rows; tests fail on an event that is in no row, has another level, or is in no source any more. Lines
 * are still written where the things happen (base/log).
 *
 * Constant, so thread-safe; owns nothing.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_EVENTS_H
#define POSTERN_SERVER_EVENTS_H

#include <stddef.h>
#include <stdio.h>

enum {
    EVENTS_IN = 1 << 0,
    EVENTS_OUT = 1 << 1,
    EVENTS_BOTH = EVENTS_IN | EVENTS_OUT,
    EVENTS_EXPORTER = 1 << 2
};

struct event_row {
    unsigned daemons;
    const char *name;    /* "message", of event=message; or the line's first words */
    const char *levels;  /* "error", "notice error", ... */
    const char *meaning; /* sentences, in English; what each status means, too */
};

extern const struct event_row event_rows[];
extern const size_t event_row_count;

/* Is it of the form event=NAME? */
int event_is_named(const struct event_row *row);

/* All rows as mdoc(7), for postern-events(7). */
void events_print_manual(FILE *out);

#endif
