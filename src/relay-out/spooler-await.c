/* relay-out/spooler-await.c - next hops of stored messages that have not answered yet
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
#include "relay-out/spooler-internal.h"
#include "relay-out/target.h"

static void awaited_free(struct awaited *awaited)
{
    struct outbound *out = (struct outbound *)awaited->target->out;
    target_free(awaited->target);
    service_unref(&out->service);
    free(awaited);
}

/* Those that nobody has come for in their time, since the message was removed or put on hold. Under the
 * lock; the caller frees them without it. */
static struct awaited *awaited_expired(struct spooler *spooler)
{
    struct awaited *expired = NULL;

    for (struct awaited **at = &spooler->awaited; *at != NULL;) {
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

bool spooler_await(struct spooler *spooler, uint64_t id, struct target *target)
{
    const struct config_out_timeouts *timeouts = &target->out->config->out.timeouts;
    struct awaited *awaited = calloc(1, sizeof *awaited);

    if (awaited == NULL)
        return false;
    service_ref(&((struct outbound *)target->out)->service);
    awaited->id = id;
    awaited->target = target;
    awaited->until = deadline_in_ms(timeouts->data_block + timeouts->final);
    pthread_mutex_lock(&spooler->lock);
    awaited->next = spooler->awaited;
    spooler->awaited = awaited;
    struct awaited *expired = awaited_expired(spooler);
    pthread_mutex_unlock(&spooler->lock);
    awaited_free_all(expired);
    return true;
}

static bool awaited_is_for(const struct awaited *awaited, const char *domain)
{
    const struct target *target = awaited->target;
    char key[ROUTE_KEY_MAX];
    return strcmp(target->key, route_key(routes_find(target->out->routes, domain), domain, key)) ==
           0;
}

struct awaited *spooler_take_awaited(struct spooler *spooler, uint64_t id, const char *domain)
{
    pthread_mutex_lock(&spooler->lock);
    struct awaited *awaited = spooler->awaited;
    while (awaited != NULL &&
           (awaited->id != id || awaited->taken || !awaited_is_for(awaited, domain)))
        awaited = awaited->next;
    if (awaited != NULL)
        awaited->taken = true;
    pthread_cond_broadcast(&spooler->taken);
    pthread_mutex_unlock(&spooler->lock);
    return awaited;
}

void spooler_see_awaited_taken(struct spooler *spooler, struct deadline deadline)
{
    bool in_time = true;

    pthread_mutex_lock(&spooler->lock);
    for (const struct awaited *one = spooler->awaited; one != NULL && in_time;) {
        if (one->taken) {
            one = one->next;
            continue;
        }
        in_time = condition_wait(&spooler->taken, &spooler->lock, deadline);
        one = spooler->awaited; /* the list may be another one now */
    }
    pthread_mutex_unlock(&spooler->lock);
}

static void awaited_unlink(struct spooler *spooler, const struct awaited *awaited)
{
    struct awaited **at = &spooler->awaited;
    while (*at != awaited)
        at = &(*at)->next;
    *at = awaited->next;
}

void spooler_drop_awaited(struct spooler *spooler, struct awaited *awaited)
{
    pthread_mutex_lock(&spooler->lock);
    awaited_unlink(spooler, awaited);
    pthread_mutex_unlock(&spooler->lock);
    awaited_free(awaited);
}

void spooler_unawait(struct spooler *spooler, uint64_t id)
{
    pthread_mutex_lock(&spooler->lock);
    for (struct awaited *one = spooler->awaited, *next; one != NULL; one = next) {
        next = one->next;
        if (one->id != id)
            continue;
        awaited_unlink(spooler, one);
        service_unref(&((struct outbound *)one->target->out)->service);
        free(one);
    }
    pthread_cond_broadcast(&spooler->taken);
    pthread_mutex_unlock(&spooler->lock);
}

void spooler_stop_awaited(struct spooler *spooler)
{
    pthread_mutex_lock(&spooler->lock);
    for (const struct awaited *one = spooler->awaited; one != NULL; one = one->next)
        sender_stop(one->target->sender, true);
    pthread_mutex_unlock(&spooler->lock);
}

void spooler_free_awaited(struct spooler *spooler)
{
    awaited_free_all(spooler->awaited);
    spooler->awaited = NULL;
}
