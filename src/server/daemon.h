/* server/daemon.h - the life of a daemon: command line, start, signals, reload, drain, end
 *
 * relay-in and relay-out are this with two different programs. The main thread keeps to signals
 * (signalfd) and the watch over certificate files; the gate runs on a thread of its own.
 *   start    load configuration, open or take over the listeners, build the service, drop
 *            privileges, start gate and pool, sd_notify READY=1
 *   SIGHUP   reload configuration and certificates; a bad file changes nothing and says why
 *   files    changed certificate files are reread every few seconds, the same way
 *   SIGTERM  (SIGINT) sd_notify STOPPING=1, drain, exit 0
 * Exit status: 0, 64 (EX_USAGE) for a bad command line, 69 (EX_UNAVAILABLE) when a listener or
 * thread cannot be had, 78 (EX_CONFIG) for a bad configuration.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_DAEMON_H
#define POSTERN_SERVER_DAEMON_H

#include "base/error.h"
#include "config/config.h"
#include "net/tls.h"
#include "server/control.h"
#include "server/service.h"
#include "smtp/counters.h"

/* The part of a configuration that needs a restart to change. */
struct daemon_shape {
    const struct listen_spec *listen;
    size_t listen_count;
    unsigned workers, queue;
    unsigned connections; /* for the descriptor limit */
    int64_t drain_ms;
};

struct daemon_program {
    const char *name;    /* "relay-in" */
    const char *summary; /* one line for --help, marked with N_() */
    unsigned part;       /* CONFIG_PART_...: what of the configuration must be there */
    /* Borrows from the configuration. */
    void (*shape)(const struct config *config, struct daemon_shape *out);
    /* Everything that lives as long as the process and is shared by all snapshots (learned backend
     * capabilities, threads of its own). Called once, after privileges are dropped. `counters` are
     * borrowed for as long. NULL with a reason on failure. */
    void *(*start)(const struct config *config, struct counters *counters, struct error *err);
    /* A snapshot from a configuration (takes its own reference of it) and fresh TLS credentials
     * (takes its own reference; may be NULL when no certificates are configured). */
    struct service *(*service_new)(void *shared, struct config *config, struct tls_server *tls,
                                   struct error *err);
    /* The end begins: sessions have so long to finish. May be NULL. */
    void (*stopping)(void *shared, int64_t drain_ms);
    /* For the control socket, on threads of its own: puts gauges into the counters that start() got,
     * and the lines and samples that they have no place for (server/stats.h). `client` NULL: only
     * the gauges. */
    void (*measure)(void *shared, struct control_client *client);
    /* Answers a request that the daemon does not know (server/control.h). May be NULL. */
    control_handler *request;
    /* Ends what start() began; after the gate is gone. */
    void (*stop)(void *shared);
};

/* The whole of main(). Returns the exit status. */
int daemon_main(const struct daemon_program *program, int argc, char **argv);

#endif
