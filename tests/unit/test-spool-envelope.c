/* tests/unit/test-spool-envelope.c - spool/spool-envelope
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "spool/spool-envelope.h"

#define HEAD                                                                                       \
    "postern-envelope 1\nid 0123456789abcdef\nsize 42\narrived 2026-11-21T07:44:15Z\n"             \
    "expires 2026-11-26T07:44:15Z\n"
#define SENDER "sender <a@example.com>\n"
#define RECIPIENT "recipient <b@example.net>\n state queued\n"

static const char full[] = "postern-envelope 1\n"
                           "id 0123456789abcdef\n"
                           "size 9000000000\n"
                           "arrived 2026-11-21T07:44:15Z\n"
                           "expires 2026-11-26T07:44:15Z\n"
                           "hold yes\n"
                           "report yes\n"
                           "origin S1.2\n"
                           "sender <\"odd\\\\\"one\"@example.com>\n"
                           "body 8BITMIME\n"
                           "smtputf8 yes\n"
                           "requiretls yes\n"
                           "ret HDRS\n"
                           "envid QQ314159\n"
                           "colour blue \\x01\n"
                           "recipient <b@example.net>\n"
                           " state queued\n"
                           " notify SUCCESS,DELAY\n"
                           " orcpt rfc822;Bob+40example.org\n"
                           " attempts 3\n"
                           " last-try 2026-11-21T08:00:00Z\n"
                           " next-try 2026-11-21T08:20:00Z\n"
                           " delay-notified yes\n"
                           " remote mx.example.net [192.0.2.1]\n"
                           " reply 451 4.7.1 line one\\nline two \\\\ \\x07\n"
                           " shape round\n"
                           "recipient <pos\xc3\xa4t@example.net>\n"
                           " state delivered\n"
                           "end\n";

static void test_round_trip(void)
{
    struct spool_envelope envelope;
    struct error err = {""};
    size_t len;

    g_assert_cmpint(spool_envelope_parse(&envelope, full, strlen(full), &err), ==, 0);
    g_assert_cmpuint(envelope.id, ==, 0x0123456789abcdef);
    g_assert_cmpuint(envelope.size, ==, 9000000000);
    g_assert_cmpint(envelope.arrived, ==, 1795247055);
    g_assert_true(envelope.hold && envelope.smtputf8 && envelope.requiretls && envelope.report);
    g_assert_cmpstr(envelope.sender.mailbox, ==, "\"odd\\\"one\"@example.com");
    g_assert_cmpint(envelope.body, ==, MAIL_BODY_8BITMIME);
    g_assert_cmpint(envelope.ret, ==, MAIL_RET_HDRS);
    g_assert_cmpuint(envelope.recipient_count, ==, 2);
    g_assert_cmpuint(spool_envelope_left(&envelope), ==, 1);
    g_assert_cmpint(spool_envelope_next_try(&envelope), ==, 1795249200);
    const struct spool_recipient *first = &envelope.recipients[0];
    g_assert_cmpuint(first->notify, ==, NOTIFY_SUCCESS | NOTIFY_DELAY);
    g_assert_cmpstr(first->reply, ==, "451 4.7.1 line one\nline two \\ \x07");
    g_assert_cmpstr(first->path.domain, ==, "example.net");
    /* Unknown lines are written back unchanged. */
    char *text = spool_envelope_format(&envelope, &len);
    g_assert_cmpstr(text, ==, full);
    free(text);
    spool_envelope_clear(&envelope);
    g_assert_cmpuint(envelope.recipient_count, ==, 0);
}

