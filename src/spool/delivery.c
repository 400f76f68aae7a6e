/* spool/delivery.c - the threads that deliver the mail in the spool
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "spool/delivery.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/condition.h"
#include "base/i18n.h"
#include "base/log.h"
#include "base/thread.h"
#include "spool/delivery-internal.h"

#define LOOK_AGAIN_MS 3600000

/* The clocks. */

static int64_t delivery_queue_clock(void *context)
{
    const struct delivery_pool *pool = context;
    const struct delivery_hooks *hooks = &pool->config.hooks;
    return hooks->now_ms != NULL ? hooks->now_ms(pool->config.context) : deadline_now_ms();
}

static int64_t delivery_epoch_now_ms(const struct delivery_pool *pool)
{
    const struct delivery_hooks *hooks = &pool->config.hooks;
    struct timespec now;
    if (hooks->epoch_now_ms != NULL)
        return hooks->epoch_now_ms(pool->config.context);
    if (hooks->now_ms != NULL)
        return hooks->now_ms(pool->config.context);
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t delivery_offset_ms(const struct delivery_pool *pool)
{
    return delivery_epoch_now_ms(pool) - delivery_queue_clock((void *)pool);
}

int64_t delivery_now(const struct delivery_pool *pool)
{
    return delivery_epoch_now_ms(pool) / 1000;
}

int64_t delivery_to_queue(const struct delivery_pool *pool, int64_t epoch)
{
    return epoch * 1000 - delivery_offset_ms(pool);
}

int64_t delivery_from_queue(const struct delivery_pool *pool, int64_t due_ms)
{
    return due_ms != 0 ? (due_ms + delivery_offset_ms(pool)) / 1000 : 0;
}

static void delivery_on_wake(void *context)
{
    delivery_wake(context);
}

/* Wakes an idle thread, and the one that watches the timer only if there is no other. */
void delivery_wake(struct delivery_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->wakes++;
    pthread_cond_t *who = pool->idle_count > 0 ? &pool->idle : &pool->timer;
    pthread_mutex_unlock(&pool->lock);
    pthread_cond_signal(who); /* without the lock, which the woken thread needs at once */
}

void delivery_log_problem(uint64_t id, const char *reason, const char *effect)
{
    char text[SPOOL_ID_LEN + 1];
    struct log_line line;
    log_begin(&line, LOG_LEVEL_ERROR, "event=delivery-problem");
    log_str(&line, "id", spool_id_format(id, text));
    log_str(&line, "reason", reason);
    if (effect != NULL)
        log_str(&line, "effect", effect);
    log_end(&line);
}

struct queue *delivery_queue(struct delivery_pool *pool)
{
    return pool->queue;
}

void delivery_wind_down(struct delivery_pool *pool)
{
    atomic_store(&pool->stopping, true);
    queue_wind_down(pool->queue);
}

bool delivery_take_confirmed(struct delivery_pool *pool, struct queue_work *work)
{
    int64_t wait_ms;
    ASSERT(atomic_load(&pool->stopping));
    return queue_take(pool->queue, work, &wait_ms);
}

void delivery_record_confirmed(struct delivery_pool *pool, const struct queue_work *work)
{
    delivery_work(pool, work);
}

static void delivery_end_threads(struct delivery_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->ending, true);
    pthread_cond_broadcast(&pool->idle);
    pthread_cond_broadcast(&pool->timer);
    pthread_mutex_unlock(&pool->lock);
}

bool delivery_wait(struct delivery_pool *pool, struct deadline deadline)
{
    delivery_end_threads(pool);
    pthread_mutex_lock(&pool->lock);
    while (pool->running > 0 && condition_wait(&pool->ended, &pool->lock, deadline))
        ;
    bool ended = pool->running == 0;
    pthread_mutex_unlock(&pool->lock);
    return ended;
}

unsigned delivery_lost_notices(struct delivery_pool *pool)
{
    return atomic_load(&pool->lost_notices);
}

unsigned delivery_notices(struct delivery_pool *pool, enum dsn_action action)
{
    return atomic_load(&pool->notices[action]);
}

unsigned delivery_unconfirmed(struct delivery_pool *pool)
{
    return atomic_load(&pool->unconfirmed);
}

