/* server/connection-work.c - what workers do with a connection, and how it comes back
 *
 * A session that continues comes back by a post, which wakes the gate. One that has ended is closed by its
 * worker, and its remains are put in a list, which the gate checks before it admits a client and in each
 * round. No more than workers and queue hold can gather there, because only the gate hands over new ones.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/connection.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

bool connection_say(int fd, const char *text, size_t len)
{
    return send(fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len;
}

void connection_say_own(int fd, enum own_reply which)
{
    struct reply reply;
    char wire[REPLY_WIRE_MAX];
    reply_own(&reply, which);
    connection_say(fd, wire, reply_format(&reply, wire, sizeof wire));
}

void connection_grant(struct wakeup *wakeup)
{
    struct connection *connection =
        (struct connection *)((char *)wakeup - offsetof(struct connection, wakeup));
    waiter_post(&connection->item, CONNECTION_GRANTED);
}

/* The caller holds the lock. */
static void connections_change_working(struct connections *all, int change)
{
    unsigned working = atomic_load(&all->working) + (unsigned)change;

    LOCK_ASSERT(&all->lock);
    ASSERT(change > 0 || working + 1 > working);
    atomic_store(&all->working, working);
    atomic_store(&all->signals.crowded, 4 * working > 3 * all->workers);
}

void connections_count_working(struct connections *all, int change)
{
    lock_take(&all->lock);
    connections_change_working(all, change);
    lock_drop(&all->lock);
}

void connections_count_ended(struct connections *all, const struct address *client,
                             enum counter ipv4_row)
{
    int family = client->family == AF_INET6
                     ? COUNTER_CONNECTIONS_IPV6_NONE - COUNTER_CONNECTIONS_IPV4_NONE
                     : 0;
    counters_add(all->counters, ipv4_row + family, 1);
}

static enum counter connection_row(const struct connection *connection)
{
    if (connection->spec->implicit_tls)
        return COUNTER_CONNECTIONS_IPV4_IMPLICIT;
    return connection->session != NULL && session_has_used_tls(connection->session)
               ? COUNTER_CONNECTIONS_IPV4_STARTTLS
               : COUNTER_CONNECTIONS_IPV4_NONE;
}

/* Frees the session first, which releases its next hop and says goodbye; then no grant or verdict can arrive any
 * more. The descriptor is cleared before it is closed, because connections_cut() must not touch a number that
 * may belong to another connection. */
void connection_release(struct connection *connection)
{
    struct connections *all = connection->all;
    int fd = connection->item.fd;

    ASSERT(fd >= 0);
    connections_count_ended(all, &connection->client, connection_row(connection));
    session_free(connection->session);
    connection->session = NULL;
    dnsbl_end(connection->check);
    free(connection->verdict);
    reverse_leave(connection->names);
    free(connection->own_deferral);
    service_unref(connection->service);
    lock_take(&all->lock);
    connection->item.fd = -1;
    lock_drop(&all->lock);
    close(fd);
}

/* Ends a connection on a worker. The gate only has to uncount it, so it is not woken unless it waits for the last
 * one to end, or for the end of stress. */
static void connection_end(struct connection *connection)
{
    struct connections *all = connection->all;

    connection_release(connection);
    lock_take(&all->lock);
    connection->next_ended = all->ended;
    all->ended = connection;
    connections_change_working(all, -1);
    lock_drop(&all->lock);
    atomic_fetch_sub(&all->count, 1);
    if (atomic_load(&all->signals.draining) || atomic_load(&all->signals.stressed))
        waiter_wake(all->waiter);
}

static struct session *connection_begin_session(struct connection *connection)
{
    struct session *session = session_new(&(struct session_start){
        .fd = connection->item.fd,
        .client = &connection->client,
        .local = &connection->local,
        .implicit_tls = connection->spec->implicit_tls,
        .unlimited = connection->allowed,
        .rules = service_rules(connection->service, connection->spec->submission),
        .signals = &connection->all->signals,
        .deferral = connection->deferral,
        .wakeup = &connection->wakeup,
        .names = connection->names,
    });
    if (session != NULL)
        connection->names = NULL;
    return session;
}

void connection_work(struct pool_job *job, void *scratch)
{
    struct connection *connection =
        (struct connection *)((char *)job - offsetof(struct connection, job));

    ASSERT(connection->stage == CONNECTION_WORKING && connection->item.fd >= 0);
    connection->result = SESSION_CLOSED;
    if (connection->session == NULL)
        connection->session = connection_begin_session(connection);
    if (connection->session != NULL)
        connection->result = session_run(connection->session, scratch, connection->since_ms);
    else
        connection_say_own(connection->item.fd, REPLY_SERVER_BUSY);
    if (connection->result == SESSION_CLOSED)
        connection_end(connection);
    else
        waiter_post(&connection->item, CONNECTION_RETURNED);
}

void connection_forget(struct connection *connection)
{
    struct connections *all = connection->all;

    ASSERT(connection->item.fd == -1);
    waiter_remove(&connection->item);
    if (connection->counted)
        clients_leave(all->clients, &connection->client);
    *(connection->previous != NULL ? &connection->previous->next : &all->first) = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    free(connection);
}

void connections_free_ended(struct connections *all)
{
    waiter_assert_thread(all->waiter);
    lock_take(&all->lock);
    struct connection *ended = all->ended;
    all->ended = NULL;
    lock_drop(&all->lock);
    while (ended != NULL) {
        struct connection *connection = ended;
        ended = connection->next_ended;
        ASSERT(connection->stage == CONNECTION_WORKING && connection->item.fd == -1);
        connection_forget(connection);
    }
}
