/* smtp/dataline.h - the scanner of mail data: the one place that knows the end of data
 *
 * It takes what the client sends after 354, in pieces of any size. It finds the strict CRLF.CRLF (or a
 * "." CRLF as the very first line) and nothing else, and yields canonical bytes for the next hop:
 * unchanged ranges of the input where it is canonical, and a few constant bytes where it replaces a bare
 * CR, bare LF or NUL (the table in tests/unit/test-dataline.c shows every variant). The output never
 * contains a bare CR, a bare LF, a NUL or a line that is a lone dot; stuffed dots pass through. The
 * end-of-data line is not part of the output: the courier writes its own. Mail data that ends in
 * "CRLF.CRLF" yields everything up to and including the first CRLF.
 *
 * After BDAT only the count ends the mail data: no dot is special, and dots are stuffed if the next hop
 * gets DATA.
 *
 * It also counts octets (as received, without the end-of-data line) and Received header lines (only in
 * the header), and notes whether the header contains more than ASCII. It holds back at most 4 octets
 * between pieces. No allocation, no IO. Used by one thread at a time.
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
    DATALINE_REJECT,    /* the first bare CR, bare LF or NUL sets `offence` and ends the output */
};

/* The form of the input and of the output. */
enum dataline_form {
    DATALINE_LINES,  /* after DATA: dots are stuffed, a lone one is the end */
    DATALINE_STUFF,  /* after BDAT (RFC 3030), for a next hop that gets DATA: stuff the dots */
    DATALINE_CHUNKS, /* after BDAT, for a next hop that gets BDAT */
    DATALINE_BINARY, /* the same for a BINARYMIME message: replace nothing */
};

struct dataline {
    enum dataline_mode mode;
    enum dataline_form form;
    int state;               /* private */
    bool in_header;          /* private: before the first empty line */
    unsigned match;          /* private: octets of "received:" matched in this header line */
    bool ended;              /* the end of data was seen */
    bool offence;            /* DATALINE_REJECT: a bare CR, LF or NUL; 550 5.5.2 at the end */
    uint64_t octets;         /* of the message so far */
    unsigned received_count; /* "Received:" lines in the header so far */
    bool header_is_utf8;     /* the header contains octets over 127 */
};

#define DATALINE_IOV 64

/* The output of one call. The iovecs point into the input and to constants. */
struct dataline_output {
    int count;
    struct iovec iov[DATALINE_IOV];
};

/* Before the first octet of a message: what to do with bare newlines, and in which form it goes on. */
void dataline_init(struct dataline *scanner, enum dataline_mode mode, enum dataline_form form);

/* Scans up to `len` octets. Returns how many it used: fewer than `len` only at the end of data (`ended`; the
 * rest are commands) or if the output is full (call again with the rest). */
size_t dataline_scan(struct dataline *scanner, const char *bytes, size_t len,
                     struct dataline_output *output);

/* Ends mail data that came by BDAT. Yields what was held back and, for a next hop that gets lines, the end of
 * the last line. */
void dataline_finish(struct dataline *scanner, struct dataline_output *output);

#endif
