/* smtp/session-commands.c - the command table: each verb with its states, check and act
 *
 * To find how a command is handled, look at its row in `table`, its check function (is it valid and
 * allowed?) and its act function (do it and reply). A check sends no reply; it returns the reply for a
 * refusal, or REPLY_OK.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/session-internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "smtp/command.h"

#define ANY_STATE (STATE_CONNECTED | STATE_READY | STATE_MAIL | STATE_RCPT | STATE_CHUNKS)

/* How many recipients of a session may be deferred before more count as errors. A list server may exceed the
 * limit of a message by that many (Postfix's smtpd_recipient_overshoot_limit). */
#define OVERSHOOT_MAX 1000
#define OVERSHOOT_SLOWNESS_MS 2000

enum {
    FLAG_JUNK = 1 << 0, /* harmless, but limited without mail */
    FLAG_NO_ARGUMENT = 1 << 1,
    FLAG_KEEPS_BATCH = 1 << 2, /* pending recipients need not be answered first */
    FLAG_CLOSES = 1 << 3,      /* what follows is not a command */
};

struct command_row {
    unsigned states;                /* in which it is legal */
    enum own_reply out_of_sequence; /* the reply in other states */
    unsigned flags;
    enum own_reply (*check)(struct session *session, const struct command *command);
    void (*act)(struct session *session, const struct command *command);
    enum own_reply refusal; /* without a check: REPLY_OK, or the reply that refuses it always */
    enum own_reply reply;   /* without an act function: all that it does */
};

static enum own_reply session_check_hello(struct session *session, const struct command *command)
{
    (void)session;
    return command->argument_len > 0 ? REPLY_OK : REPLY_HELO_SYNTAX;
}

/* RFC 5321 4.1.4: a new EHLO or HELO ends the transaction. It may also name another client, which the next hop
 * must then be told from the start. */
static void session_greet_anew(struct session *session, const struct command *command, bool esmtp,
                               struct session_offer *offer)
{
    session_end_transaction(session);
    if (!session_login_is_of_courier(session))
        session_drop_courier(session);
    session->client.helo_is_valid =
        path_clean_helo(command->argument, command->argument_len, session->helo);
    session->client.esmtp = esmtp;
    session->state = STATE_READY;
    session_offer(session, offer);
    session->offered = offer->extensions;
    session->offered_size = offer->size_limit;
}

static void session_act_helo(struct session *session, const struct command *command)
{
    struct reply *reply = &session->scratch->reply;
    struct session_offer offer;

    session_greet_anew(session, command, false, &offer);
    reply_own_with(reply, REPLY_HELO, session->rules->hostname);
    session_reply(session, reply);
}

static bool session_offers_tls(const struct session *session)
{
    return session->rules->tls != NULL && session->stream.tls == NULL &&
           !cidr_set_contains(session->rules->no_tls, &session->client.address);
}

static void session_act_ehlo(struct session *session, const struct command *command)
{
    static const struct {
        unsigned extension;
        const char *keyword;
    } keywords[] = {
        {EXTENSION_ENHANCEDSTATUSCODES, "ENHANCEDSTATUSCODES"},
        {EXTENSION_8BITMIME, "8BITMIME"},
        {EXTENSION_SMTPUTF8, "SMTPUTF8"},
        {EXTENSION_DSN, "DSN"},
        {EXTENSION_CHUNKING, "CHUNKING"},
        {EXTENSION_BINARYMIME, "BINARYMIME"},
        {EXTENSION_REQUIRETLS, "REQUIRETLS"},
    };
    char storage[1024];
    struct buffer text;
    struct session_offer offer;

    session_greet_anew(session, command, true, &offer);
    buffer_init(&text, storage, sizeof storage);
    buffer_join(&text, "250-", session->rules->hostname, "\r\n250-PIPELINING\r\n250-SIZE ", NULL);
    buffer_number(&text, offer.size_limit, 1);
    buffer_puts(&text, "\r\n");
    if (session_offers_tls(session))
        buffer_puts(&text, "250-STARTTLS\r\n");
    if (session_offers_auth(session, &offer))
        buffer_printf(&text, "250-AUTH %s\r\n", offer.mechanisms);
    if (session_offers_xclient(session))
        buffer_puts(&text, "250-XCLIENT NAME ADDR PORT PROTO HELO REVERSE_NAME DESTADDR DESTPORT"
                           "\r\n");
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
        if (offer.extensions & keywords[i].extension)
            buffer_join(&text, "250-", keywords[i].keyword, "\r\n", NULL);
    }
    buffer_puts(&text, "250-LIMITS RCPTMAX=");
    buffer_number(&text, offer.recipients, 1);
    buffer_puts(&text, "\r\n250 HELP\r\n");
    session_put(session, text.data, text.len);
}

