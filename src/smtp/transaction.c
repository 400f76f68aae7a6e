/* smtp/transaction.c - one mail transaction with a next hop (RFC 5321 3.3, RFC 2920, RFC 3030)
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/transaction.h"

#include <stdio.h>
#include <string.h>

/* The most replies that may be pending while chunks are sent: they fit any socket buffer. */
#define CHUNKS_DUE_MAX 64
/* Time for the rest of a reply that has begun to arrive, once nothing more can be written. */
#define LAST_WORD_TIMEOUT_MS 2000
#define LINE_SHOWN 160 /* octets of a line in the log */

enum transaction_step { STEP_MAIL, STEP_RCPT, STEP_DATA, STEP_BODY, STEP_END };

static const char *const transaction_step_names[] = {
    [STEP_MAIL] = "MAIL",      [STEP_RCPT] = "RCPT",       [STEP_DATA] = "DATA",
    [STEP_BODY] = "mail data", [STEP_END] = "end of data",
};

void transaction_begin(struct transaction *transaction, const struct envelope *envelope)
{
    transaction->envelope = envelope;
    transaction->decided = transaction->ours = false;
    transaction->batch_count = transaction->next = transaction->accepted = 0;
    transaction->mail_due = true;
    transaction->data = TRANSACTION_NO_DATA;
    transaction->chunks = transaction->unconfirmed = transaction->garbled = false;
    transaction->chunks_due = 0;
}

static struct deadline transaction_deadline(const struct transaction *transaction)
{
    struct deadline deadline = deadline_in_ms(transaction->reply_ms);
    return transaction->until.at_ms != 0 ? deadline_earlier(deadline, transaction->until)
                                         : deadline;
}

static bool transaction_has(const struct transaction *transaction, unsigned extension)
{
    return (transaction->hop->capabilities.extensions & extension) != 0;
}

static struct stream *transaction_stream(const struct transaction *transaction)
{
    return &transaction->hop->stream;
}

void transaction_abort(struct transaction *transaction)
{
    if (!transaction->connected)
        return;
    stream_abort(transaction_stream(transaction));
    transaction->connected = transaction->open = false;
    if (transaction->owner->closed != NULL)
        transaction->owner->closed(transaction);
}

/* Decides the transaction. The first decision stands. */
static void transaction_decide_by(struct transaction *transaction, const struct reply *reply)
{
    if (transaction->decided)
        return;
    reply_copy(transaction->final_reply, reply);
    transaction->decided = true;
    transaction->ours = false;
}

void transaction_decide(struct transaction *transaction, enum own_reply why)
{
    if (transaction->decided)
        return;
    reply_own(transaction->final_reply, why);
    transaction->decided = transaction->ours = true;
}

const char *transaction_lost_reason(enum io_result result)
{
    return result == IO_OK ? "the reply does not fit the command" : io_result_name(result);
}

/* The next hop closed, stalled or sent garbage. What it was doing must not succeed. If it hangs up after a
 * refusal, that is not worth a log line. */
static void transaction_lose(struct transaction *transaction, enum transaction_step step,
                             enum io_result result, const char *line)
{
    if (!transaction->decided)
        transaction->owner->lost_at(transaction, transaction_step_names[step], result, line);
    transaction_abort(transaction);
    transaction_decide(transaction, transaction->owner->lost);
}

/* Handles a reply that was read: a 421 ends the next hop's side of the connection (RFC 5321 3.8). */
static void transaction_heed(struct transaction *transaction, struct reply *reply)
{
    bool leaves = reply->code == 421;

    if (transaction->owner->adapt != NULL)
        transaction->owner->adapt(reply);
    if (!leaves)
        return;
    transaction_abort(transaction);
    transaction_decide_by(transaction, reply);
}

/* Handles a reply that makes no sense at this step: the two sides are out of step. It counts as a refusal, as
 * in Postfix; at RCPT, of that recipient only. */
static void transaction_misread(struct transaction *transaction, enum transaction_step step,
                                struct reply *reply)
{
    char line[LINE_SHOWN];

    transaction->owner->lost_at(transaction, transaction_step_names[step], IO_OK,
                                reply_summary(reply, line, sizeof line));
    reply_misplaced(reply);
    transaction_abort(transaction);
    if (step == STEP_RCPT)
        transaction_decide(transaction, transaction->owner->lost);
    else
        transaction_decide_by(transaction, reply);
}

/* Reads the reply to a step: a refusal, or a reply of the class `good`, which lets it continue. `lone`: no
 * other reply is due. False if the next hop was lost; the final reply is then set. */
