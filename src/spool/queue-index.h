/* spool/queue-index.h - the two orders in which the queue finds things: by time and by name
 *
 * A heap gives the least key, a table finds by hash. Both are intrusive: their nodes stand inside
 * the structs that they order, which they do not own. Knows nothing of mail. Not thread-safe: the
 * queue's lock guards them.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_QUEUE_INDEX_H
#define POSTERN_SPOOL_QUEUE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The struct that a node stands in, as its `member`. */
#define OWNER(node, type, member) ((struct type *)((char *)(node)-offsetof(struct type, member)))

struct heap_node {
    int64_t key;
    size_t place; /* in the array, from 1; 0 = in no heap */
};

struct heap {
    struct heap_node **nodes;
    size_t count, room;
};

void heap_free(struct heap *heap);
/* Makes sure that so many can be held, so that heap_put() cannot fail. 0 or -1. */
int heap_reserve(struct heap *heap, size_t count);
/* Puts in, or moves within after a change of its key. There must be room. */
void heap_put(struct heap *heap, struct heap_node *node, int64_t key);
/* Takes out; a node that is in no heap is left alone. */
void heap_remove(struct heap *heap, struct heap_node *node);
/* The least, or NULL. */
struct heap_node *heap_top(const struct heap *heap);

struct table_node {
    struct table_node *next;
    uint64_t hash;
};

struct table {
    struct table_node **buckets;
    size_t count, bucket_count; /* buckets: a power of two, or 0 */
};

void table_free(struct table *table);
/* 0 or -1 when out of memory (only the first can fail so; later the buckets just fill up). */
int table_add(struct table *table, struct table_node *node, uint64_t hash);
void table_remove(struct table *table, struct table_node *node);
/* The first node of that hash, and the next one behind it; NULL when there is none. */
struct table_node *table_find(const struct table *table, uint64_t hash);
struct table_node *table_find_next(const struct table_node *node);

uint64_t table_hash_number(uint64_t number);
uint64_t table_hash_text(const char *text);

#endif
