/* spool/queue-internal.h - what the files of spool/queue share
 *
 * All of it is guarded by the queue's lock.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_QUEUE_INTERNAL_H
#define POSTERN_SPOOL_QUEUE_INTERNAL_H

#include "base/lock.h"
#include "spool/queue-index.h"
#include "spool/queue.h"

/* A name that mail waits for. It lives as long as a delivery does that names it. */
struct destination {
    struct table_node by_name;
    struct heap_node waiting;            /* in queue->waiting, when nothing can be given before */
    struct destination *next, *previous; /* in a ring of those that have something due */
    bool in_ring;
    struct heap deliveries; /* not active, not held; by when they are due */
    size_t count;           /* all deliveries for it */
    unsigned active;
    unsigned failures; /* in a row that it could not be reached */
    int64_t not_before;
    char *reason;
    char *name; /* behind the struct */
};

/* One message for one destination. */
struct delivery {
    struct heap_node due; /* in destination->deliveries */
    struct message *message;
    struct destination *destination; /* NULL: settled */
    unsigned attempts;
    bool active;
    bool probe;      /* in hand, though the destination could not be reached last */
    bool tried_last; /* the message's time was over when it was tried */
    bool confirmed;  /* its outcome is known and to be recorded */
};

struct message {
    struct table_node by_id;
    struct heap_node attention; /* in queue->attention, by when it wants a notice or expires, or
                                   before all others with a delivery that is confirmed */
    uint64_t id;
    int64_t expires, notice, held_since;
    unsigned count, left, active; /* deliveries: all, not settled, in hand */
    bool hold;
    bool in_hand;  /* a notice or its expiry is being worked on, or it is claimed */
    bool put_off;  /* its time was over, but that could not be carried out */
    bool expiring; /* its time is over: nothing is delivered any more but the last tries */
    struct delivery deliveries[];
};

struct queue {
    struct queue_config config;
    struct lock lock;
    struct table messages, destinations;
    struct heap waiting, attention;
    struct destination ring, probes; /* the ends of the rings: reached last, and not */
    unsigned probing;                /* deliveries in hand to those that were not */
    bool probe_first;                /* the rings take turns */
    bool winding_down;
    size_t deliveries, held, active;
    uint64_t random;
    int64_t now; /* as of the last queue_lock(), so that one step sees one time */
};

void queue_lock(struct queue *queue);
void queue_unlock(struct queue *queue);
struct message *queue_find(struct queue *queue, uint64_t id);
struct destination *queue_find_destination(struct queue *queue, const char *name);
/* The wait before the attempt behind `attempts` of them, less the jitter. */
int64_t queue_wait(struct queue *queue, unsigned attempts);
/* Puts a destination where it belongs now: ring, heap, or nowhere. */
void queue_place(struct queue *queue, struct destination *destination);
/* The first of the message's deliveries that are confirmed and not in hand; NULL: there is none. */
struct delivery *queue_confirmed_of(struct message *message);
/* The message with one that was confirmed first of all; NULL: there is none. */
struct message *queue_next_confirmed(const struct queue *queue);
/* Sets when the message itself wants attention. */
void queue_attend(struct queue *queue, struct message *message);
/* Puts a delivery among those of its destination, or takes it out. */
void queue_offer(struct queue *queue, struct delivery *delivery);
void queue_withdraw(struct queue *queue, struct delivery *delivery);
/* A delivery is over for good; frees the destination with the last one. */
void queue_settle(struct queue *queue, struct delivery *delivery);
/* The message's time is over: every delivery that has not had its last try gets it now. */
void queue_begin_last_tries(struct queue *queue, struct message *message);
/* Its time is not over, or not any more. */
void queue_revive(struct message *message);
/* Are there any left to be made? */
bool queue_lacks_last_tries(const struct message *message);
/* The destination cannot be reached: for those that wait for it to make their last try, it is made. */
void queue_end_last_tries(struct queue *queue, struct destination *destination);
void queue_drop(struct queue *queue, struct message *message);
void queue_wake(const struct queue *queue);

#endif
