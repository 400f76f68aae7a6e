/* relay-out/spooler-await.c - next hops of stored messages that have not answered yet
 *
 * A next hop that was sent the end of data and is slow to answer may have the message, so it must not get
 * it again. The live courier hands its connection over with the message. When the answer comes, the queue
 * is told, and a delivery records the answer; while the daemon ends, so does the thread that ends it. Until
 * then only the connection's own thread waits. If the message comes up for delivery before that, the delivery
 * waits for the answer, too.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/condition.h"
#include "relay-out/spooler-internal.h"
#include "relay-out/target.h"

#define BREAK_OFF_MS 5000  /* for a thread that was told to end */
#define TELL_AGAIN_MS 2000 /* if memory or the disk failed before the answer was recorded */
#define KEEP_MS 3600000    /* past its deadline, for an entry whose message was removed */

int64_t spooler_answer_ms(const struct outbound *out)
{
    const struct config_out_timeouts *timeouts = &out->config->out.timeouts;
    return timeouts->data_block + timeouts->final;
}

static void spooler_free_list(struct awaited *list)
{
    while (list != NULL) {
        struct awaited *next = list->next;
        struct outbound *out = (struct outbound *)list->target->out;
        target_free(list->target);
        service_unref(&out->service);
        free(list->destinations);
        free(list);
        list = next;
    }
}

/* Under the lock. */
static bool spooler_has_answered(const struct awaited *awaited)
{
    return target_wait(awaited->target, (struct deadline){0});
}

/* Takes out the entries that are no longer needed. Under the lock; the caller frees them without it. */
static struct awaited *spooler_take_over(struct spooler *spooler)
{
    struct awaited *over = NULL;

    for (struct awaited **at = &spooler->awaited; *at != NULL;) {
        struct awaited *one = *at;
        if (one->users > 0 || (one->recipients > 0 &&
                               !deadline_passed((struct deadline){one->until.at_ms + KEEP_MS}))) {
            at = &one->next;
            continue;
        }
        *at = one->next;
        one->next = over;
        over = one;
    }
    return over;
}

/* Under the lock. */
static void spooler_tell_of(const struct spooler *spooler, struct awaited *awaited)
{
    awaited->told = false;
    for (size_t i = 0; i < awaited->destination_count; i++)
        awaited->told |=
            delivery_confirm(spooler->pool, awaited->id, awaited->destinations[i]) == QUEUE_DONE;
    awaited->gone = !awaited->told;
    awaited->told_until = deadline_in_ms(TELL_AGAIN_MS);
}

/* Under the lock. */
static void spooler_tell_queue(struct spooler *spooler)
{
    for (struct awaited *one = spooler->awaited; one != NULL; one = one->next) {
        /* A delivery that uses the entry sees the answer by itself. */
        if (!one->stored || (one->told && !deadline_passed(one->told_until)) || one->users > 0 ||
            !spooler_has_answered(one))
            continue;
        spooler_tell_of(spooler, one);
    }
    pthread_cond_broadcast(&spooler->changed);
}

void spooler_on_answer(struct wakeup *wakeup)
{
    struct spooler *spooler =
        (struct spooler *)((char *)wakeup - offsetof(struct spooler, answered));

    pthread_mutex_lock(&spooler->lock);
    spooler_tell_queue(spooler);
    pthread_mutex_unlock(&spooler->lock);
}

static struct awaited *spooler_new_awaited(struct spooler *spooler, uint64_t id,
                                           struct target *target)
{
    struct awaited *awaited = calloc(1, sizeof *awaited);

    if (awaited == NULL)
        return NULL;
    service_ref(&((struct outbound *)target->out)->service);
    awaited->id = id;
    awaited->target = target;
    awaited->until = deadline_in_ms(spooler_answer_ms(target->out));
    awaited->next = spooler->awaited;
    spooler->awaited = awaited;
    sender_set_wakeup(target->sender, &spooler->answered);
    if (spooler->winding_down)
        sender_stop(target->sender, true);
    return awaited;
}

static bool spooler_add_recipient(const struct spooler *spooler, struct awaited *awaited,
                                  const char *domain)
{
    char name[QUEUE_DESTINATION_MAX + 1];
    size_t i = 0;

    awaited->recipients++;
    spooler_destination_of(spooler, domain, name);
    while (i < awaited->destination_count && strcmp(awaited->destinations[i], name) != 0)
        i++;
    if (i < awaited->destination_count)
        return true;
    void *longer = realloc(awaited->destinations, (i + 1) * sizeof *awaited->destinations);
    if (longer == NULL)
        return false;
    awaited->destinations = longer;
    memcpy(awaited->destinations[i], name, sizeof name);
    awaited->destination_count++;
    return true;
}

bool spooler_await(struct spooler *spooler, uint64_t id, struct target *target, const char *domain)
{
    pthread_mutex_lock(&spooler->lock);
    struct awaited *over = spooler_take_over(spooler), *awaited = spooler->awaited;
    while (awaited != NULL && awaited->target != target)
        awaited = awaited->next;
    if (awaited == NULL)
        awaited = spooler_new_awaited(spooler, id, target);
    bool added = awaited != NULL && spooler_add_recipient(spooler, awaited, domain);
    pthread_mutex_unlock(&spooler->lock);
    spooler_free_list(over);
    return added;
}

