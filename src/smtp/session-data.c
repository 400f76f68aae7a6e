/* smtp/session-data.c - mail data: client -> scanner -> courier, and every way it can end
 *
 * Nothing is kept: bytes are scanned where they were received and written to the next hop from
 * there. Once something is wrong (too big, a loop, bare newlines, next hop lost) the next hop is
 * dropped, the rest is read away to the end of data, and only then the client hears of it, because
 * until then it would not listen.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/session-internal.h"

#include <string.h>
#include <time.h>

#include "smtp/received.h"

struct transfer {
    struct dataline scanner;
    bool refused;           /* nothing more goes to the next hop */
    enum own_reply refusal; /* REPLY_OK: the courier knows the reply */
    uint64_t drained;
    struct deadline drain_deadline;
    bool trace_sent;
};

static size_t trace_header(struct session *session, char out[RECEIVED_MAX])
{
    struct tls_info tls;
    struct received received = {
        .helo = session->helo,
        .client = session->client.address,
        .hostname = session->rules->hostname,
        .id = session->transaction_id,
        .recipient = session->accepted == 1 ? session->recipient : NULL,
        .esmtp = session->client.esmtp,
        .utf8 = session->envelope.smtputf8,
        .when = time(NULL),
    };
    if (stream_tls_info(&session->stream, &tls))
        received.tls = &tls;
    return received_format(&received, out);
}

static void refuse(struct session *session, struct transfer *transfer, enum own_reply why)
{
    if (transfer->refused)
        return;
    transfer->refused = true;
    transfer->refusal = why;
    transfer->drain_deadline = deadline_in_ms(session->rules->drain_timeout_ms);
    /* With REPLY_OK the courier has lost its next hop and keeps the reply. */
    if (why != REPLY_OK)
        session->courier->ops->abort(session->courier);
}

/* A message that begins with a blank has no header: an empty line keeps what it says from becoming
 * part of our field, as a continuation (RFC 5322 2.2.3). */
static bool would_continue_field(const struct dataline_output *output)
{
    const char *first = output->count > 0 ? output->iov[0].iov_base : "";
    return *first == ' ' || *first == '\t';
}

static void forward(struct session *session, struct transfer *transfer,
                    const struct dataline_output *output)
{
    struct iovec iov[DATALINE_IOV + 2];
    char trace[RECEIVED_MAX];
    int count = 0;

    /* Not before it is known how the message begins. */
    if (!transfer->trace_sent && (output->count > 0 || transfer->scanner.ended)) {
        iov[count++] = (struct iovec){trace, trace_header(session, trace)};
        if (would_continue_field(output))
            iov[count++] = (struct iovec){(void *)"\r\n", 2};
        transfer->trace_sent = true;
    }
    memcpy(iov + count, output->iov, (size_t)output->count * sizeof *iov);
    count += output->count;
    if (count > 0 && session->courier->ops->write(session->courier, iov, count) != 0)
        refuse(session, transfer, REPLY_OK);
}

static void check_limits(struct session *session, struct transfer *transfer)
{
    unsigned extensions;
    if (transfer->scanner.offence)
        refuse(session, transfer, REPLY_BARE_NEWLINE);
    else if (transfer->scanner.octets > session_size_limit(session, &extensions))
        refuse(session, transfer, REPLY_TOO_BIG);
    else if (transfer->scanner.received_count > session->rules->received_headers)
        refuse(session, transfer, REPLY_TOO_MANY_HOPS);
}

/* One piece of input. The checks come before the piece goes out, so that an end of data found in it
 * is never reached by a message that failed one. */
static void take_piece(struct session *session, struct transfer *transfer, const char *bytes,
                       size_t len)
{
    struct dataline_output output;
    size_t used = dataline_scan(&transfer->scanner, bytes, len, &output);

    if (!transfer->refused)
        check_limits(session, transfer);
    if (transfer->refused)
        transfer->drained += used;
    else
        forward(session, transfer, &output);
    stream_consume(&session->stream, used);
}

static void answer(struct session *session, struct transfer *transfer)
{
    struct reply *reply = &session->scratch->reply;
    char text[256];

    if (transfer->refused && transfer->refusal != REPLY_OK)
        reply_own(reply, transfer->refusal);
    else
        session->courier->ops->end(session->courier, reply);
    const char *status = reply_is_positive(reply)    ? "delivered"
                         : reply_is_transient(reply) ? "deferred"
                                                     : "refused";
    session_log_transaction(session, status, transfer->scanner.octets,
                            reply_summary(reply, text, sizeof text));
    if (!reply_is_positive(reply))
        session_log_reject(session, "END-OF-MESSAGE", NULL, reply);
    else
        session->junk = 0;
    if (reply_is_permanent(reply))
        session_count_error(session);
    session_reply(session, reply);
    session_end_transaction(session);
}

/* The client is gone, too slow, or has more to drain than is bearable: no end of data was seen, so
 * none goes out (promise 2). */
static void give_up(struct session *session, struct transfer *transfer, enum io_result result)
{
    bool talk = result == IO_TIMEOUT || result == IO_OK;
    session->courier->ops->abort(session->courier);
    session_log_transaction(session, "aborted", transfer->scanner.octets,
                            result == IO_OK ? "too much to drain" : io_result_name(result));
    session_end_transaction(session);
    if (talk)
        session_reply_own(session, result == IO_OK ? REPLY_DRAIN_LIMIT : REPLY_DATA_TIMEOUT);
    session->vanished = !talk;
    session->closing = true;
}

static bool drained_enough(const struct session *session, const struct transfer *transfer)
{
    return transfer->refused && (transfer->drained > session->rules->drain_octets ||
                                 deadline_passed(transfer->drain_deadline));
}

void session_receive_data(struct session *session)
{
    struct transfer transfer = {.refused = false};

    dataline_init(&transfer.scanner, session->rules->bare_newlines);
    while (!transfer.scanner.ended) {
        const char *bytes;
        size_t len;
        struct deadline deadline = deadline_in_ms(session->rules->data_timeout_ms);
        if (transfer.refused)
            deadline = deadline_earlier(deadline, transfer.drain_deadline);
        enum io_result result = stream_read(&session->stream, &bytes, &len, deadline);
        if (result == IO_OK)
            take_piece(session, &transfer, bytes, len);
        if (result != IO_OK || (!transfer.scanner.ended && drained_enough(session, &transfer))) {
            give_up(session, &transfer, result);
            return;
        }
    }
    answer(session, &transfer);
}
