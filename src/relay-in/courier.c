/* relay-in/courier.c - relay-in's courier: runs the same transaction with the backend, synchronously
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-in/courier.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/log.h"
#include "relay-in/backend-connect.h"
#include "smtp/transaction.h"

#define DATA_WRITE_TIMEOUT_MS 180000 /* RFC 5321 4.5.3.2.5 */
#define TAKEN_FEW 320                /* octets of mailboxes, enough for most messages */

struct backend_courier {
    struct courier base;
    struct backend *backend;
    struct courier_loan *loan; /* NULL while its session waits in the gate */
    struct reply *kept; /* meanwhile: the transaction's final reply; NULL: none, or out of memory */
    struct nexthop hop;
    struct backend_slot slot; /* held from prepare() until no connection is needed */
    bool in_transaction;      /* MAIL was sent, or about to be when the transaction was decided */
    char session_id[32];
    /* For the ledger of missed mail: the current batch, and the accepted recipients. */
    const struct recipient *batch;
    size_t answered;
    char *taken; /* their mailboxes, NUL-terminated one after the other: `few`, or owned */
    size_t taken_len, taken_size;
    struct transaction transaction;
    char few[TAKEN_FEW]; /* so that a typical message allocates nothing for them */
};

static struct backend_courier *courier_of(struct transaction *transaction)
{
    return (struct backend_courier *)((char *)transaction -
                                      offsetof(struct backend_courier, transaction));
}

static void courier_free_taken(struct backend_courier *courier)
{
    if (courier->taken != courier->few)
        free(courier->taken);
}

/* Remembers an accepted recipient. If out of memory, the ledger misses it. */
static void courier_note_taken(struct backend_courier *courier, const char *mailbox)
{
    size_t len = strlen(mailbox) + 1;

    if (courier->taken_len + len > courier->taken_size) {
        size_t size = 2 * courier->taken_size + len;
        char *taken = malloc(size);
        if (taken == NULL)
            return;
        memcpy(taken, courier->taken, courier->taken_len);
        courier_free_taken(courier);
        courier->taken = taken;
        courier->taken_size = size;
    }
    memcpy(courier->taken + courier->taken_len, mailbox, len);
    courier->taken_len += len;
}

/* Tells the ledger the reply to a recipient. */
static void courier_note_recipient(struct backend_courier *courier, const struct reply *reply)
{
    struct missed *missed = backend_missed(courier->backend);
    const char *mailbox = courier->batch[courier->answered++].path.mailbox;

    if (missed == NULL)
        return;
    missed_note(missed, courier->transaction.envelope, mailbox, reply, false);
    if (reply_is_positive(reply))
        courier_note_taken(courier, mailbox);
}

/* Tells the ledger the reply to the message, for all accepted recipients. */
static void courier_note_message(struct backend_courier *courier, const struct reply *reply)
{
    const char *end = courier->taken + courier->taken_len;

    for (const char *at = courier->taken; courier->taken_len > 0 && at < end; at += strlen(at) + 1)
        missed_note(backend_missed(courier->backend), courier->transaction.envelope, at, reply,
                    true);
    courier->taken_len = 0;
}

static void courier_log_lost(struct transaction *transaction, const char *step,
                             enum io_result result, const char *said)
{
    struct log_line line;
    counters_add(backend_counters(courier_of(transaction)->backend),
                 result == IO_TIMEOUT ? COUNTER_BACKEND_TIMEOUT : COUNTER_BACKEND_LOST, 1);
    log_begin(&line, LOG_LEVEL_WARNING, "event=backend-lost");
    log_str(&line, "session", courier_of(transaction)->session_id);
    log_str(&line, "at", step);
    log_str(&line, "reason", transaction_lost_reason(result));
    if (*said != '\0')
        log_str(&line, "line", said);
    log_end(&line);
}

/* Gives the slot back, or stops waiting for one, unless there is a connection. */
static void courier_give_slot(struct backend_courier *courier)
{
    if (!courier->transaction.connected)
        backend_give_slot(courier->backend, &courier->slot);
}

static void courier_give_back(struct backend_courier *courier)
{
    struct transaction *transaction = &courier->transaction;

    if (courier->in_transaction && transaction->decided)
        courier->kept = reply_dup(transaction->final_reply);
    transaction->final_reply = NULL;
    courier->loan = NULL;
    /* Without memory for what is unread or unsent, the connection cannot continue, nor what was under way on it:
     * courier_lend() makes its final reply. */
    if (transaction->connected && stream_park(&courier->hop.stream) != 0) {
        transaction_abort(transaction);
        transaction->decided = true;
    }
}