static void delivery_wait_as_timer(struct delivery_pool *pool, uint64_t seen, struct deadline due)
{
    bool in_time = true;
    pool->timer_waits = true;
    pool->timer_due = due;
    while (pool->wakes == seen && !atomic_load(&pool->ending) && in_time)
        in_time = condition_wait(&pool->timer, &pool->lock, pool->timer_due);
    pool->timer_waits = false;
    /* Another thread must watch the timer now. */
    if (pool->idle_count > 0)
        pthread_cond_signal(&pool->idle);
}

static void delivery_wait_idle(struct delivery_pool *pool, uint64_t seen, struct deadline due)
{
    if (due.at_ms < pool->timer_due.at_ms) {
        pool->timer_due = due;
        pthread_cond_signal(&pool->timer);
    }
    pool->idle_count++;
    while (pool->wakes == seen && !atomic_load(&pool->ending) && pool->timer_waits)
        pthread_cond_wait(&pool->idle, &pool->lock);
    pool->idle_count--;
}

/* Waits until something may be due. `seen` is the count of wakes before the queue was asked, so that none
 * is missed in between. */
static void delivery_wait_for_work(struct delivery_pool *pool, uint64_t seen, int64_t wait_ms)
{
    if (wait_ms < 0 || wait_ms > LOOK_AGAIN_MS)
        wait_ms = LOOK_AGAIN_MS;
    struct deadline due = deadline_in_ms(wait_ms);
    pthread_mutex_lock(&pool->lock);
    if (pool->timer_waits)
        delivery_wait_idle(pool, seen, due);
    else
        delivery_wait_as_timer(pool, seen, due);
    pthread_mutex_unlock(&pool->lock);
}

static void *delivery_run(void *context)
{
    struct delivery_pool *pool = context;
    struct queue_work work;
    int64_t wait_ms;

    while (!atomic_load(&pool->ending)) {
        pthread_mutex_lock(&pool->lock);
        uint64_t seen = pool->wakes;
        pthread_mutex_unlock(&pool->lock);
        if (!queue_take(pool->queue, &work, &wait_ms)) {
            delivery_wait_for_work(pool, seen, wait_ms);
            continue;
        }
        if (wait_ms == 0)
            delivery_wake(pool);
        delivery_work(pool, &work);
    }
    pthread_mutex_lock(&pool->lock);
    pool->running--;
    pthread_cond_broadcast(&pool->ended);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Queueing. */

enum queue_answer delivery_confirm(struct delivery_pool *pool, uint64_t id, const char *destination)
{
    return queue_confirm(pool->queue, id, destination);
}

static struct queue_destination *delivery_find(struct queue_destination *destinations, size_t count,
                                               const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(destinations[i].name, name) == 0)
            return &destinations[i];
    }
    return NULL;
}

/* Limits the wait to the longest that is possible: a later time was written while the clock was ahead. */
static int64_t delivery_next_try_time(const struct delivery_pool *pool, int64_t next_try)
{
    int64_t longest = pool->config.answer_ms, due_ms = delivery_to_queue(pool, next_try);
    for (size_t i = 0; i < pool->config.retry_count; i++) {
        if (pool->config.retry_ms[i] > longest)
            longest = pool->config.retry_ms[i];
    }
    int64_t now_ms = delivery_queue_clock((void *)pool);
    return due_ms > now_ms + longest + 1000 ? now_ms : due_ms;
}

/* Recipients at one destination go together: at the earliest time, with the most attempts. */
static void delivery_merge(const struct delivery_pool *pool, struct queue_destination *into,
                           const struct spool_recipient *recipient)
{
    int64_t due_ms = delivery_next_try_time(pool, recipient->next_try);
    if (due_ms < into->next_try_ms)
        into->next_try_ms = due_ms;
    if (recipient->attempts > into->attempts)
        into->attempts = recipient->attempts;
}

/* A message from the future arrived while the clock was ahead: its time begins now. */
static int64_t delivery_arrival(const struct delivery_pool *pool,
                                const struct spool_envelope *envelope)
{
    int64_t now = delivery_now(pool);
    return envelope->arrived < now ? envelope->arrived : now;
}

static int64_t delivery_expiry_time(const struct delivery_pool *pool,
                                    const struct spool_envelope *envelope)
{
    return delivery_to_queue(pool, delivery_arrival(pool, envelope) +
                                       (envelope->expires - envelope->arrived));
}

static int64_t delivery_notice_time(const struct delivery_pool *pool,
                                    const struct spool_envelope *envelope)
{
    if (pool->config.notice_ms == 0 || envelope->sender.is_null)
        return 0;
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        const struct spool_recipient *recipient = &envelope->recipients[i];
        if (recipient->state == RECIPIENT_QUEUED && !recipient->delay_notified &&
            dsn_wanted(envelope, recipient, DSN_DELAYED))
            return delivery_to_queue(pool, delivery_arrival(pool, envelope)) +
                   pool->config.notice_ms;
    }
    return 0;
}

