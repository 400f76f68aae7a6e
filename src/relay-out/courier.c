/* relay-out/courier.c - relay-out's courier: repeats a transaction with every next hop it needs
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/courier.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/thread.h"
#include "relay-out/courier-internal.h"
#include "relay-out/refusal.h"

/* The client gets its replies once all replies of a batch have arrived. This is below the 300 s that
 * clients wait for MAIL and RCPT (RFC 5321 4.5.3.2), however long a next hop takes for each. */
#define BATCH_PATIENCE_MS 240000

void courier_out_log(const struct outbound *out, const struct envelope *envelope,
                     const struct path *path, const char *relay, int64_t since_ms,
                     const struct reply *reply)
{
    struct log_line line;
    char text[512];
    const char *status = reply_is_positive(reply)    ? "sent"
                         : reply_is_transient(reply) ? "deferred"
                                                     : "bounced";

    log_begin(&line, LOG_LEVEL_INFO, "");
    log_text(&line, "%s: to=<%s>, relay=%s, delay=%.2f, dsn=%s, status=%s (%s)", envelope->id,
             path->mailbox, relay, (double)(deadline_now_ms() - since_ms) / 1000,
             reply->enhanced[0] != '\0' ? reply->enhanced : "-", status,
             reply_summary(reply, text, sizeof text));
    log_str(&line, "session", envelope->client->session_id);
    log_end(&line);
    refusal_note(out,
                 reply_is_positive(reply)    ? COUNTER_SENT
                 : reply_is_transient(reply) ? COUNTER_PUT_OFF
                                             : COUNTER_BOUNCED,
                 path->domain, relay, text);
}

void courier_out_log_outcome(const struct out_courier *courier, const struct path *path,
                             const char *relay, const struct reply *reply)
{
    courier_out_log(courier->out, courier->envelope, path, relay, courier->started_ms, reply);
}

void courier_out_forget(struct out_courier *courier)
{
    spool_abort(courier->stored);
    courier->stored = NULL;
    for (size_t i = 0; i < courier->asked_count; i++)
        free(courier->asked[i]);
    free(courier->asked);
    courier->asked = NULL;
    courier->asked_count = 0;
    for (size_t i = 0; i < courier->target_count; i++)
        target_free(courier->targets[i]);
    courier->target_count = 0;
    for (size_t i = 0; i < courier->claim_count; i++) {
        host_cache_disclaim(courier->out->host_cache, courier->claims[i]);
        free(courier->claims[i]);
    }
    courier->claim_count = 0;
    courier->envelope = NULL;
    courier->data_asked = false;
    courier->room = REPLY_OK;
}

/* From recipients to next hops. */

static struct target *courier_out_find_target(const struct out_courier *courier, const char *key)
{
    for (size_t i = 0; i < courier->target_count; i++) {
        if (strcmp(courier->targets[i]->connect.key, key) == 0)
            return courier->targets[i];
    }
    return NULL;
}

/* May another target be added? Without a spool nothing could be done if one of several next hops refused
 * at the end. So the first one that can be reached gets the message, and all other recipients get 452. */
static bool courier_out_has_room(const struct out_courier *courier)
{
    if (courier->target_count == (size_t)courier->out->config->out.limits.next_hops)
        return false;
    for (size_t i = 0; i < courier->target_count && courier->out->spooler == NULL; i++) {
        if (!courier->targets[i]->transaction.decided)
            return false;
    }
    return true;
}

static struct host_cache_claim *courier_out_find_claim(const struct out_courier *courier,
                                                       const char *key)
{
    for (size_t i = 0; i < courier->claim_count; i++) {
        if (strcmp(courier->claims[i]->key, key) == 0)
            return courier->claims[i];
    }
    return NULL;
}

