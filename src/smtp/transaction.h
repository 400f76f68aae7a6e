/* smtp/transaction.h - one mail transaction with a next hop (RFC 5321 3.3, RFC 2920, RFC 3030)
 *
 * MAIL, RCPT in batches, DATA or BDAT, the end of data: pipelined in one write where the next hop
 * offers that, one by one elsewhere. A transaction whose next hop is lost, or which refuses it as a
 * whole, is "decided": its final reply answers everything that is left of it, and what was pipelined behind
 * the refusal is read away.
 *
 * What the next hop says is the answer, at whatever moment: also where it said so in mid-data, or hung
 * up behind it, and our write failed before we had read it. Where it says nothing there is a reply of
 * our own. A 421 ends its side of the connection.
 *
 * Promise 2: an end of data leaves by transaction_send_end() only.
 *
 * It has no part in how the connection is made and ended: that is its owner's, as are the buffers.
 * relay-in has one for each session, relay-out one for each next hop of a message. Used by one thread
 * at a time.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_TRANSACTION_H
#define POSTERN_SMTP_TRANSACTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/deadline.h"
#include "smtp/courier.h"
#include "smtp/nexthop.h"

struct transaction;

/* What its owner does for it. Static. */
struct transaction_owner {
    enum own_reply lost;  /* the reply where the next hop gives none */
    enum own_reply lacks; /* where it lacks an extension; REPLY_OK: the one that names it */
    /* Makes a reply of the next hop fit for our clients. NULL: it is as it is. */
    void (*adapt)(struct reply *reply);
    /* For the log: the next hop closed, stalled or talked garbage at a step ("MAIL", "RCPT", "DATA",
     * "mail data", "end of data"); `line` is what it said, cleaned, or "". */
    void (*lost_at)(struct transaction *transaction, const char *step, const char *reason,
                    const char *line);
    /* The connection is closed. */
    void (*closed)(struct transaction *transaction);
    /* A connection that was kept from before has answered MAIL or RCPT by something else than 2xx, or
     * not at all, which may prove nothing; or any was `garbled`, and what was pipelined is said one by
     * one. True: it was closed, and there is a fresh one, on which all
     * is said again, or a final reply, which is the answer. False: it stands. NULL: it
     * always does. */
    bool (*renew)(struct transaction *transaction);
};

enum transaction_data {
    TRANSACTION_NO_DATA, /* not asked for */
    TRANSACTION_DATA_DUE,
    TRANSACTION_DATA_SENT, /* the reply is still to be had */
    TRANSACTION_IN_DATA,   /* mail data may be written */
};

struct transaction {
    const struct transaction_owner *owner;
    struct nexthop *hop;
    int64_t reply_ms;      /* for each reply to a command */
    int64_t block_ms;      /* for each piece of mail data to leave */
    struct deadline until; /* of all commands, while at_ms is not 0 */
    bool connected;        /* the owner sets it; closed() is called when it ends */
    bool kept;             /* from an earlier transaction */
    bool garbled; /* it was lost by a line that was no reply, among several that were due */
    bool open;    /* MAIL has gone out, and no final reply has come: RSET is due */
    const struct envelope *envelope;
    bool decided, ours; /* ours: the final reply is in our words, not the next hop's */
    /* The batch that is being asked about. Its recipients are the caller's; NULL: refused. */
    const struct recipient *batch[SESSION_BATCH_MAX];
    size_t batch_count, next;
    size_t accepted; /* of all batches */
    bool first;      /* the batch is the one behind MAIL */
    bool written;    /* pipelined: all of it went out in one write */
    bool mail_due;   /* MAIL, or the reply to it */
    bool smtputf8;   /* said with MAIL */
    enum transaction_data data;
    struct deadline
        data_until;      /* of the reply to DATA; at_ms is 0 while it went out with a batch */
    bool chunks;         /* mail data goes out by BDAT */
    unsigned chunks_due; /* whose replies are still to be had */
    bool unconfirmed;    /* the end of data went out, and no reply to it has come */
    struct reply final_reply; /* the last, so that who makes one need not clear all of it */
};

/* A new one, on the connection that there is, or on one that the owner makes before the first batch is
 * sent. The envelope lives as long. */
void transaction_begin(struct transaction *transaction, const struct envelope *envelope);

/* The owner's decision, in our words. */
void transaction_decide(struct transaction *transaction, enum own_reply why);

/* A batch: begun, filled with SESSION_BATCH_MAX at most, and sent. COURIER_DATA behind it goes out in
 * the same write where it may. What goes wrong is told by the replies asked for next. */
void transaction_begin_batch(struct transaction *transaction);
void transaction_add(struct transaction *transaction, const struct recipient *recipient);
void transaction_send_batch(struct transaction *transaction, enum courier_data data);
/* The reply to the next recipient of the batch. */
void transaction_recipient_reply(struct transaction *transaction, struct reply *reply);

/* DATA goes out, unless it has; its reply is read by the next. True when it went out now. */
bool transaction_send_data(struct transaction *transaction);
/* The reply to it; under a 354 mail data may be written. A 354 behind a refusal ends the connection. */
void transaction_data_reply(struct transaction *transaction, struct reply *reply);

/* Mail data in the form that `chunks` says. 0; -1 when the transaction is decided. */
int transaction_write(struct transaction *transaction, const struct iovec *iov, int count);
/* The end of data, and the reply to it, as the final reply. Only in data. */
void transaction_send_end(struct transaction *transaction);
void transaction_read_final_reply(struct transaction *transaction, struct deadline deadline);

/* Nothing is half said: after RSET, where it is `open`, MAIL can follow. */
bool transaction_is_clean(const struct transaction *transaction);
/* RSET, where that is due. False when the connection is of no further use. */
bool transaction_reset(struct transaction *transaction);

/* Closes at once: no end of data can be seen in what was written. */
void transaction_abort(struct transaction *transaction);

#endif
