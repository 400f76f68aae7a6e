/* smtp/session.h - the server side of one SMTP connection (RFC 5321)
 *
 * session_run() works on a connection for as long as its client has something to say, in straight
 * code, and returns when it would have to wait for anything but its own next hop: SESSION_IDLE
 * between commands with nothing open, SESSION_WAITING in the middle of a line, a handshake, a
 * transaction or mail data, with a reply that its client does not take, or before a command that
 * needs what is not there yet (session_awaits() says which; the gate keeps it and no worker is
 * held), SESSION_CLOSED when the connection is over. The command table in session-commands.c names
 * every verb with the states in which it is legal and the function that serves it.
 *
 * A session owns its stream (not its descriptor), its courier and what it knows of the client.
 * Rules (configuration and policy) are an immutable snapshot it only borrows; the connection that
 * holds the session keeps the snapshot alive. Used by one thread at a time.
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

/* ESMTP extensions that depend on the next hop. */
enum {
    EXTENSION_8BITMIME = 1 << 0,
    EXTENSION_SMTPUTF8 = 1 << 1,
    EXTENSION_ENHANCEDSTATUSCODES = 1 << 2,
    EXTENSION_DSN = 1 << 3,
    EXTENSION_CHUNKING = 1 << 4,
    EXTENSION_BINARYMIME = 1 << 5, /* only with CHUNKING */
    EXTENSION_REQUIRETLS = 1 << 6, /* only said under TLS */
};

/* What can be announced now. */
struct session_offer {
    unsigned extensions;                 /* EXTENSION_... */
    uint64_t size_limit;                 /* octets; 0 = none known */
    unsigned recipients;                 /* of a transaction; 0 = no limit but ours */
    char mechanisms[MECHANISMS_MAX + 1]; /* of AUTH; "" = none. Only said under TLS */
};

/* What the daemon decides; implemented by in/ and out/. All functions are thread-safe. */
struct session_policy {
    /* REPLY_OK, or why this recipient is refused before any contact with a next hop. All have a
     * domain but "postmaster", into which one may be written. `route` is where it goes: recipients of one transaction
     * must all have the same, and the courier is made for it. */
    enum own_reply (*check_recipient)(void *context, struct path *recipient, const void **route);
    /* Fills the offer, which is all zero. */
    void (*offer)(void *context, struct session_offer *offer);
    /* The same of what holds for one route. The member may be NULL: all have the same. */
    void (*offer_route)(void *context, const void *route, struct session_offer *offer);
    /* A courier for one session and route (NULL: the only one), or NULL when out of memory. */
    struct courier *(*courier_new)(void *context, const void *route);
    /* Begins to look up the names of a client: a reference, or NULL. The member may be NULL. */
    struct reverse_lookup *(*identify)(void *context, const struct address *client);
    /* REPLY_OK, or why a client of this address is not served at all. For those that XCLIENT
     * names. */
    enum own_reply (*serves)(void *context, const struct address *client);
    void *context;
    /* Is this the user's password? Takes as long for an unknown user. NULL: the courier passes AUTH
     * on. Otherwise REPLY_OK, or what the client is told, not before `answer_at_ms` (0: at once; no
     * worker waits for it). */
    enum own_reply (*check_password)(void *context, const struct address *client, const char *user,
                                     const char *password, int64_t *answer_at_ms);
    /* May this sender be used? `user` is who has logged in by check_password(), or NULL. The member
     * may be NULL. */
    enum own_reply (*check_sender)(void *context, const char *user, const struct path *sender);
};

struct session_rules {
    const char *hostname;        /* ours: banner, EHLO, Received */
    uint64_t message_size;       /* octets, upper bound */
    unsigned recipients;         /* accepted ones of a transaction */
    unsigned errors;             /* refused or malformed commands before 421 */
    unsigned junk_commands;      /* NOOP, RSET, EHLO, VRFY, HELP without mail before 421 */
    unsigned refused_recipients; /* of a session, passed to the next hop before 451 */
    unsigned received_headers;   /* more are a loop */
    enum dataline_mode bare_newlines;
    int64_t park_after_ms;      /* a client silent for so long gives the worker back */
    int64_t command_timeout_ms; /* between commands */
    int64_t line_timeout_ms;    /* from the first octet of a command line to its end */
    int64_t handshake_timeout_ms;
    int64_t data_timeout_ms;       /* without any octet of mail data */
    int64_t data_grace_ms;         /* for all mail data, beside what its octets give */
    uint64_t min_data_rate;        /* octets/s: under it mail data runs out of time; 0 = none */
    int64_t message_timeout_ms;    /* from MAIL to the end of the mail data; 0 = for ever */
    int64_t session_timeout_ms;    /* afterwards no transaction begins; 0 = for ever */
    int64_t stress_timeout_ms;     /* under stress no wait for the client is longer; 0 = none */
    unsigned stress_errors;        /* `errors` under stress; 0 = the same */
    unsigned stress_junk_commands; /* `junk_commands` under stress; 0 = the same */
    uint64_t drain_octets;         /* refused mail data is read away up to here ... */
    int64_t drain_timeout_ms;      /* ... and for so long, before 421 */
    struct tls_server *tls;        /* NULL: STARTTLS is not offered */
    const struct cidr_set *no_tls; /* clients to which it is not offered either */
    const struct cidr_set *xclient_hosts; /* peers that may say for whom they speak */
    bool submission;                      /* mail only from clients that have logged in ... */
    const struct cidr_set *trusted;       /* ... or are of these networks; NULL: none */
    bool hide_client;                     /* no word of the client in the Received line */
    struct session_policy policy;
    struct counters *counters; /* borrowed; NULL: nothing is counted */
};

