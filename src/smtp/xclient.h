/* smtp/xclient.h - the client's real identity: XCLIENT as in Postfix, and xtext (RFC 3461 4)
 *
 * Builds the one XCLIENT line that relay-in sends, and parses such lines for the session and the sink.
 * It never builds LOGIN, HELO or PROTO (promise 8). No allocation, thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_XCLIENT_H
#define POSTERN_SMTP_XCLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"
#include "base/buffer.h"

#define XCLIENT_LINE_MAX 512 /* octets, including CRLF */

/* Attributes that the next hop announced in EHLO. */
enum {
    XCLIENT_NAME = 1 << 0,
    XCLIENT_ADDR = 1 << 1,
    XCLIENT_PORT = 1 << 2,
    XCLIENT_PROTO = 1 << 3,
    XCLIENT_HELO = 1 << 4,
    XCLIENT_LOGIN = 1 << 5,
    XCLIENT_DESTADDR = 1 << 6,
    XCLIENT_DESTPORT = 1 << 7,
    XCLIENT_REVERSE_NAME = 1 << 8,
};

/* Parses the arguments of the EHLO keyword ("NAME ADDR PORT ..."), in any case; skips unknown ones. */
unsigned xclient_parse_offer(const char *text, size_t len);

struct xclient_identity {
    const char *name;         /* verified host name; NULL = [UNAVAILABLE] (or [TEMPUNAVAIL]) */
    const char *reverse_name; /* unverified PTR name; NULL = none; sent only without `name` */
    bool name_temporary;      /* the look-up failed for now: [TEMPUNAVAIL] */
    struct address client;    /* with its port */
    struct address local;     /* the address that it connected to; AF_UNSPEC = unknown */
};

/* Writes "XCLIENT NAME=... [REVERSE_NAME=...] ADDR=... PORT=... [DESTADDR=... DESTPORT=...]" with CRLF and only
 * what is `offered`. Returns the length in octets; 0 if it would exceed XCLIENT_LINE_MAX, or if ADDR is not
 * offered. */
size_t xclient_format(const struct xclient_identity *identity, unsigned offered,
                      char out[XCLIENT_LINE_MAX + 1]);

/* Reads one " name=value" of an XCLIENT argument and moves *cursor past it. `value` is decoded, at most 255
 * octets. Returns 1 if it got one, 0 if there are no more, -1 if malformed or unknown. */
struct xclient_attribute {
    unsigned name; /* XCLIENT_NAME, ... */
    char value[256];
};
int xclient_next(const char **cursor, const char *end, struct xclient_attribute *attribute);

/* "NAME", "ADDR", ...; static text. */
const char *xclient_attribute_name(unsigned name);

/* Appends xtext. */
void xtext_encode(struct buffer *out, const char *bytes, size_t len);
/* Returns the length written, without the NUL, or -1 if it does not fit or is malformed. */
int xtext_decode(const char *text, size_t len, char *out, size_t size);

/* Appends xtext in correct form: encodes what should have been encoded ('=', octets over 127). False if
 * malformed: a "+" without two hexadecimal digits, blanks, controls, a NUL. */
bool xtext_repair(struct buffer *out, const char *text, size_t len);

#endif
