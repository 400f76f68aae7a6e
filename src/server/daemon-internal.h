/* server/daemon-internal.h - the parts of a daemon's life, for daemon.c and daemon-options.c
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_DAEMON_INTERNAL_H
#define POSTERN_SERVER_DAEMON_INTERNAL_H

#include "server/daemon.h"

enum daemon_action { DAEMON_RUN, DAEMON_CHECK, DAEMON_PRINT, DAEMON_DONE, DAEMON_USAGE };

struct daemon_options {
    enum daemon_action action; /* DAEMON_DONE: --help or --version has been answered */
    const char *file;
};

struct daemon_options daemon_parse_options(const struct daemon_program *program, int argc,
                                           char **argv);

/* For config_load(): an error is a line on standard error. */
void daemon_report(void *context, const char *text);

/* The configuration's certificates: 0 with *tls set (NULL when there are none). -1 with a
 * reason. */
int daemon_load_tls(const struct config *config, const struct tls_tickets *tickets,
                    struct tls_server **tls, struct error *err);

#endif
