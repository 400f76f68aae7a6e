/* in/introduce.c - a fresh backend connection brought to where MAIL can follow
 *
 * The order (protocol facts: XCLIENT is lock-step; it may be the first command after the greeting,
 * and what it resets must come after it):
 *   plain, attributes known   greeting | XCLIENT | EHLO client
 *   plain, not known          greeting | EHLO us | XCLIENT | EHLO client
 *   TLS                       greeting | EHLO us | STARTTLS | XCLIENT | EHLO client
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "in/introduce.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define TOTAL_TIMEOUT_MS 180000 /* all of it: below the 300 s that a client waits for RCPT */

enum outcome { READY, REFUSED, TLS_FAILED };

struct introduction {
    struct backend *backend;
    const struct config_backend *settings;
    const struct client_identity *client;
    struct nexthop *hop;
    struct reply *verdict;
    struct address host;
    struct deadline deadline;
    unsigned offered; /* XCLIENT attributes */
};

static struct deadline step(const struct introduction *intro)
{
    return deadline_earlier(deadline_in_ms(intro->settings->command_timeout_ms), intro->deadline);
}

static void log_problem(const struct introduction *intro, enum log_level level, const char *event,
                        const char *reason)
{
    struct log_line line;
    char host[ADDRESS_TEXT_MAX];
    log_begin(&line, level, event);
    log_str(&line, "session", intro->client->session_id);
    log_str(&line, "backend", address_format_endpoint(&intro->host, host));
    log_str(&line, "reason", reason);
    log_end(&line);
}

static enum outcome lost(struct introduction *intro, const char *at, enum io_result result)
{
    char reason[128];
    snprintf(reason, sizeof reason, "%s: %s", at, io_result_name(result));
    log_problem(intro, LOG_LEVEL_WARNING, "event=backend-lost", reason);
    reply_own(intro->verdict, REPLY_BACKEND_LOST);
    return REFUSED;
}

static enum outcome greet(struct introduction *intro)
{
    char text[256];
    enum io_result result = nexthop_greeting(intro->hop, intro->verdict, step(intro));
    if (result != IO_OK)
        return lost(intro, "greeting", result);
    if (reply_is_positive(intro->verdict))
        return READY;
    /* This judges us, not the client, who must never see it as a final refusal. */
    log_problem(intro, reply_is_permanent(intro->verdict) ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING,
                "event=backend-greeting", reply_summary(intro->verdict, text, sizeof text));
    reply_own(intro->verdict, REPLY_BACKEND_BUSY);
    return REFUSED;
}

/* EHLO under our own name, to learn what the backend offers us. */
static enum outcome hello_ourselves(struct introduction *intro)
{
    enum io_result result = nexthop_hello(intro->hop, true, backend_hostname(intro->backend),
                                          intro->verdict, step(intro));
    char text[256];
    if (result != IO_OK)
        return lost(intro, "EHLO", result);
    if (!reply_is_positive(intro->verdict)) {
        log_problem(intro, LOG_LEVEL_ERROR, "event=backend-hello",
                    reply_summary(intro->verdict, text, sizeof text));
        reply_own(intro->verdict, REPLY_BACKEND_BUSY);
        return REFUSED;
    }
    backend_learn(intro->backend, &intro->hop->capabilities, true);
    intro->offered = intro->hop->capabilities.xclient;
    return READY;
}

static bool wants_tls(const struct introduction *intro)
{
    switch ((enum config_backend_tls)intro->settings->tls) {
    case CONFIG_TLS_MIRROR:
        return intro->client->tls;
    case CONFIG_TLS_MAY:
    case CONFIG_TLS_ENCRYPT:
    case CONFIG_TLS_VERIFY:
        return true;
    case CONFIG_TLS_NONE:
        break;
    }
    return false;
}

static enum outcome start_tls(struct introduction *intro)
{
    bool must = intro->settings->tls == CONFIG_TLS_ENCRYPT || intro->settings->tls == CONFIG_TLS_VERIFY;
    struct error err = {""};

    if (!(intro->hop->capabilities.extensions & NEXTHOP_STARTTLS)) {
        if (!must)
            return READY;
        log_problem(intro, LOG_LEVEL_ERROR, "event=backend-tls",
                    "STARTTLS is not offered and backend.tls is \"encrypt\"");
        reply_own(intro->verdict, REPLY_BACKEND_CONFIG);
        return REFUSED;
    }
    enum io_result result = nexthop_starttls(intro->hop, backend_tls(intro->backend), NULL,
                                             intro->verdict, step(intro), &err);
    if (result == IO_OK)
        return READY;
    log_problem(intro, LOG_LEVEL_ERROR, "event=backend-tls", err.text);
    if (!must)
        return TLS_FAILED;
    reply_own(intro->verdict, REPLY_BACKEND_CONFIG);
    return REFUSED;
}

