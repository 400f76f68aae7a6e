/* out/contact.c - from a destination to a connection on which MAIL can follow
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "out/contact.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/base64.h"
#include "base/log.h"
#include "net/dial.h"

#define DNS_TIMEOUT_MS 30000
#define PLACE_WAIT_MS 20000 /* for another message to the same destination to end */
#define USER_TIMEOUT_MS 120000
#define REUSE_MESSAGES 100      /* of one connection */
#define REUSE_AGE_MS 300000     /* as Postfix has it */
#define DEFERRED_FOR_MS 3600000 /* longer than a mail server waits between its first tries */
#define PING_TIMEOUT_MS 10000   /* for RSET on a connection that was kept */

/* Of one try; and how often more may follow: a stranger's zone must not send us through the whole
 * internet. */
#define CONTACT_ATTEMPTS_MAX 20
/* Where there was no time for all hosts, the dead ones are left alone for so many times dead_for, or
 * the next try would meet the same again. */
#define CONTACT_TURNS 4

enum outcome {
    READY,
    NEXT,       /* this address will not do; the verdict says why */
    TLS_FAILED, /* a fresh connection may do without, under "may" */
};

struct attempt {
    struct contact *contact;
    const struct candidate *candidate;
    const struct route *route; /* the candidate's */
    struct remote_host host;   /* the candidate, for marks */
    struct tls_need need;
    struct security_check check;
};

/* What a step may take. Only one that had all of its own time says anything of the host: the rest of
 * the time to dial may be short because of somebody else. */
struct limit {
    struct deadline deadline;
    bool whole;
};

static const struct config_out_timeouts *contact_timeouts(const struct contact *contact)
{
    return &contact->out->config->out.timeouts;
}

static struct deadline contact_step(const struct contact *contact, int64_t ms)
{
    return deadline_earlier(deadline_in_ms(ms), contact->deadline);
}

static struct limit contact_limit(const struct contact *contact, int64_t ms)
{
    return (struct limit){contact_step(contact, ms),
                          deadline_left_ms(contact->deadline) >= (int)ms};
}

static struct deadline contact_reply_step(const struct contact *contact)
{
    return contact_step(contact, contact_timeouts(contact)->reply);
}

static void contact_log_line_of(const struct contact *contact, enum log_level level,
                                const char *text)
{
    struct log_line line;
    log_begin(&line, level, "");
    log_text(&line, "%s", text);
    log_str(&line, "session", contact->session);
    log_end(&line);
}

/* The verdict, unless a later address does better; and a line in the log. */
__attribute__((format(printf, 3, 4))) static enum outcome
contact_fail(struct contact *contact, const char *enhanced, const char *format, ...)
{
    char text[600];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    contact_log_line_of(contact, LOG_LEVEL_INFO, text);
    reply_set(contact->verdict, 451, enhanced, "%.480s", text);
    return NEXT;
}

static enum outcome contact_fail_io(struct attempt *attempt, const char *at, enum io_result result)
{
    return contact_fail(attempt->contact, "4.4.2", "%s while %s with %s",
                        result == IO_FAILED ? "lost connection or garbage" : io_result_name(result),
                        at, attempt->contact->remote->name);
}

static enum outcome contact_fail_reply(struct attempt *attempt, const char *to)
{
    char text[400];
    return contact_fail(attempt->contact, "4.4.1", "host %s said: %s (in reply to %s)",
                        attempt->contact->remote->name,
                        reply_summary(attempt->contact->verdict, text, sizeof text), to);
}

/* Left alone for a while: nobody else's time shall be spent on it. */
static void contact_mark_dead(struct attempt *attempt, const char *reason)
{
    remotes_mark(attempt->contact->out->remotes, REMOTE_DEAD, &attempt->host, reason,
                 attempt->contact->out->config->out.dead_for_ms);
}

