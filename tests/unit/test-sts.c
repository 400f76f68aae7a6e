/* tests/unit/test-sts.c - relay-out/sts
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "relay-out/sts.h"

/* The strings of a record are separated by "|", records by "\n". */
static bool read_record(const char *text, char id[STS_ID_MAX + 1])
{
    g_auto(GStrv) records = g_strsplit(text, "\n", -1);
    const char *data[8];
    int lengths[8];
    size_t count = 0;

    for (; records[count] != NULL; count++) {
        g_auto(GStrv) strings = g_strsplit(records[count], "|", -1);
        GString *wire = g_string_new(NULL);
        for (size_t i = 0; strings[i] != NULL; i++) {
            g_string_append_c(wire, (char)strlen(strings[i]));
            g_string_append(wire, strings[i]);
        }
        lengths[count] = (int)wire->len;
        data[count] = g_string_free(wire, FALSE);
    }
    bool found = sts_read_record(data, lengths, count, id);
    for (size_t i = 0; i < count; i++)
        g_free((void *)data[i]);
    return found;
}

static void test_record(void)
{
    static const struct {
        const char *label, *text;
        bool found;
        const char *id;
    } cases[] = {
        {"as in the RFC", "v=STSv1; id=20160831085700Z;", true, "20160831085700Z"},
        {"no final semicolon", "v=STSv1; id=1", true, "1"},
        {"no blank", "v=STSv1;id=1", true, "1"},
        {"blanks and tabs", "v=STSv1; \t id=1 \t ; ", true, "1"},
        {"in two strings", "v=STS|v1; id=12|34", true, "1234"},
        {"an empty string in front", "|v=STSv1; id=1", true, "1"},
        {"unknown field before", "v=STSv1; x=y; id=1", true, "1"},
        {"unknown field behind", "v=STSv1; id=1; x=y", true, "1"},
        {"id twice", "v=STSv1; id=1; id=2", true, "1"},
        {"id of 32", "v=STSv1; id=0123456789abcdefghijABCDEFGHIJ01", true,
         "0123456789abcdefghijABCDEFGHIJ01"},
        {"id of 33", "v=STSv1; id=0123456789abcdefghijABCDEFGHIJ012", false, ""},
        {"id empty", "v=STSv1; id=;", false, ""},
        {"id with a hyphen", "v=STSv1; id=2016-08-31", false, ""},
        {"id with a blank", "v=STSv1; id=20 16", false, ""},
        {"a blank before the equals sign", "v=STSv1; id =1", false, ""},
        {"ID in capitals", "v=STSv1; ID=1", false, ""},
        {"no id", "v=STSv1;", false, ""},
        {"a blank before the semicolon", "v=STSv1 ; id=1", false, ""},
        {"a blank in front", " v=STSv1; id=1", false, ""},
        {"lower case", "v=stsv1; id=1", false, ""},
        {"another version", "v=STSv2; id=1", false, ""},
        {"longer version", "v=STSv10; id=1", false, ""},
        {"no semicolon", "v=STSv1", false, ""},
        {"another record", "v=spf1 -all", false, ""},
        {"beside another", "v=spf1 -all\nv=STSv1; id=1", true, "1"},
        {"beside one with a blank", "v=STSv1 ; id=2\nv=STSv1; id=1", true, "1"},
        {"two", "v=STSv1; id=1\nv=STSv1; id=2", false, ""},
        {"the same twice", "v=STSv1; id=1\nv=STSv1; id=1", false, ""},
        {"one beside a broken one", "v=STSv1; id=1\nv=STSv1; id=-", false, ""},
        {"empty", "", false, ""},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        char id[STS_ID_MAX + 1] = "untouched";
        g_test_message("%s", cases[i].label);
        g_assert_cmpint(read_record(cases[i].text, id), ==, cases[i].found);
        g_assert_cmpstr(id, ==, cases[i].id);
    }
}

static void test_odd_wire(void)
{
    static const char past[] = "\20v=STSv1; id=1";
    char id[STS_ID_MAX + 1], *text = g_malloc(2000);
    const char *data[] = {past, text};
    int lengths[] = {sizeof past - 1, 0};

    g_assert_false(sts_read_record(data, lengths, 2, id));
    /* Longer than any real record, in strings of 255 octets. */
    lengths[1] = 0;
    for (int i = 0; i < 5; i++) {
        text[lengths[1]++] = (char)255;
        memset(text + lengths[1], 'x', 255);
        lengths[1] += 255;
    }
    memcpy(text + 1, "v=STSv1; id=1;", 14);
    g_assert_false(sts_read_record(data, lengths, 2, id));
    g_assert_false(sts_read_record(NULL, NULL, 0, id));
    g_free(text);
}

