/* spool/dsn-internal.h - what the files of spool/dsn share
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SPOOL_DSN_INTERNAL_H
#define POSTERN_SPOOL_DSN_INTERNAL_H

#include <stdio.h>

#include "spool/dsn.h"

#define HEADER_RETURN_MAX (256 * 1024) /* octets of a header that are returned */
#define DSN_LINE_MAX 990               /* octets of a line before its CRLF; RFC 5322 allows 998 */

/* Text with '\n' becomes canonical mail data: see dsn_output_open(). */
struct dsn_output {
    dsn_sink *sink;
    void *context;
    struct error *err;
    bool failed;
    size_t column; /* in the line that is being written */
    size_t used;
    char data[8192];
};

/* A stream on which '\n' comes out as CRLF, a dot at the start of a line is doubled, over-long lines
 * are cut in two, and other control characters become '?'. NULL when out of memory. */
FILE *dsn_output_open(struct dsn_output *output);
/* Past the stream (which must be flushed), octets that are canonical already. 0 or -1. */
int dsn_output_raw(struct dsn_output *output, const char *bytes, size_t len);
int dsn_output_flush(struct dsn_output *output);

/* Words of `text` (parted by blanks and line feeds) in lines of about 76 octets; lines but the first
 * start with `indent`. `column` is where the first line stands. No final '\n'. Without `utf8` what
 * is not ASCII becomes '?'. */
void dsn_put_wrapped(FILE *out, size_t column, const char *indent, const char *text, bool utf8);
/* A mailbox in a field: folded where it is longer than a line may be. */
void dsn_put_mailbox(FILE *out, const char *mailbox);
/* A header's text, in encoded words (RFC 2047) where it is not ASCII. */
void dsn_put_header_text(FILE *out, const char *text);
/* quoted-printable (RFC 2045 6.7); the text ends in '\n'. */
void dsn_put_quoted_printable(FILE *out, const char *text);
/* RFC 5322 3.3, in UTC. */
#define DSN_DATE_MAX 48
const char *dsn_date(int64_t when, char out[DSN_DATE_MAX]);
bool dsn_is_ascii(const char *text);

/* The mail data that is reported on. */
struct dsn_original {
    uint64_t size;
    uint64_t header_size; /* octets of whole lines, at most HEADER_RETURN_MAX; no empty line */
    bool header_eight_bit, eight_bit;
    bool long_lines; /* over 998 octets */
};
/* 0, or -1 (errno). */
int dsn_original_scan(int fd, struct dsn_original *original);
/* Copies octets 0..len. With `fold` long lines are folded as header lines are. */
int dsn_original_copy(int fd, uint64_t len, bool fold, struct dsn_output *output);

/* The two parts for people and for programs. */
char *dsn_prose(const struct dsn *dsn, bool headers_follow); /* freed by the caller; NULL: memory */
void dsn_put_status(FILE *out, const struct dsn *dsn, bool global);

#endif
