/* in/backend.c - what all sessions know together of the backend
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "in/backend.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/i18n.h"
#include "base/log.h"
#include "net/dial.h"

#define SLOT_WAIT_MS 5000    /* a session waits so long for one of max_sessions */
#define LEARN_RETRY_MS 15000 /* the keeper asks again while nothing is known */
#define LEARN_REFRESH_MS (15 * 60 * 1000)
#define KEEPER_STEP_MS 10000  /* each step of the keeper's dialog */
#define USER_TIMEOUT_MS 60000 /* unacknowledged data on a dead tunnel (protocol: 3) */
#define KEEPER_BUFFER 4096

struct backend_census {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned living;
};

struct backend {
    struct config *config;
    struct tls_client *tls;
    struct backend_census *census;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a slot is free, or the keeper shall go */
    unsigned references;    /* of services; the keeper's own life is not counted */
    unsigned sessions;
    int64_t failed_until_ms[CONFIG_HOSTS_MAX];
    bool known;
    int64_t learned_at_ms;
    struct nexthop_capabilities learned;
};

/* Condition variables here wait on CLOCK_MONOTONIC: a clock set by NTP must not stretch a wait. */
static int init_monotonic(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes) != 0)
        return -1;
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    int result = pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
    return result == 0 ? 0 : -1;
}

static int wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, struct deadline deadline)
{
    struct timespec at = {.tv_sec = deadline.at_ms / 1000,
                          .tv_nsec = deadline.at_ms % 1000 * 1000000};
    return pthread_cond_timedwait(cond, lock, &at);
}

struct backend_census *backend_census_new(void)
{
    struct backend_census *census = calloc(1, sizeof *census);
    if (census == NULL)
        return NULL;
    pthread_mutex_init(&census->lock, NULL);
    if (init_monotonic(&census->changed) != 0) {
        free(census);
        return NULL;
    }
    return census;
}

void backend_census_free(struct backend_census *census)
{
    struct deadline deadline = deadline_in_ms(10000);
    pthread_mutex_lock(&census->lock);
    while (census->living > 0 && wait_until(&census->changed, &census->lock, deadline) != ETIMEDOUT)
        ;
    bool gone = census->living == 0;
    pthread_mutex_unlock(&census->lock);
    if (gone) {
        pthread_cond_destroy(&census->changed);
        pthread_mutex_destroy(&census->lock);
        free(census);
    }
}

static void census_count(struct backend_census *census, int difference)
{
    pthread_mutex_lock(&census->lock);
    census->living = (unsigned)((int)census->living + difference);
    pthread_cond_signal(&census->changed);
    pthread_mutex_unlock(&census->lock);
}

static void backend_free(struct backend *backend)
{
    tls_client_free(backend->tls);
    config_unref(backend->config);
    pthread_cond_destroy(&backend->changed);
    pthread_mutex_destroy(&backend->lock);
    free(backend);
}

/* One connection of the keeper: greeting, EHLO, QUIT. */
static void keeper_ask(struct backend *backend, struct stream_buffers *buffers, struct reply *reply)
{
    struct address host;
    enum own_reply why;
    struct error err;
    struct nexthop hop;
    int fd = backend_connect(backend, &host, &why, &err);

    if (fd < 0) {
        log_write(LOG_LEVEL_WARNING, "event=backend-unknown reason=\"%s\"", err.text);
        return;
    }
    nexthop_init(&hop, fd, buffers);
    if (nexthop_greeting(&hop, reply, deadline_in_ms(KEEPER_STEP_MS)) == IO_OK &&
        reply_is_positive(reply) &&
        nexthop_hello(&hop, true, backend_hostname(backend), reply,
                      deadline_in_ms(KEEPER_STEP_MS)) == IO_OK &&
        reply_is_positive(reply)) {
        backend_learn(backend, &hop.capabilities, true);
        if (backend_settings(backend)->identity == CONFIG_IDENTITY_XCLIENT &&
            !(hop.capabilities.extensions & NEXTHOP_XCLIENT))
            log_write(LOG_LEVEL_ERROR,
                      "event=backend-identity error=\"the backend does not offer XCLIENT to "
                      "this host: add our address to its smtpd_authorized_xclient_hosts; until "
                      "then all mail gets 451\"");
    }
    nexthop_quit(&hop);
    backend_disconnected(backend);
}

static void *keeper_main(void *argument)
{
    struct backend *backend = argument;
    struct backend_census *census = backend->census;
    struct stream_buffers buffers;
    struct reply *reply = malloc(sizeof *reply);
    bool ready = stream_buffers_init(&buffers, KEEPER_BUFFER, KEEPER_BUFFER) == 0 && reply != NULL;

    pthread_mutex_lock(&backend->lock);
    struct deadline next = deadline_in_ms(0);
    while (backend->references > 0) {
        bool due = backend->learned_at_ms == 0 ||
                   deadline_now_ms() - backend->learned_at_ms >= LEARN_REFRESH_MS;
        if (ready && due && deadline_passed(next)) {
            pthread_mutex_unlock(&backend->lock);
            keeper_ask(backend, &buffers, reply);
            pthread_mutex_lock(&backend->lock);
            next = deadline_in_ms(LEARN_RETRY_MS);
            continue;
        }
        wait_until(&backend->changed, &backend->lock,
                   deadline_passed(next) ? deadline_in_ms(LEARN_RETRY_MS) : next);
    }
    pthread_mutex_unlock(&backend->lock);
    stream_buffers_free(&buffers);
    free(reply);
    backend_free(backend);
    census_count(census, -1);
    return NULL;
}

