/* net/endpoint.h - a host and a port as an operator writes them: a name or an IP address
 *
 * "mail.example.net", "mail.example.net:587", "10.0.0.2", "10.0.0.2:25", "[fd00::2]:25",
 * "[fd00::2]". Names in UTF-8 are kept as they are. Plain values, no allocation, thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_ENDPOINT_H
#define POSTERN_NET_ENDPOINT_H

#include <stdint.h>

#include "base/address.h"
#include "base/error.h"
#include "dns/name.h"

struct endpoint {
    char host[DNS_NAME_MAX]; /* as it was written, without brackets and port */
    struct address address;  /* AF_UNSPEC: the host is a name */
    uint16_t port;
};

/* Parses `text`; without a port, `default_port` is used. Returns 0, or -1 with what was expected in
 * `err`. */
int endpoint_parse(struct endpoint *endpoint, const char *text, uint16_t default_port,
                   struct error *err);

#endif
