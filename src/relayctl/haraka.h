/* relayctl/haraka.h - reads a Haraka configuration as values with their places
 *
 * Reads a Haraka folder into one list of entries, each with its file and line. The importer marks the
 * entries that it uses as taken, so that it can report the rest. This module knows neither what a
 * value means nor relay.conf. The struct owns everything that was read. One thread.
 *
 * The format is that of the haraka-config module: ini files with "[section]", "key = value",
 * "key[] = value" and "; comment", and lists with one value per line. Files below plugins/ are read
 * too: Haraka itself ignores them, but people put settings there that they want.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_HARAKA_H
#define POSTERN_RELAYCTL_HARAKA_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct haraka_entry {
    char *file;    /* below the folder: "smtp.ini", "plugins/xclient.ini" */
    unsigned line; /* from 1 */
    char *section; /* lower case; "main" before the first one */
    char *key;     /* without "[]"; in a list: the value itself */
    char *value;   /* "" in a list */
    bool taken;
};

struct haraka {
    char *folder; /* absolute */
    char *name;   /* its last part, for messages */
    struct haraka_entry *entries;
    size_t count;
};

/* Reads the folder, or its "config" if the files are there. Returns 0, or -1 with a reason in `err`; then
 * there is nothing to free. */
int haraka_read(struct haraka *haraka, const char *folder, struct error *err);
void haraka_free(struct haraka *haraka);

/* Is there a file of that name, or one below plugins/? */
bool haraka_has(const struct haraka *haraka, const char *file);

/* The next entry after `after` (NULL: the first) in that file and section with that key. A NULL section
 * or key matches any. */
struct haraka_entry *haraka_next(const struct haraka *haraka, const struct haraka_entry *after,
                                 const char *file, const char *section, const char *key);

/* The last entry with that key in the file itself, or else in its namesake below plugins/, which Haraka
 * ignores. NULL if there is none. */
struct haraka_entry *haraka_find(const struct haraka *haraka, const char *file, const char *section,
                                 const char *key);

/* Does Haraka read the file that the entry is in? */
bool haraka_was_read(const struct haraka_entry *entry);

/* Is it one of true, yes, ok, enabled, on, 1? */
bool haraka_is_true(const char *value);

#endif
