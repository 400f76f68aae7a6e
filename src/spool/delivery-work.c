/* spool/delivery-work.c - does one delivery, delay notice, expiry or order, from the queue to the disk
 *
 * The order within a delivery: the hook delivers; the sender's report is spooled; the queue says when the
 * rest is due; the envelope records everything; the work is returned to the queue.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/log.h"
#include "smtp/reply.h"
#include "spool/delivery-internal.h"

/* The working memory of one delivery, sized for all recipients of the message. */
struct delivery_arrays {
    size_t *recipients;
    struct delivery_result *results;
    struct change *changes;
    bool *refused, *relayed;
};

static void delivery_arrays_free(struct delivery_arrays *arrays)
{
    free(arrays->recipients);
    free(arrays->results);
    free(arrays->changes);
    free(arrays->refused);
    free(arrays->relayed);
}

static int delivery_arrays_init(struct delivery_arrays *arrays, size_t recipients, size_t count)
{
    arrays->recipients = calloc(recipients, sizeof *arrays->recipients);
    arrays->results = calloc(count, sizeof *arrays->results);
    arrays->changes = calloc(count, sizeof *arrays->changes);
    arrays->refused = calloc(recipients, sizeof *arrays->refused);
    arrays->relayed = calloc(recipients, sizeof *arrays->relayed);
    if (arrays->recipients != NULL && arrays->results != NULL && arrays->changes != NULL &&
        arrays->refused != NULL && arrays->relayed != NULL)
        return 0;
    delivery_arrays_free(arrays);
    return -1;
}

static bool delivery_is_due_there(struct delivery_pool *pool, const struct spool_envelope *envelope,
                                  size_t index, const char *destination)
{
    char name[QUEUE_DESTINATION_MAX + 1] = "";
    const struct spool_recipient *recipient = &envelope->recipients[index];
    if (recipient->state != RECIPIENT_QUEUED)
        return false;
    pool->config.hooks.destination(pool->config.context, envelope, &recipient->path, name);
    return strcmp(name, destination) == 0;
}

static void delivery_log_result(const struct delivery_job *job, size_t i, const char *status)
{
    const struct delivery_result *result = &job->results[i];
    const struct spool_recipient *recipient = &job->envelope->recipients[job->recipients[i]];
    char id[SPOOL_ID_LEN + 1];
    struct log_line line;
    log_begin(&line, LOG_LEVEL_INFO, "event=delivery");
    log_str(&line, "id", spool_id_format(job->envelope->id, id));
    log_str(&line, "origin", job->envelope->origin);
    log_str(&line, "status", status);
    log_str(&line, "from", job->envelope->sender.mailbox);
    log_str(&line, "to", recipient->path.mailbox);
    log_str(&line, "destination", job->destination);
    log_int(&line, "attempt", (int64_t)recipient->attempts + 1);
    log_str(&line, "remote", result->remote);
    log_str(&line, "reply", result->reply);
    log_end(&line);
}

/* A notice that fails causes no further notice (RFC 3464 2), so at least tell the operator. */
static void delivery_report_lost_notice(struct delivery_pool *pool,
                                        const struct spool_envelope *envelope,
                                        const struct spool_recipient *recipient)
{
    char id[SPOOL_ID_LEN + 1];
    struct log_line line;

    if (!envelope->report)
        return;
    atomic_fetch_add(&pool->lost_notices, 1);
    log_begin(&line, LOG_LEVEL_WARNING, "event=notice-lost");
    log_str(&line, "id", spool_id_format(envelope->id, id));
    log_str(&line, "origin", envelope->origin);
    log_str(&line, "to", recipient->path.mailbox);
    log_str(&line, "reply", recipient->reply);
    log_end(&line);
}

static bool delivery_was_tried(const struct delivery_job *job, size_t i)
{
    const struct delivery_result *result = &job->results[i];
    return job->postponed_ms == 0 || result->outcome != DELIVERY_DEFERRED ||
           result->reply[0] != '\0';
}