#define START "version: STSv1\n"
#define WHOLE START "mode: enforce\nmx: a.example\nmax_age: 86400\n"

static void test_policy(void)
{
    static const struct {
        const char *label, *text;
        int mode; /* -1: invalid */
        uint32_t max_age_s;
        size_t patterns;
    } cases[] = {
        {"LF", WHOLE, STS_MODE_ENFORCE, 86400, 1},
        {"CRLF", "version: STSv1\r\nmode: enforce\r\nmx: a.example\r\nmax_age: 86400\r\n",
         STS_MODE_ENFORCE, 86400, 1},
        {"mixed", "version: STSv1\r\nmode: enforce\nmx: a.example\r\nmax_age: 86400",
         STS_MODE_ENFORCE, 86400, 1},
        {"no blanks", "version:STSv1\nmode:enforce\nmx:a.example\nmax_age:86400\n",
         STS_MODE_ENFORCE, 86400, 1},
        {"many blanks",
         "version: \t STSv1 \t\nmode:  enforce \nmx: a.example\t\nmax_age: 86400 \r\n",
         STS_MODE_ENFORCE, 86400, 1},
        {"another order", "max_age: 1\nmx: a.example\nmode: testing\nversion: STSv1\n",
         STS_MODE_TESTING, 1, 1},
        {"empty lines", START "\n\r\nmode: none\nmax_age: 0\n\n\n", STS_MODE_NONE, 0, 0},
        {"several hosts", WHOLE "mx: *.b.example\nmx: C.EXAMPLE\n", STS_MODE_ENFORCE, 86400, 3},
        {"unknown field", WHOLE "x-y_z.1: anything \303\244\n", STS_MODE_ENFORCE, 86400, 1},
        {"unknown field, empty", WHOLE "x:\n", STS_MODE_ENFORCE, 86400, 1},
        {"none without hosts", START "mode: none\nmax_age: 86400\n", STS_MODE_NONE, 86400, 0},
        {"none with hosts", START "mode: none\nmx: a.example\nmax_age: 86400\n", STS_MODE_NONE,
         86400, 1},
        {"longest age", START "mode: none\nmax_age: 31557600\n", STS_MODE_NONE, 31557600, 0},
        {"version twice", WHOLE "version: STSv2\n", STS_MODE_ENFORCE, 86400, 1},
        {"mode twice", WHOLE "mode: none\n", STS_MODE_ENFORCE, 86400, 1},
        {"max_age twice", WHOLE "max_age: x\n", STS_MODE_ENFORCE, 86400, 1},
        {"the same host twice", WHOLE "mx: a.example\n", STS_MODE_ENFORCE, 86400, 2},
        {"empty", "", -1, 0, 0},
        {"no version", "mode: enforce\nmx: a.example\nmax_age: 86400\n", -1, 0, 0},
        {"another version", "version: STSv2\nmode: none\nmax_age: 86400\n", -1, 0, 0},
        {"wrong version first", "version: 1\n" WHOLE, -1, 0, 0},
        {"no mode", START "mx: a.example\nmax_age: 86400\n", -1, 0, 0},
        {"unknown mode", START "mode: report\nmx: a.example\nmax_age: 86400\n", -1, 0, 0},
        {"mode in capitals", START "mode: Enforce\nmx: a.example\nmax_age: 86400\n", -1, 0, 0},
        {"no max_age", START "mode: enforce\nmx: a.example\n", -1, 0, 0},
        {"max_age too long", START "mode: none\nmax_age: 31557601\n", -1, 0, 0},
        {"max_age negative", START "mode: none\nmax_age: -1\n", -1, 0, 0},
        {"max_age of 11 digits", START "mode: none\nmax_age: 00000000001\n", -1, 0, 0},
        {"max_age empty", START "mode: none\nmax_age:\n", -1, 0, 0},
        {"max_age with unit", START "mode: none\nmax_age: 86400s\n", -1, 0, 0},
        {"enforce without hosts", START "mode: enforce\nmax_age: 86400\n", -1, 0, 0},
        {"testing without hosts", START "mode: testing\nmax_age: 86400\n", -1, 0, 0},
        {"host empty", WHOLE "mx:\n", -1, 0, 0},
        {"host is a star", WHOLE "mx: *\n", -1, 0, 0},
        {"star within", WHOLE "mx: a.*.example\n", -1, 0, 0},
        {"star of a part", WHOLE "mx: a*.example\n", -1, 0, 0},
        {"two stars", WHOLE "mx: *.*.example\n", -1, 0, 0},
        {"final dot", WHOLE "mx: a.example.\n", -1, 0, 0},
        {"U-label", WHOLE "mx: m\303\274nchen.example\n", -1, 0, 0},
        {"an address", WHOLE "mx: 192.0.2.1\n", -1, 0, 0},
        {"two hosts on a line", WHOLE "mx: a.example b.example\n", -1, 0, 0},
        {"no colon", WHOLE "hello\n", -1, 0, 0},
        {"no name", WHOLE ": x\n", -1, 0, 0},
        {"odd name", WHOLE "-x: y\n", -1, 0, 0},
        {"a blank before the colon", "version : STSv1\nmode: none\nmax_age: 1\n", -1, 0, 0},
        {"byte order mark", "\357\273\277" WHOLE, -1, 0, 0},
        {"CR only", "version: STSv1\rmode: none\rmax_age: 1\r", -1, 0, 0},
        {"a web page", "<!DOCTYPE html>\n<html><title>404</title></html>\n", -1, 0, 0},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *why = NULL;
        /* Not terminated, so that a sanitizer sees a read past the end. */
        char *text = g_memdup2(cases[i].text, strlen(cases[i].text));
        struct sts_policy *policy = sts_read_policy(text, strlen(cases[i].text), &why);
        g_test_message("%s", cases[i].label);
        if (cases[i].mode < 0) {
            g_assert_null(policy);
            g_assert_nonnull(why);
        } else {
            g_assert_nonnull(policy);
            g_assert_cmpint((int)policy->mode, ==, cases[i].mode);
            g_assert_cmpuint(policy->max_age_s, ==, cases[i].max_age_s);
            g_assert_cmpuint(policy->pattern_count, ==, cases[i].patterns);
        }
        free(policy);
        g_free(text);
    }
}

