/* tests/fuzz/fuzz-reply.c - a next hop's replies, read and written again
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "smtp/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reply reply = {0};
    char wire[REPLY_WIRE_MAX];
    const char *at = (const char *)data, *end = at + size;
    enum reply_line_result result = REPLY_LINE_MORE;
    while (at < end && result == REPLY_LINE_MORE) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        const char *stop = lf != NULL ? lf : end;
        result = reply_parse_line(&reply, at, (size_t)(stop - at));
        at = stop + 1;
    }
    if (result != REPLY_LINE_LAST)
        return 0;
    reply_finish(&reply);
    size_t len = reply_format(&reply, wire, sizeof wire);
    if (len < 6 || memcmp(wire + len - 2, "\r\n", 2) != 0)
        abort();
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)wire[i] > 0x7e || (wire[i] < 0x20 && wire[i] != '\r' && wire[i] != '\n'))
            abort();
    }
    return 0;
}
