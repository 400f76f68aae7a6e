/* in/courier.c - relay-in's courier: the same transaction, with the backend, at the same time
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "in/courier.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "in/introduce.h"

#define IN_BUFFER (8 * 1024) /* replies */
/* Replies that may be on their way while chunks go out: they fit any socket buffer. */
#define CHUNKS_DUE_MAX 64
#define OUT_BUFFER (16 * 1024)       /* a batch of commands, or a small message */
#define DATA_WRITE_TIMEOUT_MS 180000 /* RFC 5321 4.5.3.2.5 */

struct backend_courier {
    struct courier base;
    struct backend *backend;
    struct stream_buffers buffers;
    struct nexthop hop;
    bool connected;
    bool reset_due;      /* a transaction was left open there: RSET before the next MAIL */
    bool in_transaction; /* MAIL has gone out, or was about to when the verdict fell */
    bool judged;         /* `verdict` answers everything that is left of the transaction */
    struct reply verdict;
    char session_id[32];
    /* The batch being asked about. Its recipients are the caller's. */
    const struct envelope *envelope;
    const struct recipient *recipients;
    size_t count, next;
    bool written;               /* pipelined: all of it went out in one write; else step by step */
    bool mail_due, data_due;    /* the replies to MAIL and DATA are still to be had */
    struct deadline data_until; /* of the latter, where it is asked for later; else at_ms is 0 */
    bool chunks;                /* mail data goes out by BDAT */
    unsigned chunks_due;        /* whose replies are still to be had */
    bool challenged;            /* in mid-AUTH: the next line is for this connection only */
};

static struct deadline step_deadline(const struct backend_courier *courier)
{
    return deadline_in_ms(backend_settings(courier->backend)->command_timeout_ms);
}

static bool pipelines(const struct backend_courier *courier)
{
    return (courier->hop.capabilities.extensions & NEXTHOP_PIPELINING) != 0;
}

static void disconnect(struct backend_courier *courier, bool orderly)
{
    if (!courier->connected)
        return;
    if (orderly)
        nexthop_quit(&courier->hop);
    else
        stream_abort(&courier->hop.stream);
    courier->connected = false;
    courier->reset_due = false;
    backend_disconnected(courier->backend);
}

/* The backend closed, stalled or talked garbage. Whatever was under way there must not end well. */
static void lose(struct backend_courier *courier, const char *step, enum io_result result)
{
    struct log_line line;
    log_begin(&line, LOG_LEVEL_WARNING, "event=backend-lost");
    log_str(&line, "session", courier->session_id);
    log_str(&line, "at", step);
    log_str(&line, "reason", io_result_name(result));
    log_end(&line);
    disconnect(courier, false);
    reply_own(&courier->verdict, REPLY_BACKEND_LOST);
    courier->judged = true;
}

/* Reads the reply to a step, which is a refusal or `good`: of that class (2), or that code (354).
 * False when the backend was lost (the verdict is then set). A 421 ends the backend's side of the
 * connection (RFC 5321 3.8): what follows in this batch gets 451. */
static bool read_reply(struct backend_courier *courier, const char *step, struct reply *reply,
                       int good, struct deadline deadline)
{
    enum io_result result = reply_read(&courier->hop.stream, reply, deadline);
    /* Any other, passed on, would mean to the client what the backend cannot have meant. */
    if (result == IO_OK && reply->code < 400 && reply->code / 100 != good && reply->code != good)
        result = IO_FAILED;
    if (result != IO_OK) {
        lose(courier, step, result);
        return false;
    }
    if (reply->code == 421) {
        disconnect(courier, false);
        reply_own(&courier->verdict, REPLY_BACKEND_LOST);
        courier->judged = true;
    }
    return true;
}

/* A connection kept from the transaction before may have been closed by the backend meanwhile;
 * then the socket is readable, and a new connection costs the client nothing. */
static bool went_stale(struct backend_courier *courier)
{
    struct pollfd poll_fd = {.fd = courier->hop.stream.fd, .events = POLLIN};
    return courier->hop.stream.broken || stream_has_input(&courier->hop.stream) ||
           poll(&poll_fd, 1, 0) != 0;
}

static bool leave_transaction(struct backend_courier *courier, struct reply *reply)
{
    if (!courier->reset_due)
        return true;
    courier->reset_due = false;
    return nexthop_command(&courier->hop, "RSET\r\n", reply, step_deadline(courier)) == IO_OK &&
           reply_is_positive(reply);
}

