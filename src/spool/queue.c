/* spool/queue.c - the queue's structure: messages, destinations and their places
 *
 * A destination is in a ring if it has work now, in the heap `waiting` if it will have some at a known time,
 * and nowhere if only an event (a returned delivery) can change that.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "spool/queue.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "spool/queue-internal.h"

#define LAST_TRY INT64_MIN  /* when a last try is due: before everything else */
#define CONFIRMED INT64_MIN /* when a confirmed delivery needs attention: before everything else */

void queue_lock(struct queue *queue)
{
    lock_take(&queue->lock);
    queue->now = queue->config.now_ms(queue->config.context);
}

void queue_unlock(struct queue *queue)
{
    lock_drop(&queue->lock);
}

void queue_wake(const struct queue *queue)
{
    if (queue->config.wake != NULL)
        queue->config.wake(queue->config.context);
}

struct queue *queue_new(const struct queue_config *config)
{
    struct queue *queue = calloc(1, sizeof *queue);
    if (queue == NULL)
        return NULL;
    queue->config = *config;
    queue->random = table_hash_number(config->seed + 1);
    queue->ring.next = queue->ring.previous = &queue->ring;
    queue->probes.next = queue->probes.previous = &queue->probes;
    lock_init(&queue->lock);
    return queue;
}

void queue_free(struct queue *queue)
{
    if (queue == NULL)
        return;
    queue_lock(queue);
    for (size_t i = 0; i < queue->messages.bucket_count; i++) {
        while (queue->messages.buckets[i] != NULL)
            queue_drop(queue, OWNER(queue->messages.buckets[i], message, by_id));
    }
    table_free(&queue->messages);
    table_free(&queue->destinations);
    heap_free(&queue->waiting);
    heap_free(&queue->attention);
    queue_unlock(queue);
    lock_destroy(&queue->lock);
    free(queue);
}

struct message *queue_find(struct queue *queue, uint64_t id)
{
    LOCK_ASSERT(&queue->lock);
    struct table_node *node = table_find(&queue->messages, table_hash_number(id));
    return node != NULL ? OWNER(node, message, by_id) : NULL;
}

struct destination *queue_find_destination(struct queue *queue, const char *name)
{
    struct table_node *node = table_find(&queue->destinations, table_hash_text(name));
    for (; node != NULL; node = table_find_next(node)) {
        struct destination *destination = OWNER(node, destination, by_name);
        if (strcmp(destination->name, name) == 0)
            return destination;
    }
    return NULL;
}

/* Up to a fifth is taken off at random, so that mail that arrived together is not retried together. The
 * first retry is never later than configured. */
int64_t queue_wait(struct queue *queue, unsigned attempts)
{
    size_t step = attempts > 0 ? attempts - 1 : 0;
    if (step >= queue->config.retry_count)
        step = queue->config.retry_count - 1;
    int64_t wait = queue->config.retry_ms[step];
    queue->random = table_hash_number(queue->random + 0x9e3779b97f4a7c15);
    return wait - (int64_t)(queue->random % (uint64_t)(wait / 5 + 1));
}

static void queue_leave_ring(struct destination *destination)
{
    if (!destination->in_ring)
        return;
    destination->previous->next = destination->next;
    destination->next->previous = destination->previous;
    destination->in_ring = false;
}

static void queue_enter_ring(struct queue *queue, struct destination *destination)
{
    if (destination->in_ring)
        return;
    struct destination *ring = destination->failures > 0 ? &queue->probes : &queue->ring;
    destination->next = ring;
    destination->previous = ring->previous;
    destination->previous->next = destination;
    ring->previous = destination;
    destination->in_ring = true;
}

void queue_place(struct queue *queue, struct destination *destination)
{
    LOCK_ASSERT(&queue->lock);
    const struct heap_node *first = heap_top(&destination->deliveries);
    /* An unreachable destination is probed by one delivery. */
    unsigned places = destination->failures > 0 ? 1 : queue->config.destination_concurrency;

    heap_remove(&queue->waiting, &destination->waiting);
    if (first == NULL || destination->active >= places) {
        queue_leave_ring(destination);
        return;
    }
    int64_t when = first->key > destination->not_before ? first->key : destination->not_before;
    if (when < destination->postponed)
        when = destination->postponed;
    if (when <= queue->now) {
        queue_enter_ring(queue, destination);
    } else {
        queue_leave_ring(destination);
        heap_put(&queue->waiting, &destination->waiting, when);
    }
}

