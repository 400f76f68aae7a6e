/* relay-in/backend-connect.c - makes a backend connection on which MAIL can follow
 *
 * The order of steps (XCLIENT is lock-step; it may be the first command after the greeting, and whatever it
 * resets must come after it):
 *   a spare                   XCLIENT | EHLO client
 *   plain, attributes known   greeting | XCLIENT | EHLO client
 *   plain, not known          greeting | EHLO us | XCLIENT | EHLO client
 *   TLS                       greeting | EHLO us | STARTTLS | XCLIENT | EHLO client
 *   PROXY                     header, greeting | EHLO client
 *   PROXY, TLS                header, greeting | EHLO us | STARTTLS | EHLO client
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-in/backend-connect.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "net/proxy.h"
#include "relay-in/backend-internal.h"

#define TOTAL_TIMEOUT_MS 180000 /* for everything: below the 300 s that a client waits for RCPT */

enum outcome {
    READY,
    REFUSED,    /* the reply is for the client */
    TLS_FAILED, /* under "may"; a fresh connection may go without */
    STALE,      /* a dead spare, or something assumed no longer holds: a fresh connection may
                   work */
    UNFIT,      /* this host cannot serve this session, but perhaps others; another host may. The
                   reply is set too */
    HOST_DOWN,  /* no positive greeting: this host serves nobody. The same */
};

struct introduction {
    struct backend *backend;
    const struct config_backend *settings;
    const struct client_identity *client;
    struct nexthop *hop;
    struct reply *reply;
    struct address host;
    size_t next_host; /* the next to try, if this one serves nobody */
    struct deadline deadline;
    unsigned offered; /* XCLIENT attributes */
    bool spare;       /* the connection is a spare: greeted, and nothing sent for the client */
    bool assumed;     /* the attributes were announced on another connection, or earlier */
    bool again;       /* a connection was STALE */
    bool introduced;  /* XCLIENT was accepted */
    char reason[200]; /* the last one logged */
};

static bool backend_has_other_host(const struct introduction *intro)
{
    return intro->settings->hosts.count > 1 && intro->next_host < intro->settings->hosts.count;
}

/* The time for one step if it may take long for this client only. */
static struct deadline backend_long_step(const struct introduction *intro)
{
    return deadline_earlier(deadline_in_ms(intro->settings->command_timeout_ms), intro->deadline);
}

/* The time for one step. Less if another host is left, so that the client still waits when that one answers. */
static struct deadline backend_step(const struct introduction *intro)
{
    struct deadline deadline = backend_long_step(intro);
    return backend_has_other_host(intro)
               ? deadline_earlier(deadline, deadline_in_ms(BACKEND_STEP_MS))
               : deadline;
}

enum problem {
    PROBLEM_UNREACHABLE,
    PROBLEM_GREETING,
    PROBLEM_HELLO,
    PROBLEM_IDENTITY,
    PROBLEM_TLS,
    PROBLEM_LOST,
    PROBLEM_TIMEOUT
};

/* Logs and counts a problem. */
static void backend_log_problem(struct introduction *intro, enum log_level level,
                                enum problem problem, const char *reason)
{
    static const struct {
        const char *event;
        enum counter counter;
    } problems[] = {
        [PROBLEM_UNREACHABLE] = {"event=backend-unreachable", COUNTER_BACKEND_UNREACHABLE},
        [PROBLEM_GREETING] = {"event=backend-greeting", COUNTER_BACKEND_GREETING},
        [PROBLEM_HELLO] = {"event=backend-hello", COUNTER_BACKEND_GREETING},
        [PROBLEM_IDENTITY] = {"event=backend-identity", COUNTER_BACKEND_IDENTITY},
        [PROBLEM_TLS] = {"event=backend-tls", COUNTER_BACKEND_TLS},
        [PROBLEM_LOST] = {"event=backend-lost", COUNTER_BACKEND_LOST},
        [PROBLEM_TIMEOUT] = {"event=backend-lost", COUNTER_BACKEND_TIMEOUT},
    };
    struct log_line line;
    char host[ADDRESS_TEXT_MAX];

    snprintf(intro->reason, sizeof intro->reason, "%s", reason);
    counters_add(intro->backend->counters, problems[problem].counter, 1);
    log_begin(&line, level, problems[problem].event);
    log_str(&line, "session", intro->client->session_id);
    /* Without a connection the first of its hosts names it, as in status. */
    log_str(&line, "backend",
            address_format_endpoint(
                problem == PROBLEM_UNREACHABLE ? &intro->settings->hosts.items[0] : &intro->host,
                host));
    log_str(&line, "reason", reason);
    log_end(&line);
}

