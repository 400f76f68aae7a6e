/* tests/unit/test-path.c - smtp/path
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "smtp/path.h"

enum { ROUTE = 1, ROUTING = 2, LITERAL = 4, UTF8 = 8, NULL_PATH = 16 };

static const struct {
    const char *text, *mailbox;  /* NULL = refused */
    unsigned flags;
} forward[] = {
    {"<a@example.com>", "a@example.com", 0},
    {"<a.b+c@sub.example.com> NOTIFY=NEVER", "a.b+c@sub.example.com", 0},
    {"<Postmaster>", "Postmaster", 0},
    {"<\"a b\"@example.com>", "\"a b\"@example.com", 0},
    {"<\"a\\\"b\"@example.com>", "\"a\\\"b\"@example.com", 0},
    {"<@relay.example:a@example.com>", "a@example.com", ROUTE},
    {"<@a.example,@b.example:a@example.com>", "a@example.com", ROUTE},
    {"<a%b@example.com>", "a%b@example.com", ROUTING},
    {"<b!a@example.com>", "b!a@example.com", ROUTING},
    {"<\"a@b\"@example.com>", "\"a@b\"@example.com", ROUTING},
    {"<a@[192.0.2.1]>", "a@[192.0.2.1]", LITERAL},
    {"<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", LITERAL},
    {"<\xc3\xa4@ex\xc3\xa4mple.com>", "\xc3\xa4@ex\xc3\xa4mple.com", UTF8},
    {"<_dmarc@under_score.example>", "_dmarc@under_score.example", 0},
    {"<>", NULL, 0},                   {"<a>", NULL, 0},
    {"a@example.com", NULL, 0},        {"<a@example.com", NULL, 0},
    {"<a@b@example.com>", NULL, 0},    {"<a@>", NULL, 0},
    {"<@example.com>", NULL, 0},       {"<.a@example.com>", NULL, 0},
    {"<a.@example.com>", NULL, 0},     {"<a..b@example.com>", NULL, 0},
    {"<a@example.com.>", NULL, 0},     {"<a@.example.com>", NULL, 0},
    {"<a@ex..ample>", NULL, 0},        {"<a@-example.com>", NULL, 0},
    {"<a@example-.com>", NULL, 0},     {"< a@example.com>", NULL, 0},
    {"<a b@example.com>", NULL, 0},    {"<\"a@example.com>", NULL, 0},
    {"<\"a\x01\"@example.com>", NULL, 0}, {"<a@[192.0.2]>", NULL, 0},
    {"<a@[2001:db8::1]>", NULL, 0},    {"<a@[IPv6:192.0.2.1]>", NULL, 0},
    {"<a@[[::1]]>", NULL, 0},          {"<@relay.example:postmaster>", NULL, 0},
    {"<\xff@example.com>", NULL, 0},   {"<a@@example.com>", NULL, 0},
};

static void test_forward(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(forward); i++) {
        struct path path;
        size_t used = 0;
        enum path_result result =
            path_parse_forward(&path, forward[i].text, strlen(forward[i].text), &used);
        g_test_message("%s", forward[i].text);
        g_assert_cmpint(result == PATH_OK, ==, forward[i].mailbox != NULL);
        if (result != PATH_OK)
            continue;
        g_assert_cmpstr(path.mailbox, ==, forward[i].mailbox);
        g_assert_cmpint(forward[i].text[used - 1], ==, '>');
        g_assert_cmpint(path.has_source_route, ==, (forward[i].flags & ROUTE) != 0);
        g_assert_cmpint(path.has_routing_local, ==, (forward[i].flags & ROUTING) != 0);
        g_assert_cmpint(path.is_literal, ==, (forward[i].flags & LITERAL) != 0);
        g_assert_cmpint(path.is_utf8, ==, (forward[i].flags & UTF8) != 0);
    }
}

static void test_reverse(void)
{
    struct path path, copy;
    size_t used;
    g_assert_cmpint(path_parse_reverse(&path, "<>", 2, &used), ==, PATH_OK);
    g_assert_true(path.is_null);
    g_assert_cmpint(path_parse_reverse(&path, "<postmaster>", 12, &used), ==, PATH_SYNTAX);
    g_assert_cmpint(path_parse_reverse(&path, "<a@b.example>", 13, &used), ==, PATH_OK);
    path_copy(&copy, &path);
    memset(&path, 0, sizeof path);
    g_assert_cmpstr(copy.domain, ==, "b.example");
}

static void test_lengths(void)
{
    static const struct {
        int local, label, labels;
        enum path_result expected;
    } cases[] = {
        {64, 10, 1, PATH_OK},     {65, 10, 1, PATH_TOO_LONG}, {1, 63, 1, PATH_OK},
        {1, 64, 1, PATH_SYNTAX},  {1, 60, 4, PATH_OK},        {1, 63, 4, PATH_TOO_LONG},
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
        g_test_message("%s", text->str);
        g_assert_cmpint(path_parse_forward(&path, text->str, text->len, &used), ==,
                        cases[i].expected);
        g_string_free(text, TRUE);
    }
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
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/path/forward", test_forward);
    g_test_add_func("/path/reverse", test_reverse);
    g_test_add_func("/path/lengths", test_lengths);
    g_test_add_func("/path/helo", test_helo);
    return g_test_run();
}
