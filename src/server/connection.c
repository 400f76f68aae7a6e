/* server/connection.c - handles connections on the gate's thread, from the banner on
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/connection.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/log.h"

#define LOG_INTERVAL_MS 1000

void connection_refuse(struct connections *all, int fd, const struct address *peer,
                       const struct listen_spec *spec, enum own_reply why)
{
    if (!spec->implicit_tls)
        connection_say_own(fd, why);
    close(fd);
    connections_count_ended(all, peer,
                            spec->implicit_tls ? COUNTER_CONNECTIONS_IPV4_IMPLICIT
                                               : COUNTER_CONNECTIONS_IPV4_NONE);
}

void connection_log_limit(struct refusals *refusals, const struct address *client,
                          const char *event)
{
    struct log_line line;
    char text[ADDRESS_TEXT_MAX];
    int64_t now = deadline_now_ms();

    refusals->unlogged++;
    if (now - refusals->logged_ms < LOG_INTERVAL_MS)
        return;
    log_begin(&line, LOG_LEVEL_WARNING, event);
    log_str(&line, "client", address_format_endpoint(client, text));
    log_int(&line, "count", refusals->unlogged);
    log_end(&line);
    refusals->logged_ms = now;
    refusals->unlogged = 0;
}

/* Stages. */

/* Has the client said nothing yet? */
static bool connection_is_new(enum connection_stage stage)
{
    return stage <= CONNECTION_SILENT;
}

void connection_enter(struct connection *connection, enum connection_stage stage, int64_t due_ms)
{
    struct connections *all = connection->all;

    waiter_assert_thread(all->waiter);
    all->waiting_transactions -= connection->is_waited_for;
    all->waiting_slots -= connection->wants_slot;
    connection->holds_next_hop = connection->is_waited_for = connection->wants_slot = false;
    if (connection_is_new(connection->stage) && !connection_is_new(stage))
        atomic_fetch_sub(&all->greeting, 1);
    connection->stage = stage;
    connection->since_ms = waiter_now_ms(all->waiter);
    waiter_set_due(&connection->item, due_ms);
}

static struct connection *connection_of(struct waiter_item *item)
{
    return (struct connection *)((char *)item - offsetof(struct connection, item));
}

static void connection_watch(struct connection *connection, unsigned what)
{
    /* If it cannot be watched, don't let the client wait in vain. */
    if (waiter_watch(&connection->item, what, WAITER_ONCE) != 0)
        shutdown(connection->item.fd, SHUT_RDWR);
}

void connection_listen(struct connection *connection)
{
    connection_watch(connection, WAITER_READABLE | WAITER_FINISHED);
}

static int64_t connection_idle_due_ms(const struct connection *connection)
{
    const struct service *service = connection->service;
    int64_t stress = service->stress.idle_timeout_ms;
    bool stressed = stress > 0 && atomic_load(&connection->all->signals.stressed);
    return connection->since_ms +
           (stressed && stress < service->idle_timeout_ms ? stress : service->idle_timeout_ms);
}

static void connection_rest(struct connection *connection, enum connection_stage stage)
{
    connection_enter(connection, stage, WAITER_NEVER);
    waiter_set_due(&connection->item, connection_idle_due_ms(connection));
}

/* Does it keep a next hop only for a next message? */
static bool connection_keeps_next_hop(const struct connection *connection)
{
    return connection->holds_next_hop && session_is_between_messages(connection->session);
}

/* Somebody begins to wait for what kept connections to this next hop hold: their sessions notice on a worker. */
static void connections_recall(struct connections *all, const void *route)
{
    struct connection *next;

    for (struct connection *c = all->first; c != NULL; c = next) {
        next = c->next; /* at the very end it is dismissed instead */
        if (connection_keeps_next_hop(c) && session_route(c->session) == route)
            connection_hand_over(c);
    }
}

static bool connections_want(const struct connections *all, const void *route)
{
    const struct connection *c = all->waiting_slots > 0 ? all->first : NULL;

    while (c != NULL && !(c->wants_slot && session_route(c->session) == route))
        c = c->next;
    return c != NULL;
}

/* Waits in the middle of something: it is resumed by what its session awaits, or when that is due. */
static void connection_wait(struct connection *connection)
{
    static const unsigned awaited[] = {
        [SESSION_AWAITS_INPUT] = WAITER_READABLE | WAITER_FINISHED,
        [SESSION_AWAITS_OUTPUT] = WAITER_WRITABLE,
        [SESSION_AWAITS_GRANT] = 0,
    };
    struct connections *all = connection->all;
    struct session *session = connection->session;

    connection_enter(connection, CONNECTION_WAITING, session_due_ms(session));
    connection->wants_slot = session_wants_slot(session);
    connection->holds_next_hop = session_holds_next_hop(session);
    connection->is_waited_for =
        connection->holds_next_hop && session_awaits(session) != SESSION_AWAITS_GRANT;
    if (connection->wants_slot)
        connections_recall(all, session_route(session));
    all->waiting_slots += connection->wants_slot;
    all->waiting_transactions += connection->is_waited_for;
    connection_watch(connection, awaited[session_awaits(session)]);
}

