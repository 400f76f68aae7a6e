/* server/gate-connection.c - what happens to one connection: greet, hand over, park, dismiss
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/gate-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/log.h"

#define EARLY_TEXT_MAX 64
#define ROOM_INTERVAL_MS 100 /* between two looks for slow ones */
#define SLOW_MS 1000
#define SLOT_PATIENCE_MS 500  /* a wait for a place at a next hop, before slow ones have to go */
#define VERDICT_GRACE_MS 1000 /* for a verdict that is due to come */

static int64_t idle_timeout_ms(const struct connection *connection)
{
    const struct service *service = connection->service;
    int64_t stress = service->stress.idle_timeout_ms;
    bool stressed = stress > 0 && atomic_load(&connection->gate->signals.stressed);
    return stressed && stress < service->idle_timeout_ms ? stress : service->idle_timeout_ms;
}

static int64_t due_ms(const struct connection *connection)
{
    const struct service *service = connection->service;
    switch (connection->place) {
    case PLACE_PROXY:
        return connection->since_ms + service->proxy_timeout_ms;
    case PLACE_DELAYED:
    case PLACE_WAITING:
        return connection->due_ms;
    default:
        return connection->since_ms + idle_timeout_ms(connection);
    }
}

/* Each list is in the order of due_ms(): a newcomer mostly belongs at the end. */
static void enter_place(struct connection *connection, enum place place)
{
    struct place_list *list = &connection->gate->places[place];
    connection->place = place;
    connection->since_ms = deadline_now_ms();
    struct connection *before = list->last;
    while (place != PLACE_WORKING && before != NULL && due_ms(before) > due_ms(connection))
        before = before->previous;
    connection->previous = before;
    connection->next = before != NULL ? before->next : list->first;
    *(before != NULL ? &before->next : &list->first) = connection;
    *(connection->next != NULL ? &connection->next->previous : &list->last) = connection;
}

static void leave_place(struct connection *connection)
{
    connection->gate->waiting_transactions -= connection->is_waited_for;
    connection->gate->waiting_slots -= connection->wants_slot;
    connection->holds_next_hop = connection->is_waited_for = connection->wants_slot = false;
    struct place_list *list = &connection->gate->places[connection->place];
    *(connection->previous != NULL ? &connection->previous->next : &list->first) = connection->next;
    *(connection->next != NULL ? &connection->next->previous : &list->last) = connection->previous;
}

