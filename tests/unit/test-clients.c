/* tests/unit/test-clients.c - server/clients
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <glib.h>
#include <stdio.h>

#include "server/clients.h"

/* One connection after the other: client, time and answer. `leaves`: it closes at once. */
struct step {
    const char *client;
    int64_t at_ms;
    enum clients_result result;
    bool leaves;
};

static const struct {
    const char *name;
    struct clients_limits limits;
    struct step steps[12];
} cases[] = {
    {"no limits",
     {0},
     {{"198.51.100.7", 0, CLIENTS_OK, false}, {"198.51.100.7", 0, CLIENTS_OK, false}}},
    {"connections of an address",
     {.connections = 2},
     {{"198.51.100.7", 0, CLIENTS_OK, false},
      {"198.51.100.7", 0, CLIENTS_OK, true},
      {"198.51.100.7", 0, CLIENTS_OK, false},
      {"198.51.100.7", 0, CLIENTS_CONNECTIONS, false},
      {"198.51.100.8", 0, CLIENTS_OK, false}}},
    {"connections of an IPv6 /64",
     {.connections = 1},
     {{"2001:db8:0:1::7", 0, CLIENTS_OK, false},
      {"2001:db8:0:1:8::", 0, CLIENTS_CONNECTIONS, false},
      {"2001:db8:0:2::7", 0, CLIENTS_OK, false}}},
    {"connections of a /24",
     {.connections = 2, .network_connections = 3},
     {{"198.51.100.0", 0, CLIENTS_OK, false},
      {"198.51.100.0", 0, CLIENTS_OK, false},
      {"198.51.100.255", 0, CLIENTS_OK, false},
      {"198.51.100.9", 0, CLIENTS_NETWORK_CONNECTIONS, false},
      {"198.51.101.9", 0, CLIENTS_OK, false}}},
    {"connections of an IPv6 /48",
     {.network_connections = 2},
     {{"2001:db8:1:1::7", 0, CLIENTS_OK, false},
      {"2001:db8:1:2::7", 0, CLIENTS_OK, false},
      {"2001:db8:1:ffff::7", 0, CLIENTS_NETWORK_CONNECTIONS, false},
      {"2001:db8:2:1::7", 0, CLIENTS_OK, false}}},
    {"rate: a burst of a minute, then one every twenty seconds",
     {.rate = 3},
     {{"198.51.100.7", 0, CLIENTS_OK, true},
      {"198.51.100.7", 10, CLIENTS_OK, true},
      {"198.51.100.7", 20, CLIENTS_OK, true},
      {"198.51.100.7", 30, CLIENTS_RATE, true},
      {"198.51.100.8", 30, CLIENTS_OK, true},
      {"198.51.100.7", 19000, CLIENTS_RATE, true},
      {"198.51.100.7", 20001, CLIENTS_OK, true},
      {"198.51.100.7", 20002, CLIENTS_RATE, true},
      {"198.51.100.7", 40001, CLIENTS_OK, true}}},
    {"rate of a network",
     {.rate = 3, .network_rate = 4},
     {{"198.51.100.1", 0, CLIENTS_OK, true},
      {"198.51.100.2", 0, CLIENTS_OK, true},
      {"198.51.100.3", 0, CLIENTS_OK, true},
      {"198.51.100.4", 0, CLIENTS_OK, true},
      {"198.51.100.5", 0, CLIENTS_NETWORK_RATE, true},
      {"198.51.100.5", 15001, CLIENTS_OK, true}}},
};

static struct address parse(const char *text)
{
    struct address address;
    g_assert_cmpint(address_parse_ip(&address, text), ==, 0);
    return address;
}

static void test_limits(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct clients *clients = clients_new();
        for (const struct step *step = cases[i].steps; step->client != NULL; step++) {
            struct address client = parse(step->client);
            g_test_message("%s: %s at %d", cases[i].name, step->client, (int)step->at_ms);
            enum clients_result result =
                clients_enter(clients, &client, &cases[i].limits, 1000000 + step->at_ms);
            g_assert_cmpint(result, ==, step->result);
            if (result == CLIENTS_OK && step->leaves)
                clients_leave(clients, &client);
        }
        clients_free(clients);
    }
}

/* A hammering client is logged at once, then rarely, and every refusal is counted. */
static void test_logging(void)
{
    struct clients *clients = clients_new();
    struct clients_limits limits = {.connections = 1};
    struct address client = parse("198.51.100.7"), other = parse("198.51.100.8");
    unsigned logged = 0;

    clients_enter(clients, &client, &limits, 1000);
    clients_enter(clients, &other, &limits, 1000);
    for (int i = 0; i < 25; i++) {
        clients_enter(clients, &client, &limits, 2000 + i * 1000);
        logged += clients_refusals_to_log(clients, &client, 2000 + i * 1000, 10000);
        g_assert_cmpuint(logged, ==, i < 10 ? 1 : i < 20 ? 11 : 21);
    }
    clients_enter(clients, &other, &limits, 26000);
    g_assert_cmpuint(clients_refusals_to_log(clients, &other, 26000, 10000), ==, 1);
    clients_free(clients);
}

/* Rates are remembered for a bounded number of clients, and forgotten once they have expired. */
static void test_memory(void)
{
    struct clients *clients = clients_new();
    struct clients_limits limits = {.rate = 1};
    unsigned refused = 0;
    for (unsigned i = 0; i < CLIENTS_NODES_MAX; i++) {
        char text[32];
        snprintf(text, sizeof text, "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        struct address client = parse(text);
        if (clients_enter(clients, &client, &limits, 1000000) == CLIENTS_OK)
            clients_leave(clients, &client);
        else
            refused++;
    }
    g_assert_cmpuint(refused, >, 0);
    g_assert_cmpuint(refused, <, 1000);
    /* A minute later, new clients make the table drop the old entries. */
    unsigned let_in = 0;
    for (unsigned i = 0; i < 10000; i++) {
        char text[32];
        snprintf(text, sizeof text, "192.%u.%u.1", i >> 8, i & 255);
        struct address client = parse(text);
        if (clients_enter(clients, &client, &limits, 1000000 + 60001 + i) == CLIENTS_OK) {
            clients_leave(clients, &client);
            let_in++;
        }
    }
    g_assert_cmpuint(let_in, >, 9900);
    clients_free(clients);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/clients/limits", test_limits);
    g_test_add_func("/clients/logging", test_logging);
    g_test_add_func("/clients/memory", test_memory);
    return g_test_run();
}
