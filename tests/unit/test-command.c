/* tests/unit/test-command.c - smtp/command
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "smtp/command.h"

static const struct {
    const char *line;
    enum command_verb verb;
    const char *argument;
} verbs[] = {
    {"EHLO mx.example", COMMAND_EHLO, "mx.example"}, {"ehlo  mx.example  ", COMMAND_EHLO, "mx.example"},
    {"QUIT", COMMAND_QUIT, ""},                      {"Mail FROM:<>", COMMAND_MAIL, "FROM:<>"},
    {"STARTTLS", COMMAND_STARTTLS, ""},              {"STARTTLSX", COMMAND_UNKNOWN, ""},
    {"", COMMAND_UNKNOWN, ""},                       {"GET / HTTP/1.1", COMMAND_HTTP, "/ HTTP/1.1"},
    {"BDAT 5 LAST", COMMAND_BDAT, "5 LAST"},         {"XCLIENT ADDR=1", COMMAND_XCLIENT, "ADDR=1"},
    {"HTTP x", COMMAND_UNKNOWN, "x"},
};

static void test_verbs(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        struct command command;
        g_test_message("%s", verbs[i].line);
        g_assert_cmpint(command_parse(&command, verbs[i].line, strlen(verbs[i].line)), ==, COMMAND_OK);
        g_assert_cmpint(command.verb, ==, verbs[i].verb);
        g_assert_cmpuint(command.argument_len, ==, strlen(verbs[i].argument));
        g_assert_cmpint(memcmp(command.argument, verbs[i].argument, command.argument_len), ==, 0);
    }
}

static void test_garbage(void)
{
    struct command command;
    g_assert_cmpint(command_parse(&command, "NOOP\0x", 6), ==, COMMAND_GARBAGE);
    g_assert_cmpint(command_parse(&command, "NOOP \x01", 6), ==, COMMAND_GARBAGE);
    g_assert_cmpint(command_parse(&command, "NOOP \rx", 7), ==, COMMAND_GARBAGE);
    g_assert_cmpint(command_parse(&command, "NOOP \xff", 6), ==, COMMAND_GARBAGE);
    g_assert_cmpint(command_parse(&command, "NOOP \xc3\xa4", 7), ==, COMMAND_OK);
}

static const struct {
    const char *line;
    enum parameter_result result;
    uint64_t size;
    enum mail_body body;
    bool smtputf8;
} mails[] = {
    {"MAIL FROM:<a@b.example>", PARAMETER_OK, 0, MAIL_BODY_NONE, false},
    {"MAIL from: <a@b.example>", PARAMETER_OK, 0, MAIL_BODY_NONE, false},
    {"MAIL FROM:<> size=1000 BODY=8bitmime SMTPUTF8", PARAMETER_OK, 1000, MAIL_BODY_8BITMIME, true},
    {"MAIL FROM:<> BODY=7BIT", PARAMETER_OK, 0, MAIL_BODY_7BIT, false},
    {"MAIL FROM:<> RET=HDRS ENVID=x", PARAMETER_OK, 0, MAIL_BODY_NONE, false},
    {"MAIL FROM:<> SIZE=9223372036854775808", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL FROM:<> SIZE=-1", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL FROM:<> SIZE", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL FROM:<> BODY=9BIT", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL FROM:<> BODY=7BIT BODY=7BIT", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL FROM:<> SMTPUTF8=1", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL FROM:<> RET=ALL", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL FROM:<> XYZ=1", PARAMETER_UNKNOWN, 0, 0, false},
    {"MAIL FROM:<>SIZE=1", PARAMETER_PATH_SYNTAX, 0, 0, false},
    {"MAIL FROM:a@b.example", PARAMETER_PATH_SYNTAX, 0, 0, false},
    {"MAIL <a@b.example>", PARAMETER_PREFIX, 0, 0, false},
    {"MAIL TO:<a@b.example>", PARAMETER_PREFIX, 0, 0, false},
};

static void test_mail(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(mails); i++) {
        struct command command;
        struct mail_parameters parameters;
        struct path path;
        g_test_message("%s", mails[i].line);
        command_parse(&command, mails[i].line, strlen(mails[i].line));
        g_assert_cmpint(command_parse_mail(&command, &path, &parameters), ==, mails[i].result);
        if (mails[i].result != PARAMETER_OK)
            continue;
        g_assert_cmpuint(parameters.size, ==, mails[i].size);
        g_assert_cmpint(parameters.body, ==, mails[i].body);
        g_assert_cmpint(parameters.smtputf8, ==, mails[i].smtputf8);
    }
}

static void test_rcpt(void)
{
    static const char line[] = "RCPT TO:<a@b.example> NOTIFY=NEVER ORCPT=rfc822;a@b.example";
    struct command command;
    struct rcpt_parameters parameters;
    struct path path;
    command_parse(&command, line, strlen(line));
    g_assert_cmpint(command_parse_rcpt(&command, &path, &parameters), ==, PARAMETER_OK);
    g_assert_cmpuint(parameters.notify_len, ==, 5);
    g_assert_cmpuint(parameters.orcpt_len, ==, strlen("rfc822;a@b.example"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/command/verbs", test_verbs);
    g_test_add_func("/command/garbage", test_garbage);
    g_test_add_func("/command/mail", test_mail);
    g_test_add_func("/command/rcpt", test_rcpt);
    return g_test_run();
}
