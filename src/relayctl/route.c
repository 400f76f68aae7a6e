/* relayctl/route.c - relayctl route: what would happen to mail for an address
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/i18n.h"
#include "config/config.h"
#include "relayctl/subcommand.h"
#include "server/control-client.h"
#include "server/control.h"

/* The words of relay-in/main.c and relay-out/routeinfo.h, and their texts for people. */
static void route_print(const char *word, const char *text)
{
    static const struct {
        const char *word, *format;
    } lines[] = {
        {"refused", N_("  refused: %s\n")},       {"backend", N_("  goes to the backend %s\n")},
        {"login", N_("  with a log-in as %s\n")}, {"host", N_("  host %s\n")},
        {"problem", N_("  no host: %s\n")},
    };
    static const struct {
        const char *by, *text;
    } ways[] = {
        {"own", N_("  goes home: a domain of relay-in (in.domains, in.backends)\n")},
        {"route", N_("  goes by a route (out.routes)\n")},
        {"default_route", N_("  goes by out.default_route\n")},
        {"mx", N_("  goes to the MX hosts of the domain\n")},
    };

    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (strcmp(word, "by") == 0 && strcmp(text, ways[i].by) == 0)
            fputs(_(ways[i].text), stdout);
    }
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (strcmp(word, lines[i].word) == 0)
            printf(_(lines[i].format), text); /* each has one %s */
    }
}

static int route_ask(const struct config *config, const char *program, const char *title,
                     const char *address)
{
    char request[CONTROL_REQUEST_MAX + 1], *line = NULL;
    size_t size = 0;
    struct error err;
    FILE *answer;

    printf("%s\n", title);
    snprintf(request, sizeof request, "route %s", address);
    switch (control_ask(config->control, program, request, CONTROL_PATIENCE_S, &answer, &err)) {
    case CONTROL_ANSWERED:
        break;
    case CONTROL_DOWN:
        printf(_("  %s does not run, or has no control socket\n"), program);
        return EX_UNAVAILABLE;
    case CONTROL_REFUSED:
        printf("  %s\n", err.text);
        return EX_DATAERR;
    }
    while (getline(&line, &size, answer) >= 0) {
        line[strcspn(line, "\n")] = '\0';
        char *text = strchr(line, ' ');
        if (text == NULL)
            continue;
        *text = '\0';
        route_print(line, text + 1);
    }
    free(line);
    fclose(answer);
    return EX_OK;
}

static int route_show(const struct config *config, const char *address)
{
    int in = EX_OK, out = EX_OK;

    if (config->parts & CONFIG_PART_IN)
        in = route_ask(config, "relay-in", _("From the internet, by relay-in:"), address);
    if (config->parts & CONFIG_PART_OUT)
        out = route_ask(config, "relay-out", _("From the mail server, by relay-out:"), address);
    return in != EX_OK ? in : out;
}

static int route_run(struct subcommand_line *line)
{
    const char *file = config_default_file;
    const struct subcommand_option options[] = {{"config", 'c', .text = &file}, {.name = NULL}};
    int status;

    if (!subcommand_parse(line, options, &status))
        return status;
    if (line->argc != 1 || strchr(line->argv[0], ' ') != NULL) {
        fprintf(stderr, _("relayctl route: give one address\n"));
        return EX_USAGE;
    }
    struct config *config = config_load(file, subcommand_report, NULL);
    status = config != NULL ? route_show(config, line->argv[0]) : EX_CONFIG;
    config_unref(config);
    return status;
}

const struct subcommand route_subcommand = {
    .name = "route",
    .summary = N_("say what would happen to mail for an address"),
    .help = {N_("Usage: relayctl route [-c FILE] ADDRESS\n"
                "Says what the daemons would do with mail for this address, and to which "
                "hosts it\n"
                "would go. The DNS is asked, but no host is connected to.\n\n"
                "  -c, --config FILE           names the daemons' sockets (default %s)\n")},
    .arguments = true,
    .run = route_run,
};
