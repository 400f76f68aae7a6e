/* server/gate.c - the thread that owns every connection that no worker has
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/gate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/condition.h"
#include "base/deadline.h"
#include "base/i18n.h"
#include "server/acceptor.h"
#include "server/admission.h"
#include "server/connection.h"
#include "server/greeting.h"
#include "server/memory.h"
#include "server/stress.h"

#define STUCK_MS 900000   /* longer than any wait for a next hop: a final reply may take 570 s */
#define CUT_GRACE_MS 2000 /* for workers to notice that their sockets were shut down */

struct gate {
    struct connections all;
    struct acceptor *acceptor;
    struct stress stress;
    struct service *service; /* for new connections; used by the gate's thread only */
    bool draining;
    int64_t drain_until_ms;
    struct memory memory;
    /* Requests of other threads, under the lock. */
    struct lock lock;
    struct service *next_service;
    bool drain_asked;
    int64_t drain_timeout_ms;
    struct gate_request *request; /* NULL: none, or it was answered */
    pthread_cond_t listed;        /* it was */
    atomic_uint asked, answered;  /* gate_is_alive() */
};

/* A request of gate_list(), on that thread's stack. */
struct gate_request {
    struct gate_session *sessions;
    size_t max, count;
};

static void *gate_new_scratch(void)
{
    struct session_scratch *scratch = malloc(sizeof *scratch);
    if (scratch != NULL && session_scratch_init(scratch) == 0)
        return scratch;
    free(scratch);
    return NULL;
}

static void gate_free_scratch(void *scratch)
{
    session_scratch_free(scratch);
    free(scratch);
}

/* Takes a new snapshot, before any client is served that came after gate_set_service(). */
static void gate_take_service(struct gate *gate)
{
    lock_take(&gate->lock);
    struct service *next = gate->next_service;
    gate->next_service = NULL;
    lock_drop(&gate->lock);
    if (next == NULL)
        return;
    service_unref(gate->service);
    gate->service = next;
}

static void gate_accept(void *context, int fd, const struct address *peer,
                        const struct address *local, const struct listen_spec *spec)
{
    struct gate *gate = context;
    struct connections *all = &gate->all;
    struct connection *connection;
    struct admission admission = {.why = REPLY_OK};

    gate_take_service(gate);
    admission.why = admission_check_peer(all, gate->service, spec, peer);
    if (admission.why == REPLY_CLOSING) {
        close(fd);
        connections_count_ended(all, peer, COUNTER_CONNECTIONS_IPV4_NONE);
        return;
    }
    if (admission.why == REPLY_OK && !spec->proxy)
        admission = admission_judge(all, gate->service, peer);
    if (admission.why != REPLY_OK) {
        connection_refuse(all, fd, peer, spec, admission.why);
        return;
    }
    connection = connection_open(all, fd, peer, local, spec, gate->service);
    if (connection == NULL && !spec->proxy)
        clients_leave(all->clients, peer);
    else if (connection != NULL && spec->proxy)
        greeting_await_header(connection);
    else if (connection != NULL)
        greeting_begin(connection, &admission);
}

static int gate_set_up(struct gate *gate, const struct gate_listener *listeners, size_t count,
                       unsigned queue_max, struct error *err)
{
    static const struct pool_work work = {connection_work, gate_new_scratch, gate_free_scratch};
    struct connections *all = &gate->all;

    all->clients = clients_new();
    all->waiter = waiter_new();
    if (all->clients != NULL && all->waiter != NULL)
        gate->acceptor = acceptor_new(all->waiter, listeners, count, gate_accept, gate);
    if (gate->acceptor == NULL) {
        error_set(err, _("cannot set up the event loop: %s"), strerror(errno));
        return -1;
    }
    all->pool = pool_new(all->workers, queue_max, &work, err);
    return all->pool != NULL ? 0 : -1;
}

struct gate *gate_new(const struct gate_listener *listeners, size_t count, struct service *service,
                      unsigned workers, unsigned queue_max, struct error *err)
{
    struct gate *gate = calloc(1, sizeof *gate);
    if (gate == NULL || condition_init(&gate->listed) != 0) {
        error_set(err, _("out of memory"));
        free(gate);
        return NULL;
    }
    lock_init(&gate->lock);
    lock_init(&gate->all.lock);
    gate->all.workers = workers;
    gate->all.counters = service->rules.counters;
    gate->service = service_ref(service);
    if (gate_set_up(gate, listeners, count, queue_max, err) == 0)
        return gate;
    gate_free(gate);
    return NULL;
}

void gate_set_service(struct gate *gate, struct service *service)
{
    lock_take(&gate->lock);
    struct service *unused = gate->next_service;
    gate->next_service = service_ref(service);
    lock_drop(&gate->lock);
    waiter_wake(gate->all.waiter);
    service_unref(unused);
}

void gate_drain(struct gate *gate, int64_t timeout_ms)
{
    lock_take(&gate->lock);
    gate->drain_asked = true;
    gate->drain_timeout_ms = timeout_ms;
    lock_drop(&gate->lock);
    waiter_wake(gate->all.waiter);
}

