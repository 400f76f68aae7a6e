/* out/leg.c - one next hop of a message: its destination, its connection, its transaction
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "out/leg.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define IN_BUFFER (8 * 1024)   /* replies */
#define OUT_BUFFER (16 * 1024) /* a batch of commands, or a small message */

static struct leg *leg_of(struct transaction *transaction)
{
    return (struct leg *)((char *)transaction - offsetof(struct leg, transaction));
}

static void leg_log_lost(struct transaction *transaction, const char *step, const char *reason,
                         const char *said)
{
    struct leg *leg = leg_of(transaction);
    struct log_line line;

    log_begin(&line, LOG_LEVEL_INFO, "");
    log_text(&line, "%s while sending %s%s with %s", reason, step,
             transaction->unconfirmed ? " -- message may be sent more than once" : "",
             leg->remote.name);
    if (*said != '\0')
        log_str(&line, "line", said);
    log_str(&line, "session", leg->session);
    log_end(&line);
}

static void leg_closed(struct transaction *transaction)
{
    const struct leg *leg = leg_of(transaction);
    remotes_leave(leg->out->remotes, leg->remote.key);
}

/* A client of ours may wait for ENHANCEDSTATUSCODES on every reply (RFC 2034 4), and must never hear
 * 421, which Postfix takes for this host's own. */
static void leg_adapt(struct reply *reply)
{
    if (reply->code == 421)
        reply->code = 451;
    if (reply->enhanced[0] == '\0' && reply->code != 354)
        snprintf(reply->enhanced, sizeof reply->enhanced, "%c.0.0", '0' + reply->code / 100 % 10);
}

/* A connection, or the verdict. */
static void leg_take(struct leg *leg, int result)
{
    struct transaction *transaction = &leg->transaction;

    transaction->connected = result == 0;
    transaction->judged = transaction->ours = !transaction->connected;
    transaction->kept = transaction->connected && leg->remote.messages > 0;
    leg->met |= transaction->connected;
    leg->unreachable = !transaction->connected && !leg->contact.busy;
}

static void leg_set_contact_deadline(struct leg *leg)
{
    struct deadline deadline = deadline_in_ms(leg->out->config->out.timeouts.dial);
    const struct transaction *transaction = &leg->transaction;

    leg->contact.deadline =
        transaction->until.at_ms != 0 ? deadline_earlier(deadline, transaction->until) : deadline;
}

/* A next hop may have a limit for what comes over one connection, or have had its time. */
static bool leg_renew(struct transaction *transaction)
{
    struct leg *leg = leg_of(transaction);

    if (transaction->garbled) /* the same hosts again */
        contact_clear(&leg->contact);
    leg_set_contact_deadline(leg);
    if (contact_renew(&leg->contact, transaction->connected) == 0) {
        leg_take(leg, 0);
        return true;
    }
    transaction_abort(transaction);
    leg->unreachable = true;
    transaction->judged = false;
    transaction_judge(transaction, REPLY_REMOTE_LOST);
    return true;
}

struct leg *leg_new(const struct outbound *out, const struct route *route, const char *domain,
                    const struct envelope *envelope)
{
    static const struct transaction_owner owner = {
        .lost = REPLY_REMOTE_LOST,
        .lost_at = leg_log_lost,
        .closed = leg_closed,
        .adapt = leg_adapt,
        .renew = leg_renew,
    };
    struct leg *leg = calloc(1, sizeof *leg);

    if (leg == NULL)
        return NULL;
    if (stream_buffers_init(&leg->buffers, IN_BUFFER, OUT_BUFFER) != 0) {
        free(leg);
        return NULL;
    }
    leg->out = out;
    leg->route = route;
    leg->session = envelope->client->session_id;
    snprintf(leg->domain, sizeof leg->domain, "%s", domain);
    route_key(route, domain, leg->key);
    leg->transaction.owner = &owner;
    leg->transaction.hop = &leg->remote.hop;
    leg->transaction.reply_ms = out->config->out.timeouts.reply;
    leg->transaction.block_ms = out->config->out.timeouts.data_block;
    transaction_begin(&leg->transaction, envelope);
    leg->contact = (struct contact){
        .out = out,
        .route = route,
        .domain = leg->domain,
        .session = leg->session,
        .require_tls = envelope->requiretls,
        .tls_optional = envelope->tls_optional && !envelope->requiretls,
        .buffers = &leg->buffers,
        .remote = &leg->remote,
        .verdict = &leg->transaction.verdict,
    };
    return leg;
}

/* For the next message, which begins with RSET. */
static void leg_keep(struct leg *leg)
{
    struct stream *stream = &leg->remote.hop.stream;

    leg->remote.messages++;
    if (stream_has_input(stream) || stream->broken) {
        transaction_abort(&leg->transaction);
        return;
    }
    stream_reclaim(stream);
    leg->transaction.connected = false;
    remotes_keep(leg->out->remotes, &leg->remote, leg->out->config->out.reuse_for_ms);
}

static void leg_drop_replies(struct leg *leg)
{
    for (size_t i = 0; i < leg->batch_count; i++) {
        free(leg->replies[i]);
        leg->replies[i] = NULL;
    }
}

