/* out/remotes.h - what all sessions know together of the hosts out there
 *
 * Which host could not be reached of late, which one's TLS failed, how many connections each
 * destination has, and connections kept open for a moment for the next message there. What is
 * remembered of a host holds for the destination that it was met for and for no other: anybody can
 * name somebody else's host in his own zone. One thread takes leave of connections whose time is
 * over. Lives as long as the process; thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_OUT_REMOTES_H
#define POSTERN_OUT_REMOTES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"
#include "base/error.h"
#include "base/wakeup.h"
#include "net/dns-name.h"
#include "out/routes.h"
#include "smtp/nexthop.h"

#define REMOTE_REASON_MAX 160
#define REMOTE_NAME_MAX (DNS_NAME_MAX + ADDRESS_TEXT_MAX + 8)

/* For another message to the same destination to end. */
#define REMOTES_PLACE_WAIT_MS 20000

struct remotes;

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

struct remotes *remotes_new(struct error *err);
/* Takes leave of all that is kept. */
void remotes_free(struct remotes *remotes);

/* A place for one more connection to the destination, of `most` at one time, or a connection that
 * was kept, which has a place: waits until the deadline for either. Give the place back by
 * remotes_leave(), or connection and place by remotes_keep(). */
enum remotes_place { REMOTES_NEW, REMOTES_KEPT, REMOTES_FULL, REMOTES_NO_MEMORY };
enum remotes_place remotes_enter(struct remotes *remotes, const char *key, uint64_t generation,
                                 unsigned most, struct deadline deadline, struct remote *kept);
void remotes_leave(struct remotes *remotes, const char *key);

/* The same for whoever shall not wait by itself: it asks, goes away, and asks again when it is woken. */
struct remotes_claim {
    enum { REMOTES_CLAIM_NONE, REMOTES_CLAIM_WANTED, REMOTES_CLAIM_HELD } state;
    struct remotes_claim *next; /* of those that want one, in the order of asking */
    char key[ROUTE_KEY_MAX];
    uint64_t generation;
    unsigned most;
    struct wakeup *wakeup;
    int64_t until_ms;         /* it is waited for */
    enum remotes_place place; /* under HELD: REMOTES_NEW or REMOTES_KEPT */
    struct remote kept;       /* under the latter */
};
/* Asks, unless that was done before. 0: the place is held, or the time is over. Otherwise the time until
 * which to wait; `wakeup`, borrowed until the claim is given up, is called when it is held. */
int64_t remotes_claim(struct remotes *remotes, struct remotes_claim *claim, const char *key,
                      uint64_t generation, unsigned most, struct wakeup *wakeup);
/* Takes the place that is held, to be given back as one that was entered; REMOTES_FULL when none is. The
 * claim is over. */
enum remotes_place remotes_redeem(struct remotes *remotes, struct remotes_claim *claim,
                                  struct remote *kept);
/* Gives up what is held, or asked for. */
void remotes_disclaim(struct remotes *remotes, struct remotes_claim *claim);

/* Takes the next turn at the destination, of `rate` in a minute, and waits for it. False, and none
 * taken, when it comes after the deadline. */
bool remotes_take_turn(struct remotes *remotes, const char *key, unsigned rate,
                       struct deadline deadline);

/* Takes leave of one that has no buffers, and closes it. Its place is the caller's to give back. */
void remote_say_goodbye(struct remote *remote);

/* Keeps it for so long, buffers reclaimed. It is the store's in any case. */
void remotes_keep(struct remotes *remotes, const struct remote *remote, int64_t for_ms);

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
void remotes_mark(struct remotes *remotes, enum remote_mark mark, const struct remote_host *host,
                  const char *reason, int64_t for_ms);
/* `reason` may be NULL. */
bool remotes_is_marked(struct remotes *remotes, enum remote_mark mark,
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
int remotes_list(struct remotes *remotes,
                 void (*take)(void *context, const struct remote_note *note), void *context);

/* Forgets who is REMOTE_DEAD or REMOTE_DEFERRED: an operator wants it tried now. */
void remotes_forget_dead(struct remotes *remotes);

#endif
