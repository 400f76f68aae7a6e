/* relay-out/tlsorders.h - tells relayctl about other hosts' TLS, over the control socket
 *
 *   tls show DOMAIN [connect] [refresh]   ok, then lines "KEY TEXT" about the domain, and after each
 *                                         "host NAME" about that host: what is published, whether
 *                                         DNSSEC proves it, and what would happen to mail to it
 *   tls failures                          ok, for each policy that was met
 *                                         "policy DOMAIN TYPE LAST-CHANGE", and for it
 *                                         "count RESULT NUMBER" and "last HOST REASON"
 *
 * "connect" connects to each host and checks its certificate; "refresh" first fetches the domain's
 * MTA-STS policy again. Both are orders (server/control.h). Results are those of RFC 8460, times are
 * seconds since the epoch.
 *
 * Owns nothing. Runs on the control socket's threads, which wait for the DNS and for hosts.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_TLSORDERS_H
#define POSTERN_RELAY_OUT_TLSORDERS_H

#include "relay-out/outbound.h"
#include "server/control.h"

/* `words` are those after "tls". */
void tlsorders_handle(const struct outbound *out, struct control_client *client,
                      const char *const *words, size_t count);

#endif
