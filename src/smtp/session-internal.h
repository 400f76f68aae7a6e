/* smtp/session-internal.h - the parts of a session, for smtp/session*.c only
 *
 *   session.c          life cycle: new, run (await, take, answer), park, dismiss, free
 *   session-commands.c the command table: each verb with its states, check and act
 *   session-batch.c    recipients on their way to the courier, replies in the client's order
 *   session-wait.c     the phases: what the client must send next, and how long it may take
 *   session-data.c     mail data: client -> scanner -> courier, and every way it can end
 *   session-chunks.c   mail data sent with BDAT
 *   session-auth.c     the dialog of AUTH
 *   session-password.c PLAIN and LOGIN, if we check the passwords
 *   session-xclient.c  XCLIENT from hosts that may send it
 *   session-log.c      the lines that a session logs
 *
 * A session is its connection's, and used by one thread at a time: a worker, or the gate.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_SESSION_INTERNAL_H
#define POSTERN_SMTP_SESSION_INTERNAL_H

#include "smtp/mbox.h"
#include "smtp/session.h"

/* Bits, so that a row of the command table can name several. */
enum session_state {
    STATE_CONNECTED = 1 << 0, /* banner sent, no EHLO or HELO yet */
    STATE_READY = 1 << 1,     /* EHLO or HELO done */
    STATE_MAIL = 1 << 2,      /* there is a reverse-path */
    STATE_RCPT = 1 << 3,      /* there were recipients, accepted or not */
    STATE_CHUNKS = 1 << 4,    /* between two chunks of mail data */
};

#define SESSION_USER_MAX 255
#define SESSION_RECIPIENT_MAX 320 /* octets of a recipient shown in log and trace */

#define SESSION_SLICE_MS 50 /* a worker's time for one session if few workers are free */

/* What the client must send next. The table in session-wait.c has the unit, the due time and the handler of
 * each phase. */
enum session_phase {
    PHASE_COMMAND,   /* a command line that has not begun */
    PHASE_LINE,      /* the rest of a command line */
    PHASE_HANDSHAKE, /* its part of a TLS handshake */
    PHASE_ANSWER,    /* a line that answers an AUTH challenge */
    PHASE_DATA,      /* mail data after DATA */
    PHASE_CHUNK,     /* mail data after BDAT */
    PHASE_SKIP,      /* a chunk to be discarded */
};

/* What the client has sent. A `result` other than IO_OK says why there is nothing, or nothing more; IO_TIMEOUT
 * means that it is overdue. `line` is a line or octets of mail data, valid until the next read. */
struct session_input {
    enum io_result result;
    struct line line;
    struct error error; /* of a handshake; "" if `result` says everything */
};

/* The state of a login that we check ourselves: what the client's next line is. */
enum session_login { LOGIN_BEGINS, LOGIN_PLAIN, LOGIN_USER, LOGIN_PASSWORD };

#define SLOT_ASK 0xff /* the courier knows the reply; any other value is an enum own_reply */

/* Recipients read but not yet answered. Empty whenever the session waits for its client. */
struct session_batch {
    uint8_t slots[SESSION_BATCH_MAX]; /* one per RCPT command, in order */
    unsigned slot_count;
    unsigned ask_count; /* slots with SLOT_ASK; their recipients are in the scratch */
};

/* Mail data being transferred. Begins when the client is told to send it. */
struct transfer {
    struct dataline scanner;
    uint64_t size_limit;    /* of this message, octets */
    int64_t began_ms;       /* when the client was asked for it */
    bool refused;           /* the next hop gets nothing more */
    enum own_reply refusal; /* REPLY_OK: the courier knows the reply */
    uint64_t drained;
    struct deadline drain_deadline;
    struct mbox_lines mbox;
    bool trace_sent;
};

