/* relayctl/commands.h - relayctl's subcommands
 *
 * One file each. A subcommand gets argv with its own name as argv[0], parses its options by getopt,
 * and returns relayctl's exit status.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_COMMANDS_H
#define POSTERN_RELAYCTL_COMMANDS_H

#include <stdbool.h>

#include "config/config.h"

int certificate_main(int argc, char **argv);
/* A command that takes -c FILE, --json and --help alone: loads the configuration and shows something by
 * it. `argv[0]` is its name. Returns the exit status. */
int command_show(int argc, char **argv, void (*help)(void),
                 int (*show)(const struct config *config, bool json));

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
