/* relay-out/attempt.c - one address of a destination: connect, greeting, EHLO, TLS, EHLO, login
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/attempt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "net/dial.h"

#define USER_TIMEOUT_MS 120000

/* The time for one step. A timeout says something about the host only if the step had its full time:
 * the rest of connect's deadline may be short because other hosts used it up. */
struct limit {
    struct deadline deadline;
    bool whole;
};

static const struct config_out_timeouts *attempt_timeouts(const struct connect *connect)
{
    return &connect->out->config->out.timeouts;
}

struct deadline attempt_step(const struct connect *connect, int64_t ms)
{
    return deadline_earlier(deadline_in_ms(ms), connect->deadline);
}

static struct limit attempt_limit(const struct connect *connect, int64_t ms)
{
    return (struct limit){attempt_step(connect, ms),
                          deadline_left_ms(connect->deadline) >= (int)ms};
}

struct deadline attempt_reply_step(const struct connect *connect)
{
    return attempt_step(connect, attempt_timeouts(connect)->reply);
}

void attempt_log(const struct connect *connect, enum log_level level, const char *text)
{
    struct log_line line;
    log_begin(&line, level, "");
    log_text(&line, "%s", text);
    log_str(&line, "session", connect->session);
    log_end(&line);
}

enum attempt_outcome attempt_fail_list(struct connect *connect, enum own_reply why,
                                       const char *const *arguments)
{
    char text[600];

    reply_own_list(connect->reply, why, arguments);
    snprintf(text, sizeof text, "%.*s", (int)strcspn(connect->reply->text, "\n"),
             connect->reply->text);
    attempt_log(connect, LOG_LEVEL_INFO, text);
    return ATTEMPT_NEXT;
}

enum attempt_outcome attempt_fail_io(struct attempt *attempt, const char *at, enum io_result result)
{
    return attempt_fail(attempt->connect, REPLY_REMOTE_BROKEN,
                        result == IO_FAILED ? "lost connection or garbage" : io_result_name(result),
                        at, attempt->connect->remote->name);
}

static enum attempt_outcome attempt_fail_reply(struct attempt *attempt, const char *to)
{
    char text[400];
    attempt_fail(attempt->connect, REPLY_REMOTE_SAID, attempt->connect->remote->name,
                 reply_summary(attempt->connect->reply, text, sizeof text), to);
    attempt->connect->reply->ours = false;
    return ATTEMPT_NEXT;
}

/* Leaves the host alone for a while, so that no other message spends time on it. */
static void attempt_mark_dead(struct attempt *attempt, const char *reason)
{
    host_cache_mark(attempt->connect->out->host_cache, REMOTE_DEAD, &attempt->host, reason,
                    attempt->connect->out->config->out.dead_for_ms);
}

static enum attempt_outcome attempt_open_connection(struct attempt *attempt)
{
    struct connect *connect = attempt->connect;
    const struct address *address = &attempt->candidate->address;
    struct error err;

    talk_set_phase(&connect->talk, TALK_CONNECT);
    struct limit limit = attempt_limit(connect, attempt_timeouts(connect)->connect);
    int fd =
        dial_connect(address, config_source_for(&connect->out->config->out.source, address->family),
                     USER_TIMEOUT_MS, limit.deadline, &err);
    if (fd < 0) {
        if (!dial_failed_here(errno) && (errno != ETIMEDOUT || limit.whole))
            attempt_mark_dead(attempt, err.text);
        return attempt_fail(connect, REPLY_REMOTE_UNREACHED, err.text, attempt->candidate->host);
    }
    nexthop_init(&connect->remote->hop, fd, connect->buffers);
    connect->remote->since_ms = deadline_now_ms();
    connect->remote->messages = 0;
    return ATTEMPT_READY;
}

/* A backend that takes PROXY headers from relay-in expects one from us, too. Ours repeats the
 * connection's own addresses: LOCAL and UNKNOWN are meant for this, but not supported everywhere
 * (Postfix refuses UNKNOWN). */
static enum attempt_outcome attempt_send_proxy_header(struct attempt *attempt)
{
    struct connect *connect = attempt->connect;
    struct nexthop *hop = &connect->remote->hop;
    struct proxy_header header = {.destination = attempt->candidate->address};

