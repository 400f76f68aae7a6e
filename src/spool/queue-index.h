/* spool/queue-index.h - the queue's two indexes: by time and by name
 *
 * A heap finds the least key; a table finds by hash. Both are intrusive: their nodes are embedded in the
 * structs that they index, which they do not own. Knows nothing of mail. Not thread-safe: the queue's
 * lock guards them.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_QUEUE_INDEX_H
#define POSTERN_SPOOL_QUEUE_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The struct in which a node is embedded as `member`. */
#define OWNER(node, type, member) ((struct type *)((char *)(node)-offsetof(struct type, member)))

struct heap_node {
    int64_t key;
    size_t place; /* index in the array, from 1; 0 = in no heap */
};

struct heap {
    struct heap_node **nodes;
    size_t count, room;
};

void heap_free(struct heap *heap);
/* Makes room for `count` nodes, so that heap_put() cannot fail. Returns 0, or -1 if out of memory. */
int heap_reserve(struct heap *heap, size_t count);
/* Adds a node, or moves it after its key changed. There must be room. */
void heap_put(struct heap *heap, struct heap_node *node, int64_t key);
/* Removes a node. Does nothing if it is in no heap. */
void heap_remove(struct heap *heap, struct heap_node *node);
/* The node with the least key, or NULL. */
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
/* Returns 0, or -1 if out of memory. Only the first call can fail; later the buckets just fill up. */
int table_add(struct table *table, struct table_node *node, uint64_t hash);
void table_remove(struct table *table, struct table_node *node);
/* The first node with that hash, and the next one after it; NULL if there is none. */
struct table_node *table_find(const struct table *table, uint64_t hash);
struct table_node *table_find_next(const struct table_node *node);

/* Hashes for the table. Not for secrets. */
uint64_t table_hash_number(uint64_t number);
uint64_t table_hash_text(const char *text);

#endif
