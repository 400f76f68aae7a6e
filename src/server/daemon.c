/* server/daemon.c - the life cycle of a daemon: start, signals, reload, drain, end
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/daemon.h"

#include <config.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/i18n.h"
#include "base/log.h"
#include "base/thread.h"
#include "dns/resolver.h"
#include "server/daemon-internal.h"
#include "server/gate.h"
#include "server/memory.h"
#include "server/privileges.h"
#include "server/sdnotify.h"

#define WATCH_INTERVAL_MS 5000 /* between checks of the certificate files */
#define STATUS_INTERVAL_MS 10000
#define SPARE_DESCRIPTORS 64
#define STOP_MARGIN_MS 10000 /* how long the shutdown takes besides the drain */

static void daemon_report(void *context, const char *text)
{
    (void)context;
    log_write(LOG_LEVEL_ERROR, "%s", text);
}

/* Loads the configuration's certificates. Returns 0 with *tls set, NULL if there are none, or -1. */
static int daemon_load_tls(const struct daemon *daemon, const struct config *config,
                           struct tls_server **tls, struct error *err)
{
    const struct config_tls *settings = config_tls_of(config, daemon->program->part);
    struct tls_server_config tls_config;

    *tls = NULL;
    if (settings->certificates.count == 0)
        return 0;
    config_tls_server(settings, &tls_config);
    *tls = tls_server_new(&tls_config, daemon->tickets, err);
    return *tls != NULL ? 0 : -1;
}

static int daemon_load(struct daemon *daemon, struct error *err)
{
    daemon->config = config_load_for(daemon->file, daemon->program->part, daemon_report, NULL);
    if (daemon->config == NULL)
        return EX_CONFIG;
    daemon->first = config_ref(daemon->config);
    log_set_level((enum log_level)daemon->config->log_level);
    daemon->tickets = tls_tickets_new(err);
    if (daemon->tickets == NULL)
        return EX_UNAVAILABLE;
    if (daemon_load_tls(daemon, daemon->config, &daemon->tls, err) != 0)
        return EX_CONFIG;
    expiry_look(&daemon->expiry, daemon->tls, (long long)time(NULL));
    return EX_OK;
}

/* Binds the listeners, without accepting any connection yet. */
static int daemon_bind_listeners(struct daemon *daemon, struct error *err)
{
    struct daemon_shape shape;
    int inherited[LISTENERS_MAX];
    size_t inherited_count = listener_inherited(inherited, LISTENERS_MAX);

    daemon->program->shape(daemon->config, &shape);
    for (size_t i = 0; i < shape.listen_count; i++) {
        int fd = listener_take(&shape.listen[i], inherited, inherited_count);
        bool handed_over = fd >= 0;
        if (!handed_over)
            fd = listener_bind(&shape.listen[i], err);
        if (fd < 0)
            return EX_UNAVAILABLE;
        daemon->listeners[daemon->listener_count++] =
            (struct gate_listener){fd, shape.listen[i], handed_over};
    }
    for (size_t i = 0; i < inherited_count; i++) {
        if (inherited[i] < 0)
            continue;
        log_write(LOG_LEVEL_WARNING, "event=socket-unused hint=\"a socket passed by systemd "
                                     "matches no address in the listen option\"");
        close(inherited[i]);
    }
    return EX_OK;
}

static int daemon_listen_to_all(const struct daemon *daemon, struct error *err)
{
    for (size_t i = 0; i < daemon->listener_count; i++) {
        const struct gate_listener *listener = &daemon->listeners[i];
        if (!listener->handed_over && listener_listen(listener->fd, &listener->spec, err) != 0)
            return -1;
    }
    return 0;
}

static void daemon_raise_descriptor_limit(const struct daemon_shape *shape)
{
    struct rlimit limit;
    rlim_t wanted = 2 * (rlim_t)shape->connections + shape->workers + RESOLVER_DESCRIPTORS_MAX +
                    SPARE_DESCRIPTORS;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < wanted)
        log_write(LOG_LEVEL_WARNING,
                  "event=descriptors have=%llu want=%llu hint=\"raise "
                  "LimitNOFILE or lower limits.connections\"",
                  (unsigned long long)limit.rlim_max, (unsigned long long)wanted);
}

