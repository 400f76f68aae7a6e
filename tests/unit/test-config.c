/* tests/unit/test-config.c - config: the option table, errors with file and line, printing
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config.h"
#include "config/options.h"

static char *folder;

static void collect(void *context, const char *text)
{
    g_string_append_printf(context, "%s\n", text);
}

static struct config *load_text(const char *text, GString *errors)
{
    g_autofree char *file = g_build_filename(folder, "relay.conf", NULL);
    g_assert_true(g_file_set_contents(file, text, -1, NULL));
    return config_load(file, collect, errors);
}

#define OUT_HEAD "hostname = \"mail.example.com\";\n"

#define MINIMUM                                                                                    \
    "hostname = \"mail.example.com\";\n"                                                           \
    "in = { domains = [ \"Example.COM\", \".example.org\" ];\n"                                    \
    "  backend = { hosts = [ \"10.0.0.2\" ]; identity = \"xclient\"; };\n"

static void test_minimum(void)
{
    GString *errors = g_string_new(NULL);
    struct config *config = load_text(MINIMUM "};\n", errors);
    g_assert_cmpstr(errors->str, ==, "");
    g_assert_nonnull(config);
    g_assert_cmpstr(config->in.domains.items[0], ==, "example.com");
    g_assert_cmpstr(config->in.domains.items[1], ==, ".example.org");
    g_assert_cmpint(config->in.backend.hosts.items[0].port, ==, 25);
    g_assert_cmpint(config->in.backend.identity, ==, CONFIG_IDENTITY_XCLIENT);
    g_assert_cmpint(config->in.backend.tls, ==, CONFIG_TLS_MIRROR);
    g_assert_cmpint(config->in.daemon.timeouts.command, ==, 300000);
    g_assert_cmpint(config->in.daemon.limits.message_size, ==, 104857600);
    g_assert_cmpint(config->in.listen.items[0].address.port, ==, 25);
    g_assert_cmpint(config->log_level, ==, LOG_LEVEL_INFO);
    config_unref(config);
    g_string_free(errors, TRUE);
}

/* Each bad text must be refused with a message that contains `line` (as ":N:") and every `part`. */
static const struct {
    const char *name, *text, *line, *part, *part2;
} bad[] = {
    {"nothing", "", "", "hostname: it must be set", "in.backend.identity: it must be set"},
    {"CR alone", "hostname = \"a.example\";\r// x\rin = { };\n", ":1:", "a line ends in CR alone",
     ""},
    {"UTF-16", "\xff\xfeh", ":1:", "UTF-16", ""},
    {"mark in an included file", "@include \"mark\"\n" MINIMUM "};\n", "mark:1:", "byte order mark",
     ""},
    {"CR alone in the domains file", MINIMUM "domains_file = \"cr\"; };\n", "cr:1: in.domains_file",
     "a line ends in CR alone", ""},
    {"syntax", "hostname = ;\n", ":1:", "syntax error", ""},
    {"no quotation marks", "\nhostname = mail.example.com;\n", ":2:", "need quotation marks", ""},
    {"neither true nor false", MINIMUM "reverse_dns = yes; };\n", ":4:", "need quotation marks",
     ""},
    {"an address without quotation marks", MINIMUM "listen = [ 192.0.2.1 ]; };\n",
     ":4:", "need quotation marks", ""},
    {"two numbers", MINIMUM "workers = 5 5; };\n", ":4:", "syntax error\n", ""},
    {"one sign too many", MINIMUM "workers == 5; };\n", ":4:", "syntax error\n", ""},
    {"no closing quotation mark",
     "// a \"\n/* b \" */ hostname = \"a\\\"b.example;\nin = {\n domains = [ \"a\" ]; };\n",
     ":2:", "a quotation mark on this line is not closed", ""},
    {"a brace too few", "hostname = \"a.example\"; // \"\nin = { listen = [ \"b\" };\n",
     ":2:", "syntax error", ""},
    {"unknown", MINIMUM "wrokers = 3; };\n", ":4:", "in.wrokers: no such option",
     "did you mean in.workers?"},
    {"unknown group", MINIMUM "}; foo = { x = 1; };\n", ":4:", "foo: no such option", ""},
    {"type", MINIMUM "workers = \"many\"; };\n", ":4:", "in.workers",
     "expected a number from 1 to 1024"},
    {"range", MINIMUM "workers = 0; };\n", ":4:", "found \"0\"", "from 1 to 1024"},
    {"enum", MINIMUM "bare_newlines = \"maybe\"; };\n", ":4:", "found \"maybe\"",
     "one of \"normalize\", \"reject\""},
    {"duration", MINIMUM "timeouts = { line = \"5 parsecs\"; }; };\n", ":4:", "in.timeouts.line",
     "a time like"},
    {"network", MINIMUM "private_clients = [ \"10.0.0.0/99\" ]; };\n", ":4:", "in.private_clients",
     "prefix length"},
    {"everybody by XCLIENT", MINIMUM "xclient_hosts = [ \"0.0.0.0/0\" ]; };\n",
     ":4:", "in.xclient_hosts: 0.0.0.0/0 lets anybody claim any address", ""},
    {"half of everybody by PROXY", MINIMUM "proxy_hosts = [ \"10.0.0.9\", \"::/1\" ]; };\n",
     ":4:", "in.proxy_hosts: ::/1 lets anybody claim any address", ""},
    {"everybody private", MINIMUM "private_clients = [ \"::/0\" ]; };\n",
     ":4:", "in.private_clients: ::/0 is not a private network", ""},
    {"listen", MINIMUM "listen = [ \"25\" ]; };\n", ":4:", "in.listen", "[::]:25"},
    {"domain", "in = { domains = [ \"a b\" ]; };", ":1:", "in.domains", "expected a domain"},
    {"host name as backend", "in = { backend = { hosts = [ \"mail.example\" ]; }; };",
     ":1:", "in.backend.hosts", "expected an IP address"},
    {"missing certificate", MINIMUM "}; tls = { certificates = ( { cert = \"no.pem\"; } ); };\n",
     ":4:", "tls.certificates", "no.pem: No such file"},
    {"group expected", MINIMUM "limits = 3; };\n", ":4:", "in.limits", "braces"},
    {"two errors", MINIMUM "workers = 0; greet_delay = -1; };\n", ":4:", "in.workers",
     "in.greet_delay"},
    {"a former name", MINIMUM "greet_delay_ms = 30001; };\n",
     ":4: in.greet_delay_ms: found \"30001ms\"", "from 0s to 30s", ""},
    {"a former name's type", MINIMUM "greet_delay_ms = \"3s\"; };\n",
     ":4: in.greet_delay_ms: found a string; expected a whole number", "", ""},
    {"out: nobody may send", OUT_HEAD "out = { };\n", ":2:", "out.allow: nobody may send", ""},
    {"out: everybody may send", OUT_HEAD "out = { allow = [ \"10.0.0.2\", \"0.0.0.0/0\" ]; };\n",
     ":2:", "out.allow: 0.0.0.0/0 makes an open relay", ""},
    {"out: half of everybody may send", OUT_HEAD "out = { allow = [ \"128.0.0.0/1\" ]; };\n",
     ":2:", "out.allow: 128.0.0.0/1 makes an open relay", ""},
    {"out: all of IPv6 may send", OUT_HEAD "out = { allow = [ \"2000::/3\" ]; };\n",
     ":2:", "out.allow: 2000::/3 makes an open relay", ""},
    {"out: unknown", OUT_HEAD "out = { alow = [ \"10.0.0.2\" ]; };\n",
     ":2:", "out.alow: no such option; did you mean out.allow?", ""},
    {"out: route without a domain",
     OUT_HEAD "out = { allow = [ \"10.0.0.2\" ];\nroutes = ( { action = \"deny\"; } ); };\n",
     ":3:", "out.routes[0].domain: it must be set", "\".domain\" or \"*\""},
    {"out: action",
     OUT_HEAD "out = { allow = [ \"10.0.0.2\" ];\n"
              "routes = ( { domain = [ \"*\" ]; action = \"drop\"; } ); };\n",
     ":3:", "out.routes[0].action: found \"drop\"", "\"accept\", \"continue\", \"deny\""},
    {"out: next hop",
     OUT_HEAD
     "out = { allow = [ \"10.0.0.2\" ];\n"
     "routes = ( { domain = [ \"*\" ]; next_hop = [ \"a b\", \"h:0\", \"h:99999\" ]; } ); };\n",
     ":3:", "found \"a b\"; expected a host name or an IP address", "found \"h:99999\""},
    {"out: log-in without verified TLS",
     OUT_HEAD "out = { allow = [ \"10.0.0.2\" ]; default_route = { next_hop = [ \"s.example\" ];\n"
              "user = \"u\"; password_file = \"host_list\"; }; };\n",
     "", "out.default_route: a log-in (user) needs tls = \"verify\"", ""},
    {"out: log-in without a password",
     OUT_HEAD "out = { allow = [ \"10.0.0.2\" ]; default_route = { next_hop = [ \"s.example\" ];\n"
              "user = \"u\"; tls = \"verify\"; }; };\n",
     "", "user and password_file must be set together", ""},
    {"out: log-in anywhere",
     OUT_HEAD "out = { allow = [ \"10.0.0.2\" ]; default_route = {\n"
              "user = \"u\"; password_file = \"host_list\"; tls = \"verify\"; }; };\n",
     "", "a log-in (user) needs a next_hop", ""},
    {"out: DANE demanded, and nothing validated",
     "dns = { validate = false; };\n" OUT_HEAD
     "out = { allow = [ \"10.0.0.2\" ]; routes = ( { domain = [ \"a.example\" ]; "
     "tls = \"dane\"; } ); };\n",
     "", "tls = \"dane\" needs dns.validate", ""},
    {"out: times to retry",
     OUT_HEAD "out = { allow = [ \"10.0.0.2\" ];\nretry = [ \"5m\", \"soon\" ]; };\n",
     ":3:", "out.retry: found \"soon\"; expected a list of times", "from 100ms to 1d"},
    {"out: no times to retry", OUT_HEAD "out = { allow = [ \"10.0.0.2\" ];\nretry = [ ]; };\n",
     ":3:", "out.retry: the list is empty", ""},
    {"out: nowhere to store",
     OUT_HEAD "out = { allow = [ \"10.0.0.2\" ]; delivery = \"spool\"; spool = \"\"; };\n", "",
     "delivery = \"spool\" needs a folder", ""},
    {"out: bounces by a log-in without verified TLS",
     OUT_HEAD "out = { allow = [ \"10.0.0.2\" ]; bounce_route = { next_hop = [ \"s.example\" ];\n"
              "user = \"u\"; password_file = \"host_list\"; }; };\n",
     "", "out.bounce_route: a log-in (user) needs tls = \"verify\"", ""},
    {"out: verify without a name",
     OUT_HEAD "out = { allow = [ \"10.0.0.2\" ]; routes = ( { domain = [ \"x.example\" ];\n"
              "next_hop = [ \"192.0.2.1\" ]; tls = \"verify\"; } ); };\n",
     "", "out.routes[0]: tls = \"verify\" at an IP address needs tls_name", ""},
    {"out: users without TLS", OUT_HEAD "out = {\nusers_file = \"host_list\"; };\n",
     ":3:", "out.users_file: log-ins need TLS", ""},
    {"out: TLS listener without certificates",
     OUT_HEAD "out = { allow = [ \"10.0.0.2\" ];\nlisten = [ \"10.0.0.1:465 tls\" ]; };\n",
     ":3:", "out.listen: a listener marked \"tls\" needs tls.certificates", ""},
    {"out: proxy listener",
     OUT_HEAD "out = { allow = [ \"10.0.0.2\" ];\nlisten = [ \"10.0.0.1:25 proxy\" ]; };\n",
     ":3:", "out.listen: relay-out does not accept PROXY headers", ""},
    {"out: submission without users",
     OUT_HEAD "out = { allow = [ \"10.0.0.2\" ];\nlisten = [ \"10.0.0.1:587 submission\" ]; };\n",
     ":3:", "out.listen: a submission listener needs out.users_file", ""},
    {"out: hello", OUT_HEAD "out = { allow = [ \"10.0.0.2\" ];\nhello = \"a b\"; };\n",
     ":3:", "out.hello: found \"a b\"; expected a host name", ""},
    {"out: TLS for none but routes",
     OUT_HEAD "out = { allow = [ \"10.0.0.2\" ];\ntls = { level = \"default\"; }; };\n",
     ":3:", "out.tls.level: found \"default\"", ""},
    {"identity must be said",
     "hostname = \"a.example\"; in = { domains = [ \"a.example\" ]; "
     "backend = { hosts = [ \"10.0.0.2\" ]; }; };",
     "", "in.backend.identity: it must be set",
     "\"xclient\", \"proxy-v2\", \"proxy-v1\", \"none\""},
    {"no domains",
     "hostname = \"a.example\"; in = { backend = { hosts = [ \"10.0.0.2\" ]; "
     "identity = \"none\"; }; };",
     "", "in.domains", "no domain to take mail for"},
    {"no domains beside other errors", "in = { workers = 0; };\n", ":1:", "in.workers",
     "no domain to take mail for"},
    {"domains file", MINIMUM "domains_file = \"bad-domains\"; };\n",
     "bad-domains:2: in.domains_file", "found \"not a domain\"; expected a domain",
     "bad-domains:4: in.domains_file"},
    {"NUL octet in the domains file", MINIMUM "domains_file = \"zero\"; };\n",
     "zero:1:", "in.domains_file", "NUL octet"},
    {"folder as a file", MINIMUM "domains_file = \".\"; };\n", ":4:", "in.domains_file",
     "Is a directory"},
    {"no hosts", "in = { backend = { hosts = [ ]; }; };\n", ":1:", "in.backend.hosts",
     "the list is empty"},
    {"any host", "in = { backend = { hosts = [ \"*:25\" ]; }; };\n", ":1:", "in.backend.hosts",
     "found \"*:25\"; expected an IP address"},
    {"link-local backend", "in = { backend = { hosts = [ \"[fe80::2]:25\" ]; }; };\n",
     ":1:", "in.backend.hosts", "fe80::2 is a link-local address"},
    {"link-local listener", MINIMUM "listen = [ \"[fe80::1]:25\" ]; };\n", ":4:", "in.listen",
     "link-local"},
    {"out: link-local next hop",
     OUT_HEAD
     "out = { allow = [ \"10.0.0.2\" ];\n default_route = { next_hop = \"[febf::1]:25\"; }; };\n",
     "out.default_route.next_hop", "link-local", ""},
    {"priority without a version", MINIMUM "};\ntls = {\n priority = \"NORMAL:-VERS-ALL\"; };\n",
     ":6:", "tls.priority", "leaves no version of TLS"},
    {"priority without TLS", MINIMUM "};\ntls = {\n priority = \"NORMAL:-VERS-TLS-ALL\"; };\n",
     ":6:", "tls.priority", "leaves no version of TLS"},
    {"priority below the minimum",
     MINIMUM
     "};\ntls = { priority = \"NORMAL:-VERS-ALL:+VERS-TLS1.2\";\n minimum_version = \"1.3\"; };\n",
     ":5:", "tls.priority", "leaves no version of TLS"},
    {"blocklist zone", MINIMUM "dnsbl = { zones = [ \"bl.example\", \"bl.example=300\" ]; }; };\n",
     ":4:", "in.dnsbl.zones", "bl.example=300"},
    {"proxy without hosts", MINIMUM "listen = [ \"127.0.0.1:2525 proxy\" ]; };\n",
     ":4:", "in.listen", "needs in.proxy_hosts"},
    {"a listener twice", MINIMUM "listen = [ \"10.0.0.1:25\", \"10.0.0.1:25\" ]; };\n",
     ":4:", "in.listen", "10.0.0.1:25 and 10.0.0.1:25 cannot both be listened on"},
    {"a listener in another", MINIMUM "listen = [ \"0.0.0.0:25\", \"10.0.0.1:25\" ]; };\n",
     ":4:", "in.listen", "0.0.0.0:25 and 10.0.0.1:25"},
    {"listeners of both",
     MINIMUM "listen = [ \"0.0.0.0:2526\" ]; };\nout = { listen = [ \"10.0.0.1:2526\" ]; allow = "
             "[ \"10.0.0.2\" ]; };\n",
     ":5:", "out.listen", "10.0.0.1:2526 and 0.0.0.0:2526"},
    {"relay-in behind itself",
     "hostname = \"a.example\"; in = { domains = [ \"b.example\" ]; listen = [ \"[::]:26\" ]; "
     "backend = { hosts = [ \"127.0.0.1:26\" ]; identity = \"none\"; }; };\n",
     "", "in.backend", "127.0.0.1:26 is relay-in itself"},
    {"relay-in behind itself, by IPv6",
     "hostname = \"a.example\"; in = { domains = [ \"b.example\" ]; listen = [ \"[::]:26\" ]; "
     "backend = { hosts = [ \"[::1]:26\" ]; identity = \"none\"; }; };\n",
     "", "in.backend", "[::1]:26 is relay-in itself"},
    {"controls in a value", "hostname = \"a\x1b[2J\xc2\x9b.example\"; in = { };\n",
     ":1:", "found \"a?[2J??.example\"", ""},
    {"no listeners", MINIMUM "listen = [ ]; };\n", ":4:", "in.listen", "the list is empty"},
    {"address as host name", "hostname = \"10.0.0.1\";\n", ":1:", "found \"10.0.0.1\"",
     "expected a host name"},
    {"UTF-8 in the host name", "hostname = \"m\xc3\xa4il.example\";\n", ":1:", "hostname",
     "expected a host name"},
    {"number of 33 bits", MINIMUM "limits = {\n recipients = 4294967297; }; };\n",
     ":5:", "4294967297: too large", "append an L"},
    {"found type", MINIMUM "workers = true; };\n", ":4:", "in.workers: found true or false",
     "expected a number"},
    {"certificate's settings",
     MINIMUM "}; tls = { certificates = ( { cert = \"host_list\"; "
             "kay = \"host_list\"; },\n { cert = \"host_list\"; key = 5; } ); };\n",
     ":5:", "tls.certificates[0].kay: no such option; did you mean tls.certificates[0].key?",
     "tls.certificates[1].key: found a whole number"},
    {"certificate without a name", MINIMUM "}; tls = { certificates = ( { cert = \"\"; } ); };\n",
     ":4:", "tls.certificates[0].cert", "expected the name of a file"},
    {"group without a setting",
     MINIMUM "backends = ( { hosts = [ \"10.0.0.3\" ]; identity = \"none\"; } ); };\n",
     ":4:", "in.backends[0].domains: it must be set", ""},
    {"setting of a group in a list",
     MINIMUM "backends = ( { domains = [ \"b.example\" ]; hosts = [ \"10.0.0.3\" ];\n"
             " identity = \"nobody\"; } ); };\n",
     ":5:", "in.backends[0].identity: found \"nobody\"", ""},
    {"group left out is not looked at",
     MINIMUM "submission = { hosts = [ \"10.0.0.2:587\" ]; }; };\n",
     ":4:", "in.submission.identity: it must be set", ""},
    {"TLS listener without certificates", MINIMUM "listen = [ \"[::]:465 tls\" ]; };\n",
     ":4:", "in.listen: a listener marked \"tls\" needs tls.certificates", ""},
    {"verify without a name",
     MINIMUM "submission = { hosts = [ \"10.0.0.2:587\" ]; identity = \"none\"; "
             "tls = \"verify\"; }; };\n",
     "", "in.submission: tls = \"verify\" needs tls_name", ""},
    {"two sources of a family",
     MINIMUM "backends = ( { domains = [ \"b.example\" ]; hosts = [ \"10.0.0.3\" ]; "
             "identity = \"none\"; source = [ \"10.0.0.1\", \"10.0.0.9\" ]; } ); };\n",
     "", "in.backends[0]: source takes at most one IPv4", ""},
    {"list in place of groups", MINIMUM "backends = [ \"10.0.0.3\" ]; };\n", ":4:", "in.backends",
     "expected a list of groups"},
    {"key alone missing",
     MINIMUM "}; tls = { certificates = ( { cert = \"host_list\"; "
             "key = \"no.key\"; } ); };\n",
     ":4:", "tls.certificates", "no.key: No such file"},
    {"included file", "@include \"part.conf\"\n", "/part.conf:2: in.wrokers", "did you mean",
     "relay.conf: hostname"},
    {"included file not there", "\n@include \"none.conf\"\n", ":2:", "none.conf: No such file", ""},
    {"included folder", "@include \".\"\n", ":1:", ".: Is a directory", ""},
    {"file that includes itself", "@include \"relay.conf\"\n", ":1:", "included too deeply", ""},
    {"certificates without a CA", MINIMUM "}; tls = { client_certificates = \"require\"; };\n",
     ":4:", "tls.client_certificates", "ca_file"},
};

