/* smtp/session-internal.h - the parts of a session, for the files that make it up
 *
 *   session.c          life: new, run (await, take, answer), park, dismiss, free
 *   session-commands.c the command table: each verb with its states, check and act
 *   session-batch.c    recipients on their way to the courier, replies in the client's order
 *   session-wait.c     the phases: what the client is to send, how long it may take
 *   session-data.c     mail data: client -> scanner -> courier, and every way it can end
 *   session-chunks.c   the same that comes by BDAT
 *   session-auth.c     the dialog of AUTH
 *   session-password.c PLAIN and LOGIN, where we know the passwords
 *   session-xclient.c  XCLIENT from those who may
 *   session-log.c      the lines a session writes
 *
 * Nobody else includes this.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_SESSION_INTERNAL_H
#define POSTERN_SMTP_SESSION_INTERNAL_H

#include "smtp/mbox.h"
#include "smtp/session.h"

/* Bits, so that a row of the command table can name several. */
enum session_state {
    STATE_CONNECTED = 1 << 0, /* greeted by us, not yet by the client */
    STATE_READY = 1 << 1,     /* EHLO or HELO done */
    STATE_MAIL = 1 << 2,      /* a reverse-path is held */
    STATE_RCPT = 1 << 3,      /* recipients have been named, accepted or not */
    STATE_CHUNKS = 1 << 4,    /* between two chunks of mail data */
};

#define SESSION_USER_MAX 255
#define SESSION_RECIPIENT_MAX 320 /* octets of one that is named in log and trace */

#define SESSION_SLICE_MS 50 /* of a worker's time for one session, when workers are few */

/* What the client is to send next. What it comes in, when it is due and who takes it stands in the
 * table of session-wait.c. */
enum session_phase {
    PHASE_COMMAND,   /* a command line, of which nothing has come */
    PHASE_LINE,      /* the rest of one */
    PHASE_HANDSHAKE, /* its part of a TLS handshake */
    PHASE_ANSWER,    /* a line, to a challenge of AUTH */
    PHASE_DATA,      /* mail data behind DATA */
    PHASE_CHUNK,     /* mail data behind BDAT */
    PHASE_SKIP,      /* a chunk that nobody wants */
};

/* What has come of it. A `result` other than IO_OK says why nothing has, or no more: IO_TIMEOUT
 * that it is overdue. `line` holds a line, or octets of mail data, up to the next read. */
struct session_input {
    enum io_result result;
    struct line line;
    struct error error; /* of a handshake; "" when `result` says it all */
};

/* Where a log-in that we check ourselves stands: what the next line of the client is. */
enum session_login { LOGIN_BEGINS, LOGIN_PLAIN, LOGIN_USER, LOGIN_PASSWORD };

#define SLOT_ASK 0xff /* the courier knows the reply; any other value is an enum own_reply */

/* Recipients read but not yet answered. Empty whenever the session waits for its client. */
struct session_batch {
    uint8_t slots[SESSION_BATCH_MAX]; /* one for each RCPT command, in order */
    unsigned slot_count;
    unsigned ask_count; /* of them SLOT_ASK; their paths are in the scratch */
};