static enum own_reply session_parameter_reply(enum parameter_result result, enum own_reply bad_path)
{
    switch (result) {
    case PARAMETER_OK:
        return REPLY_OK;
    case PARAMETER_BAD_PATH:
        return bad_path;
    case PARAMETER_UNKNOWN:
        return REPLY_UNKNOWN_PARAMETER;
    case PARAMETER_BAD_VALUE:
        break;
    }
    return REPLY_BAD_ARGUMENT;
}

static bool session_are_offered(const struct session *session,
                                const struct mail_parameters *parameters)
{
    unsigned needed = 0;
    if (parameters->dsn)
        needed |= EXTENSION_DSN;
    if (parameters->smtputf8)
        needed |= EXTENSION_SMTPUTF8;
    if (parameters->requiretls)
        needed |= EXTENSION_REQUIRETLS;
    return (session->offered & needed) == needed;
}

/* A client that uses an extension speaks ESMTP, even if it said HELO: the next hop must be asked with EHLO, or it
 * will not have the extension. A connection kept from another message may have begun with HELO. */
static void session_use_extension(struct session *session)
{
    if (session->client.esmtp)
        return;
    session->client.esmtp = true;
    session->needs_ehlo = true;
    if (session->accepted == 0 && session->batch.ask_count == 0)
        session_renew_courier(session);
}

/* Checks the parameters of MAIL and copies them to the envelope. */
static enum own_reply session_check_parameters(struct session *session,
                                               const struct mail_parameters *parameters)
{
    struct envelope *envelope = session->envelope;

    if (!session_are_offered(session, parameters))
        return REPLY_UNKNOWN_PARAMETER;
    /* A UTF-8 address needs SMTPUTF8, even without the parameter. */
    if (envelope->sender.is_utf8 && !(session->offered & EXTENSION_SMTPUTF8))
        return REPLY_UTF8_UNSUPPORTED;
    if ((parameters->body == MAIL_BODY_BINARYMIME && !(session->offered & EXTENSION_BINARYMIME)) ||
        (parameters->body == MAIL_BODY_8BITMIME && !(session->offered & EXTENSION_8BITMIME)))
        return REPLY_8BIT_UNSUPPORTED;
    if (parameters->size > session->offered_size)
        return REPLY_TOO_BIG;
    envelope->size = parameters->size;
    envelope->body = parameters->body;
    envelope->smtputf8 = parameters->smtputf8 || envelope->sender.is_utf8;
    envelope->is_utf8 = envelope->sender.is_utf8;
    envelope->requiretls = parameters->requiretls;
    envelope->ret = parameters->ret;
    strcpy(envelope->envid, parameters->envid);
    if (envelope->smtputf8 || envelope->requiretls || envelope->body != MAIL_BODY_NONE ||
        parameters->dsn)
        session_use_extension(session);
    return REPLY_OK;
}

static bool session_must_log_in(const struct session *session)
{
    return session->rules->submission && !session->client.authenticated &&
           !cidr_set_contains(session->rules->trusted, &session->client.address);
}

