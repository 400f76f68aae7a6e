/* out/remotes.c - what all sessions know together of the hosts out there
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "out/remotes.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "base/i18n.h"

#define MARKS_MAX 1024
#define KEPT_MAX 128

struct mark {
    struct remote_note note; /* but for the time left */
    int64_t until_ms;
};

struct kept {
    struct remote remote;
    int64_t until_ms;
};

/* Only those with a connection. */
struct destination {
    struct destination *next;
    unsigned connections;
    char key[ROUTE_KEY_MAX];
};

/* Of destinations with a rate. */
struct pace {
    struct pace *next;
    int64_t next_ms; /* the next turn */
    char key[ROUTE_KEY_MAX];
};

struct remotes {
    pthread_mutex_t lock;
    pthread_cond_t place_free, kept_changed;
    int64_t janitor_due_ms; /* when the janitor looks again; what ends later need not wake it */
    struct destination *destinations;
    struct pace *paces;
    struct mark marks[MARKS_MAX];
    size_t mark_count;
    struct kept kept[KEPT_MAX];
    size_t kept_count;
    struct remotes_claim *claims; /* that want a place */
    bool granting;
    bool ending;
    pthread_t janitor;
};

/* Connections. */

static struct destination *find_destination(const struct remotes *remotes, const char *key)
{
    struct destination *at = remotes->destinations;
    while (at != NULL && strcmp(at->key, key) != 0)
        at = at->next;
    return at;
}

static bool count_one(struct remotes *remotes, const char *key)
{
    struct destination *destination = find_destination(remotes, key);
    if (destination == NULL) {
        destination = calloc(1, sizeof *destination);
        if (destination == NULL)
            return false;
        snprintf(destination->key, sizeof destination->key, "%s", key);
        destination->next = remotes->destinations;
        remotes->destinations = destination;
    }
    destination->connections++;
    return true;
}

static void grant(struct remotes *remotes);

static void out_remotes_leave(struct remotes *remotes, const char *key)
{
    struct destination **at = &remotes->destinations;
    while (*at != NULL && strcmp((*at)->key, key) != 0)
        at = &(*at)->next;
    struct destination *destination = *at;
    if (destination != NULL && --destination->connections == 0) {
        *at = destination->next;
        free(destination);
    }
    grant(remotes);
    pthread_cond_broadcast(&remotes->place_free);
}

void remotes_leave(struct remotes *remotes, const char *key)
{
    pthread_mutex_lock(&remotes->lock);
    out_remotes_leave(remotes, key);
    pthread_mutex_unlock(&remotes->lock);
}

/* Turns. */

/* Its own, or a new one; those whose next turn has come are as good as none. */
static struct pace *find_pace(struct remotes *remotes, const char *key, int64_t now_ms)
{
    struct pace **at = &remotes->paces;

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

bool remotes_take_turn(struct remotes *remotes, const char *key, unsigned rate,
                       struct deadline deadline)
{
    struct deadline turn = deadline_in_ms(0);
    bool taken = false;

