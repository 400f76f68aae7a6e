/* dns/resolver-thread.c - the thread that hands out answers and keeps the deadlines
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "dns/resolver-internal.h"

#include <poll.h>
#include <stdlib.h>
#include <unbound.h>
#include <unistd.h>

#include "base/log.h"
#include "base/thread.h"

#define BOGUS_LOG_MS 60000
#define PROBE_TIMEOUT_MS 5000
#define VALIDATE_AGAIN_MS 3600000
#define VALIDATE_AGAIN_MAX_MS 86400000
#define TYPE_SOA 6

static void resolver_note_probe(void *context, struct resolver_answer *answer)
{
    struct resolver *resolver = context;
    resolver->validation_fails = answer->bogus;
}

/* Reports a bogus answer. It may be forged, or the name servers may strip signatures: ask for the
 * root's own records to tell the two apart. */
static void resolver_look_into_bogus(struct resolver *resolver, const struct ub_result *result)
{
    int64_t now = deadline_now_ms();
    struct log_line line;

    if (resolver->bogus_logged_ms != 0 && now - resolver->bogus_logged_ms < BOGUS_LOG_MS)
        return;
    resolver->bogus_logged_ms = now;
    log_begin(&line, LOG_LEVEL_WARNING, "event=dns-bogus");
    log_str(&line, "name", result->qname);
    log_int(&line, "type", result->qtype);
    log_str(&line, "reason", result->why_bogus);
    log_str(&line, "hint",
            "if every name is reported, the name servers do not pass DNSSEC records on: "
            "use others, or recurse");
    log_end(&line);
    if (resolver_may_downgrade(&resolver->config))
        resolver_ask(resolver, ".", TYPE_SOA, deadline_in_ms(PROBE_TIMEOUT_MS), resolver_note_probe,
                     resolver);
}

/* Runs inside ub_process(). */
void resolver_take_result(void *data, int error, struct ub_result *result)
{
    struct question *question = data;
    struct resolver *resolver = question->resolver;
    struct resolver_answer answer;

    pthread_mutex_lock(&resolver->lock);
    resolver_ring_remove(question);
    resolver->question_count--;
    pthread_mutex_unlock(&resolver->lock);
    if (error == 0 && result != NULL && result->bogus)
        resolver_look_into_bogus(resolver, result);
    resolver_answer_fill(&answer, error, result);
    if (question->callback != NULL)
        question->callback(question->context, &answer);
    resolver_answer_free(&answer);
    free(question);
}

/* Answers RESOLVER_TEMPORARY to the questions that are due, or to all. */
static void resolver_give_up(struct resolver *resolver, bool all)
{
    struct resolver_answer answer;

    pthread_mutex_lock(&resolver->lock);
    while (resolver->open.next != &resolver->open) {
        struct question *question = resolver->open.next;
        resolver_callback *callback = question->callback;
        if (!all && !deadline_passed(question->deadline))
            break;
        resolver_ring_remove(question);
        resolver_ring_insert_after(&resolver->late, question);
        question->callback = NULL;
        pthread_mutex_unlock(&resolver->lock);
        if (all)
            resolver_answer_temporary(&answer, "shutting down");
        else
            resolver_answer_late(&answer);
        callback(question->context, &answer);
        pthread_mutex_lock(&resolver->lock);
        if (!question->asked) { /* libunbound does not have it: no result will come */
            resolver_ring_remove(question);
            resolver->question_count--;
            free(question);
        }
    }
    pthread_mutex_unlock(&resolver->lock);
}

/* Stores the milliseconds until something is due, or -1 if nothing is. False if the resolver is being
 * freed. */
static bool resolver_next_wait(struct resolver *resolver, int *timeout_ms)
{
    pthread_mutex_lock(&resolver->lock);
    bool ending = resolver->ending;
    const struct question *first = resolver->open.next;
    *timeout_ms = first != &resolver->open ? deadline_left_ms(first->deadline) : -1;
    pthread_mutex_unlock(&resolver->lock);
    if (resolver->downgraded &&
        (*timeout_ms < 0 || deadline_left_ms(resolver->validate_at) < *timeout_ms))
        *timeout_ms = deadline_left_ms(resolver->validate_at);
    return !ending;
}

