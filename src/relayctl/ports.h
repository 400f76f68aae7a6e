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

/* Finds the process that listens on the TCP port of this address. One at another address of this host is not meant: a
 * local MTA at 127.0.0.1 is no hindrance. */
enum ports_result ports_holder(const struct address *address, char *holder, size_t size);
/* The systemd unit of a well-known program, by its process's name; NULL if the name does not tell. */
const char *ports_unit(const char *holder);

/* Does an interface of this host have the address? True for a wildcard. */
bool ports_is_local(const struct address *address);

#endif
