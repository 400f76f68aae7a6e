/* server/waiter.c - waits for descriptors, times and posts from other threads; knows no SMTP
 *
 * Times are in a binary heap. Its room is made when an item is added, so that a time can always be set. An
 * item that is removed while a round delivers events gets none of the rest.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/waiter.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/lock.h"

#define EVENTS_MAX 128
#define ROOM_MIN 64
#define WAIT_MAX_MS 60000

struct waiter {
    int epoll_fd;
    int wake_fd; /* eventfd; only its edges count */
    uint64_t round;
    int64_t now_ms;
    bool has_thread;
    pthread_t thread;
    size_t items;
    struct waiter_item **times; /* [1..timed]: the earliest first */
    size_t timed, room;
    struct epoll_event events[EVENTS_MAX];
    int event_count, event_next; /* of the round: not yet delivered */
    struct waiter_item *taken;   /* posts of the round, not yet delivered */
    struct lock lock;
    struct waiter_item *posted, **posted_end; /* under the lock */
};

struct waiter *waiter_new(void)
{
    struct waiter *waiter = calloc(1, sizeof *waiter);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};

    if (waiter == NULL)
        return NULL;
    lock_init(&waiter->lock);
    waiter->posted_end = &waiter->posted;
    waiter->epoll_fd = waiter->wake_fd = -1;
    waiter->now_ms = deadline_now_ms();
    waiter->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    waiter->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (waiter->epoll_fd >= 0 && waiter->wake_fd >= 0 &&
        epoll_ctl(waiter->epoll_fd, EPOLL_CTL_ADD, waiter->wake_fd, &event) == 0)
        return waiter;
    int failure = errno;
    waiter_free(waiter);
    errno = failure;
    return NULL;
}

void waiter_free(struct waiter *waiter)
{
    ASSERT(waiter->items == 0);
    if (waiter->epoll_fd >= 0)
        close(waiter->epoll_fd);
    if (waiter->wake_fd >= 0)
        close(waiter->wake_fd);
    lock_destroy(&waiter->lock);
    free(waiter->times);
    free(waiter);
}

void waiter_assert_thread(const struct waiter *waiter)
{
    ASSERT(!waiter->has_thread || pthread_equal(waiter->thread, pthread_self()));
}

uint64_t waiter_round_number(const struct waiter *waiter)
{
    return waiter->round;
}

int64_t waiter_now_ms(const struct waiter *waiter)
{
    return waiter->now_ms;
}

/* Times. */

static void waiter_put(struct waiter *waiter, size_t place, struct waiter_item *item)
{
    waiter->times[place] = item;
    item->place = place;
}

static void waiter_move_up(struct waiter *waiter, struct waiter_item *item)
{
    size_t place = item->place;

    while (place > 1 && waiter->times[place / 2]->due_ms > item->due_ms) {
        waiter_put(waiter, place, waiter->times[place / 2]);
        place /= 2;
    }
    waiter_put(waiter, place, item);
}

static void waiter_move_down(struct waiter *waiter, struct waiter_item *item)
{
    size_t place = item->place;

    for (size_t below; (below = 2 * place) <= waiter->timed; place = below) {
        if (below < waiter->timed &&
            waiter->times[below + 1]->due_ms < waiter->times[below]->due_ms)
            below++;
        if (waiter->times[below]->due_ms >= item->due_ms)
            break;
        waiter_put(waiter, place, waiter->times[below]);
    }
    waiter_put(waiter, place, item);
}

static void waiter_forget_time(struct waiter *waiter, struct waiter_item *item)
{
    size_t place = item->place;

    if (place == 0)
        return;
    ASSERT(waiter->times[place] == item);
    struct waiter_item *last = waiter->times[waiter->timed--];
    item->place = 0;
    item->due_ms = WAITER_NEVER;
    if (last == item)
        return;
    waiter_put(waiter, place, last);
    waiter_move_up(waiter, last);
    waiter_move_down(waiter, last);
}

