/* ctl/check.c - relayctl check: is the configuration valid?
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <getopt.h>
#include <stdio.h>
#include <sysexits.h>

#include "base/i18n.h"
#include "config/config.h"
#include "ctl/commands.h"

static void report(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "%s\n", text);
}

static int check_certificates(const struct config *config)
{
    struct tls_server_config tls_config;
    struct error err;

    if (config->tls.certificates.count == 0)
        return 0;
    config_tls_server(config, &tls_config);
    struct tls_server *tls = tls_server_new(&tls_config, NULL, &err);
    if (tls == NULL)
        report(NULL, err.text);
    tls_server_unref(tls);
    return tls != NULL ? 0 : -1;
}

int check_main(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"config", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *file = config_default_file;
    int letter;

    while ((letter = getopt_long(argc, argv, "c:", long_options, NULL)) != -1) {
        if (letter == 'h') {
            printf(_("Usage: relayctl check [-c FILE]\n"));
            return EX_OK;
        }
        if (letter != 'c')
            return EX_USAGE;
        file = optarg;
    }
    if (optind < argc) {
        fprintf(stderr, _("relayctl check: what is \"%s\"? See --help.\n"), argv[optind]);
        return EX_USAGE;
    }
    struct config *config = config_load(file, report, NULL);
    int status = config != NULL && check_certificates(config) == 0 ? EX_OK : EX_CONFIG;
    if (status == EX_OK && !config_warn(config, report, NULL))
        status = EX_CONFIG;
    config_unref(config);
    if (status == EX_OK)
        printf(_("%s: the configuration is valid\n"), file);
    return status;
}
