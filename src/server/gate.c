/* server/gate.c - the thread that owns every connection nobody is working on
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/gate-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/i18n.h"
#include "base/log.h"

#define EVENTS_MAX 128
#define ACCEPTS_MAX 64      /* in a row, before others have their turn */
#define ACCEPT_PAUSE_MS 100 /* when descriptors or memory ran out */
#define EXHAUSTED_LOG_MS 1000
#define CUT_GRACE_MS 2000 /* for workers to notice that their sockets were shut down */

static void *new_scratch(void)
{
    struct session_scratch *scratch = malloc(sizeof *scratch);
    if (scratch != NULL && session_scratch_init(scratch) == 0)
        return scratch;
    free(scratch);
    return NULL;
}

static void free_scratch(void *scratch)
{
    session_scratch_free(scratch);
    free(scratch);
}

static int watch_source(struct gate *gate, int fd, void *source, uint32_t manner)
{
    struct epoll_event event = {.events = EPOLLIN | manner, .data.ptr = source};
    return epoll_ctl(gate->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

/* What cannot be watched for lack of memory is tried again after a pause. */
static void watch_listeners(struct gate *gate, bool on)
{
    if (gate->accepting == on)
        return;
    gate->accepting = on;
    for (size_t i = 0; i < gate->listener_count; i++) {
        int fd = gate->listeners[i].given.fd;
        if (!on) {
            epoll_ctl(gate->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        } else if (watch_source(gate, fd, &gate->listeners[i], 0) != 0 && errno != EEXIST) {
            gate->accepting = false;
            gate->pause_until_ms = deadline_now_ms() + ACCEPT_PAUSE_MS;
        }
    }
}

static int set_up(struct gate *gate, unsigned workers, unsigned queue_max, struct error *err)
{
    static const struct pool_work work = {gate_work, new_scratch, free_scratch};

    gate->clients = clients_new();
    gate->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    gate->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    gate->wake = SOURCE_WAKE;
    if (gate->clients == NULL || gate->epoll_fd < 0 || gate->wake_fd < 0 ||
        watch_source(gate, gate->wake_fd, &gate->wake, EPOLLET) != 0) {
        error_set(err, _("cannot set up the event loop: %s"), strerror(errno));
        return -1;
    }
    gate->workers = workers;
    gate->pool = pool_new(workers, queue_max, &work, err);
    return gate->pool != NULL ? 0 : -1;
}

static struct listener make_listener(const struct gate_listener *given)
{
    struct listener listener = {.source = SOURCE_LISTENER, .given = *given};
    listener.has_local = listener_local_address(given->fd, &listener.local);
    return listener;
}

struct gate *gate_new(const struct gate_listener *listeners, size_t count, struct service *service,
                      unsigned workers, unsigned queue_max, struct error *err)
{
    struct gate *gate = calloc(1, sizeof *gate);
    if (gate == NULL) {
        error_set(err, _("out of memory"));
        return NULL;
    }
    pthread_mutex_init(&gate->lock, NULL);
    gate->service = service_ref(service);
    gate->listener_count = count < LISTENERS_MAX ? count : LISTENERS_MAX;
    for (size_t i = 0; i < gate->listener_count; i++)
        gate->listeners[i] = make_listener(&listeners[i]);
    if (set_up(gate, workers, queue_max, err) == 0)
        return gate;
    gate_free(gate);
    return NULL;
}

void gate_set_service(struct gate *gate, struct service *service)
{
    pthread_mutex_lock(&gate->lock);
    struct service *unused = gate->next_service;
    gate->next_service = service_ref(service);
    pthread_mutex_unlock(&gate->lock);
    gate_wake(gate);
    service_unref(unused);
}

void gate_drain(struct gate *gate, int64_t timeout_ms)
{
    pthread_mutex_lock(&gate->lock);
    gate->drain_asked = true;
    gate->drain_timeout_ms = timeout_ms;
    pthread_mutex_unlock(&gate->lock);
    gate_wake(gate);
}

static bool is_transient(int failure)
{
    return failure == ECONNABORTED || failure == EINTR || failure == EPERM || failure == EPROTO ||
           failure == ENETDOWN || failure == EHOSTUNREACH || failure == ENETUNREACH;
}

/* Descriptors or memory are out: the backlog keeps the clients for a moment. */
static void pause_accepting(struct gate *gate, int failure)
{
    int64_t now = deadline_now_ms();

    if (now - gate->exhausted_logged_ms >= EXHAUSTED_LOG_MS) {
        gate->exhausted_logged_ms = now;
        log_write(LOG_LEVEL_ERROR,
                  "event=accept-failed reason=\"%s\" hint=\"raise LimitNOFILE or "
                  "lower limits.connections\"",
                  strerror(failure));
    }
    gate->pause_until_ms = now + ACCEPT_PAUSE_MS;
    watch_listeners(gate, false);
}

/* Before anybody is accepted who came after gate_set_service(). */
static void take_service(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    struct service *next = gate->next_service;
    gate->next_service = NULL;
    pthread_mutex_unlock(&gate->lock);
    if (next == NULL)
        return;
    service_unref(gate->service);
    gate->service = next;
}

/* One, and who else waits makes the listener ready again at once. Only then are there probably
 * several, and it pays to go on until a call finds nobody. */
static void accept_some(struct gate *gate, struct listener *listener)
{
    bool again = gate->round == listener->ready_round + 1;

    take_service(gate);
    listener->ready_round = gate->round;
    for (int i = 0; i < (again ? ACCEPTS_MAX : 1); i++) {
        struct sockaddr_storage sockaddr;
        socklen_t len = sizeof sockaddr;
        struct address client;
        int fd = accept4(listener->given.fd, (struct sockaddr *)&sockaddr, &len, SOCK_CLOEXEC);
        if (fd >= 0) {
            address_from_sockaddr(&client, (struct sockaddr *)&sockaddr);
            gate_admit(gate, fd, &client, listener);
            continue;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return;
        if (is_transient(errno))
            continue;
        pause_accepting(gate, errno);
        return;
    }
}

/* Not closed: their numbers are still the daemon's. */
static void end_listening(struct gate *gate)
{
    watch_listeners(gate, false);
    for (size_t i = 0; i < gate->listener_count; i++) {
        if (!gate->listeners[i].given.handed_over)
            shutdown(gate->listeners[i].given.fd, SHUT_RDWR);
    }
}

static void begin_drain(struct gate *gate, int64_t timeout_ms)
{
    atomic_store(&gate->signals.draining, true);
    gate->drain_until_ms = deadline_now_ms() + timeout_ms;
    end_listening(gate);
    gate_dismiss_idle(gate, REPLY_SHUTTING_DOWN);
}

static void take_commands(struct gate *gate)
{
    take_service(gate);
    pthread_mutex_lock(&gate->lock);
    struct connection *returned = gate->returned, *woken = gate->woken;
    bool drain = gate->drain_asked;
    int64_t timeout_ms = gate->drain_timeout_ms;
    gate->returned = gate->woken = NULL;
    for (struct connection *at = woken; at != NULL; at = at->next_woken) {
        at->woken = false;
        at->granted = true;
    }
    gate->drain_asked = false;
    pthread_mutex_unlock(&gate->lock);

    /* These first: nothing of them is freed here. */
    for (; woken != NULL; woken = woken->next_woken)
        gate_take_grant(gate, woken);
    while (returned != NULL) {
        struct connection *connection = returned;
        returned = connection->next_returned;
        gate_take_back(gate, connection);
    }
    if (drain)
        begin_drain(gate, timeout_ms);
}

static int earlier(int a, int b)
{
    return a < 0 ? b : b < 0 ? a : a < b ? a : b;
}

/* How long the next wait may be, after doing what time demands. -1: no limit. */
static int keep_time(struct gate *gate)
{
    int64_t now = deadline_now_ms();
    int wait_ms = gate_expire(gate);

    wait_ms = earlier(wait_ms, gate_judge_stress(gate));
    if (!gate->accepting && !atomic_load(&gate->signals.draining)) {
        if (gate->pause_until_ms <= now)
            watch_listeners(gate, true);
        if (!gate->accepting)
            wait_ms = earlier(wait_ms, (int)(gate->pause_until_ms - now));
    }
    if (!atomic_load(&gate->signals.draining))
        return wait_ms;
    if (gate->drain_until_ms <= now && !gate->cut) {
        gate->cut = true;
        gate->drain_until_ms = now + CUT_GRACE_MS;
        gate_cut(gate);
    }
    return earlier(wait_ms, (int)(gate->drain_until_ms - now));
}

static bool drained(const struct gate *gate)
{
    return atomic_load(&gate->signals.draining) &&
           (atomic_load(&gate->connections) == 0 ||
            (gate->cut && deadline_now_ms() >= gate->drain_until_ms));
}

void gate_run(struct gate *gate)
{
    struct epoll_event events[EVENTS_MAX];

    watch_listeners(gate, true);
    while (!drained(gate)) {
        int wait_ms = keep_time(gate);
        int count = epoll_wait(gate->epoll_fd, events, EVENTS_MAX, wait_ms);
        bool woken = false;
        gate->round++;
        for (int i = 0; i < count; i++) {
            void *source = events[i].data.ptr;
            switch (*(enum source *)source) {
            case SOURCE_WAKE:
                woken = true;
                break;
            case SOURCE_LISTENER:
                if (gate->accepting)
                    accept_some(gate, source);
                break;
            case SOURCE_CONNECTION:
                gate_readable(gate, source, events[i].events);
                break;
            }
        }
        /* Last, because these may free connections that stand in `events`. */
        if (woken)
            take_commands(gate);
        gate_bury_ended(gate);
    }
    watch_listeners(gate, false);
}

struct gate_counts gate_counts(struct gate *gate)
{
    return (struct gate_counts){
        .connections = atomic_load(&gate->connections),
        .working = atomic_load(&gate->working),
        .accepted = atomic_load(&gate->accepted),
        .refused_limit = atomic_load(&gate->refused_limit),
        .refused_client = atomic_load(&gate->refused_client),
        .refused_private = atomic_load(&gate->refused_private),
        .refused_listed = atomic_load(&gate->refused_listed),
        .refused_dnsbl = atomic_load(&gate->refused_dnsbl),
        .refused_proxy = atomic_load(&gate->refused_proxy),
        .early_talkers = atomic_load(&gate->early_talkers),
        .idle_dropped = atomic_load(&gate->idle_dropped),
        .evicted = atomic_load(&gate->evicted),
        .stresses = atomic_load(&gate->stresses),
        .stressed = atomic_load(&gate->signals.stressed),
    };
}

void gate_free(struct gate *gate)
{
    if (gate->pool != NULL) {
        pool_free(gate->pool);
        take_commands(gate);
        gate_bury_ended(gate);
    }
    if (gate->clients != NULL)
        gate_dismiss_all(gate);
    clients_free(gate->clients);
    service_unref(gate->service);
    service_unref(gate->next_service);
    if (gate->epoll_fd > 0)
        close(gate->epoll_fd);
    if (gate->wake_fd > 0)
        close(gate->wake_fd);
    pthread_mutex_destroy(&gate->lock);
    free(gate);
}
