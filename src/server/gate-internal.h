/* server/gate-internal.h - the gate's connections, for the files that make it up
 *
 *   gate.c             the thread: events, time, commands from other threads
 *   gate-admit.c       who may come in: load balancers, lists, limits
 *   gate-proxy.c       a load balancer's PROXY header
 *   gate-dnsbl.c       what blocklists say of a client
 *   gate-stress.c      when workers or connections are getting few
 *   gate-connection.c  what happens to one connection: greet, hand over, park, dismiss
 *   gate-work.c        what workers do with one, and how it comes back
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_GATE_INTERNAL_H
#define POSTERN_SERVER_GATE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/clients.h"
#include "server/gate.h"
#include "server/pool.h"

/* Where a connection is; each place is a list, those that wait for a time in the order in which
 * they are due. */
enum place {
    PLACE_PROXY,   /* before a load balancer's header */
    PLACE_DELAYED, /* before the banner */
    PLACE_SILENT,  /* before the first octet */
    PLACE_PARKED,  /* between commands */
    PLACE_WAITING, /* in the middle of something; has a time of its own */
    PLACE_WORKING, /* with the pool */
    PLACES
};

/* What epoll(7) hands back: the first member of all it watches. */
enum source { SOURCE_WAKE, SOURCE_LISTENER, SOURCE_CONNECTION };

struct connection {
    enum source source;
    struct pool_job job;
    struct wakeup wakeup;          /* of its session: what it awaits is granted */
    struct connection *next_woken; /* below the gate's lock */
    bool woken;                    /* it stands in that list */
    bool granted;                  /* so it has been said since it was last at rest */
    struct reverse_lookup *names;  /* of the client, until there is a session */
    enum place place;
    struct connection *previous, *next; /* in its place */
    struct connection *next_returned;   /* or ended, or dead */
    struct gate *gate;
    struct service *service;        /* a reference */
    struct session *session;        /* from its first octet on */
    int fd;                         /* closed by who has the connection; -1, below the gate's
                                       lock, before a worker closes it */
    const struct listen_spec *spec; /* of the listener; lives as long as the gate */
    bool counted;                   /* among the client's connections */
    bool allowed;                   /* on the allow list */
    const struct session_bar *bar;  /* may talk, but not send; NULL: it may */
    struct session_bar *own_bar;    /* it is this one; owned */
    struct dnsbl_check *check;      /* under way or done; ended by gate_end_check() */
    struct dnsbl_verdict *verdict;  /* from the resolver's thread, below the gate's lock; owned */
    bool awaited;                   /* no greeting before the verdict, or long after its time */
    bool holds_next_hop;            /* a waiting one: it has begun something */
    bool is_waited_for;             /* ... and its client makes it wait: counted, too */
    bool wants_slot;                /* a waiting one: counted in waiting_slots */
    enum session_result result;     /* set by the worker */
    struct address client, local;
    struct address peer; /* the other end of the socket: the client, or a load balancer */
    uint32_t proxy_left; /* octets of its PROXY header that are still to be read away */
    bool proxy_local;    /* which says that it speaks for itself */
    int64_t since_ms;    /* when it came to its place */
    int64_t due_ms;      /* PLACE_DELAYED, PLACE_WAITING */
};

struct listener {
    enum source source;
    struct gate_listener given;
    bool has_local;
    struct address local; /* of all its connections */
    uint64_t ready_round; /* of the gate's rounds, when somebody waited there last */
};

struct place_list {
    struct connection *first, *last;
};

/* Refusals of one kind, logged once a second at most. */
struct refusals {
    int64_t logged_ms;
    unsigned unlogged;
};

struct gate {
    int epoll_fd;
    int wake_fd;      /* eventfd: something below `lock` has changed; only its edges count */
    enum source wake; /* SOURCE_WAKE, for epoll */
    struct listener listeners[LISTENERS_MAX];
    size_t listener_count;
    uint64_t round; /* one epoll_wait(2) and what follows */
    bool accepting;
    int64_t pause_until_ms; /* out of descriptors: no accept(2) before */
    struct pool *pool;
    struct clients *clients;
    struct service *service; /* for new connections; the gate thread's */
    struct place_list places[PLACES];
    struct connection *dead; /* ended and counted off; events may still point to them */
    struct refusals busy, strangers;
    int64_t exhausted_logged_ms; /* when running out of descriptors was last said */
    struct session_signals signals;
    unsigned workers;
    unsigned waiting_transactions; /* in PLACE_WAITING, with a next hop */
    unsigned waiting_slots;        /* in PLACE_WAITING, for a place at theirs */
    int64_t room_due_ms;           /* when slow ones may be looked for again */
    int64_t busy_since_ms;         /* few workers are free; 0 = enough are */
    int64_t stressed_ms;           /* when there was a cause for stress last */
    bool cut;                      /* the drain's time is over */
    int64_t drain_until_ms;
    /* From other threads. */
    pthread_mutex_t lock;
    struct connection *returned; /* the gate is woken for them */
    struct connection *ended;    /* it looks for them */
    struct connection *woken;    /* what their sessions await may have been granted */
    struct service *next_service;
    bool drain_asked;
    int64_t drain_timeout_ms;
    /* Read by other threads. */
    atomic_uint connections;
    atomic_uint working; /* changes below `lock` */
    atomic_ullong evicted, stresses;
    atomic_ullong accepted, refused_limit, refused_client, refused_listed, refused_dnsbl,
        refused_private, refused_proxy, early_talkers, idle_dropped;
};

