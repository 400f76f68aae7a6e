/* tests/unit/test-dnsbl.c - server/dnsbl against a scripted name server
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/condition.h"
#include "clock.h"
#include "dns-server.h"
#include "server/dnsbl.h"

#define CLIENT(zone) "7.2.0.192." zone
#define CLIENT6(zone) "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2." zone

static const struct dns_row rows[] = {
    {CLIENT("two.example"), DNS_TYPE_A, "127.0.0.2"},
    {CLIENT6("two.example"), DNS_TYPE_A, "127.0.0.3"},
    {CLIENT("many.example"), DNS_TYPE_A, "127.0.0.4|127.0.0.11"},
    {CLIENT("white.example"), DNS_TYPE_A, "127.0.5.2"},
    {CLIENT("open.example"), DNS_TYPE_A, "127.255.255.254"},
    {CLIENT("own.example"), DNS_TYPE_A, "127.0.0.1"},
    {CLIENT("typo.example"), DNS_TYPE_A, "127.255.255.252"},
    {CLIENT("gone.example"), DNS_TYPE_A, "203.0.113.5"},
    {CLIENT("fails.example"), DNS_TYPE_A, "!SERVFAIL"},
    {CLIENT("silent.example"), DNS_TYPE_A, "!DROP"},
};

static void test_parse(void)
{
    static const struct {
        const char *text, *name;
        int weight;
        bool filtered;
        uint8_t in[4], out[4]; /* an answer that counts, and one that does not */
    } good[] = {
        {"two.example", "two.example", 1, false, {127, 1, 2, 3}, {0}},
        {"two.example*3", "two.example", 3, false, {127, 0, 0, 2}, {0}},
        {"two.example*-4", "two.example", -4, false, {127, 0, 0, 2}, {0}},
        {"z.example=127.0.0.2", "z.example", 1, true, {127, 0, 0, 2}, {127, 0, 0, 3}},
        {"z.example=127.0.0.[2..11]*2", "z.example", 2, true, {127, 0, 0, 11}, {127, 0, 0, 12}},
        {"z.example=127.0.0.[2;4..6;255]", "z.example", 1, true, {127, 0, 0, 255}, {127, 0, 0, 3}},
        {"z.example=127.0.[0..255].[1..3]*-2", "z.example", -2, true, {127, 0, 77, 3}, {127, 1, 77, 3}},
        {"z.example=127.[0;63;64;128].0.1", "z.example", 1, true, {127, 64, 0, 1}, {127, 65, 0, 1}},
    };
    static const char *const bad[] = {
        "", "=127.0.0.2", "*2", "two example", "z.example.", "z.example=", "z.example=127.0.0",
        "z.example=127.0.0.256", "z.example=127.0.0.2.3", "z.example=127.0.0.[2", "z.example=127.0.0.[]",
        "z.example=127.0.0.[5..2]", "z.example=127.0.0.[2;]", "z.example=127.0.0.[2..]",
        "z.example=10.0.0.2", "z.example=127.0.0.2*", "z.example*0", "z.example*1001",
        "z.example*-1001", "z.example*2x", "z.example* 2", "z.example*99999999999999999999",
        "z.example=127.0.0.2 *2", "z.example=127.0.0.2*2=3", "127.0.0.1"};
    struct dnsbl_zone zone;
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        struct error err = {""};
        g_test_message("good: %s", good[i].text);
        g_assert_cmpint(dnsbl_parse(good[i].text, &zone, &err), ==, 0);
        g_assert_cmpstr(zone.name, ==, good[i].name);
        g_assert_cmpint(zone.weight, ==, good[i].weight);
        g_assert_cmpint(zone.filtered, ==, good[i].filtered);
        g_assert_true(dnsbl_fits(&zone, good[i].in));
        if (good[i].filtered)
            g_assert_false(dnsbl_fits(&zone, good[i].out));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct error err = {""};
        g_test_message("bad: %s", bad[i]);
        g_assert_cmpint(dnsbl_parse(bad[i], &zone, &err), ==, -1);
        g_assert_cmpstr(err.text, !=, "");
    }
    gchar *longest = g_strnfill(300, 'a');
    for (int i = 50; i < 300; i += 50)
        longest[i] = '.';
    g_assert_cmpint(dnsbl_parse(longest, &zone, NULL), ==, -1);
    longest[189] = '\0';
    g_assert_cmpint(dnsbl_parse(longest, &zone, NULL), ==, 0);
    g_free(longest);
}

/* Receives a verdict. */
struct inbox {
    pthread_mutex_t lock;
    pthread_cond_t ready;
    unsigned count;
    struct dnsbl_verdict verdict;
};

static void inbox_init(struct inbox *inbox)
{
    pthread_mutex_init(&inbox->lock, NULL);
    condition_init(&inbox->ready);
    inbox->count = 0;
}

static void take_verdict(void *context, const struct dnsbl_verdict *verdict)
{
    struct inbox *inbox = context;
    pthread_mutex_lock(&inbox->lock);
    inbox->verdict = *verdict;
    inbox->count++;
    pthread_cond_signal(&inbox->ready);
    pthread_mutex_unlock(&inbox->lock);
}

