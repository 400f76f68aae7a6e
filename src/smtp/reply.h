/* smtp/reply.h - replies: reading a next hop's, writing ours (RFC 5321 4.2, RFC 2034)
 *
 * One bounded struct for both directions. A next hop's reply is cleaned while it is read: control
 * characters and 8-bit octets become '?', and lines over REPLY_LINES_MAX are dropped; where it is passed
 * on, its lines are cut at 512 octets. However long a reply
 * is, it is read to its end, and its last line's code is what it says (as Postfix has it).
 * All replies of our own stand in the table of smtp/replies.h. No allocation, thread-safe.
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

/* Our own replies; smtp/replies.h has their codes and texts. */
enum own_reply {
#define REPLY_ROW(name, code, enhanced, text) REPLY_##name,
    OWN_REPLIES(REPLY_ROW)
#undef REPLY_ROW
        REPLY_OWN_COUNT
};
void reply_own(struct reply *reply, enum own_reply which);
/* The same for a text with "%s": those are replaced by the arguments (const char *), in order; one that is
 * not given is left out. */
#define reply_own_with(reply, which, ...)                                                          \
    reply_own_list(reply, which, (const char *const[]){__VA_ARGS__, NULL})
void reply_own_list(struct reply *reply, enum own_reply which, const char *const *arguments);

/* The wire form ("550-5.1.1 text CRLF550 5.1.1 text CRLF") into out[0..size); returns its length.
 * Always whole lines, never more than size; REPLY_WIRE_MAX always suffices for REPLY_TEXT_MAX. */
#define REPLY_WIRE_MAX 8192
size_t reply_format(const struct reply *reply, char *out, size_t size);

/* Its first line as text for a log: "550 5.1.1 User unknown". Returns `out`. */
const char *reply_summary(const struct reply *reply, char *out, size_t size);

#endif