void leg_free(struct leg *leg)
{
    if (leg == NULL)
        return;
    struct transaction *transaction = &leg->transaction;
    sender_free(leg->sender);
    if (transaction_is_clean(transaction) && !transaction->mail_due)
        leg_keep(leg);
    if (transaction->connected)
        contact_end(leg->out, &leg->remote, transaction->data == TRANSACTION_NO_DATA);
    contact_clear(&leg->contact);
    leg_drop_replies(leg);
    free(leg->accepted);
    stream_buffers_free(&leg->buffers);
    free(leg);
}

void leg_set_claim(struct leg *leg, struct remotes_claim *claim)
{
    leg->contact.claim = claim;
}

void leg_contact(struct leg *leg, struct deadline deadline)
{
    if (leg->contacted)
        return;
    leg->contacted = true;
    leg->contact.deadline = deadline;
    leg_take(leg, contact_make(&leg->contact));
}

/* The next host. */

/* A host that wants TLS and does not get it working has not refused the mail. */
static void leg_heed_tls(const struct leg *leg, struct reply *reply)
{
    if (!leg->remote.tls_failed || (reply->code != 530 && strcmp(reply->enhanced, "5.7.10") != 0))
        return;
    reply->code = 451;
    reply->enhanced[0] = '4';
}

/* As the client is to hear it. */
static void leg_soften(const struct leg *leg, struct reply *reply)
{
    if (!leg->out->config->out.soft_bounce || !reply_is_permanent(reply))
        return;
    /* 421 would be taken for a word about this host. */
    reply->code = reply->code == 521 ? 451 : reply->code - 100;
    if (reply->enhanced[0] == '5')
        reply->enhanced[0] = '4';
}

static void leg_log_next(const struct leg *leg, const char *name)
{
    struct log_line line;

    log_begin(&line, LOG_LEVEL_INFO, "");
    log_text(&line, "no final answer from %s; asking %s", name, leg->remote.name);
    log_str(&line, "session", leg->session);
    log_end(&line);
}

static bool leg_next_host(struct leg *leg)
{
    struct transaction *transaction = &leg->transaction;
    char name[REMOTE_NAME_MAX];

    memcpy(name, leg->remote.name, sizeof name);
    leg_set_contact_deadline(leg);
    if (!leg->met || transaction->unconfirmed ||
        contact_next(&leg->contact, transaction->connected) != 0)
        return false;
    leg_log_next(leg, name);
    transaction_begin(transaction, transaction->envelope);
    transaction->connected = true;
    transaction->kept = transaction->open = false;
    return true;
}

bool leg_next_transaction(struct leg *leg)
{
    if (leg_in_data(leg))
        return false;
    leg->accepted_count = 0;
    return leg_next_host(leg);
}

/* Batches. */

void leg_begin_batch(struct leg *leg)
{
    leg_drop_replies(leg);
    leg->batch_count = leg->told = 0;
}

void leg_add(struct leg *leg, const struct recipient *recipient)
{
    leg->batch[leg->batch_count++] = recipient;
}

static void leg_ask(struct leg *leg, const struct recipient *const *who, size_t count)
{
    transaction_begin_batch(&leg->transaction);
    for (size_t i = 0; i < count; i++)
        transaction_add(&leg->transaction, who[i]);
    transaction_send_batch(&leg->transaction, COURIER_NOTHING);
}

static void leg_hear(struct leg *leg, const size_t *which, size_t count)
{
    struct reply reply;

    for (size_t i = 0; i < count; i++) {
        transaction_recipient_reply(&leg->transaction, &reply);
        leg_heed_tls(leg, &reply);
        free(leg->replies[which[i]]);
        leg->replies[which[i]] = reply_dup(&reply);
    }
    if (leg->transaction.judged)
        leg_heed_tls(leg, &leg->transaction.verdict);
}

/* Those of the batch that have no final answer: refused for now, or accepted by a host that was lost
 * since. */
static size_t leg_list_open(const struct leg *leg, size_t which[SESSION_BATCH_MAX])
{
    const struct transaction *transaction = &leg->transaction;
    const bool lost = transaction->judged && !reply_is_permanent(&transaction->verdict);
    size_t count = 0;

    for (size_t i = 0; i < leg->batch_count; i++) {
        const struct reply *reply = leg->replies[i];
        if (reply != NULL && (reply_is_transient(reply) || (lost && reply_is_positive(reply))))
            which[count++] = i;
    }
    return count;
}

static bool leg_has_accepted_none(const struct leg *leg)
{
    return leg->accepted_count == 0 && (leg->transaction.judged || leg->transaction.accepted == 0);
}

static void leg_ask_others(struct leg *leg)
{
    const struct recipient *who[SESSION_BATCH_MAX];
    size_t which[SESSION_BATCH_MAX], count;

    while (leg_has_accepted_none(leg) && (count = leg_list_open(leg, which)) > 0 &&
           leg_next_host(leg)) {
        for (size_t i = 0; i < count; i++)
            who[i] = leg->batch[which[i]];
        leg_ask(leg, who, count);
        leg_hear(leg, which, count);
    }
}

