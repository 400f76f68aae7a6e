/* base/buffer.h - text put together under a hard bound
 *
 * The bytes live in storage that the caller owns (an array on the stack or in a worker's scratch),
 * so there is nothing to free and nothing can grow. What does not fit sets `overflow`, which stays
 * set: build everything, then look once. The text is always NUL-terminated.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_BUFFER_H
#define POSTERN_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    char *data;
    size_t len;    /* octets in use, without the final NUL */
    size_t size;   /* octets of storage, at least 1 */
    bool overflow; /* something did not fit; `data` holds what was there before it */
};

/* An empty buffer over `size` octets at `storage`. */
void buffer_init(struct buffer *buffer, char *storage, size_t size);

/* Append wholly or, when it does not fit, not at all (and set `overflow`). 0 or -1. */
int buffer_add(struct buffer *buffer, const char *bytes, size_t len);
int buffer_puts(struct buffer *buffer, const char *text);
int buffer_printf(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* What each message needs is put together by these: printf takes ten times as long.
 * Texts, up to a NULL: all of them or none. */
int buffer_join(struct buffer *buffer, ...) __attribute__((sentinel));
/* In decimal, filled up to `digits` with zeros. */
int buffer_number(struct buffer *buffer, uint64_t value, unsigned digits);

/* For texts that may end early: as much of it as fits. No `overflow`. */
void buffer_add_some(struct buffer *buffer, const char *bytes, size_t len);

#endif