static unsigned await_verdict(struct inbox *inbox, int seconds)
{
    const struct deadline deadline = deadline_in_ms(seconds * 1000);
    pthread_mutex_lock(&inbox->lock);
    while (inbox->count == 0 && condition_wait(&inbox->ready, &inbox->lock, deadline))
        ;
    unsigned count = inbox->count;
    pthread_mutex_unlock(&inbox->lock);
    return count;
}

/* `zones` are written as in a configuration, separated by spaces. */
static struct dnsbl *make(const char *zones, int threshold, int64_t timeout_ms)
{
    struct dnsbl_zone parsed[DNSBL_ZONES_MAX];
    size_t count = 0;
    gchar **list = g_strsplit(zones, " ", -1);
    for (; list[count] != NULL; count++)
        g_assert_cmpint(dnsbl_parse(list[count], &parsed[count], NULL), ==, 0);
    g_strfreev(list);
    return dnsbl_new(parsed, count, threshold, timeout_ms);
}

static struct dnsbl_check *check(struct dns_bed *bed, struct dnsbl *dnsbl, const char *client,
                                 struct inbox *inbox)
{
    struct address address;
    g_assert_cmpint(address_parse_ip(&address, client), ==, 0);
    inbox_init(inbox);
    return dnsbl_start(dnsbl, bed->resolver, &address, take_verdict, inbox);
}

static const struct {
    const char *label, *client, *zones;
    int score;
    bool listed;
    unsigned unanswered;
    const char *worst, *hits;
} cases[] = {
    {"listed", "192.0.2.7", "two.example*3", 3, true, 0, "two.example", "two.example=127.0.0.2*3"},
    {"listed, IPv6", "2001:db8::7", "two.example*3", 3, true, 0, "two.example",
     "two.example=127.0.0.3*3"},
    {"below the threshold", "192.0.2.7", "two.example*2", 2, false, 0, "two.example",
     "two.example=127.0.0.2*2"},
    {"not listed", "192.0.2.8", "two.example*3 many.example*3", 0, false, 0, "", ""},
    {"filter fits none", "192.0.2.7", "two.example=127.0.0.[3..9]*3", 0, false, 0, "", ""},
    {"filter fits the second address", "192.0.2.7", "many.example=127.0.0.[10..11]*3", 3, true, 0,
     "many.example", "many.example=127.0.0.11*3"},
    {"one zone, two filters, one question", "192.0.2.7",
     "many.example=127.0.0.4*2 MANY.example=127.0.0.11*4 many.example=127.0.0.9*7", 6, true, 0,
     "MANY.example", "many.example=127.0.0.4*2,MANY.example=127.0.0.11*4"},
    {"refused query", "192.0.2.7", "open.example*9", 0, false, 0, "", ""},
    {"refused query that a filter names", "192.0.2.7", "open.example=127.255.255.254*9", 0, false,
     0, "", ""},
    {"127.0.0.1", "192.0.2.7", "own.example*9", 0, false, 0, "", ""},
    {"127.0.0.1 that a filter names", "192.0.2.7", "own.example=127.0.0.[1..9]*9", 0, false, 0, "",
     ""},
    {"mistyped zone", "192.0.2.7", "typo.example*9", 0, false, 0, "", ""},
    {"answer of no blocklist", "192.0.2.7", "gone.example*9", 0, false, 0, "", ""},
    {"allowlist only", "192.0.2.7", "white.example=127.0.[0..255].[1..3]*-2", -2, false, 0, "",
     "white.example=127.0.5.2*-2"},
    {"a list that fails", "192.0.2.7", "fails.example*9", 0, false, 1, "", ""},
};

static void test_table(void)
{
    struct dns_bed bed;
    struct inbox inbox;
    dns_bed_open(&bed, rows, G_N_ELEMENTS(rows));
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct dnsbl *dnsbl = make(cases[i].zones, 3, 3000);
        g_test_message("%s", cases[i].label);
        struct dnsbl_check *one = check(&bed, dnsbl, cases[i].client, &inbox);
        g_assert_nonnull(one);
        dnsbl_unref(dnsbl);
        g_assert_cmpuint(await_verdict(&inbox, 10), ==, 1);
        dnsbl_end(one);
        g_assert_cmpint(inbox.verdict.score, ==, cases[i].score);
        g_assert_cmpint(inbox.verdict.listed, ==, cases[i].listed);
        g_assert_cmpuint(inbox.verdict.unanswered, ==, cases[i].unanswered);
        g_assert_cmpstr(inbox.verdict.worst, ==, cases[i].worst);
        g_assert_cmpstr(inbox.verdict.hits, ==, cases[i].hits);
    }
    dns_bed_close(&bed);
}

