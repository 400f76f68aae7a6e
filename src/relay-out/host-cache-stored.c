/* relay-out/host-cache-stored.c - places for stored mail: one claim for each destination
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/host-cache-internal.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void host_cache_keep_place(struct wakeup *wakeup)
{
    struct stored_claim *stored =
        (struct stored_claim *)((char *)wakeup - offsetof(struct stored_claim, granted));
    struct host_cache *host_cache = stored->host_cache;

    LOCK_ASSERT(&host_cache->lock);
    stored->claim.until_ms = deadline_in_ms(HOST_CACHE_STORED_KEEP_MS).at_ms;
    if (stored->claim.until_ms < host_cache->janitor_due_ms)
        pthread_cond_signal(&host_cache->kept_changed);
    if (host_cache->on_place != NULL)
        host_cache->on_place(host_cache->on_place_context, stored->claim.key);
}

static struct stored_claim **host_cache_find_stored(struct host_cache *host_cache, const char *key)
{
    struct stored_claim **at = &host_cache->stored_claims;
    while (*at != NULL && strcmp((*at)->claim.key, key) != 0)
        at = &(*at)->next;
    return at;
}

/* Ends the claim; the place that it holds is the caller's. */
static enum host_cache_place host_cache_end_stored(struct host_cache *host_cache,
                                                   struct stored_claim **at, struct remote *kept)
{
    struct stored_claim *stored = *at;
    enum host_cache_place place = HOST_CACHE_FULL;

    LOCK_ASSERT(&host_cache->lock);
    if (stored->claim.state == HOST_CACHE_CLAIM_WANTED)
        host_cache_withdraw(host_cache, &stored->claim);
    else
        place = stored->claim.place;
    if (place == HOST_CACHE_KEPT)
        *kept = stored->claim.kept;
    *at = stored->next;
    free(stored);
    return place;
}

/* When out of memory, stored mail has to come back at the right moment. */
static struct stored_claim *host_cache_new_stored(struct host_cache *host_cache, const char *key)
{
    struct stored_claim *stored = calloc(1, sizeof *stored);

    if (stored == NULL)
        return NULL;
    snprintf(stored->claim.key, sizeof stored->claim.key, "%s", key);
    stored->granted.wake = host_cache_keep_place;
    stored->claim.wakeup = &stored->granted;
    stored->host_cache = host_cache;
    stored->next = host_cache->stored_claims;
    host_cache->stored_claims = stored;
    host_cache_line_up(host_cache, &stored->claim);
    return stored;
}

enum host_cache_place host_cache_enter_stored(struct host_cache *host_cache, const char *key,
                                              uint64_t generation, unsigned most,
                                              struct remote *kept)
{
    enum host_cache_place place = HOST_CACHE_FULL;

    lock_take(&host_cache->lock);
    struct stored_claim **at = host_cache_find_stored(host_cache, key);
    if (*at != NULL && (*at)->claim.state == HOST_CACHE_CLAIM_HELD) {
        place = host_cache_end_stored(host_cache, at, kept);
    } else {
        place = host_cache_enter_now(host_cache, key, generation, most, kept);
        struct stored_claim *stored = *host_cache_find_stored(host_cache, key);
        if (place == HOST_CACHE_FULL && stored == NULL)
            stored = host_cache_new_stored(host_cache, key);
        if (stored != NULL) { /* a reload may have changed them */
            stored->claim.generation = generation;
            stored->claim.most = most;
        }
    }
    lock_drop(&host_cache->lock);
    if (place != HOST_CACHE_KEPT || kept->generation == generation)
        return place;
    stream_abort(&kept->hop.stream);
    return HOST_CACHE_NEW;
}

void host_cache_on_place(struct host_cache *host_cache, host_cache_place_function *function,
                         void *context)
{
    lock_take(&host_cache->lock);
    host_cache->on_place = function;
    host_cache->on_place_context = context;
    lock_drop(&host_cache->lock);
}

bool host_cache_dismiss_stored(struct host_cache *host_cache, bool all)
{
    struct stored_claim **at = &host_cache->stored_claims;
    char key[ROUTE_KEY_MAX];
    struct remote kept;

    while (*at != NULL && !all &&
           ((*at)->claim.state == HOST_CACHE_CLAIM_WANTED ||
            (*at)->claim.until_ms > deadline_now_ms()))
        at = &(*at)->next;
    if (*at == NULL)
        return false;
    memcpy(key, (*at)->claim.key, sizeof key);
    enum host_cache_place place = host_cache_end_stored(host_cache, at, &kept);
    lock_drop(&host_cache->lock);
    if (place == HOST_CACHE_KEPT)
        nexthop_quit(&kept.hop);
    lock_take(&host_cache->lock);
    if (place != HOST_CACHE_FULL)
        host_cache_leave_one(host_cache, key);
    return true;
}