static void check_holds(const char *text, const char *part)
{
    if (strstr(text, part) != NULL)
        return;
    g_test_message("expected to find: %s", part);
    g_test_message("got: %s", text);
    g_test_fail();
}

static void test_bad(gconstpointer data)
{
    size_t i = GPOINTER_TO_SIZE(data);
    GString *errors = g_string_new(NULL);
    struct config *config = load_text(bad[i].text, errors);
    g_test_message("%s", errors->str);
    g_assert_null(config);
    check_holds(errors->str, folder);
    check_holds(errors->str, bad[i].line);
    check_holds(errors->str, bad[i].part);
    check_holds(errors->str, bad[i].part2);
    g_string_free(errors, TRUE);
}

/* Reads Haraka's host_list unchanged. */
static void test_domains_file(void)
{
    GString *errors = g_string_new(NULL);
    struct config *config =
        load_text("hostname = \"a.example\"; in = { domains_file = \"host_list\"; "
                  "backend = { hosts = [ \"[fd00::2]:2525\" ]; identity = "
                  "\"none\"; }; };",
                  errors);
    g_assert_cmpstr(errors->str, ==, "");
    g_assert_cmpuint(config->in.domains.count, ==, 2);
    g_assert_cmpstr(config->in.domains.items[1], ==, "two.example");
    config_unref(config);
    g_string_free(errors, TRUE);
}

