/* out/contact.c - from a destination to a connection on which MAIL can follow
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "out/contact.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/base64.h"
#include "base/log.h"
#include "net/dial.h"
#include "out/candidates.h"
#include "out/tlspolicy.h"

#define DNS_TIMEOUT_MS 30000
#define PLACE_WAIT_MS 20000 /* for another message to the same destination to end */
#define USER_TIMEOUT_MS 120000
#define REUSE_MESSAGES 100    /* of one connection */
#define REUSE_AGE_MS 300000   /* as Postfix has it */
#define PING_TIMEOUT_MS 10000 /* for RSET on a connection that was kept */

enum outcome {
    READY,
    NEXT,       /* this address will not do; the verdict says why */
    TLS_FAILED, /* a fresh connection may do without, under "may" */
};

struct attempt {
    struct contact *contact;
    const struct candidate *candidate;
    struct tls_need need;
};

static const struct config_out_timeouts *timeouts(const struct contact *contact)
{
    return &contact->out->config->out.timeouts;
}

static struct deadline step(const struct contact *contact, int64_t ms)
{
    return deadline_earlier(deadline_in_ms(ms), contact->deadline);
}

static struct deadline reply_step(const struct contact *contact)
{
    return step(contact, timeouts(contact)->reply);
}

static void log_line_of(const struct contact *contact, enum log_level level, const char *text)
{
    struct log_line line;
    log_begin(&line, level, "");
    log_text(&line, "%s", text);
    log_str(&line, "session", contact->session);
    log_end(&line);
}

/* The verdict, unless a later address does better; and a line in the log. */
__attribute__((format(printf, 3, 4))) static enum outcome
fail(struct contact *contact, const char *enhanced, const char *format, ...)
{
    char text[600];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    log_line_of(contact, LOG_LEVEL_INFO, text);
    reply_set(contact->verdict, 451, enhanced, "%.480s", text);
    return NEXT;
}

static enum outcome fail_io(struct attempt *attempt, const char *at, enum io_result result)
{
    return fail(attempt->contact, "4.4.2", "%s while %s with %s",
                result == IO_FAILED ? "lost connection or garbage" : io_result_name(result), at,
                attempt->contact->remote->name);
}

static enum outcome fail_reply(struct attempt *attempt, const char *to)
{
    char text[400];
    return fail(attempt->contact, "4.4.1", "host %s said: %s (in reply to %s)",
                attempt->contact->remote->name,
                reply_summary(attempt->contact->verdict, text, sizeof text), to);
}

/* Left alone for a while: nobody else's time shall be spent on it. */
static void mark_dead(struct attempt *attempt, const char *reason)
{
    remotes_mark(attempt->contact->out->remotes, REMOTE_DEAD, &attempt->candidate->address, reason,
                 attempt->contact->out->config->out.dead_for_ms);
}

static const struct address *source_for(const struct config_out *config, int family)
{
    for (size_t i = 0; i < config->source.count; i++) {
        if (config->source.items[i].family == family)
            return &config->source.items[i];
    }
    return NULL;
}

static enum outcome open_connection(struct attempt *attempt)
{
    struct contact *contact = attempt->contact;
    const struct address *address = &attempt->candidate->address;
    struct error err;

    int fd = dial_connect(address, source_for(&contact->out->config->out, address->family),
                          USER_TIMEOUT_MS, step(contact, timeouts(contact)->connect), &err);
    if (fd < 0) {
        if (!dial_failed_here(errno))
            mark_dead(attempt, err.text);
        return fail(contact, "4.4.1", "%s (%s)", err.text, attempt->candidate->host);
    }
    nexthop_init(&contact->remote->hop, fd, contact->buffers);
    contact->remote->since_ms = deadline_now_ms();
    contact->remote->messages = 0;
    return READY;
}

/* A backend that takes relay-in's PROXY headers waits for one from us, too. It says what the connection
 * says: LOCAL and UNKNOWN, meant for this, are not known everywhere (Postfix refuses the latter). */
static enum outcome send_proxy_header(struct attempt *attempt)
{
    struct contact *contact = attempt->contact;
    struct stream *stream = &contact->remote->hop.stream;
    struct proxy_header header = {.destination = attempt->candidate->address};
    char text[PROXY_HEADER_MAX];

