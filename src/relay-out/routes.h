/* relay-out/routes.h - from a recipient's domain to what happens with its mail
 *
 * Made from the configuration once; then only read: thread-safe. In this order:
 *   1. domains that relay-in takes mail for (in.domains, in.backends) go to their backend;
 *   2. out.routes, the most exact pattern: the domain itself, then the longest ".suffix", then "*";
 *   3. where that names no next hop, out.default_route;
 *   4. where there is none, the MX hosts of the domain.
 * It knows nothing of the DNS. Owns the routes and the passwords in them; borrows from the
 * configuration, which must outlive it.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_ROUTES_H
#define POSTERN_RELAY_OUT_ROUTES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "config/config.h"
#include "net/endpoint.h"
#include "net/proxy.h"
#include "smtp/path.h"

#define ROUTE_KEY_MAX 300
#define ROUTE_PASSWORD_MAX 4096 /* a line of AUTH takes three times that (RFC 4954 4) */

struct route {
    bool denied;
    size_t hop_count; /* 0: the MX hosts of the domain */
    struct endpoint hops[CONFIG_HOSTS_MAX];
    enum proxy_version proxy;      /* 0, or the next hops want a PROXY header first */
    enum config_out_tls tls;       /* CONFIG_OUT_TLS_DEFAULT: as the whole configuration has it */
    enum config_family family;     /* never DEFAULT */
    unsigned connections;          /* to one destination at one time */
    unsigned rate;                 /* messages to one destination a minute; 0: no limit */
    const char *tls_name;          /* "" = the next hop's */
    struct tls_client *tls_client; /* NULL: the configuration's */
    const char *user;              /* "" = no log-in; only with next hops of its own */
    char *password;                /* NULL without a user */
    char name[32];                 /* for keys and logs */
};

struct routes;

/* NULL with a reason: a password cannot be read, out of memory. */
struct routes *routes_new(const struct config *config, struct error *err);
void routes_free(struct routes *routes);

/* Never NULL. Any case. */
const struct route *routes_find(const struct routes *routes, const char *domain);

/* Where a notice to a sender of this domain goes: by out.bounce_route, else as any other mail for it:
 * our own mail server would refuse what is for strangers. */
const struct route *routes_bounce(const struct routes *routes, const char *domain);

/* Where mail goes that has no next hops and that no MX host has taken, and none has refused for
 * good; NULL: nowhere. */
const struct route *routes_fallback(const struct routes *routes);

/* Mail for the same destination goes in the same transaction and by the same connections: the
 * route's next hops or, without any, the domain's. Returns `out`. */
const char *route_key(const struct route *route, const char *domain, char out[ROUTE_KEY_MAX]);

/* Where <postmaster> without a domain belongs; NULL when nowhere. */
const char *routes_own_domain(const struct routes *routes);

/* Is it one of relay-in's? */
bool routes_is_own(const struct routes *routes, const char *domain);

#endif