/* Domains are stored in one form, however they are written; a byte-order mark is skipped. */
static void test_other_forms(void)
{
    GString *errors = g_string_new(NULL);
    struct config *config =
        load_text("\xef\xbb\xbfhostname = \"a.example\"; in = { backend = { hosts = [ \"10.0.0.2\" ]; "
                  "identity = \"none\"; };\r\n domains = [ \"B\xc3\x9c" "cher.example\", "
                  "\".XN--BCHER-KVA.example\" ]; };",
                  errors);
    g_assert_cmpstr(errors->str, ==, "");
    g_assert_cmpstr(config->in.domains.items[0], ==, "xn--bcher-kva.example");
    g_assert_cmpstr(config->in.domains.items[1], ==, ".xn--bcher-kva.example");
    config_unref(config);
    g_string_free(errors, TRUE);
}

static void note_warning(void *context, const char *text)
{
    g_string_append_printf(context, "%s\n", text);
}

/* Settings that are valid but hardly intended give a warning with file and line, not an error. */
static void test_warnings(void)
{
    static const struct {
        const char *text, *place, *said; /* NULL: no warning */
    } cases[] = {
        {MINIMUM "};\n", NULL, NULL},
        {MINIMUM "domains_file = \"host_list\"; };\n", NULL, NULL},
        {"hostname = \"a.example\"; in = { backend = { hosts = [ \"10.0.0.2\" ]; identity = "
         "\"none\"; };\n"
         " domains = [ \"b.example\",\n \".com\" ]; };\n",
         ":3: in.domains: ", "every domain under \"com\""},
        {MINIMUM "listen = [ \"[::]:25\", \"10.0.0.1:25\" ]; };\n",
         ":4: in.listen: ", "[::] includes IPv4, so [::]:25 and 10.0.0.1:25"},
        {MINIMUM "listen = [ \"0.0.0.0:25\", \"10.0.0.1:26\", \"[fd00::1]:25\" ]; };\n", NULL,
         NULL},
        {MINIMUM "domains_file = \"wide\"; };\n",
         "/wide:2: in.domains_file: ", "every domain under \"org\""},
        {MINIMUM
         "backends = ( { domains = [ \"one.example\",\n \"B.example\" ];\n"
         "hosts = [ \"10.0.0.3\" ]; identity = \"none\"; },\n"
         "{ domains = \"one.example\"; hosts = [ \"10.0.0.4\" ]; identity = \"none\"; } ); };\n",
         ":7: in.backends[1].domains: ", "one.example also belongs to another backend"},
        {MINIMUM "greet_delay = \"3s\"; };\n", NULL, NULL},
        {MINIMUM "greet_delay_ms = 2500; };\n",
         ":4: in.greet_delay_ms: ", "write greet_delay = \"2500ms\" instead"},
        {MINIMUM "greet_delay_ms = 2500;\ngreet_delay = \"3s\"; };\n",
         ":4: in.greet_delay_ms: ", "ignored, because in.greet_delay is set too"},
        {MINIMUM "};\ntls = {\ncertificates = ( { cert = \"host_list\"; } ); };\n", NULL, NULL},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        GString *errors = g_string_new(NULL), *warnings = g_string_new(NULL);
        struct config *config = load_text(cases[i].text, errors);
        g_test_message("%s", cases[i].text);
        g_assert_cmpstr(errors->str, ==, "");
        g_assert_true(config_warn(config, note_warning, warnings));
        if (cases[i].place == NULL) {
            g_assert_cmpstr(warnings->str, ==, "");
        } else {
            check_holds(warnings->str, cases[i].place);
            check_holds(warnings->str, cases[i].said);
        }
        config_unref(config);
        g_string_free(errors, TRUE);
        g_string_free(warnings, TRUE);
    }
}