/* Copies the result into our copy of the envelope, for the report, and into the list of changes. */
static void delivery_take_result(struct delivery_pool *pool, const struct delivery_job *job,
                                 size_t i, struct spool_envelope *envelope,
                                 struct delivery_arrays *arrays, int64_t now)
{
    static const enum recipient_state states[] = {
        [DELIVERY_DEFERRED] = RECIPIENT_QUEUED,
        [DELIVERY_DONE] = RECIPIENT_DELIVERED,
        [DELIVERY_REFUSED] = RECIPIENT_FAILED,
    };
    static const char *const names[] = {"deferred", "delivered", "refused"};
    const struct delivery_result *result = &job->results[i];
    size_t index = job->recipients[i];
    struct spool_recipient *recipient = &envelope->recipients[index];

    if (!delivery_was_tried(job, i)) {
        arrays->changes[i] = (struct change){.index = index, .state = RECIPIENT_QUEUED};
        return;
    }
    delivery_log_result(job, i, names[result->outcome]);
    arrays->changes[i] = (struct change){
        .index = index,
        .state = states[result->outcome],
        .tried = true,
        .when = now,
        .remote = result->remote,
        .reply = result->reply[0] != '\0' ? result->reply : NULL,
    };
    recipient->last_try = now;
    if (result->reply[0] != '\0' &&
        spool_envelope_set_text(&recipient->reply, result->reply, ENVELOPE_REPLY_MAX) == 0)
        spool_envelope_set_text(&recipient->remote,
                                result->remote[0] != '\0' ? result->remote : NULL,
                                DELIVERY_REMOTE_MAX);
    if (result->outcome == DELIVERY_REFUSED)
        delivery_report_lost_notice(pool, envelope, recipient);
    arrays->refused[index] =
        result->outcome == DELIVERY_REFUSED && dsn_wanted(envelope, recipient, DSN_FAILED);
    arrays->relayed[index] = result->outcome == DELIVERY_DONE && result->relayed &&
                             dsn_wanted(envelope, recipient, DSN_RELAYED);
}

/* If the sender cannot be told about a failure now, the recipient stays queued and is tried again. */
static void delivery_tell_sender(struct delivery_pool *pool, const struct queue_work *work,
                                 const struct spool_envelope *envelope,
                                 struct delivery_arrays *arrays, size_t count)
{
    struct error err = {""};
    if (delivery_report(pool, envelope, arrays->relayed, DSN_RELAYED, false, &err) != 0)
        delivery_log_problem(work->id, err.text, NULL);
    if (delivery_report(pool, envelope, arrays->refused, DSN_FAILED, false, &err) == 0)
        return;
    delivery_log_problem(work->id, err.text, NULL);
    for (size_t i = 0; i < count; i++) {
        if (arrays->refused[arrays->changes[i].index])
            arrays->changes[i].state = RECIPIENT_QUEUED;
    }
}

/* Drops the changes of recipients that were not tried. */
static size_t delivery_drop_untried(const struct delivery_job *job, struct change *changes)
{
    size_t kept = 0;
    for (size_t i = 0; i < job->count; i++) {
        bool tried = delivery_was_tried(job, i) &&
                     !(job->interrupted && changes[i].state == RECIPIENT_QUEUED);
        if (tried)
            changes[kept++] = changes[i];
    }
    return kept;
}

/* Tells the queue what came of it. Returns when what is left is tried next, or 0. */
static int64_t delivery_judge(struct delivery_pool *pool, const struct queue_work *work,
                              const struct delivery_job *job, const struct change *changes)
{
    size_t left = 0;

    for (size_t i = 0; i < job->count; i++)
        left += changes[i].state == RECIPIENT_QUEUED;
    /* If nothing came of it, it was an attempt: those that go first would otherwise be tried at every turn. */
    if (job->postponed_ms > 0 && left > 0 && left < job->count) {
        queue_postpone(pool->queue, work, job->postponed_ms);
        return 0;
    }
    enum queue_outcome outcome = left == 0      ? QUEUE_SETTLED
                                 : job->reached ? QUEUE_DEFERRED
                                                : QUEUE_UNREACHABLE;
    return queue_judge(pool->queue, work, outcome, job->results[0].reply);
}

