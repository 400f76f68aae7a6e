/* relay-out/sender.c - sends mail data to one of several next hops, on a separate thread
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/sender.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/condition.h"
#include "base/thread.h"

#define BLOCK_OCTETS 32768

struct sender {
    struct transaction *transaction;
    void (*conclude)(struct transaction *transaction);
    int file;
    pthread_t thread;
    pthread_mutex_t lock; /* protects what follows */
    pthread_cond_t changed;
    int socket; /* of the connection, to break it off; -1 once the thread has finished */
    uint64_t octets;
    struct wakeup *wakeup; /* NULL: nobody is to be woken */
    bool finished, ended, stopped, done;
};

enum sender_step { SENDER_READ, SENDER_END, SENDER_LEAVE };

/* Waits until there is something to do. */
static enum sender_step sender_next(struct sender *sender, uint64_t at, uint64_t *until)
{
    pthread_mutex_lock(&sender->lock);
    while (!sender->stopped && !sender->finished && sender->octets == at)
        pthread_cond_wait(&sender->changed, &sender->lock);
    *until = sender->octets;
    enum sender_step step = sender->stopped        ? SENDER_LEAVE
                            : sender->octets != at ? SENDER_READ
                                                   : SENDER_END;
    sender->ended |= step == SENDER_END;
    pthread_mutex_unlock(&sender->lock);
    return step;
}

/* Sends one block. False if the next hop or the file is lost. */
static bool sender_copy(struct sender *sender, uint64_t *at, uint64_t until)
{
    char block[BLOCK_OCTETS];
    uint64_t left = until - *at;
    ssize_t got =
        pread(sender->file, block, left < sizeof block ? (size_t)left : sizeof block, (off_t)*at);

    if (got <= 0)
        return false;
    *at += (uint64_t)got;
    const struct iovec piece = {block, (size_t)got};
    return transaction_write(sender->transaction, &piece, 1) == 0;
}

static void sender_leave(struct sender *sender)
{
    pthread_mutex_lock(&sender->lock);
    close(sender->socket);
    sender->socket = -1;
    sender->done = true;
    struct wakeup *wakeup = sender->wakeup;
    pthread_cond_broadcast(&sender->changed);
    pthread_mutex_unlock(&sender->lock);
    wakeup_call(wakeup);
}

static void *sender_main(void *argument)
{
    struct sender *sender = argument;
    struct transaction *transaction = sender->transaction;
    enum sender_step step;
    uint64_t at = 0, until;

    while ((step = sender_next(sender, at, &until)) == SENDER_READ &&
           sender_copy(sender, &at, until))
        ;
    if (step == SENDER_END) {
        transaction_send_end(transaction);
        sender->conclude(transaction);
    } else {
        transaction_abort(transaction);
        transaction_decide(transaction, transaction->owner->lost);
    }
    sender_leave(sender);
    return NULL;
}

static void sender_destroy(struct sender *sender)
{
    if (sender->file >= 0)
        close(sender->file);
    if (sender->socket >= 0)
        close(sender->socket);
    pthread_cond_destroy(&sender->changed);
    pthread_mutex_destroy(&sender->lock);
    free(sender);
}

struct sender *sender_start(struct transaction *transaction, int file,
                            void (*conclude)(struct transaction *transaction))
{
    struct sender *sender = calloc(1, sizeof *sender);

    if (sender == NULL)
        return NULL;
    if (condition_init(&sender->changed) != 0) {
        free(sender);
        return NULL;
    }
    sender->transaction = transaction;
    sender->conclude = conclude;
    pthread_mutex_init(&sender->lock, NULL);
    sender->file = fcntl(file, F_DUPFD_CLOEXEC, 0);
    sender->socket = fcntl(transaction->hop->stream.fd, F_DUPFD_CLOEXEC, 0);
    if (sender->file < 0 || sender->socket < 0 ||
        thread_start(&sender->thread, THREAD_STACK_SIZE, sender_main, sender) != 0) {
        sender_destroy(sender);
        return NULL;
    }
    return sender;
}

void sender_advance(struct sender *sender, uint64_t octets)
{
    pthread_mutex_lock(&sender->lock);
    sender->octets = octets;
    pthread_cond_broadcast(&sender->changed);
    pthread_mutex_unlock(&sender->lock);
}

void sender_finish(struct sender *sender)
{
    pthread_mutex_lock(&sender->lock);
    sender->finished = true;
    pthread_cond_broadcast(&sender->changed);
    pthread_mutex_unlock(&sender->lock);
}

void sender_set_wakeup(struct sender *sender, struct wakeup *wakeup)
{
    pthread_mutex_lock(&sender->lock);
    sender->wakeup = wakeup;
    pthread_mutex_unlock(&sender->lock);
}

bool sender_wait(struct sender *sender, struct deadline deadline)
{
    pthread_mutex_lock(&sender->lock);
    while (!sender->done && condition_wait(&sender->changed, &sender->lock, deadline))
        ;
    bool done = sender->done;
    pthread_mutex_unlock(&sender->lock);
    return done;
}

void sender_stop(struct sender *sender, bool unended)
{
    pthread_mutex_lock(&sender->lock);
    if (!sender->done && !(unended && sender->ended)) {
        sender->stopped = true;
        shutdown(sender->socket, SHUT_RDWR);
        pthread_cond_broadcast(&sender->changed);
    }
    pthread_mutex_unlock(&sender->lock);
}

void sender_free(struct sender *sender)
{
    if (sender == NULL)
        return;
    sender_stop(sender, false);
    pthread_join(sender->thread, NULL);
    sender_destroy(sender);
}