static const struct address *contact_source_for(const struct config_out *config, int family)
{
    for (size_t i = 0; i < config->source.count; i++) {
        if (config->source.items[i].family == family)
            return &config->source.items[i];
    }
    return NULL;
}

static enum outcome contact_open_connection(struct attempt *attempt)
{
    struct contact *contact = attempt->contact;
    const struct address *address = &attempt->candidate->address;
    struct error err;

    struct limit limit = contact_limit(contact, contact_timeouts(contact)->connect);
    int fd = dial_connect(address, contact_source_for(&contact->out->config->out, address->family),
                          USER_TIMEOUT_MS, limit.deadline, &err);
    if (fd < 0) {
        if (!dial_failed_here(errno) && (errno != ETIMEDOUT || limit.whole))
            contact_mark_dead(attempt, err.text);
        return contact_fail(contact, "4.4.1", "%s (%s)", err.text, attempt->candidate->host);
    }
    nexthop_init(&contact->remote->hop, fd, contact->buffers);
    contact->remote->since_ms = deadline_now_ms();
    contact->remote->messages = 0;
    return READY;
}

/* A backend that takes relay-in's PROXY headers waits for one from us, too. It says what the connection
 * says: LOCAL and UNKNOWN, meant for this, are not known everywhere (Postfix refuses the latter). */
static enum outcome contact_send_proxy_header(struct attempt *attempt)
{
    struct contact *contact = attempt->contact;
    struct nexthop *hop = &contact->remote->hop;
    struct proxy_header header = {.destination = attempt->candidate->address};

    if (attempt->route->proxy == 0)
        return READY;
    address_of_socket(&header.source, hop->stream.fd);
    enum io_result result =
        nexthop_send_proxy(hop, &header, attempt->route->proxy, contact_reply_step(contact));
    return result == IO_OK ? READY : contact_fail_io(attempt, "sending the PROXY header", result);
}

/* RFC 5321 4.2.1 would have a 5xx here be final; but it judges this host and this moment, not the
 * mail, and another host may think otherwise. */
static enum outcome contact_greet(struct attempt *attempt)
{
    struct contact *contact = attempt->contact;
    struct limit limit = contact_limit(contact, contact_timeouts(contact)->greeting);
    enum io_result result =
        nexthop_greeting(&contact->remote->hop, contact->verdict, limit.deadline);
    if (result == IO_OK)
        return reply_is_positive(contact->verdict) ? READY
                                                   : contact_fail_reply(attempt, "the connection");
    if (result == IO_TIMEOUT && limit.whole)
        contact_mark_dead(attempt, "no greeting");
    return contact_fail_io(attempt, "receiving the greeting", result);
}

static enum io_result contact_put_hello(struct attempt *attempt)
{
    struct contact *contact = attempt->contact;
    struct nexthop *hop = &contact->remote->hop;
    const char *name = outbound_hello(contact->out);

    enum io_result result = nexthop_hello(hop, NEXTHOP_EHLO_OR_HELO, name, contact->verdict,
                                          contact_reply_step(contact));
    /* As Postfix has it, who refuses EHLO for now may take HELO as well. */
    if (result == IO_OK && reply_is_transient(contact->verdict) && contact->verdict->code != 421 &&
        hop->stream.tls == NULL)
        result =
            nexthop_hello(hop, NEXTHOP_HELO, name, contact->verdict, contact_reply_step(contact));
    return result;
}

static enum outcome contact_say_hello(struct attempt *attempt)
{
    enum io_result result = contact_put_hello(attempt);
    if (result != IO_OK)
        return contact_fail_io(attempt, "greeting by EHLO", result);
    return reply_is_positive(attempt->contact->verdict) ? READY
                                                        : contact_fail_reply(attempt, "EHLO");
}

/* In Postfix's words: "Trusted" is who is proven, but not to be the domain's host. */
static const char *contact_trust_name(const struct tls_need *need)
{
    if (need->level < CONFIG_OUT_TLS_VERIFY)
        return "Untrusted";
    return need->unproven ? "Trusted" : "Verified";
}

