/* base/buffer.h - builds text within a hard bound
 *
 * The bytes live in storage that the caller owns (an array on the stack or in a worker's scratch),
 * so there is nothing to free and nothing can grow. Text that does not fit sets `overflow`, which
 * stays set: build everything, then check once. The text is always NUL-terminated. Used by one
 * thread at a time.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_BASE_BUFFER_H
#define POSTERN_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct buffer {
    char *data;
    size_t len;    /* octets in use, without the final NUL */
    size_t size;   /* octets of storage, at least 1 */
    bool overflow; /* something did not fit; `data` holds what came before it */
};

/* An empty buffer over `size` octets at `storage`. */
void buffer_init(struct buffer *buffer, char *storage, size_t size);

/* These append all of it, or nothing if it does not fit (and set `overflow`). Return 0 or -1. The first
 * two are inline because most texts are constants, whose length the compiler knows. */
static inline int buffer_add(struct buffer *buffer, const char *bytes, size_t len)
{
    if (len >= buffer->size - buffer->len) {
        buffer->overflow = true;
        return -1;
    }
    memcpy(buffer->data + buffer->len, bytes, len);
    buffer->len += len;
    buffer->data[buffer->len] = '\0';
    return 0;
}

static inline int buffer_puts(struct buffer *buffer, const char *text)
{
    return buffer_add(buffer, text, strlen(text));
}

int buffer_printf(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* buffer_join() and buffer_number() are for the per-message path: printf takes ten times as long.
 * buffer_join() appends texts up to a NULL: all of them or none. */
int buffer_join(struct buffer *buffer, ...) __attribute__((sentinel));
/* Appends `value` in decimal, padded with zeros to at least `digits`. */
int buffer_number(struct buffer *buffer, uint64_t value, unsigned digits);

/* Appends as much as fits and never sets `overflow`: for text that may be truncated. */
void buffer_add_some(struct buffer *buffer, const char *bytes, size_t len);

#endif
