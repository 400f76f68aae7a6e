/* relay-out/routes.h - decides from a recipient's domain where the mail goes
 *
 * Made from the configuration once, then only read: thread-safe. In this order:
 *   1. domains for which relay-in takes mail (in.domains, in.backends) go to their backend;
 *   2. out.routes, the most specific pattern: the domain itself, then the longest ".suffix", then "*";
 *   3. if that names no next hop, out.default_route;
 *   4. if there is none, the MX hosts of the domain.
 * Does not use the DNS. Owns the routes and the passwords in them; borrows from the
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
#define ROUTE_PASSWORD_MAX 4096 /* an AUTH line may be three times as long (RFC 4954 4) */

struct route {
    bool denied;
    size_t hop_count; /* 0: the MX hosts of the domain */
    struct endpoint hops[CONFIG_HOSTS_MAX];
    enum proxy_version proxy;      /* 0, or the next hops want a PROXY header first */
    enum config_out_tls tls;       /* CONFIG_OUT_TLS_DEFAULT: as set for the whole configuration */
    enum config_family family;     /* never DEFAULT */
    unsigned connections;          /* to one destination at one time */
    unsigned rate;                 /* messages to one destination a minute; 0: no limit */
    const char *tls_name;          /* "" = the next hop's */
    struct tls_client *tls_client; /* NULL: the configuration's */
    const char *user;              /* "" = no login; only if the route has next hops */
    char *password;                /* NULL without a user */
    char name[32];                 /* for keys and logs */
};

struct routes;

/* NULL with a reason: a password cannot be read, out of memory. */
struct routes *routes_new(const struct config *config, struct error *err);
void routes_free(struct routes *routes);

/* Never NULL. `domain` may be in any case. */
const struct route *routes_find(const struct routes *routes, const char *domain);

/* The route for a notice to a sender in this domain: out.bounce_route, else the same as for any other
 * mail, because our own mail server would refuse mail for foreign domains. Never denied: a domain that gets
 * no mail may still send some. */
const struct route *routes_bounce(const struct routes *routes, const char *domain);

/* The route for mail that no other is for: the default route, or one without next hops. */
const struct route *routes_default(const struct routes *routes);

/* The route for mail without next hops that no MX host has taken and none has refused for good;
 * NULL: none. */
const struct route *routes_fallback(const struct routes *routes);

/* The key of a destination: mail with the same key shares transactions and connections. It stands for
 * the route's next hops or, if it has none, the domain's. Returns `out`. */
const char *route_key(const struct route *route, const char *domain, char out[ROUTE_KEY_MAX]);

/* The domain that <postmaster> without a domain belongs to; NULL if there is none. */
const char *routes_own_domain(const struct routes *routes);

/* Is this one of relay-in's domains? */
bool routes_is_own(const struct routes *routes, const char *domain);

#endif
