/* relay-out/courier-internal.h - what the files of relay-out's courier share
 *
 * courier.c handles the recipients and their next hops, courier-data.c the mail data.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_COURIER_INTERNAL_H
#define POSTERN_RELAY_OUT_COURIER_INTERNAL_H

#include "relay-out/courier.h"
#include "relay-out/spooler.h"
#include "relay-out/target.h"

/* A recipient that the client has asked for; refused ones are removed again. */
struct asked {
    struct recipient recipient;
    struct target *target;
};

struct out_courier {
    struct courier base;
    const struct outbound *out;
    struct target **targets; /* room for limits.next_hops of them */
    size_t target_count;
    struct host_cache_claim *claims[CONFIG_NEXT_HOPS_MAX]; /* of existing and future targets */
    size_t claim_count;
    struct asked **asked;
    size_t asked_count;
    const struct envelope *envelope; /* of the transaction; NULL between transactions */
    int64_t started_ms;
    /* The batch being answered. */
    struct {
        struct asked *asked; /* NULL: refused here, for this reason */
        enum own_reply why;
    } batch[SESSION_BATCH_MAX];
    size_t batch_next;
    const struct recipient *recipients; /* the caller's */
    struct spool_message *stored;       /* NULL: nothing is being stored */
    uint64_t octets;                    /* of it */
    bool data_asked;                    /* ask_data() came first */
    enum own_reply room;                /* REPLY_OK, or why the spool cannot take the message */
    struct reply slow;                  /* of targets that are pending */
};

/* Logs the outcome of one recipient, with the reply for the recipient or the message. */
void courier_out_log_outcome(const struct out_courier *courier, const struct path *path,
                             const char *relay, const struct reply *reply);
/* Sets the deadline for the next replies of all next hops. */
void courier_out_set_patience(struct out_courier *courier, struct deadline until);
/* Forgets the transaction, which is over. */
void courier_out_forget(struct out_courier *courier);

/* As in smtp/courier.h. */
bool courier_out_ask_data(struct courier *base);
void courier_out_data_reply(struct courier *base, struct reply *reply);
int courier_out_write(struct courier *base, const struct iovec *iov, int count);
void courier_out_end(struct courier *base, struct reply *reply);

#endif