static void contact_log_tls(const struct attempt *attempt)
{
    struct contact *contact = attempt->contact;
    struct tls_info info;
    struct log_line line;

    if (!stream_tls_info(&contact->remote->hop.stream, &info))
        return;
    log_begin(&line, LOG_LEVEL_INFO, "");
    log_text(&line, "%s TLS connection established to %s: %s with cipher %s",
             contact_trust_name(&attempt->need), contact->remote->name, info.version, info.cipher);
    log_str(&line, "policy", attempt->need.why);
    if (attempt->check.matched[0] != '\0')
        log_str(&line, "matched", attempt->check.matched);
    log_str(&line, "session", contact->session);
    log_end(&line);
}

/* What a policy had to say to this host; the first failure of a day is worth a line of its own. */
static void contact_count(const struct attempt *attempt, enum tls_result result, const char *reason)
{
    const struct contact *contact = attempt->contact;
    const struct tls_need *need = &attempt->need;
    struct log_line line;

    if (contact->out->tlscounts == NULL ||
        (need->policy == TLS_POLICY_NONE && result == TLS_RESULT_SUCCESS))
        return;
    if (!tlscounts_add(contact->out->tlscounts, need->policy_domain, need->policy, result,
                       attempt->candidate->host, reason) ||
        need->policy == TLS_POLICY_NONE)
        return;
    log_begin(&line, LOG_LEVEL_WARNING, "event=tls-policy");
    log_str(&line, "domain", need->policy_domain);
    log_str(&line, "policy", tls_policy_type_name(need->policy));
    log_str(&line, "host", attempt->candidate->host);
    log_str(&line, "result", tls_result_name(result));
    log_str(&line, "reason", reason);
    log_str(&line, "effect", need->watched ? "none, it is only watched" : "the host is not used");
    log_end(&line);
}

static struct tls_client *contact_tls_client_for(const struct attempt *attempt)
{
    const struct contact *contact = attempt->contact;
    /* DANE asks no CA. */
    if (attempt->need.level == CONFIG_OUT_TLS_DANE ||
        (attempt->need.level != CONFIG_OUT_TLS_VERIFY && !security_is_judged(&attempt->need)))
        return contact->out->tls_any;
    return attempt->route->tls_client != NULL ? attempt->route->tls_client
                                              : contact->out->tls_verify;
}

/* Plain text only where the failure was the peer's word: silence may be anybody's. And then for this
 * message only, with the next one TLS is tried again. */
static enum outcome contact_handshake_failed(struct attempt *attempt, enum io_result result,
                                             const char *reason)
{
    struct contact *contact = attempt->contact;
    bool plain = attempt->need.level == CONFIG_OUT_TLS_MAY && result != IO_TIMEOUT;
    bool is_published = attempt->need.policy != TLS_POLICY_NONE && !attempt->need.watched;

    if (is_published)
        contact_fail(contact, "4.7.5", "TLS with %s failed: %s (policy: %s)", contact->remote->name,
                     reason, attempt->need.why);
    else
        contact_fail(contact, "4.7.5", "TLS with %s failed: %s%s", contact->remote->name, reason,
                     plain ? "; plain text is tried for this message" : "");
    contact_count(attempt,
                  attempt->check.result != TLS_RESULT_SUCCESS ? attempt->check.result
                                                              : TLS_RESULT_VALIDATION_FAILURE,
                  reason);
    if (result != IO_TIMEOUT && !is_published)
        remotes_mark(contact->out->remotes, REMOTE_TLS_FAILED, &attempt->host, reason,
                     contact->out->config->out.tls.failures_for_ms);
    return plain ? TLS_FAILED : NEXT;
}