static void delivery_settle(struct delivery_pool *pool, const struct queue_work *work,
                            const struct delivery_job *job, struct spool_envelope *envelope,
                            const struct delivery_arrays *arrays)
{
    struct error err = {""};
    int64_t next = delivery_from_queue(pool, delivery_judge(pool, work, job, arrays->changes));
    size_t count = delivery_drop_untried(job, arrays->changes);

    if (count == 0)
        return;
    if (count < job->count) /* our copy is wrong about recipients not tried: don't record it */
        envelope->stamp = SPOOL_STAMP_NONE;
    enum spool_result result = delivery_record(pool, envelope, arrays->changes, count, next, &err);
    if (result == SPOOL_OK || result == SPOOL_MISSING)
        return;
    delivery_log_problem(work->id, err.text, NULL);
    queue_judge(pool->queue, work, QUEUE_DEFERRED, NULL);
}

void delivery_owe(struct delivery_job *job)
{
    if (!job->owes)
        atomic_fetch_add(job->unconfirmed, 1);
    job->owes = true;
}

/* Processes the results, from the hook or set in its place. */
static void delivery_take_results(struct delivery_pool *pool, const struct queue_work *work,
                                  struct delivery_job *job, struct spool_envelope *envelope,
                                  struct delivery_arrays *arrays)
{
    int64_t now = delivery_now(pool);
    for (size_t i = 0; i < job->count; i++)
        delivery_take_result(pool, job, i, envelope, arrays, now);
    delivery_tell_sender(pool, work, envelope, arrays, job->count);
    delivery_settle(pool, work, job, envelope, arrays);
    if (job->owes)
        atomic_fetch_sub(&pool->unconfirmed, 1);
}

static void delivery_run_job(struct delivery_pool *pool, const struct queue_work *work,
                             struct delivery_job *job, struct spool_envelope *envelope,
                             struct delivery_arrays *arrays)
{
    size_t tried = 0;

    pool->config.hooks.deliver(pool->config.context, job);
    for (size_t i = 0; i < job->count; i++)
        tried += delivery_was_tried(job, i);
    if (tried == 0)
        queue_postpone(pool->queue, work, job->postponed_ms);
    else
        delivery_take_results(pool, work, job, envelope, arrays);
}

/* The mail data is missing or damaged, so it cannot be sent to anybody. What remains of it is kept for the
 * operator. */
static void delivery_fail_lost(struct delivery_pool *pool, const struct queue_work *work,
                               enum spool_result found, struct delivery_job *job,
                               struct spool_envelope *envelope, struct delivery_arrays *arrays,
                               const char *reason)
{
    char id[SPOOL_ID_LEN + 1];
    struct error err = {""};
    struct log_line line;
    struct reply reply;

    log_begin(&line, LOG_LEVEL_ERROR, "event=data-lost");
    log_str(&line, "id", spool_id_format(work->id, id));
    log_str(&line, "reason", reason);
    log_str(&line, "effect", "the message cannot be delivered, and its sender is notified");
    log_end(&line);
    if (found == SPOOL_SENSELESS &&
        spool_set_data_aside(pool->config.spool, work->id, &err) != SPOOL_OK) {
        delivery_log_problem(work->id, err.text, NULL);
        queue_judge(pool->queue, work, QUEUE_DEFERRED, NULL);
        return;
    }
    job->reached = true;
    reply_own(&reply, REPLY_STORE_LOST);
    for (size_t i = 0; i < job->count; i++) {
        job->results[i].outcome = DELIVERY_REFUSED;
        reply_summary(&reply, job->results[i].reply, sizeof job->results[i].reply);
    }
    delivery_take_results(pool, work, job, envelope, arrays);
}

