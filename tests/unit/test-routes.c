/* tests/unit/test-routes.c - where mail for a domain goes, the TLS it needs, and what one reply decides
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>

#include "relay-out/decide.h"
#include "relay-out/own-addresses.h"
#include "relay-out/routes.h"
#include "relay-out/tlspolicy.h"

static char *folder;

static void collect(void *context, const char *text)
{
    g_string_append_printf(context, "%s\n", text);
}

static struct config *load(const char *text)
{
    g_autofree char *file = g_build_filename(folder, "relay.conf", NULL);
    GString *errors = g_string_new(NULL);
    g_assert_true(g_file_set_contents(file, text, -1, NULL));
    struct config *config = config_load_for(file, CONFIG_PART_OUT, collect, errors);
    g_assert_cmpstr(errors->str, ==, "");
    g_string_free(errors, TRUE);
    return config;
}

static const char both[] =
    "hostname = \"relay.example\";\n"
    "in = { listen = [ \"[::]:25\" ]; domains = [ \"own.example\", \".own.example\" ];\n"
    "  backend = { hosts = [ \"10.0.0.2:2525\" ]; identity = \"none\"; };\n"
    "  backends = ( { domains = [ \"second.example\", \"shared.example\" ]; hosts = [ \"10.0.0.3\" ];\n"
    "                 identity = \"none\"; tls = \"none\"; },\n"
    "               { domains = [ \"shared.example\" ]; hosts = [ \"10.0.0.4\" ]; identity = \"none\"; } ); };\n"
    "out = { allow = [ \"10.0.0.2\" ]; listen = [ \"127.0.0.1:2526\" ];\n"
    "  routes = ( { domain = [ \"exact.example\" ]; next_hop = [ \"exact.hop:2600\", \"192.0.2.1\" "
    "]; },\n"
    "             { domain = [ \".sub.example\" ]; next_hop = [ \"sub.hop\" ]; },\n"
    "             { domain = [ \".deep.sub.example\", \"Upper.Example\" ]; next_hop = [ "
    "\"deep.hop\" ]; },\n"
    "             { domain = [ \"plain.example\" ]; action = \"accept\"; tls = \"encrypt\"; },\n"
    "             { domain = [ \"own.example\", \"exact.example\" ]; action = \"deny\"; },\n"
    "             { domain = [ \"denied.example\", \".denied.example\", \"b\xc3\xbc" "cher.example\" ]; action = \"deny\"; } "
    "%s);\n"
    "  %s };\n";

/* `hop`: the first next hop, "" = MX, NULL = denied. */
struct route_case {
    const char *domain, *hop;
    unsigned port;
};

static void check_all(const char *more_routes, const char *more, const struct route_case *cases,
                      size_t count)
{
    g_autofree char *text = g_strdup_printf(both, more_routes, more);
    struct config *config = load(text);
    struct error err = {""};
    struct routes *routes = routes_new(config, &err);

    g_assert_cmpstr(err.text, ==, "");
    g_assert_nonnull(routes);
    for (size_t i = 0; i < count; i++) {
        const struct route *route = routes_find(routes, cases[i].domain);
        g_test_message("%s -> %s%s", cases[i].domain, route->denied ? "denied " : "",
                       route->hop_count > 0 ? route->hops[0].host : "MX");
        g_assert_cmpint(route->denied, ==, cases[i].hop == NULL);
        if (cases[i].hop == NULL)
            continue;
        g_assert_cmpint(route->hop_count > 0, ==, cases[i].hop[0] != '\0');
        if (route->hop_count > 0) {
            g_assert_cmpstr(route->hops[0].host, ==, cases[i].hop);
            g_assert_cmpint(route->hops[0].port, ==, cases[i].port);
        }
    }
    routes_free(routes);
    config_unref(config);
}

