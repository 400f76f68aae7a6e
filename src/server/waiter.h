/* server/waiter.h - waits for descriptors, times and posts from other threads; knows no SMTP
 *
 * One thread, the waiter's, waits for everything at once. It waits for items, which are embedded in their
 * owners: a descriptor, a due time, or only a place to post to. For each event of an item, its `happened` is
 * called on the waiter's thread and must not block.
 *
 * Threads: any thread may call waiter_post() and waiter_wake(). Everything else is for the waiter's thread,
 * which is the calling thread as long as none waits yet, or any more. Owns no descriptors except its own
 * two.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_WAITER_H
#define POSTERN_SERVER_WAITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct waiter;
struct waiter_item;

/* Events. */
enum {
    WAITER_READABLE = 1 << 0,
    WAITER_WRITABLE = 1 << 1,
    WAITER_FINISHED = 1 << 2, /* the other side sends no more */
    WAITER_BROKEN = 1 << 3,   /* nor does it accept anything; always reported */
    WAITER_DUE = 1 << 4,      /* its due time has passed, and is cleared */
    WAITER_NEWS = 1 << 8,     /* from this bit on: posted by another thread */
};

/* How a descriptor is watched. */
enum waiter_manner {
    WAITER_ONCE,  /* reported once, then call waiter_watch() again */
    WAITER_EDGE,  /* reported when something new happens */
    WAITER_LEVEL, /* reported as long as the condition holds */
};

#define WAITER_NEVER INT64_MAX

struct waiter_item {
    /* Set by the owner. */
    int fd; /* -1: none, or no longer */
    void (*happened)(struct waiter_item *item, unsigned what);
    /* Private to the waiter. */
    struct waiter *waiter;
    int64_t due_ms;
    size_t place; /* index among items with a due time, from 1; 0: it has none */
    bool watched;
    enum { WAITER_NOT_POSTED, WAITER_IS_POSTED, WAITER_IS_TAKEN } post;
    unsigned news;
    struct waiter_item *next_posted;
};

/* NULL with errno on failure. */
struct waiter *waiter_new(void);
/* Call it when no item is left. */
void waiter_free(struct waiter *waiter);

/* Adds an item whose `fd` and `happened` are set and the rest 0. The owner keeps it. Returns 0, or -1 if out of
 * memory. */
int waiter_add(struct waiter *waiter, struct waiter_item *item);
/* Removes an item: it gets no more events. The owner closes its descriptor next, which ends the watch, unless it
 * is closed already (then `fd` is -1). */
void waiter_remove(struct waiter_item *item);

/* Watches for WAITER_READABLE, _WRITABLE, _FINISHED from now on. Returns 0, or -1 with errno. */
int waiter_watch(struct waiter_item *item, unsigned what, enum waiter_manner manner);
void waiter_unwatch(struct waiter_item *item);

/* Sets the due time, on the clock of deadline_now_ms(), or WAITER_NEVER. */
void waiter_set_due(struct waiter_item *item, int64_t due_ms);

/* Any thread: posts these events (bits from WAITER_NEWS on) to the item; posts are merged until they are
 * delivered. Don't call it after waiter_remove(). The item may be freed before this returns. */
void waiter_post(struct waiter_item *item, unsigned news);
/* Any thread: makes waiter_wait() return. */
void waiter_wake(struct waiter *waiter);

/* A round: waiter_wait() waits until `until_ms` at most, then waiter_tell() delivers the events. */
void waiter_wait(struct waiter *waiter, int64_t until_ms);
void waiter_tell(struct waiter *waiter);
/* The thread waits no more: from now on another thread may use the waiter as its own. */
void waiter_leave(struct waiter *waiter);
/* The number of the current round, and its time in ms: when its wait ended. */
uint64_t waiter_round_number(const struct waiter *waiter);
int64_t waiter_now_ms(const struct waiter *waiter);

/* Asserts that the caller is the waiter's thread. */
void waiter_assert_thread(const struct waiter *waiter);

#endif
