/* relay-out/host-cache-places.c - connections: their number for each destination, those kept, and who waits
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/host-cache-internal.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct destination *host_cache_find_destination(const struct host_cache *host_cache,
                                                       const char *key)
{
    struct destination *at = host_cache->destinations;
    while (at != NULL && strcmp(at->key, key) != 0)
        at = at->next;
    return at;
}

static bool host_cache_count_one(struct host_cache *host_cache, const char *key)
{
    struct destination *destination = host_cache_find_destination(host_cache, key);
    if (destination == NULL) {
        destination = calloc(1, sizeof *destination);
        if (destination == NULL)
            return false;
        snprintf(destination->key, sizeof destination->key, "%s", key);
        destination->next = host_cache->destinations;
        host_cache->destinations = destination;
    }
    destination->connections++;
    return true;
}

static void host_cache_grant(struct host_cache *host_cache);

void host_cache_leave_one(struct host_cache *host_cache, const char *key)
{
    struct destination **at = &host_cache->destinations;

    LOCK_ASSERT(&host_cache->lock);
    while (*at != NULL && strcmp((*at)->key, key) != 0)
        at = &(*at)->next;
    struct destination *destination = *at;
    if (destination != NULL && --destination->connections == 0) {
        *at = destination->next;
        free(destination);
    }
    host_cache_grant(host_cache);
    pthread_cond_broadcast(&host_cache->place_free);
}

void host_cache_leave(struct host_cache *host_cache, const char *key)
{
    lock_take(&host_cache->lock);
    host_cache_leave_one(host_cache, key);
    lock_drop(&host_cache->lock);
}

/* Kept connections. */

static struct remote host_cache_take_out(struct host_cache *host_cache, size_t index)
{
    struct remote remote = host_cache->kept[index].remote;
    host_cache->kept[index] = host_cache->kept[--host_cache->kept_count];
    return remote;
}

/* Has the other end closed it, or sent something unasked? */
static bool host_cache_is_stale(const struct remote *remote)
{
    struct pollfd poll_fd = {.fd = remote->hop.stream.fd, .events = POLLIN};
    return remote->hop.stream.broken || poll(&poll_fd, 1, 0) != 0;
}

static bool host_cache_take_kept(struct host_cache *host_cache, const char *key,
                                 uint64_t generation, struct remote *remote)
{
    LOCK_ASSERT(&host_cache->lock);
    for (size_t i = 0; i < host_cache->kept_count;) {
        if (strcmp(host_cache->kept[i].remote.key, key) != 0) {
            i++;
            continue;
        }
        *remote = host_cache_take_out(host_cache, i);
        if (!host_cache_is_stale(remote) && remote->generation == generation)
            return true;
        stream_abort(&remote->hop.stream);
        host_cache_leave_one(host_cache, key);
    }
    return false;
}

static bool host_cache_has_place(const struct host_cache *host_cache, const char *key,
                                 unsigned most)
{
    const struct destination *destination = host_cache_find_destination(host_cache, key);
    return destination == NULL || destination->connections < most;
}

enum host_cache_place host_cache_enter_now(struct host_cache *host_cache, const char *key,
                                           uint64_t generation, unsigned most, struct remote *kept)
{
    if (host_cache_take_kept(host_cache, key, generation, kept))
        return HOST_CACHE_KEPT;
    if (!host_cache_has_place(host_cache, key, most))
        return HOST_CACHE_FULL;
    return host_cache_count_one(host_cache, key) ? HOST_CACHE_NEW : HOST_CACHE_NO_MEMORY;
}

enum host_cache_place host_cache_enter(struct host_cache *host_cache, const char *key,
                                       uint64_t generation, unsigned most, struct deadline deadline,
                                       struct remote *kept)
{
    enum host_cache_place place;

