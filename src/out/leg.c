/* out/leg.c - one next hop of a transaction: the dialog from MAIL to the final reply
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "out/leg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define IN_BUFFER (8 * 1024)   /* replies */
#define OUT_BUFFER (16 * 1024) /* a batch of commands, or a small message */

struct leg *leg_new(const struct outbound *out, const struct route *route, const char *domain,
                    const struct envelope *envelope)
{
    struct leg *leg = calloc(1, sizeof *leg);

    if (leg == NULL)
        return NULL;
    if (stream_buffers_init(&leg->buffers, IN_BUFFER, OUT_BUFFER) != 0) {
        free(leg);
        return NULL;
    }
    leg->out = out;
    leg->route = route;
    leg->envelope = envelope;
    leg->session = envelope->client->session_id;
    snprintf(leg->domain, sizeof leg->domain, "%s", domain);
    route_key(route, domain, leg->key);
    leg->mail_due = true;
    return leg;
}

static void disconnect(struct leg *leg, bool orderly)
{
    if (leg->connected)
        contact_end(leg->out, &leg->remote, orderly);
    leg->connected = false;
}

static void keep(struct leg *leg)
{
    struct stream *stream = &leg->remote.hop.stream;

    leg->remote.messages++;
    if (stream_has_input(stream) || stream->broken) {
        disconnect(leg, false);
        return;
    }
    stream_reclaim(stream);
    leg->connected = false;
    remotes_keep(leg->out->remotes, &leg->remote, leg->out->config->out.reuse_for_ms);
}

/* Nothing is under way there: RSET is all it takes before the next message. */
static bool is_clean(const struct leg *leg)
{
    return leg->connected && !leg->in_data && !leg->data_due && !leg->mail_due &&
           leg->next == leg->batch_count;
}

void leg_free(struct leg *leg)
{
    if (leg == NULL)
        return;
    if (is_clean(leg))
        keep(leg);
    disconnect(leg, !leg->in_data && !leg->data_due);
    stream_buffers_free(&leg->buffers);
    free(leg);
}

static struct deadline step(const struct leg *leg)
{
    struct deadline deadline = deadline_in_ms(leg->out->config->out.timeouts.reply);
    return leg->until.at_ms != 0 ? deadline_earlier(deadline, leg->until) : deadline;
}

static void judge(struct leg *leg, enum own_reply why)
{
    reply_own(&leg->verdict, why);
    leg->judged = leg->ours = true;
}

/* The next hop closed, stalled or talked garbage. Whatever was under way there must not end well. */
static void lose(struct leg *leg, const char *at, enum io_result result)
{
    struct log_line line;

    log_begin(&line, LOG_LEVEL_INFO, "");
    log_text(&line, "%s while %s with %s",
             result == IO_FAILED ? "lost connection or garbage" : io_result_name(result), at,
             leg->remote.name);
    log_str(&line, "session", leg->session);
    log_end(&line);
    disconnect(leg, false);
    judge(leg, REPLY_REMOTE_LOST);
}

/* A client of ours may wait for ENHANCEDSTATUSCODES on every reply (RFC 2034 4), and must never hear
 * 421, which Postfix takes for this host's own. */
static void make_fit(struct reply *reply)
{
    if (reply->code == 421)
        reply->code = 451;
    if (reply->enhanced[0] == '\0' && reply->code != 354)
        snprintf(reply->enhanced, sizeof reply->enhanced, "%c.0.0", '0' + reply->code / 100 % 10);
}

/* False when the next hop was lost: the verdict is then set. A 421 ends its side of the connection
 * (RFC 5321 3.8). */
static bool read_reply(struct leg *leg, const char *at, struct reply *reply,
                       struct deadline deadline)
{
    enum io_result result = reply_read(&leg->remote.hop.stream, reply, deadline);
    if (result != IO_OK) {
        lose(leg, at, result);
        return false;
    }
    bool leaves = reply->code == 421;
    make_fit(reply);
    if (leaves) {
        disconnect(leg, false);
        leg->verdict = *reply;
        leg->judged = true;
    }
    return true;
}

