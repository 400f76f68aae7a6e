/* tests/unit/test-path.c - smtp/path
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "smtp/path.h"

enum { ROUTE = 1, ROUTING = 2, LITERAL = 4, UTF8 = 8, NULL_PATH = 16 };

/* `forward`, `reverse`: the mailbox read from the path; NULL = refused. peers/beside-postfix compares the
 * results with Postfix's; this table fixes them to the octet. */
static const struct {
    const char *text, *forward, *reverse;
    int flags;
} paths[] = {
    {"<a@example.com>", "a@example.com", "a@example.com", 0},
    {"<a.b+c@sub.example.com> NOTIFY=NEVER", "a.b+c@sub.example.com", "a.b+c@sub.example.com", 0},
    {"<_dmarc@under_score.example>", "_dmarc@under_score.example", "_dmarc@under_score.example", 0},
    {"<-a@example.com>", "-a@example.com", "-a@example.com", 0},
    {"<a@b>", "a@b", "a@b", 0},
    /* brackets, spaces, names, comments */
    {"a@example.com", "a@example.com", "a@example.com", 0},
    {"a@example.com SIZE=1", "a@example.com", "a@example.com", 0},
    {"<<a@example.com>>", "a@example.com", "a@example.com", 0},
    {"<a@example.com>>", "a@example.com", "a@example.com", 0},
    {"a@example.com>", "a@example.com", "a@example.com", 0},
    {"<a@example.com>,", "a@example.com", "a@example.com", 0},
    {"<a@example.com>;", "a@example.com", "a@example.com", 0},
    {"< a@example.com >", "a@example.com", "a@example.com", 0},
    {"<a @ example . com>", "a@example.com", "a@example.com", 0},
    {"<(c(d))a(e\\))@example.com(f)>(g)", "a@example.com", "a@example.com", 0},
    {"Joe<a@example.com>", "a@example.com", "a@example.com", 0},
    {"\"Joe D\"<a@example.com>", "a@example.com", "a@example.com", 0},
    {"<Joe D. <a@example.com>>", "a@example.com", "a@example.com", 0},
    {"<mailto:a@example.com>", "\"mailto:a\"@example.com", "\"mailto:a\"@example.com", 0},
    /* local parts that must be quoted, and some that need not be */
    {"<a..b@example.com>", "\"a..b\"@example.com", "\"a..b\"@example.com", 0},
    {"<.a@example.com>", "\".a\"@example.com", "\".a\"@example.com", 0},
    {"<a.@example.com>", "\"a.\"@example.com", "\"a.\"@example.com", 0},
    {"<@example.com>", "\"\"@example.com", "\"\"@example.com", 0},
    {"<\"\"@example.com>", "\"\"@example.com", "\"\"@example.com", 0},
    {"<\"a b\"@example.com>", "\"a b\"@example.com", "\"a b\"@example.com", 0},
    {"<a\\ b@example.com>", "\"a b\"@example.com", "\"a b\"@example.com", 0},
    {"<\"ab\"@example.com>", "ab@example.com", "ab@example.com", 0},
    {"<\"a\\b\"@example.com>", "ab@example.com", "ab@example.com", 0},
    {"<\"a\".\"b c\".d@example.com>", "\"a.b c.d\"@example.com", "\"a.b c.d\"@example.com", 0},
    {"<\"a\\\"b\"@example.com>", "\"a\\\"b\"@example.com", "\"a\\\"b\"@example.com", 0},
    {"<\"a\\\\b\"@example.com>", "\"a\\\\b\"@example.com", "\"a\\\\b\"@example.com", 0},
    {"<\"a>b\"@example.com>", "\"a>b\"@example.com", "\"a>b\"@example.com", 0},
    {"<a]b@example.com>", "\"a]b\"@example.com", "\"a]b\"@example.com", 0},
    /* domains */
    {"<a@example.com.>", "a@example.com", "a@example.com", 0},
    {"<a@\"example.com\">", "a@example.com", "a@example.com", 0},
    {"<a@[192.0.2.1]>", "a@[192.0.2.1]", "a@[192.0.2.1]", LITERAL},
    {"<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]", LITERAL},
    {"<\xc3\xa4@ex\xc3\xa4mple.com>", "\xc3\xa4@ex\xc3\xa4mple.com", "\xc3\xa4@ex\xc3\xa4mple.com",
     UTF8},
    /* no domain */
    {"<Postmaster>", "Postmaster", "Postmaster", 0},
    {"<\"postmaster\">", "postmaster", "postmaster", 0},
    {"root", "root", "root", 0},
    {"<a b>", NULL, NULL, 0},
    /* the null path */
    {"<>", NULL, "", NULL_PATH},
    {"< >", NULL, "", NULL_PATH},
    {"<\"\">", NULL, "", NULL_PATH},
    {"<<>>", NULL, "", NULL_PATH},
    {"Joe<>", NULL, NULL, 0},
    {"\"\"", NULL, NULL, 0},
    {"<>x", NULL, NULL, 0},
    {"", NULL, NULL, 0},
    {" <a@example.com>", NULL, NULL, 0},
    /* source routes and look-alikes */
    {"<@relay.example:a@example.com>", "a@example.com", "a@example.com", ROUTE},
    {"<@a.example,@b.example:a@example.com>", "a@example.com", "a@example.com", ROUTE},
    {"<@[192.0.2.1],@b.example:a@example.com>", "a@example.com", "a@example.com", ROUTE},
    {"@relay.example:a..b@example.com", "\"a..b\"@example.com", "\"a..b\"@example.com", ROUTE},
    {"<@:a@example.com>", "a@example.com", "a@example.com", ROUTE},
    {"<Joe <@relay.example:a@example.com>>", "a@example.com", "a@example.com", ROUTE},
    {"<@relay.example:a%b@example.com>", "a%b@example.com", "a%b@example.com", ROUTE | ROUTING},
    {"<a%b@example.com>", "a%b@example.com", "a%b@example.com", ROUTING},
    {"a%b@example.com", "a%b@example.com", "a%b@example.com", ROUTING},
    {"< a%b(c)..@example.com. >", "\"a%b..\"@example.com", "\"a%b..\"@example.com", ROUTING},
    {"<\"a%b\"@example.com>", "a%b@example.com", "a%b@example.com", ROUTING},
    {"<a\\%b@example.com>", "a%b@example.com", "a%b@example.com", ROUTING},
    {"<b!a@example.com>", "b!a@example.com", "b!a@example.com", ROUTING},
    {"<\"b!a\"..@example.com>", "\"b!a..\"@example.com", "\"b!a..\"@example.com", ROUTING},
    {"<\"a@b\"@example.com>", "\"a@b\"@example.com", "\"a@b\"@example.com", ROUTING},
    {"<a\\@b@example.com>", "\"a@b\"@example.com", "\"a@b\"@example.com", ROUTING},
    {"<a@b@example.com>", NULL, "\"a@b\"@example.com", ROUTING},
    {"a@b@example.com", NULL, "\"a@b\"@example.com", ROUTING},
    {"<a@@example.com>", NULL, "\"a@\"@example.com", ROUTING},
    {"<@a.example@example.com>", NULL, "\"@a.example\"@example.com", ROUTING},
    {"<\"a@example.com\">", NULL, "a@example.com", 0},
    {"<a\\@example.com>", NULL, "a@example.com", 0},
    {"<a@\"b@example.com\">", NULL, "\"a@b\"@example.com", ROUTING},
    {"<\"a@b\"%c@example.com>", NULL, NULL, 0},
    {"<\"a@b\".c@example.com>", "\"a@b.c\"@example.com", "\"a@b.c\"@example.com", ROUTING},
    {"<a%example.com>", NULL, NULL, 0},
    {"<example.com!a>", NULL, NULL, 0},
    {"<\"a%example.com\">", NULL, NULL, 0},
    {"<@relay.example:postmaster>", NULL, NULL, 0},
    {"<@relay.example:>", NULL, NULL, 0},
    {"<@a.example,a@example.com>", NULL, NULL, 0},
    {"<@a.example,@b.example>", NULL, NULL, 0},
    /* two addresses, or none */
    {"<a@example.com><b@example.com>", NULL, NULL, 0},
    {"<a@example.com>,<b@example.com>", NULL, NULL, 0},
    {"<a@example.com,b@example.com>", NULL, NULL, 0},
    {"b@example.com<a@example.com>", NULL, NULL, 0},
    {"<b@example.com <a@example.com>>", NULL, NULL, 0},
    {"<a@example.com>SIZE=1", NULL, NULL, 0},
    {"<a;b@example.com>", NULL, NULL, 0},
    {"<a b@example.com>", NULL, NULL, 0},
    {"<\"a\"\"b\"@example.com>", NULL, NULL, 0},
    {"<a[b]@example.com>", NULL, NULL, 0},
    {"<[a]@example.com>", NULL, NULL, 0},
    {"<a@>", NULL, NULL, 0},
    {"<@>", NULL, NULL, 0},
    {"<a@.>", NULL, NULL, 0},
    {"<a@example.com@>", NULL, NULL, 0},
    /* unterminated paths */
    {"<a@example.com", NULL, NULL, 0},
    {"<\"a@example.com>", NULL, NULL, 0},
    {"\"a@example.com", NULL, NULL, 0},
    {"<a(b@example.com>", NULL, NULL, 0},
    {"<a@example.com\\>", NULL, NULL, 0},
    {"<a@[192.0.2.1>", NULL, NULL, 0},
    /* invalid domains */
    {"<a@example.com..>", NULL, NULL, 0},
    {"<a@.example.com>", NULL, NULL, 0},
    {"<a@ex..ample>", NULL, NULL, 0},
    {"<a@-example.com>", NULL, NULL, 0},
    {"<a@example-.com>", NULL, NULL, 0},
    {"<a@example.com:25>", NULL, NULL, 0},
    {"<a@example.com/x>", NULL, NULL, 0},
    {"<a@ex ample.com>", NULL, NULL, 0},
    {"<a@[192.0.2]>", NULL, NULL, 0},
    {"<a@[2001:db8::1]>", NULL, NULL, 0},
    {"<a@[IPv6:192.0.2.1]>", NULL, NULL, 0},
    {"<a@[[::1]]>", NULL, NULL, 0},
    {"<a@[192.0.2.1].example>", NULL, NULL, 0},
    /* octets */
    {"<\"a\x01\"@example.com>", NULL, NULL, 0},
    {"<\"a\tb\"@example.com>", NULL, NULL, 0},
    {"<a\x7f@example.com>", NULL, NULL, 0},
    {"<\xff@example.com>", NULL, NULL, 0},
};

