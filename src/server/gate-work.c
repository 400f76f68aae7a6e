/* server/gate-work.c - what workers do with a connection, and how it comes back
 *
 * A session that goes on comes back by a list for which the gate is woken. One that has ended is
 * closed by its worker, and what is left of it only stands in a list: the gate looks there before
 * it judges a client, and after each round of events. No more can gather in between than workers
 * and queue hold, for only the gate hands over new ones.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/gate-internal.h"

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

void gate_wake(struct gate *gate)
{
    uint64_t one = 1;
    if (write(gate->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: it is awake */
}

void gate_give_back(struct connection *connection)
{
    struct gate *gate = connection->gate;
    pthread_mutex_lock(&gate->lock);
    bool first = gate->returned == NULL;
    connection->next_returned = gate->returned;
    gate->returned = connection;
    pthread_mutex_unlock(&gate->lock);
    /* Behind the lock, or the gate would wake only to wait for it. It outlives its workers. */
    if (first)
        gate_wake(gate);
}

void gate_grant(struct wakeup *wakeup)
{
    struct connection *connection =
        (struct connection *)((char *)wakeup - offsetof(struct connection, wakeup));
    struct gate *gate = connection->gate;

    pthread_mutex_lock(&gate->lock);
    bool first = gate->woken == NULL;
    if (!connection->woken) {
        connection->woken = true;
        connection->next_woken = gate->woken;
        gate->woken = connection;
    }
    pthread_mutex_unlock(&gate->lock);
    if (first)
        gate_wake(gate);
}

void gate_forget_grant(struct connection *connection)
{
    struct connection **place = &connection->gate->woken;
    while (*place != NULL && *place != connection)
        place = &(*place)->next_woken;
    if (*place != NULL)
        *place = connection->next_woken;
}

void gate_withdraw(struct connection *connection)
{
    struct gate *gate = connection->gate;
    pthread_mutex_lock(&gate->lock);
    struct connection **place = &gate->returned;
    while (*place != NULL && *place != connection)
        place = &(*place)->next_returned;
    if (*place != NULL)
        *place = connection->next_returned;
    pthread_mutex_unlock(&gate->lock);
}

static void change_working(struct gate *gate, int change)
{
    unsigned working = atomic_load(&gate->working) + (unsigned)change;
    atomic_store(&gate->working, working);
    atomic_store(&gate->signals.crowded, 2 * working > gate->workers);
}

void gate_count_working(struct gate *gate, int change)
{
    pthread_mutex_lock(&gate->lock);
    change_working(gate, change);
    pthread_mutex_unlock(&gate->lock);
}

/* The gate has nothing to do but to count it off, unless it waits for the last one to end, or for
 * the end of stress. */
static void finish(struct connection *connection)
{
    struct gate *gate = connection->gate;
    int fd = connection->fd;

    session_free(connection->session);
    reverse_leave(connection->names);
    free(connection->own_bar);
    service_unref(connection->service);
    pthread_mutex_lock(&gate->lock);
    if (connection->woken)
        gate_forget_grant(connection);
    /* From here on gate_cut() leaves the descriptor alone, whose number may be another's soon. */
    connection->fd = -1;
    connection->next_returned = gate->ended;
    gate->ended = connection;
    change_working(gate, -1);
    pthread_mutex_unlock(&gate->lock);
    close(fd);
    atomic_fetch_sub(&gate->connections, 1);
    if (atomic_load(&gate->signals.draining) || atomic_load(&gate->signals.stressed))
        gate_wake(gate);
}

static struct session *begin(struct connection *connection)
{
    const struct session_rules *rules = gate_rules(connection->service, connection->spec);
    struct session *session =
        session_new(connection->fd, &connection->client, &connection->local,
                    connection->spec->implicit_tls, rules, &connection->gate->signals);
    if (session == NULL)
        return NULL;
    session_set_bar(session, connection->bar);
    session_set_wakeup(session, &connection->wakeup);
    session_set_names(session, connection->names);
    connection->names = NULL;
    if (connection->allowed)
        session_set_unlimited(session);
    return session;
}

void gate_work(struct pool_job *job, void *scratch)
{
    struct connection *connection =
        (struct connection *)((char *)job - offsetof(struct connection, job));

    connection->result = SESSION_CLOSED;
    if (connection->session == NULL)
        connection->session = begin(connection);
    if (connection->session != NULL)
        connection->result = session_run(connection->session, scratch);
    else
        gate_say_own(connection->fd, REPLY_SERVER_BUSY);
    if (connection->result == SESSION_CLOSED)
        finish(connection);
    else
        gate_give_back(connection);
}

void gate_uncount_ended(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    struct connection *ended = gate->ended;
    gate->ended = NULL;
    pthread_mutex_unlock(&gate->lock);
    while (ended != NULL) {
        struct connection *connection = ended;
        ended = connection->next_returned;
        if (connection->counted)
            clients_leave(gate->clients, &connection->client);
        connection->next_returned = gate->dead;
        gate->dead = connection;
    }
}

void gate_bury_ended(struct gate *gate)
{
    gate_uncount_ended(gate);
    while (gate->dead != NULL) {
        struct connection *connection = gate->dead;
        gate->dead = connection->next_returned;
        gate_bury(connection);
    }
}
