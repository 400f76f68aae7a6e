/* relayctl/subcommand.c - the command line of a subcommand, and the way to a daemon
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/subcommand.h"

#include <getopt.h>
#include <stdlib.h>
#include <sysexits.h>

#include "base/assert.h"
#include "base/i18n.h"
#include "server/control-client.h"

#define SUBCOMMAND_OPTIONS_MAX 24
#define SUBCOMMAND_LONG                                                                            \
    256 /* what getopt returns for a long option: this, and the number of its row */

void subcommand_report(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "%s\n", text);
}

static void subcommand_print_help(const struct subcommand *command)
{
    for (size_t i = 0; i < SUBCOMMAND_HELP_PARTS && command->help[i] != NULL; i++)
        printf(_(command->help[i]), config_default_file);
}

static bool subcommand_take_number(const struct subcommand_option *option, const char *text)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);

    if (*text < '0' || *text > '9' || *end != '\0' || value > option->max)
        return false;
    *option->number = value;
    return true;
}

static bool subcommand_take(const struct subcommand_option *option, char *value)
{
    if (option->take != NULL)
        return option->take(option->context, option->tag, value);
    if (option->number != NULL)
        return subcommand_take_number(option, value);
    if (option->flag != NULL)
        *option->flag = true;
    else
        *option->text = value;
    return true;
}

static const struct subcommand_option *subcommand_find(const struct subcommand_option *options,
                                                       int found)
{
    int i = 0;
    while (found != options[i].letter && found != SUBCOMMAND_LONG + i)
        i++;
    return &options[i];
}

/* Runs getopt over the options. Returns -1 at their end, or the exit status. */
static int subcommand_take_all(struct subcommand_line *line,
                               const struct subcommand_option *options)
{
    struct option known[SUBCOMMAND_OPTIONS_MAX + 2] = {{NULL, 0, NULL, 0}};
    char letters[2 * SUBCOMMAND_OPTIONS_MAX + 2] = "h", *letter = letters + 1;
    int count = 0, found;

    for (; options[count].name != NULL; count++) {
        bool value = options[count].flag == NULL;
        ASSERT(count < SUBCOMMAND_OPTIONS_MAX);
        known[count] = (struct option){options[count].name, value, NULL, SUBCOMMAND_LONG + count};
        if (options[count].letter == 0)
            continue;
        *letter++ = options[count].letter;
        if (value)
            *letter++ = ':';
    }
    known[count] = (struct option){"help", no_argument, NULL, 'h'};
    while ((found = getopt_long(line->argc, line->argv, letters, known, NULL)) != -1) {
        if (found == 'h') {
            subcommand_print_help(line->command);
            return EX_OK;
        }
        if (found == '?')
            return EX_USAGE;
        if (!subcommand_take(subcommand_find(options, found), optarg)) {
            fprintf(stderr, _("relayctl %s: \"%s\" is not a valid value here\n"),
                    line->command->name, optarg);
            return EX_USAGE;
        }
    }
    return -1;
}

bool subcommand_parse(struct subcommand_line *line, const struct subcommand_option *options,
                      int *status)
{
    char name[64], *typed = line->argv[0];

    snprintf(name, sizeof name, "relayctl %s", line->command->name);
    line->argv[0] = name; /* getopt's messages begin with it */
    *status = subcommand_take_all(line, options);
    line->argv[0] = typed;
    if (*status != -1)
        return false;
    line->argc -= optind;
    line->argv += optind;
    if (line->argc == 0 || line->command->arguments)
        return true;
    fprintf(stderr, _("relayctl %s: unexpected argument \"%s\"\n"), line->command->name,
            line->argv[0]);
    *status = EX_USAGE;
    return false;
}

int subcommand_show(struct subcommand_line *line,
                    int (*show)(const struct config *config, bool json))
{
    const char *file = config_default_file;
    bool json = false;
    const struct subcommand_option options[] = {
        {"config", 'c', .text = &file}, {"json", .flag = &json}, {.name = NULL}};
    int status;

    if (!subcommand_parse(line, options, &status))
        return status;
    struct config *config = config_load(file, subcommand_report, NULL);
    status = config != NULL ? show(config, json) : EX_CONFIG;
    config_unref(config);
    return status;
}

FILE *subcommand_ask(const char *name, const struct config *config, const char *program,
                     const char *request, int patience_s)
{
    struct error err;
    FILE *answer = NULL;

    switch (control_ask(config->control, program, request, patience_s, &answer, &err)) {
    case CONTROL_ANSWERED:
        break;
    case CONTROL_DOWN:
        fprintf(stderr, _("relayctl %s: %s does not run\n"), name, program);
        break;
    case CONTROL_REFUSED:
        fprintf(stderr, "relayctl %s: %s\n", name, err.text);
        break;
    }
    return answer;
}
