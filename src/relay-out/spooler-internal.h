/* relay-out/spooler-internal.h - what the files of relay-out/spooler share
 *
 * spooler.c is its life, spooler-store.c takes messages, spooler-deliver.c delivers them, spooler-await.c
 * hears what next hops still owe. Thread-safe as relay-out/spooler.h says.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_SPOOLER_INTERNAL_H
#define POSTERN_RELAY_OUT_SPOOLER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/wakeup.h"
#include "relay-out/spooler.h"

struct target;

/* The next hop of a stored message that has not answered yet. All under the spooler's lock. */
struct awaited {
    uint64_t id;
    struct target *target; /* with a reference of its snapshot; pending until it has answered */
    struct deadline until;
    size_t recipients; /* whose outcome is not known yet */
    unsigned users;    /* deliveries that look at it */
    bool stored;       /* the message is in the queue */
    bool told;         /* the queue knows of the answer */
    struct awaited *next;
};

struct spooler {
    char *folder;
    struct spool *spool;
    struct delivery_pool *pool; /* NULL before the first spooler_use() */
    struct outbound *first;     /* a reference: for the names of destinations */
    pthread_mutex_t lock;
    struct outbound *current;  /* a reference, under the lock */
    struct awaited *awaited;   /* under the lock */
    pthread_cond_t changed;    /* one of them has answered, or was taken out; or all winds down */
    struct wakeup answered;    /* of their senders */
    bool winding_down;         /* under the lock */
    atomic_llong hand_over_ms; /* spooler_hand_over() */
};

/* The message is about to be stored, with one more recipient whose next hop is this target. False when
 * out of memory. */
bool spooler_await(struct spooler *spooler, uint64_t id, struct target *target);
/* It is stored: from now on the queue is told who has answered. */
void spooler_await_stored(struct spooler *spooler, uint64_t id);
/* It is not: takes those of the message out again, which are the caller's as before. */
void spooler_unawait(struct spooler *spooler, uint64_t id);
/* The one that has what a message holds for this domain, to be given back by spooler_leave_awaited();
 * NULL: there is none. */
struct awaited *spooler_find_awaited(struct spooler *spooler, uint64_t id, const char *domain);
/* Waits for its answer, in its time. False when it is to be waited for no longer: the daemon ends. */
bool spooler_wait_awaited(struct spooler *spooler, struct awaited *awaited);
/* For so many of its recipients the outcome is known now. */
void spooler_leave_awaited(struct spooler *spooler, struct awaited *awaited, size_t recipients);
/* The end begins: what has not got as far as the end of its data is given up. */
void spooler_wind_down_awaited(struct spooler *spooler);
/* Until there are none. False when the deadline passes before. */
bool spooler_await_all(struct spooler *spooler, struct deadline deadline);
void spooler_free_awaited(struct spooler *spooler);
/* How long an answer may take, in milliseconds. */
int64_t spooler_answer_ms(const struct outbound *out);
/* A sender's wakeup: one of them has answered. */
void spooler_on_answer(struct wakeup *wakeup);

/* The newest snapshot; to be given back by service_unref(). */
struct outbound *spooler_snapshot(struct spooler *spooler);

/* A reply as envelopes have it: "550 5.1.1 text", lines parted by '\n'. */
const char *spooler_reply_text(const struct reply *reply, char out[ENVELOPE_REPLY_MAX + 1]);
/* "mx.example.net[192.0.2.1]:25" as envelopes have it: "mx.example.net [192.0.2.1]"; "" for
 * "none". */
const char *spooler_remote_name(const char *relay, char out[DELIVERY_REMOTE_MAX + 1]);

/* The hooks of spool/delivery; the context is the spooler. */
void spooler_deliver(void *context, struct delivery_job *job);
void spooler_destination(void *context, const struct spool_envelope *envelope,
                         const struct path *recipient, char out[QUEUE_DESTINATION_MAX + 1]);
/* The same for mail that is no notice. */
void spooler_destination_of(const struct spooler *spooler, const char *domain,
                            char out[QUEUE_DESTINATION_MAX + 1]);

#endif
