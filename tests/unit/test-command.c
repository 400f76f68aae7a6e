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
    {"HTTP x", COMMAND_UNKNOWN, "x"},                {" \t MAIL FROM:<> \r\r", COMMAND_MAIL, "FROM:<>"},
    {"QUIT\r", COMMAND_QUIT, ""},                   {"EHLO x\x01y z\r", COMMAND_EHLO, "x\x01y z"},
    {"HELO M\xc3\x9cLLER", COMMAND_HELO, "M\xc3\x9cLLER"}, {"\r", COMMAND_UNKNOWN, ""},
};

static void test_verbs(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(verbs); i++) {
        struct command command;
        g_test_message("%s", verbs[i].line);
        g_assert_true(command_parse(&command, verbs[i].line, strlen(verbs[i].line)));
        g_assert_cmpint(command.verb, ==, verbs[i].verb);
        g_assert_cmpuint(command.argument_len, ==, strlen(verbs[i].argument));
        g_assert_cmpint(memcmp(command.argument, verbs[i].argument, command.argument_len), ==, 0);
    }
}

static void test_garbage(void)
{
    struct command command;
    g_assert_false(command_parse(&command, "NOOP\0x", 6));
    g_assert_false(command_parse(&command, "NOOP \x01", 6));
    g_assert_false(command_parse(&command, "NOOP \rx", 7));
    g_assert_false(command_parse(&command, "NOOP \xff", 6));
    g_assert_false(command_parse(&command, "EHLO \0x", 7));
    g_assert_false(command_parse(&command, "EHLO \xff", 6));
    g_assert_false(command_parse(&command, "MAIL FROM:<a@b>\rRCPT TO:<c@d>", 30));
    g_assert_true(command_parse(&command, "NOOP \xc3\xa4", 7));
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
    {"MAIL FROM:<> SIZE=9223372036854775808", PARAMETER_OK, INT64_MAX, 0, false},
    {"MAIL FROM:<> SIZE=99999999999999999999999", PARAMETER_OK, INT64_MAX, 0, false},
    {"MAIL FROM:<> SIZE=1 SIZE=2", PARAMETER_OK, 2, 0, false},
    {"MAIL FROM:<> SMTPUTF8 SMTPUTF8", PARAMETER_OK, 0, 0, true},
    {"MAIL FROM:<> AUTH=<>", PARAMETER_OK, 0, 0, false},
    {"MAIL FROM:<> AUTH=a+40b.example", PARAMETER_OK, 0, 0, false},
    {"MAIL FROM:<> SIZE=-1", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL FROM:<> SIZE", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL FROM:<> BODY=9BIT", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL FROM:<> BODY=8BITMIME BODY=7BIT", PARAMETER_OK, 0, MAIL_BODY_7BIT, false},
    {"MAIL FROM:<> RET=HDRS RET=FULL", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL FROM:<> ENVID=a ENVID=b", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL FROM:<> SMTPUTF8=1", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL FROM:<> RET=ALL", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL FROM:<> XYZ=1", PARAMETER_UNKNOWN, 0, 0, false},
    {"MAIL FROM:<>SIZE=1", PARAMETER_BAD_PATH, 0, 0, false},
    {"MAIL FROM:a@b.example", PARAMETER_OK, 0, 0, false},
    {"MAIL FROM: a@b.example SIZE=5", PARAMETER_OK, 5, 0, false},
    {"MAIL FROM:Joe <a@b.example>", PARAMETER_UNKNOWN, 0, 0, false},
    {"MAIL FROM :<a@b.example>", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL FROM:", PARAMETER_BAD_PATH, 0, 0, false},
    {"MAIL <a@b.example>", PARAMETER_BAD_VALUE, 0, 0, false},
    {"MAIL TO:<a@b.example>", PARAMETER_BAD_VALUE, 0, 0, false},
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

/* A parameter as received, and as it is sent on; NULL: refused. */
static const struct {
    const char *said, *sent;
} envids[] = {
    {"abc", "abc"},       {"QQ==", "QQ+3D+3D"}, {"a+2Bb", "a+2Bb"},          {"\xc3\xa4", "+C3+A4"},
    {"a+", NULL},         {"a+zz", NULL},       {"a+00", NULL},              {"", NULL},
};

static const struct {
    const char *said, *notify, *orcpt;
} rcpts[] = {
    {"NOTIFY=NEVER ORCPT=rfc822;a@b.example", "NEVER", "rfc822;a@b.example"},
    {"notify=delay,failure", "FAILURE,DELAY", ""},
    {"NOTIFY=SUCCESS,SUCCESS,", "SUCCESS", ""},
    {"NOTIFY=,SUCCESS", "SUCCESS", ""},
    {"NOTIFY=NEVER,NEVER", "NEVER", ""},
    {"NOTIFY=NEVER,SUCCESS", NULL, NULL},
    {"NOTIFY=NEVER,DELAY", NULL, NULL},
    {"NOTIFY=FAIL", NULL, NULL},
    {"notify=never", "NEVER", ""},
    {"NOTIFY=delay,Success,FAILURE", "SUCCESS,FAILURE,DELAY", ""},
    {"NOTIFY=", NULL, NULL},
    {"NOTIFY=,", NULL, NULL},
    {"NOTIFY", NULL, NULL},
    {"NOTIFY=SUCCESS NOTIFY=FAILURE", NULL, NULL},
    {"ORCPT=rfc822;a=b@c", "", "rfc822;a+3Db@c"},
    {"ORCPT=rfc822;\xc3\xa4@c", "", "rfc822;+C3+A4@c"},
    {"ORCPT=utf-8;\xc3\xa4@c", "", "utf-8;\\x{E4}@c"},
    {"ORCPT=UTF-8;\\x{E4}+@c", "", "UTF-8;\\x{E4}\\x{2B}@c"},
    {"ORCPT=utf-8;\xf0\x9f\x98\x80\\", "", "utf-8;\\x{1F600}\\x{5C}"},
    {"ORCPT=x_y;", "", "x_y;"},
    {"ORCPT=rfc822;a+b@c", NULL, NULL},
    {"ORCPT=;a", NULL, NULL},
    {"ORCPT=a@b", NULL, NULL},
    {"ORCPT", NULL, NULL},
    {"ORCPT=rfc822;a ORCPT=rfc822;b", NULL, NULL},
};

static enum parameter_result parse_mail(const char *parameters, struct mail_parameters *out)
{
    g_autofree char *line = g_strconcat("MAIL FROM:<> ", parameters, NULL);
    struct command command;
    struct path path;
    command_parse(&command, line, strlen(line));
    return command_parse_mail(&command, &path, out);
}

static enum parameter_result parse_rcpt(const char *parameters, struct rcpt_parameters *out)
{
    g_autofree char *line = g_strconcat("RCPT TO:<a@b> ", parameters, NULL);
    struct command command;
    struct path path;
    command_parse(&command, line, strlen(line));
    return command_parse_rcpt(&command, &path, out);
}

static void test_dsn_parameters(void)
{
    struct mail_parameters mail;
    struct rcpt_parameters rcpt;
    char notify[NOTIFY_MAX + 1];

    for (size_t i = 0; i < G_N_ELEMENTS(envids); i++) {
        g_autofree char *said = g_strconcat("ENVID=", envids[i].said, NULL);
        g_test_message("%s", said);
        g_assert_cmpint(parse_mail(said, &mail) == PARAMETER_OK, ==, envids[i].sent != NULL);
        if (envids[i].sent != NULL)
            g_assert_cmpstr(mail.envid, ==, envids[i].sent);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(rcpts); i++) {
        g_test_message("%s", rcpts[i].said);
        g_assert_cmpint(parse_rcpt(rcpts[i].said, &rcpt) == PARAMETER_OK, ==,
                        rcpts[i].notify != NULL);
        if (rcpts[i].notify == NULL)
            continue;
        g_assert_true(rcpt.dsn);
        g_assert_cmpstr(command_format_notify(rcpt.notify, notify), ==, rcpts[i].notify);
        g_assert_cmpstr(rcpt.orcpt, ==, rcpts[i].orcpt);
    }
    g_assert_cmpint(parse_rcpt("", &rcpt), ==, PARAMETER_OK);
    g_assert_false(rcpt.dsn);
}

/* Values longer than the RFC allows are accepted, but not sent on. */
static void test_dsn_lengths(void)
{
    g_autofree char *filler = g_strnfill(600, 'x');
    struct mail_parameters mail;
    struct rcpt_parameters rcpt;

    for (int len = 99; len <= 102; len++) {
        g_autofree char *said = g_strdup_printf("ENVID=%.*s", len, filler);
        g_assert_cmpint(parse_mail(said, &mail), ==, PARAMETER_OK);
        g_assert_true(mail.dsn);
        g_assert_cmpuint(strlen(mail.envid), ==, len <= ENVID_MAX ? len : 0);
    }
    for (int len = 492; len <= 496; len++) {
        g_autofree char *said = g_strdup_printf("ORCPT=rfc822;%.*s", len, filler);
        g_assert_cmpint(parse_rcpt(said, &rcpt), ==, PARAMETER_OK);
        g_assert_cmpuint(strlen(rcpt.orcpt), ==, len + 7 <= ORCPT_MAX ? len + 7 : 0);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/command/verbs", test_verbs);
    g_test_add_func("/command/garbage", test_garbage);
    g_test_add_func("/command/mail", test_mail);
    g_test_add_func("/command/dsn-parameters", test_dsn_parameters);
    g_test_add_func("/command/dsn-lengths", test_dsn_lengths);
    return g_test_run();
}
