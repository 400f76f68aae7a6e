/* net/resolver.c - questions to the DNS, validated, cached, asked without waiting
 *
 * A question is in one of two lists: `open` until its callback has been called, in the order of
 * deadlines, and `late` when its deadline passed first and libunbound still works on it. Callbacks,
 * and moves from list to list, happen in one thread only, the one that runs serve().
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "net/resolver-internal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unbound.h>
#include <unistd.h>

#include "base/i18n.h"
#include "base/log.h"

#define STACK_SIZE (256 * 1024)
#define START_RETRY_MS 10000
#define BOGUS_LOG_MS 60000
#define CLASS_IN 1
#define RCODE_NXDOMAIN 3

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
    bool started, asked, broken, ending;
    int64_t retry_ms;           /* not to be started again before */
    struct question open, late; /* heads of rings */
    unsigned question_count;    /* in both */
    pthread_t thread;
    struct ub_ctx *context; /* set before the thread starts */
    int wake_fd;
    int64_t bogus_logged_ms; /* the thread's own */
};

static void ring_init(struct question *head)
{
    head->previous = head->next = head;
}

static void ring_insert_after(struct question *place, struct question *question)
{
    question->previous = place;
    question->next = place->next;
    place->next->previous = question;
    place->next = question;
}

static void ring_remove(struct question *question)
{
    question->previous->next = question->next;
    question->next->previous = question->previous;
}

const char *resolver_result_name(enum resolver_result result)
{
    static const char *const names[] = {"found", "no data", "no name", "temporary"};
    return names[result];
}

/* Answers. */

static const char *rcode_name(int rcode)
{
    static const char *const names[] = {"no answer", "FORMERR", "SERVFAIL",
                                        "NXDOMAIN",  "NOTIMP",  "REFUSED"};
    return rcode >= 0 && rcode < (int)(sizeof names / sizeof names[0]) ? names[rcode] : "error";
}

void resolver_answer_temporary(struct resolver_answer *answer, const char *reason)
{
    *answer = (struct resolver_answer){.result = RESOLVER_TEMPORARY, .reason = reason};
}

static const char *without_final_dot(char *name)
{
    size_t len = strlen(name);
    if (len > 1 && name[len - 1] == '.')
        name[len - 1] = '\0';
    return name;
}

static void fill_records(struct resolver_answer *answer, struct ub_result *result)
{
    answer->result = RESOLVER_FOUND;
    answer->canonical =
        without_final_dot(result->canonname != NULL ? result->canonname : result->qname);
    answer->data = result->data;
    answer->lengths = result->len;
    while (result->data[answer->count] != NULL)
        answer->count++;
}

static void fill_answer(struct resolver_answer *answer, int error, struct ub_result *result)
{
    if (error != 0 || result == NULL) {
        resolver_answer_temporary(answer, error != 0 ? ub_strerror(error) : "no answer");
    } else if (result->bogus) {
        resolver_answer_temporary(answer, result->why_bogus != NULL ? result->why_bogus : "bogus");
        answer->bogus = true;
    } else if (result->rcode != 0 && result->rcode != RCODE_NXDOMAIN) {
        resolver_answer_temporary(answer, rcode_name(result->rcode));
    } else {
        *answer = (struct resolver_answer){.reason = "", .secure = result->secure};
        answer->ttl = result->ttl > 0 ? (unsigned)result->ttl : 0;
        if (result->havedata && !result->nxdomain)
            fill_records(answer, result);
        else
            answer->result = result->nxdomain ? RESOLVER_NO_NAME : RESOLVER_NO_DATA;
    }
    answer->owner = result;
}

void resolver_answer_move(struct resolver_answer *to, struct resolver_answer *from)
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

/* The thread that answers. */

static void log_bogus(struct resolver *resolver, const struct ub_result *result)
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
}

