/* server/connection.h - the clients' connections: their owners, their stages, their ends
 *
 * The files of the gate. Each may only call those below it:
 *
 *   gate.c             the thread, and what other threads may ask it
 *   acceptor.c         listening sockets; passes connections up through a callback
 *   greeting.c         before the banner: PROXY header, blocklists, greet delay
 *   admission.c        which clients are admitted: lists, limits
 *   stress.c           what happens when few workers, connections or places at a next hop are left
 *   connection.c       on the gate's thread, from the banner on: hand over, take back, close
 *   connection-work.c  on a worker: run the session, give back or end; what both threads need
 *   waiter.c, pool.c, clients.c   know nothing of all this
 *
 * A connection belongs to the gate's thread; to the pool while its stage is CONNECTION_WORKING; and, once its
 * session has ended, to the list of ended ones until connections_free_ended(). A waiting connection costs a
 * struct and what its session needs to continue.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_CONNECTION_H
#define POSTERN_SERVER_CONNECTION_H

#include <stdatomic.h>

#include "base/lock.h"
#include "net/listener.h"
#include "server/clients.h"
#include "server/pool.h"
#include "server/service.h"
#include "server/waiter.h"

/* The stage of a connection. */
enum connection_stage {
    CONNECTION_PROXY,   /* before a load balancer's header */
    CONNECTION_DELAYED, /* before the banner */
    CONNECTION_SILENT,  /* before its first octet */
    CONNECTION_PARKED,  /* between commands */
    CONNECTION_WAITING, /* in the middle of something; its session knows what it waits for */
    CONNECTION_WORKING, /* with the pool */
};

/* What another thread has done to a connection. */
enum {
    CONNECTION_RETURNED = WAITER_NEWS << 0, /* a worker has given it back */
    CONNECTION_GRANTED = WAITER_NEWS << 1,  /* its session got what it waits for */
    CONNECTION_JUDGED = WAITER_NEWS << 2,   /* the verdict of the blocklists is there */
};

struct connection {
    struct waiter_item
        item; /* has the descriptor, which becomes -1, under the lock, before it is closed */
    struct pool_job job;
    struct wakeup wakeup; /* of its session */
    struct connections *all;
    struct connection *next, *previous; /* among all */
    struct connection *next_ended;
    enum connection_stage stage;
    int64_t since_ms;               /* since when it is in this stage */
    struct service *service;        /* a reference */
    const struct listen_spec *spec; /* of the listener; lives as long as the gate */
    struct session *session;        /* from its first octet on; owned */
    enum session_result result;     /* set by the worker */
    struct address client, local;
    struct address peer; /* the other end of the socket: the client, or a load balancer */
    bool counted;        /* among the client's connections */
    bool allowed;        /* on the allow list */
    bool granted;        /* has been granted since it was last handed over */
    bool holds_next_hop; /* CONNECTION_WAITING: it has begun something there */
    bool is_waited_for;  /* ... and its client makes it wait: counted in waiting_transactions */
    bool wants_slot;     /* ... or it waits for a place there: counted in waiting_slots */
    const struct session_deferral *deferral; /* it may talk but not send; NULL: it may send */
    struct session_deferral *own_deferral;   /* the deferral, if it owns one */
    /* For the greeting. */
    struct reverse_lookup *names;  /* of the client, until there is a session */
    struct dnsbl_check *check;     /* running or done */
    struct dnsbl_verdict *verdict; /* from the resolver's thread, with CONNECTION_JUDGED; owned */
    bool awaits_verdict;           /* the greeting waits for it, within limits */
    int64_t greet_ms;              /* when the banner is due */
    /* Set by the greeting: how to check a client that XCLIENT names. */
    void (*readmit)(struct connection *connection);
    void (*judged)(struct connection *connection);
    uint32_t proxy_left; /* octets of its PROXY header still to be read and discarded */
    bool proxy_local;    /* the header says that the load balancer speaks for itself */
};

/* Refusals of one kind, logged at most once a second. */
struct refusals {
    int64_t logged_ms;
    unsigned unlogged;
};

/* All connections of a gate, and what they share. Only the gate's thread uses it, except for what is atomic or
 * under the lock. */
struct connections {
    struct waiter *waiter;
    struct pool *pool; /* NULL: at the very end */
    struct clients *clients;
    struct session_signals signals;
    struct counters *counters; /* borrowed; NULL: nothing is counted */
    struct connection *first;
    unsigned workers;
    unsigned waiting_transactions, waiting_slots;
    struct refusals busy, strangers;
    bool cut; /* the time of a drain is over: hang up on all that are left */
    atomic_ullong accepted; /* since the start */
    atomic_uint count;
    atomic_uint greeting; /* of these, those up to CONNECTION_SILENT */
    atomic_uint working;  /* changes under the lock */
    struct lock lock;
    struct connection *ended; /* under the lock */
};

/* connection.c */

/* Makes a connection at CONNECTION_PROXY from an accepted socket, whose descriptor it owns. The caller starts it
 * with greeting_begin(). NULL if out of memory; the socket has then been refused and closed. */
struct connection *connection_open(struct connections *all, int fd, const struct address *peer,
                                   const struct address *local, const struct listen_spec *spec,
                                   struct service *service);
/* Moves it to a stage now; `due_ms` is when its time there is over. */
void connection_enter(struct connection *connection, enum connection_stage stage, int64_t due_ms);
/* Waits for its first octet. */
void connection_await_first(struct connection *connection);
/* Watches once for input. */
void connection_listen(struct connection *connection);
/* Hands it to a worker. */
void connection_hand_over(struct connection *connection);

/* End a connection that no worker has: without a reply, with this reply, or with one of ours. */
void connection_close(struct connection *connection);
void connection_turn_away(struct connection *connection, const struct reply *reply);
void connection_dismiss(struct connection *connection, enum own_reply why);
/* Refuses and closes a socket that never became a connection. */
void connection_refuse(struct connections *all, int fd, const struct address *peer,
                       const struct listen_spec *spec, enum own_reply why);
/* Counts the end of a connection from this client, in this row or in that for IPv6. */
void connections_count_ended(struct connections *all, const struct address *client,
                             enum counter ipv4_row);
void connection_log_limit(struct refusals *refusals, const struct address *client,
                          const char *event);

/* Under stress: limits all current waits to this time. */
void connections_shorten_waits(struct connections *all, int64_t most_ms);
/* Dismisses idle connections. Transactions may finish. */
void connections_dismiss_idle(struct connections *all, enum own_reply why);
/* Dismisses all connections that no worker has. */
void connections_dismiss_all(struct connections *all);
/* Hangs up on all that are still working or in a transaction; workers notice. */
void connections_cut(struct connections *all);

/* connection-work.c */

/* Tries once to send a short text. It fits an empty socket buffer, so a client that cannot take it goes
 * without. */
bool connection_say(int fd, const char *text, size_t len);
void connection_say_own(int fd, enum own_reply which);

/* The pool's job. */
void connection_work(struct pool_job *job, void *scratch);
/* A session's wakeup. */
void connection_grant(struct wakeup *wakeup);
/* Releases everything that it holds, in a fixed order. Called by the thread that has it. Its memory, its place in
 * the list and its client's count are left to the gate's thread. */
void connection_release(struct connection *connection);
void connections_count_working(struct connections *all, int change);
/* Uncounts and frees the connections that have ended. */
void connections_free_ended(struct connections *all);
/* Frees a connection that was released. */
void connection_forget(struct connection *connection);

#endif
