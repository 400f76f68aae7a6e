/* relay-out/host-cache.h - what all sessions know about the hosts mail goes to
 *
 * Which hosts could not be reached recently, whose TLS failed, how many connections each
 * destination has, and connections kept open briefly for the next message there. What is
 * remembered about a host applies only to the destination for which it was contacted: anyone can
 * name someone else's host in their own zone. A thread ends kept connections whose time is
 * over. Lives as long as the process; thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_HOST_CACHE_H
#define POSTERN_RELAY_OUT_HOST_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"
#include "base/error.h"
#include "base/wakeup.h"
#include "dns/name.h"
#include "relay-out/routes.h"
#include "smtp/nexthop.h"

#define REMOTE_REASON_MAX 160
#define REMOTE_NAME_MAX (DNS_NAME_MAX + ADDRESS_TEXT_MAX + 8)

/* How long to wait for another message to the same destination to end. */
#define HOST_CACHE_PLACE_WAIT_MS 20000
/* How long a place is kept for stored mail, which comes back for it. */
#define HOST_CACHE_STORED_KEEP_MS 2000

struct host_cache;

/* A connection to a next hop, ready for MAIL. It has no buffers while it is kept. */
struct remote {
    struct nexthop hop;
    struct address address;
    char name[REMOTE_NAME_MAX]; /* "mx.example.net[192.0.2.1]:25", for logs */
    char key[ROUTE_KEY_MAX];    /* of the destination */
    uint64_t generation;        /* of the configuration under which it was made */
    unsigned messages;          /* carried so far */
    int64_t since_ms;           /* connected */
    int64_t done_ms; /* last reply to an end of data; 0: the last transaction ended without one */
    bool once;       /* for this message only: not to be kept */
    bool proven;     /* it is proven to be the domain's host, and its certificate is valid */
    bool tls_failed; /* plain text, because TLS was tried and failed */
};

struct host_cache *host_cache_new(struct error *err);
/* Ends all kept connections. */
void host_cache_free(struct host_cache *host_cache);

/* Gets a place for one more connection to the destination (`most` at a time), or a kept
 * connection, which has a place; waits for either until the deadline. Give the place back with
 * host_cache_leave(), or connection and place with host_cache_keep(). */
enum host_cache_place { HOST_CACHE_NEW, HOST_CACHE_KEPT, HOST_CACHE_FULL, HOST_CACHE_NO_MEMORY };
enum host_cache_place host_cache_enter(struct host_cache *host_cache, const char *key,
                                       uint64_t generation, unsigned most, struct deadline deadline,
                                       struct remote *kept);
void host_cache_leave(struct host_cache *host_cache, const char *key);

/* Takes the next turn at the destination (`rate` per minute) and waits for it. False, with no turn
 * taken, if it would come after the deadline, or when out of memory. Sets `*turn` to its time in any
 * case. */
bool host_cache_take_turn(struct host_cache *host_cache, const char *key, unsigned rate,
                          struct deadline deadline, struct deadline *turn);
/* Takes a turn for stored mail, whose delivery comes back instead of waiting. False if the turn has not come:
 * `*turn` is then when to ask again. All stored mail for the destination shares one turn ahead of time, so
 * that those who do wait cannot take every turn. */
bool host_cache_book_turn(struct host_cache *host_cache, const char *key, unsigned rate,
                          struct deadline *turn);
/* Returns a turn from host_cache_book_turn() that was not used. */
void host_cache_return_turn(struct host_cache *host_cache, const char *key, unsigned rate,
                            struct deadline turn);

/* A turn and then a place, for a caller that must not block: it asks, returns, and asks again when the
 * time has come or it is woken. */
struct host_cache_claim {
    /* The caller fills these. */
    char key[ROUTE_KEY_MAX];
    uint64_t generation;
    unsigned most;
    unsigned rate; /* 0: no turn is needed */
    /* Called, under the cache's lock, when the place is granted later than in host_cache_claim();
     * borrowed until the claim is redeemed or given up. */
    struct wakeup *wakeup;
    /* Private, zero at first. */
    enum {
        HOST_CACHE_CLAIM_NONE,
        HOST_CACHE_CLAIM_TURN,   /* its turn has not come */
        HOST_CACHE_CLAIM_LATE,   /* its turn would come too late: none was taken */
        HOST_CACHE_CLAIM_WANTED, /* it waits for a place */
        HOST_CACHE_CLAIM_HELD,
    } state;
    int64_t until_ms;              /* when its turn comes, or until when it waits for a place */
    struct host_cache_claim *next; /* the next in the queue for a place, first come first */
    enum host_cache_place place;   /* under HELD: HOST_CACHE_NEW or HOST_CACHE_KEPT */
    struct remote kept;            /* with HOST_CACHE_KEPT */
};
/* Asks for a turn and, once it has come, for a place. 0: there is nothing to wait for, because the place
 * is held, the turn would come too late, or the wait for a place is over. Otherwise the time at which to
 * ask again. */
