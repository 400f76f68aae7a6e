/* server/daemon-internal.h - what server/daemon*.c share; nothing else includes it
 *
 * daemon.c is the life cycle, daemon-options.c the command line, daemon-control.c the answers on the control
 * socket. All of it runs on the main thread, except for those answers, which run on the control socket's threads.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_DAEMON_INTERNAL_H
#define POSTERN_SERVER_DAEMON_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/daemon.h"
#include "server/expiry.h"
#include "server/gate.h"

/* Everything main() owns. */
struct daemon {
    const struct daemon_program *program;
    const char *file;
    pthread_mutex_t
        lock; /* protects the next three: main changes them, the control socket reads them */
    struct config *config;
    struct tls_server *tls;
    struct service *service; /* the current snapshot; a reference */
    struct config *first;    /* the configuration at the start */
    struct tls_tickets *tickets;
    atomic_bool tls_failed; /* a reread failed, and that was logged; the control socket reads it */
    struct expiry expiry;
    struct counters *counters;
    struct control *control; /* NULL: none */
    int day;                 /* day of the year whose start the counters have recorded */
    struct gate_listener listeners[LISTENERS_MAX];
    size_t listener_count;
    void *shared;
    struct gate *gate;
    pthread_t gate_thread;
    int gate_ended_fd; /* readable when the gate's thread is about to end */
    int signal_fd;
    char status[128]; /* as last sent to systemd */
    int64_t status_due_ms;
};

enum daemon_action { DAEMON_RUN, DAEMON_CHECK, DAEMON_PRINT, DAEMON_DONE, DAEMON_USAGE };

struct daemon_options {
    enum daemon_action action; /* DAEMON_DONE: --help or --version has been answered */
    const char *file;
};

/* Reads the command line, and answers --help, --version and what is wrong with it. */
struct daemon_options daemon_parse_options(const struct daemon_program *program, int argc,
                                           char **argv);

/* daemon-control.c */
/* Opens the control socket if one is configured. A failure does not stop mail. */
void daemon_start_control(struct daemon *daemon);
void daemon_note_reload(struct daemon *daemon, bool taken);
/* Tells the counters if a new day has begun. */
void daemon_begin_day(struct daemon *daemon);

#endif
