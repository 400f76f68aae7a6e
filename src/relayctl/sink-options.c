/* relayctl/sink-options.c - relayctl sink's command line
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/sink.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

#include "base/i18n.h"

#define DELAY_MAX_MS 600000
#define CONNECTIONS_DEFAULT 64
#define SIZE_DEFAULT 1073741824 /* octets */

static const char *const step_names[SINK_STEPS] = {
    [SINK_BANNER] = "banner",   [SINK_EHLO] = "ehlo",         [SINK_HELO] = "helo",
    [SINK_XCLIENT] = "xclient", [SINK_STARTTLS] = "starttls", [SINK_MAIL] = "mail",
    [SINK_RCPT] = "rcpt",       [SINK_DATA] = "data",         [SINK_BODY] = "body",
    [SINK_DOT] = "dot",         [SINK_RSET] = "rset",         [SINK_QUIT] = "quit",
};

static const struct {
    const char *name;
    unsigned bit;
} extensions[] = {
    {"PIPELINING", SINK_PIPELINING},
    {"SIZE", SINK_SIZE},
    {"8BITMIME", SINK_8BITMIME},
    {"SMTPUTF8", SINK_SMTPUTF8},
    {"DSN", SINK_DSN},
    {"ENHANCEDSTATUSCODES", SINK_ENHANCEDSTATUSCODES},
};

static void sink_print_help(void)
{
    printf(_("Usage: relayctl sink [OPTION...]\n"
             "Accepts mail over SMTP, delivers nothing, and shows what it received.\n\n"
             "  --listen ADDR:PORT      where to listen (default 127.0.0.1:2525; port 0: any)\n"
             "  --tls CERT[:KEY]        offer STARTTLS with these PEM files\n"
             "  --proxy                 expect a PROXY protocol header (v1 or v2) first\n"
             "  --no-xclient            do not offer XCLIENT\n"
             "  --no-ext KEYWORD        do not offer this extension: PIPELINING, SIZE, 8BITMIME,\n"
             "                          SMTPUTF8, DSN or ENHANCEDSTATUSCODES\n"
             "  --no-pipelining         the same as --no-ext PIPELINING\n"
             "  --size N                accept messages of up to N octets\n"
             "  --connections N         serve up to N connections at once (default 64)\n"));
    printf(
        _("  --print                 show each message (default unless --store or --json)\n"
          "  --json                  print one JSON object per message\n"
          "  --store DIR             store messages as DIR/NNNNNN.eml, facts about them as .json\n"
          "  --record DIR            store every octet received as DIR/NNNNNN.in, one file per\n"
          "                          connection, and how the octets were grouped as .flights\n"
          "  --count N               exit after N messages\n"
          "  --ready-file FILE       write the bound addresses there when listening\n"));
    printf(_("  --reply STEP=REPLY      give this reply, such as \"rcpt=550 5.1.1 No\"; for one\n"
             "                          recipient: \"rcpt:a@example.com=450 Later\"\n"
             "  --delay STEP=MS         wait before answering\n"
             "  --hang-up STEP          close the connection instead of answering\n"
             "  --hang-up-after N       with --hang-up body: after N octets\n\n"
             "Steps: banner ehlo helo xclient starttls mail rcpt data body dot rset quit\n"
             "(body: while mail data is coming; dot: at its end).\n"));
}

static int sink_parse_number(const char *text, uint64_t max, uint64_t *number)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || value > max)
        return -1;
    *number = value;
    return 0;
}

/* Parses "rcpt:user@example.com" or "mail", in `len` octets of text. */
static int sink_parse_step(struct sink_rule *rule, const char *text, size_t len)
{
    const char *colon = memchr(text, ':', len);
    size_t step_len = colon != NULL ? (size_t)(colon - text) : len;

    for (int step = 0; step < SINK_STEPS; step++) {
        if (strlen(step_names[step]) != step_len ||
            strncasecmp(step_names[step], text, step_len) != 0)
            continue;
        rule->step = (enum sink_step)step;
        if (colon == NULL)
            return 0;
        snprintf(rule->recipient, sizeof rule->recipient, "%.*s", (int)(len - step_len - 1),
                 colon + 1);
        return step == SINK_RCPT ? 0 : -1;
    }
    return -1;
}

/* Parses "550 5.1.1 No": three digits, a space and a text. */
static int sink_parse_reply(struct sink_rule *rule, const char *text)
{
    size_t digits = strspn(text, "0123456789");
    if (digits != 3 || (text[3] != ' ' && text[3] != '\0') || *text < '2' || *text > '5')
        return -1;
    rule->code = atoi(text);
    snprintf(rule->text, sizeof rule->text, "%s", text[3] == ' ' ? text + 4 : "");
    return 0;
}

