/* tests/unit/test-xclient.c - smtp/xclient
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "smtp/xclient.h"

static struct xclient_identity identity(const char *client)
{
    struct xclient_identity id = {0};
    address_parse_ip(&id.client, client);
    id.client.port = 4711;
    address_parse_ip(&id.local, "203.0.113.5");
    id.local.port = 25;
    return id;
}

#define USUAL (XCLIENT_NAME | XCLIENT_ADDR | XCLIENT_PORT)

static void test_format(void)
{
    char line[XCLIENT_LINE_MAX + 1];
    struct xclient_identity id = identity("198.51.100.7");
    xclient_format(&id, USUAL, line);
    g_assert_cmpstr(line, ==, "XCLIENT NAME=[UNAVAILABLE] ADDR=198.51.100.7 PORT=4711\r\n");
    xclient_format(&id, XCLIENT_NAME | XCLIENT_ADDR, line);
    g_assert_cmpstr(line, ==, "XCLIENT NAME=[UNAVAILABLE] ADDR=198.51.100.7\r\n");
    xclient_format(&id, XCLIENT_ADDR | XCLIENT_DESTPORT, line);
    g_assert_cmpstr(line, ==, "XCLIENT ADDR=198.51.100.7 DESTPORT=25\r\n");
    g_assert_cmpuint(xclient_format(&id, XCLIENT_NAME | XCLIENT_PORT, line), ==, 0);
    xclient_format(&id, ~0u, line);
    g_assert_cmpstr(line, ==, "XCLIENT NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE] "
                              "ADDR=198.51.100.7 PORT=4711 DESTADDR=203.0.113.5 DESTPORT=25\r\n");
    id = identity("2001:db8::7");
    id.name = "mx.example.com";
    xclient_format(&id, USUAL | XCLIENT_REVERSE_NAME, line);
    g_assert_cmpstr(line, ==, "XCLIENT NAME=mx.example.com ADDR=IPV6:2001:db8::7 PORT=4711\r\n");
    id.name = NULL;
    id.name_temporary = true;
    xclient_format(&id, USUAL | XCLIENT_REVERSE_NAME, line);
    g_assert_true(g_str_has_prefix(line, "XCLIENT NAME=[TEMPUNAVAIL] REVERSE_NAME=[TEMPUNAVAIL] "));
    id = identity("::ffff:198.51.100.7");
    xclient_format(&id, USUAL, line);
    g_assert_true(strstr(line, " ADDR=198.51.100.7 ") != NULL);
    g_autofree char *name = g_strnfill(255, '+');
    id.name = name;
    g_assert_cmpuint(xclient_format(&id, USUAL, line), ==, 0);
}

static void test_next(void)
{
    static const char text[] = "name=mx.example.com ADDR=IPV6:::1  HELO=a+2Bb";
    const char *at = text, *end = text + strlen(text);
    struct xclient_attribute attribute;
    g_assert_cmpint(xclient_next(&at, end, &attribute), ==, 1);
    g_assert_cmpuint(attribute.name, ==, XCLIENT_NAME);
    g_assert_cmpint(xclient_next(&at, end, &attribute), ==, 1);
    g_assert_cmpstr(attribute.value, ==, "IPV6:::1");
    g_assert_cmpint(xclient_next(&at, end, &attribute), ==, 1);
    g_assert_cmpstr(attribute.value, ==, "a+b");
    g_assert_cmpint(xclient_next(&at, end, &attribute), ==, 0);
    static const char *const bad[] = {"ADDR", "ADDR=", "FOO=x", "ADDR=+4", "ADDR=a+zz", "=x", "HELO=+00"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        at = bad[i];
        g_test_message("%s", bad[i]);
        g_assert_cmpint(xclient_next(&at, at + strlen(at), &attribute), ==, -1);
    }
}

static void test_offer(void)
{
    static const char offer[] = " NAME addr FOO REVERSE_NAME";
    g_assert_cmpuint(xclient_parse_offer(offer, strlen(offer)), ==,
                     XCLIENT_NAME | XCLIENT_ADDR | XCLIENT_REVERSE_NAME);
}

static void test_xtext(void)
{
    char out[64], back[64], all[255];
    struct buffer text;
    buffer_init(&text, out, sizeof out);
    xtext_encode(&text, "a b+=c", 6);
    g_assert_cmpstr(out, ==, "a+20b+2B+3Dc");
    g_assert_cmpint(xtext_decode(out, strlen(out), back, sizeof back), ==, 6);
    g_assert_cmpstr(back, ==, "a b+=c");
    for (int i = 0; i < 255; i++)
        all[i] = (char)(i + 1);
    char long_out[1024], long_back[256];
    buffer_init(&text, long_out, sizeof long_out);
    xtext_encode(&text, all, 255);
    g_assert_false(text.overflow);
    g_assert_cmpint(xtext_decode(long_out, text.len, long_back, sizeof long_back), ==, 255);
    g_assert_cmpint(memcmp(all, long_back, 255), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xclient/format", test_format);
    g_test_add_func("/xclient/next", test_next);
    g_test_add_func("/xclient/offer", test_offer);
    g_test_add_func("/xclient/xtext", test_xtext);
    return g_test_run();
}