/* Tried once: whoever does not take a short reply from an empty socket buffer does without. */
static bool say(int fd, const char *text, size_t len)
{
    return send(fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len;
}

void gate_say_own(int fd, enum own_reply which)
{
    struct reply reply;
    char wire[REPLY_WIRE_MAX];
    reply_own(&reply, which);
    say(fd, wire, reply_format(&reply, wire, sizeof wire));
}

void gate_refuse(int fd, const struct listen_spec *spec, enum own_reply why)
{
    if (!spec->implicit_tls)
        gate_say_own(fd, why);
    close(fd);
}

const struct session_rules *gate_rules(const struct service *service,
                                       const struct listen_spec *spec)
{
    return spec->submission ? &service->submission : &service->rules;
}

static void greet(struct connection *connection)
{
    char banner[512];
    const struct session_rules *rules = gate_rules(connection->service, connection->spec);

    if (connection->spec->implicit_tls ||
        say(connection->fd, banner, session_banner(rules, banner, sizeof banner)))
        return;
    /* Without its greeting it would wait for ever. */
    shutdown(connection->fd, SHUT_RDWR);
}

static void watch(struct connection *connection, int operation, uint32_t manner)
{
    static const uint32_t events[] = {
        [SESSION_AWAITS_INPUT] = EPOLLIN | EPOLLRDHUP,
        [SESSION_AWAITS_OUTPUT] = EPOLLOUT,
        [SESSION_AWAITS_GRANT] = 0, /* errors are told all the same */
    };
    enum session_awaited awaited = connection->place == PLACE_WAITING
                                       ? session_awaits(connection->session)
                                       : SESSION_AWAITS_INPUT;
    struct epoll_event event = {.events = events[awaited] | manner, .data.ptr = connection};
    /* The client must not wait for one who does not see it. */
    if (epoll_ctl(connection->gate->epoll_fd, operation, connection->fd, &event) != 0)
        shutdown(connection->fd, SHUT_RDWR);
}

static void open_door(struct connection *connection)
{
    gate_end_check(connection);
    leave_place(connection);
    greet(connection);
    enter_place(connection, PLACE_SILENT);
}

/* Until gate_begin() it waits for a PROXY header, though it may not need one. */
struct connection *gate_open(struct gate *gate, int fd, const struct address *peer,
                             const struct listener *listener)
{
    const struct listen_spec *spec = &listener->given.spec;
    struct connection *connection = calloc(1, sizeof *connection);

    if (connection == NULL) {
        gate_refuse(fd, spec, REPLY_SERVER_BUSY);
        return NULL;
    }
    connection->source = SOURCE_CONNECTION;
    connection->gate = gate;
    connection->wakeup.wake = gate_grant;
    connection->fd = fd;
    connection->client = connection->peer = *peer;
    connection->spec = spec;
    connection->service = service_ref(gate->service);
    if (listener->has_local)
        connection->local = listener->local;
    else
        address_of_socket(&connection->local, fd);
    atomic_fetch_add(&gate->connections, 1);
    enter_place(connection, PLACE_PROXY);
    /* A header in pieces must wake us by its next piece, not by the one that lies there. */
    if (spec->proxy)
        watch(connection, EPOLL_CTL_ADD, EPOLLET);
    return connection;
}

int64_t gate_greet_delay_ms(const struct connection *connection)
{
    return connection->spec->implicit_tls || connection->spec->submission || connection->allowed
               ? 0
               : connection->service->greet_delay_ms;
}

void gate_delay(struct connection *connection, int64_t ms)
{
    int64_t since = connection->place == PLACE_DELAYED ? connection->since_ms : deadline_now_ms();
    leave_place(connection);
    connection->due_ms = since + ms;
    enter_place(connection, PLACE_DELAYED);
    connection->since_ms = since;
}

void gate_begin(struct connection *connection, const struct judgement *judgement)
{
    connection->counted = true;
    connection->allowed = judgement->allowed;
    connection->bar = judgement->bar;
    const struct session_policy *policy =
        &gate_rules(connection->service, connection->spec)->policy;
    if (policy->identify != NULL)
        connection->names = policy->identify(policy->context, &connection->client);
    gate_delay(connection, gate_greet_delay_ms(connection));
    connection->awaited = gate_start_check(connection);
    if (!connection->awaited && connection->due_ms <= connection->since_ms)
        open_door(connection);
    watch(connection, connection->spec->proxy ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, EPOLLONESHOT);
}

/* Of one that no worker has. */
static void release(struct connection *connection)
{
    struct gate *gate = connection->gate;
    gate_end_check(connection);
    free(connection->own_bar);
    session_free(connection->session);
    reverse_leave(connection->names);
    pthread_mutex_lock(&gate->lock);
    if (connection->woken)
        gate_forget_grant(connection);
    pthread_mutex_unlock(&gate->lock);
    close(connection->fd);
    if (connection->counted)
        clients_leave(gate->clients, &connection->client);
    service_unref(connection->service);
    atomic_fetch_sub(&gate->connections, 1);
    free(connection);
}

void gate_forget(struct connection *connection)
{
    leave_place(connection);
    release(connection);
}

void gate_bury(struct connection *connection)
{
    leave_place(connection);
    free(connection);
}

void gate_turn_away(struct connection *connection, const struct reply *reply)
{
    char wire[REPLY_WIRE_MAX];
    if (!connection->spec->implicit_tls)
        say(connection->fd, wire, reply_format(reply, wire, sizeof wire));
    gate_forget(connection);
}

void gate_dismiss(struct connection *connection, enum own_reply why)
{
    if (connection->session != NULL)
        session_dismiss(connection->session, why);
    else if (!connection->spec->implicit_tls)
        gate_say_own(connection->fd, why);
    gate_forget(connection);
}

/* postscreen's words, here and below. */
static void log_hangup(const struct connection *connection)
{
    struct log_line line;
    char client[ADDRESS_TEXT_MAX];
    log_begin(&line, LOG_LEVEL_INFO, "HANGUP ");
    log_text(&line, "after %.2f from %s in tests before SMTP handshake",
             (double)(deadline_now_ms() - connection->since_ms) / 1000,
             address_format_endpoint(&connection->client, client));
    log_end(&line);
}

static void log_early(const struct connection *connection, const char *text, size_t len)
{
    struct log_line line;
    char client[ADDRESS_TEXT_MAX];
    log_begin(&line, LOG_LEVEL_INFO, "PREGREET ");
    log_text(&line, "%zu after %.2f from %s: %.*s", len,
             (double)(deadline_now_ms() - connection->since_ms) / 1000,
             address_format_endpoint(&connection->client, client), (int)len, text);
    log_end(&line);
}

/* In the middle of something: it is resumed by its next octet or when it is due. */
static void wait_until(struct connection *connection, int64_t due_ms)
{
    connection->due_ms = due_ms;
    struct session *session = connection->session;
    connection->wants_slot = session_wants_slot(session);
    connection->holds_next_hop = session_holds_next_hop(session);
    connection->is_waited_for =
        connection->holds_next_hop && session_awaits(session) != SESSION_AWAITS_GRANT;
    connection->gate->waiting_slots += connection->wants_slot;
    connection->gate->waiting_transactions += connection->is_waited_for;
    enter_place(connection, PLACE_WAITING);
}

static void hand_over(struct gate *gate, struct connection *connection)
{
    bool resumed = connection->place == PLACE_WAITING;

    connection->granted = false;
    /* Sessions that have ended since the last look may have left enough workers free. */
    if (gate->busy_since_ms != 0)
        gate_judge_stress(gate);
    leave_place(connection);
    enter_place(connection, PLACE_WORKING);
    /* Counted first, since a worker may be done with it at once. */
    gate_count_working(gate, 1);
    gate_judge_stress(gate);
    if (pool_submit(gate->pool, &connection->job, resumed ? POOL_FIRST : POOL_LAST))
        return;
    gate_count_working(gate, -1);
    atomic_fetch_add(&gate->refused_limit, 1);
    gate_log_limit(&gate->busy, &connection->client, "event=busy reason=limits.queue");
    gate_dismiss(connection, REPLY_SERVER_BUSY);
}

/* Of the clients in a transaction that make us wait, with this next hop (NULL: any), the one that has
 * done so for longest, beside what its octets have earned, and at least for a moment. */
static struct connection *find_slowest(struct gate *gate, int64_t now, const void *route)
{
    struct connection *slowest = NULL;
    int64_t most_ms = SLOW_MS;

    for (struct connection *c = gate->places[PLACE_WAITING].first; c != NULL; c = c->next) {
        if (!c->is_waited_for || (route != NULL && session_route(c->session) != route))
            continue;
        int64_t ms = session_slowness_ms(c->session, now);
        if (ms > most_ms) {
            slowest = c;
            most_ms = ms;
        }
    }
    return slowest;
}

/* It may say a last word, on a worker. */
static void evict(struct gate *gate, struct connection *connection)
{
    atomic_fetch_add(&gate->evicted, 1);
    session_evict(connection->session);
    hand_over(gate, connection);
}

/* How many of those who make this next hop wait are of the same network as this one? */
static unsigned count_neighbours(struct gate *gate, const struct connection *connection)
{
    struct address network = address_site_network(&connection->client), other;
    unsigned count = 0;

    for (struct connection *c = gate->places[PLACE_WAITING].first; c != NULL; c = c->next) {
        if (!c->is_waited_for || session_route(c->session) != session_route(connection->session))
            continue;
        other = address_site_network(&c->client);
        count += address_same_ip(&network, &other);
    }
    return count;
}

/* A client waits for a place at its next hop. One that has had its time there has to go; it has
 * none at all while its network makes up most of those who have not moved on. */
static void make_place(struct gate *gate, int64_t now, const struct connection *waiting)
{
    const void *route = session_route(waiting->session);
    struct address network = address_site_network(&waiting->client), other;
    struct connection *slowest = find_slowest(gate, now, route);

    if (slowest == NULL)
        return;
    other = address_site_network(&slowest->client);
    bool crowds = !address_same_ip(&network, &other) && !slowest->allowed &&
                  2 * count_neighbours(gate, slowest) > gate->waiting_transactions;
    if (crowds || session_slowness_ms(slowest->session, now) >= session_grace_ms(slowest->session))
        evict(gate, slowest);
}

static struct connection *find_wanting(struct gate *gate, int64_t now)
{
    struct connection *first = NULL;

    for (struct connection *c = gate->places[PLACE_WAITING].first; c != NULL; c = c->next) {
        if (c->wants_slot && now - c->since_ms >= SLOT_PATIENCE_MS &&
            (first == NULL || c->since_ms < first->since_ms))
            first = c;
    }
    return first;
}

/* Room for those who do not make us wait. Returns ms until the next look, -1 when none is needed. */
static int64_t make_room(struct gate *gate, int64_t now)
{
    unsigned most = gate->service->waiting_transactions;
    bool too_many = most > 0 && gate->waiting_transactions > most;
    struct connection *slowest;

    if (!too_many && gate->waiting_slots == 0)
        return -1;
    if (now < gate->room_due_ms)
        return gate->room_due_ms - now;
    gate->room_due_ms = now + ROOM_INTERVAL_MS;
    while (most > 0 && gate->waiting_transactions > most &&
           (slowest = find_slowest(gate, now, NULL)) != NULL)
        evict(gate, slowest);
    const struct connection *wanting = gate->waiting_slots > 0 ? find_wanting(gate, now) : NULL;
    if (wanting != NULL)
        make_place(gate, now, wanting);
    return ROOM_INTERVAL_MS;
}

void gate_readable(struct gate *gate, struct connection *connection, uint32_t events)
{
    char text[EARLY_TEXT_MAX];

    if (connection->place == PLACE_PROXY) {
        gate_proxy_readable(connection);
        return;
    }
    /* It was due at the same time; when it comes back it is looked at again. */
    if (connection->place == PLACE_WORKING)
        return;
    /* Its client is gone: it need not wait for anything more. */
    if (connection->place == PLACE_WAITING &&
        session_awaits(connection->session) == SESSION_AWAITS_GRANT)
        session_evict(connection->session);
    bool speaks = connection->place == PLACE_SILENT && (events & ~(uint32_t)EPOLLIN) == 0;
    if (connection->place == PLACE_PARKED || connection->place == PLACE_WAITING || speaks) {
        hand_over(gate, connection);
        return;
    }
    ssize_t len = recv(connection->fd, text, sizeof text, MSG_PEEK | MSG_DONTWAIT);
    if (len < 0 && (errno == EAGAIN || errno == EINTR)) {
        watch(connection, EPOLL_CTL_MOD, EPOLLONESHOT);
    } else if (len <= 0) {
        /* It went away without a word: no worker needs to hear of it. */
        if (connection->place == PLACE_DELAYED)
            log_hangup(connection);
        gate_forget(connection);
    } else if (connection->place == PLACE_DELAYED) {
        atomic_fetch_add(&gate->early_talkers, 1);
        log_early(connection, text, (size_t)len);
        gate_dismiss(connection, REPLY_EARLY_TALKER);
    } else {
        hand_over(gate, connection);
    }
}

static void keep_waiting(struct gate *gate, struct connection *connection)
{
    wait_until(connection, session_due_ms(connection->session));
    watch(connection, EPOLL_CTL_MOD, EPOLLONESHOT);
    if (connection->granted && session_awaits(connection->session) == SESSION_AWAITS_GRANT)
        hand_over(gate, connection);
    else if (gate->cut)
        shutdown(connection->fd, SHUT_RDWR);
    else if (!connection->holds_next_hop && atomic_load(&gate->signals.draining))
        gate_dismiss(connection, REPLY_SHUTTING_DOWN);
}

void gate_take_grant(struct gate *gate, struct connection *connection)
{
    if (connection->place == PLACE_WAITING &&
        session_awaits(connection->session) == SESSION_AWAITS_GRANT)
        hand_over(gate, connection);
}

void gate_take_back(struct gate *gate, struct connection *connection)
{
    if (connection->place == PLACE_DELAYED) {
        gate_take_verdict(connection);
        return;
    }
    gate_count_working(gate, -1);
    gate_judge_stress(gate);
    leave_place(connection);
    if (connection->result == SESSION_WAITING) {
        keep_waiting(gate, connection);
        return;
    }
    enter_place(connection, PLACE_PARKED);
    if (atomic_load(&gate->signals.draining))
        gate_dismiss(connection, REPLY_SHUTTING_DOWN);
    else
        watch(connection, EPOLL_CTL_MOD, EPOLLONESHOT);
}

/* A session says so itself. */
static void log_silent(const struct connection *connection)
{
    struct log_line line;
    char client[ADDRESS_TEXT_MAX];
    if (connection->session != NULL)
        return;
    log_begin(&line, LOG_LEVEL_DEBUG, "event=silent");
    log_str(&line, "client", address_format_endpoint(&connection->client, client));
    log_end(&line);
}

static void come_due(struct gate *gate, struct connection *connection)
{
    if (connection->place == PLACE_PROXY) {
        gate_proxy_late(connection);
        return;
    }
    if (connection->place == PLACE_WAITING) {
        /* It says so itself, on a worker. */
        hand_over(gate, connection);
        return;
    }
    if (connection->place == PLACE_DELAYED && connection->awaited) {
        /* It comes within its own time, and if it should not, the client is greeted. */
        gate_delay(connection, connection->service->dnsbl_timeout_ms + VERDICT_GRACE_MS);
        connection->awaited = false;
        return;
    }
    if (connection->place == PLACE_DELAYED) {
        open_door(connection);
        return;
    }
    atomic_fetch_add(&gate->idle_dropped, 1);
    log_silent(connection);
    gate_dismiss(connection, REPLY_IDLE);
}

int gate_expire(struct gate *gate)
{
    int64_t now = deadline_now_ms(), next = make_room(gate, now);
    for (int place = 0; place < PLACE_WORKING; place++) {
        struct connection *first;
        while ((first = gate->places[place].first) != NULL && due_ms(first) <= now)
            come_due(gate, first);
        if (first != NULL && (next < 0 || due_ms(first) - now < next))
            next = due_ms(first) - now;
    }
    return next > 60000 ? 60000 : (int)next;
}

void gate_dismiss_idle(struct gate *gate, enum own_reply why)
{
    for (int place = 0; place < PLACE_WORKING; place++) {
        struct connection *next;
        for (struct connection *c = gate->places[place].first; c != NULL; c = next) {
            next = c->next;
            if (!c->holds_next_hop)
                gate_dismiss(c, why);
        }
    }
}

void gate_dismiss_all(struct gate *gate)
{
    for (int place = 0; place < PLACE_WORKING; place++) {
        while (gate->places[place].first != NULL)
            gate_dismiss(gate->places[place].first, REPLY_SHUTTING_DOWN);
    }
}

void gate_cut(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    for (int place = PLACE_WAITING; place <= PLACE_WORKING; place++) {
        for (struct connection *c = gate->places[place].first; c != NULL; c = c->next) {
            if (c->fd >= 0)
                shutdown(c->fd, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&gate->lock);
}

/* The order of the list stays. */
void gate_shorten_waits(struct gate *gate, int64_t most_ms)
{
    int64_t due = deadline_now_ms() + most_ms;
    for (struct connection *c = gate->places[PLACE_WAITING].first; c != NULL; c = c->next) {
        if (c->due_ms > due)
            c->due_ms = due;
    }
}
