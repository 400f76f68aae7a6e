/* net/listener.h - listening sockets: opened by us or handed over by systemd
 *
 * The caller owns the descriptors that it gets. Used by main() before threads run.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_LISTENER_H
#define POSTERN_NET_LISTENER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"
#include "base/error.h"

#define LISTENER_BACKLOG 1024
#define LISTENERS_MAX 16

struct listen_spec {
    struct address address;
    /* The words after the port, in any order: "[::]:465 tls submission". */
    bool implicit_tls; /* "tls": the handshake comes before the banner */
    bool proxy;        /* "proxy": a PROXY header comes before everything else */
    bool submission;   /* "submission": users log in and send to anybody */
};

/* Parses "[::]:25", "127.0.0.1:2525 proxy", "[::]:465 tls". Returns 0, or -1 with what was expected in
 * `err`. */
int listener_parse(struct listen_spec *spec, const char *text, struct error *err);

/* Writes the spec as text, with the words in a fixed order. Returns `out`. */
#define LISTENER_TEXT_MAX (ADDRESS_TEXT_MAX + 32)
const char *listener_format(const struct listen_spec *spec, char out[LISTENER_TEXT_MAX]);

/* Makes and binds a socket with SO_REUSEADDR and IP_FREEBIND, dual stack for "::", non-blocking and
 * close-on-exec. It accepts no connection before listener_listen(). Returns the descriptor, or -1
 * with the reason in `err` (and, for EACCES and EADDRINUSE, the remedy). */
int listener_bind(const struct listen_spec *spec, struct error *err);

/* Calls listen(2). Returns 0, or -1 with the reason in `err`. */
int listener_listen(int fd, const struct listen_spec *spec, struct error *err);

/* listener_bind() and listener_listen() in one. */
int listener_open(const struct listen_spec *spec, struct error *err);

/* Stores the local address of all connections to the socket. False if it differs between them: the
 * socket is bound to a wildcard address, or accepts connections for other addresses
 * (IP_TRANSPARENT). */
bool listener_local_address(int fd, struct address *local);

/* Takes the sockets passed by systemd (LISTEN_PID, LISTEN_FDS; sd_listen_fds(3)). Stores up to `max`
 * descriptors, makes them non-blocking and close-on-exec, and returns their number, possibly 0.
 * Removes the variables from the environment. */
size_t listener_inherited(int *fds, size_t max);

/* Takes the inherited descriptor that is bound to the spec's address and port out of the array, where
 * it becomes -1. Returns -1 if there is none. */
int listener_take(const struct listen_spec *spec, int *fds, size_t count);

#endif
