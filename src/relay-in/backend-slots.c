/* relay-in/backend-slots.c - who has a connection to a backend: slots for sessions, and spares
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-in/backend-internal.h"

#include <poll.h>
#include <string.h>

#include "base/assert.h"

#define SLOT_WAIT_MS 5000 /* how long a session waits for one of max_sessions */
#define SPARE_WAIT_MS 500 /* how long a spare may take that a session waits for */
#define DEMAND_BITS 8

/* Adds a slot at the end of a ring. Here and below, the caller holds the lock. */
static void backend_slot_enter(struct backend_slot *ring, struct backend_slot *slot)
{
    ASSERT(slot->next == NULL && slot->previous == NULL);
    slot->previous = ring->previous;
    slot->next = ring;
    slot->previous->next = slot->next->previous = slot;
}

static void backend_slot_leave(struct backend_slot *slot)
{
    ASSERT(slot->previous->next == slot && slot->next->previous == slot);
    slot->previous->next = slot->next;
    slot->next->previous = slot->previous;
    slot->next = slot->previous = NULL;
}

static bool backend_has_its_share(const struct backend *backend, const struct backend_slot *wanted)
{
    unsigned share = ((unsigned)backend->settings->max_sessions + 1) / 2, has = 0;

    for (const struct backend_slot *at = backend->held.next; at != &backend->held; at = at->next)
        has += at->limited && address_same_ip(&at->network, &wanted->network);
    return wanted->limited && has >= share;
}

/* The waiter that asked first. Waiters whose network already has its share are only served if nobody else waits.
 * NULL: nobody waits. */
static struct backend_slot *backend_next_wanted(const struct backend *backend)
{
    for (struct backend_slot *slot = backend->wanted.next; slot != &backend->wanted;
         slot = slot->next) {
        if (!backend_has_its_share(backend, slot))
            return slot;
    }
    return backend->wanted.next != &backend->wanted ? backend->wanted.next : NULL;
}

/* Finds a slot for a session, if necessary by closing a spare: a session is worth more. */
static bool backend_find_slot(struct backend *backend)
{
    if (backend->sessions < (unsigned)backend->settings->max_sessions) {
        backend->sessions++;
        return true;
    }
    if (backend->spare_count == 0)
        return false;
    /* Abort, because a closed socket stays open while the keeper polls it. */
    stream_abort(&backend->spares[--backend->spare_count].hop.stream);
    backend_wake(backend);
    return true;
}

void backend_grant_slots(struct backend *backend)
{
    struct backend_slot *slot;

    while ((slot = backend_next_wanted(backend)) != NULL && backend_find_slot(backend)) {
        ASSERT(slot->state == BACKEND_SLOT_WANTED);
        backend_slot_leave(slot);
        backend_slot_enter(&backend->held, slot);
        slot->state = BACKEND_SLOT_HELD;
        wakeup_call(slot->wakeup);
    }
}

int64_t backend_ask_slot(struct backend *backend, struct backend_slot *slot,
                         const struct address *client, bool limited, struct wakeup *wakeup)
{
    pthread_mutex_lock(&backend->lock);
    if (slot->state == BACKEND_SLOT_NONE) {
        *slot = (struct backend_slot){.state = BACKEND_SLOT_WANTED,
                                      .network = address_site_network(client),
                                      .limited = limited,
                                      .until_ms = deadline_now_ms() + SLOT_WAIT_MS};
        backend_slot_enter(&backend->wanted, slot);
        backend_grant_slots(backend);
        slot->wakeup = wakeup;
    }
    bool held = slot->state == BACKEND_SLOT_HELD;
    pthread_mutex_unlock(&backend->lock);
    return held || deadline_now_ms() >= slot->until_ms ? 0 : slot->until_ms;
}

bool backend_holds_slot(struct backend *backend, const struct backend_slot *slot)
{
    pthread_mutex_lock(&backend->lock);
    bool held = slot->state == BACKEND_SLOT_HELD;
    pthread_mutex_unlock(&backend->lock);
    return held;
}

bool backend_is_wanted(struct backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    bool wanted = backend->wanted.next != &backend->wanted;
    pthread_mutex_unlock(&backend->lock);
    return wanted;
}

void backend_give_slot(struct backend *backend, struct backend_slot *slot)
{
    pthread_mutex_lock(&backend->lock);
    if (slot->state != BACKEND_SLOT_NONE)
        backend_slot_leave(slot);
    if (backend->spare_waiter == slot)
        backend->spare_waiter = NULL;
    if (slot->state == BACKEND_SLOT_HELD) {
        ASSERT(backend->sessions > 0);
        backend->sessions--;
        backend_grant_slots(backend);
    }
    slot->state = BACKEND_SLOT_NONE;
    pthread_mutex_unlock(&backend->lock);
}

