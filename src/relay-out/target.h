/* relay-out/target.h - one next hop of a message: its destination, its connection, its transaction
 *
 * A courier has one for each destination among the recipients and drives them in parallel. If a host
 * gives no final answer at some step and has accepted nothing, the destination's next host is asked
 * (RFC 5321 5.1). This does not apply once the end of data was sent without a reply: that host may have
 * the message. Used by one thread at a time; connecting and batches may run on a separate thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAY_OUT_TARGET_H
#define POSTERN_RELAY_OUT_TARGET_H

#include "relay-out/connect.h"
#include "relay-out/sender.h"
#include "smtp/transaction.h"

struct target {
    const struct outbound *out;
    char domain[PATH_DOMAIN_MAX + 1]; /* the first recipient's */
    struct stream_buffers buffers;
    struct remote remote; /* its name stays valid for logs after the connection has ended */
    struct transaction transaction; /* with `remote` */
    struct reply final_reply;       /* the transaction's */
    struct connect connect;
    bool contacted;
    bool met; /* one of its hosts has answered */
    /* The current batch, and its replies once they have arrived. */
    const struct recipient *batch[SESSION_BATCH_MAX];
    struct reply *replies[SESSION_BATCH_MAX]; /* NULL: out of memory */
    size_t batch_count, told;                 /* told: replies taken by the caller */
    bool asking; /* a batch: if the connection is lost, its place is for the one that replaces it */
    const struct recipient **accepted; /* of all batches */
    size_t accepted_count;
    bool unreachable;      /* decided, because of the destination rather than the message */
    struct sender *sender; /* NULL: the target's owner writes the mail data */
    bool pending;          /* the sender is running and owns the transaction */
    char own_session[40]; /* the session's name while pending: the client's session may end first */
};

/* A target for the destination of this domain. NULL when out of memory. `claim` (NULL: none) belongs to the caller;
 * target_contact() takes its place and turn, without waiting. */
struct target *target_new(const struct outbound *out, const struct route *route, const char *domain,
                          const struct envelope *envelope, struct host_cache_claim *claim);
/* Ends an open transaction: by breaking off if part of a message has been sent, otherwise properly. An
 * idle connection is kept for the next message. */
void target_free(struct target *target);

/* Connects, unless that was tried before. Several targets may do so at the same time. */
void target_contact(struct target *target, struct deadline deadline);

/* Begin a batch, fill it with at most SESSION_BATCH_MAX recipients, and send it; other hosts are asked too,
 * as long as no recipient has been accepted. With COURIER_DATA, DATA goes with it if the host offers
 * PIPELINING: no other batch can follow. The caller keeps the recipients for the target's lifetime, except
 * refused ones. */
void target_begin_batch(struct target *target);
void target_add(struct target *target, const struct recipient *recipient);
void target_ask_batch(struct target *target, enum courier_data data);
/* Takes the reply to the batch's next recipient; the batch must have been asked. */
void target_recipient_reply(struct target *target, struct reply *reply);

/* Sends DATA and reads the reply; only with accepted recipients. True on 354. */
bool target_data_reply(struct target *target);
/* The same, but if this host takes no message now, tries another one that accepts all the recipients,
 * because the client has already been told that they are accepted. */
bool target_data_reply_anywhere(struct target *target);
bool target_in_data(const struct target *target);

/* Connects to the destination's next host for a new transaction with the remaining recipients; call it
 * after a reply that was not final. Forgets the accepted recipients. False if there is no other host to
 * ask; the connection and the final reply are then unchanged. */
bool target_next_transaction(struct target *target);
/* No host took the message now, and the client will retry: remembers to ask others first then. */
void target_remember_deferral(struct target *target);

/* In data: starts the sender, a thread that sends the file in which the message is being stored, as far as
 * sender_advance() says. After sender_finish() it sends the end of data and reads the final reply. The
 * file is borrowed for the call only. The target is `pending` until target_wait() returns true. If the
 * sender cannot be started, the transaction is aborted and decided at once. */
void target_start_sending(struct target *target, int file);
/* Waits for the sender until the deadline. True if the target is not pending, or no longer. */
bool target_wait(struct target *target, struct deadline deadline);

/* Reads the reply to the end of data as the final reply; only in data. Then keeps the connection for the
 * next message or drops it. */
void target_read_final_reply(struct target *target, struct deadline deadline);

/* The final reply; only if the transaction is decided and not pending. */
const struct reply *target_final_reply(const struct target *target);

/* The host that gave it: "mx.example.net[192.0.2.1]:25", or "none". */
const char *target_relay(const struct target *target);

#endif