/* All recipients there are settled already, by an operator or by a delivery that could not be recorded. */
static void delivery_record_only(struct delivery_pool *pool, const struct queue_work *work,
                                 struct spool_envelope *envelope)
{
    struct error err = {""};
    enum spool_result result = delivery_record(pool, envelope, NULL, 0, 0, &err);
    bool done = result == SPOOL_OK || result == SPOOL_MISSING;
    if (!done)
        delivery_log_problem(work->id, err.text, NULL);
    queue_judge(pool->queue, work, done ? QUEUE_SETTLED : QUEUE_DEFERRED, NULL);
}

static void delivery_deliver(struct delivery_pool *pool, const struct queue_work *work,
                             struct spool_envelope *envelope)
{
    struct delivery_arrays arrays = {.recipients = NULL};
    struct error err = {""};
    struct delivery_job job = {.destination = work->destination,
                               .envelope = envelope,
                               .data_fd = -1,
                               .stopping = &pool->stopping,
                               .unconfirmed = &pool->unconfirmed};
    size_t left = spool_envelope_left(envelope);

    if (delivery_arrays_init(&arrays, envelope->recipient_count, left > 0 ? left : 1) != 0) {
        delivery_log_problem(work->id, _("out of memory"), NULL);
        queue_judge(pool->queue, work, QUEUE_DEFERRED, NULL);
        return;
    }
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (delivery_is_due_there(pool, envelope, i, work->destination))
            arrays.recipients[job.count++] = i;
    }
    job.recipients = arrays.recipients;
    job.results = arrays.results;
    if (job.count == 0) {
        delivery_record_only(pool, work, envelope);
        delivery_arrays_free(&arrays);
        return;
    }
    enum spool_result found = spool_open_data(pool->config.spool, envelope, &job.data_fd, &err);
    if (found == SPOOL_OK) {
        delivery_run_job(pool, work, &job, envelope, &arrays);
        close(job.data_fd);
    } else if (found == SPOOL_MISSING || found == SPOOL_SENSELESS) {
        delivery_fail_lost(pool, work, found, &job, envelope, &arrays, err.text);
    } else {
        delivery_log_problem(work->id, err.text, NULL);
        queue_judge(pool->queue, work, QUEUE_DEFERRED, NULL);
    }
    delivery_arrays_free(&arrays);
}

/* Marks the queued recipients that the sender wants this notice about. The caller frees it. NULL if out of
 * memory. */
static bool *delivery_choose(const struct spool_envelope *envelope, enum dsn_action action)
{
    bool *about = calloc(envelope->recipient_count, sizeof *about);
    for (size_t i = 0; about != NULL && i < envelope->recipient_count; i++) {
        const struct spool_recipient *recipient = &envelope->recipients[i];
        about[i] = recipient->state == RECIPIENT_QUEUED &&
                   !(action == DSN_DELAYED && recipient->delay_notified) &&
                   dsn_wanted(envelope, recipient, action);
    }
    return about;
}

static void delivery_give_notice(struct delivery_pool *pool, const struct queue_work *work,
                                 struct spool_envelope *envelope)
{
    struct error err = {""};
    bool *about = delivery_choose(envelope, DSN_DELAYED);
    bool done =
        about != NULL && delivery_report(pool, envelope, about, DSN_DELAYED, false, &err) == 0;
    if (!done)
        delivery_log_problem(work->id, about != NULL ? err.text : _("out of memory"), NULL);
    else if (delivery_record_notice(pool, work->id, &err) != SPOOL_OK)
        delivery_log_problem(work->id, err.text, NULL);
    free(about);
    queue_judge(pool->queue, work, done ? QUEUE_SETTLED : QUEUE_DEFERRED, NULL);
}

static void delivery_log_expiry(const struct spool_envelope *envelope,
                                const struct spool_recipient *recipient)
{
    char id[SPOOL_ID_LEN + 1];
    struct log_line line;
    log_begin(&line, LOG_LEVEL_NOTICE, "event=expired");
    log_str(&line, "id", spool_id_format(envelope->id, id));
    log_str(&line, "from", envelope->sender.mailbox);
    log_str(&line, "to", recipient->path.mailbox);
    log_int(&line, "attempts", recipient->attempts);
    log_str(&line, "reply", recipient->reply);
    log_end(&line);
}

