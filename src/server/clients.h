/* server/clients.h - how many connections each client has open
 *
 * A client is an IPv4 address or an IPv6 /64. Used by the gate thread only. Owns its memory: one
 * small node for each client with an open connection.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_CLIENTS_H
#define POSTERN_SERVER_CLIENTS_H

#include <stdbool.h>

#include "base/address.h"

struct clients;

/* NULL when out of memory. */
struct clients *clients_new(void);
void clients_free(struct clients *clients);

/* Counts one more, unless there are `most` already (or memory is out): then false. */
bool clients_enter(struct clients *clients, const struct address *address, unsigned most);

/* Takes back what a clients_enter() that returned true has counted. */
void clients_leave(struct clients *clients, const struct address *address);

#endif