static int daemon_open_signals(struct daemon *daemon, struct error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    daemon->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (daemon->signal_fd >= 0)
        return EX_OK;
    error_set(err, "signalfd: %s", strerror(errno));
    return EX_UNAVAILABLE;
}

static void *daemon_gate_main(void *argument)
{
    struct daemon *daemon = argument;
    uint64_t one = 1;
    gate_run(daemon->gate);
    if (write(daemon->gate_ended_fd, &one, sizeof one) < 0)
        return NULL; /* impossible: the counter is 0 */
    return NULL;
}

static int daemon_start_gate(struct daemon *daemon, struct error *err)
{
    struct daemon_shape shape;

    daemon->service =
        daemon->program->service_new(daemon->shared, NULL, daemon->config, daemon->tls, err);
    if (daemon->service == NULL)
        return EX_UNAVAILABLE;
    daemon->program->shape(daemon->config, &shape);
    daemon_raise_descriptor_limit(&shape);
    daemon->gate = gate_new(daemon->listeners, daemon->listener_count, daemon->service,
                            shape.workers, shape.queue, err);
    if (daemon->gate == NULL)
        return EX_UNAVAILABLE;
    daemon->gate_ended_fd = eventfd(0, EFD_CLOEXEC);
    int result = daemon->gate_ended_fd < 0 ? errno : 0;
    if (result == 0 && daemon_listen_to_all(daemon, err) == 0) {
        result = thread_start(&daemon->gate_thread, THREAD_STACK_SIZE, daemon_gate_main, daemon);
        if (result == 0)
            return EX_OK;
    }
    if (result != 0)
        error_set(err, _("cannot start a thread: %s"), strerror(result));
    gate_free(daemon->gate);
    daemon->gate = NULL;
    return EX_UNAVAILABLE;
}

/* The program takes what it owns, such as the spool, before it accepts connections, so that a second instance
 * fails without having accepted a client. */
static int daemon_start(struct daemon *daemon, struct error *err)
{
    int status = daemon_open_signals(daemon, err);

    daemon->counters = calloc(1, sizeof *daemon->counters);
    if (daemon->counters == NULL) {
        error_set(err, _("out of memory"));
        return EX_UNAVAILABLE;
    }
    if (status == EX_OK)
        status = daemon_bind_listeners(daemon, err);
    if (status == EX_OK && privileges_drop(daemon->config->user, daemon->config->group, err) != 0)
        status = EX_CONFIG;
    if (status == EX_OK) {
        daemon->shared = daemon->program->start(daemon->config, daemon->counters, err);
        status = daemon->shared != NULL ? EX_OK : EX_UNAVAILABLE;
    }
    return status == EX_OK ? daemon_start_gate(daemon, err) : status;
}

static void daemon_log_start(const struct daemon *daemon)
{
    struct daemon_shape shape;
    struct log_line line;
    char text[LISTENER_TEXT_MAX];
    daemon->program->shape(daemon->config, &shape);
    log_begin(&line, LOG_LEVEL_NOTICE, "event=start");
    log_str(&line, "program", daemon->program->name);
    log_str(&line, "version", PACKAGE_VERSION);
    for (size_t i = 0; i < daemon->listener_count; i++)
        log_str(&line, "listen", listener_format(&daemon->listeners[i].spec, text));
    log_int(&line, "workers", shape.workers);
    log_str(&line, "tls", daemon->tls != NULL ? "yes" : "no");
    log_end(&line);
}

/* Gives new connections a new snapshot. Returns 0, or -1 with a reason and nothing changed. */
static int daemon_serve(struct daemon *daemon, struct config *config, struct tls_server *tls,
                        struct error *err)
{
    struct service *before = daemon->service;
    struct service *service =
        daemon->program->service_new(daemon->shared, before, config, tls, err);
    if (service == NULL)
        return -1;
    gate_set_service(daemon->gate, service);
    pthread_mutex_lock(&daemon->lock);
    daemon->service = service;
    pthread_mutex_unlock(&daemon->lock);
    service_unref(before);
    return 0;
}

