/* relayctl/sink.h - relayctl sink: a small SMTP server that accepts mail and shows it
 *
 *   sink.c          listens, with one thread per connection
 *   sink-options.c  the command line
 *   sink-session.c  the dialog: XCLIENT, PROXY, STARTTLS, and the faults that it is told to play
 *   sink-report.c   what clients said and sent: recorded, collected, printed, as JSON, or stored
 *
 * For trying a relay without a real mail server, for the demonstration and for tests. It is as strict
 * as Postfix where a relay could go wrong (pipelining out of step, XCLIENT values, parameters that were
 * not offered), and delivers nothing.
 *
 * Options do not change once threads run. A connection's structs belong to its thread. sink.lock
 * guards the counts and standard output.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_RELAYCTL_SINK_H
#define POSTERN_RELAYCTL_SINK_H

#include <gnutls/crypto.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "net/listener.h"
#include "net/stream.h"
#include "net/tls.h"
#include "smtp/path.h"

#define SINK_RULES_MAX 32
#define SINK_RECIPIENTS_MAX 100
#define SINK_PARAMETERS_MAX 600 /* octets: ORCPT alone may take 500 (RFC 3461 4.2) */
#define SINK_HEADER_MAX 8192
#define SINK_XCLIENT_ATTRIBUTES 9
#define SINK_PATH_MAX 4096

enum sink_step {
    SINK_BANNER,
    SINK_EHLO,
    SINK_HELO,
    SINK_XCLIENT,
    SINK_STARTTLS,
    SINK_MAIL,
    SINK_RCPT,
    SINK_DATA,
    SINK_BODY,
    SINK_DOT,
    SINK_RSET,
    SINK_QUIT,
    SINK_STEPS,
};

/* Extensions that can be left out of the EHLO reply. */
enum {
    SINK_PIPELINING = 1 << 0,
    SINK_SIZE = 1 << 1,
    SINK_8BITMIME = 1 << 2,
    SINK_SMTPUTF8 = 1 << 3,
    SINK_DSN = 1 << 4,
    SINK_ENHANCEDSTATUSCODES = 1 << 5,
};

/* What to play at a step instead of, or before, the ordinary reply. */
struct sink_rule {
    enum sink_step step;
    char recipient[PATH_MAX_OCTETS + 1]; /* for SINK_RCPT: only this one; "" = all */
    enum sink_play { RULE_REPLY, RULE_DELAY, RULE_HANG_UP } kind;
    int code;
    char text[256];
    int64_t delay_ms;
};

struct subcommand_line;

struct sink_options {
    struct listen_spec listen[LISTENERS_MAX];
    size_t listen_count;
    const char *certificate, *key; /* NULL: no STARTTLS */
    const char *store;             /* folder for messages, or NULL */
    const char *record;            /* folder for the octets received, or NULL */
    const char *ready_file;
    bool json, print, proxy, no_xclient;
    unsigned hidden;        /* extensions not offered */
    uint64_t size;          /* limit, octets */
    uint64_t hang_up_after; /* octets of the message before SINK_BODY hangs up */
    uint64_t connections;   /* at once */
    uint64_t count;         /* messages before it exits; 0 = never */
    struct sink_rule rules[SINK_RULES_MAX];
    size_t rule_count;
};

/* Returns -1 to continue, or the exit status. */
int sink_parse_options(struct sink_options *options, struct subcommand_line *line);

/* The subcommand. Returns its exit status, or never. */
int sink_run(struct subcommand_line *line);

struct sink {
    struct sink_options options;
    struct tls_server *tls;
    pthread_mutex_t lock; /* protects everything below, and output */
    pthread_cond_t changed;
    uint64_t connections, visits, messages;
};

struct sink_recipient {
    char mailbox[PATH_MAX_OCTETS + 1];
    char parameters[SINK_PARAMETERS_MAX];
};

/* One transaction as it is reported, and the facts of its connection. */
struct sink_message {
    struct address peer;
    bool proxied;
    struct address proxy_source, proxy_destination;
    char xclient[SINK_XCLIENT_ATTRIBUTES][256]; /* by bit number of XCLIENT_...; "" = not sent */
    struct tls_info tls;
    bool has_tls, esmtp;
    char helo[256];
    char sender[PATH_MAX_OCTETS + 1], sender_parameters[SINK_PARAMETERS_MAX];
    struct sink_recipient recipients[SINK_RECIPIENTS_MAX];
    size_t recipient_count;
    char header[SINK_HEADER_MAX];
    size_t header_len;
    bool header_done;
    uint64_t size; /* octets after unstuffing */
    char sha256[65];
    bool bare_cr, bare_lf, nul; /* the mail data contained them */
};

/* Stores the attributes of an XCLIENT command. False if Postfix would refuse one. */
bool sink_take_xclient(struct sink_message *message, const char *arguments, size_t len);

/* Mail data being received. sink_body_begin() opens it; sink_body_end() finishes the hash and closes. */
struct sink_body {
    gnutls_hash_hd_t hash;
    FILE *file; /* NULL unless messages are stored */
    char path[SINK_PATH_MAX];
    bool line_start; /* the next octet begins a line */
    bool after_cr;   /* the last octet received was a CR */
};

void sink_body_begin(struct sink *sink, struct sink_body *body);
/* Take octets as they came, and in canonical form; both still have stuffed dots. */
void sink_body_inspect(struct sink_body *body, struct sink_message *message, const char *bytes,
                       size_t len);
void sink_body_add(struct sink_body *body, struct sink_message *message, const char *bytes,
                   size_t len);
/* With `keep`, the message was accepted and its file stays for sink_report(). */
void sink_body_end(struct sink_body *body, struct sink_message *message, bool keep);

/* Records the octets of one connection in NNNNNN.in. NNNNNN.flights has a line "start length" for each
 * group of octets without a reply of ours in between. */
struct sink_record {
    FILE *input, *flights;
    uint64_t recorded, flight_start;
};

void sink_record_open(struct sink *sink, struct sink_record *record);
/* Call it after a read: records what has come since the stream's octets_in was `before`. */
void sink_record_input(struct sink_record *record, const struct stream *stream, uint64_t before);
void sink_record_end_flight(struct sink_record *record);
void sink_record_close(struct sink_record *record);

/* Runs one connection to its end and closes `fd`. */
void sink_serve(struct sink *sink, int fd, const struct address *peer);

/* Prints or stores the message, and counts it. */
void sink_report(struct sink *sink, const struct sink_message *message,
                 const struct sink_body *body);

#endif