    pthread_mutex_lock(&remotes->lock);
    struct pace *pace = find_pace(remotes, key, turn.at_ms);
    if (pace != NULL && pace->next_ms > turn.at_ms)
        turn.at_ms = pace->next_ms;
    taken = pace != NULL && turn.at_ms <= deadline.at_ms;
    if (taken)
        pace->next_ms = turn.at_ms + 60000 / rate;
    while (taken && !deadline_passed(turn))
        condition_wait(&remotes->place_free, &remotes->lock, turn);
    pthread_mutex_unlock(&remotes->lock);
    return taken;
}

/* Kept connections. */

/* QUIT is written without buffers of its own only in plain text: lend it small ones. */
void remote_say_goodbye(struct remote *remote)
{
    char in[16], out[64];
    struct stream_buffers buffers = {in, sizeof in, out, sizeof out};
    stream_lend(&remote->hop.stream, &buffers);
    nexthop_quit(&remote->hop);
}

static struct remote take_out(struct remotes *remotes, size_t index)
{
    struct remote remote = remotes->kept[index].remote;
    remotes->kept[index] = remotes->kept[--remotes->kept_count];
    return remote;
}

/* Closed by the other end meanwhile, or with something to say that nobody asked for. */
static bool is_stale(const struct remote *remote)
{
    struct pollfd poll_fd = {.fd = remote->hop.stream.fd, .events = POLLIN};
    return remote->hop.stream.broken || poll(&poll_fd, 1, 0) != 0;
}

/* Under the lock. */
static bool take_kept(struct remotes *remotes, const char *key, uint64_t generation,
                      struct remote *remote)
{
    for (size_t i = 0; i < remotes->kept_count;) {
        if (strcmp(remotes->kept[i].remote.key, key) != 0) {
            i++;
            continue;
        }
        *remote = take_out(remotes, i);
        if (!is_stale(remote) && remote->generation == generation)
            return true;
        stream_abort(&remote->hop.stream);
        out_remotes_leave(remotes, key);
    }
    return false;
}

static bool has_place(const struct remotes *remotes, const char *key, unsigned most)
{
    const struct destination *destination = find_destination(remotes, key);
    return destination == NULL || destination->connections < most;
}

enum remotes_place remotes_enter(struct remotes *remotes, const char *key, uint64_t generation,
                                 unsigned most, struct deadline deadline, struct remote *kept)
{
    enum remotes_place place = REMOTES_FULL;

    pthread_mutex_lock(&remotes->lock);
    for (;;) {
        if (take_kept(remotes, key, generation, kept))
            place = REMOTES_KEPT;
        else if (has_place(remotes, key, most))
            place = count_one(remotes, key) ? REMOTES_NEW : REMOTES_NO_MEMORY;
        if (place != REMOTES_FULL || deadline_passed(deadline))
            break;
        condition_wait(&remotes->place_free, &remotes->lock, deadline);
    }
    pthread_mutex_unlock(&remotes->lock);
    return place;
}

/* Claims: first come, first served. */

/* Under the lock. One that is stale is taken leave of, and its place goes to whoever comes next. */
static bool grant_one(struct remotes *remotes, struct remotes_claim *claim)
{
    if (take_kept(remotes, claim->key, claim->generation, &claim->kept))
        claim->place = REMOTES_KEPT;
    else if (claim->state == REMOTES_CLAIM_WANTED && has_place(remotes, claim->key, claim->most) &&
             count_one(remotes, claim->key))
        claim->place = REMOTES_NEW;
    else
        return false;
    claim->state = REMOTES_CLAIM_HELD;
    return true;
}

static void grant(struct remotes *remotes)
{
    if (remotes->granting) /* a stale connection gives its place back */
        return;
    remotes->granting = true;
    for (struct remotes_claim **at = &remotes->claims; *at != NULL;) {
        struct remotes_claim *claim = *at;
        if (!grant_one(remotes, claim)) {
            at = &claim->next;
            continue;
        }
        *at = claim->next;
        wakeup_call(claim->wakeup);
    }
    remotes->granting = false;
}

int64_t remotes_claim(struct remotes *remotes, struct remotes_claim *claim, const char *key,
                      uint64_t generation, unsigned most, struct wakeup *wakeup)
{
    pthread_mutex_lock(&remotes->lock);
    if (claim->state == REMOTES_CLAIM_NONE) {
        struct remotes_claim **at = &remotes->claims;
        while (*at != NULL)
            at = &(*at)->next;
        *at = claim;
        claim->state = REMOTES_CLAIM_WANTED;
        claim->next = NULL;
        snprintf(claim->key, sizeof claim->key, "%s", key);
        claim->generation = generation;
        claim->most = most;
        claim->until_ms = deadline_in_ms(REMOTES_PLACE_WAIT_MS).at_ms;
        claim->wakeup = NULL; /* not for what is had at once */
        grant(remotes);
        claim->wakeup = wakeup;
    }
    bool held = claim->state == REMOTES_CLAIM_HELD;
    pthread_mutex_unlock(&remotes->lock);
    return held || deadline_now_ms() >= claim->until_ms ? 0 : claim->until_ms;
}

/* Under the lock. */
static void withdraw(struct remotes *remotes, const struct remotes_claim *claim)
{
    struct remotes_claim **at = &remotes->claims;
    while (*at != claim)
        at = &(*at)->next;
    *at = claim->next;
}

enum remotes_place remotes_redeem(struct remotes *remotes, struct remotes_claim *claim,
                                  struct remote *kept)
{
    enum remotes_place place = REMOTES_FULL;