static void daemon_log_restart(void *context, const char *option)
{
    struct log_line line;
    (void)context;
    log_begin(&line, LOG_LEVEL_WARNING, "event=reload");
    log_str(&line, "option", option);
    log_str(&line, "effect", "after a restart");
    log_end(&line);
}

static void daemon_log_config_error(void *context, const char *text)
{
    struct log_line line;
    (void)context;
    log_begin(&line, LOG_LEVEL_ERROR, "event=config-error");
    log_str(&line, "error", text);
    log_end(&line);
}

static void daemon_log_config_warning(void *context, const char *text)
{
    struct log_line line;
    (void)context;
    log_begin(&line, LOG_LEVEL_WARNING, "event=config-warning");
    log_str(&line, "warning", text);
    log_end(&line);
}

/* Takes ownership of both references. */
static void daemon_adopt(struct daemon *daemon, struct config *config, struct tls_server *tls)
{
    struct config *old_config = daemon->config;
    struct tls_server *old_tls = daemon->tls;

    pthread_mutex_lock(&daemon->lock);
    daemon->config = config;
    daemon->tls = tls;
    pthread_mutex_unlock(&daemon->lock);
    config_unref(old_config);
    tls_server_unref(old_tls);
    daemon->tls_failed = false;
    memset(&daemon->expiry, 0, sizeof daemon->expiry);
    expiry_look(&daemon->expiry, tls, (long long)time(NULL));
}

static void daemon_reload(struct daemon *daemon)
{
    struct error err = {""};
    struct tls_server *tls = NULL;
    struct config *config =
        config_load_for(daemon->file, daemon->program->part, daemon_log_config_error, NULL);

    if (config != NULL && daemon_load_tls(daemon, config, &tls, &err) == 0 &&
        daemon_serve(daemon, config, tls, &err) == 0) {
        log_set_level((enum log_level)config->log_level);
        config_report_restarts(daemon->first, config, daemon->program->part, daemon_log_restart,
                               NULL);
        daemon_adopt(daemon, config, tls);
        log_write(LOG_LEVEL_NOTICE, "event=reload status=done");
        daemon_note_reload(daemon, true);
        return;
    }
    daemon_note_reload(daemon, false);
    if (err.text[0] != '\0')
        daemon_log_config_error(NULL, err.text);
    log_write(LOG_LEVEL_ERROR, "event=reload status=failed effect=\"the old configuration stays "
                               "in force\"");
    tls_server_unref(tls);
    config_unref(config);
}

