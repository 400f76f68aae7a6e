/* smtp/xclient.h - who the client really is: XCLIENT as Postfix does it, and xtext (RFC 3461 4)
 *
 * Builds the one XCLIENT line that relay-in sends, and takes one apart for the sink. LOGIN, HELO
 * and PROTO are never built. No allocation, thread-safe.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_XCLIENT_H
#define POSTERN_SMTP_XCLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"
#include "base/buffer.h"

#define XCLIENT_LINE_MAX 512 /* octets, CRLF included */

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

/* From the arguments of the EHLO keyword ("NAME ADDR PORT ..."), any case, unknown ones skipped. */
unsigned xclient_parse_offer(const char *text, size_t len);

struct xclient_identity {
    const char *name;         /* verified host name; NULL = [UNAVAILABLE] (or [TEMPUNAVAIL]) */
    const char *reverse_name; /* unverified PTR name; NULL = none; sent only without `name` */
    bool name_temporary;      /* the look-up failed for now: [TEMPUNAVAIL] */
    struct address client;    /* with its port */
    struct address local;     /* what the client connected to; AF_UNSPEC = not known */
};

/* "XCLIENT NAME=... [REVERSE_NAME=...] ADDR=... PORT=... [DESTADDR=... DESTPORT=...]" with CRLF.
 * Only what is `offered`. Returns the length; 0 when it would pass XCLIENT_LINE_MAX, or ADDR is not
 * offered. */
size_t xclient_format(const struct xclient_identity *identity, unsigned offered,
                      char out[XCLIENT_LINE_MAX + 1]);

/* One " name=value" of an XCLIENT argument: *cursor moves behind it. `value` is decoded, at most
 * 255 octets. 1 = got one, 0 = no more, -1 = malformed or unknown attribute. */
struct xclient_attribute {
    unsigned name; /* XCLIENT_NAME, ... */
    char value[256];
};
int xclient_next(const char **cursor, const char *end, struct xclient_attribute *attribute);

/* "NAME", "ADDR", ...; static text. */
const char *xclient_attribute_name(unsigned name);

/* xtext. Both return the length written, without the NUL, or -1 when it does not fit or (decode)
 * is malformed. */
int xtext_encode(const char *bytes, size_t len, char *out, size_t size);
int xtext_decode(const char *text, size_t len, char *out, size_t size);

/* Appends xtext in correct form: what should have been encoded ('=', octets over 127) is. False
 * when it is malformed: a "+" without two hexadecimal digits, blanks, controls, a NUL. */
bool xtext_repair(struct buffer *out, const char *text, size_t len);

#endif
