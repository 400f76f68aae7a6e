/* relay-out/spooler-internal.h - what the files of relay-out/spooler share
 *
 * spooler.c starts and ends it, spooler-store.c stores messages, spooler-deliver.c delivers them,
 * spooler-await.c waits for late answers of next hops. Thread-safe as relay-out/spooler.h says.
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
    struct target *target; /* with a reference to its snapshot; pending until it has answered */
    struct deadline until;
    size_t recipients; /* those whose outcome is not known yet */
    /* Theirs in the queue, which may name several where the target's routes name one. */
    char (*destinations)[QUEUE_DESTINATION_MAX + 1];
    size_t destination_count;
    unsigned users; /* deliveries using it */
    bool stored;    /* the message is in the queue */
    bool told;      /* the queue knows of the answer, and has until `told_until` to record it */
    bool gone;      /* it was told of it, and has no such delivery any more */
    struct deadline told_until;
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
    pthread_cond_t changed;    /* one of them has answered or was removed, or winding_down is set */
    struct wakeup answered;    /* of their senders */
    bool winding_down;         /* under the lock */
    atomic_llong hand_over_ms; /* spooler_hand_over() */
};

/* Adds a recipient in this domain with this target as next hop, for a message about to be stored. False when out
 * of memory. */
bool spooler_await(struct spooler *spooler, uint64_t id, struct target *target, const char *domain);
/* The message is stored: from now on the queue is told of answers. */
void spooler_await_stored(struct spooler *spooler, uint64_t id);
/* The message was not stored: removes its entries. The caller owns the targets again. */
void spooler_unawait(struct spooler *spooler, uint64_t id);
/* Finds the entry that has a message's recipients in this domain; give it back with
 * spooler_leave_awaited(). NULL: there is none. */
struct awaited *spooler_find_awaited(struct spooler *spooler, uint64_t id, const char *domain);
/* Is the entry's next hop the one that has the message's recipients in this domain? */
bool spooler_is_for(const struct awaited *awaited, const char *domain);
/* Waits for its answer. At its deadline it breaks the connection off, which counts as an answer. False if
 * there is none: the daemon ends, or the connection's thread does not. */
bool spooler_wait_awaited(struct spooler *spooler, struct awaited *awaited);
/* Gives the entry back; the outcome of this many `recipients` is now known. */
void spooler_leave_awaited(struct spooler *spooler, struct awaited *awaited, size_t recipients);
/* Begins to end: transactions that have not reached their end of data are given up. */
void spooler_wind_down_awaited(struct spooler *spooler);
/* Waits until no answer is awaited any more, and records those that come. False if the deadline passes first. */
bool spooler_await_all(struct spooler *spooler, struct deadline deadline);
/* Waits for the senders, too: while one of them is there, it may tell the pool of its answer. */
void spooler_free_awaited(struct spooler *spooler);
/* How long an answer may take, in milliseconds. */
int64_t spooler_answer_ms(const struct outbound *out);
/* A sender's wakeup: one of them has answered. */
void spooler_on_answer(struct wakeup *wakeup);

/* The newest snapshot; give it back with service_unref(). */
struct outbound *spooler_snapshot(struct spooler *spooler);

/* A reply in the form used in envelopes: "550 5.1.1 text", lines separated by '\n'. */
const char *spooler_reply_text(const struct reply *reply, char out[ENVELOPE_REPLY_MAX + 1]);
/* Turns "mx.example.net[192.0.2.1]:25" into the form used in envelopes: "mx.example.net [192.0.2.1]";
 * "" for "none". */
const char *spooler_remote_name(const char *relay, char out[DELIVERY_REMOTE_MAX + 1]);

/* The hooks of spool/delivery; the context is the spooler. */
void spooler_deliver(void *context, struct delivery_job *job);
void spooler_destination(void *context, const struct spool_envelope *envelope,
                         const struct path *recipient, char out[QUEUE_DESTINATION_MAX + 1]);
/* The same for mail that is not a notice. */
void spooler_destination_of(const struct spooler *spooler, const char *domain,
                            char out[QUEUE_DESTINATION_MAX + 1]);

#endif
