/* tests/unit/test-tlscounts.c - relay-out/tlscounts
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <stdio.h>

#include "relay-out/tlscounts.h"

#define DAY 86400
#define NOON (20000 * (int64_t)DAY + DAY / 2)

static void take_row(void *context, const struct tlscounts_row *row)
{
    struct tlscounts_row *rows = context;
    while (rows->domain[0] != '\0')
        rows++;
    *rows = *row;
}

static void list(struct tlscounts *counts, int64_t now_s, struct tlscounts_row rows[4])
{
    for (int i = 0; i < 4; i++)
        rows[i].domain[0] = '\0';
    g_assert_cmpint(tlscounts_list(counts, now_s, take_row, rows), ==, 0);
}

static bool count(struct tlscounts *counts, enum tls_result result, int64_t now_s)
{
    return tlscounts_add(counts, "mx.example", TLS_POLICY_TLSA, result, "mx.example", "why", now_s);
}

/* What was counted at noon, as it is shown some time later; then one more session. */
static void test_days(void)
{
    static const struct {
        const char *name;
        int64_t later_s;
        unsigned today, yesterday;
        bool is_logged;
    } cases[] = {
        {"at once", 0, 2, 0, false},
        {"before midnight", DAY / 2 - 1, 2, 0, false},
        {"at midnight", DAY / 2, 0, 2, false},
        {"the next night", DAY / 2 + DAY - 1, 0, 2, true},
        {"two days later", DAY / 2 + DAY, 0, 0, true},
        {"a clock that was set back", -3 * DAY, 2, 0, true},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct tlscounts *counts = tlscounts_new(NULL, NULL);
        struct tlscounts_row rows[4];
        const int64_t then = NOON + cases[i].later_s;
        g_test_message("%s", cases[i].name);
        count(counts, TLS_RESULT_CERTIFICATE_EXPIRED, NOON);
        count(counts, TLS_RESULT_CERTIFICATE_EXPIRED, NOON);
        list(counts, then, rows);
        const uint32_t *today = rows[0].days[TLSCOUNTS_TODAY];
        const uint32_t *yesterday = rows[0].days[TLSCOUNTS_YESTERDAY];
        g_assert_cmpuint(today[TLS_RESULT_CERTIFICATE_EXPIRED], ==, cases[i].today);
        g_assert_cmpuint(yesterday[TLS_RESULT_CERTIFICATE_EXPIRED], ==, cases[i].yesterday);
        g_assert_cmpint(count(counts, TLS_RESULT_CERTIFICATE_EXPIRED, then), ==,
                        cases[i].is_logged);
        g_assert_false(count(counts, TLS_RESULT_SUCCESS, then));
        list(counts, then, rows);
        g_assert_cmpuint(today[TLS_RESULT_CERTIFICATE_EXPIRED], ==, cases[i].today + 1);
        g_assert_cmpuint(yesterday[TLS_RESULT_CERTIFICATE_EXPIRED], ==, cases[i].yesterday);
        g_assert_cmpuint(rows[0].counts[TLS_RESULT_CERTIFICATE_EXPIRED], ==, 3);
        tlscounts_free(counts);
    }
}

/* Every failure of a published policy moves the row that has its name, and no other does. */
static void test_metrics(void)
{
    struct counters *sums = g_new0(struct counters, 1);
    struct tlscounts *counts = tlscounts_new(sums, NULL);
    const enum counter first = COUNTER_POLICY_STARTTLS_NOT_SUPPORTED;

    count(counts, TLS_RESULT_SUCCESS, NOON);
    tlscounts_add(counts, "a.example", TLS_POLICY_NONE, TLS_RESULT_CERTIFICATE_EXPIRED, "", "",
                  NOON);
    for (int result = TLS_RESULT_SUCCESS + 1; result < TLS_RESULTS; result++) {
        const enum counter row = first + (enum counter)(result - TLS_RESULT_SUCCESS - 1);
        char labels[64];
        snprintf(labels, sizeof labels, "type=\"%s\"", tls_result_name((enum tls_result)result));
        g_assert_cmpstr(counter_rows[row].labels, ==, labels);
        g_assert_cmpuint(counters_get(sums, row), ==, 0);
        count(counts, (enum tls_result)result, NOON);
        g_assert_cmpuint(counters_get(sums, row), ==, 1);
    }
    tlscounts_free(counts);
    g_free(sums);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tlscounts/days", test_days);
    g_test_add_func("/tlscounts/metrics", test_metrics);
    return g_test_run();
}
