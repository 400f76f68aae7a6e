/* spool/delivery-orders.c - what an operator may want of a message while the daemon runs
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdlib.h>

#include "base/i18n.h"
#include "base/log.h"
#include "spool/delivery-internal.h"

struct hold {
    bool wanted;
    int64_t now;
};

static enum spool_edit_action set_hold(void *context, struct spool_envelope *envelope)
{
    const struct hold *hold = context;
    return spool_envelope_hold(envelope, hold->wanted, hold->now) ? SPOOL_EDIT_WRITE
                                                                  : SPOOL_EDIT_KEEP;
}

static void log_order(const char *order, uint64_t id)
{
    char text[SPOOL_ID_LEN + 1];
    struct log_line line;
    log_begin(&line, LOG_LEVEL_NOTICE, "event=queue-order");
    log_str(&line, "order", order);
    log_str(&line, "id", spool_id_format(id, text));
    log_end(&line);
}

static enum queue_answer record_hold(struct delivery_pool *pool, uint64_t id, bool wanted,
                                     struct error *err)
{
    struct hold hold = {wanted, delivery_now(pool)};
    switch (spool_edit(pool->config.spool, id, set_hold, &hold, err)) {
    case SPOOL_OK:
        log_order(wanted ? "hold" : "release", id);
        return QUEUE_DONE;
    case SPOOL_MISSING:
        return QUEUE_NO_SUCH;
    default:
        return QUEUE_BUSY;
    }
}

/* The queue first: from then on it is not tried, whatever the disk says. */
enum queue_answer delivery_hold(struct delivery_pool *pool, uint64_t id, struct error *err)
{
    enum queue_answer answer = queue_hold(pool->queue, id);
    return answer == QUEUE_DONE ? record_hold(pool, id, true, err) : answer;
}

enum queue_answer delivery_release(struct delivery_pool *pool, uint64_t id, struct error *err)
{
    enum queue_answer answer = queue_release(pool->queue, id);
    return answer == QUEUE_DONE ? record_hold(pool, id, false, err) : answer;
}

static int tell_sender(struct delivery_pool *pool, struct spool_envelope *envelope,
                       struct error *err)
{
    int result = -1;
    bool *about = calloc(envelope->recipient_count, sizeof *about);
    for (size_t i = 0; about != NULL && i < envelope->recipient_count; i++) {
        struct spool_recipient *recipient = &envelope->recipients[i];
        about[i] =
            recipient->state == RECIPIENT_QUEUED && dsn_wanted(envelope, recipient, DSN_FAILED);
        if (recipient->reply == NULL)
            spool_envelope_set_text(&recipient->reply,
                                    "554 5.7.0 Removed from the queue by the operator",
                                    ENVELOPE_REPLY_MAX);
    }
    if (about != NULL)
        result = delivery_report(pool, envelope, about, DSN_FAILED, false, err);
    else
        error_set(err, _("out of memory"));
    free(about);
    return result;
}

static enum spool_result discard(struct delivery_pool *pool, uint64_t id, bool bounce,
                                 struct error *err)
{
    struct spool_envelope envelope;
    enum spool_result result = spool_read(pool->config.spool, id, &envelope, err);

    if (result == SPOOL_OK && bounce) {
        delivery_recall(pool, &envelope);
        if (tell_sender(pool, &envelope, err) != 0)
            result = SPOOL_BROKEN;
    }
    if (result == SPOOL_OK)
        result = delivery_remove(pool, id, err);
    spool_envelope_clear(&envelope);
    return result;
}

enum queue_answer delivery_discard(struct delivery_pool *pool, uint64_t id, bool bounce,
                                   struct error *err)
{
    enum queue_answer answer = queue_claim(pool->queue, id);
    if (answer != QUEUE_DONE)
        return answer;
    enum spool_result result = discard(pool, id, bounce, err);
    queue_unclaim(pool->queue, id, result == SPOOL_OK || result == SPOOL_MISSING);
    if (result == SPOOL_OK)
        log_order("remove", id);
    return result == SPOOL_OK ? QUEUE_DONE : result == SPOOL_MISSING ? QUEUE_NO_SUCH : QUEUE_BUSY;
}
