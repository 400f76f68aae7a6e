/* smtp/session-auth.c - the dialog of AUTH (RFC 4954), passed on line by line or checked here
 *
 * A dialog that is passed on belongs to the client and the server that knows its password, and is not
 * examined. Either way none of it is logged, and it is wiped from the buffers when the dialog is over.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/session-internal.h"

#include <stdio.h>
#include <string.h>

#define ROUNDS_MAX 16 /* most challenges of one AUTH; every mechanism needs only a few */

bool session_offers_auth(const struct session *session, const struct session_offer *offer)
{
    return offer->mechanisms[0] != '\0' && session->stream.tls != NULL;
}

static size_t auth_mechanism_length(const struct command *command)
{
    const char *blank = memchr(command->argument, ' ', command->argument_len);
    return blank != NULL ? (size_t)(blank - command->argument) : command->argument_len;
}

/* RFC 4954 4: base64, "=" or "*". Nothing that a next hop might take as the end of a line. */
static bool auth_is_base64(const char *text, size_t len)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";

    for (size_t i = 0; i < len; i++) {
        if (memchr(letters, text[i], sizeof letters - 1) == NULL)
            return len == 1 && text[0] == '*';
    }
    return true;
}

/* Is the initial response, if there is one, base64? */
static bool auth_has_base64(const struct command *command, size_t at)
{
    while (at < command->argument_len && command->argument[at] == ' ')
        at++;
    return auth_is_base64(command->argument + at, command->argument_len - at);
}

enum own_reply session_check_auth(struct session *session, const struct command *command)
{
    struct session_offer offer;

    session_offer(session, &offer);
    if (offer.mechanisms[0] == '\0')
        return REPLY_NOT_IMPLEMENTED;
    if (session->stream.tls == NULL)
        return REPLY_TLS_REQUIRED;
    if (session->client.authenticated)
        return REPLY_AUTH_ACTIVE;
    if (command->argument_len == 0)
        return REPLY_BAD_ARGUMENT;
    size_t mechanism_len = auth_mechanism_length(command);
    if (!command_is_listed(offer.mechanisms, command->argument, mechanism_len))
        return REPLY_BAD_MECHANISM;
    return auth_has_base64(command, mechanism_len) ? REPLY_OK : REPLY_BAD_ARGUMENT;
}

static void auth_finish(struct session *session)
{
    struct reply *reply = &session->scratch->reply;

    session_log_auth(session, session->mechanism, reply);
    session->client.authenticated = reply->code == 235;
    if (reply_is_permanent(reply))
        session->errors++;
    session_reply(session, reply);
}

/* Passes a line to the next hop or, if the policy checks passwords, to our own check. A challenge goes to the
 * client, and session_run() continues with its response; any other reply ends the dialog. */
static void auth_ask(struct session *session, const char *text, size_t len)
{
    struct reply *reply = &session->scratch->reply;

    if (session->rules->policy.check_password != NULL)
        session_check_password(session, text, len, reply);
    else
        session->courier->ops->authenticate(session->courier, &session->client, text, len, reply);
    if (reply->code == 334 && ++session->auth_rounds > ROUNDS_MAX) {
        session_drop_courier(session);
        reply_own(reply, REPLY_AUTH_TEMPORARY);
    }
    if (reply->code == 334) {
        session_reply(session, reply);
        session_flush(session);
        session_enter(session, PHASE_ANSWER);
    } else {
        auth_finish(session);
    }
}

/* Ends the dialog. The next hop still waits for the answer, so it is dropped. */
static void auth_break_off(struct session *session, enum own_reply why)
{
    session_drop_courier(session);
    session->user[0] = '\0';
    reply_own(&session->scratch->reply, why);
    auth_finish(session);
}

void session_take_answer(struct session *session, const struct session_input *input)
{
    session_enter(session, PHASE_COMMAND);
    switch (input->result) {
    case IO_OK:
        if (auth_is_base64(input->line.text, input->line.len))
            auth_ask(session, input->line.text, input->line.len);
        else
            auth_break_off(session, REPLY_AUTH_CANCELLED);
        break;
    case IO_TOO_LONG:
        auth_break_off(session, REPLY_LINE_TOO_LONG);
        break;
    case IO_TIMEOUT:
        session_drop_courier(session);
        session_reply_own(session, REPLY_IDLE);
        break;
    case IO_EOF:
    case IO_FAILED:
        session_drop_courier(session);
        session->vanished = true;
        break;
    }
    stream_wipe(&session->stream);
}

bool session_login_is_of_courier(const struct session *session)
{
    return session->client.authenticated && session->rules->policy.check_password == NULL;
}

void session_act_auth(struct session *session, const struct command *command)
{
    char line[AUTH_LINE_MAX + 8];

    snprintf(session->mechanism, sizeof session->mechanism, "%.*s",
             (int)auth_mechanism_length(command), command->argument);
    if (session->rules->policy.check_password == NULL && !session_ensure_courier(session, NULL)) {
        session_reply_own(session, REPLY_AUTH_TEMPORARY);
        return;
    }
    session->client.tls = true;
    if (session->rules->policy.check_password == NULL && session_must_wait(session, NULL))
        return;
    int len =
        snprintf(line, sizeof line, "AUTH %.*s", (int)command->argument_len, command->argument);
    session->auth_rounds = 0;
    session->login = LOGIN_BEGINS;
    auth_ask(session, line, (size_t)len);
    explicit_bzero(line, sizeof line);
    stream_wipe(&session->stream);
}
