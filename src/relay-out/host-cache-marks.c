/* relay-out/host-cache-marks.c - what is remembered about hosts
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/host-cache-internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool host_cache_is_login_at(const struct mark *mark, const struct remote_host *host)
{
    return mark->note.mark == REMOTE_LOGIN_REFUSED &&
           strcmp(mark->note.destination, host->destination) == 0 &&
           strcmp(mark->note.name, host->name) == 0;
}

static bool host_cache_is_of(const struct mark *mark, enum remote_mark what,
                             const struct remote_host *host)
{
    const struct remote_note *note = &mark->note;
    if (what == REMOTE_LOGIN_REFUSED)
        return host_cache_is_login_at(mark, host) && note->generation == host->generation;
    return note->mark == what && address_equal(&note->address, host->address) &&
           strcmp(note->destination, host->destination) == 0;
}

/* The slot of this mark, or one for it: an expired one, else a new one, else the one that expires first. Refused
 * log-ins do not expire. */
static struct mark *host_cache_place_for(struct host_cache *host_cache, enum remote_mark what,
                                         const struct remote_host *host)
{
    struct mark *first = NULL;
    for (size_t i = 0; i < host_cache->mark_count; i++) {
        struct mark *mark = &host_cache->marks[i];
        if (host_cache_is_of(mark, what, host))
            return mark;
        if (mark->note.mark != REMOTE_LOGIN_REFUSED &&
            (first == NULL || mark->until_ms < first->until_ms))
            first = mark;
    }
    if (host_cache->mark_count < HOST_CACHE_MARKS_MAX &&
        (first == NULL || first->until_ms > deadline_now_ms()))
        return &host_cache->marks[host_cache->mark_count++];
    return first != NULL ? first : &host_cache->marks[0];
}

void host_cache_mark(struct host_cache *host_cache, enum remote_mark what,
                     const struct remote_host *host, const char *reason, int64_t for_ms)
{
    if (for_ms <= 0)
        return;
    lock_take(&host_cache->lock);
    struct mark *mark = host_cache_place_for(host_cache, what, host);
    struct remote_note *note = &mark->note;
    note->mark = what;
    note->address = *host->address;
    snprintf(note->destination, sizeof note->destination, "%s", host->destination);
    snprintf(note->name, sizeof note->name, "%s", host->name);
    snprintf(note->reason, sizeof note->reason, "%s", reason);
    note->generation = host->generation;
    mark->until_ms = deadline_in_ms(for_ms).at_ms;
    lock_drop(&host_cache->lock);
}

bool host_cache_is_marked(struct host_cache *host_cache, enum remote_mark what,
                          const struct remote_host *host, char reason[REMOTE_REASON_MAX])
{
    bool found = false;

    lock_take(&host_cache->lock);
    for (size_t i = 0; i < host_cache->mark_count && !found; i++) {
        const struct mark *mark = &host_cache->marks[i];
        found = mark->until_ms > deadline_now_ms() && host_cache_is_of(mark, what, host);
        if (found && reason != NULL)
            memcpy(reason, mark->note.reason, sizeof mark->note.reason);
    }
    lock_drop(&host_cache->lock);
    return found;
}

bool host_cache_may_log_in(struct host_cache *host_cache, const struct remote_host *host,
                           int64_t for_ms, char reason[REMOTE_REASON_MAX])
{
    bool may = true;

    lock_take(&host_cache->lock);
    for (size_t i = 0; i < host_cache->mark_count; i++) {
        struct mark *mark = &host_cache->marks[i];
        if (!host_cache_is_of(mark, REMOTE_LOGIN_REFUSED, host))
            continue;
        may = mark->until_ms <= deadline_now_ms();
        memcpy(reason, mark->note.reason, sizeof mark->note.reason);
        if (may)
            mark->until_ms = deadline_in_ms(for_ms).at_ms;
    }
    lock_drop(&host_cache->lock);
    return may;
}

/* Frees its slot. */
static void host_cache_unmark(struct mark *mark)
{
    mark->note.mark = REMOTE_DEAD;
    mark->until_ms = 0;
}

void host_cache_logged_in(struct host_cache *host_cache, const struct remote_host *host)
{
    lock_take(&host_cache->lock);
    for (size_t i = 0; i < host_cache->mark_count; i++) {
        if (host_cache_is_login_at(&host_cache->marks[i], host))
            host_cache_unmark(&host_cache->marks[i]);
    }
    lock_drop(&host_cache->lock);
}

int host_cache_list(struct host_cache *host_cache,
                    void (*take)(void *context, const struct remote_note *note), void *context)
{
    int64_t now_ms = deadline_now_ms();
    size_t count = 0;

    struct remote_note *notes = calloc(HOST_CACHE_MARKS_MAX, sizeof *notes);
    if (notes == NULL)
        return -1;
    lock_take(&host_cache->lock);
    for (size_t i = 0; i < host_cache->mark_count; i++) {
        const struct mark *mark = &host_cache->marks[i];
        if (mark->until_ms <= now_ms && mark->note.mark != REMOTE_LOGIN_REFUSED)
            continue;
        notes[count] = mark->note;
        notes[count++].left_ms = mark->until_ms > now_ms ? mark->until_ms - now_ms : 0;
    }
    lock_drop(&host_cache->lock);
    for (size_t i = 0; i < count; i++)
        take(context, &notes[i]);
    free(notes);
    return 0;
}

void host_cache_forget_dead(struct host_cache *host_cache)
{
    lock_take(&host_cache->lock);
    for (size_t i = 0; i < host_cache->mark_count; i++) {
        if (host_cache->marks[i].note.mark != REMOTE_TLS_FAILED)
            host_cache_unmark(&host_cache->marks[i]);
    }
    lock_drop(&host_cache->lock);
}
