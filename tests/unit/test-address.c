/* tests/unit/test-address.c - base/address
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "base/address.h"

static const struct {
    const char *text;
    uint16_t fallback;
    const char *expected;  /* NULL = malformed */
} endpoints[] = {
    {"10.0.0.2:25", 0, "10.0.0.2:25"},      {"10.0.0.2", 25, "10.0.0.2:25"},
    {"[::1]:25", 0, "[::1]:25"},            {"[2001:db8::7]", 25, "[2001:db8::7]:25"},
    {"2001:db8::7", 25, "[2001:db8::7]:25"}, {"*:2525", 0, "[::]:2525"},
    {"[::ffff:10.0.0.2]:25", 0, "10.0.0.2:25"},
    {"10.0.0.2", 0, NULL},                  {"10.0.0.2:", 25, NULL},
    {"10.0.0.2:65536", 25, NULL},           {"10.0.0.2:2x", 25, NULL},
    {"mail.example.com:25", 25, NULL},      {"[10.0.0.2]:25", 25, NULL},
    {"", 25, NULL},                         {"[::1:25", 25, NULL},
};

static void test_endpoints(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(endpoints); i++) {
        struct address address;
        char text[ADDRESS_TEXT_MAX];
        int result = address_parse_endpoint(&address, endpoints[i].text, endpoints[i].fallback);
        g_test_message("%s", endpoints[i].text);
        g_assert_cmpint(result, ==, endpoints[i].expected != NULL ? 0 : -1);
        if (result == 0)
            g_assert_cmpstr(address_format_endpoint(&address, text), ==, endpoints[i].expected);
    }
}

static const struct {
    const char *text;
    bool is_private;
} kinds[] = {
    {"127.0.0.1", true},   {"10.1.2.3", true},     {"172.16.0.1", true},   {"172.32.0.1", false},
    {"192.168.1.1", true}, {"169.254.1.1", true},  {"100.64.0.1", true},   {"100.128.0.1", false},
    {"224.0.0.1", true},   {"0.0.0.0", true},      {"255.255.255.255", true},
    {"198.51.100.7", false}, {"11.0.0.1", false},  {"::1", true},          {"::", true},
    {"fe80::1", true},     {"fd00::1", true},      {"ff02::1", true},      {"2001:db8::1", false},
    {"::ffff:127.0.0.1", true}, {"::ffff:198.51.100.7", false},
};

static void test_private(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        struct address address;
        g_test_message("%s", kinds[i].text);
        g_assert_cmpint(address_parse_ip(&address, kinds[i].text), ==, 0);
        g_assert_cmpint(address_is_private(&address), ==, kinds[i].is_private);
    }
}

/* A dual-stack listener's mapped address for an IPv4 client becomes IPv4. */
static void test_mapped(void)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(1234)};
    struct address address;
    char text[ADDRESS_TEXT_MAX];
    memcpy(&in6.sin6_addr, "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc6\x33\x64\x07", 16);
    address_from_sockaddr(&address, (struct sockaddr *)&in6);
    g_assert_cmpstr(address_format_endpoint(&address, text), ==, "198.51.100.7:1234");
}

static void test_client_network(void)
{
    struct address a, b, c;
    address_parse_ip(&a, "2001:db8:0:1::1");
    address_parse_ip(&b, "2001:db8:0:1:ffff::2");
    address_parse_ip(&c, "2001:db8:0:2::1");
    struct address na = address_client_network(&a), nb = address_client_network(&b),
                   nc = address_client_network(&c);
    g_assert_true(address_same_ip(&na, &nb));
    g_assert_false(address_same_ip(&na, &nc));
}

/* Only one of the two can be listened on, whichever comes first. */
static void test_collisions(void)
{
    static const struct {
        const char *one, *other;
        bool collide;
    } pairs[] = {
        {"192.0.2.1:25", "192.0.2.1:25", true},  {"192.0.2.1:25", "192.0.2.2:25", false},
        {"192.0.2.1:25", "192.0.2.1:26", false}, {"192.0.2.1:0", "192.0.2.1:0", false},
        {"0.0.0.0:25", "192.0.2.1:25", true},    {"0.0.0.0:25", "[2001:db8::1]:25", false},
        {"[::]:25", "192.0.2.1:25", true},       {"[::]:25", "[2001:db8::1]:25", true},
        {"[::]:25", "0.0.0.0:25", true},         {"[2001:db8::1]:25", "192.0.2.1:25", false},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++) {
        struct address one, other;
        g_test_message("%s %s", pairs[i].one, pairs[i].other);
        g_assert_cmpint(address_parse_endpoint(&one, pairs[i].one, 1), ==, 0);
        g_assert_cmpint(address_parse_endpoint(&other, pairs[i].other, 1), ==, 0);
        g_assert_true(address_collides(&one, &other) == pairs[i].collide);
        g_assert_true(address_collides(&other, &one) == pairs[i].collide);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/address/endpoints", test_endpoints);
    g_test_add_func("/address/private", test_private);
    g_test_add_func("/address/mapped", test_mapped);
    g_test_add_func("/address/client network", test_client_network);
    g_test_add_func("/address/collisions", test_collisions);
    return g_test_run();
}