static void connect_for(struct backend_courier *courier, const struct client_identity *client)
{
    if (courier->connected &&
        (went_stale(courier) || !leave_transaction(courier, &courier->verdict)))
        disconnect(courier, false);
    if (courier->connected)
        return;
    /* Only the connection that was logged in on knows the client. */
    if (client->authenticated) {
        reply_own(&courier->verdict, REPLY_AUTH_LOST);
        courier->judged = true;
        return;
    }
    if (introduce(courier->backend, client, &courier->hop, &courier->buffers, &courier->verdict) ==
        0)
        courier->connected = true;
    else
        courier->judged = true;
}

/* What was announced to the client may be more than the host that answered can do. */
static enum own_reply lacks(const struct backend_courier *courier, const struct envelope *envelope)
{
    unsigned has = courier->hop.capabilities.extensions;
    if (envelope->smtputf8 && !(has & NEXTHOP_SMTPUTF8))
        return REPLY_UTF8_UNSUPPORTED;
    if (envelope->body == MAIL_BODY_BINARYMIME &&
        (!(has & NEXTHOP_BINARYMIME) || !(has & NEXTHOP_CHUNKING)))
        return REPLY_8BIT_UNSUPPORTED;
    if (envelope->requiretls && (!(has & NEXTHOP_REQUIRETLS) || courier->hop.stream.tls == NULL))
        return REPLY_REQUIRETLS_UNSUPPORTED;
    return REPLY_OK;
}

/* Writes all of the batch that may go at once. Without PIPELINING nothing: each step then writes
 * its own command. */
static enum io_result write_batch(struct backend_courier *courier)
{
    struct deadline deadline = step_deadline(courier);
    enum io_result result = IO_OK;

    if (courier->mail_due)
        result = nexthop_put_mail(&courier->hop, courier->envelope, deadline);
    for (size_t i = 0; i < courier->count && result == IO_OK; i++)
        result = nexthop_put_rcpt(&courier->hop, &courier->recipients[i], deadline);
    if (courier->data_due && result == IO_OK)
        result = nexthop_put(&courier->hop, "DATA\r\n", deadline);
    return result == IO_OK ? stream_flush(&courier->hop.stream, deadline) : result;
}

static void courier_send(struct courier *base, const struct envelope *envelope,
                         const struct recipient *recipients, size_t count, enum courier_data data)
{
    struct backend_courier *courier = (struct backend_courier *)base;

    courier->envelope = envelope;
    courier->recipients = recipients;
    courier->count = count;
    courier->next = 0;
    courier->data_due = data == COURIER_DATA;
    courier->chunks = false;
    courier->chunks_due = 0;
    courier->data_until = (struct deadline){0};
    courier->written = false;
    if (!courier->in_transaction) {
        courier->in_transaction = true;
        courier->judged = false;
        courier->mail_due = true;
        snprintf(courier->session_id, sizeof courier->session_id, "%s",
                 envelope->client->session_id);
        connect_for(courier, envelope->client);
        if (!courier->judged && lacks(courier, envelope) != REPLY_OK) {
            reply_own(&courier->verdict, lacks(courier, envelope));
            courier->judged = true;
        }
        if (courier->judged)
            courier->mail_due = false;
    }
    /* A verdict that fell in an earlier batch: nothing more is said to the backend. */
    if (courier->judged) {
        courier->data_due = false;
        return;
    }
    if (data == COURIER_CHUNKED_DATA) {
        courier->chunks = (courier->hop.capabilities.extensions & NEXTHOP_CHUNKING) != 0;
        courier->data_due = !courier->chunks;
    }
    if (pipelines(courier)) {
        enum io_result result = write_batch(courier);
        courier->written = result == IO_OK;
        if (result != IO_OK)
            lose(courier, "batch", result);
    }
}

/* Lock-step: writes the command that the pipelined way has written already. */
static bool write_step(struct backend_courier *courier, enum io_result result, const char *step)
{
    if (result == IO_OK)
        result = stream_flush(&courier->hop.stream, step_deadline(courier));
    if (result != IO_OK)
        lose(courier, step, result);
    return result == IO_OK;
}

