/* tests/unit/test-reverse.c - dns/reverse against a scripted name server
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "clock.h"
#include "dns-server.h"
#include "dns/reverse.h"

#define V4(last) last ".2.0.192.in-addr.arpa"
#define V6(last) last ".0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"

static const struct dns_row rows[] = {
    {V4("1"), DNS_TYPE_PTR, "good.example"},
    {V6("1"), DNS_TYPE_PTR, "good.example"},
    {"good.example", DNS_TYPE_A, "198.51.100.1|192.0.2.1"},
    {"good.example", DNS_TYPE_AAAA, "2001:db8::1"},
    {V4("2"), DNS_TYPE_PTR, "wrong.example"},
    {V6("2"), DNS_TYPE_PTR, "wrong.example"},
    {"wrong.example", DNS_TYPE_A, "198.51.100.2"},
    {"wrong.example", DNS_TYPE_AAAA, "2001:db8::ffff"},
    {V4("3"), DNS_TYPE_PTR, "nowhere.example"},
    {V4("4"), DNS_TYPE_PTR, "good.example"},
    {V4("5"), DNS_TYPE_PTR, "bad host.example"},
    {V4("6"), DNS_TYPE_PTR, "192.0.2.6"},
    {V4("7"), DNS_TYPE_PTR, "!SERVFAIL"},
    {V4("8"), DNS_TYPE_PTR, "!DROP"},
    {V4("9"), DNS_TYPE_PTR, "failing.example"},
    {"failing.example", DNS_TYPE_A, "!SERVFAIL"},
    {V6("9"), DNS_TYPE_PTR, "silent.example"},
    {"silent.example", DNS_TYPE_AAAA, "!DROP"},
    {V4("10"), DNS_TYPE_A, "192.0.2.10"},
    {V4("11"), DNS_TYPE_PTR, "wrong.example|bad host.example|-x|eleven.example"},
    {"eleven.example", DNS_TYPE_A, "192.0.2.11"},
    {V4("12"), DNS_TYPE_PTR, "a.example|b.example|c.example|d.example|e.example|f.example|g.example"},
    {V4("13"), DNS_TYPE_PTR, "wrong.example|failing.example"},
    {V4("14"), DNS_TYPE_CNAME, "14.sub." V4("0-27")},
    {"14.sub." V4("0-27"), DNS_TYPE_PTR, "alias.example"},
    {"alias.example", DNS_TYPE_CNAME, "fourteen.example"},
    {"fourteen.example", DNS_TYPE_A, "192.0.2.14"},
};

static const struct {
    const char *label, *address;
    enum reverse_status status;
    const char *name, *reverse_name;
} cases[] = {
    {"IPv4 confirmed", "192.0.2.1", REVERSE_VERIFIED, "good.example", "good.example"},
    {"mapped IPv4 confirmed", "::ffff:192.0.2.1", REVERSE_VERIFIED, "good.example", "good.example"},
    {"IPv6 confirmed", "2001:db8::1", REVERSE_VERIFIED, "good.example", "good.example"},
    {"IPv4 forward mismatch", "192.0.2.2", REVERSE_UNAVAILABLE, "", "wrong.example"},
    {"IPv6 forward mismatch", "2001:db8::2", REVERSE_UNAVAILABLE, "", "wrong.example"},
    {"forward name does not exist", "192.0.2.3", REVERSE_UNAVAILABLE, "", "nowhere.example"},
    {"another's name", "192.0.2.4", REVERSE_UNAVAILABLE, "", "good.example"},
    {"no PTR: no such name", "192.0.2.200", REVERSE_UNAVAILABLE, "", ""},
    {"no PTR: no such name, IPv6", "2001:db8::8", REVERSE_UNAVAILABLE, "", ""},
    {"no PTR: no data", "192.0.2.10", REVERSE_UNAVAILABLE, "", ""},
    {"PTR not a host name", "192.0.2.5", REVERSE_UNAVAILABLE, "", ""},
    {"PTR an address", "192.0.2.6", REVERSE_UNAVAILABLE, "", ""},
    {"PTR fails", "192.0.2.7", REVERSE_TEMPORARY, "", ""},
    {"forward fails", "192.0.2.9", REVERSE_TEMPORARY, "", "failing.example"},
    {"several PTR, one confirmed", "192.0.2.11", REVERSE_VERIFIED, "eleven.example",
     "eleven.example"},
    {"delegated by CNAME, forward by CNAME", "192.0.2.14", REVERSE_VERIFIED, "alias.example",
     "alias.example"},
};

static struct reverse_lookup *start(struct dns_bed *bed, const char *text)
{
    struct address address;
    g_assert_cmpint(address_parse_ip(&address, text), ==, 0);
    struct reverse_lookup *lookup = reverse_start(bed->resolver, &address);
    g_assert_nonnull(lookup);
    return lookup;
}

static void test_table(void)
{
    struct dns_bed bed;
    struct reverse_names names;
    dns_bed_open(&bed, rows, G_N_ELEMENTS(rows));
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("%s", cases[i].label);
        struct reverse_lookup *lookup = start(&bed, cases[i].address);
        g_assert_true(reverse_wait(lookup, deadline_in_ms(6000), &names));
        g_assert_cmpint(names.status, ==, cases[i].status);
        g_assert_cmpstr(names.name, ==, cases[i].name);
        g_assert_cmpstr(names.reverse_name, ==, cases[i].reverse_name);
        g_assert_true(reverse_peek(lookup, &names));
        g_assert_cmpstr(names.name, ==, cases[i].name);
        reverse_unref(lookup);
    }
    dns_bed_close(&bed);
}

static void test_many_names(void)
{
    struct dns_bed bed;
    struct reverse_names names;
    dns_bed_open(&bed, rows, G_N_ELEMENTS(rows));
    struct reverse_lookup *lookup = start(&bed, "192.0.2.12");
    g_assert_true(reverse_wait(lookup, deadline_in_ms(6000), &names));
    g_assert_cmpint(names.status, ==, REVERSE_UNAVAILABLE);
    /* The PTR question, and one for each name that is checked. */
    g_assert_cmpuint(dns_server_asked(bed.server, NULL, 0), ==, 1 + REVERSE_NAMES_MAX);
    reverse_unref(lookup);
    /* The name server's order decides which PTR is the reverse name, but the status is temporary. */
    lookup = start(&bed, "192.0.2.13");
    g_assert_true(reverse_wait(lookup, deadline_in_ms(6000), &names));
    g_assert_cmpint(names.status, ==, REVERSE_TEMPORARY);
    g_assert_cmpstr(names.reverse_name, !=, "");
    reverse_unref(lookup);
    dns_bed_close(&bed);
}

