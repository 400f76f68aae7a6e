/* spool/queue.h - what is to be tried next: the index of the spooled messages in memory
 *
 * For each message a few numbers, for each of its destinations when it is due; sender, recipients
 * and mail data stay on disk. A destination is a name that the caller chooses (the recipients'
 * domain, a route), in one spelling; all messages for it share its back-off and its places.
 *
 * Order: what has expired or wants a notice comes first, then the destinations that have something
 * due take turns, each giving its longest-due message. A destination that cannot be reached is left
 * alone for a growing while and then tried by one delivery, and all such tries together take half of
 * the places at most.
 *
 * A message whose time is over is tried once more at each of its destinations before it expires, at
 * once and whatever is known against them. Where a destination cannot be reached, one such try is the
 * last one of everything that waits for it. Time on hold does not count.
 *
 * A delivery that is confirmed has been made elsewhere, and its outcome is known: it comes before
 * everything else, since nothing is left to be done but to record it.
 *
 * Pure logic: no IO, no threads, no clock but the one it is given. All functions are thread-safe.
 * Times are milliseconds of that clock, which never jumps. Used by spool/delivery and the control
 * socket.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_QUEUE_H
#define POSTERN_SPOOL_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUEUE_DESTINATION_MAX 255 /* octets */
#define QUEUE_REASON_MAX 512
#define QUEUE_RETRY_MAX 32

struct queue_config {
    unsigned concurrency;              /* works in hand at once, over all destinations */
    unsigned destination_concurrency;  /* ... and for one */
    int64_t retry_ms[QUEUE_RETRY_MAX]; /* waits after the first, second ... attempt; the last one
                                        * repeats. Up to a fifth of each is taken off at random. */
    size_t retry_count;
    uint64_t seed;                    /* of that randomness */
    int64_t (*now_ms)(void *context); /* a monotonic clock */
    /* Something may have become due: by anything but queue_finish(), after which one takes what is
     * next. Called without the lock; may be NULL. */
    void (*wake)(void *context);
    void *context;
};

struct queue;

/* NULL when out of memory. The queue copies the configuration. */
struct queue *queue_new(const struct queue_config *config);
void queue_free(struct queue *queue);

/* A message that is in the spool. */
struct queue_destination {
    const char *name;
    int64_t next_try_ms; /* in the past: at once */
    unsigned attempts;   /* made so far, live ones too */
};
struct queue_entry {
    uint64_t id;
    int64_t expires_ms;
    int64_t notice_ms; /* when a delay notice is due; 0 = none (any more) */
    bool hold;
    int64_t held_since_ms;                        /* with `hold` */
    const struct queue_destination *destinations; /* without doubles */
    size_t count;                                 /* at least 1 */
};

/* 0; -1 when out of memory, or the id is there already, or a name is too long. */
int queue_add(struct queue *queue, const struct queue_entry *entry);

enum queue_kind {
    QUEUE_DELIVER, /* the message to the destination */
    QUEUE_NOTICE,  /* tell the sender that it takes long */
    QUEUE_EXPIRE,  /* its time is over and the last tries are made: fail what is left and remove it.
                    * No delivery is under way. */
};

struct queue_work {
    enum queue_kind kind;
    uint64_t id;
    unsigned attempts;                           /* QUEUE_DELIVER: before this one */
    char destination[QUEUE_DESTINATION_MAX + 1]; /* QUEUE_DELIVER */
};

enum queue_answer { QUEUE_DONE, QUEUE_NO_SUCH, QUEUE_BUSY /* being worked on: try again */ };

/* Takes what is next, to be given back by queue_finish(); *wait_ms is then 0 when there is more, for
 * somebody else, and -1 when not. False when nothing is due or no place free: *wait_ms is the time until
 * something is due, or -1 when only an event can change it (wake, or a work that is given back). */
bool queue_take(struct queue *queue, struct queue_work *work, int64_t *wait_ms);

enum queue_outcome {
    QUEUE_SETTLED,  /* every recipient there is delivered or failed; or: notice sent, expired */
    QUEUE_DEFERRED, /* the destination spoke, but not all is settled; or: could not be done now */
    QUEUE_UNREACHABLE, /* no dialog came about: the destination itself is to be left alone */
};

/* A next hop that was given the message before has answered. Its delivery is due, whatever is known of
 * the destination, beyond all limits and under hold, too. */
enum queue_answer queue_confirm(struct queue *queue, uint64_t id, const char *destination);

/* From now on only what is confirmed is taken. */
void queue_wind_down(struct queue *queue);

/* Sets down how a work has ended; `reason` (may be NULL) is kept for QUEUE_UNREACHABLE. Returns when
 * it will be tried again, to be recorded in the envelope before queue_finish(); 0 = never. */
int64_t queue_judge(struct queue *queue, const struct queue_work *work, enum queue_outcome outcome,
                    const char *reason);

/* Gives the work back. True when the message has left the queue with it. */
bool queue_finish(struct queue *queue, const struct queue_work *work);

/* What an operator may want. A message held is neither tried nor does it expire; released, it is due. */
enum queue_answer queue_hold(struct queue *queue, uint64_t id);
enum queue_answer queue_release(struct queue *queue, uint64_t id);
/* Due now, and the back-off of its destinations forgotten. */
enum queue_answer queue_retry(struct queue *queue, uint64_t id);
/* Keeps everybody else from working on it, until queue_unclaim() gives it back; with `gone` it
 * leaves the queue. */
enum queue_answer queue_claim(struct queue *queue, uint64_t id);
void queue_unclaim(struct queue *queue, uint64_t id, bool gone);

/* When the message's time is over; 0 when it is not there, or that has been put off since. */
int64_t queue_expires_ms(struct queue *queue, uint64_t id);

/* Why the destination could not be reached last; false when nothing is known against it. */
bool queue_destination_reason(struct queue *queue, const char *name, char out[QUEUE_REASON_MAX]);

struct queue_counts {
    size_t messages, held;
    uint64_t first_id; /* the smallest, thus of the message that came first; 0: there is none */
    size_t deliveries; /* message and destination */
    size_t active;     /* works in hand */
    size_t destinations, unreachable;
};
void queue_count(struct queue *queue, struct queue_counts *counts);

#endif