static enum outcome contact_tls_refused(struct attempt *attempt)
{
    contact_count(attempt, TLS_RESULT_STARTTLS_NOT_SUPPORTED, "STARTTLS was refused");
    if (attempt->need.level != CONFIG_OUT_TLS_MAY)
        return contact_fail_reply(attempt, "STARTTLS");
    attempt->contact->remote->once = attempt->contact->remote->tls_failed = true;
    return READY;
}

/* With TLS 1.3 our side of the handshake is through before the server has seen our certificate, or
 * that there is none: its refusal comes in the place of the reply to EHLO. */
static enum outcome contact_hello_under_tls(struct attempt *attempt)
{
    enum io_result result = contact_put_hello(attempt);
    if (result == IO_EOF || result == IO_FAILED) {
        const char *refusal = stream_tls_refusal(&attempt->contact->remote->hop.stream);
        return contact_handshake_failed(
            attempt, result, refusal != NULL ? refusal : "it hung up right behind the handshake");
    }
    if (result != IO_OK)
        return contact_fail_io(attempt, "greeting by EHLO", result);
    return reply_is_positive(attempt->contact->verdict) ? READY
                                                        : contact_fail_reply(attempt, "EHLO");
}

static enum outcome contact_start_tls(struct attempt *attempt)
{
    struct contact *contact = attempt->contact;
    struct nexthop *hop = &contact->remote->hop;
    struct error err = {""};

    if (attempt->need.level == CONFIG_OUT_TLS_NONE)
        return READY;
    if (!(hop->capabilities.extensions & NEXTHOP_STARTTLS)) {
        contact_count(attempt, TLS_RESULT_STARTTLS_NOT_SUPPORTED, "STARTTLS was not offered");
        return attempt->need.level == CONFIG_OUT_TLS_MAY
                   ? READY
                   : contact_fail(contact, "4.7.4",
                                  "TLS is required (%s), but was not offered by host %s",
                                  attempt->need.why, contact->remote->name);
    }
    if (attempt->need.level == CONFIG_OUT_TLS_VERIFY && attempt->need.name == NULL)
        return contact_fail(contact, "4.7.5",
                            "there is no name for the certificate of %s to be checked against; set "
                            "tls_name",
                            contact->remote->name);
    attempt->check = (struct security_check){.need = &attempt->need};
    const struct tls_judge judge = {security_accepts, &attempt->check};
    enum io_result result = nexthop_starttls_judged(
        hop, contact_tls_client_for(attempt), attempt->need.name,
        security_is_judged(&attempt->need) ? &judge : NULL, contact->verdict,
        contact_step(contact, contact_timeouts(contact)->handshake), &err);
    if (result == IO_OK) {
        contact->remote->proven =
            attempt->need.level >= CONFIG_OUT_TLS_VERIFY && !attempt->need.unproven;
        contact_log_tls(attempt);
        contact_count(attempt, attempt->check.result, attempt->check.reason.text);
        return contact_hello_under_tls(attempt);
    }
    if (contact->verdict->code >= 400 && !hop->stream.broken)
        return contact_tls_refused(attempt);
    return contact_handshake_failed(attempt, result,
                                    err.text[0] != '\0' ? err.text : io_result_name(result));
}

/* Log-in at a smarthost. */

#define AUTH_COMMAND_MAX 512 /* RFC 4954 4: of a command with an initial response */

/* The word or nothing, and the octets in base64. */
static enum io_result contact_say_secret(struct attempt *attempt, const char *word,
                                         const char *octets, size_t len)
{
    struct contact *contact = attempt->contact;
    size_t start = strlen(word), size = start + BASE64_SIZE(len) + 2;

    char *line = malloc(size);
    if (line == NULL)
        return IO_FAILED;
    memcpy(line, word, start);
    base64_encode(octets, len, line + start);
    strcat(line, "\r\n");
    enum io_result result =
        nexthop_command(&contact->remote->hop, line, contact->verdict, contact_reply_step(contact));
    explicit_bzero(line, size);
    free(line);
    return result;
}

