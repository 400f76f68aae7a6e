/* smtp/reply.h - replies: reading a next hop's, writing ours (RFC 5321 4.2, RFC 2034)
 *
 * One bounded struct for both directions. A next hop's reply is cleaned while it is read: control
 * characters and 8-bit octets become '?', and lines over REPLY_LINES_MAX are dropped; where it is passed
 * on, its lines are cut at 512 octets. However long a reply
 * is, it is read to its end, and its last line's code is what it says (as Postfix has it).
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

/* Reads one reply, single- or multi-line, from a next hop. IO_OK and a filled struct, of which the code
 * is 200 to 599: any other is made a 500 that names it. A line that is no part of a reply is passed over,
 * whatever it means, where the reply is the only one that is due (`lone`); a next hop that says nothing
 * else runs into the deadline. Elsewhere it may stand for any of the replies: IO_FAILED. On failure the
 * code is 0, and the text the last such line, or empty. */
enum io_result reply_read(struct stream *stream, struct reply *reply, bool lone,
                          struct deadline deadline);

/* A reply that cannot be one to what was said (2xx or 3xx) becomes a 500 that names it. Postfix, too,
 * gives up at once. */
void reply_misplaced(struct reply *reply);

/* The pieces of reply_read(), without a connection: feed lines (without their CRLF) to a struct
 * whose code is 0, until one is the last, then finish. A line begins with three digits; those that go
 * on with "-" are not the last. */
enum reply_line_result { REPLY_LINE_MORE, REPLY_LINE_LAST, REPLY_LINE_GARBAGE };
enum reply_line_result reply_parse_line(struct reply *reply, const char *line, size_t len);
void reply_finish(struct reply *reply);

/* None came. */
void reply_clear(struct reply *reply);

/* As an assignment, without the octets behind the text. */
void reply_copy(struct reply *to, const struct reply *from);
/* A copy no longer than the text needs, for reading only, to be freed by free(); NULL when out of memory. */
struct reply *reply_dup(const struct reply *reply);

/* The octets of the enhanced code at text[0..len): class "." subject "." detail (RFC 3463 2), the class
 * that of the reply's code. 0: there is none. */
size_t reply_enhanced_length(const char *text, size_t len, int code);

/* Fills it from printf: one line, or several separated by '\n'. `enhanced` "" = none. */
void reply_set(struct reply *reply, int code, const char *enhanced, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Our own replies; reply.c has their codes and texts. */
enum own_reply {
    REPLY_OK,
    REPLY_CLOSING,
    REPLY_HELP,
    REPLY_VRFY,
    REPLY_SENDER_OK,
    REPLY_START_TLS,
    REPLY_START_DATA,
    REPLY_SYNTAX,
    REPLY_LINE_TOO_LONG,
    REPLY_UNKNOWN_COMMAND,
    REPLY_NOT_IMPLEMENTED,
    REPLY_NO_ARGUMENT_ALLOWED,
    REPLY_HELO_SYNTAX,
    REPLY_BAD_SENDER,
    REPLY_BAD_RECIPIENT,
    REPLY_BAD_ARGUMENT,
    REPLY_UNKNOWN_PARAMETER,
    REPLY_HELO_FIRST,
    REPLY_MAIL_FIRST,
    REPLY_RCPT_FIRST,
    REPLY_NESTED_MAIL,
    REPLY_NOT_IN_TRANSACTION,
    REPLY_TLS_ACTIVE,
    REPLY_INJECTION,
    REPLY_NO_VALID_RECIPIENTS,
    REPLY_RELAY_DENIED,
    REPLY_UTF8_UNSUPPORTED,
    REPLY_8BIT_UNSUPPORTED,
    REPLY_TOO_BIG,
    REPLY_TOO_MANY_HOPS,
    REPLY_BARE_NEWLINE,
    REPLY_TOO_MANY_RECIPIENTS,
    REPLY_TOO_MANY_UNKNOWN,
    REPLY_TOO_MANY_ERRORS,
    REPLY_BACKEND_UNREACHABLE,
    REPLY_BACKEND_BUSY,
    REPLY_BACKEND_LOST,
    REPLY_BACKEND_CONFIG,
    REPLY_BACKEND_LACKS,
    REPLY_IDLE,
    REPLY_SHUTTING_DOWN,
    REPLY_SERVER_BUSY,
    REPLY_CLIENT_LIMIT,
    REPLY_CLIENT_REFUSED,
    REPLY_EARLY_TALKER,
    REPLY_SESSION_LIMIT, /* 421 4.4.2 the session has lasted too long */
    REPLY_DATA_TIMEOUT,
    REPLY_DRAIN_LIMIT,
    REPLY_CHUNK_OK,
    REPLY_NOT_CHUNKED,
    REPLY_OTHER_BACKEND,
    REPLY_REQUIRETLS_UNSUPPORTED,
    REPLY_AUTH_REQUIRED,
    REPLY_TLS_REQUIRED,
    REPLY_AUTH_ACTIVE,
    REPLY_BAD_MECHANISM,
    REPLY_AUTH_TEMPORARY,
    REPLY_AUTH_LOST,
    REPLY_XCLIENT_DENIED,
    REPLY_NETWORK_LIMIT,
    REPLY_CLIENT_DENIED,
    REPLY_AUTH_FAILED,
    REPLY_AUTH_TOO_OFTEN,
    REPLY_AUTH_CANCELLED,
    REPLY_SENDER_DENIED,
    REPLY_LITERAL_DENIED,
    REPLY_LOOP,
    REPLY_NO_SUCH_DOMAIN,
    REPLY_NULL_MX,
    REPLY_NO_HOSTS,
    REPLY_DNS_TEMPORARY,
    REPLY_DESTINATION_BUSY,
    REPLY_DESTINATION_RATE,
    REPLY_TOO_MANY_NEXT_HOPS,
    REPLY_REMOTE_TOO_BIG,
    REPLY_REMOTE_LOST,
    REPLY_REMOTE_SLOW,
    REPLY_STORE_FULL,
    REPLY_STORE_FAILED,
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
