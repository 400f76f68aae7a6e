/* relayctl/command.c - what subcommands without arguments of their own share
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <getopt.h>
#include <stdio.h>
#include <sysexits.h>

#include "base/i18n.h"
#include "relayctl/commands.h"

static void command_report(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "%s\n", text);
}

int command_show(int argc, char **argv, void (*help)(void),
                 int (*show)(const struct config *config, bool json))
{
    static const struct option long_options[] = {
        {"config", required_argument, NULL, 'c'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *file = config_default_file;
    bool json = false;
    int letter;

    while ((letter = getopt_long(argc, argv, "c:", long_options, NULL)) != -1) {
        if (letter == 'h') {
            help();
            return EX_OK;
        }
        if (letter != 'c' && letter != 'j')
            return EX_USAGE;
        if (letter == 'c')
            file = optarg;
        json |= letter == 'j';
    }
    if (optind < argc) {
        fprintf(stderr, _("relayctl %s: unexpected argument \"%s\"; see --help\n"), argv[0],
                argv[optind]);
        return EX_USAGE;
    }
    struct config *config = config_load(file, command_report, NULL);
    int status = config != NULL ? show(config, json) : EX_CONFIG;
    config_unref(config);
    return status;
}