/* In one line where it is short enough for that, else in answer to a 334. */
static enum io_result contact_log_in_plain(struct attempt *attempt, const struct route *route)
{
    struct contact *contact = attempt->contact;
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
        result = nexthop_command(&contact->remote->hop, "AUTH PLAIN\r\n", contact->verdict,
                                 contact_reply_step(contact));
    }
    if (word[0] != '\0' || (result == IO_OK && contact->verdict->code == 334))
        result = contact_say_secret(attempt, word, said, len);
    explicit_bzero(said, len);
    free(said);
    return result;
}

static enum io_result contact_log_in_login(struct attempt *attempt, const struct route *route)
{
    struct contact *contact = attempt->contact;
    const char *answers[] = {route->user, route->password};

    enum io_result result = nexthop_command(&contact->remote->hop, "AUTH LOGIN\r\n",
                                            contact->verdict, contact_reply_step(contact));
    for (int i = 0; i < 2 && result == IO_OK && contact->verdict->code == 334; i++)
        result = contact_say_secret(attempt, "", answers[i], strlen(answers[i]));
    return result;
}

static enum outcome contact_log_in(struct attempt *attempt)
{
    struct contact *contact = attempt->contact;
    const struct route *route = attempt->route;
    struct nexthop *hop = &contact->remote->hop;
    enum io_result result;
    char text[400];

    if (route->user[0] == '\0')
        return READY;
    /* The configuration has seen to it; a password is worth a second look. */
    if (route->hop_count == 0 || attempt->need.level != CONFIG_OUT_TLS_VERIFY ||
        hop->stream.tls == NULL)
        return contact_fail(contact, "4.7.8", "no log-in at %s without verified TLS",
                            contact->remote->name);
    if (hop->capabilities.extensions & NEXTHOP_AUTH_PLAIN)
        result = contact_log_in_plain(attempt, route);
    else if (hop->capabilities.extensions & NEXTHOP_AUTH_LOGIN)
        result = contact_log_in_login(attempt, route);
    else
        return contact_fail(contact, "4.7.8", "host %s offers neither AUTH PLAIN nor LOGIN",
                            contact->remote->name);
    stream_wipe(&hop->stream);
    if (result != IO_OK)
        return contact_fail_io(attempt, "logging in", result);
    if (contact->verdict->code == 235)
        return READY;
    return contact_fail(contact, "4.7.8", "host %s does not accept our log-in: %s",
                        contact->remote->name, reply_summary(contact->verdict, text, sizeof text));
}

/* One address. */

static enum outcome contact_converse(struct attempt *attempt)
{
    enum outcome outcome = contact_send_proxy_header(attempt);
    if (outcome == READY)
        outcome = contact_greet(attempt);
    if (outcome == READY)
        outcome = contact_say_hello(attempt);
    if (outcome == READY)
        outcome = contact_start_tls(attempt);
    return outcome == READY ? contact_log_in(attempt) : outcome;
}

static enum outcome contact_try_once(struct attempt *attempt)
{
    enum outcome outcome = contact_open_connection(attempt);
    if (outcome != READY)
        return outcome;
    outcome = contact_converse(attempt);
    if (outcome == NEXT)
        nexthop_quit(&attempt->contact->remote->hop);
    else if (outcome == TLS_FAILED)
        stream_abort(&attempt->contact->remote->hop.stream);
    return outcome;
}

static void contact_find_need(struct attempt *attempt)
{
    const struct contact *contact = attempt->contact;
    security_need(&contact->security, contact->out, contact->domain, attempt->candidate,
                  contact->require_tls, &attempt->need);
}

/* Not to be used at all, whatever it would answer. Nothing is remembered of it: what is published
 * may be mended any moment. */
