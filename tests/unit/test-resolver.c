/* tests/unit/test-resolver.c - dns/resolver against a scripted name server
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unbound.h>

#include "dns-server.h"
#include "dns-sign.h"
#include "dns/name.h"
#include "dns/resolver-internal.h"

static const struct dns_row rows[] = {
    {"a.example", DNS_TYPE_A, "192.0.2.1|192.0.2.2"},
    {"a.example", DNS_TYPE_AAAA, "2001:db8::1"},
    {"mx.example", DNS_TYPE_MX, "10 a.example|20 b.example"},
    {"alias.example", DNS_TYPE_CNAME, "a.example"},
    {"lost.example", DNS_TYPE_CNAME, "nowhere.example"},
    {"text.example", DNS_TYPE_TXT, "hello"},
    {"large.example", DNS_TYPE_TXT, "!TC over tcp"},
    {"x.test", DNS_TYPE_A, "192.0.2.9"},
    {"1.0.0.10.in-addr.arpa", DNS_TYPE_PTR, "ten.example"},
    {"failing.example", DNS_TYPE_A, "!SERVFAIL"},
    {"refused.example", DNS_TYPE_A, "!REFUSED"},
    {"silent.example", DNS_TYPE_A, "!DROP"},
    {"silent2.example", DNS_TYPE_A, "!DROP"},
};

static void test_answers(void)
{
    static const struct {
        const char *label, *name;
        int type;
        enum resolver_result result;
        size_t count;
        const char *canonical;
    } cases[] = {
        {"two addresses", "a.example", DNS_TYPE_A, RESOLVER_FOUND, 2, "a.example"},
        {"final dot", "a.example.", DNS_TYPE_A, RESOLVER_FOUND, 2, "a.example"},
        {"IPv6", "a.example", DNS_TYPE_AAAA, RESOLVER_FOUND, 1, "a.example"},
        {"MX", "mx.example", DNS_TYPE_MX, RESOLVER_FOUND, 2, "mx.example"},
        {"CNAME", "alias.example", DNS_TYPE_A, RESOLVER_FOUND, 2, "a.example"},
        {"CNAME to nothing", "lost.example", DNS_TYPE_A, RESOLVER_NO_NAME, 0, NULL},
        {"text", "text.example", DNS_TYPE_TXT, RESOLVER_FOUND, 1, "text.example"},
        {"truncated: by TCP", "large.example", DNS_TYPE_TXT, RESOLVER_FOUND, 1, "large.example"},
        {"test. is asked for", "x.test", DNS_TYPE_A, RESOLVER_FOUND, 1, "x.test"},
        {"private reverse zone", "1.0.0.10.in-addr.arpa", DNS_TYPE_PTR, RESOLVER_FOUND, 1,
         "1.0.0.10.in-addr.arpa"},
        {"no such type", "a.example", DNS_TYPE_MX, RESOLVER_NO_DATA, 0, NULL},
        {"no such name", "b.example", DNS_TYPE_A, RESOLVER_NO_NAME, 0, NULL},
        {"server fails", "failing.example", DNS_TYPE_A, RESOLVER_TEMPORARY, 0, NULL},
        {"server refuses", "refused.example", DNS_TYPE_A, RESOLVER_TEMPORARY, 0, NULL},
        {"not a name", "a..example", DNS_TYPE_A, RESOLVER_TEMPORARY, 0, NULL},
    };
    struct dns_server *server = dns_server_open(rows, G_N_ELEMENTS(rows));
    struct resolver *resolver = dns_server_resolver(server, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct resolver_answer answer;
        g_test_message("%s", cases[i].label);
        g_assert_cmpint(resolver_lookup(resolver, cases[i].name, cases[i].type,
                                        deadline_in_ms(5000), &answer),
                        ==, cases[i].result);
        g_assert_cmpint(answer.result, ==, cases[i].result);
        g_assert_cmpuint(answer.count, ==, cases[i].count);
        g_assert_cmpstr(answer.canonical, ==, cases[i].canonical);
        g_assert_false(answer.secure || answer.bogus);
        g_assert_cmpint(answer.reason[0] != '\0', ==, cases[i].result == RESOLVER_TEMPORARY);
        resolver_answer_free(&answer);
    }
    resolver_free(resolver);
    dns_server_close(server);
}

static void test_content(void)
{
    struct dns_server *server = dns_server_open(rows, G_N_ELEMENTS(rows));
    struct resolver *resolver = dns_server_resolver(server, NULL);
    struct resolver_answer answer;
    unsigned preferences = 0, preference;
    char name[DNS_NAME_MAX];
    resolver_lookup(resolver, "mx.example", DNS_TYPE_MX, deadline_in_ms(5000), &answer);
    g_assert_cmpuint(answer.count, ==, 2);
    for (size_t i = 0; i < answer.count; i++) {
        g_assert_cmpint(dns_mx_read((const uint8_t *)answer.data[i], (size_t)answer.lengths[i],
                                    &preference, name), ==, 0);
        g_assert_cmpstr(name, ==, preference == 10 ? "a.example" : "b.example");
        preferences += preference;
    }
    g_assert_cmpuint(preferences, ==, 30);
    g_assert_cmpuint(answer.ttl, >, 200);
    g_assert_cmpuint(answer.ttl, <=, 300);
    resolver_answer_free(&answer);
    /* The second answer comes from the cache. */
    resolver_lookup(resolver, "MX.example", DNS_TYPE_MX, deadline_in_ms(5000), &answer);
    g_assert_cmpuint(answer.count, ==, 2);
    resolver_answer_free(&answer);
    g_assert_cmpuint(dns_server_asked(server, "mx.example", DNS_TYPE_MX), ==, 1);
    resolver_free(resolver);
    dns_server_close(server);
}

