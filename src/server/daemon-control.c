/* server/daemon-control.c - answers a daemon's common requests on the control socket
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/daemon-internal.h"

#include <config.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "server/doctor-last.h"
#include "server/stats.h"

#define SESSIONS_SHOWN 1000
#define SESSIONS_PATIENCE_MS 2000

static unsigned daemon_kind(const struct daemon *daemon)
{
    return daemon->program->part == CONFIG_PART_IN ? COUNTERS_IN : COUNTERS_OUT;
}

void daemon_note_reload(struct daemon *daemon, bool taken)
{
    counters_set(daemon->counters, COUNTER_RELOAD_OK, taken);
    if (taken)
        counters_set(daemon->counters, COUNTER_RELOADED, (uint64_t)time(NULL));
}

static void daemon_measure_gate(struct daemon *daemon)
{
    const struct gate_counts counts = gate_counts(daemon->gate);
    const unsigned not_parked = counts.working + counts.greeting;

    counters_set(daemon->counters, COUNTER_OPEN_WORKING, counts.working);
    counters_set(daemon->counters, COUNTER_OPEN_PARKED,
                 counts.connections > not_parked ? counts.connections - not_parked : 0);
    counters_set(daemon->counters, COUNTER_OPEN_GREETING, counts.greeting);
    counters_set(daemon->counters, COUNTER_STRESSED, counts.stressed);
}

/* Tells of the last run of relayctl doctor --changes. */
static void daemon_measure_doctor(struct counters *counters, const struct config *config)
{
    struct doctor_last last;
    char file[PATH_MAX];

    doctor_last_file(config, file);
    doctor_last_read(file, &last);
    counters_set(counters, COUNTER_DOCTOR_FAILED, last.failed);
    counters_set(counters, COUNTER_DOCTOR_RAN, (uint64_t)last.at);
}

void daemon_begin_day(struct daemon *daemon)
{
    time_t now = time(NULL);
    struct tm tm;

    if (localtime_r(&now, &tm) == NULL || tm.tm_yday == daemon->day)
        return;
    daemon->day = tm.tm_yday;
    counters_begin_day(daemon->counters);
}

static struct service *daemon_take_service(struct daemon *daemon)
{
    pthread_mutex_lock(&daemon->lock);
    struct service *service = service_ref(daemon->service);
    pthread_mutex_unlock(&daemon->lock);
    return service;
}

static void daemon_put_stats(struct daemon *daemon, struct control_client *client)
{
    const unsigned kind = daemon_kind(daemon);
    struct counters *counters = daemon->counters;
    struct daemon_shape shape;
    char text[LISTENER_TEXT_MAX];

    pthread_mutex_lock(&daemon->lock);
    struct config *config = config_ref(daemon->config);
    struct tls_server *tls = daemon->tls != NULL ? tls_server_ref(daemon->tls) : NULL;
    pthread_mutex_unlock(&daemon->lock);
    struct service *service = daemon_take_service(daemon);
    daemon->program->shape(config, &shape);
    daemon_measure_gate(daemon);
    counters_set(counters, COUNTER_WORKERS, shape.workers);
    uint64_t working = counters_get(counters, COUNTER_OPEN_WORKING);
    counters_set(counters, COUNTER_WORKERS_BUSY, working < shape.workers ? working : shape.workers);
    daemon_measure_doctor(counters, config);
    counters_set(counters, COUNTER_OPEN_LIMIT,
                 (uint64_t)(kind == COUNTERS_IN ? config->in.daemon.limits.connections
                                                : config->out.daemon.limits.connections));
    control_ok(client);
    stats_put_line(client, "daemon %s %s", daemon->program->name, PACKAGE_VERSION);
    stats_put_line(client, "since %llu",
                   (unsigned long long)counters_get(counters, COUNTER_STARTED));
    stats_put_line(client, "config %llu %s",
                   (unsigned long long)counters_get(counters, COUNTER_RELOADED), config->file);
    if (counters_get(counters, COUNTER_RELOAD_OK) == 0)
        stats_put_line(client, "reload failed");
    if (daemon->tls_failed)
        stats_put_line(client, "reread failed");
    for (size_t i = 0; i < daemon->listener_count; i++)
        stats_put_line(client, "listen %s", listener_format(&daemon->listeners[i].spec, text));
    /* First the gauges, then the table, then the samples that are in no row. */
    daemon->program->measure(daemon->shared, service, NULL);
    stats_put_counters(client, counters, kind);
    stats_put_each(client, COUNTER_BUILD, kind, PACKAGE_VERSION, 1);
    stats_put_certificates(client, tls, kind);
    daemon->program->measure(daemon->shared, service, client);
    service_unref(service);
    tls_server_unref(tls);
    config_unref(config);
}