/* The former name gives the value, unless the option is set under its own name. */
static void test_former_name(void)
{
    static const struct {
        const char *text;
        int64_t delay_ms;
    } cases[] = {
        {MINIMUM "greet_delay_ms = 2500; };\n", 2500},
        {MINIMUM "greet_delay_ms = 2500;\ngreet_delay = \"3s\"; };\n", 3000},
        {MINIMUM "};\n", 0},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        GString *errors = g_string_new(NULL);
        struct config *config = load_text(cases[i].text, errors);
        g_assert_cmpstr(errors->str, ==, "");
        g_assert_cmpint(config->in.greet_delay_ms, ==, cases[i].delay_ms);
        config_unref(config);
        g_string_free(errors, TRUE);
    }
}

static char *printed(const struct config *config)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    config_print(config, out);
    fclose(out);
    return text;
}

/* Names in a file that is read through a symbolic link are relative to the link. */
static void test_link(void)
{
    GString *errors = g_string_new(NULL);
    g_autofree char *below = g_build_filename(folder, "below", NULL);
    g_autofree char *target = g_build_filename(below, "real.conf", NULL);
    g_autofree char *link = g_build_filename(folder, "link.conf", NULL);
    g_assert_cmpint(g_mkdir(below, 0700), ==, 0);
    g_assert_true(
        g_file_set_contents(target, MINIMUM "domains_file = \"host_list\"; };\n", -1, NULL));
    g_assert_cmpint(symlink("below/real.conf", link), ==, 0);
    struct config *config = config_load(link, collect, errors);
    g_assert_cmpstr(errors->str, ==, "");
    g_assert_cmpstr(config->file, ==, link);
    g_assert_cmpuint(config->in.domains.count, ==, 4);
    config_unref(config);
    g_remove(link);
    g_remove(target);
    g_rmdir(below);
    g_string_free(errors, TRUE);
}

