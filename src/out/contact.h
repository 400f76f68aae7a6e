/* out/contact.h - from a destination to a connection on which MAIL can follow
 *
 * A connection that was kept, or: DNS, one address after the other, connect, greeting, EHLO, TLS as
 * the policy wants it, EHLO, log-in. On a failure at any of these steps the next address or host is
 * tried (RFC 5321 5.1), within one deadline. Everything that goes wrong is logged here.
 *
 *   what goes wrong                                    what the recipient's reply is
 *   the DNS                                            net/mx.h
 *   every next hop is this host                        554 5.4.6
 *   all connections of the destination are in use      451 4.3.2
 *   no host answers, or greets or hears EHLO as it     451 4.4.1 with the last host's reason
 *   should
 *   TLS is needed and not to be had                    451 4.7.4, 451 4.7.5
 *   a smarthost does not accept our log-in             451 4.7.8
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_OUT_CONTACT_H
#define POSTERN_OUT_CONTACT_H

#include "out/outbound.h"

struct contact {
    const struct outbound *out;
    const struct route *route;
    const char *domain;  /* the recipient's */
    const char *session; /* for logs */
    struct stream_buffers *buffers;
    struct deadline deadline;
    struct remote *remote; /* filled: the caller's, to be kept or dropped */
    struct reply *verdict; /* filled on failure */
    bool busy;             /* set on failure, when all the destination's connections are in use */
};

/* 0, or -1 with nothing left open. */
int contact_make(struct contact *contact);

/* Ends it in good order, or at once, and gives its place back. */
void contact_end(const struct outbound *out, struct remote *remote, bool orderly);

#endif