static void test_bad_envelopes(void)
{
    static const struct {
        const char *name, *text;
    } cases[] = {
        {"empty", ""},
        {"another file", "From: a\n"},
        {"later version", "postern-envelope 2\nend\n"},
        {"version 0", "postern-envelope 0\nend\n"},
        {"version overflow", "postern-envelope 99999999999999999999\nend\n"},
        {"cut off", HEAD SENDER RECIPIENT},
        {"cut off within a line", HEAD SENDER RECIPIENT " att"},
        {"text behind the end", HEAD SENDER RECIPIENT "end\nmore 1\n"},
        {"no recipient", HEAD SENDER "end\n"},
        {"no sender", HEAD RECIPIENT "end\n"},
        {"no id", "postern-envelope 1\nsize 1\narrived 2026-11-21T07:44:15Z\n"
                  "expires 2026-11-26T07:44:15Z\n" SENDER RECIPIENT "end\n"},
        {"id of another length", "postern-envelope 1\nid 12\nend\n"},
        {"id in capitals", "postern-envelope 1\nid 0123456789ABCDEF\nend\n"},
        {"size no number", HEAD "size x\n" SENDER RECIPIENT "end\n"},
        {"size too large", HEAD "size 9223372036854775808\n" SENDER RECIPIENT "end\n"},
        {"time no time", HEAD "arrived yesterday\n" SENDER RECIPIENT "end\n"},
        {"31st of February", HEAD "arrived 2026-02-31T00:00:00Z\n" SENDER RECIPIENT "end\n"},
        {"field of a recipient without one", HEAD SENDER " state queued\nend\n"},
        {"state unknown", HEAD SENDER RECIPIENT " state lost\nend\n"},
        {"notify NEVER and more", HEAD SENDER RECIPIENT " notify NEVER,DELAY\nend\n"},
        {"path without brackets", HEAD SENDER "recipient b@example.net\nend\n"},
        {"path with more behind", HEAD SENDER "recipient <b@example.net> x\nend\n"},
        {"null recipient", HEAD SENDER "recipient <>\nend\n"},
        {"line without value", HEAD SENDER RECIPIENT "hold\nend\n"},
        {"escape that is none", HEAD SENDER RECIPIENT " reply \\q\nend\n"},
        {"escape cut off", HEAD SENDER RECIPIENT " reply \\x0\nend\n"},
        {"escaped NUL", HEAD SENDER RECIPIENT " reply \\x00\nend\n"},
        {"backslash at the end", HEAD SENDER RECIPIENT " reply \\\nend\n"},
        {"CRLF", "postern-envelope 1\r\nend\r\n"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct spool_envelope envelope;
        struct error err = {""};
        g_test_message("%s", cases[i].name);
        g_assert_cmpint(spool_envelope_parse(&envelope, cases[i].text, strlen(cases[i].text), &err),
                        ==, -1);
        g_assert_cmpstr(err.text, !=, "");
        g_assert_cmpuint(envelope.recipient_count, ==, 0);
    }
}

/* Truncated at any octet, or with any octet damaged, it is never read as a shorter envelope. */
static void test_damage(void)
{
    struct spool_envelope envelope;
    char text[sizeof full];
    for (size_t len = 0; len < strlen(full); len++)
        g_assert_cmpint(spool_envelope_parse(&envelope, full, len, NULL), ==, -1);
    for (size_t i = 0; i < strlen(full); i++) {
        memcpy(text, full, sizeof full);
        text[i] = '\0';
        g_assert_cmpint(spool_envelope_parse(&envelope, text, strlen(full), NULL), ==, -1);
        text[i] ^= 0x15;
        if (spool_envelope_parse(&envelope, text, strlen(full), NULL) == 0)
            spool_envelope_clear(&envelope);
    }
}

static void test_minimal(void)
{
    static const char text[] = HEAD "sender <>\n" RECIPIENT "end\n";
    struct spool_envelope envelope;
    size_t len;
    g_assert_cmpint(spool_envelope_parse(&envelope, text, strlen(text), NULL), ==, 0);
    g_assert_true(envelope.sender.is_null);
    g_assert_cmpint(spool_envelope_next_try(&envelope), ==, 0);
    char *again = spool_envelope_format(&envelope, &len);
    g_assert_cmpstr(again, ==, text);
    g_assert_cmpuint(len, ==, strlen(text));
    free(again);
    spool_envelope_clear(&envelope);
}

static void test_many_recipients(void)
{
    struct spool_envelope envelope, again;
    struct path path;
    size_t used, len;

    spool_envelope_init(&envelope);
    envelope.id = 1;
    envelope.arrived = envelope.expires = 1;
    for (unsigned i = 0; i < ENVELOPE_RECIPIENTS_MAX; i++) {
        char text[64];
        g_snprintf(text, sizeof text, "<user%u@d%u.example>", i, i % 7);
        g_assert_true(path_parse_forward(&path, text, strlen(text), &used));
        g_assert_nonnull(spool_envelope_add(&envelope, &path));
    }
    g_assert_null(spool_envelope_add(&envelope, &path));
    char *text = spool_envelope_format(&envelope, &len);
    g_assert_cmpint(spool_envelope_parse(&again, text, len, NULL), ==, 0);
    g_assert_cmpuint(spool_envelope_left(&again), ==, ENVELOPE_RECIPIENTS_MAX);
    g_assert_cmpstr(again.recipients[4321].path.mailbox, ==, "user4321@d2.example");
    g_assert_cmpstr(again.recipients[4321].path.domain, ==, "d2.example");
    free(text);
    spool_envelope_clear(&envelope);
    spool_envelope_clear(&again);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/spool-envelope/round trip", test_round_trip);
    g_test_add_func("/spool-envelope/bad envelopes", test_bad_envelopes);
    g_test_add_func("/spool-envelope/damage", test_damage);
    g_test_add_func("/spool-envelope/minimal", test_minimal);
    g_test_add_func("/spool-envelope/many recipients", test_many_recipients);
    return g_test_run();
}
