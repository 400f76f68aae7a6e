/* net/listener.h - listening sockets: opened by us or handed over by systemd
 *
 * Owns the descriptors it returns until the caller takes them. Used by main() before threads run.
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
    /* The words behind the port, in any order: "[::]:465 tls submission". */
    bool implicit_tls; /* "tls": the handshake comes before the banner */
    bool proxy;        /* "proxy": a PROXY header comes before everything */
    bool submission;   /* "submission": users log in and send to anybody */
};

/* "[::]:25", "127.0.0.1:2525 proxy", "[::]:465 tls". 0, or -1 with what was expected in `err`. */
int listener_parse(struct listen_spec *spec, const char *text, struct error *err);

/* The same text again, its words in one order. Returns `out`. */
#define LISTENER_TEXT_MAX (ADDRESS_TEXT_MAX + 32)
const char *listener_format(const struct listen_spec *spec, char out[LISTENER_TEXT_MAX]);

/* Address, port and all words. */
bool listener_is_same(const struct listen_spec *a, const struct listen_spec *b);

/* socket, SO_REUSEADDR, IP_FREEBIND, dual stack for "::", bind; non-blocking and close-on-exec. It
 * takes connections only after listener_listen(). The descriptor, or -1 with the reason (and, for
 * EACCES and EADDRINUSE, the remedy) in `err`. */
int listener_bind(const struct listen_spec *spec, struct error *err);

/* 0, or -1 with the reason. */
int listener_listen(int fd, const struct listen_spec *spec, struct error *err);

/* Both. */
int listener_open(const struct listen_spec *spec, struct error *err);

/* The address that every connection to the socket has on our side. false when each has its own:
 * the socket is bound to a wildcard address, or takes what is meant for others (IP_TRANSPARENT). */
bool listener_local_address(int fd, struct address *local);

/* Sockets handed over by systemd (LISTEN_PID, LISTEN_FDS; sd_listen_fds(3)): stores up to `max`
 * descriptors, made non-blocking and close-on-exec, and returns their number; 0 when there are
 * none. The variables are removed from the environment. */
size_t listener_inherited(int *fds, size_t max);

/* The handed-over descriptor bound to spec's address and port, taken out of the array (set to -1);
 * -1 when there is none. */
int listener_take(const struct listen_spec *spec, int *fds, size_t count);

#endif
