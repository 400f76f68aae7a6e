/* tests/unit/test-dns-name.c - dns/name
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "dns/name.h"

static void test_read(void)
{
#define WIRE(text) (const uint8_t *)text, sizeof text - 1
    static const struct {
        const char *label;
        const uint8_t *data;
        size_t len;
        const char *name; /* NULL: refused */
    } cases[] = {
        {"two labels", WIRE("\4host\7example\0"), "host.example"},
        {"root", WIRE("\0"), ""},
        {"as it came, not folded", WIRE("\1A\0"), "A"},
        {"odd, but plain", WIRE("\3_x*\1!\0"), "_x*.!"},
        {"empty data", WIRE(""), NULL},
        {"no root label", WIRE("\4host"), NULL},
        {"label longer than the data", WIRE("\12host\0"), NULL},
        {"pointer", WIRE("\300\14"), NULL},
        {"octets behind the end", WIRE("\1a\0\1b\0"), NULL},
        {"dot in a label", WIRE("\3a.b\0"), NULL},
        {"NUL in a label", WIRE("\3a\0b\0"), NULL},
        {"newline in a label", WIRE("\3a\nb\0"), NULL},
        {"space in a label", WIRE("\3a b\0"), NULL},
        {"backslash", WIRE("\3a\\b\0"), NULL},
        {"eight bits", WIRE("\2\303\244\0"), NULL},
        {"label of 64", WIRE("\100aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\0"), NULL},
    };
#undef WIRE
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        char name[DNS_NAME_MAX] = "untouched";
        g_test_message("%s", cases[i].label);
        int result = dns_name_read(cases[i].data, cases[i].len, name);
        g_assert_cmpint(result, ==, cases[i].name != NULL ? 0 : -1);
        if (cases[i].name != NULL)
            g_assert_cmpstr(name, ==, cases[i].name);
    }
}

static void test_long(void)
{
    uint8_t wire[300];
    char name[DNS_NAME_MAX];
    /* 127 labels of one octet make the longest possible name: 255 octets on the wire. */
    for (size_t i = 0; i < 128; i++)
        wire[2 * i] = 1, wire[2 * i + 1] = 'a';
    wire[254] = 0;
    g_assert_cmpint(dns_name_read(wire, 255, name), ==, 0);
    g_assert_cmpuint(strlen(name), ==, 253);
    wire[254] = 1, wire[256] = 0;
    g_assert_cmpint(dns_name_read(wire, 257, name), ==, -1);
}

static void test_mx(void)
{
    unsigned preference = 0;
    char name[DNS_NAME_MAX];
    g_assert_cmpint(dns_mx_read((const uint8_t *)"\1\2\2mx\0", 6, &preference, name), ==, 0);
    g_assert_cmpuint(preference, ==, 258);
    g_assert_cmpstr(name, ==, "mx");
    g_assert_cmpint(dns_mx_read((const uint8_t *)"\0\0\0", 3, &preference, name), ==, 0);
    g_assert_cmpstr(name, ==, "");
    g_assert_cmpint(dns_mx_read((const uint8_t *)"\1\2", 2, &preference, name), ==, -1);
}

static void test_hostname(void)
{
#define L63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    static const char *const good[] = {"mail.example.com", "a", "a_b.example", "_spf.example",
                                       "1.example", "1-2.3", "xn--bcher-kva.example", "A.B",
                                       L63 ".example", "3com"};
    static const char *const bad[] = {"", ".", "a.", ".a", "a..b", "-a", "a-", "a.-b", "a-.b",
                                      "192.0.2.1", "1234", "2001:db8::1", "a b", "a!b", "a/b", "a\nb",
                                      "b\303\274cher.example", "[192.0.2.1]", L63 "a.example", "a;b",
                                      L63 "." L63 "." L63 "." L63 ".aa"};
#undef L63
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_test_message("good: %s", good[i]);
        g_assert_true(dns_name_is_hostname(good[i]));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_test_message("bad: %s", bad[i]);
        g_assert_false(dns_name_is_hostname(bad[i]));
    }
}

