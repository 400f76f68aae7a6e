/* relay-in/inbound.h - relay-in's snapshot: the rules it serves under and what they point to
 *
 * Which recipients are ours, what is announced, and a courier that runs the same transaction with the
 * backend. Made from a configuration at start and at every reload; a connection holds the one it came
 * under. Owns what it refers to, but for resolver and counters, which are the process's. Immutable once it
 * has its backends: thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_IN_INBOUND_H
#define POSTERN_RELAY_IN_INBOUND_H

#include <stddef.h>

#include "config/config.h"
#include "dns/resolver.h"
#include "net/tls.h"
#include "relay-in/backend.h"
#include "relay-in/domains.h"
#include "server/service.h"

struct inbound {
    struct service service;
    struct config *config;
    struct tls_server *tls;
    struct resolver *resolver; /* the process's */
    struct counters *counters; /* the same */
    struct domains domains;
    struct backend **backends; /* in.backend, then in.backends */
    size_t backend_count;
    struct backend *submission; /* NULL: none */
};

/* All but the backends, which outlive a reload and are the caller's to find. Holds a reference to the
 * configuration, and to `tls` (NULL: none). Ended by service_unref(). NULL with a reason on failure. */
struct inbound *inbound_new(struct config *config, struct tls_server *tls,
                            struct resolver *resolver, struct counters *counters,
                            struct error *err);

/* Gives back `count` backends, and the array. */
void inbound_drop_backends(struct backend **backends, size_t count);

#endif