    if (contact->route->proxy == 0)
        return READY;
    address_of_socket(&header.source, stream->fd);
    size_t len = proxy_format(&header, contact->route->proxy, text);
    enum io_result result = stream_put(stream, text, len, reply_step(contact));
    if (result == IO_OK)
        result = stream_flush(stream, reply_step(contact));
    return result == IO_OK ? READY : fail_io(attempt, "sending the PROXY header", result);
}

/* RFC 5321 4.2.1 would have a 5xx here be final; but it judges this host and this moment, not the
 * mail, and another host may think otherwise. */
static enum outcome greet(struct attempt *attempt)
{
    struct contact *contact = attempt->contact;
    enum io_result result = nexthop_greeting(&contact->remote->hop, contact->verdict,
                                             step(contact, timeouts(contact)->greeting));
    if (result == IO_OK)
        return contact->verdict->code == 220 ? READY : fail_reply(attempt, "the connection");
    if (result == IO_TIMEOUT)
        mark_dead(attempt, "no greeting");
    return fail_io(attempt, "receiving the greeting", result);
}

static enum outcome say_hello(struct attempt *attempt)
{
    struct contact *contact = attempt->contact;
    struct nexthop *hop = &contact->remote->hop;
    const char *name = outbound_hello(contact->out);

    enum io_result result = nexthop_hello(hop, true, name, contact->verdict, reply_step(contact));
    /* RFC 5321 3.2: who knows no EHLO may know HELO. Not under TLS, which is newer than EHLO. */
    if (result == IO_OK && reply_is_permanent(contact->verdict) && hop->stream.tls == NULL)
        result = nexthop_hello(hop, false, name, contact->verdict, reply_step(contact));
    if (result != IO_OK)
        return fail_io(attempt, "greeting by EHLO", result);
    return reply_is_positive(contact->verdict) ? READY : fail_reply(attempt, "EHLO");
}

static void log_tls(const struct attempt *attempt)
{
    struct contact *contact = attempt->contact;
    char text[REMOTE_NAME_MAX + 200];
    struct tls_info info;

    if (!stream_tls_info(&contact->remote->hop.stream, &info))
        return;
    snprintf(text, sizeof text, "%s TLS connection established to %s: %s with cipher %s",
             attempt->need.level == CONFIG_OUT_TLS_VERIFY ? "Verified" : "Untrusted",
             contact->remote->name, info.version, info.cipher);
    log_line_of(contact, LOG_LEVEL_INFO, text);
}

static struct tls_client *tls_client_for(const struct attempt *attempt)
{
    const struct contact *contact = attempt->contact;
    if (attempt->need.level != CONFIG_OUT_TLS_VERIFY)
        return contact->out->tls_any;
    return contact->route->tls_client != NULL ? contact->route->tls_client
                                              : contact->out->tls_verify;
}

static enum outcome handshake_failed(struct attempt *attempt, const char *reason)
{
    struct contact *contact = attempt->contact;
    bool may = attempt->need.level == CONFIG_OUT_TLS_MAY;

    fail(contact, "4.7.5", "TLS with %s failed: %s%s", contact->remote->name, reason,
         may ? "; plain text is tried, and used for out.tls.failures_for" : "");
    if (!may)
        return NEXT;
    remotes_mark(contact->out->remotes, REMOTE_TLS_FAILED, &attempt->candidate->address, reason,
                 contact->out->config->out.tls.failures_for_ms);
    return TLS_FAILED;
}

static enum outcome start_tls(struct attempt *attempt)
{
    struct contact *contact = attempt->contact;
    struct nexthop *hop = &contact->remote->hop;
    bool may = attempt->need.level == CONFIG_OUT_TLS_MAY;
    struct error err = {""};

    if (attempt->need.level == CONFIG_OUT_TLS_NONE)
        return READY;
    if (!(hop->capabilities.extensions & NEXTHOP_STARTTLS))
        return may ? READY
                   : fail(contact, "4.7.4", "TLS is required (%s), but was not offered by host %s",
                          attempt->need.why, contact->remote->name);
    enum io_result result =
        nexthop_starttls(hop, tls_client_for(attempt), attempt->need.name, contact->verdict,
                         step(contact, timeouts(contact)->handshake), &err);
    if (result == IO_OK) {
        log_tls(attempt);
        return say_hello(attempt);
    }
    if (contact->verdict->code >= 400 && !hop->stream.broken)
        return may ? READY : fail_reply(attempt, "STARTTLS");
    return handshake_failed(attempt, err.text[0] != '\0' ? err.text : io_result_name(result));
}