static void test_to_ascii(void)
{
    static const struct {
        const char *domain, *name; /* NULL: refused */
    } cases[] = {
        {"Mail.Example", "Mail.Example"},
        {"a_b.example", "a_b.example"},
        {"b\303\274cher.example", "xn--bcher-kva.example"},
        {"stra\303\237e.example", "xn--strae-oqa.example"},
        {"\344\276\213\343\201\210.\343\203\206\343\202\271\343\203\210", "xn--r8jz45g.xn--zckzah"},
        {"b\303\274cher..example", NULL},
        {"b\303\274 cher.example", NULL},
        {"b\303.example", NULL},
        {"\342\200\213.example", NULL},
        {"\357\274\221\357\274\222\357\274\223", NULL}, /* full-width digits: 123 */
        {"", NULL},
        {"a.example.", NULL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        char name[DNS_NAME_MAX] = "";
        g_test_message("%s", cases[i].domain);
        int result = dns_name_to_ascii(cases[i].domain, name);
        g_assert_cmpint(result, ==, cases[i].name != NULL ? 0 : -1);
        g_assert_cmpstr(name, ==, cases[i].name != NULL ? cases[i].name : "");
    }
    gchar *longest = g_strnfill(5000, 'a');
    longest[4998] = '\303', longest[4999] = '\274';
    char name[DNS_NAME_MAX];
    g_assert_cmpint(dns_name_to_ascii(longest, name), ==, -1);
    longest[4998] = 'a', longest[4999] = 'a';
    g_assert_cmpint(dns_name_to_ascii(longest, name), ==, -1);
    g_free(longest);
}

static void test_fold(void)
{
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"Mail.Example", "mail.example", true},
        {"b\303\274cher.example", "XN--BCHER-KVA.EXAMPLE", true},
        {"B\303\234cher.example", "b\303\274CHER.example", true},
        {"bu\314\210cher.example", "b\303\274cher.example", true}, /* u and a combining mark */
        {"b\303\274cher.example", "bucher.example", false},
        {"[192.0.2.1]", "[192.0.2.1]", true},
        {"a\342\200\213.example", "A\342\200\213.example", true}, /* not a valid name */
        {"a..b\303\274", "a.b\303\274", false},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        char a[DNS_NAME_MAX], b[DNS_NAME_MAX];
        g_test_message("%s", cases[i].a);
        g_assert_true(dns_name_fold(cases[i].a, a) && dns_name_fold(cases[i].b, b));
        g_assert_cmpint(strcmp(a, b) == 0, ==, cases[i].same);
        g_assert_cmpint(dns_name_equal(cases[i].a, cases[i].b), ==, cases[i].same);
    }
    g_autofree char *longest = g_strnfill(DNS_NAME_MAX, 'a');
    char name[DNS_NAME_MAX];
    g_assert_false(dns_name_fold(longest, name));
    longest[DNS_NAME_MAX - 1] = '\0';
    g_assert_true(dns_name_fold(longest, name));
    g_assert_false(dns_name_fold("", name));
}

static void test_of_address(void)
{
    static const struct {
        const char *address, *suffix, *name;
    } cases[] = {
        {"198.51.100.7", NULL, "7.100.51.198.in-addr.arpa"},
        {"198.51.100.7", "zen.example", "7.100.51.198.zen.example"},
        {"::ffff:198.51.100.7", "z", "7.100.51.198.z"},
        {"2001:db8::7", NULL, "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"},
        {"2001:db8::ab", "z", "b.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.z"},
    };
    char name[DNS_NAME_MAX], suffix[300];
    struct address address;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_cmpint(address_parse_ip(&address, cases[i].address), ==, 0);
        g_assert_cmpint(dns_name_of_address(&address, cases[i].suffix, name), ==, 0);
        g_assert_cmpstr(name, ==, cases[i].name);
    }
    memset(suffix, 'a', sizeof suffix), suffix[253 - 64] = '\0';
    g_assert_cmpint(dns_name_of_address(&address, suffix, name), ==, 0);
    g_assert_cmpuint(strlen(name), ==, 253);
    suffix[253 - 64] = 'a', suffix[254 - 64] = '\0';
    g_assert_cmpint(dns_name_of_address(&address, suffix, name), ==, -1);
    address.family = AF_UNSPEC;
    g_assert_cmpint(dns_name_of_address(&address, NULL, name), ==, -1);
}

static void test_address_read(void)
{
    static const uint8_t data[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1};
    struct address address, expected;
    address_parse_ip(&expected, "192.0.2.1");
    g_assert_cmpint(dns_address_read(data + 12, 4, &address), ==, 0);
    g_assert_true(address_same_ip(&address, &expected));
    g_assert_cmpint(dns_address_read(data, 16, &address), ==, 0);
    g_assert_true(address_same_ip(&address, &expected));
    g_assert_cmpint(dns_address_read(data, 5, &address), ==, -1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dns-name/read", test_read);
    g_test_add_func("/dns-name/longest", test_long);
    g_test_add_func("/dns-name/mx", test_mx);
    g_test_add_func("/dns-name/hostname", test_hostname);
    g_test_add_func("/dns-name/to ASCII", test_to_ascii);
    g_test_add_func("/dns-name/fold", test_fold);
    g_test_add_func("/dns-name/of address", test_of_address);
    g_test_add_func("/dns-name/address", test_address_read);
    return g_test_run();
}
