/* relay-in/main.c - relay-in: the daemon on the internet side
 *
 * Only wiring: what lives as long as the process, which backends a reload keeps, and what relayctl asks for.
 * relay-in/inbound has the policy, server/daemon the life cycle.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/i18n.h"
#include "relay-in/backend.h"
#include "relay-in/inbound.h"
#include "server/daemon.h"
#include "server/stats.h"

/* Lives as long as the process. Constant once it has started. */
struct relay_in {
    struct counters *counters; /* borrowed */
    struct missed *missed;     /* NULL: off */
    struct backend_live_count *live_count;
    struct resolver *resolver;
};

static void relay_in_shape(const struct config *config, struct daemon_shape *out)
{
    const struct config_in *in = &config->in;
    *out = (struct daemon_shape){
        .listen = in->listen.items,
        .listen_count = in->listen.count,
        .workers = (unsigned)in->workers,
        .queue = (unsigned)in->limits.queue,
        .connections = (unsigned)in->daemon.limits.connections,
        .drain_ms = in->daemon.timeouts.drain,
    };
}

static void relay_in_stop(void *shared)
{
    struct relay_in *relay = shared;
    if (!backend_live_count_free(relay->live_count)) {
        /* Destructors must not run while a thread is still working. */
        fflush(NULL);
        _exit(EX_OK);
    }
    resolver_free(relay->resolver);
    missed_close(relay->missed);
    free(relay);
}

static void *relay_in_start(const struct config *config, struct counters *counters,
                            struct error *err)
{
    struct relay_in *relay = calloc(1, sizeof *relay);
    struct resolver_config resolver;

    config_resolver(config, &resolver);
    if (relay != NULL)
        relay->live_count = backend_live_count_new();
    if (relay == NULL || relay->live_count == NULL) {
        error_set(err, _("out of memory"));
        free(relay);
        return NULL;
    }
    relay->counters = counters;
    if (config->in.missed)
        relay->missed = missed_open(config->in.state, config->in.missed_sender, err);
    relay->resolver =
        !config->in.missed || relay->missed != NULL ? resolver_new(&resolver, err) : NULL;
    if (relay->resolver != NULL)
        return relay;
    relay_in_stop(relay);
    return NULL;
}

/* The backends of a snapshot, that for submission last; NULL: there are no more. Groups may share one. */
static struct backend *relay_in_backend(const struct inbound *inbound, size_t which)
{
    if (which < inbound->backend_count)
        return inbound->backends[which];
    return which == inbound->backend_count ? inbound->submission : NULL;
}

/* Finds a backend with equivalent settings in a snapshot. Returns a reference, or NULL. */
static struct backend *relay_in_find_backend(const struct inbound *inbound,
                                             const struct config *config,
                                             const struct config_backend *settings, bool submission)
{
    struct backend *backend;

    for (size_t i = 0; (backend = relay_in_backend(inbound, i)) != NULL; i++) {
        if (backend_serves(backend, config, settings, submission))
            return backend_ref(backend);
    }
    return NULL;
}

/* Finds a backend from before the reload, or of another group of this configuration, or makes one. So groups with
 * the same mail server share its sessions and spares. */
static struct backend *relay_in_backend_for(const struct relay_in *relay,
                                            const struct inbound *before,
                                            const struct inbound *inbound,
                                            const struct config_backend *settings, bool submission,
                                            struct error *err)
{
    struct config *config = inbound->config;
    struct backend *backend = relay_in_find_backend(inbound, config, settings, submission);

    if (backend == NULL && before != NULL)
        backend = relay_in_find_backend(before, config, settings, submission);
    return backend != NULL ? backend
                           : backend_new(config, settings, submission, relay->live_count,
                                         relay->counters, relay->missed, err);
}

static int relay_in_find_backends(const struct relay_in *relay, const struct inbound *before,
                                  struct inbound *inbound, struct error *err)
{
    const struct config_in *in = &inbound->config->in;
    const struct config_backend *of_domains = in->backends.items;

    inbound->backends = calloc(1 + in->backends.count, sizeof *inbound->backends);
    if (inbound->backends == NULL) {
        error_set(err, _("out of memory"));
        return -1;
    }
    for (size_t i = 0; i <= in->backends.count; i++) {
        struct backend *backend = relay_in_backend_for(
            relay, before, inbound, i == 0 ? &in->backend : &of_domains[i - 1], false, err);
        if (backend == NULL)
            return -1;
        inbound->backends[inbound->backend_count++] = backend;
    }
    if (!in->submission.given)
        return 0;
    inbound->submission = relay_in_backend_for(relay, before, inbound, &in->submission, true, err);
    return inbound->submission != NULL ? 0 : -1;
}

static struct service *relay_in_service(void *shared, const struct service *before,
                                        struct config *config, struct tls_server *tls,
                                        struct error *err)
{
    struct relay_in *relay = shared;
    struct inbound *inbound = inbound_new(config, tls, relay->resolver, relay->counters, err);
    struct resolver_config resolver;

