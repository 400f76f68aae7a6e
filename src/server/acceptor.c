/* server/acceptor.c - the listening sockets
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "server/acceptor.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "base/log.h"

#define ACCEPTS_MAX 64      /* accepted in a row before other work gets its turn */
#define ACCEPT_PAUSE_MS 100 /* when descriptors or memory ran out */
#define EXHAUSTED_LOG_MS 1000

struct acceptor_listener {
    struct waiter_item item;
    struct acceptor *acceptor;
    struct gate_listener given;
    bool has_local;
    struct address local; /* the local address of all its connections */
    uint64_t ready_round; /* the last round in which a client waited there */
};

struct acceptor {
    struct waiter *waiter;
    struct waiter_item pause; /* due when accepting begins again */
    acceptor_callback *accepted;
    void *context;
    bool accepting;
    int64_t exhausted_logged_ms;
    size_t count;
    struct acceptor_listener listeners[LISTENERS_MAX];
};

static void acceptor_stop(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->count; i++)
        waiter_unwatch(&acceptor->listeners[i].item);
    acceptor->accepting = false;
}

static void acceptor_pause(struct acceptor *acceptor)
{
    acceptor_stop(acceptor);
    waiter_set_due(&acceptor->pause, waiter_now_ms(acceptor->waiter) + ACCEPT_PAUSE_MS);
}

/* If a listener cannot be watched for lack of memory, it is tried again after a pause. */
void acceptor_start(struct acceptor *acceptor)
{
    acceptor->accepting = true;
    for (size_t i = 0; i < acceptor->count && acceptor->accepting; i++) {
        if (waiter_watch(&acceptor->listeners[i].item, WAITER_READABLE, WAITER_LEVEL) != 0)
            acceptor_pause(acceptor);
    }
}

static void acceptor_pause_is_over(struct waiter_item *item, unsigned what)
{
    ASSERT(what == WAITER_DUE);
    acceptor_start((struct acceptor *)((char *)item - offsetof(struct acceptor, pause)));
}

static void acceptor_log_exhausted(struct acceptor *acceptor, int failure)
{
    int64_t now = waiter_now_ms(acceptor->waiter);

    if (now - acceptor->exhausted_logged_ms < EXHAUSTED_LOG_MS)
        return;
    acceptor->exhausted_logged_ms = now;
    log_write(LOG_LEVEL_ERROR,
              "event=accept-failed reason=\"%s\" hint=\"raise LimitNOFILE or "
              "lower limits.connections\"",
              strerror(failure));
}

static bool acceptor_is_transient(int failure)
{
    return failure == ECONNABORTED || failure == EINTR || failure == EPERM || failure == EPROTO ||
           failure == ENETDOWN || failure == EHOSTUNREACH || failure == ENETUNREACH;
}

/* Accepts one connection. Returns 0 or an errno. */
static int acceptor_take_one(struct acceptor_listener *listener)
{
    const struct acceptor *acceptor = listener->acceptor;
    struct sockaddr_storage sockaddr;
    socklen_t len = sizeof sockaddr;
    struct address peer, local = listener->local;

    int fd = accept4(listener->given.fd, (struct sockaddr *)&sockaddr, &len, SOCK_CLOEXEC);
    if (fd < 0)
        return errno;
    address_from_sockaddr(&peer, (struct sockaddr *)&sockaddr);
    if (!listener->has_local)
        address_of_socket(&local, fd);
    acceptor->accepted(acceptor->context, fd, &peer, &local, &listener->given.spec);
    return 0;
}

/* Accepts one connection; another waiting client makes the listener ready again at once. Only if that happens
 * there are probably several, and it pays to continue until a call finds none. */
static void acceptor_happened(struct waiter_item *item, unsigned what)
{
    struct acceptor_listener *listener =
        (struct acceptor_listener *)((char *)item - offsetof(struct acceptor_listener, item));
    struct acceptor *acceptor = listener->acceptor;
    uint64_t round = waiter_round_number(acceptor->waiter);
    bool again = round == listener->ready_round + 1;

    ASSERT(what < WAITER_NEWS);
    listener->ready_round = round;
    for (int i = 0; i < (again ? ACCEPTS_MAX : 1) && acceptor->accepting; i++) {
        int failure = acceptor_take_one(listener);
        if (failure == EAGAIN || failure == EWOULDBLOCK)
            return;
        if (failure == 0 || acceptor_is_transient(failure))
            continue;
        acceptor_log_exhausted(acceptor, failure);
        acceptor_pause(acceptor);
    }
}

void acceptor_end(struct acceptor *acceptor)
{
    acceptor_stop(acceptor);
    waiter_set_due(&acceptor->pause, WAITER_NEVER);
    for (size_t i = 0; i < acceptor->count; i++) {
        if (!acceptor->listeners[i].given.handed_over)
            shutdown(acceptor->listeners[i].given.fd, SHUT_RDWR);
    }
}

struct acceptor *acceptor_new(struct waiter *waiter, const struct gate_listener *listeners,
                              size_t count, acceptor_callback *accepted, void *context)
{
    struct acceptor *acceptor = calloc(1, sizeof *acceptor);
    bool added;

    if (acceptor == NULL)
        return NULL;
    acceptor->waiter = waiter;
    acceptor->accepted = accepted;
    acceptor->context = context;
    acceptor->pause = (struct waiter_item){.fd = -1, .happened = acceptor_pause_is_over};
    added = waiter_add(waiter, &acceptor->pause) == 0;
    for (size_t i = 0; i < count && i < LISTENERS_MAX && added; i++) {
        struct acceptor_listener *listener = &acceptor->listeners[i];
        listener->item = (struct waiter_item){.fd = listeners[i].fd, .happened = acceptor_happened};
        listener->acceptor = acceptor;
        listener->given = listeners[i];
        listener->has_local = listener_local_address(listeners[i].fd, &listener->local);
        added = waiter_add(waiter, &listener->item) == 0;
        acceptor->count += added;
    }
    if (added)
        return acceptor;
    acceptor_free(acceptor);
    return NULL;
}

void acceptor_free(struct acceptor *acceptor)
{
    if (acceptor == NULL)
        return;
    acceptor_stop(acceptor);
    for (size_t i = 0; i < acceptor->count; i++)
        waiter_remove(&acceptor->listeners[i].item);
    if (acceptor->pause.waiter != NULL)
        waiter_remove(&acceptor->pause);
    free(acceptor);
}
