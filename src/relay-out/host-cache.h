/* relay-out/host-cache.h - what all sessions know together of the hosts out there
 *
 * Which host could not be reached of late, which one's TLS failed, how many connections each
 * destination has, and connections kept open for a moment for the next message there. What is
 * remembered of a host holds for the destination that it was met for and for no other: anybody can
 * name somebody else's host in his own zone. One thread takes leave of connections whose time is
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

/* For another message to the same destination to end. */
#define HOST_CACHE_PLACE_WAIT_MS 20000

struct host_cache;

/* A connection to a next hop, at a point where MAIL can follow. It has no buffers while it is
 * kept. */
struct remote {
    struct nexthop hop;
    struct address address;
    char name[REMOTE_NAME_MAX]; /* "mx.example.net[192.0.2.1]:25", for logs */
    char key[ROUTE_KEY_MAX];    /* of the destination */
    uint64_t generation;        /* of the configuration that it was made under */
    unsigned messages;          /* that it has carried */
    int64_t since_ms;           /* connected */
    bool once;                  /* it is for this message and not to be kept */
    bool proven;                /* it is the domain's host, and its certificate is valid */
    bool tls_failed;            /* plain text, because TLS was tried and failed */
};

struct host_cache *host_cache_new(struct error *err);
/* Takes leave of all that is kept. */
void host_cache_free(struct host_cache *host_cache);

/* A place for one more connection to the destination, of `most` at one time, or a connection that
 * was kept, which has a place: waits until the deadline for either. Give the place back by
 * host_cache_leave(), or connection and place by host_cache_keep(). */
enum host_cache_place { HOST_CACHE_NEW, HOST_CACHE_KEPT, HOST_CACHE_FULL, HOST_CACHE_NO_MEMORY };
enum host_cache_place host_cache_enter(struct host_cache *host_cache, const char *key,
                                       uint64_t generation, unsigned most, struct deadline deadline,
                                       struct remote *kept);
void host_cache_leave(struct host_cache *host_cache, const char *key);

/* Takes the next turn at the destination, of `rate` in a minute, and waits for it. False, and none
 * taken, when it comes after the deadline. Sets when it comes. */
bool host_cache_take_turn(struct host_cache *host_cache, const char *key, unsigned rate,
                          struct deadline deadline, struct deadline *turn);
/* It was not used. */
void host_cache_return_turn(struct host_cache *host_cache, const char *key, unsigned rate,
                            struct deadline turn);

/* Both, the turn first, for whoever shall not wait by itself: it asks, goes away, and asks again when the
 * time has come or it is woken. */
struct host_cache_claim {
    /* The caller's to fill. */
    char key[ROUTE_KEY_MAX];
    uint64_t generation;
    unsigned most;
    unsigned rate;         /* 0: no turn is needed */
    struct wakeup *wakeup; /* called when the place is held; borrowed until the claim is given up */
    /* Its own, zero at first. */
    enum {
        HOST_CACHE_CLAIM_NONE,
        HOST_CACHE_CLAIM_TURN,   /* its turn has not come */
        HOST_CACHE_CLAIM_LATE,   /* nor would it in time: none was taken */
        HOST_CACHE_CLAIM_WANTED, /* it waits for a place */
        HOST_CACHE_CLAIM_HELD,
    } state;
    int64_t until_ms;              /* its turn comes then, or a place is waited for */
    struct host_cache_claim *next; /* of those that want a place, in the order of asking */
    enum host_cache_place place;   /* under HELD: HOST_CACHE_NEW or HOST_CACHE_KEPT */
    struct remote kept;            /* under the latter */
};
/* Asks, unless that was done before. 0: the place is held, or is not waited for any more. Otherwise the
 * time at which to ask again. */
int64_t host_cache_claim(struct host_cache *host_cache, struct host_cache_claim *claim);
/* Has its turn come, or is none needed? */
bool host_cache_has_turn(struct host_cache *host_cache, const struct host_cache_claim *claim);
/* Takes the place that is held, to be given back as one that was entered; HOST_CACHE_FULL when none is. The
 * claim is over. */
enum host_cache_place host_cache_redeem(struct host_cache *host_cache,
                                        struct host_cache_claim *claim, struct remote *kept);
/* Gives up what is held, or asked for. */
void host_cache_disclaim(struct host_cache *host_cache, struct host_cache_claim *claim);

/* Keeps it for so long, buffers reclaimed. It is the store's in any case. */
void host_cache_keep(struct host_cache *host_cache, const struct remote *remote, int64_t for_ms);

/* Hands out those that are kept, each under the lock: `take` copies, and does nothing else. */
size_t host_cache_count_kept(struct host_cache *host_cache);
void host_cache_list_kept(struct host_cache *host_cache,
                          void (*take)(void *context, const struct remote *remote,
                                       int64_t since_ms),
                          void *context);

/* What is remembered of a host of a destination. */
enum remote_mark {
    REMOTE_DEAD,       /* it could not be reached: left alone */
    REMOTE_DEFERRED,   /* it did not take a message just now: others go first */
    REMOTE_TLS_FAILED, /* for people only: TLS is tried again with the next message */
};

struct remote_host {
    const char *destination; /* its key */
    const char *name;
    const struct address *address; /* with the port */
};

/* Remembers it for so long (0: not at all), with the reason that is shown for it. */
void host_cache_mark(struct host_cache *host_cache, enum remote_mark mark,
                     const struct remote_host *host, const char *reason, int64_t for_ms);
/* `reason` may be NULL. */
bool host_cache_is_marked(struct host_cache *host_cache, enum remote_mark mark,
                          const struct remote_host *host, char reason[REMOTE_REASON_MAX]);

/* Hands out all marks in force, one by one, on this thread and without any lock. -1: out of
 * memory. */
struct remote_note {
    enum remote_mark mark;
    char destination[ROUTE_KEY_MAX];
    char name[DNS_NAME_MAX];
    struct address address;
    char reason[REMOTE_REASON_MAX];
    int64_t left_ms;
};
int host_cache_list(struct host_cache *host_cache,
                    void (*take)(void *context, const struct remote_note *note), void *context);

/* Forgets who is REMOTE_DEAD or REMOTE_DEFERRED: an operator wants it tried now. */
void host_cache_forget_dead(struct host_cache *host_cache);

#endif
