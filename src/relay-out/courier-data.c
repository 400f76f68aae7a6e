/* relay-out/courier-data.c - mail data: to every next hop, into the spool, and one reply at its end
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include <stdlib.h>

#include "relay-out/courier-internal.h"
#include "relay-out/decide.h"

/* Below the 120 s that clients wait for the reply to DATA (RFC 5321 4.5.3.2). */
#define DATA_PATIENCE_MS 110000

/* While the daemon ends: the least time a next hop gets for its answer, and how often to check for it. */
#define LEAST_MS 1000
#define LOOK_MS 500

/* Lists the targets with accepted recipients. */
static size_t courier_out_list_targets(const struct out_courier *courier,
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

/* Call when every target is decided or pending. */
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

/* Sends DATA to the targets, unless the disk cannot take what may be left over. In that case no target
 * gets it: after half a delivery and a 4xx, the client would send the message again and again to those
 * that have it already. */
static enum own_reply courier_out_send_data(struct out_courier *courier, int64_t patience_ms)
{
    struct spooler *spooler = courier->out->spooler;
    struct target *targets[CONFIG_NEXT_HOPS_MAX];
    size_t count = courier_out_list_targets(courier, targets);

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

/* The client sends the message while the replies to DATA are under way. Their time starts here. A reply
 * that arrives in time can still be read if the client takes longer. */
bool courier_out_ask_data(struct courier *base)
{
    struct out_courier *courier = (struct out_courier *)base;
    int64_t patience = courier->out->config->out.timeouts.reply;

    if (patience > DATA_PATIENCE_MS)
        patience = DATA_PATIENCE_MS;
    courier->data_asked = true;
    return courier_out_send_data(courier, patience) == REPLY_OK;
}

void courier_out_data_reply(struct courier *base, struct reply *reply)
{
    struct out_courier *courier = (struct out_courier *)base;
    struct target *targets[CONFIG_NEXT_HOPS_MAX];
    size_t count = courier_out_list_targets(courier, targets), ready = 0;
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
        if (!asked) /* otherwise end() does it */
            courier_out_log_all(courier);
    } else {
        reply_own(reply, REPLY_NO_VALID_RECIPIENTS);
    }
}

/* Passes the data to the only next hop. */
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

int courier_out_write(struct courier *base, const struct iovec *iov, int count)
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

/* Waits in steps, because the time for handing over comes sooner once the daemon begins to end. */
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

/* Sends the end of data to all targets and reads the replies that come in time. */
static void courier_out_finish_targets(struct out_courier *courier)
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

/* Moves the pending targets to the end of the list. Returns the number of the others. */
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

/* True if what was not delivered is safely stored. */
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
    /* The pending ones belong to the spooler now, and may already be gone. */
    if (result == REPLY_OK)
        courier->target_count = others;
    return result == REPLY_OK;
}

/* The rest could not be stored, although the disk took the mail data. Waits for all next hops. If they
 * do not agree, the client must try again: twice is better than never. */
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
    size_t count = courier_out_list_targets(courier, targets);

    courier_out_finish_targets(courier);
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

/* Before any end of data is sent, it must be certain that what is left over can be stored. */
void courier_out_end(struct courier *base, struct reply *reply)
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