static enum own_reply session_check_sender(const struct session *session)
{
    const struct session_policy *policy = &session->rules->policy;
    if (policy->check_sender == NULL)
        return REPLY_OK;
    return policy->check_sender(policy->context, session->user[0] != '\0' ? session->user : NULL,
                                &session->envelope->sender);
}

/* A bare name belongs to this host, as if a local program had sent it. */
static bool session_complete_path(const struct session *session, struct path *path)
{
    return path->is_null || path->domain[0] != '\0' ||
           path_add_domain(path, session->rules->hostname);
}

static enum own_reply session_check_mail(struct session *session, const struct command *command)
{
    struct envelope *envelope = envelope_new();
    struct mail_parameters parameters;
    enum own_reply reply = REPLY_SERVER_BUSY;

    free(session->envelope);
    session->envelope = envelope;
    if (envelope == NULL)
        return reply;
    if (session_must_log_in(session))
        return session->stream.tls != NULL ? REPLY_AUTH_REQUIRED : REPLY_TLS_REQUIRED;
    reply = session_parameter_reply(command_parse_mail(command, &envelope->sender, &parameters),
                                    REPLY_BAD_SENDER);
    if (reply == REPLY_OK && !session_complete_path(session, &envelope->sender))
        reply = REPLY_BAD_SENDER;
    if (reply == REPLY_OK)
        reply = session_check_sender(session);
    return reply == REPLY_OK ? session_check_parameters(session, &parameters) : reply;
}

/* Refuses at MAIL, so that sender and HELO are in the log, and without contacting the next hop. */
static void session_refuse_barred(struct session *session)
{
    struct reply *reply = &session->scratch->reply;
    session_deferral_reply(session->deferral, reply);
    session->state = STATE_MAIL;
    session_log_reject(session, "MAIL", NULL, reply);
    session_end_transaction(session);
    session->errors++;
    session_reply(session, reply);
}

/* Only keeps the sender: the next hop is not asked before there is an acceptable recipient. */
static void session_act_mail(struct session *session, const struct command *command)
{
    struct buffer id;

    (void)command;
    if (session->deferral != NULL) {
        session_refuse_barred(session);
        return;
    }
    session->started_ms = deadline_now_ms();
    session->client_ms = 0;
    session->data_octets = 0;
    buffer_init(&id, session->transaction_id, sizeof session->transaction_id);
    buffer_join(&id, session->id, ".", NULL);
    buffer_number(&id, ++session->transactions, 1);
    session->envelope->client = &session->client;
    session->envelope->id = session->transaction_id;
    session->client.tls = session->stream.tls != NULL;
    session->state = STATE_MAIL;
    session_reply_own(session, REPLY_SENDER_OK);
}

enum own_reply session_check_utf8(const struct session *session, const void *route)
{
    struct session_offer own, all;

    session_offer_route(session, route, &own);
    if (own.extensions & EXTENSION_SMTPUTF8)
        return REPLY_OK;
    session_offer(session, &all);
    return all.extensions & EXTENSION_SMTPUTF8 ? REPLY_UTF8_UNSUPPORTED : REPLY_BACKEND_LACKS;
}

/* Each route has its own limits, within what was offered. If the offer has changed since, the next EHLO will
 * tell. */
static enum own_reply session_check_route(const struct session *session,
                                          const struct path *recipient, const void *route)
{
    const struct envelope *envelope = session->envelope;
    struct session_offer own;

    if (recipient->is_utf8 || envelope->is_utf8) {
        enum own_reply verdict = session_check_utf8(session, route);
        if (verdict != REPLY_OK)
            return verdict;
    }
    session_offer_route(session, route, &own);
    if (envelope->size > own.size_limit)
        return REPLY_TOO_BIG;
    return session->accepted + session->batch.ask_count >= own.recipients
               ? REPLY_TOO_MANY_RECIPIENTS
               : REPLY_OK;
}

