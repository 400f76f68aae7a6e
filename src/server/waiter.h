/* server/waiter.h - waits for descriptors, times and other threads' words, and knows no SMTP
 *
 * One thread, the waiter's own, waits for everything at once. What is waited for is an item, embedded
 * in whatever it is part of: a descriptor, a time at which it is due, or only a place to post to. Its
 * `happened` is called for each thing that happens to it, on the waiter's thread, which never blocks
 * in it.
 *
 * Threads: waiter_post() and waiter_wake() are for any, all else is for the waiter's own (which is
 * whoever calls, as long as nobody waits yet or any more). Owns no descriptor but its own two.
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

/* What happens. */
enum {
    WAITER_READABLE = 1 << 0,
    WAITER_WRITABLE = 1 << 1,
    WAITER_FINISHED = 1 << 2, /* the other side sends no more */
    WAITER_BROKEN = 1 << 3,   /* nor does it take anything: told whether asked for or not */
    WAITER_DUE = 1 << 4,      /* its time has come, and is over */
    WAITER_NEWS = 1 << 8,     /* from here on: what was posted */
};

/* How a descriptor is watched. */
enum waiter_manner {
    WAITER_ONCE,  /* told once, then waiter_watch() again */
    WAITER_EDGE,  /* told when more happens */
    WAITER_LEVEL, /* told as long as it is so */
};

#define WAITER_NEVER INT64_MAX

struct waiter_item {
    /* The owner's. */
    int fd; /* -1: none (any more) */
    void (*happened)(struct waiter_item *item, unsigned what);
    /* The waiter's. */
    struct waiter *waiter;
    int64_t due_ms;
    size_t place; /* among those with a time, from 1 on; 0: it has none */
    bool watched;
    enum { WAITER_NOT_POSTED, WAITER_IS_POSTED, WAITER_IS_TAKEN } post;
    unsigned news;
    struct waiter_item *next_posted;
};

/* NULL with errno. */
struct waiter *waiter_new(void);
/* With no item left. */
void waiter_free(struct waiter *waiter);

/* Takes an item whose `fd` and `happened` are set and the rest 0. -1 when out of memory. */
int waiter_add(struct waiter *waiter, struct waiter_item *item);
/* Nothing will happen to it any more. Its descriptor is closed next, if it is not already (then `fd`
 * is -1), which ends the watch. */
void waiter_remove(struct waiter_item *item);

/* WAITER_READABLE, _WRITABLE, _FINISHED to be told of, from now on. -1 with errno. */
int waiter_watch(struct waiter_item *item, unsigned what, enum waiter_manner manner);
void waiter_unwatch(struct waiter_item *item);

/* On the clock of deadline_now_ms(); WAITER_NEVER. */
void waiter_set_due(struct waiter_item *item, int64_t due_ms);

/* Any thread: this (bits from WAITER_NEWS on) happens to it, together with what else is posted before
 * it is told. Not after waiter_remove(). When it returns, or even sooner, the item may be gone. */
void waiter_post(struct waiter_item *item, unsigned news);
/* Any thread: waiter_wait() returns. */
void waiter_wake(struct waiter *waiter);

/* A round: waits, until `until_ms` at most; and then tells what has happened. */
void waiter_wait(struct waiter *waiter, int64_t until_ms);
void waiter_tell(struct waiter *waiter);
/* The thread waits no more: from now on others may do what is the waiter's own. */
void waiter_leave(struct waiter *waiter);
/* The number of the round, and its time: when the wait was over. */
uint64_t waiter_round_number(const struct waiter *waiter);
int64_t waiter_now_ms(const struct waiter *waiter);

/* The caller is the waiter's thread. */
void waiter_assert_thread(const struct waiter *waiter);

#endif