    if (attempt->route->proxy == 0)
        return ATTEMPT_READY;
    address_of_socket(&header.source, hop->stream.fd);
    enum io_result result =
        nexthop_send_proxy(hop, &header, attempt->route->proxy, attempt_reply_step(connect));
    return result == IO_OK ? ATTEMPT_READY
                           : attempt_fail_io(attempt, "sending the PROXY header", result);
}

static enum io_result attempt_put_hello(struct attempt *attempt)
{
    struct connect *connect = attempt->connect;
    struct nexthop *hop = &connect->remote->hop;
    const char *name = outbound_hello(connect->out);

    enum io_result result =
        nexthop_hello(hop, NEXTHOP_EHLO_OR_HELO, name, connect->reply, attempt_reply_step(connect));
    /* As Postfix does: a host that refuses EHLO with a 4xx may still accept HELO. */
    if (result == IO_OK && reply_is_transient(connect->reply) && connect->reply->code != 421 &&
        hop->stream.tls == NULL)
        result =
            nexthop_hello(hop, NEXTHOP_HELO, name, connect->reply, attempt_reply_step(connect));
    return result;
}

/* Postfix's words. "Trusted": the host is who it says, but nothing proves that it is the domain's. */
static const char *attempt_trust_name(const struct tls_need *need)
{
    if (need->level < CONFIG_OUT_TLS_VERIFY)
        return "Untrusted";
    return need->unproven ? "Trusted" : "Verified";
}

static void attempt_log_tls(const struct attempt *attempt)
{
    struct connect *connect = attempt->connect;
    struct tls_info info;
    struct log_line line;

    if (!stream_tls_info(&connect->remote->hop.stream, &info))
        return;
    log_begin(&line, LOG_LEVEL_INFO, "");
    log_text(&line, "%s TLS connection established to %s: %s with cipher %s",
             attempt_trust_name(&attempt->need), connect->remote->name, info.version, info.cipher);
    log_str(&line, "policy", attempt->need.why);
    if (attempt->check.matched[0] != '\0')
        log_str(&line, "matched", attempt->check.matched);
    log_str(&line, "session", connect->session);
    log_end(&line);
}

static void attempt_count_session(const struct attempt *attempt, enum tls_result result)
{
    static const enum counter published[][2] = {
        [TLS_POLICY_TLSA] = {COUNTER_OUT_TLS_DANE_OK, COUNTER_OUT_TLS_DANE_FAILED},
        [TLS_POLICY_STS] = {COUNTER_OUT_TLS_STS_OK, COUNTER_OUT_TLS_STS_FAILED},
    };
    static const enum counter configured[][2] = {
        /* It can only fail by REQUIRETLS, which wants proof. */
        [CONFIG_OUT_TLS_NONE] = {COUNTER_OUT_TLS_NONE_OK, COUNTER_OUT_TLS_VERIFY_FAILED},
        [CONFIG_OUT_TLS_MAY] = {COUNTER_OUT_TLS_MAY_OK, COUNTER_OUT_TLS_MAY_FAILED},
        [CONFIG_OUT_TLS_ENCRYPT] = {COUNTER_OUT_TLS_ENCRYPT_OK, COUNTER_OUT_TLS_ENCRYPT_FAILED},
        [CONFIG_OUT_TLS_VERIFY] = {COUNTER_OUT_TLS_VERIFY_OK, COUNTER_OUT_TLS_VERIFY_FAILED},
        [CONFIG_OUT_TLS_DANE] = {COUNTER_OUT_TLS_DANE_OK, COUNTER_OUT_TLS_DANE_FAILED},
    };
    const struct tls_need *need = &attempt->need;
    const bool failed = result != TLS_RESULT_SUCCESS;

    counters_add(attempt->connect->out->counters,
                 need->policy != TLS_POLICY_NONE ? published[need->policy][failed]
                                                 : configured[need->level][failed],
                 1);
}