/* The number of threads of this process that do not block SIGTERM. */
static unsigned threads_with_signals(void)
{
    GDir *tasks = g_dir_open("/proc/self/task", 0, NULL);
    unsigned count = 0;
    for (const char *task; (task = g_dir_read_name(tasks)) != NULL;) {
        gchar *file = g_strdup_printf("/proc/self/task/%s/status", task), *status = NULL;
        if (g_file_get_contents(file, &status, NULL, NULL)) {
            const char *blocked = strstr(status, "SigBlk:");
            g_assert_nonnull(blocked);
            if (!(g_ascii_strtoull(blocked + strlen("SigBlk:\t"), NULL, 16) >> (SIGTERM - 1) & 1))
                count++;
        }
        g_free(file), g_free(status);
    }
    g_dir_close(tasks);
    return count;
}

/* Only main handles signals: in another thread, one would end the daemon in the middle of its mail. */
static void test_signals(void)
{
    struct dns_server *server = dns_server_open(rows, G_N_ELEMENTS(rows));
    struct resolver *resolver = dns_server_resolver(server, NULL);
    struct resolver_answer answer;
    unsigned before = threads_with_signals();
    /* An invalid name first: it must not count as the first question. */
    resolver_lookup(resolver, "a..example", DNS_TYPE_A, deadline_in_ms(5000), &answer);
    resolver_answer_free(&answer);
    resolver_lookup(resolver, "a.example", DNS_TYPE_A, deadline_in_ms(5000), &answer);
    g_assert_cmpint(answer.result, ==, RESOLVER_FOUND);
    resolver_answer_free(&answer);
    g_assert_cmpuint(threads_with_signals(), ==, before);
    resolver_free(resolver);
    dns_server_close(server);
}

static void *ask_first(void *argument)
{
    struct resolver_answer answer;
    resolver_lookup(argument, "a.example", DNS_TYPE_A, deadline_in_ms(5000), &answer);
    g_assert_cmpint(answer.result, ==, RESOLVER_FOUND);
    resolver_answer_free(&answer);
    return NULL;
}

/* The first question may come from a worker, whose stack is small. */
static void test_small_stack(void)
{
    struct dns_server *server = dns_server_open(rows, G_N_ELEMENTS(rows));
    struct resolver *resolver = dns_server_resolver(server, NULL);
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 * 1024);
    g_assert_cmpint(pthread_create(&thread, &attributes, ask_first, resolver), ==, 0);
    pthread_attr_destroy(&attributes);
    pthread_join(thread, NULL);
    resolver_free(resolver);
    dns_server_close(server);
}

