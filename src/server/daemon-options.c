/* server/daemon-options.c - a daemon's command line
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/daemon-internal.h"

#include <config.h>
#include <getopt.h>
#include <stdio.h>

#include "base/i18n.h"

static void daemon_print_help(const struct daemon_program *program)
{
    printf(_("Usage: %s [-c FILE] [--check | --print-config]\n"), program->name);
    printf("%s\n\n", _(program->summary));
    printf(_("  -c, --config FILE   configuration file (default: %s)\n"
             "      --check         report every error in it and exit\n"
             "      --print-config  print every option with its value and exit\n"
             "  -V, --version       print the version and exit\n"
             "  -h, --help          print this help and exit\n"),
           config_default_file);
}

struct daemon_options daemon_parse_options(const struct daemon_program *program, int argc,
                                           char **argv)
{
    enum { OPTION_CHECK = 256, OPTION_PRINT };
    static const struct option long_options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, OPTION_CHECK},
        {"print-config", no_argument, NULL, OPTION_PRINT},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct daemon_options options = {DAEMON_RUN, config_default_file};
    int letter;

    while ((letter = getopt_long(argc, argv, "c:Vh", long_options, NULL)) != -1) {
        switch (letter) {
        case 'c':
            options.file = optarg;
            break;
        case OPTION_CHECK:
            options.action = DAEMON_CHECK;
            break;
        case OPTION_PRINT:
            options.action = DAEMON_PRINT;
            break;
        case 'V':
            printf("%s (Postern) %s\n", program->name, PACKAGE_VERSION);
            options.action = DAEMON_DONE;
            return options;
        case 'h':
            daemon_print_help(program);
            options.action = DAEMON_DONE;
            return options;
        default:
            fprintf(stderr, _("%s: see --help\n"), program->name);
            options.action = DAEMON_USAGE;
            return options;
        }
    }
    if (optind < argc) {
        fprintf(stderr, _("%s: unexpected argument \"%s\"; see --help\n"), program->name,
                argv[optind]);
        options.action = DAEMON_USAGE;
    }
    return options;
}