/* The same where only yes and no are answers: after a 3xx (RFC 5321 4.2.1) the two sides no longer
 * mean the same, and our client would be told to go on where there is nothing to go on with. */
static bool read_verdict(struct leg *leg, const char *at, struct reply *reply,
                         struct deadline deadline)
{
    if (!read_reply(leg, at, reply, deadline))
        return false;
    if (reply->code >= 400 || reply_is_positive(reply))
        return true;
    lose(leg, at, IO_FAILED);
    return false;
}

void leg_contact(struct leg *leg, struct deadline deadline)
{
    struct contact contact = {
        .out = leg->out,
        .route = leg->route,
        .domain = leg->domain,
        .session = leg->session,
        .buffers = &leg->buffers,
        .deadline = deadline,
        .remote = &leg->remote,
        .verdict = &leg->verdict,
    };
    if (leg->contacted)
        return;
    leg->contacted = true;
    leg->connected = contact_make(&contact) == 0;
    contact_clear(&contact);
    leg->judged = leg->ours = !leg->connected;
    leg->unreachable = !leg->connected && !contact.busy;
}

/* What this next hop cannot take. Without 8BITMIME the octets go there all the same, as from every
 * other host. */
static enum own_reply lacks(const struct leg *leg)
{
    const struct nexthop_capabilities *has = &leg->remote.hop.capabilities;
    if (leg->envelope->smtputf8 && !(has->extensions & NEXTHOP_SMTPUTF8))
        return REPLY_UTF8_UNSUPPORTED;
    if (has->size_limit > 0 && leg->envelope->size > has->size_limit)
        return REPLY_REMOTE_TOO_BIG;
    return REPLY_OK;
}

static enum io_result write_batch(struct leg *leg)
{
    struct nexthop *hop = &leg->remote.hop;
    enum io_result result = IO_OK;

    if (leg->mail_due)
        result = nexthop_put_mail(hop, leg->envelope, step(leg));
    for (size_t i = 0; i < leg->batch_count && result == IO_OK; i++)
        result = nexthop_put_rcpt(hop, leg->batch[i], step(leg));
    return result == IO_OK ? stream_flush(&hop->stream, step(leg)) : result;
}

void leg_send_batch(struct leg *leg)
{
    leg->next = 0;
    leg->written = false;
    if (!leg->judged && lacks(leg) != REPLY_OK)
        judge(leg, lacks(leg));
    if (leg->judged || leg->batch_count == 0 ||
        !(leg->remote.hop.capabilities.extensions & NEXTHOP_PIPELINING))
        return;
    enum io_result result = write_batch(leg);
    leg->written = result == IO_OK;
    if (result != IO_OK)
        lose(leg, "sending MAIL and RCPT", result);
}

/* Lock-step: writes the command that the pipelined way has written already. */
static bool write_step(struct leg *leg, enum io_result result, const char *at)
{
    if (result == IO_OK)
        result = stream_flush(&leg->remote.hop.stream, step(leg));
    if (result != IO_OK)
        lose(leg, at, result);
    return result == IO_OK;
}

static void settle_mail(struct leg *leg, struct reply *reply)
{
    if (!leg->mail_due || leg->judged)
        return;
    leg->mail_due = false;
    if (!leg->written &&
        !write_step(leg, nexthop_put_mail(&leg->remote.hop, leg->envelope, step(leg)),
                    "sending MAIL"))
        return;
    if (read_verdict(leg, "sending MAIL", reply, step(leg)) && !leg->judged &&
        !reply_is_positive(reply)) {
        leg->verdict = *reply;
        leg->judged = true;
    }
}

