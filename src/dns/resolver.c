/* dns/resolver.c - asks the DNS: validated, cached, without blocking
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "dns/resolver-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unbound.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/log.h"

#define START_RETRY_MS 10000
#define LOOK_INTERVAL_MS 1000
#define CLASS_IN 1

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
        same = address_same_ip(&a->servers[i], &b->servers[i]) &&
               a->servers[i].port == b->servers[i].port;
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