static void test_timeout(void)
{
    struct dns_server *server = dns_server_open(rows, G_N_ELEMENTS(rows));
    struct resolver *resolver = dns_server_resolver(server, NULL);
    struct resolver_answer answer;
    int64_t begin = deadline_now_ms();
    resolver_lookup(resolver, "silent.example", DNS_TYPE_A, deadline_in_ms(100), &answer);
    int64_t took = deadline_now_ms() - begin;
    g_assert_cmpint(answer.result, ==, RESOLVER_TEMPORARY);
    g_assert_cmpstr(answer.reason, ==, "timeout");
    g_assert_cmpint(took, >=, 99);
    g_assert_cmpint(took, <, 10000);
    resolver_answer_free(&answer);
    /* A deadline that has already passed breaks nothing. */
    resolver_lookup(resolver, "silent2.example", DNS_TYPE_A, deadline_in_ms(-1), &answer);
    g_assert_cmpint(answer.result, ==, RESOLVER_TEMPORARY);
    resolver_answer_free(&answer);
    resolver_lookup(resolver, "a.example", DNS_TYPE_A, deadline_in_ms(5000), &answer);
    g_assert_cmpint(answer.result, ==, RESOLVER_FOUND);
    resolver_answer_free(&answer);
    resolver_free(resolver);
    dns_server_close(server);
}

struct tally {
    struct resolver *resolver;
    atomic_uint found, temporary, nested;
};

static void count_only(void *context, struct resolver_answer *answer)
{
    struct tally *tally = context;
    atomic_fetch_add(answer->result == RESOLVER_FOUND ? &tally->found : &tally->temporary, 1);
}

/* Domains with dead name servers do not hold up others. */
static void test_silent_neighbours(void)
{
    enum { SILENT = 400 };
    struct dns_row *all = g_new0(struct dns_row, SILENT + 1);
    for (int i = 0; i < SILENT; i++)
        all[i] = (struct dns_row){g_strdup_printf("silent%d.example", i), DNS_TYPE_A, "!DROP"};
    all[SILENT] = rows[0];
    struct dns_server *server = dns_server_open(all, SILENT + 1);
    struct tally tally = {.resolver = dns_server_resolver(server, NULL)};
    struct resolver_answer answer;
    for (int i = 0; i < SILENT; i++)
        g_assert_cmpint(resolver_ask(tally.resolver, all[i].name, DNS_TYPE_A, deadline_in_ms(60000),
                                     count_only, &tally), ==, 0);
    resolver_lookup(tally.resolver, rows[0].name, DNS_TYPE_A, deadline_in_ms(1000), &answer);
    g_assert_cmpint(answer.result, ==, RESOLVER_FOUND);
    resolver_answer_free(&answer);
    resolver_free(tally.resolver);
    g_assert_cmpuint(atomic_load(&tally.temporary), ==, SILENT);
    dns_server_close(server);
    for (int i = 0; i < SILENT; i++)
        g_free((gchar *)all[i].name);
    g_free(all);
}

static void count_nested(void *context, struct resolver_answer *answer)
{
    struct tally *tally = context;
    atomic_fetch_add(answer->result == RESOLVER_FOUND ? &tally->nested : &tally->temporary, 1);
}

static void count(void *context, struct resolver_answer *answer)
{
    struct tally *tally = context;
    atomic_fetch_add(answer->result == RESOLVER_FOUND ? &tally->found : &tally->temporary, 1);
    /* While the resolver is being freed, it takes no more questions. */
    if (resolver_ask(tally->resolver, "a.example", DNS_TYPE_A, deadline_in_ms(20000), count_nested,
                     tally) != 0)
        atomic_fetch_add(&tally->temporary, 1);
}