static void test_plain(void)
{
    static const struct route_case cases[] = {
        {"exact.example", "exact.hop", 2600},
        {"EXACT.Example", "exact.hop", 2600},
        {"other.exact.example", "", 0},
        {"sub.example", "", 0},
        {"a.sub.example", "sub.hop", 25},
        {"deep.sub.example", "sub.hop", 25},
        {"a.deep.sub.example", "deep.hop", 25},
        {"upper.example", "deep.hop", 25},
        {"plain.example", "", 0},
        {"denied.example", NULL, 0},
        {"a.b.denied.example", NULL, 0},
        {"notdenied.example", "", 0},
        {"xn--bcher-kva.example", NULL, 0},
        {"B\xc3\x9c" "CHER.example", NULL, 0},
        {"bucher.example", "", 0},
        {"own.example", "10.0.0.2", 2525},
        {"a.own.example", "10.0.0.2", 2525},
        {"second.example", "10.0.0.3", 25},
        {"shared.example", "10.0.0.4", 25}, /* the last one, as in relay-in */
        {"anything.else", "", 0},
        {"", "", 0},
    };
    check_all("", "", cases, G_N_ELEMENTS(cases));
}

static void test_others(void)
{
    static const struct route_case starred[] = {
        {"exact.example", "exact.hop", 2600}, {"anything.else", NULL, 0}, {"sub.example", NULL, 0},
        {"own.example", "10.0.0.2", 2525},    {"plain.example", "", 0},
    };
    static const struct route_case smart[] = {
        {"exact.example", "exact.hop", 2600}, {"anything.else", "smart.hop", 587},
        {"plain.example", "smart.hop", 587},  {"denied.example", NULL, 0},
        {"own.example", "10.0.0.2", 2525},
    };
    static const struct route_case unforced[] = {
        {"exact.example", "", 0}, {"denied.example", NULL, 0}, {"own.example", "10.0.0.2", 2525}};
    check_all(", { domain = [ \"*\" ]; action = \"deny\"; }", "", starred, G_N_ELEMENTS(starred));
    check_all("", "default_route = { next_hop = [ \"smart.hop:587\" ]; };", smart,
              G_N_ELEMENTS(smart));
    check_all("", "force_routing = false;", unforced, G_N_ELEMENTS(unforced));
}

