/* relay-out/spooler.c - starts, ends and measures relay-out's spool and its delivery
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/condition.h"
#include "base/i18n.h"
#include "base/log.h"
#include "relay-out/spooler-internal.h"

#define RESERVE_FILES 1000 /* inodes: a message needs two */
#define WAIT_STEP_MS 100
#define RECORDING_MS 1000 /* at the end, for records that need no next hop any more */

_Static_assert((int)CONFIG_DURATIONS_MAX == (int)QUEUE_RETRY_MAX, "a list fits the queue");

struct spooler *spooler_open(const struct config *config, struct error *err)
{
    struct spooler *spooler = calloc(1, sizeof *spooler);
    char *folder = strdup(config->out.spool);
    const struct spool_config spool = {
        .folder = folder,
        .reserve_octets = (uint64_t)config->out.spool_reserve,
        .reserve_files = RESERVE_FILES,
    };

    if (spooler == NULL || folder == NULL || condition_init(&spooler->changed) != 0) {
        error_set(err, _("out of memory"));
        free(folder);
        free(spooler);
        return NULL;
    }
    spooler->folder = folder;
    pthread_mutex_init(&spooler->lock, NULL);
    spooler->answered.wake = spooler_on_answer;
    atomic_init(&spooler->hand_over_ms, INT64_MAX);
    spooler->spool = spool_open(&spool, false, err);
    if (spooler->spool != NULL)
        return spooler;
    spooler_close(spooler, deadline_in_ms(0));
    return NULL;
}

struct outbound *spooler_snapshot(struct spooler *spooler)
{
    pthread_mutex_lock(&spooler->lock);
    struct outbound *out = spooler->current;
    service_ref(&out->service);
    pthread_mutex_unlock(&spooler->lock);
    return out;
}

static void spooler_log_found(const struct spooler *spooler, const struct spool_scan_counts *counts)
{
    struct log_line line;
    log_begin(&line, LOG_LEVEL_NOTICE, "event=spool");
    log_str(&line, "folder", spooler->folder);
    log_int(&line, "messages", counts->messages);
    log_int(&line, "removed", counts->removed);
    log_int(&line, "quarantined", counts->quarantined);
    log_end(&line);
}

static int spooler_start_delivery(struct spooler *spooler, struct error *err)
{
    const struct config_out *out = &spooler->first->config->out;
    struct delivery_config config = {
        .spool = spooler->spool,
        .threads = (unsigned)out->deliveries,
        .destination_concurrency = (unsigned)out->limits.deliveries_per_destination,
        .retry_count = out->retry.count,
        .answer_ms = spooler_answer_ms(spooler->first),
        .lifetime_ms = out->lifetime_ms,
        .notice_ms = out->delay_notice_ms,
        .return_max = (uint64_t)out->bounce_size,
        .hostname = spooler->first->config->hostname,
        .hooks = {.deliver = spooler_deliver, .destination = spooler_destination},
        .context = spooler,
    };
    struct spool_scan_counts counts;

    memcpy(config.retry_ms, out->retry.items, sizeof config.retry_ms);
    spooler->pool = delivery_start(&config, &counts, err);
    if (spooler->pool == NULL)
        return -1;
    spooler_log_found(spooler, &counts);
    return 0;
}

/* A connection to this destination is kept for stored mail. */
static void spooler_on_place(void *context, const char *key)
{
    struct spooler *spooler = context;
    char destination[QUEUE_DESTINATION_MAX + 1];

    snprintf(destination, sizeof destination, "%.*s", QUEUE_DESTINATION_MAX, key);
    queue_resume(delivery_queue(spooler->pool), destination);
}

int spooler_use(struct spooler *spooler, struct outbound *out, struct error *err)
{
    struct outbound *before;

    service_ref(&out->service);
    pthread_mutex_lock(&spooler->lock);
    before = spooler->current;
    spooler->current = out;
    pthread_mutex_unlock(&spooler->lock);
    if (before != NULL) {
        service_unref(&before->service);
        queue_forgive(delivery_queue(spooler->pool));
        return 0;
    }
    service_ref(&out->service);
    spooler->first = out;
    if (spooler_start_delivery(spooler, err) != 0)
        return -1;
    host_cache_on_place(out->host_cache, spooler_on_place, spooler);
    return 0;
}

/* Half of the time is left for the answers of next hops that are handed over by then. */
void spooler_wind_down(struct spooler *spooler, struct deadline deadline)
{
    int64_t now_ms = deadline_now_ms();

    atomic_store(&spooler->hand_over_ms, now_ms + (deadline.at_ms - now_ms) / 2);
    if (spooler->pool != NULL)
        delivery_wind_down(spooler->pool);
    spooler_wind_down_awaited(spooler);
}

