/* server/greeting.c - a connection before its banner
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/greeting.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/deadline.h"
#include "base/log.h"
#include "net/proxy.h"

#define EARLY_TEXT_MAX 64
#define VERDICT_GRACE_MS 1000 /* extra time for a verdict that is due */

/* The end: the banner. */

static void greeting_send_banner(struct connection *connection)
{
    char banner[512];
    const struct session_rules *rules =
        service_rules(connection->service, connection->spec->submission);

    if (!connection->spec->implicit_tls &&
        !connection_say(connection->item.fd, banner,
                        session_banner(rules, banner, sizeof banner))) {
        /* Without its greeting the client would wait forever. */
        shutdown(connection->item.fd, SHUT_RDWR);
    }
    dnsbl_end(connection->check);
    connection->check = NULL;
    free(connection->verdict);
    connection->verdict = NULL;
    connection_await_first(connection);
}

static int64_t greeting_delay_ms(const struct connection *connection)
{
    return connection->spec->implicit_tls || connection->spec->submission || connection->allowed
               ? 0
               : connection->service->greet_delay_ms;
}

/* Sets the banner to this time after the start of the greeting. */
static void greeting_delay(struct connection *connection, int64_t ms)
{
    connection->greet_ms = connection->since_ms + ms;
    waiter_set_due(&connection->item, connection->greet_ms);
}

/* Blocklists. */

static void greeting_bring_verdict(void *context, const struct dnsbl_verdict *verdict)
{
    struct connection *connection = context;
    struct dnsbl_verdict *copy = malloc(sizeof *copy);

    /* If out of memory, the client counts as not listed. */
    if (copy != NULL)
        *copy = *verdict;
    connection->verdict = copy;
    waiter_post(&connection->item, CONNECTION_JUDGED);
}

static bool greeting_ask_lists(struct connection *connection)
{
    const struct service *service = connection->service;

    if (service->dnsbl == NULL || connection->allowed || connection->spec->submission ||
        address_is_private(&connection->client))
        return false;
    connection->check = dnsbl_start(service->dnsbl, service->resolver, &connection->client,
                                    greeting_bring_verdict, connection);
    return connection->check != NULL;
}

/* Logs in postscreen's wording, here and below, with some additions. */
static void greeting_log_rank(const struct connection *connection)
{
    const struct dnsbl_verdict *verdict = connection->verdict;
    struct log_line line;
    char client[ADDRESS_TEXT_MAX];

    log_begin(&line, LOG_LEVEL_INFO, "DNSBL rank ");
    log_text(&line, "%d for %s", verdict->score,
             address_format_endpoint(&connection->client, client));
    log_str(&line, "hits", verdict->hits);
    if (verdict->unanswered > 0)
        log_int(&line, "unanswered", verdict->unanswered);
    log_end(&line);
}

static void greeting_make_refusal(const struct connection *connection, struct reply *reply)
{
    char ip[ADDRESS_TEXT_MAX];

    reply_own_with(reply, REPLY_CLIENT_LISTED, address_format_ip(&connection->client, ip),
                   connection->verdict->worst);
    admission_log_refusal(&connection->client, reply);
}

static void greeting_refuse_listed(struct connection *connection)
{
    struct reply reply;

    greeting_make_refusal(connection, &reply);
    connection_turn_away(connection, &reply);
}

/* Makes a deferral that the connection owns. NULL if out of memory. */
static const struct session_deferral *greeting_make_deferral(struct connection *connection,
                                                             enum own_reply why)
{
    const struct dnsbl_verdict *verdict = connection->verdict;
    struct session_deferral *deferral = malloc(sizeof *deferral);

    if (deferral == NULL)
        return NULL;
    deferral->why = why;
    address_format_ip(&connection->client, deferral->client);
    snprintf(deferral->list, sizeof deferral->list, "%s", verdict != NULL ? verdict->worst : "");
    free(connection->own_deferral);
    return connection->own_deferral = deferral;
}

/* Defers the client's mail. False if out of memory: then the client must be refused. */
static bool greeting_bar(struct connection *connection)
{
    connection->deferral = greeting_make_deferral(connection, REPLY_CLIENT_LISTED_LATER);
    return connection->deferral != NULL;
}

static void greeting_take_verdict(struct connection *connection)
{
    const struct service *service = connection->service;
    const struct dnsbl_verdict *verdict = connection->verdict;

    connection->awaits_verdict = false;
    if (verdict != NULL && verdict->hits[0] != '\0')
        greeting_log_rank(connection);
    if (verdict == NULL || !verdict->listed) {
        greeting_delay(connection, greeting_delay_ms(connection));
        return;
    }
    counters_add(connection->all->counters, COUNTER_REJECTED_DNSBL, 1);
    if (service->listed == SERVICE_LISTED_TARPIT)
        greeting_delay(connection, service->tarpit_ms);
    else if (service->listed == SERVICE_LISTED_TEMPFAIL && greeting_bar(connection))
        greeting_delay(connection, greeting_delay_ms(connection));
    else
        greeting_refuse_listed(connection);
}

