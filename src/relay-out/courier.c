/* relay-out/courier.c - relay-out's courier: the same transaction, with every next hop it needs
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
#include "relay-out/decide.h"
#include "relay-out/target.h"
#include "relay-out/refusal.h"
#include "relay-out/spooler.h"

/* What the client hears comes after all replies of a batch: below the 300 s that clients wait for
 * MAIL and RCPT, and the 120 s for DATA (RFC 5321 4.5.3.2), whatever a next hop takes for each. */
#define BATCH_PATIENCE_MS 240000
#define DATA_PATIENCE_MS 110000

/* While the daemon ends: what a next hop has for its answer at least, and how often is looked. */
#define LEAST_MS 1000
#define LOOK_MS 500

/* A recipient that has been asked for; those refused are taken off again. */
struct asked {
    struct recipient recipient;
    struct target *target;
};

struct out_courier {
    struct courier base;
    const struct outbound *out;
    struct target **targets; /* limits.next_hops of them have room */
    size_t target_count;
    struct host_cache_claim
        *claims[CONFIG_NEXT_HOPS_MAX]; /* of targets that there are, or will be */
    size_t claim_count;
    struct asked **asked;
    size_t asked_count;
    const struct envelope *envelope; /* of the transaction; NULL between two */
    int64_t started_ms;
    /* The batch that is being answered. */
    struct {
        struct asked *asked; /* NULL: refused here, for this reason */
        enum own_reply why;
    } batch[SESSION_BATCH_MAX];
    size_t batch_next;
    const struct recipient *recipients; /* the caller's */
    struct spool_message *stored;       /* NULL: nothing is being stored */
    uint64_t octets;                    /* of it */
    bool data_asked;                    /* ask_data() came first */
    enum own_reply room; /* in the spool, where one is needed; else why nobody gets it */
    struct reply slow;   /* of targets that are pending */
};

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
                 reply_is_positive(reply)    ? REFUSAL_SENT
                 : reply_is_transient(reply) ? REFUSAL_PUT_OFF
                                             : REFUSAL_BOUNCED,
                 path->domain, relay, text);
}

static void courier_out_log_outcome(const struct out_courier *courier, const struct path *path,
                                    const char *relay, const struct reply *reply)
{
    courier_out_log(courier->out, courier->envelope, path, relay, courier->started_ms, reply);
}

static void courier_out_forget(struct out_courier *courier)
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

/* Recipients find their next hops. */

static struct target *courier_out_find_leg(const struct out_courier *courier, const char *key)
{
    for (size_t i = 0; i < courier->target_count; i++) {
        if (strcmp(courier->targets[i]->key, key) == 0)
            return courier->targets[i];
    }
    return NULL;
}

/* Without a spool nothing could be done for those of several next hops that refuse in the end: the
 * first one that is there takes the message, the rest gets 452. */
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

/* A connection to its destination must be free, and its turn there have come, if it has no target yet. */
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
    if (courier_out_find_leg(courier, route_key(route, recipient->path.domain, key)) != NULL ||
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

    *target = courier_out_find_leg(courier, route_key(route, domain, key));
    if (*target != NULL)
        return REPLY_OK;
    if (!courier_out_has_room(courier))
        return REPLY_TOO_MANY_NEXT_HOPS;
    *target = target_new(courier->out, route, domain, courier->envelope);
    if (*target == NULL)
        return REPLY_BACKEND_BUSY;
    courier->targets[courier->target_count++] = *target;
    target_set_claim(*target, courier_out_find_claim(courier, key));
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
    target_ask_batch(job->target);
    return NULL;
}

/* Side by side, so that one that does not answer costs the others nothing. */
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

static void courier_out_set_patience(struct out_courier *courier, struct deadline until)
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

    (void)data; /* DATA goes out when it is known which next hops it is for */
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

/* Mail data. */

/* The targets that anybody was accepted for. */
static size_t courier_out_list_legs(const struct out_courier *courier,
                                    struct target *out[CONFIG_NEXT_HOPS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < courier->target_count; i++) {
        if (courier->targets[i]->accepted_count > 0)
            out[count++] = courier->targets[i];
    }
    return count;
}

static const struct reply *courier_out_final_reply_of(const struct out_courier *courier,
                                                      const struct target *target)
{
    return target->pending ? &courier->slow : target_final_reply(target);
}

static void courier_out_log_all(const struct out_courier *courier)
{
    for (size_t i = 0; i < courier->asked_count; i++) {
        const struct target *target = courier->asked[i]->target;
        courier_out_log_outcome(courier, &courier->asked[i]->recipient.path, target_relay(target),
                                courier_out_final_reply_of(courier, target));
    }
}

static void courier_out_log_refused(const struct out_courier *courier, const struct reply *reply)
{
    for (size_t i = 0; i < courier->asked_count; i++)
        courier_out_log_outcome(courier, &courier->asked[i]->recipient.path, "none", reply);
}

/* Every target is decided, or pending. */
static enum decision courier_out_decide(const struct out_courier *courier,
                                        struct target *const *targets, size_t count,
                                        struct reply *reply)
{
    enum hop_outcome outcomes[CONFIG_NEXT_HOPS_MAX];
    size_t which;

