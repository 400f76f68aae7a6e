/* net/resolver.c - questions to the DNS, validated, cached, asked without waiting
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/resolver-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unbound.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/log.h"

#define START_RETRY_MS 10000
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

static void wake(struct resolver *resolver)
{
    uint64_t one = 1;
    if (write(resolver->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: it is awake */
}

/* With the lock held. */
static int start(struct resolver *resolver)
{
    struct error err;
    int failure = 0;

    if (resolver->started)
        return resolver->broken ? -1 : 0;
    if (deadline_now_ms() < resolver->retry_ms)
        return -1;
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

/* With the lock held. Deadlines mostly come in order, so the place is near the end. */
static void enter(struct resolver *resolver, struct question *question)
{
    struct question *before = resolver->open.previous;
    while (before != &resolver->open && before->deadline.at_ms > question->deadline.at_ms)
        before = before->previous;
    resolver_ring_insert_after(before, question);
    resolver->question_count++;
    if (before == &resolver->open)
        wake(resolver);
}

int resolver_ask(struct resolver *resolver, const char *name, int type, struct deadline deadline,
                 resolver_callback *callback, void *context)
{
    struct question *question = malloc(sizeof *question);
    int result = -1;

    if (question == NULL)
        return -1;
    *question = (struct question){
        .resolver = resolver, .deadline = deadline, .callback = callback, .context = context};
    pthread_mutex_lock(&resolver->lock);
    if (!resolver->ending && resolver->question_count < RESOLVER_QUESTIONS_MAX &&
        start(resolver) == 0) {
        enter(resolver, question);
        result = ub_resolve_async(resolver->context, name, type, CLASS_IN, question,
                                  resolver_take_result, NULL);
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

/* Life. */

static int copy_text(const char **text)
{
    if (*text == NULL)
        return 0;
    *text = strdup(*text);
    return *text != NULL ? 0 : -1;
}

static int copy_config(struct resolver *resolver, const struct resolver_config *config)
{
    struct resolver_config *own = &resolver->config;
    struct address *servers = calloc(config->server_count + 1, sizeof *servers);

    own->servers = servers;
    own->recurse = config->recurse;
    own->trust_anchor_optional = config->trust_anchor_optional;
    own->server_count = config->server_count;
    if (servers == NULL)
        return -1;
    for (size_t i = 0; i < config->server_count; i++)
        servers[i] = config->servers[i];
    own->resolv_conf = config->resolv_conf;
    if (copy_text(&own->resolv_conf) != 0)
        return -1;
    own->trust_anchor_file = config->trust_anchor_file;
    return copy_text(&own->trust_anchor_file);
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
    else if (copy_config(resolver, config) != 0)
        error_set(err, _("out of memory"));
    else
        return resolver;
    resolver_free(resolver);
    return NULL;
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
        wake(resolver);
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
    free((void *)resolver->config.servers);
    free((void *)resolver->config.resolv_conf);
    free((void *)resolver->config.trust_anchor_file);
    free(resolver);
}