/* Mail data on its way. Begun when the client is told to send it. */
struct transfer {
    struct dataline scanner;
    uint64_t size_limit;    /* of this message */
    bool refused;           /* nothing more goes to the next hop */
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
    struct session_scratch *scratch;         /* while session_run() runs, else NULL */
    struct wakeup *wakeup;                   /* borrowed; NULL: none */
    struct courier *courier;                 /* owned; NULL until the first recipient */
    const void *route;                       /* the courier's */
    char id[20];
    enum session_state state;
    bool implicit_tls;            /* the banner is still to come, behind the handshake */
    bool evicted;                 /* to give up where it would wait */
    bool closing;                 /* leave after the reply just put */
    bool vanished;                /* nothing can be written any more */
    char helo[PATH_HELO_MAX + 1]; /* cleaned */
    struct client_identity client;
    struct address peer;                    /* the other end; the client but for XCLIENT */
    bool introduced;                        /* by XCLIENT */
    bool awaits_admission;                  /* of whom it was introduced as */
    const struct session_deferral *refusal; /* borrowed; NULL: he is welcome */
    char user[SESSION_USER_MAX + 1]; /* who has logged in here, not at a next hop; "" = nobody */
    unsigned offered; /* extensions, in the last EHLO: a promise for as long as no other is made */
    unsigned errors, junk, refused_recipients, transactions;
    unsigned overshoot; /* recipients that we put off */
    struct session_batch batch;
    int64_t began_ms;
    /* Waiting for the client. */
    enum session_phase phase;
    bool waiting;          /* the clock of this phase runs, ... */
    int64_t wait_since_ms; /* ... from here */
    int64_t run_since_ms;  /* session_run() */
    enum session_awaited awaited;
    int64_t granted_at_ms;   /* SESSION_AWAITS_GRANT: no longer than that */
    int64_t held_until_ms;   /* what was put leaves then; 0 = at once */
    int64_t unsent_since_ms; /* its client does not take what it is told; 0 = it does */
    int64_t parked_ms;       /* it was given back last */
    int64_t client_ms;       /* so long its client has made the transaction wait */
    bool resumed;            /* parked before in this wait */
    bool progressed;         /* has earned patience since session_run() */
    uint64_t progress_octets;
    /* Mail data, or a chunk to skip: its clock and what has come of it. */
    int64_t data_since_ms, heard_ms;
    uint64_t data_octets;
    uint64_t chunk_left;
    bool chunk_last;
    struct reply *pending_reply; /* said behind a skipped chunk; owned */
    char mechanism[32];          /* of the AUTH under way */
    unsigned auth_rounds;
    enum session_login login;
    /* The transaction. */
    struct envelope *envelope; /* owned; there between MAIL and the end of the transaction */
    char transaction_id[32];
    int64_t started_ms;
    unsigned accepted, refused;                /* recipients */
    char recipient[SESSION_RECIPIENT_MAX + 1]; /* the first accepted one, cut if it is longer */
    bool recipient_is_cut;
    bool data_reply_due; /* the client has its 354 before the next hop's was read */
    struct transfer transfer;
};

/* session.c */
/* Puts a reply; flushed when the session next waits. A 421 also ends the session. */
void session_reply(struct session *session, const struct reply *reply);
void session_deferral_reply(const struct session_deferral *deferral, struct reply *reply);
void session_reply_own(struct session *session, enum own_reply which);
/* 421: too many errors. Commands that were held back must have been flushed. */
void session_give_up(struct session *session);
/* The same, for a command that was refused: counted, and too many are the end. */
void session_refuse(struct session *session, enum own_reply which);
void session_count_error(struct session *session);
void session_put(struct session *session, const char *bytes, size_t len);
void session_flush(struct session *session);
/* Begins to look up who the client is. */
void session_identify(struct session *session);
/* Its verified name as far as known now, or NULL. Points into `names`. */
const char *session_client_name(const struct session *session, struct reverse_names *names);
/* Forgets the transaction (RSET, EHLO, after data). */
void session_end_transaction(struct session *session);
/* Recipients are open at the next hop (or about to be): the session must keep its worker. Without
 * any, the client may think as long as it likes in the gate. */
bool session_holds_transaction(const struct session *session);
/* Lets go of the next hop as well. */
void session_drop_courier(struct session *session);
/* Begins the handshake, which session_run() goes on with. */
void session_start_tls(struct session *session);
/* What may be announced now, our own limits applied. */
void session_offer(const struct session *session, struct session_offer *offer);
/* What of it holds for recipients of this route. */
void session_offer_route(const struct session *session, const void *route,
                         struct session_offer *offer);
/* False when out of memory. */
bool session_ensure_courier(struct session *session, const void *route);
/* Must the command in hand, which takes this recipient (or NULL: a log-in) to the courier, wait for
 * something? Then it returns at once having done nothing: its line is read again later. */
bool session_must_wait(struct session *session, const struct recipient *recipient);
/* What is put from here on leaves at this time, and the client is not heard before. */
void session_hold(struct session *session, int64_t until_ms);

/* session-commands.c */
/* Serves the command in this line. */
void session_command(struct session *session, const struct line *line);

/* session-batch.c */
/* The courier for a recipient of this route, or why there is none: recipients asked for before may
 * be handed over for it. */
enum own_reply session_bind_route(struct session *session, const void *route);
/* A verdict of REPLY_OK: the courier knows the reply. */
void session_batch_add(struct session *session, const struct recipient *recipient,
                       enum own_reply verdict);
