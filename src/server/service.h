/* server/service.h - what a daemon serves: one immutable snapshot of rules and limits
 *
 * Built from a configuration at start and at every reload; each connection holds a reference to
 * the one it was accepted under, so a reload never touches running sessions. The last unref()
 * calls `destroy`. Thread-safe: only the counter changes.
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
    SERVICE_OVER_CLOSE,    /* 421 and an end */
    SERVICE_OVER_TEMPFAIL, /* a session in which every MAIL gets 451; 421 beyond twice the limit */
};

enum service_listed { /* what a client gets whom blocklists list */
                      SERVICE_LISTED_REJECT,
                      SERVICE_LISTED_TEMPFAIL,
                      SERVICE_LISTED_TARPIT,
};

/* Under stress clients get less time: rules.stress_*, and idle ones `idle_timeout_ms` of this. */
struct service_stress {
    unsigned free_workers;     /* percent; fewer for after_ms are stress */
    unsigned free_connections; /* percent of `connections`; fewer are stress */
    int64_t after_ms;
    int64_t calm_ms; /* without a cause it is over */
    int64_t idle_timeout_ms;
};

struct service {
    atomic_uint references; /* 1 when made */
    struct session_rules rules;
    struct session_rules submission; /* for the listeners marked so; all 0: these get 421 */
    unsigned connections;            /* over all clients; more get 421 */
    struct clients_limits limits;    /* of one client and one network */
    enum service_over over_limit;    /* what they get who are over these */
    const struct cidr_set *allow;    /* no limits, no delay */
    const struct cidr_set *deny;     /* get 554, unless in `allow` */
    bool only_allowed;               /* and so does everybody who is not in `allow` */
    int64_t greet_delay_ms;          /* silence wanted before the banner; 0 = none */
    struct dnsbl *dnsbl;             /* NULL: no blocklist is asked */
    struct resolver *resolver;       /* for it */
    enum service_listed listed;
    int64_t dnsbl_timeout_ms;               /* the verdict is there by then */
    int64_t tarpit_ms;                      /* SERVICE_LISTED_TARPIT: so long before the banner */
    struct service_stress stress;           /* when the gate is under stress */
    unsigned waiting_transactions;          /* clients in a transaction that make us wait; more:
                                               the one nearest to its deadline goes; 0 = no limit */
    int64_t idle_timeout_ms;                /* a waiting connection may stay silent for so long */
    const struct cidr_set *private_clients; /* private addresses served all the same */
    bool refuse_private;                    /* others of address_is_private() get 554 */
    const struct cidr_set *proxy_hosts;     /* may send a PROXY header, on listeners for it */
    int64_t proxy_timeout_ms;               /* for the whole header */
    void (*destroy)(struct service *service);
};

/* Sets what the configuration says to both daemons alike, `part` being the half of the daemon: the rules of
 * all sessions, and the limits of its clients. Borrows all of them. What one daemon has alone is its own to
 * set afterwards. */
void service_configure(struct service *service, const struct config *config,
                       const struct config_daemon *part, struct tls_server *tls,
                       struct counters *counters);

/* REPLY_OK, or why a client of this address is not let in, by lists and by what it is; `allowed`
 * says whether it is on the allow list, or a relay of ours that speaks for many. */
enum own_reply service_judge(const struct service *service, const struct address *client,
                             bool *allowed);

/* Of a listener that is for submission, or of one that is not. */
const struct session_rules *service_rules(const struct service *service, bool submission);

/* References. The last one ends it, by `destroy`. Thread-safe; NULL is fine for service_unref(). */
struct service *service_ref(struct service *service);
void service_unref(struct service *service);

#endif
