/* spool/delivery-internal.h - what the files of spool/delivery share
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_DELIVERY_INTERNAL_H
#define POSTERN_SPOOL_DELIVERY_INTERNAL_H

#include <pthread.h>

#include "spool/delivery.h"
#include "spool/dsn.h"

/* What became of a recipient. */
struct change {
    size_t index; /* of the recipient */
    enum recipient_state state;
    bool tried;
    int64_t when;               /* of the try, seconds */
    const char *remote, *reply; /* NULL: as it was */
};

/* A result that could not be written to the envelope: only this much is remembered. */
struct unrecorded {
    struct unrecorded *next;
    uint64_t id;
    size_t index;
    enum recipient_state state;
};

struct delivery_pool {
    struct delivery_config config;
    char *hostname;
    struct queue *queue;
    pthread_t *threads;
    unsigned started;
    atomic_bool stopping;    /* nothing more is begun */
    atomic_bool ending;      /* and nothing more recorded: the threads end */
    atomic_uint unconfirmed; /* jobs that have an end of data out there, and no record of it yet */
    atomic_uint lost_notices;
    pthread_mutex_t lock; /* of what follows */
    uint64_t wakes;       /* how often something may have become due */
    /* One idle thread waits for the time at which something is due, and the others for being woken: so
     * each piece of work wakes one. */
    pthread_cond_t idle, timer;
    unsigned idle_count;
    bool timer_waits;
    struct deadline timer_due;
    pthread_cond_t ended;
    unsigned running; /* threads that have not ended */
    struct unrecorded *unrecorded;
};

/* Waits and lifetimes run on a monotonic clock, the queue's. Times in envelopes are of the time of
 * day, and are converted when they are written and read: a clock that is set moves neither. */
int64_t delivery_now(const struct delivery_pool *pool);                     /* s since the epoch */
int64_t delivery_to_queue(const struct delivery_pool *pool, int64_t epoch); /* s to ms */
int64_t delivery_from_queue(const struct delivery_pool *pool, int64_t due_ms); /* ms to s; 0: 0 */
/* One work from the queue, to its end. */
void delivery_work(struct delivery_pool *pool, const struct queue_work *work);

/* `effect` may be NULL. */
void delivery_log_problem(uint64_t id, const char *reason, const char *effect);

/* Marks in a copy of the envelope what is settled but could not be recorded. */
void delivery_recall(struct delivery_pool *pool, struct spool_envelope *envelope);
/* Writes changes to the envelope, here and on disk, with `next_try` for what stays queued; removes the
 * message when nothing is left. On failure settled ones are remembered. */
enum spool_result delivery_record(struct delivery_pool *pool, struct spool_envelope *envelope,
                                  const struct change *changes, size_t count, int64_t next_try,
                                  struct error *err);
/* Sets delay_notified for all that is queued. */
enum spool_result delivery_record_notice(struct delivery_pool *pool, uint64_t id,
                                         struct error *err);
/* The message is over. */
enum spool_result delivery_remove(struct delivery_pool *pool, uint64_t id, struct error *err);

/* Spools and queues a report on the recipients marked in `about`; nothing when none is. 0 or -1. */
int delivery_report(struct delivery_pool *pool, const struct spool_envelope *envelope,
                    const bool *about, enum dsn_action action, bool expired, struct error *err);

#endif
