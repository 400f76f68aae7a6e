/* tests/unit/test-mx.c - dns/mx against a scripted name server
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "dns-server.h"
#include "dns-sign.h"
#include "dns/mx.h"

#define BIG_ADDRESSES 8 /* that big.example has */

static const struct dns_row rows[] = {
    /* Hosts. */
    {"h4.example", DNS_TYPE_A, "198.51.100.4"},
    {"h6.example", DNS_TYPE_AAAA, "2001:db9::6"},
    {"both.example", DNS_TYPE_A, "198.51.100.1|198.51.100.2"},
    {"both.example", DNS_TYPE_AAAA, "2001:db9::1|2001:db9::2"},
    {"big.example", DNS_TYPE_A,
     "198.51.100.31|198.51.100.32|198.51.100.33|198.51.100.34|198.51.100.35|198.51.100.36|"
     "198.51.100.37|198.51.100.38"},
    {"hostalias.example", DNS_TYPE_CNAME, "h4.example"},
    {"text.example", DNS_TYPE_TXT, "no address"},
    {"failing.example", DNS_TYPE_A, "!SERVFAIL"},
    {"failing.example", DNS_TYPE_AAAA, "!SERVFAIL"},
    {"half.example", DNS_TYPE_A, "198.51.100.50"},
    {"half.example", DNS_TYPE_AAAA, "!SERVFAIL"},
    {"loop4.example", DNS_TYPE_A, "127.0.0.1"},
    {"lan.example", DNS_TYPE_A, "10.0.0.2"},
    {"lan.example", DNS_TYPE_AAAA, "fd00::2"},
    {"mapped.example", DNS_TYPE_AAAA, "::ffff:10.9.9.9"},
    {"mixed.example", DNS_TYPE_A, "10.0.0.3|198.51.100.60"},
    {"we.example", DNS_TYPE_A, "203.0.113.1"},
    {"otherwe.example", DNS_TYPE_AAAA, "2001:db9::99"},
    {"ourselves.example", DNS_TYPE_A, "198.51.100.99"},
    {"198.51.100.4", DNS_TYPE_A, "198.51.100.77"}, /* which must never be asked for */
    /* Domains. */
    {"order.example", DNS_TYPE_MX, "30 both.example|10 h4.example|20 h6.example"},
    {"one.example", DNS_TYPE_MX, "10 both.example"},
    {"bigone.example", DNS_TYPE_MX, "10 big.example"},
    {"bigtwo.example", DNS_TYPE_MX, "10 big.example|20 h6.example"},
    {"many.example", DNS_TYPE_MX,
     "1 h4.example|2 h4.example|3 h4.example|4 h4.example|5 h4.example|6 h4.example|7 h4.example|"
     "8 h4.example|9 h4.example|10 h4.example|11 h4.example|12 h4.example|99 h6.example"},
    {"stale.example", DNS_TYPE_MX,
     "1 no.example|2 no.example|3 no.example|4 no.example|5 no.example|6 no.example|7 no.example|"
     "8 no.example|9 no.example|10 no.example|11 no.example|12 no.example|13 no.example|"
     "14 no.example|15 no.example|16 no.example|17 no.example|18 h4.example|19 we.example|"
     "20 h6.example"},
    {"quiet.example", DNS_TYPE_A, "!DROP"},
    {"quiet.example", DNS_TYPE_AAAA, "!DROP"},
    {"quieter.example", DNS_TYPE_MX,
     "1 quiet.example|2 quiet.example|3 quiet.example|4 quiet.example|5 quiet.example|"
     "6 quiet.example|7 quiet.example|8 quiet.example|9 quiet.example|10 quiet.example|"
     "11 quiet.example|12 quiet.example|13 quiet.example|14 quiet.example|15 quiet.example|"
     "16 quiet.example|17 unasked.example"},
    {"equal.example", DNS_TYPE_MX, "10 h4.example|10 h6.example"},
    {"null.example", DNS_TYPE_MX, "0 "},
    {"null10.example", DNS_TYPE_MX, "10 "},
    {"nullmore.example", DNS_TYPE_MX, "0 |10 h4.example"},
    {"odd.example", DNS_TYPE_MX, "1 198.51.100.4|2 bad host.example|10 h4.example"},
    {"onlyodd.example", DNS_TYPE_MX, "1 198.51.100.4"},
    {"domainalias.example", DNS_TYPE_CNAME, "one.example"},
    {"implicitalias.example", DNS_TYPE_CNAME, "h4.example"},
    {"cname.example", DNS_TYPE_MX, "10 hostalias.example"},
    {"servfail.example", DNS_TYPE_MX, "!SERVFAIL"},
    {"silent.example", DNS_TYPE_MX, "!DROP"},
    {"nohost.example", DNS_TYPE_MX, "10 nowhere.example|20 nowhere2.example"},
    {"nodata.example", DNS_TYPE_MX, "10 text.example"},
    {"tempfirst.example", DNS_TYPE_MX, "10 failing.example|20 h4.example"},
    {"temponly.example", DNS_TYPE_MX, "10 failing.example|20 nowhere.example"},
    {"halfbad.example", DNS_TYPE_MX, "10 half.example"},
    {"private.example", DNS_TYPE_MX, "10 loop4.example|20 lan.example|30 mapped.example"},
    {"partprivate.example", DNS_TYPE_MX, "10 loop4.example|20 mixed.example"},
    {"backup.example", DNS_TYPE_MX, "10 h4.example|20 WE.example|20 h6.example|30 both.example"},
    {"backup6.example", DNS_TYPE_MX, "10 h4.example|20 otherwe.example|30 both.example"},
    {"best.example", DNS_TYPE_MX, "10 ourselves.example|20 h4.example"},
    {"equalwe.example", DNS_TYPE_MX, "10 ourselves.example|10 h4.example|10 h6.example"},
    {"deadbetter.example", DNS_TYPE_MX, "10 nowhere.example|20 ourselves.example"},
    {"xn--bcher-kva.example", DNS_TYPE_MX, "10 h4.example"},
};

