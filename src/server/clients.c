/* server/clients.c - how many connections each client has open
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/clients.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BUCKETS 4096 /* a power of two; chains stay short at a few thousand connections */

struct client {
    struct client *next;
    struct address network;
    unsigned connections;
};

struct clients {
    uint64_t seed; /* so that nobody can choose addresses that share a chain */
    struct client *buckets[BUCKETS];
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
            struct client *client = clients->buckets[i];
            clients->buckets[i] = client->next;
            free(client);
        }
    }
    free(clients);
}

/* The place that points to the client, or would. */
static struct client **find(struct clients *clients, const struct address *network)
{
    uint64_t hash = clients->seed;
    for (size_t i = 0; i < sizeof network->ip; i++)
        hash = (hash ^ network->ip[i]) * 0x9e3779b97f4a7c15ULL;
    struct client **place = &clients->buckets[(hash >> 40) % BUCKETS];
    while (*place != NULL && !address_same_ip(&(*place)->network, network))
        place = &(*place)->next;
    return place;
}

bool clients_enter(struct clients *clients, const struct address *address, unsigned most)
{
    struct address network = address_client_network(address);
    struct client **place = find(clients, &network);

    if (*place == NULL) {
        *place = calloc(1, sizeof **place);
        if (*place == NULL)
            return false;
        (*place)->network = network;
    }
    if ((*place)->connections >= most)
        return false;
    (*place)->connections++;
    return true;
}

void clients_leave(struct clients *clients, const struct address *address)
{
    struct address network = address_client_network(address);
    struct client **place = find(clients, &network);
    struct client *client = *place;

    if (client == NULL || --client->connections > 0)
        return;
    *place = client->next;
    free(client);
}
