/* tests/fuzz/fuzz-xclient.c - XCLIENT attributes and PROXY headers
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/proxy.h"
#include "smtp/xclient.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *at = (const char *)data, *end = at + size;
    struct xclient_attribute attribute;
    struct proxy_header header;
    size_t used = 0;
    while (xclient_next(&at, end, &attribute) == 1)
        continue;
    xclient_parse_offer((const char *)data, size);
    if (proxy_parse((const char *)data, size, &header, &used) == PROXY_DONE && used > size)
        abort();
    return 0;
}