struct delivery *queue_confirmed_of(struct message *message)
{
    for (unsigned i = 0; i < message->count; i++) {
        struct delivery *delivery = &message->deliveries[i];
        if (delivery->confirmed && !delivery->active && delivery->destination != NULL)
            return delivery;
    }
    return NULL;
}

struct message *queue_next_confirmed(const struct queue *queue)
{
    struct heap_node *top = heap_top(&queue->attention);
    return top != NULL && top->key == CONFIRMED ? OWNER(top, message, attention) : NULL;
}

void queue_attend(struct queue *queue, struct message *message)
{
    LOCK_ASSERT(&queue->lock);
    ASSERT(message->left <= message->count && message->active <= message->left);
    int64_t when = message->expires;
    if (!message->expiring && message->notice != 0 && message->notice < when)
        when = message->notice;
    if (!message->in_hand && queue_confirmed_of(message) != NULL)
        heap_put(&queue->attention, &message->attention, CONFIRMED);
    else if (message->hold || message->in_hand || queue_lacks_last_tries(message))
        heap_remove(&queue->attention, &message->attention);
    else
        heap_put(&queue->attention, &message->attention, when);
}

bool queue_is_next(const struct queue *queue, const struct delivery *delivery)
{
    const struct destination *destination = delivery->destination;
    return destination != NULL && !delivery->active && delivery->due.key <= queue->now &&
           destination->not_before <= queue->now && destination->postponed <= queue->now;
}

void queue_offer(struct queue *queue, struct delivery *delivery)
{
    const struct message *message = delivery->message;
    if (delivery->destination == NULL || delivery->active || message->hold || message->in_hand ||
        (message->expiring && delivery->tried_last))
        return;
    if (message->expiring)
        delivery->due.key = LAST_TRY;
    heap_put(&delivery->destination->deliveries, &delivery->due, delivery->due.key);
    queue_place(queue, delivery->destination);
}

void queue_begin_last_tries(struct queue *queue, struct message *message)
{
    message->expiring = true;
    for (unsigned i = 0; i < message->count; i++) {
        struct delivery *delivery = &message->deliveries[i];
        struct destination *destination = delivery->destination;
        if (destination == NULL || delivery->tried_last)
            continue;
        if (destination->not_before > queue->now)
            destination->not_before = queue->now;
        queue_offer(queue, delivery);
    }
}

void queue_revive(struct message *message)
{
    message->expiring = false;
    for (unsigned i = 0; i < message->count; i++)
        message->deliveries[i].tried_last = false;
}

bool queue_lacks_last_tries(const struct message *message)
{
    bool lacks = false;
    for (unsigned i = 0; i < message->count && message->expiring; i++)
        lacks = lacks ||
                (message->deliveries[i].destination != NULL && !message->deliveries[i].tried_last);
    return lacks;
}

void queue_end_last_tries(struct queue *queue, struct destination *destination)
{
    struct heap_node *top;
    while ((top = heap_top(&destination->deliveries)) != NULL && top->key == LAST_TRY) {
        struct delivery *delivery = OWNER(top, delivery, due);
        heap_remove(&destination->deliveries, top);
        delivery->due.key = queue->now + queue_wait(queue, delivery->attempts + 1);
        delivery->tried_last = true;
        queue_attend(queue, delivery->message);
    }
}

void queue_withdraw(struct queue *queue, struct delivery *delivery)
{
    if (delivery->destination == NULL)
        return;
    heap_remove(&delivery->destination->deliveries, &delivery->due);
    queue_place(queue, delivery->destination);
}

void queue_withdraw_all(struct queue *queue, struct message *message)
{
    for (unsigned i = 0; i < message->count; i++)
        queue_withdraw(queue, &message->deliveries[i]);
}

static void queue_release_destination(struct queue *queue, struct destination *destination)
{
    if (--destination->count > 0)
        return;
    heap_remove(&queue->waiting, &destination->waiting);
    queue_leave_ring(destination);
    table_remove(&queue->destinations, &destination->by_name);
    heap_free(&destination->deliveries);
    free(destination->reason);
    free(destination);
}