int delivery_accept(struct delivery_pool *pool, const struct spool_envelope *envelope)
{
    size_t left = spool_envelope_left(envelope), count = 0;
    if (left == 0)
        left = 1;
    struct queue_destination *destinations = calloc(left, sizeof *destinations);
    char(*names)[QUEUE_DESTINATION_MAX + 1] = calloc(left, sizeof *names);
    int result = -1;

    for (size_t i = 0; destinations && names && i < envelope->recipient_count; i++) {
        const struct spool_recipient *recipient = &envelope->recipients[i];
        if (recipient->state != RECIPIENT_QUEUED)
            continue;
        pool->config.hooks.destination(pool->config.context, envelope, &recipient->path,
                                       names[count]);
        struct queue_destination *known = delivery_find(destinations, count, names[count]);
        if (known == NULL) {
            destinations[count].name = names[count];
            destinations[count].next_try_ms = INT64_MAX;
            known = &destinations[count++];
        }
        delivery_merge(pool, known, recipient);
    }
    /* No recipients: either the removal of a finished message failed, or the envelope could not be
     * read. A delivery to an empty destination sorts both out. */
    if (destinations != NULL && names != NULL && count == 0)
        destinations[count++] = (struct queue_destination){
            .name = "",
            .next_try_ms = envelope->recipient_count == 0
                               ? delivery_queue_clock(pool) + pool->config.retry_ms[0]
                               : INT64_MIN,
        };
    struct queue_entry entry = {
        .id = envelope->id,
        .expires_ms =
            envelope->recipient_count > 0 ? delivery_expiry_time(pool, envelope) : INT64_MAX,
        .notice_ms = delivery_notice_time(pool, envelope),
        .hold = envelope->hold,
        .held_since_ms = envelope->held_since != 0 ? delivery_to_queue(pool, envelope->held_since)
                                                   : delivery_queue_clock(pool),
        .destinations = destinations,
        .count = count,
        .recipients = spool_envelope_left(envelope),
        .octets = envelope->size,
    };
    if (count > 0)
        result = queue_add(pool->queue, &entry);
    free(destinations);
    free(names);
    return result;
}

/* Storing. */

/* A recipient that the sender cannot be told about now stays queued: the next hop will refuse it again.
 * False if a result could not be recorded: the queue must catch up on it, even if no recipient is left. */
static bool delivery_settle_refused(struct delivery_pool *pool, struct spool_envelope *envelope,
                                    const bool *refused, bool *about, struct change *changes)
{
    struct error err = {""};
    size_t count = 0;

    for (size_t i = 0; i < envelope->recipient_count; i++) {
        about[i] = refused[i] && dsn_wanted(envelope, &envelope->recipients[i], DSN_FAILED);
        if (refused[i])
            changes[count++] = (struct change){.index = i, .state = RECIPIENT_FAILED};
    }
    if (count == 0)
        return true;
    if (delivery_report(pool, envelope, about, DSN_FAILED, false, &err) != 0) {
        delivery_log_problem(envelope->id, err.text,
                             "refused recipients are tried again and reported then");
        return true;
    }
    bool recorded = delivery_record(pool, envelope, changes, count, 0, &err) == SPOOL_OK;
    if (!recorded)
        delivery_log_problem(envelope->id, err.text, "recorded later");
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (refused[i])
            envelope->recipients[i].state = RECIPIENT_FAILED;
    }
    return recorded;
}

/* On disk, refused recipients stay queued until the sender's report is there too. */
static void delivery_mark_refused(struct spool_envelope *envelope, bool *refused)
{
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        struct spool_recipient *recipient = &envelope->recipients[i];
        refused[i] = recipient->state == RECIPIENT_FAILED;
        if (refused[i])
            recipient->state = RECIPIENT_QUEUED;
    }
}

enum spool_result delivery_store(struct delivery_pool *pool, struct spool_message *message,
                                 struct spool_envelope *envelope, struct error *err)
{
    size_t count = envelope->recipient_count;
    bool *refused = calloc(count, sizeof *refused), *about = calloc(count, sizeof *about);
    struct change *changes = calloc(count, sizeof *changes);
    enum spool_result result = SPOOL_BROKEN;