static void *ask_many(void *argument)
{
    struct tally *tally = argument;
    for (int i = 0; i < 100; i++)
        g_assert_cmpint(resolver_ask(tally->resolver, i % 2 == 0 ? "alias.example" : "a.example",
                                     i % 3 == 0 ? DNS_TYPE_AAAA : DNS_TYPE_A, deadline_in_ms(20000),
                                     count, tally), ==, 0);
    return NULL;
}

static void test_many(void)
{
    struct dns_server *server = dns_server_open(rows, G_N_ELEMENTS(rows));
    struct tally tally = {.resolver = dns_server_resolver(server, NULL)};
    GThread *threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = g_thread_new("asks", ask_many, &tally);
    for (int i = 0; i < 4; i++)
        g_thread_join(threads[i]);
    for (int i = 0; i < 2000 && atomic_load(&tally.nested) < 400; i++)
        g_usleep(10000);
    g_assert_cmpuint(atomic_load(&tally.found), ==, 400);
    g_assert_cmpuint(atomic_load(&tally.nested), ==, 400);
    g_assert_cmpuint(atomic_load(&tally.temporary), ==, 0);
    resolver_free(tally.resolver);
    dns_server_close(server);
}

static void test_bound(void)
{
    struct dns_server *server = dns_server_open(rows, G_N_ELEMENTS(rows));
    struct tally tally = {.resolver = dns_server_resolver(server, NULL)};
    struct resolver_answer answer;
    unsigned taken = 0;
    for (int i = 0; i < RESOLVER_QUESTIONS_MAX + 5; i++) {
        if (resolver_ask(tally.resolver, i % 2 == 0 ? "silent.example" : "silent2.example",
                         DNS_TYPE_A, deadline_in_ms(60000), count, &tally) == 0)
            taken++;
    }
    g_assert_cmpuint(taken, ==, RESOLVER_QUESTIONS_MAX);
    int64_t begin = deadline_now_ms();
    resolver_lookup(tally.resolver, "a.example", DNS_TYPE_A, deadline_in_ms(5000), &answer);
    g_assert_cmpint(answer.result, ==, RESOLVER_TEMPORARY);
    g_assert_cmpint(deadline_now_ms() - begin, <, 1000);
    resolver_answer_free(&answer);
    /* Free it with all of them open: each is answered, and its nested question refused. */
    resolver_free(tally.resolver);
    g_assert_cmpuint(atomic_load(&tally.temporary), ==, 2 * RESOLVER_QUESTIONS_MAX);
    dns_server_close(server);
}

/* Frees the resolver while questions are open whose deadlines have passed. */
static void test_free_late(void)
{
    struct dns_server *server = dns_server_open(rows, G_N_ELEMENTS(rows));
    struct resolver *resolver = dns_server_resolver(server, NULL);
    struct resolver_answer answer;
    for (int i = 0; i < 3; i++) {
        resolver_lookup(resolver, "silent.example", DNS_TYPE_A, deadline_in_ms(20), &answer);
        g_assert_cmpint(answer.result, ==, RESOLVER_TEMPORARY);
        resolver_answer_free(&answer);
    }
    resolver_free(resolver);
    dns_server_close(server);
    /* A resolver that was never asked, and NULL. */
    struct resolver_config config = {.recurse = true, .trust_anchor_file = ""};
    resolver_free(resolver_new(&config, NULL));
    resolver_free(NULL);
}

static gchar *write_anchor(const char *text)
{
    gchar *file = NULL;
    int fd = g_file_open_tmp("postern-anchor-XXXXXX", &file, NULL);
    g_assert_cmpint(fd, >=, 0);
    g_close(fd, NULL);
    g_assert_true(g_file_set_contents(file, text, -1, NULL));
    return file;
}

