/* smtp/session.c - the life cycle of a session: new, the loop over input, park, dismiss, free
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/session-internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/buffer.h"

#define CLIENT_IN_BUFFER (64 * 1024)
#define CLIENT_OUT_BUFFER (2 * REPLY_WIRE_MAX)
#define NEXT_HOP_IN_BUFFER (8 * 1024)
#define NEXT_HOP_OUT_BUFFER (16 * 1024)
#define DISMISS_TIMEOUT_MS 0 /* the gate never waits */

int session_scratch_init(struct session_scratch *scratch)
{
    memset(scratch, 0, sizeof *scratch);
    /* Not cleared: each is written before it is read, and unused ones cost no memory. */
    scratch->recipients = malloc(SESSION_BATCH_MAX * sizeof *scratch->recipients);
    if (scratch->recipients == NULL)
        return -1;
    if (stream_buffers_init(&scratch->client, CLIENT_IN_BUFFER, CLIENT_OUT_BUFFER) == 0 &&
        stream_buffers_init(&scratch->next_hop.buffers, NEXT_HOP_IN_BUFFER, NEXT_HOP_OUT_BUFFER) ==
            0)
        return 0;
    session_scratch_free(scratch);
    return -1;
}

void session_scratch_free(struct session_scratch *scratch)
{
    stream_buffers_free(&scratch->client);
    stream_buffers_free(&scratch->next_hop.buffers);
    free(scratch->recipients);
}

/* Makes an id from time and descriptor, in an alphabet without vowels and look-alikes. It is unique unless a
 * descriptor is used twice in one microsecond. */