typedef bool parser(struct path *path, const char *text, size_t len, size_t *used);

static void check_path(parser *parse, const char *text, const char *mailbox, int flags)
{
    struct path path, again;
    size_t used = 0, again_used = 0;
    bool valid = parse(&path, text, strlen(text), &used);

    if (mailbox == NULL) {
        g_assert_false(valid);
        return;
    }
    g_assert_true(valid);
    g_assert_cmpstr(path.mailbox, ==, mailbox);
    g_assert_true(text[used] == '\0' || text[used] == ' ');
    g_assert_cmpint(path.is_null, ==, (flags & NULL_PATH) != 0);
    g_assert_cmpint(path.has_source_route, ==, (flags & ROUTE) != 0);
    g_assert_cmpint(path.has_routing_local, ==, (flags & ROUTING) != 0);
    g_assert_cmpint(path.is_literal, ==, (flags & LITERAL) != 0);
    g_assert_cmpint(path.is_utf8, ==, (flags & UTF8) != 0);
    /* The path that is sent on reads as the same path. */
    g_autofree char *wire = g_strdup_printf("<%s>", mailbox);
    g_assert_true(parse(&again, wire, strlen(wire), &again_used));
    g_assert_cmpstr(again.mailbox, ==, mailbox);
}

static void test_paths(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_test_message("%s", paths[i].text);
        check_path(path_parse_forward, paths[i].text, paths[i].forward, paths[i].flags);
        check_path(path_parse_reverse, paths[i].text, paths[i].reverse, paths[i].flags);
    }
}

