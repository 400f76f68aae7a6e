/* spool/queue-index.c - the queue's two indexes: by time and by name
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "spool/queue-index.h"

#include <stdlib.h>

void heap_free(struct heap *heap)
{
    free(heap->nodes);
    *heap = (struct heap){.nodes = NULL};
}

int heap_reserve(struct heap *heap, size_t count)
{
    size_t room = heap->room;
    if (count <= room)
        return 0;
    room = count < 4 ? count : count + count / 2;
    struct heap_node **longer = realloc(heap->nodes, room * sizeof(struct heap_node *));
    if (longer == NULL)
        return -1;
    heap->nodes = longer;
    heap->room = room;
    return 0;
}

static void heap_set(struct heap *heap, size_t place, struct heap_node *node)
{
    heap->nodes[place - 1] = node;
    node->place = place;
}

static void heap_rise(struct heap *heap, struct heap_node *node)
{
    size_t place = node->place;
    while (place > 1 && heap->nodes[place / 2 - 1]->key > node->key) {
        heap_set(heap, place, heap->nodes[place / 2 - 1]);
        place /= 2;
    }
    heap_set(heap, place, node);
}

static void heap_sink(struct heap *heap, struct heap_node *node)
{
    size_t place = node->place, child;
    while ((child = place * 2) <= heap->count) {
        if (child < heap->count && heap->nodes[child]->key < heap->nodes[child - 1]->key)
            child++;
        if (heap->nodes[child - 1]->key >= node->key)
            break;
        heap_set(heap, place, heap->nodes[child - 1]);
        place = child;
    }
    heap_set(heap, place, node);
}

void heap_put(struct heap *heap, struct heap_node *node, int64_t key)
{
    node->key = key;
    if (node->place == 0)
        heap_set(heap, ++heap->count, node);
    heap_rise(heap, node);
    heap_sink(heap, node);
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
    size_t place = node->place;
    if (place == 0)
        return;
    struct heap_node *last = heap->nodes[--heap->count];
    node->place = 0;
    if (last == node)
        return;
    heap_set(heap, place, last);
    heap_rise(heap, last);
    heap_sink(heap, last);
}

struct heap_node *heap_top(const struct heap *heap)
{
    return heap->count > 0 ? heap->nodes[0] : NULL;
}

void table_free(struct table *table)
{
    free(table->buckets);
    *table = (struct table){.buckets = NULL};
}

static struct table_node **table_bucket(const struct table *table, uint64_t hash)
{
    return &table->buckets[hash & (table->bucket_count - 1)];
}

static void table_grow(struct table *table)
{
    struct table larger = {.count = table->count,
                           .bucket_count = table->bucket_count == 0 ? 64 : table->bucket_count * 2};
    larger.buckets = calloc(larger.bucket_count, sizeof(struct table_node *));
    if (larger.buckets == NULL)
        return;
    for (size_t i = 0; i < table->bucket_count; i++) {
        for (struct table_node *node = table->buckets[i], *next; node != NULL; node = next) {
            struct table_node **to = table_bucket(&larger, node->hash);
            next = node->next;
            node->next = *to;
            *to = node;
        }
    }
    free(table->buckets);
    *table = larger;
}

int table_add(struct table *table, struct table_node *node, uint64_t hash)
{
    if (table->count >= table->bucket_count)
        table_grow(table);
    if (table->bucket_count == 0)
        return -1;
    struct table_node **to = table_bucket(table, hash);
    node->hash = hash;
    node->next = *to;
    *to = node;
    table->count++;
    return 0;
}

void table_remove(struct table *table, struct table_node *node)
{
    struct table_node **link = table_bucket(table, node->hash);
    while (*link != NULL && *link != node)
        link = &(*link)->next;
    if (*link == NULL)
        return;
    *link = node->next;
    table->count--;
}

static struct table_node *table_of_hash(struct table_node *node, uint64_t hash)
{
    while (node != NULL && node->hash != hash)
        node = node->next;
    return node;
}

struct table_node *table_find(const struct table *table, uint64_t hash)
{
    return table->bucket_count > 0 ? table_of_hash(*table_bucket(table, hash), hash) : NULL;
}

struct table_node *table_find_next(const struct table_node *node)
{
    return table_of_hash(node->next, node->hash);
}

/* The finishing steps of splitmix64: ids differ mostly in a few bits. */
uint64_t table_hash_number(uint64_t number)
{
    number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9;
    number = (number ^ (number >> 27)) * 0x94d049bb133111eb;
    return number ^ (number >> 31);
}

uint64_t table_hash_text(const char *text)
{
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3;
    return table_hash_number(hash);
}
