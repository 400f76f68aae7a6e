/* relay-out/courier-spool.c - the courier of delivery = "spool": every message is stored, then delivered
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#include "relay-out/courier-spool.h"

#include <stdlib.h>

#include "base/log.h"
#include "relay-out/hosts.h"
#include "relay-out/courier.h"

#define DNS_PATIENCE_MS 5000 /* for a batch of recipients */

struct spool_courier {
    struct courier base;
    const struct outbound *out;
    const struct envelope *from;    /* NULL between transactions */
    struct spool_envelope envelope; /* with the recipients accepted */
    uint64_t expected;              /* octets */
    enum own_reply batch[SESSION_BATCH_MAX];
    size_t next;
    struct spool_message *message; /* NULL: no data yet, or it failed */
    enum own_reply failure;        /* of storing it */
};

static struct spool_courier *courier_spool_of(struct courier *base)
{
    return (struct spool_courier *)base;
}

static void courier_spool_forget(struct spool_courier *courier)
{
    spool_abort(courier->message);
    courier->message = NULL;
    spool_envelope_clear(&courier->envelope);
    courier->from = NULL;
}

/* Refuses what is certain to fail: a reply now is better than a notice later. Under soft_bounce nothing is
 * certain. */
static enum own_reply courier_spool_judge(const struct outbound *out, const char *domain,
                                          struct deadline deadline)
{
    const struct route *route = routes_find(out->routes, domain);
    struct hosts found;

    if (route->hop_count > 0 || out->config->out.soft_bounce || deadline_passed(deadline))
        return REPLY_OK;
    enum own_reply why = hosts_find(out, route, domain, deadline, &found);
    hosts_clear(&found);
    return why == REPLY_DNS_TEMPORARY ? REPLY_OK : why;
}

static void courier_spool_send(struct courier *base, const struct envelope *envelope,
                               const struct recipient *recipients, size_t count,
                               enum courier_data data)
{
    struct spool_courier *courier = courier_spool_of(base);
    struct deadline deadline = deadline_in_ms(DNS_PATIENCE_MS);
    int64_t now_ms = deadline_now_ms();
    struct reply reply;

    (void)data;
    if (courier->from == NULL) {
        spooler_envelope(courier->out, envelope, &courier->envelope);
        courier->from = envelope;
        courier->expected = envelope->size;
    }
    courier->next = 0;
    for (size_t i = 0; i < count; i++) {
        enum own_reply why = courier_spool_judge(courier->out, recipients[i].path.domain, deadline);
        if (why == REPLY_OK && !spooler_add(&courier->envelope, &recipients[i]))
            why = REPLY_TOO_MANY_RECIPIENTS;
        if (why != REPLY_OK) {
            reply_own(&reply, why);
            courier_out_log(courier->out, envelope, &recipients[i].path, "none", now_ms, &reply);
        }
        courier->batch[i] = why;
    }
}

static void courier_spool_recipient_reply(struct courier *base, struct reply *reply)
{
    struct spool_courier *courier = courier_spool_of(base);
    enum own_reply why = courier->batch[courier->next++];

    reply_own(reply, why == REPLY_OK ? REPLY_RECIPIENT_OK : why);
}

static void courier_spool_data_reply(struct courier *base, struct reply *reply)
{
    struct spool_courier *courier = courier_spool_of(base);

    base->form = COURIER_LINES;
    if (courier->envelope.recipient_count == 0) {
        reply_own(reply, REPLY_NO_VALID_RECIPIENTS);
        return;
    }
    courier->failure = spooler_begin(courier->out->spooler, courier->expected, &courier->message);
    if (courier->failure != REPLY_OK)
        courier->message = NULL;
    reply_own(reply, courier->failure == REPLY_OK ? REPLY_START_DATA : courier->failure);
}

static int courier_spool_write(struct courier *base, const struct iovec *iov, int count)
{
    struct spool_courier *courier = courier_spool_of(base);

    if (courier->message == NULL)
        return -1;
    courier->failure = spooler_write(courier->message, iov, count);
    if (courier->failure == REPLY_OK)
        return 0;
    spool_abort(courier->message);
    courier->message = NULL;
    return -1;
}

static void courier_spool_end(struct courier *base, struct reply *reply)
{
    struct spool_courier *courier = courier_spool_of(base);
    char id[SPOOL_ID_LEN + 1];

    if (courier->message != NULL)
        courier->failure = spooler_commit(courier->out->spooler, courier->message, courier->from,
                                          &courier->envelope);
    courier->message = NULL;
    base->stored = courier->failure == REPLY_OK;
    if (base->stored)
        reply_own_with(reply, REPLY_QUEUED, spool_id_format(courier->envelope.id, id));
    else
        reply_own(reply, courier->failure);
    courier_spool_forget(courier);
}

static void courier_spool_reset(struct courier *base)
{
    courier_spool_forget(courier_spool_of(base));
}

static void courier_spool_free(struct courier *base)
{
    courier_spool_forget(courier_spool_of(base));
    free(base);
}

struct courier *courier_spool_new(const struct outbound *out)
{
    static const struct courier_ops ops = {
        .send = courier_spool_send,
        .recipient_reply = courier_spool_recipient_reply,
        .data_reply = courier_spool_data_reply,
        .write = courier_spool_write,
        .end = courier_spool_end,
        .reset = courier_spool_reset,
        .abort = courier_spool_reset,
        .free = courier_spool_free,
    };
    struct spool_courier *courier = calloc(1, sizeof *courier);

    if (courier == NULL)
        return NULL;
    courier->base.ops = &ops;
    courier->out = out;
    spool_envelope_init(&courier->envelope);
    return &courier->base;
}
