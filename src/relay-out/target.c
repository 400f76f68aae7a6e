/* relay-out/target.c - one next hop of a message: its destination, its connection, its transaction
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/target.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"

#define IN_BUFFER (8 * 1024)   /* replies */
#define OUT_BUFFER (16 * 1024) /* a batch of commands, or a small message */

static struct target *target_of(struct transaction *transaction)
{
    return (struct target *)((char *)transaction - offsetof(struct target, transaction));
}

static void target_log_lost(struct transaction *transaction, const char *step,
                            enum io_result result, const char *said)
{
    struct target *target = target_of(transaction);
    struct log_line line;

    log_begin(&line, LOG_LEVEL_INFO, "");
    log_text(&line, "%s while sending %s%s with %s", transaction_lost_reason(result), step,
             transaction->unconfirmed ? " -- message may be sent more than once" : "",
             target->remote.name);
    if (*said != '\0')
        log_str(&line, "line", said);
    log_str(&line, "session", target->connect.session);
    log_end(&line);
}

static void target_closed(struct transaction *transaction)
{
    struct target *target = target_of(transaction);

    if (!target->asking)
        connect_leave(&target->connect);
}

/* Our client may expect an enhanced code in every reply (RFC 2034 4). It must never get 421, which
 * Postfix takes for this host's own. */
static void target_adapt(struct reply *reply)
{
    if (reply->code == 421)
        reply->code = 451;
    if (reply->enhanced[0] == '\0' && reply->code != 354)
        snprintf(reply->enhanced, sizeof reply->enhanced, "%c.0.0", '0' + reply->code / 100 % 10);
}

/* Takes connect's result: a connection, or the final reply. */
static void target_take(struct target *target, int result)
{
    struct transaction *transaction = &target->transaction;

    transaction->connected = result == 0;
    transaction->decided = transaction->ours = !transaction->connected;
    transaction->kept = transaction->connected && target->remote.messages > 0;
    target->met |= transaction->connected;
    target->unreachable = !transaction->connected && !target->connect.busy;
}

static void target_set_contact_deadline(struct target *target)
{
    struct deadline deadline = deadline_in_ms(target->out->config->out.timeouts.dial);
    const struct transaction *transaction = &target->transaction;

    target->connect.deadline =
        transaction->until.at_ms != 0 ? deadline_earlier(deadline, transaction->until) : deadline;
}

/* Was DATA sent, so that no other command can follow? */
static bool target_has_sent_data(const struct target *target)
{
    return target->transaction.data >= TRANSACTION_DATA_SENT;
}

/* A kept connection may have been ended by the next hop's limits of messages or of time. */
static bool target_renew(struct transaction *transaction)
{
    struct target *target = target_of(transaction);

    if (transaction->garbled) /* ask the same hosts again */
        connect_clear(&target->connect);
    target_set_contact_deadline(target);
    target->connect.breaks_off = target_has_sent_data(target);
    int result = connect_renew(&target->connect, transaction->connected);
    if (result == 0 || !transaction->connected) {
        target_take(target, result);
        return true;
    }
    transaction_abort(transaction);
    target->unreachable = true;
    transaction->decided = false;
    transaction_decide(transaction, REPLY_REMOTE_LOST);
    return true;
}

struct target *target_new(const struct outbound *out, const struct route *route, const char *domain,
                          const struct envelope *envelope, struct host_cache_claim *claim)
{
    static const struct transaction_owner owner = {
        .lost = REPLY_REMOTE_LOST,
        .lost_at = target_log_lost,
        .closed = target_closed,
        .adapt = target_adapt,
        .renew = target_renew,
    };
    struct target *target = calloc(1, sizeof *target);

    if (target == NULL)
        return NULL;
    if (stream_buffers_init(&target->buffers, IN_BUFFER, OUT_BUFFER) != 0) {
        free(target);
        return NULL;
    }
    target->out = out;
    snprintf(target->domain, sizeof target->domain, "%s", domain);
    target->transaction.owner = &owner;
    target->transaction.hop = &target->remote.hop;
    target->transaction.final_reply = &target->final_reply;
    target->transaction.reply_ms = out->config->out.timeouts.reply;
    target->transaction.block_ms = out->config->out.timeouts.data_block;
    transaction_begin(&target->transaction, envelope);
    target->connect = (struct connect){
        .out = out,
        .route = route,
        .domain = target->domain,
        .session = envelope->client->session_id,
        .require_tls = envelope->requiretls,
        .tls_optional = envelope->tls_optional && !envelope->requiretls,
        .buffers = &target->buffers,
        .remote = &target->remote,
        .reply = &target->final_reply,
        .claim = claim,
    };
    route_key(route, domain, target->connect.key);
    return target;
}

