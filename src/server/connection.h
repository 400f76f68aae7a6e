/* server/connection.h - the clients' connections: who has them, where they are, how they end
 *
 * The files of the gate and what they may call, each only those below itself:
 *
 *   gate.c             the thread, and what other threads may ask of it
 *   acceptor.c         listening sockets; what it accepts it hands up by a callback
 *   greeting.c         before the banner: PROXY header, blocklists, greet delay
 *   admission.c        who may come in: lists, limits
 *   stress.c           when workers, connections or places at a next hop are getting few
 *   connection.c       on the gate's thread: from the banner on; hand over, take back, close
 *   connection-work.c  on a worker: run the session, give back or end; what both threads need
 *   waiter.c, pool.c, clients.c   know nothing of all this
 *
 * A connection belongs to the gate's thread, but while its stage is CONNECTION_WORKING to the pool,
 * and when its session has ended to the list of those who have, until connections_free_ended(). One that
 * waits costs a struct, and what its session needs to go on.
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

/* Where a connection is. */
enum connection_stage {
    CONNECTION_PROXY,   /* before a load balancer's header */
    CONNECTION_DELAYED, /* before the banner */
    CONNECTION_SILENT,  /* before its first octet */
    CONNECTION_PARKED,  /* between commands */
    CONNECTION_WAITING, /* in the middle of something; its session knows of what */
    CONNECTION_WORKING, /* with the pool */
};

/* What another thread has done to one. */
enum {
    CONNECTION_RETURNED = WAITER_NEWS << 0, /* a worker has given it back */
    CONNECTION_GRANTED = WAITER_NEWS << 1,  /* what its session awaits is there */
    CONNECTION_JUDGED = WAITER_NEWS << 2,   /* blocklists have given their verdict */
};

struct connection {
    struct waiter_item
        item; /* with the descriptor; -1 there, below the lock, before it is closed */
    struct pool_job job;
    struct wakeup wakeup; /* of its session */
    struct connections *all;
    struct connection *next, *previous; /* among all */
    struct connection *next_ended;
    enum connection_stage stage;
    int64_t since_ms;               /* in it */
    struct service *service;        /* a reference */
    const struct listen_spec *spec; /* of the listener; lives as long as the gate */
    struct session *session;        /* from its first octet on */
    enum session_result result;     /* set by the worker */
    struct address client, local;
    struct address peer; /* the other end of the socket: the client, or a load balancer */
    bool counted;        /* among the client's connections */
    bool allowed;        /* on the allow list */
    bool granted;        /* told so since it was handed over last */
    bool holds_next_hop; /* CONNECTION_WAITING: it has begun something there */
    bool is_waited_for;  /* ... and its client makes it wait: counted in waiting_transactions */
    bool wants_slot;     /* ... or it waits for a place there: counted in waiting_slots */
    const struct session_deferral *deferral; /* may talk, but not send; NULL: it may */
    struct session_deferral *own_deferral;   /* it is this one; owned */
    /* Of the greeting. */
    struct reverse_lookup *names;  /* of the client, until there is a session */
    struct dnsbl_check *check;     /* under way or done */
    struct dnsbl_verdict *verdict; /* from the resolver's thread, behind CONNECTION_JUDGED; owned */
    bool awaits_verdict;           /* no greeting before it, or long after its time */
    int64_t greet_ms;              /* when the banner is due */
    /* What the greeting does for a session whose client XCLIENT names; it sets them. */
    void (*readmit)(struct connection *connection);
    void (*judged)(struct connection *connection);
    uint32_t proxy_left; /* octets of its PROXY header that are still to be read away */
    bool proxy_local;    /* which says that it speaks for itself */
};

/* Refusals of one kind, logged once a second at most. */
struct refusals {
    int64_t logged_ms;
    unsigned unlogged;
};

/* Read by other threads. */
struct connection_counters {
    atomic_ullong accepted, refused_limit, refused_client, refused_listed, refused_dnsbl,
        refused_private, refused_proxy, early_talkers, idle_dropped, evicted, stresses;
};

/* All of a gate's, and what they share. The gate's thread's but for what is atomic. */
struct connections {
    struct waiter *waiter;
    struct pool *pool; /* NULL: at the end of all */
    struct clients *clients;
    struct session_signals signals;
    struct connection_counters counters;
    struct connection *first;
    unsigned workers;
    unsigned waiting_transactions, waiting_slots;
    struct refusals busy, strangers;
    bool cut; /* a drain's time is over: whoever is still there is hung up on */
    atomic_uint count;
    atomic_uint working; /* changes below the lock */
    struct lock lock;
    struct connection *ended; /* below it */
};

/* connection.c */

/* An accepted socket becomes a connection at CONNECTION_PROXY, which is to be begun by
 * greeting_begin(). NULL when out of memory: then it has been refused. */
struct connection *connection_open(struct connections *all, int fd, const struct address *peer,
                                   const struct address *local, const struct listen_spec *spec,
                                   struct service *service);
/* The stage in which it now is, since now, and when its time there is over. */
void connection_enter(struct connection *connection, enum connection_stage stage, int64_t due_ms);
/* Waits for its first octet. */
void connection_await_first(struct connection *connection);
/* To be told once of what can be read. */
void connection_listen(struct connection *connection);
/* To a worker. */
void connection_hand_over(struct connection *connection);

/* The end of one that no worker has: without a word, with this reply, with one of ours. */
void connection_close(struct connection *connection);
void connection_turn_away(struct connection *connection, const struct reply *reply);
void connection_dismiss(struct connection *connection, enum own_reply why);
/* The end of a socket that never became one. */
void connection_refuse(int fd, const struct listen_spec *spec, enum own_reply why);
void connection_log_limit(struct refusals *refusals, const struct address *client,
                          const char *event);

/* Stress has set in: who waits has no longer than this. */
void connections_shorten_waits(struct connections *all, int64_t most_ms);
/* What has begun may come to its end. */
void connections_dismiss_idle(struct connections *all, enum own_reply why);
/* Whatever no worker has. */
void connections_dismiss_all(struct connections *all);
/* Who is still at work or in a transaction is hung up on; workers notice. */
void connections_cut(struct connections *all);

/* connection-work.c */

/* A short text is tried once: whoever does not take it from an empty socket buffer does without. */
bool connection_say(int fd, const char *text, size_t len);
void connection_say_own(int fd, enum own_reply which);

/* The pool's job. */
void connection_work(struct pool_job *job, void *scratch);
/* A session's wakeup. */
void connection_grant(struct wakeup *wakeup);
/* Lets go of everything that it holds, in one order; whoever has it may. Its memory, and its place
 * among all and with its client, stay for the gate's thread. */
void connection_release(struct connection *connection);
void connections_count_working(struct connections *all, int change);
/* Those that have ended no longer count for their clients, and are freed. */
void connections_free_ended(struct connections *all);
/* The last of one that was released. */
void connection_forget(struct connection *connection);

#endif
