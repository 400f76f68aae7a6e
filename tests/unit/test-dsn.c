/* tests/unit/test-dsn.c - spool/dsn: who is told what, and the text of the report
 *
 * "test-dsn --write FOLDER" writes the reports of all cases as files for tests/peers/dsn.py, which reads
 * them with an independent parser.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "spool/dsn.h"

#define NOW 1795247055 /* 2026-11-21T07:44:15Z */

struct test_recipient {
    const char *path, *orcpt, *remote, *reply;
    unsigned notify;
};

struct report_case {
    const char *name;
    enum dsn_action action;
    bool expired;
    const char *sender;
    enum mail_ret ret;
    const char *envid;
    bool smtputf8;
    const char *original; /* NULL: none */
    uint64_t full_max;
    struct test_recipient recipients[3];
    bool eight_bit, utf8; /* what it needs */
    const char *has[10];
    const char *lacks[4];
};

#define PLAIN                                                                                      \
    "Received: x\r\nSubject: Hello\r\nMessage-ID: <1@example.com>\r\n\r\nBody\r\n..dot\r\n"
#define LATIN                                                                                      \
    "Subject: Gr\xfc\xdf"                                                                          \
    "e\r\n\r\nBody\r\n"
#define LATIN_BODY                                                                                 \
    "Subject: x\r\n\r\nGr\xfc\xdf"                                                                 \
    "e\r\n"
#define UNICODE                                                                                    \
    "Subject: Gr\xc3\xbc\xc3\x9f"                                                                  \
    "e\r\n\r\nBody \xe2\x82\xac\r\n"

