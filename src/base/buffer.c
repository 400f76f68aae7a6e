/* base/buffer.c - text put together under a hard bound
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void buffer_init(struct buffer *buffer, char *storage, size_t size)
{
    *buffer = (struct buffer){.data = storage, .size = size};
    storage[0] = '\0';
}

int buffer_add(struct buffer *buffer, const char *bytes, size_t len)
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

int buffer_puts(struct buffer *buffer, const char *text)
{
    return buffer_add(buffer, text, strlen(text));
}

int buffer_printf(struct buffer *buffer, const char *format, ...)
{
    size_t room = buffer->size - buffer->len;
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(buffer->data + buffer->len, room, format, arguments);
    va_end(arguments);
    if (len < 0 || (size_t)len >= room) {
        buffer->data[buffer->len] = '\0';
        buffer->overflow = true;
        return -1;
    }
    buffer->len += (size_t)len;
    return 0;
}
