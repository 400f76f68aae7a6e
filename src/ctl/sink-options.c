/* ctl/sink-options.c - relayctl sink's command line
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "ctl/sink.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

#include "base/i18n.h"

static const char *const step_names[SINK_STEPS] = {
    [SINK_BANNER] = "banner",   [SINK_EHLO] = "ehlo",         [SINK_HELO] = "helo",
    [SINK_XCLIENT] = "xclient", [SINK_STARTTLS] = "starttls", [SINK_MAIL] = "mail",
    [SINK_RCPT] = "rcpt",       [SINK_DATA] = "data",         [SINK_BODY] = "body",
    [SINK_DOT] = "dot",         [SINK_RSET] = "rset",         [SINK_QUIT] = "quit",
};

static void print_help(void)
{
    printf(_("Usage: relayctl sink [OPTION...]\n"
             "Takes mail over SMTP, delivers nothing, and shows what it was told and got.\n\n"
             "  --listen ADDR:PORT   where to listen (default 127.0.0.1:2525; port 0: any)\n"
             "  --tls CERT[:KEY]     offer STARTTLS with these PEM files\n"
             "  --proxy              expect a PROXY protocol header (v1 or v2) first\n"
             "  --no-xclient         do not offer XCLIENT\n"
             "  --no-pipelining      do not offer PIPELINING\n"
             "  --size N             announce this size limit, in octets\n"
             "  --json               one JSON object a line for each message\n"
             "  --store DIR          messages as DIR/N.eml, what was told as DIR/N.json\n"
             "  --reply STEP=REPLY   answer so: \"rcpt=550 5.1.1 No\", \"rcpt:a@b.c=450 Later\"\n"
             "  --delay STEP=MS      wait before answering\n"
             "  --hang-up STEP       close the connection instead of answering\n"
             "  --count N            exit after N messages\n"
             "  --ready-file FILE    write the bound addresses there when listening\n\n"
             "Steps: banner ehlo helo xclient starttls mail rcpt data body dot rset quit.\n"));
}

/* "rcpt:user@example.com" or "mail", up to `end`. */
static int parse_step(struct sink_rule *rule, const char *text, size_t len)
{
    const char *colon = memchr(text, ':', len);
    size_t step_len = colon != NULL ? (size_t)(colon - text) : len;

    for (int step = 0; step < SINK_STEPS; step++) {
        if (strlen(step_names[step]) != step_len ||
            strncasecmp(step_names[step], text, step_len) != 0)
            continue;
        rule->step = (enum sink_step)step;
        if (colon != NULL)
            snprintf(rule->recipient, sizeof rule->recipient, "%.*s", (int)(len - step_len - 1),
                     colon + 1);
        return 0;
    }
    return -1;
}

static int add_rule(struct sink_options *options, int kind, const char *text)
{
    const char *equals = strchr(text, '=');
    struct sink_rule *rule = &options->rules[options->rule_count];

    if (options->rule_count == SINK_RULES_MAX)
        return -1;
    memset(rule, 0, sizeof *rule);
    rule->kind = kind;
    if ((equals == NULL) != (kind == RULE_HANG_UP) ||
        parse_step(rule, text, equals != NULL ? (size_t)(equals - text) : strlen(text)) != 0)
        return -1;
    if (kind == RULE_REPLY) {
        rule->code = atoi(equals + 1);
        if (rule->code < 200 || rule->code > 599)
            return -1;
        snprintf(rule->text, sizeof rule->text, "%s", strlen(equals) > 5 ? equals + 5 : "");
    } else if (kind == RULE_DELAY) {
        rule->delay_ms = atoll(equals + 1);
    }
    options->rule_count++;
    return 0;
}

static int add_listen(struct sink_options *options, const char *text)
{
    struct error err;
    if (options->listen_count == LISTENERS_MAX ||
        listener_parse(&options->listen[options->listen_count], text, &err) != 0)
        return -1;
    options->listen_count++;
    return 0;
}

static void set_certificate(struct sink_options *options, char *text)
{
    char *colon = strchr(text, ':');
    if (colon != NULL)
        *colon = '\0';
    options->certificate = text;
    options->key = colon != NULL ? colon + 1 : text;
}

enum {
    LISTEN = 1,
    TLS,
    PROXY,
    NO_XCLIENT,
    NO_PIPELINING,
    SIZE,
    JSON,
    STORE,
    REPLY,
    DELAY,
    HANG_UP,
    COUNT,
    READY_FILE,
    HELP
};

static int take(struct sink_options *options, int option, char *value)
{
    switch (option) {
    case LISTEN:
        return add_listen(options, value);
    case TLS:
        set_certificate(options, value);
        return 0;
    case PROXY:
        options->proxy = true;
        return 0;
    case NO_XCLIENT:
        options->no_xclient = true;
        return 0;
    case NO_PIPELINING:
        options->no_pipelining = true;
        return 0;
    case SIZE:
        options->size = strtoull(value, NULL, 10);
        return 0;
    case JSON:
        options->json = true;
        return 0;
    case STORE:
        options->store = value;
        return 0;
    case REPLY:
        return add_rule(options, RULE_REPLY, value);
    case DELAY:
        return add_rule(options, RULE_DELAY, value);
    case HANG_UP:
        return add_rule(options, RULE_HANG_UP, value);
    case COUNT:
        options->count = (unsigned)atoi(value);
        return 0;
    case READY_FILE:
        options->ready_file = value;
        return 0;
    default:
        return -1;
    }
}

int sink_parse_options(struct sink_options *options, int argc, char **argv)
{
    static const struct option long_options[] = {
        {"listen", required_argument, NULL, LISTEN},
        {"tls", required_argument, NULL, TLS},
        {"proxy", no_argument, NULL, PROXY},
        {"no-xclient", no_argument, NULL, NO_XCLIENT},
        {"no-pipelining", no_argument, NULL, NO_PIPELINING},
        {"size", required_argument, NULL, SIZE},
        {"json", no_argument, NULL, JSON},
        {"store", required_argument, NULL, STORE},
        {"reply", required_argument, NULL, REPLY},
        {"delay", required_argument, NULL, DELAY},
        {"hang-up", required_argument, NULL, HANG_UP},
        {"count", required_argument, NULL, COUNT},
        {"ready-file", required_argument, NULL, READY_FILE},
        {"help", no_argument, NULL, HELP},
        {NULL, 0, NULL, 0},
    };
    int option;

    memset(options, 0, sizeof *options);
    options->size = 1024 * 1024 * 1024;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == HELP) {
            print_help();
            return EX_OK;
        }
        if (take(options, option, optarg) != 0) {
            fprintf(stderr, _("relayctl sink: bad option or value \"%s\"; see --help\n"),
                    optarg != NULL ? optarg : "");
            return EX_USAGE;
        }
    }
    if (options->listen_count == 0)
        add_listen(options, "127.0.0.1:2525");
    return -1;
}
