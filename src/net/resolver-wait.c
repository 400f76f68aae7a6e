/* net/resolver-wait.c - asking the DNS and waiting for what it says
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/resolver-internal.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/condition.h"

/* The answering thread keeps the deadline; who waits goes on without it if it ever does not. */
#define GRACE_MS 200

/* Shared by who waits and the open questions; the last one frees it. */
struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t ready;
    int references;
    size_t open, count;
    struct slot {
        struct waiter *waiter;
        struct resolver_answer answer;
    } slots[];
};

static struct waiter *waiter_new(size_t count)
{
    struct waiter *waiter = calloc(1, sizeof *waiter + count * sizeof waiter->slots[0]);

    if (waiter == NULL || condition_init(&waiter->ready) != 0) {
        free(waiter);
        return NULL;
    }
    pthread_mutex_init(&waiter->lock, NULL);
    waiter->references = 1;
    waiter->count = count;
    return waiter;
}

/* With its lock held, which is gone afterwards. */
static void waiter_leave(struct waiter *waiter)
{
    bool last = --waiter->references == 0;
    pthread_mutex_unlock(&waiter->lock);
    if (!last)
        return;
    for (size_t i = 0; i < waiter->count; i++)
        resolver_answer_free(&waiter->slots[i].answer);
    pthread_cond_destroy(&waiter->ready);
    pthread_mutex_destroy(&waiter->lock);
    free(waiter);
}

static void take_answer(void *context, struct resolver_answer *answer)
{
    struct slot *slot = context;
    struct waiter *waiter = slot->waiter;
    pthread_mutex_lock(&waiter->lock);
    resolver_answer_move(&slot->answer, answer);
    if (--waiter->open == 0)
        pthread_cond_signal(&waiter->ready);
    waiter_leave(waiter);
}

/* With the waiter's lock held, so that no answer comes before all is counted. */
static void ask_all(struct waiter *waiter, struct resolver *resolver,
                    const struct resolver_question *questions, struct deadline deadline)
{
    for (size_t i = 0; i < waiter->count; i++) {
        struct slot *slot = &waiter->slots[i];
        slot->waiter = waiter;
        resolver_answer_temporary(&slot->answer, "timeout");
        if (resolver_ask(resolver, questions[i].name, questions[i].type, deadline, take_answer,
                         slot) == 0) {
            waiter->references++;
            waiter->open++;
        } else {
            resolver_answer_temporary(&slot->answer, "the resolver does not take the question");
        }
    }
}

void resolver_lookup_all(struct resolver *resolver, struct resolver_question *questions,
                         size_t count, struct deadline deadline)
{
    struct deadline until = {deadline.at_ms + GRACE_MS};
    struct waiter *waiter = waiter_new(count);
    bool in_time = true;

    for (size_t i = 0; waiter == NULL && i < count; i++)
        resolver_answer_temporary(&questions[i].answer, "out of memory");
    if (waiter == NULL)
        return;
    pthread_mutex_lock(&waiter->lock);
    ask_all(waiter, resolver, questions, deadline);
    while (waiter->open > 0 && in_time)
        in_time = condition_wait(&waiter->ready, &waiter->lock, until);
    for (size_t i = 0; i < count; i++)
        resolver_answer_move(&questions[i].answer, &waiter->slots[i].answer);
    waiter_leave(waiter);
}

enum resolver_result resolver_lookup(struct resolver *resolver, const char *name, int type,
                                     struct deadline deadline, struct resolver_answer *answer)
{
    struct resolver_question question = {.name = name, .type = type};
    resolver_lookup_all(resolver, &question, 1, deadline);
    resolver_answer_move(answer, &question.answer);
    return answer->result;
}