/* The delay. */

static void greeting_log_hangup(const struct connection *connection)
{
    struct log_line line;
    char client[ADDRESS_TEXT_MAX];
    log_begin(&line, LOG_LEVEL_INFO, "HANGUP ");
    log_text(&line, "after %.2f from %s in tests before SMTP handshake",
             (double)(deadline_now_ms() - connection->since_ms) / 1000,
             address_format_endpoint(&connection->client, client));
    log_end(&line);
}

static void greeting_log_early(const struct connection *connection, const char *text, size_t len)
{
    struct log_line line;
    char client[ADDRESS_TEXT_MAX];
    log_begin(&line, LOG_LEVEL_INFO, "PREGREET ");
    log_text(&line, "%zu after %.2f from %s: %.*s", len,
             (double)(deadline_now_ms() - connection->since_ms) / 1000,
             address_format_endpoint(&connection->client, client), (int)len, text);
    log_end(&line);
}

static void greeting_hear(struct connection *connection)
{
    char text[EARLY_TEXT_MAX];
    ssize_t len = recv(connection->item.fd, text, sizeof text, MSG_PEEK | MSG_DONTWAIT);

    if (len < 0 && (errno == EAGAIN || errno == EINTR)) {
        connection_listen(connection);
    } else if (len <= 0) {
        greeting_log_hangup(connection);
        connection_close(connection);
    } else {
        counters_add(connection->all->counters, COUNTER_REJECTED_EARLY, 1);
        greeting_log_early(connection, text, (size_t)len);
        connection_dismiss(connection, REPLY_EARLY_TALKER);
    }
}

static void greeting_come_due(struct connection *connection)
{
    if (!connection->awaits_verdict) {
        greeting_send_banner(connection);
        return;
    }
    /* The verdict comes within its own timeout; if it does not, the client is greeted. */
    connection->awaits_verdict = false;
    greeting_delay(connection, connection->service->dnsbl_timeout_ms + VERDICT_GRACE_MS);
}

static void greeting_happened(struct waiter_item *item, unsigned what)
{
    struct connection *connection =
        (struct connection *)((char *)item - offsetof(struct connection, item));

    ASSERT(connection->stage == CONNECTION_DELAYED);
    if (what & CONNECTION_JUDGED)
        greeting_take_verdict(connection);
    else if (what & WAITER_DUE)
        greeting_come_due(connection);
    else
        greeting_hear(connection);
}

/* A client that XCLIENT names. */

static void greeting_go_on(struct connection *connection, const struct session_deferral *refusal)
{
    session_admit(connection->session, refusal, connection->deferral, connection->allowed);
    connection_hand_over(connection);
}

static void greeting_turn_away(struct connection *connection, enum own_reply why)
{
    static const struct session_deferral busy = {.why = REPLY_SERVER_BUSY};
    const struct session_deferral *refusal = greeting_make_deferral(connection, why);

    greeting_go_on(connection, refusal != NULL ? refusal : &busy);
}

static void greeting_readmit(struct connection *connection)
{
    struct connections *all = connection->all;

    ASSERT(connection->stage == CONNECTION_WAITING);
    if (connection->counted)
        clients_leave(all->clients, &connection->client);
    connection->client = *session_introduced(connection->session);
    struct admission admission = admission_judge(all, connection->service, &connection->client);
    connection->counted = admission.why == REPLY_OK;
    connection->allowed = admission.allowed;
    connection->deferral = admission.deferral;
    if (admission.why != REPLY_OK) {
        greeting_turn_away(connection, admission.why);
    } else if (greeting_ask_lists(connection)) {
        /* If the verdict does not come, the client is admitted. */
        waiter_set_due(&connection->item, waiter_now_ms(all->waiter) +
                                              connection->service->dnsbl_timeout_ms +
                                              VERDICT_GRACE_MS);
    } else {
        greeting_go_on(connection, NULL);
    }
}

static void greeting_take_late_verdict(struct connection *connection)
{
    const struct service *service = connection->service;
    const struct dnsbl_verdict *verdict = connection->verdict;
    struct reply reply;

    if (verdict != NULL && verdict->hits[0] != '\0')
        greeting_log_rank(connection);
    if (verdict == NULL || !verdict->listed) {
        greeting_go_on(connection, NULL);
        return;
    }
    counters_add(connection->all->counters, COUNTER_REJECTED_DNSBL, 1);
    if (service->listed == SERVICE_LISTED_TARPIT) {
        waiter_set_due(&connection->item,
                       waiter_now_ms(connection->all->waiter) + service->tarpit_ms);
    } else if (service->listed == SERVICE_LISTED_TEMPFAIL && greeting_bar(connection)) {
        greeting_go_on(connection, NULL);
    } else {
        greeting_make_refusal(connection, &reply);
        greeting_turn_away(connection, REPLY_CLIENT_LISTED);
    }
}

