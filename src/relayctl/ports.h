/* relayctl/ports.h - who holds a port of this host, and whose an address is
 *
 * From /proc, so that nothing is disturbed. Without root the holder of a port of another user's is not
 * seen. Thread-safe.
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
    PORTS_UNSEEN, /* somebody listens, and cannot be seen */
};

/* Who listens on the TCP port, at any address. */
enum ports_result ports_holder(uint16_t port, char *holder, size_t size);

/* Has an interface of this host the address? True for a wildcard. */
bool ports_is_local(const struct address *address);

#endif