static void test_domains(void)
{
    struct path path, copy;
    size_t used;
    g_assert_true(path_parse_forward(&path, "<PostMaster>", 12, &used));
    g_assert_true(path_is_postmaster(&path));
    g_assert_true(path_add_domain(&path, "b.example"));
    g_assert_false(path_is_postmaster(&path));
    path_copy(&copy, &path);
    memset(&path, 0, sizeof path);
    g_assert_cmpstr(copy.domain, ==, "b.example");
    g_assert_cmpstr(copy.mailbox, ==, "PostMaster@b.example");
    g_assert_cmpuint(copy.local_len, ==, 10);
}

static void test_lengths(void)
{
    static const struct {
        int local, label, labels;
        bool expected;
    } cases[] = {
        {64, 10, 1, true},    {65, 10, 1, true},    {1, 63, 1, true},  {1, 64, 1, false},
        {1, 60, 4, true},     {1, 63, 4, true},     {1, 63, 5, false}, {2037, 10, 1, true},
        {2038, 10, 1, false}, {9999, 10, 1, false},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        GString *text = g_string_new("<");
        struct path path;
        size_t used;
        for (int j = 0; j < cases[i].local; j++)
            g_string_append_c(text, 'l');
        for (int j = 0; j < cases[i].labels; j++) {
            g_string_append_c(text, j == 0 ? '@' : '.');
            for (int k = 0; k < cases[i].label; k++)
                g_string_append_c(text, 'd');
        }
        g_string_append_c(text, '>');
        g_test_message("%d %d %d", cases[i].local, cases[i].label, cases[i].labels);
        g_assert_cmpint(path_parse_forward(&path, text->str, text->len, &used), ==,
                        cases[i].expected);
        g_string_free(text, TRUE);
    }
    /* Quoting may double the length. */
    g_autofree char *quotes = g_strnfill(1500, 'x');
    for (int i = 0; i < 1500; i += 2)
        quotes[i] = '\\', quotes[i + 1] = '"';
    g_autofree char *long_quoted = g_strdup_printf("<%s%s@example.com>", quotes, quotes);
    struct path path;
    size_t used;
    g_assert_false(path_parse_forward(&path, long_quoted, strlen(long_quoted), &used));
}

