/* server/acceptor.h - the listening sockets
 *
 * Accepts what waits there and hands it up. When descriptors or memory are out it pauses, and the
 * backlog keeps the clients for a moment. On the waiter's thread; borrows the descriptors.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_ACCEPTOR_H
#define POSTERN_SERVER_ACCEPTOR_H

#include "base/address.h"
#include "net/listener.h"
#include "server/waiter.h"

struct acceptor;

struct gate_listener {
    int fd;
    struct listen_spec spec;
    bool handed_over; /* by systemd, which keeps clients waiting in it for the next start */
};

/* Takes over `fd`. `local` is what it is connected to. */
typedef void acceptor_callback(void *context, int fd, const struct address *peer,
                               const struct address *local, const struct listen_spec *spec);

/* NULL when out of memory. */
struct acceptor *acceptor_new(struct waiter *waiter, const struct gate_listener *listeners,
                              size_t count, acceptor_callback *accepted, void *context);
void acceptor_free(struct acceptor *acceptor);

void acceptor_start(struct acceptor *acceptor);
/* From now on the kernel refuses clients, but at listeners that were handed over to us, where they
 * wait for whoever listens next. The descriptors stay open: their numbers are still their owner's. */
void acceptor_end(struct acceptor *acceptor);

#endif
