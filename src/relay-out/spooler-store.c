/* relay-out/spooler-store.c - stores transactions as messages in the spool
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "relay-out/spooler-internal.h"

static enum own_reply spooler_judge(enum spool_result result, const struct error *err)
{
    struct log_line line;

    if (result == SPOOL_OK)
        return REPLY_OK;
    log_begin(&line, LOG_LEVEL_ERROR, "event=spool-failed");
    log_str(&line, "reason", err->text);
    log_str(&line, "effect", "mail that needs the spool is refused with a 4xx reply");
    log_end(&line);
    return result == SPOOL_FULL ? REPLY_STORE_FULL : REPLY_STORE_FAILED;
}

void spooler_envelope(const struct outbound *out, const struct envelope *from,
                      struct spool_envelope *envelope)
{
    spool_envelope_init(envelope);
    envelope->arrived = (int64_t)time(NULL);
    envelope->expires = envelope->arrived + out->config->out.lifetime_ms / 1000;
    path_copy(&envelope->sender, &from->sender);
    envelope->body = from->body;
    envelope->requiretls = from->requiretls;
    envelope->ret = from->ret;
    /* A notice may have to go to an unproven host, so it must not carry the text (RFC 8689 5). */
    if (from->requiretls)
        envelope->ret = MAIL_RET_HDRS;
    /* A lack of memory for these is ignored: the message matters more. */
    if (from->envid[0] != '\0')
        spool_envelope_set_text(&envelope->envid, from->envid, ENVID_MAX);
    spool_envelope_set_text(&envelope->origin, from->id, strlen(from->id));
}

bool spooler_add(struct spool_envelope *envelope, const struct recipient *recipient)
{
    struct spool_recipient *added = spool_envelope_add(envelope, &recipient->path);
    if (added == NULL)
        return false;
    added->notify = recipient->notify;
    if (recipient->orcpt[0] != '\0')
        spool_envelope_set_text(&added->orcpt, recipient->orcpt, ORCPT_MAX);
    return true;
}

enum own_reply spooler_begin(struct spooler *spooler, uint64_t expected,
                             struct spool_message **message)
{
    struct error err = {""};
    return spooler_judge(spool_begin(spooler->spool, SPOOL_FOR_CLIENT, expected, message, &err),
                         &err);
}

enum own_reply spooler_write(struct spool_message *message, const struct iovec *iov, int count)
{
    struct error err = {""};
    return spooler_judge(spool_write(message, iov, count, &err), &err);
}

/* This line links a session to later attempts in the log. A transaction's id is its session's, followed by
 * a number. */
static void spooler_log_stored(const struct spool_envelope *envelope)
{
    const char *origin = envelope->origin != NULL ? envelope->origin : "-";
    char id[SPOOL_ID_LEN + 1];
    struct log_line line;

    log_begin(&line, LOG_LEVEL_INFO, "event=stored");
    log_strn(&line, "session", origin, strcspn(origin, "."));
    log_str(&line, "id", origin);
    log_str(&line, "spool", spool_id_format(envelope->id, id));
    log_str(&line, "from", envelope->sender.mailbox);
    log_int(&line, "recipients", (int64_t)envelope->recipient_count);
    log_int(&line, "left", (int64_t)spool_envelope_left(envelope));
    log_int(&line, "size", (int64_t)envelope->size);
    log_end(&line);
}

enum own_reply spooler_commit(struct spooler *spooler, struct spool_message *message,
                              const struct envelope *from, struct spool_envelope *envelope)
{
    struct error err = {""};
    enum own_reply result;

    /* Known only now that the header has been seen. */
    envelope->smtputf8 = from->is_utf8;
    result = spooler_judge(delivery_store(spooler->pool, message, envelope, &err), &err);
    if (result == REPLY_OK)
        spooler_log_stored(envelope);
    return result;
}

/* What is left over. */

enum own_reply spooler_sync(struct spool_message *message)
{
    struct error err = {""};
    return spooler_judge(spool_sync_data(message, &err), &err);
}

/* As in the queue, takes off up to a fifth, so that not all messages come back at once. */
static int64_t spooler_first_retry(const struct outbound *out, uint64_t id, int64_t now)
{
    int64_t wait_ms = out->config->out.retry.items[0];
    wait_ms -= wait_ms / 5 * (int64_t)(id % 64) / 64;
    return now + wait_ms / 1000;
}

/* Seconds since the epoch. */
struct times {
    int64_t now;
    int64_t retry;      /* of deferred recipients */
    int64_t unanswered; /* of pending ones, if no answer comes */
};

static bool spooler_add_result(struct spool_envelope *envelope, const struct spooler_result *result,
                               const struct times *times)
{
    char reply[ENVELOPE_REPLY_MAX + 1], remote[DELIVERY_REMOTE_MAX + 1];

    if (!spooler_add(envelope, result->recipient))
        return false;
    struct spool_recipient *recipient = &envelope->recipients[envelope->recipient_count - 1];
    recipient->state = result->delivered                   ? RECIPIENT_DELIVERED
                       : reply_is_permanent(result->reply) ? RECIPIENT_FAILED
                                                           : RECIPIENT_QUEUED;
    recipient->attempts = result->pending == NULL;
    recipient->last_try = times->now;
    if (recipient->state == RECIPIENT_QUEUED)
        recipient->next_try = result->pending == NULL ? times->retry : times->unanswered;
    spooler_reply_text(result->reply, reply);
    spool_envelope_set_text(&recipient->reply, reply, ENVELOPE_REPLY_MAX);
    if (!result->ours && spooler_remote_name(result->relay, remote)[0] != '\0')
        spool_envelope_set_text(&recipient->remote, remote, DELIVERY_REMOTE_MAX);
    return true;
}

/* Call before the message is committed: a delivery may take it at once. */
static bool spooler_await_pending(struct spooler *spooler, uint64_t id,
                                  const struct spooler_result *results, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (results[i].pending != NULL &&
            !spooler_await(spooler, id, results[i].pending, results[i].recipient->path.domain))
            return false;
    }
    return true;
}

enum own_reply spooler_commit_rest(struct spooler *spooler, const struct outbound *out,
                                   struct spool_message *message, const struct envelope *from,
                                   const struct spooler_result *results, size_t count)
{
    const uint64_t id = spool_message_id(message);
    const int64_t now = (int64_t)time(NULL);
    const struct times times = {now, spooler_first_retry(out, id, now),
                                now + (spooler_answer_ms(out) + 999) / 1000};
    enum own_reply result = REPLY_STORE_FAILED;
    struct spool_envelope envelope;

    spooler_envelope(out, from, &envelope);
    bool added = spooler_await_pending(spooler, id, results, count);
    for (size_t i = 0; i < count && added; i++)
        added = spooler_add_result(&envelope, &results[i], &times);
    if (added)
        result = spooler_commit(spooler, message, from, &envelope);
    else
        spool_abort(message);
    if (result == REPLY_OK)
        spooler_await_stored(spooler, id);
    else
        spooler_unawait(spooler, id);
    spool_envelope_clear(&envelope);
    return result;
}
