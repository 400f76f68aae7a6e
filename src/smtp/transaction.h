/* smtp/transaction.h - one mail transaction with a next hop (RFC 5321 3.3, RFC 2920, RFC 3030)
 *
 * Sends MAIL, RCPT in batches, DATA or BDAT, and the end of data: pipelined in one write if the next hop
 * offers that, one by one otherwise. If the next hop is lost, or refuses the transaction as a whole, the
 * transaction is "decided": its final reply answers everything that is left, and replies pipelined after
 * the refusal are read and discarded.
 *
 * The next hop's reply always counts, even if it came in mid-data, or before a hang-up that made our
 * write fail before we read it. If the next hop sends no reply, there is one of our own. A 421 ends its
 * side of the connection.
 *
 * Promise 2: only transaction_send_end() sends an end of data.
 *
 * The owner makes and ends the connection, and owns it and the buffers. relay-in has one transaction per
 * session, relay-out one per next hop of a message. Used by one thread at a time.
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

/* What the owner does for it; static data. */
struct transaction_owner {
    enum own_reply lost;  /* the reply if the next hop sends none */
    enum own_reply lacks; /* if it lacks an extension; REPLY_OK: the reply that names it */
    /* Adapts a reply of the next hop for our clients. NULL: passed on unchanged. */
    void (*adapt)(struct reply *reply);
    /* For the log: the next hop closed, stalled or sent garbage at a step ("MAIL", "RCPT", "DATA",
     * "mail data", "end of data"); `result` is IO_OK if its reply does not fit the command, `line` what it
     * sent, cleaned, or "". */
    void (*lost_at)(struct transaction *transaction, const char *step, enum io_result result,
                    const char *line);
    /* Called when the connection has been closed. The member may be NULL. */
    void (*closed)(struct transaction *transaction);
    /* Called if a kept connection answered MAIL or RCPT with anything but 2xx, or not at all, which may
     * prove nothing (452 after a recipient was taken does); or if any connection was `garbled`, so that
     * commands must be repeated one by one. True: the old connection was closed, and there is either a fresh
     * one, on which everything is repeated, or a final reply, which counts. False: the result stands. The
     * member may be NULL: it always stands. */
    bool (*renew)(struct transaction *transaction);
};

enum transaction_data {
    TRANSACTION_NO_DATA, /* not asked for */
    TRANSACTION_DATA_DUE,
    TRANSACTION_DATA_SENT, /* the reply has not been read */
    TRANSACTION_IN_DATA,   /* mail data may be written */
};

struct transaction {
    const struct transaction_owner *owner;
    struct nexthop *hop;
    int64_t reply_ms;      /* for each reply to a command */
    int64_t block_ms;      /* for each piece of mail data to leave */
    struct deadline until; /* for all commands, if at_ms is not 0 */
    bool connected;        /* set by the owner; closed() is called when it ends */
    bool kept;             /* the connection is from an earlier transaction */
    bool garbled;          /* lost by a line that was not a reply while several replies were due */
    bool open;             /* MAIL was sent and there is no final reply: RSET is due */
    const struct envelope *envelope;
    bool decided, ours; /* ours: the final reply is our own, not the next hop's */
    /* The current batch. Its recipients belong to the caller; NULL: refused. */
    const struct recipient *batch[SESSION_BATCH_MAX];
    size_t batch_count, next;
    size_t accepted; /* in all batches */
    bool first;      /* the batch follows MAIL */
    bool written;    /* pipelined: all of it was sent in one write */
    bool mail_due;   /* MAIL, or the reply to it, is due */
    bool smtputf8;   /* sent with MAIL */
    enum transaction_data data;
    struct deadline data_until; /* for the reply to DATA; at_ms is 0 if it was sent with a batch */
    bool chunks;                /* mail data is sent with BDAT */
    unsigned chunks_due;        /* chunks whose replies have not been read */
    bool unconfirmed;           /* the end of data was sent and has no reply yet */
    struct reply *final_reply;  /* the owner's, who may move it between two calls */
};

/* Begins a transaction, on the existing connection or on one that the owner makes before the first batch is
 * sent. The envelope must outlive it. */
void transaction_begin(struct transaction *transaction, const struct envelope *envelope);

/* The result that lost_at() gets, in words; static text. */
const char *transaction_lost_reason(enum io_result result);

/* The owner decides the transaction with one of our own replies. */
void transaction_decide(struct transaction *transaction, enum own_reply why);

/* A batch is begun, filled with at most SESSION_BATCH_MAX recipients, and sent. COURIER_DATA is sent in the
 * same write if possible. Errors show in the replies read next. */
void transaction_begin_batch(struct transaction *transaction);
void transaction_add(struct transaction *transaction, const struct recipient *recipient);
void transaction_send_batch(struct transaction *transaction, enum courier_data data);
/* Reads the reply to the next recipient of the batch. */
void transaction_recipient_reply(struct transaction *transaction, struct reply *reply);

/* Sends DATA unless it was sent already; transaction_data_reply() reads the reply. True if it was sent now. */
bool transaction_send_data(struct transaction *transaction);
/* Reads the reply to DATA; after a 354 mail data may be written. A 354 after a refusal ends the connection.
 * If no recipient was accepted and DATA was not sent, it is not, and the reply is 554. */
void transaction_data_reply(struct transaction *transaction, struct reply *reply);

/* Writes mail data in the form that `chunks` says. Returns 0, or -1 if the transaction is decided. */
int transaction_write(struct transaction *transaction, const struct iovec *iov, int count);
/* Send the end of data, and read the reply to it as the final reply. Only in data. */
void transaction_send_end(struct transaction *transaction);
void transaction_read_final_reply(struct transaction *transaction, struct deadline deadline);

/* Is no command or reply pending, so that MAIL can follow, after RSET if it is `open`? */
bool transaction_is_clean(const struct transaction *transaction);
/* Sends RSET if it is due. False if the connection cannot be used any more. */
bool transaction_reset(struct transaction *transaction);

/* Closes at once, so that the next hop sees no end of data in what was written. */
void transaction_abort(struct transaction *transaction);

#endif
