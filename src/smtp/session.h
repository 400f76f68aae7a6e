/* smtp/session.h - the server side of one SMTP connection (RFC 5321)
 *
 * session_run() works on a connection in straight code as long as its client sends something. It returns
 * when it would have to wait for anything but its own next hop. SESSION_IDLE: between commands, with
 * nothing open. SESSION_WAITING: in the middle of a line, a handshake, a transaction or mail data; with a
 * reply that its client does not read; or before a command that needs something not available yet.
 * session_awaits() says which; the gate keeps the session, which holds no worker. SESSION_CLOSED: the
 * connection is over. The command table in session-commands.c has every verb, the states in which it is
 * legal, and the function that handles it.
 *
 * A session owns its stream (not its descriptor), its courier and what it knows about the client. It
 * borrows the rules (configuration and policy), an immutable snapshot that the connection keeps alive.
 * Used by one thread at a time.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_SESSION_H
#define POSTERN_SMTP_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"
#include "base/cidr.h"
#include "dns/name.h"
#include "net/stream.h"
#include "net/tls.h"
#include "smtp/counters.h"
#include "smtp/courier.h"
#include "smtp/dataline.h"
#include "smtp/path.h"
#include "smtp/reply.h"

/* What can be announced now. */
struct session_offer {
    unsigned extensions;                 /* EXTENSION_... */
    uint64_t size_limit;                 /* octets; 0 = none known */
    unsigned recipients;                 /* per transaction; 0 = only our own limit */
    char mechanisms[MECHANISMS_MAX + 1]; /* of AUTH; "" = none. Only announced under TLS */
};

/* The daemon's decisions, implemented by relay-in/ and relay-out/. All functions are thread-safe. */
struct session_policy {
    /* Returns REPLY_OK, or why this recipient is refused without asking a next hop. Every recipient has a
     * domain except "postmaster", to which the function may add one. `route` is where it goes: all
     * recipients of a transaction must have the same, and the courier is made for it. */
    enum own_reply (*check_recipient)(void *context, struct path *recipient, const void **route);
    /* Fills the offer, which starts as all zero. */
    void (*offer)(void *context, struct session_offer *offer);
    /* The same for one route. The member may be NULL: all routes have the same. */
    void (*offer_route)(void *context, const void *route, struct session_offer *offer);
    /* Makes a courier for one session and route (NULL: the only one). NULL if out of memory. */
    struct courier *(*courier_new)(void *context, const void *route);
    /* Begins to look up a client's names. Returns the caller's reference, or NULL. The member may be
     * NULL. */
    struct reverse_lookup *(*identify)(void *context, const struct address *client);
    /* Returns REPLY_OK, or why a client with this address is not served at all. For clients that XCLIENT
     * names. */
    enum own_reply (*serves)(void *context, const struct address *client);
    void *context;
    /* Is this the user's password? It takes as long for an unknown user. Returns REPLY_OK, or the reply
     * for the client, which is sent at `answer_at_ms` (0: at once); no worker waits for that. The member
     * may be NULL: the courier passes AUTH on. */
    enum own_reply (*check_password)(void *context, const struct address *client, const char *user,
                                     const char *password, int64_t *answer_at_ms);
    /* May this sender be used? `user` has logged in by check_password(), or is NULL. Returns REPLY_OK or
     * the refusal. The member may be NULL. */
    enum own_reply (*check_sender)(void *context, const char *user, const struct path *sender);
    /* Counts the reply to a recipient. `verdict` is REPLY_OK if the courier gave it, otherwise why the session
     * did. The member may be NULL. */
    void (*count_recipient)(void *context, const struct reply *reply, enum own_reply verdict);
};

struct session_rules {
    const char *hostname;        /* ours: banner, EHLO, Received */
    uint64_t message_size;       /* octets, upper bound */
    unsigned recipients;         /* accepted ones per transaction */
    unsigned errors;             /* refused or malformed commands before 421 */
    unsigned junk_commands;      /* NOOP, RSET, EHLO, VRFY, HELP without mail before 421 */
    unsigned refused_recipients; /* per session, refused by the next hop, before 451 */
    unsigned received_headers;   /* more mean a loop */
    enum dataline_mode bare_newlines;
    int64_t park_after_ms;      /* a client silent this long loses its worker */
    int64_t command_timeout_ms; /* between commands */
    int64_t line_timeout_ms;    /* from the first octet of a command line to its end */
    int64_t handshake_timeout_ms;
    int64_t data_timeout_ms;       /* without any octet of mail data */
    int64_t data_grace_ms;         /* for all mail data, on top of what its octets earn */
    uint64_t min_data_rate;        /* octets/s, below which mail data times out; 0 = none */
    int64_t message_timeout_ms;    /* from MAIL to the end of the mail data; 0 = no limit */
    int64_t session_timeout_ms;    /* after it no transaction begins; 0 = no limit */
    int64_t stress_timeout_ms;     /* longest wait for the client under stress; 0 = no limit */
    unsigned stress_errors;        /* `errors` under stress; 0 = the same */
    unsigned stress_junk_commands; /* `junk_commands` under stress; 0 = the same */
    uint64_t drain_octets;         /* refused mail data is discarded up to this size ... */
    int64_t drain_timeout_ms;      /* ... and for this time, before 421 */
    struct tls_server *tls;        /* NULL: STARTTLS is not offered */
    const struct cidr_set *no_tls; /* clients to which it is not offered */
    const struct cidr_set *xclient_hosts; /* peers that may name the client with XCLIENT */
    bool submission;                      /* mail only from clients that have logged in ... */
    const struct cidr_set *trusted;       /* ... or are in these networks; NULL: none */
    bool hide_client;                     /* don't show the client in the Received line */
    struct session_policy policy;
    struct counters *counters; /* borrowed; NULL: nothing is counted */
};