/* Notices go where other mail for the sender goes, or where the operator says. */
static void test_bounces(void)
{
    static const struct {
        const char *more, *domain, *hop;
    } cases[] = {
        {"", "own.example", "10.0.0.2"},
        {"", "second.example", "10.0.0.3"},
        {"", "exact.example", "exact.hop"},
        {"", "stranger.example", ""},
        {"", "denied.example", ""},
        {"default_route = { next_hop = [ \"smart.hop\" ]; };", "denied.example", "smart.hop"},
        {"bounce_route = { next_hop = [ \"back.hop\" ]; };", "own.example", "back.hop"},
        {"bounce_route = { next_hop = [ \"back.hop\" ]; };", "exact.example", "back.hop"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = g_strdup_printf(both, "", cases[i].more);
        struct config *config = load(text);
        struct error err = {""};
        struct routes *routes = routes_new(config, &err);
        g_test_message("%s %s", cases[i].more, cases[i].domain);
        g_assert_cmpstr(routes_bounce(routes, cases[i].domain)->hops[0].host, ==, cases[i].hop);
        routes_free(routes);
        config_unref(config);
    }
    /* Without relay-in's half they go the same way as other mail. */
    struct config *config =
        load("hostname = \"relay.example\"; out = { allow = [ \"10.0.0.2\" ];\n"
             "routes = ( { domain = [ \"a.example\" ]; next_hop = [ \"h\" ]; } ); "
             "};");
    struct error err = {""};
    struct routes *routes = routes_new(config, &err);
    g_assert_cmpstr(routes_bounce(routes, "a.example")->hops[0].host, ==, "h");
    g_assert_cmpint(routes_bounce(routes, "b.example")->hop_count, ==, 0);
    routes_free(routes);
    config_unref(config);
}

static void test_keys(void)
{
    g_autofree char *text = g_strdup_printf(both, "", "");
    struct config *config = load(text);
    struct error err = {""};
    struct routes *routes = routes_new(config, &err);
    char a[ROUTE_KEY_MAX], b[ROUTE_KEY_MAX];
    static const struct {
        const char *first, *second;
        bool same;
    } cases[] = {
        {"one.example", "ONE.example", true},     {"one.example", "two.example", false},
        {"a.sub.example", "b.sub.example", true}, {"a.sub.example", "a.deep.sub.example", false},
        {"own.example", "x.own.example", true},   {"own.example", "second.example", false},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("%s %s", cases[i].first, cases[i].second);
        route_key(routes_find(routes, cases[i].first), cases[i].first, a);
        route_key(routes_find(routes, cases[i].second), cases[i].second, b);
        g_assert_cmpint(strcmp(a, b) == 0, ==, cases[i].same);
    }
    g_assert_cmpstr(routes_own_domain(routes), ==, "own.example");
    g_assert_true(routes_is_own(routes, "Own.example"));
    g_assert_false(routes_is_own(routes, "exact.example"));
    routes_free(routes);
    config_unref(config);
}

static void test_password(void)
{
    g_autofree char *file = g_build_filename(folder, "password", NULL);
    struct config *config;
    struct error err = {""};

    g_assert_true(g_file_set_contents(file, "s3cret\r\nsecond\n", -1, NULL));
    config =
        load("hostname = \"relay.example\"; out = { allow = [ \"10.0.0.2\" ]; default_route = {\n"
             "next_hop = [ \"smart.hop\" ]; tls = \"verify\"; user = \"u\"; password_file = "
             "\"password\"; }; };");
    struct routes *routes = routes_new(config, &err);
    g_assert_cmpstr(routes_find(routes, "x.example")->password, ==, "s3cret");
    g_assert_null(routes_own_domain(routes));
    routes_free(routes);
    /* Password files as editors save them, and long ones. */
    g_autofree char *longest = g_strnfill(ROUTE_PASSWORD_MAX, 'x');
    g_autofree char *longer = g_strnfill(ROUTE_PASSWORD_MAX + 1, 'x');
    const struct {
        const char *octets, *password; /* NULL: none */
    } files[] = {
        {"\xef\xbb\xbfs3cret\r\n", "s3cret"},
        {"s3cret", "s3cret"},
        {"pass word \n", "pass word "},
        {"p\xc3\xa4ss\n", "p\xc3\xa4ss"},
        {longest, longest},
        {longer, NULL},
        {"\n", NULL},
        {"", NULL},
        {"\xef\xbb\xbf\n", NULL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_test_message("file %zu", i);
        g_assert_true(g_file_set_contents(file, files[i].octets, -1, NULL));
        routes = routes_new(config, &err);
        g_assert_cmpint(routes != NULL, ==, files[i].password != NULL);
        if (routes != NULL)
            g_assert_cmpstr(routes_find(routes, "x.example")->password, ==, files[i].password);
        else
            g_assert_nonnull(strstr(err.text, "is not a password"));
        routes_free(routes);
    }
    config_unref(config);
}

static void count_warning(void *context, const char *text)
{
    g_assert_nonnull(strstr(text, "out.routes[0] has a log-in"));
    ++*(unsigned *)context;
}

/* A login is only for the next hops of its route. If they are not used, neither is the login. */
static void test_unused_log_in(void)
{
    g_autofree char *file = g_build_filename(folder, "password", NULL);
    struct error err = {""};

    g_assert_true(g_file_set_contents(file, "s3cret\n", -1, NULL));
    for (int forced = 0; forced < 2; forced++) {
        g_autofree char *text = g_strdup_printf(
            "hostname = \"relay.example\"; out = { allow = [ \"10.0.0.2\" ]; force_routing = %s;\n"
            "routes = ( { domain = [ \"*\" ]; next_hop = [ \"smart.hop\" ]; tls = \"verify\";\n"
            "tls_name = \"n.example\"; user = \"u\"; password_file = \"password\"; } ); };",
            forced ? "true" : "false");
        struct config *config = load(text);
        struct routes *routes = routes_new(config, &err);
        const struct route *route = routes_find(routes, "x.example");
        unsigned warnings = 0;
        g_assert_cmpstr(route->user, ==, forced ? "u" : "");
        g_assert_cmpstr(route->password, ==, forced ? "s3cret" : NULL);
        g_assert_cmpstr(route->tls_name, ==, forced ? "n.example" : "");
        g_assert_cmpint(config_warn(config, count_warning, &warnings), ==, forced);
        g_assert_cmpuint(warnings, ==, !forced);
        routes_free(routes);
        config_unref(config);
    }
}

static void test_ourselves(void)
{
    g_autofree char *text = g_strdup_printf(both, "", "hello = \"hello.example\";");
    struct config *config = load(text);
    struct own_addresses ours;
    static const struct {
        const char *ip;
        unsigned port;
        bool own;
    } cases[] = {
        {"127.0.0.1", 25, true},    {"127.0.0.1", 2526, true}, {"127.9.9.9", 25, true},
        {"127.0.0.1", 2525, false}, {"192.0.2.1", 25, false},
    };
    own_addresses_find(&ours, config);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct address address;
        g_assert_cmpint(address_parse_ip(&address, cases[i].ip), ==, 0);
        g_test_message("%s:%u", cases[i].ip, cases[i].port);
        g_assert_cmpint(own_addresses_listen(&ours, &address, (uint16_t)cases[i].port), ==,
                        cases[i].own);
    }
    g_assert_true(own_addresses_has_name(&ours, "RELAY.example"));
    g_assert_true(own_addresses_has_name(&ours, "hello.example"));
    g_assert_false(own_addresses_has_name(&ours, "relay.example.org"));
    config_unref(config);
}

static void test_tls(void)
{
    g_autofree char *text =
        g_strdup_printf(both,
                        ", { domain = [ \"v.example\" ]; next_hop = [ \"h\" ]; tls = \"verify\"; "
                        "tls_name = \"n.example\"; },"
                        "{ domain = [ \"n.example\" ]; tls = \"none\"; },"
                        "{ domain = [ \"mxv.example\" ]; tls = \"verify\"; }",
                        "tls = { no_tls = [ \"broken.example\", \".bad.example\", "
                        "\"k\xc3\xb6ln.example\" ]; };");
    struct config *config = load(text);
    struct error err = {""};
    struct routes *routes = routes_new(config, &err);
    static const struct {
        const char *domain, *host;
        bool is_address, unproven;
        int level;
        const char *name;
    } cases[] = {
        {"x.example", "mx.example", false, false, CONFIG_OUT_TLS_MAY, "mx.example"},
        {"x.example", "192.0.2.1", true, false, CONFIG_OUT_TLS_MAY, NULL},
        {"broken.example", "mx.example", false, false, CONFIG_OUT_TLS_NONE, "mx.example"},
        {"x.example", "mx1.BAD.example", false, false, CONFIG_OUT_TLS_NONE, "mx1.BAD.example"},
        {"K\xc3\xb6ln.example", "mx.example", false, false, CONFIG_OUT_TLS_NONE, "mx.example"},
        {"plain.example", "mx1.bad.example", false, false, CONFIG_OUT_TLS_ENCRYPT,
         "mx1.bad.example"},
        {"v.example", "h", false, false, CONFIG_OUT_TLS_VERIFY, "n.example"},
        {"n.example", "mx.example", false, false, CONFIG_OUT_TLS_NONE, "mx.example"},
        {"second.example", "10.0.0.3", true, false, CONFIG_OUT_TLS_NONE, NULL},
        {"x.example", "mx.example", false, true, CONFIG_OUT_TLS_MAY, "mx.example"},
        {"v.example", "h", false, true, CONFIG_OUT_TLS_VERIFY, "n.example"},
        {"mxv.example", "mx.example", false, false, CONFIG_OUT_TLS_VERIFY, "mx.example"},
        {"mxv.example", "mx.example", false, true, CONFIG_OUT_TLS_VERIFY, "mxv.example"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        char ascii[DNS_NAME_MAX];
        struct tls_need need;
        g_assert_cmpint(dns_name_to_ascii(cases[i].domain, ascii), ==, 0);
        const struct tls_question question = {
            .route = routes_find(routes, cases[i].domain),
            .domain = cases[i].domain,
            .host = cases[i].host,
            .ascii = ascii,
            .host_is_address = cases[i].is_address,
            .host_secure = !cases[i].unproven,
        };
        g_test_message("%s at %s", cases[i].domain, cases[i].host);
        tls_policy_find(&config->out, &question, &need);
        g_assert_cmpint(need.level, ==, cases[i].level);
        g_assert_cmpstr(need.name, ==, cases[i].name);
    }
    routes_free(routes);
    config_unref(config);
}

/* What domains and hosts publish: an explicit route overrides it, and it can only raise the level. */
static void test_published(void)
{
    static const char enforce[] = "version: STSv1\nmode: enforce\nmx: mx.example\nmax_age: 1\n";
    static const char testing[] = "version: STSv1\nmode: testing\nmx: mx.example\nmax_age: 1\n";
    static const char none[] = "version: STSv1\nmode: none\nmax_age: 1\n";
    static const struct {
        const char *label;
        const char *options; /* for out.tls; or "verify", a level that these routes do not allow */
        const char *domain, *host;
        bool host_secure;
        enum tls_dane dane;
        const char *sts;
        int level;
        const char *why;
        bool watched, refused;
    } cases[] = {
        {"nothing", "", "x.example", "mx.example", true, TLS_DANE_NONE, NULL, CONFIG_OUT_TLS_MAY,
         "out.tls.level", false, false},
        {"DANE", "", "x.example", "mx.example", true, TLS_DANE_USABLE, NULL, CONFIG_OUT_TLS_DANE,
         "dane", false, false},
        {"DANE, MX unsigned", "", "x.example", "mx.example", false, TLS_DANE_USABLE, NULL,
         CONFIG_OUT_TLS_DANE, "dane, MX unsigned", false, false},
        {"DANE above a level", "verify", "x.example", "mx.example", true, TLS_DANE_USABLE, NULL,
         CONFIG_OUT_TLS_DANE, "dane", false, false},
        {"DANE above none", "level = \"none\";", "x.example", "mx.example", true, TLS_DANE_USABLE,
         NULL, CONFIG_OUT_TLS_DANE, "dane", false, false},
        {"DANE above an exception", "no_tls = [ \"mx.example\" ];", "x.example", "mx.example", true,
         TLS_DANE_USABLE, NULL, CONFIG_OUT_TLS_DANE, "dane", false, false},
        {"unusable", "", "x.example", "mx.example", true, TLS_DANE_UNUSABLE, NULL,
         CONFIG_OUT_TLS_ENCRYPT, "dane, records unusable", false, false},
        {"unusable lowers nothing", "verify", "x.example", "mx.example", true, TLS_DANE_UNUSABLE,
         NULL, CONFIG_OUT_TLS_VERIFY, "out.tls.level", false, false},
        {"failed", "", "x.example", "mx.example", true, TLS_DANE_FAILED, NULL, CONFIG_OUT_TLS_MAY,
         "dane", false, true},
        {"failed, and MTA-STS", "", "x.example", "mx.example", true, TLS_DANE_FAILED, enforce,
         CONFIG_OUT_TLS_MAY, "dane", false, true},
        {"MTA-STS", "", "x.example", "mx.example", false, TLS_DANE_NONE, enforce,
         CONFIG_OUT_TLS_VERIFY, "mta-sts", false, false},
        {"MTA-STS, another host", "", "x.example", "mx2.example", false, TLS_DANE_NONE, enforce,
         CONFIG_OUT_TLS_VERIFY, "mta-sts", false, true},
        {"MTA-STS, unusable records", "", "x.example", "mx.example", true, TLS_DANE_UNUSABLE,
         enforce, CONFIG_OUT_TLS_VERIFY, "mta-sts", false, false},
        {"MTA-STS above an exception", "no_tls = [ \"mx.example\" ];", "x.example", "mx.example",
         false, TLS_DANE_NONE, enforce, CONFIG_OUT_TLS_VERIFY, "mta-sts", false, false},
        {"testing", "", "x.example", "mx.example", false, TLS_DANE_NONE, testing,
         CONFIG_OUT_TLS_MAY, "out.tls.level", true, false},
        {"testing, another host", "", "x.example", "mx2.example", false, TLS_DANE_NONE, testing,
         CONFIG_OUT_TLS_MAY, "out.tls.level", true, true},
        {"none", "", "x.example", "mx.example", false, TLS_DANE_NONE, none, CONFIG_OUT_TLS_MAY,
         "out.tls.level", false, false},
        {"only logged", "mta_sts = \"log\";", "x.example", "mx2.example", false, TLS_DANE_NONE,
         enforce, CONFIG_OUT_TLS_MAY, "out.tls.level", true, true},
        {"DANE satisfies MTA-STS", "", "x.example", "mx2.example", true, TLS_DANE_USABLE, enforce,
         CONFIG_OUT_TLS_DANE, "dane", false, false},
        {"MX unsigned: the pattern counts, too", "", "x.example", "mx2.example", false,
         TLS_DANE_USABLE, enforce, CONFIG_OUT_TLS_DANE, "dane, MX unsigned", false, true},
        {"an explicit route", "", "n.example", "mx.example", true, TLS_DANE_USABLE, enforce,
         CONFIG_OUT_TLS_NONE, "route", false, false},
        {"a route that may", "", "m.example", "mx.example", true, TLS_DANE_NONE, enforce,
         CONFIG_OUT_TLS_MAY, "route", false, false},
        {"a route that demands DANE", "", "d.example", "mx.example", true, TLS_DANE_USABLE, NULL,
         CONFIG_OUT_TLS_DANE, "dane", false, false},
        {"demanded, MX unsigned", "", "d.example", "mx.example", false, TLS_DANE_USABLE, NULL,
         CONFIG_OUT_TLS_DANE, "route", false, true},
        {"demanded, no records", "", "d.example", "mx.example", true, TLS_DANE_NONE, NULL,
         CONFIG_OUT_TLS_DANE, "route", false, true},
        {"demanded, unusable", "", "d.example", "mx.example", true, TLS_DANE_UNUSABLE, NULL,
         CONFIG_OUT_TLS_DANE, "route", false, true},
    };
    struct dane_records *records = dane_records_new(NULL, NULL, 0);

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        bool verify = strcmp(cases[i].options, "verify") == 0;
        g_autofree char *options = g_strdup_printf("tls = { %s };", verify ? "" : cases[i].options);
        g_autofree char *text = g_strdup_printf(both,
                                                ", { domain = [ \"n.example\" ]; tls = \"none\"; },"
                                                "{ domain = [ \"m.example\" ]; tls = \"may\"; },"
                                                "{ domain = [ \"d.example\" ]; tls = \"dane\"; }",
                                                options);
        struct config *config = load(text);
        struct error err = {""};
        if (verify)
            config->out.tls.level = CONFIG_OUT_TLS_VERIFY;
        struct routes *routes = routes_new(config, &err);
        const char *why = NULL;
        struct sts_policy *policy =
            cases[i].sts != NULL ? sts_read_policy(cases[i].sts, strlen(cases[i].sts), &why) : NULL;
        struct tls_need need;
        const struct tls_question question = {
            .route = routes_find(routes, cases[i].domain),
            .domain = cases[i].domain,
            .ascii = cases[i].domain,
            .host = cases[i].host,
            .host_secure = cases[i].host_secure,
            .dane = cases[i].dane,
            .dane_base = cases[i].host,
            .records = records,
            .dane_reason = "SERVFAIL",
            .sts = policy,
        };
        g_test_message("%s", cases[i].label);
        tls_policy_find(&config->out, &question, &need);
        g_assert_cmpint(need.level, ==, cases[i].level);
        g_assert_cmpstr(need.why, ==, cases[i].why);
        g_assert_cmpstr(need.name, ==, cases[i].host);
        g_assert_true(need.watched == cases[i].watched);
        g_assert_true((need.refusal != NULL) == cases[i].refused);
        g_assert_true(need.unproven ==
                      (!cases[i].host_secure && need.level != CONFIG_OUT_TLS_VERIFY));
        if (need.level == CONFIG_OUT_TLS_DANE && need.refusal == NULL)
            g_assert_cmpuint(need.name_count, ==, cases[i].host_secure ? 2 : 1);
        free(policy);
        routes_free(routes);
        config_unref(config);
    }
    free(records);
}

/* REQUIRETLS: only to a proven host with a valid certificate. */
static void test_required(void)
{
    static const struct {
        const char *label;
        struct tls_need need;
        bool is_address;
        int level; /* -1: refused */
    } cases[] = {
        {"plain", {.level = CONFIG_OUT_TLS_NONE, .name = "mx"}, false, CONFIG_OUT_TLS_VERIFY},
        {"may", {.level = CONFIG_OUT_TLS_MAY, .name = "mx"}, false, CONFIG_OUT_TLS_VERIFY},
        {"verify", {.level = CONFIG_OUT_TLS_VERIFY, .name = "n"}, false, CONFIG_OUT_TLS_VERIFY},
        {"dane", {.level = CONFIG_OUT_TLS_DANE, .name = "mx"}, false, CONFIG_OUT_TLS_DANE},
        {"MX unsigned", {.level = CONFIG_OUT_TLS_MAY, .unproven = true}, false, -1},
        {"dane, MX unsigned", {.level = CONFIG_OUT_TLS_DANE, .unproven = true}, false, -1},
        {"an address", {.level = CONFIG_OUT_TLS_MAY}, true, -1},
        {"watched",
         {.level = CONFIG_OUT_TLS_MAY, .watched = true, .name = "mx"},
         false,
         CONFIG_OUT_TLS_VERIFY},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const struct tls_question question = {.host = "mx", .host_is_address = cases[i].is_address};
        struct tls_need need = cases[i].need;
        g_test_message("%s", cases[i].label);
        tls_policy_require(&question, &need);
        g_assert_true((need.refusal != NULL) == (cases[i].level < 0));
        if (need.refusal == NULL) {
            g_assert_cmpint(need.level, ==, cases[i].level);
            g_assert_nonnull(need.name);
        }
    }
}

/* tests/model checks the whole table; this checks whose reply is passed on. */
static void test_decide(void)
{
    static const struct {
        const char *outcomes; /* "T", "D", "R", "U" */
        enum decision decision;
        size_t which;
    } cases[] = {
        {"T", DECISION_TAKEN, 0},      {"R", DECISION_REFUSED, 0},   {"TT", DECISION_TAKEN, 0},
        {"RR", DECISION_REFUSED, 0},   {"DD", DECISION_DEFERRED, 0}, {"RD", DECISION_DEFERRED, 1},
        {"DRD", DECISION_DEFERRED, 0}, {"RT", DECISION_STORE, 1},    {"TD", DECISION_STORE, 0},
        {"DRT", DECISION_STORE, 2},    {"U", DECISION_STORE, 0},     {"UT", DECISION_STORE, 1},
        {"DU", DECISION_STORE, 0},     {"RUDT", DECISION_STORE, 3},
    };
    static const char letters[] = "TDRU";
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        enum hop_outcome outcomes[4];
        size_t count = strlen(cases[i].outcomes), which;
        for (size_t j = 0; j < count; j++)
            outcomes[j] = (enum hop_outcome)(strchr(letters, cases[i].outcomes[j]) - letters);
        g_test_message("%s", cases[i].outcomes);
        g_assert_cmpint(decide_final(outcomes, count, &which), ==, cases[i].decision);
        g_assert_cmpuint(which, ==, cases[i].which);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("postern-routes-XXXXXX", NULL);
    g_test_add_func("/routes/plain", test_plain);
    g_test_add_func("/routes/others", test_others);
    g_test_add_func("/routes/bounces", test_bounces);
    g_test_add_func("/routes/keys", test_keys);
    g_test_add_func("/routes/password", test_password);
    g_test_add_func("/routes/unused log-in", test_unused_log_in);
    g_test_add_func("/routes/ourselves", test_ourselves);
    g_test_add_func("/routes/tls", test_tls);
    g_test_add_func("/routes/published", test_published);
    g_test_add_func("/routes/required", test_required);
    g_test_add_func("/routes/decide", test_decide);
    int result = g_test_run();
    const char *const files[] = {"relay.conf", "password"};
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *file = g_build_filename(folder, files[i], NULL);
        g_remove(file);
    }
    g_rmdir(folder);
    g_free(folder);
    return result;
}
