/* out/leg.c - one next hop of a message: its destination, its connection, its transaction
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "out/leg.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

#define IN_BUFFER (8 * 1024)   /* replies */
#define OUT_BUFFER (16 * 1024) /* a batch of commands, or a small message */

static struct leg *leg_of(struct transaction *transaction)
{
    return (struct leg *)((char *)transaction - offsetof(struct leg, transaction));
}

static void leg_log_lost(struct transaction *transaction, const char *step, const char *reason,
                         const char *said)
{
    struct leg *leg = leg_of(transaction);
    struct log_line line;

    log_begin(&line, LOG_LEVEL_INFO, "");
    log_text(&line, "%s while sending %s%s with %s", reason, step,
             transaction->unconfirmed ? " -- message may be sent more than once" : "",
             leg->remote.name);
    if (*said != '\0')
        log_str(&line, "line", said);
    log_str(&line, "session", leg->session);
    log_end(&line);
}

static void leg_closed(struct transaction *transaction)
{
    const struct leg *leg = leg_of(transaction);
    remotes_leave(leg->out->remotes, leg->remote.key);
}

/* A client of ours may wait for ENHANCEDSTATUSCODES on every reply (RFC 2034 4), and must never hear
 * 421, which Postfix takes for this host's own. */
static void leg_adapt(struct reply *reply)
{
    if (reply->code == 421)
        reply->code = 451;
    if (reply->enhanced[0] == '\0' && reply->code != 354)
        snprintf(reply->enhanced, sizeof reply->enhanced, "%c.0.0", '0' + reply->code / 100 % 10);
}

/* A connection, or the verdict. */
static void leg_take(struct leg *leg, int result)
{
    struct transaction *transaction = &leg->transaction;

    transaction->connected = result == 0;
    transaction->judged = transaction->ours = !transaction->connected;
    transaction->kept = transaction->connected && leg->remote.messages > 0;
    leg->unreachable = !transaction->connected && !leg->contact.busy;
}

/* A next hop may have a limit for what comes over one connection, or have had its time. */
static bool leg_renew(struct transaction *transaction)
{
    struct leg *leg = leg_of(transaction);
    struct deadline deadline = deadline_in_ms(leg->out->config->out.timeouts.dial);

    leg->contact.deadline =
        transaction->until.at_ms != 0 ? deadline_earlier(deadline, transaction->until) : deadline;
    leg->contact.fresh = true;
    if (transaction->connected)
        leg_take(leg, contact_next(&leg->contact));
    else
        leg_take(leg, contact_make(&leg->contact));
    if (!transaction->connected && reply_is_permanent(&transaction->verdict))
        reply_own(&transaction->verdict, REPLY_REMOTE_LOST);
    return true;
}

struct leg *leg_new(const struct outbound *out, const struct route *route, const char *domain,
                    const struct envelope *envelope)
{
    static const struct transaction_owner owner = {
        .lost = REPLY_REMOTE_LOST,
        .lost_at = leg_log_lost,
        .closed = leg_closed,
        .adapt = leg_adapt,
        .renew = leg_renew,
    };
    struct leg *leg = calloc(1, sizeof *leg);

    if (leg == NULL)
        return NULL;
    if (stream_buffers_init(&leg->buffers, IN_BUFFER, OUT_BUFFER) != 0) {
        free(leg);
        return NULL;
    }
    leg->out = out;
    leg->route = route;
    leg->session = envelope->client->session_id;
    snprintf(leg->domain, sizeof leg->domain, "%s", domain);
    route_key(route, domain, leg->key);
    leg->transaction.owner = &owner;
    leg->transaction.hop = &leg->remote.hop;
    leg->transaction.reply_ms = out->config->out.timeouts.reply;
    leg->transaction.block_ms = out->config->out.timeouts.data_block;
    transaction_begin(&leg->transaction, envelope);
    leg->contact = (struct contact){
        .out = out,
        .route = route,
        .domain = leg->domain,
        .session = leg->session,
        .buffers = &leg->buffers,
        .remote = &leg->remote,
        .verdict = &leg->transaction.verdict,
    };
    return leg;
}

/* For the next message, which begins with RSET. */
static void leg_keep(struct leg *leg)
{
    struct stream *stream = &leg->remote.hop.stream;

    leg->remote.messages++;
    if (stream_has_input(stream) || stream->broken) {
        transaction_abort(&leg->transaction);
        return;
    }
    stream_reclaim(stream);
    leg->transaction.connected = false;
    remotes_keep(leg->out->remotes, &leg->remote, leg->out->config->out.reuse_for_ms);
}

void leg_free(struct leg *leg)
{
    if (leg == NULL)
        return;
    struct transaction *transaction = &leg->transaction;
    if (transaction_is_clean(transaction) && !transaction->mail_due)
        leg_keep(leg);
    if (transaction->connected)
        contact_end(leg->out, &leg->remote, transaction->data == TRANSACTION_NO_DATA);
    contact_clear(&leg->contact);
    stream_buffers_free(&leg->buffers);
    free(leg);
}

void leg_contact(struct leg *leg, struct deadline deadline)
{
    if (leg->contacted)
        return;
    leg->contacted = true;
    leg->contact.deadline = deadline;
    leg_take(leg, contact_make(&leg->contact));
}

bool leg_in_data(const struct leg *leg)
{
    return leg->transaction.data == TRANSACTION_IN_DATA && leg->transaction.connected;
}

bool leg_data_reply(struct leg *leg)
{
    struct reply reply;
    transaction_data_reply(&leg->transaction, &reply);
    return leg_in_data(leg);
}

void leg_final_reply(struct leg *leg, struct deadline deadline)
{
    transaction_final_reply(&leg->transaction, deadline);
    if (leg->transaction.connected)
        leg_keep(leg);
}

const struct reply *leg_verdict(const struct leg *leg)
{
    return &leg->transaction.verdict;
}

const char *leg_relay(const struct leg *leg)
{
    return leg->remote.name[0] != '\0' ? leg->remote.name : "none";
}
