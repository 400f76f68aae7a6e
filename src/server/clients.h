/* server/clients.h - how many connections each client and each network has, and how often new ones
 *
 * A client is an IPv4 address or an IPv6 /64, a network an IPv4 /24 or an IPv6 /48: what one
 * customer of a hosting company can easily change, and what is one site. A rate is an average
 * (GCRA): as many as a minute allows at once, then evenly spaced. Refused connections do not count.
 *
 * Used by the gate thread only. Owns its memory: a small node for each client and network with an
 * open connection or with a rate that has not run off, CLIENTS_NODES_MAX at most.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_CLIENTS_H
#define POSTERN_SERVER_CLIENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"

#define CLIENTS_NODES_MAX 131072

struct clients;

/* Of one client and of one network; 0 = no limit. */
struct clients_limits {
    unsigned connections, network_connections;
    unsigned rate, network_rate; /* new ones a minute */
};

enum clients_result {
    CLIENTS_OK,
    CLIENTS_CONNECTIONS,
    CLIENTS_NETWORK_CONNECTIONS,
    CLIENTS_RATE,
    CLIENTS_NETWORK_RATE,
    CLIENTS_NO_MEMORY,
};

/* NULL when out of memory. */
struct clients *clients_new(void);
void clients_free(struct clients *clients);

/* Counts one more under CLIENTS_OK; else nothing but the refusal. `now_ms` is monotonic time. */
enum clients_result clients_enter(struct clients *clients, const struct address *address,
                                  const struct clients_limits *limits, int64_t now_ms);

/* Takes back what a successful clients_enter() has counted. */
void clients_leave(struct clients *clients, const struct address *address);

/* Refusals of the client since the last time that this was not 0; it is 0 for `interval_ms` after
 * that, so that a client that hammers gets few log lines and none is hidden behind another. */
unsigned clients_refusals_to_log(struct clients *clients, const struct address *address,
                                 int64_t now_ms, int64_t interval_ms);

#endif
