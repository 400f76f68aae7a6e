/* smtp/courier.h - the interface between a session and where its mail goes
 *
 * A session knows nothing of delivery but this: it hands a transaction over in batches and gets a
 * reply for each step. relay-in's courier is a backend connection, relay-out's the fan-out to next
 * hops. One courier belongs to one session and may carry several transactions in turn.
 *
 * Promise 2 rests on end(): it is called only after the client's own strict end of data and after
 * every check, and it alone writes an end of data upstream. abort() must leave the next hop
 * without one (the connection is dropped).
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_COURIER_H
#define POSTERN_SMTP_COURIER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "base/address.h"
#include "net/stream.h"
#include "smtp/command.h"
#include "smtp/path.h"
#include "smtp/reply.h"

/* Who sends, as the session knows it. Owned by the session; it may change between transactions
 * (a new EHLO), never within one. */
struct client_identity {
    struct address address; /* with port */
    struct address local;   /* what it connected to */
    const char *helo;       /* its EHLO/HELO argument */
    bool esmtp;             /* EHLO */
    bool tls;
    const char *session_id; /* for logs */
};

struct envelope {
    const struct client_identity *client;
    struct path sender;
    uint64_t size; /* SIZE=, 0 = not said */
    enum mail_body body;
    bool smtputf8;
    const char *id; /* transaction id */
};

struct courier;

struct courier_ops {
    /* Writes a batch of recipients to the next hop, in one write: behind the envelope if they are
     * the transaction's first, and followed by DATA when `data` is set. Connects if need be. It
     * does not fail: what goes wrong is told by the replies asked for next. */
    void (*send)(struct courier *courier, const struct envelope *envelope,
                 const struct path *recipients, size_t count, bool data);
    /* The reply to each recipient of the batch, in order, `count` times. */
    void (*recipient_reply)(struct courier *courier, struct reply *reply);
    /* The reply to DATA, after the recipients': 354, or why not. */
    void (*data_reply)(struct courier *courier, struct reply *reply);
    /* Canonical mail data. 0, or -1 when the next hop is lost: the session then drains the client
     * and asks end_reply() for the reason. The trace header comes first, as any bytes. */
    int (*write)(struct courier *courier, const struct iovec *iov, int count);
    /* Writes the end of data and reads the final reply; after a failed write() only gives the
     * reply. The transaction is over. */
    void (*end)(struct courier *courier, struct reply *reply);
    /* The transaction is over without data (RSET, EHLO, refused MAIL); the connection may stay. */
    void (*reset)(struct courier *courier);
    /* The transaction dies in mid-data: the next hop must never see an end of data. */
    void (*abort)(struct courier *courier);
    /* Takes leave of the next hop in good order and frees. The session does so whenever it goes
     * idle, greets anew or ends, so that an idle client holds nothing at a next hop. */
    void (*free)(struct courier *courier);
};

struct courier {
    const struct courier_ops *ops;
};

#endif