    lock_take(&host_cache->lock);
    while ((place = host_cache_enter_now(host_cache, key, generation, most, kept)) ==
               HOST_CACHE_FULL &&
           !deadline_passed(deadline))
        lock_wait(&host_cache->lock, &host_cache->place_free, deadline);
    lock_drop(&host_cache->lock);
    return place;
}

/* Claims: first come, first served. */

/* Drops stale kept connections on the way, which frees their places. */
static bool host_cache_grant_one(struct host_cache *host_cache, struct host_cache_claim *claim)
{
    if (host_cache_take_kept(host_cache, claim->key, claim->generation, &claim->kept))
        claim->place = HOST_CACHE_KEPT;
    else if (claim->state == HOST_CACHE_CLAIM_WANTED &&
             host_cache_has_place(host_cache, claim->key, claim->most) &&
             host_cache_count_one(host_cache, claim->key))
        claim->place = HOST_CACHE_NEW;
    else
        return false;
    claim->state = HOST_CACHE_CLAIM_HELD;
    return true;
}

static void host_cache_grant(struct host_cache *host_cache)
{
    if (host_cache->granting) /* called below: a stale connection gave its place back */
        return;
    host_cache->granting = true;
    for (struct host_cache_claim **at = &host_cache->claims; *at != NULL;) {
        struct host_cache_claim *claim = *at;
        if (!host_cache_grant_one(host_cache, claim)) {
            at = &claim->next;
            continue;
        }
        *at = claim->next;
        wakeup_call(claim->wakeup);
    }
    host_cache->granting = false;
}

static void host_cache_claim_turn(struct host_cache *host_cache, struct host_cache_claim *claim)
{
    struct deadline turn = deadline_in_ms(0), deadline = deadline_in_ms(HOST_CACHE_PLACE_WAIT_MS);
    bool taken = claim->rate == 0 ||
                 host_cache_next_turn(host_cache, claim->key, claim->rate, deadline, &turn);

    claim->state = taken ? HOST_CACHE_CLAIM_TURN : HOST_CACHE_CLAIM_LATE;
    claim->until_ms = turn.at_ms;
}

void host_cache_line_up(struct host_cache *host_cache, struct host_cache_claim *claim)
{
    struct host_cache_claim **at = &host_cache->claims;

    LOCK_ASSERT(&host_cache->lock);
    while (*at != NULL)
        at = &(*at)->next;
    *at = claim;
    claim->state = HOST_CACHE_CLAIM_WANTED;
    claim->next = NULL;
}

static void host_cache_claim_place(struct host_cache *host_cache, struct host_cache_claim *claim)
{
    struct wakeup *wakeup = claim->wakeup;

    host_cache_line_up(host_cache, claim);
    claim->until_ms = deadline_in_ms(HOST_CACHE_PLACE_WAIT_MS).at_ms;
    claim->wakeup = NULL; /* not called for a place granted at once */
    host_cache_grant(host_cache);
    claim->wakeup = wakeup;
}

int64_t host_cache_claim(struct host_cache *host_cache, struct host_cache_claim *claim)
{
    lock_take(&host_cache->lock);
    if (claim->state == HOST_CACHE_CLAIM_NONE)
        host_cache_claim_turn(host_cache, claim);
    if (claim->state == HOST_CACHE_CLAIM_TURN && deadline_now_ms() >= claim->until_ms)
        host_cache_claim_place(host_cache, claim);
    bool waits = claim->state == HOST_CACHE_CLAIM_TURN || claim->state == HOST_CACHE_CLAIM_WANTED;
    int64_t until_ms = claim->until_ms;
    lock_drop(&host_cache->lock);
    return !waits || deadline_now_ms() >= until_ms ? 0 : until_ms;
}

bool host_cache_has_turn(struct host_cache *host_cache, const struct host_cache_claim *claim)
{
    lock_take(&host_cache->lock);
    bool has_turn = claim->rate == 0 || claim->state == HOST_CACHE_CLAIM_WANTED ||
                    claim->state == HOST_CACHE_CLAIM_HELD;
    lock_drop(&host_cache->lock);
    return has_turn;
}

