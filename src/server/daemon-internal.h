/* server/daemon-internal.h - the parts of a daemon's life, for daemon*.c
 *
 * daemon.c runs it, daemon-options.c has the command line, daemon-control.c the control socket's answers.
 * On main's thread, but for the answers, which come from the control socket's.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_DAEMON_INTERNAL_H
#define POSTERN_SERVER_DAEMON_INTERNAL_H

#include <pthread.h>

#include "server/daemon.h"
#include "server/expiry.h"
#include "server/gate.h"

/* Everything main() owns. */
struct daemon {
    const struct daemon_program *program;
    const char *file;
    pthread_mutex_t lock; /* for the control socket: the next two, which the main thread changes */
    struct config *config;
    struct tls_server *tls;
    struct config *first; /* as it was at the start */
    struct tls_tickets *tickets;
    bool tls_failed; /* a reread failed, and that was said */
    struct expiry expiry;
    struct counters *counters;
    struct control *control; /* NULL: none */
    int day;                 /* of the year, of which the counters know the beginning */
    struct gate_listener listeners[LISTENERS_MAX];
    size_t listener_count;
    void *shared;
    struct gate *gate;
    pthread_t gate_thread;
    int gate_ended_fd; /* readable when the gate's thread is about to end */
    int signal_fd;
    char status[128]; /* as last told to systemd */
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
/* Opens the control socket, if one is configured. Mail goes on without it. */
void daemon_start_control(struct daemon *daemon);
void daemon_note_reload(struct daemon *daemon, bool taken);
/* When another one has begun. */
void daemon_begin_day(struct daemon *daemon);

/* daemon-options.c */
/* For config_load(): an error is a line on standard error. */
void daemon_report(void *context, const char *text);

/* The configuration's certificates: 0 with *tls set (NULL when there are none). -1 with a
 * reason. */
int daemon_load_tls(const struct config_tls *settings, const struct tls_tickets *tickets,
                    struct tls_server **tls, struct error *err);

#endif
