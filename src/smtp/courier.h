/* smtp/courier.h - the interface between a session and the destination of its mail
 *
 * This is all that a session knows about delivery: it hands a transaction over in batches and gets a
 * reply for each step. relay-in's courier is a backend connection, relay-out's the fan-out to next hops.
 * A courier belongs to one session, may carry several transactions in turn, and is used by one thread at
 * a time.
 *
 * Promise 2 depends on end(). It is called only after the client's own strict end of data and after
 * every check, and only it writes an end of data upstream. abort() must leave the next hop without one,
 * by dropping the connection.
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

/* Extensions of SMTP, as next hops announce them and clients are offered them. */
enum {
    EXTENSION_PIPELINING = 1 << 0,
    EXTENSION_SIZE = 1 << 1,
    EXTENSION_8BITMIME = 1 << 2,
    EXTENSION_SMTPUTF8 = 1 << 3,
    EXTENSION_ENHANCEDSTATUSCODES = 1 << 4,
    EXTENSION_STARTTLS = 1 << 5,
    EXTENSION_XCLIENT = 1 << 6,
    EXTENSION_DSN = 1 << 7,
    EXTENSION_CHUNKING = 1 << 8,
    EXTENSION_BINARYMIME = 1 << 9,  /* offered only with CHUNKING */
    EXTENSION_REQUIRETLS = 1 << 10, /* offered only under TLS */
    EXTENSION_AUTH = 1 << 11,
    EXTENSION_AUTH_PLAIN = 1 << 12, /* even if a list of mechanisms has no room for it */
    EXTENSION_AUTH_LOGIN = 1 << 13,
};

/* The client, as the session knows it. The session owns it. It may change between transactions (a new EHLO),
 * never within one, except that `esmtp` may become true. */
struct client_identity {
    struct address address;       /* with port */
    struct address local;         /* the address that it connected to */
    const char *helo;             /* its EHLO/HELO argument, cleaned for log and trace */
    bool helo_is_valid;           /* `helo` is as received, and can be passed on */
    struct reverse_lookup *names; /* of the address; NULL: not looked up */
    bool esmtp;                   /* EHLO, or an extension was used */
    bool tls;
    bool authenticated;     /* has logged in through its current courier */
    bool unlimited;         /* no limit applies to its network */
    const char *session_id; /* for logs */
};

struct envelope {
    const struct client_identity *client;
    struct path sender;
    uint64_t size; /* SIZE=, octets; 0 = not given */
    enum mail_body body;
    bool smtputf8; /* given by the client: passed to a next hop that offers it */
    bool is_utf8;  /* sender or header is UTF-8, so the next hop must offer SMTPUTF8; for the
                      header, set before it is written */
    bool requiretls;
    bool tls_optional;         /* the header has "TLS-Required: No" (RFC 8689 5), as far as known */
    enum mail_ret ret;
    char envid[ENVID_MAX + 1]; /* ENVID=, xtext as received, "" = not given */
    const char *id;            /* transaction id */
};

/* Makes an empty envelope, without clearing its text buffers. The caller frees it with free(3). NULL if out
 * of memory. */
struct envelope *envelope_new(void);

struct recipient {
    struct path path;
    unsigned notify;             /* NOTIFY_... */
    char orcpt[ORCPT_MAX + 1];   /* ORCPT=, "type;xtext" as received, "" = not given */
};

/* A recipient contains a path, which contains a pointer into itself: copy it only with this. */
void recipient_copy(struct recipient *to, const struct recipient *from);

/* The form in which the next hop takes mail data. */
enum courier_form {
    COURIER_LINES,  /* lines with dots stuffed, as after DATA */
    COURIER_CHUNKS, /* the octets of the message, as after BDAT (RFC 3030) */
};

/* The most recipients in one batch. */
#define SESSION_BATCH_MAX 32

/* What follows a batch of recipients. */
enum courier_data {
    COURIER_NOTHING,
    COURIER_DATA,        /* the client has sent DATA */
    COURIER_CHUNKED_DATA /* it has sent BDAT: the next hop may get either */
};