static enum own_reply session_judge_recipient(struct session *session, struct path *recipient,
                                              const void **route)
{
    const struct session_rules *rules = session->rules;
    enum own_reply verdict = REPLY_BAD_RECIPIENT;

    if (path_is_postmaster(recipient) || session_complete_path(session, recipient))
        verdict = rules->policy.check_recipient(rules->policy.context, recipient, route);
    if (verdict != REPLY_OK)
        return verdict;
    if (recipient->is_utf8 && !(session->offered & EXTENSION_SMTPUTF8))
        return REPLY_UTF8_UNSUPPORTED;
    verdict = session_check_route(session, recipient, *route);
    if (verdict != REPLY_OK)
        return verdict;
    if (session->refused_recipients >= rules->refused_recipients)
        return REPLY_TOO_MANY_UNKNOWN;
    return REPLY_OK;
}

/* Deferred recipients are not errors as long as they come quickly. After that they only keep the next hop
 * waiting. */
static bool session_is_abuse(struct session *session)
{
    return ++session->overshoot > OVERSHOOT_MAX ||
           session_slowness_ms(session, session->run_since_ms) > OVERSHOOT_SLOWNESS_MS;
}

/* RCPT has no check function, because a refusal must keep its place in the batch. */
static void session_act_rcpt(struct session *session, const struct command *command)
{
    struct rcpt_parameters parameters;
    struct recipient recipient;
    const void *route = NULL;
    struct reply *reply = &session->scratch->reply;
    enum own_reply verdict = session_parameter_reply(
        command_parse_rcpt(command, &recipient.path, &parameters), REPLY_BAD_RECIPIENT);
    bool parsed = verdict == REPLY_OK;

    if (parsed && parameters.dsn && !(session->offered & EXTENSION_DSN))
        verdict = REPLY_UNKNOWN_PARAMETER;
    if (verdict == REPLY_OK)
        verdict = session_judge_recipient(session, &recipient.path, &route);
    if (verdict == REPLY_OK) {
        recipient.notify = parameters.notify;
        strcpy(recipient.orcpt, parameters.orcpt);
        session->envelope->smtputf8 |= recipient.path.is_utf8;
        if (parameters.dsn || recipient.path.is_utf8)
            session_use_extension(session);
        verdict = session_bind_route(session, route);
    }
    if (verdict == REPLY_OK && session_must_wait(session, &recipient))
        return;
    session->state = STATE_RCPT;
    if (verdict != REPLY_OK) {
        session->refused++;
        reply_own(reply, verdict);
        session_count_recipient(session, reply, verdict);
        session_log_reject(session, "RCPT", parsed ? recipient.path.mailbox : NULL, reply);
        if (reply_is_permanent(reply) || session_is_abuse(session))
            session->errors++;
    }
    session_batch_add(session, &recipient, verdict);
}

/* RFC 3030 3: a binary message needs BDAT. */
static enum own_reply session_check_data(struct session *session, const struct command *command)
{
    (void)command;
    return session->envelope->body == MAIL_BODY_BINARYMIME ? REPLY_NOT_CHUNKED : REPLY_OK;
}

static void session_act_data(struct session *session, const struct command *command)
{
    struct reply *reply = &session->scratch->reply;

    (void)command;
    if (session_batch_flush(session, COURIER_DATA)) {
        session_reply_own(session, REPLY_START_DATA);
        session_flush(session);
        session_transfer_begin(session, DATALINE_LINES);
        session_enter_data(session, PHASE_DATA);
        return;
    }
    session_log_reject(session, "DATA", NULL, reply);
    session_reply(session, reply);
    session_end_transaction(session);
}

static void session_act_rset(struct session *session, const struct command *command)
{
    (void)command;
    session_end_transaction(session);
    session_reply_own(session, REPLY_OK);
}