/* Mail for a dead destination may have waited without a try of its own. Then the sender is told what the
 * queue knows about the destination. */
static void delivery_explain(struct delivery_pool *pool, struct spool_envelope *envelope)
{
    char name[QUEUE_DESTINATION_MAX + 1], reason[QUEUE_REASON_MAX];
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        struct spool_recipient *recipient = &envelope->recipients[i];
        if (recipient->state != RECIPIENT_QUEUED)
            continue;
        pool->config.hooks.destination(pool->config.context, envelope, &recipient->path, name);
        if (recipient->reply == NULL && queue_destination_reason(pool->queue, name, reason))
            spool_envelope_set_text(&recipient->reply, reason, ENVELOPE_REPLY_MAX);
        delivery_log_expiry(envelope, recipient);
        delivery_report_lost_notice(pool, envelope, recipient);
    }
}

/* Gives the rest up and removes the message. If that fails, it is remembered that they have failed: nobody is told
 * of it again. */
static enum spool_result delivery_give_up(struct delivery_pool *pool,
                                          struct spool_envelope *envelope, struct error *err)
{
    struct change *changes = calloc(envelope->recipient_count, sizeof *changes);
    size_t count = 0;

    if (changes == NULL) {
        error_set(err, _("out of memory"));
        return SPOOL_BROKEN;
    }
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        if (envelope->recipients[i].state == RECIPIENT_QUEUED)
            changes[count++] = (struct change){.index = i, .state = RECIPIENT_FAILED};
    }
    enum spool_result result = delivery_record(pool, envelope, changes, count, 0, err);
    free(changes);
    return result;
}

static void delivery_expire(struct delivery_pool *pool, const struct queue_work *work,
                            struct spool_envelope *envelope)
{
    struct error err = {""};
    delivery_explain(pool, envelope);
    bool *about = delivery_choose(envelope, DSN_FAILED);
    bool done = about != NULL &&
                delivery_report(pool, envelope, about, DSN_FAILED, true, &err) == 0 &&
                delivery_give_up(pool, envelope, &err) == SPOOL_OK;
    if (!done)
        delivery_log_problem(work->id, about != NULL ? err.text : _("out of memory"), NULL);
    free(about);
    queue_judge(pool->queue, work, done ? QUEUE_SETTLED : QUEUE_DEFERRED, NULL);
}

void delivery_work(struct delivery_pool *pool, const struct queue_work *work)
{
    struct spool_envelope envelope;
    struct error err = {""};
    enum spool_result result = spool_read(pool->config.spool, work->id, &envelope, &err);

    if (result == SPOOL_OK)
        delivery_recall(pool, &envelope);
    else
        delivery_log_problem(work->id, err.text, NULL);
    /* If its envelope could not be read at the start, its destinations are known only now. */
    bool unknown = result == SPOOL_OK && work->kind == QUEUE_DELIVER &&
                   work->destination[0] == '\0' && spool_envelope_left(&envelope) > 0;
    if (result == SPOOL_MISSING || unknown)
        queue_judge(pool->queue, work, QUEUE_SETTLED, NULL);
    else if (result != SPOOL_OK)
        queue_judge(pool->queue, work, QUEUE_DEFERRED, NULL);
    else if (work->kind == QUEUE_DELIVER)
        delivery_deliver(pool, work, &envelope);
    else if (work->kind == QUEUE_NOTICE)
        delivery_give_notice(pool, work, &envelope);
    else
        delivery_expire(pool, work, &envelope);
    queue_finish(pool->queue, work);
    if (unknown && delivery_accept(pool, &envelope) != 0)
        delivery_log_problem(work->id, _("out of memory"), NULL);
    spool_envelope_clear(&envelope);
}

/* An operator's orders. */

struct hold {
    bool wanted;
    int64_t now;
};

