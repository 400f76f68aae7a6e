/* relayctl/doctor-last.h - what the last relayctl doctor --changes found
 *
 * Read from the file that --changes keeps for its next run: a line "ID OUTCOME" a check. It owns nothing.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_DOCTOR_LAST_H
#define POSTERN_RELAYCTL_DOCTOR_LAST_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"

/* Where --changes keeps it, unless --state says otherwise: in the folder in which the daemons of this
 * configuration remember things (in.state, out.state), or the one that is the default of both.
 * `config` may be NULL. */
void doctor_last_file(const struct config *config, char out[PATH_MAX]);

struct doctor_last {
    int64_t at; /* when it ran, in seconds since the epoch */
    unsigned failed, warnings;
};

/* False: there was no such run, or the file cannot be read. */
bool doctor_last_read(const char *file, struct doctor_last *last);

#endif
