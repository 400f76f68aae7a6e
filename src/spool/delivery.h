/* spool/delivery.h - the threads that deliver the mail in the spool
 *
 * A separate pool, so that unreachable hosts never take a worker from a live session. Its threads take
 * due work from the queue, pass it to a hook that talks to next hops, record the results in the
 * envelope, and notify senders. The pool owns the queue and borrows the spool.
 *
 * Nothing is lost between two steps. A report to the sender is in the spool before its recipient is
 * recorded as failed. A result that cannot be recorded because the disk is full is remembered and
 * recorded later; the recipient is not tried again in the meantime.
 *
 * All functions are thread-safe except delivery_start() and delivery_stop(). Used by relay-out's main,
 * its courier and the control socket.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_DELIVERY_H
#define POSTERN_SPOOL_DELIVERY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/deadline.h"
#include "base/error.h"
#include "spool/dsn.h"
#include "spool/queue.h"
#include "spool/spool.h"

#define DELIVERY_REMOTE_MAX 320 /* octets: a host name and an address in brackets */

enum delivery_outcome {
    DELIVERY_DEFERRED, /* 4xx, or no answer */
    DELIVERY_DONE,
    DELIVERY_REFUSED, /* 5xx */
};

struct delivery_result {
    enum delivery_outcome outcome;
    bool relayed; /* DELIVERY_DONE: the next hop sends no DSNs, so we do if the sender asked */
    char remote[DELIVERY_REMOTE_MAX + 1]; /* "host [address]" that gave the reply; "" = none */
    char reply[ENVELOPE_REPLY_MAX + 1];   /* "550 5.1.1 text", lines separated by '\n' */
};

/* A message for some recipients at one destination. The pool owns all of it. The hook fills in `reached` and
 * the results, which start as deferred without a reply. */
struct delivery_job {
    const char *destination;
    const struct spool_envelope *envelope;
    int data_fd;              /* canonical, dot-stuffed, without the end of data; at its start */
    const size_t *recipients; /* indexes into the envelope's recipients */
    size_t count;
    struct delivery_result *results; /* one for each of them, in that order */
    bool reached;                    /* a next hop answered; otherwise the destination is left alone
                                        for a while, and result 0's reply says why */
    const atomic_bool *stopping;     /* set when the daemon shuts down: finish soon */
    bool interrupted;                /* cut short because of that: deferred means not tried */
    /* Nothing more is to be tried for this long, because the destination takes nothing, or so that what was done is
     * recorded first: results without a reply were not tried. 0: all were. */
    int64_t postponed_ms;
    atomic_uint *unconfirmed; /* the pool's count; see delivery_owe() */
    bool owes;
};

/* The hook calls it before it sends an end of data. From now on a next hop may have the message, and the job
 * counts as unconfirmed until that is on disk. */
void delivery_owe(struct delivery_job *job);

struct delivery_hooks {
    /* Delivers, bounded by its own deadlines. Runs on a thread of the pool. */
    void (*deliver)(void *context, struct delivery_job *job);
    /* The destination of a recipient, always spelled the same: its domain, or a route. Our own reports
     * (envelope->report) go to the bounce route. Must be quick, and give the same answer for the life of
     * the process. */
    void (*destination)(void *context, const struct spool_envelope *envelope,
                        const struct path *recipient, char out[QUEUE_DESTINATION_MAX + 1]);
    /* Clocks for tests; NULL: the system's. */
    int64_t (*now_ms)(void *context);       /* a monotonic clock */
    int64_t (*epoch_now_ms)(void *context); /* milliseconds since the epoch: it may jump */
};

struct delivery_config {
    struct spool *spool; /* outlives the pool */
    unsigned threads;
    unsigned destination_concurrency;
    int64_t retry_ms[QUEUE_RETRY_MAX];
    size_t retry_count;
    int64_t answer_ms;   /* the longest wait for the late answer of a next hop, before a next try */
    int64_t lifetime_ms; /* of our own reports; other messages have their own */
    int64_t notice_ms;   /* time without success before the sender is told; 0 = never */
    uint64_t return_max; /* octets up to which RET=FULL is honoured */
    const char *hostname; /* copied */
    struct delivery_hooks hooks;
    void *context; /* for the hooks */
};

struct delivery_pool;

/* Scans the spool, fills the queue and starts the threads. NULL with a reason in `err` on failure. */
struct delivery_pool *delivery_start(const struct delivery_config *config,
                                     struct spool_scan_counts *counts, struct error *err);

/* Begins nothing more from now on. Confirmed deliveries are still recorded. */
void delivery_wind_down(struct delivery_pool *pool);
/* Takes a confirmed delivery for the caller's own thread, because the pool's may all be waiting for next hops.
 * Call it after delivery_wind_down(). False: there is none. */
bool delivery_take_confirmed(struct delivery_pool *pool, struct queue_work *work);
/* Records it: the hook is called, as on the pool's threads. */
void delivery_record_confirmed(struct delivery_pool *pool, const struct queue_work *work);
/* Call it after delivery_wind_down(): waits until the threads have finished their current work and ended.
 * False if some have not by `deadline`. */
bool delivery_wait(struct delivery_pool *pool, struct deadline deadline);
/* The number of jobs whose message a next hop may have, without a record of it: if the process ended now,
 * they would be delivered again. */
unsigned delivery_unconfirmed(struct delivery_pool *pool);

/* The number of notices to senders lost since the start: refused, expired, or lost by the disk. */
unsigned delivery_lost_notices(struct delivery_pool *pool);
/* Notices to senders that were written since the start. */
unsigned delivery_notices(struct delivery_pool *pool, enum dsn_action action);

/* Lets running deliveries finish, joins the threads and frees. The rest stays in the spool. */
void delivery_stop(struct delivery_pool *pool);

/* Call it when a next hop that got the message outside the pool has answered. The hook is then called for the
 * destination, to fill in the results. QUEUE_NO_SUCH: no recipient waits there. */
enum queue_answer delivery_confirm(struct delivery_pool *pool, uint64_t id,
                                   const char *destination);

/* Queues a message that was just committed to the spool. Recipients already tried have their attempts and
 * next_try set. Returns 0, or -1 if out of memory (it is then delivered after a restart). */
int delivery_accept(struct delivery_pool *pool, const struct spool_envelope *envelope);

/* Makes a message durable and queues it. A recipient that is RECIPIENT_FAILED in the envelope was just
 * refused by a next hop: the sender is told first. After SPOOL_OK nothing can be lost; otherwise nothing is
 * stored. Always frees the message. */
enum spool_result delivery_store(struct delivery_pool *pool, struct spool_message *message,
                                 struct spool_envelope *envelope, struct error *err);

/* An operator's orders, carried out in the queue and on disk. QUEUE_BUSY: the message is being worked on, or
 * the disk failed, and then `err` says why. */
enum queue_answer delivery_hold(struct delivery_pool *pool, uint64_t id, struct error *err);
enum queue_answer delivery_release(struct delivery_pool *pool, uint64_t id, struct error *err);
/* Gives up the recipients in a domain (NULL: all). With `bounce`, a sender who wants failure notices is told
 * first. */
enum queue_answer delivery_discard(struct delivery_pool *pool, uint64_t id, const char *domain,
                                   bool bounce, struct error *err);

/* The pool's queue, for queue_retry() and queue_count(). Borrowed. */
struct queue *delivery_queue(struct delivery_pool *pool);

/* Makes the threads check the queue again. Only tests that set the clock by hand need it. */
void delivery_wake(struct delivery_pool *pool);

#endif
