/* relay-in/backend.c - the life cycle of a backend
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-in/backend-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include "base/i18n.h"
#include "relay-in/remembered.h"

/* What is offered while nothing is known about a backend. If an extension turns out to be missing, mail gets 451. */
#define ASSUMED_EXTENSIONS                                                                         \
    (EXTENSION_8BITMIME | EXTENSION_SMTPUTF8 | EXTENSION_ENHANCEDSTATUSCODES | EXTENSION_DSN |     \
     EXTENSION_CHUNKING)

static struct tls_client *backend_make_tls(const struct config_backend *settings, struct error *err)
{
    /* In a private tunnel, the certificate proves nothing more than WireGuard does. */
    const struct tls_client_config tls = {
        .pair = {settings->cert, settings->key},
        .verify = settings->tls == CONFIG_TLS_VERIFY,
        .ca_file = settings->ca_file,
    };
    return tls_client_new(&tls, err);
}

struct backend *backend_new(struct config *config, const struct config_backend *settings,
                            bool submission, struct backend_live_count *live_count,
                            struct counters *counters, struct missed *missed, struct error *err)
{
    struct backend *backend = calloc(1, sizeof *backend);

    if (backend == NULL) {
        error_set(err, _("out of memory"));
        return NULL;
    }
    pthread_mutex_init(&backend->lock, NULL);
    backend->wanted.next = backend->wanted.previous = &backend->wanted;
    backend->held.next = backend->held.previous = &backend->held;
    backend->references = 1;
    backend->live_count = live_count;
    backend->counters = counters;
    backend->missed = missed;
    backend->health.since = (int64_t)time(NULL);
    backend->health.connect_ms = -1;
    backend->config = config_ref(config);
    backend->settings = settings;
    backend->submission = submission;
    backend->demand = 0x0f;
    if (!remembered_read(config->in.state, settings, submission, &backend->offered)) {
        backend->offered = (struct nexthop_capabilities){.extensions = ASSUMED_EXTENSIONS};
        strcpy(backend->offered.mechanisms, submission ? "PLAIN LOGIN" : "");
    }
    backend->spares = calloc((size_t)settings->spares + 1, sizeof *backend->spares);
    backend->keeper_fd = -1;
    backend->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (backend->spares == NULL || backend->wake_fd < 0)
        error_set(err, "%s", strerror(errno));
    else
        backend->tls = backend_make_tls(settings, err);
    if (backend->tls == NULL || backend_start_keeper(backend, err) != 0) {
        backend_free(backend);
        return NULL;
    }
    backend_live_count_add(live_count);
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
    /* Inside the lock, because afterwards the keeper may have freed it. */
    if (--backend->references == 0) {
        backend_wake(backend);
        if (backend->keeper_fd >= 0)
            shutdown(backend->keeper_fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&backend->lock);
}

static bool backend_same_hosts(const struct host_list *a, const struct host_list *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (!address_equal(&a->items[i], &b->items[i]))
            return false;
    }
    return true;
}

bool backend_serves(const struct backend *backend, const struct config *config,
                    const struct config_backend *b, bool submission)
{
    const struct config_backend *a = backend->settings;
    return strcmp(backend->config->hostname, config->hostname) == 0 &&
           backend->submission == submission &&
           (backend->config->in.limits.connections_per_network > 0) ==
               (config->in.limits.connections_per_network > 0) &&
           backend_same_hosts(&a->hosts, &b->hosts) && backend_same_hosts(&a->source, &b->source) &&
           a->identity == b->identity && a->tls == b->tls &&
           strcmp(a->tls_name, b->tls_name) == 0 && strcmp(a->ca_file, b->ca_file) == 0 &&
           strcmp(a->cert, b->cert) == 0 && strcmp(a->key, b->key) == 0 &&
           !tls_client_files_changed(backend->tls) && a->spares == b->spares &&
           a->max_sessions == b->max_sessions && a->connect_timeout_ms == b->connect_timeout_ms &&
           a->command_timeout_ms == b->command_timeout_ms &&
           a->reply_timeout_ms == b->reply_timeout_ms && a->retry_after_ms == b->retry_after_ms;
}
