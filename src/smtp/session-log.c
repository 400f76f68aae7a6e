/* smtp/session-log.c - the lines that a session logs
 *
 * Refusals have Postfix's wording and order, so that fail2ban filters and tools made for its log work.
 * Everything else is event=... with key=value.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "smtp/session-internal.h"

#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/log.h"

static const char *session_protocol(const struct session *session)
{
    return session->client.esmtp ? "ESMTP" : "SMTP";
}

static void session_add_client(struct log_line *line, const struct session *session)
{
    log_word(line, "session", session->id);
    log_word(line, "client", session->client_shown);
}

static const char *session_shown_name(const struct session *session, struct reverse_names *names)
{
    const char *name = session_client_name(session, names);
    return name != NULL ? name : "unknown";
}

/* A mailbox in angle brackets, cut if it would leave no room for the rest of the line. */
static const char *session_shown_path(const char *mailbox, char out[SESSION_RECIPIENT_MAX + 8])
{
    size_t len = strlen(mailbox);
    struct buffer shown;

    buffer_init(&shown, out, SESSION_RECIPIENT_MAX + 8);
    buffer_add(&shown, "<", 1);
    buffer_add(&shown, mailbox, len < SESSION_RECIPIENT_MAX ? len : SESSION_RECIPIENT_MAX);
    buffer_puts(&shown, len > SESSION_RECIPIENT_MAX ? "...>" : ">");
    return out;
}

/* NOQUEUE: reject: RCPT from unknown[198.51.100.7]: 554 5.7.1 <to>: text; from=<> to=<> proto= helo= */
void session_log_reject(const struct session *session, const char *command, const char *recipient,
                        const struct reply *reply)
{
    struct log_line line;
    struct reverse_names names;
    char address[ADDRESS_TEXT_MAX], text[512];
    char sender[SESSION_RECIPIENT_MAX + 8], subject[SESSION_RECIPIENT_MAX + 8];

    if (!log_enabled(LOG_LEVEL_INFO))
        return;
    log_begin(&line, LOG_LEVEL_INFO, "NOQUEUE: reject: ");
    log_text(&line, "%s from %s[%s]: %d %s%s", command, session_shown_name(session, &names),
             address_format_ip(&session->client.address, address), reply->code, reply->enhanced,
             reply->enhanced[0] != '\0' ? " " : "");
    snprintf(text, sizeof text, "%.*s", (int)strcspn(reply->text, "\n"), reply->text);
    session_shown_path(recipient != NULL ? recipient : "", subject);
    if (recipient != NULL && strchr(text, '<') == NULL)
        log_text(&line, "%s: ", subject);
    log_text(&line, "%s;", text);
    if (session->state & (STATE_MAIL | STATE_RCPT))
        log_text(&line, " from=%s", session_shown_path(session->envelope->sender.mailbox, sender));
    if (recipient != NULL)
        log_text(&line, " to=%s", subject);
    log_text(&line, " proto=%s helo=<%s>", session_protocol(session), session->helo);
    log_str(&line, "session", session->id);
    log_end(&line);
}

void session_count_recipient(const struct session *session, const struct reply *reply,
                             enum own_reply verdict)
{
    const struct session_policy *policy = &session->rules->policy;
    if (policy->count_recipient != NULL)
        policy->count_recipient(policy->context, reply, verdict);
}

void session_count_tls(const struct session *session)
{
    static const struct {
        const char *version;
        enum counter counter;
    } versions[] = {{"TLSv1.3", COUNTER_TLS_1_3},
                    {"TLSv1.2", COUNTER_TLS_1_2},
                    {"TLSv1.1", COUNTER_TLS_1_1},
                    {"TLSv1", COUNTER_TLS_1_0}};
    struct tls_info tls;

    if (!stream_tls_info(&session->stream, &tls))
        return;
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        if (strcmp(tls.version, versions[i].version) == 0)
            counters_add(session->rules->counters, versions[i].counter, 1);
    }
}

static const struct {
    const char *status;
    enum counter counter;
} session_outcomes[] = {
    [SESSION_DELIVERED] = {"delivered", COUNTER_MESSAGES_DELIVERED},
    [SESSION_STORED] = {"stored", COUNTER_MESSAGES_STORED},
    [SESSION_DEFERRED] = {"deferred", COUNTER_MESSAGES_DEFERRED},
    [SESSION_REFUSED] = {"refused", COUNTER_MESSAGES_REFUSED},
    [SESSION_ABORTED] = {"aborted", COUNTER_MESSAGES_ABORTED},
};