/* With a trust anchor for an unsigned zone, everything in it counts as forged. */
static void test_bogus(void)
{
    gchar *anchor = write_anchor("example. IN DS 12345 15 2 "
                                 "0000000000000000000000000000000000000000000000000000000000000001\n");
    struct dns_server *server = dns_server_open(rows, G_N_ELEMENTS(rows));
    struct resolver *resolver = dns_server_resolver(server, anchor);
    struct resolver_answer answer;
    resolver_lookup(resolver, "a.example", DNS_TYPE_A, deadline_in_ms(10000), &answer);
    g_assert_cmpint(answer.result, ==, RESOLVER_TEMPORARY);
    g_assert_true(answer.bogus);
    g_assert_false(answer.secure);
    g_assert_cmpuint(answer.count, ==, 0);
    g_assert_cmpstr(answer.reason, !=, "");
    resolver_answer_free(&answer);
    resolver_lookup(resolver, "x.test", DNS_TYPE_A, deadline_in_ms(10000), &answer);
    g_assert_cmpint(answer.result, ==, RESOLVER_FOUND);
    g_assert_false(answer.secure);
    resolver_answer_free(&answer);
    resolver_free(resolver);
    dns_server_close(server);
    g_unlink(anchor);
    g_free(anchor);
}

/* Signed records are proven; records changed after signing are withheld. */
static void test_secure(void)
{
    static const struct dns_row zone[] = {
        {"host.signed.example", DNS_TYPE_A, "192.0.2.1|192.0.2.2"},
        {"alias.signed.example", DNS_TYPE_CNAME, "host.signed.example"},
        {"out.signed.example", DNS_TYPE_CNAME, "plain.example"},
        {"forged.signed.example", DNS_TYPE_A, "192.0.2.3"},
        {"plain.example", DNS_TYPE_A, "192.0.2.4"},
    };
    static const struct {
        const char *name;
        enum resolver_result result;
        bool secure, bogus;
    } questions[] = {
        {"host.signed.example", RESOLVER_FOUND, true, false},
        {"alias.signed.example", RESOLVER_FOUND, true, false},
        {"out.signed.example", RESOLVER_FOUND, false, false},
        {"forged.signed.example", RESOLVER_TEMPORARY, false, true},
        {"missing.signed.example", RESOLVER_TEMPORARY, false, true}, /* no proof of its absence */
        {"plain.example", RESOLVER_FOUND, false, false},
    };
    struct signed_rows *all = dns_sign(zone, G_N_ELEMENTS(zone), "signed.example");
    for (size_t i = 0; i < all->count; i++) {
        if (strcmp(all->rows[i].answer, "192.0.2.3") == 0)
            strcpy((char *)all->rows[i].answer, "192.0.2.9");
    }
    struct dns_server *server = dns_server_open(all->rows, all->count);
    struct resolver *resolver = dns_server_resolver(server, all->anchor_file);
    for (size_t i = 0; i < G_N_ELEMENTS(questions); i++) {
        struct resolver_answer answer;
        resolver_lookup(resolver, questions[i].name, DNS_TYPE_A, deadline_in_ms(10000), &answer);
        g_test_message("%s: %d %s", questions[i].name, answer.result,
                       answer.reason);
        g_assert_cmpint(answer.result, ==, questions[i].result);
        g_assert_cmpint(answer.secure, ==, questions[i].secure);
        g_assert_cmpint(answer.bogus, ==, questions[i].bogus);
        resolver_answer_free(&answer);
    }
    resolver_free(resolver);
    dns_server_close(server);
    signed_rows_free(all);
}

static enum resolver_result ask_a(struct resolver *resolver, bool *bogus)
{
    struct resolver_answer answer;
    resolver_lookup(resolver, "a.example", DNS_TYPE_A, deadline_in_ms(10000), &answer);
    enum resolver_result result = answer.result;
    *bogus = answer.bogus;
    resolver_answer_free(&answer);
    return result;
}

/* With an optional anchor, name servers that strip all signatures end validation; a forged name does
 * not. */
