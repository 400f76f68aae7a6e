/* relayctl/tunnel.h - how the WireGuard tunnel to a host is, as wg(8) tells root
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_TUNNEL_H
#define POSTERN_RELAYCTL_TUNNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"

struct tunnel {
    char interface[32];
    int64_t handshake; /* seconds since 1970; 0: there was none */
};

/* The peer in whose AllowedIPs the host is. False when there is none, or it cannot be asked. Keys are
 * neither read nor kept. */
bool tunnel_find(const struct address *host, struct tunnel *out);

#endif