static bool transaction_read(struct transaction *transaction, enum transaction_step step, int good,
                             bool lone, struct reply *reply, struct deadline deadline)
{
    char line[LINE_SHOWN];
    enum io_result result = reply_read(transaction_stream(transaction), reply, lone, deadline);

    if (result != IO_OK) {
        snprintf(line, sizeof line, "%.*s", (int)strcspn(reply->text, "\n"), reply->text);
        transaction->garbled = !lone && reply->len > 0;
        transaction_lose(transaction, step, result, line);
        return false;
    }
    if (reply->code >= 400 || reply->code / 100 == good)
        transaction_heed(transaction, reply);
    else
        transaction_misread(transaction, step, reply);
    return true;
}

/* Does an unread refusal answer the whole transaction? After an accepted MAIL it may concern only one
 * recipient. */
static bool transaction_is_last_word(const struct transaction *transaction,
                                     const struct reply *reply)
{
    return reply->code == 421 || (reply->code >= 400 && (transaction->mail_due ||
                                                         transaction->data == TRANSACTION_IN_DATA));
}

/* A write failed. If the next hop sent a reply before it closed, that counts. */
static void transaction_fail_write(struct transaction *transaction, enum transaction_step step,
                                   enum io_result result)
{
    struct reply reply;

    stream_hear_out(transaction_stream(transaction));
    struct deadline deadline = deadline_in_ms(LAST_WORD_TIMEOUT_MS);
    reply_read(transaction_stream(transaction), &reply, true, deadline);
    for (; reply_is_positive(&reply) && transaction->chunks_due > 0; transaction->chunks_due--)
        reply_read(transaction_stream(transaction), &reply, true, deadline);
    if (!transaction_is_last_word(transaction, &reply)) {
        transaction_lose(transaction, step, result, "");
        return;
    }
    transaction->unconfirmed = false;
    transaction_heed(transaction, &reply);
    transaction_abort(transaction);
    transaction_decide_by(transaction, &reply);
}

/* Sends what was put. */
static bool transaction_flush(struct transaction *transaction, enum transaction_step step,
                              enum io_result put, struct deadline deadline)
{
    if (put == IO_OK)
        put = stream_flush(transaction_stream(transaction), deadline);
    if (put != IO_OK)
        transaction_fail_write(transaction, step, put);
    return put == IO_OK;
}

static enum io_result transaction_put_mail(struct transaction *transaction,
                                           struct deadline deadline)
{
    transaction->open = true;
    return nexthop_put_mail(transaction->hop, transaction->envelope, deadline);
}

static bool transaction_has_recipients(const struct transaction *transaction)
{
    size_t left = 0;

    for (size_t i = 0; i < transaction->batch_count; i++)
        left += transaction->batch[i] != NULL;
    return transaction->accepted + left > 0;
}

/* Writes the batch. Without PIPELINING it writes nothing: each step then writes its own command. */
static void transaction_write_batch(struct transaction *transaction)
{
    enum io_result result = IO_OK;

    transaction->written = false;
    if (transaction->decided || transaction->batch_count == 0 ||
        !transaction_has(transaction, EXTENSION_PIPELINING))
        return;
    struct deadline deadline = transaction_deadline(transaction);
    if (transaction->mail_due)
        result = transaction_put_mail(transaction, deadline);
    for (size_t i = 0; i < transaction->batch_count && result == IO_OK; i++) {
        if (transaction->batch[i] != NULL)
            result = nexthop_put_rcpt(transaction->hop, transaction->batch[i], deadline);
    }
    if (transaction->data == TRANSACTION_DATA_DUE && result == IO_OK &&
        transaction_has_recipients(transaction)) {
        result = nexthop_put(transaction->hop, "DATA\r\n", deadline);
        transaction->data = TRANSACTION_DATA_SENT;
    }
    transaction->written = transaction_flush(
        transaction, transaction->mail_due ? STEP_MAIL : STEP_RCPT, result, deadline);
}

void transaction_begin_batch(struct transaction *transaction)
{
    transaction->batch_count = transaction->next = 0;
}

void transaction_add(struct transaction *transaction, const struct recipient *recipient)
{
    transaction->batch[transaction->batch_count++] = recipient;
}

/* The reply if the next hop lacks what a message needs. */
static enum own_reply transaction_lack(const struct transaction *transaction, enum own_reply why)
{
    const bool named = transaction->owner->lacks == REPLY_OK || why == REPLY_REMOTE_TOO_BIG;
    return named ? why : transaction->owner->lacks;
}