static void test_helo(void)
{
    g_assert_true(path_is_helo_name("mx.example.com", 14));
    g_assert_true(path_is_helo_name("[192.0.2.1]", 11));
    g_assert_true(path_is_helo_name("MY_PC", 5));
    g_assert_false(path_is_helo_name("", 0));
    g_assert_false(path_is_helo_name("a b", 3));
    g_assert_false(path_is_helo_name("a(b", 3));
    g_assert_false(path_is_helo_name("a\xc3\xa4", 3));
    g_autofree char *fits = g_strnfill(256, 'x');
    g_assert_true(path_is_helo_name(fits, 255));
    g_assert_false(path_is_helo_name(fits, 256));

    static const struct {
        const char *said, *cleaned;
        bool same;
    } names[] = {
        {"mx.example.com", "mx.example.com", true},
        {"M\xc3\x9cLLER-PC", "M??LLER-PC", false},
        {"a b", "a?b", false},
        {"x> helo=<y", "x??helo=?y", false},
        {"(x)\\;@\x01\x7f\t", "?x???????", false},
        {"x,y", "x,y", true},
    };
    char out[PATH_HELO_MAX + 1];
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_assert_cmpint(path_clean_helo(names[i].said, strlen(names[i].said), out), ==,
                        names[i].same);
        g_assert_cmpstr(out, ==, names[i].cleaned);
    }
    g_assert_false(path_clean_helo(fits, 256, out));
    g_assert_cmpuint(strlen(out), ==, PATH_HELO_MAX);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/path/paths", test_paths);
    g_test_add_func("/path/domains", test_domains);
    g_test_add_func("/path/lengths", test_lengths);
    g_test_add_func("/path/helo", test_helo);
    return g_test_run();
}
