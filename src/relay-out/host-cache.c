/* relay-out/host-cache.c - what all sessions know about the hosts mail goes to
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/host-cache.h"

#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "base/i18n.h"
#include "base/thread.h"

#define MARKS_MAX 1024
#define KEPT_MAX 128

struct mark {
    struct remote_note note; /* except left_ms */
    int64_t until_ms;
};

struct kept {
    struct remote remote;
    int64_t since_ms, until_ms;
};

/* A destination with at least one connection; others have no entry. */
struct destination {
    struct destination *next;
    unsigned connections;
    char key[ROUTE_KEY_MAX];
};

/* The turns of a destination with a rate limit. */
struct pace {
    struct pace *next;
    int64_t next_ms;   /* the next turn that is free */
    int64_t booked_ms; /* the turn that stored mail comes back for; 0: none */
    bool booked_last;  /* stored mail had the last turn */
    char key[ROUTE_KEY_MAX];
};

/* What stored mail for one destination waits for: a place, in line with the claims of sessions. Under HELD,
 * the claim's until_ms is how long the place is kept for it. */
struct stored_claim {
    struct host_cache_claim claim;
    struct wakeup granted;
    struct host_cache *host_cache;
    struct stored_claim *next;
};

struct host_cache {
    pthread_mutex_t lock;
    pthread_cond_t place_free, kept_changed;
    int64_t janitor_due_ms; /* when the janitor looks again; not woken for what ends later */
    struct destination *destinations;
    struct pace *paces;
    struct mark marks[MARKS_MAX];
    size_t mark_count;
    struct kept kept[KEPT_MAX];
    size_t kept_count;
    struct host_cache_claim *claims; /* waiting for a place, first come first */
    bool granting;
    struct stored_claim *stored_claims;
    host_cache_place_function *on_place; /* a place is kept for stored mail; may be NULL */
    void *on_place_context;
    bool ending;
    pthread_t janitor;
};

/* Connections. */

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

static void host_cache_leave_one(struct host_cache *host_cache, const char *key)
{
    struct destination **at = &host_cache->destinations;
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
    pthread_mutex_lock(&host_cache->lock);
    host_cache_leave_one(host_cache, key);
    pthread_mutex_unlock(&host_cache->lock);
}

/* Turns. */

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

/* Under the lock. False if it would come after the deadline, or when out of memory. */
static bool host_cache_next_turn(struct host_cache *host_cache, const char *key, unsigned rate,
                                 struct deadline deadline, struct deadline *turn)
{
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

/* Under the lock. The turn was not used: makes it the next one again, unless a later one is taken. Then
 * returns its pace, otherwise NULL. */
static struct pace *host_cache_put_turn_back(struct host_cache *host_cache, const char *key,
                                             unsigned rate, int64_t turn_ms)
{
    struct pace *pace = host_cache->paces;
    while (pace != NULL && strcmp(pace->key, key) != 0)
        pace = pace->next;
    if (pace == NULL || pace->next_ms != turn_ms + 60000 / rate)
        return pace;
    pace->next_ms = turn_ms;
    return NULL;
}

/* Under the lock. While sessions wait, at most every other turn is booked. */
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
    pthread_mutex_lock(&host_cache->lock);
    bool taken = host_cache_next_booked(host_cache, key, rate, turn);
    pthread_mutex_unlock(&host_cache->lock);
    return taken;
}

void host_cache_return_turn(struct host_cache *host_cache, const char *key, unsigned rate,
                            struct deadline turn)
{
    pthread_mutex_lock(&host_cache->lock);
    struct pace *pace = host_cache_put_turn_back(host_cache, key, rate, turn.at_ms);
    if (pace != NULL && pace->booked_ms == 0)
        pace->booked_ms = turn.at_ms;
    pthread_mutex_unlock(&host_cache->lock);
}