/* Keeps the connection for the next message. */
static void target_keep(struct target *target)
{
    struct stream *stream = &target->remote.hop.stream;

    target->remote.messages++;
    target->remote.done_ms = target->transaction.open ? 0 : deadline_now_ms();
    if (stream_has_input(stream) || stream->broken) {
        transaction_abort(&target->transaction);
        return;
    }
    stream_reclaim(stream);
    target->transaction.connected = false;
    connect_keep(&target->connect);
}

static void target_drop_replies(struct target *target)
{
    for (size_t i = 0; i < target->batch_count; i++) {
        free(target->replies[i]);
        target->replies[i] = NULL;
    }
}

void target_free(struct target *target)
{
    if (target == NULL)
        return;
    struct transaction *transaction = &target->transaction;
    sender_free(target->sender);
    if (transaction_is_clean(transaction) && !transaction->mail_due)
        target_keep(target);
    if (transaction->connected)
        connect_end(&target->connect, transaction->data == TRANSACTION_NO_DATA);
    ASSERT(!target->connect.talk.listed);
    connect_clear(&target->connect);
    target_drop_replies(target);
    free(target->accepted);
    stream_buffers_free(&target->buffers);
    free(target);
}

void target_contact(struct target *target, struct deadline deadline)
{
    if (target->contacted)
        return;
    target->contacted = true;
    target->connect.deadline = deadline;
    target_take(target, connect_make(&target->connect));
}

/* The next host. */

/* A host that wants TLS, but whose TLS failed, has not refused the mail: its 5xx becomes a 4xx. */
static void target_heed_tls(const struct target *target, struct reply *reply)
{
    if (!target->remote.tls_failed ||
        (reply->code != 530 && strcmp(reply->enhanced, "5.7.10") != 0))
        return;
    reply->code = 451;
    reply->enhanced[0] = '4';
}

/* Under soft_bounce, the client gets a 4xx instead of a 5xx. */
static void target_soften(const struct target *target, struct reply *reply)
{
    if (!target->out->config->out.soft_bounce || !reply_is_permanent(reply))
        return;
    /* Not 421, which would be taken for this host's own. */
    reply->code = reply->code == 521 ? 451 : reply->code - 100;
    if (reply->enhanced[0] == '5')
        reply->enhanced[0] = '4';
}

static void target_log_next(const struct target *target, const char *name)
{
    struct log_line line;

    log_begin(&line, LOG_LEVEL_INFO, "");
    log_text(&line, "no final answer from %s; asking %s", name, target->remote.name);
    log_str(&line, "session", target->connect.session);
    log_end(&line);
}

static bool target_next_host(struct target *target)
{
    struct transaction *transaction = &target->transaction;
    char name[REMOTE_NAME_MAX];

    memcpy(name, target->remote.name, sizeof name);
    target_set_contact_deadline(target);
    target->connect.breaks_off = target_has_sent_data(target);
    if (!target->met || transaction->unconfirmed ||
        connect_next(&target->connect, transaction->connected) != 0)
        return false;
    target_log_next(target, name);
    transaction_begin(transaction, transaction->envelope);
    transaction->connected = true;
    transaction->kept = transaction->open = false;
    return true;
}

bool target_next_transaction(struct target *target)
{
    if (target_in_data(target))
        return false;
    target->accepted_count = 0;
    return target_next_host(target);
}

/* Batches. */

void target_begin_batch(struct target *target)
{
    target_drop_replies(target);
    target->batch_count = target->told = 0;
}