static bool connection_awaits_grant(const struct connection *connection)
{
    return connection->stage == CONNECTION_WAITING &&
           session_awaits(connection->session) == SESSION_AWAITS_GRANT;
}

void connection_hand_over(struct connection *connection)
{
    struct connections *all = connection->all;
    enum pool_order order = POOL_LAST;

    ASSERT(connection->stage != CONNECTION_WORKING && connection->item.fd >= 0);
    if (all->pool == NULL) {
        connection_dismiss(connection, REPLY_SHUTTING_DOWN);
        return;
    }
    if (connection->holds_next_hop || connection_awaits_grant(connection))
        order = POOL_FIRST;
    else if (connection->stage == CONNECTION_WAITING)
        order = POOL_RESUMED;
    connection->granted = false;
    connection_enter(connection, CONNECTION_WORKING, WAITER_NEVER);
    /* Count first, because a worker may finish with it at once. */
    connections_count_working(all, 1);
    if (pool_submit(all->pool, &connection->job, order))
        return;
    connections_count_working(all, -1);
    connection->stage = CONNECTION_PARKED;
    counters_add(all->counters, COUNTER_REJECTED_BUSY, 1);
    connection_log_limit(&all->busy, &connection->client, "event=busy reason=limits.queue");
    connection_dismiss(connection, REPLY_SERVER_BUSY);
}

/* May it be dismissed without ending a transaction? */
static bool connection_may_go(const struct connection *connection)
{
    return connection->stage != CONNECTION_WORKING &&
           (!connection->holds_next_hop || connection_keeps_next_hop(connection));
}

/* Events. */

static void connection_take_back(struct connection *connection)
{
    struct connections *all = connection->all;
    bool draining = atomic_load(&all->signals.draining);

    ASSERT(connection->stage == CONNECTION_WORKING);
    connections_count_working(all, -1);
    if (connection->result == SESSION_IDLE) {
        connection_rest(connection, CONNECTION_PARKED);
        connection_listen(connection);
    } else {
        connection_wait(connection);
        if (session_introduced(connection->session) != NULL && !draining && !all->cut) {
            connection->readmit(connection);
            return;
        }
        if (connection->granted && connection_awaits_grant(connection)) {
            connection_hand_over(connection);
            return;
        }
    }
    if (all->cut)
        shutdown(connection->item.fd, SHUT_RDWR);
    else if (draining && connection_may_go(connection))
        connection_dismiss(connection, REPLY_SHUTTING_DOWN);
    else if (connection_keeps_next_hop(connection) &&
             connections_want(all, session_route(connection->session)))
        connection_hand_over(connection); /* they began after its session had looked */
}

static void connection_come_due(struct connection *connection)
{
    struct log_line line;
    char client[ADDRESS_TEXT_MAX];

    if (connection->stage == CONNECTION_WAITING) {
        /* The session sends the reply itself, on a worker. */
        connection_hand_over(connection);
        return;
    }
    /* The due time was only shortened for stress, which is over. */
    int64_t due_ms = connection_idle_due_ms(connection);
    if (waiter_now_ms(connection->all->waiter) < due_ms) {
        waiter_set_due(&connection->item, due_ms);
        return;
    }
    counters_add(connection->all->counters, COUNTER_DROPPED_IDLE, 1);
    /* A session logs it itself. */
    if (connection->session == NULL) {
        log_begin(&line, LOG_LEVEL_DEBUG, "event=silent");
        log_str(&line, "client", address_format_endpoint(&connection->client, client));
        log_end(&line);
    }
    connection_dismiss(connection, REPLY_IDLE);
}

/* Handles the first event of a silent client. If it leaves without sending anything, no worker is needed. */
static void connection_hear_first(struct connection *connection, unsigned what)
{
    char octet;

    if ((what & ~(unsigned)WAITER_READABLE) == 0) {
        connection_hand_over(connection);
        return;
    }
    ssize_t len = recv(connection->item.fd, &octet, 1, MSG_PEEK | MSG_DONTWAIT);
    if (len > 0)
        connection_hand_over(connection);
    else if (len < 0 && (errno == EAGAIN || errno == EINTR))
        connection_listen(connection);
    else
        connection_close(connection);
}