static void test_downgrade(void)
{
    /* The root's SOA: two names and five numbers. */
    static const struct dns_row root[] = {
        {"", 6, "\\0161000162000000000100000e100000038400093a800000003c"},
        {"a.example", DNS_TYPE_A, "192.0.2.1"},
    };
    static const struct {
        bool optional, stripped, downgraded;
        enum dns_server_edns edns;
    } cases_of[] = {{true, true, true, DNS_SERVER_EDNS},
                    {true, true, true, DNS_SERVER_EDNS_UNKNOWN},
                    {false, true, false, DNS_SERVER_EDNS},
                    {true, false, false, DNS_SERVER_EDNS}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases_of); i++) {
        struct signed_rows *all = dns_sign(root, G_N_ELEMENTS(root), "");
        struct dns_server *server = cases_of[i].stripped
                                        ? dns_server_open(root, G_N_ELEMENTS(root))
                                        : dns_server_open(all->rows, all->count);
        dns_server_set_edns(server, cases_of[i].edns);
        struct resolver_config config = {.trust_anchor_file = all->anchor_file,
                                         .trust_anchor_optional = cases_of[i].optional};
        struct resolver *resolver = dns_server_resolver_with(server, &config);
        bool bogus, found = false;
        g_test_message("case %zu", i);
        g_assert_cmpint(ask_a(resolver, &bogus), ==, RESOLVER_TEMPORARY);
        g_assert_true(bogus);
        for (int attempt = 0; attempt < (cases_of[i].downgraded ? 500 : 30) && !found; attempt++) {
            g_usleep(10000);
            found = ask_a(resolver, &bogus) == RESOLVER_FOUND;
        }
        g_assert_cmpint(found, ==, cases_of[i].downgraded);
        resolver_free(resolver);
        dns_server_close(server);
        signed_rows_free(all);
    }
}

/* Validation that was given up is tried again, and comes back with the signatures. */
static void test_validation_again(void)
{
    static const struct dns_row root[] = {
        {"", 6, "\\0161000162000000000100000e100000038400093a800000003c"},
        {"a.example", DNS_TYPE_A, "192.0.2.1"},
    };
    struct signed_rows *all = dns_sign(root, G_N_ELEMENTS(root), "");
    struct dns_server *server = dns_server_open(all->rows, all->count);
    struct resolver_config config = {.trust_anchor_file = all->anchor_file,
                                     .trust_anchor_optional = true,
                                     .validate_again_ms = 300};
    struct resolver *resolver = dns_server_resolver_with(server, &config);
    struct resolver_answer answer = {.count = 0};
    bool bogus, found = false, secure = false;

    dns_server_set_stripping(server, true);
    for (int attempt = 0; attempt < 500 && !found; attempt++) {
        g_usleep(10000);
        found = ask_a(resolver, &bogus) == RESOLVER_FOUND;
    }
    g_assert_true(found);
    dns_server_set_stripping(server, false);
    for (int attempt = 0; attempt < 500 && !secure; attempt++) {
        g_usleep(10000);
        resolver_lookup(resolver, ".", 6, deadline_in_ms(10000), &answer);
        secure = answer.secure;
        resolver_answer_free(&answer);
    }
    g_assert_true(secure);
    g_assert_true(resolver_validates(resolver));
    resolver_free(resolver);
    dns_server_close(server);
    signed_rows_free(all);
}

/* Names are found even at old servers without EDNS. */
static void test_without_edns(void)
{
    for (int edns = DNS_SERVER_EDNS_UNKNOWN; edns <= DNS_SERVER_EDNS_IGNORED; edns++) {
        struct dns_server *server = dns_server_open(rows, G_N_ELEMENTS(rows));
        struct resolver *resolver = dns_server_resolver(server, NULL);
        bool bogus, found = false;
        g_test_message("kind %d", edns);
        dns_server_set_edns(server, (enum dns_server_edns)edns);
        for (int attempt = 0; attempt < 3 && !found; attempt++)
            found = ask_a(resolver, &bogus) == RESOLVER_FOUND;
        g_assert_true(found);
        resolver_free(resolver);
        dns_server_close(server);
    }
}