static struct host_cache_claim *courier_out_new_claim(struct out_courier *courier,
                                                      const struct route *route, const char *key,
                                                      struct wakeup *wakeup)
{
    struct host_cache_claim *claim =
        courier->claim_count < CONFIG_NEXT_HOPS_MAX ? calloc(1, sizeof *claim) : NULL;
    if (claim == NULL)
        return NULL;
    snprintf(claim->key, sizeof claim->key, "%s", key);
    claim->generation = courier->out->generation;
    claim->most = route->connections;
    claim->rate = route->rate;
    claim->wakeup = wakeup;
    courier->claims[courier->claim_count++] = claim;
    return claim;
}

/* If the recipient's destination has no target yet, a connection there must be free, and its turn must
 * have come. */
static int64_t courier_out_prepare(struct courier *base, const struct client_identity *client,
                                   const struct recipient *recipient, struct wakeup *wakeup)
{
    struct out_courier *courier = (struct out_courier *)base;
    const struct outbound *out = courier->out;
    char key[ROUTE_KEY_MAX];

    (void)client;
    if (recipient == NULL)
        return 0;
    const struct route *route = routes_find(out->routes, recipient->path.domain);
    if (courier_out_find_target(courier, route_key(route, recipient->path.domain, key)) != NULL ||
        !courier_out_has_room(courier))
        return 0;
    struct host_cache_claim *claim = courier_out_find_claim(courier, key);
    if (claim == NULL)
        claim = courier_out_new_claim(courier, route, key, wakeup);
    return claim != NULL ? host_cache_claim(out->host_cache, claim) : 0;
}

static enum own_reply courier_out_target_for(struct out_courier *courier, const char *domain,
                                             struct target **target)
{
    const struct route *route = routes_find(courier->out->routes, domain);
    char key[ROUTE_KEY_MAX];

    *target = courier_out_find_target(courier, route_key(route, domain, key));
    if (*target != NULL)
        return REPLY_OK;
    struct host_cache_claim *claim = courier_out_find_claim(courier, key);
    if (!courier_out_has_room(courier)) {
        if (claim != NULL) /* others may wait for the place that it holds */
            host_cache_disclaim(courier->out->host_cache, claim);
        return REPLY_TOO_MANY_NEXT_HOPS;
    }
    *target = target_new(courier->out, route, domain, courier->envelope, claim);
    if (*target == NULL)
        return REPLY_BACKEND_BUSY;
    courier->targets[courier->target_count++] = *target;
    if (courier->out->spooler == NULL)
        target_contact(*target, deadline_in_ms(courier->out->config->out.timeouts.dial));
    return REPLY_OK;
}

static enum own_reply courier_out_ask(struct out_courier *courier,
                                      const struct recipient *recipient, struct asked **out)
{
    struct asked **list =
        realloc(courier->asked, (courier->asked_count + 1) * sizeof *courier->asked);
    struct target *target;

    if (list == NULL)
        return REPLY_BACKEND_BUSY;
    courier->asked = list;
    enum own_reply why = courier_out_target_for(courier, recipient->path.domain, &target);
    struct asked *asked = why == REPLY_OK ? malloc(sizeof *asked) : NULL;
    if (asked == NULL)
        return why != REPLY_OK ? why : REPLY_BACKEND_BUSY;
    recipient_copy(&asked->recipient, recipient);
    asked->target = target;
    list[courier->asked_count++] = asked;
    target_add(target, &asked->recipient);
    *out = asked;
    return REPLY_OK;
}

struct batch_job {
    struct target *target;
    struct deadline deadline;
    pthread_t thread;
    bool on_thread;
};

static void *courier_out_run_batch(void *context)
{
    const struct batch_job *job = context;
    target_contact(job->target, job->deadline);
    target_ask_batch(job->target, COURIER_NOTHING);
    return NULL;
}