/* Counts how long each stage took. Mail data that broke off has no final stage. */
static void session_count_stages(const struct session *session, enum session_outcome outcome,
                                 int64_t now_ms)
{
    struct counters *counters = session->rules->counters;
    const bool whole = outcome != SESSION_ABORTED;
    const int64_t ended_ms = whole ? session->heard_ms : now_ms;

    counters_took(counters, COUNTER_DURATION_MESSAGE_DIALOG,
                  session->transfer.began_ms - session->started_ms);
    counters_took(counters, COUNTER_DURATION_MESSAGE_DATA, ended_ms - session->transfer.began_ms);
    if (whole)
        counters_took(counters, COUNTER_DURATION_MESSAGE_FINAL, now_ms - ended_ms);
}

void session_end_message(const struct session *session, enum session_outcome outcome,
                         uint64_t octets, const char *reply)
{
    struct counters *counters = session->rules->counters;
    int64_t now_ms = deadline_now_ms(), took_ms = now_ms - session->started_ms;
    struct log_line line;
    struct tls_info tls;
    char sender[SESSION_RECIPIENT_MAX + 8], recipient[SESSION_RECIPIENT_MAX + 8];

    counters_add(counters, session_outcomes[outcome].counter, 1);
    counters_add(counters, COUNTER_OCTETS, octets);
    session_count_stages(session, outcome, now_ms);
    if (!log_enabled(LOG_LEVEL_INFO))
        return;
    log_begin(&line, LOG_LEVEL_INFO, "event=message");
    log_word(&line, "status", session_outcomes[outcome].status);
    session_add_client(&line, session);
    log_word(&line, "id", session->transaction_id);
    log_str(&line, "helo", session->helo);
    log_str(&line, "from", session_shown_path(session->envelope->sender.mailbox, sender));
    log_str(&line, "to",
            session->accepted > 0 ? session_shown_path(session->recipient, recipient) : NULL);
    log_int(&line, "accepted", session->accepted);
    log_int(&line, "refused", session->refused);
    log_int(&line, "size", (int64_t)octets);
    if (stream_tls_info(&session->stream, &tls)) {
        log_str(&line, "tls", tls.version);
        log_str(&line, "cipher", tls.cipher);
        if (tls.peer_subject[0] != '\0') {
            log_str(&line, "cert", tls.peer_subject);
            log_str(&line, "cert_verified", tls.peer_verified ? "yes" : "no");
        }
    } else {
        log_word(&line, "tls", "none");
    }
    log_str(&line, "reply", reply);
    log_int(&line, "ms", took_ms);
    log_end(&line);
}

/* Logs a failure in Postfix's wording, for programs that count them. */
void session_log_auth(const struct session *session, const char *mechanism,
                      const struct reply *reply)
{
    struct log_line line;
    struct reverse_names names;
    char address[ADDRESS_TEXT_MAX], text[256];

    counters_add(session->rules->counters,
                 reply->code == 235          ? COUNTER_LOGINS_OK
                 : reply_is_transient(reply) ? COUNTER_LOGINS_DEFERRED
                                             : COUNTER_LOGINS_REFUSED,
                 1);
    address_format_ip(&session->client.address, address);
    reply_summary(reply, text, sizeof text);
    if (reply->code == 235) {
        log_begin(&line, LOG_LEVEL_INFO, "event=auth status=ok");
        session_add_client(&line, session);
        log_str(&line, "mechanism", mechanism);
    } else {
        log_begin(&line, LOG_LEVEL_WARNING, "warning: ");
        log_text(&line, "%s[%s]: SASL %s authentication failed: %s",
                 session_shown_name(session, &names), address, mechanism, text);
        log_str(&line, "session", session->id);
    }
    log_end(&line);
}

void session_log_end(const struct session *session, const char *reason)
{
    struct log_line line;
    log_begin(&line, LOG_LEVEL_DEBUG, "event=disconnect");
    session_add_client(&line, session);
    log_str(&line, "reason", reason);
    log_int(&line, "messages", session->transactions);
    log_int(&line, "errors", session->errors);
    log_end(&line);
}

void session_log_tls_failure(const struct session *session, const char *reason)
{
    struct log_line line;
    counters_add(session->rules->counters, COUNTER_TLS_FAILED, 1);
    log_begin(&line, LOG_LEVEL_INFO, "event=tls-failed");
    session_add_client(&line, session);
    log_str(&line, "reason", reason);
    log_end(&line);
}