/* Hands the batch over, with what shall follow it, and puts the replies to the recipients. True
 * when the client may send mail data: the next hop waits for it, or is `data_reply_due`. Otherwise, if any
 * was asked for, the reply that says why is left in the scratch, not yet put, and the transaction is
 * still to be ended. */
bool session_batch_flush(struct session *session, enum courier_data data);

/* session-data.c */
/* After 354: the mail data comes next. */
void session_receive_data(struct session *session);
/* The pieces of it, for chunks: a transfer begins, takes input, and ends in one of two ways. */
void session_transfer_begin(struct session *session, enum dataline_form form);
void session_transfer_take(struct session *session, const char *bytes, size_t len);
/* No more comes by BDAT. */
void session_transfer_finish(struct session *session);
void session_transfer_answer(struct session *session);
/* The client is gone or too slow (`result`), or has more to drain than is bearable (IO_OK). */
void session_transfer_give_up(struct session *session, enum io_result result);
bool session_drained_enough(const struct session *session);

/* session-chunks.c, session-auth.c, session-xclient.c: rows of the command table */
enum own_reply session_check_bdat(struct session *session, const struct command *command);
void session_act_bdat(struct session *session, const struct command *command);
bool session_offers_auth(const struct session *session, const struct session_offer *offer);
enum own_reply session_check_auth(struct session *session, const struct command *command);
void session_act_auth(struct session *session, const struct command *command);
/* One line of the dialog where the policy knows passwords; as a courier's authenticate(). */
void session_check_password(struct session *session, const char *text, size_t len,
                            struct reply *reply);
/* Log-ins that belong to the connection to the next hop end with it. */
bool session_login_is_of_courier(const struct session *session);
bool session_offers_xclient(const struct session *session);
/* Who was introduced has been judged, or nobody judges. */
void session_end_introduction(struct session *session);
enum own_reply session_check_xclient(struct session *session, const struct command *command);
void session_act_xclient(struct session *session, const struct command *command);

/* session-wait.c */
/* The limit in force now. */
unsigned session_limit(const struct session *session, unsigned usual, unsigned under_stress);
/* The client is to send this next. */
void session_enter(struct session *session, enum session_phase phase);
/* The same for mail data and what is skipped: its time counts from here. */
void session_enter_data(struct session *session, enum session_phase phase);
/* The one wait for the client: false when it makes the session wait, which then has to be
 * parked. */
bool session_await(struct session *session, struct session_input *input);
/* Hands it to whoever takes it in this phase. */
void session_take(struct session *session, const struct session_input *input);
/* Of mail data so much has been used. */
void session_consume(struct session *session, size_t octets);
/* May what was put leave? False while it is held. */
bool session_may_speak(struct session *session);
/* So long a worker waits for the client to take a reply. */
struct deadline session_reply_deadline(const struct session *session);
/* Something did not leave, or now has: false when its client has had its time for it. */
bool session_watch_output(struct session *session);

/* Who takes the input of a phase, in the files where it belongs. */
void session_take_command(struct session *session, const struct session_input *input);
void session_take_handshake(struct session *session, const struct session_input *input);
void session_take_answer(struct session *session, const struct session_input *input);
void session_take_data(struct session *session, const struct session_input *input);
void session_take_chunk(struct session *session, const struct session_input *input);
void session_take_skipped(struct session *session, const struct session_input *input);

/* session-log.c */
void session_log_reject(const struct session *session, const char *command, const char *recipient,
                        const struct reply *reply);
/* How a message ended whose data was asked for. */
enum session_outcome {
    SESSION_DELIVERED, /* the next hop has it */
    SESSION_STORED,    /* we have it, or a part */
    SESSION_DEFERRED,  /* the client has it, and tries again */
    SESSION_REFUSED,   /* for good */
    SESSION_ABORTED,   /* its end never came */
};
/* Logs and counts it. */
void session_end_message(const struct session *session, enum session_outcome outcome,
                         uint64_t octets, const char *reply);
/* A recipient was answered. */
void session_count_recipient(const struct session *session, const struct reply *reply);
/* How an AUTH ended; never with what who. */
void session_log_auth(const struct session *session, const char *mechanism,
                      const struct reply *reply);
void session_log_end(const struct session *session, const char *reason);
void session_log_tls_failure(const struct session *session, const char *reason);

#endif
