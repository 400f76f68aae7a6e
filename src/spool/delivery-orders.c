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

/* Marks them in our copy, which the sender's report is made from, and lists them. */
static size_t choose_discarded(struct spool_envelope *envelope, const char *domain, bool *about,
                               struct change *changes)
{
    size_t count = 0;
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        struct spool_recipient *recipient = &envelope->recipients[i];
        if (!spool_recipient_waits_at(recipient, domain))
            continue;
        about[i] = dsn_wanted(envelope, recipient, DSN_FAILED);
        changes[count++] = (struct change){.index = i, .state = RECIPIENT_FAILED};
        if (recipient->reply == NULL)
            spool_envelope_set_text(&recipient->reply,
                                    "554 5.7.0 Removed from the queue by the operator",
                                    ENVELOPE_REPLY_MAX);
    }
    return count;
}

static enum spool_result discard(struct delivery_pool *pool, struct spool_envelope *envelope,
                                 const char *domain, bool bounce, struct error *err)
{
    bool *about = calloc(envelope->recipient_count, sizeof *about);
    struct change *changes = calloc(envelope->recipient_count, sizeof *changes);
    enum spool_result result = SPOOL_BROKEN;

    if (about == NULL || changes == NULL) {
        error_set(err, _("out of memory"));
        goto out;
    }
    size_t count = choose_discarded(envelope, domain, about, changes);
    if (!bounce || delivery_report(pool, envelope, about, DSN_FAILED, false, err) == 0)
        result = delivery_record(pool, envelope, changes, count, 0, err);
out:
    free(about);
    free(changes);
    return result;
}

enum queue_answer delivery_discard(struct delivery_pool *pool, uint64_t id, const char *domain,
                                   bool bounce, struct error *err)
{
    struct spool_envelope envelope;
    enum queue_answer answer = queue_claim(pool->queue, id);
    if (answer != QUEUE_DONE)
        return answer;
    enum spool_result result = spool_read(pool->config.spool, id, &envelope, err);
    if (result == SPOOL_OK) {
        delivery_recall(pool, &envelope);
        result = discard(pool, &envelope, domain, bounce, err);
    }
    queue_unclaim(pool->queue, id, result == SPOOL_OK || result == SPOOL_MISSING);
    if (result == SPOOL_OK) {
        log_order("remove", id);
        if (spool_envelope_left(&envelope) > 0)
            delivery_accept(pool, &envelope);
    }
    spool_envelope_clear(&envelope);
    return result == SPOOL_OK ? QUEUE_DONE : result == SPOOL_MISSING ? QUEUE_NO_SUCH : QUEUE_BUSY;
}