/* What is told stands: who was accepted by a host that was lost since is not accepted. */
void leg_ask_batch(struct leg *leg)
{
    size_t which[SESSION_BATCH_MAX];

    for (size_t i = 0; i < leg->batch_count; i++)
        which[i] = i;
    leg_ask(leg, leg->batch, leg->batch_count);
    leg_hear(leg, which, leg->batch_count);
    leg_ask_others(leg);
    if (!leg_has_accepted_none(leg))
        return;
    for (size_t i = 0; i < leg->batch_count; i++) {
        if (leg->replies[i] != NULL && reply_is_positive(leg->replies[i])) {
            free(leg->replies[i]);
            leg->replies[i] = reply_dup(&leg->transaction.verdict);
        }
    }
}

static bool leg_note_accepted(struct leg *leg, const struct recipient *recipient)
{
    const struct recipient **list =
        realloc(leg->accepted, (leg->accepted_count + 1) * sizeof *leg->accepted);
    if (list == NULL)
        return false;
    leg->accepted = list;
    list[leg->accepted_count++] = recipient;
    return true;
}

void leg_recipient_reply(struct leg *leg, struct reply *reply)
{
    const size_t which = leg->told++;
    struct reply *heard = leg->replies[which];

    if (heard == NULL || (reply_is_positive(heard) && !leg_note_accepted(leg, leg->batch[which]))) {
        reply_own(reply, REPLY_BACKEND_BUSY);
        return;
    }
    reply_copy(reply, heard);
    leg_soften(leg, reply);
}

/* DATA and its end. */

bool leg_in_data(const struct leg *leg)
{
    return leg->transaction.data == TRANSACTION_IN_DATA && leg->transaction.connected;
}

static bool leg_is_open(const struct leg *leg)
{
    const struct transaction *transaction = &leg->transaction;
    return transaction->judged && !transaction->unconfirmed &&
           reply_is_transient(&transaction->verdict);
}

bool leg_data_reply(struct leg *leg)
{
    struct reply reply;

    transaction_data_reply(&leg->transaction, &reply);
    if (leg_in_data(leg))
        return true;
    leg_heed_tls(leg, &leg->transaction.verdict);
    leg_soften(leg, &leg->transaction.verdict);
    return false;
}

/* All who were accepted, and DATA. */
static bool leg_repeat(struct leg *leg)
{
    bool all = true;

    for (size_t at = 0; at < leg->accepted_count && all; at += SESSION_BATCH_MAX) {
        size_t left = leg->accepted_count - at;
        size_t count = left < SESSION_BATCH_MAX ? left : SESSION_BATCH_MAX;
        struct reply reply;
        leg_ask(leg, leg->accepted + at, count);
        for (size_t i = 0; i < count; i++) {
            transaction_recipient_reply(&leg->transaction, &reply);
            all &= reply_is_positive(&reply);
        }
    }
    return all && leg_data_reply(leg);
}

bool leg_data_reply_anywhere(struct leg *leg)
{
    struct transaction *transaction = &leg->transaction;

    if (leg_data_reply(leg))
        return true;
    const struct reply verdict = transaction->verdict;
    const bool ours = transaction->ours;
    if (!leg_is_open(leg))
        return false;
    while (leg_next_host(leg)) {
        if (leg_repeat(leg))
            return true;
        transaction_abort(transaction);
    }
    transaction->verdict = verdict;
    transaction->judged = true;
    transaction->ours = ours;
    return false;
}

void leg_final_reply(struct leg *leg, struct deadline deadline)
{
    transaction_final_reply(&leg->transaction, deadline);
    leg_soften(leg, &leg->transaction.verdict);
    if (leg->transaction.connected)
        leg_keep(leg);
}

static void leg_conclude(struct transaction *transaction)
{
    struct leg *leg = leg_of(transaction);
    leg_final_reply(leg, deadline_in_ms(leg->out->config->out.timeouts.final));
}

void leg_start_sending(struct leg *leg, int file)
{
    struct transaction *transaction = &leg->transaction;

    snprintf(leg->own_session, sizeof leg->own_session, "%s", leg->session);
    leg->session = leg->contact.session = leg->own_session;
    leg->sender = sender_start(transaction, file, leg_conclude);
    leg->pending = leg->sender != NULL;
    if (leg->pending)
        return;
    transaction_abort(transaction);
    transaction_judge(transaction, REPLY_BACKEND_BUSY);
}

bool leg_wait(struct leg *leg, struct deadline deadline)
{
    leg->pending = leg->pending && !sender_wait(leg->sender, deadline);
    return !leg->pending;
}

void leg_remember_deferral(struct leg *leg)
{
    char text[REMOTE_REASON_MAX];

    if (leg->accepted_count > 0 && leg_is_open(leg))
        contact_defer(&leg->contact, reply_summary(leg_verdict(leg), text, sizeof text));
}

const struct reply *leg_verdict(const struct leg *leg)
{
    return &leg->transaction.verdict;
}

const char *leg_relay(const struct leg *leg)
{
    return leg->remote.name[0] != '\0' ? leg->remote.name : "none";
}
