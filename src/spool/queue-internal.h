/* spool/queue-internal.h - the structures that spool/queue*.c share; nothing else includes it
 *
 * The queue's lock guards all of it.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_QUEUE_INTERNAL_H
#define POSTERN_SPOOL_QUEUE_INTERNAL_H

#include "base/lock.h"
#include "spool/queue-index.h"
#include "spool/queue.h"

/* A destination that mail waits for. It lives as long as there is a delivery for it. */
struct destination {
    struct table_node by_name;
    struct heap_node waiting;            /* in queue->waiting; key: when it next has work */
    struct destination *next, *previous; /* in a ring of those with due work */
    bool in_ring;
    struct heap deliveries; /* not active, not held; by due time */
    size_t count;           /* all deliveries for it */
    unsigned active;
    unsigned failures;  /* failures to reach it, in a row */
    int64_t failed;     /* when it last could not be reached, */
    int64_t not_before; /* ... and when it is to be tried again */
    int64_t postponed;  /* it could be, but takes nothing before */
    char *reason;
    char *name; /* allocated with the struct */
};

/* One message for one destination. */
struct delivery {
    struct heap_node due; /* in destination->deliveries */
    struct message *message;
    struct destination *destination; /* NULL: settled */
    unsigned attempts;
    bool active;
    bool probe;      /* being tried, though the destination was last unreachable */
    bool tried_last; /* it had its last try, after the message's lifetime */
    bool confirmed;  /* its outcome is known, and must be recorded */
    bool again;      /* a retry was ordered while it is being tried */
};

struct message {
    struct table_node by_id;
    struct heap_node attention; /* in queue->attention, by the time of its notice or expiry, or
                                   before all others if a delivery is confirmed */
    uint64_t id;
    int64_t expires, notice, held_since;
    uint64_t octets;
    size_t recipients;
    unsigned count, left, active; /* deliveries: all, unsettled, being worked on */
    bool hold;
    bool in_hand;       /* its notice or expiry is being worked on, or it is claimed */
    bool put_off;       /* it expired, but the expiry could not be carried out */
    bool notice_waited; /* its notice has waited once for a try that was due */
    bool expiring;      /* it has expired: only last tries are still made */
    struct delivery deliveries[];
};

struct queue {
    struct queue_config config;
    struct lock lock;
    struct table messages, destinations;
    struct heap waiting, attention;
    struct destination ring, probes; /* heads of rings: last reachable, last unreachable */
    unsigned probing;                /* running deliveries to unreachable destinations */
    bool probe_first;                /* the rings take turns */
    bool winding_down;
    size_t deliveries, active;
    uint64_t random;
    int64_t now; /* as of the last queue_lock(), so that one step sees one time */
};

void queue_lock(struct queue *queue);
void queue_unlock(struct queue *queue);
struct message *queue_find(struct queue *queue, uint64_t id);
struct destination *queue_find_destination(struct queue *queue, const char *name);
/* The wait after `attempts` attempts, less the jitter. */
int64_t queue_wait(struct queue *queue, unsigned attempts);
/* Puts a destination where it belongs now: in a ring, in the heap, or nowhere. */
void queue_place(struct queue *queue, struct destination *destination);
/* The message's first delivery that is confirmed and not being worked on; NULL: none. */
struct delivery *queue_confirmed_of(struct message *message);
/* A message with a confirmed delivery; NULL: none. */
struct message *queue_next_confirmed(const struct queue *queue);
/* Sets the time at which the message itself needs attention. */
void queue_attend(struct queue *queue, struct message *message);
/* Is this delivery due, so that it only waits for its turn? */
bool queue_is_next(const struct queue *queue, const struct delivery *delivery);
/* Adds a delivery to those of its destination, or removes it. */
void queue_offer(struct queue *queue, struct delivery *delivery);
void queue_withdraw(struct queue *queue, struct delivery *delivery);
/* Removes all deliveries of a message that are not being worked on: nobody else works on it from now on. */
void queue_withdraw_all(struct queue *queue, struct message *message);
/* Ends a delivery for good; frees the destination with its last one. */
void queue_settle(struct queue *queue, struct delivery *delivery);
/* The message has expired: makes every delivery due that has not had its last try. */
void queue_begin_last_tries(struct queue *queue, struct message *message);
/* The message has not expired, or no longer: clears the marks of its last tries. */
void queue_revive(struct message *message);
/* Are any last tries left to make? */
bool queue_lacks_last_tries(const struct message *message);
/* The destination cannot be reached: counts as the last try of all deliveries that wait for theirs there. */
void queue_end_last_tries(struct queue *queue, struct destination *destination);
void queue_drop(struct queue *queue, struct message *message);
void queue_wake(const struct queue *queue);

#endif
