/* relay-out/own-addresses.h - this host, to which mail must not be sent
 *
 * The addresses of all interfaces and those that the configuration adds, our names, and the ports on
 * which relay-in and relay-out listen. Filled once, then only read: thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_OWN_ADDRESSES_H
#define POSTERN_RELAY_OUT_OWN_ADDRESSES_H

#include <stdbool.h>

#include "config/config.h"
#include "net/endpoint.h"

#define OWN_ADDRESSES_MAX 128

struct own_addresses {
    struct address addresses[OWN_ADDRESSES_MAX];
    size_t address_count;
    uint16_t ports[2 * LISTENERS_MAX];
    size_t port_count;
    const char *names[2]; /* the hostname and the EHLO name */
    size_t name_count;
};

/* Borrows the names from the configuration. */
void own_addresses_find(struct own_addresses *ours, const struct config *config);

bool own_addresses_has_address(const struct own_addresses *ours, const struct address *address);
bool own_addresses_has_name(const struct own_addresses *ours, const char *name);
/* Do we listen there? */
bool own_addresses_listen(const struct own_addresses *ours, const struct address *address,
                          uint16_t port);

#endif