static void settle_mail(struct backend_courier *courier, struct reply *reply)
{
    if (!courier->mail_due)
        return;
    courier->mail_due = false;
    if (!courier->written &&
        !write_step(courier,
                    nexthop_put_mail(&courier->hop, courier->envelope, step_deadline(courier)),
                    "MAIL"))
        return;
    if (read_reply(courier, "MAIL", reply, 2, step_deadline(courier)) &&
        !reply_is_positive(reply)) {
        courier->verdict = *reply;
        courier->judged = true;
    }
}

/* The reply to a command that is out; behind a refused MAIL the pipelined ones are read away and
 * the verdict on MAIL stands for them. */
static void take_reply(struct backend_courier *courier, bool out, const char *step, int good,
                       struct reply *reply, struct deadline deadline)
{
    if (!out || !courier->connected || !read_reply(courier, step, reply, good, deadline))
        reply->code = 0;
    if (courier->judged && reply->code != 421 && reply->code != 354)
        *reply = courier->verdict;
}

static void courier_recipient_reply(struct courier *base, struct reply *reply)
{
    struct backend_courier *courier = (struct backend_courier *)base;
    const struct recipient *recipient = &courier->recipients[courier->next++];

    settle_mail(courier, reply);
    bool out = courier->written;
    if (!out && !courier->judged)
        out = write_step(
            courier, nexthop_put_rcpt(&courier->hop, recipient, step_deadline(courier)), "RCPT");
    take_reply(courier, out, "RCPT", 2, reply, step_deadline(courier));
}

static bool write_data(struct backend_courier *courier)
{
    return write_step(courier, nexthop_put(&courier->hop, "DATA\r\n", step_deadline(courier)),
                      "DATA");
}

/* Where it went out together with recipients, its reply comes with theirs. Its time runs from here,
 * and what has come within it can still be read when the client has taken longer. */
static bool courier_ask_data(struct courier *base)
{
    struct backend_courier *courier = (struct backend_courier *)base;

    if (courier->judged || !courier->data_due || (courier->written && courier->count > 0))
        return false;
    if (!courier->written)
        courier->written = write_data(courier);
    courier->data_until = step_deadline(courier);
    return courier->written;
}

static void courier_data_reply(struct courier *base, struct reply *reply)
{
    struct backend_courier *courier = (struct backend_courier *)base;

    base->form = courier->chunks ? COURIER_CHUNKS : COURIER_LINES;
    if (courier->chunks && !courier->judged) {
        settle_mail(courier, reply);
        reply_own(reply, REPLY_START_DATA);
        return;
    }
    bool out = courier->written && courier->data_due;
    if (!out && courier->data_due && !courier->judged)
        out = write_data(courier);
    courier->data_due = false;
    take_reply(courier, out, "DATA", 354, reply,
               courier->data_until.at_ms != 0 ? courier->data_until : step_deadline(courier));
    if (reply->code != 354) {
        courier->verdict = *reply;
        courier->judged = true;
    }
}

static size_t total_octets(const struct iovec *iov, int count)
{
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    return total;
}

/* Reads replies to chunks until at most `left` are due. False when one was refused, or the backend
 * lost: the message is dead there, and the connection with it. */
static bool settle_chunks(struct backend_courier *courier, unsigned left, struct deadline deadline)
{
    struct reply reply;

    while (courier->chunks_due > left) {
        courier->chunks_due--;
        if (!read_reply(courier, "BDAT", &reply, 2, deadline))
            return false;
        if (!reply_is_positive(&reply)) {
            disconnect(courier, false);
            courier->verdict = reply;
            courier->judged = true;
            return false;
        }
    }
    return true;
}

static int put_chunk_head(struct backend_courier *courier, size_t octets)
{
    struct deadline deadline = deadline_in_ms(DATA_WRITE_TIMEOUT_MS);
    char head[40];

    unsigned most = pipelines(courier) ? CHUNKS_DUE_MAX : 0;
    if (courier->chunks_due > most) {
        enum io_result flushed = stream_flush(&courier->hop.stream, deadline);
        if (flushed != IO_OK)
            lose(courier, "mail data", flushed);
        if (flushed != IO_OK || !settle_chunks(courier, most / 2, step_deadline(courier)))
            return -1;
    }
    snprintf(head, sizeof head, "BDAT %zu\r\n", octets);
    enum io_result result = nexthop_put(&courier->hop, head, deadline);
    if (result != IO_OK) {
        lose(courier, "mail data", result);
        return -1;
    }
    courier->chunks_due++;
    return 0;
}