static bool contact_is_refused(struct attempt *attempt)
{
    const struct tls_need *need = &attempt->need;

    if (need->unusable && attempt->contact->out->tlscounts != NULL)
        tlscounts_add(attempt->contact->out->tlscounts, attempt->candidate->host, TLS_POLICY_TLSA,
                      TLS_RESULT_TLSA_INVALID, attempt->candidate->host,
                      "none of its TLSA records can be used");
    if (need->refusal == NULL)
        return false;
    contact_count(attempt, need->refusal_result, need->refusal);
    if (need->watched)
        return false;
    contact_fail(attempt->contact, "4.7.5", "host %s is not used: %s (policy: %s)",
                 attempt->candidate->host, need->refusal, tls_policy_type_name(need->policy));
    /* That will not be another in an hour (RFC 8689 4.2.1). */
    if (attempt->contact->require_tls && need->unproven)
        reply_own(attempt->contact->verdict, REPLY_REQUIRETLS_UNSUPPORTED);
    return true;
}

/* The fallback is a destination of its own, the same for all that fall back to it. */
static struct remote_host contact_host(const struct contact *contact,
                                       const struct candidate *candidate)
{
    const char *key = candidate->route == contact->route ? contact->key : candidate->route->name;
    return (struct remote_host){key, candidate->host, &candidate->address};
}

static void contact_pass_over(struct contact *contact, const char *host)
{
    for (size_t i = 0; i < contact->candidates.count; i++) {
        struct candidate *other = &contact->candidates.items[i];
        other->asked |= strcasecmp(other->host, host) == 0;
    }
}

static enum outcome contact_try_candidate(struct contact *contact,
                                          const struct candidate *candidate)
{
    struct attempt attempt = {.contact = contact,
                              .candidate = candidate,
                              .route = candidate->route,
                              .host = contact_host(contact, candidate)};
    struct remote *remote = contact->remote;
    char ip[ADDRESS_TEXT_MAX];

    remote->address = candidate->address;
    /* What was made without heeding what is published is for no other message. */
    remote->once = candidate->route != contact->route || contact->tls_optional;
    remote->proven = false;
    remote->tls_failed = false;
    snprintf(remote->name, sizeof remote->name, "%s[%s]:%u", candidate->host,
             address_format_ip(&candidate->address, ip), candidate->address.port);
    contact_find_need(&attempt);
    if (contact_is_refused(&attempt)) {
        contact_pass_over(contact, candidate->host);
        return NEXT;
    }
    enum outcome outcome = contact_try_once(&attempt);
    if (outcome == TLS_FAILED) {
        attempt.need.level = CONFIG_OUT_TLS_NONE;
        remote->once = remote->tls_failed = true;
        outcome = contact_try_once(&attempt);
    }
    return outcome;
}

/* There was no time for all of them. */
static void contact_leave_dead_alone(struct contact *contact)
{
    struct remotes *remotes = contact->out->remotes;
    char reason[REMOTE_REASON_MAX];

    for (size_t i = 0; i < contact->candidates.count; i++) {
        struct remote_host host = contact_host(contact, &contact->candidates.items[i]);
        if (remotes_is_marked(remotes, REMOTE_DEAD, &host, reason))
            remotes_mark(remotes, REMOTE_DEAD, &host, reason,
                         CONTACT_TURNS * contact->out->config->out.dead_for_ms);
    }
}

static bool contact_is_marked(const struct contact *contact, enum remote_mark mark,
                              const struct candidate *candidate, char reason[REMOTE_REASON_MAX])
{
    const struct remote_host host = contact_host(contact, candidate);
    return remotes_is_marked(contact->out->remotes, mark, &host, reason);
}

/* There is no time for the others. */
static bool contact_is_over(struct contact *contact)
{
    if (!deadline_passed(contact->deadline) && contact->attempts < CONTACT_ATTEMPTS_MAX)
        return false;
    contact_leave_dead_alone(contact);
    return true;
}

