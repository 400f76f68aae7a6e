/* relay-out/attempt-login.c - login at a smarthost
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "relay-out/attempt.h"

#define AUTH_COMMAND_MAX 512 /* RFC 4954 4: the longest command with an initial response */

/* Sends `word`, which may be empty, followed by the octets in base64. */
static enum io_result attempt_say_secret(struct attempt *attempt, const char *word,
                                         const char *octets, size_t len)
{
    struct connect *connect = attempt->connect;
    size_t start = strlen(word), size = start + BASE64_SIZE(len) + 2;

    char *line = malloc(size);
    if (line == NULL)
        return IO_FAILED;
    memcpy(line, word, start);
    base64_encode(octets, len, line + start);
    strcat(line, "\r\n");
    enum io_result result =
        nexthop_command(&connect->remote->hop, line, connect->reply, attempt_reply_step(connect));
    explicit_bzero(line, size);
    free(line);
    return result;
}

/* Sends all in one line if it is short enough, otherwise the secret after a 334. */
static enum io_result attempt_log_in_plain(struct attempt *attempt, const struct route *route)
{
    struct connect *connect = attempt->connect;
    size_t user_len = strlen(route->user), len = user_len + strlen(route->password) + 2;
    enum io_result result = IO_OK;
    const char *word = "AUTH PLAIN ";

    char *said = calloc(1, len + 1);
    if (said == NULL)
        return IO_FAILED;
    memcpy(said + 1, route->user, user_len);
    strcpy(said + user_len + 2, route->password);
    if (strlen(word) + BASE64_SIZE(len) + 1 > AUTH_COMMAND_MAX) {
        word = "";
        result = nexthop_command(&connect->remote->hop, "AUTH PLAIN\r\n", connect->reply,
                                 attempt_reply_step(connect));
    }
    if (word[0] != '\0' || (result == IO_OK && connect->reply->code == 334))
        result = attempt_say_secret(attempt, word, said, len);
    explicit_bzero(said, len);
    free(said);
    return result;
}

static enum io_result attempt_log_in_login(struct attempt *attempt, const struct route *route)
{
    struct connect *connect = attempt->connect;
    const char *answers[] = {route->user, route->password};

    enum io_result result = nexthop_command(&connect->remote->hop, "AUTH LOGIN\r\n", connect->reply,
                                            attempt_reply_step(connect));
    for (int i = 0; i < 2 && result == IO_OK && connect->reply->code == 334; i++)
        result = attempt_say_secret(attempt, "", answers[i], strlen(answers[i]));
    return result;
}

/* A host that refuses the password for good refuses it at all of its addresses, and with the next message. */
static enum attempt_outcome attempt_login_refused(struct attempt *attempt)
{
    struct connect *connect = attempt->connect;
    const bool permanent = reply_is_permanent(connect->reply);
    char text[400];
    struct log_line line;

    reply_summary(connect->reply, text, sizeof text);
    if (permanent) {
        host_cache_mark(connect->out->host_cache, REMOTE_LOGIN_REFUSED, &attempt->host, text,
                        LOGIN_REFUSED_FOR_MS);
        log_begin(&line, LOG_LEVEL_ERROR, "event=login-refused");
        log_str(&line, "host", connect->remote->name);
        log_str(&line, "user", attempt->route->user);
        log_str(&line, "reply", text);
        log_int(&line, "next_seconds", LOGIN_REFUSED_FOR_MS / 1000);
        log_str(&line, "session", connect->session);
        log_end(&line);
    }
    attempt_fail(connect, REPLY_REMOTE_LOGIN_REFUSED, connect->remote->name, text);
    return permanent ? ATTEMPT_REFUSED : ATTEMPT_NEXT;
}

enum attempt_outcome attempt_log_in(struct attempt *attempt)
{
    struct connect *connect = attempt->connect;
    const struct route *route = attempt->route;
    struct nexthop *hop = &connect->remote->hop;
    enum io_result result;

    if (route->user[0] == '\0')
        return ATTEMPT_READY;
    /* The configuration already makes sure of this; a password is worth a second check. */
    if (route->hop_count == 0 || attempt->need.level != CONFIG_OUT_TLS_VERIFY ||
        hop->stream.tls == NULL)
        return attempt_fail(connect, REPLY_REMOTE_LOGIN_UNPROVEN, connect->remote->name);
    talk_set_phase(&connect->talk, TALK_LOGIN);
    if (hop->capabilities.extensions & EXTENSION_AUTH_PLAIN)
        result = attempt_log_in_plain(attempt, route);
    else if (hop->capabilities.extensions & EXTENSION_AUTH_LOGIN)
        result = attempt_log_in_login(attempt, route);
    else
        return attempt_fail(connect, REPLY_REMOTE_LOGIN_LACKING, connect->remote->name);
    stream_wipe(&hop->stream);
    if (result != IO_OK)
        return attempt_fail_io(attempt, "logging in", result);
    if (connect->reply->code != 235)
        return attempt_login_refused(attempt);
    host_cache_logged_in(connect->out->host_cache, &attempt->host);
    return ATTEMPT_READY;
}
