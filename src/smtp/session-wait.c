/* smtp/session-wait.c - how long a session waits for its client, and who keeps the watch
 *
 * A worker waits for a client only as long as it hopes for a quick answer (its patience, next to
 * nothing when workers are few); then the session goes back to the gate in the middle of whatever
 * it is doing, a command line, a TLS handshake, a transaction or mail data, and is resumed when
 * octets come or when it is due. So no number of slow clients holds a worker. Each kind of wait has
 * a clock that starts by a rule of the protocol and runs on over any number of parkings.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/session-internal.h"

#define REPLY_TIMEOUT_MS 60000 /* for a client to take a reply */
#define PATIENCE_MAX_MS 250    /* a worker's */
#define PATIENCE_CROWDED_MS 2  /* going to the gate and back costs more than a quick answer */
#define SLOW_MS 1000
#define GOOD_PIECE (4 * 1024) /* octets of mail data by which a client earns patience */

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool is_stressed(const struct session *session)
{
    return atomic_load_explicit(&session->signals->stressed, memory_order_relaxed);
}

unsigned session_limit(const struct session *session, unsigned usual, unsigned under_stress)
{
    return under_stress > 0 && under_stress < usual && is_stressed(session) ? under_stress : usual;
}

/* A wait of so long, or what may be of it under stress. */
static int64_t bounded(const struct session *session, int64_t ms)
{
    int64_t stress = session->rules->stress_timeout_ms;
    return stress > 0 && is_stressed(session) ? earlier(ms, stress) : ms;
}

void session_start_wait(struct session *session, enum session_wait wait, int64_t now)
{
    if (session->wait == wait)
        return;
    session->wait = wait;
    session->wait_since_ms = now;
}

void session_start_data(struct session *session, enum session_input input)
{
    session->input = input;
    session->data_octets = 0;
    session->data_since_ms = session->heard_ms = deadline_now_ms();
}

static int64_t drain_due_ms(const struct session *session)
{
    if (session->input == INPUT_SKIP)
        return session->data_since_ms + session->rules->drain_timeout_ms;
    return session->transfer.refused ? session->transfer.drain_deadline.at_ms : INT64_MAX;
}

/* The time that the mail data would have taken at the least rate. */
static int64_t earned_ms(const struct session *session)
{
    uint64_t rate = session->rules->min_data_rate;
    return rate > 0 ? (int64_t)(session->data_octets * 1000 / rate) : 0;
}

/* The mail data has its time and what its octets add to it (Postfix's deadline per request), and no
 * gap may be long. */
static int64_t data_due_ms(const struct session *session)
{
    const struct session_rules *rules = session->rules;
    int64_t due = earlier(drain_due_ms(session),
                          session->heard_ms + bounded(session, rules->data_timeout_ms));

    if (rules->min_data_rate == 0)
        return due;
    return earlier(due, session->data_since_ms + bounded(session, rules->data_grace_ms) +
                            earned_ms(session));
}

int64_t session_due_ms(const struct session *session)
{
    const struct session_rules *rules = session->rules;
    int64_t due = INT64_MAX, since = session->wait_since_ms;

    if (session->evicted)
        return 0;
    switch (session->wait) {
    case WAIT_NOTHING:
        break;
    case WAIT_COMMAND:
        /* Without a transaction only the next hop's connection is still to be let go. */
        due = since + (session_holds_transaction(session)
                           ? bounded(session, rules->command_timeout_ms)
                           : rules->park_after_ms);
        break;
    case WAIT_LINE:
        due = since + bounded(session, rules->line_timeout_ms);
        break;
    case WAIT_HANDSHAKE:
        due = since + bounded(session, rules->handshake_timeout_ms);
        break;
    case WAIT_DATA:
        due = data_due_ms(session);
        break;
    }
    if (rules->message_timeout_ms > 0 && session_holds_transaction(session))
        due = earlier(due, session->started_ms + rules->message_timeout_ms);
    return due;
}

bool session_is_slow(const struct session *session, int64_t now_ms)
{
    int64_t since = session->wait_since_ms;
    if (session->wait == WAIT_DATA)
        since = session->data_since_ms + earned_ms(session);
    return now_ms - since >= SLOW_MS;
}

struct deadline session_begin_patience(struct session *session, int64_t now)
{
    bool crowded = is_stressed(session) ||
                   atomic_load_explicit(&session->signals->crowded, memory_order_relaxed);
    int64_t ms =
        earlier(session->rules->park_after_ms, crowded ? PATIENCE_CROWDED_MS : PATIENCE_MAX_MS);

    if (session->resumed && !session->progressed)
        ms = 0;
    atomic_fetch_add_explicit(&session->signals->patient, 1, memory_order_relaxed);
    return (struct deadline){earlier(now + ms, session_due_ms(session))};
}

void session_end_patience(struct session *session)
{
    atomic_fetch_sub_explicit(&session->signals->patient, 1, memory_order_relaxed);
}

/* Workers are few, and this one has given its share. */
static bool should_yield(const struct session *session, int64_t now)
{
    return now - session->run_since_ms >= SESSION_SLICE_MS &&
           atomic_load_explicit(&session->signals->crowded, memory_order_relaxed);
}

bool session_read(struct session *session, const char **bytes, size_t *len, enum io_result *result)
{
    int64_t now = deadline_now_ms();

    session_start_wait(session, WAIT_DATA, now);
    /* A trickle never makes it wait long: the clock is looked at in any case. */
    *result = IO_TIMEOUT;
    if (now >= session_due_ms(session))
        return true;
    if (should_yield(session, now) && !stream_has_input(&session->stream))
        return false;
    *result = stream_read(&session->stream, bytes, len, session_begin_patience(session, now));
    session_end_patience(session);
    now = deadline_now_ms();
    if (*result == IO_OK)
        session->heard_ms = now;
    return *result != IO_TIMEOUT || now >= session_due_ms(session);
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
    return deadline_in_ms(bounded(session, REPLY_TIMEOUT_MS));
}
