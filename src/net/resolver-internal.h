/* net/resolver-internal.h - what the files of net/resolver share
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_NET_RESOLVER_INTERNAL_H
#define POSTERN_NET_RESOLVER_INTERNAL_H

#include <pthread.h>

#include "net/resolver.h"

struct ub_ctx;
struct ub_result;

/* In one of two rings: `open` until its callback has been called, in the order of deadlines, and
 * `late` when its deadline passed first and libunbound still works on it. Callbacks are called, and
 * questions move from ring to ring, in the answering thread only. */
struct question {
    struct question *previous, *next;
    struct resolver *resolver;
    struct deadline deadline;
    resolver_callback *callback; /* NULL once it has been called */
    void *context;
};

struct resolver {
    struct resolver_config config; /* its servers and names are ours */
    pthread_mutex_t lock;          /* all of what follows up to `thread` */
    bool started, broken, ending;
    int64_t retry_ms;           /* not to be started again before */
    struct question open, late; /* heads of rings */
    unsigned question_count;    /* in both */
    pthread_t thread;
    struct ub_ctx *context; /* changed by the thread only */
    int wake_fd;
    /* The thread's own. */
    int64_t bogus_logged_ms;
    bool validation_fails; /* not even the root's own records can be proven */
};

/* The trust anchor file that `config` asks for: a path, or NULL for no validation; -1 with a reason
 * when the named one cannot be read. */
int resolver_trust_anchor(const struct resolver_config *config, const char **file,
                          struct error *err);

/* pthread_create() with that stack and all signals blocked. 0 or an errno. */
int resolver_start_thread(pthread_t *thread, size_t stack_size, void *(*run)(void *),
                          void *argument);

/* A finished libunbound context that works in a thread of its own. Checks every setting. NULL with
 * a reason on failure. The caller's, for ub_ctx_delete(). */
struct ub_ctx *resolver_context_new(const struct resolver_config *config, struct error *err);

/* May validation be given up where the name servers make it impossible? */
bool resolver_may_downgrade(const struct resolver_config *config);

/* Starts the answering thread, with no signals. 0 or an errno. */
int resolver_thread_start(struct resolver *resolver);

/* libunbound's callback, with a struct question. */
void resolver_take_result(void *data, int error, struct ub_result *result);

/* Fills `answer` from what libunbound gave, which it then owns. */
void resolver_answer_fill(struct resolver_answer *answer, int error, struct ub_result *result);

void resolver_ring_init(struct question *head);
void resolver_ring_insert_after(struct question *place, struct question *question);
void resolver_ring_remove(struct question *question);

/* RESOLVER_TEMPORARY, for a reason that is static text. */
void resolver_answer_temporary(struct resolver_answer *answer, const char *reason);

#endif
