/* relayctl/ports.h - which process holds a port of this host, and whether an address is local
 *
 * Reads /proc, so it disturbs nothing. Without root it cannot see the processes of other users.
 * Owns nothing. Thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_PORTS_H
#define POSTERN_RELAYCTL_PORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"

enum ports_result {
    PORTS_FREE,   /* nobody listens */
    PORTS_HELD,   /* `holder` is the name of the process */
    PORTS_UNSEEN, /* some process listens but cannot be seen */
};

/* Finds the process that listens on the TCP port, at any address. */
enum ports_result ports_holder(uint16_t port, char *holder, size_t size);

/* Does an interface of this host have the address? True for a wildcard. */
bool ports_is_local(const struct address *address);

#endif
