/* server/clients.c - counts each client's and network's connections, and their rate
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/clients.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/assert.h"

#define BUCKETS 4096 /* a power of two; chains stay short at a few thousand connections */
#define MINUTE_US 60000000

struct node {
    struct node *next;
    struct address range; /* the client or network, port 0 */
    bool is_network;
    unsigned connections;
    unsigned refused;    /* not yet logged */
    int64_t rate_due_us; /* when all its connections would have come at the allowed rate */
    int64_t log_due_ms;
};

struct clients {
    uint64_t seed; /* so that nobody can choose addresses that share a chain */
    size_t count;
    size_t swept; /* the bucket swept last */
    struct node *buckets[BUCKETS];
};

struct clients *clients_new(void)
{
    struct clients *clients = calloc(1, sizeof *clients);
    if (clients != NULL &&
        getrandom(&clients->seed, sizeof clients->seed, 0) != sizeof clients->seed)
        clients->seed = (uint64_t)(uintptr_t)clients;
    return clients;
}

void clients_free(struct clients *clients)
{
    if (clients == NULL)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        while (clients->buckets[i] != NULL) {
            struct node *node = clients->buckets[i];
            clients->buckets[i] = node->next;
            free(node);
        }
    }
    free(clients);
}

static struct address clients_range_of(const struct address *address, bool is_network)
{
    return is_network ? address_site_network(address) : address_client_network(address);
}

/* The place of the pointer to the node, or where it would be. */
static struct node **clients_find(struct clients *clients, const struct address *range,
                                  bool is_network)
{
    uint64_t hash = clients->seed + is_network;
    for (size_t i = 0; i < sizeof range->ip; i++)
        hash = (hash ^ range->ip[i]) * 0x9e3779b97f4a7c15ULL;
    struct node **place = &clients->buckets[(hash >> 40) % BUCKETS];
    while (*place != NULL &&
           ((*place)->is_network != is_network || !address_same_ip(&(*place)->range, range)))
        place = &(*place)->next;
    return place;
}

static void clients_drop(struct clients *clients, struct node **place)
{
    struct node *node = *place;
    *place = node->next;
    clients->count--;
    free(node);
}

static bool clients_is_over(const struct node *node, int64_t now_ms)
{
    return node->connections == 0 && node->rate_due_us <= now_ms * 1000 &&
           node->log_due_ms <= now_ms;
}

/* Frees nodes without further use, one bucket at each new connection. */
static void clients_sweep(struct clients *clients, int64_t now_ms)
{
    clients->swept = (clients->swept + 1) % BUCKETS;
    struct node **place = &clients->buckets[clients->swept];
    while (*place != NULL) {
        if (clients_is_over(*place, now_ms))
            clients_drop(clients, place);
        else
            place = &(*place)->next;
    }
}

static struct node *clients_get(struct clients *clients, const struct address *address,
                                bool is_network)
{
    struct address range = clients_range_of(address, is_network);
    struct node **place = clients_find(clients, &range, is_network);

    if (*place != NULL || clients->count >= CLIENTS_NODES_MAX)
        return *place;
    *place = calloc(1, sizeof **place);
    if (*place != NULL) {
        (*place)->range = range;
        (*place)->is_network = is_network;
        clients->count++;
    }
    return *place;
}

static int64_t clients_later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static bool clients_exceeds_rate(const struct node *node, unsigned rate, int64_t now_us)
{
    return rate > 0 &&
           clients_later(node->rate_due_us, now_us) + MINUTE_US / rate - now_us > MINUTE_US;
}

static void clients_count(struct node *node, unsigned rate, int64_t now_us)
{
    node->connections++;
    if (rate > 0)
        node->rate_due_us = clients_later(node->rate_due_us, now_us) + MINUTE_US / rate;
}

enum clients_result clients_enter(struct clients *clients, const struct address *address,
                                  const struct clients_limits *limits, int64_t now_ms)
{
    int64_t now_us = now_ms * 1000;
    enum clients_result result = CLIENTS_OK;

    clients_sweep(clients, now_ms);
    struct node *client = clients_get(clients, address, false),
                *network = clients_get(clients, address, true);
    if (client == NULL || network == NULL)
        return CLIENTS_NO_MEMORY;
    if (limits->connections > 0 && client->connections >= limits->connections)
        result = CLIENTS_CONNECTIONS;
    else if (limits->network_connections > 0 && network->connections >= limits->network_connections)
        result = CLIENTS_NETWORK_CONNECTIONS;
    else if (clients_exceeds_rate(client, limits->rate, now_us))
        result = CLIENTS_RATE;
    else if (clients_exceeds_rate(network, limits->network_rate, now_us))
        result = CLIENTS_NETWORK_RATE;
    if (result == CLIENTS_OK) {
        clients_count(client, limits->rate, now_us);
        clients_count(network, limits->network_rate, now_us);
    } else {
        client->refused++;
    }
    return result;
}

void clients_leave(struct clients *clients, const struct address *address)
{
    for (int is_network = 0; is_network < 2; is_network++) {
        struct address range = clients_range_of(address, is_network != 0);
        struct node **place = clients_find(clients, &range, is_network != 0);
        ASSERT(*place != NULL && (*place)->connections > 0);
        (*place)->connections--;
        if (clients_is_over(*place, 0))
            clients_drop(clients, place);
    }
}

unsigned clients_refusals_to_log(struct clients *clients, const struct address *address,
                                 int64_t now_ms, int64_t interval_ms)
{
    struct address range = clients_range_of(address, false);
    struct node *client = *clients_find(clients, &range, false);

    if (client == NULL || client->log_due_ms > now_ms)
        return 0;
    unsigned refused = client->refused;
    client->refused = 0;
    client->log_due_ms = now_ms + interval_ms;
    return refused;
}