/* The installed example is valid once its certificate exists. */
static void test_example(void)
{
    const char *source = g_getenv("POSTERN_SRCDIR");
    if (source == NULL) {
        g_test_skip("POSTERN_SRCDIR is not set");
        return;
    }
    g_autofree char *example = g_build_filename(source, "data", "relay.conf", NULL);
    g_autofree char *tls = g_build_filename(folder, "tls", NULL);
    g_autofree char *cert = g_build_filename(tls, "fullchain.pem", NULL);
    g_autofree char *key = g_build_filename(tls, "privkey.pem", NULL);
    g_autofree char *text = NULL;
    GString *errors = g_string_new(NULL);
    g_assert_cmpint(g_mkdir(tls, 0700), ==, 0);
    g_assert_true(g_file_set_contents(cert, "", -1, NULL));
    g_assert_true(g_file_set_contents(key, "", -1, NULL));
    g_assert_true(g_file_get_contents(example, &text, NULL, NULL));
    struct config *config = load_text(text, errors);
    g_assert_cmpstr(errors->str, ==, "");
    g_assert_cmpuint(config->tls.certificates.count, ==, 1);
    const struct tls_pair *pairs = config->tls.certificates.items;
    g_assert_cmpstr(pairs[0].key, ==, key);
    config_unref(config);
    g_remove(key);
    load_text(text, errors);
    check_holds(errors->str, "privkey.pem: No such file");
    g_remove(cert);
    g_rmdir(tls);
    g_string_free(errors, TRUE);
}

