/* relayctl/main.c - relayctl: the operator's tool
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <config.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/i18n.h"
#include "relayctl/subcommand.h"

/* relayctl-subcommands.h is Makefile.am's list: SUBCOMMAND(certificate) SUBCOMMAND(check) ... */
#define SUBCOMMAND(name) extern const struct subcommand name##_subcommand;
#include "relayctl-subcommands.h"
#undef SUBCOMMAND

static const struct subcommand *const commands[] = {
#define SUBCOMMAND(name) &name##_subcommand,
#include "relayctl-subcommands.h"
};

#define SUBCOMMAND_COUNT (sizeof commands / sizeof commands[0])

static void relayctl_print_help(FILE *out)
{
    fprintf(out, _("Usage: relayctl COMMAND [OPTION...]\n\nCommands:\n"));
    for (size_t i = 0; i < SUBCOMMAND_COUNT; i++)
        fprintf(out, "  %-13s %s\n", commands[i]->name, _(commands[i]->summary));
    fprintf(out, _("\nrelayctl COMMAND --help tells more.\n"));
}

static int relayctl_run_command(int argc, char **argv)
{
    for (size_t i = 0; i < SUBCOMMAND_COUNT; i++) {
        if (strcmp(argv[0], commands[i]->name) != 0)
            continue;
        struct subcommand_line line = {commands[i], argc, argv};
        int status = commands[i]->run(&line);
        if (status == EX_USAGE)
            fprintf(stderr, _("relayctl: see relayctl %s --help\n"), argv[0]);
        return status;
    }
    fprintf(stderr, _("relayctl: there is no command \"%s\"; relayctl --help lists them\n"),
            argv[0]);
    return EX_USAGE;
}

static bool relayctl_is_one_of(const char *argument, const char *a, const char *b, const char *c)
{
    return strcmp(argument, a) == 0 || strcmp(argument, b) == 0 || strcmp(argument, c) == 0;
}

static int relayctl_run(int argc, char **argv)
{
    static char help[] = "--help";

    if (argc < 2) {
        relayctl_print_help(stderr);
        return EX_USAGE;
    }
    if (relayctl_is_one_of(argv[1], "--help", "-h", "help")) {
        char *question[] = {argc > 2 ? argv[2] : NULL, help, NULL};
        if (argc > 2)
            return relayctl_run_command(2, question);
        relayctl_print_help(stdout);
        return EX_OK;
    }
    if (relayctl_is_one_of(argv[1], "--version", "-V", "version")) {
        printf("relayctl (Postern) %s\n", PACKAGE_VERSION);
        return EX_OK;
    }
    return relayctl_run_command(argc - 1, argv + 1);
}

/* Whoever saves the output must not take a part of it for the whole. A reader that has seen enough is told
 * nothing. */
static int relayctl_finish(int status)
{
    struct pollfd reader = {.fd = STDOUT_FILENO, .events = POLLOUT};
    bool written = fflush(stdout) == 0 && !ferror(stdout);

    if (written || (poll(&reader, 1, 0) == 1 && (reader.revents & POLLERR)))
        return status;
    fprintf(stderr, _("relayctl: the output could not be written to its end\n"));
    return status == EX_OK ? EX_IOERR : status;
}

int main(int argc, char **argv)
{
    i18n_init();
    signal(SIGPIPE, SIG_IGN);
    return relayctl_finish(relayctl_run(argc, argv));
}
