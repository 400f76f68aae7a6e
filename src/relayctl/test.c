/* relayctl/test.c - relayctl test: sends one message through the relay, step by step
 *
 * Talks to relay-in like a stranger on the internet, or to relay-out like the mail server, and shows
 * every command and reply. The reply to the end of data comes from the mail server or the next hops.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "base/i18n.h"
#include "relayctl/subcommand.h"
#include "relayctl/doctor.h"
#include "net/tls.h"

#define TEST_ADDRESS_MAX 400 /* octets; the message holds two addresses and a host name */
#define TEST_TIME_MS 660000  /* a final reply may take ten minutes (RFC 5321 4.5.3.2.6) */

struct test {
    struct doctor doctor;
    struct doctor_hop hop;
    struct address server, from;
    bool from_given;
    bool out, plain;
    const char *sender, *recipient;
    int64_t began_ms;
};

/* Shows each line of a reply with the time since the start. */
static void test_show_reply(const struct test *test)
{
    const char *text = test->hop.reply.text;
    int64_t ms = deadline_now_ms() - test->began_ms;

    for (const char *end; (end = strchr(text, '\n')) != NULL; text = end + 1)
        printf("%6" PRId64 " ms  <- %d%c%s%s%.*s\n", ms, test->hop.reply.code,
               end[1] != '\0' ? '-' : ' ', test->hop.reply.enhanced,
               test->hop.reply.enhanced[0] != '\0' ? " " : "", (int)(end - text), text);
}

static void test_show_command(const struct test *test, const char *line)
{
    printf("%6" PRId64 " ms  -> %s\n", deadline_now_ms() - test->began_ms, line);
}

/* Sends a command and shows the reply. Returns its code, or 0 if the connection is gone. */
static int test_say(struct test *test, const char *line)
{
    test_show_command(test, line);
    if (!doctor_hop_say(&test->doctor, &test->hop, "%s", line)) {
        printf(_("the connection is gone: %s\n"), test->hop.trouble);
        return 0;
    }
    test_show_reply(test);
    return test->hop.reply.code;
}

static int test_hello(struct test *test)
{
    char line[300];

    snprintf(line, sizeof line, "EHLO %s", test->doctor.config->hostname);
    return test_say(test, line);
}

/* False if the handshake failed: then nothing can follow. */
static bool test_start_tls(struct test *test)
{
    const struct tls_client_config settings = {.verify = false};
    struct error err;
    struct tls_info info;

    if (test->plain || strstr(test->hop.reply.text, "STARTTLS") == NULL) {
        if (!test->plain)
            printf(_("STARTTLS is not offered: continuing in plain text\n"));
        return true;
    }
    struct tls_client *client = tls_client_new(&settings, &err);
    test_show_command(test, "STARTTLS");
    bool started = client != NULL &&
                   nexthop_starttls(&test->hop.hop, client, test->doctor.config->hostname, NULL,
                                    &test->hop.reply, test->doctor.deadline, &err) == IO_OK;
    if (started && stream_tls_info(&test->hop.hop.stream, &info))
        printf("%6" PRId64 " ms     %s, %s\n", deadline_now_ms() - test->began_ms, info.version,
               info.cipher);
    else
        printf(_("the TLS handshake failed: %s\n"), err.text);
    tls_client_free(client);
    return started && test_hello(test) == 250;
}

/* A 250 before the data means nothing; only the last reply counts. */
static int test_send(struct test *test)
{
    char line[4 * TEST_ADDRESS_MAX], date[80];
    time_t now = time(NULL);
    struct tm parts;

    snprintf(line, sizeof line, "MAIL FROM:<%s>", test->sender);
    int code = test_say(test, line);
    if (code / 100 != 2)
        return code;
    snprintf(line, sizeof line, "RCPT TO:<%s>", test->recipient);
    code = test_say(test, line);
    if (code / 100 != 2 || (code = test_say(test, "DATA")) != 354)
        return code;
    localtime_r(&now, &parts);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S %z", &parts);
    snprintf(line, sizeof line,
             "Date: %s\r\nFrom: <%s>\r\nTo: <%s>\r\nSubject: relayctl test\r\n"
             "Message-ID: <%lld.relayctl@%s>\r\nAuto-Submitted: auto-generated\r\n\r\n"
             "This message shows that the relay delivers.\r\n.",
             date, test->sender[0] != '\0' ? test->sender : test->recipient, test->recipient,
             (long long)now, test->doctor.config->hostname);
    test_show_command(test, _("(a short message)"));
    if (!doctor_hop_say(&test->doctor, &test->hop, "%s", line)) {
        printf(_("the connection is gone: %s\n"), test->hop.trouble);
        return 0;
    }
    test_show_reply(test);
    return test->hop.reply.code;
}

static int test_verdict(int code)
{
    if (code / 100 == 2) {
        printf(
            _("Delivered: the last reply is the receiving mail server's own, or the spool's.\n"));
        return EX_OK;
    }
    if (code / 100 == 5) {
        printf(_("Refused permanently.\n"));
        return EX_UNAVAILABLE;
    }
    printf(_("Not delivered for now; a sender would try again.\n"));
    return EX_TEMPFAIL;
}