static const char *const own_names[] = {"ourselves.example"};

struct bed {
    struct dns_server *server;
    struct resolver *resolver;
    struct address own[2];
    struct mx_options options;
};

static void open_bed(struct bed *bed)
{
    memset(bed, 0, sizeof *bed);
    bed->server = dns_server_open(rows, G_N_ELEMENTS(rows));
    bed->resolver = dns_server_resolver(bed->server, NULL);
    address_parse_ip(&bed->own[0], "203.0.113.1");
    address_parse_ip(&bed->own[1], "2001:db9::99");
    bed->options = (struct mx_options){.own_names = own_names,
                                       .own_name_count = G_N_ELEMENTS(own_names),
                                       .own_addresses = bed->own,
                                       .own_address_count = G_N_ELEMENTS(bed->own)};
}

static void close_bed(struct bed *bed)
{
    resolver_free(bed->resolver);
    dns_server_close(bed->server);
}

/* "host address" of all candidates, separated by spaces. */
static gchar *candidates(const struct mx_route *route)
{
    GString *text = g_string_new(NULL);
    char ip[ADDRESS_TEXT_MAX];
    for (size_t i = 0; i < route->count; i++)
        g_string_append_printf(text, "%s%s %s", i > 0 ? " " : "", route->candidates[i].host,
                               address_format_endpoint(&route->candidates[i].address, ip));
    return g_string_free(text, FALSE);
}