/* Sorts the longest in its stage first. */
static int daemon_compare_sessions(const void *a, const void *b)
{
    const struct gate_session *one = a, *other = b;
    return one->stage_ms > other->stage_ms ? -1 : one->stage_ms < other->stage_ms;
}

static void daemon_put_sessions(struct daemon *daemon, struct control_client *client)
{
    struct gate_session *sessions = calloc(SESSIONS_SHOWN, sizeof *sessions);
    char text[ADDRESS_TEXT_MAX];

    if (sessions == NULL) {
        control_error(client, "out of memory");
        return;
    }
    size_t count =
        gate_list(daemon->gate, sessions, SESSIONS_SHOWN, deadline_in_ms(SESSIONS_PATIENCE_MS));
    qsort(sessions, count, sizeof *sessions, daemon_compare_sessions);
    control_ok(client);
    for (size_t i = 0; i < count; i++)
        stats_put_line(client, "session %s %s %.1f",
                       address_format_endpoint(&sessions[i].client, text), sessions[i].stage,
                       (double)sessions[i].stage_ms / 1000);
    free(sessions);
}

/* Answers "route ADDRESS" with "refused REPLY" or what the program says. */
static void daemon_answer_route(const struct daemon *daemon, const struct service *service,
                                struct control_client *client, const char *address)
{
    const struct session_policy *policy = &service->rules.policy;
    const void *route = NULL;
    struct reply reply;
    struct path path;
    char text[256];
    size_t used;

    if (!path_parse_forward(&path, address, strlen(address), &used) || used != strlen(address)) {
        control_error(client, "an address is required");
        return;
    }
    control_ok(client);
    enum own_reply verdict = policy->check_recipient(policy->context, &path, &route);
    if (verdict == REPLY_OK) {
        daemon->program->put_route(service, client, &path, route);
    } else {
        reply_own(&reply, verdict);
        stats_put_line(client, "refused %s", reply_summary(&reply, text, sizeof text));
    }
}

/* A control_handler. */
static void daemon_answer(void *context, struct control_client *client, const char *const *words,
                          size_t count)
{
    struct daemon *daemon = context;

    if (count == 1 && strcmp(words[0], "stats") == 0) {
        daemon_put_stats(daemon, client);
    } else if (count == 1 && strcmp(words[0], "sessions") == 0) {
        daemon_put_sessions(daemon, client);
    } else {
        struct service *service = daemon_take_service(daemon);
        if (count == 2 && strcmp(words[0], "route") == 0)
            daemon_answer_route(daemon, service, client, words[1]);
        else
            daemon->program->request(daemon->shared, service, client, words, count);
        service_unref(service);
    }
}

void daemon_start_control(struct daemon *daemon)
{
    struct error err = {""};
    struct log_line line;

    counters_set(daemon->counters, COUNTER_STARTED, (uint64_t)time(NULL));
    daemon->day = -1;
    daemon_begin_day(daemon);
    daemon_note_reload(daemon, true);
    if (daemon->config->control[0] == '\0')
        return;
    daemon->control =
        control_start(daemon->config->control, daemon->program->name, daemon_answer, daemon, &err);
    if (daemon->control != NULL)
        return;
    log_begin(&line, LOG_LEVEL_WARNING, "event=control status=off");
    log_str(&line, "reason", err.text);
    log_str(&line, "effect", "relayctl cannot ask this daemon");
    log_str(&line, "hint",
            "create the folder of the control option for the user that this daemon runs as");
    log_end(&line);
}
