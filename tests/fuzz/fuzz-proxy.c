/* tests/fuzz/fuzz-proxy.c - PROXY headers: every prefix asks for more, and what was read can be written again
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void check_again(const struct proxy_header *header, enum proxy_version version)
{
    char wire[PROXY_HEADER_MAX];
    struct proxy_header again;
    size_t used = 0, len = proxy_format(header, version, wire);

    must(proxy_parse(wire, len, &again, &used) == PROXY_DONE && used == len);
    must(again.local == header->local);
    if (header->local)
        return;
    must(address_same_ip(&again.source, &header->source));
    must(address_same_ip(&again.destination, &header->destination) ||
         (header->source.family == AF_INET && header->destination.family == AF_INET6));
    must(again.source.port == header->source.port &&
         again.destination.port == header->destination.port);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header header;
    size_t used = 0, used_before;
    char *exact;

    if (proxy_parse((const char *)data, size, &header, &used) != PROXY_DONE)
        return 0;
    must(used > 0 && used <= 16 + 65535 && (used <= size || data[0] == '\r'));
    check_again(&header, PROXY_V1);
    check_again(&header, PROXY_V2);
    /* Octet by octet, as from a slow peer; in memory that ends with the octets. */
    for (size_t len = 0; len < used && len < size && len < PROXY_HEADER_MAX; len++) {
        exact = malloc(len > 0 ? len : 1);
        memcpy(exact, data, len);
        enum proxy_result result = proxy_parse(exact, len, &header, &used_before);
        must(result == PROXY_MORE || (result == PROXY_DONE && used_before == used && len >= 16));
        free(exact);
    }
    return 0;
}