/* What a worker lends while it runs a session: nothing of it outlives the call. */
struct session_scratch {
    struct stream_buffers client;   /* in: at least 64 KiB; out: at least REPLY_WIRE_MAX * 2 */
    struct stream_buffers next_hop; /* in: replies; out: a batch of commands, or a small message */
    struct recipient *recipients; /* SESSION_BATCH_MAX of them */
    struct reply reply;
};

/* 0, or -1 when out of memory. */
int session_scratch_init(struct session_scratch *scratch);
void session_scratch_free(struct session_scratch *scratch);

enum session_result {
    SESSION_IDLE,    /* nothing to read, nothing open at a next hop: park it */
    SESSION_WAITING, /* in the middle of something: resume it on what session_awaits() says, or at
                        session_due_ms() */
    SESSION_CLOSED,  /* the stream is closed; free the session */
};

/* What a waiting session waits for. */
enum session_awaited {
    SESSION_AWAITS_INPUT,  /* octets of its client */
    SESSION_AWAITS_OUTPUT, /* room for what its client is told */
    SESSION_AWAITS_GRANT,  /* a call of its wakeup; its client can do nothing about it */
};

/* What the gate and all its sessions tell each other. */
struct session_signals {
    atomic_bool draining;  /* the daemon shuts down: nothing new begins */
    atomic_bool stressed;  /* workers or connections are getting few */
    atomic_bool half_busy; /* more than half of the workers are taken at this moment */
    atomic_uint patient;   /* told by them: workers that only wait for a client, not for long */
};

/* What is said to every MAIL of a client that may talk, but not send (for now). */
struct session_deferral {
    enum own_reply why;
    char client[ADDRESS_TEXT_MAX]; /* the arguments of its text, where it has some */
    char list[DNS_NAME_MAX];
};

struct session;

/* Borrows `fd`: who lent it closes it, as soon as the session is over. `implicit_tls`:
 * the handshake comes first and the session sends the banner itself; otherwise the gate has sent
 * it. NULL when out of memory. */
struct session *session_new(int fd, const struct address *client, const struct address *local,
                            bool implicit_tls, const struct session_rules *rules,
                            struct session_signals *signals);

/* Borrows `deferral` for the session's life. Before the first session_run(). */
void session_set_deferral(struct session *session, const struct session_deferral *deferral);

/* The same: called when what it awaits is granted. NULL: it is looked after at its time only. */
void session_set_wakeup(struct session *session, struct wakeup *wakeup);

/* Takes over a look-up of the client's names, in place of one that policy.identify would begin. */
void session_set_names(struct session *session, struct reverse_lookup *names);

/* No limit that holds for a client's network holds for this one's. */
void session_set_unlimited(struct session *session);

enum session_result session_run(struct session *session, struct session_scratch *scratch);

/* For the gate, on a session that is not running: what a waiting one waits for; when it has waited
 * long enough (on the clock of deadline_now_ms()); whether it holds a connection of a next hop; how
 * much longer (ms) than at the least rate its client has made its transaction wait so far; make it
 * give up when it is resumed next. */
enum session_awaited session_awaits(const struct session *session);
int64_t session_due_ms(const struct session *session);
bool session_holds_next_hop(const struct session *session);
int64_t session_slowness_ms(const struct session *session, int64_t now_ms);
void session_evict(struct session *session);
/* Does it wait for what other sessions with the same next hop hold? Which next hop does it hold, or
 * want? */
bool session_wants_slot(const struct session *session);
const void *session_route(const struct session *session);
/* A client that has made its transaction wait for so long has had its time. */
int64_t session_grace_ms(const struct session *session);

/* XCLIENT has named this client, who is to be judged as one who connects himself; NULL: there is
 * nobody to judge. The session waits for a grant, and for session_admit() before it. */
const struct address *session_introduced(const struct session *session);
/* The verdict: `refusal` is said, and the session ends; NULL: it goes on, with `deferral` as in
 * session_set_deferral(). Both are borrowed for the session's life. */
void session_admit(struct session *session, const struct session_deferral *refusal,
                   const struct session_deferral *deferral, bool unlimited);

/* The same, on one that holds no next hop: says this and hangs up, without waiting. */
void session_dismiss(struct session *session, enum own_reply why);

/* Closes whatever is open and frees. */
void session_free(struct session *session);

/* The banner that the gate sends ("220 host ESMTP" CRLF). Returns its length. */
size_t session_banner(const struct session_rules *rules, char *out, size_t size);

#endif