/* Counts the result under its policy. The first failure of a day gets a log line of its own. */
static void attempt_count(const struct attempt *attempt, enum tls_result result, const char *reason)
{
    const struct connect *connect = attempt->connect;
    const struct tls_need *need = &attempt->need;
    struct log_line line;

    attempt_count_session(attempt, result);
    if (connect->out->tlscounts == NULL ||
        (need->policy == TLS_POLICY_NONE && result == TLS_RESULT_SUCCESS))
        return;
    if (!tlscounts_add(connect->out->tlscounts, need->policy_domain, need->policy, result,
                       attempt->candidate->host, reason, (int64_t)time(NULL)) ||
        need->policy == TLS_POLICY_NONE)
        return;
    log_begin(&line, LOG_LEVEL_WARNING, "event=tls-policy");
    log_str(&line, "domain", need->policy_domain);
    log_str(&line, "policy", tls_policy_type_name(need->policy));
    log_str(&line, "host", attempt->candidate->host);
    log_str(&line, "result", tls_result_name(result));
    log_str(&line, "reason", reason);
    log_str(&line, "effect",
            need->watched ? "none, failures are only logged" : "the host is not used");
    log_end(&line);
}

/* Falls back to plain text only if the peer itself failed, not after a timeout, which anybody on the
 * path can cause. The fallback is for this message only: the next one tries TLS again. */
static enum attempt_outcome attempt_handshake_failed(struct attempt *attempt, enum io_result result,
                                                     const char *reason)
{
    struct connect *connect = attempt->connect;
    bool plain = attempt->need.level == CONFIG_OUT_TLS_MAY && result != IO_TIMEOUT;
    bool is_published = attempt->need.policy != TLS_POLICY_NONE && !attempt->need.watched;

    if (is_published)
        attempt_fail(connect, REPLY_REMOTE_TLS_MISSED, connect->remote->name, reason,
                     attempt->need.why);
    else
        attempt_fail(connect, REPLY_REMOTE_TLS_FAILED, connect->remote->name, reason,
                     plain ? "; trying plain text, for this message only" : "");
    attempt_count(attempt,
                  attempt->check.result != TLS_RESULT_SUCCESS ? attempt->check.result
                                                              : TLS_RESULT_VALIDATION_FAILURE,
                  reason);
    if (result != IO_TIMEOUT && !is_published)
        host_cache_mark(connect->out->host_cache, REMOTE_TLS_FAILED, &attempt->host, reason,
                        connect->out->config->out.tls.failures_for_ms);
    return plain ? ATTEMPT_TLS_FAILED : ATTEMPT_NEXT;
}

static enum attempt_outcome attempt_tls_refused(struct attempt *attempt)
{
    attempt_count(attempt, TLS_RESULT_STARTTLS_NOT_SUPPORTED, "STARTTLS was refused");
    if (attempt->need.level != CONFIG_OUT_TLS_MAY)
        return attempt_fail_reply(attempt, "STARTTLS");
    attempt->connect->remote->once = attempt->connect->remote->tls_failed = true;
    return ATTEMPT_READY;
}

/* In TLS 1.3 our side of the handshake is complete before the server has seen our certificate, or that
 * there is none. If it refuses, the refusal arrives in place of the next reply, to EHLO after STARTTLS. */
static enum attempt_outcome attempt_say_hello(struct attempt *attempt, bool after_starttls)
{
    enum io_result result = attempt_put_hello(attempt);
    if (after_starttls && (result == IO_EOF || result == IO_FAILED)) {
        const char *refusal = stream_tls_refusal(&attempt->connect->remote->hop.stream);
        return attempt_handshake_failed(
            attempt, result, refusal != NULL ? refusal : "it hung up right after the handshake");
    }
    if (result != IO_OK)
        return attempt_fail_io(attempt, "greeting by EHLO", result);
    return reply_is_positive(attempt->connect->reply) ? ATTEMPT_READY
                                                      : attempt_fail_reply(attempt, "EHLO");
}

/* By RFC 5321 4.2.1 a 5xx here would be final. But it is about this host at this moment, not about the
 * mail, and another host may take it. */
static enum attempt_outcome attempt_greet(struct attempt *attempt)
{
    struct connect *connect = attempt->connect;

