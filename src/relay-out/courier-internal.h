/* relay-out/courier-internal.h - what the files of relay-out's courier share
 *
 * courier.c has the recipients and their next hops, courier-data.c the mail data.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_COURIER_INTERNAL_H
#define POSTERN_RELAY_OUT_COURIER_INTERNAL_H

#include "relay-out/courier.h"
#include "relay-out/spooler.h"
#include "relay-out/target.h"

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

/* Of a recipient, with the reply that he or his message gets. */
void courier_out_log_outcome(const struct out_courier *courier, const struct path *path,
                             const char *relay, const struct reply *reply);
/* For the next replies of all next hops. */
void courier_out_set_patience(struct out_courier *courier, struct deadline until);
/* The transaction is over. */
void courier_out_forget(struct out_courier *courier);

/* As in smtp/courier.h. */
bool courier_out_ask_data(struct courier *base);
void courier_out_data_reply(struct courier *base, struct reply *reply);
int courier_out_write(struct courier *base, const struct iovec *iov, int count);
void courier_out_end(struct courier *base, struct reply *reply);

#endif