struct session {
    struct stream stream;
    const struct session_rules *rules;       /* borrowed */
    struct session_signals *signals;         /* borrowed */
    const struct session_deferral *deferral; /* borrowed; NULL: welcome */
    struct session_scratch *scratch;         /* borrowed during session_run(), otherwise NULL */
    struct wakeup *wakeup;                   /* borrowed; NULL: none */
    struct courier *courier;                 /* owned; NULL until the first recipient */
    const void *route;                       /* the courier's */
    char id[20];
    enum session_state state;
    bool implicit_tls;            /* the banner is still due, after the handshake */
    bool has_used_tls;
    bool evicted;                 /* give up where it would wait */
    bool closing;                 /* close after the reply just put */
    bool vanished;                /* nothing can be written any more */
    char helo[PATH_HELO_MAX + 1]; /* cleaned */
    struct client_identity client;
    char client_shown[ADDRESS_TEXT_MAX];    /* its address with port, for the log */
    struct address peer;                    /* the other end; is the client unless XCLIENT came */
    bool introduced;                        /* XCLIENT has named the client */
    bool awaits_admission;                  /* the client that XCLIENT named is being checked */
    const struct session_deferral *refusal; /* borrowed; NULL: that client is admitted */
    char user[SESSION_USER_MAX + 1];        /* logged in here, not at a next hop; "" = nobody */
    /* What the last EHLO reply offered, valid until the next one: extensions, and SIZE in octets. */
    unsigned offered;
    uint64_t offered_size;
    bool needs_ehlo; /* said HELO, but used an extension: session_renew_courier() is due */
    unsigned errors, junk, refused_recipients, transactions;
    unsigned overshoot; /* recipients that we deferred */
    struct session_batch batch;
    int64_t began_ms;
    /* Waiting for the client. */
    enum session_phase phase;
    bool waiting;          /* the clock of this phase is running, ... */
    int64_t wait_since_ms; /* ... since this time */
    int64_t run_since_ms;  /* start of the current session_run() */
    enum session_awaited awaited;
    int64_t granted_at_ms;   /* SESSION_AWAITS_GRANT: the latest time of the grant */
    int64_t held_until_ms;   /* when output is sent, and input read again; 0 = at once */
    int64_t unsent_since_ms; /* since when the client does not read replies; 0 = it does */
    int64_t parked_ms;       /* when it was last parked */
    int64_t client_ms;       /* how long its client has made the transaction wait */
    bool resumed;            /* it was parked before in this wait */
    bool progressed;         /* has earned linger since session_run() */
    uint64_t progress_octets;
    /* Mail data, or a chunk to skip: its clock, and how much has arrived. */
    int64_t data_since_ms, heard_ms;
    uint64_t data_octets;
    uint64_t chunk_left;
    bool chunk_last;
    struct reply *pending_reply; /* sent after a skipped chunk; owned */
    char mechanism[32];          /* of the current AUTH */
    unsigned auth_rounds;
    enum session_login login;
    /* The transaction. */
    struct envelope *envelope; /* owned; exists from MAIL to the end of the transaction */
    char transaction_id[32];
    int64_t started_ms;
    unsigned accepted, refused;                /* recipients */
    char recipient[SESSION_RECIPIENT_MAX + 1]; /* the first accepted one, possibly cut */
    bool recipient_is_cut;
    bool data_reply_due; /* the client got its 354 before we read the next hop's */
    struct transfer transfer;
};

/* session.c */
/* Sets the client's address, and its text for the log. */
void session_set_client(struct session *session, const struct address *client);
/* Puts a reply, which is flushed when the session next waits. A 421 also ends the session. */
void session_reply(struct session *session, const struct reply *reply);
void session_deferral_reply(const struct session_deferral *deferral, struct reply *reply);
void session_reply_own(struct session *session, enum own_reply which);
/* Ends the session with 421: too many errors. The batch must have been flushed. */
void session_give_up(struct session *session);
/* Refuses a command: puts the reply and counts an error. Too many end the session. */
void session_refuse(struct session *session, enum own_reply which);
/* Refuses what the client wants, logs that under `command`, and ends the session. */
void session_end_with(struct session *session, enum own_reply why, const char *command);
void session_put_banner(struct session *session);
void session_put(struct session *session, const char *bytes, size_t len);
void session_flush(struct session *session);
/* The client's verified name if it is known now, or NULL. Points into `names`. */
const char *session_client_name(const struct session *session, struct reverse_names *names);
/* Ends the transaction (RSET, EHLO, after data). */
void session_end_transaction(struct session *session);
/* Does the next hop have, or is it about to get, recipients of this transaction? Without any, the session
 * can be parked as idle. */
bool session_holds_transaction(const struct session *session);
/* Releases the next hop as well. */
void session_drop_courier(struct session *session);
/* Drops it if its connection may have begun with HELO and the client needs EHLO. Not in mid-message. */
void session_renew_courier(struct session *session);
/* Begins the handshake, which session_run() continues. */
void session_start_tls(struct session *session);
/* Stores what EHLO can announce now, within our own limits. */
void session_offer(const struct session *session, struct session_offer *offer);
/* The same for recipients of one route. */
void session_offer_route(const struct session *session, const void *route,
                         struct session_offer *offer);
/* Makes the courier if there is none. False if out of memory. */
bool session_ensure_courier(struct session *session, const void *route);
/* Must the current command, which takes this recipient (NULL: a login) to the courier, wait for something? Then
 * the command returns at once without effect, and its line is read again later. */
bool session_must_wait(struct session *session, const struct recipient *recipient);

/* session-commands.c */
/* The reply if mail that needs SMTPUTF8 cannot go by this route: for good if other routes have it, and for now if
 * what was offered has changed. REPLY_OK if it can. */
enum own_reply session_check_utf8(const struct session *session, const void *route);
/* Handles the command in this line. */
void session_command(struct session *session, const struct line *line);

/* session-batch.c */
/* Makes the courier fit a recipient of this route, or returns the reply that says why not. May hand over
 * earlier recipients for that. */
