/* smtp/session-wait.c - the phases of a session: what its client must send, and how long it may take
 *
 * Here, and only here, a session waits for its client. The handlers of the input know nothing of it.
 *
 * A worker waits for a client only as long as it can expect a quick answer (its linger, almost zero if
 * few workers are free). Then the session goes back to the gate in the middle of whatever it is doing: a
 * command line, a TLS handshake, a transaction or mail data. It is resumed when octets arrive or when it
 * is due. So no number of slow clients holds a worker. Each kind of wait has a clock that starts by a
 * rule of the protocol and keeps running however often the session is parked.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/session-internal.h"

#include "base/assert.h"

#define REPLY_TIMEOUT_MS 60000 /* for a client to read a reply */
#define LINGER_MAX_MS 250      /* a worker's usual linger */
#define LINGER_CROWDED_MS 2    /* with few workers free; parking costs more than a quick answer */
#define IMPATIENT_MS 1000      /* a client whose transaction has waited this long gets no linger */
#define GOOD_PIECE (4 * 1024)  /* octets of mail data by which a client earns linger */

static int64_t session_earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool session_is_stressed(const struct session *session)
{
    return atomic_load_explicit(&session->signals->stressed, memory_order_relaxed);
}

unsigned session_limit(const struct session *session, unsigned usual, unsigned under_stress)
{
    return under_stress > 0 && under_stress < usual && session_is_stressed(session) ? under_stress
                                                                                    : usual;
}

/* The wait `ms`, or the limit under stress if that is shorter. */
static int64_t session_bounded(const struct session *session, int64_t ms)
{
    int64_t stress = session->rules->stress_timeout_ms;
    return stress > 0 && session_is_stressed(session) ? session_earlier(ms, stress) : ms;
}

void session_enter(struct session *session, enum session_phase phase)
{
    session->phase = phase;
    session->waiting = false;
    session->progressed = true;
}

void session_enter_data(struct session *session, enum session_phase phase)
{
    session_enter(session, phase);
    session->data_octets = 0;
    session->data_since_ms = session->heard_ms = deadline_now_ms();
    if (phase != PHASE_SKIP)
        session->transfer.began_ms = session->data_since_ms;
}

/* Without a transaction, the session is only due to release the next hop's connection. */
static int64_t session_command_due_ms(const struct session *session)
{
    const struct session_rules *rules = session->rules;
    return session->wait_since_ms + (session_holds_transaction(session)
                                         ? session_bounded(session, rules->command_timeout_ms)
                                         : rules->park_after_ms);
}

static int64_t session_line_due_ms(const struct session *session)
{
    return session->wait_since_ms + session_bounded(session, session->rules->line_timeout_ms);
}

static int64_t session_handshake_due_ms(const struct session *session)
{
    return session->wait_since_ms + session_bounded(session, session->rules->handshake_timeout_ms);
}

static int64_t session_drain_due_ms(const struct session *session)
{
    if (session->phase == PHASE_SKIP)
        return session->data_since_ms + session->rules->drain_timeout_ms;
    return session->transfer.refused ? session->transfer.drain_deadline.at_ms : INT64_MAX;
}

/* The time that the mail data would take at the minimum rate. */
static int64_t session_earned_ms(const struct session *session)
{
    uint64_t rate = session->rules->min_data_rate;
    return rate > 0 ? (int64_t)(session->data_octets * 1000 / rate) : 0;
}

/* Mail data has a fixed time plus what its octets earn (like Postfix's deadline per request), and no gap may be
 * long. */
static int64_t session_data_due_ms(const struct session *session)
{
    const struct session_rules *rules = session->rules;
    int64_t due =
        session_earlier(session_drain_due_ms(session),
                        session->heard_ms + session_bounded(session, rules->data_timeout_ms));

    if (rules->min_data_rate == 0)
        return due;
    return session_earlier(due, session->data_since_ms +
                                    session_bounded(session, rules->data_grace_ms) +
                                    session_earned_ms(session));
}

/* The unit in which the client's input is taken. */
enum unit { UNIT_LINE, UNIT_HANDSHAKE, UNIT_OCTETS };

static const struct phase {
    enum unit unit;
    int64_t (*due_ms)(const struct session *session);
    void (*take)(struct session *session, const struct session_input *input);
} phases[] = {
    [PHASE_COMMAND] = {UNIT_LINE, session_command_due_ms, session_take_command},
    [PHASE_LINE] = {UNIT_LINE, session_line_due_ms, session_take_command},
    [PHASE_HANDSHAKE] = {UNIT_HANDSHAKE, session_handshake_due_ms, session_take_handshake},
    [PHASE_ANSWER] = {UNIT_LINE, session_line_due_ms, session_take_answer},
    [PHASE_DATA] = {UNIT_OCTETS, session_data_due_ms, session_take_data},
    [PHASE_CHUNK] = {UNIT_OCTETS, session_data_due_ms, session_take_chunk},
    [PHASE_SKIP] = {UNIT_OCTETS, session_data_due_ms, session_take_skipped},
};