static enum outcome backend_lost(struct introduction *intro, const char *at, enum io_result result)
{
    char reason[128];

    if (intro->spare && (result != IO_TIMEOUT || !intro->introduced))
        return STALE;
    snprintf(reason, sizeof reason, "%s: %s", at, io_result_name(result));
    backend_log_problem(intro, LOG_LEVEL_WARNING,
                        result == IO_TIMEOUT ? PROBLEM_TIMEOUT : PROBLEM_LOST, reason);
    reply_own(intro->reply, REPLY_BACKEND_LOST);
    /* No second wait for the only host, whose time may have gone to the client's own name servers. */
    return result == IO_TIMEOUT && !backend_has_other_host(intro) ? REFUSED : UNFIT;
}

static bool backend_uses_proxy(const struct introduction *intro)
{
    return config_proxy_of(intro->settings) != 0;
}

static enum outcome backend_identity_refused(struct introduction *intro, const char *reason)
{
    char text[500];
    snprintf(text, sizeof text, "%s; nothing is delivered until %s", reason,
             backend_uses_proxy(intro)
                 ? "the backend's port expects PROXY headers from this host (or "
                   "backend.identity is changed)"
                 : "this host's address is in the backend's smtpd_authorized_xclient_hosts (or "
                   "backend.identity is changed)");
    backend_log_problem(intro, LOG_LEVEL_ERROR, PROBLEM_IDENTITY, text);
    reply_own(intro->reply, REPLY_BACKEND_CONFIG);
    return UNFIT;
}

static enum outcome backend_introduce_send_header(struct introduction *intro)
{
    const struct proxy_header proxy = {.source = intro->client->address,
                                       .destination = intro->client->local};

    enum io_result result = nexthop_send_proxy(intro->hop, &proxy, config_proxy_of(intro->settings),
                                               backend_step(intro));
    return result == IO_OK ? READY : backend_lost(intro, "PROXY header", result);
}

/* Is the refusal about the client? After a PROXY header the greeting concerns the client, unless it shows that the
 * header was not understood. */
static bool backend_judges_client(const struct introduction *intro)
{
    return backend_uses_proxy(intro) && intro->reply->code >= 400 && intro->reply->code != 554 &&
           strncmp(intro->reply->enhanced, "5.5.", 4) != 0;
}

static enum outcome backend_greet(struct introduction *intro)
{
    char text[256];
    /* A PROXY header has named the client. */
    enum io_result result = nexthop_greeting(intro->hop, intro->reply,
                                             backend_uses_proxy(intro) ? backend_long_step(intro)
                                                                       : backend_step(intro));
    if (result != IO_OK) {
        backend_lost(intro, "greeting", result);
        /* After a PROXY header, a server may hang up on a client that it does not want. */
        return backend_uses_proxy(intro) && result != IO_TIMEOUT ? UNFIT : HOST_DOWN;
    }
    if (reply_is_positive(intro->reply) || backend_judges_client(intro)) {
        backend_greeted(intro->backend, intro->next_host);
        return reply_is_positive(intro->reply) ? READY : REFUSED;
    }
    if (backend_uses_proxy(intro) && reply_is_permanent(intro->reply))
        return backend_identity_refused(intro, reply_summary(intro->reply, text, sizeof text));
    /* This refuses us, not the client, so the client must never get it as a permanent refusal. */
    backend_log_problem(intro,
                        reply_is_permanent(intro->reply) ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING,
                        PROBLEM_GREETING, reply_summary(intro->reply, text, sizeof text));
    reply_own(intro->reply, REPLY_BACKEND_BUSY);
    return HOST_DOWN;
}

/* 500 to 503: the command itself was not understood. */
static bool backend_refuses_command(const struct reply *reply)
{
    return reply->code >= 500 && reply->code <= 503;
}

static enum nexthop_hello backend_hello_form(const struct introduction *intro, bool esmtp)
{
    if (!esmtp)
        return NEXTHOP_HELO;
    return backend_uses_proxy(intro) ? NEXTHOP_EHLO : NEXTHOP_EHLO_OR_HELO;
}

/* An EHLO in our own name was refused. As with the greeting, this is about us and not about the client, unless a
 * PROXY header has named one. */
static enum outcome backend_hello_refused(struct introduction *intro)
{
    char text[256];