static enum own_reply session_check_vrfy(struct session *session, const struct command *command)
{
    (void)session;
    return command->argument_len > 0 ? REPLY_OK : REPLY_BAD_ARGUMENT;
}

static void session_act_quit(struct session *session, const struct command *command)
{
    (void)command;
    session_end_transaction(session);
    session_reply_own(session, REPLY_CLOSING);
    session->closing = true;
}

static enum own_reply session_check_starttls(struct session *session, const struct command *command)
{
    (void)command;
    if (session->stream.tls != NULL)
        return REPLY_TLS_ACTIVE;
    return session_offers_tls(session) ? REPLY_OK : REPLY_NOT_IMPLEMENTED;
}

/* Plain text that came after STARTTLS would be taken as part of the protected dialog (CVE-2011-0411), so it ends
 * the session. After the handshake, everything that the client sent before is forgotten (RFC 3207 4.2). */
static void session_act_starttls(struct session *session, const struct command *command)
{
    (void)command;
    if (stream_has_injected_input(&session->stream)) {
        session_end_with(session, REPLY_INJECTION, "STARTTLS");
        return;
    }
    session_reply_own(session, REPLY_START_TLS);
    session_flush(session);
    /* Unsent output would appear inside the handshake. */
    session->vanished |= stream_owes_output(&session->stream);
    session_end_transaction(session);
    session_drop_courier(session);
    session->helo[0] = '\0';
    session->client.esmtp = false;
    session->state = STATE_CONNECTED;
    session_start_tls(session);
}

static const struct command_row table[] = {
    [COMMAND_HELO] = {ANY_STATE, REPLY_OK, FLAG_JUNK, .check = session_check_hello,
                      .act = session_act_helo},
    [COMMAND_EHLO] = {ANY_STATE, REPLY_OK, FLAG_JUNK, .check = session_check_hello,
                      .act = session_act_ehlo},
    [COMMAND_MAIL] = {STATE_READY, REPLY_NESTED_MAIL, 0, .check = session_check_mail,
                      .act = session_act_mail},
    [COMMAND_RCPT] = {STATE_MAIL | STATE_RCPT, REPLY_MAIL_FIRST, FLAG_KEEPS_BATCH,
                      .act = session_act_rcpt},
    [COMMAND_DATA] = {STATE_RCPT, REPLY_RCPT_FIRST, FLAG_KEEPS_BATCH | FLAG_NO_ARGUMENT,
                      .check = session_check_data, .act = session_act_data},
    [COMMAND_RSET] = {ANY_STATE, REPLY_OK, FLAG_JUNK | FLAG_NO_ARGUMENT, .act = session_act_rset},
    [COMMAND_NOOP] = {ANY_STATE, REPLY_OK, FLAG_JUNK, .reply = REPLY_OK},
    [COMMAND_QUIT] = {ANY_STATE, REPLY_OK, FLAG_NO_ARGUMENT, .act = session_act_quit},
    /* RFC 5321 7.3: only RCPT tells whether an address exists. */
    [COMMAND_VRFY] = {ANY_STATE, REPLY_OK, FLAG_JUNK, .check = session_check_vrfy,
                      .reply = REPLY_VRFY},
    [COMMAND_HELP] = {ANY_STATE, REPLY_OK, FLAG_JUNK, .reply = REPLY_HELP},
    [COMMAND_STARTTLS] = {STATE_CONNECTED | STATE_READY, REPLY_NOT_IN_TRANSACTION, FLAG_NO_ARGUMENT,
                          .check = session_check_starttls, .act = session_act_starttls},
    [COMMAND_XCLIENT] = {ANY_STATE, REPLY_OK, 0, .check = session_check_xclient,
                         .act = session_act_xclient},
    [COMMAND_BDAT] = {ANY_STATE, REPLY_OK, FLAG_KEEPS_BATCH | FLAG_CLOSES,
                      .check = session_check_bdat, .act = session_act_bdat},
    [COMMAND_AUTH] = {STATE_READY, REPLY_NOT_IN_TRANSACTION, 0, .check = session_check_auth,
                      .act = session_act_auth},
    [COMMAND_EXPN] = {ANY_STATE, REPLY_OK, 0, .refusal = REPLY_NOT_IMPLEMENTED},
    [COMMAND_ETRN] = {ANY_STATE, REPLY_OK, 0, .refusal = REPLY_NOT_IMPLEMENTED},
    [COMMAND_HTTP] = {ANY_STATE, REPLY_OK, FLAG_CLOSES, .refusal = REPLY_UNKNOWN_COMMAND},
    [COMMAND_UNKNOWN] = {ANY_STATE, REPLY_OK, 0, .refusal = REPLY_UNKNOWN_COMMAND},
};