    talk_set_phase(&connect->talk, TALK_GREETING);
    struct limit limit = attempt_limit(connect, attempt_timeouts(connect)->greeting);
    enum io_result result = nexthop_greeting(&connect->remote->hop, connect->reply, limit.deadline);
    if (result == IO_OK)
        return reply_is_positive(connect->reply) ? ATTEMPT_READY
                                                 : attempt_fail_reply(attempt, "the connection");
    if (result == IO_TIMEOUT && limit.whole)
        attempt_mark_dead(attempt, "no greeting");
    /* If the connection begins with TLS, a late refusal of it arrives here instead of at EHLO. */
    const char *refusal = stream_tls_refusal(&connect->remote->hop.stream);
    if (refusal != NULL)
        return attempt_handshake_failed(attempt, result, refusal);
    return attempt_fail_io(attempt, "receiving the greeting", result);
}

/* Does the handshake, after STARTTLS unless the connection begins with it. */
static enum attempt_outcome attempt_shake_hands(struct attempt *attempt)
{
    struct connect *connect = attempt->connect;
    struct nexthop *hop = &connect->remote->hop;
    struct error err = {""};
    enum io_result result;

    if (attempt->need.level == CONFIG_OUT_TLS_VERIFY && attempt->need.name == NULL)
        return attempt_fail(connect, REPLY_REMOTE_TLS_NAMELESS, connect->remote->name);
    talk_set_phase(&connect->talk, TALK_TLS);
    attempt->check = (struct security_check){.need = &attempt->need};
    const struct tls_judge accepts = {security_accepts, &attempt->check};
    const struct tls_judge *judge = security_is_judged(&attempt->need) ? &accepts : NULL;
    struct tls_client *client =
        security_tls_client(connect->out, attempt->candidate, &attempt->need);
    const bool at_once = security_begins_with_tls(attempt->candidate, &attempt->need);
    struct limit limit =
        attempt_limit(connect, connect->out->config->out.daemon.timeouts.handshake);

    reply_clear(connect->reply);
    if (at_once)
        result = stream_start_tls_client(&hop->stream, client, attempt->need.name, judge,
                                         limit.deadline, &err);
    else
        result = nexthop_starttls(hop, client, attempt->need.name, judge, connect->reply,
                                  limit.deadline, &err);
    if (result == IO_OK) {
        connect->remote->proven =
            attempt->need.level >= CONFIG_OUT_TLS_VERIFY && !attempt->need.unproven;
        attempt_log_tls(attempt);
        attempt_count(attempt, attempt->check.result, attempt->check.reason.text);
        return ATTEMPT_READY;
    }
    if (connect->reply->code >= 400 && !hop->stream.broken)
        return attempt_tls_refused(attempt);
    if (at_once && result == IO_TIMEOUT && limit.whole) /* it has said nothing at all */
        attempt_mark_dead(attempt, "no TLS");
    return attempt_handshake_failed(attempt, result,
                                    err.text[0] != '\0' ? err.text : io_result_name(result));
}

static enum attempt_outcome attempt_start_tls(struct attempt *attempt)
{
    struct connect *connect = attempt->connect;
    struct nexthop *hop = &connect->remote->hop;

    if (hop->stream.tls != NULL)
        return ATTEMPT_READY;
    if (attempt->need.level == CONFIG_OUT_TLS_NONE) {
        if (!connect->remote->tls_failed)
            counters_add(connect->out->counters, COUNTER_OUT_TLS_NONE_OK, 1);
        return ATTEMPT_READY;
    }
    if (!(hop->capabilities.extensions & EXTENSION_STARTTLS)) {
        attempt_count(attempt, TLS_RESULT_STARTTLS_NOT_SUPPORTED, "STARTTLS was not offered");
        return attempt->need.level == CONFIG_OUT_TLS_MAY
                   ? ATTEMPT_READY
                   : attempt_fail(connect, REPLY_REMOTE_TLS_LACKING, attempt->need.why,
                                  connect->remote->name);
    }
    enum attempt_outcome outcome = attempt_shake_hands(attempt);
    return outcome == ATTEMPT_READY && hop->stream.tls != NULL ? attempt_say_hello(attempt, true)
                                                               : outcome;
}

/* Another of the domain's hosts may offer REQUIRETLS if this one does not (RFC 8689 4.2.1). */
static enum attempt_outcome attempt_check_required(struct attempt *attempt)
{
    struct connect *connect = attempt->connect;
    char text[REMOTE_NAME_MAX + 40];