static const struct report_case cases[] = {
    {.name = "failed",
     .action = DSN_FAILED,
     .sender = "<alice@example.com>",
     .original = PLAIN,
     .recipients = {{"<bob@example.net>", "rfc822;Bob+2BB@example.org",
                     "mx.example.net [192.0.2.1]", "550 5.1.1 No such\nuser here", 0},
                    {"<carol@example.net>", NULL, NULL, "556 5.1.10 It takes no mail", 0}},
     .has = {"To: <alice@example.com>\r\n", "Auto-Submitted: auto-replied\r\n",
             "report-type=delivery-status;", "Final-Recipient: rfc822; bob@example.net\r\n",
             "Original-Recipient: rfc822; Bob+B@example.org\r\n",
             "Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.example.net ([192.0.2.1])\r\n"
             "Diagnostic-Code: smtp; 550 5.1.1 No such user here\r\n",
             "Status: 5.1.10\r\nDiagnostic-Code: X-Postern; 556 5.1.10 It takes no mail\r\n",
             "Content-Type: text/rfc822-headers\r\n\r\nReceived: x\r\nSubject: Hello\r\n"
             "Message-ID: <1@example.com>\r\n\r\n--",
             "Arrival-Date: Fri, 20 Nov 2026 07:44:15 +0000\r\n",
             "Reporting-MTA: dns; relay.example.com\r\n"},
     .lacks = {"Body", "8bit", "Will-Retry-Until"}},
    {.name = "failed, RET=FULL",
     .action = DSN_FAILED,
     .sender = "<alice@example.com>",
     .ret = MAIL_RET_FULL,
     .envid = "QQ+2B1",
     .original = PLAIN,
     .full_max = 1000,
     .recipients = {{"<bob@example.net>", NULL, NULL, NULL, 0}},
     .has = {"Content-Type: message/rfc822\r\n\r\nReceived: x\r\n",
             "\r\n\r\nBody\r\n..dot\r\n\r\n--", "Original-Envelope-Id: QQ+1\r\n",
             "Status: 5.0.0\r\n"},
     .lacks = {"rfc822-headers"}},
    {.name = "RET=FULL but too large",
     .action = DSN_FAILED,
     .sender = "<alice@example.com>",
     .ret = MAIL_RET_FULL,
     .original = PLAIN,
     .full_max = 10,
     .recipients = {{"<bob@example.net>", NULL, NULL, NULL, 0}},
     .has = {"rfc822-headers"},
     .lacks = {"Body"}},
    {.name = "delayed, RET=FULL",
     .action = DSN_DELAYED,
     .sender = "<alice@example.com>",
     .ret = MAIL_RET_FULL,
     .original = PLAIN,
     .full_max = 1000,
     .recipients = {{"<bob@example.net>", NULL, "mx.example.net", "451 4.7.1 Greylisted", 0},
                    {"<carol@example.net>", NULL, NULL, NULL, 0}},
     .has = {"Subject: Your message has not been delivered yet\r\n",
             "Action: delayed\r\nStatus: 4.7.1\r\nRemote-MTA: dns; mx.example.net\r\n",
             "Action: delayed\r\nStatus: 4.4.7\r\n",
             "Will-Retry-Until: Thu, 26 Nov 2026 07:44:15 +0000\r\n", "rfc822-headers"},
     .lacks = {"Body"}},
    {.name = "expired",
     .action = DSN_FAILED,
     .expired = true,
     .sender = "<alice@example.com>",
     .original = PLAIN,
     .recipients = {{"<bob@example.net>", NULL, "mx.example.net", "451 4.7.1 Greylisted", 0}},
     .has = {"Action: failed\r\nStatus: 5.4.7\r\n", "smtp; 451 4.7.1 Greylisted\r\n",
             "within the\r\ntime"}},
    {.name = "relayed",
     .action = DSN_RELAYED,
     .sender = "<alice@example.com>",
     .original = PLAIN,
     .recipients = {{"<bob@example.net>", NULL, "mx.example.net", "250 2.0.0 Queued as 1", 2}},
     .has = {"Action: relayed\r\nStatus: 2.0.0\r\n", "Subject: Your message was passed on\r\n"},
     .lacks = {"failed"}},
    {.name = "header in Latin 1",
     .action = DSN_FAILED,
     .sender = "<alice@example.com>",
     .original = LATIN,
     .recipients = {{"<bob@example.net>", NULL, NULL, NULL, 0}},
     .eight_bit = true,
     .has = {"Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 8bit\r\n",
             "Gr\xfc\xdf"
             "e\r\n",
             "\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\nThis"}},
    {.name = "body in Latin 1, header returned",
     .action = DSN_FAILED,
     .sender = "<alice@example.com>",
     .original = LATIN_BODY,
     .recipients = {{"<bob@example.net>", NULL, NULL, NULL, 0}},
     .lacks = {"8bit"}},
    {.name = "body in Latin 1, returned",
     .action = DSN_FAILED,
     .sender = "<alice@example.com>",
     .ret = MAIL_RET_FULL,
     .original = LATIN_BODY,
     .full_max = 1000,
     .recipients = {{"<bob@example.net>", NULL, NULL, NULL, 0}},
     .eight_bit = true,
     .has = {"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n"}},
    {.name = "internationalized recipient",
     .action = DSN_FAILED,
     .sender = "<alice@example.com>",
     .original = PLAIN,
     .recipients = {{"<j\xc3\xbcrgen@example.net>", "utf-8;j\\x{FC}rgen@example.net", "mx",
                     "550 5.1.1 Ung\xc3\xbcltig", 0}},
     .eight_bit = true,
     .has = {"report-type=global-delivery-status;",
             "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n",
             "Final-Recipient: utf-8; j\xc3\xbcrgen@example.net\r\n",
             "Original-Recipient: utf-8; j\\x{FC}rgen@example.net\r\n",
             "Content-Type: message/global-headers\r\n\r\n", "<j=C3=BCrgen@example.net>",
             "550 5.1.1 Ung\xc3\xbcltig\r\n"}},
    {.name = "internationalized message",
     .action = DSN_FAILED,
     .sender = "<r\xc3\xa9mi@example.com>",
     .ret = MAIL_RET_FULL,
     .smtputf8 = true,
     .original = UNICODE,
     .full_max = 1000,
     .recipients = {{"<bob@example.net>", NULL, NULL, NULL, 0}},
     .eight_bit = true,
     .utf8 = true,
     .has = {"To: <r\xc3\xa9mi@example.com>\r\n",
             "Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n"}},
    {.name = "hostile words",
     .action = DSN_FAILED,
     .sender = "<alice@example.com>",
     .envid = "a+0D+0ASubject:+20forged",
     .original = PLAIN,
     .recipients = {{"<.dot@example.net>", NULL, NULL, NULL, 0},
                    {"<bob@example.net>", "rfc822;x+0D+0AAction:+20delivered",
                     "mx (evil) [192.0.2.1]",
                     "550 5.1.1\n--=_boundary\n.\n\x07"
                     "bell \xff",
                     0}},
     .has = {"Original-Envelope-Id: a+0D+0ASubject:+20forged\r\n",
             "Original-Recipient: rfc822; x+0D+0AAction:+20delivered\r\n",
             "Diagnostic-Code: smtp; 550 5.1.1 --=_boundary . ?bell ?\r\n"},
     .lacks = {"\r\nSubject: forged", "\r\nAction: delivered", "Remote-MTA"}},
    {.name = "no original",
     .action = DSN_FAILED,
     .sender = "<alice@example.com>",
     .ret = MAIL_RET_FULL,
     .recipients = {{"<bob@example.net>", NULL, NULL, NULL, 0}},
     .lacks = {"rfc822-headers", "message/rfc822"}},
};

