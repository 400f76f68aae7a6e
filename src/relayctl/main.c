/* relayctl/main.c - relayctl: the operator's tool
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <config.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "base/i18n.h"
#include "relayctl/commands.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"certificate", certificate_main, N_("say whether a certificate is fit for use")},
    {"check", check_main, N_("say whether the configuration is valid")},
    {"doctor", doctor_main, N_("check everything, and say what is wrong and what to do")},
    {"hosts", hosts_main, N_("show the hosts that relay-out could not reach lately")},
    {"import-haraka", import_main, N_("print a relay.conf made from Haraka's files")},
    {"init", init_main, N_("write the first relay.conf, and print what belongs elsewhere")},
    {"missed", missed_main, N_("show senders put off in an outage, and which have come back")},
    {"password", password_main, N_("set the password of a user who may log in at relay-out")},
    {"queue", queue_main, N_("show and change what relay-out has stored for later")},
    {"test", test_main, N_("send a message through the relay, and show each step")},
    {"route", route_main, N_("say what would happen to mail for an address")},
    {"sink", sink_main, N_("run a small mail server that accepts mail and shows it")},
    {"status", status_main, N_("show on one screen whether all is well")},
    {"tls", tls_main, N_("show what a domain publishes about TLS, and what mail to it would meet")},
    {"top", top_main, N_("show live numbers and sessions, once a second")},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static void relayctl_print_help(FILE *out)
{
    fprintf(out, _("Usage: relayctl COMMAND [OPTION...]\n\nCommands:\n"));
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-13s %s\n", commands[i].name, _(commands[i].summary));
    fprintf(out, _("\nrelayctl COMMAND --help tells more.\n"));
}

static int relayctl_run_command(int argc, char **argv)
{
    static char help[] = "--help";

    if (argc > 1 && strcmp(argv[1], "-h") == 0)
        argv[1] = help;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(argv[0], commands[i].name) != 0)
            continue;
        int status = commands[i].run(argc, argv);
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

int main(int argc, char **argv)
{
    static char help[] = "--help";

    i18n_init();
    signal(SIGPIPE, SIG_IGN);
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