/* All on the gate thread but gate_work() and what it calls, gate_give_back() and gate_wake(). */

/* gate-admit.c */
void gate_admit(struct gate *gate, int fd, const struct address *peer,
                const struct listener *listener);
/* What is known of a client before it has said anything. Under REPLY_OK it is counted. */
struct judgement {
    enum own_reply why; /* it may not come in */
    bool allowed;
    const struct session_bar *bar;
};
struct judgement gate_judge(struct gate *gate, const struct service *service,
                            const struct address *client);
/* The same of a load balancer that speaks for itself. */
struct judgement gate_judge_balancer(struct gate *gate, const struct service *service,
                                     const struct address *balancer);
void gate_log_limit(struct refusals *refusals, const struct address *client, const char *event);

/* gate-dnsbl.c */
/* Begins to ask; false when there is nothing to ask. */
bool gate_start_check(struct connection *connection);
/* The verdict has come. */
void gate_take_verdict(struct connection *connection);
/* None will come any more. */
void gate_end_check(struct connection *connection);

/* gate-proxy.c */
void gate_proxy_readable(struct connection *connection);
void gate_proxy_late(struct connection *connection);

/* gate-connection.c */
void gate_refuse(int fd, const struct listen_spec *spec, enum own_reply why);
/* An accepted socket becomes a connection; NULL when out of memory. */
struct connection *gate_open(struct gate *gate, int fd, const struct address *peer,
                             const struct listener *listener);
/* Who it is is known, and it may come in: greet delay or banner. */
void gate_begin(struct connection *connection, const struct judgement *judgement);
int64_t gate_greet_delay_ms(const struct connection *connection);
/* The banner is due at this time after the beginning, not before. */
void gate_delay(struct connection *connection, int64_t ms);
/* Closes with this reply. */
void gate_turn_away(struct connection *connection, const struct reply *reply);
void gate_dismiss(struct connection *connection, enum own_reply why);
/* The same without a word. */
void gate_forget(struct connection *connection);
/* Events of epoll(7). */
void gate_readable(struct gate *gate, struct connection *connection, uint32_t events);
/* A worker has given it back. */
void gate_take_back(struct gate *gate, struct connection *connection);
/* gate_grant() was called for it. */
void gate_take_grant(struct gate *gate, struct connection *connection);
/* Who is still at work or in a transaction is cut off; the workers notice. */
void gate_cut(struct gate *gate);
/* Everything whose time is over; returns ms until the next such, -1 when none waits. */
int gate_expire(struct gate *gate);
/* Transactions stay: what has begun may come to its end. */
void gate_dismiss_idle(struct gate *gate, enum own_reply why);
/* Whatever no worker has. */
void gate_dismiss_all(struct gate *gate);
/* Stress has set in: who waits has no longer than this. */
void gate_shorten_waits(struct gate *gate, int64_t most_ms);
/* gate-stress.c: after each change in the numbers, and when the time that it returns (ms, -1: none)
 * is over. */
int gate_judge_stress(struct gate *gate);
const struct session_rules *gate_rules(const struct service *service,
                                       const struct listen_spec *spec);
/* Tried once. */
void gate_say_own(int fd, enum own_reply which);
/* The last of one whose session a worker has ended. */
void gate_bury(struct connection *connection);

/* gate-work.c */
void gate_wake(struct gate *gate);
/* The pool's job: runs on a worker. */
void gate_work(struct pool_job *job, void *scratch);
/* What its session awaits is granted; any thread. */
void gate_grant(struct wakeup *wakeup);
/* Takes it out of the list of those. Below the lock. */
void gate_forget_grant(struct connection *connection);
/* To be called by a worker when it is done for now, or with a verdict. */
void gate_give_back(struct connection *connection);
/* It is going, and stands in that list perhaps. */
void gate_withdraw(struct connection *connection);
/* One more or less is with the pool. */
void gate_count_working(struct gate *gate, int change);
/* Sessions that have ended no longer count for their clients. */
void gate_uncount_ended(struct gate *gate);
/* And the rest of them goes; not while an event may point to it. */
void gate_bury_ended(struct gate *gate);

#endif