void session_take(struct session *session, const struct session_input *input)
{
    ASSERT(session->phase < sizeof phases / sizeof *phases &&
           session->awaited == SESSION_AWAITS_INPUT);
    phases[session->phase].take(session, input);
}

enum session_awaited session_awaits(const struct session *session)
{
    return session->awaited;
}

static int64_t session_awaited_due_ms(const struct session *session)
{
    switch (session->awaited) {
    case SESSION_AWAITS_GRANT:
        return session->granted_at_ms;
    case SESSION_AWAITS_OUTPUT:
        if (session->unsent_since_ms == 0)
            break; /* it is a handshake's output */
        return session->unsent_since_ms + session_bounded(session, REPLY_TIMEOUT_MS);
    case SESSION_AWAITS_INPUT:
        break;
    }
    return phases[session->phase].due_ms(session);
}

int64_t session_due_ms(const struct session *session)
{
    const struct session_rules *rules = session->rules;

    if (session->evicted)
        return 0;
    int64_t due = session_awaited_due_ms(session);
    /* The message timeout cannot end a wait for anything else. */
    if (rules->message_timeout_ms > 0 && session->awaited == SESSION_AWAITS_INPUT &&
        session_holds_transaction(session))
        due = session_earlier(due, session->started_ms + rules->message_timeout_ms);
    return due;
}

/* Counted over the whole transaction, but only while waiting for the client: it is not to blame for the next hop
 * or for the wait for a grant. */
int64_t session_slowness_ms(const struct session *session, int64_t now_ms)
{
    bool waits = session->scratch == NULL && session->awaited != SESSION_AWAITS_GRANT;
    return session->client_ms + (waits ? now_ms - session->parked_ms : 0) -
           session_earned_ms(session);
}

void session_end_park(struct session *session, int64_t called_ms)
{
    /* The gate's clock may be a little behind the worker's that parked it. */
    int64_t called = called_ms > session->parked_ms ? called_ms : session->parked_ms;
    int64_t queued = session->run_since_ms - called;

    if (session->awaited != SESSION_AWAITS_GRANT && session_holds_next_hop(session))
        session->client_ms += called - session->parked_ms;
    session->wait_since_ms += queued;
    session->heard_ms += queued;
    session->data_since_ms += queued;
    session->transfer.drain_deadline.at_ms += queued;
    if (session->unsent_since_ms != 0)
        session->unsent_since_ms += queued;
}

bool session_must_wait(struct session *session, const struct recipient *recipient)
{
    const struct courier_ops *ops = session->courier->ops;

    if (ops->prepare == NULL || session->evicted)
        return false;
    int64_t until_ms = ops->prepare(session->courier, &session->client, recipient, session->wakeup);
    if (until_ms == 0)
        return false;
    ASSERT(session->batch.slot_count < SESSION_BATCH_MAX);
    session->granted_at_ms = until_ms;
    session->awaited = SESSION_AWAITS_GRANT;
    stream_unread_line(&session->stream);
    return true;
}

bool session_may_speak(struct session *session)
{
    if (session->held_until_ms > 0 &&
        (session->evicted || deadline_now_ms() >= session->held_until_ms))
        session->held_until_ms = 0;
    return session->held_until_ms == 0;
}

/* How long a worker waits for the client. */
static int64_t session_linger_ms(const struct session *session)
{
    bool crowded = session_is_stressed(session) ||
                   atomic_load_explicit(&session->signals->crowded, memory_order_relaxed);
    return session_earlier(session->rules->park_after_ms,
                           crowded ? LINGER_CROWDED_MS : LINGER_MAX_MS);
}

static struct deadline session_linger(const struct session *session, int64_t now)
{
    int64_t ms = session_linger_ms(session);

    if ((session->resumed && !session->progressed) ||
        (session->client_ms > IMPATIENT_MS && session_slowness_ms(session, now) > IMPATIENT_MS))
        ms = 0;
    return (struct deadline){session_earlier(now + ms, session_due_ms(session))};
}

/* Has this session used up its share of the worker while few are free? */
static bool session_should_yield(const struct session *session, int64_t now)
{
    return now - session->run_since_ms >= SESSION_SLICE_MS &&
           atomic_load_explicit(&session->signals->crowded, memory_order_relaxed);
}

