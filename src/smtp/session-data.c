/* smtp/session-data.c - mail data: client -> scanner -> courier, and every way it can end
 *
 * Nothing is stored: bytes are scanned in the receive buffer and written to the next hop from there. If
 * something is wrong (too big, a loop, bare newlines, next hop lost), the next hop is dropped and the rest
 * is discarded up to the end of data. Only then is the client told, because it would not listen earlier.
 * The same happens if the next hop refuses DATA after the client was told to begin.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/session-internal.h"

#include <string.h>
#include <time.h>

#include "smtp/received.h"

static size_t session_trace_header(struct session *session, char out[RECEIVED_MAX])
{
    struct tls_info tls;
    struct reverse_names names;
    struct received received = {
        .helo = session->helo,
        .client_name = session_client_name(session, &names),
        .client = session->client.address,
        .hostname = session->rules->hostname,
        .id = session->transaction_id,
        .recipient =
            session->accepted == 1 && !session->recipient_is_cut ? session->recipient : NULL,
        .hide_client = session->rules->hide_client,
        .esmtp = session->client.esmtp,
        .authenticated = session->client.authenticated,
        .utf8 = session->envelope->smtputf8,
        .when = time(NULL),
    };
    if (stream_tls_info(&session->stream, &tls))
        received.tls = &tls;
    return received_format(&received, out);
}

static void session_data_refuse(struct session *session, enum own_reply why)
{
    struct transfer *transfer = &session->transfer;
    if (transfer->refused)
        return;
    transfer->refused = true;
    transfer->refusal = why;
    transfer->drain_deadline = deadline_in_ms(session->rules->drain_timeout_ms);
    /* With REPLY_OK the courier has lost its next hop, or was refused, and keeps the reply. */
    if (why != REPLY_OK)
        session->courier->ops->abort(session->courier);
}

/* What is sent in one write: the scanner's pieces, and what is inserted between them. */
struct forward_pieces {
    struct iovec iov[2 * DATALINE_IOV + 6];
    int count;
};

static void session_forward_add(struct forward_pieces *pieces, const char *bytes, size_t len)
{
    if (len > 0)
        pieces->iov[pieces->count++] = (struct iovec){(void *)bytes, len};
}

/* Adds our trace field; the message follows. If the message begins with a blank it has no header: an empty line
 * keeps its text from becoming a continuation of our field (RFC 5322 2.2.3). */
static void session_forward_add_trace(struct session *session, struct forward_pieces *pieces,
                                      char trace[RECEIVED_MAX], char first)
{
    session_forward_add(pieces, trace, session_trace_header(session, trace));
    if (first == ' ' || first == '\t')
        session_forward_add(pieces, "\r\n", 2);
    session->transfer.trace_sent = true;
}

/* Adds a piece before it is known where the message proper begins: mailbox file lines go before our field. */
static void session_forward_first(struct session *session, struct forward_pieces *pieces,
                                  const struct iovec *piece, char trace[RECEIVED_MAX])
{
    struct mbox_lines *mbox = &session->transfer.mbox;
    const char *bytes = piece->iov_base;
    size_t held_len, sure;
    const char *held = mbox_held(mbox, &held_len);

    sure = mbox_take(mbox, bytes, piece->iov_len);
    if (sure > 0) {
        session_forward_add(pieces, held, held_len);
        session_forward_add(pieces, bytes, sure);
        held_len = 0;
    }
    if (!mbox->over)
        return;
    session_forward_add_trace(session, pieces, trace, held_len > 0 ? *held : bytes[sure]);
    session_forward_add(pieces, held, held_len);
    session_forward_add(pieces, bytes + sure, piece->iov_len - sure);
}

static void session_forward(struct session *session, const struct dataline_output *output)
{
    struct transfer *transfer = &session->transfer;
    struct forward_pieces pieces;
    char trace[RECEIVED_MAX];
    int i = 0;

    pieces.count = 0; /* and no more: there is room for many */
    while (i < output->count && !transfer->trace_sent)
        session_forward_first(session, &pieces, &output->iov[i++], trace);
    if (transfer->scanner.ended && !transfer->trace_sent) {
        size_t held_len;
        const char *held = mbox_held(&transfer->mbox, &held_len);
        session_forward_add_trace(session, &pieces, trace, '\0');
        session_forward_add(&pieces, held, held_len);
    }
    for (; i < output->count; i++)
        pieces.iov[pieces.count++] = output->iov[i];
    if (pieces.count > 0 &&
        session->courier->ops->write(session->courier, pieces.iov, pieces.count) != 0)
        session_data_refuse(session, REPLY_OK);
}

/* With SMTPUTF8, a header in UTF-8 needs it at the next hop too. Without, it is passed on anyway: such mail has
 * always existed. */
static void session_check_header(struct session *session)
{
    struct envelope *envelope = session->envelope;

    if (!envelope->smtputf8 || envelope->is_utf8 || !session->transfer.scanner.header_is_utf8)
        return;
    envelope->is_utf8 = true;
    /* If only this route lacks it, trying again does not help (RFC 6531 3.5). */
    if (session_check_utf8(session, session->route) == REPLY_UTF8_UNSUPPORTED)
        session_data_refuse(session, REPLY_UTF8_HEADER_UNSUPPORTED);
}