/* Asks the targets in parallel, so that one that does not answer does not delay the others. */
static void courier_out_ask_all(struct out_courier *courier)
{
    struct batch_job jobs[CONFIG_NEXT_HOPS_MAX];
    size_t count = 0;
    struct deadline deadline = deadline_in_ms(courier->out->config->out.timeouts.dial);

    for (size_t i = 0; i < courier->target_count; i++) {
        if (courier->targets[i]->batch_count > 0)
            jobs[count++] = (struct batch_job){courier->targets[i], deadline, 0, false};
    }
    for (size_t i = 1; i < count; i++)
        jobs[i].on_thread =
            thread_start(&jobs[i].thread, THREAD_STACK_SIZE, courier_out_run_batch, &jobs[i]) == 0;
    for (size_t i = 0; i < count; i++) {
        if (!jobs[i].on_thread)
            courier_out_run_batch(&jobs[i]);
    }
    for (size_t i = 1; i < count; i++) {
        if (jobs[i].on_thread)
            pthread_join(jobs[i].thread, NULL);
    }
}

void courier_out_set_patience(struct out_courier *courier, struct deadline until)
{
    for (size_t i = 0; i < courier->target_count; i++)
        courier->targets[i]->transaction.until = until;
}

static void courier_out_send(struct courier *base, const struct envelope *envelope,
                             const struct recipient *recipients, size_t count,
                             enum courier_data data)
{
    struct out_courier *courier = (struct out_courier *)base;
    struct deadline until = deadline_in_ms(BATCH_PATIENCE_MS);

    (void)data; /* DATA is sent once it is known which next hops need it */
    if (courier->envelope == NULL)
        courier->started_ms = deadline_now_ms();
    courier->envelope = envelope;
    courier->recipients = recipients;
    courier->batch_next = 0;
    for (size_t i = 0; i < courier->target_count; i++)
        target_begin_batch(courier->targets[i]);
    for (size_t i = 0; i < count; i++) {
        courier->batch[i].asked = NULL;
        courier->batch[i].why = courier_out_ask(courier, &recipients[i], &courier->batch[i].asked);
    }
    courier_out_set_patience(courier, until);
    courier_out_ask_all(courier);
}

static void courier_out_take_off(struct out_courier *courier, const struct asked *asked)
{
    size_t i = 0;
    while (courier->asked[i] != asked)
        i++;
    free(courier->asked[i]);
    memmove(&courier->asked[i], &courier->asked[i + 1],
            (--courier->asked_count - i) * sizeof *courier->asked);
}

static void courier_out_recipient_reply(struct courier *base, struct reply *reply)
{
    struct out_courier *courier = (struct out_courier *)base;
    size_t index = courier->batch_next++;
    struct asked *asked = courier->batch[index].asked;

    if (asked == NULL) {
        reply_own(reply, courier->batch[index].why);
        courier_out_log_outcome(courier, &courier->recipients[index].path, "none", reply);
        return;
    }
    target_recipient_reply(asked->target, reply);
    if (reply_is_positive(reply))
        return;
    courier_out_log_outcome(courier, &asked->recipient.path, target_relay(asked->target), reply);
    courier_out_take_off(courier, asked);
}

static void courier_out_reset(struct courier *base)
{
    courier_out_forget((struct out_courier *)base);
}

static void courier_out_free(struct courier *base)
{
    struct out_courier *courier = (struct out_courier *)base;
    courier_out_forget(courier);
    free(courier->targets);
    free(courier);
}

struct courier *courier_out_new(const struct outbound *out)
{
    static const struct courier_ops ops = {
        .prepare = courier_out_prepare,
        .send = courier_out_send,
        .recipient_reply = courier_out_recipient_reply,
        .ask_data = courier_out_ask_data,
        .data_reply = courier_out_data_reply,
        .write = courier_out_write,
        .end = courier_out_end,
        .reset = courier_out_reset,
        .abort = courier_out_reset, /* both drop a target in data without an end of data */
        .free = courier_out_free,
    };
    struct out_courier *courier = calloc(1, sizeof *courier);

    if (courier == NULL)
        return NULL;
    courier->targets = calloc((size_t)out->config->out.limits.next_hops, sizeof(struct target *));
    if (courier->targets == NULL) {
        free(courier);
        return NULL;
    }
    courier->base.ops = &ops;
    courier->out = out;
    reply_own(&courier->slow, REPLY_REMOTE_SLOW);
    return &courier->base;
}
