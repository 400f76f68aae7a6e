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
#include "base/wakeup.h"
#include "dns/reverse.h"
#include "net/stream.h"
#include "smtp/command.h"
#include "smtp/path.h"
#include "smtp/reply.h"

/* Who sends, as the session knows it. Owned by the session; it may change between transactions
 * (a new EHLO), never within one. */
struct client_identity {
    struct address address;       /* with port */
    struct address local;         /* what it connected to */
    const char *helo;             /* its EHLO/HELO argument, cleaned for log and trace */
    bool helo_is_valid;           /* it came like that, and may be said to others */
    struct reverse_lookup *names; /* of the address; NULL: not looked up */
    bool esmtp;                   /* EHLO */
    bool tls;
    bool authenticated;     /* has logged in through the courier that it has */
    bool unlimited;         /* no limit holds for its network */
    const char *session_id; /* for logs */
};

struct envelope {
    const struct client_identity *client;
    struct path sender;
    uint64_t size; /* SIZE=, 0 = not said */
    enum mail_body body;
    bool smtputf8; /* asked for: said to a next hop that has it */
    bool is_utf8;  /* the sender or the header is, so that a next hop must have it; of the header
                      that is known before it is written */
    bool requiretls;
    bool tls_optional; /* the header says "TLS-Required: No" (RFC 8689 5), where that is known */
    char ret[5];               /* RET=, "" = not said (RFC 3461 4.3) */
    char envid[ENVID_MAX + 1]; /* ENVID=, xtext as it came, "" = not said */
    const char *id;            /* transaction id */
};

/* Says nothing yet; the room for its texts is left as it is. To be freed with free(). NULL: no memory. */
struct envelope *envelope_new(void);

struct recipient {
    struct path path;
    char notify[NOTIFY_MAX + 1]; /* NOTIFY=, "" = not said (RFC 3461 4.1) */
    char orcpt[ORCPT_MAX + 1];   /* ORCPT=, "type;xtext" as it came, "" = not said */
};

/* A recipient holds a path, which holds a pointer into itself: copy it only with this. */
void recipient_copy(struct recipient *to, const struct recipient *from);

/* How the mail data is wanted by the next hop. */
enum courier_form {
    COURIER_LINES,  /* lines with dots stuffed, as behind DATA */
    COURIER_CHUNKS, /* the octets of the message, as behind BDAT (RFC 3030) */
};

/* Recipients of one batch, at most. */
#define SESSION_BATCH_MAX 32

/* What follows a batch of recipients. */
enum courier_data {
    COURIER_NOTHING,
    COURIER_DATA,        /* the client has said DATA */
    COURIER_CHUNKED_DATA /* it has said BDAT: the next hop may get either */
};

struct courier;

struct courier_ops {
    /* Buffers for its next hop, for as long as a worker runs the session; NULL: it is to give them back,
     * and waits for its client without any. free() may come in either state. The member may be NULL:
     * it has its own. */
    void (*lend)(struct courier *courier, struct stream_buffers *buffers);
    /* Asked before a recipient, or a log-in (`recipient` is then NULL), is handed over: would that
     * wait for anything but an answer of its next hop (a free connection there, the client's name)?
     * 0: no. Otherwise the time, on the clock of deadline_now_ms(), until which the session shall
     * let go of its worker: it asks again with the same recipient then, or when `wakeup` is called.
     * At the latest then the answer is 0, and what is missing shows in the replies. The session
     * may go on without asking again. `wakeup` is good until free(). NULL: never. */
    int64_t (*prepare)(struct courier *courier, const struct client_identity *client,
                       const struct recipient *recipient, struct wakeup *wakeup);
    /* Between two transactions: do others wait for what it holds? Then the session lets go of it
     * at once. NULL: no. */
    bool (*is_wanted)(struct courier *courier);
    /* Writes a batch of recipients to the next hop, in one write: behind the envelope if they are
     * the transaction's first, and followed by DATA where that is asked for. Connects if need be.
     * It does not fail: what goes wrong is told by the replies asked for next. */
    void (*send)(struct courier *courier, const struct envelope *envelope,
                 const struct recipient *recipients, size_t count, enum courier_data data);
    /* The reply to each recipient of the batch, in order, `count` times. */
    void (*recipient_reply)(struct courier *courier, struct reply *reply);
    /* After the recipients' replies, instead of data_reply() at once: sends DATA if it has not gone
     * out yet. True when the client gains a round trip by being told to begin now: data_reply() is
     * then asked when mail data has come, and before any of it is written; only abort() may come in
     * its place. NULL: never. */
    bool (*ask_data)(struct courier *courier);
    /* The reply to DATA, after the recipients': 354, or why not. Sets `form`; COURIER_CHUNKS only
     * for chunked data. What refused behind ask_data() is told by end() again. */
    void (*data_reply)(struct courier *courier, struct reply *reply);
    /* Mail data in the form that was said. 0, or -1 when the next hop is lost: the session then
     * drains the client and asks end() for the reason. The trace header comes first, as any
     * bytes. */
    int (*write)(struct courier *courier, const struct iovec *iov, int count);
    /* Writes the end of data and reads the final reply; after a failed write(), or a refusal by
     * data_reply(), only gives the reply. The transaction is over. */
    void (*end)(struct courier *courier, struct reply *reply);
    /* The transaction is over without data (RSET, EHLO, refused MAIL); the connection may stay. */
    void (*reset)(struct courier *courier);
    /* The transaction dies in mid-data: the next hop must never see an end of data. */
    void (*abort)(struct courier *courier);
    /* One line of the client's AUTH dialog, without its end: the command, then each answer to a
     * challenge. 334 asks for more, any other reply ends it. NULL: the session checks passwords
     * itself. */
    void (*authenticate)(struct courier *courier, const struct client_identity *client,
                         const char *line, size_t len, struct reply *reply);
    /* Takes leave of the next hop in good order and frees. The session does so whenever it goes
     * idle, greets anew or ends, so that an idle client holds nothing at a next hop. */
    void (*free)(struct courier *courier);
};

struct courier {
    const struct courier_ops *ops;
    bool stored;            /* set by end(): the message, or a part of it, is in our own spool */
    enum courier_form form; /* set by data_reply() */
    bool wants_slot; /* set by prepare(): other sessions of its route hold what it waits for */
};

#endif