static void transaction_judge_lack(struct transaction *transaction)
{
    enum own_reply why = nexthop_lacks(transaction->hop, transaction->envelope);

    if (why == REPLY_OK && transaction->owner->lacks != REPLY_OK &&
        transaction->envelope->body == MAIL_BODY_8BITMIME &&
        !transaction_has(transaction, EXTENSION_8BITMIME))
        why = REPLY_8BIT_UNSUPPORTED;
    if (why != REPLY_OK)
        transaction_decide(transaction, transaction_lack(transaction, why));
}

/* Decides what MAIL can contain for this next hop. */
static void transaction_match(struct transaction *transaction)
{
    transaction_judge_lack(transaction);
    transaction->smtputf8 =
        transaction->envelope->smtputf8 && transaction_has(transaction, EXTENSION_SMTPUTF8);
}

/* An internationalized recipient needs a MAIL with SMTPUTF8 (RFC 6531 3.4); others do not. */
static bool transaction_may_name(const struct transaction *transaction,
                                 const struct recipient *recipient)
{
    return !recipient->path.is_utf8 || transaction->smtputf8;
}

/* If the owner has offered an extension to the client on the next hop's behalf, the mail must not go without it
 * (RFC 6152 3, RFC 3461 5.2.2). */
static bool transaction_is_bound(const struct transaction *transaction)
{
    return transaction->owner->lacks != REPLY_OK;
}

static bool transaction_may_notify(const struct transaction *transaction,
                                   const struct recipient *recipient)
{
    return !transaction_is_bound(transaction) || recipient->notify == 0 ||
           transaction_has(transaction, EXTENSION_DSN);
}

void transaction_send_batch(struct transaction *transaction, enum courier_data data)
{
    transaction->next = 0;
    transaction->data = TRANSACTION_NO_DATA;
    transaction->data_until = (struct deadline){0};
    transaction->chunks = false;
    transaction->chunks_due = 0;
    transaction->first = transaction->mail_due;
    if (!transaction->decided && transaction->mail_due)
        transaction_match(transaction);
    for (size_t i = 0; i < transaction->batch_count && !transaction->decided; i++) {
        if (!transaction_may_name(transaction, transaction->batch[i]) ||
            !transaction_may_notify(transaction, transaction->batch[i]))
            transaction->batch[i] = NULL;
    }
    if (!transaction->decided && data == COURIER_CHUNKED_DATA)
        transaction->chunks = transaction_has(transaction, EXTENSION_CHUNKING);
    if (data != COURIER_NOTHING && !transaction->chunks)
        transaction->data = TRANSACTION_DATA_DUE;
    transaction_write_batch(transaction);
}

/* Reads the reply to MAIL if it is due. After a refused MAIL, pipelined replies are read and discarded. */
static void transaction_settle_mail(struct transaction *transaction, struct reply *reply)
{
    if (!transaction->mail_due || transaction->decided)
        return;
    struct deadline deadline = transaction_deadline(transaction);
    if (!transaction->written &&
        !transaction_flush(transaction, STEP_MAIL, transaction_put_mail(transaction, deadline),
                           deadline))
        return;
    if (transaction_read(transaction, STEP_MAIL, 2, !transaction->written, reply, deadline) &&
        !reply_is_positive(reply))
        transaction_decide_by(transaction, reply);
    transaction->mail_due = false;
}

/* Reads the reply to a recipient of the batch. */
static void transaction_settle_rcpt(struct transaction *transaction, size_t which,
                                    struct reply *reply)
{
    transaction_settle_mail(transaction, reply);
    struct deadline deadline = transaction_deadline(transaction);
    bool out = transaction->written;
    if (!out && !transaction->decided)
        out = transaction_flush(
            transaction, STEP_RCPT,
            nexthop_put_rcpt(transaction->hop, transaction->batch[which], deadline), deadline);
    const bool decided = transaction->decided;
    const bool lone = !transaction->written || (which + 1 == transaction->batch_count &&
                                                transaction->data != TRANSACTION_DATA_SENT);
    if (!out || !transaction->connected ||
        !transaction_read(transaction, STEP_RCPT, 2, lone, reply, deadline) || decided)
        reply_copy(reply, transaction->final_reply);
}

/* Repeats the batch so far on a fresh connection. Recipients that were accepted must be accepted again, because
 * our client was told. */
