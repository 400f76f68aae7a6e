/* dns/resolver.c - asks the DNS: questions, their answers, and whoever waits for them
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "dns/resolver-internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unbound.h>
#include <unistd.h>

#include "base/condition.h"
#include "base/i18n.h"
#include "base/log.h"

#define START_RETRY_MS 10000
#define LOOK_INTERVAL_MS 1000
#define CLASS_IN 1
#define RCODE_NXDOMAIN 3

/* The answering thread keeps the deadline. If it ever fails to, the waiter gives up this much later. */
#define GRACE_MS 200

/* Answers, from what libunbound says. */

static const char *resolver_rcode_name(int rcode)
{
    static const char *const names[] = {"no answer", "FORMERR", "SERVFAIL",
                                        "NXDOMAIN",  "NOTIMP",  "REFUSED"};
    return rcode >= 0 && rcode < (int)(sizeof names / sizeof names[0]) ? names[rcode] : "error";
}

void resolver_answer_temporary(struct resolver_answer *answer, const char *reason)
{
    *answer = (struct resolver_answer){.result = RESOLVER_TEMPORARY, .reason = reason};
}

void resolver_answer_late(struct resolver_answer *answer)
{
    resolver_answer_temporary(answer, "timeout");
    answer->late = true;
}

static const char *resolver_without_final_dot(char *name)
{
    size_t len = strlen(name);
    if (len > 1 && name[len - 1] == '.')
        name[len - 1] = '\0';
    return name;
}

static void resolver_fill_records(struct resolver_answer *answer, struct ub_result *result)
{
    answer->result = RESOLVER_FOUND;
    answer->canonical =
        resolver_without_final_dot(result->canonname != NULL ? result->canonname : result->qname);
    answer->data = result->data;
    answer->lengths = result->len;
    while (result->data[answer->count] != NULL)
        answer->count++;
}

void resolver_answer_fill(struct resolver_answer *answer, int error, struct ub_result *result)
{
    if (error != 0 || result == NULL) {
        resolver_answer_temporary(answer, error != 0 ? ub_strerror(error) : "no answer");
    } else if (result->bogus) {
        resolver_answer_temporary(answer, result->why_bogus != NULL ? result->why_bogus : "bogus");
        answer->bogus = true;
    } else if (result->rcode != 0 && result->rcode != RCODE_NXDOMAIN) {
        resolver_answer_temporary(answer, resolver_rcode_name(result->rcode));
    } else {
        *answer = (struct resolver_answer){.reason = "", .secure = result->secure};
        answer->ttl = result->ttl > 0 ? (unsigned)result->ttl : 0;
        if (result->havedata && !result->nxdomain)
            resolver_fill_records(answer, result);
        else
            answer->result = result->nxdomain ? RESOLVER_NO_NAME : RESOLVER_NO_DATA;
    }
    answer->owner = result;
}

/* Moves the contents of `from`, and their ownership, to `to`. */
static void resolver_answer_move(struct resolver_answer *to, struct resolver_answer *from)
{
    *to = *from;
    resolver_answer_temporary(from, "");
}

void resolver_answer_free(struct resolver_answer *answer)
{
    if (answer->owner != NULL)
        ub_resolve_free(answer->owner);
    resolver_answer_temporary(answer, "");
}

/* Questions. */

void resolver_ring_init(struct question *head)
{
    head->previous = head->next = head;
}

void resolver_ring_insert_after(struct question *place, struct question *question)
{
    question->previous = place;
    question->next = place->next;
    place->next->previous = question;
    place->next = question;
}

void resolver_ring_remove(struct question *question)
{
    question->previous->next = question->next;
    question->next->previous = question->previous;
}