/* Those that are known to be dead cost no place. */
static int contact_try_some(struct contact *contact, bool deferred)
{
    char reason[REMOTE_REASON_MAX];

    for (size_t i = 0; i < contact->candidates.count; i++) {
        struct candidate *candidate = &contact->candidates.items[i];
        if (candidate->asked ||
            contact_is_marked(contact, REMOTE_DEFERRED, candidate, NULL) != deferred)
            continue;
        if (contact_is_marked(contact, REMOTE_DEAD, candidate, reason)) {
            if (contact->attempts == 0)
                reply_set(contact->verdict, 451, "4.4.1",
                          "%s; not tried again for a while (host %.200s)", reason, candidate->host);
            continue;
        }
        if (contact_is_over(contact))
            return -1;
        candidate->asked = true;
        contact->attempts++;
        if (contact_try_candidate(contact, candidate) == READY)
            return 0;
    }
    return -1;
}

/* In order, but last who took no message just now. */
static int contact_try_all(struct contact *contact)
{
    return contact_try_some(contact, false) == 0 ? 0 : contact_try_some(contact, true);
}

static int contact_look_up(struct contact *contact)
{
    struct deadline deadline = contact_step(contact, DNS_TIMEOUT_MS);

    security_clear(&contact->security);
    if (!contact->tls_optional)
        security_begin(&contact->security, contact->out, contact->route, contact->domain, deadline);
    enum own_reply why = candidates_find(contact->out, contact->route, contact->domain, deadline,
                                         &contact->candidates);
    if (why == REPLY_OK && !contact->tls_optional &&
        security_find(&contact->security, contact->out, contact->route, &contact->candidates,
                      contact_step(contact, DNS_TIMEOUT_MS)) != 0)
        why = REPLY_SERVER_BUSY;
    if (why == REPLY_OK)
        return 0;
    contact_log_line_of(contact, LOG_LEVEL_INFO, contact->candidates.reason);
    reply_own(contact->verdict, why);
    return -1;
}

static int contact_dial(struct contact *contact)
{
    if (contact->candidates.items == NULL && contact_look_up(contact) != 0)
        return -1;
    reply_set(contact->verdict, 451, "4.4.1", "No time left to reach a mail server of %s",
              contact->domain);
    if (contact_try_all(contact) != 0)
        return -1;
    memcpy(contact->remote->key, contact->key, sizeof contact->key);
    contact->remote->generation = contact->out->generation;
    return 0;
}

/* A connection kept from a message before. It may have died without our hearing of it, or not be good
 * enough for this one. */
static bool contact_is_alive(struct contact *contact)
{
    struct remote *remote = contact->remote;

    stream_lend(&remote->hop.stream, contact->buffers);
    return (remote->proven || !contact->require_tls) && remote->messages < REUSE_MESSAGES &&
           deadline_now_ms() - remote->since_ms < REUSE_AGE_MS &&
           nexthop_reset(&remote->hop, contact->verdict, contact_step(contact, PING_TIMEOUT_MS));
}

int contact_make(struct contact *contact)
{
    const struct outbound *out = contact->out;
    struct remote *remote = contact->remote;
    struct remotes *remotes = out->remotes;

    route_key(contact->route, contact->domain, contact->key);
    if (contact->route->rate > 0 && !remotes_take_turn(remotes, contact->key, contact->route->rate,
                                                       contact_step(contact, PLACE_WAIT_MS))) {
        contact_log_line_of(contact, LOG_LEVEL_WARNING, "event=busy reason=rate");
        reply_own(contact->verdict, REPLY_DESTINATION_RATE);
        contact->busy = true;
        return -1;
    }
    switch (remotes_enter(remotes, contact->key, out->generation, contact->route->connections,
                          contact_step(contact, PLACE_WAIT_MS), remote)) {
    case REMOTES_KEPT:
        if (contact_is_alive(contact))
            return 0;
        nexthop_quit(&remote->hop);
        break;
    case REMOTES_NEW:
        break;
    case REMOTES_NO_MEMORY:
        reply_own(contact->verdict, REPLY_SERVER_BUSY);
        return -1;
    case REMOTES_FULL:
        contact_log_line_of(contact, LOG_LEVEL_WARNING, "event=busy reason=connections");
        reply_own(contact->verdict, REPLY_DESTINATION_BUSY);
        contact->busy = true;
        return -1;
    }
    if (contact_dial(contact) == 0)
        return 0;
    remotes_leave(remotes, contact->key);
    return -1;
}