static void transaction_repeat(struct transaction *transaction, size_t which, struct reply *reply)
{
    transaction->mail_due = true;
    if (transaction->data == TRANSACTION_DATA_SENT)
        transaction->data = TRANSACTION_DATA_DUE;
    if (!transaction->decided)
        transaction_match(transaction);
    transaction_write_batch(transaction);
    for (size_t i = 0; i < which; i++) {
        if (transaction->batch[i] == NULL)
            continue;
        transaction_settle_rcpt(transaction, i, reply);
        if (!reply_is_positive(reply)) {
            transaction_abort(transaction);
            transaction_decide(transaction, transaction->owner->lost);
        }
    }
    transaction_settle_rcpt(transaction, which, reply);
}

/* Tries again on a fresh connection, if the owner makes one. */
static void transaction_try_renewed(struct transaction *transaction, size_t which,
                                    struct reply *reply)
{
    const bool garbled = transaction->garbled;

    if (!transaction->decided)
        reply_copy(transaction->final_reply, reply);
    if (transaction->owner->renew == NULL || !transaction->owner->renew(transaction))
        return;
    if (garbled)
        transaction->hop->capabilities.extensions &= ~(unsigned)EXTENSION_PIPELINING;
    transaction->garbled = false;
    transaction_repeat(transaction, which, reply);
}

/* Some recipients were taken, and this is one too many (RFC 5321 4.5.3.1.10): a fresh connection would do no better. */
static bool transaction_is_full(const struct transaction *transaction, const struct reply *reply)
{
    return transaction->accepted > 0 && reply->code == 452 && !transaction->decided;
}

void transaction_recipient_reply(struct transaction *transaction, struct reply *reply)
{
    size_t which = transaction->next++;

    if (transaction->batch[which] == NULL) {
        transaction_settle_mail(transaction, reply);
        if (transaction->decided)
            reply_copy(reply, transaction->final_reply);
        else
            reply_own(reply, transaction_lack(transaction, REPLY_UTF8_UNSUPPORTED));
        return;
    }
    transaction_settle_rcpt(transaction, which, reply);
    if (transaction->first && !reply_is_positive(reply) &&
        (transaction->garbled || (transaction->kept && !transaction_is_full(transaction, reply)))) {
        transaction->kept = false;
        transaction_try_renewed(transaction, which, reply);
    }
    if (reply_is_positive(reply))
        transaction->accepted++;
    else
        transaction->batch[which] = NULL;
}

bool transaction_send_data(struct transaction *transaction)
{
    if (transaction->decided || transaction->chunks || transaction->data == TRANSACTION_DATA_SENT)
        return false;
    transaction->data = TRANSACTION_DATA_SENT;
    transaction->data_until = transaction_deadline(transaction);
    return transaction_flush(transaction, STEP_DATA,
                             nexthop_put(transaction->hop, "DATA\r\n", transaction->data_until),
                             transaction->data_until);
}

/* Takes the reply to DATA. After a 354 that follows a refusal, the connection can only be closed. */
static void transaction_take_data(struct transaction *transaction, bool decided,
                                  struct reply *reply)
{
    if (reply->code / 100 == 3 && !decided) {
        reply->code = 354;
        transaction->data = TRANSACTION_IN_DATA;
        transaction_stream(transaction)->heeds_input = true;
        return;
    }
    if (reply->code / 100 == 3)
        transaction_abort(transaction);
    transaction_decide_by(transaction, reply);
    reply_copy(reply, transaction->final_reply);
}

void transaction_data_reply(struct transaction *transaction, struct reply *reply)
{
    /* Nobody is to have the message, so the next hop is not asked for it. */
    if (transaction->accepted == 0 && !transaction->decided &&
        transaction->data != TRANSACTION_DATA_SENT) {
        transaction->data = TRANSACTION_NO_DATA;
        reply_own(reply, REPLY_NO_VALID_RECIPIENTS);
        return;
    }
    if (transaction->chunks && !transaction->decided) {
        transaction->data = TRANSACTION_IN_DATA;
        reply_own(reply, REPLY_START_DATA);
        return;
    }
    transaction_send_data(transaction);
    const bool sent = transaction->data == TRANSACTION_DATA_SENT, decided = transaction->decided;
    struct deadline deadline = transaction->data_until.at_ms != 0
                                   ? transaction->data_until
                                   : transaction_deadline(transaction);

    transaction->data = TRANSACTION_NO_DATA;
    if (sent && transaction->connected &&
        transaction_read(transaction, STEP_DATA, 3, true, reply, deadline))
        transaction_take_data(transaction, decided, reply);
    else
        reply_copy(reply, transaction->final_reply);
}