static enum outcome identity_refused(struct introduction *intro, const char *reason)
{
    char text[400];
    snprintf(text, sizeof text,
             "%s; nothing is delivered until this host's address stands in the backend's "
             "smtpd_authorized_xclient_hosts (or backend.identity is changed)",
             reason);
    log_problem(intro, LOG_LEVEL_ERROR, "event=backend-identity", text);
    reply_own(intro->verdict, REPLY_BACKEND_CONFIG);
    return REFUSED;
}

/* 500, 501, 502, 503 and 550 5.7.0 are about XCLIENT itself; any other refusal in place of its 220
 * is the backend's verdict on the real client. */
static bool refuses_xclient(const struct reply *reply)
{
    return (reply->code >= 500 && reply->code <= 503) ||
           (reply->code == 550 && strcmp(reply->enhanced, "5.7.0") == 0);
}

static enum outcome send_identity(struct introduction *intro)
{
    char line[XCLIENT_LINE_MAX + 1], text[256];
    struct xclient_identity identity = {
        .client = intro->client->address,
        .local = intro->client->local,
    };
    if (intro->offered == 0)
        return identity_refused(intro, "XCLIENT is not offered to us");
    if (xclient_format(&identity, intro->offered, line) == 0)
        return identity_refused(intro, "the XCLIENT line would be too long");
    enum io_result result = nexthop_command(intro->hop, line, intro->verdict, step(intro));
    if (result != IO_OK)
        return lost(intro, "XCLIENT", result);
    if (intro->verdict->code == 220)
        return READY;
    if (refuses_xclient(intro->verdict) || intro->verdict->code < 400) {
        /* What was learned of XCLIENT no longer holds: ask by EHLO next time. */
        struct nexthop_capabilities seen;
        backend_capabilities(intro->backend, &seen);
        seen.xclient = 0;
        backend_learn(intro->backend, &seen, true);
        return identity_refused(intro, reply_summary(intro->verdict, text, sizeof text));
    }
    return REFUSED;
}

/* The client's own EHLO or HELO. A backend that knows no EHLO gets HELO. */
static enum outcome hello_as_client(struct introduction *intro)
{
    bool named = intro->settings->identity == CONFIG_IDENTITY_NONE;
    const char *name = named ? backend_hostname(intro->backend) : intro->client->helo;
    bool esmtp = intro->client->esmtp || named;
    enum io_result result = nexthop_hello(intro->hop, esmtp, name, intro->verdict, step(intro));

    if (result == IO_OK && esmtp && reply_is_permanent(intro->verdict))
        result = nexthop_hello(intro->hop, false, name, intro->verdict, step(intro));
    if (result != IO_OK)
        return lost(intro, "EHLO", result);
    if (!reply_is_positive(intro->verdict))
        return REFUSED;
    if (esmtp)
        backend_learn(intro->backend, &intro->hop->capabilities, named);
    return READY;
}

static enum outcome converse(struct introduction *intro, bool tls)
{
    bool identify = intro->settings->identity == CONFIG_IDENTITY_XCLIENT;
    enum outcome outcome = greet(intro);

    if (outcome == READY && (tls || (identify && intro->offered == 0)))
        outcome = hello_ourselves(intro);
    if (outcome == READY && tls)
        outcome = start_tls(intro);
    if (outcome == READY && identify)
        outcome = send_identity(intro);
    if (outcome == READY)
        outcome = hello_as_client(intro);
    return outcome;
}

static enum outcome attempt(struct introduction *intro, struct stream_buffers *buffers, bool tls)
{
    struct nexthop_capabilities known;
    enum own_reply why;
    struct error err;
    int fd = backend_connect(intro->backend, &intro->host, &why, &err);

    if (fd < 0) {
        log_problem(intro, LOG_LEVEL_WARNING, "event=backend-unreachable", err.text);
        reply_own(intro->verdict, why);
        return REFUSED;
    }
    backend_capabilities(intro->backend, &known);
    intro->offered = known.xclient;
    nexthop_init(intro->hop, fd, buffers);
    enum outcome outcome = converse(intro, tls);
    if (outcome != READY) {
        if (outcome == TLS_FAILED)
            stream_abort(&intro->hop->stream);
        else
            nexthop_quit(intro->hop);
        backend_disconnected(intro->backend);
    }
    return outcome;
}

int introduce(struct backend *backend, const struct client_identity *client, struct nexthop *hop,
              struct stream_buffers *buffers, struct reply *verdict)
{
    struct introduction intro = {
        .backend = backend,
        .settings = backend_settings(backend),
        .client = client,
        .hop = hop,
        .verdict = verdict,
        .deadline = deadline_in_ms(TOTAL_TIMEOUT_MS),
    };
    bool tls = wants_tls(&intro);
    enum outcome outcome = attempt(&intro, buffers, tls);

    /* After a failed handshake only a fresh connection may go on in plain text, and only under
     * "may": a mirrored session must not lose the TLS that the backend's rules may ask for. */
    if (outcome == TLS_FAILED && intro.settings->tls == CONFIG_TLS_MAY)
        outcome = attempt(&intro, buffers, false);
    else if (outcome == TLS_FAILED)
        reply_own(verdict, REPLY_BACKEND_CONFIG);
    return outcome == READY ? 0 : -1;
}