static void session_check_limits(struct session *session)
{
    const struct dataline *scanner = &session->transfer.scanner;

    if (scanner->offence)
        session_data_refuse(session, REPLY_BARE_NEWLINE);
    else if (scanner->octets > session->transfer.size_limit)
        session_data_refuse(session, REPLY_TOO_BIG);
    else if (scanner->received_count > session->rules->received_headers)
        session_data_refuse(session, REPLY_TOO_MANY_HOPS);
    else
        session_check_header(session);
}

void session_transfer_begin(struct session *session, enum dataline_form form)
{
    struct session_offer offer;

    session_offer_route(session, session->route, &offer);
    memset(&session->transfer, 0, sizeof session->transfer);
    session->transfer.size_limit = offer.size_limit;
    dataline_init(&session->transfer.scanner, session->rules->bare_newlines, form);
}

/* Takes as much as the scanner does, which stops at the end of data. The checks come before the piece is sent, so
 * that a message that fails one never reaches its end of data. */
static size_t session_take_piece(struct session *session, const char *bytes, size_t len)
{
    struct transfer *transfer = &session->transfer;
    struct dataline_output output;
    size_t used = dataline_scan(&transfer->scanner, bytes, len, &output);

    if (!transfer->refused)
        session_check_limits(session);
    if (transfer->refused)
        transfer->drained += used;
    else
        session_forward(session, &output);
    return used;
}

void session_transfer_take(struct session *session, const char *bytes, size_t len)
{
    for (size_t used = 0; used < len && !session->transfer.scanner.ended;)
        used += session_take_piece(session, bytes + used, len - used);
}

void session_transfer_finish(struct session *session)
{
    struct dataline_output output;
    dataline_finish(&session->transfer.scanner, &output);
    if (!session->transfer.refused)
        session_check_limits(session);
    if (!session->transfer.refused)
        session_forward(session, &output);
}

void session_transfer_answer(struct session *session)
{
    struct transfer *transfer = &session->transfer;
    struct reply *reply = &session->scratch->reply;
    char text[256];

    session_enter(session, PHASE_COMMAND);
    session->state = STATE_RCPT;
    if (transfer->refused && transfer->refusal != REPLY_OK)
        reply_own(reply, transfer->refusal);
    else
        session->courier->ops->end(session->courier, reply);
    enum session_outcome outcome = reply_is_transient(reply)   ? SESSION_DEFERRED
                                   : !reply_is_positive(reply) ? SESSION_REFUSED
                                   : session->courier->stored  ? SESSION_STORED
                                                               : SESSION_DELIVERED;
    session_end_message(session, outcome, transfer->scanner.octets,
                        reply_summary(reply, text, sizeof text));
    if (!reply_is_positive(reply))
        session_log_reject(session, "END-OF-MESSAGE", NULL, reply);
    else
        session->junk = 0;
    if (reply_is_permanent(reply))
        session->errors++;
    session_reply(session, reply);
    session_end_transaction(session);
}

/* No end of data was seen, so none is sent (promise 2). */
void session_transfer_give_up(struct session *session, enum io_result result)
{
    bool talk = result == IO_TIMEOUT || result == IO_OK;

    session_enter(session, PHASE_COMMAND);
    session->courier->ops->abort(session->courier);
    session->state = STATE_RCPT;
    session_end_message(session, SESSION_ABORTED, session->transfer.scanner.octets,
                        result == IO_OK ? "too much data to discard" : io_result_name(result));
    session_end_transaction(session);
    if (talk)
        session_reply_own(session, result == IO_OK ? REPLY_DRAIN_LIMIT : REPLY_DATA_TIMEOUT);
    session->vanished = !talk;
    session->closing = true;
}

bool session_drained_enough(const struct session *session)
{
    const struct transfer *transfer = &session->transfer;
    return transfer->refused && (transfer->drained > session->rules->drain_octets ||
                                 deadline_passed(transfer->drain_deadline));
}

/* Reads the next hop's reply to DATA, which matters now. The wait does not count as the client's time. */
static void session_hear_next_hop(struct session *session)
{
    struct reply *reply = &session->scratch->reply;
    const int64_t since = session->heard_ms; /* just now */

    session->data_reply_due = false;
    session->courier->ops->data_reply(session->courier, reply);
    if (reply->code != 354)
        session_data_refuse(session, REPLY_OK);
    session->heard_ms = deadline_now_ms();
    session->data_since_ms += session->heard_ms - since;
    session->transfer.began_ms += session->heard_ms - since;
}

void session_take_data(struct session *session, const struct session_input *input)
{
    const struct dataline *scanner = &session->transfer.scanner;

    if (input->result == IO_OK && session->data_reply_due)
        session_hear_next_hop(session);
    if (input->result == IO_OK)
        session_consume(session, session_take_piece(session, input->line.text, input->line.len));
    if (input->result != IO_OK || (!scanner->ended && session_drained_enough(session)))
        session_transfer_give_up(session, input->result);
    else if (scanner->ended)
        session_transfer_answer(session);
}