/* With silent servers, the answer comes by the deadline of the waiter or of the look-up. */
static void test_timeout(void)
{
    struct dns_bed bed;
    struct reverse_names names;
    dns_bed_open(&bed, rows, G_N_ELEMENTS(rows));
    struct reverse_lookup *ptr = start(&bed, "192.0.2.8"), *forward = start(&bed, "2001:db8::9");
    g_assert_false(reverse_peek(ptr, &names));
    g_assert_cmpint(names.status, ==, REVERSE_TEMPORARY);
    g_assert_false(reverse_wait(forward, deadline_in_ms(300), &names));
    g_assert_cmpint(names.status, ==, REVERSE_TEMPORARY);
    g_assert_cmpstr(names.reverse_name, ==, "silent.example");
    clock_advance_ms(REVERSE_TIMEOUT_MS);
    reverse_unref(start(&bed, "192.0.2.1")); /* the resolver's thread looks at the clock */
    g_assert_true(reverse_wait(ptr, deadline_in_ms(9000), &names));
    g_assert_cmpint(names.status, ==, REVERSE_TEMPORARY);
    g_assert_cmpstr(names.reverse_name, ==, "");
    g_assert_true(reverse_wait(forward, deadline_in_ms(2000), &names));
    g_assert_cmpint(names.status, ==, REVERSE_TEMPORARY);
    g_assert_cmpstr(names.reverse_name, ==, "silent.example");
    reverse_unref(ptr);
    reverse_unref(forward);
    dns_bed_close(&bed);
}

/* The client leaves before its name is known; the resolver is freed before the answers. */
static void test_lifetimes(void)
{
    struct dns_bed bed;
    struct reverse_names names;
    dns_bed_open(&bed, rows, G_N_ELEMENTS(rows));
    for (int i = 0; i < 50; i++)
        reverse_unref(start(&bed, i % 2 == 0 ? "192.0.2.1" : "192.0.2.8"));
    struct reverse_lookup *lookup = start(&bed, "192.0.2.8");
    g_assert_true(reverse_ref(lookup) == lookup);
    reverse_unref(lookup);
    dns_bed_close(&bed);
    g_assert_true(reverse_peek(lookup, &names));
    g_assert_cmpint(names.status, ==, REVERSE_TEMPORARY);
    reverse_unref(lookup);
    g_assert_false(reverse_wait(NULL, deadline_in_ms(100), &names));
    g_assert_cmpint(names.status, ==, REVERSE_TEMPORARY);
    reverse_unref(NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/reverse/table", test_table);
    g_test_add_func("/reverse/many names", test_many_names);
    g_test_add_func("/reverse/timeout", test_timeout);
    g_test_add_func("/reverse/lifetimes", test_lifetimes);
    return g_test_run();
}