static const struct {
    const char *label, *domain;
    enum mx_result result;
    const char *candidates; /* if only one order is right */
    const char *reason;     /* a word in it */
} cases[] = {
    {"CNAME at the host", "cname.example", MX_FOUND, "hostalias.example 198.51.100.4:25", ""},
    {"implicit MX", "h4.example", MX_FOUND, "h4.example 198.51.100.4:25", ""},
    {"implicit MX by CNAME", "implicitalias.example", MX_FOUND,
     "implicitalias.example 198.51.100.4:25", ""},
    {"IDN", "b\303\274cher.example", MX_FOUND, "h4.example 198.51.100.4:25", ""},
    {"IDN, capital", "B\303\234CHER.Example", MX_FOUND, "h4.example 198.51.100.4:25", ""},
    {"IDN, decomposed", "bu\314\210cher.example", MX_FOUND, "h4.example 198.51.100.4:25", ""},
    {"A-label", "xn--bcher-kva.example", MX_FOUND, "h4.example 198.51.100.4:25", ""},
    {"null MX", "null.example", MX_NULL, "", "null.example"},
    {"null MX, other preference", "null10.example", MX_NULL, "", "null10.example"},
    {"null MX among others", "nullmore.example", MX_FOUND, "h4.example 198.51.100.4:25", ""},
    {"names that are no hosts", "odd.example", MX_FOUND, "h4.example 198.51.100.4:25", ""},
    {"only names that are no hosts", "onlyodd.example", MX_NO_HOSTS, "", "onlyodd.example"},
    {"no such domain", "nowhere.example", MX_NO_DOMAIN, "", "nowhere.example"},
    {"MX fails", "servfail.example", MX_TEMPORARY, "", "SERVFAIL"},
    {"no host exists", "nohost.example", MX_NO_HOSTS, "", "nohost.example"},
    {"host without address", "nodata.example", MX_NO_HOSTS, "", "nodata.example"},
    {"domain without MX and address", "text.example", MX_NO_HOSTS, "", "text.example"},
    {"first host fails, second known", "tempfirst.example", MX_FOUND, "h4.example 198.51.100.4:25",
     ""},
    {"a host fails, the other does not exist", "temponly.example", MX_TEMPORARY, "",
     "failing.example"},
    {"one family fails", "halfbad.example", MX_FOUND, "half.example 198.51.100.50:25", ""},
    {"private addresses only", "private.example", MX_PRIVATE, "", "private"},
    {"private addresses too", "partprivate.example", MX_FOUND, "mixed.example 198.51.100.60:25",
     ""},
    {"we are a backup", "backup.example", MX_FOUND, "h4.example 198.51.100.4:25", ""},
    {"we are a backup, by IPv6 address", "backup6.example", MX_FOUND, "h4.example 198.51.100.4:25",
     ""},
    {"we are the best", "best.example", MX_LOOP, "", "ourselves.example"},
    {"we are one of the best", "equalwe.example", MX_LOOP, "", "ourselves.example"},
    {"we are behind a host that is not there", "deadbetter.example", MX_NO_HOSTS, "",
     "deadbetter.example"},
    {"we are the implicit MX", "we.example", MX_LOOP, "", "we.example"},
    {"we are the implicit MX, by name", "ourselves.example", MX_LOOP, "", "ourselves.example"},
    {"empty", "", MX_BAD_DOMAIN, "", "domain name"},
    {"address", "192.0.2.1", MX_BAD_DOMAIN, "", "192.0.2.1"},
    {"literal", "[192.0.2.1]", MX_BAD_DOMAIN, "", "domain name"},
    {"empty label", "a..example", MX_BAD_DOMAIN, "", "domain name"},
    {"not UTF-8", "b\374cher.example", MX_BAD_DOMAIN, "", "domain name"},
    {"no character for a domain", "a\342\200\256b.example", MX_BAD_DOMAIN, "", "domain name"},
    {"localhost", "localhost", MX_PRIVATE, "", "localhost"},
};

static void test_table(void)
{
    struct bed bed;
    struct mx_route route;
    open_bed(&bed);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("%s", cases[i].label);
        enum mx_result result =
            mx_find(bed.resolver, cases[i].domain, &bed.options, deadline_in_ms(8000), &route);
        gchar *found = candidates(&route);
        g_test_message("  %d: %s %s", result, found, route.reason);
        g_assert_cmpint(result, ==, cases[i].result);
        g_assert_cmpstr(found, ==, cases[i].candidates);
        g_assert_nonnull(strstr(route.reason, cases[i].reason));
        g_assert_cmpint(route.reason[0] == '\0', ==, result == MX_FOUND);
        g_assert_false(route.mx_secure);
        g_free(found);
        mx_route_clear(&route);
    }
    close_bed(&bed);
}