    pthread_mutex_lock(&remotes->lock);
    if (claim->state == REMOTES_CLAIM_WANTED)
        withdraw(remotes, claim);
    if (claim->state == REMOTES_CLAIM_HELD)
        place = claim->place;
    claim->state = REMOTES_CLAIM_NONE;
    pthread_mutex_unlock(&remotes->lock);
    if (place == REMOTES_KEPT)
        *kept = claim->kept;
    return place;
}

void remotes_disclaim(struct remotes *remotes, struct remotes_claim *claim)
{
    struct remote kept;
    enum remotes_place place = remotes_redeem(remotes, claim, &kept);

    if (place == REMOTES_KEPT)
        remote_say_goodbye(&kept);
    if (place != REMOTES_FULL)
        remotes_leave(remotes, claim->key);
}

void remotes_keep(struct remotes *remotes, const struct remote *remote, int64_t for_ms)
{
    struct remote refused = *remote;
    bool kept = false;

    pthread_mutex_lock(&remotes->lock);
    if (for_ms > 0 && !remote->once && !remotes->ending && remotes->kept_count < KEPT_MAX) {
        remotes->kept[remotes->kept_count++] = (struct kept){*remote, deadline_in_ms(for_ms).at_ms};
        kept = true;
        if (remotes->kept[remotes->kept_count - 1].until_ms < remotes->janitor_due_ms)
            pthread_cond_signal(&remotes->kept_changed);
        /* Whoever waits for a place may take this connection. */
        grant(remotes);
        pthread_cond_broadcast(&remotes->place_free);
    }
    pthread_mutex_unlock(&remotes->lock);
    if (kept)
        return;
    remote_say_goodbye(&refused);
    remotes_leave(remotes, refused.key);
}

/* Takes leave, outside the lock, of one whose time is over. Under the lock. */
static bool dismiss_one(struct remotes *remotes, bool all)
{
    for (size_t i = 0; i < remotes->kept_count; i++) {
        if (!all && remotes->kept[i].until_ms > deadline_now_ms())
            continue;
        struct remote remote = take_out(remotes, i);
        pthread_mutex_unlock(&remotes->lock);
        remote_say_goodbye(&remote);
        pthread_mutex_lock(&remotes->lock);
        out_remotes_leave(remotes, remote.key);
        return true;
    }
    return false;
}

static struct deadline next_due(const struct remotes *remotes)
{
    struct deadline due = deadline_in_ms(3600000);
    for (size_t i = 0; i < remotes->kept_count; i++)
        due = deadline_earlier(due, (struct deadline){remotes->kept[i].until_ms});
    return due;
}

static void *keep_order(void *context)
{
    struct remotes *remotes = context;

    pthread_mutex_lock(&remotes->lock);
    while (!remotes->ending) {
        if (dismiss_one(remotes, false))
            continue;
        struct deadline due = next_due(remotes);
        remotes->janitor_due_ms = due.at_ms;
        condition_wait(&remotes->kept_changed, &remotes->lock, due);
    }
    while (dismiss_one(remotes, true))
        ;
    pthread_mutex_unlock(&remotes->lock);
    return NULL;
}

/* Marks. */

static bool is_of(const struct mark *mark, enum remote_mark what, const struct remote_host *host)
{
    const struct remote_note *note = &mark->note;
    return note->mark == what && note->address.port == host->address->port &&
           address_same_ip(&note->address, host->address) &&
           strcmp(note->destination, host->destination) == 0;
}

/* Its own place, or a free one: one whose time is over, or the one that ends first. */
static struct mark *place_for(struct remotes *remotes, enum remote_mark what,
                              const struct remote_host *host)
{
    struct mark *first = &remotes->marks[0];
    for (size_t i = 0; i < remotes->mark_count; i++) {
        struct mark *mark = &remotes->marks[i];
        if (is_of(mark, what, host))
            return mark;
        if (mark->until_ms < first->until_ms)
            first = mark;
    }
    if (remotes->mark_count == 0 ||
        (remotes->mark_count < MARKS_MAX && first->until_ms > deadline_now_ms()))
        return &remotes->marks[remotes->mark_count++];
    return first;
}

void remotes_mark(struct remotes *remotes, enum remote_mark what, const struct remote_host *host,
                  const char *reason, int64_t for_ms)
{
    if (for_ms <= 0)
        return;
    pthread_mutex_lock(&remotes->lock);
    struct mark *mark = place_for(remotes, what, host);
    struct remote_note *note = &mark->note;
    note->mark = what;
    note->address = *host->address;
    snprintf(note->destination, sizeof note->destination, "%s", host->destination);
    snprintf(note->name, sizeof note->name, "%s", host->name);
    snprintf(note->reason, sizeof note->reason, "%s", reason);
    mark->until_ms = deadline_in_ms(for_ms).at_ms;
    pthread_mutex_unlock(&remotes->lock);
}

bool remotes_is_marked(struct remotes *remotes, enum remote_mark what,
                       const struct remote_host *host, char reason[REMOTE_REASON_MAX])
{
    bool found = false;

    pthread_mutex_lock(&remotes->lock);
    for (size_t i = 0; i < remotes->mark_count && !found; i++) {
        const struct mark *mark = &remotes->marks[i];
        found = mark->until_ms > deadline_now_ms() && is_of(mark, what, host);
        if (found && reason != NULL)
            memcpy(reason, mark->note.reason, sizeof mark->note.reason);
    }
    pthread_mutex_unlock(&remotes->lock);
    return found;
}

int remotes_list(struct remotes *remotes,
                 void (*take)(void *context, const struct remote_note *note), void *context)
{
    int64_t now_ms = deadline_now_ms();
    size_t count = 0;

    struct remote_note *notes = calloc(MARKS_MAX, sizeof *notes);
    if (notes == NULL)
        return -1;
    pthread_mutex_lock(&remotes->lock);
    for (size_t i = 0; i < remotes->mark_count; i++) {
        const struct mark *mark = &remotes->marks[i];
        if (mark->until_ms <= now_ms)
            continue;
        notes[count] = mark->note;
        notes[count++].left_ms = mark->until_ms - now_ms;
    }
    pthread_mutex_unlock(&remotes->lock);
    for (size_t i = 0; i < count; i++)
        take(context, &notes[i]);
    free(notes);
    return 0;
}

struct remotes *remotes_new(struct error *err)
{
    struct remotes *remotes = calloc(1, sizeof *remotes);

