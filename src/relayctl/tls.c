/* relayctl/tls.c - relayctl tls: what domains publish about TLS, and what that means for mail to them
 *
 * relay-out does the look-ups. One table turns its answers (relay-out/tlsorders.h) into text or JSON.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "base/i18n.h"
#include "config/config.h"
#include "server/control-client.h"
#include "relayctl/subcommand.h"
#include "relayctl/json.h"
#include "server/control.h"

#define LINE_MAX_OCTETS 1024

enum tls_kind {
    TLS_TEXT,
    TLS_YES, /* yes or no */
    TLS_NUMBER,
    TLS_TIME,  /* seconds since the epoch */
    TLS_LIST,  /* one item of a list */
    TLS_GROUP, /* a heading; what follows belongs to it */
};

/* The keys in relay-out's answers, with their labels for people and programs. */
static const struct tls_key {
    const char *key, *json;
    enum tls_kind kind;
    const char *label;
} tls_keys[] = {
    {"domain", "domain", TLS_TEXT, N_("Domain")},
    {"validation", "dnssec_validation", TLS_YES, N_("DNSSEC is validated")},
    {"route", "route", TLS_TEXT, N_("Route of the configuration")},
    {"sts-record", "mta_sts_record", TLS_TEXT, N_("MTA-STS record, id")},
    {"sts-failure", "mta_sts_failure", TLS_TEXT, N_("MTA-STS policy not fetched")},
    {"sts-mode", "mta_sts_mode", TLS_TEXT, N_("MTA-STS policy")},
    {"sts-id", "mta_sts_id", TLS_TEXT, N_("  its id")},
    {"sts-fetched", "mta_sts_fetched", TLS_TIME, N_("  fetched")},
    {"sts-expires", "mta_sts_expires", TLS_TIME, N_("  valid until")},
    {"sts-mx", "mta_sts_mx", TLS_LIST, N_("  allows")},
    {"no-hosts", "no_hosts", TLS_TEXT, N_("No hosts")},
    {"host", "host", TLS_GROUP, N_("Host")},
    {"port", "port", TLS_NUMBER, N_("  port")},
    {"address", "addresses", TLS_LIST, N_("  address")},
    {"named-by-proof", "host_proven", TLS_YES, N_("  is proven to belong to the domain")},
    {"addresses-proven", "addresses_proven", TLS_YES, N_("  its addresses are proven")},
    {"alias-of", "alias_of", TLS_TEXT, N_("  is an alias of")},
    {"dane", "dane", TLS_TEXT, N_("  TLSA records")},
    {"tlsa-at", "tlsa_base", TLS_TEXT, N_("  they are at")},
    {"tlsa", "tlsa", TLS_LIST, N_("  record")},
    {"dane-reason", "dane_reason", TLS_TEXT, N_("  because of")},
    {"level", "level", TLS_TEXT, N_("  TLS that is required")},
    {"policy", "policy", TLS_TEXT, N_("  according to")},
    {"watched", "watched", TLS_YES, N_("  its policy is only watched")},
    {"would-be-refused", "would_be_refused", TLS_TEXT, N_("  would not be used")},
    {"refused", "refused", TLS_TEXT, N_("  is not used")},
    {"shown", "shown", TLS_TEXT, N_("  connected to")},
};

/* Reads "KEY TEXT" without the line end. False at the end of the answer. */
static bool tls_read_field(FILE *answer, char line[LINE_MAX_OCTETS], char **text)
{
    if (fgets(line, LINE_MAX_OCTETS, answer) == NULL)
        return false;
    line[strcspn(line, "\n")] = '\0';
    *text = strchr(line, ' ');
    if (*text == NULL)
        return line[0] == '\0' && tls_read_field(answer, line, text);
    *(*text)++ = '\0';
    return true;
}

static const struct tls_key *tls_find_key(const char *name)
{
    for (size_t i = 0; i < sizeof tls_keys / sizeof *tls_keys; i++) {
        if (strcmp(tls_keys[i].key, name) == 0)
            return &tls_keys[i];
    }
    return NULL;
}

static void tls_print_time(const char *text)
{
    time_t at = (time_t)strtoll(text, NULL, 10);
    struct tm parts;
    char words[64] = "?";

    if (localtime_r(&at, &parts) != NULL)
        strftime(words, sizeof words, "%Y-%m-%d %H:%M:%S", &parts);
    printf("%s\n", words);
}

static void tls_show_text(FILE *answer)
{
    char line[LINE_MAX_OCTETS], *text;

    while (tls_read_field(answer, line, &text)) {
        const struct tls_key *key = tls_find_key(line);
        if (key == NULL)
            continue;
        printf("%s: ", _(key->label));
        if (key->kind == TLS_TIME)
            tls_print_time(text);
        else if (key->kind == TLS_YES)
            printf("%s\n", strcmp(text, "yes") == 0 ? _("yes") : _("no"));
        else
            printf("%s\n", text);
    }
}

static void tls_put_json_value(const struct tls_key *key, const char *text)
{
    if (key->kind == TLS_YES)
        printf("%s", strcmp(text, "yes") == 0 ? "true" : "false");
    else if (key->kind == TLS_TIME || key->kind == TLS_NUMBER)
        printf("%lld", strtoll(text, NULL, 10));
    else
        json_string(stdout, text, strlen(text));
}