static void courier_lend(struct courier *base, struct courier_loan *loan)
{
    struct backend_courier *courier = (struct backend_courier *)base;
    struct transaction *transaction = &courier->transaction;

    if (loan == NULL) {
        courier_give_back(courier);
        return;
    }
    courier->loan = loan;
    transaction->final_reply = &loan->reply;
    if (courier->kept != NULL)
        reply_copy(&loan->reply, courier->kept);
    else if (courier->in_transaction && transaction->decided)
        reply_own(&loan->reply, REPLY_BACKEND_LOST);
    else
        reply_clear(&loan->reply); /* another client's */
    free(courier->kept);
    courier->kept = NULL;
    if (transaction->connected)
        stream_lend(&courier->hop.stream, &loan->buffers);
}

/* Waits until what the backend is told about the client is known, until a slot is free, and for a spare that is
 * nearly there. */
static int64_t courier_prepare(struct courier *base, const struct client_identity *client,
                               const struct recipient *recipient, struct wakeup *wakeup)
{
    struct backend_courier *courier = (struct backend_courier *)base;
    struct backend *backend = courier->backend;
    int64_t until_ms = 0;

    (void)recipient;
    base->wants_slot = false;
    if (courier->transaction.connected || (courier->in_transaction && courier->transaction.decided))
        return 0;
    if (backend_settings(backend)->identity == CONFIG_IDENTITY_XCLIENT)
        until_ms = reverse_await(client->names, wakeup);
    if (until_ms != 0)
        return until_ms;
    until_ms = backend_ask_slot(backend, &courier->slot, &client->address,
                                !client->unlimited && backend_limits_networks(backend), wakeup);
    base->wants_slot = until_ms != 0;
    if (until_ms != 0)
        return until_ms;
    return backend_await_spare(backend, &courier->slot, backend_wants_tls(backend, client->tls));
}

static bool courier_is_wanted(struct courier *base)
{
    return backend_is_wanted(((struct backend_courier *)base)->backend);
}

static void courier_log_busy(const struct backend_courier *courier,
                             const struct client_identity *client)
{
    struct log_line line;
    counters_add(backend_counters(courier->backend), COUNTER_BACKEND_BUSY, 1);
    log_begin(&line, LOG_LEVEL_WARNING, "event=backend-busy");
    log_str(&line, "session", client->session_id);
    log_str(&line, "reason", "all max_sessions are in use");
    log_end(&line);
}

/* Connects, unless a kept connection can be used. If the backend has closed it meanwhile, the socket is readable. */
static void courier_connect(struct backend_courier *courier, const struct client_identity *client)
{
    struct transaction *transaction = &courier->transaction;
    struct stream *stream = &courier->hop.stream;

    if (transaction->connected &&
        (stream->broken || stream_hears(stream) || !transaction_reset(transaction)))
        transaction_abort(transaction);
    transaction->kept = transaction->connected;
    if (transaction->kept)
        return;
    /* Only the connection that the client logged in on knows it. */
    if (client->authenticated) {
        transaction_decide(transaction, REPLY_AUTH_LOST);
        return;
    }
    if (!backend_holds_slot(courier->backend, &courier->slot)) {
        courier_log_busy(courier, client);
        transaction_decide(transaction, REPLY_BACKEND_BUSY);
        return;
    }
    transaction->connected =
        backend_introduce(courier->backend, client, &courier->hop, &courier->loan->buffers,
                          transaction->final_reply) == 0;
    transaction->decided = !transaction->connected;
    courier_give_slot(courier);
}

/* A refusal stands, but a backend that hung up on a kept connection may only have timed out: connects again. */
static bool courier_renew(struct transaction *transaction)
{
    if (transaction->connected)
        return false;
    transaction->decided = false;
    courier_connect(courier_of(transaction), transaction->envelope->client);
    return true;
}

static void courier_send(struct courier *base, const struct envelope *envelope,
                         const struct recipient *recipients, size_t count, enum courier_data data)
{
    struct backend_courier *courier = (struct backend_courier *)base;
    struct transaction *transaction = &courier->transaction;
    struct buffer id;

    if (!courier->in_transaction) {
        courier->in_transaction = true;
        buffer_init(&id, courier->session_id, sizeof courier->session_id);
        buffer_puts(&id, envelope->client->session_id);
        transaction_begin(transaction, envelope);
        courier_connect(courier, envelope->client);
        courier->taken_len = 0;
    }
    courier->batch = recipients;
    courier->answered = 0;
    transaction_begin_batch(transaction);
    for (size_t i = 0; i < count; i++)
        transaction_add(transaction, &recipients[i]);
    transaction_send_batch(transaction, data);
}

static void courier_recipient_reply(struct courier *base, struct reply *reply)
{
    struct backend_courier *courier = (struct backend_courier *)base;

    transaction_recipient_reply(&courier->transaction, reply);
    courier_note_recipient(courier, reply);
    courier_give_slot(courier);
}

