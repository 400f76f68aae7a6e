/* out/leg.h - one next hop of a transaction: the dialog from MAIL to the final reply
 *
 * A courier has one for each destination among the recipients and drives them side by side: what is
 * written goes out to all before the first reply is waited for. A leg that loses its next hop, or
 * whose next hop refuses the transaction, is "judged": its verdict answers everything that is left.
 * Used by one thread at a time (contact: one of its own).
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_OUT_LEG_H
#define POSTERN_OUT_LEG_H

#include "out/contact.h"

struct leg {
    const struct outbound *out;
    const struct route *route;
    char domain[PATH_DOMAIN_MAX + 1]; /* the first recipient's */
    char key[ROUTE_KEY_MAX];
    const char *session;
    struct stream_buffers buffers;
    struct remote remote; /* its name stays for logs when the connection is gone */
    bool connected, contacted;
    bool judged;
    struct reply verdict;  /* under `judged`; then the final reply */
    bool ours;             /* under `judged`: the verdict is in our words, not the next hop's */
    bool unreachable;      /* judged, and that speaks against the destination, not the message */
    struct deadline until; /* of all commands, while at_ms is not 0: the client's patience */
    const struct envelope *envelope;
    /* The batch that is being asked about. */
    const struct recipient *batch[SESSION_BATCH_MAX];
    size_t batch_count, next;
    bool written;  /* pipelined: all of it went out in one write; else step by step */
    bool mail_due; /* the reply to MAIL is still to be had */
    size_t accepted;
    bool data_due; /* DATA has gone out, and its reply is still to be had */
    bool in_data;  /* it has said 354 */
};

/* For the destination of this domain. NULL when out of memory. */
struct leg *leg_new(const struct outbound *out, const struct route *route, const char *domain,
                    const struct envelope *envelope);
/* What is still open is left at once if half a message stands there, else in good order. */
void leg_free(struct leg *leg);

/* Connects, unless it has been tried. Several legs may do so at the same time. */
void leg_contact(struct leg *leg, struct deadline deadline);

/* Writes the batch; before it MAIL where that is due. */
void leg_send_batch(struct leg *leg);
/* The reply to the next recipient of the batch. */
void leg_recipient_reply(struct leg *leg, struct reply *reply);

/* DATA goes out, and its reply is read: two steps, so that all legs wait together, and our client need
 * not. Only with accepted recipients. True under 354. */
void leg_send_data(struct leg *leg);
bool leg_data_reply(struct leg *leg);

/* Mail data. A failure makes it judged. */
void leg_write(struct leg *leg, const struct iovec *iov, int count);
/* The end of data, and its reply into `verdict`: only for legs in data. The connection is then kept
 * for the next message or dropped. */
void leg_send_end(struct leg *leg);
void leg_final_reply(struct leg *leg, struct deadline deadline);

/* Whose reply the verdict is: "mx.example.net[192.0.2.1]:25", or "none". */
const char *leg_relay(const struct leg *leg);

#endif
