/* relay-in/backend-state.c - what is known about a backend: whether it is up, and what it offers
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-in/backend-internal.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "relay-in/remembered.h"

void backend_wake(const struct backend *backend)
{
    uint64_t one = 1;
    if (write(backend->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: the keeper is awake anyway */
}

const char *backend_name(const struct backend *backend, char out[BACKEND_NAME_MAX])
{
    char text[ADDRESS_TEXT_MAX];
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < backend->settings->hosts.count && len < BACKEND_NAME_MAX - 1; i++)
        len += (size_t)snprintf(out + len, BACKEND_NAME_MAX - len, "%s%s", i > 0 ? "," : "",
                                address_format_endpoint(&backend->settings->hosts.items[i], text));
    return out;
}

void backend_health(struct backend *backend, struct backend_health *out)
{
    pthread_mutex_lock(&backend->lock);
    *out = backend->health;
    out->sessions = backend->sessions;
    out->spares = backend->spare_count;
    pthread_mutex_unlock(&backend->lock);
}

struct counters *backend_counters(const struct backend *backend)
{
    return backend->counters;
}

struct missed *backend_missed(const struct backend *backend)
{
    return backend->missed;
}

const struct config_backend *backend_settings(const struct backend *backend)
{
    return backend->settings;
}

bool backend_limits_networks(const struct backend *backend)
{
    return backend->config->in.limits.connections_per_network > 0;
}

bool backend_must_tls(const struct backend *backend)
{
    /* Logins come only under TLS, so mirroring also means TLS. */
    return backend->settings->tls == CONFIG_TLS_ENCRYPT ||
           backend->settings->tls == CONFIG_TLS_VERIFY ||
           (backend->submission && backend->settings->tls == CONFIG_TLS_MIRROR);
}

bool backend_wants_tls(const struct backend *backend, bool client_tls)
{
    switch ((enum config_backend_tls)backend->settings->tls) {
    case CONFIG_TLS_MIRROR:
        return client_tls;
    case CONFIG_TLS_MAY:
    case CONFIG_TLS_ENCRYPT:
    case CONFIG_TLS_VERIFY:
        return true;
    case CONFIG_TLS_NONE:
        break;
    }
    return false;
}

const char *backend_tls_name(const struct backend *backend)
{
    return backend->settings->tls_name[0] != '\0' ? backend->settings->tls_name : NULL;
}

/* Logs the end of an outage. relayctl missed shows whose mail was deferred meanwhile. */
static void backend_log_outage(const struct backend *backend, int64_t since, int64_t seconds)
{
    char name[BACKEND_NAME_MAX];
    struct log_line line;

    log_begin(&line, LOG_LEVEL_NOTICE, "event=outage");
    log_str(&line, "status", "over");
    log_str(&line, "backend", backend_name(backend, name));
    log_int(&line, "seconds", seconds);
    if (backend->missed != NULL)
        log_int(&line, "missed", missed_since(backend->missed, since));
    log_end(&line);
}

static void backend_log_health(const struct backend *backend, bool up, int64_t was_s,
                               const char *reason)
{
    char name[BACKEND_NAME_MAX];
    struct log_line line;

    log_begin(&line, up ? LOG_LEVEL_NOTICE : LOG_LEVEL_ERROR, "event=backend");
    log_str(&line, "status", up ? "up" : "down");
    log_str(&line, "backend", backend_name(backend, name));
    if (was_s >= 0)
        log_int(&line, up ? "down_s" : "up_s", was_s);
    if (!up) {
        log_str(&line, "reason", reason);
        log_str(&line, "effect", "senders get 451 and try again later");
    }
    log_end(&line);
}

void backend_note(struct backend *backend, bool up, const char *reason)
{
    struct backend_health *health = &backend->health;
    int64_t now = (int64_t)time(NULL), since = 0, was_s = -1;

    pthread_mutex_lock(&backend->lock);
    bool changed = health->status != (up ? BACKEND_UP : BACKEND_DOWN) && backend->references > 0;
    if (changed && health->status != BACKEND_UNKNOWN) {
        since = health->since;
        was_s = now - since;
    }
    if (changed) {
        health->status = up ? BACKEND_UP : BACKEND_DOWN;
        health->since = now;
        backend->recovered = up && was_s >= 0;
    }
    if (up)
        backend->seen_ms = deadline_now_ms();
    else
        snprintf(health->reason, sizeof health->reason, "%s", reason);
    pthread_mutex_unlock(&backend->lock);
    if (changed)
        backend_log_health(backend, up, was_s, reason);
    if (changed && up && was_s >= 0) {
        backend_log_outage(backend, since, was_s);
        backend_wake(backend);
    }
}

static void backend_log_offer(const struct backend *backend,
                              const struct nexthop_capabilities *seen)
{
    char host[ADDRESS_TEXT_MAX], words[REMEMBERED_WORDS_MAX];
    struct log_line line;

    log_begin(&line, LOG_LEVEL_INFO, "event=backend-offer");
    log_str(&line, "backend", address_format_endpoint(&backend->settings->hosts.items[0], host));
    log_int(&line, "size", (int64_t)seen->size_limit);
    log_str(&line, "extensions", remembered_words(seen->extensions, words));
    log_end(&line);
}

void backend_learn(struct backend *backend, const struct nexthop_capabilities *seen,
                   bool with_xclient)
{
    pthread_mutex_lock(&backend->lock);
    bool changed = !backend->known || !remembered_is_same(&backend->offered, seen);
    backend->offered = *seen;
    backend->unsaved |= changed;
    unsigned xclient = backend->learned.xclient;
    backend->learned = *seen;
    backend->known = true;
    backend->learned_at_ms = deadline_now_ms();
    if (!with_xclient)
        backend->learned.xclient = xclient;
    pthread_mutex_unlock(&backend->lock);
    backend_note(backend, true, NULL);
    if (!changed)
        return;
    backend_log_offer(backend, seen);
    backend_wake(backend);
}

void backend_offer(struct backend *backend, struct nexthop_capabilities *out)
{
    pthread_mutex_lock(&backend->lock);
    *out = backend->offered;
    pthread_mutex_unlock(&backend->lock);
}

bool backend_take_unsaved(struct backend *backend, struct nexthop_capabilities *out)
{
    pthread_mutex_lock(&backend->lock);
    bool unsaved = backend->unsaved && backend->config->in.state[0] != '\0';
    *out = backend->offered;
    backend->unsaved = false;
    pthread_mutex_unlock(&backend->lock);
    return unsaved;
}

bool backend_capabilities(struct backend *backend, struct nexthop_capabilities *out)
{
    pthread_mutex_lock(&backend->lock);
    *out = backend->learned;
    bool known = backend->known;
    pthread_mutex_unlock(&backend->lock);
    return known;
}
