/* net/proxy.h - PROXY protocol headers, versions 1 and 2 (HAProxy's proxy-protocol.txt)
 *
 * Parses and formats headers with pure functions over octets: no IO, no allocation, thread-safe.
 * Knows nothing of SMTP, and does not decide whose header to believe: the caller does.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_PROXY_H
#define POSTERN_NET_PROXY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"

#define PROXY_HEADER_MAX 536 /* octets to look at in a received header; bounds one we send */

enum proxy_version { PROXY_V1 = 1, PROXY_V2 = 2 };

enum proxy_result {
    PROXY_DONE, /* a header, complete in everything that matters */
    PROXY_MORE, /* the beginning of a header, shorter than PROXY_HEADER_MAX */
    PROXY_BAD,  /* not a header */
};

struct proxy_header {
    bool local; /* LOCAL or UNKNOWN: the addresses are the connection's own */
    struct address source, destination;
};

/* Parses bytes[0..len). *used becomes the length of the header in octets. It may exceed `len`, because
 * version 2 allows 64 KiB of other information after the addresses; the caller reads and ignores
 * the rest. */
enum proxy_result proxy_parse(const char *bytes, size_t len, struct proxy_header *header,
                              size_t *used);

/* Formats a header, which must be sent first and in a write of its own. Returns its length in octets,
 * or 0 if the source has no address. The protocol has no header with two address families, so a
 * destination of the other family is adapted to the source's: IPv4 as ::ffff:a.b.c.d, IPv6 as
 * 0.0.0.0. */
size_t proxy_format(const struct proxy_header *header, enum proxy_version version,
                    char out[PROXY_HEADER_MAX]);

#endif
