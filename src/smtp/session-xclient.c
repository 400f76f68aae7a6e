/* smtp/session-xclient.c - XCLIENT from hosts that may send it, such as our own relay in front of us
 *
 * It takes only the client's address and port and the local address. The name is looked up again, and HELO
 * comes from the EHLO that must follow. It never takes a login (promise 8).
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/session-internal.h"

#include <string.h>
#include <strings.h>

#include "base/assert.h"
#include "smtp/xclient.h"

#define ADMISSION_PATIENCE_MS 60000 /* the longest wait for a verdict, which comes sooner */

bool session_offers_xclient(const struct session *session)
{
    return !session->introduced && cidr_set_contains(session->rules->xclient_hosts, &session->peer);
}

struct introduction {
    struct address client, local;
};

static bool session_take_address(struct address *address, const char *value)
{
    struct address ip;
    bool v6 = strncasecmp(value, "IPV6:", 5) == 0;

    /* IPv6, and only IPv6, has the prefix, so that no reader of these lines must guess. */
    if (address_parse_ip(&ip, v6 ? value + 5 : value) != 0 || v6 != (strchr(value, ':') != NULL))
        return false;
    ip.port = address->port;
    *address = ip;
    return true;
}

static bool session_take_port(struct address *address, const char *value)
{
    return address_parse_port(value, &address->port) == 0 ||
           strcasecmp(value, "[UNAVAILABLE]") == 0;
}

static bool session_xclient_take(struct introduction *introduction,
                                 const struct xclient_attribute *attribute)
{
    switch (attribute->name) {
    case XCLIENT_ADDR:
        return session_take_address(&introduction->client, attribute->value);
    case XCLIENT_PORT:
        return session_take_port(&introduction->client, attribute->value);
    case XCLIENT_DESTADDR:
        return session_take_address(&introduction->local, attribute->value);
    case XCLIENT_DESTPORT:
        return session_take_port(&introduction->local, attribute->value);
    case XCLIENT_LOGIN:
        return false;
    default:
        return true;
    }
}

static bool session_parse(const struct command *command, struct introduction *introduction)
{
    const char *at = command->argument, *end = at + command->argument_len;
    struct xclient_attribute attribute;
    int got;

    while ((got = xclient_next(&at, end, &attribute)) > 0) {
        if (!session_xclient_take(introduction, &attribute))
            return false;
    }
    return got == 0 && introduction->client.family != AF_UNSPEC;
}

enum own_reply session_check_xclient(struct session *session, const struct command *command)
{
    struct introduction introduction = {.local = session->client.local};

    if (!cidr_set_contains(session->rules->xclient_hosts, &session->peer))
        return REPLY_UNKNOWN_COMMAND;
    if (session->introduced)
        return REPLY_XCLIENT_DENIED;
    if (session->state & (STATE_MAIL | STATE_RCPT | STATE_CHUNKS))
        return REPLY_NOT_IN_TRANSACTION;
    return session_parse(command, &introduction) ? REPLY_OK : REPLY_BAD_ARGUMENT;
}

/* Starts the session over with the greeting, for another client. */
void session_act_xclient(struct session *session, const struct command *command)
{
    const struct session_policy *policy = &session->rules->policy;
    struct introduction introduction = {.local = session->client.local};

    session_parse(command, &introduction);
    session_end_transaction(session);
    session_drop_courier(session);
    session->introduced = true;
    session->client.unlimited = false;
    session_set_client(session, &introduction.client);
    session->client.local = introduction.local;
    reverse_leave(session->client.names);
    session->client.names = policy->identify != NULL
                                ? policy->identify(policy->context, &session->client.address)
                                : NULL;
    session->client.esmtp = false;
    session->client.authenticated = false;
    session->user[0] = '\0';
    session->helo[0] = '\0';
    session->state = STATE_CONNECTED;
    /* A deferral of the other end does not apply to this client. */
    session->deferral = NULL;
    enum own_reply verdict = policy->serves(policy->context, &session->client.address);
    if (verdict != REPLY_OK) {
        session_end_with(session, verdict, "CONNECT");
        return;
    }
    session->awaits_admission = true;
    if (session->wakeup == NULL) {
        session_end_introduction(session);
        return;
    }
    session->awaited = SESSION_AWAITS_GRANT;
    session->granted_at_ms = deadline_now_ms() + ADMISSION_PATIENCE_MS;
}

const struct address *session_introduced(const struct session *session)
{
    return session->awaits_admission ? &session->client.address : NULL;
}

void session_admit(struct session *session, const struct session_deferral *refusal,
                   const struct session_deferral *deferral, bool unlimited)
{
    ASSERT(session->awaits_admission && session->scratch == NULL);
    session->refusal = refusal;
    session->deferral = deferral;
    session->client.unlimited = unlimited;
}

void session_end_introduction(struct session *session)
{
    struct reply *reply = &session->scratch->reply;

    session->awaits_admission = false;
    if (session->refusal == NULL) {
        session_put_banner(session);
        return;
    }
    session_deferral_reply(session->refusal, reply);
    session_reply(session, reply);
    session->closing = true;
}