/* Behind a refusal the replies to what was pipelined are read away. A next hop that hangs up instead
 * of giving them has refused all the same: the verdict stays. */
static void skip_reply(struct leg *leg)
{
    const struct reply verdict = leg->verdict;
    struct reply skipped;
    bool ours = leg->ours;

    if (!leg->written || !leg->connected)
        return;
    read_reply(leg, "sending RCPT", &skipped, step(leg));
    leg->verdict = verdict;
    leg->ours = ours;
}

void leg_recipient_reply(struct leg *leg, struct reply *reply)
{
    const struct recipient *recipient = leg->batch[leg->next++];

    settle_mail(leg, reply);
    if (leg->judged) {
        skip_reply(leg);
        *reply = leg->verdict;
        return;
    }
    bool out =
        leg->written ||
        write_step(leg, nexthop_put_rcpt(&leg->remote.hop, recipient, step(leg)), "sending RCPT");
    if (!out || !read_verdict(leg, "sending RCPT", reply, step(leg)))
        *reply = leg->verdict;
    leg->accepted += reply_is_positive(reply);
}

void leg_send_data(struct leg *leg)
{
    if (leg->judged)
        return;
    enum io_result result = nexthop_put(&leg->remote.hop, "DATA\r\n", step(leg));
    if (result == IO_OK)
        result = stream_flush(&leg->remote.hop.stream, step(leg));
    leg->data_due = result == IO_OK;
    if (result != IO_OK)
        lose(leg, "sending DATA", result);
}

bool leg_data_reply(struct leg *leg)
{
    struct reply reply;

    leg->data_due = false;
    if (leg->judged || !read_reply(leg, "sending DATA", &reply, step(leg)) || leg->judged)
        return false;
    leg->in_data = reply.code == 354;
    if (leg->in_data)
        return true;
    /* RFC 5321 3.3: anything else but a refusal is out of order. */
    if (reply.code < 400)
        lose(leg, "sending DATA", IO_FAILED);
    leg->judged = true;
    if (reply.code >= 400)
        leg->verdict = reply;
    return false;
}

static size_t total_octets(const struct iovec *iov, int count)
{
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    return total;
}

void leg_write(struct leg *leg, const struct iovec *iov, int count)
{
    struct stream *stream = &leg->remote.hop.stream;
    struct deadline deadline = deadline_in_ms(leg->out->config->out.timeouts.data_block);
    enum io_result result = IO_OK;

    /* A small message waits in the buffer, to leave together with its end in one segment. */
    if (stream->out_len + total_octets(iov, count) + 3 < OUT_BUFFER) {
        for (int i = 0; i < count && result == IO_OK; i++)
            result = stream_put(stream, iov[i].iov_base, iov[i].iov_len, deadline);
    } else {
        result = stream_writev(stream, iov, count, deadline);
    }
    if (result != IO_OK) {
        lose(leg, "sending message body", result);
        leg->in_data = false;
    }
}

void leg_send_end(struct leg *leg)
{
    struct deadline deadline = deadline_in_ms(leg->out->config->out.timeouts.data_block);
    /* The only end of data that ever leaves relay-out (promise 2). */
    enum io_result result = nexthop_put(&leg->remote.hop, ".\r\n", deadline);
    if (result == IO_OK)
        result = stream_flush(&leg->remote.hop.stream, deadline);
    if (result == IO_OK)
        return;
    lose(leg, "sending end of data", result);
    leg->in_data = false;
}

void leg_final_reply(struct leg *leg, struct deadline deadline)
{
    struct reply reply;

    leg->in_data = false;
    if (!read_verdict(leg, "sending end of data -- message may be sent more than once", &reply,
                      deadline) ||
        leg->judged)
        return;
    leg->verdict = reply;
    leg->judged = true;
    keep(leg);
}

const char *leg_relay(const struct leg *leg)
{
    return leg->remote.name[0] != '\0' ? leg->remote.name : "none";
}
