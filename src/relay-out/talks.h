/* relay-out/talks.h - which next hops are being spoken with now, for people who look on
 *
 * Whoever holds a place at a destination has a talk in this list from the look-up of its hosts to the
 * end of the connection, and says how far it is. Costs the mail path a lock at its begin, at each host
 * that is tried and at its end, and a store at each phase. Lives as long as the process; thread-safe.
 * Connections that are kept for the next message are relay-out/host-cache's.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_TALKS_H
#define POSTERN_RELAY_OUT_TALKS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "relay-out/host-cache.h"

enum talk_phase {
    TALK_LOOKUP,   /* of its hosts, their addresses and policies */
    TALK_CONNECT,  /* TCP */
    TALK_GREETING, /* banner and EHLO */
    TALK_TLS,
    TALK_LOGIN,
    TALK_ENVELOPE, /* MAIL, RCPT, DATA; or waiting for more of them by the client */
    TALK_DATA,     /* mail data */
    TALK_REPLY,    /* the end of the data is sent, and not answered yet */
    TALK_KEPT,     /* none now: kept for the next message */
};

struct talks;

/* One thread's at a time, zero before it begins. */
struct talk {
    struct talk *next, *previous; /* the list's, as what follows but for `at` */
    bool listed;
    const char *destination;
    char host[REMOTE_NAME_MAX]; /* "": none yet */
    atomic_uint_least64_t at;   /* the phase, and since when */
};

struct talks *talks_new(struct error *err);
/* No talk is in it any more. NULL is fine. */
void talks_free(struct talks *talks);

/* `talks` may be NULL here and below: nobody looks on. `destination` is borrowed until the end; `host`
 * is that of a connection that was kept, or NULL: its hosts are looked up. */
void talks_begin(struct talks *talks, struct talk *talk, const char *destination, const char *host);
/* Does nothing when it has not begun. */
void talks_end(struct talks *talks, struct talk *talk);
/* The host that it is with from now on. */
void talks_set_host(struct talks *talks, struct talk *talk, const char *host);
/* In the same one the time goes on. */
void talk_set_phase(struct talk *talk, enum talk_phase phase);

struct talk_note {
    enum talk_phase phase;
    int64_t for_ms; /* it has been there */
    char destination[ROUTE_KEY_MAX];
    char host[REMOTE_NAME_MAX];
};

/* A copy of what is going on, at most `most` of it, as it comes; of these whoever is longest in its phase
 * first, and those that are kept last. The caller frees it. *total is how many there are. NULL: out of
 * memory. */
struct talk_note *talks_list(struct talks *talks, struct host_cache *host_cache, size_t most,
                             size_t *count, size_t *total);

/* "lookup", "connect", ...; static text. */
const char *talk_phase_name(enum talk_phase phase);

#endif
