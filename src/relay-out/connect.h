/* relay-out/connect.h - from a destination to a connection on which MAIL can follow
 *
 * A connection that was kept, or: DNS, and one address after the other (relay-out/attempt.h): connect,
 * greeting, EHLO, TLS as the policy wants it, EHLO, log-in. On a failure at any of these steps the next address or host is
 * tried (RFC 5321 5.1), within one deadline; those that are known to be dead are passed over. When
 * the transaction then gets no final answer, connect_next() asks the host that comes next. Everything
 * that goes wrong is logged here.
 *
 *   what goes wrong                                    what the recipient's reply is
 *   the DNS                                            dns/mx.h
 *   every next hop is this host                        554 5.4.6
 *   all connections of the destination are in use      451 4.3.2
 *   no host answers, or greets or hears EHLO as it     451 4.4.1 with the last host's reason
 *   should
 *   TLS is needed and not to be had, or the host is    451 4.7.4, 451 4.7.5
 *   not what DANE or MTA-STS has it to be
 *   REQUIRETLS is wanted, and nothing proves a host    550 5.7.30
 *   a smarthost does not accept our log-in             451 4.7.8
 *
 * A struct connect is its owner's and owns the hosts that it found; the connection goes to `remote`. Used by
 * one thread at a time.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_CONNECT_H
#define POSTERN_RELAY_OUT_CONNECT_H

#include "relay-out/hosts.h"
#include "relay-out/outbound.h"
#include "relay-out/security.h"

struct connect {
    /* The caller's to fill, the rest being zero. */
    const struct outbound *out;
    const struct route *route;
    const char *domain;  /* the recipient's */
    const char *session; /* for logs */
    bool require_tls;    /* REQUIRETLS (RFC 8689 4.2.1): a proven host, or none */
    bool tls_optional;   /* what is published does not count (RFC 8689 5) */
    struct stream_buffers *buffers;
    struct deadline deadline; /* of connect_make() or connect_next() */
    struct remote *remote;    /* filled: the caller's, to be kept or ended */
    struct reply *reply;      /* filled on failure */
    bool busy; /* set on failure, when all the destination's connections are in use */
    struct host_cache_claim
        *claim;     /* the place and the turn, or none is waited for; NULL: connect_make() waits */
    bool postpones; /* neither is waited for: connect_make() fails */
    int64_t postponed_ms; /* set then: for so long there is none */
    /* Its own. */
    struct talk talk;
    char key[ROUTE_KEY_MAX];
    struct hosts hosts;       /* none before they were looked up */
    struct security security; /* the same */
    unsigned attempts;
    bool met; /* a host has been spoken with as it should be */
};

/* 0, or -1 with nothing left open. connect_clear() in any case. */
int connect_make(struct connect *connect);

/* The host gave no final answer and has accepted nothing: makes a connection to one that was not asked
 * yet, and then ends the one that there is, if it is `connected`. -1: there is no such host, and the
 * reply, the remote and its connection are as before. */
int connect_next(struct connect *connect, bool connected);

/* The same where the connection was kept from before, which says nothing of its host: any that was not
 * asked over a fresh one. */
int connect_renew(struct connect *connect, bool connected);

/* The host did not take a message just now, and there is no asking another one in the same breath: next
 * time others of the destination go first. */
void connect_defer(const struct connect *connect, const char *reason);

/* Frees what it found. Not the connection. */
void connect_clear(struct connect *connect);

/* Ends its connection in good order, or at once, and gives its place back. */
void connect_end(struct connect *connect, bool orderly);
/* The connection is closed, or the caller's business: its place is given back, or is no more its own. */
void connect_leave(struct connect *connect);
void connect_keep(struct connect *connect);

#endif