/* If DATA was sent together with recipients, its reply comes with theirs. Its time starts now, and a reply that
 * arrives within it can still be read if the client takes longer. */
static bool courier_ask_data(struct courier *base)
{
    return transaction_send_data(&((struct backend_courier *)base)->transaction);
}

static void courier_data_reply(struct courier *base, struct reply *reply)
{
    struct backend_courier *courier = (struct backend_courier *)base;
    struct transaction *transaction = &courier->transaction;

    base->form = transaction->chunks ? COURIER_CHUNKS : COURIER_LINES;
    transaction_data_reply(transaction, reply);
    if (reply->code >= 400)
        courier_note_message(courier, reply);
    courier_give_slot(courier);
}

static int courier_write(struct courier *base, const struct iovec *iov, int count)
{
    struct backend_courier *courier = (struct backend_courier *)base;
    int result = transaction_write(&courier->transaction, iov, count);

    if (result != 0)
        courier_give_slot(courier);
    return result;
}

static void courier_end(struct courier *base, struct reply *reply)
{
    struct backend_courier *courier = (struct backend_courier *)base;
    struct transaction *transaction = &courier->transaction;

    courier->in_transaction = false;
    transaction_send_end(transaction);
    transaction_read_final_reply(
        transaction, deadline_in_ms(backend_settings(courier->backend)->reply_timeout_ms));
    reply_copy(reply, transaction->final_reply);
    courier_note_message(courier, reply);
    courier_give_slot(courier);
}

static void courier_reset(struct courier *base)
{
    struct backend_courier *courier = (struct backend_courier *)base;
    courier->in_transaction = false;
    courier_give_slot(courier);
}

static void courier_abort(struct courier *base)
{
    transaction_abort(&((struct backend_courier *)base)->transaction);
    courier_reset(base);
}

static void courier_authenticate(struct courier *base, const struct client_identity *client,
                                 const char *line, size_t len, struct reply *reply)
{
    struct backend_courier *courier = (struct backend_courier *)base;
    struct transaction *transaction = &courier->transaction;
    struct deadline deadline = deadline_in_ms(transaction->reply_ms);
    enum io_result result = IO_FAILED;

    snprintf(courier->session_id, sizeof courier->session_id, "%s", client->session_id);
    if (!courier->hop.challenged) /* otherwise the line is only for this connection */
        courier_connect(courier, client);
    courier->hop.challenged = false;
    if (transaction->connected) {
        result = stream_put(&courier->hop.stream, line, len, deadline);
        if (result == IO_OK)
            result = nexthop_command(&courier->hop, "\r\n", reply, deadline);
        stream_wipe(&courier->hop.stream);
        if (result == IO_OK && reply->code < 400 && reply->code != 334 && reply->code != 235)
            result = IO_FAILED;
        if (result != IO_OK)
            courier_log_lost(transaction, "AUTH", result, "");
    }
    /* RFC 4954 6: 454 if the server cannot be asked. */
    if (result != IO_OK)
        reply_own(reply, REPLY_AUTH_TEMPORARY);
    if (result != IO_OK || reply->code == 421)
        transaction_abort(transaction);
    courier_give_slot(courier);
}

static void courier_free(struct courier *base)
{
    struct backend_courier *courier = (struct backend_courier *)base;

    if (courier->transaction.connected)
        nexthop_quit(&courier->hop);
    backend_give_slot(courier->backend, &courier->slot);
    courier_free_taken(courier);
    free(courier->kept);
    backend_unref(courier->backend);
    free(courier);
}

struct courier *courier_backend_new(struct backend *backend)
{
    static const struct courier_ops ops = {
        .lend = courier_lend,
        .prepare = courier_prepare,
        .is_wanted = courier_is_wanted,
        .send = courier_send,
        .recipient_reply = courier_recipient_reply,
        .ask_data = courier_ask_data,
        .data_reply = courier_data_reply,
        .write = courier_write,
        .end = courier_end,
        .reset = courier_reset,
        .abort = courier_abort,
        .authenticate = courier_authenticate,
        .free = courier_free,
    };
    static const struct transaction_owner owner = {
        .lost = REPLY_BACKEND_LOST,
        .lacks = REPLY_BACKEND_LACKS,
        .lost_at = courier_log_lost,
        .renew = courier_renew,
    };
    struct backend_courier *courier = calloc(1, sizeof *courier);

    if (courier == NULL)
        return NULL;
    courier->base.ops = &ops;
    courier->backend = backend_ref(backend);
    courier->taken = courier->few;
    courier->taken_size = sizeof courier->few;
    courier->transaction.owner = &owner;
    courier->transaction.hop = &courier->hop;
    courier->transaction.reply_ms = backend_settings(backend)->command_timeout_ms;
    courier->transaction.block_ms = DATA_WRITE_TIMEOUT_MS;
    return &courier->base;
}