void spooler_await_stored(struct spooler *spooler, uint64_t id)
{
    pthread_mutex_lock(&spooler->lock);
    for (struct awaited *one = spooler->awaited; one != NULL; one = one->next)
        one->stored |= one->id == id;
    spooler_tell_queue(spooler);
    pthread_mutex_unlock(&spooler->lock);
}

void spooler_unawait(struct spooler *spooler, uint64_t id)
{
    pthread_mutex_lock(&spooler->lock);
    for (struct awaited **at = &spooler->awaited; *at != NULL;) {
        struct awaited *one = *at;
        if (one->id != id) {
            at = &one->next;
            continue;
        }
        *at = one->next;
        sender_set_wakeup(one->target->sender, NULL);
        service_unref(&((struct outbound *)one->target->out)->service);
        free(one->destinations);
        free(one);
    }
    pthread_mutex_unlock(&spooler->lock);
}

bool spooler_is_for(const struct awaited *awaited, const char *domain)
{
    const struct target *target = awaited->target;
    char key[ROUTE_KEY_MAX];
    return strcmp(target->connect.key,
                  route_key(routes_find(target->out->routes, domain), domain, key)) == 0;
}

struct awaited *spooler_find_awaited(struct spooler *spooler, uint64_t id, const char *domain)
{
    pthread_mutex_lock(&spooler->lock);
    struct awaited *awaited = spooler->awaited;
    while (awaited != NULL &&
           (awaited->id != id || awaited->recipients == 0 || !spooler_is_for(awaited, domain)))
        awaited = awaited->next;
    if (awaited != NULL)
        awaited->users++;
    pthread_mutex_unlock(&spooler->lock);
    return awaited;
}

/* Under the lock. */
static bool spooler_wait_until(struct spooler *spooler, const struct awaited *awaited,
                               struct deadline deadline)
{
    while (!spooler_has_answered(awaited) && !spooler->winding_down &&
           condition_wait(&spooler->changed, &spooler->lock, deadline))
        ;
    return spooler_has_answered(awaited);
}

bool spooler_wait_awaited(struct spooler *spooler, struct awaited *awaited)
{
    pthread_mutex_lock(&spooler->lock);
    bool answered = spooler_wait_until(spooler, awaited, awaited->until);
    if (!answered && !spooler->winding_down) {
        sender_stop(awaited->target->sender, false);
        answered = spooler_wait_until(spooler, awaited, deadline_in_ms(BREAK_OFF_MS));
    }
    pthread_mutex_unlock(&spooler->lock);
    return answered;
}

void spooler_leave_awaited(struct spooler *spooler, struct awaited *awaited, size_t recipients)
{
    pthread_mutex_lock(&spooler->lock);
    awaited->users--;
    awaited->recipients -= recipients < awaited->recipients ? recipients : awaited->recipients;
    struct awaited *over = spooler_take_over(spooler);
    if (recipients == 0)
        spooler_tell_queue(spooler);
    pthread_cond_broadcast(&spooler->changed);
    pthread_mutex_unlock(&spooler->lock);
    spooler_free_list(over);
}

void spooler_wind_down_awaited(struct spooler *spooler)
{
    pthread_mutex_lock(&spooler->lock);
    spooler->winding_down = true;
    for (const struct awaited *one = spooler->awaited; one != NULL; one = one->next)
        sender_stop(one->target->sender, true);
    pthread_cond_broadcast(&spooler->changed);
    pthread_mutex_unlock(&spooler->lock);
}

/* Under the lock. Tells the queue first, because a sender has its answer a moment before it reports it. Only
 * what the queue has said counts: a sender that gets its answer meanwhile has not been told of yet. */
static bool spooler_awaits_any(struct spooler *spooler)
{
    spooler_tell_queue(spooler);
    const struct awaited *one = spooler->awaited;
    while (one != NULL && one->gone && one->users == 0)
        one = one->next;
    return one != NULL;
}

/* Under the lock, which it releases while it records. False if the deadline has passed. */
static bool spooler_record_or_wait(struct spooler *spooler, struct deadline deadline)
{
    struct queue_work work;

    if (!delivery_take_confirmed(spooler->pool, &work)) {
        condition_wait(&spooler->changed, &spooler->lock,
                       deadline_earlier(deadline, deadline_in_ms(TELL_AGAIN_MS)));
        return !deadline_passed(deadline);
    }
    pthread_mutex_unlock(&spooler->lock);
    delivery_record_confirmed(spooler->pool, &work);
    pthread_mutex_lock(&spooler->lock);
    return true;
}

bool spooler_await_all(struct spooler *spooler, struct deadline deadline)
{
    pthread_mutex_lock(&spooler->lock);
    while (spooler_awaits_any(spooler) && spooler_record_or_wait(spooler, deadline))
        ;
    bool all = !spooler_awaits_any(spooler);
    pthread_mutex_unlock(&spooler->lock);
    return all;
}

void spooler_free_awaited(struct spooler *spooler)
{
    pthread_mutex_lock(&spooler->lock);
    struct awaited *list = spooler->awaited;
    spooler->awaited = NULL;
    pthread_mutex_unlock(&spooler->lock);
    spooler_free_list(list);
}
