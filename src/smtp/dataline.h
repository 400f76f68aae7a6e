/* smtp/dataline.h - the scanner of mail data: the one place that knows the end of data
 *
 * Fed with what the client sends after 354, in pieces of any size, it finds the strict CRLF.CRLF
 * (or a "." CRLF as the very first line) and nothing else, and yields canonical bytes for the next
 * hop: unchanged ranges of the input where it is canonical already, a few constant bytes where a
 * bare CR, bare LF or NUL had to be replaced (the table in tests/unit/test-dataline.c shows every
 * variant). What it yields never holds a bare CR, a bare LF, a NUL or a line that is a lone dot;
 * dot-stuffing passes through. The end-of-data line itself is not yielded: the courier writes its
 * own. Mail data that ends "CRLF.CRLF" yields up to and with the first CRLF.
 *
 * After BDAT nothing ends the mail data but its count: no dot is special, and they are stuffed
 * where the next hop gets DATA.
 *
 * It also counts: octets (as received, without the end-of-data line), Received header lines (only
 * in the header block), and tells whether the header is more than ASCII. Holds at most 4 octets back between pieces. No allocation, no IO.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_DATALINE_H
#define POSTERN_SMTP_DATALINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum dataline_mode {
    DATALINE_NORMALIZE, /* bare LF -> CRLF, bare CR and NUL -> SP, false end-of-data -> ".." */
    DATALINE_REJECT, /* the first bare CR, bare LF or NUL sets `offence`; nothing more is yielded */
};

/* What comes in, and what is wanted out. */
enum dataline_form {
    DATALINE_LINES,  /* after DATA: dots are stuffed, a lone one is the end */
    DATALINE_STUFF,  /* after BDAT (RFC 3030), for a next hop that gets DATA: dots are stuffed */
    DATALINE_CHUNKS, /* after BDAT, for one that gets BDAT */
    DATALINE_BINARY, /* the same of a BINARYMIME message: nothing is replaced */
};

struct dataline {
    enum dataline_mode mode;
    enum dataline_form form;
    int state;               /* private */
    bool in_header;          /* private: before the first empty line */
    unsigned match;          /* private: octets of "received:" matched in this header line */
    bool ended;              /* the end of data has been seen */
    bool offence;            /* DATALINE_REJECT: something bare came; reply 550 5.5.2 at the end */
    bool changed;            /* DATALINE_NORMALIZE: something was replaced */
    uint64_t octets;         /* of the message so far */
    unsigned received_count; /* "Received:" lines of the header so far */
    bool header_is_utf8;     /* it holds octets over 127 */
};

#define DATALINE_IOV 64

/* What one call yields. The iovecs point into the input and into constants. */
struct dataline_output {
    int count;
    struct iovec iov[DATALINE_IOV];
};

void dataline_init(struct dataline *scanner, enum dataline_mode mode, enum dataline_form form);

/* Scans up to `len` octets. Returns how many were used: fewer than `len` only at the end of data
 * (`ended`; the rest are commands) or when the output is full (call again with the rest). */
size_t dataline_scan(struct dataline *scanner, const char *bytes, size_t len,
                     struct dataline_output *output);

/* After BDAT: there is no more. Yields what was held back and, where lines are wanted, the end of
 * the last one. */
void dataline_finish(struct dataline *scanner, struct dataline_output *output);

#endif