/* RFC 5321 has no local part that begins with a dot, so the parser refuses it: set it by hand. */
static void add_recipient(struct spool_envelope *envelope, const struct test_recipient *from)
{
    struct path path;
    size_t used;
    memset(&path, 0, sizeof path);
    if (!path_parse_forward(&path, from->path, strlen(from->path), &used)) {
        g_snprintf(path.mailbox, sizeof path.mailbox, "%.*s", (int)strlen(from->path) - 2,
                   from->path + 1);
        path.domain = path.mailbox;
    }
    struct spool_recipient *recipient = spool_envelope_add(envelope, &path);
    g_assert_nonnull(recipient);
    recipient->notify = from->notify;
    recipient->last_try = NOW - 60;
    spool_envelope_set_text(&recipient->orcpt, from->orcpt, 500);
    spool_envelope_set_text(&recipient->remote, from->remote, 500);
    spool_envelope_set_text(&recipient->reply, from->reply, ENVELOPE_REPLY_MAX);
}

static void make_envelope(const struct report_case *test, struct spool_envelope *envelope)
{
    size_t used;
    spool_envelope_init(envelope);
    envelope->arrived = NOW - 86400;
    envelope->expires = NOW + 5 * 86400;
    envelope->ret = test->ret;
    envelope->smtputf8 = test->smtputf8;
    spool_envelope_set_text(&envelope->envid, test->envid, 200);
    g_assert_true(path_parse_reverse(&envelope->sender, test->sender, strlen(test->sender), &used));
    for (size_t i = 0; i < G_N_ELEMENTS(test->recipients) && test->recipients[i].path; i++)
        add_recipient(envelope, &test->recipients[i]);
}

static int temporary_file(const char *text, size_t len)
{
    char name[] = "/tmp/postern-dsn-XXXXXX";
    int fd = g_mkstemp(name);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(g_unlink(name), ==, 0);
    g_assert_cmpint(write(fd, text, len), ==, len);
    return fd;
}

static int collect(void *context, const struct iovec *iov, int count, struct error *err)
{
    (void)err;
    for (int i = 0; i < count; i++)
        g_string_append_len(context, iov[i].iov_base, (gssize)iov[i].iov_len);
    return 0;
}

static GString *write_report(const struct report_case *test, struct dsn_needs *needs)
{
    static const bool about[] = {true, true, true};
    struct spool_envelope envelope;
    struct error err = {""};
    GString *text = g_string_new(NULL);
    make_envelope(test, &envelope);
    struct dsn dsn = {
        .action = test->action,
        .hostname = "relay.example.com",
        .envelope = &envelope,
        .about = about,
        .expired = test->expired,
        .now = NOW,
        .unique = 0x19b0f1a2c3d4e5f6,
        .original_fd =
            test->original != NULL ? temporary_file(test->original, strlen(test->original)) : -1,
        .full_max = test->full_max,
    };
    g_assert_cmpint(dsn_write(&dsn, collect, text, needs, &err), ==, 0);
    if (dsn.original_fd >= 0)
        close(dsn.original_fd);
    spool_envelope_clear(&envelope);
    return text;
}

