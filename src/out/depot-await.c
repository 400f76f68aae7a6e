/* out/depot-await.c - next hops of stored messages that have not answered yet
 *
 * A next hop that was sent the end of data and is slow to answer may have the message: it is not to be
 * given it again. The live courier hands its connection over with the message, and the delivery that
 * would try it again waits for the answer instead.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "out/depot-internal.h"
#include "out/leg.h"

static void awaited_free(struct awaited *awaited)
{
    struct outbound *out = (struct outbound *)awaited->leg->out;
    leg_free(awaited->leg);
    service_unref(&out->service);
    free(awaited);
}

/* Those that nobody has come for in their time, since the message was removed or put on hold. Under the
 * lock; the caller frees them without it. */
static struct awaited *awaited_expired(struct depot *depot)
{
    struct awaited *expired = NULL;

    for (struct awaited **at = &depot->awaited; *at != NULL;) {
        struct awaited *one = *at;
        if (one->taken || !deadline_passed(one->until)) {
            at = &one->next;
            continue;
        }
        *at = one->next;
        one->next = expired;
        expired = one;
    }
    return expired;
}

static void awaited_free_all(struct awaited *list)
{
    while (list != NULL) {
        struct awaited *next = list->next;
        awaited_free(list);
        list = next;
    }
}

bool depot_await(struct depot *depot, uint64_t id, struct leg *leg)
{
    const struct config_out_timeouts *timeouts = &leg->out->config->out.timeouts;
    struct awaited *awaited = calloc(1, sizeof *awaited);

    if (awaited == NULL)
        return false;
    service_ref(&((struct outbound *)leg->out)->service);
    awaited->id = id;
    awaited->leg = leg;
    awaited->until = deadline_in_ms(timeouts->data_block + timeouts->final);
    pthread_mutex_lock(&depot->lock);
    awaited->next = depot->awaited;
    depot->awaited = awaited;
    struct awaited *expired = awaited_expired(depot);
    pthread_mutex_unlock(&depot->lock);
    awaited_free_all(expired);
    return true;
}

static bool awaited_is_for(const struct awaited *awaited, const char *domain)
{
    const struct leg *leg = awaited->leg;
    char key[ROUTE_KEY_MAX];
    return strcmp(leg->key, route_key(routes_find(leg->out->routes, domain), domain, key)) == 0;
}

struct awaited *depot_take_awaited(struct depot *depot, uint64_t id, const char *domain)
{
    pthread_mutex_lock(&depot->lock);
    struct awaited *awaited = depot->awaited;
    while (awaited != NULL &&
           (awaited->id != id || awaited->taken || !awaited_is_for(awaited, domain)))
        awaited = awaited->next;
    if (awaited != NULL)
        awaited->taken = true;
    pthread_cond_broadcast(&depot->taken);
    pthread_mutex_unlock(&depot->lock);
    return awaited;
}

void depot_see_awaited_taken(struct depot *depot, struct deadline deadline)
{
    bool in_time = true;

    pthread_mutex_lock(&depot->lock);
    for (const struct awaited *one = depot->awaited; one != NULL && in_time;) {
        if (one->taken) {
            one = one->next;
            continue;
        }
        in_time = condition_wait(&depot->taken, &depot->lock, deadline);
        one = depot->awaited; /* the list may be another one now */
    }
    pthread_mutex_unlock(&depot->lock);
}

static void awaited_unlink(struct depot *depot, const struct awaited *awaited)
{
    struct awaited **at = &depot->awaited;
    while (*at != awaited)
        at = &(*at)->next;
    *at = awaited->next;
}

void depot_drop_awaited(struct depot *depot, struct awaited *awaited)
{
    pthread_mutex_lock(&depot->lock);
    awaited_unlink(depot, awaited);
    pthread_mutex_unlock(&depot->lock);
    awaited_free(awaited);
}

void depot_unawait(struct depot *depot, uint64_t id)
{
    pthread_mutex_lock(&depot->lock);
    for (struct awaited *one = depot->awaited, *next; one != NULL; one = next) {
        next = one->next;
        if (one->id != id)
            continue;
        awaited_unlink(depot, one);
        service_unref(&((struct outbound *)one->leg->out)->service);
        free(one);
    }
    pthread_cond_broadcast(&depot->taken);
    pthread_mutex_unlock(&depot->lock);
}

void depot_stop_awaited(struct depot *depot)
{
    pthread_mutex_lock(&depot->lock);
    for (const struct awaited *one = depot->awaited; one != NULL; one = one->next)
        sender_stop(one->leg->sender, true);
    pthread_mutex_unlock(&depot->lock);
}

void depot_free_awaited(struct depot *depot)
{
    awaited_free_all(depot->awaited);
    depot->awaited = NULL;
}
