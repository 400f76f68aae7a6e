/* relay-out/talks.h - the connections to next hops in progress, for display and for counting their time
 *
 * Each holder of a place at a destination has a talk in this list, from the lookup of its hosts to the
 * end of the connection, and records its progress there. The mail path pays a lock at the start, at each
 * host tried and at the end, and a store at each phase. The time spent in each phase goes to the counters.
 * Lives as long as the process; thread-safe.
 * Connections kept for the next message are in relay-out/host-cache.
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
#include "smtp/counters.h"

enum talk_phase {
    TALK_LOOKUP,   /* of hosts, their addresses and policies */
    TALK_CONNECT,  /* TCP */
    TALK_GREETING, /* banner and EHLO */
    TALK_TLS,
    TALK_LOGIN,
    TALK_ENVELOPE, /* MAIL, RCPT, DATA; or waiting for more commands from the client */
    TALK_DATA,     /* mail data */
    TALK_REPLY,    /* the end of data is sent, but not answered yet */
    TALK_KEPT,     /* none now: kept for the next message */
};

struct talks;

/* Used by one thread at a time; zero before it begins. */
struct talk {
    struct talk *next, *previous; /* under the list's lock */
    bool listed;                  /* for the talk's own thread only, like the next */
    struct counters *counters;    /* borrowed */
    /* Once listed, read and changed under the list's lock. */
    const char *destination;
    char host[REMOTE_NAME_MAX]; /* "": none yet */
    atomic_uint_least64_t at;   /* the phase, and since when; without a lock */
};

/* `counters` are borrowed. NULL with a reason on failure. */
struct talks *talks_new(struct counters *counters, struct error *err);
/* Call when no talk is listed any more. NULL is fine. */
void talks_free(struct talks *talks);

/* `talks` may be NULL here and below: nothing is listed. `destination` is borrowed until the end; `host`
 * is the host of a kept connection, or NULL if hosts are looked up. */
void talks_begin(struct talks *talks, struct talk *talk, const char *destination, const char *host);
/* Does nothing if the talk has not begun. */
void talks_end(struct talks *talks, struct talk *talk);
/* Sets the host it talks to from now on. */
void talks_set_host(struct talks *talks, struct talk *talk, const char *host);
/* Setting the same phase again does not restart its time. */
void talk_set_phase(struct talk *talk, enum talk_phase phase);

struct talk_note {
    enum talk_phase phase;
    int64_t for_ms; /* time in this phase */
    char destination[ROUTE_KEY_MAX];
    char host[REMOTE_NAME_MAX];
};

/* Copies at most `most` talks and kept connections (an arbitrary selection) and sorts them: longest in
 * its phase first, kept ones last. The caller frees the array. Sets `*total` to how many there are. NULL:
 * out of memory. */
struct talk_note *talks_list(struct talks *talks, struct host_cache *host_cache, size_t most,
                             size_t *count, size_t *total);

/* "lookup", "connect", ...; static text. */
const char *talk_phase_name(enum talk_phase phase);

#endif