static size_t transaction_total(const struct iovec *iov, int count)
{
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    return total;
}

/* Reads replies to chunks until at most `left` are due. False if a chunk was refused or the next hop was lost:
 * then message and connection are dead. */
static bool transaction_settle_chunks(struct transaction *transaction, unsigned left,
                                      struct deadline deadline)
{
    struct reply reply;

    while (transaction->chunks_due > left) {
        transaction->chunks_due--;
        if (!transaction_read(transaction, STEP_BODY, 2, transaction->chunks_due == 0, &reply,
                              deadline))
            return false;
        if (!reply_is_positive(&reply)) {
            transaction_abort(transaction);
            transaction_decide_by(transaction, &reply);
            return false;
        }
    }
    return true;
}

static bool transaction_put_chunk_head(struct transaction *transaction, size_t octets)
{
    struct deadline deadline = deadline_in_ms(transaction->block_ms);
    char head[40];

    unsigned most = transaction_has(transaction, EXTENSION_PIPELINING) ? CHUNKS_DUE_MAX : 0;
    if (transaction->chunks_due > most &&
        (!transaction_flush(transaction, STEP_BODY, IO_OK, deadline) ||
         !transaction_settle_chunks(transaction, most / 2, transaction_deadline(transaction))))
        return false;
    snprintf(head, sizeof head, "BDAT %zu\r\n", octets);
    enum io_result result = nexthop_put(transaction->hop, head, deadline);
    if (result != IO_OK)
        transaction_fail_write(transaction, STEP_BODY, result);
    transaction->chunks_due++;
    return result == IO_OK;
}

int transaction_write(struct transaction *transaction, const struct iovec *iov, int count)
{
    const size_t total = transaction_total(iov, count);
    enum io_result result = IO_OK;

    if (!transaction->connected || transaction->decided)
        return -1;
    /* The header needs more than MAIL announced. */
    if (transaction->envelope->is_utf8 && !transaction->smtputf8) {
        transaction_judge_lack(transaction);
        if (transaction->decided) {
            transaction_abort(transaction);
            return -1;
        }
    }
    if (transaction->chunks && !transaction_put_chunk_head(transaction, total))
        return -1;
    struct stream *stream = transaction_stream(transaction);
    /* A small message waits in the buffer, so that it leaves in one segment with its end. Unsent output waits
     * too, since the session was parked: a slow client's message must not pile up there. */
    if (stream->unsent_len + stream->out_len + total + 3 < stream->buffers->out_size) {
        for (int i = 0; i < count && result == IO_OK; i++)
            result = stream_put(stream, iov[i].iov_base, iov[i].iov_len, (struct deadline){0});
    } else {
        result = stream_writev(stream, iov, count, deadline_in_ms(transaction->block_ms));
    }
    if (result == IO_OK)
        return 0;
    transaction_fail_write(transaction, STEP_BODY, result);
    return -1;
}

void transaction_send_end(struct transaction *transaction)
{
    const char *end = transaction->chunks ? "BDAT 0 LAST\r\n" : ".\r\n";
    struct deadline deadline = deadline_in_ms(transaction->block_ms);

    if (!transaction->connected || transaction->decided)
        return;
    struct stream *stream = transaction_stream(transaction);
    stream->heeds_input = false;
    /* It has already replied, before the end of data: an end of data would only be one more command. */
    if (!transaction->chunks && stream_hears(stream)) {
        transaction_fail_write(transaction, STEP_BODY, IO_FAILED);
        return;
    }
    transaction->unconfirmed = true;
    transaction_flush(transaction, STEP_END, nexthop_put(transaction->hop, end, deadline),
                      deadline);
}

void transaction_read_final_reply(struct transaction *transaction, struct deadline deadline)
{
    struct reply reply;

    transaction->data = TRANSACTION_NO_DATA;
    if (!transaction->connected || transaction->decided ||
        !transaction_settle_chunks(transaction, 0, deadline) ||
        !transaction_read(transaction, STEP_END, 2, true, &reply, deadline))
        return;
    transaction->unconfirmed = transaction->open = false;
    transaction_decide_by(transaction, &reply);
}

bool transaction_is_clean(const struct transaction *transaction)
{
    return transaction->connected && transaction->data == TRANSACTION_NO_DATA &&
           transaction->next == transaction->batch_count;
}

bool transaction_reset(struct transaction *transaction)
{
    if (!transaction->open)
        return true;
    transaction->open = false;
    return nexthop_reset(transaction->hop, transaction->final_reply,
                         transaction_deadline(transaction));
}