/* What a worker lends while it runs a session. Its contents do not survive the call. */
struct session_scratch {
    struct stream_buffers client; /* in: at least 64 KiB; out: at least REPLY_WIRE_MAX * 2 */
    struct courier_loan next_hop;
    struct recipient *recipients; /* SESSION_BATCH_MAX of them */
    struct reply reply;
};

/* Returns 0, or -1 if out of memory. */
int session_scratch_init(struct session_scratch *scratch);
void session_scratch_free(struct session_scratch *scratch);

enum session_result {
    SESSION_IDLE,    /* nothing to read, nothing open at a next hop: park it */
    SESSION_WAITING, /* in the middle of something: resume it when what session_awaits() says
                        happens, or at session_due_ms() */
    SESSION_CLOSED,  /* the stream is closed; free the session */
};

/* What a waiting session waits for. */
enum session_awaited {
    SESSION_AWAITS_INPUT,  /* octets from its client */
    SESSION_AWAITS_OUTPUT, /* room to send to its client */
    SESSION_AWAITS_GRANT,  /* a call of its wakeup; not in its client's hands */
};

/* What the gate and its sessions tell each other. */
struct session_signals {
    atomic_bool draining; /* the daemon shuts down: begin nothing new */
    atomic_bool stressed; /* few workers or connections are free */
    atomic_bool crowded;  /* fewer than a quarter of the workers are free now */
    atomic_uint patient;  /* set by sessions: workers that linger for a client */
};

/* The reply to every MAIL of a client that is greeted but may not send, perhaps only for now. */
struct session_deferral {
    enum own_reply why;
    char client[ADDRESS_TEXT_MAX]; /* the arguments of the reply's text, if it has any */
    char list[DNS_NAME_MAX];
};

struct session;

/* What a session begins with. It borrows everything for its life, except the addresses and the look-up. */
struct session_start {
    int fd; /* its owner closes it once the session is over */
    const struct address *client, *local;
    bool
        implicit_tls; /* the handshake comes first, then the session sends the banner; otherwise the gate has sent it */
    bool unlimited; /* the client is exempt from the limits per network */
    const struct session_rules *rules;
    struct session_signals *signals;
    const struct session_deferral *deferral; /* NULL: the client may send */
    struct wakeup *
        wakeup; /* called when what the session waits for is granted; NULL: it is only resumed at its due
                              time */
    struct reverse_lookup
        *names; /* of the client; the session's from now on; NULL: not looked up */
};

/* Makes a session, which the caller frees with session_free(). NULL if out of memory; the look-up is then still the
 * caller's. */
struct session *session_new(const struct session_start *start);

/* Works until the session is over or must wait. `called_ms`, on the clock of deadline_now_ms(), is when it was handed
 * to the pool: its client is not to blame for the wait for a worker since then. */
enum session_result session_run(struct session *session, struct session_scratch *scratch,
                                int64_t called_ms);

/* For the gate, on a session that is not running: what a waiting session waits for; when it is due, in ms on the
 * clock of deadline_now_ms(); whether it holds a connection to a next hop; whether it is between two messages, and may
 * hold that only for one that may not come; how much longer, in ms, its client has made the transaction wait than the
 * minimum rate allows; to make it give up when it is next resumed; and that its client is gone, so that it then ends
 * without asking anybody for anything. */
enum session_awaited session_awaits(const struct session *session);
int64_t session_due_ms(const struct session *session);
bool session_holds_next_hop(const struct session *session);
bool session_is_between_messages(const struct session *session);
int64_t session_slowness_ms(const struct session *session, int64_t now_ms);
void session_evict(struct session *session);
void session_vanish(struct session *session);
/* For the thread that has it: has a handshake with the client succeeded? */
bool session_has_used_tls(const struct session *session);
/* Does it wait for something that other sessions with the same next hop hold? Which next hop does it hold or
 * want? */
bool session_wants_slot(const struct session *session);
const void *session_route(const struct session *session);
/* How long, in ms, a client may make its transaction wait. */
int64_t session_grace_ms(const struct session *session);

/* The client that XCLIENT has named, which must be checked like one that connects itself; NULL: none. The session
 * waits for session_admit() and then for its wakeup. */
const struct address *session_introduced(const struct session *session);
/* The verdict on that client. With `refusal`, the session sends it and ends; with NULL it continues, with
 * `deferral` as at its start. Both are borrowed for the session's life. */
void session_admit(struct session *session, const struct session_deferral *refusal,
                   const struct session_deferral *deferral, bool unlimited);

/* For the gate, on a session that holds no next hop: sends this reply and hangs up, without waiting. */
void session_dismiss(struct session *session, enum own_reply why);

/* Closes everything that is open and frees. */
void session_free(struct session *session);

/* Writes the banner that the gate sends ("220 host ESMTP" CRLF). Returns its length in octets. */
size_t session_banner(const struct session_rules *rules, char *out, size_t size);

#endif
