/* smtp/session-chunks.c - mail data that comes by BDAT (RFC 3030)
 *
 * A chunk follows its command at once, asked for or not: whatever the answer is, its octets are
 * read first. To a next hop without CHUNKING the message goes as lines behind DATA.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/session-internal.h"

#include <stdlib.h>

/* Only what cannot be read at all is refused here: where the chunk ends is then not known. */
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

/* Read away within what is bearable for a message that has failed. */
void session_skip_chunk(struct session *session, uint64_t octets, const struct reply *why)
{
    session->owed = malloc(sizeof *session->owed);
    if (octets > session->rules->drain_octets || session->owed == NULL) {
        session_reply_own(session, REPLY_DRAIN_LIMIT);
        return;
    }
    *session->owed = *why;
    session_log_reject(session, "BDAT", NULL, session->owed);
    session->chunk_left = octets;
    session_start_data(session, INPUT_SKIP);
}

bool session_continue_skip(struct session *session)
{
    enum io_result result = IO_OK;

    while (session->chunk_left > 0 && result == IO_OK) {
        const char *bytes;
        size_t len;
        if (!session_read(session, &bytes, &len, &result))
            return false;
        if (result != IO_OK)
            break;
        len = len < session->chunk_left ? len : (size_t)session->chunk_left;
        session_consume(session, len);
        session->chunk_left -= len;
    }
    session_end_input(session);
    if (result == IO_OK)
        session_reply(session, session->owed);
    else if (result == IO_TIMEOUT)
        session_reply_own(session, REPLY_DRAIN_LIMIT);
    else
        session->vanished = true;
    free(session->owed);
    session->owed = NULL;
    return true;
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

static void answer_chunk(struct session *session)
{
    if (session->chunk_last)
        session_transfer_finish(session);
    /* Once it has failed, the client hears so at once, and the rest is out of sequence. */
    if (session->chunk_last || session->transfer.refused)
        session_transfer_answer(session);
    else
        session_reply_own(session, REPLY_CHUNK_OK);
}

bool session_continue_chunk(struct session *session)
{
    while (session->chunk_left > 0) {
        const char *bytes;
        size_t len;
        enum io_result result;
        if (!session_read(session, &bytes, &len, &result))
            return false;
        if (result == IO_OK) {
            len = len < session->chunk_left ? len : (size_t)session->chunk_left;
            session_transfer_take(session, bytes, len);
            session_consume(session, len);
            session->chunk_left -= len;
        }
        if (result != IO_OK || (session->chunk_left > 0 && session_drained_enough(session))) {
            session_end_input(session);
            session_transfer_give_up(session, result);
            return true;
        }
    }
    session_end_input(session);
    answer_chunk(session);
    return true;
}

void session_act_bdat(struct session *session, const struct command *command)
{
    uint64_t octets = 0;

    command_parse_bdat(command, &octets, &session->chunk_last);
    if (session->state != STATE_CHUNKS) {
        if (session->state != STATE_RCPT) {
            session_batch_flush(session, COURIER_NOTHING);
            skip_out_of_sequence(session, octets);
            return;
        }
        if (!begin(session, octets))
            return;
        session_start_data(session, INPUT_CHUNK);
    }
    session->chunk_left = octets;
    session->input = INPUT_CHUNK;
    session->heard_ms = deadline_now_ms();
}