    if (remotes == NULL || condition_init(&remotes->place_free) != 0 ||
        condition_init(&remotes->kept_changed) != 0) {
        error_set(err, _("out of memory"));
        free(remotes);
        return NULL;
    }
    pthread_mutex_init(&remotes->lock, NULL);
    int result = pthread_create(&remotes->janitor, NULL, keep_order, remotes);
    if (result == 0)
        return remotes;
    error_set(err, _("cannot start a thread: %s"), strerror(result));
    free(remotes);
    return NULL;
}

void remotes_free(struct remotes *remotes)
{
    if (remotes == NULL)
        return;
    pthread_mutex_lock(&remotes->lock);
    remotes->ending = true;
    pthread_cond_signal(&remotes->kept_changed);
    pthread_mutex_unlock(&remotes->lock);
    pthread_join(remotes->janitor, NULL);
    while (remotes->destinations != NULL) {
        struct destination *destination = remotes->destinations;
        remotes->destinations = destination->next;
        free(destination);
    }
    while (remotes->paces != NULL) {
        struct pace *pace = remotes->paces;
        remotes->paces = pace->next;
        free(pace);
    }
    pthread_cond_destroy(&remotes->place_free);
    pthread_cond_destroy(&remotes->kept_changed);
    pthread_mutex_destroy(&remotes->lock);
    free(remotes);
}

void remotes_forget_dead(struct remotes *remotes)
{
    pthread_mutex_lock(&remotes->lock);
    for (size_t i = 0; i < remotes->mark_count; i++) {
        if (remotes->marks[i].note.mark != REMOTE_TLS_FAILED)
            remotes->marks[i].until_ms = 0;
    }
    pthread_mutex_unlock(&remotes->lock);
}
