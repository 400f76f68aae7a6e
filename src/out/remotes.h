/* out/remotes.h - what all sessions know together of the hosts out there
 *
 * Which address could not be reached of late, which one's TLS is broken, how many connections each
 * destination has, and connections kept open for a moment for the next message there. One thread
 * takes leave of those whose time is over. Lives as long as the process; thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_OUT_REMOTES_H
#define POSTERN_OUT_REMOTES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"
#include "base/error.h"
#include "net/dns-name.h"
#include "out/routes.h"
#include "smtp/nexthop.h"

#define REMOTE_REASON_MAX 160
#define REMOTE_NAME_MAX (DNS_NAME_MAX + ADDRESS_TEXT_MAX + 8)

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

/* Keeps it for so long, buffers reclaimed. It is the store's in any case. */
void remotes_keep(struct remotes *remotes, const struct remote *remote, int64_t for_ms);

/* What is remembered of an address (with its port). */
enum remote_mark { REMOTE_DEAD, REMOTE_TLS_FAILED };
void remotes_mark(struct remotes *remotes, enum remote_mark mark, const struct address *address,
                  const char *reason, int64_t for_ms);
/* `reason` may be NULL. */
bool remotes_is_marked(struct remotes *remotes, enum remote_mark mark,
                       const struct address *address, char reason[REMOTE_REASON_MAX]);
/* Forgets who is REMOTE_DEAD: an operator wants it tried now. */
void remotes_forget_dead(struct remotes *remotes);

#endif
