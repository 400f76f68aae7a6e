/* spool/delivery-store.c - a message comes into the spool and into the queue
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdlib.h>

#include "base/i18n.h"
#include "base/log.h"
#include "spool/delivery-internal.h"

static void log_problem(const struct spool_envelope *envelope, const char *reason,
                        const char *effect)
{
    char id[SPOOL_ID_LEN + 1];
    struct log_line line;
    log_begin(&line, LOG_LEVEL_ERROR, "event=delivery-problem");
    log_str(&line, "id", spool_id_format(envelope->id, id));
    log_str(&line, "reason", reason);
    log_str(&line, "effect", effect);
    log_end(&line);
}

/* Who cannot be told of now stays queued: the next hop will refuse him again. False when that
 * could not be recorded: the queue has to catch up on it, even if nobody is left. */
static bool settle_refused(struct delivery_pool *pool, struct spool_envelope *envelope,
                           const bool *refused, bool *about, struct change *changes)
{
    struct error err = {""};
    size_t count = 0;

    for (size_t i = 0; i < envelope->recipient_count; i++) {
        about[i] = refused[i] && dsn_wanted(envelope, &envelope->recipients[i], DSN_FAILED);
        if (refused[i])
            changes[count++] = (struct change){.index = i, .state = RECIPIENT_FAILED};
    }
    if (count == 0)
        return true;
    if (delivery_report(pool, envelope, about, DSN_FAILED, false, &err) != 0) {
        log_problem(envelope, err.text, "the refused are asked for again, then told of");
        return true;
    }
    bool recorded = delivery_record(pool, envelope, changes, count, 0, &err) == SPOOL_OK;
    if (!recorded)
        log_problem(envelope, err.text, "recorded later");
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (refused[i])
            envelope->recipients[i].state = RECIPIENT_FAILED;
    }
    return recorded;
}

/* On disk they are queued until the sender's report is there as well. */
static void mark_refused(struct spool_envelope *envelope, bool *refused)
{
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        struct spool_recipient *recipient = &envelope->recipients[i];
        refused[i] = recipient->state == RECIPIENT_FAILED;
        if (refused[i])
            recipient->state = RECIPIENT_QUEUED;
    }
}

enum spool_result delivery_store(struct delivery_pool *pool, struct spool_message *message,
                                 struct spool_envelope *envelope, struct error *err)
{
    size_t count = envelope->recipient_count;
    bool *refused = calloc(count, sizeof *refused), *about = calloc(count, sizeof *about);
    struct change *changes = calloc(count, sizeof *changes);
    enum spool_result result = SPOOL_BROKEN;

    if (refused == NULL || about == NULL || changes == NULL) {
        error_set(err, _("out of memory"));
        spool_abort(message);
        goto out;
    }
    mark_refused(envelope, refused);
    result = spool_commit(message, envelope, err);
    if (result != SPOOL_OK)
        goto out;
    bool over = settle_refused(pool, envelope, refused, about, changes) &&
                spool_envelope_left(envelope) == 0;
    if (!over && delivery_accept(pool, envelope) != 0)
        log_problem(envelope, _("out of memory"), "tried after the next start");
out:
    free(refused);
    free(about);
    free(changes);
    return result;
}
