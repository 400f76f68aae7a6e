/* tests/unit/test-reply.c - smtp/reply
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "base/utf8.h"
#include "smtp/reply.h"
#include "heard.h"

static const struct {
    const char *name, *lines;  /* separated by '\n' */
    int code;                  /* 0 = garbage */
    const char *enhanced, *text;
} replies[] = {
    {"plain", "250 2.1.0 Ok", 250, "2.1.0", "Ok\n"},
    {"no text", "250", 250, "", "\n"},
    {"no enhanced", "250 Ok", 250, "", "Ok\n"},
    {"several", "550-5.1.1 one\n550 5.1.1 two", 550, "5.1.1", "one\ntwo\n"},
    {"differing enhanced stays text", "550-5.1.1 one\n550 5.7.1 two", 550, "",
     "5.1.1 one\n5.7.1 two\n"},
    {"class must fit", "550 4.1.1 x", 550, "", "4.1.1 x\n"},
    {"not an enhanced code", "220 1.2.3.4 ready", 220, "", "1.2.3.4 ready\n"},
    {"enhanced alone", "250 2.0.0", 250, "2.0.0", "\n"},
    {"controls cleaned", "550 a\x1b\x01\xff", 550, "", "a???\n"},
    {"codes differ: the last line says it", "550-5.1.1 a\n554 5.1.1 b", 554, "5.1.1",
     "a 5.1.1 b\n"},
    {"codes differ, and so do their classes", "250-2.1.5 a\n550-5.1.1 b\n550 c", 550, "",
     "2.1.5 a 5.1.1 b\nc\n"},
    {"no reply", "hello", 0, "", ""},
    {"code of no class", "150 x", 500, "5.5.0", "Protocol error, the reply was: 150 x\n"},
    {"code of no class, several lines", "600-a\n600 b", 500, "5.5.0", "Protocol error, the reply was: 600 a\n"},
    {"code 0", "000 x", 500, "5.5.0", "Protocol error, the reply was: 001 x\n"},
    {"another separator", "250\tx", 250, "", "x\n"},
    {"a number", "2500 x", 0, "", ""},
};

static void test_parse(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(replies); i++) {
        struct reply reply = {0};
        enum reply_line_result result = REPLY_LINE_MORE;
        char **lines = g_strsplit(replies[i].lines, "\n", -1);
        g_test_message("%s", replies[i].name);
        for (char **line = lines; *line != NULL && result == REPLY_LINE_MORE; line++)
            result = reply_parse_line(&reply, *line, strlen(*line));
        g_strfreev(lines);
        g_assert_cmpint(result, ==, replies[i].code != 0 ? REPLY_LINE_LAST : REPLY_LINE_GARBAGE);
        if (result != REPLY_LINE_LAST)
            continue;
        reply_finish(&reply);
        g_assert_cmpint(reply.code, ==, replies[i].code);
        g_assert_cmpstr(reply.enhanced, ==, replies[i].enhanced);
        g_assert_cmpstr(reply.text, ==, replies[i].text);
    }
}

static void test_format(void)
{
    struct reply reply;
    char wire[REPLY_WIRE_MAX];
    reply_hear(&reply, "550-5.1.1 one\n550 5.1.1 two");
    g_assert_cmpuint(reply_format(&reply, wire, sizeof wire), ==, strlen(wire));
    g_assert_cmpstr(wire, ==, "550-5.1.1 one\r\n550 5.1.1 two\r\n");
    reply_hear(&reply, "354 go");
    reply_format(&reply, wire, sizeof wire);
    g_assert_cmpstr(wire, ==, "354 go\r\n");
}

