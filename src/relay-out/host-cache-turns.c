/* relay-out/host-cache-turns.c - the turns of destinations with a rate
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/host-cache-internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The destination's entry, or a new one; NULL when out of memory. On the way it frees other entries whose
 * next turn has come, which are as good as none. */
static struct pace *host_cache_find_pace(struct host_cache *host_cache, const char *key,
                                         int64_t now_ms)
{
    struct pace **at = &host_cache->paces;

    while (*at != NULL && strcmp((*at)->key, key) != 0) {
        struct pace *over = *at;
        if (over->next_ms > now_ms) {
            at = &over->next;
            continue;
        }
        *at = over->next;
        free(over);
    }
    if (*at == NULL && (*at = calloc(1, sizeof **at)) != NULL)
        snprintf((*at)->key, sizeof(*at)->key, "%s", key);
    return *at;
}

bool host_cache_next_turn(struct host_cache *host_cache, const char *key, unsigned rate,
                          struct deadline deadline, struct deadline *turn)
{
    LOCK_ASSERT(&host_cache->lock);
    *turn = deadline_in_ms(0);
    struct pace *pace = host_cache_find_pace(host_cache, key, turn->at_ms);
    if (pace == NULL)
        return false;
    if (pace->next_ms > turn->at_ms) {
        turn->at_ms = pace->next_ms;
        if (turn->at_ms > deadline.at_ms)
            return false;
    }
    pace->next_ms = turn->at_ms + 60000 / rate;
    pace->booked_last = false;
    return true;
}

struct pace *host_cache_put_turn_back(struct host_cache *host_cache, const char *key, unsigned rate,
                                      int64_t turn_ms)
{
    struct pace *pace = host_cache->paces;
    LOCK_ASSERT(&host_cache->lock);
    while (pace != NULL && strcmp(pace->key, key) != 0)
        pace = pace->next;
    if (pace == NULL || pace->next_ms != turn_ms + 60000 / rate)
        return pace;
    pace->next_ms = turn_ms;
    return NULL;
}

/* While sessions wait, at most every other turn is booked. */
static bool host_cache_next_booked(struct host_cache *host_cache, const char *key, unsigned rate,
                                   struct deadline *turn)
{
    *turn = deadline_in_ms(0);
    const int64_t now_ms = turn->at_ms;
    struct pace *pace = host_cache_find_pace(host_cache, key, now_ms);
    if (pace == NULL)
        return false;
    if (pace->next_ms <= now_ms) { /* a booked turn is over, too */
        pace->booked_ms = 0;
        pace->next_ms = now_ms;
    } else if (pace->booked_ms == 0 && pace->booked_last) {
        turn->at_ms = pace->next_ms;
        return false;
    }
    if (pace->booked_ms == 0) {
        pace->booked_ms = pace->next_ms;
        pace->next_ms += 60000 / rate;
        pace->booked_last = true;
    }
    turn->at_ms = pace->booked_ms;
    if (turn->at_ms > now_ms)
        return false;
    pace->booked_ms = 0;
    return true;
}

bool host_cache_book_turn(struct host_cache *host_cache, const char *key, unsigned rate,
                          struct deadline *turn)
{
    lock_take(&host_cache->lock);
    bool taken = host_cache_next_booked(host_cache, key, rate, turn);
    lock_drop(&host_cache->lock);
    return taken;
}

void host_cache_return_turn(struct host_cache *host_cache, const char *key, unsigned rate,
                            struct deadline turn)
{
    lock_take(&host_cache->lock);
    struct pace *pace = host_cache_put_turn_back(host_cache, key, rate, turn.at_ms);
    if (pace != NULL && pace->booked_ms == 0)
        pace->booked_ms = turn.at_ms;
    lock_drop(&host_cache->lock);
}

bool host_cache_take_turn(struct host_cache *host_cache, const char *key, unsigned rate,
                          struct deadline deadline, struct deadline *turn)
{
    lock_take(&host_cache->lock);
    bool taken = host_cache_next_turn(host_cache, key, rate, deadline, turn);
    while (taken && !deadline_passed(*turn))
        lock_wait(&host_cache->lock, &host_cache->place_free, *turn);
    lock_drop(&host_cache->lock);
    return taken;
}
