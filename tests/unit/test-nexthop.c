/* tests/unit/test-nexthop.c - what an EHLO reply announces
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "smtp/nexthop.h"
#include "heard.h"

#define NO_AUTH 0
#define AUTH (EXTENSION_AUTH)
#define PLAIN (EXTENSION_AUTH_PLAIN)
#define LOGIN (EXTENSION_AUTH_LOGIN)

/* RFC 4954 3 has one line; servers send several, and an old form for clients from before 1999. */
static const struct {
    const char *lines;
    unsigned extensions;
    const char *mechanisms;
} cases[] = {
    {"PIPELINING", NO_AUTH, ""},
    {"AUTH", NO_AUTH, ""},
    {"AUTHX PLAIN", NO_AUTH, ""},
    {"AUTH PLAIN LOGIN", AUTH | PLAIN | LOGIN, "PLAIN LOGIN"},
    {"auth plain", AUTH | PLAIN, "plain"},
    {"AUTH  PLAIN   LOGIN ", AUTH | PLAIN | LOGIN, "PLAIN LOGIN"},
    {"AUTH=LOGIN", AUTH | LOGIN, "LOGIN"},
    {"AUTH=LOGIN PLAIN", AUTH | LOGIN | PLAIN, "LOGIN PLAIN"},
    {"AUTH= LOGIN", AUTH | LOGIN, "LOGIN"},
    {"AUTH PLAIN LOGIN\nAUTH=PLAIN LOGIN", AUTH | PLAIN | LOGIN, "PLAIN LOGIN"},
    {"AUTH PLAIN LOGIN\nAUTH XOAUTH2 GSSAPI", AUTH | PLAIN | LOGIN, "PLAIN LOGIN XOAUTH2 GSSAPI"},
    {"AUTH GSSAPI\nSIZE 1\nAUTH LOGIN", AUTH | LOGIN, "GSSAPI LOGIN"},
    {"AUTH EXTERNAL SCRAM-SHA-1-PLUS", NO_AUTH, ""},
    {"AUTH PLAINER LOG", AUTH, "PLAINER LOG"},
};

static void parse(const char *lines, struct nexthop_capabilities *out)
{
    struct reply reply;
    g_auto(GStrv) keywords = g_strsplit(lines, "\n", -1);
    g_autofree char *joined = g_strjoinv("\n250 ", keywords);
    g_autofree char *wire = g_strconcat("250 mx.example\n250 ", joined, NULL);

    reply_hear(&reply, wire);
    nexthop_parse_capabilities(&reply, out);
}

static void test_mechanisms(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct nexthop_capabilities has;
        parse(cases[i].lines, &has);
        g_test_message("%s", cases[i].lines);
        g_assert_cmphex(has.extensions & (AUTH | PLAIN | LOGIN), ==, cases[i].extensions);
        g_assert_cmpstr(has.mechanisms, ==, cases[i].mechanisms);
    }
}

/* A list too long to pass on to a client: our own login still finds a mechanism that it knows. */
static void test_long_list(void)
{
    g_autoptr(GString) lines = g_string_new("AUTH");
    struct nexthop_capabilities has;

    for (int i = 0; i < 20; i++)
        g_string_append_printf(lines, " MECHANISM-NUMBER-%d", i);
    g_string_append(lines, " LOGIN");
    parse(lines->str, &has);
    g_assert_true(has.extensions & EXTENSION_AUTH_LOGIN);
    g_assert_cmpuint(strlen(has.mechanisms), <=, MECHANISMS_MAX);
}

/* RFC 1870 3: the number may be missing. The line behind begins with a digit often enough (8BITMIME). */
static const struct {
    const char *lines;
    uint64_t size_limit;
    unsigned recipients;
} limits[] = {
    {"PIPELINING", 0, 0},
    {"SIZE 1000", 1000, 0},
    {"SIZE  1000 more", 1000, 0},
    {"SIZE 0", 0, 0},
    {"SIZE", 0, 0},
    {"SIZE\n8BITMIME", 0, 0},
    {"SIZE \n8BITMIME", 0, 0},
    {"SIZE -1", 0, 0},
    {"SIZE 99999999999999999999999", UINT64_MAX, 0},
    {"LIMITS RCPTMAX=7 MAILMAX=10", 0, 7},
    {"LIMITS MAILMAX=10 RCPTMAX=\n8BITMIME", 0, 0},
    {"LIMITS RCPTMAX=4294967297", 0, UINT_MAX},
    {"LIMITS RCPTMAX=-1", 0, 0},
};

static void test_limits(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
        struct nexthop_capabilities has;
        parse(limits[i].lines, &has);
        g_test_message("%s", limits[i].lines);
        g_assert_cmpuint(has.size_limit, ==, limits[i].size_limit);
        g_assert_cmpuint(has.recipients, ==, limits[i].recipients);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nexthop/mechanisms", test_mechanisms);
    g_test_add_func("/nexthop/long list", test_long_list);
    g_test_add_func("/nexthop/limits", test_limits);
    return g_test_run();
}
