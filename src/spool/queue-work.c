/* spool/queue-work.c - hands out work and takes it back
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "spool/queue.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "spool/queue-internal.h"

/* Puts a notice off once, for as long as a first retry takes, if there is a try to be made now: after a stop of
 * the daemon or an operator's hold, it may well bring the message to its end. */
static bool queue_puts_notice_off(struct queue *queue, struct message *message)
{
    bool has_next = false;

    for (unsigned i = 0; i < message->count && !message->notice_waited; i++)
        has_next = has_next || queue_is_next(queue, &message->deliveries[i]);
    if (!has_next)
        return false;
    message->notice_waited = true;
    message->notice = queue->now + queue_wait(queue, 1);
    queue_attend(queue, message);
    return true;
}

/* Takes a notice or an expiry that is due. An expired message waits for its last tries and for running
 * deliveries; the last one returned puts it here again. */
static bool queue_take_attention(struct queue *queue, struct queue_work *work)
{
    struct heap_node *top;
    while ((top = heap_top(&queue->attention)) != NULL && top->key <= queue->now) {
        struct message *message = OWNER(top, message, attention);
        heap_remove(&queue->attention, top);
        work->kind = message->expires <= queue->now ? QUEUE_EXPIRE : QUEUE_NOTICE;
        if (work->kind == QUEUE_EXPIRE && !message->expiring)
            queue_begin_last_tries(queue, message);
        if (work->kind == QUEUE_EXPIRE && (message->active > 0 || queue_lacks_last_tries(message)))
            continue;
        if (work->kind == QUEUE_NOTICE && queue_puts_notice_off(queue, message))
            continue;
        if (work->kind == QUEUE_EXPIRE)
            queue_withdraw_all(queue, message);
        message->in_hand = true;
        work->id = message->id;
        return true;
    }
    return false;
}

static void queue_wake_waiting(struct queue *queue)
{
    struct heap_node *top;
    while ((top = heap_top(&queue->waiting)) != NULL && top->key <= queue->now)
        queue_place(queue, OWNER(top, destination, waiting));
}

static struct destination *queue_next_well(struct queue *queue)
{
    return queue->ring.next != &queue->ring ? queue->ring.next : NULL;
}

/* Unreachable destinations get at most half of the places: each may hold one until it is found to be still
 * unreachable. */
static struct destination *queue_next_probe(struct queue *queue)
{
    unsigned most = queue->config.concurrency / 2;
    bool room = queue->probing < (most > 0 ? most : 1);
    return room && queue->probes.next != &queue->probes ? queue->probes.next : NULL;
}

static struct destination *queue_next_destination(struct queue *queue)
{
    struct destination *well = queue_next_well(queue), *probe = queue_next_probe(queue);
    if (well == NULL || (probe != NULL && queue->probe_first)) {
        queue->probe_first = false;
        return probe;
    }
    queue->probe_first = true;
    return well;
}

static void queue_give(struct queue *queue, struct delivery *delivery, struct queue_work *work)
{
    struct destination *destination = delivery->destination;

    delivery->active = true;
    delivery->again = false;
    delivery->probe = destination->failures > 0 && !delivery->confirmed;
    delivery->confirmed = false;
    queue->probing += delivery->probe;
    delivery->message->active++;
    destination->active++;
    queue_withdraw(queue, delivery);
    work->kind = QUEUE_DELIVER;
    work->id = delivery->message->id;
    work->attempts = delivery->attempts;
    memcpy(work->destination, destination->name, strlen(destination->name) + 1);
}

static bool queue_take_delivery(struct queue *queue, struct queue_work *work)
{
    struct destination *destination = queue_next_destination(queue);
    if (destination == NULL)
        return false;
    /* Move it to the end of the ring: the others come first. */
    destination->previous->next = destination->next;
    destination->next->previous = destination->previous;
    destination->in_ring = false;
    queue_give(queue, OWNER(heap_top(&destination->deliveries), delivery, due), work);
    return true;
}

static bool queue_take_confirmed(struct queue *queue, struct queue_work *work)
{
    struct message *message = queue_next_confirmed(queue);
    if (message == NULL)
        return false;
    queue_give(queue, queue_confirmed_of(message), work);
    queue_attend(queue, message);
    return true;
}