void target_add(struct target *target, const struct recipient *recipient)
{
    target->batch[target->batch_count++] = recipient;
}

static void target_ask(struct target *target, const struct recipient *const *who, size_t count,
                       enum courier_data data)
{
    talk_set_phase(&target->connect.talk, TALK_ENVELOPE);
    target->asking = target->transaction.connected;
    transaction_begin_batch(&target->transaction);
    for (size_t i = 0; i < count; i++)
        transaction_add(&target->transaction, who[i]);
    transaction_send_batch(&target->transaction, data);
}

/* All replies to the batch were read. */
static void target_end_batch(struct target *target)
{
    if (target->asking && !target->transaction.connected)
        connect_leave(&target->connect);
    target->asking = false;
}

static bool target_has_accepted_none(const struct target *target)
{
    return target->accepted_count == 0 &&
           (target->transaction.decided || target->transaction.accepted == 0);
}

/* DATA went with recipients of whom none was accepted. Its reply comes before anything else from this host, and
 * what the stream has read of it is lost when another host is asked. */
static void target_settle_data(struct target *target)
{
    struct transaction *transaction = &target->transaction;
    struct reply refusal;

    if (!target_has_accepted_none(target))
        return;
    if (transaction->data == TRANSACTION_DATA_SENT)
        transaction_data_reply(transaction, &refusal);
    else if (transaction->data == TRANSACTION_DATA_DUE)
        transaction->data = TRANSACTION_NO_DATA;
}

static void target_hear(struct target *target, const size_t *which, size_t count)
{
    struct reply reply;

    for (size_t i = 0; i < count; i++) {
        transaction_recipient_reply(&target->transaction, &reply);
        target_heed_tls(target, &reply);
        free(target->replies[which[i]]);
        target->replies[which[i]] = reply_dup(&reply);
    }
    target_settle_data(target);
    target_end_batch(target);
    if (target->transaction.decided)
        target_heed_tls(target, &target->final_reply);
}

/* Lists the batch's recipients without a final answer: those with a 4xx, and those accepted by a host
 * that was lost since. */
static size_t target_list_open(const struct target *target, size_t which[SESSION_BATCH_MAX])
{
    const struct transaction *transaction = &target->transaction;
    const bool lost = transaction->decided && !reply_is_permanent(transaction->final_reply);
    size_t count = 0;

    for (size_t i = 0; i < target->batch_count; i++) {
        const struct reply *reply = target->replies[i];
        if (reply != NULL && (reply_is_transient(reply) || (lost && reply_is_positive(reply))))
            which[count++] = i;
    }
    return count;
}

static void target_ask_others(struct target *target, enum courier_data data)
{
    const struct recipient *who[SESSION_BATCH_MAX];
    size_t which[SESSION_BATCH_MAX], count;

    while (target_has_accepted_none(target) && (count = target_list_open(target, which)) > 0 &&
           target_next_host(target)) {
        for (size_t i = 0; i < count; i++)
            who[i] = target->batch[which[i]];
        target_ask(target, who, count, data);
        target_hear(target, which, count);
    }
}

/* If the host was lost before the client heard of any accepted recipient, those that it accepted get the
 * final reply instead. Once the client has heard of one, replies stand. */
void target_ask_batch(struct target *target, enum courier_data data)
{
    size_t which[SESSION_BATCH_MAX];

    for (size_t i = 0; i < target->batch_count; i++)
        which[i] = i;
    target_ask(target, target->batch, target->batch_count, data);
    target_hear(target, which, target->batch_count);
    target_ask_others(target, data);
    if (!target_has_accepted_none(target))
        return;
    for (size_t i = 0; i < target->batch_count; i++) {
        if (target->replies[i] != NULL && reply_is_positive(target->replies[i])) {
            free(target->replies[i]);
            target->replies[i] = reply_dup(&target->final_reply);
        }
    }
}

static bool target_note_accepted(struct target *target, const struct recipient *recipient)
{
    const struct recipient **list =
        realloc(target->accepted, (target->accepted_count + 1) * sizeof *target->accepted);
    if (list == NULL)
        return false;
    target->accepted = list;
    list[target->accepted_count++] = recipient;
    return true;
}