/* Log-in at a smarthost. */

static bool offers(const char *mechanisms, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = mechanisms; *at != '\0';) {
        size_t word = strcspn(at, " ");
        if (word == len && strncasecmp(at, name, len) == 0)
            return true;
        at += word + strspn(at + word, " ");
    }
    return false;
}

#define SECRET_MAX (2 * ROUTE_PASSWORD_MAX + 260)

static enum io_result log_in_plain(struct attempt *attempt, const char *user, const char *password)
{
    struct contact *contact = attempt->contact;
    char said[SECRET_MAX], line[BASE64_SIZE(SECRET_MAX) + 16], text[BASE64_SIZE(SECRET_MAX)];
    int len = snprintf(said, sizeof said, "%c%.255s%c%s", 0, user, 0, password);

    snprintf(line, sizeof line, "AUTH PLAIN %s\r\n", base64_encode(said, (size_t)len, text));
    enum io_result result =
        nexthop_command(&contact->remote->hop, line, contact->verdict, reply_step(contact));
    explicit_bzero(said, sizeof said);
    explicit_bzero(text, sizeof text);
    explicit_bzero(line, sizeof line);
    return result;
}

static enum io_result log_in_login(struct attempt *attempt, const char *user, const char *password)
{
    struct contact *contact = attempt->contact;
    struct nexthop *hop = &contact->remote->hop;
    const char *answers[] = {user, password};
    char line[BASE64_SIZE(ROUTE_PASSWORD_MAX + 1) + 8];

    enum io_result result =
        nexthop_command(hop, "AUTH LOGIN\r\n", contact->verdict, reply_step(contact));
    for (int i = 0; i < 2 && result == IO_OK && contact->verdict->code == 334; i++) {
        size_t len = strlen(answers[i]);
        base64_encode(answers[i], len < ROUTE_PASSWORD_MAX ? len : ROUTE_PASSWORD_MAX, line);
        strcat(line, "\r\n");
        result = nexthop_command(hop, line, contact->verdict, reply_step(contact));
    }
    explicit_bzero(line, sizeof line);
    return result;
}

static enum outcome log_in(struct attempt *attempt)
{
    struct contact *contact = attempt->contact;
    const struct route *route = contact->route;
    struct nexthop *hop = &contact->remote->hop;
    enum io_result result;
    char text[400];

    if (route->user[0] == '\0')
        return READY;
    if (offers(hop->capabilities.mechanisms, "PLAIN"))
        result = log_in_plain(attempt, route->user, route->password);
    else if (offers(hop->capabilities.mechanisms, "LOGIN"))
        result = log_in_login(attempt, route->user, route->password);
    else
        return fail(contact, "4.7.8", "host %s offers neither AUTH PLAIN nor LOGIN",
                    contact->remote->name);
    stream_wipe(&hop->stream);
    if (result != IO_OK)
        return fail_io(attempt, "logging in", result);
    if (contact->verdict->code == 235)
        return READY;
    return fail(contact, "4.7.8", "host %s does not accept our log-in: %s", contact->remote->name,
                reply_summary(contact->verdict, text, sizeof text));
}

/* One address. */

static enum outcome converse(struct attempt *attempt)
{
    enum outcome outcome = send_proxy_header(attempt);
    if (outcome == READY)
        outcome = greet(attempt);
    if (outcome == READY)
        outcome = say_hello(attempt);
    if (outcome == READY)
        outcome = start_tls(attempt);
    return outcome == READY ? log_in(attempt) : outcome;
}

static enum outcome try_once(struct attempt *attempt)
{
    enum outcome outcome = open_connection(attempt);
    if (outcome != READY)
        return outcome;
    outcome = converse(attempt);
    if (outcome == NEXT)
        nexthop_quit(&attempt->contact->remote->hop);
    else if (outcome == TLS_FAILED)
        stream_abort(&attempt->contact->remote->hop.stream);
    return outcome;
}

static void find_need(struct attempt *attempt)
{
    const struct contact *contact = attempt->contact;
    const struct candidate *candidate = attempt->candidate;
    const struct tls_question question = {
        .route = contact->route,
        .domain = contact->domain,
        .host = candidate->host,
        .host_is_address = candidate->host_is_address,
        .host_secure = candidate->secure,
        .failed_before =
            remotes_is_marked(contact->out->remotes, REMOTE_TLS_FAILED, &candidate->address, NULL),
    };
    tls_policy_find(&contact->out->config->out, &question, &attempt->need);
}