static void test_size(void)
{
    GString *text = g_string_new(WHOLE);
    const char *why = NULL;

    g_string_append(text, "x: ");
    while (text->len < STS_POLICY_MAX)
        g_string_append_c(text, 'y');
    struct sts_policy *policy = sts_read_policy(text->str, text->len, &why);
    g_assert_nonnull(policy);
    free(policy);
    g_string_append_c(text, 'y');
    g_assert_null(sts_read_policy(text->str, text->len, &why));
    g_string_assign(text, WHOLE);
    g_string_append_len(text, "x: a\0b\n", 7);
    g_assert_null(sts_read_policy(text->str, text->len, &why));
    /* As many hosts as fit. */
    g_string_assign(text, WHOLE);
    while (text->len + 5 <= STS_POLICY_MAX)
        g_string_append(text, "mx:a\n");
    policy = sts_read_policy(text->str, text->len, &why);
    g_assert_nonnull(policy);
    g_assert_cmpuint(policy->pattern_count, >, 13000);
    g_assert_true(sts_allows(policy, "a"));
    free(policy);
    g_string_free(text, TRUE);
}

static void test_allows(void)
{
    static const char text[] = START "mode: enforce\nmax_age: 1\nmx: a.example\nmx: *.b.example\n"
                                     "mx: Mail.C.Example\nmx: xn--mnchen-3ya.example\n";
    static const struct {
        const char *host;
        bool allowed;
    } cases[] = {
        {"a.example", true},       {"A.Example", true},
        {"b.a.example", false},    {"aa.example", false},
        {"a.example.net", false},  {"x.b.example", true},
        {"X.B.EXAMPLE", true},     {"x.y.b.example", false},
        {"b.example", false},      {".b.example", false},
        {"xb.example", false},     {"mail.c.example", true},
        {"mail.d.example", false}, {"xn--mnchen-3ya.example", true},
        {"example", false},        {"", false},
    };
    const char *why;
    struct sts_policy *policy = sts_read_policy(text, sizeof text - 1, &why);
    g_assert_nonnull(policy);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("%s", cases[i].host);
        g_assert_true(sts_allows(policy, cases[i].host) == cases[i].allowed);
    }
    free(policy);
}

static void test_type(void)
{
    static const struct {
        const char *type;
        bool is_policy;
    } cases[] = {
        {"text/plain", true},        {"Text/Plain", true},  {"text/plain; charset=utf-8", true},
        {"text/plain ;x=y", true},   {"text/plain;", true}, {"text/plainer", false},
        {"text/html", false},        {"text/", false},      {"", false},
        {"application/text", false}, {NULL, false},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        g_assert_true(sts_is_policy_type(cases[i].type) == cases[i].is_policy);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sts/record", test_record);
    g_test_add_func("/sts/odd-wire", test_odd_wire);
    g_test_add_func("/sts/policy", test_policy);
    g_test_add_func("/sts/size", test_size);
    g_test_add_func("/sts/allows", test_allows);
    g_test_add_func("/sts/type", test_type);
    return g_test_run();
}
