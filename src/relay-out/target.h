/* relay-out/target.h - one next hop of a message: its destination, its connection, its transaction
 *
 * A courier has one for each destination among the recipients and drives them side by side. Where a host gives no final answer, at
 * whatever step, and has accepted nothing, the destination's next host is asked (RFC 5321 5.1); not
 * where the end of data was sent and no reply came, since that host may have the message. Used by one
 * thread at a time, which may be one of its own for contact and batch.
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
    const struct route *route;
    char domain[PATH_DOMAIN_MAX + 1]; /* the first recipient's */
    char key[ROUTE_KEY_MAX];
    const char *session;
    struct stream_buffers buffers;
    struct remote remote;           /* its name stays for logs when the connection is gone */
    struct transaction transaction; /* with it */
    struct reply final_reply;       /* the transaction's */
    struct connect connect;
    bool contacted;
    int64_t contacted_ms;
    bool met; /* a host of it has been spoken with */
    /* The batch that is being asked about, and the replies once they have come. */
    const struct recipient *batch[SESSION_BATCH_MAX];
    struct reply *replies[SESSION_BATCH_MAX]; /* NULL: out of memory */
    size_t batch_count, told;
    const struct recipient **accepted; /* of all batches */
    size_t accepted_count;
    bool unreachable;      /* decided, and that speaks against the destination, not the message */
    struct sender *sender; /* NULL: mail data is written by whoever has the target */
    bool pending;          /* the sender is at work: the transaction is its own */
    char own_session[40];  /* then: the client's may end before */
};

/* For the destination of this domain. NULL when out of memory. */
struct target *target_new(const struct outbound *out, const struct route *route, const char *domain,
                          const struct envelope *envelope);
/* What is still open is left at once if half a message stands there, else in good order; a connection
 * on which nothing is open is kept for the next message. */
void target_free(struct target *target);

/* The place and the turn that target_contact() takes, or none is waited for. The claim is the caller's. */
void target_set_claim(struct target *target, struct host_cache_claim *claim);

/* Connects, unless it has been tried. Several targets may do so at the same time. */
void target_contact(struct target *target, struct deadline deadline);

/* A batch: begun, filled with SESSION_BATCH_MAX at most, and asked about, at other hosts, too, as long
 * as nobody has been accepted. The recipients are the caller's for as long as the target, but for those
 * that were refused. */
void target_begin_batch(struct target *target);
void target_add(struct target *target, const struct recipient *recipient);
void target_ask_batch(struct target *target);
/* The reply to the next recipient of the batch, which has come. */
void target_recipient_reply(struct target *target, struct reply *reply);

/* DATA, and its reply: only with accepted recipients. True under 354. */
bool target_data_reply(struct target *target);
/* The same; where this host takes no message now, at another one that accepts all of the recipients,
 * whose client knows that they were accepted. */
bool target_data_reply_anywhere(struct target *target);
bool target_in_data(const struct target *target);

/* A connection to the destination's next host, for a transaction of its own with whoever is left: where
 * a reply has come and it was not final. False when there is none; all is as before then. */
bool target_next_transaction(struct target *target);
/* No host took the message now, and the client will come again: then others are asked first. */
void target_remember_deferral(struct target *target);

/* In data: the file, in which the message is being stored, goes out on a thread of its own, with the end
 * of data and the final reply. `pending` until target_wait() says that the transaction is decided. On failure
 * it is, and left. */
void target_start_sending(struct target *target, int file);
bool target_wait(struct target *target, struct deadline deadline);

/* The reply to the end of data as the final reply: only in data. The connection is then kept for the next
 * message or dropped. */
void target_read_final_reply(struct target *target, struct deadline deadline);

/* What was decided; only where the transaction is decided, and not pending. */
const struct reply *target_final_reply(const struct target *target);

/* Whose it is: "mx.example.net[192.0.2.1]:25", or "none". */
const char *target_relay(const struct target *target);

#endif