void waiter_set_due(struct waiter_item *item, int64_t due_ms)
{
    struct waiter *waiter = item->waiter;

    waiter_assert_thread(waiter);
    if (due_ms == WAITER_NEVER) {
        waiter_forget_time(waiter, item);
        return;
    }
    item->due_ms = due_ms;
    if (item->place == 0) {
        ASSERT(waiter->timed < waiter->room);
        waiter_put(waiter, ++waiter->timed, item);
    }
    waiter_move_up(waiter, item);
    waiter_move_down(waiter, item);
}

/* Items. */

int waiter_add(struct waiter *waiter, struct waiter_item *item)
{
    waiter_assert_thread(waiter);
    ASSERT(item->happened != NULL && item->waiter == NULL);
    if (waiter->items == waiter->room) {
        size_t room = waiter->room > 0 ? 2 * waiter->room : ROOM_MIN;
        struct waiter_item **times = realloc(waiter->times, (room + 1) * sizeof *times);
        if (times == NULL)
            return -1;
        waiter->times = times;
        waiter->room = room;
    }
    waiter->items++;
    item->waiter = waiter;
    item->due_ms = WAITER_NEVER;
    return 0;
}

static void waiter_take_out(struct waiter_item **place, const struct waiter_item *item)
{
    while (*place != item) {
        ASSERT(*place != NULL);
        place = &(*place)->next_posted;
    }
    *place = item->next_posted;
}

static void waiter_forget_post(struct waiter *waiter, struct waiter_item *item)
{
    lock_take(&waiter->lock);
    if (item->post == WAITER_IS_POSTED) {
        waiter_take_out(&waiter->posted, item);
        waiter->posted_end = &waiter->posted;
        while (*waiter->posted_end != NULL)
            waiter->posted_end = &(*waiter->posted_end)->next_posted;
    } else if (item->post == WAITER_IS_TAKEN) {
        waiter_take_out(&waiter->taken, item);
    }
    item->post = WAITER_NOT_POSTED;
    lock_drop(&waiter->lock);
}

void waiter_remove(struct waiter_item *item)
{
    struct waiter *waiter = item->waiter;

    waiter_assert_thread(waiter);
    ASSERT(waiter->items > 0);
    waiter_forget_time(waiter, item);
    waiter_forget_post(waiter, item);
    for (int i = waiter->event_next; i < waiter->event_count; i++) {
        if (waiter->events[i].data.ptr == item)
            waiter->events[i].data.ptr = NULL;
    }
    waiter->items--;
    item->waiter = NULL;
}

int waiter_watch(struct waiter_item *item, unsigned what, enum waiter_manner manner)
{
    static const uint32_t manners[] = {
        [WAITER_ONCE] = EPOLLONESHOT, [WAITER_EDGE] = EPOLLET, [WAITER_LEVEL] = 0};
    struct epoll_event event = {.events = manners[manner], .data.ptr = item};

    waiter_assert_thread(item->waiter);
    ASSERT(item->fd >= 0);
    if (what & WAITER_READABLE)
        event.events |= EPOLLIN;
    if (what & WAITER_WRITABLE)
        event.events |= EPOLLOUT;
    if (what & WAITER_FINISHED)
        event.events |= EPOLLRDHUP;
    int operation = item->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(item->waiter->epoll_fd, operation, item->fd, &event) != 0)
        return -1;
    item->watched = true;
    return 0;
}

void waiter_unwatch(struct waiter_item *item)
{
    waiter_assert_thread(item->waiter);
    if (item->watched)
        epoll_ctl(item->waiter->epoll_fd, EPOLL_CTL_DEL, item->fd, NULL);
    item->watched = false;
}

/* Other threads. */

