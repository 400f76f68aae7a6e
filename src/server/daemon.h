/* server/daemon.h - the life cycle of a daemon: command line, start, signals, reload, drain, end
 *
 * relay-in and relay-out share it, with a struct daemon_program each. The main thread only handles signals
 * (signalfd) and watches the certificate files; the gate has its own thread.
 *   start    load the configuration, open or inherit the listeners, build the service, drop
 *            privileges, start gate and pool, sd_notify READY=1
 *   SIGHUP   reload configuration and certificates; a bad file changes nothing and says why
 *   files    changed certificate files are noticed within seconds and reread the same way
 *   SIGTERM  (SIGINT) sd_notify STOPPING=1, drain, exit 0
 * Exit status: 0; 64 (EX_USAGE) for a bad command line; 69 (EX_UNAVAILABLE) if a listener or a thread is
 * unavailable; 78 (EX_CONFIG) for a bad configuration.
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

/* The settings that need a restart to change. */
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
    unsigned part;       /* CONFIG_PART_...: the half of the configuration that it needs */
    /* Borrows from the configuration. */
    void (*shape)(const struct config *config, struct daemon_shape *out);
    /* Makes everything that lives as long as the process and that all snapshots share (learned backend
     * capabilities, the program's threads). Called once, after privileges are dropped. Borrows `counters`
     * until stop(). NULL with a reason on failure. */
    void *(*start)(const struct config *config, struct counters *counters, struct error *err);
    /* Makes a snapshot from a configuration and new TLS credentials (NULL if no certificates are
     * configured), and takes its own references to both. `before`: the snapshot that it follows, or NULL. NULL with
     * a reason on failure. */
    struct service *(*service_new)(void *shared, const struct service *before,
                                   struct config *config, struct tls_server *tls,
                                   struct error *err);
    /* Called when a shutdown begins; sessions have `drain_ms` to finish. May be NULL. */
    void (*stopping)(void *shared, int64_t drain_ms);
    /* For the control socket, on its threads, with the current snapshot: stores gauges in the counters that start()
     * got, and writes the lines and samples that have no counter (server/stats.h). With `client` NULL, only the
     * gauges. */
    void (*measure)(void *shared, const struct service *current, struct control_client *client);
    /* Writes the rest of the answer to "route ADDRESS": where the current snapshot sends mail for this recipient, which
     * it has accepted, with this route. */
    void (*put_route)(const struct service *current, struct control_client *client,
                      const struct path *recipient, const void *route);
    /* Answers a request that is not common to both daemons (server/control.h). */
    void (*request)(void *shared, const struct service *current, struct control_client *client,
                    const char *const *words, size_t count);
    /* Ends what start() began. Called after the gate has ended. */
    void (*stop)(void *shared);
};

/* The whole of main(). Returns the exit status. */
int daemon_main(const struct daemon_program *program, int argc, char **argv);

#endif