/* A server that drops questions with EDNS is of no use, which can be told from one that is away. */
static void test_edns_dropped(void)
{
    struct dns_server *server = dns_server_open(rows, G_N_ELEMENTS(rows));
    struct resolver *resolver = dns_server_resolver(server, NULL);
    struct resolver_answer answer;

    dns_server_set_edns(server, DNS_SERVER_EDNS_DROPPED);
    g_assert_cmpint(resolver_lookup(resolver, "a.example", DNS_TYPE_A, deadline_in_ms(100), &answer),
                    ==, RESOLVER_TEMPORARY);
    resolver_answer_free(&answer);
    g_assert_true(resolver_is_answered_without_edns(resolver));
    resolver_free(resolver);

    g_autofree char *file = NULL;
    int fd = g_file_open_tmp("postern-resolv-XXXXXX", &file, NULL);
    g_assert_true(g_file_set_contents(file, "nameserver 127.0.0.254\n", -1, NULL));
    struct resolver_config config = {.resolv_conf = file, .trust_anchor_file = ""};
    resolver = resolver_new(&config, NULL);
    g_assert_false(resolver_is_answered_without_edns(resolver)); /* nobody is there */
    resolver_free(resolver);
    close(fd);
    g_unlink(file);
    dns_server_close(server);
}

static void configure(struct resolver *resolver, const struct address *server)
{
    struct resolver_config config = {.servers = server, .server_count = 1, .trust_anchor_file = ""};
    struct error err = {""};
    g_assert_cmpint(resolver_configure(resolver, &config, &err), ==, 0);
}

static void take_answer(void *context, struct resolver_answer *answer)
{
    atomic_store((atomic_int *)context, (int)answer->result + 1);
}

/* After a reload, open and later questions go to the new servers, and the old ones' answers are
 * forgotten. */
static void test_configure(void)
{
    static const struct dns_row fails[] = {{"a.example", DNS_TYPE_A, "!SERVFAIL"},
                                           {"mx.example", DNS_TYPE_MX, "!DROP"}};
    struct dns_server *old = dns_server_open(fails, G_N_ELEMENTS(fails));
    struct dns_server *new = dns_server_open(rows, G_N_ELEMENTS(rows));
    struct resolver *resolver = dns_server_resolver(old, NULL);
    atomic_int result = 0;
    bool bogus;
    g_assert_cmpint(ask_a(resolver, &bogus), ==, RESOLVER_TEMPORARY);
    unsigned asked = dns_server_asked(old, NULL, 0);
    configure(resolver, dns_server_address(old)); /* nothing has changed */
    g_assert_cmpint(ask_a(resolver, &bogus), ==, RESOLVER_TEMPORARY);
    g_assert_cmpuint(dns_server_asked(old, NULL, 0), ==, asked);
    g_assert_cmpint(resolver_ask(resolver, "mx.example", DNS_TYPE_MX, deadline_in_ms(20000),
                                 take_answer, &result),
                    ==, 0);
    while (dns_server_asked(old, "mx.example", DNS_TYPE_MX) == 0)
        g_usleep(1000);
    configure(resolver, dns_server_address(new));
    g_assert_cmpint(ask_a(resolver, &bogus), ==, RESOLVER_FOUND);
    for (int i = 0; i < 10000 && atomic_load(&result) == 0; i++)
        g_usleep(1000);
    g_assert_cmpint(atomic_load(&result), ==, RESOLVER_FOUND + 1);
    resolver_free(resolver);
    dns_server_close(old);
    dns_server_close(new);
}