/* Answers a request of gate_list(), if there is one. */
static void gate_answer(struct gate *gate)
{
    static const char *const stages[] = {
        [CONNECTION_PROXY] = "proxy",     [CONNECTION_DELAYED] = "greeting",
        [CONNECTION_SILENT] = "silent",   [CONNECTION_PARKED] = "parked",
        [CONNECTION_WAITING] = "waiting", [CONNECTION_WORKING] = "working",
    };
    struct gate_request *request = gate->request;
    int64_t now = deadline_now_ms();

    LOCK_ASSERT(&gate->lock);
    if (request == NULL)
        return;
    for (const struct connection *c = gate->all.first; c != NULL && request->count < request->max;
         c = c->next)
        request->sessions[request->count++] =
            (struct gate_session){c->client, stages[c->stage], now - c->since_ms};
    gate->request = NULL;
    pthread_cond_broadcast(&gate->listed);
}

static void gate_take_orders(struct gate *gate)
{
    gate_take_service(gate);
    lock_take(&gate->lock);
    bool drain = gate->drain_asked;
    gate_answer(gate);
    int64_t timeout_ms = gate->drain_timeout_ms;
    gate->drain_asked = false;
    lock_drop(&gate->lock);
    if (!drain)
        return;
    gate->draining = true;
    gate->drain_until_ms = deadline_now_ms() + timeout_ms;
    atomic_store(&gate->all.signals.draining, true);
    acceptor_end(gate->acceptor);
    connections_dismiss_idle(&gate->all, REPLY_SHUTTING_DOWN);
}

/* Does what has become due. Returns until when the next wait may last. */
static int64_t gate_keep_time(struct gate *gate)
{
    int64_t until_ms = stress_judge(&gate->stress, &gate->all, gate->service);
    int64_t memory_ms = memory_look(&gate->memory, gate->all.pool, atomic_load(&gate->all.count),
                                    waiter_now_ms(gate->all.waiter));

    if (memory_ms < until_ms)
        until_ms = memory_ms;
    if (!gate->draining)
        return until_ms;
    if (gate->drain_until_ms <= waiter_now_ms(gate->all.waiter) && !gate->all.cut) {
        gate->drain_until_ms = deadline_now_ms() + CUT_GRACE_MS;
        connections_cut(&gate->all);
    }
    return gate->drain_until_ms < until_ms ? gate->drain_until_ms : until_ms;
}

static bool gate_is_drained(const struct gate *gate)
{
    return gate->draining && (atomic_load(&gate->all.count) == 0 ||
                              (gate->all.cut && deadline_now_ms() >= gate->drain_until_ms));
}

void gate_run(struct gate *gate)
{
    acceptor_start(gate->acceptor);
    while (!gate_is_drained(gate)) {
        waiter_wait(gate->all.waiter, gate_keep_time(gate));
        stress_look(&gate->stress, &gate->all, gate->service);
        waiter_tell(gate->all.waiter);
        gate_take_orders(gate);
        connections_free_ended(&gate->all);
        atomic_store(&gate->answered, atomic_load(&gate->asked));
    }
    waiter_leave(gate->all.waiter);
}

bool gate_is_alive(struct gate *gate)
{
    unsigned asked = atomic_load(&gate->asked);
    bool answered = atomic_load(&gate->answered) == asked;

    if (answered) {
        atomic_store(&gate->asked, asked + 1);
        waiter_wake(gate->all.waiter);
    }
    return answered && pool_is_alive(gate->all.pool, STUCK_MS);
}

size_t gate_list(struct gate *gate, struct gate_session *sessions, size_t max,
                 struct deadline deadline)
{
    struct gate_request request = {.sessions = sessions, .max = max};

    lock_take(&gate->lock);
    while (gate->request != NULL && lock_wait(&gate->lock, &gate->listed, deadline))
        ;
    if (gate->request == NULL) {
        gate->request = &request;
        waiter_wake(gate->all.waiter);
        while (gate->request == &request && lock_wait(&gate->lock, &gate->listed, deadline))
            ;
        if (gate->request == &request)
            gate->request = NULL;
        pthread_cond_broadcast(&gate->listed);
    }
    lock_drop(&gate->lock);
    return request.count;
}

struct gate_counts gate_counts(struct gate *gate)
{
    return (struct gate_counts){
        .connections = atomic_load(&gate->all.count),
        .working = atomic_load(&gate->all.working),
        .greeting = atomic_load(&gate->all.greeting),
        .accepted = atomic_load(&gate->all.accepted),
        .stressed = atomic_load(&gate->all.signals.stressed),
    };
}

/* Ends all connections, including those that came back at the last moment. */
static void gate_end_connections(struct gate *gate)
{
    struct connections *all = &gate->all;

    pool_free(all->pool);
    all->pool = NULL;
    waiter_wait(all->waiter, 0);
    waiter_tell(all->waiter);
    connections_free_ended(all);
    connections_dismiss_all(all);
    ASSERT(atomic_load(&all->working) == 0 && atomic_load(&all->count) == 0);
    waiter_leave(all->waiter);
}

void gate_free(struct gate *gate)
{
    if (gate->all.pool != NULL)
        gate_end_connections(gate);
    acceptor_free(gate->acceptor);
    if (gate->all.waiter != NULL)
        waiter_free(gate->all.waiter);
    clients_free(gate->all.clients);
    service_unref(gate->service);
    service_unref(gate->next_service);
    lock_destroy(&gate->all.lock);
    pthread_cond_destroy(&gate->listed);
    lock_destroy(&gate->lock);
    free(gate);
}
