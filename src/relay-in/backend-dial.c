/* relay-in/backend-dial.c - connects to a backend's hosts, and leaves those alone that are down
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-in/backend-internal.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "net/dial.h"

#define USER_TIMEOUT_MS 45000 /* unacknowledged data, or probes, on a dead tunnel */
#define SILENT_MS 500         /* a host that is up answers sooner */
#define IDLE_TIMEOUT_MS 18000 /* the same for a spare, which must notice that the tunnel is cut */

void backend_watch_idle(int fd, bool on)
{
    static const int idle_s = 8, interval_s = 4, probes = 3;
    unsigned timeout_ms = on ? IDLE_TIMEOUT_MS : USER_TIMEOUT_MS;
    int keepalive = 1;

    /* With a user timeout, that timeout and not the number of probes ends a connection; tcp(7). */
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
    if (!on)
        return;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &keepalive, sizeof keepalive);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

/* The circuit breaker: a host that just failed is not tried again at once, and then by one session only, until it has
 * greeted if there is another host. No session tries a host that keeps others waiting. */
static bool backend_begin_dialling(struct backend *backend, size_t index)
{
    struct backend_host *host = &backend->hosts[index];
    int64_t now = deadline_now_ms();

    pthread_mutex_lock(&backend->lock);
    bool silent = host->dialling > 0 && now - host->dialling_since_ms >= SILENT_MS;
    bool may = host->failed_until_ms <= now && (host->dialling == 0 || (!host->suspect && !silent));
    if (may && host->dialling++ == 0)
        host->dialling_since_ms = now;
    pthread_mutex_unlock(&backend->lock);
    return may;
}

/* `failure`: an errno, or 0. If the cause is here, nothing was learned about the host. */
static void backend_end_dialling(struct backend *backend, size_t index, int failure)
{
    struct backend_host *host = &backend->hosts[index];
    int64_t now = deadline_now_ms();

    pthread_mutex_lock(&backend->lock);
    ASSERT(host->dialling > 0);
    host->dialling--;
    host->dialling_since_ms = now;
    if (failure != 0 && !dial_failed_here(failure)) {
        host->suspect = true;
        host->failed_until_ms = now + backend->settings->retry_after_ms;
    } else if (failure == 0 && host->suspect && backend->settings->hosts.count > 1) {
        host->failed_until_ms = now + BACKEND_STEP_MS; /* or until backend_greeted() */
    } else if (failure == 0) {
        host->suspect = false;
        host->failed_until_ms = 0;
    }
    pthread_mutex_unlock(&backend->lock);
}

/* A single host is tried every time: there is no other, and it has answered at once. */
static void backend_trust(struct backend *backend, size_t next, bool suspect)
{
    struct backend_host *host = &backend->hosts[next - 1];

    if (backend->settings->hosts.count < 2)
        return;
    pthread_mutex_lock(&backend->lock);
    host->suspect = suspect;
    host->failed_until_ms = suspect ? deadline_now_ms() + backend->settings->retry_after_ms : 0;
    pthread_mutex_unlock(&backend->lock);
}

bool backend_try_next(struct backend *backend, size_t next)
{
    backend_trust(backend, next, true);
    return next < backend->settings->hosts.count;
}

void backend_greeted(struct backend *backend, size_t next)
{
    backend_trust(backend, next, false);
}

/* Lets others shut down the keeper's descriptor. False if the backend is no longer wanted. */
static bool backend_show(struct backend *backend, int fd)
{
    pthread_mutex_lock(&backend->lock);
    bool wanted = backend->references > 0;
    if (wanted)
        backend->keeper_fd = fd;
    pthread_mutex_unlock(&backend->lock);
    return wanted;
}

void backend_hide(struct backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    backend->keeper_fd = -1;
    pthread_mutex_unlock(&backend->lock);
}

static void backend_note_connect(struct backend *backend, int64_t ms)
{
    counters_took(backend->counters, COUNTER_DURATION_BACKEND_CONNECT, ms);
    pthread_mutex_lock(&backend->lock);
    backend->health.connect_ms = ms;
    pthread_mutex_unlock(&backend->lock);
}

/* Returns the descriptor, or -1 with errno. */
static int backend_dial(struct backend *backend, const struct address *host, bool keeper,
                        struct error *err)
{
    const struct config_backend *settings = backend->settings;
    struct deadline deadline = deadline_in_ms(settings->connect_timeout_ms);
    int64_t began_ms = deadline_now_ms();
    int fd =
        dial_open(host, config_source_for(&settings->source, host->family), USER_TIMEOUT_MS, err);

    if (fd >= 0 && (!keeper || backend_show(backend, fd)) &&
        dial_finish(fd, host, deadline, err) == 0) {
        backend_note_connect(backend, deadline_now_ms() - began_ms);
        return fd;
    }
    int failure = errno;
    if (fd >= 0) {
        if (keeper)
            backend_hide(backend);
        close(fd);
    }
    errno = failure;
    return -1;
}

int backend_connect(struct backend *backend, size_t *next, struct address *host, bool keeper,
                    struct error *err)
{
    const struct config_backend *settings = backend->settings;
    bool tried = false;

    error_set(err, "it did not answer a moment ago and is not tried again yet");
    for (size_t i = *next; i < settings->hosts.count; i++) {
        if (!backend_begin_dialling(backend, i))
            continue;
        tried = true;
        int fd = backend_dial(backend, &settings->hosts.items[i], keeper, err);
        backend_end_dialling(backend, i, fd >= 0 ? 0 : errno);
        if (fd >= 0) {
            *host = settings->hosts.items[i];
            *next = i + 1;
            return fd;
        }
    }
    if (tried)
        backend_note(backend, false, err->text);
    return -1;
}
