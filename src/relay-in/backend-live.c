/* relay-in/backend-live.c - counts the live backends, including those no longer wanted, and joins their keepers
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-in/backend-internal.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/condition.h"

struct backend_live_count {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned living;
    struct backend *ended; /* their keepers are ending and must be joined */
};

struct backend_live_count *backend_live_count_new(void)
{
    struct backend_live_count *live_count = calloc(1, sizeof *live_count);
    if (live_count == NULL)
        return NULL;
    pthread_mutex_init(&live_count->lock, NULL);
    if (condition_init(&live_count->changed) != 0) {
        free(live_count);
        return NULL;
    }
    return live_count;
}

void backend_free(struct backend *backend)
{
    ASSERT(backend->wanted.next == &backend->wanted && backend->held.next == &backend->held);
    tls_client_free(backend->tls);
    config_unref(backend->config);
    free(backend->spares);
    if (backend->wake_fd >= 0)
        close(backend->wake_fd);
    pthread_mutex_destroy(&backend->lock);
    free(backend);
}

/* Joins the keepers that have ended and frees their backends. The caller holds the lock, which this releases in
 * between. */
static void backend_live_count_free_ended(struct backend_live_count *live_count)
{
    while (live_count->ended != NULL) {
        struct backend *backend = live_count->ended;
        live_count->ended = backend->next_ended;
        live_count->living--;
        pthread_mutex_unlock(&live_count->lock);
        pthread_join(backend->keeper, NULL);
        backend_free(backend);
        pthread_mutex_lock(&live_count->lock);
    }
}

bool backend_live_count_free(struct backend_live_count *live_count)
{
    struct deadline deadline = deadline_in_ms(10000);
    bool in_time = true;

    pthread_mutex_lock(&live_count->lock);
    backend_live_count_free_ended(live_count);
    while (live_count->living > 0 && in_time) {
        in_time = condition_wait(&live_count->changed, &live_count->lock, deadline);
        backend_live_count_free_ended(live_count);
    }
    bool gone = live_count->living == 0;
    pthread_mutex_unlock(&live_count->lock);
    if (gone) {
        pthread_cond_destroy(&live_count->changed);
        pthread_mutex_destroy(&live_count->lock);
        free(live_count);
    }
    return gone;
}

void backend_live_count_add(struct backend_live_count *live_count)
{
    pthread_mutex_lock(&live_count->lock);
    backend_live_count_free_ended(live_count);
    live_count->living++;
    pthread_mutex_unlock(&live_count->lock);
}

void backend_live_count_end(struct backend *backend)
{
    struct backend_live_count *live_count = backend->live_count;

    pthread_mutex_lock(&live_count->lock);
    backend->next_ended = live_count->ended;
    live_count->ended = backend;
    pthread_cond_signal(&live_count->changed);
    pthread_mutex_unlock(&live_count->lock);
}