/* The longest reply that can be read fits the wire form, with lines of at most 512 octets. */
static void test_bounds(void)
{
    struct reply reply = {0};
    char wire[REPLY_WIRE_MAX], text[128];
    g_autofree char *filler = g_strnfill(3000, 'x');
    g_autofree char *line = g_strdup_printf("550-%s", filler);
    for (int i = 0; i < 200; i++)
        reply_parse_line(&reply, line, strlen(line));
    line[2] = '1';
    reply_parse_line(&reply, line, strlen(line));
    g_assert_cmpint(reply_parse_line(&reply, "551 end", 7), ==, REPLY_LINE_LAST);
    reply_finish(&reply);
    size_t len = reply_format(&reply, wire, sizeof wire);
    g_assert_cmpuint(len, <, sizeof wire);
    for (const char *at = wire, *end; at < wire + len; at = end + 1) {
        end = strchr(at, '\n');
        g_assert_cmpint(end - at + 1, <=, 512);
    }
    g_assert_cmpuint(strlen(reply_summary(&reply, text, sizeof text)), <, sizeof text);
}

/* NTLM and GSSAPI have challenges of more than a line's 512 octets. */
static void test_challenge(void)
{
    g_autofree char *challenge = g_strnfill(1600, 'A');
    g_autofree char *expected = g_strconcat("334 ", challenge, "\r\n", NULL);
    char wire[REPLY_WIRE_MAX];
    struct reply reply;

    reply_hear_code(&reply, 334, challenge);
    reply_format(&reply, wire, sizeof wire);
    g_assert_cmpstr(wire, ==, expected);
}

static void test_own(void)
{
    for (int which = 0; which < REPLY_OWN_COUNT; which++) {
        struct reply reply;
        reply_own(&reply, (enum own_reply)which);
        g_test_message("%d", which);
        g_assert_cmpint(reply.code, >=, 200);
        g_assert_cmpuint(reply.len, >, 1);
        if (reply.enhanced[0] != '\0')
            g_assert_cmpint(reply.enhanced[0], ==, '0' + reply.code / 100);
        else /* RFC 2034 4 requires one on all others */
            g_assert_true(reply.code / 100 == 3 || which == REPLY_HELO);
        reply_own_with(&reply, (enum own_reply)which, "one", "two", "three");
        g_assert_null(strstr(reply.text, "%s"));
    }
}

/* Arguments appear where, and as often as, the text has a place for them. */
static void test_own_arguments(void)
{
    g_autofree char *filler = g_strnfill(2 * REPLY_TEXT_MAX, 'x');
    struct reply reply;

    reply_own_with(&reply, REPLY_CLIENT_LISTED, "192.0.2.1", "zen.example");
    g_assert_cmpstr(reply.text, ==,
                    "Service unavailable; client [192.0.2.1] blocked using zen.example\n");
    reply_own_with(&reply, REPLY_QUEUED, "%s\t\xff", "one too many");
    g_assert_cmpstr(reply.text, ==, "Ok: queued as %s??\n");
    reply_own_with(&reply, REPLY_REMOTE_UNREACHED, "one too few");
    g_assert_cmpstr(reply.text, ==, "one too few ()\n");
    reply_own_with(&reply, REPLY_REMOTE_SAID, filler, "b", "c");
    g_assert_cmpuint(reply.line_count, ==, 1);
    g_assert_true(g_str_has_prefix(reply.text, "host xxx"));
}

/* What stands in a reply is known to be clean by eight octets at once: each octet at each place. */
static void test_printable(void)
{
    static const char clean[] = " ~visible and blank, 0z";

    for (int octet = 0; octet < 256; octet++) {
        for (size_t at = 0; at < sizeof clean - 1; at++) {
            char text[sizeof clean];
            memcpy(text, clean, sizeof clean);
            text[at] = (char)octet;
            for (size_t len = at + 1; len < sizeof clean; len++)
                g_assert_cmpint(utf8_is_printable_ascii(text, len), ==,
                                octet >= 0x20 && octet < 0x7f);
            g_assert_true(utf8_is_printable_ascii(text, at));
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/reply/parse", test_parse);
    g_test_add_func("/reply/format", test_format);
    g_test_add_func("/reply/bounds", test_bounds);
    g_test_add_func("/reply/printable", test_printable);
    g_test_add_func("/reply/challenge", test_challenge);
    g_test_add_func("/reply/own", test_own);
    g_test_add_func("/reply/own/arguments", test_own_arguments);
    return g_test_run();
}
