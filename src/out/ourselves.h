/* out/ourselves.h - what mail must not be sent to: this host
 *
 * The addresses of all interfaces and those that the configuration adds, our name, and the ports on
 * which relay-in and relay-out listen. Looked up once when it is made; then only read: thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_OUT_OURSELVES_H
#define POSTERN_OUT_OURSELVES_H

#include <stdbool.h>

#include "config/config.h"
#include "net/endpoint.h"

#define OWN_ADDRESSES_MAX 128

struct ourselves {
    struct address addresses[OWN_ADDRESSES_MAX];
    size_t address_count;
    uint16_t ports[2 * LISTENERS_MAX];
    size_t port_count;
    const char *names[2]; /* hostname, and the one of EHLO */
    size_t name_count;
};

/* Borrows the names from the configuration. */
void ourselves_find(struct ourselves *ours, const struct config *config);

bool ourselves_has_address(const struct ourselves *ours, const struct address *address);
bool ourselves_has_name(const struct ourselves *ours, const char *name);
/* Is one of our ports there? */
bool ourselves_listen(const struct ourselves *ours, const struct address *address, uint16_t port);

#endif
