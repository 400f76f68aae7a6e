/* relayctl/haraka.h - the files of a Haraka configuration, as values with their places
 *
 * A folder of Haraka's is read into one list of entries: each says in which file and line it stood.
 * Whoever uses one marks it as taken, so that what is left over can be named. Nothing here knows
 * what a value means, nor relay.conf.
 *
 * The format is that of the haraka-config module: ini files with "[section]", "key = value",
 * "key[] = value" and "; comment", and lists with a value a line. Files below plugins/ are read as
 * well: Haraka itself never does, but people write there what they mean.
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
    char *section; /* "main" before the first one; in lower case */
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

/* Reads the folder, or its "config" where that holds the files. 0, or -1 with the reason; then there
 * is nothing to free. */
int haraka_read(struct haraka *haraka, const char *folder, struct error *err);
void haraka_free(struct haraka *haraka);

/* Is there a file of that name, or one below plugins/? */
bool haraka_has(const struct haraka *haraka, const char *file);

/* The next entry behind `after` (NULL: the first) that stands in that file and section. NULL as the
 * section or the key stands for any. */
struct haraka_entry *haraka_next(const struct haraka *haraka, const struct haraka_entry *after,
                                 const char *file, const char *section, const char *key);

/* The value of that key, from the file itself or else from its namesake below plugins/, which Haraka
 * passes over. The last one counts. NULL when there is none. */
struct haraka_entry *haraka_find(const struct haraka *haraka, const char *file, const char *section,
                                 const char *key);

/* Did Haraka ever read the file that it stands in? */
bool haraka_was_read(const struct haraka_entry *entry);

/* true, yes, ok, enabled, on, 1. */
bool haraka_is_true(const char *value);

#endif
