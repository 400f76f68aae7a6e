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
    {"v1 bad port", TEXT("PROXY TCP4 198.51.100.7 203.0.113.5 65536 25\r\n"), PROXY_BAD, false,
     NULL},
    {"v1 mixed families", TEXT("PROXY TCP4 2001:db8::7 203.0.113.5 1 25\r\n"), PROXY_BAD, false,
     NULL},
    {"v1 too few", TEXT("PROXY TCP4 198.51.100.7\r\n"), PROXY_BAD, false, NULL},
    {"v1 bare LF", TEXT("PROXY UNKNOWN\n"), PROXY_BAD, false, NULL},
    {"v1 unknown, with what must be ignored", TEXT("PROXY UNKNOWN a b c d e f\r\n"), PROXY_DONE,
     true, NULL},
    {"v1 unknown, longest",
     TEXT("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
          "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
     PROXY_DONE, true, NULL},
    {"v1 mapped IPv4", TEXT("PROXY TCP6 ::ffff:198.51.100.7 2001:db8::1 4711 25\r\n"), PROXY_DONE,
     false, "198.51.100.7:4711"},
    {"v1 two blanks", TEXT("PROXY  TCP4 198.51.100.7 203.0.113.5 4711 25\r\n"), PROXY_BAD, false,
     NULL},
    {"v1 blank at the end", TEXT("PROXY TCP4 198.51.100.7 203.0.113.5 4711 25 \r\n"), PROXY_BAD,
     false, NULL},
    {"v1 long port", TEXT("PROXY TCP4 198.51.100.7 203.0.113.5 004711 25\r\n"), PROXY_BAD, false,
     NULL},
    {"v1 NUL", TEXT("PROXY UNKNOWN\0\r\n"), PROXY_BAD, false, NULL},
    {"v1 small letters", TEXT("PROXY tcp4 198.51.100.7 203.0.113.5 4711 25\r\n"), PROXY_BAD, false,
     NULL},
    {"v1 without end",
     TEXT(
         "PROXY UNKNOWN xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
         "xxxxxxxxxxxxxxxxxxxxxxxx"),
     PROXY_BAD, false, NULL},
    {"v2 other family", TEXT(SIGNATURE "\x21\x31\0\0"), PROXY_DONE, true, NULL},
    {"v2 other command", TEXT(SIGNATURE "\x22\x11\0\0"), PROXY_BAD, false, NULL},
    {"v2 IPv4", TEXT(SIGNATURE "\x21\x11\0\x0c\xc6\x33\x64\x07\xcb\0\x71\x05\x12\x67\0\x19"),
     PROXY_DONE, false, "198.51.100.7:4711"},
    {"v2 with TLV",
     TEXT(SIGNATURE "\x21\x11\0\x10\xc6\x33\x64\x07\xcb\0\x71\x05\x12\x67\0\x19\4\0\1x"),
     PROXY_DONE, false, "198.51.100.7:4711"},
    {"v2 local", TEXT(SIGNATURE "\x20\0\0\0"), PROXY_DONE, true, NULL},
    {"v2 short body", TEXT(SIGNATURE "\x21\x11\0\4\1\2\3\4"), PROXY_BAD, false, NULL},
    {"v2 begun", TEXT(SIGNATURE "\x21\x11\0\x0c\xc6"), PROXY_MORE, false, NULL},
    {"v2 wrong version", TEXT(SIGNATURE "\x31\x11\0\x0c"), PROXY_BAD, false, NULL},
    {"v2 as long as can be, begun", TEXT(SIGNATURE "\x21\x11\xff\xff"), PROXY_MORE, false, NULL},
    {"v2 as long as can be, as far as it counts",
     TEXT(SIGNATURE "\x21\x11\xff\xff\xc6\x33\x64\x07\xcb\0\x71\x05\x12\x67\0\x19"), PROXY_DONE,
     false, "198.51.100.7:4711"},
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

/* Every prefix of a header asks for more until the addresses are complete. Input after the header is not
 * used. */
static void test_pieces(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct proxy_header header;
        size_t used = 0, unused;

        if (cases[i].result != PROXY_DONE)
            continue;
        proxy_parse(cases[i].bytes, cases[i].len, &header, &used);
        for (size_t len = 1; len < used && len < cases[i].len; len++) {
            char *copy = g_memdup2(cases[i].bytes, len);
            g_test_message("%s, %zu octets", cases[i].name, len);
            enum proxy_result result = proxy_parse(copy, len, &header, &unused);
            bool addressed = cases[i].bytes[0] == '\r' && len >= 16 + (cases[i].local ? 0 : 12);
            g_assert_true(result == PROXY_MORE || (addressed && result == PROXY_DONE));
            if (result == PROXY_DONE)
                g_assert_cmpuint(unused, ==, used);
            g_free(copy);
        }
        char *longer = g_malloc0(used + 1);
        memcpy(longer, cases[i].bytes, MIN(used, cases[i].len));
        longer[used] = '2';
        g_assert_cmpint(proxy_parse(longer, used + 1, &header, &unused), ==, PROXY_DONE);
        g_assert_cmpuint(unused, ==, used);
        g_free(longer);
    }
}