static void test_read_servers(void)
{
    static const struct {
        const char *label, *text, *servers;
    } cases[] = {
        {"none", "# nothing yet\nsearch example.com\n", ""},
        {"two", "nameserver 192.0.2.1\nnameserver 2001:db8::1\n", "192.0.2.1 2001:db8::1 "},
        {"a name", "nameserver dns.example\nnameserver 192.0.2.1\n", "192.0.2.1 "},
        {"too large a number", "nameserver 192.0.2.300\nnameserver 192.0.2.1\n", "192.0.2.1 "},
        {"nothing behind it", "nameserver\nnameserver  \nnameserver 192.0.2.1\n", "192.0.2.1 "},
        {"tabs, CR, a comment behind", "nameserver\t192.0.2.1 # ours\r\nnameserver 192.0.2.2\r\n",
         "192.0.2.1 192.0.2.2 "},
        {"a scope", "nameserver fe80::1%eth0\n", "fe80::1%eth0 "},
        {"commented out", "#nameserver 192.0.2.1\n;nameserver 192.0.2.2\n", ""},
        {"another word", "nameservers 192.0.2.1\noptions edns0\n", ""},
        {"no final newline", "nameserver 192.0.2.1", "192.0.2.1 "},
        {"a long line",
         "nameserver "
         "1111111111111111111111111111111111111111111111111111111111111111111111111111111111111\n"
         "nameserver 192.0.2.1\n",
         "192.0.2.1 "},
        {"many",
         "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n"
         "nameserver 10.0.0.4\nnameserver 10.0.0.5\nnameserver 10.0.0.6\nnameserver 10.0.0.7\n"
         "nameserver 10.0.0.8\nnameserver 10.0.0.9\n",
         "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.7 10.0.0.8 "},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        gchar *file = write_anchor(cases[i].text);
        GString *got = g_string_new(NULL);
        struct resolver_servers servers;
        g_test_message("%s", cases[i].label);
        g_assert_cmpint(resolver_read_servers(file, &servers), ==, 0);
        for (size_t j = 0; j < servers.count; j++)
            g_string_append_printf(got, "%s ", servers.items[j]);
        g_assert_cmpstr(got->str, ==, cases[i].servers);
        g_string_free(got, TRUE);
        g_unlink(file);
        g_free(file);
    }
}

static void test_settings(void)
{
    struct resolver_config config = {.trust_anchor_file = "/nonexistent/root.key"};
    struct resolver_answer answer;
    struct error err = {""};
    g_assert_null(resolver_new(&config, &err));
    g_assert_nonnull(strstr(err.text, "/nonexistent/root.key"));
    /* A fault that only shows at the first question: no answer, no crash. */
    gchar *anchor = write_anchor("this is no key\n");
    config.trust_anchor_file = anchor;
    struct resolver *resolver = resolver_new(&config, &err);
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(resolver_lookup(resolver, "a.example", DNS_TYPE_A, deadline_in_ms(5000),
                                        &answer), ==, RESOLVER_TEMPORARY);
        resolver_answer_free(&answer);
    }
    resolver_free(resolver);
    g_unlink(anchor);
    g_free(anchor);
}

/* A name server that was silent for minutes is asked again soon. To see it takes as long: how the setting works was
 * measured by hand. */
static void test_outage(void)
{
    const struct resolver_config config = {.resolv_conf = "/nonexistent", .trust_anchor_file = ""};
    struct error err = {""};
    struct ub_ctx *context = resolver_context_new(&config, &err);
    char *seconds = NULL;

    g_assert_cmpstr(err.text, ==, "");
    g_assert_nonnull(context);
    g_assert_cmpint(ub_ctx_get_option(context, "infra-host-ttl", &seconds), ==, 0);
    g_assert_cmpint(atoi(seconds), <=, 60);
    free(seconds);
    ub_ctx_delete(context);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/resolver/answers", test_answers);
    g_test_add_func("/resolver/content and cache", test_content);
    g_test_add_func("/resolver/signals", test_signals);
    g_test_add_func("/resolver/small stack", test_small_stack);
    g_test_add_func("/resolver/timeout", test_timeout);
    g_test_add_func("/resolver/silent neighbours", test_silent_neighbours);
    g_test_add_func("/resolver/many at a time", test_many);
    g_test_add_func("/resolver/bound", test_bound);
    g_test_add_func("/resolver/free with late questions", test_free_late);
    g_test_add_func("/resolver/bogus", test_bogus);
    g_test_add_func("/resolver/secure", test_secure);
    g_test_add_func("/resolver/downgrade", test_downgrade);
    g_test_add_func("/resolver/validation again", test_validation_again);
    g_test_add_func("/resolver/without EDNS", test_without_edns);
    g_test_add_func("/resolver/EDNS dropped", test_edns_dropped);
    g_test_add_func("/resolver/configure", test_configure);
    g_test_add_func("/resolver/resolv.conf", test_read_servers);
    g_test_add_func("/resolver/settings", test_settings);
    g_test_add_func("/resolver/outage", test_outage);
    return g_test_run();
}
