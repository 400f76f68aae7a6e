/* relay-out/connect.h - from a destination to a connection on which MAIL can follow
 *
 * Either a kept connection, or DNS and then one address after another (relay-out/attempt.h): connect,
 * greeting, EHLO, TLS as the policy requires, EHLO, login. If a step fails, the next address or host is
 * tried (RFC 5321 5.1), within one deadline; hosts known to be dead are skipped. If the transaction
 * then gets no final answer, connect_next() moves on to the next host. All failures are logged here.
 *
 *   failure                                            the recipient's reply
 *   the DNS                                            dns/mx.h
 *   every next hop is this host                        554 5.4.6
 *   all connections of the destination are in use      451 4.3.2
 *   no host answers, or its answer to the connection   451 4.4.1 with the last host's reason
 *   or to EHLO is bad
 *   TLS is required but not available, or the host     451 4.7.4, 451 4.7.5
 *   does not match DANE or MTA-STS
 *   REQUIRETLS was asked for, and no host is proven    550 5.7.30
 *   and offers it
 *   a smarthost does not accept our login              451 4.7.8
 *
 * The caller owns the struct connect, which owns the hosts it found; the connection goes to `remote`.
 * Used by one thread at a time.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_CONNECT_H
#define POSTERN_RELAY_OUT_CONNECT_H

#include "relay-out/hosts.h"
#include "relay-out/outbound.h"
#include "relay-out/security.h"

struct connect {
    /* The caller fills these; the rest must be zero. */
    const struct outbound *out;
    const struct route *route;
    const char *domain;  /* the recipient's */
    char key[ROUTE_KEY_MAX]; /* of the destination */
    const char *session; /* for logs */
    bool require_tls;    /* REQUIRETLS (RFC 8689 4.2.1): only a proven host will do */
    bool tls_optional;   /* published policies are ignored (RFC 8689 5) */
    struct stream_buffers *buffers;
    struct deadline deadline; /* of connect_make() or connect_next() */
    struct remote *remote;    /* filled; the caller keeps or ends it */
    struct reply *reply;      /* filled on failure */
    bool breaks_off; /* connect_next() and connect_renew() end the existing connection without QUIT: DATA was sent */
    bool busy; /* set on failure, when all the destination's connections are in use */
    struct host_cache_claim
        *claim;           /* holds the place and the turn; NULL: connect_make() waits for them */
    bool postpones;       /* do not wait for either: connect_make() fails instead */
    int64_t postponed_ms; /* set in that case: how long none will be available */
    /* Private. */
    struct talk talk;
    struct hosts hosts;       /* empty before the lookup */
    struct security security; /* the same */
    unsigned attempts;
    bool met;  /* a host has answered properly */
    bool open; /* a host that may take the message later could not be asked */
};

/* 0, or -1 with nothing left open. Call connect_clear() in either case. */
int connect_make(struct connect *connect);

/* For a host that gave no final answer and has accepted nothing: connects to a host not asked yet, then
 * ends the existing connection if it is still `connected`. -1: there is no such host; the reply, the
 * remote and its connection are unchanged. */
int connect_next(struct connect *connect, bool connected);

/* The same for a kept connection. Its failure says nothing about its host, so that any host may be
 * chosen that was not asked over a new connection. If it was lost, the caller has kept its place, and gives it
 * back on failure; the reply then says why there is no new connection. */
int connect_renew(struct connect *connect, bool connected);

/* The host did not take a message just now, and no other can be asked right away: next time, the
 * destination's other hosts go first. */
void connect_defer(const struct connect *connect, const char *reason);

/* Frees the hosts found, but not the connection. */
void connect_clear(struct connect *connect);

/* Ends the connection, with QUIT if `orderly`, and gives its place back. */
void connect_end(struct connect *connect, bool orderly);
/* Gives the place back, unless it is no longer ours. The connection is already closed, or the caller
 * takes care of it. */
void connect_leave(struct connect *connect);
void connect_keep(struct connect *connect);

#endif