static enum outcome try_candidate(struct contact *contact, const struct candidate *candidate)
{
    struct attempt attempt = {.contact = contact, .candidate = candidate};
    char ip[ADDRESS_TEXT_MAX];

    contact->remote->address = candidate->address;
    snprintf(contact->remote->name, sizeof contact->remote->name, "%s[%s]:%u", candidate->host,
             address_format_ip(&candidate->address, ip), candidate->address.port);
    find_need(&attempt);
    enum outcome outcome = try_once(&attempt);
    if (outcome == TLS_FAILED) {
        find_need(&attempt);
        attempt.need.level = CONFIG_OUT_TLS_NONE;
        outcome = try_once(&attempt);
    }
    return outcome;
}

static int try_all(struct contact *contact, const struct candidates *candidates)
{
    char reason[REMOTE_REASON_MAX];
    bool tried = false;

    for (size_t i = 0; i < candidates->count; i++) {
        const struct candidate *candidate = &candidates->items[i];
        if (deadline_passed(contact->deadline))
            break;
        if (remotes_is_marked(contact->out->remotes, REMOTE_DEAD, &candidate->address, reason)) {
            if (!tried)
                reply_set(contact->verdict, 451, "4.4.1",
                          "%s; not tried again for a while (host %.200s)", reason, candidate->host);
            continue;
        }
        tried = true;
        if (try_candidate(contact, candidate) == READY)
            return 0;
    }
    return -1;
}

static int dial(struct contact *contact)
{
    struct candidates candidates;
    enum own_reply why = candidates_find(contact->out, contact->route, contact->domain,
                                         step(contact, DNS_TIMEOUT_MS), &candidates);
    if (why != REPLY_OK) {
        log_line_of(contact, LOG_LEVEL_INFO, candidates.reason);
        reply_own(contact->verdict, why);
        return -1;
    }
    reply_set(contact->verdict, 451, "4.4.1", "No time left to reach a mail server of %s",
              contact->domain);
    return try_all(contact, &candidates);
}

/* A connection kept from a message before. It may have died without our hearing of it. */
static bool is_alive(struct contact *contact)
{
    struct remote *remote = contact->remote;

    stream_lend(&remote->hop.stream, contact->buffers);
    return remote->messages < REUSE_MESSAGES &&
           deadline_now_ms() - remote->since_ms < REUSE_AGE_MS &&
           nexthop_command(&remote->hop, "RSET\r\n", contact->verdict,
                           step(contact, PING_TIMEOUT_MS)) == IO_OK &&
           reply_is_positive(contact->verdict);
}

int contact_make(struct contact *contact)
{
    const struct outbound *out = contact->out;
    struct remote *remote = contact->remote;
    struct remotes *remotes = out->remotes;
    char key[ROUTE_KEY_MAX];

    route_key(contact->route, contact->domain, key);
    switch (remotes_enter(remotes, key, out->generation,
                          (unsigned)out->config->out.limits.sessions_per_destination,
                          step(contact, PLACE_WAIT_MS), remote)) {
    case REMOTES_KEPT:
        if (is_alive(contact))
            return 0;
        nexthop_quit(&remote->hop);
        break;
    case REMOTES_NEW:
        break;
    case REMOTES_NO_MEMORY:
        reply_own(contact->verdict, REPLY_SERVER_BUSY);
        return -1;
    case REMOTES_FULL:
        log_line_of(contact, LOG_LEVEL_WARNING,
                    "event=busy reason=out.limits.sessions_per_destination");
        reply_own(contact->verdict, REPLY_DESTINATION_BUSY);
        contact->busy = true;
        return -1;
    }
    if (dial(contact) != 0) {
        remotes_leave(remotes, key);
        return -1;
    }
    memcpy(remote->key, key, sizeof remote->key);
    remote->generation = out->generation;
    return 0;
}

void contact_end(const struct outbound *out, struct remote *remote, bool orderly)
{
    if (orderly)
        nexthop_quit(&remote->hop);
    else
        stream_abort(&remote->hop.stream);
    remotes_leave(out->remotes, remote->key);
}
