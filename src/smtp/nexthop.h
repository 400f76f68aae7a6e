/* smtp/nexthop.h - the client side of SMTP: the dialog with a next hop
 *
 * Lock-step commands (greeting, EHLO, STARTTLS, XCLIENT), each one line out and one reply back, and
 * the writing of commands that may be pipelined. It says what the next hop answered and never
 * judges it: that is for whoever makes the connection, and for smtp/transaction from MAIL on. Owns its stream; the buffers are lent by the courier. Used by
 * one thread at a time.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SMTP_NEXTHOP_H
#define POSTERN_SMTP_NEXTHOP_H

#include <stdbool.h>
#include <stdint.h>

#include "net/proxy.h"
#include "net/stream.h"
#include "net/tls.h"
#include "smtp/courier.h"
#include "smtp/reply.h"
#include "smtp/xclient.h"

enum {
    NEXTHOP_PIPELINING = 1 << 0,
    NEXTHOP_SIZE = 1 << 1,
    NEXTHOP_8BITMIME = 1 << 2,
    NEXTHOP_SMTPUTF8 = 1 << 3,
    NEXTHOP_ENHANCEDSTATUSCODES = 1 << 4,
    NEXTHOP_STARTTLS = 1 << 5,
    NEXTHOP_XCLIENT = 1 << 6,
    NEXTHOP_DSN = 1 << 7,
    NEXTHOP_CHUNKING = 1 << 8,
    NEXTHOP_BINARYMIME = 1 << 9,
    NEXTHOP_REQUIRETLS = 1 << 10,
    NEXTHOP_AUTH = 1 << 11,
    NEXTHOP_AUTH_PLAIN = 1 << 12, /* in `mechanisms`, or where that has no room for them */
    NEXTHOP_AUTH_LOGIN = 1 << 13,
};

/* What an EHLO reply announced. */
struct nexthop_capabilities {
    unsigned extensions;                 /* NEXTHOP_... */
    unsigned xclient;                    /* XCLIENT_... attributes */
    uint64_t size_limit;                 /* octets; 0 = no fixed limit */
    unsigned recipients;                 /* RCPTMAX of LIMITS (RFC 9422); 0 = not said */
    char mechanisms[MECHANISMS_MAX + 1]; /* of AUTH, "PLAIN LOGIN", each once */
};

struct nexthop {
    struct stream stream;
    struct nexthop_capabilities capabilities; /* of the last EHLO; nothing after HELO or TLS */
};

/* Takes over a connected descriptor. */
void nexthop_init(struct nexthop *hop, int fd, struct stream_buffers *buffers);

/* All of these return IO_OK and a filled reply (of whatever code), or why there is none. */
enum io_result nexthop_greeting(struct nexthop *hop, struct reply *reply, struct deadline deadline);
enum io_result nexthop_command(struct nexthop *hop, const char *line, struct reply *reply,
                               struct deadline deadline);
/* The PROXY header of the connection, which must go out before anything else, and alone: what comes
 * behind it in one segment is taken for talking before the greeting. Both addresses are of one family. */
enum io_result nexthop_send_proxy(struct nexthop *hop, const struct proxy_header *header,
                                  enum proxy_version version, struct deadline deadline);
/* How to greet. Who refuses EHLO for good may know HELO (RFC 5321 3.2), but for TLS, which is newer than
 * EHLO; who does not answer it has refused. Behind a PROXY header, which may have been taken for a
 * command, only one is said, so that no reply is taken for another's. */
enum nexthop_hello { NEXTHOP_EHLO, NEXTHOP_HELO, NEXTHOP_EHLO_OR_HELO };
/* A positive EHLO reply fills the capabilities. */
enum io_result nexthop_hello(struct nexthop *hop, enum nexthop_hello how, const char *name,
                             struct reply *reply, struct deadline deadline);
/* IO_FAILED with `reply` not positive when STARTTLS was refused: the connection is still usable.
 * Anything the next hop sends in plain text behind its 220 breaks the connection. */
enum io_result nexthop_starttls(struct nexthop *hop, struct tls_client *tls, const char *name,
                                struct reply *reply, struct deadline deadline, struct error *err);
/* The same, the certificate being judged by `judge` (NULL: by `tls` itself). */
enum io_result nexthop_starttls_judged(struct nexthop *hop, struct tls_client *tls,
                                       const char *name, const struct tls_judge *judge,
                                       struct reply *reply, struct deadline deadline,
                                       struct error *err);

/* RSET, and it was answered well: MAIL can follow. */
bool nexthop_reset(struct nexthop *hop, struct reply *reply, struct deadline deadline);

/* What of this mail the next hop cannot take, as the reply to it; REPLY_OK: nothing. The one place
 * that knows. Without 8BITMIME the octets go there all the same, as from every other host; without
 * DSN its parameters are left out. */
enum own_reply nexthop_lacks(const struct nexthop *hop, const struct envelope *envelope);

/* Put into the output buffer, not yet sent. MAIL carries the parameters that the next hop takes. */
enum io_result nexthop_put_mail(struct nexthop *hop, const struct envelope *envelope,
                                struct deadline deadline);
enum io_result nexthop_put_rcpt(struct nexthop *hop, const struct recipient *recipient,
                                struct deadline deadline);
enum io_result nexthop_put(struct nexthop *hop, const char *line, struct deadline deadline);

/* QUIT without waiting for the answer, then closed; also of one that has no buffers. */
void nexthop_quit(struct nexthop *hop);

/* From the text of an EHLO reply: its first line is the greeting, then a keyword a line. */
void nexthop_parse_capabilities(const struct reply *reply, struct nexthop_capabilities *out);

#endif
