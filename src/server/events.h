/* server/events.h - everything that the daemons log, in one table
 *
 * A row is a kind of line: the event that it begins with, or its first words if it has Postfix's form; its
 * levels; and its meaning. postern-events(7) is generated from the rows. Tests fail for an event that is in
 * no row, has a different level, or is no longer in the sources. The lines themselves are written where
 * things happen (base/log).
 *
 * The table is constant, so it is thread-safe; it owns nothing.
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
    const char *meaning; /* sentences, in English; includes what each status means */
};

extern const struct event_row event_rows[];
extern const size_t event_row_count;

/* Has it the form event=NAME? */
int event_is_named(const struct event_row *row);

/* Prints all rows as mdoc(7), for postern-events(7). */
void events_print_manual(FILE *out);

#endif
