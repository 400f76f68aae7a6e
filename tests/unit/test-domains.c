/* tests/unit/test-domains.c - config/domains
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>

#include "config/domains.h"

static const struct {
    const char *domain;
    int backend; /* -1: not ours */
} cases[] = {
    {"example.com", 0},     {"EXAMPLE.Com", 0},       {"sub.example.com", -1},
    {"example.org", -1},    {"a.example.org", 0},     {"a.b.example.org", 1},
    {"b.example.org", 0},   {"xb.example.org", 0},    {"xexample.com", -1},
    {"moved.example", 1},   {"example.com.evil", -1}, {"com", -1},
    {"", -1},               {".example.org", 0},      {"xexample.org", -1},
    {"xn--bcher-kva.example", 1},     {"XN--BCHER-KVA.example", 1}, {"b\xc3\xbc" "cher.example", 1},
    {"B\xc3\x9c" "CHER.example", 1}, {"bu\xcc\x88" "cher.example", 1}, {"bucher.example", -1},
    {"a.xn--fsq.example", 0},         {"a.\xe4\xbe\x8b.example", 0}, {"\xe4\xbe\x8b.example", -1},
};

static void test_find(void)
{
    char *items[] = {(char *)".example.org", (char *)"zzz.example", (char *)"example.com",
                     (char *)"moved.example", (char *)".xn--fsq.example"};
    char *others[] = {(char *)"moved.example", (char *)".b.example.org",
                      (char *)"xn--bcher-kva.example"};
    struct string_list list = {items, G_N_ELEMENTS(items)}, more = {others, G_N_ELEMENTS(others)};
    struct domains domains = {0};
    unsigned backend;

    g_assert_false(domains_find(&domains, "example.com", &backend));
    g_assert_cmpint(domains_add(&domains, &list, 0), ==, 0);
    g_assert_cmpint(domains_add(&domains, &more, 1), ==, 0);
    g_assert_cmpstr(domains.first, ==, "zzz.example");
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("%s", cases[i].domain);
        bool found = domains_find(&domains, cases[i].domain, &backend);
        g_assert_cmpint(found ? (int)backend : -1, ==, cases[i].backend);
    }
    domains_free(&domains);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domains/find", test_find);
    return g_test_run();
}