    backend_log_problem(intro, LOG_LEVEL_ERROR, PROBLEM_HELLO,
                        reply_summary(intro->reply, text, sizeof text));
    reply_own(intro->reply, REPLY_BACKEND_BUSY);
    return backend_uses_proxy(intro) ? UNFIT : HOST_DOWN;
}

/* Sends EHLO in our own name, to learn what the backend offers us. Its offer before STARTTLS does not count after
 * it, least of all for logins. */
static enum outcome backend_hello_ourselves(struct introduction *intro, bool tls)
{
    enum io_result result =
        nexthop_hello(intro->hop, backend_hello_form(intro, true), intro->backend->config->hostname,
                      intro->reply, backend_step(intro));
    char text[256];
    if (result != IO_OK)
        return backend_lost(intro, "EHLO", result);
    /* If the PROXY header was not understood, its error arrives here. */
    if (backend_uses_proxy(intro) && backend_refuses_command(intro->reply))
        return backend_identity_refused(intro, reply_summary(intro->reply, text, sizeof text));
    if (!reply_is_positive(intro->reply))
        return backend_hello_refused(intro);
    if (!tls || !(intro->hop->capabilities.extensions & EXTENSION_STARTTLS))
        backend_learn(intro->backend, &intro->hop->capabilities, true);
    intro->offered = intro->hop->capabilities.xclient;
    intro->assumed = false;
    return READY;
}

/* Logs a TLS failure, with what the operator can do. */
static void backend_log_tls_failure(struct introduction *intro, const char *reason)
{
    static const char *const remedies[] = {
        [CONFIG_TLS_MIRROR] =
            "mail that comes under TLS gets 451 until the backend's TLS works, or "
            "backend.tls is changed",
        [CONFIG_TLS_MAY] = "continuing in plain text",
        [CONFIG_TLS_ENCRYPT] = "all mail gets 451 until the backend's TLS works, or backend.tls is "
                               "changed",
        [CONFIG_TLS_VERIFY] = "all mail gets 451 until its certificate is for backend.tls_name and "
                              "comes from a CA in backend.ca_file",
    };
    char text[ERROR_TEXT_MAX + 200];
    bool may = intro->settings->tls == CONFIG_TLS_MAY;
    snprintf(text, sizeof text, "%s; %s", reason, remedies[intro->settings->tls]);
    backend_log_problem(intro, may ? LOG_LEVEL_WARNING : LOG_LEVEL_ERROR, PROBLEM_TLS, text);
}

static enum outcome backend_start_tls(struct introduction *intro)
{
    struct error err = {""};

    if (!(intro->hop->capabilities.extensions & EXTENSION_STARTTLS)) {
        if (!backend_must_tls(intro->backend))
            return READY;
        backend_log_problem(intro, LOG_LEVEL_ERROR, PROBLEM_TLS,
                            "STARTTLS is not offered, but backend.tls requires it");
        reply_own(intro->reply, REPLY_BACKEND_CONFIG);
        return UNFIT;
    }
    enum io_result result =
        nexthop_starttls(intro->hop, intro->backend->tls, backend_tls_name(intro->backend), NULL,
                         intro->reply, backend_step(intro), &err);
    if (result == IO_OK)
        return READY;
    backend_log_tls_failure(intro, err.text);
    /* A mirrored session must not lose TLS, which the backend's rules may depend on. */
    if (intro->settings->tls == CONFIG_TLS_MAY)
        return TLS_FAILED;
    reply_own(intro->reply, REPLY_BACKEND_CONFIG);
    return UNFIT;
}

/* Does the reply refuse XCLIENT itself? 500 to 503 and 550 5.7.0 do, and a 550 without an enhanced code may. Any
 * other refusal instead of its 220 is the backend's verdict on the real client. */
static bool backend_refuses_xclient(const struct reply *reply)
{
    return backend_refuses_command(reply) ||
           (reply->code == 550 &&
            (reply->enhanced[0] == '\0' || strcmp(reply->enhanced, "5.7.0") == 0));
}

