/* relay-in/backend-internal.h - a backend, for its files
 *
 * Each calls those below it only:
 *
 *   backend-connect.c  a session's connection, brought to where MAIL can follow
 *   backend.c          its life
 *   backend-spares.c   the keeper: the thread that makes spares and asks what is offered
 *   backend-slots.c    who has a connection: slots for sessions, in the order of asking, and spares
 *   backend-dial.c     connecting, and leaving alone hosts that are down
 *   backend-live.c     the backends that live
 *   backend-state.c    what is known: whether it serves, and what it offers
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_IN_BACKEND_INTERNAL_H
#define POSTERN_RELAY_IN_BACKEND_INTERNAL_H

#include <pthread.h>

#include "relay-in/backend.h"

struct spare {
    struct nexthop hop;
    struct address host;
    bool tls;
    bool doubtful; /* another one was dead: to be replaced */
    int64_t since_ms;
};

/* What is known of one of its hosts. */
struct backend_host {
    int64_t failed_until_ms;   /* it rests */
    bool suspect;              /* it failed when it was tried last */
    unsigned dialling;         /* connections being made ... */
    int64_t dialling_since_ms; /* ... without any answer since then */
};

struct backend {
    struct config *config;
    const struct config_backend *settings; /* in config */
    bool submission;
    struct tls_client *tls;
    struct backend_live_count *live_count;
    struct counters *counters; /* borrowed, as the next one */
    struct missed *missed;
    pthread_t keeper;           /* joined by the live_count */
    struct backend *next_ended; /* in the live_count */
    int wake_fd;                /* eventfd: the keeper shall look */
    int keeper_fd; /* what the keeper waits at, to be shut down when it is no longer wanted; -1 */
    pthread_mutex_t lock;
    unsigned references;              /* of services; the keeper's own life is not counted */
    unsigned sessions;                /* connections, spares included */
    struct backend_slot wanted, held; /* heads of rings, in the order of asking */
    struct backend_host hosts[CONFIG_HOSTS_MAX];
    bool known;
    int64_t learned_at_ms;
    struct nexthop_capabilities learned;
    struct nexthop_capabilities offered; /* to clients: learned, remembered, or assumed */
    bool unsaved;                        /* it is to be written down */
    struct backend_health health;        /* also below the lock */
    int64_t seen_ms;                     /* it has answered last */
    struct spare *spares;                /* settings->spares of them have room */
    unsigned spare_count;
    bool recovered;    /* it serves again, which the keeper has not seen yet */
    bool keeper_rests; /* it has nothing to do until it is woken */
    uint8_t demand;    /* a bit for each of the last sessions: under TLS? */
};

/* backend-state.c */
/* It serves us, or does not, for a reason. Logs a change. Thread-safe. */
void backend_note(struct backend *backend, bool up, const char *reason);
/* Wakes the keeper. Thread-safe. */
void backend_wake(const struct backend *backend);

/* backend-live.c */
/* Counts one more, and frees those that have ended. */
void backend_live_count_add(struct backend_live_count *live_count);
/* The keeper's last word: it is to be joined and the backend freed. Nothing of the backend may be
 * touched after it. */
void backend_live_count_end(struct backend *backend);
/* Frees a backend that has no keeper. */
void backend_free(struct backend *backend);

/* backend-dial.c */
/* A spare's connection is probed by the kernel, so that it ends soon when nobody is there any more;
 * `on` false: it is one in use again. */
void backend_watch_idle(int fd, bool on);
/* Connects as backend_connect() does, for the keeper: what it has begun is ended when the last
 * reference is gone, and so are all waits on the descriptor until backend_hide(). */
int backend_connect_keeper(struct backend *backend, size_t *next, struct address *host,
                           enum own_reply *why, struct error *err);
void backend_hide(struct backend *backend);

/* backend-slots.c */
/* How many spares under TLS, or not, are to be had. Under the lock. */
unsigned backend_spares_wanted(const struct backend *backend, bool tls);

/* backend-spares.c */
/* Starts the keeper, which ends when the last reference is gone. 0, or -1 with a reason. */
int backend_start_keeper(struct backend *backend, struct error *err);

#endif