static int test_send_all(struct test *test)
{
    char server[ADDRESS_TEXT_MAX], from[ADDRESS_TEXT_MAX];
    const struct address *source = test->from_given ? &test->from : NULL;
    int code = 0;

    test->doctor.deadline = deadline_in_ms(TEST_TIME_MS);
    test->began_ms = deadline_now_ms();
    printf(_("connecting to %s from %s\n"), address_format_endpoint(&test->server, server),
           source != NULL ? address_format_ip(source, from)
                          : _("an address that the system chooses"));
    if (!doctor_hop_greet(&test->doctor, &test->hop, &test->server, source)) {
        printf("%s\n", test->hop.trouble);
        return EX_TEMPFAIL;
    }
    test_show_reply(test);
    bool private = strstr(test->hop.reply.text, "private addresses") != NULL;
    if (reply_is_positive(&test->hop.reply) && test_hello(test) == 250 && test_start_tls(test))
        code = test_send(test);
    else
        code = test->hop.reply.code;
    doctor_hop_close(&test->hop);
    if (test->out && code == 554)
        printf(_("relay-out lets in only hosts in out.allow: run this on the mail server, with "
                 "--server, or add this host for the test.\n"));
    if (!test->out && private)
        printf(_("relay-in serves no private addresses: name a public address of this host by "
                 "--source, or add the private one to in.private_clients for the test.\n"));
    return test_verdict(code);
}

/* Finds the address at which an outsider reaches the daemon. False if it has no such listener. */
static bool test_find_server(struct test *test)
{
    const struct config *config = test->doctor.config;

    if (!test->out)
        return doctor_listener(&test->doctor, &test->server, &test->from, &test->from_given);
    for (size_t i = 0; i < config->out.listen.count; i++) {
        const struct listen_spec *spec = &config->out.listen.items[i];
        if (spec->implicit_tls || spec->submission)
            continue;
        test->server = spec->address;
        return true;
    }
    return false;
}

static int test_run_configured(struct test *test, bool server_given)
{
    struct address source = test->from;
    bool source_given = test->from_given, found = true;

    doctor_learn_own(&test->doctor);
    if (!server_given)
        found = test_find_server(test);
    if (source_given) {
        test->from = source;
        test->from_given = true;
    }
    if (found)
        return test_send_all(test);
    fprintf(stderr, _("relayctl test: there is no listener for plain SMTP\n"));
    return EX_CONFIG;
}

static bool test_is_sendable(const char *address)
{
    return strlen(address) <= TEST_ADDRESS_MAX && strpbrk(address, "<>\r\n") == NULL;
}

static int test_run(struct subcommand_line *line)
{
    static struct test test; /* a reply is large */
    const char *file = config_default_file, *server = NULL, *source = NULL;
    const struct subcommand_option options[] = {
        {"config", 'c', .text = &file},
        {"out", 'o', .flag = &test.out},
        {"from", 'f', .text = &test.sender},
        {"server", 's', .text = &server},
        {"source", 'S', .text = &source},
        {"plain", 'p', .flag = &test.plain},
        {.name = NULL},
    };
    int status;

    test.sender = "";
    if (!subcommand_parse(line, options, &status))
        return status;
    test.recipient = line->argv[0];
    if (line->argc != 1 || strchr(test.recipient, '@') == NULL ||
        !test_is_sendable(test.recipient) || !test_is_sendable(test.sender)) {
        fprintf(stderr, _("relayctl test: give one address, like postmaster@example.com\n"));
        return EX_USAGE;
    }
    if (server != NULL && address_parse_endpoint(&test.server, server, 25) != 0) {
        fprintf(stderr, _("relayctl test: --server: \"%s\" is not an address like 192.0.2.1:25\n"),
                server);
        return EX_USAGE;
    }
    test.from_given = source != NULL;
    if (source != NULL && address_parse_ip(&test.from, source) != 0) {
        fprintf(stderr, _("relayctl test: --source: \"%s\" is not an IP address\n"), source);
        return EX_USAGE;
    }
    struct config *config = config_load(file, subcommand_report, NULL);
    test.doctor.config = config;
    status = config != NULL ? test_run_configured(&test, server != NULL) : EX_CONFIG;
    config_unref(config);
    return status;
}

const struct subcommand test_subcommand = {
    .name = "test",
    .summary = N_("send a message through the relay, and show each step"),
    .help = {N_("Usage: relayctl test [OPTION...] ADDRESS\n"
                "Sends a short message to ADDRESS through relay-in, as a stranger would, and shows "
                "each step.\n\n"
                "  -o, --out                   send through relay-out, as the mail server would\n"
                "  -f, --from SENDER           use this sender, not the null sender\n"
                "  -s, --server ADDR:PORT      connect there, whatever the configuration says\n"
                "  -S, --source ADDR           connect from this address of this host\n"
                "  -p, --plain                 do not use TLS\n"
                "  -c, --config FILE           configuration file\n\n"
                "The exit status is 0 (delivered), 69 (refused) or 75 (put off).\n")},
    .arguments = true,
    .run = test_run,
};
