/* smtp/reply.h - replies: reading a next hop's, writing ours (RFC 5321 4.2, RFC 2034)
 *
 * One bounded struct for both directions. A next hop's reply is cleaned while it is read: control
 * characters and 8-bit octets become '?', long lines are cut at 512 octets and lines over
 * REPLY_LINES_MAX dropped, so that it can be passed to a client as it stands.
 * All reply texts of our own stand in the table of smtp/reply.c, each with its code and enhanced
 * code. No allocation, thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_REPLY_H
#define POSTERN_SMTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/deadline.h"
#include "net/stream.h"

#define REPLY_TEXT_MAX 4096
#define REPLY_LINES_MAX 64

struct reply {
    int code;          /* 200..599; 0 = none came */
    char enhanced[12]; /* "5.1.1", or "" when the lines carry none */
    unsigned line_count;
    size_t len;
    char text[REPLY_TEXT_MAX]; /* the lines without code and without enhanced code, each ended by
                                    '\n', NUL-terminated; the enhanced code is taken from each line
                                    only when all lines carry the same, else left in the text */
};

/* Reply codes' first digit. */
static inline bool reply_is_positive(const struct reply *r)
{
    return r->code >= 200 && r->code < 300;
}
static inline bool reply_is_transient(const struct reply *r)
{
    return r->code >= 400 && r->code < 500;
}
static inline bool reply_is_permanent(const struct reply *r)
{
    return r->code >= 500;
}

/* Reads one reply, single- or multi-line, from a next hop. IO_OK and a filled struct; IO_FAILED
 * too when what came is no reply ("garbage": code then is 0) or the codes of its lines differ. */
enum io_result reply_read(struct stream *stream, struct reply *reply, struct deadline deadline);

/* The pieces of reply_read(), without a connection: feed lines (without their CRLF) to a struct
 * whose code is 0, until one is the last, then finish. */
enum reply_line_result { REPLY_LINE_MORE, REPLY_LINE_LAST, REPLY_LINE_GARBAGE };
enum reply_line_result reply_parse_line(struct reply *reply, const char *line, size_t len);
void reply_finish(struct reply *reply);

/* Fills it from printf: one line, or several separated by '\n'. `enhanced` "" = none. */
void reply_set(struct reply *reply, int code, const char *enhanced, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Our own replies. */
enum own_reply {
    REPLY_OK,                  /* 250 2.0.0 Ok */
    REPLY_CLOSING,             /* 221 2.0.0 Bye */
    REPLY_HELP,                /* 214 2.0.0 ... */
    REPLY_VRFY,                /* 252 2.1.5 ... */
    REPLY_SENDER_OK,           /* 250 2.1.0 Ok */
    REPLY_START_TLS,           /* 220 2.0.0 Ready to start TLS */
    REPLY_START_DATA,          /* 354 End data with <CR><LF>.<CR><LF> */
    REPLY_SYNTAX,              /* 500 5.5.2 */
    REPLY_LINE_TOO_LONG,       /* 500 5.5.2 */
    REPLY_UNKNOWN_COMMAND,     /* 500 5.5.1 */
    REPLY_NOT_IMPLEMENTED,     /* 502 5.5.1 */
    REPLY_NO_ARGUMENT_ALLOWED, /* 501 5.5.4 */
    REPLY_HELO_SYNTAX,         /* 501 5.5.4 */
    REPLY_BAD_SENDER,          /* 501 5.1.7 */
    REPLY_BAD_RECIPIENT,       /* 501 5.1.3 */
    REPLY_BAD_ARGUMENT,        /* 501 5.5.4 */
    REPLY_UNKNOWN_PARAMETER,   /* 555 5.5.4 */
    REPLY_HELO_FIRST,          /* 503 5.5.1 */
    REPLY_MAIL_FIRST,          /* 503 5.5.1 */
    REPLY_RCPT_FIRST,          /* 503 5.5.1 */
    REPLY_NESTED_MAIL,         /* 503 5.5.1 */
    REPLY_NOT_IN_TRANSACTION,  /* 503 5.5.1 STARTTLS inside a transaction */
    REPLY_TLS_ACTIVE,          /* 503 5.5.1 */
    REPLY_INJECTION,           /* 554 5.5.0 text behind STARTTLS */
    REPLY_NO_VALID_RECIPIENTS, /* 554 5.5.1 */
    REPLY_RELAY_DENIED,        /* 550 5.7.1 Relay access denied */
    REPLY_UTF8_UNSUPPORTED,    /* 553 5.6.7 */
    REPLY_8BIT_UNSUPPORTED,    /* 554 5.6.3 */
    REPLY_TOO_BIG,             /* 552 5.3.4 */
    REPLY_TOO_MANY_HOPS,       /* 554 5.4.6 */
    REPLY_BARE_NEWLINE,        /* 550 5.5.2 */
    REPLY_TOO_MANY_RECIPIENTS, /* 452 4.5.3 */
    REPLY_TOO_MANY_UNKNOWN,    /* 451 4.7.1 three recipients refused in this session */
    REPLY_TOO_MANY_ERRORS,     /* 421 4.7.0 */
    REPLY_BACKEND_UNREACHABLE, /* 451 4.4.1 */
    REPLY_BACKEND_BUSY,        /* 451 4.3.2 */
    REPLY_BACKEND_LOST,        /* 451 4.4.2 */
    REPLY_BACKEND_CONFIG,      /* 451 4.3.5 */
    REPLY_IDLE,                /* 421 4.4.2 */
    REPLY_SHUTTING_DOWN,       /* 421 4.3.2 */
    REPLY_SERVER_BUSY,         /* 421 4.3.2 all workers busy / too many connections */
    REPLY_CLIENT_LIMIT,        /* 421 4.7.0 too many connections from your address */
    REPLY_NETWORK_LIMIT,       /* 421 4.7.0 too many connections from your network */
    REPLY_CLIENT_DENIED,       /* 554 5.7.1 on the operator's list */
    REPLY_CLIENT_REFUSED,      /* 554 5.7.1 private client addresses are not served */
    REPLY_EARLY_TALKER,        /* 554 5.5.0 */
    REPLY_DATA_TIMEOUT,        /* 421 4.4.2 */
    REPLY_DRAIN_LIMIT,         /* 421 4.4.2 backend lost and the rest is too long to drain */
    REPLY_OWN_COUNT,
};
void reply_own(struct reply *reply, enum own_reply which);

/* The wire form ("550-5.1.1 text CRLF550 5.1.1 text CRLF") into out[0..size); returns its length.
 * Always whole lines, never more than size; REPLY_WIRE_MAX always suffices for REPLY_TEXT_MAX. */
#define REPLY_WIRE_MAX 8192
size_t reply_format(const struct reply *reply, char *out, size_t size);

/* Its first line as text for a log: "550 5.1.1 User unknown". Returns `out`. */
const char *reply_summary(const struct reply *reply, char *out, size_t size);

#endif
