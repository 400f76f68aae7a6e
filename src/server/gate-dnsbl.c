/* server/gate-dnsbl.c - what blocklists say of a client, while it waits for its greeting
 *
 * The check begins with the greet delay and costs no worker. Its verdict comes from the resolver's
 * thread, by the way that connections come back from workers.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/gate-internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

/* On the resolver's thread. */
static void bring_verdict(void *context, const struct dnsbl_verdict *verdict)
{
    struct connection *connection = context;
    struct dnsbl_verdict *copy = malloc(sizeof *copy);

    /* Without memory for it the client is not listed. */
    if (copy != NULL)
        *copy = *verdict;
    connection->verdict = copy;
    gate_give_back(connection);
}

bool gate_start_check(struct connection *connection)
{
    const struct service *service = connection->service;

    if (service->dnsbl == NULL || connection->allowed || connection->spec->submission ||
        address_is_private(&connection->client))
        return false;
    connection->check = dnsbl_start(service->dnsbl, service->resolver, &connection->client,
                                    bring_verdict, connection);
    return connection->check != NULL;
}

void gate_end_check(struct connection *connection)
{
    if (connection->check == NULL)
        return;
    dnsbl_end(connection->check);
    connection->check = NULL;
    gate_withdraw(connection);
    free(connection->verdict);
    connection->verdict = NULL;
}

/* postscreen's words, and what it does not say. */
static void log_rank(const struct connection *connection)
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

static void log_refusal(const struct connection *connection, const struct reply *reply)
{
    struct log_line line;
    char ip[ADDRESS_TEXT_MAX], text[512];

    log_begin(&line, LOG_LEVEL_INFO, "NOQUEUE: reject: CONNECT from ");
    log_text(&line, "unknown[%s]:%u: %s; proto=SMTP", address_format_ip(&connection->client, ip),
             connection->client.port, reply_summary(reply, text, sizeof text));
    log_end(&line);
}

static void refuse(struct connection *connection)
{
    struct reply reply;
    char ip[ADDRESS_TEXT_MAX];

    reply_set(&reply, 554, "5.7.1", "Service unavailable; client [%s] blocked using %s",
              address_format_ip(&connection->client, ip), connection->verdict->worst);
    log_refusal(connection, &reply);
    gate_turn_away(connection, &reply);
}

/* False when out of memory: it then has to be refused. */
static bool bar(struct connection *connection)
{
    char ip[ADDRESS_TEXT_MAX];
    struct session_bar *bar = malloc(sizeof *bar);

    if (bar == NULL)
        return false;
    bar->code = 451;
    bar->enhanced = "4.7.1";
    snprintf(bar->text, sizeof bar->text,
             "Service unavailable; client [%s] blocked using %s, try again later",
             address_format_ip(&connection->client, ip), connection->verdict->worst);
    connection->bar = connection->own_bar = bar;
    return true;
}

static void punish(struct connection *connection)
{
    const struct service *service = connection->service;

    atomic_fetch_add(&connection->gate->refused_dnsbl, 1);
    if (service->listed == SERVICE_LISTED_TARPIT)
        gate_delay(connection, service->tarpit_ms);
    else if (service->listed == SERVICE_LISTED_TEMPFAIL && bar(connection))
        gate_delay(connection, gate_greet_delay_ms(connection));
    else
        refuse(connection);
}

void gate_take_verdict(struct connection *connection)
{
    connection->awaited = false;
    if (connection->verdict != NULL && connection->verdict->hits[0] != '\0')
        log_rank(connection);
    if (connection->verdict != NULL && connection->verdict->listed)
        punish(connection);
    else
        gate_delay(connection, gate_greet_delay_ms(connection));
}
