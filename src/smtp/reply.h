/* smtp/reply.h - replies: reads a next hop's, writes ours (RFC 5321 4.2, RFC 2034)
 *
 * One bounded struct serves both directions. A next hop's reply is cleaned while it is read: control
 * characters and 8-bit octets become '?', and lines after the first REPLY_LINES_MAX are dropped. When it
 * is passed on, its lines are cut at 512 octets. Any reply is read to its end, and the code of its last
 * line counts, as in Postfix. The table in smtp/replies.h has all our own replies. No allocation except
 * in reply_dup(); thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_REPLY_H
#define POSTERN_SMTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/deadline.h"
#include "net/stream.h"
#include "smtp/replies.h"

#define REPLY_ENHANCED_MAX 12 /* fits "5.123.123" and its NUL */
#define REPLY_TEXT_MAX 4096
#define REPLY_LINES_MAX 64

struct reply {
    int code;                          /* 200..599; 0 = none */
    char enhanced[REPLY_ENHANCED_MAX]; /* "5.1.1", or "" if the lines have none */
    unsigned line_count;
    bool ours; /* not a next hop's, nor made of one */
    size_t len;
    char text[REPLY_TEXT_MAX]; /* the lines without code and enhanced code, each ended by '\n',
                                    NUL-terminated; the enhanced code is only removed if all lines
                                    have the same, otherwise it stays in the text */
};

/* Classes of reply codes. */
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

/* Reads one reply, single- or multi-line, from a next hop. Returns IO_OK and a filled struct whose code is 200
 * to 599; any other code becomes a 500 that quotes it. If this is the only reply due (`lone`), a line that is
 * not part of a reply is skipped; a next hop that sends nothing else runs into the deadline. Otherwise such a
 * line might stand for any of the replies, and the result is IO_FAILED. On failure the code is 0, and the text
 * is the last such line, or empty. */
enum io_result reply_read(struct stream *stream, struct reply *reply, bool lone,
                          struct deadline deadline);

/* Turns a reply that makes no sense for the command (2xx or 3xx) into a 500 that quotes it. Postfix gives up
 * at once too. */
void reply_misplaced(struct reply *reply);

/* The parts of reply_read(), without a connection: feed lines (without their CRLF) to a struct whose code is
 * 0 until one is the last, then finish. A line begins with three digits; if "-" follows, it is not the last. */
enum reply_line_result { REPLY_LINE_MORE, REPLY_LINE_LAST, REPLY_LINE_GARBAGE };
enum reply_line_result reply_parse_line(struct reply *reply, const char *line, size_t len);
void reply_finish(struct reply *reply);

/* Makes it "no reply". */
void reply_clear(struct reply *reply);

/* Like an assignment, but skips the unused octets after the text. */
void reply_copy(struct reply *to, const struct reply *from);
/* A copy no larger than its text needs, for reading only. The caller frees it with free(3). NULL if out of
 * memory. */
struct reply *reply_dup(const struct reply *reply);

/* The length of the enhanced code at text[0..len): class "." subject "." detail (RFC 3463 2), where the class
 * is that of the reply's code. 0: none. */
size_t reply_enhanced_length(const char *text, size_t len, int code);

/* Our own replies; smtp/replies.h has their codes and texts. */
enum own_reply {
#define REPLY_ROW(name, code, enhanced, text) REPLY_##name,
    OWN_REPLIES(REPLY_ROW)
#undef REPLY_ROW
        REPLY_OWN_COUNT
};
void reply_own(struct reply *reply, enum own_reply which);
/* The same for a text with "%s", which the arguments (const char *) replace in order; a missing one becomes
 * empty. */
#define reply_own_with(reply, which, ...)                                                          \
    reply_own_list(reply, which, (const char *const[]){__VA_ARGS__, NULL})
void reply_own_list(struct reply *reply, enum own_reply which, const char *const *arguments);

/* Writes the wire form ("550-5.1.1 text CRLF550 5.1.1 text CRLF") to out[0..size) and returns its length in
 * octets. Always whole lines; REPLY_WIRE_MAX is always enough. */
#define REPLY_WIRE_MAX 8192
size_t reply_format(const struct reply *reply, char *out, size_t size);

/* Writes its first line for a log: "550 5.1.1 User unknown". Returns `out`. */
const char *reply_summary(const struct reply *reply, char *out, size_t size);

#endif