    if (inbound == NULL)
        return NULL;
    config_resolver(config, &resolver);
    if (relay_in_find_backends(relay, (const struct inbound *)before, inbound, err) == 0 &&
        resolver_configure(relay->resolver, &resolver, err) == 0)
        return &inbound->service;
    service_unref(&inbound->service);
    return NULL;
}

static bool relay_in_is_listed_before(const struct inbound *inbound, size_t which)
{
    for (size_t i = 0; i < which; i++) {
        if (relay_in_backend(inbound, i) == relay_in_backend(inbound, which))
            return true;
    }
    return false;
}

static void relay_in_measure_backend(struct backend *backend, unsigned index,
                                     struct control_client *client)
{
    static const char *const words[] = {"unknown", "up", "down"};
    struct backend_health health;
    char name[BACKEND_NAME_MAX], label[16];

    backend_health(backend, &health);
    snprintf(label, sizeof label, "%u", index);
    stats_put_each(client, COUNTER_BACKEND_UP, COUNTERS_IN, label, health.status == BACKEND_UP);
    stats_put_each(client, COUNTER_BACKEND_SESSIONS, COUNTERS_IN, label, health.sessions);
    stats_put_each(client, COUNTER_BACKEND_LIMIT, COUNTERS_IN, label,
                   (double)backend_settings(backend)->max_sessions);
    stats_put_each(client, COUNTER_BACKEND_SPARES, COUNTERS_IN, label, health.spares);
    if (health.connect_ms >= 0)
        stats_put_each(client, COUNTER_BACKEND_LATENCY, COUNTERS_IN, label,
                       (double)health.connect_ms / 1000);
    stats_put_line(client, "backend %s %s %lld %lld %s %s", label, words[health.status],
                   (long long)health.since, (long long)health.connect_ms,
                   backend_name(backend, name), health.reason[0] != '\0' ? health.reason : "-");
}

static void relay_in_measure_missed(struct relay_in *relay)
{
    struct missed_counts counts;

    missed_count(relay->missed, &counts);
    int64_t age = counts.oldest != 0 ? (int64_t)time(NULL) - counts.oldest : 0;
    counters_set(relay->counters, COUNTER_MISSED_PENDING, counts.pending);
    counters_set(relay->counters, COUNTER_MISSED_OLDEST, age > 0 ? (uint64_t)age : 0);
}

/* "backend NAME, STATUS". */
static void relay_in_put_route(const struct service *current, struct control_client *client,
                               const struct path *recipient, const void *route)
{
    static const char *const words[] = {"not tried yet", "up", "down"};
    struct backend *backend = (struct backend *)route;
    struct backend_health health;
    char name[BACKEND_NAME_MAX];

    (void)current;
    (void)recipient;
    backend_health(backend, &health);
    stats_put_line(client, "backend %s, %s", backend_name(backend, name), words[health.status]);
}

/* The answer to "missed" has a line for each entry,
 *   missed STATE FIRST LAST SETTLED TRIES REASON NAMED SENDER RECIPIENT CLIENT
 * with "-" for no sender. */
static void relay_in_answer(void *shared, const struct service *current,
                            struct control_client *client, const char *const *words, size_t count)
{
    static const char *const states[] = {"pending", "came-back", "refused"};
    struct relay_in *relay = shared;
    unsigned entries;

    (void)current;
    if (count != 1 || strcmp(words[0], "missed") != 0) {
        control_error(client, "no such request");
        return;
    }
    if (relay->missed == NULL) {
        control_error(client, "the ledger is off (in.missed)");
        return;
    }
    struct missed_entry *list = missed_list(relay->missed, &entries);
    control_ok(client);
    for (unsigned i = 0; i < entries; i++) {
        const struct missed_entry *entry = &list[i];
        stats_put_line(client, "missed %s %lld %lld %lld %u %s %d %s %s %s", states[entry->state],
                       (long long)entry->first, (long long)entry->last, (long long)entry->settled,
                       entry->tries, missed_reason_name(entry->reason), entry->has_name,
                       entry->sender[0] != '\0' ? entry->sender : "-", entry->recipient,
                       entry->client);
    }
    free(list);
}

static void relay_in_measure(void *shared, const struct service *current,
                             struct control_client *client)
{
    const struct inbound *inbound = (const struct inbound *)current;
    struct backend *backend;
    unsigned index = 0;

    if (client == NULL) {
        relay_in_measure_missed(shared);
        return;
    }
    for (size_t i = 0; (backend = relay_in_backend(inbound, i)) != NULL; i++) {
        if (!relay_in_is_listed_before(inbound, i))
            relay_in_measure_backend(backend, index++, client);
    }
}

int main(int argc, char **argv)
{
    static const struct daemon_program program = {
        .name = "relay-in",
        .summary =
            N_("takes mail from the internet and passes it straight through to the mail server"),
        .part = CONFIG_PART_IN,
        .shape = relay_in_shape,
        .start = relay_in_start,
        .service_new = relay_in_service,
        .measure = relay_in_measure,
        .put_route = relay_in_put_route,
        .request = relay_in_answer,
        .stop = relay_in_stop,
    };
    return daemon_main(&program, argc, argv);
}
