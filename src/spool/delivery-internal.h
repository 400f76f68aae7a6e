/* spool/delivery-internal.h - the structures that spool/delivery*.c share; nothing else includes it
 *
 * The pool's lock protects the members below it. delivery.c has the threads, delivery-work.c does one
 * piece of work, delivery-record.c puts its results on disk.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_DELIVERY_INTERNAL_H
#define POSTERN_SPOOL_DELIVERY_INTERNAL_H

#include <pthread.h>

#include "spool/delivery.h"
#include "spool/dsn.h"

/* A recipient's new state. */
struct change {
    size_t index; /* of the recipient */
    enum recipient_state state;
    bool tried;
    int64_t when;               /* of the try, seconds since the epoch */
    const char *remote, *reply; /* NULL: unchanged */
};

/* A result that could not be written to the envelope. Only this much of it is remembered. */
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
    atomic_bool stopping;    /* begin nothing more */
    atomic_bool ending;      /* record nothing more either: the threads end */
    atomic_uint unconfirmed; /* jobs that have sent an end of data and have not recorded it yet */
    atomic_uint lost_notices;
    atomic_uint notices[DSN_RELAYED + 1]; /* written so far, of each action */
    pthread_mutex_t lock;                 /* protects everything below */
    uint64_t wakes;       /* how often something may have become due */
    /* One idle thread waits until something is due; the others wait to be woken. So each piece of work
     * wakes one thread. */
    pthread_cond_t idle, timer;
    unsigned idle_count;
    bool timer_waits;
    struct deadline timer_due;
    pthread_cond_t ended;
    unsigned running; /* threads that have not ended */
    struct unrecorded *unrecorded;
};

/* Waits and lifetimes run on the queue's monotonic clock. Times in envelopes are wall-clock times,
 * converted when written and read. So setting the system's clock changes no wait or lifetime. */
int64_t delivery_now(const struct delivery_pool *pool);                     /* s since the epoch */
int64_t delivery_to_queue(const struct delivery_pool *pool, int64_t epoch); /* s to ms */
int64_t delivery_from_queue(const struct delivery_pool *pool, int64_t due_ms); /* ms to s; 0: 0 */
/* Does one piece of work from the queue and gives it back. */
void delivery_work(struct delivery_pool *pool, const struct queue_work *work);

/* `effect` may be NULL. */
void delivery_log_problem(uint64_t id, const char *reason, const char *effect);

/* Marks, in a copy of the envelope, results that could not be recorded. */
void delivery_recall(struct delivery_pool *pool, struct spool_envelope *envelope);
/* Writes changes to the envelope, in memory and on disk, with `next_try` for recipients that stay queued.
 * Removes the message if none is left. On failure, settled recipients are remembered. */
enum spool_result delivery_record(struct delivery_pool *pool, struct spool_envelope *envelope,
                                  const struct change *changes, size_t count, int64_t next_try,
                                  struct error *err);
/* Sets delay_notified for all queued recipients. */
enum spool_result delivery_record_notice(struct delivery_pool *pool, uint64_t id,
                                         struct error *err);

/* Spools and queues a report on the recipients marked in `about`; does nothing if there are none. Returns 0,
 * or -1 with a reason in `err`. */
int delivery_report(struct delivery_pool *pool, const struct spool_envelope *envelope,
                    const bool *about, enum dsn_action action, bool expired, struct error *err);

#endif