bool host_cache_take_turn(struct host_cache *host_cache, const char *key, unsigned rate,
                          struct deadline deadline, struct deadline *turn)
{
    pthread_mutex_lock(&host_cache->lock);
    bool taken = host_cache_next_turn(host_cache, key, rate, deadline, turn);
    while (taken && !deadline_passed(*turn))
        condition_wait(&host_cache->place_free, &host_cache->lock, *turn);
    pthread_mutex_unlock(&host_cache->lock);
    return taken;
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

/* Under the lock. */
static bool host_cache_take_kept(struct host_cache *host_cache, const char *key,
                                 uint64_t generation, struct remote *remote)
{
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

/* Under the lock. */
static enum host_cache_place host_cache_enter_now(struct host_cache *host_cache, const char *key,
                                                  uint64_t generation, unsigned most,
                                                  struct remote *kept)
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

    pthread_mutex_lock(&host_cache->lock);
    while ((place = host_cache_enter_now(host_cache, key, generation, most, kept)) ==
               HOST_CACHE_FULL &&
           !deadline_passed(deadline))
        condition_wait(&host_cache->place_free, &host_cache->lock, deadline);
    pthread_mutex_unlock(&host_cache->lock);
    return place;
}

/* Claims: first come, first served. */

/* Under the lock. Drops stale kept connections on the way, which frees their places. */
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

static void host_cache_line_up(struct host_cache *host_cache, struct host_cache_claim *claim)
{
    struct host_cache_claim **at = &host_cache->claims;

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
    pthread_mutex_lock(&host_cache->lock);
    if (claim->state == HOST_CACHE_CLAIM_NONE)
        host_cache_claim_turn(host_cache, claim);
    if (claim->state == HOST_CACHE_CLAIM_TURN && deadline_now_ms() >= claim->until_ms)
        host_cache_claim_place(host_cache, claim);
    bool waits = claim->state == HOST_CACHE_CLAIM_TURN || claim->state == HOST_CACHE_CLAIM_WANTED;
    int64_t until_ms = claim->until_ms;
    pthread_mutex_unlock(&host_cache->lock);
    return !waits || deadline_now_ms() >= until_ms ? 0 : until_ms;
}

bool host_cache_has_turn(struct host_cache *host_cache, const struct host_cache_claim *claim)
{
    pthread_mutex_lock(&host_cache->lock);
    bool has_turn = claim->rate == 0 || claim->state == HOST_CACHE_CLAIM_WANTED ||
                    claim->state == HOST_CACHE_CLAIM_HELD;
    pthread_mutex_unlock(&host_cache->lock);
    return has_turn;
}

/* Under the lock. */
static void host_cache_withdraw(struct host_cache *host_cache, const struct host_cache_claim *claim)
{
    struct host_cache_claim **at = &host_cache->claims;
    while (*at != claim)
        at = &(*at)->next;
    *at = claim->next;
}

enum host_cache_place host_cache_redeem(struct host_cache *host_cache,
                                        struct host_cache_claim *claim, struct remote *kept)
{
    enum host_cache_place place = HOST_CACHE_FULL;

