/* smtp/received.h - the one trace header that we add on top (RFC 5321 4.4, RFC 3848)
 *
 * Formats the field from values that the caller owns. Cleans everything that came from the client.
 * Thread-safe. Used by the session.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_RECEIVED_H
#define POSTERN_SMTP_RECEIVED_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/address.h"
#include "net/stream.h"

#define RECEIVED_MAX 2048

struct received {
    const char *helo;        /* as the client gave it; '(', ')', '\\', controls become '?' */
    const char *client_name; /* NULL = "unknown" */
    struct address client;
    bool hide_client;           /* don't show the three above */
    const char *hostname;       /* ours */
    const char *id;             /* transaction id */
    const char *recipient;      /* mailbox; NULL unless there is exactly one */
    bool esmtp;                 /* EHLO, not HELO */
    bool authenticated;         /* the client has logged in: protocol ends in A (RFC 3848) */
    bool utf8;                  /* SMTPUTF8 transaction: UTF8SMTP[S] (RFC 6531 4.3) */
    const struct tls_info *tls; /* NULL in plain text */
    time_t when;
};

/* Writes the header, folded with CRLF TAB, no line over 998 octets, ended by CRLF. Returns its length in
 * octets; 0 if it does not fit. */
size_t received_format(const struct received *received, char out[RECEIVED_MAX]);

#endif