/* The output of --print-config loads to the same values. */
static void test_round_trip(void)
{
    GString *errors = g_string_new(NULL);
    struct config *first = load_text(
        "@include \"tls.conf\"\n" MINIMUM
        "private_clients = [ \"127.0.0.0/8\", \"fd00::/8\" ]; workers = 7;\n"
        "listen = [ \"[::]:2525\", \"127.0.0.1:465 tls\" ];\n"
        "timeouts = { line = \"250ms\"; data = \"90s\"; command = \"10m\"; park_after = 0; };\n"
        "backends = ( { domains = [ \"B.example\" ]; hosts = [ \"10.0.0.3\", \"[fd00::3]:26\" ];\n"
        "  identity = \"proxy-v2\"; source = [ \"10.0.0.1\", \"fd00::1\" ]; } );\n"
        "limits = { message_size = \"5G\"; }; };\n"
        "out = { allow = [ \"10.0.0.2\" ]; retry = [ 90, 120 ]; spool = \"s\"; };\n",
        errors);
    g_assert_nonnull(first);
    char *once = printed(first);
    struct config *second = load_text(once, errors);
    g_test_message("%s%s", once, errors->str);
    g_assert_nonnull(second);
    char *twice = printed(second);
    g_assert_cmpstr(once, ==, twice);
    check_holds(once, "line = \"250ms\";");
    check_holds(once, "data = \"90s\";");
    check_holds(once, "command = \"10m\";");
    check_holds(once, "park_after = \"0s\";");
    check_holds(once, "message_size = 5368709120L;");
    check_holds(once, "127.0.0.1:465 tls");
    check_holds(once, "retry = [ \"90s\", \"2m\" ];");
    check_holds(once, "/s\";");
    check_holds(once, "control = \"/run/postern\";");
    check_holds(once, "ca_file = \"\";");
    g_assert_cmpuint(second->tls.certificates.count, ==, 2);
    const struct tls_pair *pairs = second->tls.certificates.items;
    g_assert_cmpstr(pairs[0].key, ==, "");
    g_assert_true(g_str_has_suffix(pairs[1].key, "/part.conf"));
    const struct config_backend *backends = second->in.backends.items;
    g_assert_cmpuint(second->in.backends.count, ==, 1);
    g_assert_cmpstr(backends[0].domains.items[0], ==, "b.example");
    g_assert_cmpint(backends[0].spares, ==, 2);
    g_assert_cmpint(backends[0].source.count, ==, 2);
    g_assert_true(second->in.backend.given);
    g_assert_false(second->in.submission.given);
    free(once);
    free(twice);
    config_unref(first);
    config_unref(second);
    g_string_free(errors, TRUE);
}

