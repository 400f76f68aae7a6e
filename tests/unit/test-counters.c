/* tests/unit/test-counters.c - smtp/counters, server/expiry
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <string.h>

#include "server/expiry.h"
#include "smtp/counters.h"

/* Names pass the rules of Prometheus' own linter, and each metric has one meaning per daemon. */
static void test_table(void)
{
    for (size_t i = 0; i < COUNTERS_COUNT; i++) {
        const struct counter_row *row = &counter_rows[i];
        g_test_message("%s{%s}", row->name, row->labels);
        g_assert_true(g_str_has_prefix(row->name, "postern_"));
        g_assert_cmpint(g_str_has_suffix(row->name, "_total"), ==, row->kind == COUNTER_TOTAL);
        bool first = i == 0 || strcmp(row->name, row[-1].name) != 0;
        g_assert_cmpint(row->meaning[0] != '\0', ==, first);
        /* A daemon that has a metric has its first row, which states the meaning. */
        for (size_t j = i; !first && strcmp(row->name, counter_rows[j].name) == 0; j--)
            g_assert_true(counter_rows[j].meaning[0] == '\0' ||
                          (row->daemons & ~counter_rows[j].daemons) == 0);
        for (size_t j = 0; j < i; j++) {
            bool same = strcmp(row->name, counter_rows[j].name) == 0;
            g_assert_false(same && strcmp(row->labels, counter_rows[j].labels) == 0);
            g_assert_false(same && first);
        }
        if (row->kind == COUNTER_EACH)
            g_assert_null(strchr(row->labels, '='));
        else
            g_assert_cmpint(row->labels[0] == '\0' || g_str_has_suffix(row->labels, "\""), ==,
                            true);
        /* Both daemons may count the same thing, but not under one name, unless it is not their own. */
        if (row->daemons == COUNTERS_BOTH && !g_str_has_prefix(row->name, "postern_doctor_"))
            g_assert_nonnull(strchr(row->name, '*'));
    }
}

/* All rows of a metric have the same labels, in the same order, so that queries can group by them. */
static void check_labels(const struct counter_row *rows, size_t count)
{
    GRegex *values = g_regex_new("=\"[^\"]*\"", 0, 0, NULL);

    for (size_t i = 1; i < count; i++) {
        if (strcmp(rows[i].name, rows[i - 1].name) != 0)
            continue;
        char *before = g_regex_replace(values, rows[i - 1].labels, -1, 0, "", 0, NULL);
        char *now = g_regex_replace(values, rows[i].labels, -1, 0, "", 0, NULL);
        g_test_message("%s: %s", rows[i].name, rows[i].labels);
        g_assert_cmpstr(now, ==, before);
        g_assert_cmpstr(rows[i].labels, !=, rows[i - 1].labels);
        g_free(before);
        g_free(now);
    }
    g_regex_unref(values);
}

static void test_labels(void)
{
    check_labels(counter_rows, COUNTERS_COUNT);
    check_labels(counter_durations, COUNTER_DURATIONS_COUNT);
}

static void test_names(void)
{
    char name[COUNTER_NAME_MAX];
    g_assert_cmpstr(counter_name(&counter_rows[COUNTER_CONNECTIONS_IPV4_NONE], COUNTERS_IN, name),
                    ==, "postern_in_connections_total");
    g_assert_cmpstr(counter_name(&counter_rows[COUNTER_CONNECTIONS_IPV4_NONE], COUNTERS_OUT, name),
                    ==, "postern_out_connections_total");
    g_assert_cmpstr(counter_name(&counter_rows[COUNTER_SPOOL_FREE], COUNTERS_OUT, name), ==,
                    "postern_spool_free_octets");
}

static void test_counting(void)
{
    struct counters *counters = g_new0(struct counters, 1);
    counters_add(NULL, COUNTER_OCTETS, 1);
    counters_add(counters, COUNTER_OCTETS, 100);
    counters_begin_day(counters);
    counters_add(counters, COUNTER_OCTETS, 7);
    g_assert_cmpuint(counters_get(counters, COUNTER_OCTETS), ==, 107);
    g_assert_cmpuint(counters_today(counters, COUNTER_OCTETS), ==, 7);
    counters_took(counters, COUNTER_DURATION_MESSAGE_DATA, 10);
    counters_took(counters, COUNTER_DURATION_MESSAGE_DATA, 11);
    counters_took(counters, COUNTER_DURATION_MESSAGE_DATA, 600001);
    g_assert_cmpuint(counters->durations[COUNTER_DURATION_MESSAGE_DATA].buckets[0], ==, 1);
    g_assert_cmpuint(counters->durations[COUNTER_DURATION_MESSAGE_DATA].buckets[1], ==, 1);
    g_assert_cmpuint(counters->durations[COUNTER_DURATION_MESSAGE_DATA].buckets[COUNTER_BUCKETS],
                     ==, 1);
    g_assert_cmpuint(counters->durations[COUNTER_DURATION_MESSAGE_DATA].sum_ms, ==, 600022);
    g_free(counters);
}

static void test_expiry(void)
{
    static const struct {
        long long left, stage;
    } cases[] = {
        {31 * 86400, 0},
        {30 * 86400 + 1, 0},
        {30 * 86400, 30},
        {14 * 86400 + 1, 30},
        {14 * 86400, 14},
        {7 * 86400, 7},
        {3 * 86400, 3},
        {86401, 3},
        {86400, 1},
        {1, 1},
        {0, -1},
        {-1, -1},
        {-86399, -1},
        {-86400, -2},
        {-10 * 86400, -11},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("%lld s", cases[i].left);
        g_assert_cmpint(expiry_stage(cases[i].left), ==, cases[i].stage);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/counters/table", test_table);
    g_test_add_func("/counters/labels", test_labels);
    g_test_add_func("/counters/names", test_names);
    g_test_add_func("/counters/counting", test_counting);
    g_test_add_func("/expiry/stages", test_expiry);
    return g_test_run();
}
