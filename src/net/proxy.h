/* net/proxy.h - PROXY protocol headers, versions 1 and 2 (HAProxy's proxy-protocol.txt)
 *
 * Pure functions over octets: no IO, no allocation, thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_PROXY_H
#define POSTERN_NET_PROXY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"

#define PROXY_HEADER_MAX 536  /* version 2 with IPv6 addresses and a few hundred octets of TLVs */

enum proxy_result {
    PROXY_DONE,  /* a whole header; *used octets of it */
    PROXY_MORE,  /* a beginning of one */
    PROXY_BAD,   /* not one, or longer than PROXY_HEADER_MAX */
};

struct proxy_header {
    bool local;                   /* LOCAL or UNKNOWN: the addresses are the connection's own */
    struct address source, destination;
};

enum proxy_result proxy_parse(const char *bytes, size_t len, struct proxy_header *header,
                              size_t *used);

#endif