/* MAIL and RCPT before EHLO, and DATA before MAIL, get a more exact reply. */
static enum own_reply session_sequence_reply(const struct session *session, enum command_verb verb)
{
    if (session->state == STATE_CONNECTED && verb != COMMAND_STARTTLS)
        return REPLY_HELO_FIRST;
    if (verb == COMMAND_DATA && session->state == STATE_READY)
        return REPLY_MAIL_FIRST;
    if (session->state == STATE_CHUNKS && verb == COMMAND_DATA)
        return REPLY_NOT_CHUNKED;
    return table[verb].out_of_sequence;
}

static enum own_reply session_check_row(struct session *session, const struct command *command)
{
    const struct command_row *row = &table[command->verb];

    if ((row->flags & FLAG_NO_ARGUMENT) && command->argument_len > 0)
        return REPLY_NO_ARGUMENT_ALLOWED;
    if (!(row->states & session->state))
        return session_sequence_reply(session, command->verb);
    return row->check != NULL ? row->check(session, command) : row->refusal;
}

/* During a shutdown, or in a session that has lasted too long, a transaction may finish but nothing new may
 * begin. */
static bool session_may_not_go_on(struct session *session, enum command_verb verb)
{
    int64_t most = session->rules->session_timeout_ms;
    bool draining = atomic_load(&session->signals->draining);
    bool too_long = most > 0 && session->run_since_ms - session->began_ms >= most;

    if ((!draining && !too_long) || session_holds_transaction(session) || verb == COMMAND_QUIT)
        return false;
    session_reply_own(session, draining ? REPLY_SHUTTING_DOWN : REPLY_SESSION_LIMIT);
    return true;
}

static unsigned session_junk_limit(const struct session *session)
{
    const struct session_rules *rules = session->rules;
    return session_limit(session, rules->junk_commands, rules->stress_junk_commands);
}

void session_command(struct session *session, const struct line *line)
{
    struct command command;
    bool bare = line->bare_lf && session->rules->bare_newlines == DATALINE_REJECT;

    if (bare || !command_parse(&command, line->text, line->len)) {
        session_batch_flush(session, COURIER_NOTHING);
        session_refuse(session, REPLY_SYNTAX);
        return;
    }
    const struct command_row *row = &table[command.verb];
    if (!(row->flags & FLAG_KEEPS_BATCH))
        session_batch_flush(session, COURIER_NOTHING);
    if (session->closing)
        return;
    if (session_may_not_go_on(session, command.verb))
        return;
    enum own_reply verdict = session_check_row(session, &command);
    if (verdict != REPLY_OK) {
        session_batch_flush(session, COURIER_NOTHING);
        session_refuse(session, verdict);
        session->closing |= (row->flags & FLAG_CLOSES) != 0;
        /* A refused AUTH may contain a password too. */
        if (command.verb == COMMAND_AUTH)
            stream_wipe(&session->stream);
        return;
    }
    if ((row->flags & FLAG_JUNK) && ++session->junk > session_junk_limit(session)) {
        session_give_up(session);
        return;
    }
    if (row->act != NULL)
        row->act(session, &command);
    else
        session_reply_own(session, row->reply);
}
