/* server/service.h - what a daemon serves: one immutable snapshot of rules and limits
 *
 * Built from a configuration at the start and at every reload. Each connection holds a reference to the
 * snapshot it was accepted under, so a reload never touches running sessions. The last service_unref()
 * calls `destroy`. Thread-safe: only the reference counter changes.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_SERVICE_H
#define POSTERN_SERVER_SERVICE_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/cidr.h"
#include "config/config.h"
#include "server/clients.h"
#include "server/dnsbl.h"
#include "smtp/session.h"

enum service_over {
    SERVICE_OVER_CLOSE,    /* 421, and close */
    SERVICE_OVER_TEMPFAIL, /* a session in which every MAIL gets 451; 421 beyond twice the limit */
};

enum service_listed { /* what happens to a client on a blocklist */
                      SERVICE_LISTED_REJECT,
                      SERVICE_LISTED_TEMPFAIL,
                      SERVICE_LISTED_TARPIT,
};

/* Under stress clients get less time: rules.stress_*, and idle ones the `idle_timeout_ms` here. */
struct service_stress {
    unsigned free_workers;     /* percent; fewer for after_ms mean stress */
    unsigned free_connections; /* percent of `connections`; fewer mean stress */
    int64_t after_ms;
    int64_t calm_ms; /* time without a cause after which stress ends */
    int64_t idle_timeout_ms;
};

struct service {
    atomic_uint references; /* 1 when made */
    struct session_rules rules;
    struct session_rules submission; /* for "submission" listeners; all 0: those reply 421 */
    unsigned connections;            /* of all clients; more get 421 */
    struct clients_limits limits;    /* of one client and one network */
    enum service_over over_limit;    /* what a client over these limits gets */
    const struct cidr_set *allow;    /* no limits, no delay */
    const struct cidr_set *deny;     /* get 554, unless in `allow` */
    bool only_allowed;               /* so does every client that is not in `allow` */
    int64_t greet_delay_ms;          /* silence required before the banner; 0 = none */
    struct dnsbl *dnsbl;             /* NULL: no blocklist is asked */
    struct resolver *resolver;       /* for the blocklists */
    enum service_listed listed;
    int64_t dnsbl_timeout_ms;               /* the verdict comes within this time */
    int64_t tarpit_ms;                      /* SERVICE_LISTED_TARPIT: delay of the banner */
    struct service_stress stress;           /* when the gate is under stress */
    unsigned waiting_transactions;          /* most clients that may be slow in mid-transaction;
                                               beyond it the slowest is cut; 0 = no limit */
    int64_t idle_timeout_ms;                /* how long a waiting connection may stay silent */
    const struct cidr_set *private_clients; /* private addresses that are served anyway */
    bool refuse_private;                    /* other private addresses get 554 */
    const struct cidr_set *proxy_hosts;     /* may send a PROXY header, on "proxy" listeners */
    int64_t proxy_timeout_ms;               /* for the whole header */
    void (*destroy)(struct service *service);
};

/* Sets what both daemons configure alike: the rules of all sessions and the limits of clients. `part` is the
 * daemon's half of the configuration. Borrows all arguments. The daemon then sets what only it has. */
void service_configure(struct service *service, const struct config *config,
                       const struct config_daemon *part, struct tls_server *tls,
                       struct counters *counters);

/* Returns REPLY_OK, or why a client with this address is not admitted, by lists and by kind of address. *allowed:
 * it is on the allow list, or it is one of our relays, which speaks for many clients. */
enum own_reply service_judge(const struct service *service, const struct address *client,
                             bool *allowed);

/* The rules for a listener, for submission or not. */
const struct session_rules *service_rules(const struct service *service, bool submission);

/* References. The last one ends it, by `destroy`. Thread-safe; NULL is fine for service_unref(). */
struct service *service_ref(struct service *service);
void service_unref(struct service *service);

#endif