/* libunbound's callback: runs inside ub_process(). */
static void take_result(void *data, int error, struct ub_result *result)
{
    struct question *question = data;
    struct resolver *resolver = question->resolver;
    struct resolver_answer answer;

    pthread_mutex_lock(&resolver->lock);
    ring_remove(question);
    resolver->question_count--;
    pthread_mutex_unlock(&resolver->lock);
    if (error == 0 && result != NULL && result->bogus)
        log_bogus(resolver, result);
    fill_answer(&answer, error, result);
    if (question->callback != NULL)
        question->callback(question->context, &answer);
    resolver_answer_free(&answer);
    free(question);
}

/* Answers "not now" to what is due, or to all. */
static void give_up(struct resolver *resolver, bool all)
{
    struct resolver_answer answer;

    pthread_mutex_lock(&resolver->lock);
    while (resolver->open.next != &resolver->open) {
        struct question *question = resolver->open.next;
        resolver_callback *callback = question->callback;
        if (!all && !deadline_passed(question->deadline))
            break;
        ring_remove(question);
        ring_insert_after(&resolver->late, question);
        question->callback = NULL;
        pthread_mutex_unlock(&resolver->lock);
        resolver_answer_temporary(&answer, all ? "shutting down" : "timeout");
        callback(question->context, &answer);
        pthread_mutex_lock(&resolver->lock);
    }
    pthread_mutex_unlock(&resolver->lock);
}

/* Milliseconds until something is due, -1 for none; false when the resolver is being freed. */
static bool next_wait(struct resolver *resolver, int *timeout_ms)
{
    pthread_mutex_lock(&resolver->lock);
    bool ending = resolver->ending;
    const struct question *first = resolver->open.next;
    *timeout_ms = first != &resolver->open ? deadline_left_ms(first->deadline) : -1;
    pthread_mutex_unlock(&resolver->lock);
    return !ending;
}

static void mark_broken(struct resolver *resolver, int result)
{
    log_write(LOG_LEVEL_ERROR, "event=dns-broken reason=\"%s\" hint=\"restart the daemon\"",
              ub_strerror(result));
    pthread_mutex_lock(&resolver->lock);
    resolver->broken = true;
    pthread_mutex_unlock(&resolver->lock);
}

static void *serve(void *argument)
{
    struct resolver *resolver = argument;
    struct pollfd fds[] = {{.fd = resolver->wake_fd, .events = POLLIN},
                           {.fd = ub_fd(resolver->context), .events = POLLIN}};
    int timeout_ms, result;
    uint64_t count;

    while (next_wait(resolver, &timeout_ms)) {
        if (poll(fds, 2, timeout_ms) < 0 && errno != EINTR)
            break;
        if (fds[0].revents != 0 && read(resolver->wake_fd, &count, sizeof count) < 0)
            fds[0].revents = 0;
        if (fds[1].revents != 0 && (result = ub_process(resolver->context)) != 0) {
            mark_broken(resolver, result);
            fds[1].fd = -1;
        }
        give_up(resolver, false);
    }
    give_up(resolver, true);
    return NULL;
}

static void wake(struct resolver *resolver)
{
    uint64_t one = 1;
    if (write(resolver->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: it is awake */
}

static int start_thread(struct resolver *resolver)
{
    pthread_attr_t attributes;
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    int result = pthread_create(&resolver->thread, &attributes, serve, resolver);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
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
        failure = start_thread(resolver);
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
    ring_insert_after(before, question);
    resolver->question_count++;
    if (before == &resolver->open)
        wake(resolver);
}

/* With the lock held. The first time this makes libunbound's thread, which must leave the process's
 * signals to others. */
static int hand_over(struct resolver *resolver, const char *name, int type,
                     struct question *question)
{
    sigset_t all, before;
    bool first = !resolver->asked;

    if (first) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
    }
    int result =
        ub_resolve_async(resolver->context, name, type, CLASS_IN, question, take_result, NULL);
    if (first)
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    resolver->asked = resolver->asked || result == 0;
    return result;
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
        result = hand_over(resolver, name, type, question);
        if (result != 0) {
            ring_remove(question);
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
    ring_init(&resolver->open);
    ring_init(&resolver->late);
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
        ring_remove(question);
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