    if (refused == NULL || about == NULL || changes == NULL) {
        error_set(err, _("out of memory"));
        spool_abort(message);
        goto out;
    }
    delivery_mark_refused(envelope, refused);
    result = spool_commit(message, envelope, err);
    if (result != SPOOL_OK)
        goto out;
    bool over = delivery_settle_refused(pool, envelope, refused, about, changes) &&
                spool_envelope_left(envelope) == 0;
    if (!over && delivery_accept(pool, envelope) != 0)
        delivery_log_problem(envelope->id, _("out of memory"), "it is tried after the next start");
out:
    free(refused);
    free(about);
    free(changes);
    return result;
}

/* Starting and stopping. */

struct loading {
    struct delivery_pool *pool;
    bool failed;
};

static void delivery_load(void *context, const struct spool_envelope *envelope)
{
    struct loading *loading = context;
    if (delivery_accept(loading->pool, envelope) != 0)
        loading->failed = true;
}

static int delivery_start_threads(struct delivery_pool *pool)
{
    int result = 0;

    pool->threads = calloc(pool->config.threads, sizeof *pool->threads);
    if (pool->threads == NULL)
        return ENOMEM;
    while (result == 0 && pool->started < pool->config.threads) {
        pthread_mutex_lock(&pool->lock);
        result = thread_start(&pool->threads[pool->started], THREAD_STACK_SIZE, delivery_run, pool);
        pool->started += result == 0;
        pool->running += result == 0;
        pthread_mutex_unlock(&pool->lock);
    }
    return result;
}

static struct queue *delivery_make_queue(struct delivery_pool *pool)
{
    const struct delivery_config *config = &pool->config;
    struct queue_config queue_config = {
        .concurrency = config->threads,
        .destination_concurrency = config->destination_concurrency,
        .retry_count = config->retry_count,
        .seed = (uint64_t)deadline_now_ms(),
        .now_ms = delivery_queue_clock,
        .wake = delivery_on_wake,
        .context = pool,
    };
    memcpy(queue_config.retry_ms, config->retry_ms, sizeof queue_config.retry_ms);
    return queue_new(&queue_config);
}

static struct delivery_pool *delivery_make_pool(const struct delivery_config *config)
{
    struct delivery_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return NULL;
    if (condition_init(&pool->timer) != 0 || condition_init(&pool->ended) != 0) {
        free(pool);
        return NULL;
    }
    pthread_cond_init(&pool->idle, NULL);
    pool->config = *config;
    pthread_mutex_init(&pool->lock, NULL);
    pool->hostname = strdup(config->hostname);
    pool->queue = delivery_make_queue(pool);
    if (pool->hostname != NULL && pool->queue != NULL)
        return pool;
    delivery_stop(pool);
    return NULL;
}

struct delivery_pool *delivery_start(const struct delivery_config *config,
                                     struct spool_scan_counts *counts, struct error *err)
{
    struct delivery_pool *pool = delivery_make_pool(config);
    struct loading loading = {.pool = pool};

    if (pool == NULL) {
        error_set(err, _("out of memory"));
        return NULL;
    }
    if (spool_scan(config->spool, delivery_load, &loading, counts, err) != 0)
        goto fail;
    if (loading.failed) {
        error_set(err, _("out of memory"));
        goto fail;
    }
    int failure = delivery_start_threads(pool);
    if (failure != 0) {
        error_set(err, _("the delivery threads cannot be started: %s"), strerror(failure));
        goto fail;
    }
    return pool;
fail:
    delivery_stop(pool);
    return NULL;
}

void delivery_stop(struct delivery_pool *pool)
{
    if (pool == NULL)
        return;
    if (pool->queue != NULL)
        delivery_wind_down(pool);
    delivery_end_threads(pool);
    for (unsigned i = 0; i < pool->started; i++)
        pthread_join(pool->threads[i], NULL);
    if (pool->unrecorded != NULL)
        log_write(LOG_LEVEL_ERROR, "event=unrecorded deliveries could not be recorded (is the disk "
                                   "full?) and may be repeated after the next start");
    while (pool->unrecorded != NULL) {
        struct unrecorded *entry = pool->unrecorded;
        pool->unrecorded = entry->next;
        free(entry);
    }
    queue_free(pool->queue);
    pthread_cond_destroy(&pool->idle);
    pthread_cond_destroy(&pool->timer);
    pthread_cond_destroy(&pool->ended);
    pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool->hostname);
    free(pool);
}
