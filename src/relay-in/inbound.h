/* relay-in/inbound.h - relay-in's snapshot: its rules and what they refer to
 *
 * Decides which recipients are ours and what is announced, and makes the courier that runs the same
 * transaction with the backend. Made from a configuration at the start and at every reload; a connection
 * holds the snapshot it was accepted under. Owns what it refers to, except for resolver and counters, which
 * belong to the process. Immutable once it has its backends, so thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_IN_INBOUND_H
#define POSTERN_RELAY_IN_INBOUND_H

#include <stddef.h>

#include "config/config.h"
#include "config/domains.h"
#include "dns/resolver.h"
#include "net/tls.h"
#include "relay-in/backend.h"
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

/* Makes everything except the backends, which outlive a reload and which the caller supplies. Takes references to the
 * configuration and to `tls` (NULL: none). Dropped by service_unref(). NULL with a reason on failure. */
struct inbound *inbound_new(struct config *config, struct tls_server *tls,
                            struct resolver *resolver, struct counters *counters,
                            struct error *err);

#endif