static void resolver_mark_broken(struct resolver *resolver, int result)
{
    log_write(LOG_LEVEL_ERROR, "event=dns-broken reason=\"%s\" hint=\"restart the daemon\"",
              ub_strerror(result));
    pthread_mutex_lock(&resolver->lock);
    resolver->broken = true;
    pthread_mutex_unlock(&resolver->lock);
}

/* Asks the questions in the ring, for the first time or again; leaves those in it that cannot be
 * asked. The caller holds the lock. */
static void resolver_ask_again(struct resolver *resolver, struct question *ring)
{
    struct question *next;

    for (struct question *question = ring->next; question != ring; question = next) {
        next = question->next;
        if (resolver_put_question(resolver, question) != 0)
            continue;
        resolver_ring_remove(question);
        resolver_ring_insert_after(resolver->open.previous, question);
    }
}

/* No new context could be made: asks the questions that waited for it in the old one. */
static void resolver_ask_waiting(struct resolver *resolver)
{
    struct question *next;

    pthread_mutex_lock(&resolver->lock);
    for (struct question *question = resolver->open.next; question != &resolver->open;
         question = next) {
        next = question->next;
        if (question->asked || resolver_put_question(resolver, question) == 0)
            continue;
        question->deadline = deadline_in_ms(0);
        resolver_ring_remove(question);
        resolver_ring_insert_after(&resolver->open, question);
    }
    pthread_mutex_unlock(&resolver->lock);
}

static void resolver_drop_all(struct question *ring)
{
    struct resolver_answer answer;

    while (ring->next != ring) {
        struct question *question = ring->next;
        resolver_ring_remove(question);
        resolver_answer_temporary(&answer, "the name servers have changed");
        if (question->callback != NULL)
            question->callback(question->context, &answer);
        free(question);
    }
}

static void resolver_move_ring(struct question *to, struct question *from)
{
    resolver_ring_init(to);
    while (from->next != from) {
        struct question *question = from->next;
        resolver_ring_remove(question);
        resolver_ring_insert_after(to->previous, question);
    }
}

static unsigned resolver_count_ring(const struct question *ring)
{
    unsigned count = 0;
    for (const struct question *question = ring->next; question != ring; question = question->next)
        count++;
    return count;
}

/* Switches to another context and asks all open questions again in it. */
static void resolver_change_context(struct resolver *resolver, struct ub_ctx *context,
                                    bool downgraded)
{
    struct ub_ctx *old = resolver->context;
    struct question open, late;

    pthread_mutex_lock(&resolver->lock);
    resolver->context = context;
    resolver->downgraded = downgraded;
    resolver->broken = false;
    resolver_move_ring(&open, &resolver->open);
    resolver_move_ring(&late, &resolver->late);
    resolver_ask_again(resolver, &open);
    resolver->question_count -= resolver_count_ring(&open) + resolver_count_ring(&late);
    pthread_mutex_unlock(&resolver->lock);
    /* No more results come for them: only this thread processes the old context. */
    ub_ctx_delete(old);
    resolver_drop_all(&open);
    resolver_drop_all(&late);
}

/* Name servers that never pass these records on are troubled, and complained of, once a day. */
static void resolver_put_validation_off(struct resolver *resolver)
{
    const int64_t first_ms = resolver->config.validate_again_ms;

    if (resolver->validate_wait_ms == 0)
        resolver->validate_wait_ms = first_ms > 0 ? first_ms : VALIDATE_AGAIN_MS;
    else
        resolver->validate_wait_ms *= 2;
    if (resolver->validate_wait_ms > VALIDATE_AGAIN_MAX_MS)
        resolver->validate_wait_ms = VALIDATE_AGAIN_MAX_MS;
    resolver->validate_at = deadline_in_ms(resolver->validate_wait_ms);
}