static int64_t queue_time_to_next(const struct queue *queue)
{
    const struct heap_node *waiting = heap_top(&queue->waiting);
    const struct heap_node *attention = heap_top(&queue->attention);
    int64_t next = INT64_MAX;
    if (waiting != NULL)
        next = waiting->key;
    if (attention != NULL && attention->key < next)
        next = attention->key;
    return next == INT64_MAX ? -1 : next - queue->now;
}

static bool queue_has_more(struct queue *queue)
{
    const struct heap_node *attention = heap_top(&queue->attention);
    if (queue_next_confirmed(queue) != NULL)
        return true;
    return !queue->winding_down && queue->active < queue->config.concurrency &&
           (queue_next_well(queue) != NULL || queue_next_probe(queue) != NULL ||
            (attention != NULL && attention->key <= queue->now));
}

bool queue_take(struct queue *queue, struct queue_work *work, int64_t *wait_ms)
{
    bool taken = false;

    *wait_ms = -1;
    memset(work, 0, sizeof *work);
    queue_lock(queue);
    taken = queue_take_confirmed(queue, work);
    if (!taken && !queue->winding_down && queue->active < queue->config.concurrency) {
        queue_wake_waiting(queue);
        taken = queue_take_attention(queue, work) || queue_take_delivery(queue, work);
        if (!taken)
            *wait_ms = queue_time_to_next(queue);
    }
    queue->active += taken;
    if (taken && queue_has_more(queue))
        *wait_ms = 0;
    queue_unlock(queue);
    return taken;
}

static struct delivery *queue_find_delivery(struct message *message, const char *destination)
{
    for (unsigned i = 0; i < message->count; i++) {
        struct delivery *delivery = &message->deliveries[i];
        if (delivery->destination != NULL && strcmp(delivery->destination->name, destination) == 0)
            return delivery;
    }
    return NULL;
}

/* Finds the delivery if it is being worked on. */
static struct delivery *queue_find_active(struct message *message, const char *destination)
{
    struct delivery *delivery = queue_find_delivery(message, destination);
    return delivery != NULL && delivery->active ? delivery : NULL;
}

enum queue_answer queue_confirm(struct queue *queue, uint64_t id, const char *destination)
{
    queue_lock(queue);
    struct message *message = queue_find(queue, id);
    struct delivery *delivery = message != NULL ? queue_find_delivery(message, destination) : NULL;
    if (delivery != NULL) {
        delivery->confirmed = true;
        queue_attend(queue, message);
    }
    queue_unlock(queue);
    if (delivery != NULL)
        queue_wake(queue);
    return delivery != NULL ? QUEUE_DONE : QUEUE_NO_SUCH;
}

void queue_wind_down(struct queue *queue)
{
    queue_lock(queue);
    queue->winding_down = true;
    queue_unlock(queue);
}

/* Several deliveries that ran when the destination went down count as one failure. */
static void queue_judge_destination(struct queue *queue, struct destination *destination,
                                    bool reached, const char *reason)
{
    if (reached) {
        destination->failures = 0;
        destination->not_before = destination->postponed = 0;
    } else if (destination->not_before <= queue->now) {
        destination->failures++;
        destination->failed = queue->now;
        destination->not_before = queue->now + queue_wait(queue, destination->failures);
    }
    free(destination->reason);
    destination->reason = !reached && reason != NULL ? strndup(reason, QUEUE_REASON_MAX - 1) : NULL;
}

