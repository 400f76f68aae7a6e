/* smtp/session-batch.c - recipients on their way to the courier, replies in the client's order
 *
 * A pipelining client's RCPT commands are collected until there is no further command to read. Then they
 * go to the next hop in one write, together with DATA if that came too. Replies, ours and the next
 * hop's, are sent in the order of the client's commands.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/session-internal.h"

#include <string.h>

#include "base/assert.h"
#include "base/buffer.h"

#define EARLY_DATA_MAX (1024 * 1024) /* octets: seconds on a slow line, not minutes */

/* The first recipients decide the next hop of a transaction. As long as none was accepted, another next hop
 * may replace it. */
enum own_reply session_bind_route(struct session *session, const void *route)
{
    const struct session_batch *batch = &session->batch;

    if (route != session->route) {
        if (session->accepted == 0 && batch->ask_count > 0)
            session_batch_flush(session, COURIER_NOTHING);
        if (session->accepted > 0)
            return REPLY_OTHER_BACKEND;
        if (session->courier != NULL)
            session->courier->ops->reset(session->courier);
    }
    return session_ensure_courier(session, route) ? REPLY_OK : REPLY_SERVER_BUSY;
}

void session_batch_add(struct session *session, const struct recipient *recipient,
                       enum own_reply verdict)
{
    struct session_batch *batch = &session->batch;

    ASSERT(batch->slot_count < SESSION_BATCH_MAX && batch->ask_count <= batch->slot_count);
    if (verdict == REPLY_OK) {
        recipient_copy(&session->scratch->recipients[batch->ask_count++], recipient);
        batch->slots[batch->slot_count++] = SLOT_ASK;
    } else {
        batch->slots[batch->slot_count++] = (uint8_t)verdict;
    }
    /* A backend that slows down after errors (mailcow: 10 s from the fourth error of a session) must not
     * hold a worker: as long as a client has had few good recipients, try only a few at once. */
    unsigned allowance = session->rules->refused_recipients > session->refused_recipients
                             ? session->rules->refused_recipients - session->refused_recipients
                             : 1;
    if (batch->slot_count == SESSION_BATCH_MAX || batch->ask_count >= allowance + session->accepted)
        session_batch_flush(session, COURIER_NOTHING);
}

static void session_note_recipient(struct session *session, const char *mailbox)
{
    struct buffer recipient;

    buffer_init(&recipient, session->recipient, sizeof session->recipient);
    buffer_add_some(&recipient, mailbox, strlen(mailbox));
    session->recipient_is_cut = mailbox[recipient.len] != '\0';
}

static void session_batch_count_recipient(struct session *session, const char *mailbox,
                                          const struct reply *reply)
{
    session_count_recipient(session, reply, REPLY_OK);
    if (reply_is_positive(reply)) {
        if (session->accepted++ == 0)
            session_note_recipient(session, mailbox);
        return;
    }
    session->refused++;
    if (reply_is_permanent(reply)) {
        session->refused_recipients++;
        session->errors++;
    }
    session_log_reject(session, "RCPT", mailbox, reply);
}

/* A next hop's 421 is only passed on, and ends the session, if no other reply is pending. */
static void session_put_in_order(struct session *session, struct reply *reply, bool last)
{
    if (reply->code == 421 && !last)
        reply_own(reply, REPLY_BACKEND_LOST);
    session_reply(session, reply);
}

static void session_answer_slots(struct session *session, bool data)
{
    struct session_batch *batch = &session->batch;
    struct reply *reply = &session->scratch->reply;
    unsigned asked = 0;

    for (unsigned i = 0; i < batch->slot_count; i++) {
        if (batch->slots[i] == SLOT_ASK) {
            const char *mailbox = session->scratch->recipients[asked++].path.mailbox;
            session->courier->ops->recipient_reply(session->courier, reply);
            session_batch_count_recipient(session, mailbox, reply);
        } else {
            reply_own(reply, (enum own_reply)batch->slots[i]);
        }
        session_put_in_order(session, reply, i + 1 == batch->slot_count && !data);
    }
    batch->slot_count = 0;
    batch->ask_count = 0;
}

/* May the client get 354 before the next hop's? The next hop's 354 then arrives while the message is on its
 * way, which saves the client a round trip. If the next hop refuses, which is rare at DATA, the message came
 * for nothing, so never do it for one that announces a large size. */
static bool session_may_begin_early(const struct session *session)
{
    const struct courier_ops *ops = session->courier->ops;
    return session->accepted > 0 && session->envelope->size <= EARLY_DATA_MAX &&
           !stream_has_input(&session->stream) && ops->ask_data != NULL &&
           ops->ask_data(session->courier);
}

/* Passes 354 on only if a recipient was accepted: otherwise a pipelining client would send a lone dot, which
 * some next hops take as an empty message. */
static bool session_await_data(struct session *session, enum courier_data data)
{
    struct reply *reply = &session->scratch->reply;
    struct courier *courier = session->courier;

    session->data_reply_due = data == COURIER_DATA && session_may_begin_early(session);
    if (session->data_reply_due)
        return true;
    courier->ops->data_reply(courier, reply);
    if (session->accepted > 0)
        return reply->code == 354;
    if (reply->code == 354)
        courier->ops->abort(courier);
    reply_own(reply, REPLY_NO_VALID_RECIPIENTS);
    session->errors++;
    return false;
}

bool session_batch_flush(struct session *session, enum courier_data data)
{
    struct session_batch *batch = &session->batch;
    struct reply *reply = &session->scratch->reply;

    if (batch->slot_count == 0 && data == COURIER_NOTHING)
        return false;
    bool ask = batch->ask_count > 0 || (data != COURIER_NOTHING && session->accepted > 0);
    if (ask && !session_ensure_courier(session, session->route)) {
        reply_own(reply, REPLY_SERVER_BUSY);
        if (data == COURIER_NOTHING)
            session_reply(session, reply);
        return false;
    }
    if (ask)
        session->courier->ops->send(session->courier, session->envelope,
                                    session->scratch->recipients, batch->ask_count, data);
    session_answer_slots(session, data != COURIER_NOTHING);
    if (data == COURIER_NOTHING)
        return false;
    if (ask)
        return session_await_data(session, data);
    reply_own(reply, REPLY_NO_VALID_RECIPIENTS);
    session->errors++;
    return false;
}
