/* tests/unit/test-config.c - config: the option table, errors with file and line, printing
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>

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
    g_assert_cmpint(config->in.backend.hosts[0].port, ==, 25);
    g_assert_cmpint(config->in.backend.identity, ==, CONFIG_IDENTITY_XCLIENT);
    g_assert_cmpint(config->in.backend.tls, ==, CONFIG_TLS_MIRROR);
    g_assert_cmpint(config->in.timeouts.command, ==, 300000);
    g_assert_cmpint(config->in.limits.message_size, ==, 104857600);
    g_assert_cmpint(config->in.listen[0].address.port, ==, 25);
    g_assert_cmpint(config->log_level, ==, LOG_LEVEL_INFO);
    config_unref(config);
    g_string_free(errors, TRUE);
}

/* Each bad text must be refused with a message that holds `line` (as ":N:") and every `part`. */
static const struct {
    const char *name, *text, *line, *part, *part2;
} bad[] = {
    {"nothing", "", "", "hostname: it must be set", "in.backend.identity: it must be set"},
    {"syntax", "hostname = ;\n", ":1:", "syntax error", ""},
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
    {"listen", MINIMUM "listen = [ \"25\" ]; };\n", ":4:", "in.listen", "[::]:25"},
    {"domain", "in = { domains = [ \"a b\" ]; };", ":1:", "in.domains", "expected a domain"},
    {"host name as backend", "in = { backend = { hosts = [ \"mail.example\" ]; }; };", ":1:",
     "in.backend.hosts", "expected an IP address"},
    {"missing certificate", MINIMUM "}; tls = { certificates = ( { cert = \"no.pem\"; } ); };\n", ":4:",
     "tls.certificates", "no.pem: No such file"},
    {"group expected", MINIMUM "limits = 3; };\n", ":4:", "in.limits", "braces"},
    {"two errors", MINIMUM "workers = 0; greet_delay_ms = -1; };\n", ":4:", "in.workers",
     "in.greet_delay_ms"},
    {"identity must be said", "hostname = \"a.example\"; in = { domains = [ \"a.example\" ]; "
     "backend = { hosts = [ \"10.0.0.2\" ]; }; };", "", "in.backend.identity: it must be set",
     "\"xclient\", \"none\""},
    {"no domains", "hostname = \"a.example\"; in = { backend = { hosts = [ \"10.0.0.2\" ]; "
     "identity = \"none\"; }; };", "", "in.domains", "no domain to take mail for"},
    {"domains file", MINIMUM "domains_file = \"bad-domains\"; };\n", ":4:", "bad-domains:2:",
     "expected a domain"},
    {"certificates without a CA", MINIMUM "}; tls = { client_certificates = \"require\"; };\n", ":4:",
     "tls.client_certificates", "ca_file"},
};

static void test_bad(gconstpointer data)
{
    size_t i = GPOINTER_TO_SIZE(data);
    GString *errors = g_string_new(NULL);
    struct config *config = load_text(bad[i].text, errors);
    g_test_message("%s", errors->str);
    g_assert_null(config);
    g_assert_true(strstr(errors->str, "relay.conf") != NULL);
    g_assert_true(strstr(errors->str, bad[i].line) != NULL);
    g_assert_true(strstr(errors->str, bad[i].part) != NULL);
    g_assert_true(strstr(errors->str, bad[i].part2) != NULL);
    g_string_free(errors, TRUE);
}

/* Haraka's host_list as it is. */
static void test_domains_file(void)
{
    GString *errors = g_string_new(NULL);
    struct config *config = load_text("hostname = \"a.example\"; in = { domains_file = \"host_list\"; "
                                      "backend = { hosts = [ \"[fd00::2]:2525\" ]; identity = "
                                      "\"none\"; }; };", errors);
    g_assert_cmpstr(errors->str, ==, "");
    g_assert_cmpuint(config->in.domains.count, ==, 2);
    g_assert_cmpstr(config->in.domains.items[1], ==, "two.example");
    config_unref(config);
    g_string_free(errors, TRUE);
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

/* What --print-config prints loads to the same values. */
static void test_round_trip(void)
{
    GString *errors = g_string_new(NULL);
    struct config *first = load_text(
        MINIMUM "private_clients = [ \"127.0.0.0/8\", \"fd00::/8\" ]; workers = 7;\n"
        "listen = [ \"[::]:2525\", \"127.0.0.1:465 tls\" ]; timeouts = { line = \"250ms\"; };\n"
        "limits = { message_size = \"5G\"; }; };\n", errors);
    g_assert_nonnull(first);
    char *once = printed(first);
    struct config *second = load_text(once, errors);
    g_test_message("%s%s", once, errors->str);
    g_assert_nonnull(second);
    char *twice = printed(second);
    g_assert_cmpstr(once, ==, twice);
    g_assert_true(strstr(once, "line = \"250ms\"") != NULL);
    g_assert_true(strstr(once, "127.0.0.1:465 tls") != NULL);
    free(once);
    free(twice);
    config_unref(first);
    config_unref(second);
    g_string_free(errors, TRUE);
}

static void test_table(void)
{
    for (size_t i = 0; i < option_count; i++) {
        g_test_message("%s", options[i].path);
        g_assert_cmpstr(options[i].help, !=, "");
        for (size_t j = 0; j < i; j++)
            g_assert_cmpstr(options[i].path, !=, options[j].path);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("postern-config-XXXXXX", NULL);
    g_autofree char *good = g_build_filename(folder, "host_list", NULL);
    g_autofree char *wrong = g_build_filename(folder, "bad-domains", NULL);
    g_autofree char *conf = g_build_filename(folder, "relay.conf", NULL);
    g_file_set_contents(good, "# ours\n one.example \nTwo.example # too\n\n", -1, NULL);
    g_file_set_contents(wrong, "one.example\nnot a domain\n", -1, NULL);
    g_test_add_func("/config/minimum", test_minimum);
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *path = g_strdup_printf("/config/bad/%s", bad[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_bad);
    }
    g_test_add_func("/config/domains file", test_domains_file);
    g_test_add_func("/config/round trip", test_round_trip);
    g_test_add_func("/config/table", test_table);
    int result = g_test_run();
    g_remove(good);
    g_remove(wrong);
    g_remove(conf);
    g_rmdir(folder);
    g_free(folder);
    return result;
}