static bool is_request_of_ours(const char *line)
{
    static const char *const requests[] = {".It Cm ", ".Pp", ".Ss ", ".Bl -tag -width Ds", ".El"};
    for (size_t i = 0; i < G_N_ELEMENTS(requests); i++) {
        if (g_str_has_prefix(line, requests[i]))
            return true;
    }
    return false;
}

/* The manual has every option once, and no line that mdoc(7) would take as another request. */
static void test_manual(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    config_print_manual(out);
    fclose(out);
    check_holds(text, ".It Cm in.backend.spares\n");
    check_holds(text, ".It Cm in.backends.domains\n");
    check_holds(text, ".It Cm tls.certificates.cert\n");
    check_holds(text, "The settings of in.backend apply here as well.\n");
    for (size_t i = 0; i < options.count; i++) {
        g_autofree char *item = g_strdup_printf(".It Cm %s\n", options.rows[i].path);
        const char *first = strstr(text, item);
        g_test_message("%s", options.rows[i].path);
        g_assert_nonnull(first);
        g_assert_null(strstr(first + 1, item));
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        g_test_message("%s", *line);
        g_assert_true(((*line)[0] != '.' && (*line)[0] != '\'') || is_request_of_ours(*line));
    }
    free(text);
}

static void test_table(void)
{
    for (size_t i = 0; i < options.count; i++) {
        g_test_message("%s", options.rows[i].path);
        g_assert_cmpstr(options.rows[i].help, !=, "");
        for (size_t j = 0; j < i; j++)
            g_assert_cmpstr(options.rows[i].path, !=, options.rows[j].path);
    }
}

/* A daemon's options are required if its group is present or that daemon asks. A fault that concerns only
 * the other daemon does not stop it, but gives a warning. */
static void test_halves(void)
{
    static const struct {
        const char *name, *text;
        unsigned asked, parts; /* 0: an error */
        const char *error;     /* or the warning */
    } halves[] = {
        {"out alone", OUT_HEAD "out = { allow = [ \"10.0.0.2\" ]; };\n", 0, CONFIG_PART_OUT, ""},
        {"out alone, for relay-out", OUT_HEAD "out = { allow = [ \"10.0.0.2\" ]; };\n",
         CONFIG_PART_OUT, CONFIG_PART_OUT, ""},
        {"out alone, for relay-in", OUT_HEAD "out = { allow = [ \"10.0.0.2\" ]; };\n",
         CONFIG_PART_IN, 0, "in.backend.hosts: it must be set"},
        {"in alone", MINIMUM "};\n", 0, CONFIG_PART_IN, ""},
        {"in alone, for relay-out", MINIMUM "};\n", CONFIG_PART_OUT, 0,
         "out.allow: nobody may send"},
        {"both", MINIMUM "}; out = { allow = [ \"10.0.0.2\" ]; };\n", CONFIG_PART_IN,
         CONFIG_PART_IN | CONFIG_PART_OUT, ""},
        {"both, relay-out's wrong", MINIMUM "}; out = { };\n", 0, 0, "out.allow: nobody may send"},
        {"both, relay-out's wrong, for relay-in", MINIMUM "}; out = { };\n", CONFIG_PART_IN,
         CONFIG_PART_IN | CONFIG_PART_OUT, "out.allow: nobody may send"},
        {"values of relay-out's, for relay-in",
         MINIMUM "}; out = { allow = [ \"10.0.0.2\", \"x\" ]; workers = 0; routes = 5; hello = 1; };\n",
         CONFIG_PART_IN, CONFIG_PART_IN | CONFIG_PART_OUT, "out.workers: "},
        {"values of relay-in's, for relay-out",
         MINIMUM "workers = 0; dnsbl = { zones = 1; }; }; out = { allow = [ \"10.0.0.2\" ]; };\n",
         CONFIG_PART_OUT, CONFIG_PART_IN | CONFIG_PART_OUT, "in.dnsbl.zones: "},
        {"relay-in's domains, for relay-out",
         MINIMUM "domains_file = \"none\"; }; out = { allow = [ \"10.0.0.2\" ]; };\n",
         CONFIG_PART_OUT, 0, "in.domains_file: "},
        {"neither's", MINIMUM "}; out = { allow = [ \"10.0.0.2\" ]; }; tls = 1;\n", CONFIG_PART_IN,
         0, "tls: "},
        {"an empty in", OUT_HEAD "in = { }; out = { allow = [ \"10.0.0.2\" ]; };\n",
         CONFIG_PART_OUT, 0, "in.backend.hosts: it must be set"},
    };
    g_autofree char *file = g_build_filename(folder, "relay.conf", NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(halves); i++) {
        GString *errors = g_string_new(NULL);
        g_test_message("%s", halves[i].name);
        g_assert_true(g_file_set_contents(file, halves[i].text, -1, NULL));
        struct config *config = config_load_for(file, halves[i].asked, collect, errors);
        g_assert_cmpint(config != NULL, ==, halves[i].parts != 0);
        if (config != NULL) {
            g_assert_cmpint(config->parts, ==, halves[i].parts);
            g_assert_cmpstr(errors->str, ==, "");
            config_warn(config, collect, errors);
        }
        g_assert_nonnull(strstr(errors->str, halves[i].error));
        config_unref(config);
        g_string_free(errors, TRUE);
    }
}

