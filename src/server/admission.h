/* server/admission.h - decides which clients are admitted: lists, limits
 *
 * Owns nothing. Runs on the gate's thread.
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */
#ifndef POSTERN_SERVER_ADMISSION_H
#define POSTERN_SERVER_ADMISSION_H

#include "server/connection.h"

/* The decision on a client before it has sent anything. With REPLY_OK the client has been counted;
 * connection_close(), or clients_leave() if there is no connection, undoes that. */
struct admission {
    enum own_reply why; /* REPLY_OK, or the refusal, already logged */
    bool allowed;       /* no limits apply to it */
    const struct session_deferral *deferral;
};

/* By lists, and then by the limits, which count the client from here on if `why` is REPLY_OK. A refusal is
 * logged and counted. */
struct admission admission_judge(struct connections *all, const struct service *service,
                                 const struct address *client);

/* The decision on a load balancer that speaks for itself. Its health check is answered whatever its address is,
 * but it may not send mail: that would go on in its own name, which the backend may trust. */
struct admission admission_judge_balancer(struct connections *all, const struct service *service,
                                          const struct address *balancer);

/* May `peer` connect to a listener like this at all? Returns REPLY_OK or the reply to refuse with; REPLY_CLOSING
 * means closing without a reply, for a stranger at a listener for load balancers. */
enum own_reply admission_check_peer(struct connections *all, const struct service *service,
                                    const struct listen_spec *spec, const struct address *peer);

/* Logs a refusal in Postfix's wording, for programs that count them. */
void admission_log_refusal(const struct address *client, const struct reply *reply);

#endif
