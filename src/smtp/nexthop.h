/* smtp/nexthop.h - the client side of SMTP: the dialog with a next hop
 *
 * Sends lock-step commands (greeting, EHLO, STARTTLS, XCLIENT), each one line out and one reply back,
 * and writes commands that may be pipelined. It reports the next hop's replies and never judges them:
 * the module that makes the connection does and, from MAIL on, smtp/transaction. Owns its stream; the
 * courier lends the buffers. Used by one thread at a time.
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

/* What an EHLO reply announced. */
struct nexthop_capabilities {
    unsigned extensions;                 /* EXTENSION_... */
    unsigned xclient;                    /* XCLIENT_... attributes */
    uint64_t size_limit;                 /* octets; 0 = no fixed limit */
    unsigned recipients;                 /* RCPTMAX of LIMITS (RFC 9422); 0 = not given */
    char mechanisms[MECHANISMS_MAX + 1]; /* of AUTH, "PLAIN LOGIN", without repeats */
};

struct nexthop {
    struct stream stream;
    struct nexthop_capabilities capabilities; /* of the last EHLO; nothing after HELO or TLS */
    bool challenged;                          /* it waits for an answer, in mid-AUTH */
};

/* Takes ownership of a connected descriptor, and borrows the buffers. */
void nexthop_init(struct nexthop *hop, int fd, struct stream_buffers *buffers);

/* These return IO_OK and a filled reply with any code, or the reason why there is none. */
enum io_result nexthop_greeting(struct nexthop *hop, struct reply *reply, struct deadline deadline);
enum io_result nexthop_command(struct nexthop *hop, const char *line, struct reply *reply,
                               struct deadline deadline);
/* Sends the connection's PROXY header, before anything else and alone: a server would take data in the same
 * segment as talking before the greeting. Both addresses must be of one family. */
enum io_result nexthop_send_proxy(struct nexthop *hop, const struct proxy_header *header,
                                  enum proxy_version version, struct deadline deadline);
/* How to greet. A server that permanently refuses EHLO may know HELO (RFC 5321 3.2), but not under TLS, which
 * is newer than EHLO. No reply counts as a refusal. After a PROXY header, which the server may have taken as a
 * command, only one of them is sent, so that no reply is taken for another's. */
enum nexthop_hello { NEXTHOP_EHLO, NEXTHOP_HELO, NEXTHOP_EHLO_OR_HELO };
/* Greets. A positive EHLO reply fills the capabilities. */
enum io_result nexthop_hello(struct nexthop *hop, enum nexthop_hello how, const char *name,
                             struct reply *reply, struct deadline deadline);
/* Sends STARTTLS and does the handshake; `judge` checks the certificate (NULL: `tls` itself does). IO_FAILED with a reply that is not positive means that STARTTLS was
 * refused and the connection is still usable. Plain text after the 220 breaks the connection
 * (CVE-2011-0411). */
enum io_result nexthop_starttls(struct nexthop *hop, struct tls_client *tls, const char *name,
                                const struct tls_judge *judge, struct reply *reply,
                                struct deadline deadline, struct error *err);

/* Sends RSET. True if the reply is positive, so that MAIL can follow. */
bool nexthop_reset(struct nexthop *hop, struct reply *reply, struct deadline deadline);

/* The one place that checks whether the next hop can accept this mail: returns the reply that says what it
 * lacks, or REPLY_OK. Without 8BITMIME the octets are sent anyway, as every other host does; without DSN its
 * parameters are left out. */
enum own_reply nexthop_lacks(const struct nexthop *hop, const struct envelope *envelope);

/* Put commands into the output buffer without sending them. MAIL has the parameters that the next hop
 * offers. */
enum io_result nexthop_put_mail(struct nexthop *hop, const struct envelope *envelope,
                                struct deadline deadline);
enum io_result nexthop_put_rcpt(struct nexthop *hop, const struct recipient *recipient,
                                struct deadline deadline);
enum io_result nexthop_put(struct nexthop *hop, const char *line, struct deadline deadline);

/* Sends QUIT without waiting for the reply, and closes. In mid-AUTH it cancels that first (RFC 4954 4), because QUIT
 * would be taken for a wrong password. Works without buffers too. */
void nexthop_quit(struct nexthop *hop);

/* Parses the text of an EHLO reply: the greeting in the first line, then one keyword per line. */
void nexthop_parse_capabilities(const struct reply *reply, struct nexthop_capabilities *out);

#endif
