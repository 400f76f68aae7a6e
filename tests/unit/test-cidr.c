/* tests/unit/test-cidr.c - base/cidr
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>

#include "base/cidr.h"

static void test_bad_networks(void)
{
    static const char *const bad[] = {"", "10.0.0.0/33", "10.0.0.1/8", "x/8", "::/129", "10.0.0.0/",
                                      "10.0.0.0/-1", "2001:db8::1/64", "10.0.0.0/8x"};
    struct cidr_set *set = cidr_set_new();
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct error err = {""};
        g_test_message("%s", bad[i]);
        g_assert_cmpint(cidr_set_add(set, bad[i], &err), ==, -1);
        g_assert_cmpstr(err.text, !=, "");
    }
    g_assert_cmpuint(cidr_set_count(set), ==, 0);
    cidr_set_free(set);
}

static void test_contains(void)
{
    static const struct {
        const char *address;
        bool inside;
    } cases[] = {
        {"10.0.0.0", true},   {"10.255.255.255", true}, {"11.0.0.0", false},
        {"192.0.2.1", true},  {"192.0.2.2", false},     {"203.0.113.127", true},
        {"203.0.113.128", false}, {"2001:db8:1::5", true}, {"2001:db9::", false},
        {"::ffff:10.1.1.1", true}, {"::1", false},
    };
    struct cidr_set *set = cidr_set_new();
    g_assert_cmpint(cidr_set_add(set, "10.0.0.0/8", NULL), ==, 0);
    g_assert_cmpint(cidr_set_add(set, "192.0.2.1", NULL), ==, 0);
    g_assert_cmpint(cidr_set_add(set, "203.0.113.0/25", NULL), ==, 0);
    g_assert_cmpint(cidr_set_add(set, "2001:db8::/32", NULL), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct address address;
        g_test_message("%s", cases[i].address);
        address_parse_ip(&address, cases[i].address);
        g_assert_cmpint(cidr_set_contains(set, &address), ==, cases[i].inside);
        g_assert_false(cidr_set_contains(NULL, &address));
    }
    cidr_set_free(set);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cidr/bad networks", test_bad_networks);
    g_test_add_func("/cidr/contains", test_contains);
    return g_test_run();
}