/* Mail data is canonical: only whole lines, none too long, none a lone dot, no stray CR. */
static void assert_canonical(const GString *text)
{
    const char *line = text->str, *end;
    g_assert_cmpuint(strlen(text->str), ==, text->len);
    while ((end = strstr(line, "\r\n")) != NULL) {
        size_t len = (size_t)(end - line);
        g_assert_cmpuint(len, <=, 998);
        g_assert_null(memchr(line, '\n', len));
        g_assert_null(memchr(line, '\r', len));
        g_assert_false(len == 1 && *line == '.');
        line = end + 2;
    }
    g_assert_cmpstr(line, ==, "");
}

static void test_reports(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct dsn_needs needs;
        GString *text = write_report(&cases[i], &needs);
        g_test_message("%s", cases[i].name);
        assert_canonical(text);
        for (size_t k = 0; k < G_N_ELEMENTS(cases[i].has) && cases[i].has[k] != NULL; k++) {
            if (strstr(text->str, cases[i].has[k]) == NULL)
                g_error("\"%s\" is missing in\n%s", cases[i].has[k], text->str);
        }
        for (size_t k = 0; k < G_N_ELEMENTS(cases[i].lacks) && cases[i].lacks[k] != NULL; k++) {
            if (strstr(text->str, cases[i].lacks[k]) != NULL)
                g_error("\"%s\" is in\n%s", cases[i].lacks[k], text->str);
        }
        g_assert_cmpint(needs.eight_bit, ==, cases[i].eight_bit);
        g_assert_cmpint(needs.smtputf8, ==, cases[i].utf8);
        if (!needs.eight_bit)
            g_assert_true(g_str_is_ascii(text->str));
        g_string_free(text, TRUE);
    }
}

static void test_wanted(void)
{
    static const struct {
        const char *name;
        bool null_sender;
        unsigned notify;
        bool failed, delayed, relayed;
    } rows[] = {
        {"nothing said", false, 0, true, true, false},
        {"never", false, NOTIFY_NEVER, false, false, false},
        {"success", false, NOTIFY_SUCCESS, false, false, true},
        {"failure", false, NOTIFY_FAILURE, true, false, false},
        {"delay", false, NOTIFY_DELAY, false, true, false},
        {"all", false, 14, true, true, true},
        {"null sender", true, 0, false, false, false},
        {"null sender, all", true, 14, false, false, false},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct spool_envelope envelope;
        struct spool_recipient recipient = {.notify = rows[i].notify};
        spool_envelope_init(&envelope);
        envelope.sender.is_null = rows[i].null_sender;
        g_test_message("%s", rows[i].name);
        g_assert_cmpint(dsn_wanted(&envelope, &recipient, DSN_FAILED), ==, rows[i].failed);
        g_assert_cmpint(dsn_wanted(&envelope, &recipient, DSN_DELAYED), ==, rows[i].delayed);
        g_assert_cmpint(dsn_wanted(&envelope, &recipient, DSN_RELAYED), ==, rows[i].relayed);
    }
}

/* Header lines of any length are cut only where a continuation may begin. */
static void test_long_lines(void)
{
    static const size_t lengths[] = {980, 989, 990, 991, 998, 999, 1000, 5000, 40000, 300000};
    for (size_t i = 0; i < G_N_ELEMENTS(lengths); i++) {
        GString *original = g_string_new("Subject: ");
        struct report_case test = {.name = "long",
                                   .sender = "<alice@example.com>",
                                   .ret = MAIL_RET_FULL,
                                   .full_max = UINT64_MAX,
                                   .recipients = {{"<bob@example.net>", NULL, NULL, NULL, 0}}};
        struct dsn_needs needs;
        while (original->len < lengths[i])
            g_string_append(original, "\xe2\x82\xac");
        g_string_append(original, "\r\nTo: x\r\n\r\nBody\r\n");
        test.original = original->str;
        GString *text = write_report(&test, &needs);
        assert_canonical(text);
        g_assert_true(g_utf8_validate(text->str, -1, NULL));
        bool kept = strstr(text->str, "To: x\r\n") != NULL;
        g_assert_cmpint(kept, ==, lengths[i] < 262144);
        g_string_free(text, TRUE);
        g_string_free(original, TRUE);
    }
}