    pthread_mutex_lock(&host_cache->lock);
    if (claim->state == HOST_CACHE_CLAIM_WANTED)
        host_cache_withdraw(host_cache, claim);
    if (claim->state == HOST_CACHE_CLAIM_TURN && claim->rate > 0)
        host_cache_put_turn_back(host_cache, claim->key, claim->rate, claim->until_ms);
    if (claim->state == HOST_CACHE_CLAIM_HELD)
        place = claim->place;
    claim->state = HOST_CACHE_CLAIM_NONE;
    pthread_mutex_unlock(&host_cache->lock);
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

/* Stored mail: one claim for each destination. */

/* Under the lock. */
static void host_cache_keep_place(struct wakeup *wakeup)
{
    struct stored_claim *stored =
        (struct stored_claim *)((char *)wakeup - offsetof(struct stored_claim, granted));
    struct host_cache *host_cache = stored->host_cache;

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

/* Under the lock. Ends the claim; the place that it holds is the caller's. */
static enum host_cache_place host_cache_end_stored(struct host_cache *host_cache,
                                                   struct stored_claim **at, struct remote *kept)
{
    struct stored_claim *stored = *at;
    enum host_cache_place place = HOST_CACHE_FULL;

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

/* Under the lock. When out of memory, stored mail has to come back at the right moment. */
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

    pthread_mutex_lock(&host_cache->lock);
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
    pthread_mutex_unlock(&host_cache->lock);
    if (place != HOST_CACHE_KEPT || kept->generation == generation)
        return place;
    stream_abort(&kept->hop.stream);
    return HOST_CACHE_NEW;
}

void host_cache_on_place(struct host_cache *host_cache, host_cache_place_function *function,
                         void *context)
{
    pthread_mutex_lock(&host_cache->lock);
    host_cache->on_place = function;
    host_cache->on_place_context = context;
    pthread_mutex_unlock(&host_cache->lock);
}

void host_cache_keep(struct host_cache *host_cache, const struct remote *remote, int64_t for_ms)
{
    struct remote refused = *remote;
    bool kept = false;

    pthread_mutex_lock(&host_cache->lock);
    if (for_ms > 0 && !remote->once && !host_cache->ending && host_cache->kept_count < KEPT_MAX) {
        host_cache->kept[host_cache->kept_count++] =
            (struct kept){*remote, deadline_now_ms(), deadline_in_ms(for_ms).at_ms};
        kept = true;
        if (host_cache->kept[host_cache->kept_count - 1].until_ms < host_cache->janitor_due_ms)
            pthread_cond_signal(&host_cache->kept_changed);
        /* A waiter for a place may take this connection. */
        host_cache_grant(host_cache);
        pthread_cond_broadcast(&host_cache->place_free);
    }
    pthread_mutex_unlock(&host_cache->lock);
    if (kept)
        return;
    nexthop_quit(&refused.hop);
    host_cache_leave(host_cache, refused.key);
}

size_t host_cache_count_kept(struct host_cache *host_cache)
{
    pthread_mutex_lock(&host_cache->lock);
    size_t count = host_cache->kept_count;
    pthread_mutex_unlock(&host_cache->lock);
    return count;
}

void host_cache_list_kept(struct host_cache *host_cache,
                          void (*take)(void *context, const struct remote *remote,
                                       int64_t since_ms),
                          void *context)
{
    pthread_mutex_lock(&host_cache->lock);
    for (size_t i = 0; i < host_cache->kept_count; i++)
        take(context, &host_cache->kept[i].remote, host_cache->kept[i].since_ms);
    pthread_mutex_unlock(&host_cache->lock);
}

/* Ends one kept connection whose time is over, or any one if `all`. Called under the lock, which it
 * releases during QUIT. False if there is none. */
static bool host_cache_dismiss_one(struct host_cache *host_cache, bool all)
{
    for (size_t i = 0; i < host_cache->kept_count; i++) {
        if (!all && host_cache->kept[i].until_ms > deadline_now_ms())
            continue;
        struct remote remote = host_cache_take_out(host_cache, i);
        pthread_mutex_unlock(&host_cache->lock);
        nexthop_quit(&remote.hop);
        pthread_mutex_lock(&host_cache->lock);
        host_cache_leave_one(host_cache, remote.key);
        return true;
    }
    return false;
}

/* Likewise gives up one place that stored mail has not come for in time, or any claim if `all`. */
static bool host_cache_dismiss_stored(struct host_cache *host_cache, bool all)
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
    pthread_mutex_unlock(&host_cache->lock);
    if (place == HOST_CACHE_KEPT)
        nexthop_quit(&kept.hop);
    pthread_mutex_lock(&host_cache->lock);
    if (place != HOST_CACHE_FULL)
        host_cache_leave_one(host_cache, key);
    return true;
}

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