/* Prints one object with a list of hosts. Members that occur several times become lists. */
static void tls_show_json(FILE *answer)
{
    char line[LINE_MAX_OCTETS], *text;
    const struct tls_key *list = NULL; /* the open list, or NULL */
    bool has_hosts = false, has_members = false;

    printf("{");
    while (tls_read_field(answer, line, &text)) {
        const struct tls_key *key = tls_find_key(line);
        if (key == NULL)
            continue;
        if (list != NULL && key != list)
            printf("]");
        if (key->kind == TLS_GROUP) {
            printf("%s", has_hosts ? "}, {" : has_members ? ", \"hosts\": [{" : "\"hosts\": [{");
            has_hosts = true;
            has_members = false;
        }
        if (key->kind != TLS_LIST || key != list)
            printf("%s\"%s\": %s", has_members ? ", " : "", key->json,
                   key->kind == TLS_LIST ? "[" : "");
        else
            printf(", ");
        tls_put_json_value(key, text);
        has_members = true;
        list = key->kind == TLS_LIST ? key : NULL;
    }
    printf("%s%s}\n", list != NULL ? "]" : "", has_hosts ? "}]" : "");
}

/* Failures: one line per policy. */

struct tls_policy_line {
    char domain[256], type[32], host[256];
    long long changed_s;
};

static void tls_begin_policy(const struct tls_policy_line *policy, bool json)
{
    if (json) {
        printf("{\"domain\": ");
        json_string(stdout, policy->domain, strlen(policy->domain));
        json_member(stdout, "policy", policy->type);
        printf(", \"changed\": %lld", policy->changed_s);
    } else {
        printf("%s (%s):", policy->domain, policy->type);
    }
}

/* "NAME=COUNT NAME=COUNT": what a day had, as a member of that name or as it is. */
static void tls_show_day(const char *day, const char *counts, bool json)
{
    const char *comma = "";
    char name[64];
    unsigned long long number;
    int used;

    if (!json) {
        printf("; %s: %s", strcmp(day, "today") == 0 ? _("today") : _("yesterday"), counts);
        return;
    }
    printf(", \"%s\": {", day);
    for (; sscanf(counts, " %63[^=]=%llu%n", name, &number, &used) == 2; counts += used) {
        printf("%s\"%s\": %llu", comma, name, number);
        comma = ", ";
    }
    printf("}");
}

static void tls_show_failures(FILE *answer, bool json)
{
    char line[LINE_MAX_OCTETS], *text, name[64];
    struct tls_policy_line policy;
    unsigned long long number;
    bool is_open = false;

    while (tls_read_field(answer, line, &text)) {
        if (strcmp(line, "policy") == 0 &&
            sscanf(text, "%255s %31s %lld", policy.domain, policy.type, &policy.changed_s) == 3) {
            if (is_open)
                puts(json ? "}" : "");
            tls_begin_policy(&policy, json);
            is_open = true;
        } else if (strcmp(line, "count") == 0 && sscanf(text, "%63s %llu", name, &number) == 2) {
            printf(json ? ", \"%s\": %llu" : " %s=%llu", name, number);
        } else if (strcmp(line, "today") == 0 || strcmp(line, "yesterday") == 0) {
            tls_show_day(line, text, json);
        } else if (strcmp(line, "last") == 0 && sscanf(text, "%255s", policy.host) == 1) {
            const char *reason = strchr(text, ' ') != NULL ? strchr(text, ' ') + 1 : "";
            if (json) {
                json_member(stdout, "last_host", policy.host);
                json_member(stdout, "last_reason", reason);
            } else {
                printf(_("; the last failure: %s: %s"), policy.host, reason);
            }
        }
    }
    if (is_open)
        puts(json ? "}" : "");
}

static int tls_run(struct subcommand_line *line)
{
    const char *file = config_default_file;
    bool json = false, connect = false, refresh = false, failures = false;
    const struct subcommand_option options[] = {
        {"config", 'c', .text = &file},  {"json", .flag = &json},
        {"connect", .flag = &connect},   {"refresh", .flag = &refresh},
        {"failures", .flag = &failures}, {.name = NULL},
    };
    char request[CONTROL_REQUEST_MAX + 1] = "tls failures";
    int status;

    if (!subcommand_parse(line, options, &status))
        return status;
    const char *domain = line->argv[0];
    if (line->argc != !failures || (domain != NULL && strpbrk(domain, " \n") != NULL)) {
        fprintf(stderr, _("relayctl tls: give a domain, or --failures\n"));
        return EX_USAGE;
    }
    if (domain != NULL)
        snprintf(request, sizeof request, "tls show %s%s%s", domain, connect ? " connect" : "",
                 refresh ? " refresh" : "");
    struct config *config = config_load(file, subcommand_report, NULL);
    if (config == NULL)
        return EX_CONFIG;
    FILE *answer = subcommand_ask("tls", config, "relay-out", request, CONTROL_PATIENCE_S);
    config_unref(config);
    if (answer == NULL)
        return EX_UNAVAILABLE;
    if (failures)
        tls_show_failures(answer, json);
    else if (json)
        tls_show_json(answer);
    else
        tls_show_text(answer);
    fclose(answer);
    return EX_OK;
}

const struct subcommand tls_subcommand = {
    .name = "tls",
    .summary = N_("show what a domain publishes about TLS, and what mail to it would meet"),
    .help = {N_(
        "Usage: relayctl tls [OPTION...] DOMAIN\n"
        "       relayctl tls [OPTION...] --failures\n"
        "Shows what a domain and its mail hosts publish about TLS (DANE, MTA-STS), and what "
        "mail\n"
        "to it would meet; or how well TLS has worked since relay-out started.\n\n"
        "  -c, --config FILE           names relay-out's socket (default %s)\n"
        "      --connect               connect to each host and look at its certificate\n"
        "      --refresh               fetch the domain's MTA-STS policy again\n"
        "      --failures              count sessions and failures of all policies met\n"
        "      --json                  for programs\n")},
    .arguments = true,
    .run = tls_run,
};
