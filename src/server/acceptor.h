/* server/acceptor.h - the listening sockets
 *
 * Accepts connections and passes them up through a callback. If descriptors or memory run out it pauses,
 * and the backlog holds the clients for a moment. Runs on the waiter's thread; borrows the descriptors.
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
    bool handed_over; /* from systemd, which keeps clients waiting in it for the next start */
};

/* Takes ownership of `fd`. `local` is its local address. */
typedef void acceptor_callback(void *context, int fd, const struct address *peer,
                               const struct address *local, const struct listen_spec *spec);

/* Borrows the listeners. The caller frees it with acceptor_free(). NULL if out of memory. */
struct acceptor *acceptor_new(struct waiter *waiter, const struct gate_listener *listeners,
                              size_t count, acceptor_callback *accepted, void *context);
void acceptor_free(struct acceptor *acceptor);

void acceptor_start(struct acceptor *acceptor);
/* Ends listening: from now on the kernel refuses clients, except at listeners that were handed over, where they
 * wait for the next process. The descriptors stay open, because their owner still uses the numbers. */
void acceptor_end(struct acceptor *acceptor);

#endif
