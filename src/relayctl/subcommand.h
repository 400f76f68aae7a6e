/* relayctl/subcommand.h - what relayctl's subcommands are made of: a row, options, and the way to a daemon
 *
 * Each subcommand has its own file NAME.c, which defines NAME_subcommand. Makefile.am lists these files, and
 * main.c's table is made from that list. Owns nothing. All run in one thread, unless a file says otherwise.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_SUBCOMMAND_H
#define POSTERN_RELAYCTL_SUBCOMMAND_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "config/config.h"

#define SUBCOMMAND_HELP_PARTS 3

/* What follows the subcommand's name: at first its options too, after subcommand_parse() only the arguments. */
struct subcommand_line {
    const struct subcommand *command;
    int argc;
    char **argv; /* ends with NULL */
};

struct subcommand {
    const char *name;
    const char *summary;
    /* Texts of --help, each a msgid. "%s", once in a text, stands for the default configuration file. */
    const char *help[SUBCOMMAND_HELP_PARTS];
    bool arguments;                           /* it takes arguments, and checks them itself */
    int (*run)(struct subcommand_line *line); /* returns relayctl's exit status */
};

/* An option. It has one of `flag`, `text`, `number` and `take`. A table ends with a row without a name. */
struct subcommand_option {
    const char *name; /* of the long option */
    char letter;      /* of the short one; 0: none */
    bool *flag;       /* becomes true; the option has no value */
    const char **text;
    uint64_t *number; /* digits, at most `max` */
    uint64_t max;
    /* Takes a value that needs more: `tag` tells rows with the same function apart. False: it is not valid. */
    bool (*take)(void *context, int tag, char *value);
    void *context;
    int tag;
};

/* Takes the options off `line`. True to go on; false if the subcommand is finished: --help was given or
 * something was wrong, which stderr has been told. *status is then the exit status. */
bool subcommand_parse(struct subcommand_line *line, const struct subcommand_option *options,
                      int *status);

/* Parses the options, loads the configuration, and calls `show`: for subcommands that have only -c FILE and
 * --json. Returns the exit status. */
int subcommand_show(struct subcommand_line *line,
                    int (*show)(const struct config *config, bool json));

/* A config_report that writes to stderr; the context is not used. */
void subcommand_report(void *context, const char *text);

/* Asks the daemon `program` through its control socket, with the patience of control_ask(). Returns its answer,
 * positioned as control_ask() does; the caller closes it. Or NULL, and stderr has been told why, on behalf of the
 * subcommand `name`. */
FILE *subcommand_ask(const char *name, const struct config *config, const char *program,
                     const char *request, int patience_s);

#endif