static int64_t queue_judge_delivery(struct queue *queue, struct message *message,
                                    const struct queue_work *work, enum queue_outcome outcome,
                                    const char *reason)
{
    struct delivery *delivery = queue_find_active(message, work->destination);
    if (delivery == NULL)
        return 0;
    struct destination *destination = delivery->destination;
    queue_judge_destination(queue, destination, outcome != QUEUE_UNREACHABLE, reason);
    delivery->attempts++;
    if (outcome == QUEUE_SETTLED) {
        delivery->due.key = INT64_MAX;
        return 0;
    }
    delivery->due.key = queue->now + queue_wait(queue, delivery->attempts);
    delivery->tried_last = !message->hold && message->expires <= queue->now;
    if (outcome == QUEUE_UNREACHABLE)
        queue_end_last_tries(queue, destination);
    /* As after a first try, which leaves a host that was just found dead the time to be asked again. */
    if (delivery->again) {
        delivery->due.key = queue->now + queue_wait(queue, 1);
        if (destination->not_before > delivery->due.key)
            destination->not_before = delivery->due.key;
        delivery->again = false;
    }
    return delivery->due.key > destination->not_before ? delivery->due.key
                                                       : destination->not_before;
}

static int64_t queue_judge_attention(struct queue *queue, struct message *message,
                                     const struct queue_work *work, enum queue_outcome outcome)
{
    int64_t again = outcome == QUEUE_SETTLED ? 0 : queue->now + queue_wait(queue, 1);
    if (work->kind == QUEUE_NOTICE) {
        message->notice = again;
    } else {
        message->expires = outcome == QUEUE_SETTLED ? INT64_MAX : again;
        message->put_off = true;
    }
    return again;
}

int64_t queue_judge(struct queue *queue, const struct queue_work *work, enum queue_outcome outcome,
                    const char *reason)
{
    int64_t next = 0;
    queue_lock(queue);
    struct message *message = queue_find(queue, work->id);
    if (message != NULL)
        next = work->kind == QUEUE_DELIVER
                   ? queue_judge_delivery(queue, message, work, outcome, reason)
                   : queue_judge_attention(queue, message, work, outcome);
    queue_unlock(queue);
    return next;
}

void queue_postpone(struct queue *queue, const struct queue_work *work, int64_t wait_ms)
{
    queue_lock(queue);
    struct message *message = queue_find(queue, work->id);
    struct delivery *delivery =
        message != NULL ? queue_find_active(message, work->destination) : NULL;
    if (delivery != NULL && delivery->destination->postponed < queue->now + wait_ms)
        delivery->destination->postponed = queue->now + wait_ms;
    queue_unlock(queue);
}

void queue_resume(struct queue *queue, const char *name)
{
    queue_lock(queue);
    struct destination *destination = queue_find_destination(queue, name);
    if (destination != NULL) {
        destination->postponed = 0;
        queue_place(queue, destination);
    }
    queue_unlock(queue);
    queue_wake(queue);
}

static void queue_finish_delivery(struct queue *queue, struct message *message, const char *name)
{
    struct delivery *delivery = queue_find_active(message, name);
    if (delivery == NULL)
        return;
    delivery->active = false;
    ASSERT(message->active > 0 && delivery->destination->active > 0);
    message->active--;
    delivery->destination->active--;
    queue->probing -= delivery->probe;
    if (delivery->due.key == INT64_MAX) {
        queue_settle(queue, delivery);
    } else {
        queue_offer(queue, delivery);
        queue_place(queue, delivery->destination);
    }
    if (message->left > 0)
        queue_attend(queue, message);
}

static void queue_finish_attention(struct queue *queue, struct message *message)
{
    message->in_hand = false;
    if (message->expires > queue->now)
        queue_revive(message);
    for (unsigned i = 0; i < message->count && message->expires == INT64_MAX; i++)
        queue_settle(queue, &message->deliveries[i]);
    if (message->left == 0)
        return;
    for (unsigned i = 0; i < message->count; i++)
        queue_offer(queue, &message->deliveries[i]);
    queue_attend(queue, message);
}

bool queue_finish(struct queue *queue, const struct queue_work *work)
{
    bool gone = false;
    queue_lock(queue);
    struct message *message = queue_find(queue, work->id);
    ASSERT(queue->active > 0);
    queue->active--;
    if (message != NULL) {
        if (work->kind == QUEUE_DELIVER)
            queue_finish_delivery(queue, message, work->destination);
        else
            queue_finish_attention(queue, message);
        gone = message->left == 0 && !message->in_hand;
        if (gone)
            queue_drop(queue, message);
    }
    queue_unlock(queue);
    return gone;
}