static void session_make_id(char out[20], int fd)
{
    static const char digits[] = "0123456789BCDFGHJKLMNPQRSTVWXYZb";
    struct timespec now;
    char *end = out;

    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t value = ((uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000) << 12 |
                     ((unsigned)fd & 0xfff);
    for (int shift = 60; shift >= 0; shift -= 5)
        *end++ = digits[value >> shift & 31];
    *end = '\0';
}

struct session *session_new(const struct session_start *start)
{
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return NULL;
    stream_init_borrowed(&session->stream, start->fd);
    session->stream.keeps_output = true;
    session_make_id(session->id, start->fd);
    session->rules = start->rules;
    session->signals = start->signals;
    session->deferral = start->deferral;
    session->wakeup = start->wakeup;
    session->began_ms = deadline_now_ms();
    session->implicit_tls = start->implicit_tls;
    session->state = STATE_CONNECTED;
    session_set_client(session, start->client);
    session->peer = *start->client;
    session->client.local = *start->local;
    session->client.names = start->names;
    session->client.unlimited = start->unlimited;
    session->client.helo = session->helo;
    session->client.session_id = session->id;
    return session;
}

void session_set_client(struct session *session, const struct address *client)
{
    session->client.address = *client;
    address_format_endpoint(client, session->client_shown);
}

void session_deferral_reply(const struct session_deferral *deferral, struct reply *reply)
{
    reply_own_with(reply, deferral->why, deferral->client, deferral->list);
}

const char *session_client_name(const struct session *session, struct reverse_names *names)
{
    bool known = session->client.names != NULL && reverse_peek(session->client.names, names);
    return known && names->status == REVERSE_VERIFIED ? names->name : NULL;
}

void session_free(struct session *session)
{
    if (session == NULL)
        return;
    ASSERT(session->scratch == NULL);
    session_drop_courier(session);
    stream_close(&session->stream);
    reverse_leave(session->client.names);
    free(session->pending_reply);
    free(session->envelope);
    free(session);
}

size_t session_banner(const struct session_rules *rules, char *out, size_t size)
{
    struct buffer banner;

    buffer_init(&banner, out, size);
    buffer_join(&banner, "220 ", rules->hostname, " ESMTP\r\n", NULL);
    return banner.len;
}

void session_put_banner(struct session *session)
{
    char banner[300];
    session_put(session, banner, session_banner(session->rules, banner, sizeof banner));
}

/* The stream keeps what the client does not read; session_settle() takes care of it. */
void session_put(struct session *session, const char *bytes, size_t len)
{
    struct stream *stream = &session->stream;

    stream_put(stream, bytes, len,
               stream_has_room(stream, len) ? (struct deadline){0}
                                            : session_reply_deadline(session));
    session->vanished |= session->stream.broken;
}

void session_flush(struct session *session)
{
    if (session_may_speak(session))
        stream_flush(&session->stream, session_reply_deadline(session));
    session->vanished |= session->stream.broken;
}

void session_reply(struct session *session, const struct reply *reply)
{
    char wire[REPLY_WIRE_MAX];
    session_put(session, wire, reply_format(reply, wire, sizeof wire));
    if (reply->code == 421)
        session->closing = true;
}

void session_reply_own(struct session *session, enum own_reply which)
{
    reply_own(&session->scratch->reply, which);
    session_reply(session, &session->scratch->reply);
}

void session_refuse(struct session *session, enum own_reply which)
{
    session->errors++;
    session_reply_own(session, which);
}

/* Does the next hop have half a message? Only dropping the connection undoes that. */
static bool session_has_half_message(const struct session *session)
{
    return (session->state == STATE_CHUNKS || session->phase == PHASE_DATA) &&
           !session->transfer.scanner.ended;
}

void session_end_transaction(struct session *session)
{
    bool half = session_has_half_message(session);

    if (half)
        session_end_message(session, SESSION_ABORTED, session->transfer.scanner.octets,
                            session->phase == PHASE_DATA ? "lost" : "chunks are missing");
    if (session->courier != NULL && half)
        session->courier->ops->abort(session->courier);
    else if (session->courier != NULL)
        session->courier->ops->reset(session->courier);
    free(session->envelope);
    session->envelope = NULL;
    memset(&session->batch, 0, sizeof session->batch);
    memset(&session->transfer, 0, sizeof session->transfer);
    session->accepted = session->refused = 0;
    session->data_reply_due = false;
    if (session->state != STATE_CONNECTED)
        session->state = STATE_READY;
    session_renew_courier(session);
}

void session_drop_courier(struct session *session)
{
    if (session->courier != NULL && session_has_half_message(session))
        session->courier->ops->abort(session->courier);
    if (session->courier != NULL)
        session->courier->ops->free(session->courier);
    session->courier = NULL;
}

void session_renew_courier(struct session *session)
{
    if (session->needs_ehlo && !session_login_is_of_courier(session))
        session_drop_courier(session);
    session->needs_ehlo = false;
}

static void session_limit_offer(const struct session *session, struct session_offer *offer)
{
    const struct session_rules *rules = session->rules;
    if (offer->size_limit == 0 || offer->size_limit > rules->message_size)
        offer->size_limit = rules->message_size;
    if (offer->recipients == 0 || offer->recipients > rules->recipients)
        offer->recipients = rules->recipients;
    if (session->stream.tls == NULL)
        offer->extensions &= ~(unsigned)EXTENSION_REQUIRETLS;
}

void session_offer(const struct session *session, struct session_offer *offer)
{
    const struct session_policy *policy = &session->rules->policy;
    memset(offer, 0, sizeof *offer);
    policy->offer(policy->context, offer);
    session_limit_offer(session, offer);
}

void session_offer_route(const struct session *session, const void *route,
                         struct session_offer *offer)
{
    const struct session_policy *policy = &session->rules->policy;
    if (policy->offer_route == NULL) {
        session_offer(session, offer);
        return;
    }
    memset(offer, 0, sizeof *offer);
    policy->offer_route(policy->context, route, offer);
    session_limit_offer(session, offer);
}

/* Lends this to the courier. NULL takes back what was lent. */
static void session_lend_courier(struct session *session, struct courier_loan *loan)
{
    if (session->courier != NULL && session->courier->ops->lend != NULL)
        session->courier->ops->lend(session->courier, loan);
}

bool session_ensure_courier(struct session *session, const void *route)
{
    const struct session_policy *policy = &session->rules->policy;
    if (session->courier != NULL && session->route != route)
        session_drop_courier(session);
    session->route = route;
    if (session->courier == NULL) {
        session->courier = policy->courier_new(policy->context, route);
        session_lend_courier(session, &session->scratch->next_hop);
    }
    return session->courier != NULL;
}

static void session_tls_failed(struct session *session, const char *reason)
{
    session_log_tls_failure(session, reason);
    session->vanished = session->closing = true;
}

void session_start_tls(struct session *session)
{
    struct error err = {""};
    enum io_result result = stream_begin_tls_server(&session->stream, session->rules->tls, &err);
    session_enter(session, PHASE_HANDSHAKE);
    if (result != IO_OK)
        session_tls_failed(session, err.text[0] != '\0' ? err.text : io_result_name(result));
}

void session_take_handshake(struct session *session, const struct session_input *input)
{
    const char *reason = input->error.text;

    session_enter(session, PHASE_COMMAND);
    if (input->result != IO_OK) {
        session->stream.broken = true;
        session_tls_failed(session, reason[0] != '\0' ? reason : io_result_name(input->result));
        return;
    }
    session->has_used_tls = true;
    session_count_tls(session);
    if (session->implicit_tls) {
        session->implicit_tls = false;
        session_put_banner(session);
    }
}

bool session_holds_transaction(const struct session *session)
{
    return session->accepted > 0 || session->batch.slot_count > 0 || session->state == STATE_CHUNKS;
}

bool session_holds_next_hop(const struct session *session)
{
    return session->courier != NULL &&
           (session->awaited != SESSION_AWAITS_GRANT || session->accepted > 0);
}

bool session_is_between_messages(const struct session *session)
{
    return session->phase == PHASE_COMMAND && session->awaited == SESSION_AWAITS_INPUT &&
           !session_holds_transaction(session);
}

bool session_has_used_tls(const struct session *session)
{
    return session->has_used_tls;
}

bool session_wants_slot(const struct session *session)
{
    return session->awaited == SESSION_AWAITS_GRANT && session->courier != NULL &&
           session->courier->wants_slot;
}

const void *session_route(const struct session *session)
{
    return session->route;
}

int64_t session_grace_ms(const struct session *session)
{
    return session->rules->data_grace_ms;
}

void session_evict(struct session *session)
{
    ASSERT(session->scratch == NULL);
    session->evicted = true;
}

void session_vanish(struct session *session)
{
    ASSERT(session->scratch == NULL);
    session->vanished = true;
}

void session_end_with(struct session *session, enum own_reply why, const char *command)
{
    struct reply *reply = &session->scratch->reply;
    reply_own(reply, why);
    session_log_reject(session, command, NULL, reply);
    session_reply(session, reply);
    session->closing = true;
}

/* Logs it as a refusal, so that fail2ban can count it. */
void session_give_up(struct session *session)
{
    session_end_with(session, REPLY_TOO_MANY_ERRORS, "SESSION");
}

void session_take_command(struct session *session, const struct session_input *input)
{
    session_enter(session, PHASE_COMMAND);
    switch (input->result) {
    case IO_OK:
        session_command(session, &input->line);
        break;
    case IO_TOO_LONG:
        session_batch_flush(session, COURIER_NOTHING);
        session_refuse(session, REPLY_LINE_TOO_LONG);
        break;
    case IO_TIMEOUT:
        session_reply_own(session, REPLY_IDLE);
        break;
    case IO_EOF:
    case IO_FAILED:
        session->vanished = true;
        break;
    }
}

static void session_count_out(struct session *session)
{
    unsigned most = session_limit(session, session->rules->errors, session->rules->stress_errors);
    if (session->errors <= most || session->closing || session->vanished)
        return;
    session_batch_flush(session, COURIER_NOTHING);
    session_give_up(session);
}

/* Before any wait, sends all pending replies. A client that does not read them is not read from either. False:
 * the session ends. */
static bool session_settle(struct session *session)
{
    if (session->awaited == SESSION_AWAITS_GRANT || stream_owes_output(&session->stream) ||
        !stream_line_waiting(&session->stream)) {
        session_batch_flush(session, COURIER_NOTHING);
        session_flush(session);
    }
    if (!session_watch_output(session))
        session->vanished = true;
    return (!session->closing || stream_owes_output(&session->stream) ||
            session->held_until_ms > 0) &&
           !session->vanished;
}

/* Between commands the next hop is kept a little longer than the worker, for a next message, unless others wait
 * for it. A login lives only as long as the connection that it was made on. */
static bool session_keeps_next_hop(const struct session *session)
{
    struct courier *courier = session->courier;
    return courier != NULL && !session_login_is_of_courier(session) &&
           session->parked_ms < session_due_ms(session) &&
           (courier->ops->is_wanted == NULL || !courier->ops->is_wanted(courier));
}

static enum session_result session_leave(struct session *session)
{
    /* Anything pending would be in the worker's memory. */
    ASSERT(session->batch.slot_count == 0 && session->stream.out_len == 0);
    session_lend_courier(session, NULL);
    session->scratch = NULL;
    session->resumed = true;
    session->parked_ms = deadline_now_ms();
    if (!session_is_between_messages(session) || session_keeps_next_hop(session))
        return SESSION_WAITING;
    if (!session_login_is_of_courier(session))
        session_drop_courier(session);
    session->waiting = session->evicted = session->resumed = false;
    return SESSION_IDLE;
}

static void session_close(struct session *session)
{
    if (!session->vanished)
        session_flush(session);
    session_log_end(session, session->vanished ? "lost" : "closed");
    session_end_transaction(session);
    session_drop_courier(session);
    stream_reclaim(&session->stream);
    stream_close(&session->stream);
    session->scratch = NULL;
}

enum session_result session_run(struct session *session, struct session_scratch *scratch,
                                int64_t called_ms)
{
    struct session_input input;

    ASSERT(session->scratch == NULL && session->stream.buffers == NULL && session->stream.fd >= 0);
    session->scratch = scratch;
    session->run_since_ms = deadline_now_ms();
    if (session->resumed)
        session_end_park(session, called_ms);
    session->awaited = SESSION_AWAITS_INPUT;
    session->progressed = false;
    session->progress_octets = 0;
    stream_lend(&session->stream, &scratch->client);
    session_lend_courier(session, &scratch->next_hop);
    if (session->implicit_tls && session->stream.tls == NULL)
        session_start_tls(session);
    if (session->awaits_admission)
        session_end_introduction(session);
    while (session_settle(session)) {
        if (session_await(session, &input)) {
            session_take(session, &input);
            session_count_out(session);
        } else if (stream_park(&session->stream) == 0) {
            return session_leave(session);
        } else {
            session->vanished = true;
        }
    }
    session_close(session);
    return SESSION_CLOSED;
}

void session_dismiss(struct session *session, enum own_reply why)
{
    struct reply reply;
    char text[REPLY_WIRE_MAX], wire[REPLY_WIRE_MAX], in[1];
    struct stream_buffers buffers = {in, sizeof in, wire, sizeof wire};
    struct deadline now = deadline_in_ms(DISMISS_TIMEOUT_MS);

    ASSERT(session->scratch == NULL);
    reply_own(&reply, why);
    stream_forget_input(&session->stream);
    stream_lend(&session->stream, &buffers);
    if (session->stream.handshaking)
        session->stream.broken = true;
    stream_put(&session->stream, text, reply_format(&reply, text, sizeof text), now);
    stream_flush(&session->stream, now);
    stream_reclaim(&session->stream);
    session_log_end(session, "dismissed");
    stream_close(&session->stream);
}
