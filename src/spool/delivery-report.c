/* spool/delivery-report.c - a notification becomes a message in the spool like any other
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdio.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/log.h"
#include "spool/delivery-internal.h"

static int to_spool(void *context, const struct iovec *iov, int count, struct error *err)
{
    return spool_write(context, iov, count, err) == SPOOL_OK ? 0 : -1;
}

static bool any(const struct spool_envelope *envelope, const bool *about)
{
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (about[i])
            return true;
    }
    return false;
}

/* From the null sender to the sender (RFC 3464 2). */
static int address(struct delivery_pool *pool, const struct spool_envelope *original,
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
    recipient->notify = RECIPIENT_NOTIFY_NEVER;
    return 0;
}

static void log_report(const struct spool_envelope *report, const struct spool_envelope *original,
                       enum dsn_action action)
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

static int store(struct delivery_pool *pool, struct dsn *dsn, struct spool_envelope *report,
                 struct error *err)
{
    struct spool_message *message;
    struct dsn_needs needs;

    if (spool_begin(pool->config.spool, SPOOL_FOR_OURSELVES, 0, &message, err) != SPOOL_OK)
        return -1;
    dsn->unique = spool_message_id(message);
    if (dsn_write(dsn, to_spool, message, &needs, err) != 0) {
        spool_abort(message);
        return -1;
    }
    if (address(pool, dsn->envelope, &needs, report) != 0) {
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
    if (!any(envelope, about))
        return 0;
    /* A sender whose message is lost, or cannot be read just now, is told all the same. */
    if (spool_open_data(pool->config.spool, envelope, &dsn.original_fd, err) != SPOOL_OK)
        dsn.original_fd = -1;
    spool_envelope_init(&report);
    int result = store(pool, &dsn, &report, err);
    if (result == 0) {
        log_report(&report, envelope, action);
        delivery_accept(pool, &report);
    }
    spool_envelope_clear(&report);
    if (dsn.original_fd >= 0)
        close(dsn.original_fd);
    return result;
}
