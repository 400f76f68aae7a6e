/* relay-out/host-cache-internal.h - the parts of the cache of hosts, for relay-out/host-cache*.c only
 *
 * Each file only calls those below it:
 *
 *   host-cache.c         its life, and the janitor: the thread that ends what is kept for too long
 *   host-cache-stored.c  places for stored mail
 *   host-cache-places.c  places for connections, connections that are kept, and claims on both
 *   host-cache-turns.c   turns at destinations with a rate
 *   host-cache-marks.c   what is remembered about hosts
 *
 * All functions here are called under the cache's lock.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_HOST_CACHE_INTERNAL_H
#define POSTERN_RELAY_OUT_HOST_CACHE_INTERNAL_H

#include <pthread.h>

#include "base/lock.h"
#include "relay-out/host-cache.h"

#define HOST_CACHE_MARKS_MAX 1024
#define HOST_CACHE_KEPT_MAX 128

struct mark {
    struct remote_note note; /* except left_ms */
    int64_t until_ms;
};

struct kept {
    struct remote remote;
    int64_t since_ms, until_ms;
};

/* A destination with at least one connection; others have no entry. */
struct destination {
    struct destination *next;
    unsigned connections;
    char key[ROUTE_KEY_MAX];
};

/* The turns of a destination with a rate limit. */
struct pace {
    struct pace *next;
    int64_t next_ms;   /* the next turn that is free */
    int64_t booked_ms; /* the turn that stored mail comes back for; 0: none */
    bool booked_last;  /* stored mail had the last turn */
    char key[ROUTE_KEY_MAX];
};

/* What stored mail for one destination waits for: a place, in line with the claims of sessions. Under HELD,
 * the claim's until_ms is how long the place is kept for it. */
struct stored_claim {
    struct host_cache_claim claim;
    struct wakeup granted;
    struct host_cache *host_cache;
    struct stored_claim *next;
};

struct host_cache {
    struct lock lock;
    pthread_cond_t place_free, kept_changed;
    int64_t janitor_due_ms; /* when the janitor looks again; not woken for what ends later */
    struct destination *destinations;
    struct pace *paces;
    struct mark marks[HOST_CACHE_MARKS_MAX];
    size_t mark_count;
    struct kept kept[HOST_CACHE_KEPT_MAX];
    size_t kept_count;
    struct host_cache_claim *claims; /* waiting for a place, first come first */
    bool granting;
    struct stored_claim *stored_claims;
    host_cache_place_function *on_place; /* a place is kept for stored mail; may be NULL */
    void *on_place_context;
    bool ending;
    pthread_t janitor;
};

/* Takes the next turn. False if it would come after the deadline, or when out of memory. */
bool host_cache_next_turn(struct host_cache *host_cache, const char *key, unsigned rate,
                          struct deadline deadline, struct deadline *turn);
/* The turn was not used: makes it the next one again, unless a later one is taken. Then returns its pace,
 * otherwise NULL. */
struct pace *host_cache_put_turn_back(struct host_cache *host_cache, const char *key, unsigned rate,
                                      int64_t turn_ms);

/* host_cache_enter() and host_cache_leave() without a wait. */
enum host_cache_place host_cache_enter_now(struct host_cache *host_cache, const char *key,
                                           uint64_t generation, unsigned most, struct remote *kept);
void host_cache_leave_one(struct host_cache *host_cache, const char *key);
/* Puts a claim at the end of the queue for a place, or takes it out, which must be in it. */
void host_cache_line_up(struct host_cache *host_cache, struct host_cache_claim *claim);
void host_cache_withdraw(struct host_cache *host_cache, const struct host_cache_claim *claim);

/* What the janitor does. Ends one kept connection whose time is over, or any one if `all`; likewise gives up one
 * place that stored mail has not come for in time, or any claim if `all`. Both release the lock during QUIT.
 * False if there is none. */
bool host_cache_dismiss_one(struct host_cache *host_cache, bool all);
bool host_cache_dismiss_stored(struct host_cache *host_cache, bool all);

#endif
