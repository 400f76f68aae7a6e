/* relayctl/queue-orders.c - hold, release, retry and remove on the files of a stopped daemon's spool
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <time.h>

#include "relayctl/queue.h"

struct edit {
    enum queue_order order;
    const struct spool_selection *selection;
    bool changed;
};

static enum spool_edit_action queue_set_hold(struct spool_envelope *envelope, bool hold,
                                             bool *changed)
{
    *changed = spool_envelope_hold(envelope, hold, (int64_t)time(NULL));
    return *changed ? SPOOL_EDIT_WRITE : SPOOL_EDIT_KEEP;
}

static enum spool_edit_action queue_set_due(struct spool_envelope *envelope, const char *domain,
                                            bool *changed)
{
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        struct spool_recipient *recipient = &envelope->recipients[i];
        if (recipient->next_try == 0 || !spool_recipient_waits_at(recipient, domain))
            continue;
        recipient->next_try = 0;
        *changed = true;
    }
    return *changed ? SPOOL_EDIT_WRITE : SPOOL_EDIT_KEEP;
}

static enum spool_edit_action queue_take_off(struct spool_envelope *envelope, const char *domain,
                                             bool *changed)
{
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (spool_recipient_waits_at(&envelope->recipients[i], domain))
            envelope->recipients[i].state = RECIPIENT_FAILED;
    }
    *changed = true;
    return spool_envelope_left(envelope) > 0 ? SPOOL_EDIT_WRITE : SPOOL_EDIT_REMOVE;
}

static enum spool_edit_action queue_change(void *context, struct spool_envelope *envelope)
{
    struct edit *edit = context;
    if (!spool_envelope_is_selected(envelope, edit->selection))
        return SPOOL_EDIT_KEEP;
    switch (edit->order) {
    case QUEUE_ORDER_HOLD:
        return queue_set_hold(envelope, true, &edit->changed);
    case QUEUE_ORDER_RELEASE:
        return queue_set_hold(envelope, false, &edit->changed);
    case QUEUE_ORDER_RETRY:
        return queue_set_due(envelope, edit->selection->domain, &edit->changed);
    case QUEUE_ORDER_REMOVE:
        return queue_take_off(envelope, edit->selection->domain, &edit->changed);
    }
    return SPOOL_EDIT_KEEP;
}

enum spool_result queue_order(struct spool *spool, enum queue_order order, uint64_t id,
                              const struct spool_selection *selection, unsigned *changed,
                              struct error *err)
{
    struct edit edit = {.order = order, .selection = selection};
    enum spool_result result = spool_edit(spool, id, queue_change, &edit, err);
    if (result == SPOOL_OK && edit.changed)
        ++*changed;
    return result;
}