static void connection_happened(struct waiter_item *item, unsigned what)
{
    struct connection *connection = connection_of(item);

    if (what & CONNECTION_GRANTED)
        connection->granted = true;
    if (what & CONNECTION_RETURNED) {
        connection_take_back(connection);
        return;
    }
    /* A verdict may come after the session has gone on without it. */
    if ((what & CONNECTION_JUDGED) && connection->stage == CONNECTION_WAITING &&
        session_introduced(connection->session) != NULL) {
        connection->judged(connection);
        return;
    }
    /* A late event from before it was handed over. It is checked again when it comes back. */
    if (connection->stage == CONNECTION_WORKING)
        return;
    if (what & WAITER_DUE) {
        connection_come_due(connection);
    } else if (what >= WAITER_NEWS) {
        if (connection_awaits_grant(connection))
            connection_hand_over(connection);
    } else if (connection->stage == CONNECTION_SILENT) {
        connection_hear_first(connection, what);
    } else {
        /* While it awaits a grant, nothing is watched: its client is gone. */
        if (connection_awaits_grant(connection))
            session_vanish(connection->session);
        connection_hand_over(connection);
    }
}

void connection_await_first(struct connection *connection)
{
    connection->item.happened = connection_happened;
    connection_rest(connection, CONNECTION_SILENT);
}

/* Begin and end. */

struct connection *connection_open(struct connections *all, int fd, const struct address *peer,
                                   const struct address *local, const struct listen_spec *spec,
                                   struct service *service)
{
    struct connection *connection = calloc(1, sizeof *connection);

    if (connection != NULL) {
        connection->item = (struct waiter_item){.fd = fd, .happened = connection_happened};
        connection->wakeup.wake = connection_grant;
        connection->all = all;
        connection->client = connection->peer = *peer;
        connection->local = *local;
        connection->spec = spec;
    }
    if (connection == NULL || waiter_add(all->waiter, &connection->item) != 0) {
        free(connection);
        connection_refuse(all, fd, peer, spec, REPLY_SERVER_BUSY);
        return NULL;
    }
    connection->service = service_ref(service);
    connection->next = all->first;
    if (all->first != NULL)
        all->first->previous = connection;
    all->first = connection;
    atomic_fetch_add(&all->count, 1);
    atomic_fetch_add(&all->greeting, 1);
    connection_enter(connection, CONNECTION_PROXY, WAITER_NEVER);
    return connection;
}

void connection_close(struct connection *connection)
{
    struct connections *all = connection->all;

    ASSERT(connection->stage != CONNECTION_WORKING);
    if (connection_is_new(connection->stage))
        atomic_fetch_sub(&all->greeting, 1);
    connection_enter(connection, connection->stage, WAITER_NEVER);
    connection_release(connection);
    connection_forget(connection);
    atomic_fetch_sub(&all->count, 1);
}

void connection_turn_away(struct connection *connection, const struct reply *reply)
{
    char wire[REPLY_WIRE_MAX];
    if (!connection->spec->implicit_tls)
        connection_say(connection->item.fd, wire, reply_format(reply, wire, sizeof wire));
    connection_close(connection);
}

void connection_dismiss(struct connection *connection, enum own_reply why)
{
    if (connection->session != NULL)
        session_dismiss(connection->session, why);
    else if (!connection->spec->implicit_tls)
        connection_say_own(connection->item.fd, why);
    connection_close(connection);
}

/* All. */

void connections_dismiss_idle(struct connections *all, enum own_reply why)
{
    struct connection *next;

    for (struct connection *c = all->first; c != NULL; c = next) {
        next = c->next;
        if (connection_may_go(c))
            connection_dismiss(c, why);
    }
}

void connections_dismiss_all(struct connections *all)
{
    struct connection *next;

    for (struct connection *c = all->first; c != NULL; c = next) {
        next = c->next;
        ASSERT(c->stage != CONNECTION_WORKING);
        connection_dismiss(c, REPLY_SHUTTING_DOWN);
    }
}

void connections_cut(struct connections *all)
{
    lock_take(&all->lock);
    all->cut = true;
    for (struct connection *c = all->first; c != NULL; c = c->next) {
        if (c->stage >= CONNECTION_WAITING && c->item.fd >= 0)
            shutdown(c->item.fd, SHUT_RDWR);
    }
    lock_drop(&all->lock);
}

void connections_shorten_waits(struct connections *all, int64_t most_ms)
{
    int64_t due = waiter_now_ms(all->waiter) + most_ms;

    for (struct connection *c = all->first; c != NULL; c = c->next) {
        if (c->stage == CONNECTION_SILENT || c->stage == CONNECTION_PARKED)
            waiter_set_due(&c->item, connection_idle_due_ms(c));
        else if (c->stage == CONNECTION_WAITING && c->item.due_ms > due)
            waiter_set_due(&c->item, due);
    }
}
