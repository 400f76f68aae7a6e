/* exporter/page.h - the page: the state of both daemons at a glance
 *
 * Makes HTML without scripts and without anything from other servers. Escapes everything that comes
 * from a daemon. Owns nothing. Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_EXPORTER_PAGE_H
#define POSTERN_EXPORTER_PAGE_H

#include <stdint.h>
#include <stdio.h>

#include "exporter/history.h"
#include "server/stats-read.h"

struct page {
    const char *folder;           /* of the control sockets, for what the metrics don't contain */
    const struct stats *in, *out; /* NULL: that daemon does not answer */
    const char *in_why, *out_why; /* then: why, or that it is not running */
    struct history *history;
    int64_t now; /* seconds since 1970 */
};

/* Writes the whole page, HTML. */
void page_write(FILE *out, const struct page *page);

/* The style sheet, served beside it. */
extern const char page_style[];

/* For the header Content-Security-Policy. */
#define PAGE_POLICY                                                                                \
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors "  \
    "'none'"

#endif
