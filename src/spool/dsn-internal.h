/* spool/dsn-internal.h - what spool/dsn*.c share; nothing else includes it
 *
 * Nothing is owned beyond a call; a notice is written by one thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_DSN_INTERNAL_H
#define POSTERN_SPOOL_DSN_INTERNAL_H

#include <stdio.h>

#include "spool/dsn.h"

#define HEADER_RETURN_MAX (256 * 1024) /* octets of a header that are returned */
#define DSN_LINE_MAX 990               /* octets of a line before its CRLF; RFC 5322 allows 998 */

/* Turns text with '\n' into canonical mail data; see dsn_output_open(). */
struct dsn_output {
    dsn_sink *sink;
    void *context;
    struct error *err;
    bool failed;
    size_t column; /* in the current line */
    size_t used;
    char data[8192];
};

/* Opens a stream that writes '\n' as CRLF, doubles a dot at the start of a line, splits overlong lines, and
 * writes other control characters as '?'. The caller closes it. NULL if out of memory. */
FILE *dsn_output_open(struct dsn_output *output);
/* Writes octets that are already canonical, bypassing the stream, which must be flushed first. Returns 0 or
 * -1. */
int dsn_output_raw(struct dsn_output *output, const char *bytes, size_t len);
int dsn_output_flush(struct dsn_output *output);

/* Writes the words of `text` (separated by spaces and line feeds) in lines of about 76 octets. All lines but
 * the first start with `indent`; `column` is the current column of the first. No final '\n'. Without `utf8`,
 * octets that are not ASCII become '?'. */
void dsn_put_wrapped(FILE *out, size_t column, const char *indent, const char *text, bool utf8);
/* Writes a mailbox in a field, folded if it is longer than a line may be. */
void dsn_put_mailbox(FILE *out, const char *mailbox);
/* Writes a header's text, in encoded words (RFC 2047) if it is not ASCII. */
void dsn_put_header_text(FILE *out, const char *text);
/* Writes quoted-printable (RFC 2045 6.7); the text ends in '\n'. */
void dsn_put_quoted_printable(FILE *out, const char *text);
/* The date as in RFC 5322 3.3, in UTC. Returns `out`. */
#define DSN_DATE_MAX 48
const char *dsn_date(int64_t when, char out[DSN_DATE_MAX]);
bool dsn_is_ascii(const char *text);

/* Facts of the mail data that is reported on. */
struct dsn_original {
    uint64_t size;
    uint64_t header_size; /* octets of whole lines, at most HEADER_RETURN_MAX, no empty line */
    bool header_eight_bit, eight_bit;
    bool long_lines; /* some are over 998 octets */
};
/* Reads the facts. Returns 0, or -1 with errno. */
int dsn_original_scan(int fd, struct dsn_original *original);
/* Copies octets 0..len. With `fold`, long lines are folded like header lines. Returns 0 or -1. */
int dsn_original_copy(int fd, uint64_t len, bool fold, struct dsn_output *output);

/* The parts for people and for programs. */
char *dsn_prose(const struct dsn *dsn, bool headers_follow); /* caller frees; NULL: no memory */
void dsn_put_status(FILE *out, const struct dsn *dsn, bool global);

#endif