int64_t host_cache_claim(struct host_cache *host_cache, struct host_cache_claim *claim);
/* Has its turn come, or is none needed? */
bool host_cache_has_turn(struct host_cache *host_cache, const struct host_cache_claim *claim);
/* Ends the claim and takes the held place, which is given back as one from host_cache_enter();
 * HOST_CACHE_FULL if none is held. A turn that has not come is returned; one that has come stays used. */
enum host_cache_place host_cache_redeem(struct host_cache *host_cache,
                                        struct host_cache_claim *claim, struct remote *kept);
/* Ends the claim and gives up what is held or asked for. */
void host_cache_disclaim(struct host_cache *host_cache, struct host_cache_claim *claim);

/* Like host_cache_enter() for stored mail, whose delivery comes back instead of waiting. HOST_CACHE_FULL: from
 * now on all stored mail for this destination together waits in line with the claims of sessions. When its turn
 * comes, the place is kept for HOST_CACHE_STORED_KEEP_MS. */
enum host_cache_place host_cache_enter_stored(struct host_cache *host_cache, const char *key,
                                              uint64_t generation, unsigned most,
                                              struct remote *kept);
/* Sets what is called then, under the cache's lock, with the destination's key. NULL: nothing. */
typedef void host_cache_place_function(void *context, const char *key);
void host_cache_on_place(struct host_cache *host_cache, host_cache_place_function *function,
                         void *context);

/* Keeps the connection for `for_ms`, without its buffers. Always takes ownership. */
void host_cache_keep(struct host_cache *host_cache, const struct remote *remote, int64_t for_ms);

/* host_cache_list_kept() calls `take` for each kept connection, under the lock: `take` may only copy. */
size_t host_cache_count_kept(struct host_cache *host_cache);
void host_cache_list_kept(struct host_cache *host_cache,
                          void (*take)(void *context, const struct remote *remote,
                                       int64_t since_ms),
                          void *context);

/* What is remembered about a host of a destination. */
enum remote_mark {
    REMOTE_DEAD,          /* it could not be reached: left alone */
    REMOTE_DEFERRED,      /* it did not take a message recently: others go first */
    REMOTE_TLS_FAILED,    /* for display only: TLS is tried again with the next message */
    REMOTE_LOGIN_REFUSED, /* it refused our log-in: see host_cache_may_log_in() */
};

struct remote_host {
    const char *destination; /* its key */
    const char *name;
    const struct address *address; /* with the port */
    uint64_t generation;           /* of the configuration, which has the password */
};

/* Remembers the mark for `for_ms` (0: not at all), with a reason for display. */
void host_cache_mark(struct host_cache *host_cache, enum remote_mark mark,
                     const struct remote_host *host, const char *reason, int64_t for_ms);
/* `reason` may be NULL. */
bool host_cache_is_marked(struct host_cache *host_cache, enum remote_mark mark,
                          const struct remote_host *host, char reason[REMOTE_REASON_MAX]);

/* May a log-in at the host be tried with this configuration? A provider bans who is refused again and
 * again: one refusal (REMOTE_LOGIN_REFUSED) stops all log-ins there, at any address of the host, while the
 * mark is in force. Then one caller at a time is told true, and the mark is in force again for `for_ms`,
 * until host_cache_logged_in(). `reason` is filled if not. */
bool host_cache_may_log_in(struct host_cache *host_cache, const struct remote_host *host,
                           int64_t for_ms, char reason[REMOTE_REASON_MAX]);
void host_cache_logged_in(struct host_cache *host_cache, const struct remote_host *host);

/* Calls `take` for each mark in force, and each refused log-in, on this thread and without a lock. -1: out of
 * memory. */
struct remote_note {
    enum remote_mark mark;
    char destination[ROUTE_KEY_MAX];
    char name[DNS_NAME_MAX];
    struct address address;
    char reason[REMOTE_REASON_MAX];
    uint64_t generation;
    int64_t left_ms;
};
int host_cache_list(struct host_cache *host_cache,
                    void (*take)(void *context, const struct remote_note *note), void *context);

/* Forgets all marks that keep hosts from being asked: an operator wants a retry now, or has changed the
 * configuration, with a password perhaps. */
void host_cache_forget_dead(struct host_cache *host_cache);

#endif