static void daemon_reload_by_signal(struct daemon *daemon)
{
    char state[64];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%lld",
             (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    sdnotify_send(state);
    daemon_reload(daemon);
    sdnotify_send("READY=1");
}

/* Logs the failure once, until the files are well again. */
static void daemon_certificates_failed(struct daemon *daemon, const struct error *err)
{
    struct log_line line;
    if (daemon->tls_failed)
        return;
    daemon->tls_failed = true;
    log_begin(&line, LOG_LEVEL_ERROR, "event=certificates status=failed");
    log_str(&line, "error", err->text);
    log_str(&line, "effect", "the old ones stay in use");
    log_end(&line);
}

/* A renewal writes several files. As long as they do not match, the old certificates stay in use. */
static void daemon_reread_certificates(struct daemon *daemon)
{
    struct error err;
    struct tls_server *tls;

    if (daemon->tls == NULL || !tls_server_files_changed(daemon->tls)) {
        daemon->tls_failed = false;
        return;
    }
    if (daemon_load_tls(daemon, daemon->config, &tls, &err) != 0) {
        daemon_certificates_failed(daemon, &err);
        return;
    }
    if (daemon_serve(daemon, daemon->config, tls, &err) != 0) {
        daemon_certificates_failed(daemon, &err);
        tls_server_unref(tls);
        return;
    }
    daemon_adopt(daemon, config_ref(daemon->config), tls);
    log_write(LOG_LEVEL_NOTICE, "event=certificates status=reread");
}

/* Clients that were not served, as they are logged. */
static const struct {
    const char *key;
    enum counter counter;
} daemon_refusals[] = {
    {"refused_private", COUNTER_REJECTED_PRIVATE}, {"refused_client", COUNTER_REJECTED_CLIENT},
    {"refused_network", COUNTER_REJECTED_NETWORK}, {"refused_rate", COUNTER_REJECTED_RATE},
    {"refused_listed", COUNTER_REJECTED_DENIED},   {"refused_dnsbl", COUNTER_REJECTED_DNSBL},
    {"refused_proxy", COUNTER_REJECTED_PROXY},     {"refused_limit", COUNTER_REJECTED_BUSY},
    {"early_talkers", COUNTER_REJECTED_EARLY},
};
#define DAEMON_REFUSALS (sizeof daemon_refusals / sizeof *daemon_refusals)

/* Sends a line for `systemctl status` if the numbers have changed. */
static void daemon_tell_status(struct daemon *daemon)
{
    struct gate_counts counts = gate_counts(daemon->gate);
    char status[sizeof daemon->status];
    unsigned long long refused = 0;
    int64_t now = deadline_now_ms();

    if (now < daemon->status_due_ms)
        return;
    daemon->status_due_ms = now + STATUS_INTERVAL_MS;
    for (size_t i = 0; i < DAEMON_REFUSALS; i++)
        refused += counters_get(daemon->counters, daemon_refusals[i].counter);
    snprintf(status, sizeof status, "STATUS=%u open, %u active; %llu accepted, %llu refused",
             counts.connections, counts.working, (unsigned long long)counts.accepted, refused);
    if (strcmp(status, daemon->status) == 0)
        return;
    memcpy(daemon->status, status, sizeof status);
    sdnotify_send(status);
}

/* Tells systemd's watchdog regularly, until the drain ends, that clients are being served, not just that this
 * thread is alive. */
static void daemon_tell_alive(struct daemon *daemon)
{
    if (sdnotify_watchdog_ms() > 0 && gate_is_alive(daemon->gate))
        sdnotify_send("WATCHDOG=1");
    daemon_tell_status(daemon);
}

static int daemon_tick_ms(void)
{
    int64_t watchdog_ms = sdnotify_watchdog_ms();
    return watchdog_ms > 0 && watchdog_ms < WATCH_INTERVAL_MS ? (int)watchdog_ms
                                                              : WATCH_INTERVAL_MS;
}

/* Runs until a signal asks to stop. */
static void daemon_watch(struct daemon *daemon)
{
    int wait_ms = daemon_tick_ms();
    for (;;) {
        struct pollfd poll_fd = {.fd = daemon->signal_fd, .events = POLLIN};
        struct signalfd_siginfo info;
        poll(&poll_fd, 1, wait_ms);
        while (read(daemon->signal_fd, &info, sizeof info) == sizeof info) {
            if (info.ssi_signo != SIGHUP)
                return;
            daemon_reload_by_signal(daemon);
        }
        daemon_reread_certificates(daemon);
        expiry_look(&daemon->expiry, daemon->tls, (long long)time(NULL));
        daemon_begin_day(daemon);
        daemon_tell_alive(daemon);
    }
}

static void daemon_join_gate(struct daemon *daemon)
{
    struct pollfd poll_fd = {.fd = daemon->gate_ended_fd, .events = POLLIN};
    int wait_ms = daemon_tick_ms();
    do {
        daemon_tell_alive(daemon);
    } while (poll(&poll_fd, 1, wait_ms) == 0);
    pthread_join(daemon->gate_thread, NULL);
}

static void daemon_log_stop(const struct daemon *daemon)
{
    struct gate_counts counts = gate_counts(daemon->gate);
    struct log_line line;
    log_begin(&line, LOG_LEVEL_NOTICE, "event=stop");
    log_str(&line, "program", daemon->program->name);
    log_int(&line, "accepted", (int64_t)counts.accepted);
    for (size_t i = 0; i < DAEMON_REFUSALS; i++)
        log_int(&line, daemon_refusals[i].key,
                (int64_t)counters_get(daemon->counters, daemon_refusals[i].counter));
    log_int(&line, "idle_dropped", (int64_t)counters_get(daemon->counters, COUNTER_DROPPED_IDLE));
    log_int(&line, "unfinished", counts.working);
    log_end(&line);
}

/* Extends systemd's timeout, so that it does not kill us before the configured drain is over. */
static void daemon_tell_stopping(int64_t drain_ms)
{
    char state[64];
    sdnotify_send("STOPPING=1");
    snprintf(state, sizeof state, "EXTEND_TIMEOUT_USEC=%lld",
             ((long long)drain_ms + STOP_MARGIN_MS) * 1000);
    sdnotify_send(state);
}

/* Lets open transactions finish, then ends everything. */
static void daemon_finish(struct daemon *daemon)
{
    struct daemon_shape shape;
    daemon->program->shape(daemon->config, &shape);
    daemon_tell_stopping(shape.drain_ms);
    if (daemon->program->stopping != NULL)
        daemon->program->stopping(daemon->shared, shape.drain_ms);
    gate_drain(daemon->gate, shape.drain_ms);
    daemon_join_gate(daemon);
    control_stop(daemon->control);
    daemon->control = NULL;
    daemon_log_stop(daemon);
    if (gate_counts(daemon->gate).working > 0) {
        /* Workers that still wait for the backend cannot be joined in time. Their mail has not been
         * acknowledged, so nothing is lost by exiting now. */
        fflush(NULL);
        _exit(EX_OK);
    }
    gate_free(daemon->gate);
}

static void daemon_clean_up(struct daemon *daemon)
{
    service_unref(daemon->service);
    if (daemon->shared != NULL)
        daemon->program->stop(daemon->shared);
    for (size_t i = 0; i < daemon->listener_count; i++)
        close(daemon->listeners[i].fd);
    free(daemon->counters);
    pthread_mutex_destroy(&daemon->lock);
    tls_server_unref(daemon->tls);
    tls_tickets_free(daemon->tickets);
    config_unref(daemon->config);
    config_unref(daemon->first);
    if (daemon->signal_fd >= 0)
        close(daemon->signal_fd);
    if (daemon->gate_ended_fd >= 0)
        close(daemon->gate_ended_fd);
}

static int daemon_act(struct daemon *daemon, enum daemon_action action)
{
    struct error err = {""};
    int status = daemon_load(daemon, &err);

    if (status == EX_OK && action != DAEMON_PRINT &&
        !config_warn(daemon->config, daemon_log_config_warning, NULL) && action == DAEMON_CHECK)
        status = EX_CONFIG;
    if (status == EX_OK && action == DAEMON_CHECK)
        printf(_("%s: the configuration is valid\n"), daemon->file);
    else if (status == EX_OK && action == DAEMON_PRINT)
        config_print(daemon->config, stdout);
    else if (status == EX_OK)
        status = daemon_start(daemon, &err);
    if (err.text[0] != '\0')
        log_write(LOG_LEVEL_ERROR, "%s: %s", daemon->program->name, err.text);
    if (status == EX_OK && action == DAEMON_RUN) {
        daemon_start_control(daemon);
        daemon_log_start(daemon);
        sdnotify_send("READY=1");
        daemon_watch(daemon);
        daemon_finish(daemon);
    }
    daemon_clean_up(daemon);
    return status;
}

int daemon_main(const struct daemon_program *program, int argc, char **argv)
{
    struct daemon daemon = {.program = program, .signal_fd = -1, .gate_ended_fd = -1};

    pthread_mutex_init(&daemon.lock, NULL);

    memory_bound_arenas();
    i18n_init();
    struct daemon_options options = daemon_parse_options(program, argc, argv);
    if (options.action == DAEMON_DONE)
        return EX_OK;
    if (options.action == DAEMON_USAGE)
        return EX_USAGE;
    daemon.file = options.file;
    return daemon_act(&daemon, options.action);
}
