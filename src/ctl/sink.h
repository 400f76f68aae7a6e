/* ctl/sink.h - relayctl sink: a small SMTP server that takes mail and shows it
 *
 *   sink.c          listens, one thread for a connection
 *   sink-options.c  the command line
 *   sink-session.c  the dialog: XCLIENT, PROXY, STARTTLS, and the faults it was told to play
 *   sink-report.c   what it was told and got, printed, as JSON, or stored
 *
 * For trying a relay without touching a real mail server, for the demonstration and for tests. It
 * is no mail server: it delivers nothing.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_CTL_SINK_H
#define POSTERN_CTL_SINK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/listener.h"
#include "net/stream.h"
#include "net/tls.h"
#include "smtp/path.h"
#include "smtp/reply.h"

#define SINK_RULES_MAX 32
#define SINK_CONNECTIONS_MAX 128
#define SINK_RECIPIENTS_MAX 100
#define SINK_HEADER_MAX 8192
#define SINK_XCLIENT_ATTRIBUTES 9

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

/* What is played at a step instead of, or before, the ordinary answer. */
struct sink_rule {
    enum sink_step step;
    char recipient[PATH_MAX_OCTETS + 1]; /* of SINK_RCPT: this one only; "" = all */
    enum { RULE_REPLY, RULE_DELAY, RULE_HANG_UP } kind;
    int code;
    char text[256];
    int64_t delay_ms;
};

struct sink_options {
    struct listen_spec listen[LISTENERS_MAX];
    size_t listen_count;
    const char *certificate, *key; /* NULL: no STARTTLS */
    const char *store;             /* folder; NULL: print */
    const char *ready_file;
    bool json, proxy, no_xclient, no_pipelining;
    uint64_t size;  /* announced limit */
    unsigned count; /* exit after so many messages; 0 = never */
    struct sink_rule rules[SINK_RULES_MAX];
    size_t rule_count;
};

/* -1: go on; else the exit status to leave with. */
int sink_parse_options(struct sink_options *options, int argc, char **argv);

struct sink {
    struct sink_options options;
    struct tls_server *tls;
    pthread_mutex_t lock; /* for all below, and for output */
    pthread_cond_t changed;
    unsigned connections, messages;
};

/* One transaction, as it is reported. */
struct sink_message {
    struct address peer;
    bool proxied;
    struct address proxy_source;
    char xclient[SINK_XCLIENT_ATTRIBUTES][256]; /* by bit number of XCLIENT_...; "" = not told */
    struct tls_info tls;
    bool has_tls, esmtp;
    char helo[256], sender[512];
    char recipients[SINK_RECIPIENTS_MAX][PATH_MAX_OCTETS + 1];
    size_t recipient_count;
    char header[SINK_HEADER_MAX];
    size_t header_len;
    bool header_done;
    uint64_t size;
    char sha256[65];
    bool violation; /* a bare CR, LF or NUL came */
};

/* Runs one connection to its end and closes it. */
void sink_serve(struct sink *sink, int fd, const struct address *peer);

/* Prints or stores it, counts it, and ends the program at options.count. `body` is the file it was
 * stored in so far, or NULL. */
void sink_report(struct sink *sink, const struct sink_message *message, const char *body);

#endif
