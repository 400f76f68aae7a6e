/* relay-out/host-cache.c - the life of the cache, and the thread that keeps it in order
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/host-cache-internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "base/i18n.h"
#include "base/thread.h"

static struct deadline host_cache_next_due(const struct host_cache *host_cache)
{
    struct deadline due = deadline_in_ms(3600000);
    for (const struct stored_claim *at = host_cache->stored_claims; at != NULL; at = at->next) {
        if (at->claim.state == HOST_CACHE_CLAIM_HELD)
            due = deadline_earlier(due, (struct deadline){at->claim.until_ms});
    }
    for (size_t i = 0; i < host_cache->kept_count; i++)
        due = deadline_earlier(due, (struct deadline){host_cache->kept[i].until_ms});
    return due;
}

static void *host_cache_keep_order(void *context)
{
    struct host_cache *host_cache = context;

    lock_take(&host_cache->lock);
    while (!host_cache->ending) {
        if (host_cache_dismiss_one(host_cache, false) ||
            host_cache_dismiss_stored(host_cache, false))
            continue;
        struct deadline due = host_cache_next_due(host_cache);
        host_cache->janitor_due_ms = due.at_ms;
        lock_wait(&host_cache->lock, &host_cache->kept_changed, due);
    }
    while (host_cache_dismiss_one(host_cache, true) || host_cache_dismiss_stored(host_cache, true))
        ;
    lock_drop(&host_cache->lock);
    return NULL;
}

struct host_cache *host_cache_new(struct error *err)
{
    struct host_cache *host_cache = calloc(1, sizeof *host_cache);

    if (host_cache == NULL || condition_init(&host_cache->place_free) != 0 ||
        condition_init(&host_cache->kept_changed) != 0) {
        error_set(err, _("out of memory"));
        free(host_cache);
        return NULL;
    }
    lock_init(&host_cache->lock);
    int result =
        thread_start(&host_cache->janitor, THREAD_STACK_SIZE, host_cache_keep_order, host_cache);
    if (result == 0)
        return host_cache;
    error_set(err, _("cannot start a thread: %s"), strerror(result));
    free(host_cache);
    return NULL;
}

void host_cache_free(struct host_cache *host_cache)
{
    if (host_cache == NULL)
        return;
    lock_take(&host_cache->lock);
    host_cache->ending = true;
    pthread_cond_signal(&host_cache->kept_changed);
    lock_drop(&host_cache->lock);
    pthread_join(host_cache->janitor, NULL);
    while (host_cache->destinations != NULL) {
        struct destination *destination = host_cache->destinations;
        host_cache->destinations = destination->next;
        free(destination);
    }
    while (host_cache->paces != NULL) {
        struct pace *pace = host_cache->paces;
        host_cache->paces = pace->next;
        free(pace);
    }
    pthread_cond_destroy(&host_cache->place_free);
    pthread_cond_destroy(&host_cache->kept_changed);
    lock_destroy(&host_cache->lock);
    free(host_cache);
}