/* A reload names the options that it cannot change, for the daemon that needs the restart. */
static void test_restarts(void)
{
    static const char before[] = MINIMUM "workers = 4; }; out = { allow = [ \"10.0.0.2\" ]; };\n";
    static const char after[] =
        MINIMUM "workers = 5; greet_delay = \"1ms\"; listen = [ \"[::]:26\" ]; };\n"
                "out = { allow = [ \"10.0.0.3\" ]; retry = [ \"1m\" ]; }; user = \"me\";\n";
    GString *errors = g_string_new(NULL), *in = g_string_new(NULL), *out = g_string_new(NULL);
    struct config *a = load_text(before, errors), *b = load_text(after, errors);

    g_assert_cmpstr(errors->str, ==, "");
    config_report_restarts(a, b, CONFIG_PART_IN, collect, in);
    config_report_restarts(a, b, CONFIG_PART_OUT, collect, out);
    g_assert_cmpstr(in->str, ==, "user\nin.listen\nin.workers\n");
    g_assert_cmpstr(out->str, ==, "user\nout.retry\n");
    config_report_restarts(a, a, CONFIG_PART_IN | CONFIG_PART_OUT, collect, errors);
    g_assert_cmpstr(errors->str, ==, "");
    config_unref(a);
    config_unref(b);
    g_string_free(errors, TRUE);
    g_string_free(in, TRUE);
    g_string_free(out, TRUE);
}

/* A group missing from the file is missing from the printed text, which can be read again. */
static void test_print_half(void)
{
    static const char text[] = OUT_HEAD
        "out = { allow = [ \"10.0.0.2\" ]; routes = (\n"
        "{ domain = [ \"A.example\", \".b.example\", \"*\" ]; next_hop = [ \"h:26\" ]; } );\n"
        "state = \"/a\\x1b\\\"\\\\\\xff\\xc3\\xbc\"; };\n";
    GString *errors = g_string_new(NULL);
    char *printed[2] = {NULL, NULL};
    size_t len;

    for (int i = 0; i < 2; i++) {
        struct config *config = load_text(i == 0 ? text : printed[0], errors);
        g_assert_cmpstr(errors->str, ==, "");
        FILE *stream = open_memstream(&printed[i], &len);
        config_print(config, stream);
        fclose(stream);
        config_unref(config);
    }
    g_assert_cmpstr(printed[0], ==, printed[1]);
    g_assert_null(strstr(printed[0], "\nin = "));
    g_assert_nonnull(strstr(printed[0], "\"/a\\x1b\\\"\\\\\\xff\xc3\xbc\""));
    g_assert_nonnull(strstr(printed[0], "domain = [ \"a.example\", \".b.example\", \"*\" ]"));
    free(printed[0]);
    free(printed[1]);
    g_string_free(errors, TRUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("postern-config-XXXXXX", NULL);
    g_autofree char *good = g_build_filename(folder, "host_list", NULL);
    g_autofree char *wrong = g_build_filename(folder, "bad-domains", NULL);
    g_autofree char *conf = g_build_filename(folder, "relay.conf", NULL);
    g_autofree char *zero = g_build_filename(folder, "zero", NULL);
    g_autofree char *part = g_build_filename(folder, "part.conf", NULL);
    g_autofree char *tls = g_build_filename(folder, "tls.conf", NULL);
    g_file_set_contents(good, "\xef\xbb\xbf# ours\n one.example \r\nTwo.example # too\n\n", -1,
                        NULL);
    g_file_set_contents(wrong, "one.example\nnot a domain\n\n@\n", -1, NULL);
    g_file_set_contents(zero, "one.example\0two\n", 16, NULL);
    g_autofree char *mark = g_build_filename(folder, "mark", NULL);
    g_autofree char *cr = g_build_filename(folder, "cr", NULL);
    g_file_set_contents(mark, "\xef\xbb\xbfuser = \"a\";\n", -1, NULL);
    g_autofree char *wide = g_build_filename(folder, "wide", NULL);
    g_file_set_contents(wide, "one.example\n.org\n", -1, NULL);
    g_file_set_contents(cr, "one.example\rtwo.example\r", -1, NULL);
    g_file_set_contents(part, "in = {\n  wrokers = 3; };\n", -1, NULL);
    g_file_set_contents(tls,
                        "/* 99999999999 \" */ # 99999999999\ntls = { certificates = ( { cert = "
                        "\"host_list\"; }, { cert = \"host_list\"; key = \"part.conf\"; } ); };\n",
                        -1, NULL);
    g_test_add_func("/config/minimum", test_minimum);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *path = g_strdup_printf("/config/bad/%s", bad[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_bad);
    }
    g_test_add_func("/config/halves", test_halves);
    g_test_add_func("/config/half printed", test_print_half);
    g_test_add_func("/config/restarts", test_restarts);
    g_test_add_func("/config/domains file", test_domains_file);
    g_test_add_func("/config/other forms", test_other_forms);
    g_test_add_func("/config/warnings", test_warnings);
    g_test_add_func("/config/former-name", test_former_name);
    g_test_add_func("/config/round trip", test_round_trip);
    g_test_add_func("/config/table", test_table);
    g_test_add_func("/config/link", test_link);
    g_test_add_func("/config/example", test_example);
    g_test_add_func("/config/manual", test_manual);
    int result = g_test_run();
    g_remove(good);
    g_remove(wrong);
    g_remove(zero);
    g_remove(mark);
    g_remove(cr);
    g_remove(wide);
    g_remove(part);
    g_remove(tls);
    g_remove(conf);
    g_rmdir(folder);
    g_free(folder);
    return result;
}