struct deadline spooler_hand_over(struct spooler *spooler)
{
    return (struct deadline){atomic_load(&spooler->hand_over_ms)};
}

/* There is no need to wait for threads that are still connecting: nothing has happened yet. */
static bool spooler_wait_for_threads(struct spooler *spooler, struct deadline deadline)
{
    struct deadline recording = deadline_in_ms(RECORDING_MS);

    while (!delivery_wait(spooler->pool, deadline_in_ms(WAIT_STEP_MS))) {
        bool unconfirmed = delivery_unconfirmed(spooler->pool) > 0;
        if (unconfirmed ? deadline_passed(deadline) : deadline_passed(recording))
            return false;
        if (unconfirmed)
            recording = deadline_in_ms(RECORDING_MS);
    }
    return true;
}

static void spooler_forget(struct outbound *out)
{
    if (out != NULL)
        service_unref(&out->service);
}

bool spooler_close(struct spooler *spooler, struct deadline deadline)
{
    spooler_wind_down(spooler, deadline);
    if (spooler->pool != NULL &&
        (!spooler_await_all(spooler, deadline) || !spooler_wait_for_threads(spooler, deadline)))
        return false;
    if (spooler->pool != NULL)
        host_cache_on_place(spooler->first->host_cache, NULL, NULL);
    spooler_free_awaited(spooler); /* before the pool, which they may still wake */
    delivery_stop(spooler->pool);
    if (spooler->spool != NULL)
        spool_close(spooler->spool);
    spooler_forget(spooler->current);
    spooler_forget(spooler->first);
    pthread_mutex_destroy(&spooler->lock);
    pthread_cond_destroy(&spooler->changed);
    free(spooler->folder);
    free(spooler);
    return true;
}

static void spooler_measure_shares(struct counters *counters,
                                   const struct queue_share shares[QUEUE_STATES])
{
    static const struct {
        enum counter messages, recipients, octets;
    } rows[QUEUE_STATES] = {
        [QUEUE_WAITING] = {COUNTER_SPOOL_MESSAGES_WAITING, COUNTER_SPOOL_RECIPIENTS_WAITING,
                           COUNTER_SPOOL_OCTETS_WAITING},
        [QUEUE_DUE] = {COUNTER_SPOOL_MESSAGES_DUE, COUNTER_SPOOL_RECIPIENTS_DUE,
                       COUNTER_SPOOL_OCTETS_DUE},
        [QUEUE_HELD] = {COUNTER_SPOOL_MESSAGES_HELD, COUNTER_SPOOL_RECIPIENTS_HELD,
                        COUNTER_SPOOL_OCTETS_HELD},
    };
    for (size_t i = 0; i < QUEUE_STATES; i++) {
        counters_set(counters, rows[i].messages, shares[i].messages);
        counters_set(counters, rows[i].recipients, shares[i].recipients);
        counters_set(counters, rows[i].octets, shares[i].octets);
    }
}

void spooler_measure(struct spooler *spooler, struct counters *counters)
{
    struct queue_counts counts;
    struct statvfs room;
    int64_t now = (int64_t)time(NULL);

    queue_count(delivery_queue(spooler->pool), &counts);
    int64_t oldest = counts.messages > 0 ? now - spool_id_time(counts.first_id) : 0;
    spooler_measure_shares(counters, counts.shares);
    counters_set(counters, COUNTER_NOTICES_LOST, delivery_lost_notices(spooler->pool));
    counters_set(counters, COUNTER_SPOOL_QUARANTINED, spool_count_quarantined(spooler->spool));
    counters_set(counters, COUNTER_NOTICES_FAILURE, delivery_notices(spooler->pool, DSN_FAILED));
    counters_set(counters, COUNTER_NOTICES_DELAY, delivery_notices(spooler->pool, DSN_DELAYED));
    counters_set(counters, COUNTER_NOTICES_RELAYED, delivery_notices(spooler->pool, DSN_RELAYED));
    counters_set(counters, COUNTER_SPOOL_OLDEST, oldest > 0 ? (uint64_t)oldest : 0);
    if (statvfs(spooler->folder, &room) == 0)
        counters_set(counters, COUNTER_SPOOL_FREE, (uint64_t)room.f_bavail * room.f_frsize);
}

struct delivery_pool *spooler_pool(struct spooler *spooler)
{
    return spooler->pool;
}

void spooler_forget_dead(struct spooler *spooler)
{
    host_cache_forget_dead(spooler->first->host_cache);
}

const char *spooler_folder(const struct spooler *spooler)
{
    return spooler->folder;
}
