/* dns/resolver-wait.c - asks the DNS and waits for the answers
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "dns/resolver-internal.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/condition.h"

/* The answering thread keeps the deadline. If it ever fails to, the waiter gives up this much later. */
#define GRACE_MS 200

/* Shared by the waiter and the open questions; the last of them frees it. */
struct resolver_pending {
    pthread_mutex_t lock;
    pthread_cond_t ready;
    int references;
    size_t open, count;
    struct slot {
        struct resolver_pending *pending;
        struct resolver_answer answer;
    } slots[];
};

static struct resolver_pending *resolver_pending_new(size_t count)
{
    struct resolver_pending *pending =
        calloc(1, sizeof *pending + count * sizeof pending->slots[0]);

    if (pending == NULL || condition_init(&pending->ready) != 0) {
        free(pending);
        return NULL;
    }
    pthread_mutex_init(&pending->lock, NULL);
    pending->references = 1;
    pending->count = count;
    return pending;
}

/* Drops a reference. The caller holds the lock, which this releases. */
static void resolver_pending_leave(struct resolver_pending *pending)
{
    bool last = --pending->references == 0;
    pthread_mutex_unlock(&pending->lock);
    if (!last)
        return;
    for (size_t i = 0; i < pending->count; i++)
        resolver_answer_free(&pending->slots[i].answer);
    pthread_cond_destroy(&pending->ready);
    pthread_mutex_destroy(&pending->lock);
    free(pending);
}

static void resolver_take_answer(void *context, struct resolver_answer *answer)
{
    struct slot *slot = context;
    struct resolver_pending *pending = slot->pending;
    pthread_mutex_lock(&pending->lock);
    resolver_answer_move(&slot->answer, answer);
    if (--pending->open == 0)
        pthread_cond_signal(&pending->ready);
    resolver_pending_leave(pending);
}

/* The caller holds the lock of `pending`, so that no answer arrives before all questions are
 * counted. */
static void resolver_ask_all(struct resolver_pending *pending, struct resolver *resolver,
                             const struct resolver_question *questions, struct deadline deadline)
{
    for (size_t i = 0; i < pending->count; i++) {
        struct slot *slot = &pending->slots[i];
        slot->pending = pending;
        resolver_answer_temporary(&slot->answer, "timeout");
        if (resolver_ask(resolver, questions[i].name, questions[i].type, deadline,
                         resolver_take_answer, slot) == 0) {
            pending->references++;
            pending->open++;
        } else {
            resolver_answer_temporary(&slot->answer, "the resolver does not take the question");
        }
    }
}

struct resolver_pending *resolver_begin(struct resolver *resolver,
                                        const struct resolver_question *questions, size_t count,
                                        struct deadline deadline)
{
    struct resolver_pending *pending = resolver_pending_new(count);

    if (pending == NULL)
        return NULL;
    pthread_mutex_lock(&pending->lock);
    resolver_ask_all(pending, resolver, questions, deadline);
    pthread_mutex_unlock(&pending->lock);
    return pending;
}

void resolver_finish(struct resolver_pending *pending, struct resolver_question *questions,
                     size_t count, struct deadline deadline)
{
    struct deadline until = {deadline.at_ms + GRACE_MS};
    bool in_time = true;

    for (size_t i = 0; pending == NULL && i < count; i++)
        resolver_answer_temporary(&questions[i].answer, "out of memory");
    if (pending == NULL)
        return;
    pthread_mutex_lock(&pending->lock);
    while (pending->open > 0 && in_time)
        in_time = condition_wait(&pending->ready, &pending->lock, until);
    for (size_t i = 0; i < count; i++)
        resolver_answer_move(&questions[i].answer, &pending->slots[i].answer);
    resolver_pending_leave(pending);
}

void resolver_lookup_all(struct resolver *resolver, struct resolver_question *questions,
                         size_t count, struct deadline deadline)
{
    resolver_finish(resolver_begin(resolver, questions, count, deadline), questions, count,
                    deadline);
}

enum resolver_result resolver_lookup(struct resolver *resolver, const char *name, int type,
                                     struct deadline deadline, struct resolver_answer *answer)
{
    struct resolver_question question = {.name = name, .type = type};
    resolver_lookup_all(resolver, &question, 1, deadline);
    resolver_answer_move(answer, &question.answer);
    return answer->result;
}
