/* relayctl/tunnel.h - the state of the WireGuard tunnel to a host, from wg(8), which needs root
 *
 * Owns nothing. Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_TUNNEL_H
#define POSTERN_RELAYCTL_TUNNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"

#define TUNNEL_HANDSHAKE_OLD_S 180 /* with traffic, WireGuard makes one every two minutes */

struct tunnel {
    char interface[32];
    int64_t handshake; /* the last one, seconds since 1970; 0: none */
};

/* Finds the peer that WireGuard sends the host's packets to, by AllowedIPs. False if there is none or wg(8)
 * cannot be asked; takes at most ten seconds. Private keys are never read. */
bool tunnel_find(const struct address *host, struct tunnel *out);

#endif