static bool contact_is_same(const struct address *a, const struct address *b)
{
    return address_same_ip(a, b) && a->port == b->port;
}

/* The one that the connection is with. */
static const struct candidate *contact_current(const struct contact *contact)
{
    const struct candidate *items = contact->candidates.items;
    for (size_t i = 0; i < contact->candidates.count; i++) {
        if (contact_is_same(&items[i].address, &contact->remote->address))
            return &items[i];
    }
    return NULL;
}

/* The host that has answered has answered for all of its addresses, and an address for all of its
 * names. */
static void contact_pass_over_host(struct contact *contact)
{
    const struct candidate *current = contact_current(contact);
    for (size_t i = 0; current != NULL && i < contact->candidates.count; i++) {
        struct candidate *other = &contact->candidates.items[i];
        other->asked |= other->address.port == current->address.port &&
                        (strcasecmp(other->host, current->host) == 0 ||
                         address_same_ip(&other->address, &current->address));
    }
}

/* Only a connection of its own will do. */
static bool contact_take_place(struct contact *contact)
{
    struct remote *remote = contact->remote;

    switch (remotes_enter(contact->out->remotes, contact->key, contact->out->generation,
                          contact->route->connections, contact_step(contact, PLACE_WAIT_MS),
                          remote)) {
    case REMOTES_KEPT:
        remote_say_goodbye(remote);
        return true;
    case REMOTES_NEW:
        return true;
    case REMOTES_FULL:
    case REMOTES_NO_MEMORY:
        break;
    }
    return false;
}

int contact_renew(struct contact *contact, bool connected)
{
    struct remote *remote = contact->remote, before = *remote;
    const struct reply verdict = *contact->verdict;

    if (connected)
        stream_reclaim(&before.hop.stream);
    else if (!contact_take_place(contact))
        return -1;
    if (contact_dial(contact) == 0) {
        if (connected)
            remote_say_goodbye(&before);
        return 0;
    }
    *remote = before;
    *contact->verdict = verdict;
    if (connected)
        stream_lend(&remote->hop.stream, contact->buffers);
    else
        remotes_leave(contact->out->remotes, contact->key);
    return -1;
}

int contact_next(struct contact *contact, bool connected)
{
    const struct reply verdict = *contact->verdict;

    if (contact->candidates.items == NULL && contact_look_up(contact) != 0) {
        *contact->verdict = verdict;
        return -1;
    }
    contact_pass_over_host(contact);
    return contact_renew(contact, connected);
}

void contact_defer(const struct contact *contact, const char *reason)
{
    const struct remote *remote = contact->remote;
    const struct candidate *current = contact_current(contact);
    char name[DNS_NAME_MAX];

    snprintf(name, sizeof name, "%.*s", (int)strcspn(remote->name, "["), remote->name);
    const struct remote_host host =
        current != NULL ? contact_host(contact, current)
                        : (struct remote_host){contact->key, name, &remote->address};
    remotes_mark(contact->out->remotes, REMOTE_DEFERRED, &host, reason, DEFERRED_FOR_MS);
}

void contact_clear(struct contact *contact)
{
    candidates_clear(&contact->candidates);
    security_clear(&contact->security);
}

void contact_end(const struct outbound *out, struct remote *remote, bool orderly)
{
    if (orderly)
        nexthop_quit(&remote->hop);
    else
        stream_abort(&remote->hop.stream);
    remotes_leave(out->remotes, remote->key);
}
