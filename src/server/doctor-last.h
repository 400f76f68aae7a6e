/* server/doctor-last.h - the findings of the last relayctl doctor --changes
 *
 * The file that --changes keeps for its next run: one line "ID OUTCOME" per check. Its folder belongs to the
 * daemons' user, and root reads and writes there too: what that user puts in its place must neither stop root
 * nor be written through. Owns nothing. Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_DOCTOR_LAST_H
#define POSTERN_SERVER_DOCTOR_LAST_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "config/config.h"

/* Where --changes keeps the file without --state: in the state folder of this configuration's daemons
 * (in.state, out.state), or in the default folder of both. `config` may be NULL. */
void doctor_last_file(const struct config *config, char out[PATH_MAX]);

struct doctor_last {
    int64_t at; /* when it ran, seconds since the epoch */
    unsigned failed, warnings;
};

/* Opens the file for reading. NULL if there is none, or if it is no regular file. */
FILE *doctor_last_open(const char *file);

/* Reads the next line of it, or the next piece of a line that is too long. False at the end, and beyond 64 KiB:
 * --changes never writes that much. */
#define DOCTOR_LAST_LINE 200
bool doctor_last_next(FILE *file, char line[DOCTOR_LAST_LINE]);

/* Begins a new file, in place of whatever has that name. NULL, with errno, if that is impossible. */
FILE *doctor_last_create(const char *file);

/* False if there was no such run or the file cannot be read. */
bool doctor_last_read(const char *file, struct doctor_last *last);

#endif
