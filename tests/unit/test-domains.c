/* tests/unit/test-domains.c - in/domains: which domains are ours
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>

#include "in/domains.h"

static const struct {
    const char *domain;
    bool ours;
} cases[] = {
    {"example.com", true},      {"EXAMPLE.Com", true},        {"sub.example.com", false},
    {"example.org", false},     {"a.example.org", true},      {"a.b.example.org", true},
    {"xexample.com", false},    {"example.com.evil", false},  {"com", false},
    {"", false},                {".example.org", true},       {"xexample.org", false},
};

static void test_contain(void)
{
    char *items[] = {(char *)".example.org", (char *)"zzz.example", (char *)"example.com"};
    struct string_list list = {items, G_N_ELEMENTS(items)};
    struct domains domains;

    g_assert_cmpint(domains_init(&domains, &list), ==, 0);
    g_assert_cmpstr(domains.first, ==, "zzz.example");
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("%s", cases[i].domain);
        g_assert_cmpint(domains_contain(&domains, cases[i].domain), ==, cases[i].ours);
    }
    domains_free(&domains);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domains/contain", test_contain);
    return g_test_run();
}