static enum outcome backend_send_identity(struct introduction *intro)
{
    char line[XCLIENT_LINE_MAX + 1], text[256];
    struct reverse_names names = {.status = REVERSE_UNAVAILABLE};
    if (intro->client->names != NULL)
        reverse_peek(intro->client->names, &names);
    const struct xclient_identity identity = {
        .name = names.status == REVERSE_VERIFIED ? names.name : NULL,
        .reverse_name = names.reverse_name[0] != '\0' ? names.reverse_name : NULL,
        .name_temporary = names.status == REVERSE_TEMPORARY,
        .client = intro->client->address,
        .local = intro->client->local,
    };
    if (intro->offered == 0)
        return intro->spare ? STALE
                            : backend_identity_refused(intro, "XCLIENT is not offered to us");
    if (xclient_format(&identity, intro->offered, line) == 0)
        return backend_identity_refused(
            intro, "the XCLIENT line would be too long, or ADDR is not offered");
    /* A spare has been silent for a long time; now it shows whether it is still alive. */
    struct deadline deadline = backend_step(intro);
    if (intro->spare)
        deadline = deadline_earlier(deadline, deadline_in_ms(intro->settings->connect_timeout_ms));
    enum io_result result = nexthop_command(intro->hop, line, intro->reply, deadline);
    if (result != IO_OK)
        return backend_lost(intro, "XCLIENT", result);
    intro->introduced = true;
    if (intro->reply->code == 220)
        return READY;
    if (backend_refuses_xclient(intro->reply) || intro->reply->code < 400) {
        /* What we learned about XCLIENT no longer holds: ask by EHLO next time, which is now if this
         * connection was not asked itself. */
        struct nexthop_capabilities seen;
        backend_capabilities(intro->backend, &seen);
        seen.xclient = 0;
        backend_learn(intro->backend, &seen, true);
        return intro->assumed ? STALE
                              : backend_identity_refused(
                                    intro, reply_summary(intro->reply, text, sizeof text));
    }
    return intro->spare && intro->reply->code == 421 ? STALE : REFUSED;
}

/* The client's own name, or its address literal if others would not accept that name (RFC 5321 4.1.4). */
static const char *backend_name_of_client(const struct client_identity *client,
                                          char literal[ADDRESS_TEXT_MAX + 8])
{
    char ip[ADDRESS_TEXT_MAX];

    if (client->helo_is_valid)
        return client->helo;
    snprintf(literal, ADDRESS_TEXT_MAX + 8, "[%s%s]",
             client->address.family == AF_INET6 ? "IPv6:" : "",
             address_format_ip(&client->address, ip));
    return literal;
}

/* Sends the client's own EHLO or HELO. A backend without EHLO gets HELO. */
static enum outcome backend_hello_as_client(struct introduction *intro)
{
    bool named = intro->settings->identity == CONFIG_IDENTITY_NONE;
    char literal[ADDRESS_TEXT_MAX + 8];
    const char *name =
        named ? intro->backend->config->hostname : backend_name_of_client(intro->client, literal);
    bool esmtp = intro->client->esmtp || named;
    char text[256];

    enum io_result result = nexthop_hello(intro->hop, backend_hello_form(intro, esmtp), name,
                                          intro->reply, backend_step(intro));

    /* As above: the error of a PROXY header. */
    if (result == IO_OK && backend_uses_proxy(intro) && backend_refuses_command(intro->reply))
        return backend_identity_refused(intro, reply_summary(intro->reply, text, sizeof text));
    if (result != IO_OK || intro->reply->code / 100 == 3)
        return backend_lost(intro, "EHLO", result != IO_OK ? result : IO_FAILED);
    if (intro->spare && intro->reply->code == 421)
        return STALE;
    if (!reply_is_positive(intro->reply))
        return named ? backend_hello_refused(intro) : REFUSED;
    if (esmtp)
        backend_learn(intro->backend, &intro->hop->capabilities, named);
    return READY;
}

/* Asks in our own name what is offered, if that must be known first, and starts TLS. */
static enum outcome backend_open_dialog(struct introduction *intro, bool tls)
{
    bool identify = intro->settings->identity == CONFIG_IDENTITY_XCLIENT;
    enum outcome outcome = backend_uses_proxy(intro) ? backend_introduce_send_header(intro) : READY;

    if (outcome == READY)
        outcome = backend_greet(intro);
    if (outcome == READY && (tls || (identify && intro->offered == 0)))
        outcome = backend_hello_ourselves(intro, tls);
    if (outcome == READY && tls)
        outcome = backend_start_tls(intro);
    /* XCLIENT may be offered under TLS only. */
    if (outcome == READY && tls && identify && intro->offered == 0)
        outcome = backend_hello_ourselves(intro, false);
    return outcome;
}

