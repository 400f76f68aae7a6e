/* spool/delivery-record.c - results reach the envelope, or are remembered until they can
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdlib.h>

#include "base/log.h"
#include "spool/delivery-internal.h"

struct record {
    struct delivery_pool *pool;
    const struct change *changes;
    size_t count;
    int64_t next_try;
};

void delivery_recall(struct delivery_pool *pool, struct spool_envelope *envelope)
{
    pthread_mutex_lock(&pool->lock);
    for (struct unrecorded *entry = pool->unrecorded; entry != NULL; entry = entry->next) {
        if (entry->id == envelope->id && entry->index < envelope->recipient_count)
            envelope->recipients[entry->index].state = entry->state;
    }
    pthread_mutex_unlock(&pool->lock);
}

void delivery_forget(struct delivery_pool *pool, uint64_t id)
{
    pthread_mutex_lock(&pool->lock);
    for (struct unrecorded **link = &pool->unrecorded; *link != NULL;) {
        struct unrecorded *entry = *link;
        if (entry->id != id) {
            link = &entry->next;
            continue;
        }
        *link = entry->next;
        free(entry);
    }
    pthread_mutex_unlock(&pool->lock);
}

static void remember(struct delivery_pool *pool, uint64_t id, const struct change *change)
{
    struct unrecorded *entry = malloc(sizeof *entry);
    if (entry == NULL) {
        log_write(LOG_LEVEL_ERROR, "out of memory: a delivery may be repeated");
        return;
    }
    *entry = (struct unrecorded){.id = id, .index = change->index, .state = change->state};
    pthread_mutex_lock(&pool->lock);
    entry->next = pool->unrecorded;
    pool->unrecorded = entry;
    pthread_mutex_unlock(&pool->lock);
}

static void apply(struct spool_recipient *recipient, const struct change *change, int64_t next_try)
{
    recipient->state = change->state;
    recipient->next_try = change->state == RECIPIENT_QUEUED ? next_try : 0;
    if (change->tried) {
        recipient->attempts++;
        recipient->last_try = change->when;
    }
    /* The words are for people: a message is not kept back because there was no memory for them. */
    if (change->reply != NULL &&
        spool_envelope_set_text(&recipient->reply, change->reply, ENVELOPE_REPLY_MAX) == 0)
        spool_envelope_set_text(&recipient->remote,
                                change->remote[0] != '\0' ? change->remote : NULL,
                                DELIVERY_REMOTE_MAX);
}

static enum spool_edit_action record(void *context, struct spool_envelope *envelope)
{
    const struct record *record = context;
    delivery_recall(record->pool, envelope);
    for (size_t i = 0; i < record->count; i++) {
        const struct change *change = &record->changes[i];
        if (change->index < envelope->recipient_count)
            apply(&envelope->recipients[change->index], change, record->next_try);
    }
    return spool_envelope_left(envelope) > 0 ? SPOOL_EDIT_WRITE : SPOOL_EDIT_REMOVE;
}

enum spool_result delivery_record(struct delivery_pool *pool, struct spool_envelope *envelope,
                                  const struct change *changes, size_t count, int64_t next_try,
                                  struct error *err)
{
    struct record context = {pool, changes, count, next_try};
    uint64_t id = envelope->id;
    enum spool_result result =
        spool_edit_known(pool->config.spool, envelope, record, &context, err);
    if (result == SPOOL_OK) {
        delivery_forget(pool, id);
        return result;
    }
    for (size_t i = 0; i < count && result != SPOOL_MISSING; i++) {
        if (changes[i].state != RECIPIENT_QUEUED)
            remember(pool, id, &changes[i]);
    }
    return result;
}

static enum spool_edit_action set_notified(void *context, struct spool_envelope *envelope)
{
    (void)context;
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (envelope->recipients[i].state == RECIPIENT_QUEUED)
            envelope->recipients[i].delay_notified = true;
    }
    return SPOOL_EDIT_WRITE;
}

enum spool_result delivery_record_notice(struct delivery_pool *pool, uint64_t id, struct error *err)
{
    return spool_edit(pool->config.spool, id, set_notified, NULL, err);
}

static enum spool_edit_action take_away(void *context, struct spool_envelope *envelope)
{
    (void)context;
    (void)envelope;
    return SPOOL_EDIT_REMOVE;
}

enum spool_result delivery_remove(struct delivery_pool *pool, uint64_t id, struct error *err)
{
    enum spool_result result = spool_edit(pool->config.spool, id, take_away, NULL, err);
    if (result == SPOOL_OK)
        delivery_forget(pool, id);
    return result;
}
