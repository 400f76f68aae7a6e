/* relayctl/sink-options.c - relayctl sink's command line
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relayctl/sink.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

#include "base/i18n.h"
#include "relayctl/subcommand.h"

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

static int sink_parse_delay(const char *text, int64_t *delay_ms)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || value > DELAY_MAX_MS)
        return -1;
    *delay_ms = (int64_t)value;
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

/* `kind` is an enum sink_play. */
static bool sink_add_rule(void *context, int kind, char *text)
{
    struct sink_options *options = context;
    const char *equals = strchr(text, '=');
    struct sink_rule *rule = &options->rules[options->rule_count];

    if (options->rule_count == SINK_RULES_MAX || (equals == NULL) != (kind == RULE_HANG_UP))
        return false;
    memset(rule, 0, sizeof *rule);
    rule->kind = (enum sink_play)kind;
    if (sink_parse_step(rule, text, equals != NULL ? (size_t)(equals - text) : strlen(text)) != 0)
        return false;
    if (kind == RULE_REPLY && sink_parse_reply(rule, equals + 1) != 0)
        return false;
    if (kind == RULE_DELAY && sink_parse_delay(equals + 1, &rule->delay_ms) != 0)
        return false;
    options->rule_count++;
    return true;
}

static bool sink_add_listen(void *context, int tag, char *text)
{
    struct sink_options *options = context;
    struct error err;

    (void)tag;
    if (options->listen_count == LISTENERS_MAX ||
        listener_parse(&options->listen[options->listen_count], text, &err) != 0 ||
        options->listen[options->listen_count].implicit_tls)
        return false;
    options->listen_count++;
    return true;
}

static bool sink_hide_extension(void *context, int tag, char *name)
{
    struct sink_options *options = context;

    (void)tag;
    for (size_t i = 0; i < sizeof extensions / sizeof extensions[0]; i++) {
        if (strcasecmp(extensions[i].name, name) == 0) {
            options->hidden |= extensions[i].bit;
            return true;
        }
    }
    return false;
}

static bool sink_set_certificate(void *context, int tag, char *text)
{
    struct sink_options *options = context;
    char *colon = strchr(text, ':');

    (void)tag;
    if (colon != NULL)
        *colon = '\0';
    options->certificate = text;
    options->key = colon != NULL ? colon + 1 : text;
    return true;
}

int sink_parse_options(struct sink_options *options, struct subcommand_line *line)
{
    static char listen[] = "127.0.0.1:2525";
    bool no_pipelining = false;
    const struct subcommand_option table[] = {
        {"listen", .take = sink_add_listen, .context = options},
        {"tls", .take = sink_set_certificate, .context = options},
        {"proxy", .flag = &options->proxy},
        {"no-xclient", .flag = &options->no_xclient},
        {"no-ext", .take = sink_hide_extension, .context = options},
        {"no-pipelining", .flag = &no_pipelining},
        {"size", .number = &options->size, .max = INT64_MAX},
        {"connections", .number = &options->connections, .max = 10000},
        {"print", .flag = &options->print},
        {"json", .flag = &options->json},
        {"store", .text = &options->store},
        {"record", .text = &options->record},
        {"reply", .take = sink_add_rule, .context = options, .tag = RULE_REPLY},
        {"delay", .take = sink_add_rule, .context = options, .tag = RULE_DELAY},
        {"hang-up", .take = sink_add_rule, .context = options, .tag = RULE_HANG_UP},
        {"hang-up-after", .number = &options->hang_up_after, .max = INT64_MAX},
        {"count", .number = &options->count, .max = INT64_MAX},
        {"ready-file", .text = &options->ready_file},
        {.name = NULL},
    };
    int status;

    memset(options, 0, sizeof *options);
    options->size = SIZE_DEFAULT;
    options->connections = CONNECTIONS_DEFAULT;
    if (!subcommand_parse(line, table, &status))
        return status;
    if (no_pipelining)
        options->hidden |= SINK_PIPELINING;
    if (options->listen_count == 0)
        sink_add_listen(options, 0, listen);
    options->print |= options->store == NULL && !options->json;
    return -1;
}

const struct subcommand sink_subcommand = {
    .name = "sink",
    .summary = N_("run a small mail server that accepts mail and shows it"),
    .help =
        {N_("Usage: relayctl sink [OPTION...]\n"
            "Accepts mail over SMTP, delivers nothing, and shows what it received.\n\n"
            "  --listen ADDR:PORT      where to listen (default 127.0.0.1:2525; port 0: any)\n"
            "  --tls CERT[:KEY]        offer STARTTLS with these PEM files\n"
            "  --proxy                 expect a PROXY protocol header (v1 or v2) first\n"
            "  --no-xclient            do not offer XCLIENT\n"
            "  --no-ext KEYWORD        do not offer this extension: PIPELINING, SIZE, 8BITMIME,\n"
            "                          SMTPUTF8, DSN or ENHANCEDSTATUSCODES\n"
            "  --no-pipelining         the same as --no-ext PIPELINING\n"
            "  --size N                accept messages of up to N octets\n"
            "  --connections N         serve up to N connections at once (default 64)\n"),
         N_("  --print                 show each message (default unless --store or --json)\n"
            "  --json                  print one JSON object per message\n"
            "  --store DIR             store messages as DIR/NNNNNN.eml, facts about them as "
            ".json\n"
            "  --record DIR            store every octet received as DIR/NNNNNN.in, one file per\n"
            "                          connection, and how the octets were grouped as .flights\n"
            "  --count N               exit after N messages\n"
            "  --ready-file FILE       write the bound addresses there when listening\n"),
         N_("  --reply STEP=REPLY      give this reply, such as \"rcpt=550 5.1.1 No\"; for one\n"
            "                          recipient: \"rcpt:a@example.com=450 Later\"\n"
            "  --delay STEP=MS         wait before answering\n"
            "  --hang-up STEP          close the connection instead of answering\n"
            "  --hang-up-after N       with --hang-up body: after N octets\n\n"
            "Steps: banner ehlo helo xclient starttls mail rcpt data body dot rset quit\n"
            "(body: while mail data is coming; dot: at its end).\n")},
    .run = sink_run,
};