/* Addresses longer than a line do not break the header of the notice. */
static void test_long_addresses(void)
{
    g_autofree char *local = g_strnfill(1900, 'l');
    g_autofree char *sender = g_strdup_printf("<%s@example.com>", local);
    g_autofree char *recipient = g_strdup_printf("<%s@example.net>", local);
    struct report_case test = {.name = "long addresses",
                               .sender = sender,
                               .recipients = {{recipient, NULL, "550 5.1.1 nobody", NULL, 0}}};
    struct dsn_needs needs;
    GString *text = write_report(&test, &needs);
    assert_canonical(text);
    const char *header_end = strstr(text->str, "\r\n\r\n");
    const char *subject = strstr(text->str, "\r\nSubject: ");
    g_assert_true(subject != NULL && subject < header_end);
    g_assert_nonnull(strstr(text->str, "@example.net\r\nAction: failed\r\n"));
    g_string_free(text, TRUE);
}

static int refuse(void *context, const struct iovec *iov, int count, struct error *err)
{
    unsigned *left = context;
    (void)iov;
    (void)count;
    if (*left == 0) {
        error_set(err, "no room");
        return -1;
    }
    --*left;
    return 0;
}

static void test_failing_sink(void)
{
    const bool about[] = {true};
    bool done = false;
    for (unsigned calls = 0; !done; calls++) {
        struct spool_envelope envelope;
        struct error err = {""};
        struct dsn_needs needs;
        unsigned left = calls;
        make_envelope(&cases[1], &envelope);
        struct dsn dsn = {.hostname = "relay.example.com",
                          .envelope = &envelope,
                          .about = about,
                          .full_max = 1000,
                          .original_fd = temporary_file(PLAIN, strlen(PLAIN))};
        done = dsn_write(&dsn, refuse, &left, &needs, &err) == 0;
        if (!done)
            g_assert_cmpstr(err.text, ==, "no room");
        g_assert_true(!done || calls >= 3);
        g_assert_cmpuint(calls, <, 20);
        close(dsn.original_fd);
        spool_envelope_clear(&envelope);
    }
}

static void test_many_recipients(void)
{
    struct spool_envelope envelope;
    struct dsn_needs needs;
    GString *text = g_string_new(NULL);
    make_envelope(&cases[0], &envelope);
    while (envelope.recipient_count < ENVELOPE_RECIPIENTS_MAX)
        add_recipient(&envelope, &cases[0].recipients[0]);
    bool *about = g_new(bool, ENVELOPE_RECIPIENTS_MAX);
    memset(about, true, ENVELOPE_RECIPIENTS_MAX * sizeof *about);
    struct dsn dsn = {
        .hostname = "relay.example.com", .envelope = &envelope, .about = about, .original_fd = -1};
    g_assert_cmpint(dsn_write(&dsn, collect, text, &needs, NULL), ==, 0);
    assert_canonical(text);
    g_assert_nonnull(strstr(text->str, "... and 4900 more.\r\n"));
    g_free(about);
    g_string_free(text, TRUE);
    spool_envelope_clear(&envelope);
}

/* Writes the reports as a receiver sees them: dots unstuffed. */
static int write_files(const char *folder)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct dsn_needs needs;
        GString *text = write_report(&cases[i], &needs);
        char *path = g_strdup_printf("%s/%s.eml", folder, cases[i].name);
        for (char *dot = text->str; (dot = strstr(dot, "\r\n.")) != NULL; dot += 2)
            g_string_erase(text, dot + 2 - text->str, 1);
        if (!g_file_set_contents(path, text->str, (gssize)text->len, NULL))
            return 1;
        g_free(path);
        g_string_free(text, TRUE);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--write") == 0)
        return write_files(argv[2]);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dsn/reports", test_reports);
    g_test_add_func("/dsn/wanted", test_wanted);
    g_test_add_func("/dsn/long lines", test_long_lines);
    g_test_add_func("/dsn/long addresses", test_long_addresses);
    g_test_add_func("/dsn/failing sink", test_failing_sink);
    g_test_add_func("/dsn/many recipients", test_many_recipients);
    return g_test_run();
}
