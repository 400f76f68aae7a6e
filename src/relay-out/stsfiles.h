/* relay-out/stsfiles.h - MTA-STS policies on disk: a folder with a file for each domain
 *
 * A file consists of header lines, an empty line, and the policy as received. It is written by rename, so
 * that a truncated file counts as none. If the folder cannot be used, that is logged once, and nothing is
 * kept. Owned and locked by stscache, except stsfiles_write(), which is thread-safe for different domains.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_STSFILES_H
#define POSTERN_RELAY_OUT_STSFILES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay-out/sts.h"

struct stsfiles {
    char *path; /* of the folder; "": none */
    int folder; /* a descriptor; -1: none */
    atomic_bool warned;
};

/* What is kept of a policy besides its text. Times in seconds since the epoch. */
struct stsfiles_record {
    char id[STS_ID_MAX + 1];
    int64_t fetched_s, expires_s, used_s;
};

/* Makes and opens the folder ("": none); without one, nothing is kept. 0, or -1 when out of memory. */
int stsfiles_open(struct stsfiles *files, const char *path);
/* Closes the folder: files removed after this stay on disk. */
void stsfiles_close(struct stsfiles *files);
void stsfiles_free(struct stsfiles *files);

/* Writes the file of a domain: the policy's text of `len` octets, as received. */
void stsfiles_write(struct stsfiles *files, const char *domain,
                    const struct stsfiles_record *record, const char *text, size_t len);
void stsfiles_remove(const struct stsfiles *files, const char *domain);

/* Calls `take` for every valid file until it returns false; `take` owns the policy. Invalid files are
 * ignored, truncated ones removed. */
void stsfiles_load(const struct stsfiles *files,
                   bool (*take)(void *context, const char *domain,
                                const struct stsfiles_record *record, struct sts_policy *policy),
                   void *context);

#endif
