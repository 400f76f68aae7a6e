/* relay-in/remembered.h - what a backend offered, over a restart
 *
 * A small file in in.state for each backend, so that what relay-in offers its clients does not depend
 * on whether the backend is up when relay-in starts. It holds nothing of any mail. What cannot be read
 * is as if it were not there. Thread-safe for different backends.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_IN_REMEMBERED_H
#define POSTERN_RELAY_IN_REMEMBERED_H

#include <stdbool.h>

#include "base/error.h"
#include "config/config.h"
#include "smtp/nexthop.h"

/* What is offered to clients of what a backend has. Nothing else is remembered: XCLIENT and STARTTLS
 * must be seen on each connection. */
#define REMEMBERED_EXTENSIONS                                                                      \
    (NEXTHOP_8BITMIME | NEXTHOP_SMTPUTF8 | NEXTHOP_ENHANCEDSTATUSCODES | NEXTHOP_DSN |             \
     NEXTHOP_CHUNKING | NEXTHOP_BINARYMIME | NEXTHOP_REQUIRETLS)

/* "8BITMIME,DSN": as words of EHLO, for the log. Returns `out`. */
#define REMEMBERED_WORDS_MAX 128
const char *remembered_words(unsigned extensions, char out[REMEMBERED_WORDS_MAX]);

/* Do they offer a client the same? */
bool remembered_is_same(const struct nexthop_capabilities *a, const struct nexthop_capabilities *b);

/* False when nothing is known of these hosts. */
bool remembered_read(const char *folder, const struct config_backend *settings, bool submission,
                     struct nexthop_capabilities *out);

/* Replaces it. 0, or -1 with the reason. */
int remembered_write(const char *folder, const struct config_backend *settings, bool submission,
                     const struct nexthop_capabilities *seen, struct error *err);

#endif