static enum io_result session_read_unit(struct session *session, struct session_input *input,
                                        struct deadline until)
{
    struct line *line = &input->line;
    bool long_lines = session->rules->submission || session->phase == PHASE_ANSWER;

    switch (phases[session->phase].unit) {
    case UNIT_LINE:
        return stream_read_line(&session->stream, line,
                                long_lines ? AUTH_LINE_MAX : COMMAND_LINE_MAX, until);
    case UNIT_HANDSHAKE:
        input->error.text[0] = '\0';
        return stream_continue_tls(&session->stream, until,
                                   (struct deadline){session_due_ms(session)}, &input->error);
    case UNIT_OCTETS:
        break;
    }
    return stream_read(&session->stream, &line->text, &line->len, until);
}

/* No complete input has arrived in time. A partial command line has its own time to be completed. False: park the
 * session. */
static bool session_is_overdue(struct session *session)
{
    int64_t now = deadline_now_ms();

    if (session->phase == PHASE_COMMAND &&
        (stream_has_input(&session->stream) || session->stream.skipping)) {
        session->phase = PHASE_LINE;
        session->wait_since_ms = now;
    }
    return now >= session_due_ms(session) &&
           (session->phase != PHASE_COMMAND || session_holds_transaction(session));
}

/* Must the session wait for something other than input: a held reply, a grant, or room to send? */
static bool session_awaits_other(struct session *session)
{
    if (session->held_until_ms > 0) {
        session->awaited = SESSION_AWAITS_GRANT;
        session->granted_at_ms = session->held_until_ms;
    } else if (stream_owes_output(&session->stream)) {
        session->awaited = SESSION_AWAITS_OUTPUT;
    }
    return session->awaited != SESSION_AWAITS_INPUT;
}

/* Adds the time that a worker has waited for the client since `now`. `data`: mail data has arrived. */
static void session_count_wait(struct session *session, int64_t now, bool data)
{
    bool holds = session_holds_next_hop(session);
    int64_t end = data || holds ? deadline_now_ms() : 0;

    if (data) {
        session->heard_ms = end;
        session->waiting = false;
    }
    if (holds)
        session->client_ms += end - now;
}

/* The client's time begins. Mail data may have waited for the next hop since the client sent it. */
static void session_begin_wait(struct session *session, int64_t now, bool octets)
{
    session->waiting = true;
    session->wait_since_ms = now;
    if (octets) {
        session->data_since_ms += now - session->heard_ms;
        session->heard_ms = now;
    }
}

bool session_await(struct session *session, struct session_input *input)
{
    bool octets = phases[session->phase].unit == UNIT_OCTETS;

    ASSERT(session->scratch != NULL && !session->vanished);
    if (session_awaits_other(session))
        return false;
    int64_t now = deadline_now_ms();
    if (!session->waiting)
        session_begin_wait(session, now, octets);
    input->result = IO_TIMEOUT;
    /* With a trickle, mail data never waits long, so check the clock in any case. */
    if (octets && now >= session_due_ms(session))
        return true;
    if (octets && session_should_yield(session, now) && !stream_has_input(&session->stream))
        return false;
    atomic_fetch_add_explicit(&session->signals->patient, 1, memory_order_relaxed);
    input->result = session_read_unit(session, input, session_linger(session, now));
    atomic_fetch_sub_explicit(&session->signals->patient, 1, memory_order_relaxed);
    session_count_wait(session, now, octets && input->result == IO_OK);
    if (input->result != IO_TIMEOUT || session_is_overdue(session))
        return true;
    if (session->stream.handshaking && session->stream.wants_output)
        session->awaited = SESSION_AWAITS_OUTPUT;
    return false;
}

void session_consume(struct session *session, size_t octets)
{
    stream_consume(&session->stream, octets);
    session->data_octets += octets;
    session->progress_octets += octets;
    session->progressed |= session->progress_octets >= GOOD_PIECE;
}

struct deadline session_reply_deadline(const struct session *session)
{
    /* Once the client has not read something in time, no worker waits for it here. */
    bool waits = !stream_owes_output(&session->stream);
    return deadline_in_ms(waits ? session_linger_ms(session) : 0);
}

bool session_watch_output(struct session *session)
{
    if (!stream_owes_output(&session->stream) || session->held_until_ms > 0) {
        session->unsent_since_ms = 0;
        return true;
    }
    int64_t now = deadline_now_ms();
    if (session->unsent_since_ms == 0)
        session->unsent_since_ms = now;
    return !session->evicted &&
           now < session->unsent_since_ms + session_bounded(session, REPLY_TIMEOUT_MS);
}