void waiter_wake(struct waiter *waiter)
{
    uint64_t one = 1;
    if (write(waiter->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: it is awake anyway */
}

void waiter_post(struct waiter_item *item, unsigned news)
{
    struct waiter *waiter = item->waiter;

    ASSERT(waiter != NULL && news >= WAITER_NEWS);
    lock_take(&waiter->lock);
    item->news |= news;
    bool first = waiter->posted == NULL;
    bool enters = item->post == WAITER_NOT_POSTED;
    if (enters) {
        item->post = WAITER_IS_POSTED;
        item->next_posted = NULL;
        *waiter->posted_end = item;
        waiter->posted_end = &item->next_posted;
    }
    lock_drop(&waiter->lock);
    /* After releasing the lock, or it would wake only to wait for it. */
    if (first && enters)
        waiter_wake(waiter);
}

/* A round. */

static unsigned waiter_read_events(uint32_t events)
{
    return (events & EPOLLIN ? WAITER_READABLE : 0) | (events & EPOLLOUT ? WAITER_WRITABLE : 0) |
           (events & EPOLLRDHUP ? WAITER_FINISHED : 0) |
           (events & (EPOLLHUP | EPOLLERR) ? WAITER_BROKEN : 0);
}

static void waiter_tell_events(struct waiter *waiter)
{
    while (waiter->event_next < waiter->event_count) {
        const struct epoll_event *event = &waiter->events[waiter->event_next++];
        struct waiter_item *item = event->data.ptr;
        if (item != NULL)
            item->happened(item, waiter_read_events(event->events));
    }
    waiter->event_count = waiter->event_next = 0;
}

static void waiter_tell_posts(struct waiter *waiter)
{
    struct waiter_item *item;

    lock_take(&waiter->lock);
    waiter->taken = waiter->posted;
    waiter->posted = NULL;
    waiter->posted_end = &waiter->posted;
    for (item = waiter->taken; item != NULL; item = item->next_posted)
        item->post = WAITER_IS_TAKEN;
    lock_drop(&waiter->lock);
    while ((item = waiter->taken) != NULL) {
        lock_take(&waiter->lock);
        unsigned news = item->news;
        item->news = 0;
        item->post = WAITER_NOT_POSTED;
        waiter->taken = item->next_posted;
        lock_drop(&waiter->lock);
        item->happened(item, news);
    }
}

static void waiter_tell_times(struct waiter *waiter)
{
    while (waiter->timed > 0 && waiter->times[1]->due_ms <= waiter->now_ms) {
        struct waiter_item *item = waiter->times[1];
        waiter_forget_time(waiter, item);
        item->happened(item, WAITER_DUE);
    }
}

static int waiter_timeout_ms(const struct waiter *waiter, int64_t until_ms)
{
    if (waiter->timed > 0 && waiter->times[1]->due_ms < until_ms)
        until_ms = waiter->times[1]->due_ms;
    int64_t left = until_ms == WAITER_NEVER ? WAIT_MAX_MS : until_ms - deadline_now_ms();
    return left < 0 ? 0 : left > WAIT_MAX_MS ? WAIT_MAX_MS : (int)left;
}

void waiter_wait(struct waiter *waiter, int64_t until_ms)
{
    waiter_assert_thread(waiter);
    if (!waiter->has_thread) {
        waiter->thread = pthread_self();
        waiter->has_thread = true;
    }
    int count = epoll_wait(waiter->epoll_fd, waiter->events, EVENTS_MAX,
                           waiter_timeout_ms(waiter, until_ms));
    waiter->round++;
    waiter->now_ms = deadline_now_ms();
    waiter->event_count = count > 0 ? count : 0;
    waiter->event_next = 0;
}

void waiter_tell(struct waiter *waiter)
{
    waiter_assert_thread(waiter);
    waiter_tell_events(waiter);
    waiter_tell_posts(waiter);
    waiter_tell_times(waiter);
}

void waiter_leave(struct waiter *waiter)
{
    waiter_assert_thread(waiter);
    waiter->has_thread = false;
}
