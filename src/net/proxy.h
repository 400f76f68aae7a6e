/* net/proxy.h - PROXY protocol headers, versions 1 and 2 (HAProxy's proxy-protocol.txt)
 *
 * Parsing and formatting, pure functions over octets: no IO, no allocation, thread-safe. Knows
 * nothing of SMTP, and nothing of who may be believed: that is the caller's.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_PROXY_H
#define POSTERN_NET_PROXY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"

#define PROXY_HEADER_MAX 536 /* what must be looked at of one, and of one that is sent */

enum proxy_version { PROXY_V1 = 1, PROXY_V2 = 2 };

enum proxy_result {
    PROXY_DONE, /* all that counts of a header */
    PROXY_MORE, /* a beginning of one, shorter than PROXY_HEADER_MAX */
    PROXY_BAD,  /* not one */
};

struct proxy_header {
    bool local; /* LOCAL or UNKNOWN: the addresses are the connection's own */
    struct address source, destination;
};

/* *used is the length of the header. It may be more than `len`, as version 2 lets 64 KiB of other
 * information follow the addresses: that is to be read away unseen. */
enum proxy_result proxy_parse(const char *bytes, size_t len, struct proxy_header *header,
                              size_t *used);

/* The header, to be the first write on a connection and alone in it. Returns its length; 0 when the
 * source has no address. A destination of the other family, which the protocol cannot say, is put
 * in a form of the source's: IPv4 as ::ffff:a.b.c.d, IPv6 as 0.0.0.0. */
size_t proxy_format(const struct proxy_header *header, enum proxy_version version,
                    char out[PROXY_HEADER_MAX]);

#endif
