/* relay-out/tlsorders.h - what relay-out tells relayctl of TLS out there, by its control socket
 *
 *   tls show DOMAIN [connect] [refresh]   ok, then lines "KEY TEXT" about the domain, and after each
 *                                         "host NAME" about that host: what is published, whether
 *                                         DNSSEC proves it, and what mail to it would meet
 *   tls failures                          ok, for each policy that was met
 *                                         "policy DOMAIN TYPE LAST-CHANGE", and for it
 *                                         "count RESULT NUMBER" and "last HOST REASON"
 *
 * With "connect" each host is connected to, and asked to show its certificate; with "refresh" the
 * domain's MTA-STS policy is fetched anew before: both are orders (server/control.h). Results are
 * those of RFC 8460, times seconds since the epoch.
 *
 * Owns nothing. On the control socket's threads, which it lets wait for the DNS and for hosts.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_TLSORDERS_H
#define POSTERN_RELAY_OUT_TLSORDERS_H

#include "relay-out/outbound.h"
#include "server/control.h"

/* `words` stand behind "tls". */
void tlsorders_handle(const struct outbound *out, struct control_client *client,
                      const char *const *words, size_t count);

#endif