static int sink_add_rule(struct sink_options *options, enum sink_play kind, const char *text)
{
    const char *equals = strchr(text, '=');
    struct sink_rule *rule = &options->rules[options->rule_count];
    uint64_t delay = 0;

    if (options->rule_count == SINK_RULES_MAX || (equals == NULL) != (kind == RULE_HANG_UP))
        return -1;
    memset(rule, 0, sizeof *rule);
    rule->kind = kind;
    if (sink_parse_step(rule, text, equals != NULL ? (size_t)(equals - text) : strlen(text)) != 0)
        return -1;
    if (kind == RULE_REPLY && sink_parse_reply(rule, equals + 1) != 0)
        return -1;
    if (kind == RULE_DELAY && sink_parse_number(equals + 1, DELAY_MAX_MS, &delay) != 0)
        return -1;
    rule->delay_ms = (int64_t)delay;
    options->rule_count++;
    return 0;
}

static int sink_add_listen(struct sink_options *options, const char *text)
{
    struct error err;
    if (options->listen_count == LISTENERS_MAX ||
        listener_parse(&options->listen[options->listen_count], text, &err) != 0 ||
        options->listen[options->listen_count].implicit_tls)
        return -1;
    options->listen_count++;
    return 0;
}

static int sink_hide_extension(struct sink_options *options, const char *name)
{
    for (size_t i = 0; i < sizeof extensions / sizeof extensions[0]; i++) {
        if (strcasecmp(extensions[i].name, name) == 0) {
            options->hidden |= extensions[i].bit;
            return 0;
        }
    }
    return -1;
}

static void sink_set_certificate(struct sink_options *options, char *text)
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
    NO_EXT,
    NO_PIPELINING,
    SIZE,
    CONNECTIONS,
    PRINT,
    JSON,
    STORE,
    RECORD,
    REPLY,
    DELAY,
    HANG_UP,
    HANG_UP_AFTER,
    COUNT,
    READY_FILE,
    HELP
};

/* Takes the options without a value. */
static int sink_take_switch(struct sink_options *options, int option)
{
    switch (option) {
    case PROXY:
        options->proxy = true;
        return 0;
    case NO_XCLIENT:
        options->no_xclient = true;
        return 0;
    case NO_PIPELINING:
        return sink_hide_extension(options, "PIPELINING");
    case PRINT:
        options->print = true;
        return 0;
    case JSON:
        options->json = true;
        return 0;
    default:
        return -1;
    }
}

static int sink_take(struct sink_options *options, int option, char *value)
{
    switch (option) {
    case LISTEN:
        return sink_add_listen(options, value);
    case TLS:
        sink_set_certificate(options, value);
        return 0;
    case NO_EXT:
        return sink_hide_extension(options, value);
    case SIZE:
        return sink_parse_number(value, INT64_MAX, &options->size);
    case CONNECTIONS:
        return sink_parse_number(value, 10000, &options->connections);
    case STORE:
        options->store = value;
        return 0;
    case RECORD:
        options->record = value;
        return 0;
    case REPLY:
        return sink_add_rule(options, RULE_REPLY, value);
    case DELAY:
        return sink_add_rule(options, RULE_DELAY, value);
    case HANG_UP:
        return sink_add_rule(options, RULE_HANG_UP, value);
    case HANG_UP_AFTER:
        return sink_parse_number(value, INT64_MAX, &options->hang_up_after);
    case COUNT:
        return sink_parse_number(value, INT64_MAX, &options->count);
    case READY_FILE:
        options->ready_file = value;
        return 0;
    default:
        return sink_take_switch(options, option);
    }
}

static const struct option long_options[] = {
    {"listen", required_argument, NULL, LISTEN},
    {"tls", required_argument, NULL, TLS},
    {"proxy", no_argument, NULL, PROXY},
    {"no-xclient", no_argument, NULL, NO_XCLIENT},
    {"no-ext", required_argument, NULL, NO_EXT},
    {"no-pipelining", no_argument, NULL, NO_PIPELINING},
    {"size", required_argument, NULL, SIZE},
    {"connections", required_argument, NULL, CONNECTIONS},
    {"print", no_argument, NULL, PRINT},
    {"json", no_argument, NULL, JSON},
    {"store", required_argument, NULL, STORE},
    {"record", required_argument, NULL, RECORD},
    {"reply", required_argument, NULL, REPLY},
    {"delay", required_argument, NULL, DELAY},
    {"hang-up", required_argument, NULL, HANG_UP},
    {"hang-up-after", required_argument, NULL, HANG_UP_AFTER},
    {"count", required_argument, NULL, COUNT},
    {"ready-file", required_argument, NULL, READY_FILE},
    {"help", no_argument, NULL, HELP},
    {NULL, 0, NULL, 0},
};

int sink_parse_options(struct sink_options *options, int argc, char **argv)
{
    int option;

    memset(options, 0, sizeof *options);
    options->size = SIZE_DEFAULT;
    options->connections = CONNECTIONS_DEFAULT;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == HELP) {
            sink_print_help();
            return EX_OK;
        }
        if (option == '?')
            return EX_USAGE;
        if (sink_take(options, option, optarg) != 0) {
            fprintf(stderr, _("relayctl sink: \"%s\" is not a valid value here; see --help\n"),
                    optarg);
            return EX_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, _("relayctl sink: unexpected argument \"%s\"; see --help\n"), argv[optind]);
        return EX_USAGE;
    }
    if (options->listen_count == 0)
        sink_add_listen(options, "127.0.0.1:2525");
    options->print |= options->store == NULL && !options->json;
    return -1;
}