/* Without a delay, the banner is sent at once instead of through the waiter. */
void greeting_begin(struct connection *connection, const struct admission *admission)
{
    const struct session_policy *policy =
        &service_rules(connection->service, connection->spec->submission)->policy;
    int64_t delay_ms;

    ASSERT(connection->stage == CONNECTION_PROXY && admission->why == REPLY_OK);
    connection->counted = true;
    connection->allowed = admission->allowed;
    connection->deferral = admission->deferral;
    connection->item.happened = greeting_happened;
    connection->readmit = greeting_readmit;
    connection->judged = greeting_take_late_verdict;
    connection_enter(connection, CONNECTION_DELAYED, WAITER_NEVER);
    if (policy->identify != NULL)
        connection->names = policy->identify(policy->context, &connection->client);
    connection->awaits_verdict = greeting_ask_lists(connection);
    delay_ms = greeting_delay_ms(connection);
    if (connection->awaits_verdict || delay_ms > 0)
        greeting_delay(connection, delay_ms);
    else
        greeting_send_banner(connection);
    connection_listen(connection);
}

/* The PROXY header. */

static void greeting_log_proxy(const struct connection *connection, enum log_level level,
                               const char *event, const char *reason)
{
    struct log_line line;
    char text[ADDRESS_TEXT_MAX];
    log_begin(&line, level, event);
    log_str(&line, "peer", address_format_endpoint(&connection->peer, text));
    if (reason != NULL)
        log_str(&line, "reason", reason);
    else
        log_str(&line, "client", address_format_endpoint(&connection->client, text));
    log_end(&line);
}

static void greeting_fail_proxy(struct connection *connection, const char *reason)
{
    counters_add(connection->all->counters, COUNTER_REJECTED_PROXY, 1);
    greeting_log_proxy(connection, LOG_LEVEL_WARNING, "event=proxy-failed", reason);
    connection_close(connection);
}

/* The header is complete: decides whether the client is admitted. LOCAL and UNKNOWN mean the load balancer itself
 * (a health check). */
static void greeting_admit(struct connection *connection)
{
    struct admission admission;

    greeting_log_proxy(connection, LOG_LEVEL_DEBUG, "event=proxy", NULL);
    admission =
        connection->proxy_local
            ? admission_judge_balancer(connection->all, connection->service, &connection->client)
            : admission_judge(connection->all, connection->service, &connection->client);
    if (admission.why == REPLY_OK)
        greeting_begin(connection, &admission);
    else
        connection_dismiss(connection, admission.why);
}

/* Reads and discards the header, as far as it has arrived. */
static void greeting_take_off(struct connection *connection)
{
    char bytes[4096];

    while (connection->proxy_left > 0) {
        size_t most = connection->proxy_left < sizeof bytes ? connection->proxy_left : sizeof bytes;
        ssize_t len = recv(connection->item.fd, bytes, most, MSG_DONTWAIT);
        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0 && errno == EAGAIN)
            return;
        if (len <= 0) {
            connection_close(connection);
            return;
        }
        connection->proxy_left -= (uint32_t)len;
    }
    greeting_admit(connection);
}

static void greeting_take_header(struct connection *connection, const struct proxy_header *header,
                                 size_t used)
{
    if (!header->local) {
        connection->client = header->source;
        connection->local = header->destination;
    }
    connection->proxy_local = header->local;
    connection->proxy_left = (uint32_t)used;
    greeting_take_off(connection);
}

static void greeting_read_header(struct connection *connection)
{
    char bytes[PROXY_HEADER_MAX];
    struct proxy_header header;
    size_t used;

    if (connection->proxy_left > 0) {
        greeting_take_off(connection);
        return;
    }
    ssize_t len = recv(connection->item.fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
    if (len < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (len <= 0) {
        /* A load balancer that only checks whether the port is open. */
        connection_close(connection);
        return;
    }
    switch (proxy_parse(bytes, (size_t)len, &header, &used)) {
    case PROXY_MORE:
        break;
    case PROXY_DONE:
        greeting_take_header(connection, &header, used);
        break;
    case PROXY_BAD:
        greeting_fail_proxy(connection, "the connection does not begin with a PROXY header");
    }
}

static void greeting_header_happened(struct waiter_item *item, unsigned what)
{
    struct connection *connection =
        (struct connection *)((char *)item - offsetof(struct connection, item));

    ASSERT(connection->stage == CONNECTION_PROXY);
    if (what & WAITER_DUE)
        greeting_fail_proxy(connection, "no complete PROXY header in time");
    else
        greeting_read_header(connection);
}

void greeting_await_header(struct connection *connection)
{
    connection->item.happened = greeting_header_happened;
    waiter_set_due(&connection->item, connection->since_ms + connection->service->proxy_timeout_ms);
    /* For a header in pieces, only the next piece must wake us, not the one already there. */
    if (waiter_watch(&connection->item, WAITER_READABLE | WAITER_FINISHED, WAITER_EDGE) != 0)
        shutdown(connection->item.fd, SHUT_RDWR);
}