    if (!connect->require_tls ||
        (connect->remote->hop.capabilities.extensions & EXTENSION_REQUIRETLS))
        return ATTEMPT_READY;
    snprintf(text, sizeof text, "%s does not offer REQUIRETLS", connect->remote->name);
    attempt_log(connect, LOG_LEVEL_INFO, text);
    reply_own(connect->reply, REPLY_REQUIRETLS_UNSUPPORTED);
    return ATTEMPT_NEXT;
}

/* One address. */

static enum attempt_outcome attempt_converse(struct attempt *attempt)
{
    enum attempt_outcome outcome = attempt_send_proxy_header(attempt);
    if (outcome == ATTEMPT_READY && security_begins_with_tls(attempt->candidate, &attempt->need))
        outcome = attempt_shake_hands(attempt);
    if (outcome == ATTEMPT_READY)
        outcome = attempt_greet(attempt);
    if (outcome == ATTEMPT_READY)
        outcome = attempt_say_hello(attempt, false);
    if (outcome == ATTEMPT_READY)
        outcome = attempt_start_tls(attempt);
    if (outcome == ATTEMPT_READY)
        outcome = attempt_check_required(attempt);
    return outcome == ATTEMPT_READY ? attempt_log_in(attempt) : outcome;
}

static enum attempt_outcome attempt_try_once(struct attempt *attempt)
{
    enum attempt_outcome outcome = attempt_open_connection(attempt);
    if (outcome != ATTEMPT_READY)
        return outcome;
    outcome = attempt_converse(attempt);
    if (outcome == ATTEMPT_NEXT)
        nexthop_quit(&attempt->connect->remote->hop);
    else if (outcome == ATTEMPT_TLS_FAILED)
        stream_abort(&attempt->connect->remote->hop.stream);
    return outcome;
}

static void attempt_find_need(struct attempt *attempt)
{
    const struct connect *connect = attempt->connect;
    security_need(&connect->security, connect->out, connect->domain, attempt->candidate,
                  connect->require_tls, &attempt->need);
}

/* Does a policy forbid this host, whatever it would answer? Nothing is remembered about it, because
 * what is published may be corrected at any moment. */
static bool attempt_is_refused(struct attempt *attempt)
{
    const struct tls_need *need = &attempt->need;

    if (need->unusable && attempt->connect->out->tlscounts != NULL)
        tlscounts_add(attempt->connect->out->tlscounts, attempt->candidate->host, TLS_POLICY_TLSA,
                      TLS_RESULT_TLSA_INVALID, attempt->candidate->host,
                      "none of its TLSA records is usable", (int64_t)time(NULL));
    if (need->refusal == NULL)
        return false;
    attempt_count(attempt, need->refusal_result, need->refusal);
    if (need->watched)
        return false;
    attempt_fail(attempt->connect, REPLY_REMOTE_EXCLUDED, attempt->candidate->host, need->refusal,
                 tls_policy_type_name(need->policy));
    /* An hour from now it will be no different, so the refusal is final (RFC 8689 4.2.1). */
    if (attempt->connect->require_tls && need->unproven)
        reply_own(attempt->connect->reply, REPLY_REQUIRETLS_UNSUPPORTED);
    return true;
}

enum attempt_outcome attempt_make(struct connect *connect, const struct candidate *candidate,
                                  const struct remote_host *host, bool plain)
{
    struct attempt attempt = {
        .connect = connect, .candidate = candidate, .route = candidate->route, .host = *host};
    struct remote *remote = connect->remote;
    char ip[ADDRESS_TEXT_MAX];

    remote->address = candidate->address;
    /* Not for other messages: a connection to the fallback, or one that ignores published policies. */
    remote->once = candidate->route != connect->route || connect->tls_optional;
    remote->proven = false;
    remote->tls_failed = false;
    snprintf(remote->name, sizeof remote->name, "%s[%s]:%u", candidate->host,
             address_format_ip(&candidate->address, ip), candidate->address.port);
    talks_set_host(connect->out->talks, &connect->talk, remote->name);
    attempt_find_need(&attempt);
    if (attempt_is_refused(&attempt))
        return ATTEMPT_REFUSED;
    if (plain) {
        attempt.need.level = CONFIG_OUT_TLS_NONE;
        remote->once = remote->tls_failed = true;
    }
    return attempt_try_once(&attempt);
}