enum own_reply session_bind_route(struct session *session, const void *route);
/* Adds a recipient. With the verdict REPLY_OK, the courier gives the reply. */
void session_batch_add(struct session *session, const struct recipient *recipient,
                       enum own_reply verdict);
/* Hands the batch over, followed by `data`, and puts the replies to the recipients. True if the client may send
 * mail data: the next hop waits for it, or `data_reply_due` is set. Otherwise, if `data` was asked for, the
 * scratch has the reply that says why; the caller puts it and ends the transaction. */
bool session_batch_flush(struct session *session, enum courier_data data);

/* session-data.c */
/* A transfer begins, takes input, and ends in one of two ways. */
void session_transfer_begin(struct session *session, enum dataline_form form);
void session_transfer_take(struct session *session, const char *bytes, size_t len);
/* Ends mail data that came by BDAT. */
void session_transfer_finish(struct session *session);
void session_transfer_answer(struct session *session);
/* Gives up: the client is gone or too slow (`result`), or sends too much refused data (IO_OK). */
void session_transfer_give_up(struct session *session, enum io_result result);
bool session_drained_enough(const struct session *session);

/* session-chunks.c, session-auth.c, session-xclient.c: rows of the command table */
enum own_reply session_check_bdat(struct session *session, const struct command *command);
void session_act_bdat(struct session *session, const struct command *command);
bool session_offers_auth(const struct session *session, const struct session_offer *offer);
enum own_reply session_check_auth(struct session *session, const struct command *command);
void session_act_auth(struct session *session, const struct command *command);
/* Takes one line of the dialog if the policy checks passwords; like a courier's authenticate(). */
void session_check_password(struct session *session, const char *text, size_t len,
                            struct reply *reply);
/* Does the login belong to the connection to the next hop, so that it ends with it? */
bool session_login_is_of_courier(const struct session *session);
bool session_offers_xclient(const struct session *session);
/* The client that XCLIENT named has been checked, or nothing checks it. */
void session_end_introduction(struct session *session);
enum own_reply session_check_xclient(struct session *session, const struct command *command);
void session_act_xclient(struct session *session, const struct command *command);

/* session-wait.c */
/* The limit that applies now. */
unsigned session_limit(const struct session *session, unsigned usual, unsigned under_stress);
/* Sets what the client must send next. */
void session_enter(struct session *session, enum session_phase phase);
/* The same for mail data and skipped chunks, whose time starts now. */
void session_enter_data(struct session *session, enum session_phase phase);
/* The one wait for the client. False if the session must be parked to wait. */
bool session_await(struct session *session, struct session_input *input);
/* Passes the input to the handler of the current phase. */
void session_take(struct session *session, const struct session_input *input);
/* Notes that this much mail data was used. */
void session_consume(struct session *session, size_t octets);
/* Ends the time that the session was parked, and takes the wait for a worker since `called_ms` off its client's clocks. */
void session_end_park(struct session *session, int64_t called_ms);
/* May output be sent? False while it is held. */
bool session_may_speak(struct session *session);
/* How long a worker waits for the client to read a reply. */
struct deadline session_reply_deadline(const struct session *session);
/* Watches output that the client does not read. False if the client has had its time. */
bool session_watch_output(struct session *session);

/* The handlers of the phases, in the files where they belong. */
void session_take_command(struct session *session, const struct session_input *input);
void session_take_handshake(struct session *session, const struct session_input *input);
void session_take_answer(struct session *session, const struct session_input *input);
void session_take_data(struct session *session, const struct session_input *input);
void session_take_chunk(struct session *session, const struct session_input *input);
void session_take_skipped(struct session *session, const struct session_input *input);

/* session-log.c */
void session_log_reject(const struct session *session, const char *command, const char *recipient,
                        const struct reply *reply);
/* The outcome of a message whose data was asked for. */
enum session_outcome {
    SESSION_DELIVERED, /* the next hop has it */
    SESSION_STORED,    /* our spool has it, for some recipients at least */
    SESSION_DEFERRED,  /* the client keeps it and tries again */
    SESSION_REFUSED,   /* permanently */
    SESSION_ABORTED,   /* its end never arrived */
};
/* Logs and counts the outcome. */
void session_end_message(const struct session *session, enum session_outcome outcome,
                         uint64_t octets, const char *reply);
/* Counts the reply to a recipient, like the policy's function. */
void session_count_recipient(const struct session *session, const struct reply *reply,
                             enum own_reply verdict);
/* Counts a TLS handshake that has succeeded. */
void session_count_tls(const struct session *session);
/* Logs the result of an AUTH, never its contents. */
void session_log_auth(const struct session *session, const char *mechanism,
                      const struct reply *reply);
void session_log_end(const struct session *session, const char *reason);
void session_log_tls_failure(const struct session *session, const char *reason);

#endif
