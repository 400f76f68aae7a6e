/* spool/queue.h - the in-memory index of spooled messages: decides what to try next
 *
 * It keeps a few numbers per message, and a due time for each of its destinations. Sender, recipients and
 * mail data stay on disk. A destination is a name that the caller chooses (the recipients' domain, a
 * route), always spelled the same. All messages for it share its back-off and its places.
 *
 * Order: messages that have expired or need a notice come first. Then destinations with due work take
 * turns, each with the message that has been due longest. A destination that cannot be reached is left
 * alone for growing periods and then probed by one delivery; all such probes together take at most half
 * of the places. New mail for it brings the next probe forward, so that it need not wait longer than for a
 * first retry.
 *
 * A message that reaches the end of its lifetime is tried once more at each of its destinations before it
 * expires, at once and even if they are known to be down. If a destination cannot be reached, one such
 * try counts for everything that waits for it. Time on hold does not count towards the lifetime.
 *
 * A confirmed delivery was made elsewhere and its outcome is known. It comes before everything else,
 * because it only needs to be recorded.
 *
 * Pure logic: no IO, no threads, and no clock except the one it is given. All functions are thread-safe.
 * The queue owns everything in it. Times are milliseconds of that clock, which never jumps. Used by
 * spool/delivery and the control socket.
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
    unsigned concurrency;              /* most pieces of work at once, over all destinations */
    unsigned destination_concurrency;  /* ... and for one destination */
    int64_t retry_ms[QUEUE_RETRY_MAX]; /* waits after the first, second ... attempt; the last one
                                        * repeats. Each is shortened by up to a fifth at random. */
    size_t retry_count;
    uint64_t seed;                    /* for that randomness */
    int64_t (*now_ms)(void *context); /* a monotonic clock */
    /* Called when something may have become due, except by queue_finish(), whose caller takes the next
     * work itself. Called without the lock; may be NULL. */
    void (*wake)(void *context);
    void *context;
};

struct queue;

/* Makes a queue, which the caller frees with queue_free(). It copies the configuration. NULL if out of
 * memory. */
struct queue *queue_new(const struct queue_config *config);
void queue_free(struct queue *queue);

/* A message in the spool. */
struct queue_destination {
    const char *name;
    int64_t next_try_ms; /* in the past: at once */
    unsigned attempts;   /* made so far, including live ones */
};
struct queue_entry {
    uint64_t id;
    int64_t expires_ms;
    int64_t notice_ms; /* when a delay notice is due; 0 = none, or already sent */
    bool hold;
    int64_t held_since_ms;                        /* with `hold` */
    const struct queue_destination *destinations; /* without duplicates */
    size_t count;                                 /* at least 1 */
    size_t recipients;                            /* unsettled ones, for queue_count() */
    uint64_t octets;                              /* the same */
};

/* Adds a message. Returns 0, or -1 if out of memory, if the id is already there, or if a name is too long. */
int queue_add(struct queue *queue, const struct queue_entry *entry);

enum queue_kind {
    QUEUE_DELIVER, /* deliver the message to the destination */
    QUEUE_NOTICE,  /* tell the sender that the message is delayed */
    QUEUE_EXPIRE,  /* it has expired and had its last tries: fail the rest and remove it. No
                    * delivery is running. */
};

struct queue_work {
    enum queue_kind kind;
    uint64_t id;
    unsigned attempts;                           /* QUEUE_DELIVER: before this one */
    char destination[QUEUE_DESTINATION_MAX + 1]; /* QUEUE_DELIVER */
};

enum queue_answer { QUEUE_DONE, QUEUE_NO_SUCH, QUEUE_BUSY /* being worked on: try again */ };

/* Takes the next work, which the caller returns with queue_finish(). *wait_ms is then 0 if there is more for
 * another thread, or -1 if not. False if nothing is due or no place is free; *wait_ms is then the time until
 * something is due, or -1 if only an event can change that (a wake, or returned work). */
bool queue_take(struct queue *queue, struct queue_work *work, int64_t *wait_ms);

enum queue_outcome {
    QUEUE_SETTLED,     /* every recipient there is delivered or failed; or notice sent, expired */
    QUEUE_DEFERRED,    /* the destination answered, but not all is settled; or not possible now */
    QUEUE_UNREACHABLE, /* no dialog: leave the destination itself alone for a while */
};

/* A next hop that already has the message has answered. Its delivery becomes due, regardless of the state of
 * the destination, of limits and of a hold. */
enum queue_answer queue_confirm(struct queue *queue, uint64_t id, const char *destination);

/* From now on, queue_take() only returns confirmed deliveries. */
void queue_wind_down(struct queue *queue);

/* Notes the outcome of work; `reason` (may be NULL) is kept for QUEUE_UNREACHABLE. Returns the time of the
 * next try, which the caller records in the envelope before queue_finish(); 0 = never. */
int64_t queue_judge(struct queue *queue, const struct queue_work *work, enum queue_outcome outcome,
                    const char *reason);

/* Call instead of queue_judge() if nothing, or not everything, was tried, because the destination takes nothing
 * for `wait_ms`. Leaves it alone for that time. This counts neither as an attempt nor as a failure. */
void queue_postpone(struct queue *queue, const struct queue_work *work, int64_t wait_ms);

/* The destination takes something again: ends the wait of queue_postpone(). */
void queue_resume(struct queue *queue, const char *destination);

/* Returns the work. True if the message has left the queue with it. */
bool queue_finish(struct queue *queue, const struct queue_work *work);

/* An operator's orders. A held message is neither tried nor does it expire; a released one is due. */
enum queue_answer queue_hold(struct queue *queue, uint64_t id);
enum queue_answer queue_release(struct queue *queue, uint64_t id);
/* Makes it due now, and forgets the back-off of its destinations. If a running try fails, the next one comes as
 * soon as after a first try. */
enum queue_answer queue_retry(struct queue *queue, uint64_t id);
/* Forgets the back-off of all destinations: what kept us from reaching them may have been mended here. */
void queue_forgive(struct queue *queue);
/* Keeps all others from working on the message until queue_unclaim() returns it. With `gone` it leaves the
 * queue. */
enum queue_answer queue_claim(struct queue *queue, uint64_t id);
void queue_unclaim(struct queue *queue, uint64_t id, bool gone);

/* When the message expires; 0 if it is not in the queue, or if its expiry has since been put off. */
int64_t queue_expires_ms(struct queue *queue, uint64_t id);

/* Notes how many of the message's recipients are left. */
void queue_note_recipients(struct queue *queue, uint64_t id, size_t recipients);

/* Stores why the destination was last unreachable. False if it is not known to be. */
bool queue_destination_reason(struct queue *queue, const char *name, char out[QUEUE_REASON_MAX]);

enum queue_state {
    QUEUE_WAITING, /* for its next attempt */
    QUEUE_DUE,     /* for one of its destinations at least, or being worked on */
    QUEUE_HELD,
    QUEUE_STATES, /* how many there are */
};
struct queue_share {
    uint64_t messages, recipients, octets;
};
struct queue_counts {
    size_t messages;
    struct queue_share shares[QUEUE_STATES]; /* of all messages */
    uint64_t first_id;                       /* the smallest, so the oldest message's; 0: none */
    size_t deliveries;                       /* pairs of message and destination */
    size_t active;                           /* pieces of work taken and not returned */
    size_t destinations, unreachable;
};
void queue_count(struct queue *queue, struct queue_counts *counts);

#endif