static enum spool_edit_action delivery_set_hold(void *context, struct spool_envelope *envelope)
{
    const struct hold *hold = context;
    return spool_envelope_hold(envelope, hold->wanted, hold->now) ? SPOOL_EDIT_WRITE
                                                                  : SPOOL_EDIT_KEEP;
}

static void delivery_log_order(const char *order, uint64_t id)
{
    char text[SPOOL_ID_LEN + 1];
    struct log_line line;
    log_begin(&line, LOG_LEVEL_NOTICE, "event=queue-order");
    log_str(&line, "order", order);
    log_str(&line, "id", spool_id_format(id, text));
    log_end(&line);
}

static enum queue_answer delivery_record_hold(struct delivery_pool *pool, uint64_t id, bool wanted,
                                              struct error *err)
{
    struct hold hold = {wanted, delivery_now(pool)};
    switch (spool_edit(pool->config.spool, id, delivery_set_hold, &hold, err)) {
    case SPOOL_OK:
        delivery_log_order(wanted ? "hold" : "release", id);
        return QUEUE_DONE;
    case SPOOL_MISSING:
        return QUEUE_NO_SUCH;
    default:
        return QUEUE_BUSY;
    }
}

/* The queue comes first: from then on the message is not tried, even if the disk fails. */
enum queue_answer delivery_hold(struct delivery_pool *pool, uint64_t id, struct error *err)
{
    enum queue_answer answer = queue_hold(pool->queue, id);
    return answer == QUEUE_DONE ? delivery_record_hold(pool, id, true, err) : answer;
}

/* Here the disk comes first: once released in the queue, the message may be delivered and gone. */
enum queue_answer delivery_release(struct delivery_pool *pool, uint64_t id, struct error *err)
{
    enum queue_answer answer = delivery_record_hold(pool, id, false, err);
    return answer == QUEUE_DONE ? queue_release(pool->queue, id) : answer;
}

/* Marks the discarded recipients in our copy, from which the report is made, and lists the changes. */
static size_t delivery_choose_discarded(struct spool_envelope *envelope, const char *domain,
                                        bool *about, struct change *changes)
{
    struct reply reply;
    char text[ENVELOPE_REPLY_MAX + 1];
    size_t count = 0;

    reply_own(&reply, REPLY_STORE_REMOVED);
    reply_summary(&reply, text, sizeof text);
    for (size_t i = 0; i < envelope->recipient_count; i++) {
        struct spool_recipient *recipient = &envelope->recipients[i];
        if (!spool_recipient_waits_at(recipient, domain))
            continue;
        about[i] = dsn_wanted(envelope, recipient, DSN_FAILED);
        changes[count++] = (struct change){.index = i, .state = RECIPIENT_FAILED};
        if (recipient->reply == NULL)
            spool_envelope_set_text(&recipient->reply, text, ENVELOPE_REPLY_MAX);
    }
    return count;
}

static enum spool_result delivery_discard_recipients(struct delivery_pool *pool,
                                                     struct spool_envelope *envelope,
                                                     const char *domain, bool bounce,
                                                     struct error *err)
{
    bool *about = calloc(envelope->recipient_count, sizeof *about);
    struct change *changes = calloc(envelope->recipient_count, sizeof *changes);
    enum spool_result result = SPOOL_BROKEN;

    if (about == NULL || changes == NULL) {
        error_set(err, _("out of memory"));
        goto out;
    }
    size_t count = delivery_choose_discarded(envelope, domain, about, changes);
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
        result = delivery_discard_recipients(pool, &envelope, domain, bounce, err);
    }
    queue_unclaim(pool->queue, id, result == SPOOL_OK || result == SPOOL_MISSING);
    if (result == SPOOL_OK) {
        delivery_log_order("remove", id);
        if (spool_envelope_left(&envelope) > 0)
            delivery_accept(pool, &envelope);
    }
    spool_envelope_clear(&envelope);
    return result == SPOOL_OK ? QUEUE_DONE : result == SPOOL_MISSING ? QUEUE_NO_SUCH : QUEUE_BUSY;
}