void queue_settle(struct queue *queue, struct delivery *delivery)
{
    struct destination *destination = delivery->destination;
    if (destination == NULL)
        return;
    queue_withdraw(queue, delivery);
    delivery->destination = NULL;
    delivery->message->left--;
    queue->deliveries--;
    queue_release_destination(queue, destination);
}

void queue_drop(struct queue *queue, struct message *message)
{
    for (unsigned i = 0; i < message->count; i++)
        queue_settle(queue, &message->deliveries[i]);
    heap_remove(&queue->attention, &message->attention);
    table_remove(&queue->messages, &message->by_id);
    free(message);
}

/* Adding. */

static struct destination *queue_new_destination(struct queue *queue, const char *name)
{
    size_t len = strlen(name);
    struct destination *destination = NULL;
    if (len <= QUEUE_DESTINATION_MAX &&
        heap_reserve(&queue->waiting, queue->destinations.count + 1) == 0)
        destination = calloc(1, sizeof *destination + len + 1);
    if (destination == NULL)
        return NULL;
    destination->name = (char *)(destination + 1);
    memcpy(destination->name, name, len + 1);
    if (table_add(&queue->destinations, &destination->by_name, table_hash_text(name)) != 0) {
        free(destination);
        return NULL;
    }
    return destination;
}

/* Makes room for all deliveries of the destination, so that queue_offer() cannot fail later. */
static struct destination *queue_reserve_destination(struct queue *queue, const char *name)
{
    struct destination *destination = queue_find_destination(queue, name);
    if (destination == NULL)
        destination = queue_new_destination(queue, name);
    if (destination == NULL)
        return NULL;
    destination->count++;
    if (heap_reserve(&destination->deliveries, destination->count) == 0)
        return destination;
    queue_release_destination(queue, destination);
    return NULL;
}

static struct message *queue_new_message(const struct queue_entry *entry)
{
    struct message *message =
        calloc(1, sizeof *message + entry->count * sizeof *message->deliveries);
    if (message == NULL)
        return NULL;
    message->id = entry->id;
    message->expires = entry->expires_ms;
    message->notice = entry->notice_ms;
    message->hold = entry->hold;
    message->held_since = entry->held_since_ms;
    message->recipients = entry->recipients;
    message->octets = entry->octets;
    return message;
}

static int queue_add_delivery(struct queue *queue, struct message *message,
                              const struct queue_destination *wanted)
{
    struct delivery *delivery = &message->deliveries[message->count];
    delivery->destination = queue_reserve_destination(queue, wanted->name);
    if (delivery->destination == NULL)
        return -1;
    delivery->message = message;
    delivery->attempts = wanted->attempts;
    delivery->due.key = wanted->next_try_ms;
    message->count++;
    message->left++;
    queue->deliveries++;
    return 0;
}

/* Mail that comes for an unreachable destination has it probed again, however long it was unreachable before: it
 * may be well, and the mail would wait for hours. */
static void queue_hasten(const struct queue *queue, struct destination *destination)
{
    const int64_t soonest = destination->failed + queue->config.retry_ms[0];
    if (destination->not_before > soonest)
        destination->not_before = soonest;
}

static int queue_add_message(struct queue *queue, const struct queue_entry *entry)
{
    struct message *message = NULL;
    if (queue_find(queue, entry->id) == NULL &&
        heap_reserve(&queue->attention, queue->messages.count + 1) == 0)
        message = queue_new_message(entry);
    if (message == NULL)
        return -1;
    if (table_add(&queue->messages, &message->by_id, table_hash_number(entry->id)) != 0) {
        free(message);
        return -1;
    }
    for (size_t i = 0; i < entry->count; i++) {
        if (queue_add_delivery(queue, message, &entry->destinations[i]) != 0) {
            queue_drop(queue, message);
            return -1;
        }
    }
    for (size_t i = 0; i < entry->count; i++) {
        queue_hasten(queue, message->deliveries[i].destination);
        queue_offer(queue, &message->deliveries[i]);
    }
    queue_attend(queue, message);
    return 0;
}

int queue_add(struct queue *queue, const struct queue_entry *entry)
{
    queue_lock(queue);
    int result = queue_add_message(queue, entry);
    queue_unlock(queue);
    if (result == 0)
        queue_wake(queue);
    return result;
}