    pthread_mutex_lock(&host_cache->lock);
    while (!host_cache->ending) {
        if (host_cache_dismiss_one(host_cache, false) ||
            host_cache_dismiss_stored(host_cache, false))
            continue;
        struct deadline due = host_cache_next_due(host_cache);
        host_cache->janitor_due_ms = due.at_ms;
        condition_wait(&host_cache->kept_changed, &host_cache->lock, due);
    }
    while (host_cache_dismiss_one(host_cache, true) || host_cache_dismiss_stored(host_cache, true))
        ;
    pthread_mutex_unlock(&host_cache->lock);
    return NULL;
}

/* Marks. */

static bool host_cache_is_of(const struct mark *mark, enum remote_mark what,
                             const struct remote_host *host)
{
    const struct remote_note *note = &mark->note;
    return note->mark == what && note->address.port == host->address->port &&
           address_same_ip(&note->address, host->address) &&
           strcmp(note->destination, host->destination) == 0;
}

/* The slot of this mark, or one for it: an expired one, else a new one, else the one that expires first. */
static struct mark *host_cache_place_for(struct host_cache *host_cache, enum remote_mark what,
                                         const struct remote_host *host)
{
    struct mark *first = &host_cache->marks[0];
    for (size_t i = 0; i < host_cache->mark_count; i++) {
        struct mark *mark = &host_cache->marks[i];
        if (host_cache_is_of(mark, what, host))
            return mark;
        if (mark->until_ms < first->until_ms)
            first = mark;
    }
    if (host_cache->mark_count == 0 ||
        (host_cache->mark_count < MARKS_MAX && first->until_ms > deadline_now_ms()))
        return &host_cache->marks[host_cache->mark_count++];
    return first;
}

void host_cache_mark(struct host_cache *host_cache, enum remote_mark what,
                     const struct remote_host *host, const char *reason, int64_t for_ms)
{
    if (for_ms <= 0)
        return;
    pthread_mutex_lock(&host_cache->lock);
    struct mark *mark = host_cache_place_for(host_cache, what, host);
    struct remote_note *note = &mark->note;
    note->mark = what;
    note->address = *host->address;
    snprintf(note->destination, sizeof note->destination, "%s", host->destination);
    snprintf(note->name, sizeof note->name, "%s", host->name);
    snprintf(note->reason, sizeof note->reason, "%s", reason);
    mark->until_ms = deadline_in_ms(for_ms).at_ms;
    pthread_mutex_unlock(&host_cache->lock);
}

bool host_cache_is_marked(struct host_cache *host_cache, enum remote_mark what,
                          const struct remote_host *host, char reason[REMOTE_REASON_MAX])
{
    bool found = false;

    pthread_mutex_lock(&host_cache->lock);
    for (size_t i = 0; i < host_cache->mark_count && !found; i++) {
        const struct mark *mark = &host_cache->marks[i];
        found = mark->until_ms > deadline_now_ms() && host_cache_is_of(mark, what, host);
        if (found && reason != NULL)
            memcpy(reason, mark->note.reason, sizeof mark->note.reason);
    }
    pthread_mutex_unlock(&host_cache->lock);
    return found;
}

int host_cache_list(struct host_cache *host_cache,
                    void (*take)(void *context, const struct remote_note *note), void *context)
{
    int64_t now_ms = deadline_now_ms();
    size_t count = 0;

    struct remote_note *notes = calloc(MARKS_MAX, sizeof *notes);
    if (notes == NULL)
        return -1;
    pthread_mutex_lock(&host_cache->lock);
    for (size_t i = 0; i < host_cache->mark_count; i++) {
        const struct mark *mark = &host_cache->marks[i];
        if (mark->until_ms <= now_ms)
            continue;
        notes[count] = mark->note;
        notes[count++].left_ms = mark->until_ms - now_ms;
    }
    pthread_mutex_unlock(&host_cache->lock);
    for (size_t i = 0; i < count; i++)
        take(context, &notes[i]);
    free(notes);
    return 0;
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
    pthread_mutex_init(&host_cache->lock, NULL);
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
    pthread_mutex_lock(&host_cache->lock);
    host_cache->ending = true;
    pthread_cond_signal(&host_cache->kept_changed);
    pthread_mutex_unlock(&host_cache->lock);
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
    pthread_mutex_destroy(&host_cache->lock);
    free(host_cache);
}

void host_cache_forget_dead(struct host_cache *host_cache)
{
    pthread_mutex_lock(&host_cache->lock);
    for (size_t i = 0; i < host_cache->mark_count; i++) {
        if (host_cache->marks[i].note.mark != REMOTE_TLS_FAILED)
            host_cache->marks[i].until_ms = 0;
    }
    pthread_mutex_unlock(&host_cache->lock);
}