static const struct {
    const char *name, *source, *destination; /* NULL: local */
    enum proxy_version version;
    const char *bytes;
    size_t len;
} format_cases[] = {
    {"v1 IPv4", "198.51.100.7:4711", "203.0.113.5:25", PROXY_V1,
     TEXT("PROXY TCP4 198.51.100.7 203.0.113.5 4711 25\r\n")},
    {"v1 IPv6", "[2001:db8::7]:65535", "[2001:db8::1]:25", PROXY_V1,
     TEXT("PROXY TCP6 2001:db8::7 2001:db8::1 65535 25\r\n")},
    {"v1 local", NULL, NULL, PROXY_V1, TEXT("PROXY UNKNOWN\r\n")},
    {"v1 mixed, IPv4 client", "198.51.100.7:4711", "[2001:db8::1]:25", PROXY_V1,
     TEXT("PROXY TCP4 198.51.100.7 0.0.0.0 4711 25\r\n")},
    {"v1 mixed, IPv6 client", "[2001:db8::7]:4711", "203.0.113.5:25", PROXY_V1,
     TEXT("PROXY TCP6 2001:db8::7 ::ffff:203.0.113.5 4711 25\r\n")},
    {"v2 IPv4", "198.51.100.7:4711", "203.0.113.5:25", PROXY_V2,
     TEXT(SIGNATURE "\x21\x11\0\x0c\xc6\x33\x64\x07\xcb\0\x71\x05\x12\x67\0\x19")},
    {"v2 IPv6", "[2001:db8::7]:4711", "[2001:db8::1]:25", PROXY_V2,
     TEXT(SIGNATURE "\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7"
                    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x12\x67\0\x19")},
    {"v2 local", NULL, NULL, PROXY_V2, TEXT(SIGNATURE "\x20\0\0\0")},
    {"v2 mixed, IPv6 client", "[2001:db8::7]:4711", "203.0.113.5:25", PROXY_V2,
     TEXT(SIGNATURE "\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7"
                    "\0\0\0\0\0\0\0\0\0\0\xff\xff\xcb\0\x71\x05\x12\x67\0\x19")},
    {"v2 mixed, IPv4 client", "198.51.100.7:4711", "[2001:db8::1]:25", PROXY_V2,
     TEXT(SIGNATURE "\x21\x11\0\x0c\xc6\x33\x64\x07\0\0\0\0\x12\x67\0\x19")},
    {"no source", "x", "203.0.113.5:25", PROXY_V2, TEXT("")},
};

static void test_format(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(format_cases); i++) {
        struct proxy_header header = {.local = format_cases[i].source == NULL}, again;
        char out[PROXY_HEADER_MAX];
        size_t used = 0;

        g_test_message("%s", format_cases[i].name);
        if (!header.local) {
            address_parse_endpoint(&header.source, format_cases[i].source, 0);
            address_parse_endpoint(&header.destination, format_cases[i].destination, 0);
        }
        size_t len = proxy_format(&header, format_cases[i].version, out);
        g_assert_cmpmem(out, len, format_cases[i].bytes, format_cases[i].len);
        if (len == 0)
            continue;
        g_assert_cmpint(proxy_parse(out, len, &again, &used), ==, PROXY_DONE);
        g_assert_cmpuint(used, ==, len);
        g_assert_cmpint(again.local, ==, header.local);
        g_assert_cmpmem(&again.source, sizeof again.source, &header.source, sizeof header.source);
        if (header.local || (header.source.family == AF_INET && header.destination.family == AF_INET6))
            continue;
        g_assert_cmpmem(&again.destination, sizeof again.destination, &header.destination,
                        sizeof header.destination);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/proxy/parse", test_parse);
    g_test_add_func("/proxy/pieces", test_pieces);
    g_test_add_func("/proxy/format", test_format);
    return g_test_run();
}
