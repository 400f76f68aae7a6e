/* server/clients.h - counts each client's and network's connections, and their rate
 *
 * A client is an IPv4 address or an IPv6 /64, which is what one customer of a hosting company can easily
 * change; a network is an IPv4 /24 or an IPv6 /48, which is one site. A rate is an average (GCRA): a
 * minute's worth at once, then evenly spaced. Refused connections do not count.
 *
 * Used only by the gate's thread. Owns its memory: a small node for each client and network with an open
 * connection or a rate that has not expired, at most CLIENTS_NODES_MAX.
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

/* The limits of one client and of one network; 0 = none. */
struct clients_limits {
    unsigned connections, network_connections;
    unsigned rate, network_rate; /* new connections a minute */
};

enum clients_result {
    CLIENTS_OK,
    CLIENTS_CONNECTIONS,
    CLIENTS_NETWORK_CONNECTIONS,
    CLIENTS_RATE,
    CLIENTS_NETWORK_RATE,
    CLIENTS_NO_MEMORY,
};

/* The caller frees it with clients_free(). NULL if out of memory. */
struct clients *clients_new(void);
void clients_free(struct clients *clients);

/* Counts a new connection if the result is CLIENTS_OK, otherwise only the refusal. `now_ms` is monotonic. */
enum clients_result clients_enter(struct clients *clients, const struct address *address,
                                  const struct clients_limits *limits, int64_t now_ms);

/* Undoes the count of a successful clients_enter(). */
void clients_leave(struct clients *clients, const struct address *address);

/* The number of refusals of the client since this was last not 0. It is 0 for `interval_ms` after that, so that a
 * hammering client gets few log lines and does not hide another client's. */
unsigned clients_refusals_to_log(struct clients *clients, const struct address *address,
                                 int64_t now_ms, int64_t interval_ms);

#endif