static void resolver_wake(struct resolver *resolver)
{
    uint64_t one = 1;
    if (write(resolver->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: the thread is awake anyway */
}

/* The caller holds the lock. */
static int resolver_start(struct resolver *resolver)
{
    struct error err;
    int failure = 0;

    if (resolver->started)
        return resolver->broken ? -1 : 0;
    if (deadline_now_ms() < resolver->retry_ms)
        return -1;
    resolver_look_at_files(&resolver->config, &resolver->resolv_conf, &resolver->anchor);
    resolver->context = resolver_context_new(&resolver->config, &err);
    if (resolver->context != NULL) {
        failure = resolver_thread_start(resolver);
        if (failure == 0) {
            resolver->started = true;
            return 0;
        }
        ub_ctx_delete(resolver->context);
        error_set(&err, _("cannot start a thread: %s"), strerror(failure));
    }
    resolver->retry_ms = deadline_now_ms() + START_RETRY_MS;
    struct log_line line;
    log_begin(&line, LOG_LEVEL_ERROR, "event=dns-start-failed");
    log_str(&line, "reason", err.text);
    log_end(&line);
    return -1;
}

/* A machine may get its name servers after its daemons start, and they may change. The caller holds
 * the lock. */
static void resolver_watch_files(struct resolver *resolver)
{
    struct resolver_file resolv_conf, anchor;
    int64_t now = deadline_now_ms();

    if (resolver->renew || now < resolver->look_ms)
        return;
    resolver->look_ms = now + LOOK_INTERVAL_MS;
    resolver_look_at_files(&resolver->config, &resolv_conf, &anchor);
    if (resolver_same_file(&resolver->resolv_conf, &resolv_conf) &&
        resolver_same_file(&resolver->anchor, &anchor))
        return;
    resolver->renew = true;
    resolver_wake(resolver);
}

/* Adds to the ring of open questions. Deadlines mostly come in order, so the place is near the end.
 * The caller holds the lock. */
static void resolver_enter(struct resolver *resolver, struct question *question)
{
    struct question *before = resolver->open.previous;
    while (before != &resolver->open && before->deadline.at_ms > question->deadline.at_ms)
        before = before->previous;
    resolver_ring_insert_after(before, question);
    resolver->question_count++;
    if (before == &resolver->open)
        resolver_wake(resolver);
}

int resolver_put_question(struct resolver *resolver, struct question *question)
{
    int result = ub_resolve_async(resolver->context, question->name, question->type, CLASS_IN,
                                  question, resolver_take_result, NULL);
    question->asked = result == 0;
    return result;
}

int resolver_ask(struct resolver *resolver, const char *name, int type, struct deadline deadline,
                 resolver_callback *callback, void *context)
{
    size_t name_size = strlen(name) + 1;
    struct question *question = malloc(sizeof *question + name_size);
    int result = -1;

    if (question == NULL)
        return -1;
    *question = (struct question){.resolver = resolver,
                                  .deadline = deadline,
                                  .callback = callback,
                                  .context = context,
                                  .type = type,
                                  .name = (char *)(question + 1)};
    memcpy(question->name, name, name_size);
    pthread_mutex_lock(&resolver->lock);
    if (!resolver->ending && resolver->question_count < RESOLVER_QUESTIONS_MAX &&
        resolver_start(resolver) == 0) {
        resolver_watch_files(resolver);
        resolver_enter(resolver, question);
        /* With a new context to come, the old one's cache is no longer valid: wait for the new. */
        result = resolver->renew ? 0 : resolver_put_question(resolver, question);
        if (result != 0) {
            resolver_ring_remove(question);
            resolver->question_count--;
        }
    }
    pthread_mutex_unlock(&resolver->lock);
    if (result == 0)
        return 0;
    free(question);
    return -1;
}

/* Waiting for the answers. */

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
        resolver_answer_late(&slot->answer);
        if (resolver_ask(resolver, questions[i].name, questions[i].type, deadline,
                         resolver_take_answer, slot) == 0) {
            pending->references++;
            pending->open++;
        } else {
            resolver_answer_temporary(&slot->answer, "the resolver did not accept the query");
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

/* Life cycle. */

static int resolver_copy_text(const char **to, const char *text)
{
    *to = text != NULL ? strdup(text) : NULL;
    return *to != NULL || text == NULL ? 0 : -1;
}

static void resolver_free_config(struct resolver_config *config)
{
    free((void *)config->servers);
    free((void *)config->resolv_conf);
    free((void *)config->trust_anchor_file);
}

/* The caller frees `own` even if this fails. */
static int resolver_copy_config(struct resolver_config *own, const struct resolver_config *config)
{
    struct address *servers = calloc(config->server_count + 1, sizeof *servers);

    *own = (struct resolver_config){
        .servers = servers,
        .recurse = config->recurse,
        .trust_anchor_optional = config->trust_anchor_optional,
        .validate_again_ms = config->validate_again_ms,
    };
    if (servers == NULL)
        return -1;
    own->server_count = config->server_count;
    for (size_t i = 0; i < config->server_count; i++)
        servers[i] = config->servers[i];
    return resolver_copy_text(&own->resolv_conf, config->resolv_conf) == 0 &&
                   resolver_copy_text(&own->trust_anchor_file, config->trust_anchor_file) == 0
               ? 0
               : -1;
}

static bool resolver_same_text(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool resolver_same_config(const struct resolver_config *a, const struct resolver_config *b)
{
    bool same = a->server_count == b->server_count && a->recurse == b->recurse &&
                a->trust_anchor_optional == b->trust_anchor_optional &&
                resolver_same_text(a->resolv_conf, b->resolv_conf) &&
                resolver_same_text(a->trust_anchor_file, b->trust_anchor_file);
    for (size_t i = 0; same && i < a->server_count; i++)
        same = address_equal(&a->servers[i], &b->servers[i]);
    return same;
}

/* Are the settings the same and the files unchanged? The caller holds the lock. */
static bool resolver_changes_nothing(struct resolver *resolver,
                                     const struct resolver_config *config)
{
    if (resolver->next != NULL || !resolver_same_config(&resolver->config, config))
        return false;
    if (!resolver->started)
        return true;
    resolver->look_ms = 0;
    resolver_watch_files(resolver);
    return !resolver->renew;
}

void resolver_take_config(struct resolver *resolver)
{
    if (resolver->next == NULL)
        return;
    resolver_free_config(&resolver->config);
    resolver->config = *resolver->next;
    free(resolver->next);
    resolver->next = NULL;
}

int resolver_configure(struct resolver *resolver, const struct resolver_config *config,
                       struct error *err)
{
    struct resolver_config *next;
    const char *anchor;

    if (resolver_trust_anchor(config, &anchor, err) != 0)
        return -1;
    next = calloc(1, sizeof *next);
    if (next == NULL || resolver_copy_config(next, config) != 0) {
        error_set(err, _("out of memory"));
        if (next != NULL)
            resolver_free_config(next);
        free(next);
        return -1;
    }
    pthread_mutex_lock(&resolver->lock);
    struct resolver_config *unused = next;
    if (!resolver_changes_nothing(resolver, config)) {
        unused = resolver->next;
        resolver->next = next;
        resolver->renew = resolver->started;
        resolver->retry_ms = 0;
        if (resolver->started)
            resolver_wake(resolver);
        else
            resolver_take_config(resolver);
    }
    pthread_mutex_unlock(&resolver->lock);
    if (unused != NULL)
        resolver_free_config(unused);
    free(unused);
    return 0;
}

struct resolver *resolver_new(const struct resolver_config *config, struct error *err)
{
    const char *anchor;
    struct resolver *resolver;

    if (resolver_trust_anchor(config, &anchor, err) != 0)
        return NULL;
    resolver = calloc(1, sizeof *resolver);
    if (resolver == NULL) {
        error_set(err, _("out of memory"));
        return NULL;
    }
    pthread_mutex_init(&resolver->lock, NULL);
    resolver_ring_init(&resolver->open);
    resolver_ring_init(&resolver->late);
    resolver->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (resolver->wake_fd < 0)
        error_set(err, _("cannot set up the DNS resolver: %s"), strerror(errno));
    else if (resolver_copy_config(&resolver->config, config) != 0)
        error_set(err, _("out of memory"));
    else
        return resolver;
    resolver_free(resolver);
    return NULL;
}

bool resolver_validates(struct resolver *resolver)
{
    const char *anchor;

    pthread_mutex_lock(&resolver->lock);
    bool validates = resolver_trust_anchor(&resolver->config, &anchor, NULL) == 0 &&
                     anchor != NULL && !resolver->downgraded;
    pthread_mutex_unlock(&resolver->lock);
    return validates;
}

void resolver_free(struct resolver *resolver)
{
    if (resolver == NULL)
        return;
    pthread_mutex_lock(&resolver->lock);
    resolver->ending = true;
    bool started = resolver->started;
    pthread_mutex_unlock(&resolver->lock);
    if (started) {
        resolver_wake(resolver);
        pthread_join(resolver->thread, NULL);
        ub_ctx_delete(resolver->context);
    }
    while (resolver->late.next != &resolver->late) {
        struct question *question = resolver->late.next;
        resolver_ring_remove(question);
        free(question);
    }
    if (resolver->wake_fd >= 0)
        close(resolver->wake_fd);
    pthread_mutex_destroy(&resolver->lock);
    if (resolver->next != NULL)
        resolver_free_config(resolver->next);
    free(resolver->next);
    resolver_free_config(&resolver->config);
    free(resolver);
}
