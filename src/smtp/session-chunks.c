/* smtp/session-chunks.c - mail data that comes by BDAT (RFC 3030)
 *
 * A chunk follows its command at once, asked for or not: whatever the answer is, its octets are read
 * first. To a next hop without CHUNKING the message goes as lines behind DATA.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/session-internal.h"

#include <string.h>

/* Only what cannot be read at all is refused here: where the chunk ends is then not known. */
enum own_reply session_check_bdat(struct session *session, const struct command *command)
{
    struct session_offer offer;
    uint64_t octets;
    bool last;

    session_offer(session, &offer);
    if (!(offer.extensions & EXTENSION_CHUNKING) && session->state != STATE_CHUNKS)
        return REPLY_NOT_IMPLEMENTED;
    return command_parse_bdat(command, &octets, &last) ? REPLY_OK : REPLY_BAD_ARGUMENT;
}

/* Reads `octets` away, within what is bearable for a message that has failed. */
static bool skip(struct session *session, uint64_t octets)
{
    struct deadline deadline = deadline_in_ms(session->rules->drain_timeout_ms);

    if (octets > session->rules->drain_octets)
        return false;
    while (octets > 0) {
        const char *bytes;
        size_t len;
        struct deadline next = deadline_in_ms(session->rules->data_timeout_ms);
        enum io_result result =
            stream_read(&session->stream, &bytes, &len, deadline_earlier(next, deadline));
        if (result != IO_OK) {
            session->vanished = result != IO_TIMEOUT;
            return false;
        }
        len = len < octets ? len : (size_t)octets;
        stream_consume(&session->stream, len);
        octets -= len;
    }
    return true;
}

void session_skip_chunk(struct session *session, uint64_t octets, const struct reply *why)
{
    struct reply reply = *why;
    session_log_reject(session, "BDAT", NULL, &reply);
    if (skip(session, octets)) {
        session_reply(session, &reply);
    } else if (!session->vanished) {
        session_reply_own(session, REPLY_DRAIN_LIMIT);
    }
}

static void skip_out_of_sequence(struct session *session, uint64_t octets)
{
    struct reply reply;
    reply_own(&reply, session->state == STATE_CONNECTED ? REPLY_HELO_FIRST
                      : session->state == STATE_READY   ? REPLY_MAIL_FIRST
                                                        : REPLY_RCPT_FIRST);
    session_count_error(session);
    session_skip_chunk(session, octets, &reply);
}

/* The first chunk: the next hop is asked for everything before it. False when the chunk has been
 * answered already. */
static bool begin(struct session *session, uint64_t octets)
{
    bool binary = session->envelope.body == MAIL_BODY_BINARYMIME;

    if (!session_batch_flush(session, COURIER_CHUNKED_DATA)) {
        session_skip_chunk(session, octets, &session->scratch->reply);
        session_end_transaction(session);
        return false;
    }
    session_flush(session);
    session_transfer_begin(session, session->courier->form == COURIER_LINES ? DATALINE_STUFF
                                    : binary                                ? DATALINE_BINARY
                                                                            : DATALINE_CHUNKS);
    session->state = STATE_CHUNKS;
    return true;
}

static bool receive(struct session *session, uint64_t octets)
{
    while (octets > 0) {
        const char *bytes;
        size_t len;
        enum io_result result =
            stream_read(&session->stream, &bytes, &len, session_data_deadline(session));
        if (result == IO_OK) {
            len = len < octets ? len : (size_t)octets;
            session_transfer_take(session, bytes, len);
            stream_consume(&session->stream, len);
            octets -= len;
        }
        if (result != IO_OK || (octets > 0 && session_drained_enough(session))) {
            session_transfer_give_up(session, result);
            return false;
        }
    }
    return true;
}

void session_act_bdat(struct session *session, const struct command *command)
{
    uint64_t octets = 0;
    bool last = false;

    command_parse_bdat(command, &octets, &last);
    if (session->state != STATE_CHUNKS) {
        if (session->state != STATE_RCPT) {
            session_batch_flush(session, COURIER_NOTHING);
            skip_out_of_sequence(session, octets);
            return;
        }
        if (!begin(session, octets))
            return;
    }
    if (!receive(session, octets))
        return;
    if (last)
        session_transfer_finish(session);
    /* Once it has failed, the client hears so at once, and the rest is out of sequence. */
    if (last || session->transfer.refused)
        session_transfer_answer(session);
    else
        session_reply_own(session, REPLY_CHUNK_OK);
}