/* A silent list delays the verdict until the deadline, no longer, and the other lists count. */
static void test_deadline(void)
{
    struct dns_bed bed;
    struct inbox inbox, others;
    dns_bed_open(&bed, rows, G_N_ELEMENTS(rows));
    struct dnsbl *dnsbl =
        make("silent.example*5 two.example*3 white.example*-1 open.example", 2, 60000);
    struct dnsbl *quick = make("two.example*3 white.example*-1 open.example", 2, 60000);
    struct dnsbl_check *one = check(&bed, dnsbl, "192.0.2.7", &inbox);
    struct dnsbl_check *other = check(&bed, quick, "192.0.2.7", &others);
    /* Once the second check has all of its answers, the first has them too. */
    g_assert_cmpuint(await_verdict(&others, 30), ==, 1);
    g_assert_cmpuint(await_verdict(&inbox, 0), ==, 0);
    clock_advance_ms(60000);
    g_assert_cmpuint(await_verdict(&inbox, 30), ==, 1);
    g_assert_cmpint(inbox.verdict.score, ==, 2);
    g_assert_true(inbox.verdict.listed);
    g_assert_cmpuint(inbox.verdict.unanswered, ==, 1);
    g_assert_nonnull(strstr(inbox.verdict.hits, "white.example=127.0.5.2*-1"));
    dnsbl_end(one);
    dnsbl_end(other);
    dnsbl_unref(dnsbl);
    dnsbl_unref(quick);
    dns_bed_close(&bed);
}

/* A check ended before the answers is never called back. If the resolver is freed first, it still is. */
static void test_end(void)
{
    struct dns_bed bed;
    struct inbox ended[40], inbox;
    dns_bed_open(&bed, rows, G_N_ELEMENTS(rows));
    struct dnsbl *dnsbl = make("silent.example two.example", 1, 300);
    for (size_t i = 0; i < G_N_ELEMENTS(ended); i++)
        dnsbl_end(check(&bed, dnsbl, "192.0.2.7", &ended[i]));
    struct dnsbl_check *one = check(&bed, dnsbl, "192.0.2.7", &inbox);
    g_assert_cmpuint(await_verdict(&inbox, 10), ==, 1);
    dnsbl_end(one);
    one = check(&bed, dnsbl, "192.0.2.7", &inbox);
    dns_bed_close(&bed);
    g_assert_cmpuint(await_verdict(&inbox, 1), ==, 1);
    g_assert_cmpuint(inbox.verdict.unanswered, >=, 1); /* the silent one, perhaps the other too */
    dnsbl_end(one);
    for (size_t i = 0; i < G_N_ELEMENTS(ended); i++)
        g_assert_cmpuint(ended[i].count, ==, 0);
    dnsbl_end(NULL);
    dnsbl_unref(dnsbl);
}

static void test_nothing(void)
{
    struct dns_bed bed;
    struct inbox inbox;
    dns_bed_open(&bed, rows, G_N_ELEMENTS(rows));
    struct dnsbl *none = dnsbl_new(NULL, 0, 1, 1000);
    g_assert_null(check(&bed, none, "192.0.2.7", &inbox));
    g_assert_null(check(&bed, NULL, "192.0.2.7", &inbox));
    g_assert_cmpuint(dns_server_asked(bed.server, NULL, 0), ==, 0);
    dnsbl_unref(none);
    dns_bed_close(&bed);
}

static unsigned lines_with(const char *file, const char *word)
{
    gchar *text = NULL;
    unsigned count = 0;
    g_assert_true(g_file_get_contents(file, &text, NULL, NULL));
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++)
        count++;
    g_free(text);
    return count;
}

/* A fault for the operator to fix is logged once an hour per zone, not per client. */
static void test_log(void)
{
    struct dns_bed bed;
    struct inbox inbox;
    gchar *file = NULL;
    int log_fd = g_file_open_tmp("postern-dnsbl-XXXXXX", &file, NULL), stderr_fd = dup(STDERR_FILENO);
    g_assert_cmpint(log_fd, >=, 0);
    dns_bed_open(&bed, rows, G_N_ELEMENTS(rows));
    struct dnsbl *dnsbl = make("open.example typo.example gone.example two.example", 3, 3000);
    dup2(log_fd, STDERR_FILENO);
    for (int i = 0; i < 5; i++) {
        struct dnsbl_check *one = check(&bed, dnsbl, "192.0.2.7", &inbox);
        await_verdict(&inbox, 10);
        dnsbl_end(one);
    }
    dup2(stderr_fd, STDERR_FILENO);
    close(stderr_fd), close(log_fd);
    g_assert_cmpuint(lines_with(file, "event=dnsbl-unusable"), ==, 3);
    g_assert_cmpuint(lines_with(file, "zone=open.example answer=127.255.255.254"), ==, 1);
    g_assert_cmpuint(lines_with(file, "correct its name"), ==, 1);
    g_assert_cmpuint(lines_with(file, "zone=gone.example answer=203.0.113.5"), ==, 1);
    unlink(file);
    g_free(file);
    dnsbl_unref(dnsbl);
    dns_bed_close(&bed);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/dnsbl/parse", test_parse);
    g_test_add_func("/dnsbl/table", test_table);
    g_test_add_func("/dnsbl/deadline", test_deadline);
    g_test_add_func("/dnsbl/end", test_end);
    g_test_add_func("/dnsbl/nothing to ask", test_nothing);
    g_test_add_func("/dnsbl/log", test_log);
    return g_test_run();
}