void host_cache_withdraw(struct host_cache *host_cache, const struct host_cache_claim *claim)
{
    struct host_cache_claim **at = &host_cache->claims;

    LOCK_ASSERT(&host_cache->lock);
    while (*at != claim)
        at = &(*at)->next;
    *at = claim->next;
}

enum host_cache_place host_cache_redeem(struct host_cache *host_cache,
                                        struct host_cache_claim *claim, struct remote *kept)
{
    enum host_cache_place place = HOST_CACHE_FULL;

    lock_take(&host_cache->lock);
    if (claim->state == HOST_CACHE_CLAIM_WANTED)
        host_cache_withdraw(host_cache, claim);
    if (claim->state == HOST_CACHE_CLAIM_TURN && claim->rate > 0)
        host_cache_put_turn_back(host_cache, claim->key, claim->rate, claim->until_ms);
    if (claim->state == HOST_CACHE_CLAIM_HELD)
        place = claim->place;
    claim->state = HOST_CACHE_CLAIM_NONE;
    lock_drop(&host_cache->lock);
    if (place == HOST_CACHE_KEPT)
        *kept = claim->kept;
    return place;
}

void host_cache_disclaim(struct host_cache *host_cache, struct host_cache_claim *claim)
{
    struct remote kept;
    enum host_cache_place place = host_cache_redeem(host_cache, claim, &kept);

    if (place == HOST_CACHE_KEPT)
        nexthop_quit(&kept.hop);
    if (place != HOST_CACHE_FULL)
        host_cache_leave(host_cache, claim->key);
}

void host_cache_keep(struct host_cache *host_cache, const struct remote *remote, int64_t for_ms)
{
    struct remote refused = *remote;
    bool kept = false;

    lock_take(&host_cache->lock);
    if (for_ms > 0 && !remote->once && !host_cache->ending &&
        host_cache->kept_count < HOST_CACHE_KEPT_MAX) {
        host_cache->kept[host_cache->kept_count++] =
            (struct kept){*remote, deadline_now_ms(), deadline_in_ms(for_ms).at_ms};
        kept = true;
        if (host_cache->kept[host_cache->kept_count - 1].until_ms < host_cache->janitor_due_ms)
            pthread_cond_signal(&host_cache->kept_changed);
        /* A waiter for a place may take this connection. */
        host_cache_grant(host_cache);
        pthread_cond_broadcast(&host_cache->place_free);
    }
    lock_drop(&host_cache->lock);
    if (kept)
        return;
    nexthop_quit(&refused.hop);
    host_cache_leave(host_cache, refused.key);
}

size_t host_cache_count_kept(struct host_cache *host_cache)
{
    lock_take(&host_cache->lock);
    size_t count = host_cache->kept_count;
    lock_drop(&host_cache->lock);
    return count;
}

void host_cache_list_kept(struct host_cache *host_cache,
                          void (*take)(void *context, const struct remote *remote,
                                       int64_t since_ms),
                          void *context)
{
    lock_take(&host_cache->lock);
    for (size_t i = 0; i < host_cache->kept_count; i++)
        take(context, &host_cache->kept[i].remote, host_cache->kept[i].since_ms);
    lock_drop(&host_cache->lock);
}

bool host_cache_dismiss_one(struct host_cache *host_cache, bool all)
{
    for (size_t i = 0; i < host_cache->kept_count; i++) {
        if (!all && host_cache->kept[i].until_ms > deadline_now_ms())
            continue;
        struct remote remote = host_cache_take_out(host_cache, i);
        lock_drop(&host_cache->lock);
        nexthop_quit(&remote.hop);
        lock_take(&host_cache->lock);
        host_cache_leave_one(host_cache, remote.key);
        return true;
    }
    return false;
}
