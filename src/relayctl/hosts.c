/* relayctl/hosts.c - relayctl hosts: what relay-out remembers about the hosts that it delivers to
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "base/i18n.h"
#include "config/config.h"
#include "server/control-client.h"
#include "relayctl/subcommand.h"
#include "relayctl/json.h"

/* One line as in relay-out/host-cache-control.h; every width fits the longest value. */
struct hosts_row {
    char mark[16], destination[300], name[256], address[64], reason[200];
    int64_t left_s;
};

static bool hosts_read(FILE *answer, struct hosts_row *row)
{
    row->reason[0] = '\0';
    return fscanf(answer, " host %15s %" SCNd64 " %299s %255s %63s%*[ ]%199[^\n]", row->mark,
                  &row->left_s, row->destination, row->name, row->address, row->reason) >= 5;
}

static void hosts_print_json(const struct hosts_row *row)
{
    printf("{\"remembered\": ");
    json_string(stdout, row->mark, strlen(row->mark));
    json_member(stdout, "destination", row->destination);
    json_member(stdout, "host", row->name);
    json_member(stdout, "address", row->address);
    json_member(stdout, "reason", row->reason);
    printf(", \"seconds_left\": %" PRId64 "}\n", row->left_s);
}

static const char *hosts_word(const char *mark)
{
    if (strcmp(mark, "dead") == 0)
        return _("not reached");
    if (strcmp(mark, "login-refused") == 0)
        return _("log-in refused");
    return strcmp(mark, "deferred") == 0 ? _("refused a message") : _("TLS failed");
}

static void hosts_print(const struct hosts_row *row)
{
    printf(_("%s: %s[%s] %s, for another %" PRId64 " s: %s\n"), row->destination, row->name,
           row->address, hosts_word(row->mark), row->left_s, row->reason);
}

static int hosts_show(const struct config *config, bool json)
{
    struct hosts_row row;
    FILE *answer = subcommand_ask("hosts", config, "relay-out", "hosts", CONTROL_AT_HAND_S);

    if (answer == NULL)
        return EX_UNAVAILABLE;
    while (hosts_read(answer, &row))
        json ? hosts_print_json(&row) : hosts_print(&row);
    fclose(answer);
    return EX_OK;
}

static int hosts_run(struct subcommand_line *line)
{
    return subcommand_show(line, hosts_show);
}

const struct subcommand hosts_subcommand = {
    .name = "hosts",
    .summary = N_("show the hosts that relay-out could not reach lately"),
    .help = {N_("Usage: relayctl hosts [OPTION...]\n"
                "Shows the hosts that relay-out could not reach lately, or whose TLS failed.\n\n"
                "  -c, --config FILE           names relay-out's socket (default %s)\n"
                "      --json                  for programs\n")},
    .run = hosts_run,
};
