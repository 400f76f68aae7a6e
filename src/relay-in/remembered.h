/* relay-in/remembered.h - remembers a backend's offer across restarts
 *
 * Keeps a small file in in.state for each backend, so that relay-in's offer to clients does not depend on the
 * backend being up when relay-in starts. It contains nothing about mail. An unreadable file counts as missing.
 * Owns nothing. Thread-safe for different backends.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_IN_REMEMBERED_H
#define POSTERN_RELAY_IN_REMEMBERED_H

#include <stdbool.h>

#include "base/error.h"
#include "config/config.h"
#include "smtp/nexthop.h"

/* The extensions of a backend that clients may be offered. Nothing else is remembered: XCLIENT and STARTTLS must be
 * seen on each connection. */
#define REMEMBERED_EXTENSIONS                                                                      \
    (EXTENSION_8BITMIME | EXTENSION_SMTPUTF8 | EXTENSION_ENHANCEDSTATUSCODES | EXTENSION_DSN |     \
     EXTENSION_CHUNKING | EXTENSION_BINARYMIME | EXTENSION_REQUIRETLS)

/* Writes EHLO keywords for the log: "8BITMIME,DSN". Returns `out`. */
#define REMEMBERED_WORDS_MAX 128
const char *remembered_words(unsigned extensions, char out[REMEMBERED_WORDS_MAX]);

/* Do both give clients the same offer? */
bool remembered_is_same(const struct nexthop_capabilities *a, const struct nexthop_capabilities *b);

/* Reads the file. False if nothing is known about these hosts. */
bool remembered_read(const char *folder, const struct config_backend *settings, bool submission,
                     struct nexthop_capabilities *out);

/* Replaces the file. Returns 0, or -1 with a reason in `err`. */
int remembered_write(const char *folder, const struct config_backend *settings, bool submission,
                     const struct nexthop_capabilities *seen, struct error *err);

#endif