bool backend_reserve(struct backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    bool reserved = backend->wanted.next == &backend->wanted &&
                    backend->sessions < (unsigned)backend->settings->max_sessions;
    backend->sessions += reserved;
    pthread_mutex_unlock(&backend->lock);
    return reserved;
}

void backend_disconnected(struct backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    ASSERT(backend->sessions > 0);
    backend->sessions--;
    backend_grant_slots(backend);
    pthread_mutex_unlock(&backend->lock);
}

/* These settings may rule out spares with TLS, or without; otherwise recent clients decide. */
unsigned backend_spares_wanted(const struct backend *backend, bool tls)
{
    const struct config_backend *settings = backend->settings;
    unsigned all = (unsigned)settings->spares;

    if (config_proxy_of(settings) != 0)
        return 0;
    if (settings->tls == CONFIG_TLS_NONE)
        return tls ? 0 : all;
    if (settings->tls != CONFIG_TLS_MIRROR || backend->submission)
        return tls ? all : 0;
    unsigned under_tls =
        (all * (unsigned)__builtin_popcount(backend->demand) + DEMAND_BITS / 2) / DEMAND_BITS;
    return tls ? under_tls : all - under_tls;
}

/* Takes a ready spare; leaves dead ones to the keeper. The caller holds the lock. */
static bool backend_find_spare(struct backend *backend, bool tls, struct spare *out)
{
    for (unsigned i = 0; i < backend->spare_count; i++) {
        struct spare *spare = &backend->spares[i];
        struct pollfd poll_fd = {.fd = spare->hop.stream.fd, .events = POLLIN};
        if (spare->tls == tls && !spare->doubtful && poll(&poll_fd, 1, 0) == 0) {
            *out = *spare;
            *spare = backend->spares[--backend->spare_count];
            return true;
        }
    }
    return false;
}

static bool backend_has_spare(const struct backend *backend, bool tls)
{
    for (unsigned i = 0; i < backend->spare_count; i++) {
        if (backend->spares[i].tls == tls && !backend->spares[i].doubtful)
            return true;
    }
    return false;
}

int64_t backend_await_spare(struct backend *backend, struct backend_slot *slot, bool tls)
{
    int64_t until_ms = 0;

    pthread_mutex_lock(&backend->lock);
    if (slot->state == BACKEND_SLOT_HELD && !slot->has_asked && backend->spare_waiter == NULL &&
        backend->making_since_ms != 0 && backend->making_tls == tls &&
        !backend_has_spare(backend, tls))
        backend->spare_waiter = slot;
    slot->has_asked |= slot->state == BACKEND_SLOT_HELD;
    if (backend->spare_waiter == slot)
        until_ms = backend->making_since_ms + SPARE_WAIT_MS;
    if (until_ms <= deadline_now_ms()) {
        until_ms = 0;
        if (backend->spare_waiter == slot)
            backend->spare_waiter = NULL;
    }
    pthread_mutex_unlock(&backend->lock);
    return until_ms;
}

void backend_doubt_spares(struct backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    for (unsigned i = 0; i < backend->spare_count; i++)
        backend->spares[i].doubtful = true;
    pthread_mutex_unlock(&backend->lock);
    backend_wake(backend);
}

bool backend_take_spare(struct backend *backend, bool tls, struct nexthop *hop,
                        struct address *host)
{
    struct spare spare;

    pthread_mutex_lock(&backend->lock);
    backend->demand = (uint8_t)(backend->demand << 1 | tls);
    bool found = backend_find_spare(backend, tls, &spare);
    bool short_of_spares = backend->spare_count < backend_spares_wanted(backend, false) +
                                                      backend_spares_wanted(backend, true);
    bool wake = backend->keeper_rests && short_of_spares;
    /* The spare had its own slot. */
    if (found) {
        ASSERT(backend->sessions > 1);
        backend->sessions--;
        backend_grant_slots(backend);
    }
    if (wake)
        backend->keeper_rests = false;
    pthread_mutex_unlock(&backend->lock);
    if (wake)
        backend_wake(backend);
    if (found) {
        backend_watch_idle(spare.hop.stream.fd, false);
        *hop = spare.hop;
        *host = spare.host;
    }
    return found;
}