static int courier_write(struct courier *base, const struct iovec *iov, int count)
{
    struct backend_courier *courier = (struct backend_courier *)base;
    struct deadline deadline = deadline_in_ms(DATA_WRITE_TIMEOUT_MS);
    enum io_result result = IO_OK;

    if (!courier->connected || courier->judged)
        return -1;
    if (courier->chunks && put_chunk_head(courier, total_octets(iov, count)) != 0)
        return -1;
    /* A small message waits in the buffer, to leave together with its end in one segment. */
    if (courier->hop.stream.out_len + total_octets(iov, count) + 3 < OUT_BUFFER) {
        for (int i = 0; i < count && result == IO_OK; i++)
            result = stream_put(&courier->hop.stream, iov[i].iov_base, iov[i].iov_len, deadline);
    } else {
        result = stream_writev(&courier->hop.stream, iov, count, deadline);
    }
    if (result == IO_OK)
        return 0;
    lose(courier, "mail data", result);
    return -1;
}

static void courier_end(struct courier *base, struct reply *reply)
{
    struct backend_courier *courier = (struct backend_courier *)base;
    struct deadline deadline = deadline_in_ms(backend_settings(courier->backend)->reply_timeout_ms);

    courier->in_transaction = false;
    /* Where DATA was refused the transaction still stands. */
    courier->reset_due = courier->connected && courier->judged;
    if (courier->connected && !courier->judged) {
        /* The only end of data that ever leaves relay-in (promise 2). */
        enum io_result result =
            nexthop_put(&courier->hop, courier->chunks ? "BDAT 0 LAST\r\n" : ".\r\n", deadline);
        if (result == IO_OK)
            result = stream_flush(&courier->hop.stream, deadline);
        if (result != IO_OK)
            lose(courier, "end of data", result);
        else if (settle_chunks(courier, 0, deadline) &&
                 read_reply(courier, "end of data", reply, 2, deadline))
            return;
    }
    *reply = courier->verdict;
}

static void courier_reset(struct courier *base)
{
    struct backend_courier *courier = (struct backend_courier *)base;
    if (courier->in_transaction)
        courier->reset_due = courier->connected;
    courier->in_transaction = false;
    courier->judged = false;
}

static void courier_abort(struct courier *base)
{
    struct backend_courier *courier = (struct backend_courier *)base;
    disconnect(courier, false);
    courier->in_transaction = false;
    courier->judged = false;
}

static void courier_authenticate(struct courier *base, const struct client_identity *client,
                                 const char *line, size_t len, struct reply *reply)
{
    struct backend_courier *courier = (struct backend_courier *)base;
    struct deadline deadline = step_deadline(courier);

    courier->judged = false;
    snprintf(courier->session_id, sizeof courier->session_id, "%s", client->session_id);
    if (!courier->challenged)
        connect_for(courier, client);
    else
        courier->judged = !courier->connected;
    courier->challenged = false;
    if (!courier->judged) {
        enum io_result result = stream_put(&courier->hop.stream, line, len, deadline);
        if (result == IO_OK)
            result = nexthop_command(&courier->hop, "\r\n", reply, deadline);
        stream_wipe(&courier->hop.stream);
        if (result == IO_OK && reply->code < 400 && reply->code != 334 && reply->code != 235)
            result = IO_FAILED;
        if (result != IO_OK)
            lose(courier, "AUTH", result);
    }
    /* RFC 4954 6: that the server cannot be asked is 454. */
    if (courier->judged)
        reply_own(reply, REPLY_AUTH_TEMPORARY);
    else if (reply->code == 421)
        disconnect(courier, false);
    courier->challenged = reply->code == 334;
    courier->judged = false;
}

static void courier_free(struct courier *base)
{
    struct backend_courier *courier = (struct backend_courier *)base;
    disconnect(courier, true);
    stream_buffers_free(&courier->buffers);
    backend_unref(courier->backend);
    free(courier);
}

struct courier *courier_backend_new(struct backend *backend)
{
    static const struct courier_ops ops = {
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
    struct backend_courier *courier = calloc(1, sizeof *courier);

    if (courier == NULL)
        return NULL;
    if (stream_buffers_init(&courier->buffers, IN_BUFFER, OUT_BUFFER) != 0) {
        free(courier);
        return NULL;
    }
    courier->base.ops = &ops;
    courier->backend = backend_ref(backend);
    return &courier->base;
}