    for (size_t i = 0; i < count; i++) {
        const struct reply *final = courier_out_final_reply_of(courier, targets[i]);
        outcomes[i] = targets[i]->pending || targets[i]->transaction.unconfirmed ? HOP_UNDECIDED
                      : reply_is_positive(final)                                 ? HOP_TAKEN
                      : reply_is_permanent(final)                                ? HOP_REFUSED
                                                                                 : HOP_DEFERRED;
    }
    enum decision decision = decide_final(outcomes, count, &which);
    *reply = *courier_out_final_reply_of(courier, targets[which]);
    return decision;
}

/* DATA goes out to the targets, unless the disk does not take what may be left over: then nobody gets it
 * now, since half a delivery and a 4xx would bring the message to the other half again and again. */
static enum own_reply courier_out_send_data(struct out_courier *courier, int64_t patience_ms)
{
    struct spooler *spooler = courier->out->spooler;
    struct target *targets[CONFIG_NEXT_HOPS_MAX];
    size_t count = courier_out_list_legs(courier, targets);

    courier_out_set_patience(courier, deadline_in_ms(patience_ms));
    courier->room = REPLY_OK;
    courier->octets = 0;
    if (spooler != NULL && count > 1)
        courier->room = spooler_begin(spooler, courier->envelope->size, &courier->stored);
    if (courier->stored != NULL)
        courier->room = spooler_sync(courier->stored);
    for (size_t i = 0; i < count && courier->room == REPLY_OK; i++)
        transaction_send_data(&targets[i]->transaction);
    return courier->room;
}

/* While the replies come, so does the message. Their time runs from here, and what has come within it
 * can still be read when the client has taken longer. */
static bool courier_out_ask_data(struct courier *base)
{
    struct out_courier *courier = (struct out_courier *)base;
    int64_t patience = courier->out->config->out.timeouts.reply;

    if (patience > DATA_PATIENCE_MS)
        patience = DATA_PATIENCE_MS;
    courier->data_asked = true;
    return courier_out_send_data(courier, patience) == REPLY_OK;
}

static void courier_out_data_reply(struct courier *base, struct reply *reply)
{
    struct out_courier *courier = (struct out_courier *)base;
    struct target *targets[CONFIG_NEXT_HOPS_MAX];
    size_t count = courier_out_list_legs(courier, targets), ready = 0;
    bool asked = courier->data_asked;

    base->form = COURIER_LINES;
    enum own_reply room = asked ? courier->room : courier_out_send_data(courier, DATA_PATIENCE_MS);
    if (room != REPLY_OK) {
        reply_own(reply, room);
        courier_out_log_refused(courier, reply);
        return;
    }
    for (size_t i = 0; i < count; i++)
        ready += target_data_reply_anywhere(targets[i]);
    for (size_t i = 0; i < count && courier->stored != NULL; i++) {
        if (target_in_data(targets[i]))
            target_start_sending(targets[i], spool_reader(courier->stored));
    }
    if (ready > 0) {
        reply_own(reply, REPLY_START_DATA);
        return;
    }
    for (size_t i = 0; i < count; i++)
        target_remember_deferral(targets[i]);
    if (count > 0) {
        courier_out_decide(courier, targets, count, reply);
        if (!asked) /* else end() is still to come */
            courier_out_log_all(courier);
    } else {
        reply_own(reply, REPLY_NO_VALID_RECIPIENTS);
    }
}

/* To the one next hop that there is. */
static int courier_out_write_through(struct out_courier *courier, const struct iovec *iov,
                                     int count)
{
    int result = -1;

    for (size_t i = 0; i < courier->target_count; i++) {
        if (target_in_data(courier->targets[i]))
            result = transaction_write(&courier->targets[i]->transaction, iov, count);
    }
    return result;
}

static void courier_out_give_up_store(struct out_courier *courier, enum own_reply why)
{
    courier->room = why;
    spool_abort(courier->stored);
    courier->stored = NULL;
    for (size_t i = 0; i < courier->target_count; i++) {
        if (courier->targets[i]->pending)
            sender_stop(courier->targets[i]->sender, false);
    }
}

static int courier_out_write(struct courier *base, const struct iovec *iov, int count)
{
    struct out_courier *courier = (struct out_courier *)base;
    bool any = false;

    if (courier->stored == NULL)
        return courier->room == REPLY_OK ? courier_out_write_through(courier, iov, count) : -1;
    enum own_reply why = spooler_write(courier->stored, iov, count);
    if (why != REPLY_OK) {
        courier_out_give_up_store(courier, why);
        return -1;
    }
    for (int i = 0; i < count; i++)
        courier->octets += iov[i].iov_len;
    for (size_t i = 0; i < courier->target_count; i++) {
        if (courier->targets[i]->pending)
            sender_advance(courier->targets[i]->sender, courier->octets);
        any |= !target_wait(courier->targets[i], (struct deadline){0});
    }
    return any ? 0 : -1;
}

