/* spool/delivery.h - the threads that deliver what is in the spool
 *
 * A pool of its own size, so that a dead internet never takes a worker from a live session. Its
 * threads take what is due from the queue, hand it to a hook that speaks with next hops, set down
 * the results in the envelope, and tell the senders. It owns the queue; the spool is lent to it.
 *
 * Nothing is ever lost between two steps: a report to the sender is in the spool before the
 * recipient it is about is recorded as failed, and a result that cannot be recorded (the disk is
 * full) is remembered and recorded later, and the recipient not tried again meanwhile.
 *
 * All functions are thread-safe but delivery_start() and delivery_stop(). Used by relay-out's main
 * and courier, and by the control socket.
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
    bool relayed; /* DELIVERY_DONE: the far side gives no DSNs, so we tell the sender if he asked */
    char remote[DELIVERY_REMOTE_MAX + 1]; /* "host [address]" that gave the reply; "" = nobody */
    char reply[ENVELOPE_REPLY_MAX + 1];   /* "550 5.1.1 text", lines parted by '\n' */
};

/* A message for some recipients at one destination. All of it is the pool's; the hook fills in
 * `reached` and the results, which are deferred without a reply until then. */
struct delivery_job {
    const char *destination;
    const struct spool_envelope *envelope;
    int data_fd;              /* canonical, dot-stuffed, without the end of data; at its start */
    const size_t *recipients; /* indexes into the envelope's */
    size_t count;
    struct delivery_result *results; /* one for each of them, in that order */
    bool reached;                    /* a next hop spoke with us; else the destination is left alone
                                        for a while, and result 0's reply says why */
    const atomic_bool *stopping;     /* set when the daemon shuts down: come to an end */
    bool interrupted;                /* for that: who is deferred has not been tried */
    atomic_uint *unconfirmed;        /* the pool's count; see delivery_owe() */
    bool owes;
};

/* For the hook, before an end of data goes out: from now on a next hop may have the message, and
 * the job counts as owed until that is on disk. */
void delivery_owe(struct delivery_job *job);

struct delivery_hooks {
    /* Delivers, bounded by deadlines of its own. On a thread of the pool. */
    void (*deliver)(void *context, struct delivery_job *job);
    /* The destination of a recipient, in one spelling: its domain, or a route. Our own reports
     * (envelope->report) go to the bounce route. Must be quick and always give the same while the
     * process lives. */
    void (*destination)(void *context, const struct spool_envelope *envelope,
                        const struct path *recipient, char out[QUEUE_DESTINATION_MAX + 1]);
    /* For tests; NULL: the system's clocks. */
    int64_t (*now_ms)(void *context);       /* a monotonic clock */
    int64_t (*epoch_now_ms)(void *context); /* milliseconds since the epoch: it may jump */
};

struct delivery_config {
    struct spool *spool; /* outlives the pool */
    unsigned threads;
    unsigned destination_concurrency;
    int64_t retry_ms[QUEUE_RETRY_MAX];
    size_t retry_count;
    int64_t lifetime_ms;  /* of our own reports; other messages carry theirs */
    int64_t notice_ms;    /* after so long without success the sender is told; 0 = never */
    uint64_t return_max;  /* RET=FULL is honoured up to so many octets */
    const char *hostname; /* copied */
    struct delivery_hooks hooks;
    void *context; /* for the hooks */
};

struct delivery_pool;

/* Scans the spool, fills the queue and starts the threads. NULL with a reason. */
struct delivery_pool *delivery_start(const struct delivery_config *config,
                                     struct spool_scan_counts *counts, struct error *err);

/* From now on nothing more is begun; what is confirmed meanwhile is still recorded. */
void delivery_wind_down(struct delivery_pool *pool);
/* Behind that: the threads end with what they have under way. Waits for it; true when all have. */
bool delivery_wait(struct delivery_pool *pool, struct deadline deadline);
/* Of what is under way, that which a next hop may have, without its being recorded: if the process
 * ended now it would go out a second time. */
unsigned delivery_unconfirmed(struct delivery_pool *pool);

/* Notices to senders that came to nothing since the start: refused, expired, lost by the disk. */
unsigned delivery_lost_notices(struct delivery_pool *pool);

/* Lets the deliveries under way end, joins the threads, frees. What is left stays in the spool. */
void delivery_stop(struct delivery_pool *pool);

/* A next hop that was given the message outside of the pool has answered: the hook is called for the
 * destination, to tell the results. QUEUE_NO_SUCH: nobody waits for them there. */
enum queue_answer delivery_confirm(struct delivery_pool *pool, uint64_t id,
                                   const char *destination);

/* A message has just been committed to the spool: queue it. Recipients that were tried already
 * carry attempts and next_try. 0; -1 when out of memory (it is then delivered after a restart). */
int delivery_accept(struct delivery_pool *pool, const struct spool_envelope *envelope);

/* Makes a message durable and queues it. A recipient that is already RECIPIENT_FAILED in the envelope
 * was refused by a next hop just now: the sender is told first. After SPOOL_OK nothing can be lost;
 * else nothing is stored. The message is freed in any case. */
enum spool_result delivery_store(struct delivery_pool *pool, struct spool_message *message,
                                 struct spool_envelope *envelope, struct error *err);

/* What an operator may want of a message, in the queue and on disk alike. QUEUE_BUSY: it is being
 * worked on just now. A failure on disk is QUEUE_BUSY too, with a reason in `err`. */
enum queue_answer delivery_hold(struct delivery_pool *pool, uint64_t id, struct error *err);
enum queue_answer delivery_release(struct delivery_pool *pool, uint64_t id, struct error *err);
/* Gives up the recipients of a domain (NULL: all). With `bounce` the sender is told first (where he
 * wants to hear of failures). */
enum queue_answer delivery_discard(struct delivery_pool *pool, uint64_t id, const char *domain,
                                   bool bounce, struct error *err);

/* For queue_retry() and queue_count(); belongs to the pool. */
struct queue *delivery_queue(struct delivery_pool *pool);

/* Looks at the queue again. The queue does so by itself; a clock that is set by hand does not. */
void delivery_wake(struct delivery_pool *pool);

#endif