void target_recipient_reply(struct target *target, struct reply *reply)
{
    const size_t which = target->told++;
    struct reply *heard = target->replies[which];

    if (heard == NULL ||
        (reply_is_positive(heard) && !target_note_accepted(target, target->batch[which]))) {
        reply_own(reply, REPLY_BACKEND_BUSY);
        return;
    }
    reply_copy(reply, heard);
    target_soften(target, reply);
}

/* DATA and its end. */

bool target_in_data(const struct target *target)
{
    return target->transaction.data == TRANSACTION_IN_DATA && target->transaction.connected;
}

static bool target_is_open(const struct target *target)
{
    const struct transaction *transaction = &target->transaction;
    return transaction->decided && !transaction->unconfirmed &&
           reply_is_transient(transaction->final_reply);
}

bool target_data_reply(struct target *target)
{
    struct reply reply;

    transaction_data_reply(&target->transaction, &reply);
    if (target_in_data(target)) {
        talk_set_phase(&target->connect.talk, TALK_DATA);
        return true;
    }
    target_heed_tls(target, &target->final_reply);
    target_soften(target, &target->final_reply);
    return false;
}

/* Repeats all accepted recipients, and DATA, on a new connection. True on 354. */
static bool target_repeat(struct target *target)
{
    bool all = true;

    for (size_t at = 0; at < target->accepted_count && all; at += SESSION_BATCH_MAX) {
        size_t left = target->accepted_count - at;
        size_t count = left < SESSION_BATCH_MAX ? left : SESSION_BATCH_MAX;
        struct reply reply;
        target_ask(target, target->accepted + at, count, COURIER_NOTHING);
        for (size_t i = 0; i < count; i++) {
            transaction_recipient_reply(&target->transaction, &reply);
            all &= reply_is_positive(&reply);
        }
        target_end_batch(target);
    }
    return all && target_data_reply(target);
}

bool target_data_reply_anywhere(struct target *target)
{
    struct transaction *transaction = &target->transaction;

    if (target_data_reply(target))
        return true;
    const struct reply before = target->final_reply;
    const bool ours = transaction->ours;
    if (!target_is_open(target))
        return false;
    while (target_next_host(target)) {
        if (target_repeat(target))
            return true;
        transaction_abort(transaction);
    }
    target->final_reply = before;
    transaction->decided = true;
    transaction->ours = ours;
    return false;
}

void target_read_final_reply(struct target *target, struct deadline deadline)
{
    talk_set_phase(&target->connect.talk, TALK_REPLY);
    transaction_read_final_reply(&target->transaction, deadline);
    target_soften(target, &target->final_reply);
    if (target->transaction.connected)
        target_keep(target);
}

static void target_conclude(struct transaction *transaction)
{
    struct target *target = target_of(transaction);
    target_read_final_reply(target, deadline_in_ms(target->out->config->out.timeouts.final));
}

void target_start_sending(struct target *target, int file)
{
    struct transaction *transaction = &target->transaction;

    snprintf(target->own_session, sizeof target->own_session, "%s", target->connect.session);
    target->connect.session = target->own_session;
    target->sender = sender_start(transaction, file, target_conclude);
    target->pending = target->sender != NULL;
    if (target->pending)
        return;
    transaction_abort(transaction);
    transaction_decide(transaction, REPLY_BACKEND_BUSY);
}

bool target_wait(struct target *target, struct deadline deadline)
{
    target->pending = target->pending && !sender_wait(target->sender, deadline);
    return !target->pending;
}

void target_remember_deferral(struct target *target)
{
    char text[REMOTE_REASON_MAX];

    if (target->accepted_count > 0 && target_is_open(target))
        connect_defer(&target->connect,
                      reply_summary(target_final_reply(target), text, sizeof text));
}

const struct reply *target_final_reply(const struct target *target)
{
    return &target->final_reply;
}

const char *target_relay(const struct target *target)
{
    return target->remote.name[0] != '\0' ? target->remote.name : "none";
}
