/* tests/unit/test-proxy.c - net/proxy
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "net/proxy.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define TEXT(s) s, sizeof s - 1

static const struct {
    const char *name, *bytes;
    size_t len;
    enum proxy_result result;
    bool local;
    const char *source;
} cases[] = {
    {"v1 IPv4", TEXT("PROXY TCP4 198.51.100.7 203.0.113.5 4711 25\r\nEHLO"), PROXY_DONE, false,
     "198.51.100.7:4711"},
    {"v1 IPv6", TEXT("PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n"), PROXY_DONE, false,
     "[2001:db8::7]:4711"},
    {"v1 unknown", TEXT("PROXY UNKNOWN\r\n"), PROXY_DONE, true, NULL},
    {"v1 begun", TEXT("PROXY TCP4 198.51"), PROXY_MORE, false, NULL},
    {"v1 hardly begun", TEXT("PRO"), PROXY_MORE, false, NULL},
    {"v1 bad port", TEXT("PROXY TCP4 198.51.100.7 203.0.113.5 65536 25\r\n"), PROXY_BAD, false, NULL},
    {"v1 mixed families", TEXT("PROXY TCP4 2001:db8::7 203.0.113.5 1 25\r\n"), PROXY_BAD, false, NULL},
    {"v1 too few", TEXT("PROXY TCP4 198.51.100.7\r\n"), PROXY_BAD, false, NULL},
    {"v1 bare LF", TEXT("PROXY UNKNOWN\n"), PROXY_BAD, false, NULL},
    {"v2 IPv4", TEXT(SIGNATURE "\x21\x11\0\x0c\xc6\x33\x64\x07\xcb\0\x71\x05\x12\x67\0\x19"), PROXY_DONE,
     false, "198.51.100.7:4711"},
    {"v2 with TLV", TEXT(SIGNATURE "\x21\x11\0\x10\xc6\x33\x64\x07\xcb\0\x71\x05\x12\x67\0\x19\4\0\1x"),
     PROXY_DONE, false, "198.51.100.7:4711"},
    {"v2 local", TEXT(SIGNATURE "\x20\0\0\0"), PROXY_DONE, true, NULL},
    {"v2 short body", TEXT(SIGNATURE "\x21\x11\0\4\1\2\3\4"), PROXY_BAD, false, NULL},
    {"v2 begun", TEXT(SIGNATURE "\x21\x11\0\x0c\xc6"), PROXY_MORE, false, NULL},
    {"v2 wrong version", TEXT(SIGNATURE "\x31\x11\0\x0c"), PROXY_BAD, false, NULL},
    {"v2 too long", TEXT(SIGNATURE "\x21\x11\xff\xff"), PROXY_BAD, false, NULL},
    {"neither", TEXT("EHLO x\r\n"), PROXY_BAD, false, NULL},
};

static void test_parse(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct proxy_header header;
        char text[ADDRESS_TEXT_MAX];
        size_t used;
        char *copy = g_memdup2(cases[i].bytes, cases[i].len);
        g_test_message("%s", cases[i].name);
        g_assert_cmpint(proxy_parse(copy, cases[i].len, &header, &used), ==, cases[i].result);
        g_free(copy);
        if (cases[i].result != PROXY_DONE)
            continue;
        g_assert_cmpint(header.local, ==, cases[i].local);
        if (!header.local)
            g_assert_cmpstr(address_format_endpoint(&header.source, text), ==, cases[i].source);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/proxy/parse", test_parse);
    return g_test_run();
}