/* `route` still holds the previous result. */
static void find(struct bed *bed, const char *domain, struct mx_route *route)
{
    mx_route_clear(route);
    g_assert_cmpint(mx_find(bed->resolver, domain, &bed->options, deadline_in_ms(8000), route), ==,
                    MX_FOUND);
}

static void test_order(void)
{
    static const struct {
        enum mx_family family;
        const char *families; /* of the candidates, in order */
    } orders[] = {
        /* h4 at 10, h6 at 20, both (2 + 2 addresses) at 30 */
        {MX_PREFER_IPV6, "466464"},
        {MX_PREFER_IPV4, "464646"},
        {MX_ONLY_IPV4, "444"},
        {MX_ONLY_IPV6, "666"},
    };
    struct bed bed;
    struct mx_route route = {0};
    open_bed(&bed);
    for (size_t i = 0; i < G_N_ELEMENTS(orders); i++) {
        bed.options.family = orders[i].family;
        find(&bed, "order.example", &route);
        g_assert_cmpuint(route.count, ==, strlen(orders[i].families));
        for (size_t at = 0; at < route.count; at++) {
            int family = orders[i].families[at] == '4' ? AF_INET : AF_INET6;
            g_assert_cmpint(route.candidates[at].address.family, ==, family);
            if (at > 0)
                g_assert_cmpuint(route.candidates[at - 1].preference, <=,
                                 route.candidates[at].preference);
        }
    }
    bed.options.family = MX_PREFER_IPV6;
    find(&bed, "h6.example", &route);
    g_assert_cmpstr(route.candidates[0].host, ==, "h6.example");
    find(&bed, "domainalias.example", &route);
    g_assert_cmpstr(route.candidates[0].host, ==, "both.example");
    g_assert_cmpuint(route.count, ==, 4);
    find(&bed, "cname.example", &route);
    g_assert_cmpstr(route.candidates[0].canonical, ==, "h4.example");
    find(&bed, "b\303\274cher.example", &route);
    g_assert_cmpstr(route.domain, ==, "xn--bcher-kva.example");
    mx_route_clear(&route);
    close_bed(&bed);
}

/* No host is left out, however many addresses another host has. */
static void test_bounds(void)
{
    struct bed bed;
    struct mx_route route = {0};
    open_bed(&bed);
    find(&bed, "bigone.example", &route);
    g_assert_cmpuint(route.count, ==, BIG_ADDRESSES);
    for (size_t i = 0; i < route.count; i++) {
        for (size_t other = 0; other < i; other++)
            g_assert_false(address_same_ip(&route.candidates[i].address,
                                           &route.candidates[other].address));
    }
    find(&bed, "bigtwo.example", &route);
    g_assert_cmpuint(route.count, ==, MX_ADDRESSES_PER_HOST + 1);
    g_assert_cmpstr(route.candidates[MX_ADDRESSES_PER_HOST].host, ==, "h6.example");
    find(&bed, "many.example", &route);
    g_assert_cmpuint(route.count, ==, 13);
    g_assert_cmpstr(route.candidates[12].host, ==, "h6.example");
    /* Hosts without an address take nobody's place. */
    find(&bed, "stale.example", &route);
    g_assert_cmpuint(route.count, ==, 1);
    g_assert_cmpstr(route.candidates[0].host, ==, "h4.example");
    mx_route_clear(&route);
    close_bed(&bed);
}

static void test_shuffle(void)
{
    struct bed bed;
    struct mx_route route = {0};
    unsigned first = 0;
    open_bed(&bed);
    for (int i = 0; i < 200; i++) {
        find(&bed, "equal.example", &route);
        g_assert_cmpuint(route.count, ==, 2);
        first += strcmp(route.candidates[0].host, "h4.example") == 0;
    }
    /* About half of them; a run outside these bounds happens once in 10^12. */
    g_assert_cmpuint(first, >=, 50);
    g_assert_cmpuint(first, <=, 150);
    mx_route_clear(&route);
    close_bed(&bed);
}

