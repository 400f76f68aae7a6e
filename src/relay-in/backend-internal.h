/* relay-in/backend-internal.h - the parts of a backend, for relay-in/backend*.c only
 *
 * Each file only calls those below it:
 *
 *   backend-connect.c  makes a session's connection on which MAIL can follow
 *   backend.c          the life cycle of a backend
 *   backend-spares.c   the keeper: the thread that makes spares and asks what is offered
 *   backend-slots.c    slots for sessions, in the order of asking, and spares
 *   backend-dial.c     connects, and leaves hosts alone that are down
 *   backend-live.c     counts the live backends and joins their keepers
 *   backend-state.c    what is known: whether the backend is up, and what it offers
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
    bool doubtful; /* another one was dead: replace it */
    int64_t since_ms;
};

/* What is known about one of its hosts. */
struct backend_host {
    int64_t failed_until_ms;   /* not tried before this time */
    bool suspect;              /* it failed at the last attempt */
    unsigned dialling;         /* connections being made ... */
    int64_t dialling_since_ms; /* ... without any answer since this time */
};

struct backend {
    struct config *config;
    const struct config_backend *settings; /* points into config */
    bool submission;
    struct tls_client *tls;
    struct backend_live_count *live_count;
    struct counters *counters; /* borrowed, like the next */
    struct missed *missed;
    pthread_t keeper;           /* joined by the live_count */
    struct backend *next_ended; /* in the live_count */
    int wake_fd;                /* eventfd that wakes the keeper */
    int keeper_fd; /* the descriptor that the keeper waits on, shut down at its end; -1: none */
    pthread_mutex_t lock;
    unsigned references;              /* of services; the keeper is not counted */
    unsigned sessions;                /* connections, spares included */
    struct backend_slot wanted, held; /* heads of rings, in the order of asking */
    struct backend_host hosts[CONFIG_HOSTS_MAX];
    bool known;
    int64_t learned_at_ms;
    struct nexthop_capabilities learned;
    struct nexthop_capabilities offered; /* to clients: learned, remembered or assumed */
    bool unsaved;                        /* `offered` must be saved to the file */
    struct backend_health health;        /* also under the lock */
    int64_t seen_ms;                     /* when it last answered */
    struct spare *spares;                /* room for settings->spares of them */
    unsigned spare_count;
    int64_t making_since_ms;           /* since when a spare is being made; 0: none is */
    bool making_tls;                   /* is it with TLS? */
    struct backend_slot *spare_waiter; /* whose holder waits for it; NULL: nobody */
    bool recovered;                    /* it is up again, which the keeper has not noticed yet */
    bool keeper_rests;                 /* the keeper has nothing to do until it is woken */
    uint8_t demand;                    /* one bit for each of the last sessions: under TLS? */
};

/* backend-state.c */
/* Notes that the backend is up, or down for a reason. Logs a change. Thread-safe. */
void backend_note(struct backend *backend, bool up, const char *reason);
/* Wakes the keeper. Thread-safe. */
void backend_wake(const struct backend *backend);

/* backend-live.c */
/* Counts a new backend, and frees those that have ended. */
void backend_live_count_add(struct backend_live_count *live_count);
/* The keeper's last call: asks for the keeper to be joined and the backend freed. The keeper must not touch the
 * backend after it. */
void backend_live_count_end(struct backend *backend);
/* Frees a backend that has no keeper. */
void backend_free(struct backend *backend);

/* backend-dial.c */
/* Makes the kernel probe a spare's connection, so that it ends soon after the other side has vanished. With `on`
 * false, the connection is in use again. */
void backend_watch_idle(int fd, bool on);
/* For the holder of a slot: connects to the first host that answers, starting at `*next` (0: all of them). Returns
 * the descriptor, which the caller owns, and the host, with `*next` set to the one after it; or -1 with the reason.
 * If it is unknown whether a host answers again, only one caller at a time tries it; for all others it counts as not
 * answering. For the keeper: when the last reference goes, the attempt ends, and so does every wait on the descriptor
 * until backend_hide(). */
int backend_connect(struct backend *backend, size_t *next, struct address *host, bool keeper,
                    struct error *err);
void backend_hide(struct backend *backend);

/* backend-slots.c */
/* How many spares with TLS, or without, there should be. The caller holds the lock. */
unsigned backend_spares_wanted(const struct backend *backend, bool tls);
/* Gives what slots there are to those that wait, spares' included. The caller holds the lock. */
void backend_grant_slots(struct backend *backend);

/* backend-spares.c */
/* Starts the keeper, which ends when the last reference goes. Returns 0, or -1 with a reason. */
int backend_start_keeper(struct backend *backend, struct error *err);

#endif
