/* base/buffer.c - builds text within a hard bound
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define BUFFER_NUMBER_MAX 20 /* digits of UINT64_MAX */

void buffer_init(struct buffer *buffer, char *storage, size_t size)
{
    *buffer = (struct buffer){.data = storage, .size = size};
    storage[0] = '\0';
}

int buffer_join(struct buffer *buffer, ...)
{
    size_t before = buffer->len;
    const char *text;
    int result = 0;
    va_list texts;

    va_start(texts, buffer);
    while (result == 0 && (text = va_arg(texts, const char *)) != NULL)
        result = buffer_puts(buffer, text);
    va_end(texts);
    if (result != 0) {
        buffer->len = before;
        buffer->data[before] = '\0';
    }
    return result;
}

int buffer_number(struct buffer *buffer, uint64_t value, unsigned digits)
{
    char text[BUFFER_NUMBER_MAX];
    size_t at = sizeof text;

    for (; value > UINT32_MAX; value /= 10)
        text[--at] = (char)('0' + value % 10);
    uint32_t rest = (uint32_t)value;
    do {
        text[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    while (at > 0 && sizeof text - at < digits)
        text[--at] = '0';
    return buffer_add(buffer, text + at, sizeof text - at);
}

void buffer_add_some(struct buffer *buffer, const char *bytes, size_t len)
{
    size_t room = buffer->size - buffer->len - 1;
    buffer_add(buffer, bytes, len < room ? len : room);
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