/* Does all steps. A spare has already done the first ones. */
static enum outcome backend_introduce_converse(struct introduction *intro, bool tls)
{
    int identity = intro->settings->identity;
    enum outcome outcome = intro->spare ? READY : backend_open_dialog(intro, tls);

    if (outcome == READY && identity == CONFIG_IDENTITY_XCLIENT)
        outcome = backend_send_identity(intro);
    /* With our own identity, a spare has already sent EHLO. */
    if (outcome == READY && !(intro->spare && identity == CONFIG_IDENTITY_NONE))
        outcome = backend_hello_as_client(intro);
    return outcome;
}

/* Takes a spare, or makes a fresh connection. */
static bool backend_get_connection(struct introduction *intro, struct stream_buffers *buffers,
                                   bool tls, bool spare_too)
{
    struct nexthop_capabilities known;
    struct error err;

    intro->spare = spare_too && backend_take_spare(intro->backend, tls, intro->hop, &intro->host);
    if (intro->spare) {
        stream_lend(&intro->hop->stream, buffers);
        intro->offered = intro->hop->capabilities.xclient;
        intro->assumed = true;
        return true;
    }
    int fd = backend_connect(intro->backend, &intro->next_host, &intro->host, false, &err);
    if (fd < 0) {
        backend_log_problem(intro, LOG_LEVEL_WARNING, PROBLEM_UNREACHABLE, err.text);
        reply_own(intro->reply, REPLY_BACKEND_UNREACHABLE);
        return false;
    }
    backend_capabilities(intro->backend, &known);
    intro->offered = known.xclient;
    intro->assumed = !intro->again;
    nexthop_init(intro->hop, fd, buffers);
    return true;
}

static enum outcome backend_attempt(struct introduction *intro, struct stream_buffers *buffers,
                                    bool tls, bool spare_too)
{
    if (!backend_get_connection(intro, buffers, tls, spare_too))
        return REFUSED;
    enum outcome outcome = backend_introduce_converse(intro, tls);
    if (outcome != READY) {
        if (outcome == TLS_FAILED || outcome == STALE || outcome == HOST_DOWN)
            stream_abort(&intro->hop->stream);
        else
            nexthop_quit(intro->hop);
    }
    return outcome;
}

/* Is another connection worth a try? A host that serves nobody is left alone for a while. One that may only refuse
 * this client is not: that would let one client harm others. One for which no time is left would seem to be down. */
static bool backend_may_go_on(struct introduction *intro, enum outcome outcome)
{
    switch (outcome) {
    case STALE:
        /* The other spares are probably dead too. */
        if (intro->spare)
            backend_doubt_spares(intro->backend);
        else
            intro->next_host--; /* the same host, which is asked now */
        intro->again = true;
        return true;
    case UNFIT:
        if (!intro->spare)
            backend_greeted(intro->backend, intro->next_host);
        return intro->next_host < intro->settings->hosts.count &&
               !deadline_passed(intro->deadline);
    case HOST_DOWN:
        return backend_try_next(intro->backend, intro->next_host) &&
               !deadline_passed(intro->deadline);
    case READY:
    case REFUSED:
    case TLS_FAILED:
        break;
    }
    return false;
}

/* Tries one host after the other, from `next_host` on. A connection is STALE once at most: from then on nothing is
 * assumed. */
static enum outcome backend_try_hosts(struct introduction *intro, struct stream_buffers *buffers,
                                      bool tls, bool spare_too)
{
    enum outcome outcome = backend_attempt(intro, buffers, tls, spare_too);

    while (backend_may_go_on(intro, outcome))
        outcome = backend_attempt(intro, buffers, tls, false);
    if (outcome == HOST_DOWN)
        backend_note(intro->backend, false, intro->reason);
    return outcome;
}

int backend_introduce(struct backend *backend, const struct client_identity *client,
                      struct nexthop *hop, struct stream_buffers *buffers, struct reply *reply)
{
    struct introduction intro = {
        .backend = backend,
        .settings = backend->settings,
        .client = client,
        .hop = hop,
        .reply = reply,
        .deadline = deadline_in_ms(TOTAL_TIMEOUT_MS),
    };
    bool tls = backend_wants_tls(backend, client->tls);
    enum outcome outcome = backend_try_hosts(&intro, buffers, tls, true);

    /* After a failed handshake only a fresh connection may continue in plain text. */
    if (outcome == TLS_FAILED) {
        intro.next_host = 0;
        outcome = backend_try_hosts(&intro, buffers, false, false);
    }
    return outcome == READY ? 0 : -1;
}
