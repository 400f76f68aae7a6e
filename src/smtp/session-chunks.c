/* smtp/session-chunks.c - mail data sent with BDAT (RFC 3030)
 *
 * A chunk follows its command at once, so its octets are read before any reply. A next hop without
 * CHUNKING gets the message as lines after DATA.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/session-internal.h"

#include <stdlib.h>

/* Refuses only a malformed command: then the end of the chunk is unknown. */
enum own_reply session_check_bdat(struct session *session, const struct command *command)
{
    struct session_offer offer;
    uint64_t octets;
    bool last;

    session_offer(session, &offer);
    unsigned offered = session->state == STATE_CONNECTED ? offer.extensions : session->offered;
    if (!(offered & EXTENSION_CHUNKING))
        return REPLY_NOT_IMPLEMENTED;
    return command_parse_bdat(command, &octets, &last) ? REPLY_OK : REPLY_BAD_ARGUMENT;
}

/* Reads and discards a chunk that cannot be used, within limits, and then replies with `why`. */
static void session_skip_chunk(struct session *session, uint64_t octets, const struct reply *why)
{
    session_log_reject(session, "BDAT", NULL, why);
    if (octets == 0) {
        session_reply(session, why);
        return;
    }
    session->pending_reply = malloc(sizeof *session->pending_reply);
    if (octets > session->rules->drain_octets || session->pending_reply == NULL) {
        session_reply_own(session, REPLY_DRAIN_LIMIT);
        return;
    }
    *session->pending_reply = *why;
    session->chunk_left = octets;
    session_enter_data(session, PHASE_SKIP);
}

void session_take_skipped(struct session *session, const struct session_input *input)
{
    if (input->result == IO_OK) {
        uint64_t left = session->chunk_left, len = input->line.len;
        session->chunk_left -= len < left ? len : left;
        session_consume(session, (size_t)(left - session->chunk_left));
        if (session->chunk_left > 0)
            return;
        session_reply(session, session->pending_reply);
    } else if (input->result == IO_TIMEOUT) {
        session_reply_own(session, REPLY_DRAIN_LIMIT);
    } else {
        session->vanished = true;
    }
    session_enter(session, PHASE_COMMAND);
    free(session->pending_reply);
    session->pending_reply = NULL;
}

static void session_skip_out_of_sequence(struct session *session, uint64_t octets)
{
    struct reply reply;
    reply_own(&reply, session->state == STATE_CONNECTED ? REPLY_HELO_FIRST
                      : session->state == STATE_READY   ? REPLY_MAIL_FIRST
                                                        : REPLY_RCPT_FIRST);
    session->errors++;
    session_skip_chunk(session, octets, &reply);
}

/* Handles the first chunk: asks the next hop about everything before it. False if the chunk already has its
 * reply. */
static bool session_begin(struct session *session, uint64_t octets)
{
    bool binary = session->envelope->body == MAIL_BODY_BINARYMIME;

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

static void session_answer_chunk(struct session *session)
{
    session_enter(session, PHASE_COMMAND);
    if (session->chunk_last)
        session_transfer_finish(session);
    /* After a failure, tell the client at once; further chunks are out of sequence. */
    if (session->chunk_last || session->transfer.refused)
        session_transfer_answer(session);
    else
        session_reply_own(session, REPLY_CHUNK_OK);
}

void session_take_chunk(struct session *session, const struct session_input *input)
{
    if (input->result == IO_OK) {
        size_t len = input->line.len;
        if (len > session->chunk_left)
            len = (size_t)session->chunk_left;
        session_transfer_take(session, input->line.text, len);
        session_consume(session, len);
        session->chunk_left -= len;
    }
    if (input->result != IO_OK || (session->chunk_left > 0 && session_drained_enough(session)))
        session_transfer_give_up(session, input->result);
    else if (session->chunk_left == 0)
        session_answer_chunk(session);
}

void session_act_bdat(struct session *session, const struct command *command)
{
    uint64_t octets = 0;

    command_parse_bdat(command, &octets, &session->chunk_last);
    if (session->state != STATE_CHUNKS) {
        if (session->state != STATE_RCPT) {
            session_batch_flush(session, COURIER_NOTHING);
            session_skip_out_of_sequence(session, octets);
            return;
        }
        if (!session_begin(session, octets))
            return;
        session_enter_data(session, PHASE_CHUNK);
    }
    session->chunk_left = octets;
    session->heard_ms = deadline_now_ms();
    session_enter(session, PHASE_CHUNK);
    if (octets == 0)
        session_answer_chunk(session);
}
