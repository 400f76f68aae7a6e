/* out/depot.c - the life of relay-out's spool and its delivery
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
#include "out/depot-internal.h"

#define RESERVE_FILES 1000 /* inodes: a message needs two */
#define WAIT_STEP_MS 100
#define RECORDING_MS 1000 /* at the end, for what needs no next hop any more */

_Static_assert((int)CONFIG_DURATIONS_MAX == (int)QUEUE_RETRY_MAX, "a list fits the queue");

struct depot *depot_open(const struct config *config, struct error *err)
{
    struct depot *depot = calloc(1, sizeof *depot);
    char *folder = strdup(config->out.spool);
    const struct spool_config spool = {
        .folder = folder,
        .reserve_octets = (uint64_t)config->out.spool_reserve,
        .reserve_files = RESERVE_FILES,
    };

    if (depot == NULL || folder == NULL || condition_init(&depot->taken) != 0) {
        error_set(err, _("out of memory"));
        free(folder);
        free(depot);
        return NULL;
    }
    depot->folder = folder;
    pthread_mutex_init(&depot->lock, NULL);
    depot_make_store(depot);
    depot->spool = spool_open(&spool, false, err);
    if (depot->spool != NULL)
        return depot;
    depot_close(depot, deadline_in_ms(0));
    return NULL;
}

struct outbound *depot_snapshot(struct depot *depot)
{
    pthread_mutex_lock(&depot->lock);
    struct outbound *out = depot->current;
    service_ref(&out->service);
    pthread_mutex_unlock(&depot->lock);
    return out;
}

static void log_found(const struct depot *depot, const struct spool_scan_counts *counts)
{
    struct log_line line;
    log_begin(&line, LOG_LEVEL_NOTICE, "event=spool");
    log_str(&line, "folder", depot->folder);
    log_int(&line, "messages", counts->messages);
    log_int(&line, "removed", counts->removed);
    log_int(&line, "quarantined", counts->quarantined);
    log_end(&line);
}

static int start_delivery(struct depot *depot, struct error *err)
{
    const struct config_out *out = &depot->first->config->out;
    struct delivery_config config = {
        .spool = depot->spool,
        .threads = (unsigned)out->deliveries,
        .destination_concurrency = (unsigned)out->limits.deliveries_per_destination,
        .retry_count = out->retry.count,
        .lifetime_ms = out->lifetime_ms,
        .notice_ms = out->delay_notice_ms,
        .return_max = (uint64_t)out->bounce_size,
        .hostname = depot->first->config->hostname,
        .hooks = {.deliver = depot_deliver, .destination = depot_destination},
        .context = depot,
    };
    struct spool_scan_counts counts;

    memcpy(config.retry_ms, out->retry.items, sizeof config.retry_ms);
    depot->pool = delivery_start(&config, &counts, err);
    if (depot->pool == NULL)
        return -1;
    log_found(depot, &counts);
    return 0;
}

int depot_use(struct depot *depot, struct outbound *out, struct error *err)
{
    struct outbound *before;

    service_ref(&out->service);
    pthread_mutex_lock(&depot->lock);
    before = depot->current;
    depot->current = out;
    pthread_mutex_unlock(&depot->lock);
    if (before != NULL) {
        service_unref(&before->service);
        return 0;
    }
    service_ref(&out->service);
    depot->first = out;
    return start_delivery(depot, err);
}

void depot_wind_down(struct depot *depot)
{
    /* A message that was stored a moment ago is still to be taken up by the delivery that waits for its
     * next hops: they would be given it again otherwise. */
    if (depot->pool != NULL && !depot->winding_down)
        depot_see_awaited_taken(depot, deadline_in_ms(RECORDING_MS));
    depot->winding_down = true;
    if (depot->pool != NULL)
        delivery_wind_down(depot->pool);
    depot_stop_awaited(depot);
}

/* Threads that only try to reach somebody need not be waited for: nothing has happened yet. */
static bool wait_for_threads(struct depot *depot, struct deadline deadline)
{
    struct deadline recording = deadline_in_ms(RECORDING_MS);

    while (!delivery_wait(depot->pool, deadline_in_ms(WAIT_STEP_MS))) {
        bool owed = delivery_owed(depot->pool) > 0;
        if (owed ? deadline_passed(deadline) : deadline_passed(recording))
            return false;
        if (owed)
            recording = deadline_in_ms(RECORDING_MS);
    }
    return true;
}

static void depot_forget(struct outbound *out)
{
    if (out != NULL)
        service_unref(&out->service);
}

bool depot_close(struct depot *depot, struct deadline deadline)
{
    depot_wind_down(depot);
    if (depot->pool != NULL && !wait_for_threads(depot, deadline))
        return false;
    delivery_stop(depot->pool);
    depot_free_awaited(depot);
    if (depot->spool != NULL)
        spool_close(depot->spool);
    depot_forget(depot->current);
    depot_forget(depot->first);
    pthread_mutex_destroy(&depot->lock);
    pthread_cond_destroy(&depot->taken);
    free(depot->folder);
    free(depot);
    return true;
}

const struct out_store *depot_store(struct depot *depot)
{
    return &depot->store;
}

void depot_measure(struct depot *depot, struct counters *counters)
{
    struct queue_counts counts;
    struct statvfs room;
    int64_t now = (int64_t)time(NULL);

    queue_count(delivery_queue(depot->pool), &counts);
    int64_t oldest = counts.messages > 0 ? now - spool_id_time(counts.first_id) : 0;
    counters_set(counters, COUNTER_SPOOL_MESSAGES, counts.messages);
    counters_set(counters, COUNTER_NOTICES_LOST, delivery_lost_notices(depot->pool));
    counters_set(counters, COUNTER_SPOOL_OLDEST, oldest > 0 ? (uint64_t)oldest : 0);
    if (statvfs(depot->folder, &room) == 0)
        counters_set(counters, COUNTER_SPOOL_FREE, (uint64_t)room.f_bavail * room.f_frsize);
}

struct delivery_pool *depot_pool(struct depot *depot)
{
    return depot->pool;
}

enum queue_answer depot_retry(struct depot *depot, uint64_t id)
{
    remotes_forget_dead(depot->first->remotes);
    return queue_retry(delivery_queue(depot->pool), id);
}

const char *depot_folder(const struct depot *depot)
{
    return depot->folder;
}