struct courier;

/* What a worker lends for one next hop. */
struct courier_loan {
    struct stream_buffers buffers; /* in: replies; out: a batch of commands, or a small message */
    struct reply reply;
};

struct courier_ops {
    /* Lends this while a worker runs the session. NULL takes it back, because the session waits for its
     * client without. free() may come in either state. The member may be NULL: the courier has its
     * own. */
    void (*lend)(struct courier *courier, struct courier_loan *loan);
    /* Called before a recipient or a login (`recipient` is then NULL) is handed over: would that wait
     * for anything but a reply of the next hop (a free connection there, the client's name)? 0: no.
     * Otherwise the time, in ms on the clock of deadline_now_ms(), until which the session must release
     * its worker. It asks again with the same recipient then, or when `wakeup` is called. By that time
     * the answer is 0, or there is something else to wait for; what is missing in the end shows in the
     * replies. The session may continue without asking again. `wakeup` is valid until free(). The member
     * may be NULL: never waits. */
    int64_t (*prepare)(struct courier *courier, const struct client_identity *client,
                       const struct recipient *recipient, struct wakeup *wakeup);
    /* Between two transactions: do others wait for what the courier holds? Then the session releases it
     * at once. The member may be NULL: no. */
    bool (*is_wanted)(struct courier *courier);
    /* Writes a batch of recipients to the next hop, in one write: after the envelope if they are the
     * transaction's first, and followed by DATA if `data` says so. Connects if necessary. It never
     * fails: errors show in the replies read next. */
    void (*send)(struct courier *courier, const struct envelope *envelope,
                 const struct recipient *recipients, size_t count, enum courier_data data);
    /* Reads the reply to the next recipient of the batch. Called `count` times, in order. */
    void (*recipient_reply)(struct courier *courier, struct reply *reply);
    /* Called after the recipients' replies, before data_reply(): sends DATA if it has not been sent yet.
     * True if the client saves a round trip by being told to begin now. data_reply() is then called
     * when mail data arrives, before any of it is written; only abort() may come instead. The member
     * may be NULL: never. */
    bool (*ask_data)(struct courier *courier);
    /* Reads the reply to DATA, after the recipients' replies: 354, or a refusal. Sets `form`;
     * COURIER_CHUNKS only for chunked data. A refusal that arrives after ask_data() is reported by
     * end(). */
    void (*data_reply)(struct courier *courier, struct reply *reply);
    /* Writes mail data in the form that data_reply() set. Returns 0, or -1 if the next hop is lost: the
     * session then drains the client and asks end() for the reason. The trace header comes first, like
     * any other bytes. */
    int (*write)(struct courier *courier, const struct iovec *iov, int count);
    /* Writes the end of data and reads the final reply. After a failed write(), or a refusal in
     * data_reply(), only returns the reply. The transaction is over. */
    void (*end)(struct courier *courier, struct reply *reply);
    /* Ends the transaction without data (RSET, EHLO, refused MAIL). The connection may stay. */
    void (*reset)(struct courier *courier);
    /* Ends the transaction in mid-data: the next hop must never see an end of data. */
    void (*abort)(struct courier *courier);
    /* Passes on one line of the client's AUTH dialog, without its end: the command, then each response
     * to a challenge. A 334 asks for more, any other reply ends the dialog. The member may be NULL: the
     * session checks passwords itself. */
    void (*authenticate)(struct courier *courier, const struct client_identity *client,
                         const char *line, size_t len, struct reply *reply);
    /* Ends the connection in an orderly way and frees. The session does this whenever it goes idle,
     * gets a new EHLO or ends, so that an idle client holds nothing at a next hop. */
    void (*free)(struct courier *courier);
};

struct courier {
    const struct courier_ops *ops;
    bool stored; /* set by end(): our spool has the message, for some recipients at least */
    enum courier_form form; /* set by data_reply() */
    bool wants_slot; /* set by prepare(): other sessions of its route hold what it waits for */
};

#endif
