/* smtp/session-password.c - PLAIN (RFC 4616) and LOGIN, if the policy checks the passwords
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/session-internal.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/base64.h"

#define CREDENTIALS_MAX 1023 /* octets that a mechanism may send at once */

/* The client's response to one challenge, decoded and NUL-terminated. */
struct credentials {
    char bytes[CREDENTIALS_MAX + 1];
    size_t len;
};

/* Decodes a response. False if it is malformed or too long, or if the client gives up ("*"). */
static bool session_decode(struct credentials *out, const char *text, size_t len)
{
    /* RFC 4954 4: "=" is an empty initial response. */
    if (len == 1 && *text == '=')
        len = 0;
    long got = len <= CREDENTIALS_MAX / 3 * 4 ? base64_decode(text, len, out->bytes) : -1;
    out->len = got >= 0 ? (size_t)got : 0;
    out->bytes[out->len] = '\0';
    return got >= 0;
}

static void session_judge(struct session *session, const char *user, const char *password,
                          struct reply *reply)
{
    const struct session_policy *policy = &session->rules->policy;
    int64_t answer_at_ms = 0;
    enum own_reply verdict = strlen(user) > SESSION_USER_MAX || user[0] == '\0'
                                 ? REPLY_AUTH_FAILED
                                 : policy->check_password(policy->context, &session->client.address,
                                                          user, password, &answer_at_ms);

    session->held_until_ms = answer_at_ms;
    if (verdict != REPLY_OK) {
        session->user[0] = '\0';
        reply_own(reply, verdict);
        return;
    }
    if (user != session->user)
        snprintf(session->user, sizeof session->user, "%s", user);
    reply_own(reply, REPLY_AUTH_OK);
}

/* Checks "authorize-id NUL authenticate-id NUL password" (RFC 4616 2). Nobody may act for another user. */
static void session_judge_plain(struct session *session, const struct credentials *said,
                                struct reply *reply)
{
    const char *end = said->bytes + said->len;
    const char *user = memchr(said->bytes, '\0', said->len);
    const char *password = user != NULL ? memchr(user + 1, '\0', (size_t)(end - user - 1)) : NULL;

    if (password == NULL || memchr(password + 1, '\0', (size_t)(end - password - 1)) != NULL)
        return;
    if (said->bytes[0] != '\0' && strcmp(said->bytes, user + 1) != 0)
        reply_own(reply, REPLY_AUTH_FAILED);
    else
        session_judge(session, user + 1, password + 1, reply);
}

static void session_challenge(struct session *session, enum session_login next, const char *text,
                              struct reply *reply)
{
    session->login = next;
    reply_own_with(reply, REPLY_AUTH_CHALLENGE, text);
}

/* Takes a decoded response. In LOGIN, a NUL in a name or password would hide what follows it. */
static void session_password_take(struct session *session, const struct credentials *said,
                                  struct reply *reply)
{
    bool whole = strlen(said->bytes) == said->len;

    switch (session->login) {
    case LOGIN_PLAIN:
        session_judge_plain(session, said, reply);
        break;
    case LOGIN_USER:
        if (!whole || said->len > SESSION_USER_MAX)
            break;
        memcpy(session->user, said->bytes, said->len + 1);
        session_challenge(session, LOGIN_PASSWORD, "UGFzc3dvcmQ6", reply); /* "Password:" */
        break;
    case LOGIN_PASSWORD:
        if (whole)
            session_judge(session, session->user, said->bytes, reply);
        break;
    case LOGIN_BEGINS:
        break;
    }
}

/* Handles "AUTH mechanism [initial]": makes the first challenge, or returns the initial response. */
static const char *session_password_begin(struct session *session, const char *text, size_t *len,
                                          struct reply *reply)
{
    bool plain = strcasecmp(session->mechanism, "PLAIN") == 0;
    size_t used = strlen("AUTH ") + strlen(session->mechanism);

    while (used < *len && text[used] == ' ')
        used++;
    session->user[0] = '\0';
    session_challenge(session, plain ? LOGIN_PLAIN : LOGIN_USER, plain ? "" : "VXNlcm5hbWU6",
                      reply); /* "Username:" */
    if (used == *len)
        return NULL;
    *len -= used;
    return text + used;
}

void session_check_password(struct session *session, const char *text, size_t len,
                            struct reply *reply)
{
    struct credentials said;

    if (session->login == LOGIN_BEGINS)
        text = session_password_begin(session, text, &len, reply);
    if (text == NULL)
        return;
    /* The reply unless the response is valid. */
    reply_own(reply, REPLY_AUTH_CANCELLED);
    if (session_decode(&said, text, len))
        session_password_take(session, &said, reply);
    if (reply->code != 334 && reply->code != 235)
        session->user[0] = '\0';
    explicit_bzero(&said, sizeof said);
}
