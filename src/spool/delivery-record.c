/* spool/delivery-record.c - records results in the envelope, or remembers them until it can, and notifies
 * the sender with a message in the spool like any other
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/log.h"
#include "spool/delivery-internal.h"

#define CLOCK_SLACK_S 60

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

static void delivery_forget(struct delivery_pool *pool, uint64_t id)
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

static void delivery_remember(struct delivery_pool *pool, uint64_t id, const struct change *change)
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

static void delivery_apply(struct spool_recipient *recipient, const struct change *change,
                           int64_t next_try)
{
    recipient->state = change->state;
    recipient->next_try = change->state == RECIPIENT_QUEUED ? next_try : 0;
    if (change->tried) {
        recipient->attempts++;
        recipient->last_try = change->when;
    }
    /* The text is for people: a lack of memory for it must not hold the message up. */
    if (change->reply != NULL &&
        spool_envelope_set_text(&recipient->reply, change->reply, ENVELOPE_REPLY_MAX) == 0)
        spool_envelope_set_text(&recipient->remote,
                                change->remote[0] != '\0' ? change->remote : NULL,
                                DELIVERY_REMOTE_MAX);
}

/* Corrects the times in the envelope if the system's clock has been set since. */
static void delivery_mend_times(struct delivery_pool *pool, struct spool_envelope *envelope)
{
    int64_t due_ms = queue_expires_ms(pool->queue, envelope->id);
    int64_t wrong = due_ms != 0 ? delivery_from_queue(pool, due_ms) - envelope->expires : 0;
    if (envelope->hold || (wrong > -CLOCK_SLACK_S && wrong < CLOCK_SLACK_S))
        return;
    envelope->arrived += wrong;
    envelope->expires += wrong;
}

static enum spool_edit_action delivery_apply_all(void *context, struct spool_envelope *envelope)
{
    const struct record *record = context;
    delivery_recall(record->pool, envelope);
    delivery_mend_times(record->pool, envelope);
    for (size_t i = 0; i < record->count; i++) {
        const struct change *change = &record->changes[i];
        if (change->index < envelope->recipient_count)
            delivery_apply(&envelope->recipients[change->index], change, record->next_try);
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
        spool_edit_known(pool->config.spool, envelope, delivery_apply_all, &context, err);
    if (result == SPOOL_OK) {
        delivery_forget(pool, id);
        queue_note_recipients(pool->queue, id, spool_envelope_left(envelope));
        return result;
    }
    for (size_t i = 0; i < count && result != SPOOL_MISSING; i++) {
        if (changes[i].state != RECIPIENT_QUEUED)
            delivery_remember(pool, id, &changes[i]);
    }
    return result;
}

static enum spool_edit_action delivery_set_notified(void *context, struct spool_envelope *envelope)
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
    return spool_edit(pool->config.spool, id, delivery_set_notified, NULL, err);
}

/* Telling the sender. */

static int delivery_to_spool(void *context, const struct iovec *iov, int count, struct error *err)
{
    return spool_write(context, iov, count, err) == SPOOL_OK ? 0 : -1;
}

static bool delivery_any_about(const struct spool_envelope *envelope, const bool *about)
{
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (about[i])
            return true;
    }
    return false;
}

/* Addresses the report from the null sender to the sender (RFC 3464 2). */
static int delivery_address_report(struct delivery_pool *pool,
                                   const struct spool_envelope *original,
                                   const struct dsn_needs *needs, struct spool_envelope *report)
{
    char id[SPOOL_ID_LEN + 1], origin[SPOOL_ID_LEN + 8];
    report->arrived = delivery_now(pool);
    report->expires = report->arrived + pool->config.lifetime_ms / 1000;
    report->report = true;
    report->body = needs->eight_bit ? MAIL_BODY_8BITMIME : MAIL_BODY_NONE;
    report->smtputf8 = needs->smtputf8;
    snprintf(origin, sizeof origin, "dsn-%s", spool_id_format(original->id, id));
    struct spool_recipient *recipient = spool_envelope_add(report, &original->sender);
    if (recipient == NULL || spool_envelope_set_text(&report->origin, origin, sizeof origin) != 0)
        return -1;
    recipient->notify = NOTIFY_NEVER;
    return 0;
}

static void delivery_log_report(const struct spool_envelope *report,
                                const struct spool_envelope *original, enum dsn_action action)
{
    static const char *const names[] = {"failed", "delayed", "relayed"};
    char id[SPOOL_ID_LEN + 1];
    struct log_line line;
    log_begin(&line, LOG_LEVEL_INFO, "event=dsn");
    log_str(&line, "id", spool_id_format(report->id, id));
    log_str(&line, "about", spool_id_format(original->id, id));
    log_str(&line, "action", names[action]);
    log_str(&line, "to", original->sender.mailbox);
    log_end(&line);
}

static int delivery_store_report(struct delivery_pool *pool, struct dsn *dsn,
                                 struct spool_envelope *report, struct error *err)
{
    struct spool_message *message;
    struct dsn_needs needs;

    if (spool_begin(pool->config.spool, SPOOL_FOR_OURSELVES, 0, &message, err) != SPOOL_OK)
        return -1;
    dsn->unique = spool_message_id(message);
    if (dsn_write(dsn, delivery_to_spool, message, &needs, err) != 0) {
        spool_abort(message);
        return -1;
    }
    if (delivery_address_report(pool, dsn->envelope, &needs, report) != 0) {
        error_set(err, _("out of memory"));
        spool_abort(message);
        return -1;
    }
    return spool_commit(message, report, err) == SPOOL_OK ? 0 : -1;
}

int delivery_report(struct delivery_pool *pool, const struct spool_envelope *envelope,
                    const bool *about, enum dsn_action action, bool expired, struct error *err)
{
    struct spool_envelope report;
    struct dsn dsn = {
        .action = action,
        .hostname = pool->hostname,
        .envelope = envelope,
        .about = about,
        .expired = expired,
        .now = delivery_now(pool),
        .full_max = pool->config.return_max,
    };
    if (!delivery_any_about(envelope, about))
        return 0;
    /* Tell the sender even if the message is lost or cannot be read now. */
    if (spool_open_data(pool->config.spool, envelope, &dsn.original_fd, err) != SPOOL_OK)
        dsn.original_fd = -1;
    spool_envelope_init(&report);
    int result = delivery_store_report(pool, &dsn, &report, err);
    if (result == 0) {
        atomic_fetch_add(&pool->notices[action], 1);
        delivery_log_report(&report, envelope, action);
        delivery_accept(pool, &report);
    }
    spool_envelope_clear(&report);
    if (dsn.original_fd >= 0)
        close(dsn.original_fd);
    return result;
}
