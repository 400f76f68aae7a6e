/* relay-out/outbound.h - relay-out's snapshot: the rules it serves under and what they point to
 *
 * Made from a configuration at start and at every reload. A connection holds the snapshot under which it
 * arrived, so that its courier and targets may borrow it. The host cache and the resolver belong to the
 * process and outlive all snapshots. Immutable, so thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_OUTBOUND_H
#define POSTERN_RELAY_OUT_OUTBOUND_H

#include "config/config.h"
#include "dns/mx.h"
#include "dns/resolver.h"
#include "net/tls.h"
#include "relay-out/own-addresses.h"
#include "relay-out/host-cache.h"
#include "relay-out/routes.h"
#include "relay-out/talks.h"
#include "relay-out/users.h"
#include "server/service.h"

struct spooler;
struct refusal;
struct stscache;
struct tlscounts;

struct outbound {
    struct service service;
    struct config *config;         /* a reference */
    struct tls_server *tls;        /* a reference; NULL: no STARTTLS for clients */
    struct tls_client *tls_any;    /* any certificate will do */
    struct tls_client *tls_verify; /* against the system's CAs, or the configured ones */
    struct own_addresses ours;
    struct mx_options mx; /* points into `ours` */
    struct routes *routes;
    struct users *users; /* NULL: nobody can log in */
    uint64_t generation; /* different for each snapshot */
    /* Owned by the process. */
    struct host_cache *host_cache;
    struct resolver *resolver;
    struct stscache *stscache;   /* NULL: no MTA-STS */
    struct tlscounts *tlscounts; /* NULL: nothing is counted */
    struct counters *counters;
    struct refusal *refusal;
    struct talks *talks;     /* NULL: nothing is listed */
    struct spooler *spooler; /* NULL: nothing can be stored */
};

/* Fills all but the service, the TLS for clients, the spooler, policies and counts, which the caller
 * fills. Takes a reference to the configuration. NULL with a reason. */
struct outbound *outbound_new(struct config *config, struct host_cache *host_cache,
                              struct resolver *resolver, struct error *err);
void outbound_free(struct outbound *out);

/* The same family in the terms of dns/mx; `family` is never DEFAULT. */
enum mx_family outbound_family(enum config_family family);

/* The name for EHLO. */
const char *outbound_hello(const struct outbound *out);

#endif
