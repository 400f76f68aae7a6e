/* relayctl/commands.h - relayctl's subcommands
 *
 * Each subcommand has its own file. It gets argv with its own name as argv[0], parses its options with
 * getopt and returns relayctl's exit status. All run in one thread, unless a file says otherwise.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_COMMANDS_H
#define POSTERN_RELAYCTL_COMMANDS_H

#include <stdbool.h>

#include "config/config.h"

/* Runs a command whose only options are -c FILE, --json and --help: loads the configuration and calls
 * `show`. `argv[0]` is its name. Returns the exit status. */
int command_show(int argc, char **argv, void (*help)(void),
                 int (*show)(const struct config *config, bool json));

int certificate_main(int argc, char **argv);
int check_main(int argc, char **argv);
int doctor_main(int argc, char **argv);
int hosts_main(int argc, char **argv);
int missed_main(int argc, char **argv);
int init_main(int argc, char **argv);
int import_main(int argc, char **argv);
int password_main(int argc, char **argv);
int queue_main(int argc, char **argv);
int test_main(int argc, char **argv);
int route_main(int argc, char **argv);
int sink_main(int argc, char **argv);
int status_main(int argc, char **argv);
int top_main(int argc, char **argv);
int tls_main(int argc, char **argv);

#endif
