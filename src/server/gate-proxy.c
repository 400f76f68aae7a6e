/* server/gate-proxy.c - a load balancer's PROXY header, read before anything else
 *
 * The header is peeked at until it says who the client is, and then taken off exactly, so that the
 * octets behind it are still there for greet delay, TLS and session. From then on the connection is the client's
 * that the header names. The wait costs no worker.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/gate-internal.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/log.h"
#include "net/proxy.h"

static void log_proxy(const struct connection *connection, enum log_level level, const char *event,
                      const char *reason)
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

void gate_proxy_late(struct connection *connection)
{
    atomic_fetch_add(&connection->gate->refused_proxy, 1);
    log_proxy(connection, LOG_LEVEL_WARNING, "event=proxy-failed", "no whole PROXY header in time");
    gate_forget(connection);
}

/* The header is read: may the client come in? LOCAL and UNKNOWN are the load balancer itself (a
 * health check). */
static void gate_proxy_admit(struct connection *connection)
{
    log_proxy(connection, LOG_LEVEL_DEBUG, "event=proxy", NULL);
    struct judgement judgement =
        connection->proxy_local
            ? gate_judge_balancer(connection->gate, connection->service, &connection->client)
            : gate_judge(connection->gate, connection->service, &connection->client);
    if (judgement.why == REPLY_OK)
        gate_begin(connection, &judgement);
    else
        gate_dismiss(connection, judgement.why);
}

/* Reads the header away, as far as it has come. */
static void gate_proxy_take_off(struct connection *connection)
{
    char bytes[4096];

    while (connection->proxy_left > 0) {
        size_t most = connection->proxy_left < sizeof bytes ? connection->proxy_left : sizeof bytes;
        ssize_t len = recv(connection->fd, bytes, most, MSG_DONTWAIT);
        if (len < 0 && errno == EINTR)
            continue;
        if (len < 0 && errno == EAGAIN)
            return;
        if (len <= 0) {
            gate_forget(connection);
            return;
        }
        connection->proxy_left -= (uint32_t)len;
    }
    gate_proxy_admit(connection);
}

static void gate_proxy_take(struct connection *connection, const struct proxy_header *header,
                            size_t used)
{
    if (!header->local) {
        connection->client = header->source;
        connection->local = header->destination;
    }
    connection->proxy_local = header->local;
    connection->proxy_left = (uint32_t)used;
    gate_proxy_take_off(connection);
}

void gate_proxy_readable(struct connection *connection)
{
    char bytes[PROXY_HEADER_MAX];
    struct proxy_header header;
    size_t used;

    if (connection->proxy_left > 0) {
        gate_proxy_take_off(connection);
        return;
    }
    ssize_t len = recv(connection->fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
    if (len < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (len <= 0) {
        /* A load balancer's look whether the port is open. */
        gate_forget(connection);
        return;
    }
    switch (proxy_parse(bytes, (size_t)len, &header, &used)) {
    case PROXY_MORE:
        break;
    case PROXY_DONE:
        gate_proxy_take(connection, &header, used);
        break;
    case PROXY_BAD:
        atomic_fetch_add(&connection->gate->refused_proxy, 1);
        log_proxy(connection, LOG_LEVEL_WARNING, "event=proxy-failed",
                  "what came is no PROXY header");
        gate_forget(connection);
    }
}