/* Continues without validation: otherwise there is no mail until an operator reads the log. */
static void resolver_downgrade(struct resolver *resolver)
{
    struct resolver_config plain = resolver->config;
    struct error err;

    resolver->validation_fails = false;
    resolver_put_validation_off(resolver);
    plain.trust_anchor_file = "";
    struct ub_ctx *context = resolver_context_new(&plain, &err);
    if (context == NULL)
        return;
    log_write(LOG_LEVEL_ERROR,
              "event=dns-validation-off reason=\"the name servers pass no DNSSEC records on\" "
              "hint=\"use others, or recurse; without DNSSEC there is no DANE\"");
    resolver_change_context(resolver, context, true);
}

static void resolver_note_validation(void *context, struct resolver_answer *answer)
{
    struct resolver *resolver = context;

    resolver_note_probe(context, answer);
    if (!answer->secure)
        return;
    resolver->validate_wait_ms = 0;
    log_write(LOG_LEVEL_NOTICE, "event=dns-validation-on");
}

/* What made validation impossible may have passed: a clock that was wrong, name servers that could not be
 * reached over TCP. The root's records are asked for at once, so that little else meets a failure. */
static void resolver_try_validation(struct resolver *resolver)
{
    struct error err;
    struct ub_ctx *context = resolver_context_new(&resolver->config, &err);

    if (context == NULL) {
        resolver_put_validation_off(resolver);
        return;
    }
    resolver->validation_fails = false;
    resolver_change_context(resolver, context, false);
    resolver_ask(resolver, ".", TYPE_SOA, deadline_in_ms(PROBE_TIMEOUT_MS),
                 resolver_note_validation, resolver);
}

static bool resolver_is_to_be_renewed(struct resolver *resolver)
{
    pthread_mutex_lock(&resolver->lock);
    bool renew = resolver->renew;
    if (renew) {
        resolver_take_config(resolver);
        resolver_look_at_files(&resolver->config, &resolver->resolv_conf, &resolver->anchor);
    }
    resolver->renew = false;
    pthread_mutex_unlock(&resolver->lock);
    return renew;
}

/* Makes a context from the current configuration and files, and switches to it. */
static void resolver_renew(struct resolver *resolver)
{
    struct error err;
    struct log_line line;
    struct ub_ctx *context = resolver_context_new(&resolver->config, &err);

    log_begin(&line, context != NULL ? LOG_LEVEL_NOTICE : LOG_LEVEL_ERROR, "event=dns-settings");
    log_str(&line, "status", context != NULL ? "reread" : "failed");
    if (context == NULL) {
        log_str(&line, "reason", err.text);
        log_str(&line, "effect", "the old ones stay in use");
    }
    log_end(&line);
    resolver->validation_fails = false;
    if (context != NULL)
        resolver_change_context(resolver, context, false);
    else
        resolver_ask_waiting(resolver);
}

static void *resolver_serve(void *argument)
{
    struct resolver *resolver = argument;
    struct pollfd fds[] = {{.fd = resolver->wake_fd, .events = POLLIN},
                           {.fd = ub_fd(resolver->context), .events = POLLIN}};
    int timeout_ms, result;
    uint64_t count;

    while (resolver_next_wait(resolver, &timeout_ms)) {
        if (poll(fds, 2, timeout_ms) < 0)
            fds[0].revents = fds[1].revents = 0;
        if (fds[0].revents != 0 && read(resolver->wake_fd, &count, sizeof count) < 0)
            fds[0].revents = 0;
        if (fds[1].revents != 0 && (result = ub_process(resolver->context)) != 0) {
            resolver_mark_broken(resolver, result);
            fds[1].fd = -1;
        }
        if (resolver_is_to_be_renewed(resolver)) {
            resolver_renew(resolver);
            fds[1].fd = ub_fd(resolver->context);
        }
        if (resolver->downgraded && deadline_passed(resolver->validate_at)) {
            resolver_try_validation(resolver);
            fds[1].fd = ub_fd(resolver->context);
        }
        if (resolver->validation_fails && resolver_may_downgrade(&resolver->config)) {
            resolver_downgrade(resolver);
            fds[1].fd = ub_fd(resolver->context);
        }
        resolver_give_up(resolver, false);
    }
    resolver_give_up(resolver, true);
    return NULL;
}

int resolver_thread_start(struct resolver *resolver)
{
    return thread_start(&resolver->thread, THREAD_STACK_SIZE, resolver_serve, resolver);
}