static void test_private_allowed(void)
{
    struct bed bed;
    struct mx_route route = {0};
    struct cidr_set *allowed = cidr_set_new();
    open_bed(&bed);
    cidr_set_add(allowed, "10.0.0.0/24", NULL);
    bed.options.private_allowed = allowed;
    find(&bed, "private.example", &route);
    gchar *found = candidates(&route);
    g_assert_cmpstr(found, ==, "lan.example 10.0.0.2:25");
    g_free(found);
    cidr_set_free(allowed);
    mx_route_clear(&route);
    close_bed(&bed);
}

/* DANE must know what DNSSEC has proven: the MX records, and each host's addresses. */
static void test_secure(void)
{
    static const struct dns_row zone[] = {
        {"signed.example", DNS_TYPE_MX, "10 mx.signed.example|20 plain.example"},
        {"forged.signed.example", DNS_TYPE_MX, "10 plain.example"},
        {"mx.signed.example", DNS_TYPE_A, "198.51.100.1"},
        {"plain.example", DNS_TYPE_A, "198.51.100.2"},
        {"plain.example", DNS_TYPE_MX, "10 mx.signed.example"},
    };
    struct mx_options options = {.family = MX_ONLY_IPV4};
    struct signed_rows *all = dns_sign(zone, G_N_ELEMENTS(zone), "signed.example");
    for (size_t i = 0; i < all->count; i++) {
        if (all->rows[i].type == DNS_TYPE_MX && strcmp(all->rows[i].name, "forged.signed.example") == 0)
            *(char *)all->rows[i].answer = '2';
    }
    struct dns_server *server = dns_server_open(all->rows, all->count);
    struct resolver *resolver = dns_server_resolver(server, all->anchor_file);
    struct mx_route route = {0};
    mx_find(resolver, "signed.example", &options, deadline_in_ms(8000), &route);
    g_assert_cmpuint(route.count, ==, 2);
    g_assert_true(route.mx_secure);
    g_assert_true(route.candidates[0].address_secure);
    g_assert_false(route.candidates[1].address_secure);
    mx_route_clear(&route);
    mx_find(resolver, "plain.example", &options, deadline_in_ms(8000), &route);
    g_assert_cmpuint(route.count, ==, 1);
    g_assert_false(route.mx_secure);
    g_assert_true(route.candidates[0].address_secure);
    mx_route_clear(&route);
    g_assert_cmpint(mx_find(resolver, "forged.signed.example", &options, deadline_in_ms(8000),
                            &route), ==, MX_TEMPORARY);
    g_assert_false(route.mx_secure);
    resolver_free(resolver);
    dns_server_close(server);
    signed_rows_free(all);
}

static void test_timeout(void)
{
    struct bed bed;
    struct mx_route route = {0};
    open_bed(&bed);
    int64_t begin = deadline_now_ms();
    g_assert_cmpint(mx_find(bed.resolver, "silent.example", &bed.options, deadline_in_ms(300),
                            &route), ==, MX_TEMPORARY);
    g_assert_cmpint(deadline_now_ms() - begin, <, 2000);
    g_assert_nonnull(strstr(route.reason, "timeout"));
    g_assert_true(route.late && !route.bogus);
    /* Once the time is over, no more hosts are asked about: the answers would be nobody's. */
    g_assert_cmpint(mx_find(bed.resolver, "quieter.example", &bed.options, deadline_in_ms(300),
                            &route), ==, MX_TEMPORARY);
    g_assert_true(route.late);
    find(&bed, "order.example", &route); /* asked later */
    g_assert_cmpuint(dns_server_asked(bed.server, "unasked.example", DNS_TYPE_A), ==, 0);
    mx_route_clear(&route);
    close_bed(&bed);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/mx/table", test_table);
    g_test_add_func("/mx/order", test_order);
    g_test_add_func("/mx/bounds", test_bounds);
    g_test_add_func("/mx/shuffle", test_shuffle);
    g_test_add_func("/mx/private allowed", test_private_allowed);
    g_test_add_func("/mx/secure", test_secure);
    g_test_add_func("/mx/timeout", test_timeout);
    return g_test_run();
}