static int start_keeper(struct backend *backend, struct error *err)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    census_count(backend->census, 1);
    int result = pthread_create(&thread, &attributes, keeper_main, backend);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (result == 0)
        return 0;
    census_count(backend->census, -1);
    error_set(err, _("cannot start a thread: %s"), strerror(result));
    return -1;
}

struct backend *backend_new(struct config *config, struct backend_census *census, struct error *err)
{
    /* In a private tunnel the certificate proves nothing that WireGuard has not proven. */
    const struct tls_client_config tls = {.priority = NULL, .verify = false};
    struct backend *backend = calloc(1, sizeof *backend);

    if (backend == NULL || init_monotonic(&backend->changed) != 0) {
        error_set(err, _("out of memory"));
        free(backend);
        return NULL;
    }
    pthread_mutex_init(&backend->lock, NULL);
    backend->references = 1;
    backend->census = census;
    backend->config = config_ref(config);
    backend->tls = tls_client_new(&tls, err);
    if (backend->tls == NULL || start_keeper(backend, err) != 0) {
        backend_free(backend);
        return NULL;
    }
    return backend;
}

struct backend *backend_ref(struct backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    backend->references++;
    pthread_mutex_unlock(&backend->lock);
    return backend;
}

void backend_unref(struct backend *backend)
{
    if (backend == NULL)
        return;
    pthread_mutex_lock(&backend->lock);
    if (--backend->references == 0)
        pthread_cond_broadcast(&backend->changed);
    pthread_mutex_unlock(&backend->lock);
}

bool backend_serves(const struct backend *backend, const struct config *config)
{
    const struct config_backend *a = backend_settings(backend), *b = &config->in.backend;
    if (a->hosts.count != b->hosts.count || strcmp(backend->config->hostname, config->hostname) != 0)
        return false;
    for (size_t i = 0; i < a->hosts.count; i++) {
        if (!address_same_ip(&a->hosts.items[i], &b->hosts.items[i]) || a->hosts.items[i].port != b->hosts.items[i].port)
            return false;
    }
    return a->identity == b->identity && a->tls == b->tls && a->max_sessions == b->max_sessions &&
           a->connect_timeout_ms == b->connect_timeout_ms &&
           a->command_timeout_ms == b->command_timeout_ms &&
           a->reply_timeout_ms == b->reply_timeout_ms && a->retry_after_ms == b->retry_after_ms;
}

const struct config_backend *backend_settings(const struct backend *backend)
{
    return &backend->config->in.backend;
}

const char *backend_hostname(const struct backend *backend)
{
    return backend->config->hostname;
}

struct tls_client *backend_tls(const struct backend *backend)
{
    return backend->tls;
}

static bool take_slot(struct backend *backend)
{
    unsigned most = (unsigned)backend_settings(backend)->max_sessions;
    struct deadline deadline = deadline_in_ms(SLOT_WAIT_MS);
    pthread_mutex_lock(&backend->lock);
    while (backend->sessions >= most &&
           wait_until(&backend->changed, &backend->lock, deadline) != ETIMEDOUT)
        ;
    bool taken = backend->sessions < most;
    if (taken)
        backend->sessions++;
    pthread_mutex_unlock(&backend->lock);
    return taken;
}

void backend_disconnected(struct backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    backend->sessions--;
    pthread_cond_broadcast(&backend->changed);
    pthread_mutex_unlock(&backend->lock);
}

/* The breaker: a host that failed a moment ago is not tried again at once. */
static bool host_rests(struct backend *backend, size_t host)
{
    pthread_mutex_lock(&backend->lock);
    bool rests = backend->failed_until_ms[host] > deadline_now_ms();
    pthread_mutex_unlock(&backend->lock);
    return rests;
}

static void host_failed(struct backend *backend, size_t host)
{
    pthread_mutex_lock(&backend->lock);
    backend->failed_until_ms[host] = deadline_now_ms() + backend_settings(backend)->retry_after_ms;
    pthread_mutex_unlock(&backend->lock);
}

int backend_connect(struct backend *backend, struct address *host, enum own_reply *why,
                    struct error *err)
{
    const struct config_backend *settings = backend_settings(backend);

    if (!take_slot(backend)) {
        *why = REPLY_BACKEND_BUSY;
        error_set(err, "all max_sessions are in use");
        return -1;
    }
    *why = REPLY_BACKEND_UNREACHABLE;
    error_set(err, "no answer a moment ago, not tried again yet");
    for (size_t i = 0; i < settings->hosts.count; i++) {
        if (host_rests(backend, i))
            continue;
        int fd = dial_connect(&settings->hosts.items[i], NULL, USER_TIMEOUT_MS,
                              deadline_in_ms(settings->connect_timeout_ms), err);
        if (fd >= 0) {
            *host = settings->hosts.items[i];
            return fd;
        }
        host_failed(backend, i);
    }
    backend_disconnected(backend);
    return -1;
}

void backend_learn(struct backend *backend, const struct nexthop_capabilities *seen,
                   bool with_xclient)
{
    pthread_mutex_lock(&backend->lock);
    unsigned xclient = backend->learned.xclient;
    backend->learned = *seen;
    backend->known = true;
    backend->learned_at_ms = deadline_now_ms();
    if (!with_xclient)
        backend->learned.xclient = xclient;
    pthread_mutex_unlock(&backend->lock);
}

bool backend_capabilities(struct backend *backend, struct nexthop_capabilities *out)
{
    pthread_mutex_lock(&backend->lock);
    *out = backend->learned;
    bool known = backend->known;
    pthread_mutex_unlock(&backend->lock);
    return known;
}
