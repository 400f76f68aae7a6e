/* spool/queue-orders.c - an operator's orders to the queue, and its counts
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "spool/queue.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "spool/queue-internal.h"

typedef enum queue_answer order(struct queue *queue, struct message *message);

static enum queue_answer queue_give_order(struct queue *queue, uint64_t id, order *give)
{
    queue_lock(queue);
    struct message *message = queue_find(queue, id);
    enum queue_answer answer = message != NULL ? give(queue, message) : QUEUE_NO_SUCH;
    queue_unlock(queue);
    queue_wake(queue);
    return answer;
}

/* Running deliveries continue; they are not offered again when they are returned. */
static enum queue_answer queue_order_hold(struct queue *queue, struct message *message)
{
    if (message->hold)
        return QUEUE_DONE;
    message->hold = true;
    message->held_since = queue->now;
    queue_withdraw_all(queue, message);
    queue_attend(queue, message);
    return QUEUE_DONE;
}

static enum queue_answer queue_order_release(struct queue *queue, struct message *message)
{
    if (!message->hold)
        return QUEUE_DONE;
    message->hold = false;
    message->expires += queue->now - message->held_since;
    message->notice_waited = false;
    queue_revive(message);
    for (unsigned i = 0; i < message->count; i++) {
        if (!message->deliveries[i].active)
            message->deliveries[i].due.key = queue->now;
        queue_offer(queue, &message->deliveries[i]);
    }
    queue_attend(queue, message);
    return QUEUE_DONE;
}

static enum queue_answer queue_order_claim(struct queue *queue, struct message *message)
{
    if (message->active > 0 || message->in_hand)
        return QUEUE_BUSY;
    message->in_hand = true;
    queue_withdraw_all(queue, message);
    queue_attend(queue, message);
    return QUEUE_DONE;
}

static void queue_forgive_one(struct queue *queue, struct destination *destination)
{
    destination->not_before = destination->postponed = 0;
    queue_place(queue, destination);
}

static struct destination *queue_destination_in(struct table_node *node)
{
    return OWNER(node, destination, by_name);
}

void queue_forgive(struct queue *queue)
{
    queue_lock(queue);
    for (size_t i = 0; i < queue->destinations.bucket_count; i++) {
        for (struct table_node *node = queue->destinations.buckets[i]; node; node = node->next)
            queue_forgive_one(queue, queue_destination_in(node));
    }
    queue_unlock(queue);
    queue_wake(queue);
}

static enum queue_answer queue_order_retry(struct queue *queue, struct message *message)
{
    for (unsigned i = 0; i < message->count; i++) {
        struct delivery *delivery = &message->deliveries[i];
        if (delivery->destination == NULL)
            continue;
        /* The running try began before whatever the operator has mended. */
        delivery->again = delivery->active;
        if (delivery->active)
            continue;
        queue_withdraw(queue, delivery); /* its time must not change while it is among the others */
        delivery->due.key = queue->now;
        queue_offer(queue, delivery);
        queue_forgive_one(queue, delivery->destination);
    }
    return QUEUE_DONE;
}

enum queue_answer queue_hold(struct queue *queue, uint64_t id)
{
    return queue_give_order(queue, id, queue_order_hold);
}

enum queue_answer queue_release(struct queue *queue, uint64_t id)
{
    return queue_give_order(queue, id, queue_order_release);
}

enum queue_answer queue_claim(struct queue *queue, uint64_t id)
{
    return queue_give_order(queue, id, queue_order_claim);
}

void queue_unclaim(struct queue *queue, uint64_t id, bool gone)
{
    queue_lock(queue);
    struct message *message = queue_find(queue, id);
    ASSERT(message != NULL && message->in_hand && message->active == 0);
    message->in_hand = false;
    for (unsigned i = 0; i < message->count && !gone; i++)
        queue_offer(queue, &message->deliveries[i]);
    if (gone)
        queue_drop(queue, message);
    else
        queue_attend(queue, message);
    queue_unlock(queue);
    queue_wake(queue);
}

enum queue_answer queue_retry(struct queue *queue, uint64_t id)
{
    return queue_give_order(queue, id, queue_order_retry);
}

int64_t queue_expires_ms(struct queue *queue, uint64_t id)
{
    queue_lock(queue);
    const struct message *message = queue_find(queue, id);
    int64_t expires = message != NULL && !message->put_off ? message->expires : 0;
    queue_unlock(queue);
    return expires;
}

bool queue_destination_reason(struct queue *queue, const char *name, char out[QUEUE_REASON_MAX])
{
    queue_lock(queue);
    const struct destination *destination = queue_find_destination(queue, name);
    bool known = destination != NULL && destination->reason != NULL;
    snprintf(out, QUEUE_REASON_MAX, "%s", known ? destination->reason : "");
    queue_unlock(queue);
    return known;
}

void queue_note_recipients(struct queue *queue, uint64_t id, size_t recipients)
{
    queue_lock(queue);
    struct message *message = queue_find(queue, id);
    if (message != NULL)
        message->recipients = recipients;
    queue_unlock(queue);
}

static enum queue_state queue_state_of(const struct queue *queue, const struct message *message)
{
    if (message->hold)
        return QUEUE_HELD;
    for (unsigned i = 0; i < message->count; i++) {
        if (message->deliveries[i].active || queue_is_next(queue, &message->deliveries[i]))
            return QUEUE_DUE;
    }
    return QUEUE_WAITING;
}

static void queue_count_message(const struct queue *queue, const struct message *message,
                                struct queue_counts *counts)
{
    struct queue_share *share = &counts->shares[queue_state_of(queue, message)];

    share->messages++;
    share->recipients += message->recipients;
    share->octets += message->octets;
    if (counts->first_id == 0 || message->id < counts->first_id)
        counts->first_id = message->id;
}

void queue_count(struct queue *queue, struct queue_counts *counts)
{
    queue_lock(queue);
    *counts = (struct queue_counts){
        .messages = queue->messages.count,
        .deliveries = queue->deliveries,
        .active = queue->active,
        .destinations = queue->destinations.count,
    };
    for (size_t i = 0; i < queue->messages.bucket_count; i++) {
        for (struct table_node *node = queue->messages.buckets[i]; node; node = node->next)
            queue_count_message(queue, OWNER(node, message, by_id), counts);
    }
    for (size_t i = 0; i < queue->destinations.bucket_count; i++) {
        for (struct table_node *node = queue->destinations.buckets[i]; node; node = node->next)
            counts->unreachable += queue_destination_in(node)->failures > 0;
    }
    queue_unlock(queue);
}