/* In steps, as the end of the daemon brings the time forward at which it is handed over. */
static bool courier_out_wait(const struct out_courier *courier, struct target *target,
                             struct deadline least, struct deadline deadline)
{
    struct deadline until = deadline;

    do {
        if (target->pending) {
            struct deadline hand_over = spooler_hand_over(courier->out->spooler);
            until = deadline_earlier(deadline, hand_over.at_ms > least.at_ms ? hand_over : least);
        }
        if (target_wait(target, deadline_earlier(until, deadline_in_ms(LOOK_MS))))
            return true;
    } while (!deadline_passed(until));
    return false;
}

/* The end of data to all, and their replies as far as they come in time. */
static void courier_out_finish_legs(struct out_courier *courier)
{
    const struct config_out *config = &courier->out->config->out;
    int64_t patience = courier->stored != NULL ? config->live_deadline_ms : config->timeouts.final;

    for (size_t i = 0; i < courier->target_count; i++) {
        struct target *target = courier->targets[i];
        if (target->pending)
            sender_finish(target->sender);
        else if (target_in_data(target))
            transaction_send_end(&target->transaction);
    }
    struct deadline deadline = deadline_in_ms(patience), least = deadline_in_ms(LEAST_MS);
    for (size_t i = 0; i < courier->target_count; i++) {
        struct target *target = courier->targets[i];
        if (!target->pending && target_in_data(target))
            target_read_final_reply(target, deadline);
        if (courier_out_wait(courier, target, least, deadline))
            target_remember_deferral(target);
    }
}

/* Those that are pending to the end of the list; the number of the others. */
static size_t courier_out_part_pending(struct out_courier *courier)
{
    size_t others = 0;

    for (size_t i = 0; i < courier->target_count; i++) {
        struct target *target = courier->targets[i];
        if (target->pending)
            continue;
        courier->targets[i] = courier->targets[others];
        courier->targets[others++] = target;
    }
    return others;
}

/* True when what is not delivered is safe. */
static bool courier_out_store_rest(struct out_courier *courier)
{
    struct spooler_result *results = calloc(courier->asked_count, sizeof *results);
    const size_t others = courier_out_part_pending(courier);
    enum own_reply result = REPLY_STORE_FAILED;

    for (size_t i = 0; results != NULL && i < courier->asked_count; i++) {
        const struct target *target = courier->asked[i]->target;
        const struct reply *final = courier_out_final_reply_of(courier, target);
        results[i] = (struct spooler_result){
            .recipient = &courier->asked[i]->recipient,
            .delivered = reply_is_positive(final),
            .reply = final,
            .ours = target->pending || target->transaction.ours,
            .relay = target_relay(target),
            .pending = target->pending ? courier->asked[i]->target : NULL,
        };
    }
    if (results != NULL)
        result = spooler_commit_rest(courier->out->spooler, courier->out, courier->stored,
                                     courier->envelope, results, courier->asked_count);
    else
        spool_abort(courier->stored);
    courier->stored = NULL;
    free(results);
    /* They are the spooler's, and may be gone. */
    if (result == REPLY_OK)
        courier->target_count = others;
    return result == REPLY_OK;
}

/* Nothing could be stored, although the disk took the message: then all next hops are waited for, and
 * where they do not agree, twice is better than never. */
static void courier_out_settle_unstored(struct out_courier *courier, struct target *const *targets,
                                        size_t count, struct reply *reply)
{
    struct deadline deadline = deadline_in_ms(courier->out->config->out.timeouts.final);

    for (size_t i = 0; i < count; i++)
        target_wait(targets[i], deadline);
    if (courier_out_decide(courier, targets, count, reply) == DECISION_STORE &&
        reply_is_positive(reply))
        reply_own(reply, REPLY_BACKEND_BUSY);
}

static void courier_out_settle(struct out_courier *courier, struct reply *reply)
{
    struct target *targets[CONFIG_NEXT_HOPS_MAX];
    size_t count = courier_out_list_legs(courier, targets);

    courier_out_finish_legs(courier);
    enum decision decision = courier_out_decide(courier, targets, count, reply);
    courier_out_log_all(courier);
    if (decision != DECISION_STORE)
        return;
    courier->base.stored = courier->stored != NULL && courier_out_store_rest(courier);
    if (courier->base.stored)
        reply_own(reply, REPLY_DELIVERED_IN_PART);
    else
        courier_out_settle_unstored(courier, targets, count, reply);
}

/* Before any end of data it must be certain that what is left over can be stored. */
static void courier_out_end(struct courier *base, struct reply *reply)
{
    struct out_courier *courier = (struct out_courier *)base;

    base->stored = false;
    if (courier->stored != NULL) {
        enum own_reply why = spooler_sync(courier->stored);
        if (why != REPLY_OK)
            courier_out_give_up_store(courier, why);
    }
    if (courier->room == REPLY_OK) {
        courier_out_settle(courier, reply);
    } else {
        reply_own(reply, courier->room);
        courier_out_log_refused(courier, reply);
    }
    courier_out_forget(courier);
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
        .abort = courier_out_reset, /* a target in data is dropped without an end, whoever asks */
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
